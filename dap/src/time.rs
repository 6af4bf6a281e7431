//! Times, durations and intervals, counted in units of the task's time precision (DAP 4.1.1).
//!
//! A report carries no finer time than this, and the clock is always an argument.

use crate::codec::{Decode, Encode, Malformed, Reader};

/// The length of one unit of time of a task, in seconds; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimePrecision(u64);

impl TimePrecision {
    /// A precision of this many seconds, unless it is zero.
    pub const fn new(seconds: u64) -> Option<Self> {
        if seconds == 0 { None } else { Some(Self(seconds)) }
    }

    /// The length of one unit in seconds.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// The unit that a moment (seconds since the Unix epoch) falls in.
    pub const fn time_of(self, unix_seconds: u64) -> Time {
        Time(unix_seconds / self.0)
    }

    /// The moment a unit begins, in seconds since the Unix epoch; saturates.
    pub const fn start_of(self, time: Time) -> u64 {
        time.0.saturating_mul(self.0)
    }

    /// A duration in seconds; saturates.
    pub const fn seconds_of(self, duration: Duration) -> u64 {
        duration.0.saturating_mul(self.0)
    }
}

/// A point in time, in units of the task's time precision since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(pub u64);

/// A length of time, in units of the task's time precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duration(pub u64);

/// A half-open range of time: at least one unit long, and its end can be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    start: Time,
    duration: Duration,
}

impl Interval {
    /// The interval of this start and duration.
    pub fn new(start: Time, duration: Duration) -> Result<Self, InvalidInterval> {
        if duration.0 == 0 || start.0.checked_add(duration.0).is_none() {
            return Err(InvalidInterval);
        }
        Ok(Self { start, duration })
    }

    /// The interval from `start` up to, not including, `end`.
    pub fn between(start: Time, end: Time) -> Result<Self, InvalidInterval> {
        let length = end.0.checked_sub(start.0).ok_or(InvalidInterval)?;
        Self::new(start, Duration(length))
    }

    /// The one unit that begins at `time`, which is the bucket of a report of that time.
    pub fn unit(time: Time) -> Result<Self, InvalidInterval> {
        Self::new(time, Duration(1))
    }

    /// The first unit inside.
    pub const fn start(&self) -> Time {
        self.start
    }

    /// How many units are inside.
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// The first unit after.
    pub const fn end(&self) -> Time {
        Time(self.start.0.saturating_add(self.duration.0))
    }

    /// Whether `time` is inside.
    pub fn contains(&self, time: Time) -> bool {
        self.start <= time && time < self.end()
    }

    /// Whether the two share a unit.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// Whether the whole of `other` is inside.
    pub fn contains_interval(&self, other: &Self) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// The smallest interval that holds both.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let start = self.start.min(other.start);
        let end = self.end().max(other.end());
        Self { start, duration: Duration(end.0 - start.0) }
    }
}

/// The interval is empty, or its end is beyond the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an interval must be at least one unit long and end before the end of time")]
pub struct InvalidInterval;

impl From<InvalidInterval> for Malformed {
    fn from(_: InvalidInterval) -> Self {
        Self("an empty or overflowing interval")
    }
}

impl Encode for Time {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
}

impl Decode for Time {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.u64().map(Self)
    }
}

impl Encode for Duration {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
}

impl Decode for Duration {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.u64().map(Self)
    }
}

impl Encode for Interval {
    fn encode(&self, out: &mut Vec<u8>) {
        self.start.encode(out);
        self.duration.encode(out);
    }
}

impl Decode for Interval {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let start = Time::decode(reader)?;
        let duration = Duration::decode(reader)?;
        Ok(Self::new(start, duration)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start: u64, duration: u64) -> Interval {
        Interval::new(Time(start), Duration(duration)).unwrap()
    }

    #[test]
    fn an_interval_is_never_empty_and_never_overflows() {
        assert_eq!(Interval::new(Time(5), Duration(0)), Err(InvalidInterval));
        assert_eq!(Interval::new(Time(u64::MAX), Duration(1)), Err(InvalidInterval));
        assert_eq!(interval(u64::MAX - 1, 1).end(), Time(u64::MAX));
        assert_eq!(Interval::between(Time(3), Time(3)), Err(InvalidInterval));
        assert_eq!(Interval::between(Time(3), Time(5)), Ok(interval(3, 2)));
    }

    #[test]
    fn an_interval_is_half_open() {
        let ten_to_twenty = interval(10, 10);
        assert!(!ten_to_twenty.contains(Time(9)));
        assert!(ten_to_twenty.contains(Time(10)));
        assert!(ten_to_twenty.contains(Time(19)));
        assert!(!ten_to_twenty.contains(Time(20)));
        assert!(!ten_to_twenty.overlaps(&interval(20, 1)));
        assert!(ten_to_twenty.overlaps(&interval(19, 5)));
        assert!(ten_to_twenty.contains_interval(&interval(10, 10)));
        assert!(!ten_to_twenty.contains_interval(&interval(10, 11)));
    }

    #[test]
    fn a_merge_is_the_smallest_interval_around_both() {
        assert_eq!(interval(10, 2).merge(&interval(20, 5)), interval(10, 15));
        assert_eq!(interval(20, 5).merge(&interval(10, 2)), interval(10, 15));
    }

    #[test]
    fn a_moment_is_rounded_down_to_its_unit() {
        let hour = TimePrecision::new(3600).unwrap();
        assert_eq!(hour.time_of(7199), Time(1));
        assert_eq!(hour.start_of(Time(1)), 3600);
        assert_eq!(hour.start_of(Time(u64::MAX)), u64::MAX);
        assert_eq!(TimePrecision::new(0), None);
    }
}
