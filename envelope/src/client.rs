//! The client's end: seal one request, open its one answer.

use bytes::Bytes;

use crate::{
    decode::decode_response,
    encode::encode_request_padded,
    error::{OpenError, SealError},
    key_config::KeyConfigList,
    message::{InnerRequest, InnerResponse},
};

/// Bytes before the encapsulated key: key identifier, KEM, KDF, AEAD (RFC 9458 4.3).
pub(crate) const HEADER: usize = 7;
/// Bytes of an AEAD tag; the same for all that we speak.
pub(crate) const TAG: usize = 16;

/// Seals requests. Every call makes a new context with fresh randomness: sealing again is the only way to send a
/// request again without linking the attempts.
pub struct ClientEnvelope;

impl ClientEnvelope {
    /// Pads and seals `request` to the chosen key of `keys`. The result has one of the shared sizes.
    pub fn seal(keys: &KeyConfigList, request: &InnerRequest) -> Result<(Vec<u8>, Opener), SealError> {
        let selected = keys.selected();
        let overhead = HEADER + selected.kem.enc_length() + TAG;
        let plaintext = encode_request_padded(request, overhead)?;
        let mut config = selected.config.clone();
        let context = ohttp::ClientRequest::from_config(&mut config).map_err(|_| SealError::Key)?;
        let (sealed, response) = context.encapsulate(&plaintext).map_err(|_| SealError::Key)?;
        Ok((sealed, Opener { response }))
    }
}

/// Opens the answer to one request. It is consumed by that.
pub struct Opener {
    response: ohttp::ClientResponse,
}

impl Opener {
    /// Opens a sealed response and checks it strictly.
    pub fn open(self, sealed: &[u8]) -> Result<InnerResponse, OpenError> {
        let plaintext = self.response.decapsulate(sealed).map_err(|error| match error {
            ohttp::Error::Truncated => OpenError::Truncated,
            _ => OpenError::Seal,
        })?;
        Ok(decode_response(Bytes::from(plaintext))?.message)
    }
}
