//! Uploads (DAP 4.4.2): parse strictly, refuse what can be refused at no cost, write the rest down as it came.
//!
//! Opening a share costs as much as everything else together, so it waits for the aggregation job. One bad report never
//! costs another: each is answered for itself, in the order of the request.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::StatusCode;
use mica_dap::codec::{Encode as _, Malformed};
use mica_dap::hpke_config::HpkeCiphertext;
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::report::{Report, ReportUploadStatus, UploadErrors, UploadRequest, check_extensions};
use mica_dap::report_error::ReportError;
use mica_dap::vdaf::ShareLengths;
use mica_service::room::Place;

use super::segment_writer::{Candidate, Verdict};
use crate::error::{Abort, ServerError};
use crate::extract::{self, Addressed};
use crate::hpke_keys::Openers;
use crate::open::{self, Stage};
use crate::shared::Shared;
use crate::task::Task;

/// `POST /tasks/{task}/reports`.
pub(crate) async fn upload(
    State(shared): State<Arc<Shared>>,
    Addressed(task): Addressed,
    request: Request,
) -> Result<Response, ServerError> {
    let (body, place) =
        extract::admitted(request, Media::UploadReq, shared.limits.upload_bytes, &shared).await?;
    let reports = read(&shared, &task, &body)?;
    let verdicts = judge(&shared, &task, reports, place).await?;
    let statuses: Vec<ReportUploadStatus> = verdicts
        .into_iter()
        .filter_map(|(id, verdict)| Some(ReportUploadStatus::new(id, verdict.err()?, task.draft)))
        .collect();
    if statuses.is_empty() {
        return Ok(StatusCode::OK.into_response());
    }
    Ok(extract::message(Media::UploadErrors, UploadErrors { statuses }.encoded()))
}

/// The reports of a request; one that is not whole spoils all of them, and none is kept.
fn read(shared: &Shared, task: &Task, body: &Bytes) -> Result<Vec<(Candidate, Report)>, ServerError> {
    let malformed = |detail: String| Abort::new(Problem::InvalidMessage, detail).in_task(&task.id);
    let reports =
        UploadRequest::decode_reports(body, shared.limits.upload_reports).map_err(|error| match error {
            Malformed::TOO_MANY => too_many(task),
            error => malformed(format!("the upload cannot be read: {error}")),
        })?;
    if reports.is_empty() {
        return Err(malformed("an upload holds at least one report".to_owned()).into());
    }
    let candidate = |report: &Report, bytes: &[u8]| Candidate {
        id: report.metadata.report_id,
        time: report.metadata.time,
        bytes: body.slice_ref(bytes),
    };
    Ok(reports.into_iter().map(|read| (candidate(&read.report, read.bytes), read.report)).collect())
}

/// Nothing is wrong with such an upload but its size, and its sender can cut it.
fn too_many(task: &Task) -> Abort {
    let detail = "the upload has more reports than this server takes";
    Abort::plain(StatusCode::PAYLOAD_TOO_LARGE, detail).in_task(&task.id)
}

/// What becomes of each report, in the order of the request.
async fn judge(
    shared: &Shared,
    task: &Arc<Task>,
    reports: Vec<(Candidate, Report)>,
    place: Place,
) -> Result<Vec<(mica_dap::id::ReportId, Verdict)>, ServerError> {
    let key_ids = reports.iter().map(|(_, report)| report.leader_encrypted_input_share.config_id);
    let (ring, now) = (shared.keys.ring_for(key_ids).await?, shared.clock.now());
    let keys = ring.at(shared.keys.moment());
    let mut verdicts = Vec::with_capacity(reports.len());
    let mut candidates = Vec::with_capacity(reports.len());
    for (candidate, report) in reports {
        let verdict = check(keys, now, task, &report);
        verdicts.push((candidate.id, verdict));
        if verdict.is_ok() {
            candidates.push(candidate);
        }
    }
    let refused: Vec<ReportError> = verdicts.iter().filter_map(|(_, verdict)| verdict.err()).collect();
    let written = shared.uploads.write(Arc::clone(task), candidates, refused, place).await?;
    let open = verdicts.iter_mut().filter(|(_, verdict)| verdict.is_ok());
    for ((_, verdict), written) in open.zip(written) {
        *verdict = written;
    }
    Ok(verdicts)
}

/// The checks that need neither a key nor the database.
fn check(keys: Openers<'_>, now: u64, task: &Task, report: &Report) -> Verdict {
    open::check_time(task, Stage::Upload, report.metadata.time, now)?;
    if keys.find(report.leader_encrypted_input_share.config_id).is_none() {
        return Err(task.draft.unknown_hpke_config(Stage::Upload));
    }
    check_extensions(&report.metadata.public_extensions, &[], task.draft)?;
    if fits(&task.share_lengths, report) { Ok(()) } else { Err(ReportError::InvalidMessage) }
}

/// Whether a report is no longer than one of this task can be. What is longer is no report, and would be kept and
/// opened all the same.
fn fits(lengths: &ShareLengths, report: &Report) -> bool {
    let [leader, helper] = lengths.input_shares;
    let sealed = |ciphertext: &HpkeCiphertext, share: usize| {
        ciphertext.enc.len() <= LONGEST_KEY
            && ciphertext.payload.len() <= share.saturating_add(AROUND_A_SHARE)
    };
    report.public_share.len() <= lengths.public_share
        && sealed(&report.leader_encrypted_input_share, leader)
        && sealed(&report.helper_encrypted_input_share, helper)
}

/// What a sealed share is longer than the share: the lengths of its two parts, the tag, and private extensions, of
/// which more than this are not meant for anybody.
const AROUND_A_SHARE: usize = 2 + 4 + 16 + 1_024;

/// Longer than the encapsulated key of any HPKE suite, those against quantum computers included.
const LONGEST_KEY: usize = 2_048;

#[cfg(test)]
mod tests {
    use mica_dap::id::ReportId;
    use mica_dap::report::ReportMetadata;
    use mica_dap::time::Time;

    use super::*;

    fn report(public_share: usize, enc: usize, leader: usize, helper: usize) -> Report {
        let sealed = |length| HpkeCiphertext { config_id: 1, enc: vec![0; enc], payload: vec![0; length] };
        Report {
            metadata: ReportMetadata {
                report_id: ReportId::new([0; 16]),
                time: Time(1),
                public_extensions: Vec::new(),
            },
            public_share: vec![0; public_share],
            leader_encrypted_input_share: sealed(leader),
            helper_encrypted_input_share: sealed(helper),
        }
    }

    #[test]
    fn a_report_longer_than_any_of_its_task_is_told_by_each_of_its_parts() {
        let lengths = ShareLengths { public_share: 64, input_shares: [272, 32] };
        let most = |share: usize| share + AROUND_A_SHARE;
        assert!(fits(&lengths, &report(64, 32, 272 + 22, 32 + 22)));
        assert!(fits(&lengths, &report(64, 2_048, most(272), most(32))));
        for (public, enc, leader, helper) in
            [(65, 32, 1, 1), (64, 2_049, 1, 1), (64, 32, most(272) + 1, 1), (64, 32, 1, most(32) + 1)]
        {
            assert!(!fits(&lengths, &report(public, enc, leader, helper)));
        }
    }
}
