//! What was looked at with a peer, and how it went.

use std::fmt::{Debug, Display};

/// The checks of one peer.
pub(super) struct Checks {
    peer: &'static str,
    version: &'static str,
    place: &'static str,
    done: Vec<Check>,
}

struct Check {
    what: String,
    /// Why it failed.
    why: Option<String>,
}

impl Checks {
    pub(super) fn new(peer: &'static str, version: &'static str, place: &'static str) -> Self {
        Self { peer, version, place, done: Vec::new() }
    }

    /// Something that went well, or did not.
    pub(super) fn holds<T, Error: Display>(&mut self, what: impl Into<String>, outcome: Result<T, Error>) {
        // All that led to it, where there is more than one line to it.
        let why = outcome.err().map(|error| format!("{error:#}"));
        self.done.push(Check { what: what.into(), why });
    }

    /// Something that is so, or is not.
    pub(super) fn is(&mut self, what: impl Into<String>, so: bool, found: impl Debug) {
        self.holds(what, if so { Ok(()) } else { Err(format!("{found:?}")) });
    }

    /// Two that are the same.
    pub(super) fn equal<T: PartialEq + Debug + ?Sized>(
        &mut self,
        what: impl Into<String>,
        found: &T,
        expected: &T,
    ) {
        let so = found == expected;
        self.is(what, so, format_args!("{found:?}, and not {expected:?}"));
    }

    /// Whether all of them went well, and there were some.
    pub(super) fn passed(&self) -> bool {
        !self.done.is_empty() && self.failed() == 0
    }

    fn failed(&self) -> usize {
        self.done.iter().filter(|check| check.why.is_some()).count()
    }

    /// One line per check.
    pub(super) fn print(&self) {
        println!("{} {} in the place of our {}", self.peer, self.version, self.place);
        for check in &self.done {
            match &check.why {
                None => println!("  ok      {}", check.what),
                Some(why) => println!("  FAILED  {}: {why}", check.what),
            }
        }
        println!();
    }

    fn row(&self) -> [String; 5] {
        let (failed, all) = (self.failed(), self.done.len());
        [self.peer, self.version, self.place]
            .map(ToOwned::to_owned)
            .into_iter()
            .chain([(all - failed).to_string(), failed.to_string()])
            .collect::<Vec<_>>()
            .try_into()
            .expect("three and two are five")
    }
}

/// One line per peer.
pub(super) fn print_table(all: &[Checks]) {
    print!("{}", table(all));
}

fn table(all: &[Checks]) -> String {
    let mut rows = vec![["peer", "version", "in place of", "passed", "failed"].map(ToOwned::to_owned)];
    rows.extend(all.iter().map(Checks::row));
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_check_that_fails_fails_the_peer_and_so_does_none() {
        let mut checks = Checks::new("peer", "1", "client");
        assert!(!checks.passed(), "nothing was looked at");
        checks.equal("one is one", &1, &1);
        assert!(checks.passed());
        checks.equal("one is two", &1, &2);
        assert!(!checks.passed());
        assert_eq!(checks.done[1].why.as_deref(), Some("1, and not 2"));
    }

    #[test]
    fn the_table_counts_and_is_aligned() {
        let mut checks = Checks::new("a-long-name", "1", "relay");
        checks.is("it is", true, "");
        checks.is("it is not", false, "why");
        let table = table(&[checks]);
        let expected = "peer         version  in place of  passed  failed\n\
                        a-long-name  1        relay        1       1\n";
        assert_eq!(table, expected);
    }
}
