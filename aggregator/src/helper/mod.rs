//! The helper: answers the leader's aggregation jobs and hands over its aggregate shares.

pub(crate) mod aggregate;
mod commit;
pub(crate) mod share;
mod verify;
