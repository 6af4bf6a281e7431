//! `mica task export`: the bundle that an app ships with, which holds no secret; or the file of a task for an aggregator,
//! which does.

use std::path::{Path, PathBuf};

use mica_aggregator::TaskFile;
use mica_client::{TaskBundle, fetch_history, fetch_ohttp_keys};
use mica_dap::Draft;
use mica_dap::id::{TaskId, from_base64url};
use mica_dap::task::TaskConfiguration;
use mica_envelope::{KeyConfigList, history::History};
use mica_service::http::Peer;
use mica_service::tls::Peers;

use super::at::At;
use super::known::Known;
use crate::args::IdentityArgs;
use crate::exit::{Exit, Failure};
use crate::{files, print};

/// Write the bundle that clients need, or the file that another aggregator imports.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mica task export page-load --relay https://relay.example/ \\
      --ohttp-keys https://gateway.example/ohttp-keys > page-load.mica
  mica task export page-load --config leader.toml --role helper --out helper.task.toml")]
pub(crate) struct Args {
    /// A task file, or the folder of a task; with --config or --admin, the identifier or the label of a task
    // An identifier may begin with a hyphen.
    #[arg(allow_hyphen_values = true)]
    task: String,
    /// Where clients post to
    #[arg(long, value_name = "URL", required_unless_present = "role")]
    relay: Option<String>,
    /// The gateway's keys: the URL it publishes them at, @FILE with their bytes, or hexadecimal digits
    #[arg(long, value_name = "URL|@FILE|HEX", required_unless_present = "role")]
    ohttp_keys: Option<String>,
    /// The task file of this role in place of the bundle: it holds secrets, and only a leader can write the helper's
    #[arg(long, value_enum, requires = "out", conflicts_with_all = ["relay", "ohttp_keys"])]
    role: Option<Party>,
    /// The file to write, for its owner's eyes only
    #[arg(long, value_name = "FILE", requires = "role")]
    out: Option<PathBuf>,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// Whose task file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Party {
    /// The leader
    Leader,
    /// The helper
    Helper,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let (Some(relay), Some(ohttp_keys)) = (&args.relay, &args.ohttp_keys) else {
        return write_file(args).await;
    };
    let (task_id, draft, configuration) = public(args).await?;
    Peer::parse(relay).map_err(Failure::usage)?;
    let (ohttp_keys, history_key) = keys(ohttp_keys, || args.at.peers.peers_as(&args.identity)).await?;
    let relay = relay.clone();
    let bundle = TaskBundle { task_id, draft, configuration, relay, ohttp_keys, history_key };
    print::lines(&bundle.to_json())
}

/// What clients may know.
async fn public(args: &Args) -> Result<(TaskId, Draft, TaskConfiguration), Failure> {
    if !args.at.is_given() {
        let Known { task_id, draft, configuration, .. } = Known::read(Path::new(&args.task))?;
        return Ok((task_id, draft, configuration));
    }
    let tasks = args.at.open().await?;
    let id = tasks.named(&args.task).await?;
    let export = tasks.export(&id, false).await?;
    let unreadable = || Failure::unexpected("the aggregator gave a task that does not decode");
    let draft: Draft = export.draft.parse().map_err(|_| unreadable())?;
    let configuration = from_base64url(&export.task_config)
        .and_then(|bytes| TaskConfiguration::parse(&bytes, draft).ok())
        .ok_or_else(unreadable)?;
    Ok((id, draft, configuration))
}

/// Writes the file of one role.
async fn write_file(args: &Args) -> Result<(), Failure> {
    let (Some(party), Some(out)) = (args.role, &args.out) else {
        return Err(Failure::usage("add --relay and --ohttp-keys, or --role and --out"));
    };
    if !args.at.is_given() {
        return Err(Failure::usage(
            "the task of which aggregator? add --config, or --admin and --token-file",
        ));
    }
    let tasks = args.at.open().await?;
    let id = tasks.named(&args.task).await?;
    let export = tasks.export(&id, true).await?;
    let role = if party == Party::Leader { "leader" } else { "helper" };
    let text = export.files.get(role).ok_or_else(|| {
        Failure::new(
            Exit::Refused,
            "a helper does not know the leader's tokens, so that it cannot write its file",
        )
    })?;
    let file = TaskFile::from_text(text).map_err(Failure::unexpected)?;
    files::create_private(out, &file.to_toml())
}

/// The gateway's keys, and the key that it signs their history with, if it keeps one.
async fn keys(
    given: &str,
    peers: impl FnOnce() -> Result<Peers, Failure>,
) -> Result<(KeyConfigList, Option<[u8; 32]>), Failure> {
    if given.contains("://") {
        let peers = peers()?;
        let keys = fetch_ohttp_keys(given, &peers).await?;
        let history = fetch_history(given, &peers).await?;
        let is_in = |history: &History| history.entries.iter().any(|entry| entry.list == keys.encoded());
        if history.as_ref().is_some_and(|history| !is_in(history)) {
            return Err(Failure::new(
                Exit::Refused,
                "the keys that the gateway shows are not in its own history: it may show others something else; \
                 compare with `mica keys audit`",
            ));
        }
        return Ok((keys, history.map(|history| history.key)));
    }
    let bytes = match given.strip_prefix('@') {
        Some(path) => std::fs::read(path).map_err(|error| {
            Failure::invalid(format!("cannot read the gateway's keys in {path}: {error}"))
        })?,
        None => hex::decode(given)
            .map_err(|_| Failure::usage("--ohttp-keys is neither a URL nor @FILE nor hexadecimal digits"))?,
    };
    let keys = KeyConfigList::parse(bytes);
    keys.map(|keys| (keys, None)).map_err(|error| Failure::invalid(format!("the gateway's keys: {error}")))
}
