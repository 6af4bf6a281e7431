//! What `mica` says and how it ends, as somebody at a terminal meets it: the built program, its output, its exit code.

mod batch_modes;
mod budgets;
mod caps;
mod collecting;
mod configuration;
mod doctor;
mod encryption;
mod gateways;
mod keys;
mod policies;
mod registry;
mod relays;
mod secrets;
mod servers;
mod taskprov;
mod tasks;
mod usage;
mod words;
mod world;
