//! Every suite seals and opens, and those of RFC 9180's vectors to the byte.

use super::*;

/// The first encryption of each base mode vector of RFC 9180 with HKDF-SHA256: private key, public key, encapsulated
/// key, ciphertext.
const VECTORS: [(Suite, &str, &str, &str, &str); 5] = [
    (
        Suite::X25519Aes256Gcm,
        "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d",
        "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c",
        "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256",
        "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a",
    ),
    (
        Suite::X25519ChaCha20Poly1305,
        "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
        "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
    ),
    (
        Suite::P256Aes128Gcm,
        "f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2",
        "04fe8c19ce0905191ebc298a9245792531f26f0cece2460639e8bc39cb7f706a826a779b4cf969b8a0e539c7f62fb3d30ad6aa8f80e30f1d128aafd68a2ce72ea0",
        "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac98536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb9382657222d18c4",
        "5ad590bb8baa577f8619db35a36311226a896e7342a6d836d8b7bcd2f20b6c7f9076ac232e3ab2523f39513434",
    ),
    (
        Suite::P256Aes256Gcm,
        "317f915db7bc629c48fe765587897e01e282d3e8445f79f27f65d031a88082b2",
        "04abc7e49a4c6b3566d77d0304addc6ed0e98512ffccf505e6a8e3eb25c685136f853148544876de76c0f2ef99cdc3a05ccf5ded7860c7c021238f9e2073d2356c",
        "04c06b4f6bebc7bb495cb797ab753f911aff80aefb86fd8b6fcc35525f3ab5f03e0b21bd31a86c6048af3cb2d98e0d3bf01da5cc4c39ff5370d331a4f1f7d5a4e0",
        "58c61a45059d0c5704560e9d88b564a8b63f1364b8d1fcb3c4c6ddc1d291742465e902cd216f8908da49f8f96f",
    ),
    (
        Suite::P256ChaCha20Poly1305,
        "a4d1c55836aa30f9b3fbb6ac98d338c877c2867dd3a77396d13f68d3ab150d3b",
        "04a697bffde9405c992883c5c439d6cc358170b51af72812333b015621dc0f40bad9bb726f68a5c013806a790ec716ab8669f84f6b694596c2987cf35baba2a006",
        "04c07836a0206e04e31d8ae99bfd549380b072a1b1b82e563c935c095827824fc1559eac6fb9e3c70cd3193968994e7fe9781aa103f5b50e934b5b2f387e381291",
        "6469c41c5c81d3aa85432531ecf6460ec945bde1eb428cb2fedf7a29f5a685b4ccb0d057f03ea2952a27bb458b",
    ),
];

#[test]
fn the_vectors_of_the_specification_open() {
    for (suite, private_key, public_key, enc, sealed) in VECTORS {
        let private_key = HpkePrivateKey::from_bytes(&hex::decode(private_key).unwrap()).unwrap();
        let config = HpkeConfig::of_suite(3, suite, hex::decode(public_key).unwrap());
        let keypair = HpkeKeypair::from_parts(config, private_key).ok().unwrap();
        let (enc, payload) = (hex::decode(enc).unwrap(), hex::decode(sealed).unwrap());
        let ciphertext = HpkeCiphertext { config_id: 3, enc, payload };
        let opened = open(&keypair, b"Ode on a Grecian Urn", b"Count-0", &ciphertext).unwrap();
        assert_eq!(opened, b"Beauty is truth, truth beauty", "{suite}");
    }
}

#[test]
fn every_suite_opens_what_it_seals_and_no_other_does() {
    for suite in Suite::ALL {
        let keypair = HpkeKeypair::generate_for(suite, 9, &mut rand::rng());
        assert!(keypair.config.is_supported() && Suite::of(&keypair.config) == Some(suite));
        assert_eq!(suite.name().parse(), Ok(suite));
        let sealed = seal(&keypair.config, b"info", b"aad", b"share").unwrap();
        assert_eq!(open(&keypair, b"info", b"aad", &sealed).unwrap(), b"share", "{suite}");
        let kept = HpkePrivateKey::from_bytes(keypair.private_key.to_bytes().as_slice()).unwrap();
        assert!(HpkeKeypair::from_parts(keypair.config.clone(), kept.clone()).is_ok());
        for other in Suite::ALL.into_iter().filter(|other| *other != suite) {
            let config = HpkeConfig::of_suite(9, other, keypair.config.public_key.clone());
            assert_eq!(config.is_supported(), other.is_p256() == suite.is_p256());
            let mistaken = HpkeKeypair { config: config.clone(), ..keypair.clone() };
            assert!(open(&mistaken, b"info", b"aad", &sealed).is_err(), "{suite} {other}");
            let Ok(mistaken) = HpkeKeypair::from_parts(config, kept.clone()) else { continue };
            assert!(open(&mistaken, b"info", b"aad", &sealed).is_err(), "{suite} {other}");
        }
    }
    assert_eq!(
        "rsa".parse::<Suite>().unwrap_err().to_string(),
        "there is no HPKE suite `rsa`; there are x25519-aes128gcm, x25519-aes256gcm, x25519-chacha20poly1305, \
         p256-aes128gcm, p256-aes256gcm, p256-chacha20poly1305"
    );
}

#[test]
fn a_key_that_is_no_point_or_no_scalar_is_refused() {
    let zero = HpkePrivateKey::from_bytes(&[0; 32]).unwrap();
    let config = HpkeConfig::of_suite(1, Suite::P256Aes128Gcm, vec![4; 65]);
    assert_eq!(HpkeKeypair::from_parts(config.clone(), zero).err(), Some(HpkeError::InvalidKey));
    assert_eq!(seal(&config, b"", b"", b"share").err(), Some(HpkeError::InvalidKey));
    let keypair = HpkeKeypair::generate_for(Suite::P256Aes128Gcm, 1, &mut rand::rng());
    let sealed = seal(&keypair.config, b"", b"", b"share").unwrap();
    for enc in [vec![4; 65], vec![0; 65], vec![0], sealed.enc[1..].to_vec()] {
        let ciphertext = HpkeCiphertext { enc, ..sealed.clone() };
        assert_eq!(open(&keypair, b"", b"", &ciphertext), Err(HpkeError::Open));
    }
}
