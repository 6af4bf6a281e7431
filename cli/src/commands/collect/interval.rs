//! Which batch: what people say about time, in whole units of the task's time precision.

use jiff::Timestamp;
use mica_dap::time::{Interval, Time, TimePrecision};
use mica_dp::accountant::{BatchWindow, Span, Within};
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
    within: Option<Within>,
) -> Result<Last, Failure> {
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
    let interval = widened(from, to, precision)?;
    match within {
        Some(Within::Cell(pieces)) if length <= pieces.length().unsigned_abs() => {
            let short = length < pieces.length().unsigned_abs();
            in_one_piece(interval, precision, Asked { include_running, short }, pieces)
        }
        // Of what is more than one piece, the leader says how to ask for each.
        _ => Ok(Last { interval, instead: None }),
    }
}

/// What `--last` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// The batch.
    pub(super) interval: Interval,
    /// What to say where the batch is another than the time that was asked for.
    pub(super) instead: Option<String>,
}

/// How a time is meant that lies in two pieces.
#[derive(Clone, Copy)]
struct Asked {
    /// Up to now.
    include_running: bool,
    /// Shorter than a piece.
    short: bool,
}

/// A time of the length of a piece that lies in two is the last whole piece that is over; or the one that runs, from its
/// beginning, where that is included. A shorter time is no piece: a whole one would be released, for good, to somebody who
/// asked for a part, so it is refused with what to write.
fn in_one_piece(
    interval: Interval,
    precision: TimePrecision,
    Asked { include_running, short }: Asked,
    pieces: BatchWindow,
) -> Result<Last, Failure> {
    let (from, to) = (precision.start_of(interval.start()), precision.start_of(interval.end()));
    let asked = Span::of_reports(from, to).map_err(Failure::usage)?;
    if Within::Cell(pieces).holds(asked) {
        return Ok(Last { interval, instead: None });
    }
    let newest = pieces.cell(asked.to() - 1);
    let second = |at: i64| u64::try_from(at).map_err(|_| Failure::usage("no piece of time is over yet"));
    let running = Span::new(newest.from(), asked.to()).ok();
    let piece = match running {
        Some(running) if include_running || running == newest => running,
        _ => pieces.cell(newest.from() - 1),
    };
    let (start, end) = (second(piece.from())?, second(piece.to())?);
    if short && !include_running && !asked.contains(piece) {
        return Err(Failure::usage(format!(
            "{} to {} lies in two pieces of time, and a batch lies within {} and is released once; write --from {} --to {} \
             for the part of the piece that runs, or --from {} --to {} for the piece before",
            written(from),
            written(to),
            Within::Cell(pieces),
            written(second(newest.from())?),
            written(to),
            written(start),
            written(end)
        )));
    }
    let instead = format!(
        "{} to {} lies in two pieces of time, and a batch lies within {}; asked for --from {} --to {} instead",
        written(from),
        written(to),
        Within::Cell(pieces),
        written(start),
        written(end)
    );
    Ok(Last { interval: widened(start, end, precision)?, instead: Some(instead) })
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
            let interval = last(length, now, hour(), false, None).expect("a length").interval;
            assert_eq!((interval.start(), interval.end()), (Time(from), Time(to)), "{length} at {now}");
        }
        assert!(last("1h", 100, hour(), false, None).is_err(), "no hour is over yet");
    }

    #[test]
    fn the_hour_that_runs_is_included_where_that_is_said() {
        for now in [7_200, 9_000] {
            let interval = last("1h", now, hour(), true, None).expect("a length").interval;
            assert_eq!((interval.start(), interval.end()), (Time(1), Time(3)));
        }
    }

    /// What a leader advises whoever asked for more than a batch: the length of a piece, at any time of the day.
    #[test]
    fn the_length_of_a_piece_is_one_piece_whenever_it_is_asked_for() {
        let day = 86_400;
        let pieces = BatchWindow::new(day).expect("a day");
        for now in (2 * day..4 * day).step_by(1_799) {
            for (text, running) in [("24h", false), ("5h", false), ("24h", true), ("5h", true)] {
                let last = match last(text, now, hour(), running, Some(Within::Cell(pieces))) {
                    Ok(last) => last,
                    Err(refused) => {
                        // Nobody who asks for five hours is given a day.
                        assert_eq!((text, running), ("5h", false), "{refused}");
                        continue;
                    }
                };
                let (from, to) = (last.interval.start().0 * 3_600, last.interval.end().0 * 3_600);
                let span = Span::of_reports(from, to).expect("a time");
                assert!(Within::Cell(pieces).holds(span), "{text} at {now}: {from} to {to}");
                assert!(running || to <= now, "{text} at {now}");
                if last.instead.is_some() && !running {
                    assert_eq!((from % day, to - from), (0, day), "{text} at {now}");
                }
            }
        }
    }

    #[test]
    fn what_is_asked_for_instead_is_said_in_times_that_can_be_typed() {
        let pieces = Some(Within::Cell(BatchWindow::new(86_400).expect("a day")));
        let at_ten = 3 * 86_400 + 10 * 3_600;
        let last = |text, running| last(text, at_ten, hour(), running, pieces).expect("a length");
        assert_eq!(
            last("24h", false).instead.as_deref(),
            Some(
                "1970-01-03T10:00:00Z to 1970-01-04T10:00:00Z lies in two pieces of time, and a batch lies within one day \
                 (UTC); asked for --from 1970-01-03T00:00:00Z --to 1970-01-04T00:00:00Z instead"
            )
        );
        assert_eq!(last("10h", false).instead, None);
        let refused = super::last("11h", at_ten, hour(), false, pieces).expect_err("in two days").to_string();
        assert_eq!(
            refused,
            "1970-01-03T23:00:00Z to 1970-01-04T10:00:00Z lies in two pieces of time, and a batch lies within one day (UTC) \
             and is released once; write --from 1970-01-04T00:00:00Z --to 1970-01-04T10:00:00Z for the part of the piece \
             that runs, or --from 1970-01-03T00:00:00Z --to 1970-01-04T00:00:00Z for the piece before"
        );
        let short = last("11h", true);
        assert_eq!(
            (short.interval.start(), short.interval.end()),
            (Time(72), Time(83)),
            "no more than was asked for"
        );
        let running = last("24h", true);
        assert_eq!((running.interval.start(), running.interval.end()), (Time(72), Time(83)));
        assert_eq!(last("48h", false).instead, None, "the leader refuses it, and says what it would take");
    }

    #[test]
    fn no_time_at_all_is_refused() {
        assert!(last("0s", 7_200, hour(), true, None).is_err());
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
