//! `mica demo`: the whole path in one process, over real sockets, with clients that are invented.
//!
//! Client, relay, gateway, leader and helper, release, collector: each step is the one that a real deployment takes. What
//! is shown is what happened, and the run fails when it did not happen as it must: when a report reached the leader on
//! another way than through relay and gateway, when a report is missing from the total, when a role has kept what it must
//! never learn, when a batch is released twice.

mod clients;
mod outcome;
mod programme;
mod release;
mod scene;
mod search;
mod show;
mod stage;
mod witness;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Instant;

use mica_service::shutdown::Shutdown;

use self::scene::Kind;
use self::stage::Stage;
use crate::args::{Format, Global};
use crate::exit::Failure;
use crate::print;
use crate::screen::Signs;

/// Run the whole path once on this machine, with simulated clients
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Stop after the last line instead of serving until Ctrl-C; without a terminal it does so anyway
    #[arg(long)]
    once: bool,
    /// Serve until Ctrl-C also without a terminal
    #[arg(long, conflicts_with = "once")]
    serve: bool,
    /// Print one JSON object at the end and nothing else
    #[arg(long)]
    json: bool,
    /// How many clients are simulated; twelve faulty reports come on top
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    clients: u32,
    /// Decides what the clients measured, and nothing else; random when left out
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// What is measured
    #[arg(long, value_enum, default_value_t = Kind::Histogram)]
    task: Kind,
    /// The privacy loss of one release; a number or a fraction such as 1/4
    #[arg(long, value_name = "E", default_value = "1")]
    epsilon: String,
    /// Keep databases, logs and policy in this new folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// A PostgreSQL server to make the three databases on; they are dropped at the end, unless --keep is given
    #[arg(long, value_name = "URL")]
    database: Option<String>,
}

const EXAMPLES: &str = "Examples:
  mica demo                            10,000 clients, a histogram, then serves until Ctrl-C
  mica demo --once --clients 1000 --task sum --epsilon 1/2
  mica demo --once --json              for scripts
  mica demo --once --keep shown        to look at the logs and databases of each role";

/// Runs the demonstration.
///
/// # Errors
/// When a step did not happen as it must.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let started = Instant::now();
    let as_json = args.json || global.output == Format::Json;
    if global.output == Format::Csv {
        return Err(Failure::usage("mica demo prints a table or, with --json, one object"));
    }
    let audience = Audience { silent: as_json, signs: Signs::of_locale() };
    let stage = Stage::set(&args, global).await?;
    let shutdown = Shutdown::on_signal()?;
    let shown = tokio::select! {
        shown = show::show(&args, &stage, &audience, started) => shown.map(Some),
        () = shutdown.wait() => Ok(None),
    };
    let outcome = match shown {
        Ok(Some((report, running))) => {
            if as_json {
                print::lines(&serde_json::to_string(&report).map_err(Failure::unexpected)?)?;
            }
            // Nobody is there to press Ctrl-C.
            if args.serve || (!args.once && std::io::stdout().is_terminal()) {
                audience.say("Press Ctrl-C to stop.")?;
                shutdown.wait().await;
            }
            running.stop().await;
            Ok(())
        }
        Ok(None) => Err(Failure::unexpected("stopped before the end")),
        Err(failure) => Err(failure),
    };
    outcome.and(stage.strike().await)
}

/// Who watches.
struct Audience {
    /// Only the JSON at the end.
    silent: bool,
    signs: Signs,
}

impl Audience {
    /// A line on standard output, at once.
    fn say(&self, text: &str) -> Result<(), Failure> {
        if self.silent { Ok(()) } else { print::lines(text) }
    }
}
