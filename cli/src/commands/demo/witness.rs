//! Who saw what: derived from what every role logged and stored in this run, and from what it served.
//!
//! Two kinds of evidence. What a role *kept* is searched for, byte by byte. What it *saw* in passing follows from what it
//! answered, which its counters say: whoever takes a client's connection sees its address, whoever opens an envelope sees
//! which task it is for. A role that kept what it must never learn fails the run.

use std::path::Path;

use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use super::search::{Found, Kind, Search};
use crate::deployment::{Databases, is_postgres};
use crate::exit::Failure;
use crate::screen::{Signs, table, thousands};

/// What was found with each role.
pub(super) struct Evidence {
    relay: Kept,
    gateway: Kept,
    leader: Kept,
    helper: Kept,
    process: Kept,
    counts: Counts,
}

/// How much each role served, from its own counters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// Requests that ended at the relay.
    pub(super) relayed: u64,
    /// Envelopes that the gateway opened and sent on.
    pub(super) opened: u64,
    /// How many identifiers and how many shares were looked for.
    pub(super) looked_for: (usize, usize),
}

/// What one role keeps.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    log: Found,
    database: Option<Found>,
}

impl Evidence {
    /// Searches all logs in `folder` and all databases.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub(super) async fn gather(
        folder: &Path,
        databases: &Databases,
        search: &Search,
        counts: Counts,
    ) -> Result<Self, Failure> {
        let log = |role: &str| -> Result<Found, Failure> {
            let path = folder.join(format!("{role}.log"));
            let bytes = std::fs::read(&path)
                .map_err(|error| Failure::unexpected(format!("cannot read {}: {error}", path.display())))?;
            Ok(search.through(&bytes))
        };
        Ok(Self {
            relay: Kept { log: log("relay")?, database: None },
            gateway: Kept {
                log: log("gateway")?,
                database: Some(database(&databases.gateway, search).await?),
            },
            leader: Kept { log: log("leader")?, database: Some(database(&databases.leader, search).await?) },
            helper: Kept { log: log("helper")?, database: Some(database(&databases.helper, search).await?) },
            process: Kept { log: log(PROCESS)?, database: None },
            counts,
        })
    }

    /// Nothing is where it must not be.
    ///
    /// # Errors
    /// With the first find, in a sentence.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let everything = [Kind::ClientAddress, Kind::TaskId, Kind::ReportId, Kind::Share];
        let but_the_task = [Kind::ClientAddress, Kind::ReportId, Kind::Share];
        let in_the_clear = [Kind::ClientAddress, Kind::Share];
        let logs = [
            ("relay", &self.relay.log, &everything[..]),
            ("gateway", &self.gateway.log, &everything),
            ("leader", &self.leader.log, &but_the_task),
            ("helper", &self.helper.log, &but_the_task),
            ("process", &self.process.log, &but_the_task),
        ];
        let databases = [
            ("gateway", &self.gateway.database, &everything[..]),
            ("leader", &self.leader.database, &in_the_clear),
            ("helper", &self.helper.database, &in_the_clear),
        ];
        let databases = databases
            .into_iter()
            .filter_map(|(role, found, kinds)| Some((role, "database", found.as_ref()?, kinds)));
        let logs = logs.into_iter().map(|(role, found, kinds)| (role, "log", found, kinds));
        for (role, place, found, kinds) in logs.chain(databases) {
            if let Some(kind) = kinds.iter().find(|kind| found.of(**kind) > 0) {
                let (what, times) = (describe(*kind), found.of(*kind));
                return Err(Failure::unexpected(format!(
                    "the {place} of the {role} holds {what} ({times} times), which must never be there"
                )));
            }
        }
        // Without these the search would prove nothing: it must be able to find what is there.
        for (role, kept) in [("leader", &self.leader), ("helper", &self.helper)] {
            let found = kept.all();
            if found.task_ids == 0 || found.report_ids == 0 {
                return Err(Failure::unexpected(format!(
                    "the search found neither task nor reports with the {role}, where they must be"
                )));
            }
        }
        Ok(())
    }

    /// The table, and how each line of it is known.
    pub(super) fn describe(&self, signs: Signs) -> String {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let row = |name: &str, address: bool, task: bool, value: &str| {
            vec![format!("  {name}"), yes(address), yes(task), value.to_owned()]
        };
        let (relay, gateway) = (self.relay.all(), self.gateway.all());
        let aggregators = self.leader.all().and(self.helper.all());
        let share = |found: &Found, otherwise: &str| match found.shares {
            0 => otherwise.to_owned(),
            count => format!("{count} shares in the clear"),
        };
        let rows = [
            row(
                "relay",
                self.counts.relayed > 0 || relay.client_addresses > 0,
                relay.task_ids > 0,
                &share(&relay, "no"),
            ),
            row(
                "gateway",
                gateway.client_addresses > 0,
                self.counts.opened > 0 || gateway.task_ids > 0,
                &share(&gateway, "no"),
            ),
            row(
                "leader, helper",
                aggregators.client_addresses > 0,
                aggregators.task_ids > 0,
                &share(&aggregators, "one share each: random-looking"),
            ),
            row("collector", false, true, "only the table above"),
        ];
        let table = table(&["Who saw what", "IP address", "which task", "the value"], &rows);
        format!("{table}\n{}", self.how(signs))
    }

    fn how(&self, signs: Signs) -> String {
        let (reports, shares) = self.counts.looked_for;
        let all = [&self.relay, &self.gateway, &self.leader, &self.helper, &self.process];
        let bytes = all.iter().map(|kept| kept.all().bytes).sum::<u64>();
        let dot = signs.dot();
        format!(
            "  Known from this run: 5 logs (level debug) and 3 databases, {} KiB, searched for client addresses, the task's\n  \
             identifier, {} report identifiers and {} shares, as bytes, hexadecimal and base64.\n  \
             {dot} relay: {} requests ended there, so it saw addresses; its log names none, and no task; it stores nothing.\n  \
             {dot} gateway: opened {} envelopes, so it saw the task. Nothing of them is in its log; its\n    \
             database has of each a digest, and the answer, locked with the request itself.\n  \
             {dot} leader, helper: the task is stored and, to refuse replays, the identifiers of its reports; no address,\n    \
             and no share in the clear. Each opens its own share in memory, verifies it and adds it up.",
            thousands(bytes / 1024),
            thousands(reports as u64),
            thousands(shares as u64),
            thousands(self.counts.relayed),
            thousands(self.counts.opened),
        )
    }
}

impl Kept {
    fn all(&self) -> Found {
        self.log.and(self.database.unwrap_or_default())
    }
}

fn describe(kind: Kind) -> &'static str {
    match kind {
        Kind::ClientAddress => "the address of a client",
        Kind::TaskId => "the identifier of the task",
        Kind::ReportId => "the identifier of a report",
        Kind::Share => "a share of a measurement in the clear",
    }
}

async fn database(url: &str, search: &Search) -> Result<Found, Failure> {
    if is_postgres(url) {
        return on_server(url, search)
            .await
            .map_err(|error| Failure::unexpected(format!("the database cannot be searched: {error}")));
    }
    let file = url.strip_prefix("sqlite:").unwrap_or(url);
    let mut found = Found::default();
    // The file as it lies on the disk, with what was written to it last and what was deleted from it.
    for path in [file.to_owned(), format!("{file}-wal")] {
        match std::fs::read(&path) {
            Ok(bytes) => found = found.and(search.through(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path != file => {}
            Err(error) => return Err(Failure::unexpected(format!("cannot read {path}: {error}"))),
        }
    }
    Ok(found)
}

/// Every row of every table, as text; bytes are in hexadecimal there.
async fn on_server(url: &str, search: &Search) -> Result<Found, sqlx::Error> {
    let mut connection = AnyConnection::connect(url).await?;
    let tables =
        sqlx::query("-- tables\nSELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public'")
            .fetch_all(&mut connection)
            .await?;
    let mut found = Found::default();
    for row in tables {
        let name: String = row.try_get(0)?;
        let rows = format!("-- rows\nSELECT CAST(t AS TEXT) FROM \"{}\" t", name.replace('"', "\"\""));
        for row in sqlx::query(AssertSqlSafe(rows)).fetch_all(&mut connection).await? {
            found = found.and(search.through(row.try_get::<String, _>(0)?.as_bytes()));
        }
    }
    connection.close().await?;
    Ok(found)
}

/// The log of what belongs to no role.
pub(super) const PROCESS: &str = "process";

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil = fn(&mut Evidence, Found);

    fn kept(log: Found, database: Option<Found>) -> Kept {
        Kept { log, database }
    }

    fn clean() -> Evidence {
        let stored = Found { task_ids: 1, report_ids: 10, ..Found::default() };
        Evidence {
            relay: Kept::default(),
            gateway: kept(Found::default(), Some(Found::default())),
            leader: kept(Found::default(), Some(stored)),
            helper: kept(Found::default(), Some(stored)),
            process: Kept::default(),
            counts: Counts { relayed: 12, opened: 12, looked_for: (10, 20) },
        }
    }

    #[test]
    fn the_table_says_what_the_evidence_says() {
        let evidence = clean();
        evidence.check().unwrap();
        let text = evidence.describe(Signs::Ascii);
        let cells: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(cells[1], ["relay", "yes", "no", "no"]);
        assert_eq!(cells[2], ["gateway", "no", "yes", "no"]);
        assert_eq!(cells[3], ["leader, helper", "no", "yes", "one share each: random-looking"]);
        assert!(text.is_ascii());
    }

    #[test]
    fn a_role_that_kept_what_it_must_not_fails_the_run_and_shows_in_the_table() {
        let address = Found { client_addresses: 1, ..Found::default() };
        let share = Found { shares: 3, ..Found::default() };
        let task = Found { task_ids: 1, ..Found::default() };
        let cases: [(Spoil, Found, &str); 4] = [
            (|it, found| it.relay.log = found, task, "log of the relay holds the identifier of the task"),
            (|it, found| it.gateway.log = found, address, "log of the gateway holds the address"),
            (|it, found| it.gateway.database = Some(found), task, "database of the gateway"),
            (|it, found| it.leader.database = Some(found), share, "database of the leader holds a share"),
        ];
        for (spoil, found, expected) in cases {
            let mut evidence = clean();
            spoil(&mut evidence, found);
            let failure = evidence.check().unwrap_err();
            assert!(failure.to_string().contains(expected), "{failure}");
        }
        let mut evidence = clean();
        evidence.gateway.log = address;
        assert!(
            evidence.describe(Signs::Ascii).lines().any(|line| {
                line.split_whitespace().collect::<Vec<_>>() == ["gateway", "yes", "yes", "no"]
            })
        );
    }

    #[test]
    fn a_search_that_finds_nothing_at_all_proves_nothing() {
        let mut evidence = clean();
        evidence.helper = kept(Found::default(), Some(Found::default()));
        assert!(evidence.check().is_err());
    }
}
