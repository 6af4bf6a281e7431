//! The helper: answers the leader's aggregation jobs and hands over its aggregate shares.

pub(crate) mod aggregate;
mod answer;
mod commit;
mod init;
mod proceed;
mod report;
pub(crate) mod share;
mod verify;
pub(crate) mod work;
