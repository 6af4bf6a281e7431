//! Media types of Oblivious HTTP (RFC 9458 9, and the chunked types, which are recognised to be refused).

/// A sealed request.
pub const OHTTP_REQUEST: &str = "message/ohttp-req";
/// A sealed response.
pub const OHTTP_RESPONSE: &str = "message/ohttp-res";
/// A list of key configurations.
pub const OHTTP_KEYS: &str = "application/ohttp-keys";
/// A chunked sealed request: recognised, not supported.
pub const OHTTP_CHUNKED_REQUEST: &str = "message/ohttp-chunked-req";
/// A chunked sealed response: recognised, not supported.
pub const OHTTP_CHUNKED_RESPONSE: &str = "message/ohttp-chunked-res";
/// A problem document (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Problem type of a request that was sealed to a key the gateway does not use (RFC 9458 5.3).
pub const PROBLEM_OHTTP_KEY: &str = "https://iana.org/assignments/http-problem-types#ohttp-key";
/// Problem type of a request whose date is too far from the gateway's (RFC 9458 6.5.2).
pub const PROBLEM_DATE: &str = "https://iana.org/assignments/http-problem-types#date";

/// Whether a content-type value names exactly `media`: no parameters, upper and lower case alike.
///
/// The types of Oblivious HTTP define no parameters, so anything after the name is a mistake.
pub fn is(value: &[u8], media: &str) -> bool {
    value.trim_ascii().eq_ignore_ascii_case(media.as_bytes())
}
