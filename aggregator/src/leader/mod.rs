//! The leader, in the order a report travels through it: upload, job, verification with the helper, sum, collection.

pub(crate) mod aggregate;
mod ask;
mod blank;
pub(crate) mod collect;
pub(crate) mod collection;
mod complete;
mod fill_batches;
pub(crate) mod finish;
pub(crate) mod form_jobs;
mod included;
pub(crate) mod peer;
mod refusal;
mod rounds;
pub(crate) mod segment_writer;
mod split;
pub(crate) mod upload;
