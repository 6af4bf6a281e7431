//! What an aggregator counts, as Prometheus reads it (text format 0.0.4).
//!
//! A task is named by its public identifier. Nothing here knows of a report more than how many there were.

use mica_dap::id::TaskId;
use mica_service::metrics::Text;
use mica_service::store::{Fields, Store, StoreError, Tx};

use crate::high_water::Setback;

/// The figures of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many reports of which task met which end.
    pub reports: Vec<(TaskId, String, u64)>,
    /// How many jobs are not settled, by the reason of their last attempt; `none` before the first.
    pub jobs: Vec<(String, u64)>,
    /// How many collections are in which state.
    pub collections: Vec<(String, u64)>,
    /// How many batches of the leader's choice are in which state.
    pub batches: Vec<(String, u64)>,
    /// When the oldest report was taken that is not in a bucket yet.
    pub oldest_report_at: Option<u64>,
    /// How long one unit of which work takes, in microseconds.
    pub service_times: Vec<(&'static str, u64)>,
    /// Of each budget what is spent in the window of now, in thousandths of its limit, and whether that is as much as
    /// its `warn_at`.
    pub budgets: Vec<(String, u64, bool)>,
    /// How the ledger was set back, so that nothing is released, if it was: a word of [`Setback::WORDS`].
    pub set_back: Option<&'static str>,
}

impl Figures {
    /// Reads the figures of one database.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read(store: &Store) -> Result<Self, StoreError> {
        store
            .read("metrics", |mut tx| async move {
                let figures = Self {
                    reports: reports(&mut tx).await?,
                    jobs: jobs(&mut tx).await?,
                    collections: collections(&mut tx).await?,
                    batches: batches(&mut tx).await?,
                    oldest_report_at: oldest(&mut tx).await?,
                    service_times: Vec::new(),
                    budgets: Vec::new(),
                    set_back: None,
                };
                Ok((tx, figures))
            })
            .await
    }

    /// The text that a scraper gets at `now`.
    #[must_use]
    pub fn render(&self, now: u64) -> String {
        let mut text = Text::default();
        text.family("mica_reports_total", "counter", "Reports by task and by the end they met");
        for (task, outcome, reports) in &self.reports {
            let task = task.to_string();
            text.sample("mica_reports_total", &[("task", &task), ("outcome", outcome)], *reports);
        }
        text.family(
            "mica_jobs",
            "gauge",
            "Aggregation jobs that are not settled, by why the last attempt did not",
        );
        for (reason, jobs) in &self.jobs {
            text.sample("mica_jobs", &[("reason", reason)], *jobs);
        }
        text.family("mica_collections", "gauge", "Collections by state");
        for (state, collections) in &self.collections {
            text.sample("mica_collections", &[("state", state)], *collections);
        }
        text.family("mica_batches", "gauge", "Batches of the leader's choice by state");
        for (state, batches) in &self.batches {
            text.sample("mica_batches", &[("state", state)], *batches);
        }
        text.family(
            "mica_oldest_report_age_seconds",
            "gauge",
            "Age of the oldest report that is not aggregated; 0 without one",
        );
        let age = self.oldest_report_at.map_or(0, |at| now.saturating_sub(at));
        text.sample("mica_oldest_report_age_seconds", &[], age);
        text.family(
            "mica_service_microseconds",
            "gauge",
            "How long one unit of work takes, a moving average",
        );
        for (work, microseconds) in &self.service_times {
            text.sample("mica_service_microseconds", &[("work", work)], *microseconds);
        }
        spent(&mut text, &self.budgets);
        let help = "Whether the ledger of budgets was set back in this way, and nothing is released";
        text.family("mica_ledger_set_back", "gauge", help);
        for how in Setback::WORDS {
            let set_back = self.set_back == Some(how);
            text.sample("mica_ledger_set_back", &[("how", how)], u64::from(set_back));
        }
        text.into_string()
    }
}

fn spent(text: &mut Text, budgets: &[(String, u64, bool)]) {
    let help = "What is spent of a budget for data of this moment, as a part of its limit, rounded up";
    text.family("mica_budget_spent_ratio", "gauge", help);
    for (budget, spent, _) in budgets {
        let ratio = format!("{}.{:03}", spent / 1_000, spent % 1_000);
        text.sample("mica_budget_spent_ratio", &[("budget", budget)], ratio);
    }
    let help = "Whether a budget is spent as far as its warn_at";
    text.family("mica_budget_warned", "gauge", help);
    for (budget, _, warned) in budgets {
        text.sample("mica_budget_warned", &[("budget", budget)], u64::from(*warned));
    }
}

async fn reports(tx: &mut Tx) -> Result<Vec<(TaskId, String, u64)>, StoreError> {
    let rows = sqlx::query(
        "-- metrics_reports
         SELECT tasks.task_id, tallies.outcome, tallies.reports
         FROM tallies JOIN tasks ON tasks.id = tallies.task ORDER BY tasks.id, tallies.outcome LIMIT 20000",
    )
    .fetch_all(tx.connection())
    .await?;
    let read = |row| {
        let fields = Fields::of("tallies", row);
        Ok((TaskId::new(fields.array("task_id")?), fields.text("outcome")?, fields.unsigned("reports")?))
    };
    rows.iter().map(read).collect()
}

async fn jobs(tx: &mut Tx) -> Result<Vec<(String, u64)>, StoreError> {
    let rows = sqlx::query(
        "-- metrics_jobs
         SELECT COALESCE(reason, 'none') AS word, CAST(COUNT(*) AS BIGINT) AS n
         FROM aggregation_jobs WHERE state = 'active' GROUP BY COALESCE(reason, 'none') ORDER BY word",
    )
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(|row| counted("aggregation_jobs", row)).collect()
}

async fn collections(tx: &mut Tx) -> Result<Vec<(String, u64)>, StoreError> {
    let rows = sqlx::query(
        "-- metrics_collections
         SELECT state AS word, CAST(COUNT(*) AS BIGINT) AS n FROM collection_jobs GROUP BY state ORDER BY state",
    )
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(|row| counted("collection_jobs", row)).collect()
}

async fn batches(tx: &mut Tx) -> Result<Vec<(String, u64)>, StoreError> {
    let rows = sqlx::query(
        "-- metrics_batches
         SELECT state AS word, CAST(COUNT(*) AS BIGINT) AS n FROM batches GROUP BY state ORDER BY state",
    )
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(|row| counted("batches", row)).collect()
}

fn counted(table: &'static str, row: &sqlx::any::AnyRow) -> Result<(String, u64), StoreError> {
    let fields = Fields::of(table, row);
    Ok((fields.text("word")?, fields.unsigned("n")?))
}

async fn oldest(tx: &mut Tx) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(
        "-- metrics_oldest_report
         SELECT created_at FROM segments ORDER BY id LIMIT 1",
    )
    .fetch_optional(tx.connection())
    .await?;
    row.as_ref().map(|row| Fields::of("segments", row).unsigned("created_at")).transpose()
}

#[cfg(test)]
mod tests {
    use mica_dap::id::TaskId;

    use super::Figures;

    #[test]
    fn figures_are_written_as_a_scraper_reads_them() {
        let figures = Figures {
            reports: vec![(TaskId::new([0; 32]), "uploaded".to_owned(), 7)],
            jobs: vec![("none".to_owned(), 1), ("unreachable".to_owned(), 2)],
            collections: vec![("a \"b\\\n".to_owned(), 3)],
            batches: vec![("failed".to_owned(), 4)],
            oldest_report_at: Some(90),
            service_times: vec![("upload", 250)],
            budgets: vec![("weekly".to_owned(), 812, true)],
            set_back: Some("older"),
        };
        let text = figures.render(100);
        for line in [
            "# TYPE mica_reports_total counter",
            "mica_reports_total{task=\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",outcome=\"uploaded\"} 7",
            "mica_jobs{reason=\"unreachable\"} 2",
            "mica_collections{state=\"a \\\"b\\\\\\n\"} 3",
            "mica_batches{state=\"failed\"} 4",
            "mica_oldest_report_age_seconds 10",
            "mica_service_microseconds{work=\"upload\"} 250",
            "mica_budget_spent_ratio{budget=\"weekly\"} 0.812",
            "mica_budget_warned{budget=\"weekly\"} 1",
            "mica_ledger_set_back{how=\"older\"} 1",
            "mica_ledger_set_back{how=\"unmarked\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(Figures::default().render(5).contains("mica_oldest_report_age_seconds 0\n"));
    }
}
