//! A value that must not be printed: a token, a key, a seed.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroize;

/// Holds a secret, hides it from `Debug`, and overwrites it when dropped. It cannot be serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// From here on it is a secret.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the moment it is used.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl Secret<String> {
    /// The content of a file without the line break at its end. The error is a sentence with the path.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let mut text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the secret in {}: {error}", path.display()))?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        if text.is_empty() {
            return Err(format!("the file {} holds no secret: it is empty", path.display()));
        }
        Ok(Self(text))
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
