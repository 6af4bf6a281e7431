//! Public keys that shares are sealed to, and sealed shares, as they are written (DAP 4.1, 4.4.1).
//!
//! Only the wire format; sealing and opening happen elsewhere. Private keys never come near this file.

use crate::codec::{Decode, Encode, Malformed, Reader, put_opaque16, put_opaque32};
use crate::hpke::Suite;

/// One public key and the algorithms it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HpkeConfig {
    /// Names the key among those of its owner.
    pub id: u8,
    /// The key encapsulation mechanism.
    pub kem_id: u16,
    /// The key derivation function.
    pub kdf_id: u16,
    /// The cipher.
    pub aead_id: u16,
    /// The public key; 1 to 65,535 bytes.
    pub public_key: Vec<u8>,
}

impl HpkeConfig {
    /// DHKEM(P-256, HKDF-SHA256).
    pub const KEM_P256: u16 = 0x0010;
    /// DHKEM(X25519, HKDF-SHA256).
    pub const KEM_X25519: u16 = 0x0020;
    /// HKDF-SHA256.
    pub const KDF_SHA256: u16 = 0x0001;
    /// AES-128-GCM.
    pub const AEAD_AES_128_GCM: u16 = 0x0001;
    /// AES-256-GCM.
    pub const AEAD_AES_256_GCM: u16 = 0x0002;
    /// ChaCha20-Poly1305.
    pub const AEAD_CHACHA20_POLY1305: u16 = 0x0003;

    /// A configuration of the mandatory suite (DAP 7).
    pub fn x25519(id: u8, public_key: [u8; 32]) -> Self {
        Self::of_suite(id, Suite::MANDATORY, public_key.to_vec())
    }

    /// A configuration of this suite.
    pub fn of_suite(id: u8, suite: Suite, public_key: Vec<u8>) -> Self {
        let (kem_id, kdf_id, aead_id) = suite.ids();
        Self { id, kem_id, kdf_id, aead_id, public_key }
    }

    /// Whether this program has the suite, and the key is of the right length for it: what it seals to.
    pub fn is_supported(&self) -> bool {
        Suite::of(self).is_some_and(|suite| self.public_key.len() == suite.public_key_length())
    }
}

impl Encode for HpkeConfig {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.id);
        out.extend_from_slice(&self.kem_id.to_be_bytes());
        out.extend_from_slice(&self.kdf_id.to_be_bytes());
        out.extend_from_slice(&self.aead_id.to_be_bytes());
        put_opaque16(out, &self.public_key);
    }
}

impl Decode for HpkeConfig {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            id: reader.u8()?,
            kem_id: reader.u16()?,
            kdf_id: reader.u16()?,
            aead_id: reader.u16()?,
            public_key: reader.opaque16(1)?.to_vec(),
        })
    }
}

/// The public keys of an aggregator, the most preferred first; at least one, and no identifier twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HpkeConfigList(Vec<HpkeConfig>);

impl HpkeConfigList {
    /// A list of these configurations.
    pub fn new(configs: Vec<HpkeConfig>) -> Result<Self, Malformed> {
        if configs.is_empty() {
            return Err(Malformed("a list of no HPKE configuration"));
        }
        let mut seen = [false; 256];
        for config in &configs {
            if let Some(known) = seen.get_mut(usize::from(config.id))
                && std::mem::replace(known, true)
            {
                return Err(Malformed("two HPKE configurations with one identifier"));
            }
        }
        let size: usize = configs.iter().map(|config| FIXED_PART + config.public_key.len()).sum();
        if size > usize::from(u16::MAX) {
            return Err(Malformed("HPKE configurations longer than 65535 bytes"));
        }
        Ok(Self(configs))
    }

    /// The configurations, the most preferred first.
    pub fn configs(&self) -> &[HpkeConfig] {
        &self.0
    }

    /// The most preferred configuration that this program can seal to (DAP 4.4.1).
    pub fn preferred(&self) -> Option<&HpkeConfig> {
        self.0.iter().find(|config| config.is_supported())
    }
}

impl Encode for HpkeConfigList {
    fn encode(&self, out: &mut Vec<u8>) {
        crate::codec::put_list16(out, &self.0);
    }
}

impl Decode for HpkeConfigList {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        // Identifiers are one byte and distinct, so no valid list is longer than 256.
        Self::new(Reader::new(reader.opaque16(LEAST_LIST)?).list(256)?)
    }
}

/// Something sealed to a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HpkeCiphertext {
    /// Names the key it is sealed to.
    pub config_id: u8,
    /// The encapsulated key; 1 to 65,535 bytes.
    pub enc: Vec<u8>,
    /// The ciphertext; at least one byte.
    pub payload: Vec<u8>,
}

impl Encode for HpkeCiphertext {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.config_id);
        put_opaque16(out, &self.enc);
        put_opaque32(out, &self.payload);
    }
}

impl Decode for HpkeCiphertext {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            config_id: reader.u8()?,
            enc: reader.opaque16(1)?.to_vec(),
            payload: reader.opaque32(1)?.to_vec(),
        })
    }
}

/// The bytes of an encoded configuration without its key.
const FIXED_PART: usize = 9;

/// The least length of an encoded list of configurations (DAP 4.4.1).
const LEAST_LIST: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_never_empty_and_never_ambiguous() {
        let config = HpkeConfig::x25519(1, [7; 32]);
        assert!(HpkeConfigList::new(Vec::new()).is_err());
        assert!(HpkeConfigList::new(vec![config.clone(), config.clone()]).is_err());
        assert!(HpkeConfigList::new(vec![config.clone(), HpkeConfig { id: 2, ..config }]).is_ok());
        let big = |id| HpkeConfig { public_key: vec![0; 40_000], ..HpkeConfig::x25519(id, [0; 32]) };
        assert!(HpkeConfigList::new(vec![big(1), big(2)]).is_err());
        assert!(HpkeConfigList::decoded(&[0, 0]).is_err());
    }

    #[test]
    fn the_first_configuration_that_we_can_use_is_preferred() {
        let usable = HpkeConfig::x25519(9, [7; 32]);
        let foreign = HpkeConfig { id: 1, kem_id: 0x0021, ..usable.clone() };
        let short = HpkeConfig { id: 2, public_key: vec![1; 31], ..usable.clone() };
        let list = HpkeConfigList::new(vec![foreign.clone(), short, usable.clone()]).unwrap();
        assert_eq!(HpkeConfigList::decoded(&list.encoded()).unwrap().preferred(), Some(&usable));
        assert_eq!(HpkeConfigList::new(vec![foreign]).unwrap().preferred(), None);
    }
}
