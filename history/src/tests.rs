//! A history that was tampered with in every way there is.

use super::*;

fn key(seed: u8) -> HistoryKey {
    HistoryKey::from_seed(&[seed; 32]).unwrap()
}

fn history(lists: &[&str]) -> History {
    let mut entries: Vec<Entry> = Vec::new();
    for (now, list) in (100..).zip(lists) {
        entries.push(Entry::after(entries.last(), now, list.as_bytes().to_vec(), &key(1)));
    }
    History { key: key(1).public(), entries }
}

#[test]
fn a_history_reads_what_it_writes_and_holds() {
    let history = history(&["one", "two", "three"]);
    assert_eq!(history.verify(), Ok(()));
    assert_eq!(History::from_json(history.to_json().as_bytes()), Ok(history.clone()));
    assert_eq!(history.newest().map(|entry| entry.list.as_slice()), Some(b"three".as_slice()));
}

#[test]
fn an_entry_that_is_deleted_moved_put_in_or_altered_is_found() {
    let whole = history(&["one", "two", "three"]);
    let tampered = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut history = whole.clone();
        change(&mut history.entries);
        history.verify()
    };
    assert_eq!(tampered(&|entries| drop(entries.remove(1))), Err(HistoryError::Place(2)));
    assert_eq!(tampered(&|entries| drop(entries.remove(0))), Err(HistoryError::Place(1)));
    assert_eq!(tampered(&|entries| entries.swap(0, 1)), Err(HistoryError::Place(1)));
    assert_eq!(tampered(&|entries| entries.insert(1, entries[0].clone())), Err(HistoryError::Place(2)));
    assert_eq!(tampered(&Vec::clear), Err(HistoryError::Empty));
    assert_eq!(tampered(&|entries| entries[1].list[0] ^= 1), Err(HistoryError::Changed(2)));
    assert_eq!(tampered(&|entries| entries[1].since += 1), Err(HistoryError::Changed(2)));
    assert_eq!(tampered(&|entries| entries[1].hash[0] ^= 1), Err(HistoryError::Changed(2)));
    assert_eq!(tampered(&|entries| entries[2].previous[0] ^= 1), Err(HistoryError::Chain(3)));
    assert_eq!(tampered(&|entries| entries[2].signature[0] ^= 1), Err(HistoryError::Signature(3)));
    // Deleted, and the numbers made to fit.
    let renumbered = tampered(&|entries| {
        entries.remove(1);
        entries[1].number = 2;
    });
    assert_eq!(renumbered, Err(HistoryError::Chain(2)));
    // All made to fit, by somebody who has another key.
    let rewritten = tampered(&|entries| {
        entries.truncate(1);
        let forged = Entry::after(entries.last(), 101, b"evil".to_vec(), &key(2));
        entries.push(forged);
    });
    assert_eq!(rewritten, Err(HistoryError::Signature(2)));
}

#[test]
fn two_histories_agree_when_one_continues_the_other() {
    let (short, long) = (history(&["one", "two"]), history(&["one", "two", "three"]));
    assert!(short.agrees_with(&long) && long.agrees_with(&short) && short.agrees_with(&short));
    let fork = history(&["one", "another"]);
    assert_eq!(fork.verify(), Ok(()), "whoever has the key can sign two histories");
    assert!(!fork.agrees_with(&long) && !long.agrees_with(&fork));
    let other = History { key: key(2).public(), ..short.clone() };
    assert!(!other.agrees_with(&short));
}

#[test]
fn a_clock_that_is_set_back_does_not_break_the_order() {
    let first = Entry::after(None, 200, b"one".to_vec(), &key(1));
    let second = Entry::after(Some(&first), 100, b"two".to_vec(), &key(1));
    let history = History { key: key(1).public(), entries: vec![first, second] };
    assert_eq!(history.verify(), Ok(()));
    let mut entries = vec![Entry::after(None, 200, b"one".to_vec(), &key(1))];
    let mut older = Entry::after(entries.last(), 200, b"two".to_vec(), &key(1));
    older.since = 100;
    older.hash = digest(2, 100, &older.previous, &older.list);
    older.signature = key(1).sign(&older.hash);
    entries.push(older);
    assert_eq!(History { entries, ..history }.verify(), Err(HistoryError::Time(2)));
}

#[test]
fn a_document_that_is_not_a_history_is_refused_with_the_reason() {
    let good = history(&["one"]).to_json();
    for (from, to, why) in [
        ("\"version\":1", "\"version\":2", "version 2"),
        ("\"previous\":\"00", "\"previous\":\"", "its previous is not"),
        ("\"entries\"", "\"other\":1,\"entries\"", "unknown field"),
    ] {
        let refused = History::from_json(good.replace(from, to).as_bytes()).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    assert!(matches!(History::from_json(b"no"), Err(HistoryError::Malformed(_))));
}
