//! The gate every aggregate share passes on its way out, at both aggregators: charge, draw, seal, record, close, in one
//! transaction of the caller.
//!
//! A batch is drawn for once, and whoever asks again is answered from the row. An aggregate share is sealed here and
//! nowhere else, and only when it is [`Noised`](mica_dp::Noised). The exact total of a batch must never leave this
//! module in any other form.

mod draw;
mod gate;
mod memory;
mod noise;
mod refused;
#[cfg(test)]
pub(crate) mod tests;
mod totals;

pub(crate) use self::gate::{Batch, Reference, commit, commit_now, one_batch, refund, reserve, span};
pub(crate) use self::memory::{forget_aged, remember};
pub(crate) use self::noise::{NoiseReserve, Portion};
pub(crate) use self::refused::{Refused, ReleaseError};
pub(crate) use self::totals::{BatchTotals, totals};
