//! Many rows in one statement, without passing the number of values that a statement may bind.

use std::fmt::Write as _;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe};

use super::{StoreError, Tx};

/// A query that is being given its values: `bound.bind(..)`.
pub type Bound<'q> = Query<'q, Any, AnyArguments>;

impl Tx {
    /// Inserts `rows` and returns how many were inserted.
    ///
    /// `insert` is everything before the values (`INSERT INTO t (a, b)`), `suffix` everything after
    /// (`ON CONFLICT DO NOTHING` or nothing). `bind` must bind exactly `columns` values.
    pub async fn insert_many<'q, R>(
        &mut self,
        (insert, suffix): (&'static str, &'static str),
        columns: usize,
        rows: &'q [R],
        bind: impl Fn(Bound<'q>, &'q R) -> Bound<'q> + Send,
    ) -> Result<u64, StoreError>
    where
        R: Sync,
    {
        let mut inserted = 0;
        for chunk in chunks(rows, self.dialect().bind_limit() / columns.max(1)) {
            let query = sqlx::query(AssertSqlSafe(statement(insert, suffix, columns, chunk.len())));
            let query = chunk.iter().fold(query, &bind);
            inserted += query.execute(self.connection()).await?.rows_affected();
        }
        Ok(inserted)
    }

    /// As [`Tx::insert_many`], for a `suffix` that ends in `RETURNING ..`: all the rows it returns.
    pub async fn insert_many_returning<'q, R>(
        &mut self,
        (insert, suffix): (&'static str, &'static str),
        columns: usize,
        rows: &'q [R],
        bind: impl Fn(Bound<'q>, &'q R) -> Bound<'q> + Send,
    ) -> Result<Vec<AnyRow>, StoreError>
    where
        R: Sync,
    {
        let mut returned = Vec::new();
        for chunk in chunks(rows, self.dialect().bind_limit() / columns.max(1)) {
            let query = sqlx::query(AssertSqlSafe(statement(insert, suffix, columns, chunk.len())));
            let query = chunk.iter().fold(query, &bind);
            returned.extend(query.fetch_all(self.connection()).await?);
        }
        Ok(returned)
    }
}

/// Cuts `rows` into pieces whose lengths are powers of two, the largest first: statements of few
/// different lengths stay prepared.
fn chunks<R>(rows: &[R], most: usize) -> impl Iterator<Item = &[R]> {
    let most = most.clamp(1, LONGEST);
    let mut rest = rows;
    std::iter::from_fn(move || {
        let length = 1_usize << rest.len().min(most).checked_ilog2()?;
        let (chunk, after) = rest.split_at(length);
        rest = after;
        Some(chunk)
    })
}

fn statement(insert: &str, suffix: &str, columns: usize, rows: usize) -> String {
    let mut sql = String::with_capacity(insert.len() + suffix.len() + rows * columns * 7 + 16);
    sql.push_str(insert);
    sql.push_str(" VALUES ");
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            let comma = if column == 0 { "" } else { ", " };
            write!(sql, "{comma}${}", row * columns + column + 1).expect("a string can always be written to");
        }
        sql.push(')');
    }
    sql.push(' ');
    sql.push_str(suffix);
    sql
}

/// Longer statements gain nothing and hold more memory.
const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use super::{chunks, statement};

    #[test]
    fn rows_are_cut_into_powers_of_two_and_none_is_lost() {
        let rows: Vec<u32> = (0..1_339).collect();
        let lengths: Vec<usize> = chunks(&rows, 10_000).map(<[u32]>::len).collect();
        assert_eq!(lengths, [512, 512, 256, 32, 16, 8, 2, 1]);
        assert_eq!(chunks(&rows, 10_000).flatten().copied().collect::<Vec<_>>(), rows);
        assert_eq!(chunks(&rows, 3).map(<[u32]>::len).max(), Some(2));
        assert_eq!(chunks::<u32>(&[], 10).count(), 0);
    }

    #[test]
    fn values_are_numbered_through() {
        assert_eq!(
            statement("INSERT INTO t (a, b)", "ON CONFLICT DO NOTHING", 2, 2),
            "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING"
        );
    }
}
