//! Key configurations as a client reads them (RFC 9458 3): which key to seal to.
//!
//! A served list can be anything, so it is read here, byte by byte, and only one exact configuration of one exact suite
//! is handed on: the first in the list that we support, because the order is the gateway's preference. One badly
//! encoded part discards the whole list; an entry with a KEM that we do not know is passed over.

use std::{fmt, str::FromStr};

use bytes::{Buf, Bytes};
use thiserror::Error;

use crate::{error::KeyConfigError, suite::Suite};

/// A key encapsulation mechanism that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kem {
    /// DHKEM(X25519, HKDF-SHA256), 0x0020.
    X25519HkdfSha256,
    /// DHKEM(P-256, HKDF-SHA256), 0x0010.
    P256HkdfSha256,
    /// X-Wing, X25519 with ML-KEM-768, 0x647a.
    XWing,
}

impl Kem {
    /// The registered identifier.
    pub fn id(self) -> u16 {
        u16::from(self.to_ohttp())
    }

    /// The mechanism with this registered identifier.
    pub fn from_id(id: u16) -> Option<Self> {
        [Self::X25519HkdfSha256, Self::P256HkdfSha256, Self::XWing].into_iter().find(|kem| kem.id() == id)
    }

    /// The name for people and configuration files.
    pub fn name(self) -> &'static str {
        match self {
            Self::X25519HkdfSha256 => "x25519",
            Self::P256HkdfSha256 => "p-256",
            Self::XWing => "x-wing",
        }
    }

    /// Bytes of an encapsulated key.
    pub(crate) fn enc_length(self) -> usize {
        self.to_ohttp().n_enc()
    }

    pub(crate) fn to_ohttp(self) -> ohttp::hpke::Kem {
        match self {
            Self::X25519HkdfSha256 => ohttp::hpke::Kem::X25519Sha256,
            Self::P256HkdfSha256 => ohttp::hpke::Kem::P256Sha256,
            Self::XWing => ohttp::hpke::Kem::XWing,
        }
    }
}

impl fmt::Display for Kem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no KEM has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no KEM `{0}`; there are x25519 and x-wing")]
pub struct NoKem(String);

impl FromStr for Kem {
    type Err = NoKem;

    fn from_str(name: &str) -> Result<Self, NoKem> {
        let mut all = [Self::X25519HkdfSha256, Self::P256HkdfSha256, Self::XWing].into_iter();
        all.find(|kem| kem.name() == name).ok_or_else(|| NoKem(name.to_owned()))
    }
}

/// A list of key configurations (`application/ohttp-keys`) in which there is one that we can use.
#[derive(Clone)]
pub struct KeyConfigList {
    encoded: Bytes,
    selected: Selected,
}

/// The configuration and suite that a client seals to.
#[derive(Clone)]
pub(crate) struct Selected {
    pub(crate) key_id: u8,
    pub(crate) kem: Kem,
    pub(crate) config: ohttp::KeyConfig,
}

impl KeyConfigList {
    /// Reads the list and chooses the first configuration, and in it the first suite, that we support.
    pub fn parse(encoded: impl Into<Bytes>) -> Result<Self, KeyConfigError> {
        let encoded = encoded.into();
        let mut rest = encoded.clone();
        if rest.is_empty() {
            return Err(Malformed("it is empty"));
        }
        let mut selected = None;
        while !rest.is_empty() {
            let length = rest.try_get_u16().map_err(|_| Malformed("a length is cut off"))?;
            let entry = read_entry(&mut split(&mut rest, length.into())?)?;
            selected = selected.or(entry);
        }
        Ok(Self { encoded, selected: selected.ok_or(KeyConfigError::Unsupported)? })
    }

    /// The list as it was read, to be compared and kept.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Identifier of the chosen key.
    pub fn key_id(&self) -> u8 {
        self.selected.key_id
    }

    /// Mechanism of the chosen key.
    pub fn kem(&self) -> Kem {
        self.selected.kem
    }

    pub(crate) fn selected(&self) -> &Selected {
        &self.selected
    }
}

use KeyConfigError::Malformed;

/// One configuration: `None` when it is well formed and of no use to us.
fn read_entry(entry: &mut Bytes) -> Result<Option<Selected>, KeyConfigError> {
    const CUT_OFF: KeyConfigError = Malformed("a configuration is cut off");
    if entry.len() < SHORTEST_ENTRY {
        return Err(CUT_OFF);
    }
    let key_id = entry.try_get_u8().map_err(|_| CUT_OFF)?;
    let Some(kem) = Kem::from_id(entry.try_get_u16().map_err(|_| CUT_OFF)?) else {
        return Ok(None); // the length of the key is unknown, so is all that follows
    };
    let public_key = split(entry, kem.to_ohttp().n_pk())?;
    let suites_length = entry.try_get_u16().map_err(|_| CUT_OFF)?;
    if suites_length == 0 || suites_length % 4 != 0 || entry.len() != usize::from(suites_length) {
        return Err(Malformed("the list of suites has a wrong length"));
    }
    let mut suite = None;
    while !entry.is_empty() {
        let kdf = entry.try_get_u16().map_err(|_| CUT_OFF)?;
        let aead = entry.try_get_u16().map_err(|_| CUT_OFF)?;
        suite = suite.or(Suite::of(kdf, aead));
    }
    let Some(suite) = suite else { return Ok(None) };
    let config = one_suite(key_id, kem, &public_key, suite)?;
    Ok(Some(Selected { key_id, kem, config }))
}

/// A configuration with exactly one suite, so that the library has nothing left to choose.
fn one_suite(key_id: u8, kem: Kem, key: &[u8], suite: Suite) -> Result<ohttp::KeyConfig, KeyConfigError> {
    let mut encoded = vec![key_id];
    encoded.extend_from_slice(&kem.id().to_be_bytes());
    encoded.extend_from_slice(key);
    let (kdf, aead) = suite.ids();
    for number in [4, kdf, aead] {
        encoded.extend_from_slice(&number.to_be_bytes());
    }
    ohttp::KeyConfig::decode(&encoded).map_err(|_| Malformed("a public key is invalid"))
}

fn split(bytes: &mut Bytes, length: usize) -> Result<Bytes, KeyConfigError> {
    if length > bytes.len() {
        return Err(Malformed("a configuration is cut off"));
    }
    Ok(bytes.split_to(length))
}

/// Identifier, KEM, a key of one byte, and one suite.
const SHORTEST_ENTRY: usize = 1 + 2 + 1 + 2 + 4;
