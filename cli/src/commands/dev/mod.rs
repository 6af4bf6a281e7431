//! `mica dev`: a whole deployment with one task, kept running for people who write clients, collectors or peers.
//!
//! The same servers as everywhere, with real keys and real noise. What is different is that one process runs them all and
//! prints every secret on request: it is for development and for nothing else.

mod options;
mod place;
mod sheet;
mod state;

use std::path::PathBuf;

use mica_aggregator::config::Answers;
use mica_dap::Draft;
use mica_dp::{Decision, Policy, TaskFacts};
use mica_service::clock::Clock;
use mica_service::compute::ComputePool;
use mica_service::shutdown::Shutdown;
use mica_service::telemetry;

use self::options::{Kind, Only, Options};
use self::place::{Place, policy_text};
use self::sheet::Sheet;
use self::state::State;
use crate::args::{Format, Global, Mode};
use crate::deployment::{self, Aggregators, Ports, Running, Setting, Sockets};
use crate::exit::Failure;
use crate::provision::provision;
use crate::{files, print};

/// Keep a whole deployment running on this machine, to develop against
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What is measured
    #[arg(long, value_enum, default_value_t = Kind::Histogram)]
    vdaf: Kind,
    /// The number of buckets, coordinates or choices; 8 when left out
    #[arg(long, value_name = "N")]
    length: Option<u32>,
    /// The largest number a client may send, 255 when left out; of multihot the most choices, 3 when left out
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// With --vdaf poplar1: the prefixes to count, of one length; 0,1 when left out
    #[arg(long, value_name = "BITS,..", value_delimiter = ',')]
    prefixes: Vec<String>,
    /// How reports are put into batches
    #[arg(long, value_enum, default_value_t = Mode::TimeInterval)]
    batch_mode: Mode,
    /// The draft of DAP that the task speaks
    #[arg(long, value_name = "18|19", default_value_t = Draft::default())]
    draft: Draft,
    /// The length of one unit of time in seconds: the smallest batch, and all that a report says of its time
    #[arg(long, value_name = "S", default_value_t = 60)]
    time_precision: u64,
    /// The fewest reports in a batch
    #[arg(long, value_name = "N", default_value_t = 10)]
    min_batch_size: u64,
    /// Take reports only in this time, in seconds since 1970
    #[arg(long, value_name = "START:DURATION")]
    task_interval: Option<String>,
    /// What people call the task; a policy file must match it
    #[arg(long, value_name = "LABEL", default_value = "dev")]
    label: String,
    /// Release by this policy file; without it by one with epsilon 1 per release, for ten releases
    #[arg(long, value_name = "FILE", conflicts_with = "no_dp")]
    policy: Option<PathBuf>,
    /// Release totals as they are, without noise
    #[arg(long)]
    no_dp: bool,
    /// Run one aggregator, against one that somebody else runs
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// With --only helper: where the leader is
    #[arg(long, value_name = "URL")]
    leader_url: Option<String>,
    /// With --only leader: where the helper is
    #[arg(long, value_name = "URL")]
    helper_url: Option<String>,
    /// Keep everything: sqlite:PATH, or postgres://.. for three databases on that server
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Have the helper take requests in and answer them when the leader asks again
    #[arg(long)]
    deferred: bool,
    /// Print one JSON object with every address, key and token
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  mica dev                                          a histogram, until Ctrl-C
  mica dev --vdaf sum --max 1000 --no-dp --json     exact totals, for the test of a client
  mica dev --only helper --leader-url http://127.0.0.1:9000/ --json
  mica dev --database sqlite:dev.db                 the same task again at the next start

Without --database everything is removed at the end. With sqlite:dev.db the files dev.leader.db, dev.helper.db,
dev.gateway.db, dev.state.json and dev.logs/ stay; with postgres://.. databases named after the one in the URL stay,
and the keys in $XDG_STATE_HOME/mica.";

/// Serves until SIGTERM or Ctrl-C.
///
/// # Errors
/// When the deployment cannot be started.
pub(crate) async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let options = Options::of(&args)?;
    let answers = if args.deferred { Answers::Deferred } else { Answers::AtOnce };
    let format = global.log_format.parse().map_err(Failure::usage)?;
    let logs = telemetry::init(format, &global.log, std::io::stderr())?;
    let shutdown = Shutdown::on_signal()?;
    let place = Place::of(args.database.as_deref())?;
    let as_json = args.json || global.output == Format::Json;
    let served = tokio::select! {
        running = open(options, answers, &place, &logs) => match running {
            Ok((running, sheet)) => serve(running, &sheet, &place, as_json, &shutdown).await,
            Err(failure) => Err(failure),
        },
        () = shutdown.wait() => Ok(()),
    };
    served.and(place.clear())
}

/// Says that it is ready, waits, drains.
async fn serve(
    running: Running,
    sheet: &Sheet,
    place: &Place,
    as_json: bool,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let said = if as_json {
        serde_json::to_string(sheet).map_err(Failure::unexpected).and_then(|text| print::lines(&text))
    } else {
        print::lines(&sheet.describe(&place.logs()))
    };
    if said.is_ok() {
        shutdown.wait().await;
    }
    running.stop().await;
    said
}

/// Finds the task that was kept, or makes one, and starts the servers.
async fn open(
    options: Options,
    answers: Answers,
    place: &Place,
    logs: &telemetry::LogRoutes,
) -> Result<(Running, Sheet), Failure> {
    let kept = match place.state() {
        Some(path) => State::load(&path)?,
        None => None,
    };
    if let Some(difference) = kept.as_ref().and_then(|kept| options.difference(&kept.options)) {
        return Err(Failure::invalid(format!(
            "the database holds a task that was made with other flags: {difference}; use those flags or another \
             database"
        )));
    }
    let ports = kept.as_ref().map_or_else(Ports::default, |kept| kept.ports);
    let sockets = Sockets::bind(&options.cast(), ports).await?;
    let (state, policy) = match kept {
        Some(state) => {
            let policy = read_policy(&state.options, state.policy.as_deref())?;
            (state, policy)
        }
        None => make(options, place, &sockets)?,
    };
    if let Some(text) = &state.policy {
        let path = place.policy();
        std::fs::write(&path, text)
            .map_err(|error| Failure::invalid(format!("cannot write {}: {error}", path.display())))?;
    }
    let databases = place.databases().await?;
    let setting = Setting {
        folder: &place.logs(),
        databases: &databases,
        logs,
        clock: Clock::system(),
        compute: ComputePool::new(),
        task_id: state.leader.task_id,
        answers,
    };
    let aggregators = Aggregators {
        leader: state.task_file(Only::Leader)?,
        helper: state.task_file(Only::Helper)?,
        policy: policy.clone(),
    };
    let running = deployment::start(sockets, &setting, aggregators).await?;
    let statement = statement(&state.options, &policy, place)?;
    let sheet = Sheet::new(&state, &running, &databases, statement);
    Ok((running, sheet))
}

/// A task that is new, kept where it is to be kept.
fn make(options: Options, place: &Place, sockets: &Sockets) -> Result<(State, Policy), Failure> {
    let text = options.policy.is_none().then(|| policy_text(&options, Clock::system().now()));
    let policy = read_policy(&options, text.as_deref())?;
    let made = provision(&options.spec(sockets.addresses())?, &policy)?;
    let state = State::new(options, sockets.addresses().ports, text, made);
    if let Some(path) = place.state() {
        state.save(&path)?;
    }
    Ok((state, policy))
}

fn read_policy(options: &Options, text: Option<&str>) -> Result<Policy, Failure> {
    match (&options.policy, text) {
        // Here warnings are only logged.
        (Some(path), _) => files::policy(path.as_ref()).map(|policy| policy.allowing(&mica_dp::WARNINGS)),
        (None, Some(text)) => Policy::parse("policy.toml", text).map_err(|findings| {
            // Nobody wrote the policy: what is wrong with it is wrong with the flags that it was made of.
            let what: Vec<String> = findings.into_iter().map(|finding| finding.what).collect();
            Failure::usage(format!("no policy fits these flags: {}", what.join("; ")))
        }),
        (None, None) => Err(Failure::invalid("the policy of the task is not kept any more")),
    }
}

/// The policy file and the hash of the release statement; nothing when totals leave as they are.
fn statement(options: &Options, policy: &Policy, place: &Place) -> Result<Option<(String, String)>, Failure> {
    let vdaf = options.vdaf.config();
    let facts = TaskFacts::new(&options.label, &vdaf, options.min_batch_size);
    let path = options.policy.clone().unwrap_or_else(|| place.policy().display().to_string());
    match policy.release_for(&facts).map_err(Failure::invalid)? {
        Decision::Release(plan) => Ok(Some((path, plan.statement().sha256_hex()))),
        Decision::WithoutDp(_) => Ok(None),
    }
}
