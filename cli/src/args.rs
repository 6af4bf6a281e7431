//! The command line: `mica <noun> <verb>`, or `mica <role>` for a server.

use std::path::PathBuf;

use clap::{Args, ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use mica_dap::task::BatchMode;
use mica_service::tls::{PeerTls, Peers};
use serde::{Deserialize, Serialize};

use crate::commands::{budget, collect, config, demo, dev, doctor, keys, policy, report, task};
use crate::exit::Failure;

/// Private measurement: OHTTP hides who sent it, DAP hides what they sent, DP hides what any one of them reported.
#[derive(Parser)]
#[command(name = "mica", version, after_help = EXIT_CODES, after_long_help = LONG)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// For every command.
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
}

impl Cli {
    /// What was typed. Whether help and errors have colour is decided before they are: by `--no-color` anywhere on the
    /// line, else by the environment and the terminal.
    pub(crate) fn from_command_line() -> Result<Self, clap::Error> {
        let plain = std::env::args_os().any(|argument| argument == "--no-color");
        let colour = if plain { ColorChoice::Never } else { ColorChoice::Auto };
        Self::from_arg_matches(&Self::command().color(colour).try_get_matches()?)
    }
}

/// What every command understands, as it is written.
#[derive(Args)]
pub(crate) struct GlobalArgs {
    /// How results are printed; only `mica policy plan` draws
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Print without colour, as with `NO_COLOR` in the environment: only help and usage errors on a terminal have any
    #[arg(long, global = true)]
    no_color: bool,
    /// Log level on stderr, or levels by module such as `mica_relay=debug,info`
    #[arg(long, global = true, value_name = "FILTER", env = "MICA_LOG", default_value = "info")]
    log: String,
    /// Log lines for people (text) or for machines (json)
    #[arg(long, global = true, env = "MICA_LOG_FORMAT", default_value = "text")]
    log_format: String,
}

/// What `-o` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// One JSON object
    Json,
    /// Comma-separated values with a heading
    Csv,
    /// A chart
    Svg,
}

/// What every command is told.
#[derive(Clone)]
pub(crate) struct Global {
    /// How results are printed.
    pub(crate) output: Format,
    /// Whether a chart is wanted instead; only of a command that draws.
    pub(crate) chart: bool,
    /// Log levels.
    pub(crate) log: String,
    /// Text or JSON.
    pub(crate) log_format: String,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON object.
    Json,
    /// Comma-separated values with a heading.
    Csv,
}

impl GlobalArgs {
    /// Whether a program reads what is printed, as one JSON object.
    pub(crate) fn wants_json(&self) -> bool {
        self.output == Output::Json
    }

    /// The same, where it makes sense for `command`.
    pub(crate) fn of(self, command: &Command) -> Result<Global, Failure> {
        let chart = self.output == Output::Svg;
        if chart && !matches!(command, Command::Policy(policy::Command::Plan(_))) {
            return Err(Failure::usage("only `mica policy plan` draws; use -o table, json or csv"));
        }
        let output = match self.output {
            Output::Table | Output::Svg => Format::Table,
            Output::Json => Format::Json,
            Output::Csv => Format::Csv,
        };
        let Self { log, log_format, .. } = self;
        Ok(Global { output, chart, log, log_format })
    }
}

/// The nouns.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the whole path once on this machine, with simulated clients
    Demo(demo::Args),
    /// Keep a whole deployment running on this machine, to develop against
    Dev(dev::Args),
    /// Run a relay: it sees addresses and never contents
    Relay(ServerArgs),
    /// Run a gateway: it opens envelopes and never sees addresses
    Gateway(GatewayArgs),
    /// Run a leader: it takes reports and verifies them with the helper
    Leader(ServerArgs),
    /// Run a helper: it verifies reports with the leader
    Helper(ServerArgs),
    /// Check a server and its peers, and list what is stuck
    Doctor(doctor::Args),
    /// Check and show configuration files
    #[command(subcommand)]
    Config(config::Command),
    /// Make tasks, show them, and export them to clients
    #[command(subcommand)]
    Task(task::Command),
    /// List and rotate the keys that clients seal reports to
    #[command(subcommand)]
    Keys(keys::Command),
    /// Check policy files and say in words what they promise
    #[command(subcommand)]
    Policy(policy::Command),
    /// Watch the privacy budgets of an aggregator, and check its ledger
    #[command(subcommand)]
    Budget(budget::Command),
    /// Send one measurement through the relay
    Report(report::Args),
    /// Collect the noised total of a batch
    Collect(collect::Args),
}

/// What a server is started with.
#[derive(Args)]
pub(crate) struct ServerArgs {
    /// The configuration file of the role
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Listen here in place of what the file says
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Take plain HTTP from other machines: for a server behind a proxy that speaks TLS
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Ask peers on other machines over plain HTTP too
    #[arg(long)]
    pub(crate) insecure_peers: bool,
}

/// What a gateway is started with.
#[derive(Args)]
pub(crate) struct GatewayArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Run the leader of this configuration in the same process, and hand over what goes to it without a network
    #[arg(long, value_name = "FILE")]
    pub(crate) leader: Option<PathBuf>,
}

/// Whom a command believes that asks other parties.
#[derive(Args, Default)]
pub(crate) struct PeerArgs {
    /// Certificates of the authorities to believe, in PEM, in place of those of the operating system
    #[arg(long, value_name = "FILE", env = "MICA_ROOTS")]
    roots: Option<PathBuf>,
    /// Ask parties on other machines over plain HTTP too
    #[arg(long, env = "MICA_INSECURE_PEERS")]
    insecure_peers: bool,
}

/// Who a command is to parties that ask for a certificate.
#[derive(Args, Default)]
pub(crate) struct IdentityArgs {
    /// The certificate to show, in PEM
    #[arg(long, value_name = "FILE", env = "MICA_CERTIFICATE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", env = "MICA_PRIVATE_KEY", requires = "certificate")]
    private_key: Option<PathBuf>,
}

impl PeerArgs {
    /// How to connect, showing no certificate.
    pub(crate) fn peers(&self) -> Result<Peers, Failure> {
        self.peers_as(&IdentityArgs::default())
    }

    /// How to connect, as `identity`.
    pub(crate) fn peers_as(&self, identity: &IdentityArgs) -> Result<Peers, Failure> {
        let files = PeerTls {
            roots: self.roots.clone(),
            system_roots: false,
            certificate: identity.certificate.clone(),
            private_key: identity.private_key.clone(),
        };
        Peers::load(&files, self.insecure_peers).map_err(|error| {
            let flag = error.key.replace("peer_tls.", "--").replace('_', "-");
            Failure::invalid(format!("{flag}: {}; {}", error.what, error.fix))
        })
    }
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 unexpected, 2 usage, 3 configuration or policy invalid, 4 refused by \
                          policy or budget, 5 not ready yet, 6 peer unreachable, 7 not authorised.";

const LONG: &str = "Examples:
  mica demo                                              the whole path, on this machine
  mica task new --label page-load --vdaf histogram --length 8 --policy policy.toml \\
      --leader https://leader.example --helper https://helper.example \\
      --min-batch-size 1000 --time-precision 1h --out page-load
  mica leader --config leader.toml
  mica report page-load.mica 3
  mica collect page-load/collector.task.json --last 24h

Exit codes: 0 ok, 1 unexpected, 2 usage, 3 configuration or policy invalid, 4 refused by policy or
budget, 5 not ready yet, 6 peer unreachable, 7 not authorised.";

/// How reports are put into batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// By the time of the report
    #[default]
    #[value(name = "time_interval")]
    TimeInterval,
    /// By the leader
    #[value(name = "leader_selected")]
    LeaderSelected,
}

impl From<Mode> for BatchMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::TimeInterval => Self::TimeInterval,
            Mode::LeaderSelected => Self::LeaderSelected,
        }
    }
}
