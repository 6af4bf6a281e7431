//! What the databases of a run say. The oracle reads them, nobody else.

use mica_dap::batch::Checksum;
use mica_dap::codec::Decode as _;
use mica_dap::id::AggregateShareId;
use mica_dap::time::{Interval, Time};
use mica_service::store::{Fields, Store, StoreError};
use sqlx::any::AnyRow;

/// Both databases, open for looking.
pub(crate) struct Records {
    pub(crate) leader: Store,
    pub(crate) helper: Store,
}

/// A committed release of one aggregator.
#[derive(Clone)]
pub(crate) struct Released {
    /// The encoded interval of the query, or the batch identifier.
    pub(crate) batch_key: Vec<u8>,
    pub(crate) request: Vec<u8>,
    pub(crate) report_count: u64,
    pub(crate) checksum: Checksum,
    /// Empty at a helper that was told to forget it.
    pub(crate) sealed_share: Vec<u8>,
    /// Its name at the helper.
    pub(crate) share_id: Option<AggregateShareId>,
}

impl Released {
    /// The interval that was asked for; none where the leader selects.
    pub(crate) fn interval(&self) -> Option<Interval> {
        Interval::decoded(&self.batch_key).ok()
    }

    pub(crate) fn covers(&self, time: Time) -> bool {
        self.interval().is_some_and(|interval| interval.contains(time))
    }
}

/// The committed releases of an aggregator.
pub(crate) async fn released(store: &Store) -> Vec<Released> {
    let rows = store.read("releases_of_a_run", move |mut tx| async move {
        let query = sqlx::query("SELECT * FROM releases WHERE state = 'committed' ORDER BY id");
        let rows = query.fetch_all(tx.connection()).await?;
        let released = rows.iter().map(read).collect::<Result<Vec<_>, StoreError>>()?;
        Ok((tx, released))
    });
    rows.await.expect("the schema of this version")
}

fn read(row: &AnyRow) -> Result<Released, StoreError> {
    let fields = Fields::of("releases", row);
    Ok(Released {
        batch_key: fields.bytes("batch_key")?,
        request: fields.bytes("request")?,
        report_count: fields.unsigned("report_count")?,
        checksum: Checksum::from_slice(&fields.bytes("checksum")?).expect("32 bytes"),
        sealed_share: fields.bytes("sealed_share")?,
        share_id: fields.optional_bytes("share_id")?.and_then(|id| AggregateShareId::from_slice(&id)),
    })
}

/// How many reports met this end.
pub(crate) async fn tally(store: &Store, outcome: &str) -> u64 {
    let count = number(
        store,
        "SELECT CAST(COALESCE(SUM(reports), 0) AS BIGINT) AS n FROM tallies WHERE outcome = $1",
        outcome,
    );
    count.await
}

/// All ends that reports met, for whoever reads of a failure.
pub(crate) async fn tallies(store: &Store) -> String {
    let tallies = store.read("tallies_of_a_run", move |mut tx| async move {
        let query = "SELECT outcome, CAST(SUM(reports) AS BIGINT) AS n FROM tallies GROUP BY outcome ORDER BY outcome";
        let rows = sqlx::query(query).fetch_all(tx.connection()).await?;
        let told = rows.iter().map(|row| {
            let fields = Fields::of("tallies", row);
            Ok(format!("{} {}", fields.unsigned("n")?, fields.text("outcome")?))
        });
        let told = told.collect::<Result<Vec<_>, StoreError>>()?;
        Ok((tx, told))
    });
    tallies.await.expect("the schema of this version").join(", ")
}

/// Whether anything waits for somebody to work on it. A collection of too few reports does not.
pub(crate) async fn under_way(store: &Store) -> bool {
    let statement = "SELECT CAST(
             (SELECT COUNT(*) FROM segments WHERE $1 = '')
             + (SELECT COUNT(*) FROM aggregation_jobs WHERE state = 'active')
             + (SELECT COUNT(*) FROM collection_jobs WHERE state IN ('closing', 'reserved', 'abandoned'))
             AS BIGINT) AS n";
    let count = number(store, statement, "").await;
    count > 0
}

/// How many charges of the ledger were made, and how many of them were given back.
pub(crate) async fn charges(store: &Store) -> (u64, u64) {
    let statement = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM ledger WHERE kind = $1";
    (number(store, statement, "charge").await, number(store, statement, "refund").await)
}

/// Releases that are neither committed nor refunded.
pub(crate) async fn unsettled_releases(store: &Store) -> u64 {
    let statement = "SELECT CAST(COUNT(*) AS BIGINT) AS n FROM releases WHERE state = $1";
    number(store, statement, "reserved").await
}

async fn number(store: &Store, statement: &'static str, argument: &str) -> u64 {
    let number = store.read("number_of_a_run", move |mut tx| async move {
        let row = sqlx::query(statement).bind(argument).fetch_one(tx.connection()).await?;
        let number = Fields::of("numbers", &row).unsigned("n")?;
        Ok((tx, number))
    });
    number.await.expect("the schema of this version")
}

/// Why the jobs that are left did not come further.
pub(crate) async fn last_errors(store: &Store) -> String {
    let errors = store.read("errors_of_a_run", move |mut tx| async move {
        let query =
            "SELECT COALESCE(last_error, 'no error') AS why FROM aggregation_jobs WHERE state = 'active'
             UNION ALL SELECT state AS why FROM collection_jobs";
        let rows = sqlx::query(query).fetch_all(tx.connection()).await?;
        let errors = rows.iter().map(|row| Fields::of("aggregation_jobs", row).text("why"));
        let errors = errors.collect::<Result<Vec<_>, StoreError>>()?;
        Ok((tx, errors))
    });
    let errors = errors.await.expect("the schema of this version");
    errors.join("; ")
}
