//! Load at a rate: requests leave when their time has come, whether or not the ones before them are answered.
//!
//! A load that waits for answers slows down where it hurts, and what is slow is asked less often. Here the times of the
//! requests are drawn beforehand, as those of many independent clients are.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::load::{Line, Sent, Target};

/// When each of `count` requests leaves, counted from the first: gaps of a Poisson process.
pub(super) fn times(count: usize, per_second: f64, mut draw: impl FnMut() -> f64) -> Vec<Duration> {
    let mut at = 0.0;
    let mut next = || {
        let now = Duration::from_secs_f64(at);
        at += -(1.0 - draw()).ln() / per_second;
        now
    };
    (0..count).map(|_| next()).collect()
}

/// Sends every body at its time, each on a connection that nobody else uses then. A latency runs from the moment at which
/// the request was due to leave here.
pub(super) async fn send(target: &Target, bodies: Vec<Bytes>, per_second: f64, lines: usize) -> Result<Sent> {
    let mut open = Vec::with_capacity(lines);
    for _ in 0..lines {
        open.push(Line::open(target).await?);
    }
    let free = Arc::new(Mutex::new(open));
    let times = times(bodies.len(), per_second, rand::random::<f64>);
    let (tick, mut ticks) = mpsc::unbounded_channel();
    let started = Instant::now();
    // The timers of the runtime know milliseconds only.
    thread::spawn(move || {
        for at in times {
            thread::sleep(at.saturating_sub(started.elapsed()));
            if tick.send(()).is_err() {
                return;
            }
        }
    });
    let mut running = Vec::with_capacity(bodies.len());
    for (number, body) in bodies.into_iter().enumerate() {
        ticks.recv().await.context("the clock of the load has failed")?;
        let due = Instant::now();
        let line = free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (free, target) = (Arc::clone(&free), target.clone());
        running.push(tokio::spawn(async move {
            let mut line = match line {
                Some(line) => line,
                None => Line::open(&target).await?,
            };
            let content = line.ask(body).await?;
            let took = due.elapsed();
            free.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            Ok::<_, anyhow::Error>((took, number, content))
        }));
    }
    let (mut latencies, mut answers) = (Vec::with_capacity(running.len()), Vec::new());
    for request in running {
        let (took, number, content) = request.await.context("a request of the load has failed")??;
        latencies.push(took);
        if !content.is_empty() {
            answers.push((number, content));
        }
    }
    let took = started.elapsed();
    latencies.sort_unstable();
    Ok(Sent { took, latencies, answers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_leave_at_the_rate_and_not_in_step() {
        let mut state = 1_u64;
        let draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(state >> 32).unwrap()) / 4_294_967_296.0
        };
        let times = times(10_001, 1_000.0, draw);
        let seconds = times.last().unwrap().as_secs_f64();
        assert!((9.6..10.4).contains(&seconds), "{seconds}");
        let gaps: Vec<f64> = times
            .iter()
            .zip(&times[1..])
            .map(|(one, next)| next.saturating_sub(*one).as_secs_f64())
            .collect();
        let short = gaps.iter().filter(|gap| **gap < 0.001).count();
        // 1 - 1/e of the gaps of a Poisson process are shorter than their mean.
        assert!((6_100..6_540).contains(&short), "{short}");
    }
}
