//! One spelling for every value that is hashed: JSON as RFC 8785 writes it.
//!
//! Keys sorted, no white space, and of the scalar types only strings, booleans and whole numbers below 2⁵³, where
//! every reader of JSON agrees. Larger numbers and all fractions are strings.

use sha2::{Digest, Sha256};

/// A JSON value that has exactly one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Canonical {
    Text(String),
    Whole(u32),
    List(Vec<Canonical>),
    Object(Vec<(&'static str, Canonical)>),
}

impl Canonical {
    pub(crate) fn text<T: ToString + ?Sized>(text: &T) -> Self {
        Self::Text(text.to_string())
    }

    pub(crate) fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// `serde_json` without `preserve_order` keeps objects sorted by key; the keys used here are ASCII, so its
    /// order is that of RFC 8785 3.2.3. A test holds this, should a dependency switch the order on.
    fn to_value(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => serde_json::Value::from(text.as_str()),
            Self::Whole(number) => serde_json::Value::from(*number),
            Self::List(items) => items.iter().map(Self::to_value).collect(),
            Self::Object(fields) => {
                let mut sorted: Vec<_> = fields.iter().collect();
                sorted.sort_by_key(|(key, _)| *key);
                let fields = sorted.into_iter().map(|(key, value)| ((*key).to_owned(), value.to_value()));
                serde_json::Value::Object(fields.collect())
            }
        }
    }
}

/// SHA-256, the only hash this crate uses.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_nothing_is_spaced() {
        let value = Canonical::Object(vec![
            ("b", Canonical::List(vec![Canonical::Whole(1), Canonical::text("x\"\n")])),
            ("a", Canonical::Object(vec![("z", Canonical::text("1/10")), ("y", Canonical::Whole(0))])),
        ]);
        assert_eq!(value.to_json(), r#"{"a":{"y":0,"z":"1/10"},"b":[1,"x\"\n"]}"#);
    }
}
