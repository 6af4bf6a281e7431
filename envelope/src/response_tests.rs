use super::*;

/// RFC 9458 Appendix A, from the exported secret on.
#[test]
fn the_answer_of_the_specification_is_sealed_byte_for_byte() {
    let vector: serde_json::Value =
        serde_json::from_str(include_str!("../tests/vectors/rfc9458-appendix-a.json")).unwrap();
    let bytes = |name: &str| hex::decode(vector[name].as_str().unwrap()).unwrap();
    let export = |secret: &mut [u8]| {
        secret.copy_from_slice(&bytes("secret"));
        Some(())
    };
    let secret = ResponseSecret::new(Suite::Aes128Gcm, &bytes("enc"), export).unwrap();
    let answer = bytes("enc_response");
    assert_eq!(secret.overhead(), answer.len() - bytes("response_bhttp").len());
    let nonce = answer[..Suite::Aes128Gcm.response_nonce()].to_vec();
    assert_eq!(secret.seal_under(nonce, &bytes("response_bhttp")), Some(answer));
}

/// RFC 9458 4.4.
#[test]
fn a_response_nonce_is_as_long_as_the_key() {
    assert_eq!(Suite::ALL.map(Suite::response_nonce), [16, 32]);
}
