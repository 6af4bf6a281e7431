//! The tokens and certificates that open this relay, if it is not open to all.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Extensions, HeaderMap};
use mica_service::tls::ClientCertificate;
use mica_service::token::{self, TokenHash};
use serde::Deserialize;

/// `[clients]`: only those are served who show a token or a certificate.
///
/// A token that one client has alone tells the relay which requests are the same client's. Give one to many, such as all
/// installations of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientsConfig {
    /// A file with the SHA-256 of one token in hexadecimal digits on each line; what follows it is a remark. Clients show
    /// the token as `Authorization: Bearer TOKEN`.
    #[serde(default)]
    pub tokens_file: Option<PathBuf>,
    /// Also serves whoever has a certificate of the authorities in `tls.client_roots`.
    #[serde(default)]
    pub certificates: bool,
}

impl ClientsConfig {
    /// The same with relative paths taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        self.tokens_file = self.tokens_file.map(|path| folder.join(path));
        self
    }
}

/// What opens this relay.
pub(crate) struct Credentials {
    tokens: HashSet<[u8; 32]>,
    certificates: bool,
    key: RandomState,
}

impl Credentials {
    /// Reads the file. The error is the key that is wrong and a sentence.
    pub(crate) fn load(
        config: &ClientsConfig,
        asks_for_certificates: bool,
    ) -> Result<Self, (&'static str, String)> {
        if config.certificates && !asks_for_certificates {
            let what = "certificates are looked at where tls.client_roots names who issues them".to_owned();
            return Err(("clients.certificates", what));
        }
        let tokens = match &config.tokens_file {
            Some(path) => read(path).map_err(|what| ("clients.tokens_file", what))?,
            None => HashSet::new(),
        };
        if tokens.is_empty() && !config.certificates {
            let what = "with no token and no certificate nobody is served; leave the table out to serve all";
            return Err(("clients", what.to_owned()));
        }
        Ok(Self { tokens, certificates: config.certificates, key: RandomState::new() })
    }

    /// Knows clients again as `other` does.
    pub(super) fn keep_key_of(&mut self, other: &Self) {
        self.key = other.key.clone();
    }

    /// The credential of a request, as a hash that is forgotten with the process.
    pub(crate) fn admit(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<u64> {
        let certificate = extensions.get::<Arc<ClientCertificate>>().filter(|_| self.certificates);
        if let Some(certificate) = certificate {
            return Some(self.key.hash_one(certificate.sha256));
        }
        // Only hashes are compared, so how long it takes says nothing of a token.
        let hash = *TokenHash::of(token::presented(headers)?).as_bytes();
        self.tokens.contains(&hash).then(|| self.key.hash_one(hash))
    }
}

fn read(path: &Path) -> Result<HashSet<[u8; 32]>, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let mut tokens = HashSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(word) = line.split_whitespace().next().filter(|word| !word.starts_with('#')) else {
            continue;
        };
        let hash = TokenHash::from_hex(word).ok_or_else(|| {
            format!("{name}:{number}:1: not the SHA-256 of a token; write 64 hexadecimal digits, and remarks after #")
        })?;
        tokens.insert(*hash.as_bytes());
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_tokens_has_a_hash_on_each_line_and_says_where_it_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let hash = |token: &[u8]| TokenHash::of(token).to_hex();
        std::fs::write(&path, format!("# ours\n\n{} the app\n{}\n", hash(b"one"), hash(b"two"))).unwrap();
        let config = ClientsConfig { tokens_file: Some(path.clone()), certificates: false };
        let credentials = Credentials::load(&config, false).unwrap();
        let shows = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", http::HeaderValue::from_static(value));
            credentials.admit(&headers, &Extensions::new())
        };
        assert!(shows("Bearer one").is_some() && shows("bearer two") != shows("Bearer one"));
        for wrong in ["Bearer three", "one", "Bearer"] {
            assert_eq!(shows(wrong), None, "{wrong}");
        }
        std::fs::write(&path, "\nsecret-token\n").unwrap();
        let (key, said) = Credentials::load(&config, false).map(drop).unwrap_err();
        assert!(
            key == "clients.tokens_file" && said.contains("tokens:2:1: ") && !said.contains("secret-token")
        );
        std::fs::write(&path, "# nobody\n").unwrap();
        assert_eq!(Credentials::load(&config, false).map(drop).unwrap_err().0, "clients");
        let certificates = ClientsConfig { tokens_file: None, certificates: true };
        assert_eq!(Credentials::load(&certificates, false).map(drop).unwrap_err().0, "clients.certificates");
        assert!(Credentials::load(&certificates, true).is_ok());
    }
}
