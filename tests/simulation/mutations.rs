//! The oracle sees what it is there to see: systems with one defect each.

use mica_dap::Draft;
use mica_dap::task::BatchMode;

use crate::model::Violation;
use crate::plan::{Action, Sabotage, Sending, Setting, Step};
use crate::run::{On, run};

const SETTING: Setting = Setting {
    draft: Draft::V18,
    batch_mode: BatchMode::TimeInterval,
    min_batch_size: 2,
    target_size: 2,
    deferred: false,
    leaders: 1,
    vectors: false,
    job_reports: 100,
    helper_takes: 100,
};

const UPLOAD: [Sending; 3] = [Sending::Fresh { age: 0, flaw: None }; 3];

fn judged(actions: Vec<Action>) -> Vec<Violation> {
    let step = |action| Step { action, faults: Vec::new(), stop: None };
    run(On::Sqlite, SETTING, &actions.into_iter().map(step).collect::<Vec<_>>())
}

fn upload() -> Action {
    Action::Upload { leader: 0, reports: UPLOAD.to_vec() }
}

const AGGREGATE: Action = Action::Aggregate { leader: 0 };

#[test]
fn a_run_without_a_defect_passes() {
    let ask = Action::Ask { leader: 0, start: 5, units: 1 };
    let collect = Action::Collect { leader: 0 };
    assert_eq!(judged(vec![upload(), AGGREGATE, ask, collect, Action::Poll { leader: 0, which: 0 }]), []);
}

#[test]
fn a_report_that_counts_twice_is_found() {
    let found = judged(vec![upload(), AGGREGATE, Action::Sabotage(Sabotage::ForgetIdentifiers), AGGREGATE]);
    assert!(found.iter().any(|it| matches!(it, Violation::Doubled(_))), "{found:?}");
}

#[test]
fn a_report_that_is_lost_is_found() {
    let found = judged(vec![upload(), AGGREGATE, upload(), Action::Sabotage(Sabotage::LoseSegments)]);
    assert!(found.iter().any(|it| matches!(it, Violation::Lost(_))), "{found:?}");
}

#[test]
fn an_answer_that_was_forged_is_found() {
    let found = judged(vec![Action::Sabotage(Sabotage::LieAboutOneReport), upload(), AGGREGATE]);
    assert!(found.iter().any(|it| matches!(it, Violation::Answer(_) | Violation::Stuck(_))), "{found:?}");
}

#[test]
fn a_job_that_nobody_takes_up_is_found() {
    let found = judged(vec![
        Action::Sabotage(Sabotage::LieAboutOneReport),
        upload(),
        Action::Sabotage(Sabotage::FreezeJobs),
    ]);
    assert!(found.iter().any(|it| matches!(it, Violation::Stuck(_) | Violation::Answer(_))), "{found:?}");
}

#[test]
fn a_share_that_was_changed_is_found() {
    let ask = Action::Ask { leader: 0, start: 5, units: 1 };
    let collect = Action::Collect { leader: 0 };
    let found = judged(vec![upload(), AGGREGATE, ask, collect, Action::Sabotage(Sabotage::SealAnew)]);
    assert!(found.iter().any(|it| matches!(it, Violation::Wrong(_))), "{found:?}");
}
