//! Media types, compared as RFC 9110 8.3.1 says: names without case, parameters in any order.

/// A media type with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaType {
    essence: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Reads a media type; `None` when it is not one.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next()?.to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let mut parameters = parts.map(parameter).collect::<Option<Vec<_>>>()?;
        parameters.sort();
        Some(Self { essence, parameters })
    }
}

fn parameter(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\']))?,
        None => Some(value).filter(|value| is_token(value))?,
    };
    is_token(name).then(|| (name.to_ascii_lowercase(), value.to_owned()))
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_matter_and_meaning_does() {
        let upload = MediaType::parse(b"application/ppm-dap;message=upload-req");
        assert!(upload.is_some());
        for same in
            ["Application/PPM-dap; Message=upload-req", "application/ppm-dap ; message=\"upload-req\""]
        {
            assert_eq!(MediaType::parse(same.as_bytes()), upload);
        }
        for other in [
            "application/ppm-dap",
            "application/ppm-dap;message=other",
            "application/ppm-dap;message=UPLOAD-REQ",
        ] {
            assert_ne!(MediaType::parse(other.as_bytes()), upload);
        }
    }

    #[test]
    fn what_is_no_media_type_is_not_read() {
        for bad in ["", "text", "text/", "/plain", "text/plain;", "text/plain;x", "text/plain;x=\"y", "a b/c"]
        {
            assert_eq!(MediaType::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(MediaType::parse(&[0xff, b'/', b'a']), None);
    }
}
