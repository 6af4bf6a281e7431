//! `mica budget verify`

use mica_aggregator::budget::{Verified, verify};
use mica_aggregator::high_water::HighWater;
use serde_json::json;

use super::{Of, open};
use crate::args::{Format, Global};
use crate::exit::{Exit, Failure};
use crate::print;

/// Whose ledger.
#[derive(clap::Args)]
#[command(
    after_help = "What is checked: the hash chain from its first entry; that every charge fitted what was left \
                        when it was made, that refunds give back what was charged and nothing is charged twice; that \
                        each charge follows from the text of the policy version that it names (sensitivity, noise, \
                        cost, limit, window, caps); that what is kept as spent is what the entries add up to; that every \
                        release is charged to all its budgets and settled alike at all of them; that every noised \
                        release was paid for, with its noise, at the time of its data; that no release left \
                        without noise unless the policy that it names allows it and its task is bound to no statement; \
                        and that the ledger has come as far as the high-water mark.

Exit codes: 0 all of it follows, 4 something does not; the first entry that does not is named."
)]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    let opened = open(&args.of.config).await?;
    let mark = HighWater::at(&opened.mark)?;
    let verified = verify(&opened.store, &mark).await;
    opened.store.close().await;
    match verified? {
        Ok(verified) => print(&verified, global.output),
        Err(unsound) => Err(Failure::new(Exit::Refused, format!("the ledger does not hold: {unsound}"))),
    }
}

fn print(verified: &Verified, format: Format) -> Result<(), Failure> {
    let Verified { charges, refunds, commits, accepted_restores, policies, head } = verified;
    let hash = hex::encode(head.hash);
    match format {
        Format::Json => print::json(&json!({
            "ok": true,
            "entries": head.sequence,
            "charges": charges,
            "refunds": refunds,
            "commits": commits,
            "accepted_restores": accepted_restores,
            "policies": policies,
            "head": hash,
        })),
        Format::Table | Format::Csv => print::lines(&format!(
            "ok: {} entries ({charges} charges, {refunds} refunds, {commits} commits) follow from {policies} policy \
             versions and from each other; the last has hash {hash}{}",
            head.sequence,
            restores(*accepted_restores)
        )),
    }
}

/// Whoever audits the ledger is not to miss it.
fn restores(accepted: usize) -> String {
    if accepted == 0 {
        return String::new();
    }
    format!(
        "\nnote: {accepted} accepted restores are among them: what was charged and released between the copy and each of \
         them is missing; `mica budget history` tells who took that on, and why"
    )
}
