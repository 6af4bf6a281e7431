//! The gateway over real sockets: client, relay, gateway, and a target that answers by a script.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic anywhere")]

mod clients;
mod crowding;
mod dates;
mod journey;
mod keys;
mod lines;
mod looks;
mod merging;
mod mounted;
mod readiness;
mod refusals;
mod relays;
mod replicas;
mod resending;
mod rotation;
mod settings;
mod smuggling;
mod streams;
mod targets;
mod world;
