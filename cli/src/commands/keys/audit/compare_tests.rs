//! What a gateway that wants to tell clients apart could try, and what an audit says of it.

use mica_envelope::history::{Entry, HistoryKey};

use super::*;

fn key() -> HistoryKey {
    HistoryKey::from_seed(&[1; 32]).expect("a seed")
}

fn history(lists: &[&str]) -> History {
    let mut entries: Vec<Entry> = Vec::new();
    for (now, list) in (100..).zip(lists) {
        entries.push(Entry::after(entries.last(), now, list.as_bytes().to_vec(), &key()));
    }
    History { key: key().public(), entries }
}

fn published(path: &str, list: &str, history: History) -> Published {
    let list = list.as_bytes().to_vec();
    Published { path: path.to_owned(), list, is_for_everybody: true, history: Some(Ok(history)) }
}

/// A gateway that is asked twice, and a mirror; all as it should be, but for one change.
fn audited(change: impl FnOnce(&mut Vec<Published>)) -> Vec<Finding> {
    let whole = || history(&["one", "two", "three"]);
    let mut paths = vec![
        published("gateway", "three", whole()),
        published("gateway, asked otherwise", "three", whole()),
        published(MIRROR, "three", whole()),
    ];
    change(&mut paths);
    compare(&Collected { published: paths }, Some(key().public()), None, None)
}

fn differing(findings: &[Finding]) -> Vec<(&str, &str)> {
    let differs = findings.iter().filter(|finding| finding.differs());
    differs.map(|finding| (finding.path.as_str(), finding.note.as_str())).collect()
}

/// Replaces every copy of the history, as a gateway can.
fn rewritten(change: impl Fn(&mut Vec<Entry>)) -> Vec<Finding> {
    audited(|paths| {
        for path in paths {
            if let Some(Ok(history)) = &mut path.history {
                change(&mut history.entries);
            }
        }
    })
}

#[test]
fn a_gateway_that_is_the_same_everywhere_agrees_also_with_a_mirror_that_is_just_behind() {
    assert_eq!(differing(&audited(|_| ())), []);
    let behind = audited(|paths| paths[2] = published(MIRROR, "two", history(&["one", "two"])));
    assert_eq!(differing(&behind), []);
    assert!(behind.iter().any(|finding| finding.note == "still entry 2"));
    let far_behind = audited(|paths| paths[2] = published(MIRROR, "one", history(&["one"])));
    assert_eq!(differing(&far_behind), [("mirror", "another list")]);
}

#[test]
fn a_list_of_its_own_for_one_path_is_found() {
    let one = audited(|paths| paths[1].list = b"evil".to_vec());
    assert_eq!(differing(&one), [("gateway, asked otherwise", "another list")]);
    let mirror = audited(|paths| paths[2].list = b"evil".to_vec());
    assert_eq!(differing(&mirror), [("mirror", "another list")]);
    let private = audited(|paths| paths[0].is_for_everybody = false);
    assert_eq!(differing(&private), [("gateway", FOR_ONE)]);
    // On all paths that were asked, but not said to the world.
    let unsaid = audited(|paths| paths.iter_mut().for_each(|path| path.list = b"evil".to_vec()));
    assert_eq!(differing(&unsaid), [("history", "its newest entry is not what is published")]);
}

#[test]
fn a_history_that_was_tampered_with_is_found_in_every_way() {
    let deleted = rewritten(|entries| drop(entries.remove(1)));
    assert_eq!(differing(&deleted)[0], ("history", "entry 2 is missing or not in its place"));
    let cut = rewritten(|entries| entries.truncate(2));
    assert_eq!(differing(&cut)[0], ("history", "its newest entry is not what is published"));
    let moved = rewritten(|entries| entries.swap(1, 2));
    assert_eq!(differing(&moved)[0], ("history", "entry 2 is missing or not in its place"));
    let altered = rewritten(|entries| entries[0].list = b"evil".to_vec());
    assert_eq!(differing(&altered)[0], ("history", "entry 1 was changed"));
    let forked = audited(|paths| paths[2] = published(MIRROR, "three", history(&["one", "else", "three"])));
    assert_eq!(differing(&forked), [("mirror, history", "it is another history")]);
    let other_key = HistoryKey::from_seed(&[2; 32]).expect("a seed");
    let signed_anew = audited(|paths| {
        for path in paths {
            let entries = vec![Entry::after(None, 100, b"three".to_vec(), &other_key)];
            path.history = Some(Ok(History { key: other_key.public(), entries }));
        }
    });
    assert_eq!(differing(&signed_anew), [("history", "it is signed with another key")]);
    let gone = audited(|paths| paths[0].history = None);
    assert_eq!(differing(&gone)[0], ("history", "there is none"));
}

/// Whoever has the signing key can write the whole history anew, the same on every path; not for somebody who remembers.
#[test]
fn a_history_that_was_written_anew_is_found_by_whoever_has_seen_the_old_one() {
    let seen = Seen::of(&history(&["one", "two"])).expect("it has entries");
    let judge = |lists: &[&str]| {
        let newest = lists.last().expect("a list");
        let paths = vec![published("gateway", newest, history(lists))];
        let findings = compare(&Collected { published: paths }, None, None, Some(&seen));
        findings.iter().any(Finding::differs)
    };
    assert!(!judge(&["one", "two", "three"]));
    assert!(judge(&["one", "else", "three"]) && judge(&["one"]));
}
