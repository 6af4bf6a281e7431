//! The gateway's end: open a request under the key that it names, seal the one answer.
//!
//! The first byte names the key; no other key is tried, because trying would let a relay sort clients by the key they
//! hold (RFC 9458 7). From here on the gateway knows what was asked and must never learn who asked.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    answer_lock::AnswerLock,
    client::HEADER,
    decode::decode_request,
    encode::encode_response_padded,
    error::{Invalid, KeyConfigError, OpenError, SealError},
    key_config::Kem,
    message::{InnerRequest, InnerResponse},
    recipient::{Recipient, Sealed},
    response::ResponseSecret,
    size::is_padded_length,
    suite::Suite,
};

/// Opens sealed requests. The seam for another implementation of HPKE.
pub trait Unwrap: Send + Sync {
    /// Opens one sealed request.
    fn open(&self, sealed: &[u8]) -> Result<Opened, OpenError>;
}

/// A request whose seal was good.
pub struct Opened {
    /// The inner request, or the rule it breaks. Either way the answer belongs inside the envelope (RFC 9458 5.2).
    pub request: Result<InnerRequest, Invalid>,
    /// Whether the sealed request had one of the shared sizes.
    pub padded: bool,
    /// Names this ciphertext: the same again is a retry or a replay.
    pub enc: EncDigest,
    /// Locks what is kept of its answer.
    pub lock: AnswerLock,
    /// Seals the answer.
    pub sealer: Sealer,
}

/// Digest of an encapsulated key. No two requests share one unless one is a copy of the other (RFC 9458 6.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EncDigest([u8; 16]);

impl EncDigest {
    /// A digest that was kept.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn of(enc: &[u8]) -> Self {
        let mut short = [0; 16];
        short.iter_mut().zip(Sha256::digest(enc)).for_each(|(to, from)| *to = from);
        Self(short)
    }
}

/// Input keying material of a gateway key: the secret that is kept. Wiped from memory when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Ikm([u8; 32]);

impl Ikm {
    /// Fresh material from the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn random() -> Self {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .expect("an operating system that gives no randomness cannot run a gateway");
        Self(bytes)
    }

    /// Material that was kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, to be kept.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// One key pair of a gateway with the suites it accepts.
pub struct GatewayKey {
    key_id: u8,
    kem: Kem,
    recipient: Recipient,
}

impl GatewayKey {
    /// A new key that is not kept anywhere.
    pub fn generate(key_id: u8, kem: Kem) -> Result<Self, KeyConfigError> {
        Self::from_ikm(key_id, kem, &Ikm::random())
    }

    /// The key pair that belongs to `ikm`, always the same.
    pub fn from_ikm(key_id: u8, kem: Kem, ikm: &Ikm) -> Result<Self, KeyConfigError> {
        Ok(Self { key_id, kem, recipient: Recipient::derive(kem, ikm.as_bytes()) })
    }

    /// The public configuration (RFC 9458 3.1).
    pub fn config(&self) -> Result<Vec<u8>, KeyConfigError> {
        let mut config = vec![self.key_id];
        config.extend_from_slice(&self.kem.id().to_be_bytes());
        config.extend_from_slice(&self.recipient.public_key());
        let suites: Vec<u8> = Suite::ALL
            .into_iter()
            .map(Suite::ids)
            .flat_map(|(kdf, aead)| [kdf, aead])
            .flat_map(u16::to_be_bytes)
            .collect();
        let length = u16::try_from(suites.len()).map_err(|_| KeyConfigError::Unsupported)?;
        config.extend_from_slice(&length.to_be_bytes());
        config.extend_from_slice(&suites);
        Ok(config)
    }
}

/// All keys of a gateway, in the order in which clients should prefer them.
pub struct GatewayKeys {
    keys: Vec<GatewayKey>,
    config_list: Vec<u8>,
}

impl GatewayKeys {
    /// Collects keys; their identifiers must differ.
    pub fn new(keys: Vec<GatewayKey>) -> Result<Self, KeyConfigError> {
        let mut ids: Vec<u8> = keys.iter().map(|key| key.key_id).collect();
        ids.sort_unstable();
        ids.dedup();
        if keys.is_empty() || ids.len() != keys.len() {
            return Err(KeyConfigError::Malformed("key identifiers must differ and there must be one"));
        }
        let mut config_list = Vec::new();
        for key in &keys {
            let config = key.config()?;
            let length =
                u16::try_from(config.len()).map_err(|_| KeyConfigError::Malformed("a key is too long"))?;
            config_list.extend_from_slice(&length.to_be_bytes());
            config_list.extend_from_slice(&config);
        }
        Ok(Self { keys, config_list })
    }

    /// The same, and these open too but are not published: keys that are not advertised yet, or no longer.
    pub fn accepting(mut self, more: Vec<GatewayKey>) -> Result<Self, KeyConfigError> {
        for key in more {
            if self.keys.iter().any(|known| known.key_id == key.key_id) {
                return Err(KeyConfigError::Malformed("key identifiers must differ"));
            }
            self.keys.push(key);
        }
        Ok(self)
    }

    /// The list that is published, byte for byte the same for everyone (`application/ohttp-keys`).
    pub fn config_list(&self) -> &[u8] {
        &self.config_list
    }
}

impl Unwrap for GatewayKeys {
    fn open(&self, sealed: &[u8]) -> Result<Opened, OpenError> {
        let header = Header::read(sealed)?;
        let key = self.keys.iter().find(|key| key.key_id == header.key_id).ok_or(OpenError::UnknownKey)?;
        if key.kem.id() != header.kem {
            return Err(OpenError::UnknownKey);
        }
        let suite = Suite::of(header.kdf, header.aead).ok_or(OpenError::Suite)?;
        let (header, rest) = sealed.split_first_chunk::<HEADER>().ok_or(OpenError::Truncated)?;
        let (enc, ciphertext) = rest.split_at_checked(key.kem.enc_length()).ok_or(OpenError::Truncated)?;
        let parts = Sealed { header, enc, ciphertext, suite };
        let (plaintext, secret) = key.recipient.open(&parts).ok_or(OpenError::Seal)?;
        let lock = AnswerLock::of(enc, &plaintext);
        Ok(Opened {
            lock,
            request: decode_request(Bytes::from(plaintext)).map(|decoded| decoded.message),
            padded: is_padded_length(sealed.len()),
            enc: EncDigest::of(enc),
            sealer: Sealer { secret },
        })
    }
}

/// Seals the answer to one request. It is consumed by that.
pub struct Sealer {
    secret: ResponseSecret,
}

impl Sealer {
    /// Pads and seals `response`. The result has one of the shared sizes.
    pub fn seal(self, response: &InnerResponse) -> Result<Vec<u8>, SealError> {
        let encoded = encode_response_padded(response, self.overhead(), 0)?;
        self.seal_encoded(&encoded)
    }

    /// Seals what [`encode_response_padded`] wrote for the [`overhead`](Self::overhead) of this sealer.
    pub fn seal_encoded(self, encoded: &[u8]) -> Result<Vec<u8>, SealError> {
        self.secret.seal(encoded).ok_or(SealError::Key)
    }

    /// Bytes that sealing adds.
    pub fn overhead(&self) -> usize {
        self.secret.overhead()
    }
}

/// The clear head of a sealed request.
struct Header {
    key_id: u8,
    kem: u16,
    kdf: u16,
    aead: u16,
}

impl Header {
    fn read(sealed: &[u8]) -> Result<Self, OpenError> {
        match sealed {
            &[key_id, k0, k1, d0, d1, a0, a1, ..] => Ok(Self {
                key_id,
                kem: u16::from_be_bytes([k0, k1]),
                kdf: u16::from_be_bytes([d0, d1]),
                aead: u16::from_be_bytes([a0, a1]),
            }),
            _ => Err(OpenError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digests are in databases: another one would forget what was answered before an upgrade.
    #[test]
    fn the_digest_of_a_request_is_half_of_the_sha_256_of_its_encapsulated_key() {
        let enc: Vec<u8> = (0..32).collect();
        let expected =
            [0x63, 0x0d, 0xcd, 0x29, 0x66, 0xc4, 0x33, 0x66, 0x91, 0x12, 0x54, 0x48, 0xbb, 0xb2, 0x5b, 0x4f];
        assert_eq!(EncDigest::of(&enc).as_bytes(), &expected);
    }
}
