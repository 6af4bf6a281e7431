//! The history of what a gateway has published: every list of key configurations, in one chain that only grows.
//!
//! A gateway that gave some clients a list of their own could tell them apart (RFC 9458 7). It would have to sign that
//! list into a chain which everybody else can read too. An entry holds the hash of the one before, so nothing can be
//! taken out, put in or moved without changing all that follows; the hash is signed, so nobody else can write one.
//! What a chain cannot show by itself is that there is only one of it: for that, copies from several paths are compared.
//!
//! It says which keys were published, and neither holds nor uses one: so that a relay, which must not link what opens
//! envelopes, can check what it mirrors. No input or output, no clock.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Signs entries. Cannot be printed.
pub struct HistoryKey(Ed25519KeyPair);

impl HistoryKey {
    /// The key pair that belongs to `seed`, always the same.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, HistoryError> {
        Ed25519KeyPair::from_seed_unchecked(seed).map(Self).map_err(|_| HistoryError::Seed)
    }

    /// The public half, by which everybody can check entries.
    ///
    /// # Panics
    /// Never: a public key of Ed25519 has 32 bytes.
    pub fn public(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().expect("a public key of Ed25519 has 32 bytes")
    }

    fn sign(&self, hash: &[u8; 32]) -> [u8; 64] {
        let signature = self.0.sign(&[SIGNED, hash].concat());
        signature.as_ref().try_into().expect("a signature of Ed25519 has 64 bytes")
    }
}

/// One list that was published, until the next entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// 1, 2, 3, ...
    pub number: u64,
    /// From when on, in seconds since 1970.
    pub since: u64,
    /// The list (`application/ohttp-keys`).
    pub list: Vec<u8>,
    /// Hash of the entry before; zeros in the first.
    pub previous: [u8; 32],
    /// SHA-256 of all of the above.
    pub hash: [u8; 32],
    /// Signature of the hash.
    pub signature: [u8; 64],
}

impl Entry {
    /// The entry that follows `before`.
    pub fn after(before: Option<&Self>, now: u64, list: Vec<u8>, key: &HistoryKey) -> Self {
        let number = before.map_or(1, |entry| entry.number + 1);
        let previous = before.map_or([0; 32], |entry| entry.hash);
        // A clock that was set back does not turn the order round.
        let since = before.map_or(now, |entry| entry.since.max(now));
        let hash = digest(number, since, &previous, &list);
        Self { number, since, list, previous, hash, signature: key.sign(&hash) }
    }
}

/// A whole history and the key it is signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The public half of the key that signs.
    pub key: [u8; 32],
    /// The first entry first.
    pub entries: Vec<Entry>,
}

/// What is wrong with a history. The number is that of the entry that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HistoryError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    /// No key pair belongs to the seed that it is to be signed with.
    #[error("it cannot be signed with this seed")]
    Seed,
    /// There is nothing in it.
    #[error("it has no entry")]
    Empty,
    /// An entry is missing, or stands in the wrong place.
    #[error("entry {0} is missing or not in its place")]
    Place(u64),
    /// An entry does not follow from the one before.
    #[error("entry {0} does not follow from the one before it")]
    Chain(u64),
    /// An entry is older than the one before.
    #[error("entry {0} is older than the one before it")]
    Time(u64),
    /// An entry does not say what was hashed.
    #[error("entry {0} was changed")]
    Changed(u64),
    /// An entry is not signed with the key.
    #[error("entry {0} is not signed with the key of the history")]
    Signature(u64),
}

impl History {
    /// Whether every entry follows from the one before and is signed.
    pub fn verify(&self) -> Result<(), HistoryError> {
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        let (mut previous, mut since) = ([0; 32], 0);
        for (number, entry) in (1..).zip(&self.entries) {
            if entry.number != number {
                return Err(HistoryError::Place(number));
            }
            if entry.previous != previous {
                return Err(HistoryError::Chain(number));
            }
            if entry.since < since {
                return Err(HistoryError::Time(number));
            }
            if entry.hash != digest(number, entry.since, &entry.previous, &entry.list) {
                return Err(HistoryError::Changed(number));
            }
            if key.verify(&[SIGNED, &entry.hash].concat(), &entry.signature).is_err() {
                return Err(HistoryError::Signature(number));
            }
            (previous, since) = (entry.hash, entry.since);
        }
        if self.entries.is_empty() { Err(HistoryError::Empty) } else { Ok(()) }
    }

    /// The list that is published now.
    pub fn newest(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// Whether one of the two is the beginning of the other, and signed with the same key: a copy may lag behind.
    pub fn agrees_with(&self, other: &Self) -> bool {
        let same = |(one, two): (&Entry, &Entry)| one.hash == two.hash;
        self.key == other.key && self.entries.iter().zip(&other.entries).all(same)
    }

    /// The document that is served.
    ///
    /// # Panics
    /// Never: strings and numbers are always JSON.
    pub fn to_json(&self) -> String {
        let entries = self.entries.iter().map(|entry| EntryText {
            number: entry.number,
            since: entry.since,
            list: hex::encode(&entry.list),
            previous: hex::encode(entry.previous),
            hash: hex::encode(entry.hash),
            signature: hex::encode(entry.signature),
        });
        let text = Text { version: VERSION, history_key: hex::encode(self.key), entries: entries.collect() };
        serde_json::to_string(&text).expect("strings and numbers are always JSON")
    }

    /// Reads a document, and checks nothing but its form.
    pub fn from_json(text: &[u8]) -> Result<Self, HistoryError> {
        let text: Text =
            serde_json::from_slice(text).map_err(|error| HistoryError::Malformed(error.to_string()))?;
        if text.version != VERSION {
            let why = format!("it has version {}, this program reads {VERSION}", text.version);
            return Err(HistoryError::Malformed(why));
        }
        let entries = text.entries.iter().map(|entry| {
            Ok(Entry {
                number: entry.number,
                since: entry.since,
                list: hex::decode(&entry.list).map_err(|_| not_hex("list"))?,
                previous: digits(&entry.previous, "previous")?,
                hash: digits(&entry.hash, "hash")?,
                signature: digits(&entry.signature, "signature")?,
            })
        });
        Ok(Self {
            key: digits(&text.history_key, "history_key")?,
            entries: entries.collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    history_key: String,
    entries: Vec<EntryText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryText {
    number: u64,
    since: u64,
    list: String,
    previous: String,
    hash: String,
    signature: String,
}

fn digits<const N: usize>(text: &str, name: &str) -> Result<[u8; N], HistoryError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| not_hex(name))?;
    Ok(bytes)
}

fn not_hex(name: &str) -> HistoryError {
    HistoryError::Malformed(format!("its {name} is not hexadecimal of the right length"))
}

fn digest(number: u64, since: u64, previous: &[u8; 32], list: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(HASHED);
    hash.update(number.to_be_bytes());
    hash.update(since.to_be_bytes());
    hash.update(previous);
    hash.update((list.len() as u64).to_be_bytes());
    hash.update(list);
    hash.finalize().into()
}

/// Where a gateway, and a relay that mirrors it, serve the history.
pub const PATH: &str = "/ohttp-keys/history";

const VERSION: u32 = 1;
const HASHED: &[u8] = b"mica key history, version 1\0";
const SIGNED: &[u8] = b"mica key history, signature, version 1\0";

#[cfg(test)]
mod tests;
