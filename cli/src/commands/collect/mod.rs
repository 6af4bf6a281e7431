//! `mica collect`: ask for a batch, wait for it, print its noised total with how far it can be off.

mod interval;
mod released;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mica_collector::{
    CollectError, Collection, Collector, CollectorTask, Estimate, Guarantee, Outcome, Poll,
};
use mica_dap::task::{BatchMode, TaskConfiguration};
use mica_dap::time::Interval;
use mica_dp::accountant::Within;
use mica_service::clock::Clock;
use mica_service::config::parse_duration;
use mica_service::http::{HttpClient, HttpOptions};

use self::interval::Last;
use self::released::Released;
use crate::args::{Global, IdentityArgs, PeerArgs};
use crate::exit::{Exit, Failure};
use crate::screen::{Progress, Signs};
use crate::{files, print};

/// Collect the noised total of a batch.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mica collect page-load/collector.task.json --last 24h
  mica collect page-load/collector.task.json --from 2026-11-20T00:00Z --to 2026-11-21T00:00Z -o json
  mica collect page-load/collector.task.json --next                 batches that the leader selects

A batch is whole units of the task's time precision. It is released once: a part of it
cannot be collected again under another interval. So --last leaves out the unit that still runs, unless
--include-running says that nothing more is to come. Where clients count their reports in pieces of time, such as
days, a batch lies within one: a --last as long as a piece that lies in two becomes the last whole piece, and says so;
a shorter one that lies in two is refused, with what to write.

Where the leader selects the batches, each run prints the next one. It is deleted at the leader after it was
printed, and not before: a run that is interrupted until then prints the same batch when it is repeated.
A batch whose shares cannot be opened stays there until it is given up with --discard: it was released, and
paid for, and never comes again. A batch that can be opened is printed with --discard as without.")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line are on or off")]
pub(crate) struct Args {
    /// The collector's task file, collector.task.json
    file: PathBuf,
    /// The time up to the end of the last whole unit of the task's time precision, such as 30m, 24h or 7d
    #[arg(long, value_name = "TIME", conflicts_with_all = ["from", "to"])]
    last: Option<String>,
    /// With --last: up to now. The unit that still runs is closed by it, and what is reported later in it is refused
    #[arg(long, requires = "last")]
    include_running: bool,
    /// The beginning: 2026-11-20T00:00Z, or seconds since 1970
    #[arg(long, value_name = "WHEN", requires = "to")]
    from: Option<String>,
    /// The end, which is not part of the batch
    #[arg(long, value_name = "WHEN", requires = "from")]
    to: Option<String>,
    /// The next batch that the leader selects; what is meant when the task is one of those and nothing is said
    #[arg(long, conflicts_with_all = ["last", "from", "to"])]
    next: bool,
    /// With --next: leave the batch at the leader, so that the next run prints it again
    #[arg(long)]
    keep: bool,
    /// With --next: give up a batch whose shares cannot be opened, so that the next run gets the one after it
    #[arg(long)]
    discard: bool,
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
    let within = task.guarantee.as_ref().map(Guarantee::within);
    let wanted = args.wanted(&task.configuration, within)?;
    let patience = parse_duration(&args.timeout).map_err(Failure::usage)?;
    let estimate = Estimate::of(task.mechanism.as_ref(), CONFIDENCE);
    let (configuration, prefixes) = (task.configuration.clone(), task.prefixes());
    let peers = args.peers.peers_as(&args.identity)?;
    let collector = Collector::new(task, HttpClient::new(HttpOptions { peers, ..HttpOptions::default() }));
    let collection = match wanted {
        Wanted::Interval(interval) => collector.collect(interval).await?,
        Wanted::Next => collector.collect_next().await?,
    };
    let outcome = match outcome(args, &collector, &collection, patience).await? {
        Err(unreadable) if wanted == Wanted::Next && lost(&unreadable) => {
            return Err(give_up(args, &collector, &collection, unreadable).await);
        }
        other => other?,
    };
    let released = Released {
        configuration: &configuration,
        prefixes: &prefixes,
        outcome: &outcome,
        estimate,
        mechanism: collector.task().mechanism.as_ref(),
        guarantee: collector.task().guarantee.as_ref(),
        collection: collection.id(),
    };
    released.print(global.output)?;
    // Only now: a result that was deleted before it was printed would be lost.
    if wanted == Wanted::Next && !args.keep {
        advance(&collector, &collection).await;
    }
    Ok(())
}

/// The result of a collection, or why the leader's answer is none.
async fn outcome(
    args: &Args,
    collector: &Collector,
    collection: &Collection,
    patience: Duration,
) -> Result<Result<Outcome, CollectError>, Failure> {
    if args.no_wait {
        return match collector.poll(collection).await {
            Ok(Poll::Waiting { seconds }) => Err(not_ready(&format!("try again in {seconds} s"))),
            Ok(Poll::Ready(outcome)) => Ok(Ok(outcome)),
            Err(error) => Ok(Err(error)),
        };
    }
    let waited = tokio::time::timeout(patience, wait(collector, collection)).await;
    waited.map_err(|_| not_ready("the same command asks again for the same batch"))
}

/// Whether a batch has been released and cannot be read: asking again brings the same shares.
fn lost(error: &CollectError) -> bool {
    matches!(error, CollectError::Share(_) | CollectError::Sum(_))
}

/// Says what becomes of a batch that cannot be read, and deletes it if that is wanted.
async fn give_up(
    args: &Args,
    collector: &Collector,
    collection: &Collection,
    error: CollectError,
) -> Failure {
    let exit = Failure::from(error.clone()).exit();
    if !args.discard {
        let what_to_do = "compare the collector's key and the task with those of leader and helper. The batch was \
                          released and never comes again; add --discard to give it up and go on to the next";
        return Failure::new(exit, format!("{error}; {what_to_do}"));
    }
    match collector.delete(collection).await {
        Ok(()) => Failure::new(
            exit,
            format!("{error}; the batch is given up and never comes again. The next run gets the next batch"),
        ),
        Err(why) => Failure::new(exit, format!("{error}; the batch could not be given up: {why}")),
    }
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Interval(Interval),
    Next,
}

impl Args {
    fn wanted(&self, task: &TaskConfiguration, within: Option<Within>) -> Result<Wanted, Failure> {
        let by_leader = task.batch_mode() == BatchMode::LeaderSelected;
        let precision = task.time_precision();
        match (&self.last, &self.from, &self.to) {
            (None, None, None) if by_leader => Ok(Wanted::Next),
            _ if by_leader => Err(Failure::usage(
                "the leader of this task selects its batches, whatever their time; ask for --next",
            )),
            _ if self.next || self.keep || self.discard => Err(Failure::usage(
                "the batches of this task are intervals of time; leave out --next, --keep and --discard, and add --last 24h, or \
                 --from and --to",
            )),
            (Some(last), ..) => {
                let now = Clock::system().now();
                let Last { interval, instead } =
                    interval::last(last, now, precision, self.include_running, within)?;
                if let Some(instead) = instead {
                    print::aside(&format!("--last {last}: {instead}"));
                }
                Ok(Wanted::Interval(interval))
            }
            (None, Some(from), Some(to)) => interval::between(from, to, precision).map(Wanted::Interval),
            _ => Err(Failure::usage("which batch? add --last 24h, or --from and --to")),
        }
    }
}

/// Deletes a collection whose result is printed, so that the next run gets the next batch.
async fn advance(collector: &Collector, collection: &Collection) {
    if let Err(error) = collector.delete(collection).await {
        print::aside(&format!(
            "the batch could not be deleted at the leader ({error}); the next run may print this same batch again"
        ));
    }
}

/// Polls until there is a result, with a sign of life on a terminal.
async fn wait(collector: &Collector, collection: &Collection) -> Result<Outcome, CollectError> {
    let progress = Progress::waiting(Signs::of_locale(), "Collect");
    progress.say("waiting for the aggregators");
    let begun = Instant::now();
    let mut told = false;
    let outcome = collector.wait(collection, || {
        if begun.elapsed() > BRIEFLY && !told && !std::io::stderr().is_terminal() {
            told = true;
            print::aside(
                "waiting for the batch: too few reports so far, or some are still being verified (--last leaves out the \
                 unit of time that still runs)",
            );
        }
    });
    let outcome = outcome.await;
    progress.done();
    outcome
}

fn not_ready(what_to_do: &str) -> Failure {
    Failure::new(Exit::NotReady, format!("the result is not ready yet; {what_to_do}"))
}

/// Nobody needs to be told of a wait this short.
const BRIEFLY: Duration = Duration::from_secs(2);

/// The confidence that intervals are printed with.
const CONFIDENCE: f64 = 0.95;
