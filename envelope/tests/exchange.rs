//! One exchange through the envelope, and every way in which a hop or a stranger could spoil it.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic anywhere")]

use mica_envelope::{
    ClientEnvelope, GatewayKey, GatewayKeys, InnerRequest, InnerResponse, Kem, KeyConfigError, KeyConfigList,
    OpenError, SIZE_BUCKETS, SealError, Unwrap, encode_response_padded,
};
use proptest::prelude::*;

fn gateway() -> GatewayKeys {
    GatewayKeys::new(vec![GatewayKey::generate(7, Kem::X25519HkdfSha256).unwrap()]).unwrap()
}

fn keys_of(gateway: &GatewayKeys) -> KeyConfigList {
    KeyConfigList::parse(gateway.config_list().to_vec()).unwrap()
}

fn request(body: usize) -> InnerRequest {
    InnerRequest {
        method: "POST".into(),
        scheme: "https".into(),
        authority: "leader.example".into(),
        path: "/tasks/t/reports".into(),
        headers: vec![("content-type".into(), b"application/dap-upload-req".to_vec())],
        body: vec![7; body].into(),
    }
}

fn response(status: u16, body: usize) -> InnerResponse {
    InnerResponse { status, headers: vec![], body: vec![9; body].into() }
}

#[test]
fn a_request_and_its_answer_arrive() {
    for kem in [Kem::X25519HkdfSha256, Kem::P256HkdfSha256, Kem::XWing] {
        let gateway = GatewayKeys::new(vec![GatewayKey::generate(0, kem).unwrap()]).unwrap();
        let (sealed, opener) = ClientEnvelope::seal(&keys_of(&gateway), &request(900)).unwrap();
        let inside = gateway.open(&sealed).unwrap();
        assert!(inside.request.unwrap() == request(900));
        assert!(inside.padded);
        let answer = inside.sealer.seal(&response(201, 12)).unwrap();
        assert!(opener.open(&answer).unwrap() == response(201, 12));
    }
}

#[test]
fn sealed_messages_have_only_shared_sizes() {
    let gateway = gateway();
    let keys = keys_of(&gateway);
    for body in [0, 1, 300, 400, 420, 1000, 5000, 70_000] {
        let (sealed, _) = ClientEnvelope::seal(&keys, &request(body)).unwrap();
        assert!(SIZE_BUCKETS.contains(&sealed.len()), "{body} -> {}", sealed.len());
        let answer = gateway.open(&sealed).unwrap().sealer.seal(&response(200, body)).unwrap();
        assert!(SIZE_BUCKETS.contains(&answer.len()), "{body} -> {}", answer.len());
    }
    assert!(matches!(ClientEnvelope::seal(&keys, &request(16 << 20)), Err(SealError::TooLarge)));
}

#[test]
fn short_answers_of_every_kind_have_one_size() {
    let gateway = gateway();
    for (status, body) in [(200, 0), (400, 200), (503, 800)] {
        let (sealed, _) = ClientEnvelope::seal(&keys_of(&gateway), &request(1)).unwrap();
        let answer = gateway.open(&sealed).unwrap().sealer;
        let encoded = encode_response_padded(&response(status, body), answer.overhead(), 1024).unwrap();
        assert_eq!(answer.seal_encoded(&encoded).unwrap().len(), 1024);
    }
}

#[test]
fn the_same_request_is_sealed_differently_every_time() {
    let gateway = gateway();
    let seal = || ClientEnvelope::seal(&keys_of(&gateway), &request(1)).unwrap().0;
    let (one, two) = (seal(), seal());
    assert_ne!(one, two);
    assert!(gateway.open(&one).unwrap().enc != gateway.open(&two).unwrap().enc);
}

#[test]
fn a_resent_ciphertext_is_recognised_and_answered_under_a_fresh_nonce() {
    let gateway = gateway();
    let (sealed, opener) = ClientEnvelope::seal(&keys_of(&gateway), &request(1)).unwrap();
    let (first, second) = (gateway.open(&sealed).unwrap(), gateway.open(&sealed).unwrap());
    assert!(first.enc == second.enc);
    let answers = [first, second].map(|inside| inside.sealer.seal(&response(200, 0)).unwrap());
    assert_ne!(answers[0], answers[1]);
    assert!(opener.open(&answers[1]).is_ok());
}

#[test]
fn nothing_opens_after_one_changed_bit() {
    let gateway = gateway();
    let (sealed, opener) = ClientEnvelope::seal(&keys_of(&gateway), &request(1)).unwrap();
    for position in 0..sealed.len() {
        let mut spoiled = sealed.clone();
        spoiled[position] ^= 1;
        assert!(gateway.open(&spoiled).is_err(), "byte {position}");
    }
    let mut longer = sealed.clone();
    longer.push(0);
    assert!(matches!(gateway.open(&longer), Err(OpenError::Seal)));
    let mut answer = gateway.open(&sealed).unwrap().sealer.seal(&response(200, 0)).unwrap();
    answer[40] ^= 1;
    assert!(matches!(opener.open(&answer), Err(OpenError::Seal)));
}

#[test]
fn the_first_byte_chooses_the_key_and_no_other_is_tried() {
    let [one, two] = [1, 2].map(|id| GatewayKey::generate(id, Kem::X25519HkdfSha256).unwrap());
    let only_two = KeyConfigList::parse(list(&[two.config().unwrap()])).unwrap();
    let gateway = GatewayKeys::new(vec![one, two]).unwrap();
    let (mut sealed, _) = ClientEnvelope::seal(&only_two, &request(1)).unwrap();
    assert!(gateway.open(&sealed).is_ok());
    sealed[0] = 1;
    assert!(matches!(gateway.open(&sealed), Err(OpenError::Seal)));
    sealed[0] = 3;
    assert!(matches!(gateway.open(&sealed), Err(OpenError::UnknownKey)));
}

#[test]
fn a_suite_or_kem_that_was_not_offered_is_refused() {
    let gateway = gateway();
    let (sealed, _) = ClientEnvelope::seal(&keys_of(&gateway), &request(1)).unwrap();
    for (position, byte, why) in
        [(2, 0x10, OpenError::UnknownKey), (4, 3, OpenError::Suite), (6, 2, OpenError::Suite)]
    {
        let mut other = sealed.clone();
        other[position] = byte;
        assert_eq!(gateway.open(&other).err(), Some(why));
    }
}

#[test]
fn a_truncated_request_is_refused() {
    let gateway = gateway();
    let (sealed, _) = ClientEnvelope::seal(&keys_of(&gateway), &request(1)).unwrap();
    for end in 0..sealed.len() {
        assert!(gateway.open(&sealed[..end]).is_err());
    }
    assert!(matches!(gateway.open(&[]), Err(OpenError::Truncated)));
    assert!(matches!(gateway.open(&sealed[..20]), Err(OpenError::Truncated)));
}

#[test]
fn a_good_seal_around_an_invalid_message_still_has_a_sealer() {
    let gateway = gateway();
    let mut config = ohttp::KeyConfig::decode(&gateway.config_list()[2..]).unwrap();
    let client = ohttp::ClientRequest::from_config(&mut config).unwrap();
    let (sealed, opener) = client.encapsulate(b"no binary http").unwrap();
    let inside = gateway.open(&sealed).unwrap();
    assert!(inside.request.is_err());
    assert!(!inside.padded);
    let answer = inside.sealer.seal(&response(400, 0)).unwrap();
    assert!(opener.decapsulate(&answer).is_ok());
}

#[test]
fn two_keys_with_one_identifier_are_refused() {
    let keys = [(); 2].map(|()| GatewayKey::generate(1, Kem::X25519HkdfSha256).unwrap());
    assert!(GatewayKeys::new(keys.into()).is_err());
    assert!(GatewayKeys::new(Vec::new()).is_err());
}

fn list(configs: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for config in configs {
        out.extend_from_slice(&u16::try_from(config.len()).unwrap().to_be_bytes());
        out.extend_from_slice(config);
    }
    out
}

fn config(id: u8, kem: Kem) -> Vec<u8> {
    GatewayKey::generate(id, kem).unwrap().config().unwrap()
}

fn x25519_with_suites(id: u8, suites: &[u8]) -> Vec<u8> {
    let mut config = vec![id, 0, 0x20];
    config.extend_from_slice(&[9; 32]);
    config.extend_from_slice(&u16::try_from(suites.len()).unwrap().to_be_bytes());
    config.extend_from_slice(suites);
    config
}

/// The library takes the last supported entry, against the gateway's preference.
#[test]
fn the_first_supported_configuration_is_chosen() {
    let (x25519, xwing) = (config(1, Kem::X25519HkdfSha256), config(2, Kem::XWing));
    let first = |configs: &[Vec<u8>]| KeyConfigList::parse(list(configs)).unwrap().key_id();
    assert_eq!(first(&[x25519.clone(), xwing.clone()]), 1);
    assert_eq!(first(&[xwing, x25519.clone()]), 2);
    let unknown_kem = [&[9, 0x77, 0x77][..], &[0; 50]].concat();
    assert_eq!(first(&[unknown_kem, x25519]), 1);
}

/// The library panics on a configuration of which it supports no suite.
#[test]
fn a_configuration_without_a_supported_suite_is_passed_over() {
    let useless = x25519_with_suites(3, &[0, 3, 0, 2]);
    assert_eq!(
        KeyConfigList::parse(list(std::slice::from_ref(&useless))).err(),
        Some(KeyConfigError::Unsupported)
    );
    assert_eq!(KeyConfigList::parse(list(&[useless, config(4, Kem::X25519HkdfSha256)])).unwrap().key_id(), 4);
}

/// The library drops a whole configuration for one suite that it does not know.
#[test]
fn an_unknown_suite_beside_a_known_one_does_no_harm() {
    let mixed = x25519_with_suites(5, &[0x55, 0x55, 0x66, 0x66, 0, 1, 0, 3]);
    let keys = KeyConfigList::parse(list(&[mixed])).unwrap();
    assert_eq!((keys.key_id(), keys.kem()), (5, Kem::X25519HkdfSha256));
    assert_eq!(ClientEnvelope::seal(&keys, &request(1)).unwrap().0[..7], [5, 0, 0x20, 0, 1, 0, 3]);
}

#[test]
fn one_badly_encoded_part_discards_the_whole_list() {
    let good = config(1, Kem::X25519HkdfSha256);
    let mut trailing = good.clone();
    trailing.push(0);
    let off_curve = [&[6, 0, 0x10][..], &[4; 65], &[0, 4, 0, 1, 0, 1]].concat();
    for bad in [
        Vec::new(),
        vec![1, 0, 0],
        good[..good.len() - 1].to_vec(),
        trailing,
        x25519_with_suites(1, &[]),
        x25519_with_suites(1, &[0, 1, 0, 1, 0]),
        off_curve,
    ] {
        let refused = KeyConfigList::parse(list(&[good.clone(), bad.clone()]));
        assert!(matches!(refused.err(), Some(KeyConfigError::Malformed(_))), "{bad:?}");
    }
    let whole = list(&[good]);
    for end in 0..whole.len() {
        assert!(KeyConfigList::parse(whole[..end].to_vec()).is_err());
    }
}

#[test]
fn a_key_that_cannot_be_used_is_an_error_and_no_panic() {
    let mut zero = x25519_with_suites(1, &[0, 1, 0, 1]);
    zero[3..35].fill(0);
    let keys = KeyConfigList::parse(list(&[zero])).unwrap();
    assert_eq!(ClientEnvelope::seal(&keys, &request(1)).err(), Some(SealError::Key));
}

#[test]
fn a_kept_secret_gives_the_same_key_again() {
    let ikm = mica_envelope::Ikm::random();
    let config = || GatewayKey::from_ikm(1, Kem::X25519HkdfSha256, &ikm).unwrap().config().unwrap();
    assert_eq!(config(), config());
}

proptest! {
    #[test]
    fn reading_any_key_list_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = KeyConfigList::parse(bytes);
    }

    #[test]
    fn reading_a_spoiled_key_list_never_panics(at in 0_usize..45, to in any::<u8>()) {
        let mut bytes = list(&[x25519_with_suites(1, &[0, 1, 0, 1])]);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = to;
        }
        if let Ok(keys) = KeyConfigList::parse(bytes) {
            let _ = ClientEnvelope::seal(&keys, &request(1));
        }
    }

    #[test]
    fn opening_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let gateway = gateway();
        let mut named = vec![7, 0, 0x20, 0, 1, 0, 1];
        named.extend_from_slice(&bytes);
        prop_assert!(gateway.open(&bytes).is_err());
        prop_assert!(gateway.open(&named).is_err());
    }
}
