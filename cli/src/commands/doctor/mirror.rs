//! What a relay that mirrors shows of its gateway's keys: how old it is, and whether the history holds.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use mica_envelope::history::{self, History};
use mica_relay::MirrorConfig;
use mica_service::http::{HttpClient, PeerError};

use super::finding::Finding;
use super::server;
use crate::exit::Exit;

/// Asks the relay itself, as a client does. Inside TLS it has a certificate for another name than the address that it
/// listens on, so there it cannot be asked.
pub(super) async fn examine(
    http: &HttpClient,
    (listen, tls): (&str, bool),
    mirror: &MirrorConfig,
    findings: &mut Vec<Finding>,
) {
    if tls {
        let what = "the mirror is asked by its name: `mica keys audit GATEWAY --mirror https://RELAY/`";
        return findings.push(Finding::ok("mirror", what));
    }
    for (path, what) in [("/ohttp-keys", KEYS), (history::PATH, HISTORY)] {
        let Some(url) = server::url_of(listen, tls, path) else { return };
        let Ok(request) = Request::get(url).body(Bytes::new()) else { return };
        match http.send(request).await {
            Ok(answer) => findings.push(found(&answer, what, mirror)),
            // That the server does not answer was said already.
            Err(PeerError::Unreachable { .. }) => return,
            Err(error) => {
                findings.push(Finding::fail("mirror", what, error.to_string(), Exit::Unreachable));
            }
        }
    }
}

fn found(answer: &Response<Bytes>, what: &str, mirror: &MirrorConfig) -> Finding {
    let log = "the relay's log says why";
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::SERVICE_UNAVAILABLE if what == HISTORY => {
            let todo = format!("clients believe no newer keys without it; {log}");
            return Finding::warn("mirror", format!("there is no copy of {what}"), todo);
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            return Finding::fail("mirror", format!("there is no copy of {what}"), log, Exit::NotReady);
        }
        other => {
            let todo = format!("it answers {}; {log}", other.as_u16());
            return Finding::fail("mirror", format!("the copy of {what}"), todo, Exit::Unreachable);
        }
    }
    let age = number(answer.headers(), &header::AGE).unwrap_or(0);
    let mut said = format!("the copy of {what} is {age} s old");
    if what == HISTORY {
        match holds(answer.body(), mirror.history_key.as_deref()) {
            Ok(1) => said.push_str(": 1 entry, one chain, signed"),
            Ok(entries) => said = format!("{said}: {entries} entries, one chain, signed"),
            Err(why) => return Finding::fail("mirror", said, why, Exit::Invalid),
        }
    }
    if age > LATE_ROUNDS * mirror.every.as_secs() {
        let todo = format!("it is to be renewed every {} s: {log}", mirror.every.as_secs());
        return Finding::warn("mirror", said, todo);
    }
    Finding::ok("mirror", said)
}

/// How many entries there are, if each follows from the one before and is signed.
fn holds(document: &[u8], key: Option<&str>) -> Result<usize, String> {
    let history = History::from_json(document).map_err(|error| error.to_string())?;
    history.verify().map_err(|error| error.to_string())?;
    if key.is_some_and(|key| !key.eq_ignore_ascii_case(&hex::encode(history.key))) {
        return Err("it is signed with another key than mirror.history_key".to_owned());
    }
    Ok(history.entries.len())
}

fn number(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    fields.get(name)?.to_str().ok()?.trim().parse().ok()
}

const KEYS: &str = "the gateway's keys";
const HISTORY: &str = "their history";
/// So often the gateway may have been missed.
const LATE_ROUNDS: u64 = 3;

#[cfg(test)]
mod tests {
    use mica_envelope::history::{Entry, HistoryKey};

    use super::*;
    use crate::commands::doctor::finding::Grade;

    fn answer(status: u16, age: &str, body: &str) -> Response<Bytes> {
        let answer = Response::builder().status(status).header("age", age);
        answer.body(Bytes::copy_from_slice(body.as_bytes())).expect("it is an answer")
    }

    #[test]
    fn a_copy_that_is_missing_old_or_of_a_history_that_does_not_hold_is_pointed_out() {
        let mirror = MirrorConfig::default();
        let grade = |answer: &Response<Bytes>, what| found(answer, what, &mirror).grade;
        assert_eq!(grade(&answer(200, "900", "keys"), KEYS), Grade::Ok);
        assert_eq!(grade(&answer(200, "901", "keys"), KEYS), Grade::Warn);
        assert_eq!(grade(&answer(503, "0", ""), KEYS), Grade::Fail);
        assert_eq!(grade(&answer(503, "0", ""), HISTORY), Grade::Warn);
        assert_eq!(grade(&answer(404, "0", ""), KEYS), Grade::Fail);
        let key = HistoryKey::from_seed(&[1; 32]).expect("any seed does");
        let entries = vec![Entry::after(None, 100, b"one".to_vec(), &key)];
        let whole = History { key: key.public(), entries }.to_json();
        assert_eq!(grade(&answer(200, "1", &whole), HISTORY), Grade::Ok);
        assert_eq!(grade(&answer(200, "1", &whole.replace(":100", ":101")), HISTORY), Grade::Fail);
        let named = |key: String| MirrorConfig { history_key: Some(key), ..MirrorConfig::default() };
        let ours = named(hex::encode(key.public()).to_uppercase());
        assert_eq!(found(&answer(200, "1", &whole), HISTORY, &ours).grade, Grade::Ok);
        assert_eq!(found(&answer(200, "1", &whole), HISTORY, &named("00".repeat(32))).grade, Grade::Fail);
    }
}
