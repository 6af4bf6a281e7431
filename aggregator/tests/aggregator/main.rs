//! Leader and helper over real sockets and real databases, each against a scripted other side.

mod admin;
mod admission;
mod credentials;
mod helper_aggregation;
mod helper_batches;
mod helper_checks;
mod helper_crash;
mod helper_deferred;
mod helper_refusals;
mod helper_release;
mod helper_share;
mod helper_steps;
mod leader_answers;
mod leader_collection;
mod leader_deferral;
mod leader_early;
mod leader_hardship;
mod leader_replicas;
mod leader_retries;
mod leader_sizes;
mod leader_uploads;
mod pair;
mod support;
