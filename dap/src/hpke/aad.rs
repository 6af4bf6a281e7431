//! What is authenticated along with a share: a share moved to another task, report or request does not open.

use crate::codec::put_opaque32;
use crate::id::TaskId;

/// Of an input share (DAP 4.4.2.1).
#[derive(Clone, Copy)]
pub struct InputShareAad<'a> {
    /// The task.
    pub task_id: &'a TaskId,
    /// The task configuration, byte for byte as the parties were given it.
    pub task_configuration: &'a [u8],
    /// The encoded report metadata.
    pub metadata: &'a [u8],
    /// The public share.
    pub public_share: &'a [u8],
}

impl InputShareAad<'_> {
    /// The bytes to authenticate.
    pub fn encoded(&self) -> Vec<u8> {
        let mut out = [self.task_id.as_bytes(), self.task_configuration, self.metadata].concat();
        put_opaque32(&mut out, self.public_share);
        out
    }
}

/// Of an aggregate share (DAP 4.6.7).
#[derive(Clone, Copy)]
pub struct AggregateShareAad<'a> {
    /// The task.
    pub task_id: &'a TaskId,
    /// The task configuration, byte for byte as the parties were given it.
    pub task_configuration: &'a [u8],
    /// The collection job request, byte for byte as the collector sent it.
    pub collection_job_req: &'a [u8],
}

impl AggregateShareAad<'_> {
    /// The bytes to authenticate.
    pub fn encoded(&self) -> Vec<u8> {
        [self.task_id.as_bytes(), self.task_configuration, self.collection_job_req].concat()
    }
}
