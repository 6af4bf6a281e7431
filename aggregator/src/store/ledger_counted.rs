//! The columns of a ledger entry that say how it counts; all NULL in entries of the first schema.

use std::num::NonZeroU32;

use mica_dp::accountant::{Caps, Measure, Span, Window};
use mica_dp::ledger::Counted;
use mica_service::store::{Fields, StoreError};
use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

/// Binds them in their order.
pub(super) fn bind<'q>(
    query: Query<'q, Any, AnyArguments>,
    counted: Option<&Counted>,
) -> Query<'q, Any, AnyArguments> {
    query
        .bind(counted.map(|it| it.data.from()))
        .bind(counted.map(|it| it.data.to()))
        .bind(counted.map(|it| it.window.name()))
        .bind(counted.map(|it| it.measure.name()))
        .bind(counted.map(|it| i64::from(it.caps.per_batch.get())))
        .bind(counted.map(|it| i64::from(it.caps.per_window.get())))
        .bind(counted.map(|it| it.caps.window.name()))
        .bind(counted.and_then(|it| it.epsilon_units))
}

/// What they say.
pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Counted>, StoreError> {
    let Some(from) = fields.column::<Option<i64>>("data_from")? else { return Ok(None) };
    let reports = |name| {
        let number = u32::try_from(fields.unsigned(name)?).ok().and_then(NonZeroU32::new);
        number.ok_or_else(|| fields.corrupt(name))
    };
    let window = |name| Window::from_name(&fields.text(name)?).ok_or_else(|| fields.corrupt(name));
    Ok(Some(Counted {
        window: window("budget_window")?,
        measure: Measure::from_name(&fields.text("measure")?).ok_or_else(|| fields.corrupt("measure"))?,
        data: Span::new(from, fields.integer("data_to")?).map_err(|_| fields.corrupt("data_to"))?,
        caps: Caps {
            per_batch: reports("per_batch")?,
            per_window: reports("per_window")?,
            window: window("contribution_window")?,
        },
        epsilon_units: fields.column::<Option<i64>>("epsilon_units")?,
    }))
}
