//! Everybody who is let in by some task here (DAP 3.5), found by what they show.
//!
//! A caller that no task knows is to be told so without looking at every task: otherwise strangers would decide how long
//! that takes, and each new task would make it longer. It holds hashes of tokens, and no token.

use std::collections::HashSet;

use crate::credential::{Credential, KnownCertificate, Presented};

/// The credentials of all tasks, each as often as it differs.
#[derive(Default)]
pub(crate) struct Callers(HashSet<Shows>);

/// One way to be let in: the hash of a token, a certificate, or both.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Shows {
    token: Option<[u8; 32]>,
    certificate: Option<KnownCertificate>,
}

impl Callers {
    /// Adds whoever shows this.
    pub(crate) fn add(&mut self, expected: &Credential) {
        let token = expected.token().map(|hash| *hash.as_bytes());
        if expected.certificates().is_empty() {
            self.0.insert(Shows { token, certificate: None });
        }
        for certificate in expected.certificates() {
            self.0.insert(Shows { token, certificate: Some(certificate.clone()) });
        }
    }

    /// Whether some task lets this caller in. All ways are looked at, whatever is found; what is compared are hashes, so
    /// that the time tells nothing of a token.
    pub(crate) fn know(&self, shown: &Presented) -> bool {
        ways(shown).into_iter().fold(false, |known, way| known | self.0.contains(&way))
    }
}

/// All that a caller who shows this could be known by. How many depends on the caller only.
fn ways(shown: &Presented) -> Vec<Shows> {
    let token = shown.token().map(|hash| *hash.as_bytes());
    let mut ways = Vec::new();
    if token.is_some() {
        ways.push(Shows { token, certificate: None });
    }
    let Some(certificate) = shown.certificate() else { return ways };
    let hash = KnownCertificate::Sha256(certificate.sha256);
    let names = certificate.names.iter().cloned().map(KnownCertificate::Name);
    for known in std::iter::once(hash).chain(names) {
        ways.push(Shows { token: None, certificate: Some(known.clone()) });
        if token.is_some() {
            ways.push(Shows { token, certificate: Some(known) });
        }
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenHash;

    /// Each pair of a token or none and a list of certificates; what one may expect or show.
    fn all() -> Vec<(Option<&'static str>, Vec<KnownCertificate>)> {
        let certificates: [&[KnownCertificate]; 5] = [
            &[],
            &[KnownCertificate::Sha256([1; 32])],
            &[KnownCertificate::Name("a.example".to_owned())],
            &[KnownCertificate::Name("b.example".to_owned()), KnownCertificate::Sha256([2; 32])],
            &[KnownCertificate::Sha256([3; 32])],
        ];
        let mut all = Vec::new();
        for token in [None, Some("a"), Some("b")] {
            all.extend(certificates.iter().map(|certificates| (token, certificates.to_vec())));
        }
        all
    }

    fn expected() -> Vec<Credential> {
        let credentials = all().into_iter();
        credentials.filter_map(|(token, known)| Credential::new(token.map(TokenHash::of), known)).collect()
    }

    fn shown() -> Vec<Presented> {
        let mut shown = Vec::new();
        for token in [None, Some("a"), Some("c")] {
            shown.push(Presented::new(token, None));
            for hash in [1, 2, 9] {
                for names in [&[][..], &["a.example"], &["x.example", "b.example"]] {
                    shown.push(Presented::new(token, Some(([hash; 32], names))));
                }
            }
        }
        shown
    }

    #[test]
    fn who_is_known_to_some_task_is_found_as_if_each_task_were_asked() {
        let expected = expected();
        for left_out in 0..expected.len() {
            let mut callers = Callers::default();
            let some: Vec<&Credential> = expected
                .iter()
                .enumerate()
                .filter(|(i, _)| i % 7 != left_out % 7)
                .map(|(_, some)| some)
                .collect();
            for credential in &some {
                callers.add(credential);
            }
            for (number, shown) in shown().iter().enumerate() {
                let asked = some.iter().any(|credential| credential.is_shown(shown));
                assert_eq!(callers.know(shown), asked, "caller {number} without {left_out}");
            }
        }
        let few = [&expected[0], &expected[5], &expected[12]];
        for one in few {
            let mut callers = Callers::default();
            callers.add(one);
            for shown in shown() {
                assert_eq!(callers.know(&shown), one.is_shown(&shown));
            }
        }
    }

    #[test]
    fn tasks_with_one_peer_make_no_more_to_look_through() {
        let mut callers = Callers::default();
        for _ in 0..1000 {
            callers.add(&TokenHash::of("the leader of them all").into());
        }
        assert_eq!(callers.0.len(), 1);
        assert_eq!(
            ways(&Presented::new(Some("wrong"), None)).len(),
            1,
            "one look, however many tasks there are"
        );
    }
}
