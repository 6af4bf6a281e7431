//! The language all parties of mica speak: the messages of the Distributed Aggregation Protocol (DAP).
//!
//! Bytes in, values out, and back. There is no I/O here, no clock and no database; time and randomness are
//! arguments. Peers write most of what is read here, so every decoder is strict and bounded.
//!
//! In the order a report travels:
//!
//! * [`codec`], [`id`], [`time`], [`extension`]: what every message is made of;
//! * [`draft`]: the edition a task speaks;
//! * [`task`], [`vdaf_config`]: what the parties agreed on, part of the additional data of every encryption;
//! * [`vdaf`], [`hpke_config`], [`hpke`]: sharing a measurement, and sealing each share to its aggregator;
//! * [`report`], [`report_error`]: what a client uploads, and why a report is refused;
//! * [`aggregation`], [`batch`]: how leader and helper verify reports together and put them into buckets;
//! * [`collection`]: how a batch is asked for and its two shares are answered;
//! * [`media`], [`resource`], [`problem`]: how all this looks in HTTP.

pub mod aggregation;
pub mod batch;
pub mod codec;
pub mod collection;
pub mod draft;
pub mod extension;
pub mod hpke;
pub mod hpke_config;
pub mod id;
mod location;
pub mod media;
pub mod problem;
pub mod report;
pub mod report_error;
pub mod resource;
pub mod task;
pub mod taskprov;
pub mod time;
pub mod vdaf;
pub mod vdaf_config;
mod verify_key;

pub use codec::{Decode, Encode, Malformed};
pub use draft::Draft;
