//! The helper: answers the leader's aggregation jobs and hands over its aggregate shares.

pub mod aggregate;
pub mod share;
