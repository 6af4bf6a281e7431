//! Uploads (DAP 4.4.2): parse strictly, refuse what can be refused at no cost, write the rest down as it came.
//!
//! Opening a share costs as much as everything else together, so it waits for the aggregation job. One bad report never
//! costs another: each is answered for itself, in the order of the request.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::StatusCode;
use mica_dap::codec::Encode as _;
use mica_dap::media::Media;
use mica_dap::problem::Problem;
use mica_dap::report::{Report, ReportUploadStatus, UploadErrors, UploadRequest, check_extensions};
use mica_dap::report_error::ReportError;

use super::segment_writer::{Candidate, Verdict};
use crate::error::{Abort, ServerError};
use crate::extract::{self, Addressed};
use crate::open::{self, Stage};
use crate::room::Place;
use crate::shared::Shared;
use crate::task::Task;

/// `POST /tasks/{task}/reports`.
pub(crate) async fn upload(
    State(shared): State<Arc<Shared>>,
    Addressed(task): Addressed,
    request: Request,
) -> Result<Response, ServerError> {
    let (body, place) =
        extract::admitted(request, Media::UploadReq, shared.limits.upload_bytes, &shared.room).await?;
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
    let reports = UploadRequest::decode_reports(body, shared.limits.upload_reports)
        .map_err(|error| malformed(format!("the upload cannot be read: {error}")))?;
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

/// What becomes of each report, in the order of the request.
async fn judge(
    shared: &Shared,
    task: &Arc<Task>,
    reports: Vec<(Candidate, Report)>,
    place: Place,
) -> Result<Vec<(mica_dap::id::ReportId, Verdict)>, ServerError> {
    let mut verdicts = Vec::with_capacity(reports.len());
    let mut candidates = Vec::with_capacity(reports.len());
    for (candidate, report) in reports {
        let verdict = check(shared, task, &report);
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
fn check(shared: &Shared, task: &Task, report: &Report) -> Verdict {
    open::check_time(task, Stage::Upload, report.metadata.time, shared.clock.now())?;
    if shared.keys.find(report.leader_encrypted_input_share.config_id).is_none() {
        return Err(task.draft.unknown_hpke_config(Stage::Upload));
    }
    check_extensions(&report.metadata.public_extensions, &[], task.draft)
}
