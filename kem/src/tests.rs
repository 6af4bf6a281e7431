//! The vectors of RFC 9180, and the KEM of `hpke` as a second opinion on everything else.

use std::convert::Infallible;

use hpke::aead::{Aead, AesGcm128, ChaCha20Poly1305};
use hpke::kem::X25519HkdfSha256 as Theirs;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, OpModeR, OpModeS, Serializable as _};
use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

/// Base mode: `ikmE`, `ikmR`, `skRm`, `pkRm`, `enc`, `shared_secret`, first ciphertext, third exported value.
type Vector = [&'static str; 8];

const A_1_1: Vector = [
    "7268600d403fce431561aef583ee1613527cff655c1343f29812e66706df3234",
    "6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037",
    "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
    "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d",
    "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
    "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc",
    "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
    "e9e43065102c3836401bed8c3c3c75ae46be1639869391d62c61f1ec7af54931",
];

const A_2_1: Vector = [
    "909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b",
    "1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df",
    "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
    "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
    "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
    "0bbe78490412b4bbea4812666f7916932b828bba79942424abb65244930d69a7",
    "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
    "5acb09211139c43b3090489a9da433e8a30ee7188ba8b0a9a1ccf0c229283e53",
];

/// Gives `ikmE`, once.
struct Fixed(Vec<u8>);

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("a KEM takes bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("a KEM takes bytes")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.copy_from_slice(&self.0);
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}

const INFO: &[u8] = b"Ode on a Grecian Urn";
const PLAINTEXT: &[u8] = b"Beauty is truth, truth beauty";

fn check<A: Aead>([ikm_e, ikm_r, private, public, enc, secret, sealed, exported]: Vector) {
    let (private_key, public_key) = X25519HkdfSha256::derive_keypair(&bytes(ikm_r));
    assert_eq!(private_key.to_bytes().to_vec(), bytes(private));
    assert_eq!(public_key.to_bytes().to_vec(), bytes(public));

    let mut rng = Fixed(bytes(ikm_e));
    let (sent, encapped) = X25519HkdfSha256::encap_with_rng(&public_key, None, &mut rng).unwrap();
    assert_eq!((encapped.to_bytes().to_vec(), sent.0.to_vec()), (bytes(enc), bytes(secret)));

    let stored = PrivateKey::from_bytes(&bytes(private)).unwrap();
    let encapped = EncappedKey::from_bytes(&bytes(enc)).unwrap();
    let received = X25519HkdfSha256::decap(&stored, None, &encapped).unwrap();
    assert_eq!(received.0.to_vec(), bytes(secret));

    let mode = OpModeR::Base;
    let context = hpke::setup_receiver::<A, HkdfSha256, X25519HkdfSha256>(&mode, &stored, &encapped, INFO);
    let mut context = context.unwrap();
    assert_eq!(context.open(&bytes(sealed), b"Count-0").unwrap(), PLAINTEXT);
    let mut export = [0; 32];
    context.export(b"TestContext", &mut export).unwrap();
    assert_eq!(hex::encode(export), exported);

    let mode = OpModeS::Base;
    let mut rng = Fixed(bytes(ikm_e));
    let sender =
        hpke::setup_sender_with_rng::<A, HkdfSha256, X25519HkdfSha256>(&mode, &public_key, INFO, &mut rng);
    assert_eq!(sender.unwrap().1.seal(PLAINTEXT, b"Count-0").unwrap(), bytes(sealed));
}

#[test]
fn the_base_mode_vectors_of_the_specification_are_met() {
    check::<AesGcm128>(A_1_1);
    check::<ChaCha20Poly1305>(A_2_1);
}

/// The shared secret of both KEMs; nothing where they refuse.
fn both(private_key: &[u8], enc: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let ours = X25519HkdfSha256::decap(
        &PrivateKey::from_bytes(private_key).unwrap(),
        None,
        &EncappedKey::from_bytes(enc).unwrap(),
    );
    let theirs = Theirs::decap(
        &<Theirs as Kem>::PrivateKey::from_bytes(private_key).unwrap(),
        None,
        &<Theirs as Kem>::EncappedKey::from_bytes(enc).unwrap(),
    );
    (ours.ok().map(|secret| secret.0.to_vec()), theirs.ok().map(|secret| secret.0.to_vec()))
}

/// Every encoding of a point whose order divides eight (RFC 7748 6.1), with the ignored bit clear and set.
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// RFC 9180 7.1.4.
#[test]
fn a_shared_secret_of_zeros_is_refused_at_both_ends() {
    let mut rng = rand::rng();
    let (private_key, _) = X25519HkdfSha256::gen_keypair_with_rng(&mut rng);
    for point in SMALL_ORDER {
        for ignored in [0, 0x80] {
            let mut point = bytes(point);
            point[31] |= ignored;
            assert_eq!(both(&private_key.to_bytes(), &point), (None, None), "{}", hex::encode(&point));
            let recipient = PublicKey::from_bytes(&point).unwrap();
            let refused = X25519HkdfSha256::encap_with_rng(&recipient, None, &mut rng).err();
            assert_eq!(refused, Some(HpkeError::EncapError));
        }
    }
}

/// RFC 7748 5: the ignored bit is ignored and what exceeds the modulus is reduced, but the encoding is what is hashed.
#[test]
fn encodings_that_are_not_canonical_give_what_they_give_elsewhere() {
    let private_key = bytes(A_1_1[2]);
    let mut once = bytes(A_1_1[4]);
    once[31] |= 0x80;
    for number in [0xef_u8, 0xf0, 0xf6, 0xff] {
        let mut beyond = vec![0xff; 32];
        beyond[0] = number;
        for last in [0x7f, 0xff] {
            beyond[31] = last;
            let (ours, theirs) = both(&private_key, &beyond);
            assert!(ours.is_some() && ours == theirs, "{number} {last}");
        }
    }
    let (ours, theirs) = both(&private_key, &once);
    assert!(ours.is_some() && ours == theirs && ours != Some(bytes(A_1_1[5])));
}

#[test]
fn a_key_of_another_length_is_refused() {
    for length in [0, 31, 33, 65] {
        let wrong = HpkeError::IncorrectInputLength(LENGTH, length);
        assert_eq!(PublicKey::from_bytes(&vec![1; length]), Err(wrong));
        assert_eq!(EncappedKey::from_bytes(&vec![1; length]), Err(wrong));
        assert_eq!(PrivateKey::from_bytes(&vec![1; length]).err(), Some(wrong));
    }
}

#[test]
fn a_sender_that_authenticates_itself_is_refused() {
    let mut rng = rand::rng();
    let (private_key, public_key) = X25519HkdfSha256::gen_keypair_with_rng(&mut rng);
    let sender = Some((&private_key, &public_key));
    let refused = X25519HkdfSha256::encap_with_rng(&public_key, sender, &mut rng).err();
    assert_eq!(refused, Some(HpkeError::EncapError));
    let enc = EncappedKey::from(public_key);
    let refused = X25519HkdfSha256::decap(&private_key, Some(&public_key), &enc).err();
    assert_eq!(refused, Some(HpkeError::DecapError));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Keys are in databases: a pair that was derived or stored by one KEM is that of the other.
    #[test]
    fn keys_are_those_of_the_other_implementation(ikm in proptest::collection::vec(any::<u8>(), 32..80)) {
        let (private_key, public_key) = X25519HkdfSha256::derive_keypair(&ikm);
        let (private, public) = Theirs::derive_keypair(&ikm);
        prop_assert_eq!(private_key.to_bytes(), private.to_bytes());
        prop_assert_eq!(public_key.to_bytes(), public.to_bytes());
        let stored = &ikm[..LENGTH];
        let kept = PrivateKey::from_bytes(stored).unwrap();
        prop_assert_eq!(kept.to_bytes().to_vec(), stored.to_vec());
        let theirs = <Theirs as Kem>::PrivateKey::from_bytes(stored).unwrap();
        prop_assert_eq!(kept.public_key().to_bytes(), Theirs::sk_to_pk(&theirs).to_bytes());
    }

    #[test]
    fn secrets_are_those_of_the_other_implementation(private_key in any::<[u8; 32]>(), enc in any::<[u8; 32]>()) {
        let (ours, theirs) = both(&private_key, &enc);
        prop_assert!(ours.is_some());
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn each_opens_what_the_other_encapsulates(ikm in any::<[u8; 32]>()) {
        let (private_key, public_key) = X25519HkdfSha256::derive_keypair(&ikm);
        let (sent, enc) = X25519HkdfSha256::encap_with_rng(&public_key, None, &mut rand::rng()).unwrap();
        let (_, received) = both(&private_key.to_bytes(), &enc.to_bytes());
        prop_assert_eq!(received, Some(sent.0.to_vec()));
        let recipient = <Theirs as Kem>::PublicKey::from_bytes(public_key.as_bytes()).unwrap();
        let (sent, enc) = Theirs::encap_with_rng(&recipient, None, &mut rand::rng()).unwrap();
        let (received, _) = both(&private_key.to_bytes(), &enc.to_bytes());
        prop_assert_eq!(received, Some(sent.0.to_vec()));
    }
}
