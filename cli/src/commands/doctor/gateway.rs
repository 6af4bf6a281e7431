//! What can be wrong inside of a gateway: its database, its keys, and the memory of what it has answered.

use std::collections::BTreeMap;

use mica_envelope::Kem;
use mica_gateway::keys::{self, KeyFacts, Schedule};
use mica_gateway::{Config, MIGRATOR, Remembered};
use mica_service::clock::Clock;
use mica_service::key_life::KeyState;
use mica_service::store::Store;

use super::finding::Finding;
use crate::exit::{Exit, Failure};

/// Looks into the database and changes nothing. `database` is its URL with the path as the server takes it.
pub(super) async fn examine(config: &Config, database: &str, findings: &mut Vec<Finding>) {
    let store = match Store::open_to_read(database, &MIGRATOR).await {
        Ok(Some(store)) => store,
        Ok(None) => {
            let todo = "start the server once: it makes the tables and a key";
            findings.push(Finding::warn("database", "there is no database yet", todo));
            return;
        }
        Err(error) => return findings.push(failed("the database", &error.into())),
    };
    findings.push(Finding::ok("database", "the database answers and has this version's tables"));
    if let Err(failure) = inside(&store, config, findings).await {
        findings.push(failed("reading the database", &failure));
    }
    store.close().await;
}

fn failed(what: &str, failure: &Failure) -> Finding {
    // Whatever else it is, a file that is no database is of no use.
    let exit = if failure.exit() == Exit::Unreachable { Exit::Unreachable } else { Exit::Invalid };
    Finding::fail("database", what, failure.to_string(), exit)
}

async fn inside(store: &Store, config: &Config, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let now = Clock::system().now();
    // What is wrong with the schedule was said of the configuration.
    if let Ok(schedule) = config.schedule() {
        of_keys(&keys::list(store, &schedule).await?, &schedule, now, findings);
    }
    let held = mica_gateway::remembered(store, &config.replay, now).await?;
    findings.push(of_memory(held, config.replay.max_requests, config.replay.max_bytes));
    Ok(())
}

/// One line of the states, and one for each KEM of what clients are told.
fn of_keys(keys: &[KeyFacts], schedule: &Schedule, now: u64, findings: &mut Vec<Finding>) {
    let mut states = BTreeMap::<&str, usize>::new();
    for key in keys {
        *states.entry(key.life.state.word()).or_default() += 1;
    }
    let counts: Vec<String> = states.iter().map(|(state, keys)| format!("{keys} {state}")).collect();
    findings.push(if keys.is_empty() {
        Finding::warn("keys", "there is no key yet", "start the server once: it makes one")
    } else {
        Finding::ok("keys", format!("keys: {}", counts.join(", ")))
    });
    findings.extend(schedule.kems().iter().filter(|_| !keys.is_empty()).map(|kem| of_kem(*kem, keys, now)));
}

fn of_kem(kem: Kem, keys: &[KeyFacts], now: u64) -> Finding {
    let name = kem.name();
    let mut of_kem = keys.iter().filter(|key| key.kem == Some(kem));
    let Some(key) = of_kem.clone().find(|key| key.life.state == KeyState::Advertised) else {
        let what = format!("no {name} key is advertised");
        return if of_kem.any(|key| key.life.state == KeyState::Pending) {
            Finding::ok("keys", format!("{what} yet: one is pending, for a minute"))
        } else {
            Finding::warn("keys", what, "start the server: it makes one")
        };
    };
    let age = now.saturating_sub(key.life.entered_at);
    let what = format!("the {name} key that is advertised, {}, has been so for {}", key.key_id, span(age));
    match key.until.map(|until| now.saturating_sub(until)) {
        Some(late) if late > PATIENCE_SECONDS => {
            let todo = format!(
                "it was to be replaced {} ago: does the server run, does its clock show the time, and is a key before \
                 it still accepted (`mica keys list`)?",
                span(late)
            );
            Finding::warn("keys", what, todo)
        }
        _ => Finding::ok("keys", what),
    }
}

fn of_memory(held: Option<Remembered>, max_requests: usize, max_bytes: usize) -> Finding {
    let Some(held) = held.filter(|held| held.seconds_left > 0) else {
        return Finding::ok("memory", "nothing is remembered of this window");
    };
    let Remembered { requests, bytes, seconds_left } = held;
    let what = format!(
        "{requests} of {max_requests} requests and {bytes} of {max_bytes} bytes of answers are remembered, for {} more",
        span(seconds_left)
    );
    if requests >= max_requests {
        let todo =
            "new requests are told 503 until then: raise replay.max_requests, or have relays limit clients";
        Finding::warn("memory", what, todo)
    } else if requests >= max_requests / 5 * 4 {
        Finding::warn("memory", what, "nearly full: raise replay.max_requests, or have relays limit clients")
    } else if bytes >= max_bytes / 2 {
        let todo = "of longer answers is kept only that they were given: raise replay.max_bytes";
        Finding::warn("memory", what, todo)
    } else {
        Finding::ok("memory", what)
    }
}

/// In the largest unit of which there are two.
fn span(seconds: u64) -> String {
    match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7_200.. => format!("{} hours", seconds / 3_600),
        120.. => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

/// A server that is stopped for a moment is not late.
const PATIENCE_SECONDS: u64 = 3_600;

#[cfg(test)]
mod tests {
    use mica_service::key_life::KeyLife;

    use super::*;
    use crate::commands::doctor::finding::Grade;

    fn key(state: KeyState, entered_at: u64, until: Option<u64>) -> KeyFacts {
        let life = KeyLife { state, created_at: 0, entered_at, leaves_at: until, cached_for: 0 };
        KeyFacts { key_id: 7, kem: Some(Kem::X25519HkdfSha256), life, until }
    }

    #[test]
    fn a_key_that_is_overdue_or_missing_is_pointed_out() {
        let found = |keys: &[KeyFacts], now| of_kem(Kem::X25519HkdfSha256, keys, now);
        let advertised = key(KeyState::Advertised, 1_000, Some(50_000));
        let fresh = found(&[advertised], 50_000 + PATIENCE_SECONDS);
        assert!(fresh.grade == Grade::Ok && fresh.what.ends_with("7, has been so for 14 hours"), "{fresh}");
        let late = found(&[advertised], 50_001 + PATIENCE_SECONDS);
        assert!(late.grade == Grade::Warn && late.todo.contains("replaced 60 minutes ago"), "{late}");
        let pending = key(KeyState::Pending, 1_000, Some(1_060));
        assert_eq!(found(&[pending], 1_010).grade, Grade::Ok);
        assert_eq!(found(&[key(KeyState::Accepted, 0, None)], 1_010).grade, Grade::Warn);
    }

    #[test]
    fn a_memory_is_pointed_out_before_it_is_full() {
        let grade = |requests, bytes, seconds_left| {
            of_memory(Some(Remembered { requests, bytes, seconds_left }), 100, 1_000).grade
        };
        assert_eq!(
            [grade(79, 499, 1), grade(80, 0, 1), grade(100, 0, 1)],
            [Grade::Ok, Grade::Warn, Grade::Warn]
        );
        assert_eq!([grade(0, 500, 1), grade(100, 1_000, 0)], [Grade::Warn, Grade::Ok]);
        assert_eq!(of_memory(None, 100, 1_000).grade, Grade::Ok);
    }
}
