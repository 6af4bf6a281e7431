//! Identifiers of tasks, reports, batches and jobs.
//!
//! A task or job identifier appears in URLs as unpadded base64url (DAP 3.2), read strictly so that no
//! two texts name one resource. A report identifier never appears in a URL and never in a log: it has
//! no text form and its `Debug` hides it, because it links what a client sent to what was stored.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::CryptoRng;

use crate::codec::{Decode, Encode, Malformed, Reader};

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The length in bytes.
            pub const LENGTH: usize = $length;

            /// An identifier of these bytes.
            pub const fn new(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The identifier that `bytes` spell, if there are exactly as many as it takes.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// A fresh identifier from a cryptographic generator.
            pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
                let mut bytes = [0; $length];
                rng.fill_bytes(&mut bytes);
                Self(bytes)
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0);
            }
        }

        impl Decode for $name {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.array().map(Self)
            }
        }
    };
}

macro_rules! identifier_in_urls {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_base64url(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                from_base64url(text).ok_or(InvalidId)?.try_into().map(Self).map_err(|_| InvalidId)
            }
        }
    };
}

identifier! {
    /// Names a task; public, globally unique.
    TaskId, 32
}
identifier! {
    /// Names one report within its task, and is the nonce of its sharing. Never printed.
    ReportId, 16
}
identifier! {
    /// Names a batch of a leader-selected task.
    BatchId, 32
}
identifier! {
    /// Names an aggregation job at the helper.
    AggregationJobId, 16
}
identifier! {
    /// Names a collection job at the leader.
    CollectionJobId, 16
}
identifier! {
    /// Names an aggregate share at the helper.
    AggregateShareId, 16
}

identifier_in_urls!(TaskId);
identifier_in_urls!(BatchId);
identifier_in_urls!(AggregationJobId);
identifier_in_urls!(CollectionJobId);
identifier_in_urls!(AggregateShareId);

impl fmt::Debug for ReportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReportId(..)")
    }
}

/// The text is not the unpadded base64url of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier: expected unpadded base64url of the right length")]
pub struct InvalidId;

/// Unpadded base64url of `bytes`.
pub fn to_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of an unpadded base64url text; padding, foreign letters and stray last bits are refused.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_has_one_text_only() {
        let bytes = [0xff; 32];
        let text = TaskId::new(bytes).to_string();
        assert_eq!(text.len(), 43);
        assert_eq!(text.parse(), Ok(TaskId::new(bytes)));
        for wrong in [format!("{text}="), text.replace('_', "/"), text[..42].to_owned(), format!("{text}A")] {
            assert_eq!(wrong.parse::<TaskId>(), Err(InvalidId), "{wrong}");
        }
        // The last letter carries two spare bits; only zero is canonical.
        let last = text.chars().last().unwrap();
        assert_eq!(last, '8');
        assert_eq!(format!("{}9", &text[..42]).parse::<TaskId>(), Err(InvalidId));
    }

    #[test]
    fn the_url_of_the_specification_is_reproduced() {
        let text = "8BY0RzZMzxvA46_8ymhzycOB9krN-QIGYvg_RsByGec";
        assert_eq!(text.parse::<TaskId>().unwrap().to_string(), text);
    }

    #[test]
    fn a_report_id_does_not_show_itself() {
        assert_eq!(format!("{:?}", ReportId::new([7; 16])), "ReportId(..)");
    }
}
