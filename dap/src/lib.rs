//! The language all parties of mica speak: the messages of the Distributed Aggregation Protocol (DAP).
//!
//! Bytes in, values out, and back. There is no I/O here, no clock and no database; time and randomness are
//! arguments. Peers write most of what is read here, so every decoder is strict and bounded.
//!
//! In the order a report travels:
//!
//! * [`codec`], [`id`], [`time`], [`extension`]: what every message is made of;
//! * [`hpke_config`]: public keys and sealed boxes, as written;
//! * [`draft`]: the edition a task speaks;
//! * [`task`], [`vdaf_config`]: what the parties agreed on, part of the additional data of every encryption.

pub mod codec;
pub mod draft;
pub mod extension;
pub mod hpke_config;
pub mod id;
pub mod task;
pub mod time;
pub mod vdaf_config;

pub use codec::{Decode, Encode, Malformed};
pub use draft::Draft;
