use proptest::prelude::*;

use super::*;
use crate::id::TaskId;

fn keypair() -> HpkeKeypair {
    HpkeKeypair::generate(7, &mut rand::rng())
}

/// RFC 9180 A.1.1, first encryption.
#[test]
fn the_vector_of_the_specification_opens() {
    let private_key =
        hex::decode("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8").unwrap();
    let public_key = "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d";
    let enc = hex::decode("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431").unwrap();
    let sealed = "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a";
    let keypair = HpkeKeypair::from_private_key(3, HpkePrivateKey::from_bytes(&private_key).unwrap());
    assert_eq!(hex::encode(&keypair.config.public_key), public_key);
    let ciphertext = HpkeCiphertext { config_id: 3, enc, payload: hex::decode(sealed).unwrap() };
    let opened = open(&keypair, b"Ode on a Grecian Urn", b"Count-0", &ciphertext).unwrap();
    assert_eq!(opened, b"Beauty is truth, truth beauty");
}

#[test]
fn what_is_sealed_opens_and_no_two_seals_are_alike() {
    let keypair = keypair();
    for plaintext in [&b""[..], b"share", &[7; 5000]] {
        let one = seal(&keypair.config, b"info", b"aad", plaintext).unwrap();
        let two = seal(&keypair.config, b"info", b"aad", plaintext).unwrap();
        assert_eq!(open(&keypair, b"info", b"aad", &one).unwrap(), plaintext);
        assert_ne!(one.enc, two.enc);
        assert_ne!(one.payload, two.payload);
        assert_eq!(one.payload.len(), plaintext.len() + 16);
    }
}

#[test]
fn nothing_opens_under_another_label_data_or_key() {
    let right = keypair();
    let other = HpkeKeypair::generate(7, &mut rand::rng());
    let sealed = seal(&right.config, b"info", b"aad", b"share").unwrap();
    assert_eq!(open(&right, b"inf0", b"aad", &sealed), Err(HpkeError::Open));
    assert_eq!(open(&right, b"info", b"aaD", &sealed), Err(HpkeError::Open));
    assert_eq!(open(&other, b"info", b"aad", &sealed), Err(HpkeError::Open));
    let named_otherwise = HpkeCiphertext { config_id: 8, ..sealed };
    assert_eq!(open(&right, b"info", b"aad", &named_otherwise), Err(HpkeError::WrongConfig));
}

#[test]
fn a_ciphertext_with_any_byte_changed_or_missing_does_not_open() {
    let keypair = keypair();
    let sealed = seal(&keypair.config, b"info", b"aad", b"share").unwrap();
    for index in 0..sealed.payload.len() {
        let mut flipped = sealed.clone();
        flipped.payload[index] ^= 1;
        assert_eq!(open(&keypair, b"info", b"aad", &flipped), Err(HpkeError::Open));
        let cut = HpkeCiphertext { payload: sealed.payload[..index].to_vec(), ..sealed.clone() };
        assert_eq!(open(&keypair, b"info", b"aad", &cut), Err(HpkeError::Open));
    }
    for index in 0..sealed.enc.len() {
        let mut flipped = sealed.clone();
        flipped.enc[index] ^= 1;
        assert_eq!(open(&keypair, b"info", b"aad", &flipped), Err(HpkeError::Open));
        let cut = HpkeCiphertext { enc: sealed.enc[..index].to_vec(), ..sealed.clone() };
        assert_eq!(open(&keypair, b"info", b"aad", &cut), Err(HpkeError::Open));
    }
}

#[test]
fn an_encapsulated_key_or_public_key_of_small_order_is_refused() {
    let keypair = keypair();
    let sealed = seal(&keypair.config, b"info", b"aad", b"share").unwrap();
    let zero = HpkeCiphertext { enc: vec![0; 32], ..sealed };
    assert_eq!(open(&keypair, b"info", b"aad", &zero), Err(HpkeError::Open));
    assert_eq!(seal(&HpkeConfig::x25519(1, [0; 32]), b"", b"", b"share"), Err(HpkeError::Seal));
}

#[test]
fn other_suites_are_refused_by_name() {
    let HpkeKeypair { config, private_key, .. } = keypair();
    let foreign = HpkeConfig { kem_id: 0x0011, ..config.clone() };
    let refused = HpkeError::UnsupportedSuite { kem_id: 0x0011, kdf_id: 1, aead_id: 1 };
    assert_eq!(seal(&foreign, b"", b"", b"share"), Err(refused));
    assert_eq!(refused.to_string(), "unsupported HPKE suite: KEM 0x0011, KDF 0x0001, AEAD 0x0001");
    assert!(matches!(
        HpkeKeypair::from_parts(HpkeConfig { aead_id: 9, ..config.clone() }, private_key),
        Err(HpkeError::UnsupportedSuite { aead_id: 9, .. })
    ));
    let short = HpkeConfig { public_key: vec![1; 31], ..config };
    assert_eq!(seal(&short, b"", b"", b"share"), Err(HpkeError::InvalidKey));
}

#[test]
fn a_stored_key_must_belong_to_its_configuration() {
    let one = keypair();
    let stored = HpkePrivateKey::from_bytes(one.private_key.to_bytes().as_slice()).unwrap();
    assert!(HpkeKeypair::from_parts(one.config.clone(), stored.clone()).is_ok());
    assert_eq!(HpkeKeypair::from_parts(keypair().config, stored).err(), Some(HpkeError::InvalidKey));
    assert_eq!(HpkePrivateKey::from_bytes(&[0; 31]).err(), Some(HpkeError::InvalidKey));
}

struct Noised;

impl NoisedShare for Noised {
    fn for_sealing(&self) -> &[u8] {
        b"noised"
    }
}

#[test]
fn a_share_opens_under_the_label_of_its_kind_and_its_role_only() {
    let keypair = keypair();
    let (config, draft) = (&keypair.config, Draft::V18);
    let input = seal_input_share(config, Role::Helper, draft, b"aad", b"input").unwrap();
    let aggregate = seal_aggregate_share(config, Role::Helper, draft, b"aad", &Noised).unwrap();
    let open = |label: Label, sealed| open(&keypair, &label.info(draft), b"aad", sealed);
    assert_eq!(open(Label::InputShare(Role::Helper), &input), Ok(b"input".to_vec()));
    assert_eq!(open(Label::AggregateShare(Role::Helper), &aggregate), Ok(b"noised".to_vec()));
    assert_eq!(open(Label::InputShare(Role::Leader), &input), Err(HpkeError::Open));
    assert_eq!(open(Label::AggregateShare(Role::Helper), &input), Err(HpkeError::Open));
    assert_eq!(open(Label::InputShare(Role::Helper), &aggregate), Err(HpkeError::Open));
}

#[test]
fn labels_are_those_of_the_protocol() {
    let cases = [
        (Label::InputShare(Role::Leader), "6461702d313820696e7075742073686172650102"),
        (Label::InputShare(Role::Helper), "6461702d313820696e7075742073686172650103"),
        (Label::AggregateShare(Role::Leader), "6461702d3138206167677265676174652073686172650200"),
        (Label::AggregateShare(Role::Helper), "6461702d3138206167677265676174652073686172650300"),
    ];
    for (label, hex) in cases {
        assert_eq!(hex::encode(label.info(Draft::V18)), hex);
        let other = label.info(Draft::V19);
        assert!(other.starts_with(Draft::V19.tag().as_bytes()));
        assert_eq!(other[6..], hex::decode(hex).unwrap()[6..]);
    }
}

#[test]
fn additional_data_are_those_of_the_protocol() {
    let task_configuration = hex::decode(concat!(
        "0474657374001b68747470733a2f2f6c65616465722e6578616d706c652e636f6d2f001b68747470733a2f2f68656c7065722e657861",
        "6d706c652e636f6d2f000000000000003c000000000000000a010000000000010000001400010010000000000000003c0000000000000064"
    ))
    .unwrap();
    let task_id: TaskId = "NYSKiYrbFGtVk4UkfH5J2xy9KK9S48Ec-wHU_EtJBHk".parse().unwrap();
    let metadata = hex::decode("000102030405060708090a0b0c0d0e0f00000000001a645d0000").unwrap();
    let aad = InputShareAad {
        task_id: &task_id,
        task_configuration: &task_configuration,
        metadata: &metadata,
        public_share: &[],
    };
    assert_eq!(aad.encoded().len(), 172);
    assert_eq!(sha256(&aad.encoded()), "11621e000d32b77fad291b3daf326e54f053061e04c7d6791bd4f36857408576");
    let collection_job_req = hex::decode("01001000000000001a645d0000000000000001000000000000").unwrap();
    let aad = AggregateShareAad {
        task_id: &task_id,
        task_configuration: &task_configuration,
        collection_job_req: &collection_job_req,
    };
    assert_eq!(aad.encoded().len(), 167);
    assert_eq!(sha256(&aad.encoded()), "5f1c70096b404c983f792497f36b1cd59e88bef6a862ea6258f5bad0ddb513b4");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_of_a_stranger_open_or_kill_us(
        enc in proptest::collection::vec(any::<u8>(), 0..40),
        payload in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let sealed = HpkeCiphertext { config_id: 7, enc, payload };
        prop_assert_eq!(open(&keypair(), b"info", b"aad", &sealed), Err(HpkeError::Open));
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(bytes))
}
