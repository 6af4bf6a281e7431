//! The tests of the whole product, in one program: the real `mica`, real sockets, real databases.
//!
//! * `journey`: what is collected is what was measured;
//! * `budget`: noise once, charged once;
//! * `envelopes`: what a gateway has answered survives it;
//! * `faults`: power cuts and broken networks lose and double nothing;
//! * `ledger`: what its operator sees of it, and what becomes of it when it was tampered with or restored;
//! * `kills`: SIGKILL at named moments of a release leaves one charge, one draw and one answer;
//! * `leader_alone`: a leader and a helper of another make;
//! * `leader_alone_selects`: the same where the leader selects the batches, with every VDAF;
//! * `scenarios`: what a hostile or broken peer sends hurts nobody but itself;
//! * `helper_alone`: a helper against a leader that says what a test tells it to;
//! * `helper_selected`: the same where that leader selects the batches, with every VDAF;
//! * `one_process`: a gateway with its leader inside;
//! * `leader_selected`: batches of the leader's choice, one after the other;
//! * `interop`: parties of another make can take any role;
//! * `stuck`: what an operator sees of work that is stuck, and what a command makes of it;
//! * `tls`: the same over TLS, with the certificate of each hop checked;
//! * `privacy`: what a run leaves behind says nothing about who measured what.

mod budget;
mod envelopes;
mod faults;
mod helper_alone;
mod helper_selected;
mod interop;
mod journey;
mod kills;
mod leader_alone;
mod leader_alone_selects;
mod leader_selected;
mod ledger;
mod one_process;
mod privacy;
mod scenarios;
mod stuck;
mod tls;
