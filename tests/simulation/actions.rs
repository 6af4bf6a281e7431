//! What parties do, and what the model concludes from what they are answered.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use mica_collector::{CollectError, Collection, Poll};
use mica_dap::codec::{Decode as _, Encode as _};
use mica_dap::id::ReportId;
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::report::{UploadErrors, UploadRequest};
use mica_dap::report_error::ReportError;
use mica_dap::resource::Resource;
use mica_dap::taskprov;
use mica_dap::time::{Duration, Interval, Time};
use mica_service::http::PeerError;
use mica_service::store::StoreError;

use crate::gate;
use crate::model::{Asked, Excuses, Fate, Sent, Violation};
use crate::plan::{Action, Flaw, KeyLives, Party, Sending};
use crate::process::CACHE_SECONDS;
use crate::replay;
use crate::task::{BUCKETS, FIRST, PRECISION};
use crate::world::{Doing, World};

/// What came of an action.
pub(crate) enum Done {
    /// Of an upload of these reports.
    Uploaded(Vec<usize>, Result<Response<Bytes>, PeerError>),
    Asked(Option<Interval>, Result<Collection, CollectError>),
    Polled(usize, Result<Poll, CollectError>),
    Deleted(usize, Result<(), CollectError>),
    /// A driver's step.
    Stepped(Party, Result<bool, StoreError>),
    /// The helper was asked to count reports once more. Whether it has.
    Replayed(bool),
    /// Somebody was answered who did not wait any more.
    Nothing,
}

/// Begins an action. Nothing if there is nothing to do it with.
pub(crate) fn begin(world: &mut World, action: &Action) -> Option<Doing> {
    match action {
        Action::Upload { reports, .. } => {
            let which = reports.iter().filter_map(|sending| choose(world, *sending)).collect();
            upload(world, which)
        }
        Action::Aggregate { leader } => {
            let (party, leader) = (Party::Leader(*leader), world.leaders[*leader].aggregator.clone());
            Some(Box::pin(async move { Done::Stepped(party, leader.aggregate().await) }))
        }
        Action::Collect { leader } => {
            let (party, leader) = (Party::Leader(*leader), world.leaders[*leader].aggregator.clone());
            Some(Box::pin(async move { Done::Stepped(party, leader.collect().await) }))
        }
        Action::Answer => {
            let helper = world.helper.aggregator.clone();
            Some(Box::pin(async move { Done::Stepped(Party::Helper, helper.answer_deferred().await) }))
        }
        Action::Ask { start, units, .. } => {
            let interval = Interval::new(Time(FIRST + start), Duration(*units)).expect("an interval");
            Some(if world.is_leader_selected() { ask_next(world) } else { ask(world, interval) })
        }
        Action::Poll { which, .. } => {
            let at = which.checked_rem(world.model.asked.len())?;
            Some(poll(world, at))
        }
        Action::Delete { which, .. } => {
            let at = which.checked_rem(world.model.asked.len())?;
            Some(delete(world, at))
        }
        Action::Arrive { which } => {
            let (to, request) = world.around.wires.take_late(*which)?;
            let wires = world.around.wires.clone();
            Some(Box::pin(async move {
                let _ = wires.deliver(to, request).await;
                Done::Nothing
            }))
        }
        Action::Replay { which } => {
            let job = world.around.wires.job(*which)?;
            Some(replay::begin(world, job, *which))
        }
        Action::Renew { party } => Some(renew(world, *party)),
        Action::Wait { .. }
        | Action::GoOn { .. }
        | Action::Die { .. }
        | Action::Retire
        | Action::Sabotage(_) => None,
    }
}

/// A process looks for what has changed in its database, as it does every two seconds.
pub(crate) fn renew(world: &World, party: Party) -> Doing {
    let aggregator = match party {
        Party::Helper => world.helper.aggregator.clone(),
        Party::Leader(leader) => world.leaders[leader].aggregator.clone(),
    };
    Box::pin(async move { Done::Stepped(party, aggregator.renew().await.map(|()| true)) })
}

/// The place of the report to be sent; a new one is made.
fn choose(world: &mut World, sending: Sending) -> Option<usize> {
    let known = world.model.reports.len();
    match sending {
        Sending::Again { which } => which.checked_rem(known),
        Sending::Fresh { age, flaw } => {
            let now = world.around.clock.now() / PRECISION;
            fresh(world, ReportId::random(&mut rand::rng()), Time((now - age).max(FIRST)), flaw)
        }
        Sending::SameName { which } => {
            let twin = &world.model.reports[which.checked_rem(known)?];
            let (name, time) = (twin.name(), twin.report.metadata.time);
            twin.is_good().then(|| fresh(world, name, time, None)).flatten()
        }
    }
}

/// Makes a report and gives it the next bucket, if there is one left.
pub(crate) fn fresh(world: &mut World, name: ReportId, time: Time, flaw: Option<Flaw>) -> Option<usize> {
    let bucket = world.model.reports.len();
    if bucket >= BUCKETS {
        return None;
    }
    let report = world.forge.report(name, bucket, time, flaw);
    let listed_at = world.forge.listed_at;
    world.model.reports.push(Sent { report, listed_at, flaw, fate: Fate::Unknown });
    Some(bucket)
}

/// A client sends these reports to the leader in front; of each name only the first.
pub(crate) fn upload(world: &mut World, which: Vec<usize>) -> Option<Doing> {
    let mut names = Vec::new();
    let mut chosen: Vec<usize> = Vec::new();
    for at in which {
        let name = world.model.reports[at].name();
        if !names.contains(&name) {
            names.push(name);
            chosen.push(at);
        }
    }
    if chosen.is_empty() {
        return None;
    }
    let reports = chosen.iter().map(|at| world.model.reports[*at].report.clone()).collect();
    let task = &world.around.task;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(Resource::Reports(task.id).url(task.configuration.leader_url()))
        .header(header::CONTENT_TYPE, Media::UploadReq.header());
    if let Some(value) = taskprov::advertisement(&task.id, &task.configuration) {
        request = request.header(taskprov::HEADER, value);
    }
    let request = request.body(Bytes::from(UploadRequest { reports }.encoded())).expect("a request");
    let http = world.http.clone();
    Some(Box::pin(async move { Done::Uploaded(chosen, http.send(request).await) }))
}

/// The collector asks for the batch of an interval.
pub(crate) fn ask(world: &mut World, interval: Interval) -> Doing {
    world.model.intervals.push(interval);
    let collector = world.collector.clone();
    Box::pin(async move { Done::Asked(Some(interval), collector.collect(interval).await) })
}

/// The collector asks for the next batch of the leader's choice.
pub(crate) fn ask_next(world: &World) -> Doing {
    let collector = world.collector.clone();
    Box::pin(async move { Done::Asked(None, collector.collect_next().await) })
}

/// The collector gives up a collection, or has its result in safety.
pub(crate) fn delete(world: &mut World, at: usize) -> Doing {
    world.model.asked[at].deleted = true;
    let (collector, collection) = (world.collector.clone(), world.model.asked[at].collection.clone());
    Box::pin(async move { Done::Deleted(at, collector.delete(&collection).await) })
}

/// The collector asks how far a collection is.
pub(crate) fn poll(world: &World, at: usize) -> Doing {
    let (collector, collection) = (world.collector.clone(), world.model.asked[at].collection.clone());
    Box::pin(async move { Done::Polled(at, collector.poll(&collection).await) })
}

/// Notes what is known now.
pub(crate) fn conclude(world: &mut World, done: Done) {
    match done {
        Done::Uploaded(which, answer) => uploaded(world, &which, answer),
        Done::Asked(interval, Ok(collection)) => {
            if !world.model.asked.iter().any(|asked| asked.collection == collection) {
                world.model.asked.push(Asked { interval, collection, outcome: None, deleted: false });
            }
        }
        Done::Asked(interval, Err(error)) => {
            excuse(world, &format!("asking for {interval:?}"), &error, false);
        }
        Done::Polled(at, Ok(Poll::Ready(outcome))) => world.model.collected(at, outcome),
        Done::Polled(at, Err(error)) => {
            // The same collection may be known twice: from when it was asked for, and from when it had its answer.
            let interval = world.model.asked[at].interval;
            let deleted = world.model.asked.iter().any(|asked| asked.deleted && asked.interval == interval);
            excuse(world, &format!("polling collection {at}"), &error, deleted);
        }
        Done::Deleted(at, Err(error)) => excuse(world, &format!("deleting collection {at}"), &error, true),
        Done::Stepped(party, Err(error)) if !gate::is_ours(&error) => {
            let detail = format!("a step of {party:?} failed: {error}");
            world.model.violations.push(Violation::Answer(detail));
        }
        Done::Replayed(true) => {
            let detail = "the helper has counted a report of an earlier job in another".to_owned();
            world.model.violations.push(Violation::Answer(detail));
        }
        Done::Polled(_, Ok(Poll::Waiting { .. }))
        | Done::Replayed(false)
        | Done::Deleted(_, Ok(()))
        | Done::Stepped(..)
        | Done::Nothing => {}
    }
}

fn uploaded(world: &mut World, which: &[usize], answer: Result<Response<Bytes>, PeerError>) {
    let Ok(response) = answer else { return };
    let (status, draft) = (response.status(), world.around.task.draft);
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return;
    }
    let errors = match response.body() {
        body if !status.is_success() => Err(format!("{status}, {} bytes", body.len())),
        body if body.is_empty() => Ok(UploadErrors::default()),
        body => UploadErrors::decoded(body).map_err(|error| error.to_string()),
    };
    let errors = match errors {
        Ok(errors) => errors,
        Err(why) => {
            world.model.violations.push(Violation::Answer(format!("an upload was answered with {why}")));
            return;
        }
    };
    for at in which {
        let name = world.model.reports[*at].name();
        let status = errors.statuses.iter().find(|status| status.report_id == name);
        let refused = status.map(|status| ReportError::from_code(status.error, draft));
        let repeated = world.around.wires.was_repeated(&name);
        let outdated = may_be_outdated(world, *at, world.around.clock.now());
        world.model.answered(*at, refused, Excuses { draft, repeated, outdated });
    }
}

/// Whether a key that a report is sealed by may be gone by then: it is accepted for twice as long as a client may keep the
/// list.
pub(crate) fn may_be_outdated(world: &World, report: usize, by: u64) -> bool {
    let short = world.around.setting.keys == KeyLives::Short;
    short && by >= world.model.reports[report].listed_at + 2 * CACHE_SECONDS
}

/// Whether a failed question of the collector is one of those that happen.
fn excuse(world: &mut World, what: &str, error: &CollectError, deleted: bool) {
    let allowed = match error {
        CollectError::Unreachable(_) | CollectError::Busy(_) => true,
        CollectError::Failed { status: 404, .. } => deleted,
        CollectError::Failed { status, .. } => *status >= 500 || *status == 429,
        // Of two that overlap only one can be had.
        CollectError::Refused(problem) => problem.type_ == Problem::BatchOverlap.urn(),
        _ => false,
    };
    if !allowed {
        world.model.violations.push(Violation::Answer(format!("{what}: {error}")));
    }
}
