//! The gateway's end is ours; here it is held to the crate `ohttp`, which has both ends, in everything that can be seen.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic anywhere")]

use mica_envelope::{
    GatewayKey, GatewayKeys, Ikm, InnerRequest, InnerResponse, Kem, Unwrap, encode_request_padded,
    encode_response,
};
use ohttp::{
    ClientRequest, KeyConfig, Server, SymmetricSuite,
    hpke::{Aead, Kdf},
};

const KEMS: [(Kem, ohttp::hpke::Kem); 3] = [
    (Kem::X25519HkdfSha256, ohttp::hpke::Kem::X25519Sha256),
    (Kem::P256HkdfSha256, ohttp::hpke::Kem::P256Sha256),
    (Kem::XWing, ohttp::hpke::Kem::XWing),
];

const SUITES: [SymmetricSuite; 2] = [
    SymmetricSuite::new(Kdf::HkdfSha256, Aead::Aes128Gcm),
    SymmetricSuite::new(Kdf::HkdfSha256, Aead::ChaCha20Poly1305),
];

/// Both gateways, of the same key.
fn gateways((kem, theirs): (Kem, ohttp::hpke::Kem), secret: u8) -> (GatewayKeys, Server) {
    let ikm = Ikm::from_bytes([secret; 32]);
    let ours = GatewayKeys::new(vec![GatewayKey::from_ikm(9, kem, &ikm).unwrap()]).unwrap();
    let theirs = KeyConfig::derive(9, theirs, SUITES.to_vec(), ikm.as_bytes()).unwrap();
    (ours, Server::new(theirs).unwrap())
}

/// What a client of the crate makes of our list, with one suite only.
fn client(ours: &GatewayKeys, suite: SymmetricSuite) -> ClientRequest {
    let mut config = ours.config_list()[2..].to_vec();
    config.truncate(config.len() - 10);
    for number in [4, u16::from(suite.kdf()), u16::from(suite.aead())] {
        config.extend_from_slice(&number.to_be_bytes());
    }
    ClientRequest::from_encoded_config(&config).unwrap()
}

fn request() -> InnerRequest {
    InnerRequest {
        method: "PUT".into(),
        scheme: "https".into(),
        authority: "leader.example".into(),
        path: "/r".into(),
        headers: Vec::new(),
        body: "report".into(),
    }
}

#[test]
fn the_published_configuration_is_theirs() {
    for (number, kem) in KEMS.into_iter().cycle().take(12).enumerate() {
        let (ours, theirs) = gateways(kem, u8::try_from(number).unwrap());
        assert_eq!(ours.config_list()[2..], theirs.config().encode().unwrap());
    }
}

#[test]
fn their_client_is_opened_as_they_open_it_and_reads_our_answer() {
    for kem in KEMS {
        let (ours, theirs) = gateways(kem, 3);
        for suite in SUITES {
            let plaintext = encode_request_padded(&request(), 16).unwrap();
            for length in [0, 1, 300, 5_000] {
                let (sealed, answers) = client(&ours, suite).encapsulate(&plaintext).unwrap();
                let opened = ours.open(&sealed).unwrap();
                assert!(opened.request.unwrap() == request());
                assert_eq!(theirs.decapsulate(&sealed).unwrap().0, plaintext);

                let answer = InnerResponse { status: 201, headers: vec![], body: vec![5; length].into() };
                let answer = encode_response(&answer).unwrap();
                let overhead = opened.sealer.overhead();
                let sealed = opened.sealer.seal_encoded(&answer).unwrap();
                assert_eq!(sealed.len(), answer.len() + overhead);
                assert_eq!(answers.decapsulate(&sealed).unwrap(), answer);
            }
        }
    }
}

#[test]
fn what_is_no_message_comes_out_as_they_open_it() {
    let (ours, theirs) = gateways(KEMS[0], 4);
    for plaintext in [&b""[..], b"x"] {
        let (sealed, _) = client(&ours, SUITES[0]).encapsulate(plaintext).unwrap();
        assert_eq!(theirs.decapsulate(&sealed).unwrap().0, plaintext);
        assert!(ours.open(&sealed).unwrap().request.is_err());
    }
}

#[test]
fn every_wrong_byte_is_refused_by_both() {
    for kem in KEMS {
        let (ours, theirs) = gateways(kem, 5);
        for suite in SUITES {
            let (sealed, _) = client(&ours, suite).encapsulate(b"message").unwrap();
            let refused = |sealed: &[u8]| (ours.open(sealed).is_err(), theirs.decapsulate(sealed).is_err());
            assert_eq!(refused(&sealed), (false, false));
            for position in 0..sealed.len() {
                for flip in [0x01, 0x80] {
                    let mut spoiled = sealed.clone();
                    spoiled[position] ^= flip;
                    assert_eq!(refused(&spoiled), (true, true), "byte {position}, {flip:#x}");
                }
                assert_eq!(refused(&sealed[..position]), (true, true), "{position} bytes");
            }
            assert_eq!(refused(&[&sealed[..], &[0]].concat()), (true, true));
        }
    }
}

/// A point of small order, or none at all, where an encapsulated key should be.
#[test]
fn a_key_that_agrees_with_nobody_is_refused_by_both() {
    let (ours, theirs) = gateways(KEMS[0], 6);
    let (sealed, _) = client(&ours, SUITES[0]).encapsulate(b"message").unwrap();
    for first in [0, 1] {
        let mut spoiled = sealed.clone();
        spoiled[7..39].fill(0);
        spoiled[7] = first;
        assert!(ours.open(&spoiled).is_err() && theirs.decapsulate(&spoiled).is_err());
    }
    let (ours, theirs) = gateways(KEMS[1], 6);
    let (mut sealed, _) = client(&ours, SUITES[0]).encapsulate(b"message").unwrap();
    sealed[8..72].fill(4);
    assert!(ours.open(&sealed).is_err() && theirs.decapsulate(&sealed).is_err());
}
