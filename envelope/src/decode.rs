//! From bytes to a message that keeps every rule, or to the name of the rule that it breaks.

use bytes::Bytes;

use crate::{
    error::Invalid,
    message::{InnerRequest, InnerResponse},
    reader::{Control, RawField, RawMessage},
    validate,
};

/// A message and how much padding followed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<M> {
    /// The message.
    pub message: M,
    /// Number of zero bytes after it.
    pub padding: usize,
}

/// Reads a binary HTTP request (RFC 9292), strictly. Trailers are checked and dropped.
pub fn decode_request(bytes: impl Into<Bytes>) -> Result<Decoded<InnerRequest>, Invalid> {
    let raw = RawMessage::read(bytes.into())?;
    let Control::Request { method, scheme, authority, path } = raw.control else {
        return Err(Invalid("a response where a request is expected"));
    };
    let mut fields = checked(&raw.fields, raw.content.len(), true)?;
    checked(&raw.trailers, raw.content.len(), true)?;
    let message = InnerRequest {
        method: validate::method(&method)?.to_owned(),
        scheme: validate::scheme(&scheme)?.to_owned(),
        authority: authority_of(&authority, &mut fields)?,
        path: validate::path(&path)?.to_owned(),
        headers: fields,
        body: raw.content,
    };
    Ok(Decoded { message, padding: raw.padding })
}

/// Reads a binary HTTP response (RFC 9292), strictly. Informational responses and trailers are checked and dropped.
pub fn decode_response(bytes: impl Into<Bytes>) -> Result<Decoded<InnerResponse>, Invalid> {
    let raw = RawMessage::read(bytes.into())?;
    let Control::Response { status, informational } = raw.control else {
        return Err(Invalid("a request where a response is expected"));
    };
    for (_, fields) in &informational {
        checked(fields, 0, false)?;
    }
    checked(&raw.trailers, raw.content.len(), false)?;
    let message = InnerResponse {
        status: validate::status(status)?,
        headers: checked(&raw.fields, raw.content.len(), false)?,
        body: raw.content,
    };
    Ok(Decoded { message, padding: raw.padding })
}

/// Fields that keep the rules, without `content-length`.
fn checked(fields: &[RawField], content: usize, is_request: bool) -> Result<Vec<(String, Vec<u8>)>, Invalid> {
    let mut kept = Vec::with_capacity(fields.len());
    let mut length_seen = false;
    for field in fields {
        let name = validate::field_name(&field.name)?;
        let value = validate::field_value(&field.value)?;
        match name {
            "content-length" => {
                if std::mem::replace(&mut length_seen, true) {
                    return Err(Invalid("content-length twice"));
                }
                validate::content_length(value, content)?;
            }
            "expect" if is_request => return Err(Invalid("expect inside an envelope")),
            _ => kept.push((name.to_owned(), value.to_vec())),
        }
    }
    Ok(kept)
}

/// The authority of the control data or, when that is empty, of `host`. The two must not differ (RFC 9113 8.3.1).
fn authority_of(control: &[u8], fields: &mut Vec<(String, Vec<u8>)>) -> Result<String, Invalid> {
    let authority = validate::authority(control)?;
    let mut hosts = fields.extract_if(.., |(name, _)| name == "host");
    let host = hosts.next().map(|(_, value)| validate::authority(&value)).transpose()?;
    let more = hosts.count();
    match host {
        _ if more > 0 => Err(Invalid("host twice")),
        None => Ok(authority),
        Some(host) if authority.is_empty() || host == authority => Ok(host),
        Some(_) => Err(Invalid("host contradicts the authority")),
    }
}
