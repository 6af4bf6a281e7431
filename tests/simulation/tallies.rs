//! The judge's books: every report that the leader took has met one end, and that end is counted.

use crate::model::{Fate, Violation};
use crate::oracle::may_be_refused;
use crate::plan::{Flaw, KeyLives};
use crate::records;
use crate::world::World;

/// What is wrong with the tallies of both, of which so many reports are released.
pub(crate) async fn check(world: &World, released: u64) -> Vec<Violation> {
    let (leader, helper) = (&world.records.leader, &world.records.helper);
    let mut found = Vec::new();
    let aggregated = records::tally(leader, "aggregated").await;
    let by_helper = records::tally(helper, "aggregated").await;
    if aggregated != released || by_helper != released {
        let detail = format!("{aggregated} and {by_helper} reports were aggregated, {released} are released");
        found.push(Violation::Disagreement(detail));
    }
    let mut refused = 0;
    for (label, flaws) in REFUSALS {
        let told = records::tally(leader, label).await;
        let (least, most) = bounds(world, label, flaws);
        if !(least..=most).contains(&told) {
            let detail = format!("{told} reports count as {label}, there were {least} to {most}");
            found.push(Violation::Wrong(detail));
        }
        refused += told;
    }
    let uploaded = records::tally(leader, "uploaded").await;
    let ended = aggregated + refused;
    // Draft 19 has one name for a key that is gone, whether a report was taken before or not.
    let unclear = records::tally(leader, "hpke_unknown_config_id").await;
    let unclear = if world.around.setting.keys == KeyLives::Short { unclear } else { 0 };
    if !(ended..=ended + unclear).contains(&uploaded) {
        let all = records::tallies(leader).await;
        let detail =
            format!("{uploaded} reports were taken, {aggregated} aggregated and {refused} refused: {all}");
        found.push(Violation::Lost(detail));
    }
    found
}

/// How many reports count under a label at the least and at the most.
fn bounds(world: &World, label: &str, flaws: &[Flaw]) -> (u64, u64) {
    let (setting, reports) = (&world.around.setting, &world.model.reports);
    let with = |fates: &[Fate]| {
        let flawed = reports.iter().filter(|sent| sent.flaw.is_some_and(|flaw| flaws.contains(&flaw)));
        flawed.filter(|sent| fates.contains(&sent.fate)).count() as u64
    };
    let taken = [Fate::Accepted, Fate::Settled, Fate::Unknown];
    let short = setting.keys == KeyLives::Short;
    let also = (short && label == "hpke_decrypt_error") || (setting.helper_behind > 0 && label == CLOSING);
    let excused =
        (0..reports.len()).filter(|at| taken.contains(&reports[*at].fate) && may_be_refused(world, *at));
    let excused = if also { excused.count() as u64 } else { 0 };
    // What is wrong with a report may also be found after its key is gone, or not at all because it was too early.
    let least = if short || setting.helper_behind > 0 { 0 } else { with(&[Fate::Accepted]) };
    (least, with(&taken) + excused)
}

/// Too early for the helper, and too late for the next job.
const CLOSING: &str = "batch_collected";

/// How the refusals of a run are counted, and what is wrong with the reports.
const REFUSALS: [(&str, &[Flaw]); 3] = [
    ("vdaf_verify_error", &[Flaw::BadProof]),
    ("hpke_decrypt_error", &[Flaw::DamagedLeaderShare, Flaw::DamagedHelperShare]),
    (CLOSING, &[]),
];
