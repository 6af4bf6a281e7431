//! Many clients that were served once and stay connected.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;

use super::costs::Ruler;
use super::figures::{Idle, OURS};
use super::stage::{Plan, RelayKind, Stage};
use crate::load::{Http, Line};
use crate::procfs;
use crate::workload;

/// Our relay over both versions of HTTP, and another one, if there is one.
pub(super) async fn measure(ruler: &Ruler<'_>) -> Result<Vec<Idle>> {
    let mut rows = Vec::new();
    let other = ruler.options.other_relay.as_deref().map(RelayKind::Other);
    let cases = Http::BOTH.map(|http| (OURS, RelayKind::Ours, http)).into_iter();
    for (name, relay, http) in cases.chain(other.map(|other| ("ohttp-relay 0.0.11", other, Http::One))) {
        ruler.progress.step(&format!("idle connections, {name}, {}", http.name()));
        rows.push(one(ruler, name, relay, http).await?);
    }
    Ok(rows)
}

async fn one(ruler: &Ruler<'_>, name: &'static str, relay: RelayKind<'_>, http: Http) -> Result<Idle> {
    let connections = ruler.options.idle;
    let most = connections + SPARE;
    let lines = format!("max_connections = {most}\nmax_connections_per_client = {most}");
    let stage = Stage::start(&Plan { relay, relay_lines: &lines, ..ruler.plan(None) }).await?;
    let (bodies, openers) = ruler.work.sealed(&stage.keys, usize::try_from(connections)?)?;
    let (before, _) = procfs::memory(stage.relay.pid)?;
    let target = stage.through_relay(http);
    let (mut kept, mut answers) = (Vec::with_capacity(bodies.len()), Vec::new());
    let mut bodies = bodies.into_iter().enumerate();
    loop {
        let some: Vec<(usize, Bytes)> = bodies.by_ref().take(AT_ONCE).collect();
        if some.is_empty() {
            break;
        }
        let running: Vec<_> = some
            .into_iter()
            .map(|(number, body)| {
                let target = target.clone();
                tokio::spawn(async move {
                    let mut line = Line::open(&target).await?;
                    let content = line.ask(body).await?;
                    Ok::<_, anyhow::Error>((line, number, content))
                })
            })
            .collect();
        for one in running {
            let (line, number, content) = one.await.context("a client has failed")??;
            kept.push(line);
            answers.push((number, content));
        }
    }
    workload::open_answers(openers, answers)?;
    tokio::time::sleep(REST).await;
    let (after, _) = procfs::memory(stage.relay.pid)?;
    let open = kept.iter().filter(|line| !line.is_closed()).count();
    ensure!(open == kept.len(), "only {open} of {} connections are still open", kept.len());
    stage.stop().await?;
    Ok(Idle::new(name, http, connections, before, after))
}

/// For whoever asks the relay how it is.
const SPARE: u32 = 100;
/// How long they have been idle when they are counted: an allocator gives back what was not used for some seconds.
const REST: Duration = Duration::from_secs(15);
/// Clients that come at the same time.
const AT_ONCE: usize = 64;
