//! From a measurement to a sealed report on its way through the relay.
//!
//! This is the only part of mica that ever holds a measurement, and it holds it no longer than it takes to shard it. What
//! leaves it is one HTTP request to the relay, of one of few sizes, that says neither which task it is about nor what
//! is inside; also the keys of the aggregators are fetched that way, so that neither aggregator sees an address. The
//! gateway's own keys are fetched from the copy that the relay shows everybody, and checked against a signed history.
//!
//! * [`TaskBundle`]: all that an app needs to know of a task, one JSON document.
//! * [`ReportBuilder`]: measurement to [`Report`](mica_dap::report::Report); pure, given keys and a time.
//! * [`Client`]: fetches keys, uploads, reads the answer for each report.

mod bundle;
mod caps;
mod client;
mod error;
mod freshness;
mod keys;
mod patience;
mod report;
mod transport;

pub use bundle::{BundleError, PinError, TaskBundle};
pub use caps::{CapError, Counter, ReportCaps};
pub use client::{Client, UploadOutcome, fetch_history, fetch_ohttp_keys};
pub use error::ClientError;
pub use report::ReportBuilder;
