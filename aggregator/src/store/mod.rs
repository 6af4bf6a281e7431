//! What an aggregator remembers: one file per table, the row and its queries side by side.
//!
//! Every function takes the open transaction first; nothing here begins or commits one. A task is named by
//! its key in the database (`i64`), times of reports count units of the task's precision, and `now`,
//! `created_at` and the like are seconds since the Unix epoch, always an argument. Guarded updates answer
//! whether they found the row in the state they require; the caller decides what a `false` means.
//!
//! In the order a report travels:
//!
//! * [`tasks`] - `insert_task`, `retire`, `mark`, `states`, `advertised`, `task_by_id`, `task_by_key`, `page`, `all_tasks`,
//!   `lock_task`, `share_task`, `keep`, `let_go`, `is_forgotten`, `remove_untried`
//! * [`hpke_keys`] - `lock_keys`, `keys`, `insert_key`, `move_key`, `destroy_key`, `forget_key`, `note_cached_for`,
//!   `is_needed_by_a_job`
//! * [`report_ids`] - `insert_new`
//! * [`segments`] - `insert_segment`, `postpone`, `unassigned`, `tasks_with_unassigned`, `assign`, `of_job`, `waiting`, `cut`,
//!   `drop_waiting`, `delete_of_job`, `unsettled`, `unsettled_until`, `newest`
//! * [`batches`] - `lock_batches`, `begin`, `with_room`, `close_full`, `next_ready`, `associate`, `give_back`,
//!   `any_orphaned`, `give_back_orphans`, `give_back_refused`, `fail`, `set_collected`, `of_task`
//! * [`aggregation_jobs`] - `create`, `by_id`, `lease`, `freeze`, `inherit`, `set_in_doubt`, `remember`, `renew`, `fail_attempt`, `finish`, `active_count`,
//!   `release_all_leases`, `sweep_finished`
//! * [`helper_jobs`] - `insert`, `by_digest`, `by_id`, `advance`, `set_ready`, `set_failed`, `delete`
//! * [`helper_work`] - `insert`, `waiting`, `load`, `tasks_with_work`, `lease`, `renew`, `fail_attempt`, `finish`, `cancel`,
//!   `release_all_leases`
//! * [`helper_states`] - `put`, `of_job`, `delete`
//! * [`bucket_parameters`] - `claim`, `all_under`
//! * [`helper_shares`] - `insert`, `waiting`, `by_id`, `set_failed`, `delete`
//! * [`job_limits`] - `learn`, `of_task`
//! * [`leftovers`] - `insert`, `tasks_with_work`, `due`, `put_off`, `delete`
//! * [`stuck`] - `between`, `note_collection`, `forget_collection`, `abandon`, `drop_jobs`, `drop_reports`
//! * `buckets` - `add`, `report_count`, `totals`, `scrub`
//! * [`tallies`] - `add`, `of_task`
//! * [`collection_jobs`] - `insert`, `by_id`, `live_by_request`, `due`, `lease`, `renew`, `set_fence`, `set_batch`,
//!   `set_reserved`, `set_location`, `set_released`, `set_failed`, `delete`, `retry_at`, `give_back`, `release_all_leases`
//! * [`releases`] - `insert`, `by_id`, `by_batch_key`, `by_digest`, `by_share_id`, `set_state`, `replace_refunded`,
//!   `forget_share`, `page`
//! * [`refused_releases`] - `by_batch_key`, `put`, `forget`, `count`, `forget_aged`, `forget_all_aged`, `delete_of_task`
//! * [`refused_windows`] - `meeting`, `refusals`, `count`, `put`, `forget_meeting`, `forget_aged`, `forget_all_aged`,
//!   `delete_of_task`
//! * [`closed_intervals`] - `close`, `withdraw`, `reopen`, `overlapping`, `closed_times`
//! * [`policies`] - `newest`, `newer_of_another_name`, `by_version`, `all`, `insert`
//! * [`ledger`] - `head`, `end`, `hash_at`, `append`, `entries`, `page`, `page_after`, `newest_by_budget`,
//!   `unpaid_releases`, `entries_of`
//! * [`ledger_uses`] - `of_budget`, `all`, `add`, `take_back`
//!
//! Must never learn who sent a report. Unnoised sums live in `buckets`, which nobody outside this crate can name, and
//! leave it only through a release; how many reports they sum is [`report_count`].

pub mod aggregation_jobs;
pub mod batches;
pub mod bucket_parameters;
pub(crate) mod buckets;
pub mod closed_intervals;
pub mod collection_jobs;
mod columns;
#[cfg(test)]
mod contract_tests;
mod held_up;
pub mod helper_jobs;
pub mod helper_shares;
pub mod helper_states;
pub mod helper_work;
pub mod hpke_keys;
pub mod job_limits;
pub mod lease;
pub mod ledger;
mod ledger_counted;
pub mod ledger_uses;
pub mod leftovers;
mod locks;
pub mod policies;
pub mod refused_releases;
pub mod refused_windows;
pub mod releases;
pub mod report_ids;
pub mod scope;
pub mod segments;
pub mod stuck;
pub mod tallies;
pub mod tasks;

pub use mica_service::store::{Store, StoreError, Tx};
use sqlx::migrate::Migrator;

pub use self::buckets::report_count;
pub use self::lease::LeaseToken;
pub use self::scope::Scope;

/// The schema of an aggregator: give it to [`Store::open`].
pub fn migrator() -> &'static Migrator {
    static MIGRATOR: Migrator = sqlx::migrate!("./migrations");
    &MIGRATOR
}
