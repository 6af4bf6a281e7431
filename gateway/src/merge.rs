//! Uploads to one task that arrive together go to the leader as one.
//!
//! A DAP upload is a row of reports, and its answer names those that were not taken (DAP 4.4.2). So uploads can be put
//! behind each other, and of the one answer each client is given what concerns its own reports, in the words in which
//! it would have got it alone. When the leader refuses the whole, each upload is sent by itself: nobody pays for
//! somebody else's report. What a gateway reads of a report is its identifier, which it forgets with the answer.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, header};
use mica_dap::{
    codec::{Decode as _, Encode as _},
    id::ReportId,
    media::Media,
    report::{UploadErrors, UploadRequest},
};
use mica_envelope::InnerResponse;
use mica_service::telemetry;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    config::MergeConfig,
    counters::Outcome,
    forward::Upstream,
    problem::Problem,
    route::{Matched, Merging},
};

/// An answer, and how it came about.
type Answered = (InnerResponse, Outcome);

/// Sends requests on: alone, or together with others.
pub(crate) struct Merger {
    upstream: Arc<Upstream>,
    open: Mutex<HashMap<String, Open>>,
}

/// Uploads that wait for each other.
struct Open {
    number: u64,
    members: Vec<Member>,
    ids: HashSet<ReportId>,
    bytes: usize,
    full: Arc<Notify>,
}

struct Member {
    matched: Matched,
    ids: Vec<ReportId>,
    deadline: Instant,
    told: oneshot::Sender<Answered>,
}

impl Merger {
    pub(crate) fn new(upstream: Upstream) -> Arc<Self> {
        Arc::new(Self { upstream: Arc::new(upstream), open: Mutex::default() })
    }

    /// The answer that the request gets, or would get if it went alone. However often the target is asked, it is there
    /// by the deadline.
    pub(crate) async fn send(self: &Arc<Self>, matched: Matched, deadline: Instant) -> Answered {
        let together = matched.merging.clone().and_then(|merging| {
            let ids = report_ids(matched.request.body(), &merging.config)?;
            Some((ids, merging))
        });
        let Some((ids, merging)) = together else { return self.upstream.send(matched, deadline).await };
        let (told, answer) = oneshot::channel();
        let key = key_of(&matched.request);
        self.add(&key, Member { matched, ids, deadline, told }, &merging);
        // Whoever should have answered has failed.
        answer.await.unwrap_or_else(|_| (Problem::BAD_TARGET.inside(), Outcome::BadTarget))
    }

    /// Puts an upload to those that wait, or begins a new group when it does not go with them.
    fn add(self: &Arc<Self>, key: &str, member: Member, merging: &Merging) {
        let (reports, bytes) = (member.ids.len(), member.matched.request.body().len());
        let mut all = self.lock();
        if let Some(open) = all.get_mut(key) {
            let fits = open.ids.len() + reports <= merging.config.reports
                && open.bytes + bytes <= merging.max_bytes
                // Of two with one name the answer could not say which it means.
                && member.ids.iter().all(|id| !open.ids.contains(id));
            if fits {
                open.take(member);
                if open.ids.len() >= merging.config.reports || open.bytes >= merging.max_bytes {
                    open.full.notify_one();
                }
                return;
            }
            // The others need not wait any longer.
            if let Some(closed) = all.remove(key) {
                telemetry::spawn(Arc::clone(self).send_together(closed.members));
            }
        }
        if reports >= merging.config.reports || bytes >= merging.max_bytes {
            // Nobody else can go with it.
            drop(all);
            telemetry::spawn(Arc::clone(self).send_together(vec![member]));
            return;
        }
        let mut open = Open::new();
        open.take(member);
        let (number, full) = (open.number, Arc::clone(&open.full));
        all.insert(key.to_owned(), open);
        drop(all);
        telemetry::spawn(Arc::clone(self).close(key.to_owned(), number, full, merging.config.wait));
    }

    /// Sends a group when it is full or has waited long enough, unless that was done already.
    async fn close(self: Arc<Self>, key: String, number: u64, full: Arc<Notify>, wait: Duration) {
        // Whether it is full or late, it goes.
        let _ = tokio::time::timeout_at(Instant::now() + wait, full.notified()).await;
        let closed = {
            let mut all = self.lock();
            let is_ours = all.get(&key).is_some_and(|open| open.number == number);
            if is_ours { all.remove(&key) } else { None }
        };
        if let Some(closed) = closed {
            self.send_together(closed.members).await;
        }
    }

    async fn send_together(self: Arc<Self>, mut members: Vec<Member>) {
        if members.len() < 2 {
            if let Some(member) = members.pop() {
                self.tell(member).await;
            }
            return;
        }
        let Some(deadline) = members.iter().map(|member| member.deadline).min() else { return };
        let (answer, outcome) = self.upstream.send(together(&members), deadline).await;
        match answer.status {
            200..=299 => {
                let parts = divide(&answer, &members);
                for (at, member) in members.into_iter().enumerate() {
                    let part = parts.as_ref().and_then(|parts| parts.get(at)).cloned();
                    let part = part.map_or_else(
                        || (Problem::BAD_TARGET.inside(), Outcome::BadTarget),
                        |part| (part, outcome),
                    );
                    // Its client may have gone.
                    let _ = member.told.send(part);
                }
            }
            // The whole was refused for something that is wrong with it: for each, alone, it may be right.
            400..=499 if answer.status != 429 => {
                for member in members {
                    telemetry::spawn(Arc::clone(&self).tell_alone(member));
                }
            }
            _ => {
                for member in members {
                    let _ = member.told.send((answer.clone(), outcome));
                }
            }
        }
    }

    async fn tell_alone(self: Arc<Self>, member: Member) {
        self.tell(member).await;
    }

    async fn tell(&self, Member { matched, deadline, told, .. }: Member) {
        // Its client may have gone.
        let _ = told.send(self.upstream.send(matched, deadline).await);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Open>> {
        // A map that a panicking thread left behind is still a map.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn new() -> Self {
        Self {
            number: rand::random(),
            members: Vec::new(),
            ids: HashSet::new(),
            bytes: 0,
            full: Arc::new(Notify::new()),
        }
    }

    fn take(&mut self, member: Member) {
        self.bytes += member.matched.request.body().len();
        self.ids.extend(member.ids.iter().copied());
        self.members.push(member);
    }
}

/// The reports of an upload that may go with others: one that reads well, is small, and names no report twice.
fn report_ids(body: &[u8], config: &MergeConfig) -> Option<Vec<ReportId>> {
    let reports = UploadRequest::decode_reports(body, config.reports).ok()?;
    let ids: Vec<ReportId> = reports.iter().map(|read| read.report.metadata.report_id).collect();
    let different: HashSet<&ReportId> = ids.iter().collect();
    (different.len() == ids.len()).then_some(ids)
}

/// Uploads go together when nothing but their reports differs.
fn key_of(request: &Request<Bytes>) -> String {
    let mut key = request.uri().to_string();
    for (name, value) in request.headers() {
        key.push('\n');
        key.push_str(name.as_str());
        key.push(':');
        key.push_str(&value.as_bytes().escape_ascii().to_string());
    }
    key
}

fn together(members: &[Member]) -> Matched {
    let bodies = members.iter().map(|member| member.matched.request.body());
    let mut body = BytesMut::with_capacity(bodies.clone().map(Bytes::len).sum());
    bodies.for_each(|part| body.extend_from_slice(part));
    let mut request = Request::new(body.freeze());
    let mut protocol = None;
    if let Some(first) = members.first() {
        *request.method_mut() = first.matched.request.method().clone();
        *request.uri_mut() = first.matched.request.uri().clone();
        *request.headers_mut() = first.matched.request.headers().clone();
        protocol = Some(first.matched.protocol);
    }
    Matched { request, protocol: protocol.unwrap_or_default(), merging: None }
}

/// What each would have been told alone; nothing when the answer speaks of a report that nobody sent.
fn divide(answer: &InnerResponse, members: &[Member]) -> Option<Vec<InnerResponse>> {
    let errors = if answer.body.is_empty() {
        UploadErrors::default()
    } else {
        let said = answer.header(header::CONTENT_TYPE.as_str())?;
        let said = std::str::from_utf8(said).ok()?;
        Media::UploadErrors.matches(said).then(|| UploadErrors::decoded(&answer.body).ok())??
    };
    let owners: HashMap<ReportId, usize> = members
        .iter()
        .enumerate()
        .flat_map(|(at, member)| member.ids.iter().map(move |id| (*id, at)))
        .collect();
    let mut shares = vec![UploadErrors::default(); members.len()];
    for status in errors.statuses {
        shares.get_mut(*owners.get(&status.report_id)?)?.statuses.push(status);
    }
    Some(shares.iter().map(|share| part(answer, share)).collect())
}

fn part(answer: &InnerResponse, share: &UploadErrors) -> InnerResponse {
    let nothing = share.statuses.is_empty();
    let is_kept = |name: &str| !nothing || name != header::CONTENT_TYPE.as_str();
    InnerResponse {
        status: answer.status,
        headers: answer.headers.iter().filter(|(name, _)| is_kept(name)).cloned().collect(),
        body: if nothing { Bytes::new() } else { share.encoded().into() },
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
