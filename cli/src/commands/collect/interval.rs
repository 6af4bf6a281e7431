//! Which batch: what people say about time, in whole units of the task's time precision.

use jiff::Timestamp;
use mica_dap::time::{Interval, Time, TimePrecision};
use mica_service::config::parse_duration;

use crate::exit::Failure;

/// The time up to the end of the last unit that is over, or with the unit that still runs.
///
/// Whoever asks for the last hour means an hour of reports. A batch that takes in the unit that runs is closed before
/// the rest of its reports come, and they are refused: nobody does that without saying so.
pub(super) fn last(
    text: &str,
    now: u64,
    precision: TimePrecision,
    include_running: bool,
) -> Result<Interval, Failure> {
    let length = parse_duration(text).map_err(Failure::usage)?.as_secs();
    if length == 0 {
        return Err(Failure::usage(
            "--last 0s is no time at all; write how far back the batch reaches, such as 1h",
        ));
    }
    let (from, to) = if include_running {
        (now.saturating_sub(length), now.saturating_add(1))
    } else {
        let over = now - now % precision.seconds();
        (over.saturating_sub(length), over)
    };
    widened(from, to, precision)
}

/// From one moment up to another.
pub(super) fn between(from: &str, to: &str, precision: TimePrecision) -> Result<Interval, Failure> {
    let (from, to) = (moment(from)?, moment(to)?);
    if to <= from {
        return Err(Failure::usage("--to is not after --from; exchange them"));
    }
    let unit = precision.seconds();
    if from % unit != 0 || to % unit != 0 {
        let (whole_from, whole_to) = (from - from % unit, to.div_ceil(unit).saturating_mul(unit));
        return Err(Failure::usage(format!(
            "the times of this task's reports are known to {}, and a batch is whole units of that; write --from {} --to {}",
            length(unit),
            written(whole_from),
            written(whole_to)
        )));
    }
    widened(from, to, precision)
}

/// Seconds as people write a length of time.
fn length(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    match units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// A moment as it can be typed.
fn written(second: u64) -> String {
    let timestamp = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
    timestamp.map_or_else(|| second.to_string(), |timestamp| timestamp.to_string())
}

fn widened(from: u64, to: u64, precision: TimePrecision) -> Result<Interval, Failure> {
    let end = Time(to.div_ceil(precision.seconds()));
    Interval::between(precision.time_of(from), end).map_err(Failure::usage)
}

fn moment(text: &str) -> Result<u64, Failure> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let timestamp: Option<Timestamp> = text.parse().ok();
    timestamp.and_then(|timestamp| u64::try_from(timestamp.as_second()).ok()).ok_or_else(|| {
        Failure::usage(format!(
            "\"{text}\" is no moment; write it as 2026-11-20T14:00Z or in seconds since 1970"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour() -> TimePrecision {
        TimePrecision::new(3600).expect("not zero")
    }

    #[test]
    fn the_last_hour_ends_with_the_hour_that_is_over() {
        for (length, now, from, to) in [
            ("1h", 7_200, 1, 2),
            ("1h", 9_000, 1, 2),
            ("1h", 10_799, 1, 2),
            ("10m", 9_000, 1, 2),
            ("90m", 9_000, 0, 2),
        ] {
            let interval = last(length, now, hour(), false).expect("a length");
            assert_eq!((interval.start(), interval.end()), (Time(from), Time(to)), "{length} at {now}");
        }
        assert!(last("1h", 100, hour(), false).is_err(), "no hour is over yet");
    }

    #[test]
    fn the_hour_that_runs_is_included_where_that_is_said() {
        for now in [7_200, 9_000] {
            let interval = last("1h", now, hour(), true).expect("a length");
            assert_eq!((interval.start(), interval.end()), (Time(1), Time(3)));
        }
    }

    #[test]
    fn no_time_at_all_is_refused() {
        assert!(last("0s", 7_200, hour(), true).is_err());
    }

    #[test]
    fn moments_between_whole_units_are_refused_with_those_around_them() {
        let interval = between("1970-01-01T01:00Z", "1970-01-01T02:00Z", hour()).expect("an interval");
        assert_eq!((interval.start(), interval.end()), (Time(1), Time(2)));
        let refused = between("1970-01-01T01:30Z", "7201", hour()).expect_err("half an hour").to_string();
        assert_eq!(
            refused,
            "the times of this task's reports are known to 1h, and a batch is whole units of that; write --from \
             1970-01-01T01:00:00Z --to 1970-01-01T03:00:00Z"
        );
        assert!(between("1970-01-01T01:00Z", "1970-01-01T01:00:01Z", hour()).is_err());
        assert!(between("7200", "7200", hour()).is_err());
        assert!(between("yesterday", "7200", hour()).is_err());
    }
}
