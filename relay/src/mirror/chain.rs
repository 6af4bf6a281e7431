//! Whether a history may be shown: it is one chain, signed, and goes on from what was shown before.
//!
//! Clients check all of this themselves. A relay that checks too shows no history that they would refuse, notices at once
//! when one is written anew, and says so in its log. Which keys the lists in it hold, it does not read.

use std::sync::{Mutex, PoisonError};

use mica_history::History;

/// What is asked of each history.
pub(super) struct Chain {
    key: Option<[u8; 32]>,
    /// The longest that was taken.
    longest: Mutex<Option<History>>,
}

impl Chain {
    /// For histories that are signed with `key`, in hexadecimal digits; with any key without it. The error is a sentence.
    pub(super) fn new(key: Option<&str>) -> Result<Self, String> {
        let key = key.map(|text| {
            let mut bytes = [0; 32];
            let digits = hex::decode_to_slice(text, &mut bytes);
            digits.map(|()| bytes).map_err(|_| "write the 64 hexadecimal digits of a public key".to_owned())
        });
        Ok(Self { key: key.transpose()?, longest: Mutex::default() })
    }

    /// Takes the history that `document` holds, or says what is wrong with it.
    pub(super) fn take(&self, document: &[u8]) -> Result<(), String> {
        let history = History::from_json(document).map_err(|error| error.to_string())?;
        history.verify().map_err(|error| error.to_string())?;
        if self.key.is_some_and(|key| key != history.key) {
            return Err("it is signed with another key than mirror.history_key".to_owned());
        }
        let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*longest {
            Some(known) if !known.agrees_with(&history) => {
                Err("it was written anew: it does not go on from what was shown before; ask the gateway's operator why, \
                     and start this relay again if the answer does"
                    .to_owned())
            }
            // A replica of the gateway may be behind.
            Some(known) if known.entries.len() >= history.entries.len() => Ok(()),
            _ => {
                *longest = Some(history);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mica_history::{Entry, HistoryKey};

    use super::*;

    fn history(seed: u8, lists: &[&str]) -> String {
        let key = HistoryKey::from_seed(&[seed; 32]).unwrap();
        let mut entries: Vec<Entry> = Vec::new();
        for list in lists {
            entries.push(Entry::after(entries.last(), 100, list.as_bytes().to_vec(), &key));
        }
        History { key: key.public(), entries }.to_json()
    }

    #[test]
    fn a_history_is_taken_that_holds_and_goes_on_from_the_one_before() {
        let chain = Chain::new(None).unwrap();
        let take = |document: &str| chain.take(document.as_bytes());
        assert!(take("nonsense").unwrap_err().starts_with("it cannot be read"));
        let altered = history(1, &["one"]).replace("\"since\":100", "\"since\":101");
        assert_eq!(take(&altered).unwrap_err(), "entry 1 was changed");
        let long = history(1, &["one", "two"]);
        assert_eq!((take(&history(1, &["one"])), take(&long), take(&long)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(take(&history(1, &["one"])), Ok(()), "a replica is behind");
        for other in [history(1, &["one", "other"]), history(2, &["one", "two", "three"])] {
            assert!(take(&other).unwrap_err().starts_with("it was written anew"), "{other}");
        }
    }

    #[test]
    fn a_history_that_is_signed_with_another_key_than_the_operator_named_is_refused() {
        let key = hex::encode(HistoryKey::from_seed(&[1; 32]).unwrap().public());
        let chain = Chain::new(Some(&key)).unwrap();
        let refused = chain.take(history(2, &["one"]).as_bytes()).unwrap_err();
        assert_eq!(refused, "it is signed with another key than mirror.history_key");
        assert_eq!(chain.take(history(1, &["one"]).as_bytes()), Ok(()));
        assert!(Chain::new(Some("5f3c")).is_err() && Chain::new(Some(&"x".repeat(64))).is_err());
    }
}
