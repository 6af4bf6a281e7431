//! Whether what was collected can be the one truth. Asks nobody.

use std::path::Path;

use mica_client::TaskBundle;
use mica_envelope::history::{History, HistoryError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::exit::Failure;
use crate::files;

/// What one path shows.
pub(super) struct Published {
    pub(super) path: String,
    pub(super) list: Vec<u8>,
    /// It says that everybody may be shown it.
    pub(super) is_for_everybody: bool,
    /// Nothing where there is none.
    pub(super) history: Option<Result<History, HistoryError>>,
}

/// What all paths show, the gateway's own first.
pub(super) struct Collected {
    pub(super) published: Vec<Published>,
}

impl Collected {
    /// The gateway's own history, if it can be read.
    pub(super) fn history(&self) -> Option<&History> {
        self.published.first()?.history.as_ref()?.as_ref().ok()
    }
}

/// What there is to say of one thing.
pub(super) struct Finding {
    pub(super) path: String,
    pub(super) sha256: Option<String>,
    /// Nothing where there is nothing to compare.
    agrees: Option<bool>,
    pub(super) note: String,
}

impl Finding {
    fn new(
        path: &str,
        list: Option<&[u8]>,
        agrees: impl Into<Option<bool>>,
        note: impl Into<String>,
    ) -> Self {
        let sha256 = list.map(|list| hex::encode(Sha256::digest(list)));
        Self { path: path.to_owned(), sha256, agrees: agrees.into(), note: note.into() }
    }

    pub(super) fn differs(&self) -> bool {
        self.agrees == Some(false)
    }

    pub(super) fn word(&self) -> &'static str {
        match self.agrees {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "path": self.path, "sha256": self.sha256, "agrees": self.agrees, "note": self.note })
    }
}

/// How far the history had come when it was looked at the last time.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    history_key: String,
    number: u64,
    hash: String,
}

impl Seen {
    pub(super) fn of(history: &History) -> Option<Self> {
        let newest = history.newest()?;
        let (history_key, hash) = (hex::encode(history.key), hex::encode(newest.hash));
        Some(Self { history_key, number: newest.number, hash })
    }

    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read(path, "file of --seen")?;
        let wrong =
            |error| Failure::invalid(format!("{}: this is not what --seen wrote: {error}", path.display()));
        serde_json::from_str(&text).map_err(wrong)
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        std::fs::write(path, format!("{:#}\n", json!(self)))?;
        Ok(())
    }

    fn is_in(&self, history: &History) -> bool {
        let same = history.entries.iter().find(|entry| entry.number == self.number);
        hex::encode(history.key) == self.history_key
            && same.is_some_and(|it| hex::encode(it.hash) == self.hash)
    }
}

/// Everything that can be said of what was collected.
pub(super) fn compare(
    collected: &Collected,
    key: Option<[u8; 32]>,
    bundle: Option<&TaskBundle>,
    seen: Option<&Seen>,
) -> Vec<Finding> {
    let Some((direct, others)) = collected.published.split_first() else { return Vec::new() };
    let mut findings = vec![first(direct), of_history(direct, key)];
    for other in others {
        findings.push(of_list(other, direct));
        findings.push(of_copy(other, collected.history()));
    }
    findings.extend(bundle.map(|bundle| of_bundle(bundle, direct, collected.history())));
    findings.extend(seen.map(|seen| {
        let agrees = collected.history().is_some_and(|history| seen.is_in(history));
        let note = if agrees { "the history continues what was seen" } else { "the history was rewritten" };
        Finding::new("what was seen before", None, agrees, note)
    }));
    findings
}

fn first(direct: &Published) -> Finding {
    let note = if direct.is_for_everybody { "" } else { FOR_ONE };
    Finding::new(&direct.path, Some(&direct.list), direct.is_for_everybody, note)
}

fn of_list(other: &Published, direct: &Published) -> Finding {
    let (agrees, note) = match position(direct.history.as_ref(), &other.list) {
        _ if !other.is_for_everybody => (false, FOR_ONE.to_owned()),
        _ if other.list == direct.list => (true, String::new()),
        // A mirror may have fetched its copy just before the last change, and no earlier.
        Some(Place::Before { number, of }) if other.path == MIRROR && number + 1 == of => {
            (true, format!("still entry {number}"))
        }
        _ => (false, "another list".to_owned()),
    };
    Finding::new(&other.path, Some(&other.list), agrees, note)
}

fn of_history(direct: &Published, key: Option<[u8; 32]>) -> Finding {
    let path = "history";
    let history = match &direct.history {
        None => {
            let missing = key.map(|_| false);
            return Finding::new(path, None, missing, "there is none");
        }
        Some(Err(error)) => return Finding::new(path, None, false, error.to_string()),
        Some(Ok(history)) => history,
    };
    let newest = history.newest().map(|entry| entry.list.as_slice());
    let wrong = |note: &str| Finding::new(path, newest, false, note);
    if let Err(error) = history.verify() {
        return wrong(&error.to_string());
    }
    if key.is_some_and(|key| key != history.key) {
        return wrong("it is signed with another key");
    }
    if newest != Some(&direct.list) {
        return wrong("its newest entry is not what is published");
    }
    let count = history.entries.len();
    Finding::new(path, newest, true, format!("{count} entries, signed with {}", hex::encode(history.key)))
}

/// A copy of the history beside the gateway's own.
fn of_copy(other: &Published, own: Option<&History>) -> Finding {
    let path = format!("{}, history", other.path);
    match (&other.history, own) {
        (None, _) => Finding::new(&path, None, None, "there is none"),
        (Some(Err(error)), _) => Finding::new(&path, None, false, error.to_string()),
        (Some(Ok(copy)), own) => {
            let newest = copy.newest().map(|entry| entry.list.as_slice());
            let (agrees, note) = match (copy.verify(), own) {
                (Err(error), _) => (false, error.to_string()),
                (Ok(()), Some(own)) if copy.agrees_with(own) => (true, String::new()),
                (Ok(()), _) => (false, "it is another history".to_owned()),
            };
            Finding::new(&path, newest, agrees, note)
        }
    }
}

fn of_bundle(bundle: &TaskBundle, direct: &Published, own: Option<&History>) -> Finding {
    let list = bundle.ohttp_keys.encoded();
    let (agrees, note) = match position(direct.history.as_ref(), list) {
        Some(Place::Newest) => (true, String::new()),
        Some(Place::Before { number, of }) => {
            (true, format!("entry {number} of {of}; export the bundle again"))
        }
        None if own.is_none() && list == direct.list => (true, String::new()),
        None => (false, "a list that was never published".to_owned()),
    };
    Finding::new("bundle", Some(list), agrees, note)
}

enum Place {
    Newest,
    Before { number: u64, of: u64 },
}

/// Where in a history a list is; only in one that holds.
fn position(history: Option<&Result<History, HistoryError>>, list: &[u8]) -> Option<Place> {
    let history = history?.as_ref().ok().filter(|history| history.verify().is_ok())?;
    let entry = history.entries.iter().rev().find(|entry| entry.list == list)?;
    let (number, of) = (entry.number, history.newest()?.number);
    Some(if number == of { Place::Newest } else { Place::Before { number, of } })
}

const FOR_ONE: &str = "it is not marked as meant for everybody";
/// What the path of a mirror is called.
pub(super) const MIRROR: &str = "mirror";

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
