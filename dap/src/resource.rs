//! Where each resource lies below an aggregator's endpoint (DAP 3, appendix A).
//!
//! An endpoint is used in two ways that must not be mixed: its exact bytes go into the additional data,
//! and requests are sent below it, whether or not it ends in a slash.

use std::fmt;

use crate::id::{AggregateShareId, AggregationJobId, CollectionJobId, TaskId};
pub use crate::location::{follow, names_step, with_step};

/// A resource of an aggregator. Its `Display` is the path below the endpoint, without a leading slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The public keys, of either aggregator.
    HpkeConfig,
    /// Where the leader takes reports.
    Reports(TaskId),
    /// Where the helper takes aggregation jobs.
    AggregationJobs(TaskId),
    /// One aggregation job; with the step it is at, where that must be said.
    AggregationJob(TaskId, AggregationJobId, Option<u16>),
    /// Where the leader takes collection jobs.
    CollectionJobs(TaskId),
    /// One collection job.
    CollectionJob(TaskId, CollectionJobId),
    /// Where the helper takes requests for its aggregate shares.
    AggregateShares(TaskId),
    /// One aggregate share.
    AggregateShare(TaskId, AggregateShareId),
}

impl Resource {
    /// The resource below an endpoint.
    pub fn url(&self, endpoint: &str) -> String {
        join(endpoint, &self.to_string())
    }

    /// The resource as a path on the endpoint's host, as a `Location` header gives it.
    pub fn absolute_path(&self, endpoint: &str) -> String {
        join(base_path(endpoint), &self.to_string())
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HpkeConfig => f.write_str("hpke_config"),
            Self::Reports(task) => write!(f, "tasks/{task}/reports"),
            Self::AggregationJobs(task) => write!(f, "tasks/{task}/aggregation_jobs"),
            Self::AggregationJob(task, job, None) => write!(f, "tasks/{task}/aggregation_jobs/{job}"),
            Self::AggregationJob(task, job, Some(step)) => {
                write!(f, "tasks/{task}/aggregation_jobs/{job}?step={step}")
            }
            Self::CollectionJobs(task) => write!(f, "tasks/{task}/collection_jobs"),
            Self::CollectionJob(task, job) => write!(f, "tasks/{task}/collection_jobs/{job}"),
            Self::AggregateShares(task) => write!(f, "tasks/{task}/aggregate_shares"),
            Self::AggregateShare(task, share) => write!(f, "tasks/{task}/aggregate_shares/{share}"),
        }
    }
}

/// A path below an endpoint, with exactly one slash between the two.
pub fn join(endpoint: &str, path: &str) -> String {
    format!("{}/{}", endpoint.trim_end_matches('/'), path.trim_start_matches('/'))
}

/// The path of a URL, or nothing where it has none.
fn base_path(endpoint: &str) -> &str {
    let after_scheme = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    after_scheme.find('/').and_then(|at| after_scheme.get(at..)).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId::new([0; 32]);
    const ZEROS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn exactly_one_slash_joins_endpoint_and_resource() {
        for endpoint in ["https://h/dap", "https://h/dap/", "https://h/dap//"] {
            assert_eq!(Resource::HpkeConfig.url(endpoint), "https://h/dap/hpke_config");
        }
        let job = AggregationJobId::new([0; 16]);
        assert_eq!(
            Resource::AggregationJob(TASK, job, Some(1)).url("https://h"),
            format!("https://h/tasks/{ZEROS}/aggregation_jobs/AAAAAAAAAAAAAAAAAAAAAA?step=1")
        );
        assert_eq!(Resource::Reports(TASK).absolute_path("https://h"), format!("/tasks/{ZEROS}/reports"));
        assert_eq!(
            Resource::Reports(TASK).absolute_path("https://h:1/a/b/"),
            format!("/a/b/tasks/{ZEROS}/reports")
        );
    }
}
