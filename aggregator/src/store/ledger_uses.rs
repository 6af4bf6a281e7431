//! What each budget has paid for and was not given back: the ledger, folded. Releases that count alike are one row.
//!
//! Changed only together with the ledger, under [`ledger::head`](super::ledger::head), which keeps others away; a ledger
//! that is read again from its first entry gives the same rows.

use std::num::NonZeroU32;

use mica_dp::accountant::{Caps, Span, Use, Window};
use mica_service::store::{Fields, StoreError, Tx, signed};
use sqlx::Any;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;

use super::columns::found;

/// What a budget has paid for, of releases whose data ends later than `after`.
pub async fn of_budget(tx: &mut Tx, budget_id: &str, after: i64) -> Result<Vec<Use>, StoreError> {
    let rows = sqlx::query(
        "-- budget_uses_of_budget
         SELECT * FROM budget_uses WHERE budget_id = $1 AND span_to > $2 AND releases > 0",
    )
    .bind(budget_id)
    .bind(after)
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// What all budgets have paid for.
pub async fn all(tx: &mut Tx) -> Result<Vec<Use>, StoreError> {
    let rows = sqlx::query(
        "-- budget_uses
         SELECT * FROM budget_uses WHERE releases > 0",
    )
    .fetch_all(tx.connection())
    .await?;
    rows.iter().map(read).collect()
}

/// One more release like this.
pub async fn add(tx: &mut Tx, new: &Use) -> Result<(), StoreError> {
    let query = sqlx::query(
        "-- add_budget_use
         INSERT INTO budget_uses (budget_id, task, span_from, span_to, units, epsilon_units, per_batch, per_window,
             contribution_window, releases)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (budget_id, task, span_from, span_to, units, epsilon_units, per_batch, per_window,
             contribution_window)
         DO UPDATE SET releases = budget_uses.releases + excluded.releases",
    );
    bind(query, new).bind(signed(new.releases)?).execute(tx.connection()).await?;
    Ok(())
}

/// One release less like this. False when there is none.
pub async fn take_back(tx: &mut Tx, gone: &Use) -> Result<bool, StoreError> {
    let query = sqlx::query(
        "-- take_budget_use_back
         UPDATE budget_uses SET releases = releases - 1
         WHERE budget_id = $1 AND task = $2 AND span_from = $3 AND span_to = $4 AND units = $5
             AND epsilon_units = $6 AND per_batch = $7 AND per_window = $8 AND contribution_window = $9
             AND releases > 0",
    );
    let done = bind(query, gone).execute(tx.connection()).await?;
    Ok(found(done.rows_affected()))
}

fn bind<'q>(query: Query<'q, Any, AnyArguments>, of: &'q Use) -> Query<'q, Any, AnyArguments> {
    query
        .bind(of.budget_id.as_str())
        .bind(of.task.as_slice())
        .bind(of.span.from())
        .bind(of.span.to())
        .bind(of.units)
        .bind(of.epsilon_units.unwrap_or(NOT_LAPLACE))
        .bind(i64::from(of.caps.per_batch.get()))
        .bind(i64::from(of.caps.per_window.get()))
        .bind(of.caps.window.name())
}

fn read(row: &AnyRow) -> Result<Use, StoreError> {
    let fields = Fields::of("budget_uses", row);
    let reports = |name| {
        let number = u32::try_from(fields.unsigned(name)?).ok().and_then(NonZeroU32::new);
        number.ok_or_else(|| fields.corrupt(name))
    };
    let (from, to) = (fields.integer("span_from")?, fields.integer("span_to")?);
    let window = Window::from_name(&fields.text("contribution_window")?);
    Ok(Use {
        budget_id: fields.text("budget_id")?,
        task: fields.array("task")?,
        span: Span::new(from, to).map_err(|_| fields.corrupt("span_to"))?,
        units: fields.integer("units")?,
        epsilon_units: Some(fields.integer("epsilon_units")?).filter(|units| *units != NOT_LAPLACE),
        caps: Caps {
            per_batch: reports("per_batch")?,
            per_window: reports("per_window")?,
            window: window.ok_or_else(|| fields.corrupt("contribution_window"))?,
        },
        releases: fields.unsigned("releases")?,
    })
}

/// A key has no NULL.
const NOT_LAPLACE: i64 = -1;
