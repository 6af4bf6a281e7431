//! How fast a body must come, so that nobody keeps room occupied by sending slowly.

use std::error::Error;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep_until};

use super::gauge::Gauge;
use crate::config::duration;

/// The pace of a body. It may pause for `grace`; every byte that arrives makes up for the time that it takes at this
/// rate, and for no more than was lost. So whoever keeps the rate is never given up, whoever sends slower is after a
/// while, and what was sent in a hurry buys no more than `grace`.
///
/// In a configuration file it is the table `[bodies]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BodyPace {
    /// How long nothing may come.
    #[serde(deserialize_with = "some_time")]
    pub grace: Duration,
    /// The rate that is always enough.
    pub min_bytes_per_second: NonZeroU32,
}

impl Default for BodyPace {
    fn default() -> Self {
        let min_bytes_per_second = const { NonZeroU32::new(16 << 10).expect("it is not zero") };
        Self { grace: Duration::from_secs(10), min_bytes_per_second }
    }
}

fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let time = duration(deserializer)?;
    if time.is_zero() {
        Err(D::Error::custom("without any grace no body would ever arrive"))
    } else {
        Ok(time)
    }
}

/// The body of a request was given up because it came too slowly: the fault of whoever sends it, or of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the body of the request comes too slowly")]
pub struct TooSlow;

/// Whether this is, or comes from, [`TooSlow`].
pub fn is_too_slow(error: &(dyn Error + 'static)) -> bool {
    error.is::<TooSlow>() || error.source().is_some_and(is_too_slow)
}

/// How long somebody goes on waiting for a body. Only time in which somebody waits counts: a server that is busy does
/// not blame its clients.
#[derive(Debug, Clone, Copy)]
struct Patience {
    pace: BodyPace,
    left: Duration,
    waiting_since: Option<Instant>,
}

/// The body of a request that must keep the pace and be there before its time is up.
pub(super) struct TimedBody<B> {
    body: B,
    until: Instant,
    patience: Patience,
    gauge: Gauge,
    /// When it is looked at again.
    look: Option<Pin<Box<Sleep>>>,
}

impl BodyPace {
    /// The time that so many bytes take at the rate.
    pub(super) fn worth(self, bytes: usize) -> Duration {
        let nanoseconds = (bytes as u128) * 1_000_000_000 / u128::from(self.min_bytes_per_second.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

impl Patience {
    fn new(pace: BodyPace) -> Self {
        Self { pace, left: pace.grace, waiting_since: None }
    }

    /// Somebody waits, and will until then.
    fn wait(&mut self, now: Instant) -> Instant {
        *self.waiting_since.get_or_insert(now) + self.left
    }

    /// Whether others cannot connect, and this body is further behind than may be then: the longer they wait, the less.
    fn is_in_the_way(&self, now: Instant, stalled: Option<Duration>) -> bool {
        let Some(stalled) = stalled else { return false };
        let waited = self.waiting_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let behind = self.pace.grace.saturating_sub(self.left) + waited;
        behind > self.pace.grace.saturating_sub(stalled * CROWD_HASTE).max(CROWDED_GRACE)
    }

    /// So many bytes have arrived.
    fn arrived(&mut self, now: Instant, bytes: usize) {
        let lost = self.waiting_since.take().map_or(Duration::ZERO, |since| now.duration_since(since));
        let left = self.left.saturating_sub(lost).saturating_add(self.pace.worth(bytes));
        self.left = left.min(self.pace.grace);
    }
}

impl<B> TimedBody<B> {
    /// `gauge` is that of the listener.
    pub(super) fn new(body: B, (time, pace): (Duration, BodyPace), gauge: Gauge) -> Self {
        Self { body, until: Instant::now() + time, patience: Patience::new(pace), gauge, look: None }
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                self.patience.arrived(Instant::now(), frame.data_ref().map_or(0, Bytes::len));
                self.look = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        loop {
            let now = Instant::now();
            let end = self.patience.wait(now).min(self.until);
            if now >= end || self.patience.is_in_the_way(now, self.gauge.stalled_for()) {
                return Poll::Ready(Some(Err(TooSlow.into())));
            }
            let again = || Box::pin(sleep_until(end.min(now + LOOK_AGAIN)));
            ready!(self.look.get_or_insert_with(again).as_mut().poll(context));
            self.look = None;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How far behind its pace a body may always be.
const CROWDED_GRACE: Duration = Duration::from_secs(1);
/// By how much more than the time that others wait the grace shrinks.
const CROWD_HASTE: u32 = 4;
/// How often it is seen whether others wait.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_others_cannot_connect_those_who_are_furthest_behind_are_given_up_first() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut patience = Patience::new(BodyPace::default());
        patience.wait(start);
        let given_up = |behind, stalled| patience.is_in_the_way(start + ms(behind), stalled);
        assert!(!given_up(9_999, None) && !given_up(9_999, Some(ms(0))));
        assert!(given_up(9_000, Some(ms(500))) && !given_up(7_900, Some(ms(500))));
        assert!(given_up(2_100, Some(ms(2_000))) && !given_up(1_900, Some(ms(2_000))));
        assert!(given_up(1_001, Some(ms(60_000))) && !given_up(1_000, Some(ms(60_000))));
        patience.arrived(start + ms(4_000), 1);
        patience.wait(start + ms(4_000));
        assert!(patience.is_in_the_way(start + ms(4_000), Some(ms(2_000))), "what was lost before counts");
    }

    #[tokio::test]
    async fn a_body_of_which_nothing_comes_makes_room_when_others_cannot_connect() {
        struct Silence;
        impl Body for Silence {
            type Data = Bytes;
            type Error = axum::BoxError;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
                Poll::Pending
            }
        }
        let gauge = Gauge::default();
        let pace = BodyPace { grace: Duration::from_secs(30), ..BodyPace::default() };
        let mut body = TimedBody::new(Silence, (Duration::from_mins(1), pace), gauge.clone());
        gauge.stall();
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        // After some six of the thirty.
        let frame = tokio::time::timeout(Duration::from_secs(25), frame).await.expect("it is given up");
        assert!(frame.is_some_and(|frame| frame.is_err_and(|error| is_too_slow(error.as_ref()))));
    }

    /// After how many milliseconds a body is given up of which so many bytes come after each pause of so many, if it
    /// is. It may pause for ten seconds and should come at 1,000 bytes a second.
    fn given_up(pieces: &[(u64, usize)]) -> Option<u128> {
        let min_bytes_per_second = NonZeroU32::new(1_000).expect("it is not zero");
        let mut patience = Patience::new(BodyPace { grace: Duration::from_secs(10), min_bytes_per_second });
        let begun = Instant::now();
        let mut now = begun;
        for (pause, bytes) in pieces {
            let end = patience.wait(now);
            now += Duration::from_millis(*pause);
            if now > end {
                return Some((end - begun).as_millis());
            }
            patience.arrived(now, *bytes);
        }
        None
    }

    #[test]
    fn a_body_that_keeps_the_rate_is_never_given_up() {
        assert_eq!(given_up(&[(1_000, 1_000); 500]), None);
        assert_eq!(given_up(&[(9_999, 9_999); 500]), None);
        assert_eq!(given_up(&[(10_000, 10_000), (10_000, 1), (1, 1)]), None);
    }

    #[test]
    fn a_slower_one_is_given_up_and_a_large_first_part_does_not_help_it() {
        assert_eq!(given_up(&[(20_000, 1)]), Some(10_000), "nothing comes");
        assert_eq!(given_up(&[(1_000, 500); 100]), Some(19_500), "half the rate costs half of the time");
        let mut pieces = vec![(0, 1_000_000)];
        pieces.extend([(1_000, 1); 100]);
        assert_eq!(given_up(&pieces), Some(10_010));
    }

    #[test]
    fn a_server_that_does_not_read_does_not_blame_its_client() {
        let mut patience = Patience::new(BodyPace::default());
        let now = Instant::now();
        patience.arrived(now + Duration::from_hours(1), 0);
        let later = now + Duration::from_hours(2);
        assert_eq!(patience.wait(later), later + BodyPace::default().grace);
    }

    #[test]
    fn a_pace_is_read_from_a_table_and_has_defaults() {
        let read = |text: &str| toml::from_str::<BodyPace>(text);
        assert_eq!(read("").expect("all is optional"), BodyPace::default());
        let pace = read("grace = \"3s\"\nmin_bytes_per_second = 9").expect("both are good");
        assert_eq!((pace.grace, pace.min_bytes_per_second.get()), (Duration::from_secs(3), 9));
        for wrong in ["grace = \"0s\"", "min_bytes_per_second = 0", "rate = 1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_error_is_too_slow_wherever_it_is_wrapped() {
        let wrapped = axum::Error::new(axum::Error::new(TooSlow));
        assert!(is_too_slow(&wrapped) && !is_too_slow(&axum::Error::new(std::fmt::Error)));
    }
}
