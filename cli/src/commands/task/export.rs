//! `mica task export`: the bundle that an app ships with. It holds no secret.

use std::path::PathBuf;

use mica_client::{TaskBundle, fetch_ohttp_keys};
use mica_envelope::KeyConfigList;
use mica_service::http::Peer;

use super::known::Known;
use crate::args::PeerArgs;
use crate::exit::Failure;
use crate::print;

/// Write the bundle that clients need.
#[derive(clap::Args)]
#[command(after_help = "Example:
  mica task export page-load --relay https://relay.example/ \\
      --ohttp-keys https://gateway.example/ohttp-keys > page-load.mica")]
pub(crate) struct Args {
    /// A task file, or the folder of a task
    file: PathBuf,
    /// Where clients post to
    #[arg(long, value_name = "URL")]
    relay: String,
    /// The gateway's keys: the URL it publishes them at, @FILE with their bytes, or hexadecimal digits
    #[arg(long, value_name = "URL|@FILE|HEX")]
    ohttp_keys: String,
    #[command(flatten)]
    peers: PeerArgs,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let Known { task_id, draft, configuration, .. } = Known::read(&args.file)?;
    Peer::parse(&args.relay).map_err(Failure::usage)?;
    let ohttp_keys = keys(&args.ohttp_keys, &args.peers).await?;
    let relay = args.relay.clone();
    print::lines(&TaskBundle { task_id, draft, configuration, relay, ohttp_keys }.to_json())
}

async fn keys(given: &str, peers: &PeerArgs) -> Result<KeyConfigList, Failure> {
    if given.contains("://") {
        return Ok(fetch_ohttp_keys(given, &peers.peers()?).await?);
    }
    let bytes = match given.strip_prefix('@') {
        Some(path) => std::fs::read(path).map_err(|error| {
            Failure::invalid(format!("cannot read the gateway's keys in {path}: {error}"))
        })?,
        None => hex::decode(given)
            .map_err(|_| Failure::usage("--ohttp-keys is neither a URL nor @FILE nor hexadecimal digits"))?,
    };
    KeyConfigList::parse(bytes).map_err(|error| Failure::invalid(format!("the gateway's keys: {error}")))
}
