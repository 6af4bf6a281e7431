//! Adds up what the test programs say of themselves.

use std::fmt;

/// The sum over all test programs and doctests seen so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Tally {
    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Adds the counts of one `test result:` line; any other line counts nothing.
    pub(crate) fn see(&mut self, line: &str) {
        // As in: test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// Counts a test program that ended before it could count for itself.
    pub(crate) fn count_crash(&mut self) {
        self.failed += 1;
    }

    /// Says what the last line has no word for.
    pub(crate) fn print_notes(&self) {
        if self.ignored > 0 {
            eprintln!("warning: {} tests are marked as ignored and did not run", self.ignored);
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.see(line);
        }
        tally
    }

    #[test]
    fn results_of_all_programs_are_added_up() {
        let sum = tally(&[
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 10 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 1.50s",
        ]);
        assert_eq!(sum, Tally { passed: 13, failed: 2, ignored: 1 });
        assert_eq!(sum.to_string(), "13 passed, 2 failed");
    }

    #[test]
    fn a_coloured_result_counts_too() {
        let sum = tally(&["test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 7 passed; 0 failed; 0 ignored"]);
        assert_eq!(sum.passed(), 7);
    }

    #[test]
    fn other_lines_count_nothing() {
        let sum = tally(&[
            "",
            "test result: ",
            "test result: ok",
            "the test result: ok. 3 passed; 0 failed",
            "test a ... ok",
        ]);
        assert_eq!(sum, Tally::default());
    }
}
