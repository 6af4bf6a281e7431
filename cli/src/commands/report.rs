//! `mica report`: one measurement, sharded, sealed, wrapped and sent through the relay.

use std::path::{Path, PathBuf};

use mica_client::{CapError, Client, Counter, TaskBundle};
use mica_dap::report_error::ReportError;
use mica_dap::vdaf::Measurement;
use mica_service::clock::Clock;
use serde_json::json;

use crate::args::{Format, Global, PeerArgs};
use crate::exit::{Exit, Failure};
use crate::{files, print};

/// Send one measurement through the relay.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mica report page-load.mica 3              the bucket of a histogram
  mica report opened.mica true              a count
  mica report page-load.mica 3 --pin $HASH    only under the release statement that was reviewed
  echo 1,0,1 | mica report choices.mica -   not on the command line, which other users of a machine can read")]
pub(crate) struct Args {
    /// The task bundle that `mica task export` wrote
    bundle: PathBuf,
    /// The measurement, or - to read it from standard input
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// The release statement that the task must be bound to: its SHA-256 in hexadecimal digits. Under another, or none,
    /// nothing is sent
    #[arg(long, value_name = "SHA256", value_parser = statement_hash)]
    pin: Option<[u8; 32]>,
    /// Count this report in FILE first, and send nothing beyond the caps of the release statement
    #[arg(long, value_name = "FILE", requires = "statement")]
    counter: Option<PathBuf>,
    /// The release statement that the task is bound to, as the leader shows it at /dp/statement/TASK
    #[arg(long, value_name = "FILE", requires = "counter")]
    statement: Option<PathBuf>,
    #[command(flatten)]
    peers: PeerArgs,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let bundle = TaskBundle::from_json(&files::read(&args.bundle, "task bundle")?)?;
    let bundle = match &args.pin {
        Some(hash) => pinned(bundle, hash)?,
        None => bundle,
    };
    let typed = match args.value.as_str() {
        "-" => std::io::read_to_string(std::io::stdin())?,
        value => value.to_owned(),
    };
    let measurement = Measurement::parse(bundle.configuration.vdaf(), &typed).map_err(Failure::usage)?;
    let (client_peers, now) = (args.peers.peers()?, Clock::system().now());
    if let (Some(counter), Some(statement)) = (&args.counter, &args.statement) {
        count(&bundle, counter, statement, now)?;
    }
    let outcome = Client::new(bundle).with_peers(&client_peers).report(&measurement, now).await?;
    let refused = outcome.rejected.first().map(|(_, why)| *why);
    let label = refused.map(ReportError::label);
    match (global.output, label) {
        (Format::Json, _) => print::json(&json!({ "accepted": label.is_none(), "reason": label }))?,
        (Format::Csv, _) => print::csv(
            &["accepted", "reason"],
            &[vec![label.is_none().to_string(), label.unwrap_or_default().to_owned()]],
        )?,
        (Format::Table, None) => print::lines("accepted")?,
        (Format::Table, Some(_)) => {}
    }
    match label {
        None => Ok(()),
        Some(label) => Err(Failure::new(
            Exit::Refused,
            format!("the leader refused the report: {label}{}", remark(refused)),
        )),
    }
}

/// Counts the report before anything is sent: one that is lost on its way is counted all the same.
fn count(bundle: &TaskBundle, counter: &Path, statement: &Path, now: u64) -> Result<(), Failure> {
    let statement = files::read(statement, "release statement")?;
    Counter::at(counter).count(bundle, statement.trim_end().as_bytes(), now).map_err(|error| {
        let exit = if matches!(error, CapError::Reached { .. }) { Exit::Refused } else { Exit::Invalid };
        Failure::new(exit, error)
    })
}

/// The bundle, if it promises what was reviewed. Nobody has been asked anything yet.
fn pinned(bundle: TaskBundle, hash: &[u8; 32]) -> Result<TaskBundle, Failure> {
    let leader = bundle.configuration.leader_url().trim_end_matches('/');
    let todo = format!(
        "read what the task promises at {leader}/dp/statement/{}: if you agree, pin the SHA-256 of that text; if not, \
         do not report to this task",
        bundle.task_id
    );
    bundle.pinned(hash).map_err(|error| {
        let todo = if error.found.is_some() {
            todo
        } else {
            "its totals leave without noise: report without --pin if you agree".to_owned()
        };
        Failure::new(Exit::Refused, format!("{error}; {todo}"))
    })
}

fn statement_hash(text: &str) -> Result<[u8; 32], String> {
    let bytes = hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "a SHA-256 has 64 hexadecimal digits".to_owned())
}

/// What a name of the specification does not say.
fn remark(refused: Option<ReportError>) -> &'static str {
    match refused {
        // A leader answers this for both (DAP 4.5.2).
        Some(ReportError::ReportReplayed) => {
            "; it has this report already, or the batch of this time was collected and takes no more reports"
        }
        Some(ReportError::ReportDropped) => {
            "; it is outside of the life of the task, or the batch of its time is being collected: if that comes to nothing, it can be sent again"
        }
        _ => "",
    }
}
