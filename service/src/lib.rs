//! What every server of mica needs, whichever role it plays: a listener that drains, an HTTP client
//! that never resends, a database, configuration, logs, a clock, a pool for heavy arithmetic.
//!
//! Nothing here knows a protocol message. In the journey of a report this crate is the road, not a stop:
//! it carries bytes and must never learn, keep or write down who sent them.

pub mod clock;
pub mod compute;
pub mod config;
mod gathering;
pub mod http;
pub mod key_life;
pub mod listener;
pub mod metrics;
pub mod operations;
pub mod operators;
mod outgoing;
pub mod retry_after;
pub mod room;
pub mod secret;
pub mod shutdown;
pub mod steady;
pub mod store;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod token;
pub mod trouble;
pub mod wake;

pub use mica_tls as tls;
