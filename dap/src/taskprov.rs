//! The header that carries a task configuration with a request (task provisioning, `DAP-Taskprov`): an Item of RFC 9651
//! whose value is a Byte Sequence.
//!
//! Written by clients, collectors and leaders, read by leaders and helpers. Anything but a Byte Sequence is no
//! advertisement and is passed over; so are its parameters, once they are well-formed.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};

use crate::id::TaskId;
use crate::task::TaskConfiguration;

/// The name of the header, as it is compared.
pub const HEADER: &str = "dap-taskprov";

/// Longer values are not read: a configuration of the longest sensible endpoints is a tenth of it.
pub const LONGEST_VALUE: usize = 8_192;

/// The value that advertises `configuration`.
#[must_use]
pub fn header_value(configuration: &TaskConfiguration) -> String {
    format!(":{}:", general_purpose::STANDARD.encode(configuration.bytes()))
}

/// The value that advertises the task, if its identifier is the one that its configuration determines: a task whose
/// identifier is not cannot be advertised.
#[must_use]
pub fn advertisement(task: &TaskId, configuration: &TaskConfiguration) -> Option<String> {
    (configuration.derived_task_id() == *task).then(|| header_value(configuration))
}

/// The bytes of a Byte Sequence; nothing for any other value.
#[must_use]
pub fn read_header(value: &[u8]) -> Option<Vec<u8>> {
    if value.len() > LONGEST_VALUE {
        return None;
    }
    let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii())?;
    let (encoded, parameters) = text.trim_matches(' ').strip_prefix(':')?.split_once(':')?;
    are_parameters(parameters).then(|| LENIENT.decode(encoded).ok()).flatten()
}

/// `*( ";" *SP key [ "=" bare-item ] )` (RFC 9651 4.2.3.2).
fn are_parameters(mut text: &str) -> bool {
    while let Some(rest) = text.strip_prefix(';') {
        let rest = rest.trim_start_matches(' ');
        if !rest.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '*') {
            return false;
        }
        let rest = rest.trim_start_matches(|letter: char| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-.*".contains(letter)
        });
        match rest.strip_prefix('=').map(after_bare_item) {
            None => text = rest,
            Some(Some(rest)) => text = rest,
            Some(None) => return false,
        }
    }
    text.is_empty()
}

/// What follows a bare item at the beginning of `text`; nothing when there is none.
fn after_bare_item(text: &str) -> Option<&str> {
    let first = text.chars().next()?;
    match first {
        '"' => after_string(text.strip_prefix('"')?),
        ':' => {
            let (encoded, rest) = text.strip_prefix(':')?.split_once(':')?;
            LENIENT.decode(encoded).ok().map(|_| rest)
        }
        '?' => text.strip_prefix("?0").or_else(|| text.strip_prefix("?1")),
        '@' => after_number(text.strip_prefix('@')?, false),
        '-' | '0'..='9' => after_number(text, true),
        'a'..='z' | 'A'..='Z' | '*' => Some(text.trim_start_matches(is_token_letter)),
        _ => None,
    }
}

fn after_string(text: &str) -> Option<&str> {
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return text.get(at + 1..),
            '\\' => letters.next().filter(|(_, escaped)| matches!(escaped, '"' | '\\')).map(drop)?,
            ' '..='~' => {}
            _ => return None,
        }
    }
    None
}

fn after_number(text: &str, may_be_decimal: bool) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let rest = digits.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let count = digits.len() - rest.len();
    let Some(decimals) = rest.strip_prefix('.').filter(|_| may_be_decimal) else {
        return (1..=15).contains(&count).then_some(rest);
    };
    let rest = decimals.trim_start_matches(|letter: char| letter.is_ascii_digit());
    ((1..=12).contains(&count) && (1..=3).contains(&(decimals.len() - rest.len()))).then_some(rest)
}

fn is_token_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(letter)
}

/// RFC 9651 4.2.7 asks parsers not to insist on padding, nor on zeroes in what is left over.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Draft;

    /// The header and the identifier of the draft's example.
    const EXAMPLE: &str = ":BHRlc3QAG2h0dHBzOi8vbGVhZGVyLmV4YW1wbGUuY29tLwAbaHR0cHM6Ly9oZWxwZXIuZXhhbXBsZS5jb20vAAAAAAAAADwAAAAAAAAACgEAAAAAAAEAAAAUAAEAEAAAAAAAAAA8AAAAAAAAAGQ=:";

    fn example() -> TaskConfiguration {
        let bytes = read_header(EXAMPLE.as_bytes()).expect("the example is a Byte Sequence");
        TaskConfiguration::parse(&bytes, Draft::V18).expect("the example is a configuration")
    }

    #[test]
    fn the_header_of_the_draft_is_read_and_written() {
        let configuration = example();
        assert_eq!(configuration.leader_url(), "https://leader.example.com/");
        let task = configuration.derived_task_id();
        assert_eq!(task.to_string(), "NYSKiYrbFGtVk4UkfH5J2xy9KK9S48Ec-wHU_EtJBHk");
        assert_eq!(advertisement(&task, &configuration).as_deref(), Some(EXAMPLE));
        assert_eq!(advertisement(&TaskId::new([1; 32]), &configuration), None);
    }

    #[test]
    fn parameters_are_passed_over_and_padding_is_not_insisted_on() {
        for value in [
            ":AQI=:",
            ":AQI:",
            " :AQI=: ",
            ":AQI=:;a",
            ":AQI=:; a=1;b=-2.5",
            ":AQI=:;a=\"x\\\"y\"",
            ":AQI=:;a=:AQ==:",
            ":AQI=:;*a=?1;b=tok/en;c=@1700000000",
        ] {
            assert_eq!(read_header(value.as_bytes()).as_deref(), Some(&[1, 2][..]), "{value}");
        }
        assert_eq!(read_header(b"::").as_deref(), Some(&[][..]));
    }

    #[test]
    fn what_is_no_byte_sequence_is_no_advertisement() {
        for value in [
            "",
            "AQI=",
            "\"AQI=\"",
            ":AQI=",
            ":AQI=:x",
            ":AQI=:;",
            ":AQI=:;A=1",
            ":AQI=:;a=",
            ":AQI=:;a=\"x",
            ":AQI=:, :AQI=:",
            ":A_I=:",
            "?1",
            "1",
            ":AQI=:;a=1.2345",
            ":AQI=: ;a",
            ":AQI=:;a=1234567890123456",
            ":\u{e4}:",
        ] {
            assert_eq!(read_header(value.as_bytes()), None, "{value}");
        }
        assert_eq!(read_header(&[b':', 0xff, b':']), None);
        let long = format!(":{}:", "A".repeat(LONGEST_VALUE));
        assert_eq!(read_header(long.as_bytes()), None);
    }
}
