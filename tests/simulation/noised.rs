//! The judge where totals leave with noise: which reports a release holds is told by its count and its checksum, which DAP
//! leaves exact; each value may be as far from the truth as the noise goes, and something must be.

use std::collections::BTreeMap;

use mica_dap::batch::Checksum;
use mica_dap::id::ReportId;
use mica_dap::time::{Interval, Time};
use mica_dp::NoiseOf;

use crate::model::{Fate, Violation};
use crate::oracle::may_be_refused;
use crate::records::{self, Released};
use crate::task::BUCKETS;
use crate::world::World;

/// Releases of which together it is known what must be in them.
struct Group {
    interval: Option<Interval>,
    count: u64,
    checksum: Checksum,
    values: Vec<i128>,
    releases: u64,
}

/// Everything that is wrong with the releases of a run.
pub(crate) fn judge(
    world: &World,
    releases: &[Released],
    opened: &[(Option<Interval>, u64, Vec<i128>)],
) -> Vec<Violation> {
    if releases.len() != opened.len() {
        return vec![Violation::Wrong("a release cannot be opened".to_owned())];
    }
    let mut groups: Vec<Group> = Vec::new();
    for (release, (interval, count, values)) in releases.iter().zip(opened) {
        let group = Group {
            interval: *interval,
            count: *count,
            checksum: release.checksum,
            values: values.clone(),
            releases: 1,
        };
        // Which of the batches of its choice a report is in, only the leader knows.
        match groups.last_mut().filter(|_| world.is_leader_selected()) {
            Some(all) => all.add(group),
            None => groups.push(group),
        }
    }
    let mut found: Vec<Violation> = groups.iter().flat_map(|group| group.judge(world)).collect();
    let covered =
        |time: Time| world.is_leader_selected() || releases.iter().any(|release| release.covers(time));
    for (at, sent) in world.model.reports.iter().enumerate() {
        let certain = sent.is_good() && sent.fate == Fate::Accepted && !may_be_refused(world, at);
        if certain && (groups.is_empty() || !covered(sent.report.metadata.time)) {
            found.push(Violation::Lost(format!("report {at} was accepted and is in no release")));
        }
    }
    found
}

/// Each release was charged once, whatever happened on the way to it.
pub(crate) async fn check_charges(world: &World, releases: u64) -> Vec<Violation> {
    let mut found = Vec::new();
    for (who, store) in [("leader", &world.records.leader), ("helper", &world.records.helper)] {
        let (charged, refunded) = records::charges(store).await;
        if charged != releases + refunded {
            let detail = format!(
                "the {who} has charged {charged} times and given {refunded} back for {releases} releases"
            );
            found.push(Violation::Wrong(detail));
        }
    }
    found
}

impl Group {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.checksum = self.checksum.combine(other.checksum);
        self.releases += other.releases;
        for (sum, value) in self.values.iter_mut().zip(other.values) {
            *sum += value;
        }
    }

    fn judge(&self, world: &World) -> Vec<Violation> {
        let (certain, possible) = self.reports(world);
        let Some(chosen) = self.choose(&certain, &possible) else {
            let (interval, least) = (self.interval, certain.len());
            let detail =
                format!("{} reports of {interval:?} are not the {least} that were accepted", self.count);
            return vec![Violation::Lost(detail)];
        };
        let mut truth = vec![0_i128; BUCKETS];
        for bucket in certain.values().chain(chosen) {
            truth[*bucket] += 1;
        }
        let mechanism = world.around.task.mechanism.as_ref().expect("this task has noise");
        let width = mechanism.half_width(1.0 - 1e-12, NoiseOf::BothAggregators);
        // A namesake of a report may be the one that is counted, in a bucket of its own.
        let width = u128::from(width * self.releases + 1);
        let off: Vec<u128> =
            self.values.iter().zip(&truth).map(|(value, truth)| value.abs_diff(*truth)).collect();
        let mut found = Vec::new();
        if let Some(far) = off.iter().find(|off| **off > width) {
            found.push(Violation::Wrong(format!(
                "a value is {far} from the truth, no noise is above {width}"
            )));
        }
        if off.iter().all(|off| *off <= 1) {
            found.push(Violation::Wrong(format!("a release of {} reports has no noise", self.count)));
        }
        found
    }

    /// The names of the reports that must be in it, and of those that may be, each with its bucket.
    fn reports(&self, world: &World) -> (BTreeMap<ReportId, usize>, BTreeMap<ReportId, usize>) {
        let (mut certain, mut possible) = (BTreeMap::new(), BTreeMap::new());
        for (at, sent) in world.model.reports.iter().enumerate() {
            let time = sent.report.metadata.time;
            if !sent.is_good() || self.interval.is_some_and(|interval| !interval.contains(time)) {
                continue;
            }
            let repeated = world.around.wires.was_repeated(&sent.name());
            match sent.fate {
                Fate::Accepted if !may_be_refused(world, at) => certain.insert(sent.name(), at),
                Fate::Refused if !repeated => continue,
                _ => possible.insert(sent.name(), at),
            };
        }
        possible.retain(|name, _| !certain.contains_key(name));
        (certain, possible)
    }

    /// Which of the possible reports are in it beside the certain ones, as count and checksum say.
    fn choose<'m>(
        &self,
        certain: &BTreeMap<ReportId, usize>,
        possible: &'m BTreeMap<ReportId, usize>,
    ) -> Option<Vec<&'m usize>> {
        let least = certain.len() as u64;
        let more = u32::try_from(self.count.checked_sub(least)?).ok()?;
        let rest = certain.keys().map(Checksum::of).fold(self.checksum, Checksum::combine);
        let sums: Vec<Checksum> = possible.keys().map(Checksum::of).collect();
        if sums.len() > MOST_POSSIBLE {
            // Too many to try; the exact books say the rest.
            return (more as usize <= sums.len()).then(Vec::new);
        }
        let fits = |set: &u32| {
            let of_set = sums.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
            let (zero, sums) = (Checksum::default(), of_set.map(|(_, sum)| *sum));
            set.count_ones() == more && sums.fold(zero, Checksum::combine) == rest
        };
        let set = (0..1_u32 << sums.len()).find(fits)?;
        Some(
            possible
                .values()
                .enumerate()
                .filter(|(at, _)| set >> at & 1 == 1)
                .map(|(_, bucket)| bucket)
                .collect(),
        )
    }
}

/// Reports of which it is not known whether they were taken.
const MOST_POSSIBLE: usize = 16;
