//! The end of a run: everything is repaired, everybody works until nothing is left to do, and the rest is collected.

use std::collections::BTreeSet;

use mica_dap::id::ReportId;
use mica_dap::time::{Interval, Time};

use crate::actions;
use crate::model::{Fate, Violation};
use crate::plan::{Action, KeyLives, Step};
use crate::records::{self, Released};
use crate::task::PRECISION;
use crate::world::World;

/// Brings a run to its end. A violation: it has none.
pub(crate) async fn settle(world: &mut World) -> Result<(), Violation> {
    world.heal().await;
    send_again(world).await;
    quiet(world).await?;
    world.model.drained_at = world.around.clock.now();
    // From here on nothing is too early for the helper any more.
    world.wait(world.around.setting.helper_behind).await;
    if world.is_leader_selected() { take_batches(world).await } else { take_intervals(world).await }
}

/// Collects one interval after the other until no accepted report is left.
async fn take_intervals(world: &mut World) -> Result<(), Violation> {
    for _ in 0..SWEEPS {
        let released = records::released(&world.records.leader).await;
        let Some((gap, missing)) = gap(world, &released) else {
            learn_results(world, 0).await;
            return Ok(());
        };
        fill(world, gap, missing).await;
        let known = world.model.asked.len();
        let doing = actions::ask(world, gap);
        world.drive(doing).await;
        quiet(world).await?;
        learn_results(world, known).await;
        if world.model.retired {
            give_up_empty(world, gap).await;
        }
    }
    let left = gap(world, &records::released(&world.records.leader).await);
    Err(Violation::Stuck(format!("after {SWEEPS} collections there is still something left: {left:?}")))
}

/// Collects one batch after the other until no verified report is left. What does not fill a batch is filled up.
async fn take_batches(world: &mut World) -> Result<(), Violation> {
    for _ in 0..BATCHES {
        for at in 0..world.model.asked.len() {
            // Also what it has deleted before: whether that arrived it may not know.
            if world.model.asked[at].outcome.is_some() {
                let doing = actions::delete(world, at);
                world.drive(doing).await;
            }
        }
        let released = records::released(&world.records.leader).await;
        let counted: u64 = released.iter().map(|release| release.report_count).sum();
        if records::tally(&world.records.leader, "aggregated").await <= counted {
            return Ok(());
        }
        let known = world.model.asked.len();
        let doing = actions::ask_next(world);
        world.drive(doing).await;
        quiet(world).await?;
        learn_results(world, known.saturating_sub(1)).await;
        if world.model.asked.iter().skip(known.saturating_sub(1)).all(|asked| asked.outcome.is_none()) {
            let now = world.around.helper_clock.now() / PRECISION;
            let unit = Interval::unit(Time(now)).expect("it is not the end of time");
            fill(world, unit, 1).await;
            quiet(world).await?;
        }
    }
    Err(Violation::Stuck(format!("after {BATCHES} batches there is still something left")))
}

/// Clients that were not answered ask again, as they would.
async fn send_again(world: &mut World) {
    let unknown = |world: &World| {
        let reports = world.model.reports.iter().enumerate();
        let open = reports.filter(|(_, sent)| sent.fate == Fate::Unknown);
        open.map(|(at, _)| at).take(SENT_AT_ONCE).collect::<Vec<_>>()
    };
    for _ in 0..SWEEPS {
        let Some(doing) = actions::upload(world, unknown(world)) else { return };
        world.drive(doing).await;
    }
}

/// Everybody works until nothing is under way.
async fn quiet(world: &mut World) -> Result<(), Violation> {
    for _ in 0..ROUNDS {
        // What was just asked for is due after what was just looked at.
        world.wait(1).await;
        for leader in 0..world.leaders.len() {
            let aggregate = || Action::Aggregate { leader };
            for action in
                [aggregate(), Action::Answer, aggregate(), Action::Answer, Action::Collect { leader }]
            {
                world.take(&Step { action, faults: Vec::new(), stop: None }).await;
            }
        }
        if !records::under_way(&world.records.leader).await {
            return Ok(());
        }
        world.wait(PAUSE).await;
    }
    let why = records::last_errors(&world.records.leader).await;
    Err(Violation::Stuck(format!("after {ROUNDS} rounds work is still under way: {why}")))
}

/// An interval that holds accepted reports and was not released, and how many reports it lacks.
fn gap(world: &World, released: &[Released]) -> Option<(Interval, u64)> {
    // What is settled was refused as there already: it is there, or its namesake, or its time was closed by then.
    let times = |fates: &'static [Fate]| {
        let sent = world.model.reports.iter().filter(|sent| fates.contains(&sent.fate) && sent.is_good());
        sent.map(|sent| sent.report.metadata.time)
    };
    let taken = |time: Time| released.iter().any(|release| release.covers(time));
    let open: BTreeSet<Time> = times(&[Fate::Accepted, Fate::Settled]).filter(|time| !taken(*time)).collect();
    let start = *open.first()?;
    let last =
        open.iter().copied().take_while(|time| (start.0..=time.0).all(|unit| !taken(Time(unit)))).last()?;
    let gap = Interval::between(start, Time(last.0 + 1)).expect("it is not empty");
    let there = times(&[Fate::Accepted]).filter(|time| gap.contains(*time)).count() as u64;
    let setting = &world.around.setting;
    // Of those that were accepted some may be refused with a reason after all.
    let certain = if setting.helper_behind > 0 || setting.keys == KeyLives::Short { 0 } else { there };
    Some((gap, setting.min_batch_size.saturating_sub(certain)))
}

/// An ended task takes nothing that could fill an interval in which nothing is: what was refused there was not taken the
/// time before either.
async fn give_up_empty(world: &mut World, gap: Interval) {
    let released = records::released(&world.records.leader).await;
    if released.iter().any(|release| release.covers(gap.start())) {
        return;
    }
    for sent in &mut world.model.reports {
        if sent.fate == Fate::Settled && gap.contains(sent.report.metadata.time) {
            sent.fate = Fate::Refused;
        }
    }
}

/// Sends as many good reports as the interval lacks.
async fn fill(world: &mut World, gap: Interval, missing: u64) {
    if world.model.retired {
        return;
    }
    world.list_keys_again().await;
    let name = || ReportId::random(&mut rand::rng());
    let fresh = (0..missing).filter_map(|_| actions::fresh(world, name(), gap.start(), None)).collect();
    if let Some(doing) = actions::upload(world, fresh) {
        world.drive(doing).await;
    }
}

/// The collector looks at its collections, from this one on.
async fn learn_results(world: &mut World, from: usize) {
    for at in from..world.model.asked.len() {
        let doing = actions::poll(world, at);
        world.drive(doing).await;
    }
}

/// More than any backoff there is, so that each round everything is due.
const PAUSE: u64 = 4_000;
/// Of everybody's work, each with a pause after it.
const ROUNDS: usize = 150;
/// More than there can be gaps.
const SWEEPS: usize = 60;
/// More than there can be batches, and reports to fill them.
const BATCHES: usize = 150;
/// Fewer than a leader takes at once.
const SENT_AT_ONCE: usize = 8;
