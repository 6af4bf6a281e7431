//! `mica keys audit`: whether a gateway publishes the same keys to everybody, as far as several paths show it.
//!
//! A gateway that gives one client keys of its own must do so on the path of that client, and hide it on the others. So the
//! list is asked for directly, twice and differently, and at a mirror; it must be the newest in a history that is
//! signed and that a copy of it, a bundle, or what was seen the last time continue.

mod compare;
mod fetch;

use std::path::PathBuf;

use mica_client::TaskBundle;
use mica_service::http::{HttpClient, HttpOptions};
use serde_json::{Value, json};

use self::compare::{Collected, Finding, Seen, compare};
use crate::args::{Format, Global, PeerArgs};
use crate::exit::{Exit, Failure};
use crate::{files, print};

/// Check that a gateway publishes the same keys on every path.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  mica keys audit https://gateway.example/ohttp-keys --mirror https://relay.example/
  mica keys audit https://gateway.example/ --bundle page-load.mica --seen gateway.seen

Exit codes: 0 all agree, 4 something differs, 6 a path cannot be reached.")]
pub(crate) struct Args {
    /// The gateway, or the URL that it publishes its keys at
    url: String,
    /// A relay that mirrors the keys, or the URL that it shows them at; may be given several times
    #[arg(long, value_name = "URL")]
    mirror: Vec<String>,
    /// The public key that the history must be signed with, in hexadecimal digits
    #[arg(long, value_name = "HEX")]
    history_key: Option<String>,
    /// A task bundle whose gateway keys must be in the history, signed with the key that the bundle names
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Remember in this file how far the history has come, and hold it to that the next time
    #[arg(long, value_name = "FILE")]
    seen: Option<PathBuf>,
    #[command(flatten)]
    peers: PeerArgs,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let key = args.history_key.as_deref().map(digits).transpose()?;
    let bundle = args.bundle.as_deref().map(bundle).transpose()?;
    let key = key.or(bundle.as_ref().and_then(|bundle| bundle.history_key));
    let seen = args.seen.as_deref().filter(|path| path.exists()).map(Seen::read).transpose()?;
    let mut collected = collect(args).await?;
    let against = |collected: &Collected| compare(collected, key, bundle.as_ref(), seen.as_ref());
    let mut findings = against(&collected);
    if findings.iter().any(Finding::differs) {
        // Keys may have been rotated between two questions.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        collected = collect(args).await?;
        findings = against(&collected);
    }
    show(&collected, &findings, global)?;
    let different: Vec<&str> =
        findings.iter().filter(|finding| finding.differs()).map(|finding| finding.path.as_str()).collect();
    if !different.is_empty() {
        let what = format!("what the gateway publishes is not the same everywhere: {}", different.join(", "));
        return Err(Failure::new(Exit::Refused, what));
    }
    match (&args.seen, collected.history().and_then(Seen::of)) {
        (Some(path), Some(seen)) => seen.write(path),
        _ => Ok(()),
    }
}

async fn collect(args: &Args) -> Result<Collected, Failure> {
    let peers = args.peers.peers()?;
    // Connections of their own, and requests that look different: a gateway may not tell by them.
    let client = || HttpClient::new(HttpOptions { peers: peers.clone(), ..HttpOptions::default() });
    let mut published =
        vec![fetch::published(&client(), "gateway", &args.url, "application/ohttp-keys").await?];
    published.push(fetch::published(&client(), "gateway, asked otherwise", &args.url, "*/*").await?);
    for url in &args.mirror {
        published.push(fetch::published(&client(), compare::MIRROR, url, "application/ohttp-keys").await?);
    }
    Ok(Collected { published })
}

fn show(collected: &Collected, findings: &[Finding], global: &Global) -> Result<(), Failure> {
    const HEADING: [&str; 4] = ["path", "sha256", "agrees", "note"];
    let row = |finding: &Finding| {
        let digest = finding.sha256.as_deref().unwrap_or("");
        let short = if global.output == Format::Csv { digest } else { digest.get(..16).unwrap_or(digest) };
        vec![finding.path.clone(), short.to_owned(), finding.word().to_owned(), finding.note.clone()]
    };
    let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
    match global.output {
        Format::Csv => print::csv(&HEADING, &rows),
        Format::Table => print::columns(&HEADING, &rows),
        Format::Json => {
            let history = collected.history();
            let paths: Vec<Value> = findings.iter().map(Finding::json).collect();
            print::json(&json!({
                "agrees": !findings.iter().any(Finding::differs),
                "history_key": history.map(|history| hex::encode(history.key)),
                "entries": history.map(|history| history.entries.len()),
                "paths": paths,
            }))
        }
    }
}

fn digits(text: &str) -> Result<[u8; 32], Failure> {
    let mut key = [0; 32];
    let wrong = |_| Failure::usage("--history-key is not the 64 hexadecimal digits of a public key");
    hex::decode_to_slice(text, &mut key).map_err(wrong)?;
    Ok(key)
}

fn bundle(path: &std::path::Path) -> Result<TaskBundle, Failure> {
    Ok(TaskBundle::from_json(&files::read(path, "task bundle")?)?)
}
