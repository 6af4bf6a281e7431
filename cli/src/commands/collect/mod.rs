//! `mica collect`: ask for a batch, wait for it, print its noised total with how far it can be off.

mod interval;
mod released;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mica_collector::{Collection, Collector, CollectorTask, Estimate, Outcome, Poll};
use mica_service::clock::Clock;
use mica_service::config::parse_duration;
use mica_service::http::{HttpClient, HttpOptions};

use self::released::Released;
use crate::args::{Global, IdentityArgs, PeerArgs};
use crate::exit::{Exit, Failure};
use crate::files;
use crate::screen::{Progress, Signs};

/// Collect the noised total of a batch.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mica collect page-load/collector.task.json --last 24h
  mica collect page-load/collector.task.json --from 2026-11-20T00:00Z --to 2026-11-21T00:00Z -o json

Times are widened to whole units of the task's time precision. A batch is released once: a part of it
cannot be collected again under another interval.")]
pub(crate) struct Args {
    /// The collector's task file, collector.task.json
    file: PathBuf,
    /// The time up to now, such as 30m, 24h or 7d
    #[arg(long, value_name = "TIME", required_unless_present = "from", conflicts_with_all = ["from", "to"])]
    last: Option<String>,
    /// The beginning: 2026-11-20T00:00Z, or seconds since 1970
    #[arg(long, value_name = "WHEN", requires = "to")]
    from: Option<String>,
    /// The end, which is not part of the batch
    #[arg(long, value_name = "WHEN", requires = "from")]
    to: Option<String>,
    /// Ask once and end with exit code 5 when the result is not ready
    #[arg(long)]
    no_wait: bool,
    /// Wait no longer than this and end with exit code 5
    #[arg(long, value_name = "TIME", conflicts_with = "no_wait", default_value = "10m")]
    timeout: String,
    #[command(flatten)]
    peers: PeerArgs,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let task = CollectorTask::from_json(&files::read(&args.file, "collector's task file")?)?;
    let precision = task.configuration.time_precision();
    let interval = match (&args.last, &args.from, &args.to) {
        (Some(last), ..) => interval::last(last, Clock::system().now(), precision)?,
        (None, Some(from), Some(to)) => interval::between(from, to, precision)?,
        _ => return Err(Failure::usage("which batch? add --last 24h, or --from and --to")),
    };
    let patience = parse_duration(&args.timeout).map_err(Failure::usage)?;
    let estimate = Estimate::of(task.mechanism.as_ref(), CONFIDENCE);
    let configuration = task.configuration.clone();
    let peers = args.peers.peers_as(&args.identity)?;
    let collector = Collector::new(task, HttpClient::new(HttpOptions { peers, ..HttpOptions::default() }));
    let collection = collector.collect(interval).await?;
    let outcome = if args.no_wait {
        match collector.poll(&collection).await? {
            Poll::Ready(outcome) => outcome,
            Poll::Waiting { seconds } => return Err(not_ready(&format!("try again in {seconds} s"))),
        }
    } else {
        tokio::time::timeout(patience, wait(&collector, &collection))
            .await
            .map_err(|_| not_ready("the same command asks again for the same batch"))??
    };
    let noised = collector.task().mechanism.is_some();
    Released { configuration: &configuration, outcome: &outcome, estimate, noised }.print(global.output)
}

/// Polls until there is a result, with a sign of life on a terminal.
async fn wait(collector: &Collector, collection: &Collection) -> Result<Outcome, Failure> {
    let progress = Progress::waiting(Signs::of_locale(), "Collect");
    progress.say("waiting for the aggregators");
    let begun = Instant::now();
    let mut told = false;
    let outcome = collector.wait(collection, || {
        if begun.elapsed() > BRIEFLY && !told && !std::io::stderr().is_terminal() {
            told = true;
            eprintln!("waiting for the batch: too few reports so far, or some are still being verified");
        }
    });
    let outcome = outcome.await;
    progress.done();
    Ok(outcome?)
}

fn not_ready(what_to_do: &str) -> Failure {
    Failure::new(Exit::NotReady, format!("the result is not ready yet; {what_to_do}"))
}

/// Nobody needs to be told of a wait this short.
const BRIEFLY: Duration = Duration::from_secs(2);

/// The confidence that intervals are printed with.
const CONFIDENCE: f64 = 0.95;
