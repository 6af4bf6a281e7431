//! From a message to bytes whose sealed form has one of the shared sizes.
//!
//! What is written keeps the rules that are checked when reading, so that a mistake shows at the side that made it.
//! All sections are written out, never cut off: some readers in the wild do not know truncated messages.

use crate::{
    error::{Invalid, SealError},
    message::{InnerRequest, InnerResponse},
    reader::{MAX_FIELD_SECTION, MAX_FIELDS},
    size::padded_length,
    validate,
};

/// Writes a request and pads it with zeros so that `overhead` bytes more make one of the shared sizes.
pub fn encode_request_padded(request: &InnerRequest, overhead: usize) -> Result<Vec<u8>, SealError> {
    let authority = validate::authority(request.authority.as_bytes())?;
    let mut out = Vec::with_capacity(capacity(&request.headers, request.body.len()));
    write_varint(KNOWN_LENGTH_REQUEST, &mut out);
    write_vector(validate::method(request.method.as_bytes())?.as_bytes(), &mut out);
    write_vector(validate::scheme(request.scheme.as_bytes())?.as_bytes(), &mut out);
    write_vector(authority.as_bytes(), &mut out);
    write_vector(validate::path(request.path.as_bytes())?.as_bytes(), &mut out);
    if request.header("expect").is_some() || request.header("host").is_some() {
        return Err(Invalid("expect or host among the fields").into());
    }
    write_sections(&request.headers, &request.body, &mut out)?;
    pad(out, overhead, 0)
}

/// Writes a response and pads it with zeros so that `overhead` bytes more make one of the shared sizes, and none
/// smaller than `least`.
pub fn encode_response_padded(
    response: &InnerResponse,
    overhead: usize,
    least: usize,
) -> Result<Vec<u8>, SealError> {
    pad(encode_response(response)?, overhead, least)
}

/// Writes a response without padding: the form in which an answer is kept until it is sealed again.
pub fn encode_response(response: &InnerResponse) -> Result<Vec<u8>, Invalid> {
    let mut out = Vec::with_capacity(capacity(&response.headers, response.body.len()));
    write_varint(KNOWN_LENGTH_RESPONSE, &mut out);
    write_varint(u64::from(validate::status(response.status.into())?), &mut out);
    write_sections(&response.headers, &response.body, &mut out)?;
    Ok(out)
}

/// Pads what [`encode_response`] wrote, as [`encode_response_padded`] does.
pub fn pad_response(encoded: &[u8], overhead: usize, least: usize) -> Result<Vec<u8>, SealError> {
    pad(encoded.to_vec(), overhead, least)
}

const KNOWN_LENGTH_REQUEST: u64 = 0;
const KNOWN_LENGTH_RESPONSE: u64 = 1;

fn write_sections(headers: &[(String, Vec<u8>)], body: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    if headers.len() > MAX_FIELDS {
        return Err(Invalid("too many fields"));
    }
    let mut section = Vec::new();
    for (name, value) in headers {
        let name = validate::field_name(name.as_bytes())?;
        if name == "content-length" {
            return Err(Invalid("content-length among the fields"));
        }
        write_vector(name.as_bytes(), &mut section);
        write_vector(validate::field_value(value)?, &mut section);
    }
    if section.len() > MAX_FIELD_SECTION {
        return Err(Invalid("field section too large"));
    }
    write_vector(&section, out);
    write_vector(body, out);
    write_vector(&[], out); // no trailers
    Ok(())
}

fn pad(mut out: Vec<u8>, overhead: usize, least: usize) -> Result<Vec<u8>, SealError> {
    let natural = out.len().saturating_add(overhead).max(least);
    let padded = padded_length(natural).ok_or(SealError::TooLarge)?;
    out.reserve_exact((padded - overhead).saturating_sub(out.len()));
    out.resize(padded - overhead, 0);
    Ok(out)
}

fn capacity(headers: &[(String, Vec<u8>)], body: usize) -> usize {
    const CONTROL_DATA: usize = 512;
    let fields: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    (body + fields + CONTROL_DATA).next_power_of_two()
}

fn write_vector(bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn write_varint(value: u64, out: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let (prefix, width) = match value {
        0..0x40 => (0x00, 1),
        0x40..0x4000 => (0x40, 2),
        0x4000..0x4000_0000 => (0x80, 4),
        _ => (0xc0, 8),
    };
    let start = out.len();
    out.extend(bytes.iter().skip(bytes.len() - width));
    if let Some(first) = out.get_mut(start) {
        *first |= prefix;
    }
}
