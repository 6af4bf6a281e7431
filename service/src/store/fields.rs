//! Columns of a row, decoded strictly: what this program cannot have written is `Corrupt`, not a panic
//! and not a zero.

use std::str::FromStr;

use sqlx::any::AnyRow;
use sqlx::{Any, ColumnIndex, Decode, Row as _, Type};

use super::StoreError;

/// The columns of one row, and the name of its table for when one of them is corrupt.
pub struct Fields<'r> {
    table: &'static str,
    row: &'r AnyRow,
}

impl<'r> Fields<'r> {
    /// Reads `row` as one of `table`.
    pub fn of(table: &'static str, row: &'r AnyRow) -> Self {
        Self { table, row }
    }

    /// A column of any type that the database knows: `i64`, `String`, `Vec<u8>`, or `Option` of these.
    pub fn column<T>(&self, name: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, Any> + Type<Any>,
        for<'a> &'a str: ColumnIndex<AnyRow>,
    {
        self.row.try_get(name).map_err(|_| self.corrupt(name))
    }

    /// A BIGINT that is not NULL.
    pub fn integer(&self, name: &'static str) -> Result<i64, StoreError> {
        self.column(name)
    }

    /// A BIGINT that is neither NULL nor negative.
    pub fn unsigned(&self, name: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.integer(name)?).map_err(|_| self.corrupt(name))
    }

    /// A BIGINT that is NULL or not negative.
    pub fn optional_unsigned(&self, name: &'static str) -> Result<Option<u64>, StoreError> {
        let value: Option<i64> = self.column(name)?;
        value.map(|value| u64::try_from(value).map_err(|_| self.corrupt(name))).transpose()
    }

    /// A TEXT that is not NULL.
    pub fn text(&self, name: &'static str) -> Result<String, StoreError> {
        self.column(name)
    }

    /// A BYTEA that is not NULL.
    pub fn bytes(&self, name: &'static str) -> Result<Vec<u8>, StoreError> {
        self.column(name)
    }

    /// A BYTEA, or nothing where it is NULL.
    pub fn optional_bytes(&self, name: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
        self.column(name)
    }

    /// A BYTEA of exactly `N` bytes.
    pub fn array<const N: usize>(&self, name: &'static str) -> Result<[u8; N], StoreError> {
        self.bytes(name)?.try_into().map_err(|_| self.corrupt(name))
    }

    /// A TEXT that `T` can read: a state, an address, a draft.
    pub fn parsed<T: FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        self.text(name)?.parse().map_err(|_| self.corrupt(name))
    }

    /// A BYTEA that `decode` can read: an encoded message.
    pub fn decoded<T, E>(
        &self,
        name: &'static str,
        decode: impl FnOnce(&[u8]) -> Result<T, E>,
    ) -> Result<T, StoreError> {
        decode(&self.bytes(name)?).map_err(|_| self.corrupt(name))
    }

    /// The error for a column whose value makes no sense to the caller.
    pub fn corrupt(&self, name: &str) -> StoreError {
        StoreError::corrupt(self.table, name)
    }
}

/// A number as databases hold it.
pub fn signed(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::OutOfRange)
}
