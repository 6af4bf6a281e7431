//! The RFCs' own examples, and a second derivation of RFC 9458 4.3 and 4.4 that holds the library to them.
//!
//! The library `ohttp` loads no raw private key, and neither do we from outside, so the exchange of RFC 9458 Appendix A
//! runs through `by_hand`, made of HPKE, HKDF and an AEAD alone (and through our own end in `src/recipient_tests.rs`);
//! and `by_hand`, our client and our gateway open each other's messages.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic anywhere")]

use aes_gcm::{
    Aes128Gcm, KeyInit,
    aead::{Aead, Nonce},
};
use bhttp::{Message, Mode, StatusCode};
use hkdf::Hkdf;
use hpke::{
    Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::AesGcm128, kdf::HkdfSha256,
    kem::X25519HkdfSha256,
};
use mica_envelope::{
    ClientEnvelope, GatewayKey, GatewayKeys, Ikm, InnerRequest, InnerResponse, Kem, KeyConfigList, Unwrap,
    decode_request, decode_response,
};
use serde_json::Value;
use sha2::Sha256;

type PrivateKey = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as hpke::Kem>::EncappedKey;

/// RFC 9458 4.3 and 4.4 for X25519, HKDF-SHA256, AES-128-GCM, written down once more.
mod by_hand {
    use super::*;

    pub(crate) struct Exchange {
        pub(crate) plaintext: Vec<u8>,
        pub(crate) enc: Vec<u8>,
        pub(crate) secret: [u8; 16],
    }

    pub(crate) struct ResponseKey {
        pub(crate) salt: Vec<u8>,
        pub(crate) prk: Vec<u8>,
        pub(crate) key: [u8; 16],
        pub(crate) nonce: [u8; 12],
    }

    pub(crate) fn info(header: &[u8]) -> Vec<u8> {
        [b"message/bhttp request\0", header].concat()
    }

    pub(crate) fn open(private_key: &PrivateKey, sealed: &[u8]) -> Exchange {
        let (header, rest) = sealed.split_at(7);
        let (enc, ciphertext) = rest.split_at(32);
        let mut context = hpke::setup_receiver::<AesGcm128, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            private_key,
            &EncappedKey::from_bytes(enc).unwrap(),
            &info(header),
        )
        .unwrap();
        let plaintext = context.open(ciphertext, &[]).unwrap();
        let mut secret = [0; 16];
        context.export(b"message/bhttp response", &mut secret).unwrap();
        Exchange { plaintext, enc: enc.to_vec(), secret }
    }

    pub(crate) fn seal(public_key: &PublicKey, key_id: u8, plaintext: &[u8]) -> (Vec<u8>, Exchange) {
        let header = [key_id, 0, 0x20, 0, 1, 0, 1];
        let (enc, mut context) = hpke::setup_sender::<AesGcm128, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            public_key,
            &info(&header),
        )
        .unwrap();
        let enc = enc.to_bytes().to_vec();
        let ciphertext = context.seal(plaintext, &[]).unwrap();
        let mut secret = [0; 16];
        context.export(b"message/bhttp response", &mut secret).unwrap();
        ([&header[..], &enc, &ciphertext].concat(), Exchange { plaintext: plaintext.to_vec(), enc, secret })
    }

    impl Exchange {
        pub(crate) fn response_key(&self, response_nonce: &[u8]) -> ResponseKey {
            let salt = [&self.enc, response_nonce].concat();
            let (prk, hkdf) = Hkdf::<Sha256>::extract(Some(&salt), &self.secret);
            let (mut key, mut nonce) = ([0; 16], [0; 12]);
            hkdf.expand(b"key", &mut key).unwrap();
            hkdf.expand(b"nonce", &mut nonce).unwrap();
            ResponseKey { salt, prk: prk.to_vec(), key, nonce }
        }

        pub(crate) fn seal_response(&self, response_nonce: &[u8; 16], plaintext: &[u8]) -> Vec<u8> {
            let key = self.response_key(response_nonce);
            let sealed =
                Aes128Gcm::new(&key.key.into()).encrypt(&Nonce::<Aes128Gcm>::from(key.nonce), plaintext);
            [&response_nonce[..], &sealed.unwrap()].concat()
        }

        pub(crate) fn open_response(&self, sealed: &[u8]) -> Vec<u8> {
            let (response_nonce, ciphertext) = sealed.split_at(16);
            let key = self.response_key(response_nonce);
            Aes128Gcm::new(&key.key.into()).decrypt(&Nonce::<Aes128Gcm>::from(key.nonce), ciphertext).unwrap()
        }
    }
}

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn bytes(vector: &Value, name: &str) -> Vec<u8> {
    hex::decode(vector[name].as_str().unwrap()).unwrap()
}

fn appendix_a() -> Value {
    vectors(include_str!("vectors/rfc9458-appendix-a.json"))
}

fn binary_http(anchor: &str) -> Vec<u8> {
    let all = vectors(include_str!("vectors/rfc9292-section-5.json"));
    let message =
        all["messages"].as_array().unwrap().iter().find(|message| message["anchor"] == anchor).cloned();
    bytes(&message.unwrap(), "hex")
}

#[test]
fn rfc_9292_section_5_requests_are_read() {
    for (anchor, length) in [("ex-bink-request", 135), ("ex-bini-request", 144)] {
        let encoded = binary_http(anchor);
        assert_eq!(encoded.len(), length);
        let decoded = decode_request(encoded).unwrap();
        assert_eq!(decoded.padding, if anchor == "ex-bini-request" { 10 } else { 0 });
        let request = decoded.message;
        assert_eq!((&*request.method, &*request.scheme), ("GET", "https"));
        assert_eq!((&*request.authority, &*request.path), ("www.example.com", "/hello.txt"));
        assert_eq!(request.header("accept-language"), Some(&b"en, mi"[..]));
        assert_eq!(request.headers.len(), 2);
        assert!(request.body.is_empty());
    }
}

#[test]
fn rfc_9292_section_5_responses_are_read() {
    let response = decode_response(binary_http("ex-bini-response")).unwrap().message;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("server"), Some(&b"Apache"[..]));
    assert_eq!(response.body, &b"Hello World! My content includes a trailing CRLF.\r\n"[..]);
}

#[test]
fn every_rfc_9292_example_reads_as_the_second_implementation_reads_it() {
    let all = vectors(include_str!("vectors/rfc9292-section-5.json"));
    for message in all["messages"].as_array().unwrap() {
        let encoded = bytes(message, "hex");
        let theirs = Message::read_bhttp(&mut std::io::Cursor::new(&encoded)).unwrap();
        if theirs.control().is_request() {
            let ours = decode_request(encoded).unwrap().message;
            assert_eq!(theirs.control().method(), Some(ours.method.as_bytes()));
            assert_eq!(theirs.content(), &ours.body[..]);
        } else {
            let ours = decode_response(encoded).unwrap().message;
            assert_eq!(theirs.control().status().map(StatusCode::code), Some(ours.status));
            assert_eq!(theirs.content(), &ours.body[..]);
        }
    }
}

#[test]
fn rfc_9458_appendix_a_key_configuration_is_read() {
    let vector = appendix_a();
    let config = bytes(&vector, "key_config");
    let list = [&u16::try_from(config.len()).unwrap().to_be_bytes()[..], &config].concat();
    let keys = KeyConfigList::parse(list).unwrap();
    assert_eq!((keys.key_id(), keys.kem()), (1, Kem::X25519HkdfSha256));
    let private_key = PrivateKey::from_bytes(&bytes(&vector, "skR")).unwrap();
    assert_eq!(X25519HkdfSha256::sk_to_pk(&private_key).to_bytes()[..], config[3..35]);
}

#[test]
fn rfc_9458_appendix_a_messages_are_read() {
    let vector = appendix_a();
    let request = decode_request(bytes(&vector, "request_bhttp")).unwrap().message;
    assert_eq!((&*request.method, &*request.authority, &*request.path), ("GET", "example.com", "/"));
    assert_eq!(decode_response(bytes(&vector, "response_bhttp")).unwrap().message.status, 200);
}

#[test]
fn rfc_9458_appendix_a_exchange_derives_byte_for_byte() {
    let vector = appendix_a();
    let ephemeral = PrivateKey::from_bytes(&bytes(&vector, "skE")).unwrap();
    assert_eq!(X25519HkdfSha256::sk_to_pk(&ephemeral).to_bytes().to_vec(), bytes(&vector, "enc"));
    let sealed = bytes(&vector, "enc_request");
    assert_eq!(by_hand::info(&sealed[..7]), bytes(&vector, "info"));
    let exchange = by_hand::open(&PrivateKey::from_bytes(&bytes(&vector, "skR")).unwrap(), &sealed);
    assert_eq!(exchange.plaintext, bytes(&vector, "request_bhttp"));
    assert_eq!(exchange.enc, bytes(&vector, "enc"));
    assert_eq!(exchange.secret.to_vec(), bytes(&vector, "secret"));

    let answer = bytes(&vector, "enc_response");
    let response_nonce: [u8; 16] = answer[..16].try_into().unwrap();
    let key = exchange.response_key(&response_nonce);
    assert_eq!(key.salt, bytes(&vector, "salt"));
    assert_eq!(key.prk, bytes(&vector, "prk"));
    assert_eq!(key.key.to_vec(), bytes(&vector, "aead_key"));
    assert_eq!(key.nonce.to_vec(), bytes(&vector, "aead_nonce"));
    assert_eq!(exchange.seal_response(&response_nonce, &bytes(&vector, "response_bhttp")), answer);
}

fn inner_request() -> InnerRequest {
    InnerRequest {
        method: "GET".into(),
        scheme: "https".into(),
        authority: "example.com".into(),
        path: "/".into(),
        headers: Vec::new(),
        body: "x".into(),
    }
}

#[test]
fn our_client_is_opened_and_answered_by_hand() {
    let ikm = Ikm::from_bytes([5; 32]);
    let gateway =
        GatewayKeys::new(vec![GatewayKey::from_ikm(3, Kem::X25519HkdfSha256, &ikm).unwrap()]).unwrap();
    let keys = KeyConfigList::parse(gateway.config_list().to_vec()).unwrap();
    let (private_key, public_key) = X25519HkdfSha256::derive_keypair(ikm.as_bytes());
    assert_eq!(gateway.config_list()[5..37], public_key.to_bytes()[..]);

    let (sealed, opener) = ClientEnvelope::seal(&keys, &inner_request()).unwrap();
    let exchange = by_hand::open(&private_key, &sealed);
    assert!(decode_request(exchange.plaintext.clone()).unwrap().message == inner_request());
    let answer = exchange.seal_response(&[8; 16], &bytes(&appendix_a(), "response_bhttp"));
    assert_eq!(opener.open(&answer).unwrap().status, 200);
}

#[test]
fn our_gateway_opens_and_answers_what_was_sealed_by_hand() {
    let ikm = Ikm::from_bytes([6; 32]);
    let gateway =
        GatewayKeys::new(vec![GatewayKey::from_ikm(3, Kem::X25519HkdfSha256, &ikm).unwrap()]).unwrap();
    let (_, public_key) = X25519HkdfSha256::derive_keypair(ikm.as_bytes());
    let mut message =
        Message::request(b"GET".to_vec(), b"https".to_vec(), b"example.com".to_vec(), b"/".to_vec());
    message.write_content(b"x");
    let mut plaintext = Vec::new();
    message.write_bhttp(Mode::IndeterminateLength, &mut plaintext).unwrap();

    let (sealed, exchange) = by_hand::seal(&public_key, 3, &plaintext);
    let opened = gateway.open(&sealed).unwrap();
    assert!(opened.request.unwrap() == inner_request());
    let answer =
        opened.sealer.seal(&InnerResponse { status: 404, headers: Vec::new(), body: "no".into() }).unwrap();
    let response = decode_response(exchange.open_response(&answer)).unwrap().message;
    assert_eq!((response.status, &response.body[..]), (404, &b"no"[..]));
}
