//! `mica budget accept-restored`

use mica_aggregator::high_water::{Acceptance, HighWater};
use mica_service::clock::Clock;

use super::{Of, open};
use crate::exit::{Exit, Failure};
use crate::print;

/// Which ledger to accept.
#[derive(clap::Args)]
#[command(
    after_help = "An aggregator remembers outside its database how far its ledger had come. When the database was \
restored from an older copy, it releases nothing: what was released since the copy was made would be drawn for again, with \
other noise, and what was spent since would be spent twice. Whoever has both answers then knows more than any policy \
promised.

This command gives that up, for the entries that are missing, and leaves an entry that says who did it, when, and why: no \
command takes it out again. Before, if you can: restore a newer copy; or find out from the \
other aggregator what was released since (`mica budget history` there). A lowered limit in a new version of the policy can \
make up for what was spent.

A replica that is new has no mark, and neither has a database that was used by a version before 0.1: there nothing is \
missing, and nothing is given up."
)]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// Where the ledger ends, as the log, `mica doctor` and `mica budget verify` say: so many entries
    #[arg(long, value_name = "N")]
    entries: u64,
    /// Who takes it on: kept in the ledger, for whoever audits it
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Why: kept in the ledger as well
    #[arg(long, value_name = "TEXT")]
    why: String,
}

/// Does what the command line says.
pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let by = Acceptance::new(&args.by, &args.why).map_err(|error| Failure::usage(error.to_string()))?;
    let opened = open(&args.of.config).await?;
    let mark = HighWater::at(&opened.mark)?;
    let setback = mark.setback(&opened.store).await?;
    let Some(setback) = setback else {
        opened.store.close().await;
        return print::lines("the ledger is where it had come to; there is nothing to accept");
    };
    let now = Clock::system().now();
    let accepted = HighWater::accept(&opened.mark, &opened.store, args.entries, &by, now).await;
    opened.store.close().await;
    match accepted? {
        Some(head) => print::lines(&format!(
            "was: {setback}\naccepted: entry {} of the ledger says so, and releases go on from there",
            head.sequence
        )),
        None => Err(Failure::new(
            Exit::Refused,
            format!("the ledger does not end at entry {}; {setback}", args.entries),
        )),
    }
}
