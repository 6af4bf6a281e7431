//! The judge of a run: every report that was accepted is in exactly one release, and nothing else is in any.
//!
//! It opens the shares of every release that the two databases hold, whether the collector ever saw it or not; those that the
//! helper has forgotten as they were when it gave them. Each report
//! has a bucket of its own, so a sum tells which reports are in it and how often.

use mica_dap::batch::Checksum;
use mica_dap::codec::Decode as _;
use mica_dap::hpke::{self, AggregateShareAad, Label, Role};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::time::Interval;

use crate::actions;
use crate::model::{Fate, Model, Violation};
use crate::noised;
use crate::plan::Noise;
use crate::records::{self, Released};
use crate::tallies;
use crate::task::Task;
use crate::world::World;

/// Everything that is wrong with a run that has come to its end.
pub(crate) async fn judge(world: &World) -> Vec<Violation> {
    let (leader, helper) = (&world.records.leader, &world.records.helper);
    let mut found = world.model.violations.clone();
    found.extend(world.around.wires.contradictions().into_iter().map(Violation::Contradiction));
    let releases = records::released(leader).await;
    let mut of_helper = records::released(helper).await;
    for release in of_helper.iter_mut().filter(|release| release.sealed_share.is_empty()) {
        let given = release.share_id.as_ref().and_then(|id| world.around.wires.share(id));
        release.sealed_share = given.map(Vec::from).unwrap_or_default();
    }
    found.extend(agreement(&releases, &of_helper));
    let mut opened = Vec::new();
    let mut counted = vec![0_u32; world.model.reports.len()];
    for release in &releases {
        let Some(other) = of_helper.iter().find(|other| other.batch_key == release.batch_key) else {
            continue;
        };
        match open(&world.around.task, release, other) {
            Ok(values) => {
                if world.around.setting.noise == Noise::None {
                    found.extend(check_sum(world, release, &values, &mut counted));
                }
                opened.push((release.interval(), release.report_count, values));
            }
            Err(why) => found.push(Violation::Wrong(why)),
        }
    }
    found.extend(check_outcomes(&world.model, &opened));
    match world.around.setting.noise {
        Noise::None => found.extend(once_each(world, &counted)),
        Noise::Drawn => {
            found.extend(noised::judge(world, &releases, &opened));
            found.extend(noised::check_charges(world, releases.len() as u64).await);
        }
    }
    let total = releases.iter().map(|release| release.report_count).sum();
    found.extend(tallies::check(world, total).await);
    if records::unsettled_releases(leader).await + records::unsettled_releases(helper).await > 0 {
        found.push(Violation::Stuck("a release is neither committed nor refunded".to_owned()));
    }
    found
}

/// Both have released the same batches, of the same reports, and no two that overlap.
fn agreement(leader: &[Released], helper: &[Released]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut disagree = |what: String| found.push(Violation::Disagreement(what));
    for (one, other, who) in [(leader, helper, "leader"), (helper, leader, "helper")] {
        for release in one {
            let interval = release.interval();
            match other.iter().find(|other| other.batch_key == release.batch_key) {
                None => disagree(format!("the {who} alone has released {interval:?}")),
                Some(it) if (it.report_count, it.checksum) != (release.report_count, release.checksum) => {
                    disagree(format!("count or checksum of {interval:?} differ"));
                }
                Some(_) => {}
            }
        }
    }
    for (at, release) in leader.iter().enumerate() {
        for later in leader.iter().skip(at + 1) {
            let both = release.interval().zip(later.interval());
            if both.is_some_and(|(one, other)| one.overlaps(&other)) || release.batch_key == later.batch_key {
                disagree(format!("two releases of the same reports: {both:?}"));
            }
        }
    }
    found
}

/// The sum of a release, as the collector would open it.
fn open(task: &Task, leader: &Released, helper: &Released) -> Result<Vec<i128>, String> {
    let aad = aad(task, &leader.request);
    let share = |role: Role, release: &Released| {
        let sealed = HpkeCiphertext::decoded(&release.sealed_share).ok()?;
        hpke::open(&task.collector, &Label::AggregateShare(role).info(task.draft), &aad, &sealed).ok()
    };
    let one = share(Role::Leader, leader).ok_or("the leader's share of a release cannot be opened")?;
    let other = share(Role::Helper, helper).ok_or("the helper's share of a release cannot be opened")?;
    task.vdaf
        .unshard_signed(&task.parameter, &one, &other, leader.report_count)
        .map_err(|error| error.to_string())
}

/// What the shares of a release are sealed with, beside the collector's key.
pub(crate) fn aad(task: &Task, request: &[u8]) -> Vec<u8> {
    AggregateShareAad {
        task_id: &task.id,
        task_configuration: task.configuration.bytes(),
        collection_job_req: request,
    }
    .encoded()
}

/// Each bucket is empty or holds its one report, which belongs there.
fn check_sum(world: &World, release: &Released, values: &[i128], counted: &mut [u32]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut checksum = Checksum::default();
    let mut total = 0;
    for (at, value) in values.iter().enumerate().filter(|(_, value)| **value != 0) {
        let Some(sent) = world.model.reports.get(at).filter(|_| (1..1_000).contains(value)) else {
            found.push(Violation::Wrong(format!("bucket {at}, which nobody measured, holds {value}")));
            continue;
        };
        if *value > 1 {
            found.push(Violation::Doubled(format!("report {at} counts {value} times in one release")));
        }
        let time = sent.report.metadata.time;
        if release.interval().is_some() && !release.covers(time) {
            found.push(Violation::Wrong(format!("report {at} of {time:?} is in {:?}", release.interval())));
        }
        // A doubled message may be taken after its first was refused: an interval that was closing is open again once its
        // collection is given up. The client heard one answer of the two.
        let refused = sent.fate == Fate::Refused && !world.around.wires.was_repeated(&sent.name());
        if !sent.is_good() || refused {
            let detail = format!("report {at} is counted ({:?}, {:?})", sent.flaw, sent.fate);
            found.push(Violation::Wrong(detail));
        }
        checksum = checksum.combine(Checksum::of(&sent.name()));
        total += value;
        counted[at] += 1;
    }
    if total != i128::from(release.report_count) || checksum != release.checksum {
        let detail = format!("{total} reports are summed, {} are told of", release.report_count);
        found.push(Violation::Wrong(detail));
    }
    found
}

/// What the collector was told of an interval is what was released. Where the leader selects it is one of the releases.
fn check_outcomes(model: &Model, releases: &[(Option<Interval>, u64, Vec<i128>)]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, asked) in model.asked.iter().enumerate() {
        let Some(outcome) = &asked.outcome else { continue };
        let same = |(interval, count, values): &(Option<Interval>, u64, Vec<i128>)| {
            *interval == asked.interval && *count == outcome.report_count && *values == outcome.values
        };
        if !releases.iter().any(same) {
            let detail =
                format!("the collector was told something about collection {at} that was not released");
            found.push(Violation::Contradiction(detail));
        }
    }
    found
}

/// Whatever was accepted is in one release, of each name at most one report, and nothing is in two.
fn once_each(world: &World, counted: &[u32]) -> Vec<Violation> {
    let (mut found, reports) = (Vec::new(), &world.model.reports);
    for (at, (sent, times)) in reports.iter().zip(counted).enumerate() {
        if *times == 0 && sent.is_good() && sent.fate == Fate::Accepted && !may_be_refused(world, at) {
            let time = sent.report.metadata.time;
            found.push(Violation::Lost(format!("report {at} of {time:?} was accepted and is in no release")));
        }
        if *times > 1 {
            found.push(Violation::Doubled(format!("report {at} is in {times} releases")));
        }
        let twins = reports.iter().zip(counted).skip(at + 1);
        let twins = twins.filter(|(twin, others)| twin.name() == sent.name() && **others > 0);
        if *times > 0 && twins.count() > 0 {
            found.push(Violation::Doubled(format!("two reports of the name of report {at} are counted")));
        }
    }
    found
}

/// Whether a good report that was accepted may have been refused after all, with a reason that is counted: its key was
/// destroyed before it could be opened, or it was too early for the helper when its interval closed.
pub(crate) fn may_be_refused(world: &World, report: usize) -> bool {
    let (time, model) = (world.model.reports[report].report.metadata.time, &world.model);
    let closing = model.intervals.iter().any(|interval| interval.contains(time));
    let behind = world.around.setting.helper_behind > 0;
    (behind && closing) || actions::may_be_outdated(world, report, model.drained_at)
}
