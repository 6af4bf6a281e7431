//! What a peer must show for a task (DAP 3.5): a bearer token, a client certificate, or both.
//!
//! Who has shown nothing that is known here gets the same answer for every task, whether there is such a task or not.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::StatusCode;
use http::request::Parts;
use mica_service::tls::ClientCertificate;
use subtle::{Choice, ConstantTimeEq as _};

use crate::auth::{TokenHash, presented};
use crate::error::Abort;

/// What is expected of a peer. At least one of the two parts is there; if both are, both are needed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    token: Option<TokenHash>,
    certificates: Vec<KnownCertificate>,
}

/// A certificate that is known by its hash or by a name in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KnownCertificate {
    /// SHA-256 of the certificate in DER.
    Sha256([u8; 32]),
    /// One of its DNS names or URIs; whoever signs for `client_roots` vouches for it.
    Name(String),
}

/// What a request shows.
pub(crate) struct Presented {
    token: Option<TokenHash>,
    certificate: Option<Arc<ClientCertificate>>,
}

impl Credential {
    /// This token, one of these certificates, or both; nothing when neither is given.
    pub fn new(token: Option<TokenHash>, certificates: Vec<KnownCertificate>) -> Option<Self> {
        (token.is_some() || !certificates.is_empty()).then_some(Self { token, certificates })
    }

    /// The hash of the token, if one is needed.
    pub fn token(&self) -> Option<&TokenHash> {
        self.token.as_ref()
    }

    /// The certificates of which one is needed; none when there are none.
    pub fn certificates(&self) -> &[KnownCertificate] {
        &self.certificates
    }

    /// The certificates as they are written in files and rows, separated by blanks.
    pub(crate) fn certificates_text(&self) -> Option<String> {
        let words: Vec<String> = self.certificates.iter().map(ToString::to_string).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// Whether all that is needed is shown. Takes the same time whichever byte of a token or a hash differs.
    pub(crate) fn is_shown(&self, presented: &Presented) -> bool {
        let token = self.token.is_none() || self.token == presented.token;
        let known = presented.certificate.as_ref().is_some_and(|shown| {
            let matches = self.certificates.iter().map(|known| known.is(shown));
            matches.fold(Choice::from(0), |any, one| any | one).into()
        });
        token & (self.certificates.is_empty() | known)
    }
}

impl From<TokenHash> for Credential {
    fn from(token: TokenHash) -> Self {
        Self { token: Some(token), certificates: Vec::new() }
    }
}

impl KnownCertificate {
    /// Reads words such as `sha256:HEX` and `name:leader.example`.
    pub(crate) fn list(text: &str) -> Option<Vec<Self>> {
        text.split_whitespace().map(|word| word.parse().ok()).collect()
    }

    fn is(&self, shown: &ClientCertificate) -> Choice {
        match self {
            Self::Sha256(hash) => shown.sha256.ct_eq(hash),
            Self::Name(name) => Choice::from(u8::from(shown.names.contains(name))),
        }
    }
}

impl fmt::Display for KnownCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hash) => write!(f, "sha256:{}", hex::encode(hash)),
            Self::Name(name) => write!(f, "name:{name}"),
        }
    }
}

impl FromStr for KnownCertificate {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(':') {
            Some(("sha256", digits)) => {
                // As openssl prints it, too: in pairs with colons between them.
                let mut hash = [0; 32];
                hex::decode_to_slice(digits.replace(':', ""), &mut hash).map_err(|_| ())?;
                Ok(Self::Sha256(hash))
            }
            Some(("name", name)) if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()) => {
                let is_uri = name.contains("://");
                Ok(Self::Name(if is_uri { name.to_owned() } else { name.to_ascii_lowercase() }))
            }
            _ => Err(()),
        }
    }
}

impl Presented {
    /// What the request shows, and 401 when that is nothing.
    pub(crate) fn of(parts: &Parts) -> Result<Self, Abort> {
        let token = presented(&parts.headers).map(TokenHash::of);
        let certificate = parts.extensions.get::<Arc<ClientCertificate>>().cloned();
        if token.is_none() && certificate.is_none() {
            let what = "a bearer token or a client certificate is needed";
            return Err(Abort::plain(StatusCode::UNAUTHORIZED, what));
        }
        Ok(Self { token, certificate })
    }

    /// The hash of the token.
    pub(crate) fn token(&self) -> Option<&TokenHash> {
        self.token.as_ref()
    }

    /// The certificate, whose key the caller has shown to hold.
    pub(crate) fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.as_deref()
    }

    /// A caller with this token and the certificate with this hash and these names.
    #[cfg(test)]
    pub(crate) fn new(token: Option<&str>, certificate: Option<([u8; 32], &[&str])>) -> Self {
        let certificate = certificate.map(|(sha256, names)| {
            Arc::new(ClientCertificate { sha256, names: names.iter().map(ToString::to_string).collect() })
        });
        Self { token: token.map(TokenHash::of), certificate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: [u8; 32] = [7; 32];

    fn shown(token: Option<&str>, certificate: Option<([u8; 32], &str)>) -> Presented {
        match certificate {
            Some((sha256, name)) => Presented::new(token, Some((sha256, &[name]))),
            None => Presented::new(token, None),
        }
    }

    fn needed(token: Option<&str>, certificates: &str) -> Credential {
        let certificates = KnownCertificate::list(certificates).expect("a list of certificates");
        Credential::new(token.map(TokenHash::of), certificates).expect("something is needed")
    }

    #[test]
    fn all_that_is_needed_must_be_shown() {
        let hash = format!("sha256:{}", hex::encode(HASH));
        let ours = Some((HASH, "leader.example"));
        let other = Some(([8; 32], "other.example"));
        let cases = [
            (needed(Some("a"), ""), shown(Some("a"), None), true),
            (needed(Some("a"), ""), shown(Some("b"), ours), false),
            (needed(None, &hash), shown(None, ours), true),
            (needed(None, &hash), shown(Some("a"), None), false),
            (needed(None, &hash), shown(Some("a"), other), false),
            (needed(None, "name:Leader.example"), shown(None, ours), true),
            (needed(None, "name:leader.example"), shown(None, other), false),
            (needed(None, &format!("name:x {hash}")), shown(None, ours), true),
            (needed(Some("a"), &hash), shown(Some("a"), ours), true),
            (needed(Some("a"), &hash), shown(Some("a"), None), false),
            (needed(Some("a"), &hash), shown(Some("a"), other), false),
            (needed(Some("a"), &hash), shown(None, ours), false),
        ];
        for (number, (needed, shown, enough)) in cases.iter().enumerate() {
            assert_eq!(needed.is_shown(shown), *enough, "case {number}");
        }
        assert!(Credential::new(None, Vec::new()).is_none(), "nobody is let in for nothing");
    }

    #[test]
    fn a_certificate_is_written_as_openssl_prints_it_or_by_a_name() {
        let pairs: Vec<String> = HASH.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(format!("sha256:{}", pairs.join(":")).parse(), Ok(KnownCertificate::Sha256(HASH)));
        let known = needed(None, "name:spiffe://a/B name:a.example");
        assert_eq!(known.certificates_text().as_deref(), Some("name:spiffe://a/B name:a.example"));
        for wrong in ["", "sha256:", "sha256:00", "name:", "name:ä", "a.example", "sha1:00"] {
            assert!(wrong.parse::<KnownCertificate>().is_err(), "{wrong}");
        }
    }
}
