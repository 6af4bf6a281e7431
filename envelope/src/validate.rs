//! The rules for what may stand in an inner message, applied when reading and when writing.
//!
//! Binary HTTP carries any bytes. Whatever survives here can be written into HTTP/1.1 or HTTP/2 without
//! changing its meaning on the way: RFC 9113 8.2 and 8.3, RFC 9110 5, RFC 9292 3.4 to 3.6.

use crate::error::Invalid;

/// Method: a token. CONNECT has no path and makes no sense here.
pub(crate) fn method(value: &[u8]) -> Result<&str, Invalid> {
    if value.len() > MAX_METHOD || !is_token(value) || value == b"CONNECT" {
        return Err(Invalid("method is not an allowed token"));
    }
    text(value, "method is not an allowed token")
}

/// Scheme: exactly `https` or `http`.
pub(crate) fn scheme(value: &[u8]) -> Result<&str, Invalid> {
    match value {
        b"https" => Ok("https"),
        b"http" => Ok("http"),
        _ => Err(Invalid("scheme is neither https nor http")),
    }
}

/// Authority: host and port in the characters of RFC 3986 3.2.2, without user information; lower case. May be empty.
pub(crate) fn authority(value: &[u8]) -> Result<String, Invalid> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(byte);
    if value.len() > MAX_AUTHORITY || !value.iter().all(allowed) {
        return Err(Invalid("authority is not a host and port"));
    }
    Ok(text(value, "authority is not a host and port")?.to_ascii_lowercase())
}

/// Path: begins with a slash; characters of RFC 3986 3.3 and 3.4, every percent sign followed by two digits.
pub(crate) fn path(value: &[u8]) -> Result<&str, Invalid> {
    const WHY: &str = "path is not an absolute path";
    if value.len() > MAX_PATH || value.first() != Some(&b'/') || !value.iter().copied().all(is_path_byte) {
        return Err(Invalid(WHY));
    }
    let escapes_are_whole = value
        .split(|&byte| byte == b'%')
        .skip(1)
        .all(|rest| rest.get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)));
    if !escapes_are_whole {
        return Err(Invalid(WHY));
    }
    text(value, WHY)
}

/// Name of a field: a lower-case token that says nothing about a connection.
pub(crate) fn field_name(value: &[u8]) -> Result<&str, Invalid> {
    if value.first() == Some(&b':') {
        return Err(Invalid("pseudo-field among the fields"));
    }
    if value.len() > MAX_NAME || !is_token(value) || value.iter().any(u8::is_ascii_uppercase) {
        return Err(Invalid("field name is not a lower-case token"));
    }
    let name = text(value, "field name is not a lower-case token")?;
    if CONNECTION_FIELDS.contains(&name) {
        return Err(Invalid("connection-specific field"));
    }
    Ok(name)
}

/// Value of a field: no control characters (CR, LF and NUL above all) but the tab, no blank at either end.
pub(crate) fn field_value(value: &[u8]) -> Result<&[u8], Invalid> {
    let is_control = |&byte: &u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
    if value.len() > MAX_VALUE || value.iter().any(is_control) {
        return Err(Invalid("field value has a forbidden character or is too long"));
    }
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_blank(value.first()) || is_blank(value.last()) {
        return Err(Invalid("field value begins or ends with a blank"));
    }
    Ok(value)
}

/// Status of a final response.
pub(crate) fn status(value: u64) -> Result<u16, Invalid> {
    match u16::try_from(value) {
        Ok(status @ 200..=599) => Ok(status),
        _ => Err(Invalid("status is not between 200 and 599")),
    }
}

/// A `content-length` that says something else than the content does is an attempt at smuggling.
pub(crate) fn content_length(value: &[u8], content: usize) -> Result<(), Invalid> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let length = std::str::from_utf8(value).ok().and_then(|text| text.parse::<usize>().ok());
    if digits && length == Some(content) {
        Ok(())
    } else {
        Err(Invalid("content-length contradicts the content"))
    }
}

const MAX_METHOD: usize = 32;
const MAX_AUTHORITY: usize = 255;
const MAX_PATH: usize = 2048;
const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 8 * 1024;

/// RFC 9113 8.2.2.
const CONNECTION_FIELDS: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

fn text<'a>(value: &'a [u8], why: &'static str) -> Result<&'a str, Invalid> {
    std::str::from_utf8(value).map_err(|_| Invalid(why))
}

fn is_token(value: &[u8]) -> bool {
    !value.is_empty()
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_a_token() {
        assert_eq!(method(b"POST"), Ok("POST"));
        for bad in [&b""[..], b"PO ST", b"POST\r\nX: y", b"P\0ST", b"CONNECT", &[b'A'; 33], "PÖST".as_bytes()]
        {
            assert!(method(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_scheme_is_https_or_http() {
        assert_eq!(scheme(b"https"), Ok("https"));
        assert_eq!(scheme(b"http"), Ok("http"));
        for bad in [&b""[..], b"HTTPS", b"file", b"https:"] {
            assert!(scheme(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_authority_is_a_host_and_port_without_user_information() {
        assert_eq!(authority(b"Leader.Example:8080").unwrap(), "leader.example:8080");
        assert_eq!(authority(b"[2001:db8::1]:443").unwrap(), "[2001:db8::1]:443");
        assert_eq!(authority(b"").unwrap(), "");
        for bad in
            [&b"user@host"[..], b"host/path", b"ho st", b"host\r\n", b"host?x", b"host#x", &[b'a'; 256]]
        {
            assert!(authority(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_is_absolute_and_escaped() {
        assert_eq!(path(b"/tasks/abc/reports?x=%2F"), Ok("/tasks/abc/reports?x=%2F"));
        for bad in [
            &b""[..],
            b"*",
            b"tasks",
            b"/a b",
            b"/a\r\n",
            b"/a#b",
            b"/%",
            b"/%2",
            b"/%zz",
            b"/a\\b",
            &[b'/'; 2049],
        ] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_field_name_is_a_lower_case_token_of_no_connection() {
        assert_eq!(field_name(b"content-type"), Ok("content-type"));
        for bad in [
            &b""[..],
            b"Content-Type",
            b":method",
            b"a b",
            b"a:",
            b"a\r\n",
            b"connection",
            b"te",
            &[b'a'; 129],
        ] {
            assert!(field_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_field_value_has_no_control_characters() {
        assert_eq!(field_value(b"a\tb"), Ok(&b"a\tb"[..]));
        assert_eq!(field_value(b""), Ok(&b""[..]));
        for bad in [&b"a\rb"[..], b"a\nb", b"a\0b", b"a\x7fb", b" a", b"a\t", &[b'a'; 8193]] {
            assert!(field_value(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_content_length_agrees_with_the_content() {
        assert!(content_length(b"5", 5).is_ok());
        for bad in [&b""[..], b"4", b"+5", b"5, 5", b"5 ", b"99999999999999999999999"] {
            assert!(content_length(bad, 5).is_err(), "{bad:?}");
        }
    }
}
