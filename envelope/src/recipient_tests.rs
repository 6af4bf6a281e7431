use super::*;

fn vector(text: &str) -> impl Fn(&str) -> Vec<u8> {
    let values: serde_json::Value = serde_json::from_str(text).unwrap();
    move |name| hex::decode(values[name].as_str().unwrap()).unwrap()
}

fn stored(private_key: &[u8]) -> Recipient {
    Recipient::X25519(<X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(private_key).unwrap())
}

/// RFC 9458 Appendix A. How its answer is sealed is tested beside [`ResponseSecret`].
#[test]
fn the_request_of_the_specification_opens() {
    let bytes = vector(include_str!("../tests/vectors/rfc9458-appendix-a.json"));
    let recipient = stored(&bytes("skR"));
    assert_eq!(recipient.public_key(), bytes("key_config")[3..35]);
    let sealed = bytes("enc_request");
    let (header, rest) = sealed.split_first_chunk().unwrap();
    assert_eq!([INFO, header].concat(), bytes("info"));
    let (enc, ciphertext) = rest.split_at(32);
    assert_eq!(enc, bytes("enc"));
    let parts = Sealed { header, enc, ciphertext, suite: Suite::Aes128Gcm };
    let (plaintext, secret) = recipient.open(&parts).unwrap();
    assert_eq!(plaintext, bytes("request_bhttp"));
    assert_eq!(secret.exported(), bytes("secret"));

    let parts = Sealed { suite: Suite::ChaCha20Poly1305, ..parts };
    assert!(recipient.open(&parts).is_none(), "under the other suite");
}

/// Draft-ietf-ohai-chunked-ohttp-08 Appendix A: nobody opens chunks yet, but the KEM below would.
#[test]
fn the_chunks_of_the_draft_open() {
    let text = include_str!("../tests/vectors/chunked-08-appendix-a.json");
    let bytes = vector(text);
    let Recipient::X25519(key) = stored(&bytes("skR")) else { unreachable!("that is what it is") };
    let enc = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&bytes("enc")).unwrap();
    let context = hpke::setup_receiver::<AesGcm128, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &key,
        &enc,
        &bytes("info"),
    );
    let mut context = context.unwrap();
    let values: serde_json::Value = serde_json::from_str(text).unwrap();
    let lines = values["enc_request_lines"].as_array().unwrap();
    let mut plaintext = Vec::new();
    for (line, aad) in lines[2..].iter().zip([&b""[..], b"", b"final"]) {
        let line = hex::decode(line.as_str().unwrap()).unwrap();
        plaintext.extend(context.open(&line[1..], aad).unwrap());
    }
    assert_eq!(plaintext, bytes("request_bhttp"));
    let mut secret = [0; 16];
    context.export(b"message/bhttp chunked response", &mut secret).unwrap();
    assert_eq!(secret.to_vec(), bytes("secret"));
}

/// Material is in databases, and so are clients' key lists: another key would cut both off. Of X25519 and P-256 it is
/// `ikmR` of RFC 9180 A.1.1 and A.3.1; of X-Wing, half of the hash of what was derived when the first keys were stored.
#[test]
fn stored_material_gives_the_key_that_it_always_gave() {
    let public_key = |kem, ikm: &str| {
        let ikm = hex::decode(ikm).unwrap();
        hex::encode(Recipient::derive(kem, &ikm.try_into().unwrap()).public_key())
    };
    assert_eq!(
        public_key(Kem::X25519HkdfSha256, "6db9df30aa07dd42ee5e8181afdb977e538f5e1fec8a06223f33f7013e525037"),
        "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"
    );
    assert_eq!(
        public_key(Kem::P256HkdfSha256, "668b37171f1072f3cf12ea8a236a45df23fc13b82af3609ad1e354f6ef817550"),
        "04fe8c19ce0905191ebc298a9245792531f26f0cece2460639e8bc39cb7f706a826a779b4cf969b8a0e539c7f62fb3d30ad6aa8f80e30f1d\
         128aafd68a2ce72ea0"
    );
    let public_key = Recipient::derive(Kem::XWing, &[7; 32]).public_key();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&public_key);
    assert_eq!(
        (public_key.len(), hex::encode(&digest[..16])),
        (1216, "e81b9a08d54218efb0cee652505b8d61".to_owned())
    );
}
