//! The oracle sees what it is there to see: systems with one defect each. The same run without the defect passes, and with
//! it fails for the reason that is named.

use mica_dap::Draft;
use mica_dap::task::BatchMode;

use crate::model::Violation;
use crate::plan::{Action, Comes, Counted, Fault, KeyLives, Noise, Party, Sabotage, Sending, Setting, Step};
use crate::run::{On, run};

const SETTING: Setting = Setting {
    draft: Draft::V18,
    batch_mode: BatchMode::TimeInterval,
    min_batch_size: 2,
    target_size: 2,
    deferred: false,
    leaders: 1,
    counted: Counted::Buckets,
    noise: Noise::None,
    comes: Comes::ByFile,
    keys: KeyLives::Long,
    retires: false,
    helper_behind: 0,
    job_reports: 100,
    helper_takes: 100,
};

const NOISED: Setting = Setting { noise: Noise::Drawn, ..SETTING };

const UPLOAD: [Sending; 3] = [Sending::Fresh { age: 0, flaw: None }; 3];
const AGGREGATE: Action = Action::Aggregate { leader: 0 };
const ASK: Action = Action::Ask { leader: 0, start: 5, units: 1 };
const COLLECT: Action = Action::Collect { leader: 0 };
const POLL: Action = Action::Poll { leader: 0, which: 0 };

fn calm(action: Action) -> Step {
    Step { action, faults: Vec::new(), stop: None }
}

fn upload() -> Action {
    Action::Upload { leader: 0, reports: UPLOAD.to_vec() }
}

/// What is found with the sabotage among the steps; without it, nothing is.
fn found(setting: Setting, steps: &[Step]) -> Vec<Violation> {
    let is_defect = |step: &Step| matches!(step.action, Action::Sabotage(_));
    let sound: Vec<Step> = steps.iter().filter(|step| !is_defect(step)).cloned().collect();
    assert!(sound.len() < steps.len(), "there is a defect to be found");
    assert_eq!(run(On::Sqlite, setting, &sound), [], "without the defect");
    run(On::Sqlite, setting, steps)
}

fn found_in(setting: Setting, actions: Vec<Action>) -> Vec<Violation> {
    found(setting, &actions.into_iter().map(calm).collect::<Vec<_>>())
}

fn says(violation: &Violation, words: &str) -> bool {
    violation.to_string().contains(words)
}

#[test]
fn a_report_that_counts_twice_is_found() {
    let again = Action::Sabotage(Sabotage::ForgetIdentifiers);
    let found = found_in(SETTING, vec![upload(), AGGREGATE, again, AGGREGATE]);
    assert!(found.iter().any(|it| says(it, "doubled: report 0 counts 2 times")), "{found:?}");
}

#[test]
fn a_helper_that_counts_a_report_in_two_jobs_is_found() {
    for batch_mode in [BatchMode::TimeInterval, BatchMode::LeaderSelected] {
        let forget = Action::Sabotage(Sabotage::ForgetAtHelper);
        let replay = Action::Replay { which: 0 };
        let setting = Setting { batch_mode, ..SETTING };
        let found = found_in(setting, vec![upload(), AGGREGATE, forget, replay]);
        assert!(found.iter().any(|it| says(it, "counted a report of an earlier job")), "{found:?}");
        let later = |it: &Violation| matches!(it, Violation::Disagreement(_) | Violation::Stuck(_));
        assert!(found.iter().any(later), "the totals show it too: {found:?}");
    }
}

#[test]
fn a_report_that_is_lost_is_found() {
    let lose = Action::Sabotage(Sabotage::LoseSegments);
    let found = found_in(SETTING, vec![upload(), AGGREGATE, upload(), lose]);
    assert!(found.iter().any(|it| says(it, "lost: report 3")), "{found:?}");
}

#[test]
fn an_answer_that_was_forged_is_found() {
    let lie = Action::Sabotage(Sabotage::LieAboutOneReport);
    let found = found_in(SETTING, vec![lie, upload(), AGGREGATE]);
    // The helper has counted what the leader has not, so that the two never agree on the batch.
    assert!(found.iter().any(|it| says(it, "batchMismatch")), "{found:?}");
}

#[test]
fn a_job_that_nobody_takes_up_is_found() {
    let lost = Step { action: AGGREGATE, faults: vec![Fault::Lost], stop: None };
    let freeze = calm(Action::Sabotage(Sabotage::FreezeJobs));
    let found = found(SETTING, &[calm(upload()), lost, freeze]);
    assert!(matches!(&found[..], [Violation::Stuck(why)] if why.contains("still under way")), "{found:?}");
}

#[test]
fn noise_that_is_drawn_again_is_found() {
    for party in [Party::Helper, Party::Leader(0)] {
        let again = Action::Sabotage(Sabotage::DrawAgain(party));
        // The collector has its result, and asks once more at the end.
        let found = found_in(NOISED, vec![upload(), AGGREGATE, ASK, COLLECT, POLL, again, POLL]);
        assert!(found.iter().any(|it| says(it, "that was not released")), "{party:?}: {found:?}");
        assert!(found.iter().all(|it| matches!(it, Violation::Contradiction(_))), "{party:?}: {found:?}");
    }
}

#[test]
fn a_share_that_was_changed_is_found() {
    let again = Action::Sabotage(Sabotage::DrawAgain(Party::Helper));
    let found = found_in(SETTING, vec![upload(), AGGREGATE, ASK, COLLECT, again]);
    assert!(found.iter().any(|it| says(it, "which nobody measured, holds")), "{found:?}");
}
