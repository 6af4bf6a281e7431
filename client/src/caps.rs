//! A small counter on disk, by which an app keeps to the caps on its reports.
//!
//! Where a guarantee is about clients, it holds for those that send no more than the release statement says, and behind
//! OHTTP nobody but the client can count. What is about to be sent is counted before anything is sent: an app that is
//! killed in between has sent less than it counted, and never more. The file holds times and task identifiers, and no
//! measurement.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::TaskBundle;

/// How many reports of one client a release statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportCaps {
    /// The most in one piece of time of so many seconds, counted from 1970 on: a batch lies in one.
    pub per_batch: Option<(u32, u64)>,
    /// The most in any stretch of the contribution window.
    pub per_window: u32,
    /// The seconds of that window, of the longest of its kind where they differ; nothing for all time.
    pub window: Option<u64>,
}

/// The counts of all tasks of an app, in one file.
#[derive(Clone, Debug)]
pub struct Counter {
    path: PathBuf,
}

/// Why a report is not counted, and must not be sent.
#[derive(Debug, Error)]
pub enum CapError {
    /// One more would pass the caps.
    #[error("the cap is reached: {sent} of {most} reports {within}; nothing is sent")]
    Reached {
        /// Reports so far.
        sent: usize,
        /// The cap.
        most: u32,
        /// In which time.
        within: &'static str,
    },
    /// The statement is not the one that the task is bound to, or the task is bound to none.
    #[error(
        "this is not the release statement that the task is bound to, which says the caps; nothing is sent"
    )]
    OtherStatement,
    /// The statement does not tell the caps.
    #[error("the caps of the release statement cannot be read by this version; nothing is sent")]
    NoCaps,
    /// The file is not a counter. It is left alone: an empty one in its place would forget what was sent.
    #[error("{0} is not a counter of reports; nothing is sent")]
    Unreadable(PathBuf),
    /// The file cannot be read, locked or written.
    #[error("the counter {path} cannot be used: {error}; nothing is sent")]
    Io {
        /// The counter.
        path: PathBuf,
        /// What happened.
        error: std::io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    /// For each task the times of its last reports, in the order in which they were counted.
    tasks: BTreeMap<String, Vec<u64>>,
}

const VERSION: u32 = 1;
const DAY: u64 = 86_400;

/// How many times its cap of reports a task's list holds, and the most where the cap itself is not more.
const FILLS: u32 = 64;
const MOST_TIMES: u32 = 4096;

impl ReportCaps {
    /// The caps of a release statement; nothing where it is about single reports, or is none that this version reads.
    #[must_use]
    pub fn of(statement: &Value) -> Option<Self> {
        let caps = &statement["contribution"];
        let count = |name: &str| u32::try_from(caps[name].as_u64()?).ok();
        let seconds = |value: &Value| value.as_str()?.parse::<u64>().ok().filter(|seconds| *seconds > 0);
        let window = &caps["window"];
        let window = match (window["kind"].as_str()?, window["unit"].as_str()) {
            ("lifetime", _) => None,
            ("rolling", _) => Some(seconds(&window["length_seconds"])?),
            ("calendar", Some("day")) => Some(DAY),
            ("calendar", Some("week")) => Some(7 * DAY),
            ("calendar", Some("month")) => Some(31 * DAY),
            ("calendar", Some("quarter")) => Some(92 * DAY),
            ("calendar", Some("year")) => Some(366 * DAY),
            _ => return None,
        };
        let per_batch = match &caps["batch_window_seconds"] {
            Value::Null => None,
            cell => Some((count("max_reports_per_batch")?, seconds(cell)?)),
        };
        Some(Self { per_batch, per_window: count("max_reports_per_window")?, window })
    }

    /// Whether one more report at `now` keeps to the caps, beside those of `sent`.
    fn allow(&self, sent: &[u64], now: u64) -> Result<(), CapError> {
        let reached = |sent: usize, most: u32, within| {
            let is_room = usize::try_from(most).is_ok_and(|most| sent < most);
            if is_room { Ok(()) } else { Err(CapError::Reached { sent, most, within }) }
        };
        if let Some((most, cell)) = self.per_batch {
            let piece = |at: u64| at / cell;
            let here = sent.iter().filter(|at| piece(**at) == piece(now)).count();
            reached(here, most, "in this piece of time")?;
        }
        let here = sent.iter().filter(|at| self.counts(**at, now)).count();
        reached(here, self.per_window, "in the window in which they are counted")
    }

    /// Whether a report of `at` can share a window with one of `now`, whichever was first: what is capped is how many
    /// reports have their times in one window, whatever the clock was when they were made.
    fn counts(&self, at: u64, now: u64) -> bool {
        self.window.is_none_or(|window| at.abs_diff(now) < window)
    }

    /// How many reports of a task are remembered, whatever the clock says of their age: one that leapt forward may come
    /// back, and what it made old counts again. The last of them, as many as the cap allows, are enough for a clock that
    /// only goes forward; what is beyond is room for clocks that do not.
    fn remembered(&self) -> usize {
        let most = self.per_batch.map_or(0, |(most, _)| most).max(self.per_window).max(1);
        usize::try_from(most.saturating_mul(FILLS).min(MOST_TIMES).max(most)).unwrap_or(usize::MAX)
    }
}

impl Counter {
    /// The counter in this file, which need not be there yet.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Counts a report of `bundle` that is about to be sent at `now`, in seconds since 1970. When this returns, the count
    /// is on disk. The caps are those of `statement`, byte for byte the release statement that the task is bound to.
    ///
    /// # Errors
    /// When one more would pass the caps, or cannot be counted. Then nothing may be sent.
    pub fn count(&self, bundle: &TaskBundle, statement: &[u8], now: u64) -> Result<(), CapError> {
        let hash: [u8; 32] = Sha256::digest(statement).into();
        if bundle.statement_sha256() != Some(hash) {
            return Err(CapError::OtherStatement);
        }
        let statement: Value = serde_json::from_slice(statement).map_err(|_| CapError::NoCaps)?;
        if statement["privacy_unit"] == "report" {
            // Each report is hidden by itself, however many a client sends.
            return Ok(());
        }
        let caps = ReportCaps::of(&statement).ok_or(CapError::NoCaps)?;
        let precision = bundle.configuration.time_precision().seconds().max(1);
        self.add(&bundle.task_id.to_string(), &caps, now - now % precision)
    }

    fn add(&self, task: &str, caps: &ReportCaps, now: u64) -> Result<(), CapError> {
        let io = |error| CapError::Io { path: self.path.clone(), error };
        // A file of its own is locked, since the counter itself is replaced. The lock goes with the process.
        let lock = File::create(beside(&self.path, "lock")).map_err(io)?;
        lock.lock().map_err(io)?;
        let mut text = self.read()?;
        let sent = text.tasks.entry(task.to_owned()).or_default();
        caps.allow(sent, now)?;
        sent.push(now);
        // The first that were counted go, and never those that only look old at this moment.
        sent.drain(..sent.len().saturating_sub(caps.remembered()));
        self.replace(&text).map_err(io)
    }

    fn read(&self) -> Result<Text, CapError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Text { version: VERSION, tasks: BTreeMap::new() });
            }
            Err(error) => return Err(CapError::Io { path: self.path.clone(), error }),
        };
        let read: Option<Text> = serde_json::from_str(&text).ok();
        read.filter(|it| it.version == VERSION).ok_or_else(|| CapError::Unreadable(self.path.clone()))
    }

    /// The old file or the new one is there at any time, and the new one before this returns.
    fn replace(&self, text: &Text) -> std::io::Result<()> {
        let next = beside(&self.path, "next");
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec(text)?)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counter(name: &str) -> Counter {
        let folder = std::env::temp_dir().join(format!("mica-caps-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).expect("a folder");
        Counter::at(folder.join("counter.json"))
    }

    const WEEK: ReportCaps = ReportCaps { per_batch: None, per_window: 2, window: Some(7 * DAY) };

    #[test]
    fn no_more_reports_are_counted_than_the_caps_allow_in_any_stretch_of_the_window() {
        let counter = counter("window");
        assert!(counter.add("t", &WEEK, 10 * DAY).is_ok());
        assert!(counter.add("t", &WEEK, 12 * DAY).is_ok());
        for now in [12 * DAY, 16 * DAY, 17 * DAY - 1] {
            let refused = counter.add("t", &WEEK, now);
            assert!(matches!(refused, Err(CapError::Reached { sent: 2, most: 2, .. })), "{refused:?}");
        }
        assert!(counter.add("other", &WEEK, 12 * DAY).is_ok(), "tasks are counted by themselves");
        assert!(counter.add("t", &WEEK, 17 * DAY).is_ok(), "the first is a week old");
        // A clock that goes back makes no room in a window that was full, nor does it take any from another.
        assert!(counter.add("t", &WEEK, 11 * DAY).is_err());
        assert!(counter.add("t", &WEEK, DAY).is_ok());
        let ever = ReportCaps { window: None, ..WEEK };
        assert!(counter.add("ever", &ever, 0).is_ok() && counter.add("ever", &ever, 4_000 * DAY).is_ok());
        assert!(counter.add("ever", &ever, 9_000 * DAY).is_err());
    }

    #[test]
    fn no_more_reports_are_counted_than_one_batch_may_have() {
        let counter = counter("cell");
        let hourly = ReportCaps { per_batch: Some((1, 3600)), per_window: 30, window: Some(7 * DAY) };
        assert!(counter.add("t", &hourly, 3600).is_ok());
        assert!(counter.add("t", &hourly, 7199).is_err(), "the same hour");
        assert!(counter.add("t", &hourly, 7200).is_ok());
    }

    #[test]
    fn a_clock_that_leaps_forward_and_comes_back_makes_no_room_in_the_window() {
        let counter = counter("leap");
        assert!(counter.add("t", &WEEK, 10 * DAY).is_ok());
        assert!(counter.add("t", &WEEK, 12 * DAY).is_ok());
        // At this time the first two are old, and there is room for one more; then they are not.
        assert!(counter.add("t", &WEEK, 100 * DAY).is_ok());
        for now in [12 * DAY, 10 * DAY, 16 * DAY] {
            let refused = counter.add("t", &WEEK, now);
            assert!(matches!(refused, Err(CapError::Reached { sent: 2, most: 2, .. })), "{refused:?}");
        }
        // Nor does the one report of a time that was never silence the client until then.
        assert!(counter.add("t", &WEEK, 20 * DAY).is_ok());
    }

    #[test]
    fn a_clock_that_leaps_forward_and_comes_back_makes_no_room_in_a_batch() {
        let counter = counter("leap-batch");
        let hourly = ReportCaps { per_batch: Some((1, 3600)), per_window: 30, window: Some(7 * DAY) };
        assert!(counter.add("t", &hourly, 10 * DAY).is_ok());
        assert!(counter.add("t", &hourly, 100 * DAY).is_ok());
        let refused = counter.add("t", &hourly, 10 * DAY + 3599);
        assert!(
            matches!(refused, Err(CapError::Reached { sent: 1, most: 1, within: "in this piece of time" })),
            "{refused:?}"
        );
        assert!(counter.add("t", &hourly, 10 * DAY + 3600).is_ok(), "the next hour has room");
    }

    #[test]
    fn the_times_of_a_task_are_bounded_and_only_the_first_that_were_counted_are_forgotten() {
        let counter = counter("bounded");
        let times = |task: &str| counter.read().expect("a counter").tasks[task].clone();
        let daily = ReportCaps { per_batch: None, per_window: 1, window: Some(DAY) };
        for day in 0..70 {
            assert!(counter.add("t", &daily, day * DAY).is_ok(), "day {day}");
        }
        assert_eq!(times("t"), (6..70).map(|day| day * DAY).collect::<Vec<_>>());
        // A list is never shorter than a cap, also of a cap that is more than the list would be: else it would not hold.
        let caps = |most| ReportCaps { per_window: most, ..daily };
        assert_eq!([0, 2, 64, 65, 5_000].map(|most| caps(most).remembered()), [64, 128, 4_096, 4_096, 5_000]);
        let batch = ReportCaps { per_batch: Some((6_000, DAY)), ..daily };
        assert_eq!(batch.remembered(), 6_000);
        let full = Text { version: VERSION, tasks: BTreeMap::from([("full".to_owned(), vec![DAY; 5_000])]) };
        counter.replace(&full).expect("a counter");
        assert!(counter.add("full", &caps(5_000), DAY).is_err(), "all 5,000 count");
        assert!(counter.add("full", &caps(5_000), 3 * DAY).is_ok());
        assert_eq!(times("full").len(), 5_000);
    }

    #[test]
    fn the_caps_are_those_of_the_statement() {
        let statement = |window: Value| {
            json!({ "contribution": {
                "max_reports_per_batch": 1, "max_reports_per_window": 30, "window": window, "batch_window_seconds": "86400",
            }})
        };
        let rolling =
            statement(json!({ "kind": "rolling", "length_seconds": "2592000", "epoch_seconds": "86400" }));
        let caps = ReportCaps { per_batch: Some((1, DAY)), per_window: 30, window: Some(30 * DAY) };
        assert_eq!(ReportCaps::of(&rolling), Some(caps));
        let month = ReportCaps::of(&statement(json!({ "kind": "calendar", "unit": "month" })));
        assert_eq!(month.and_then(|caps| caps.window), Some(31 * DAY));
        assert_eq!(ReportCaps::of(&statement(json!({ "kind": "moon" }))), None);
    }

    #[test]
    fn a_counter_that_cannot_be_read_is_not_replaced_by_an_empty_one() {
        let counter = counter("broken");
        for broken in ["", "{", r#"{"version":2,"tasks":{}}"#] {
            fs::write(&counter.path, broken).expect("a file");
            assert!(matches!(counter.add("t", &WEEK, 0), Err(CapError::Unreadable(_))), "{broken}");
            assert_eq!(fs::read_to_string(&counter.path).expect("it is there"), broken);
        }
    }

    #[test]
    fn of_many_that_count_at_once_no_more_are_let_through_than_the_cap() {
        let counter = counter("race");
        let caps = ReportCaps { per_batch: None, per_window: 5, window: None };
        let threads: Vec<_> = (0..20)
            .map(|_| {
                let counter = counter.clone();
                std::thread::spawn(move || counter.add("t", &caps, DAY).is_ok())
            })
            .collect();
        let let_through = threads.into_iter().map(|it| it.join().expect("it ends"));
        assert_eq!(let_through.filter(|ok| *ok).count(), 5);
    }

    /// Killed after the new file was written and before it took the old one's place, or before anything.
    #[test]
    fn what_a_killed_app_leaves_behind_neither_forgets_nor_blocks() {
        let counter = counter("killed");
        let once = ReportCaps { per_batch: None, per_window: 1, window: None };
        assert!(counter.add("t", &once, DAY).is_ok());
        fs::write(beside(&counter.path, "next"), "{\"version\":1,\"ta").expect("a file");
        fs::write(beside(&counter.path, "lock"), "").expect("a file");
        assert!(matches!(counter.add("t", &once, DAY), Err(CapError::Reached { .. })), "it is still counted");
        assert!(counter.add("u", &once, DAY).is_ok(), "and the rest goes on");
    }
}
