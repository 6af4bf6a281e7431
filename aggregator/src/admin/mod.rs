//! What an operator does with the tasks of an aggregator, and is told of its policies and budgets, and the two ways to ask for it: commands on its database, and
//! requests to a listener of its own. Both end at the same [`Desk`].
//!
//! It never shows a secret unless it is asked for by that word, and never learns anything of a report but how many there
//! were.

mod access;
mod api;
mod desk;
pub mod openapi;
mod policies;
mod view;

pub use api::router;
pub use desk::{Desk, DeskError, Page};
pub use policies::{PolicyDetail, PolicyList, PolicySummary};
pub use view::{Secrets, State, TaskDetail, TaskExport, TaskList, TaskSummary};
