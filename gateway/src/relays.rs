//! Which relays this gateway works for.
//!
//! A gateway that is open to all is asked by clients themselves, whose addresses it then sees, and by whoever wants to keep
//! it busy. With a list, only the relays on it are served, and others are turned away before any key is touched. It looks at
//! what a relay shows of itself and must never look at anything else of the outer request.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Extensions, HeaderMap};
use mica_service::operators;
use mica_service::tls::ClientCertificate;
use mica_service::token::{self, TokenHash};
use serde::Deserialize;

use crate::config::Config;

/// `[[relays]]`: a relay that is served, by a token or by its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayConfig {
    /// What we call it.
    pub name: String,
    /// A file with the token that it shows, as `Authorization: Bearer TOKEN`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// SHA-256 of its certificate, in hexadecimal digits, as it is shown in a handshake with `tls.client_roots`.
    #[serde(default)]
    pub certificate_sha256: Option<String>,
    /// Who runs it: somebody else than the gateway.
    #[serde(default)]
    pub operator: Option<String>,
}

/// A relay that cannot be told from others, or that is no other: which of the list, and a sentence.
#[derive(Debug, thiserror::Error)]
#[error("relay {relay}: {what}")]
pub struct RelayError {
    /// Number of the relay in the file, from 1.
    pub relay: usize,
    /// The key that it is about.
    pub key: &'static str,
    /// One sentence.
    pub what: String,
}

/// The relays that are served; all of them without a list.
pub(crate) struct Relays(Vec<Proof>);

enum Proof {
    Token(TokenHash),
    Certificate([u8; 32]),
}

impl Proof {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(one), Self::Token(other)) => one.as_bytes() == other.as_bytes(),
            (Self::Certificate(one), Self::Certificate(other)) => one == other,
            _ => false,
        }
    }
}

impl RelayConfig {
    /// The same with relative paths taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        self.token_file = self.token_file.map(|path| folder.join(path));
        self
    }

    /// The key of what it shows.
    fn shows(&self) -> &'static str {
        if self.certificate_sha256.is_some() { "certificate_sha256" } else { "token_file" }
    }

    fn proof(&self, asks_for_certificates: bool) -> Result<Proof, String> {
        match (&self.token_file, &self.certificate_sha256) {
            (Some(file), None) => TokenHash::from_file(file).map(Proof::Token),
            (None, Some(_)) if !asks_for_certificates => {
                Err("certificates are looked at where tls.client_roots names who issues them".to_owned())
            }
            // As openssl prints it, too, and as peer_certificates has it.
            (None, Some(hash)) => TokenHash::from_hex(&hash.trim_start_matches("sha256:").replace(':', ""))
                .map(|hash| Proof::Certificate(*hash.as_bytes()))
                .ok_or_else(|| "certificate_sha256 is 64 hexadecimal digits".to_owned()),
            _ => Err("it is known by token_file or by certificate_sha256, one of them".to_owned()),
        }
    }
}

impl Relays {
    /// Reads what the relays of a configuration show.
    pub(crate) fn load(config: &Config) -> Result<Self, RelayError> {
        let names = || config.relays.iter().map(|one| one.name.trim());
        let is_twice = |(at, name): &(usize, &str)| names().take(*at).any(|other| other == *name);
        if let Some((at, name)) = names().enumerate().find(is_twice) {
            return Err(RelayError {
                relay: at + 1,
                key: "name",
                what: format!("`{name}` is the name of another"),
            });
        }
        let asks = config.tls.as_ref().is_some_and(|tls| tls.client_roots.is_some());
        let read = |(relay, one): (usize, &RelayConfig)| {
            let is_ours =
                |ours: &&String| one.operator.as_deref().is_some_and(|name| operators::is_same(ours, name));
            if let Some(ours) =
                config.operator.as_ref().filter(is_ours).filter(|_| !config.insecure_one_operator)
            {
                return Err(RelayError {
                    relay,
                    key: "operator",
                    what: operators::refusal(ours, "gateway", "relay"),
                });
            }
            if one.operator.is_some() && config.operator.is_none() {
                let what =
                    "without `operator` of the gateway, nothing can be compared with its operator".to_owned();
                return Err(RelayError { relay, key: "operator", what });
            }
            one.proof(asks).map_err(|what| RelayError { relay, key: one.shows(), what })
        };
        let proofs: Vec<Proof> = (1..).zip(&config.relays).map(read).collect::<Result<_, _>>()?;
        let is_shared = |at: &usize| {
            proofs.iter().take(*at).any(|other| proofs.get(*at).is_some_and(|one| one.is(other)))
        };
        if let Some(at) = (0..proofs.len()).find(is_shared) {
            let what =
                "it shows what another relay shows, so that neither can be turned away alone".to_owned();
            let key = config.relays.get(at).map_or("name", RelayConfig::shows);
            return Err(RelayError { relay: at + 1, key, what });
        }
        Ok(Self(proofs))
    }

    /// Whether a request comes from one of them.
    pub(crate) fn admit(&self, headers: &HeaderMap, extensions: &Extensions) -> bool {
        let certificate = extensions.get::<Arc<ClientCertificate>>().map(|certificate| certificate.sha256);
        let token = token::presented(headers);
        let shows = |proof: &Proof| match proof {
            Proof::Token(hash) => token.is_some_and(|token| hash.is_of(token)),
            Proof::Certificate(hash) => certificate.as_ref() == Some(hash),
        };
        self.0.is_empty() || self.0.iter().any(shows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_certificate_may_be_spelled_as_others_print_it() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        for text in [plain.clone(), format!("sha256:{plain}"), colons] {
            let relay = RelayConfig {
                name: "edge".to_owned(),
                token_file: None,
                certificate_sha256: Some(text.clone()),
                operator: None,
            };
            assert!(matches!(relay.proof(true), Ok(Proof::Certificate([0xab, .., 0xab]))), "{text}");
        }
    }
}
