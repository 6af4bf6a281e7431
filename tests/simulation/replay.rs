//! A leader that misbehaves: it puts reports that the helper has counted into another job, of another order, of fewer
//! reports or, where it selects the batches, for another batch. The helper must find each of them counted already.

use bytes::Bytes;
use http::Request;
use http::header::CONTENT_LENGTH;
use mica_dap::aggregation::{AggregationJobInitReq, AggregationJobResp, VerifyResp, VerifyResult};
use mica_dap::codec::Encode as _;
use mica_dap::id::BatchId;

use crate::actions::Done;
use crate::network::MANY;
use crate::plan::{Counted, Party};
use crate::world::{Doing, World};

/// Puts what the helper has taken of a job into another one.
pub(crate) fn begin(world: &World, (job, answer): (Request<Bytes>, Bytes), which: usize) -> Doing {
    let wires = world.around.wires.clone();
    let batch = world.is_leader_selected().then(|| BatchId::random(&mut rand::rng()));
    // With two rounds the first answer counts nothing yet; what the helper has counted in the end is held against what is
    // released.
    let tells = world.around.setting.counted != Counted::Strings;
    Box::pin(async move {
        let Some(other) = other(job.body(), &answer, batch.filter(|_| which.is_multiple_of(2))) else {
            return Done::Nothing;
        };
        let mut again = job;
        again.headers_mut().remove(CONTENT_LENGTH);
        *again.body_mut() = other;
        let Ok(second) = wires.deliver(Party::Helper, again).await else { return Done::Nothing };
        Done::Replayed(tells && taken(second.body()).iter().any(|is_taken| *is_taken))
    })
}

/// A job of the reports that were taken, in another order; nothing where that is the same job.
fn other(job: &[u8], answer: &[u8], batch: Option<BatchId>) -> Option<Bytes> {
    let mut request = AggregationJobInitReq::decode_limited(job, MANY).ok()?;
    let before = request.encoded();
    let mut taken = taken(answer).into_iter();
    request.verify_inits.retain(|_| taken.next() == Some(true));
    request.verify_inits.reverse();
    if batch.is_some() {
        request.extensions = AggregationJobInitReq::extensions_for(batch);
    }
    let after = request.encoded();
    (!request.verify_inits.is_empty() && after != before).then(|| after.into())
}

/// Which reports an answer takes, in the order of the job.
fn taken(answer: &[u8]) -> Vec<bool> {
    let resps = AggregationJobResp::decode_limited(answer, MANY).map(|answer| answer.verify_resps);
    let is_taken = |resp: &VerifyResp| !matches!(resp.result, VerifyResult::Reject(_));
    resps.map(|resps| resps.iter().map(is_taken).collect()).unwrap_or_default()
}
