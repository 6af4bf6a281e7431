//! Collection: the collector asks the leader for a batch, the leader asks the helper for its share of it
//! (DAP 4.6).
//!
//! Aggregate shares travel sealed to the collector. The collector's request is part of what they are sealed
//! with, so it is kept and passed on exactly as it came.

use crate::batch::Checksum;
use crate::codec::{Decode, Encode, Malformed, Reader, put_list16, put_opaque16, put_opaque32};
use crate::extension::{Extension, decode_extensions, strictly_increasing};
use crate::hpke_config::HpkeCiphertext;
use crate::id::BatchId;
use crate::problem::Problem;
use crate::task::BatchMode;
use crate::time::{Duration, Interval, Time};

/// What a collector asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The mode the collector believes the task to have.
    pub batch_mode: BatchMode,
    /// What the mode needs to know; [`Self::queried`] reads it.
    pub config: Vec<u8>,
}

/// A query that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueriedBatch {
    /// All reports of this time.
    TimeInterval(Interval),
    /// Whichever batch the leader has ready.
    LeaderSelected,
}

impl Query {
    /// Asks for all reports of a time.
    pub fn time_interval(interval: Interval) -> Self {
        Self { batch_mode: BatchMode::TimeInterval, config: interval.encoded() }
    }

    /// Asks for whichever batch the leader has ready.
    pub fn leader_selected() -> Self {
        Self { batch_mode: BatchMode::LeaderSelected, config: Vec::new() }
    }

    /// Understands the query for a task of this mode.
    pub fn queried(&self, task_mode: BatchMode) -> Result<QueriedBatch, Problem> {
        if self.batch_mode != task_mode {
            return Err(Problem::InvalidMessage);
        }
        match task_mode {
            BatchMode::TimeInterval => read_interval(&self.config).map(QueriedBatch::TimeInterval),
            BatchMode::LeaderSelected if self.config.is_empty() => Ok(QueriedBatch::LeaderSelected),
            BatchMode::LeaderSelected => Err(Problem::InvalidMessage),
        }
    }
}

impl Encode for Query {
    fn encode(&self, out: &mut Vec<u8>) {
        self.batch_mode.encode(out);
        put_opaque16(out, &self.config);
    }
}

impl Decode for Query {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { batch_mode: BatchMode::decode(reader)?, config: reader.opaque16(0)?.to_vec() })
    }
}

/// An extension of a collection job (DAP 4.6.2).
pub type CollectionJobExtension = Extension;

/// A collector's request, with the bytes that spell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionJobReq {
    bytes: Vec<u8>,
    query: Query,
    agg_param: Vec<u8>,
    extensions: Vec<CollectionJobExtension>,
}

impl CollectionJobReq {
    /// A request of one's own, without extensions.
    pub fn new(query: Query, agg_param: Vec<u8>) -> Self {
        let mut bytes = query.encoded();
        put_opaque32(&mut bytes, &agg_param);
        put_list16::<Extension>(&mut bytes, &[]);
        Self { bytes, query, agg_param, extensions: Vec::new() }
    }

    /// The bytes, exactly as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What is asked for.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// The VDAF's aggregation parameter.
    pub fn agg_param(&self) -> &[u8] {
        &self.agg_param
    }

    /// The extensions, unchecked.
    pub fn extensions(&self) -> &[CollectionJobExtension] {
        &self.extensions
    }

    /// Checks the extensions, as each aggregator must for itself; none is known yet (DAP 4.6.2).
    pub fn check_extensions(&self) -> Result<(), Problem> {
        if !strictly_increasing(&self.extensions) {
            return Err(Problem::InvalidExtension);
        }
        if self.extensions.is_empty() { Ok(()) } else { Err(Problem::UnsupportedExtension) }
    }
}

impl Encode for CollectionJobReq {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }
}

impl Decode for CollectionJobReq {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (parts, bytes) = reader.with_bytes::<CollectionJobParts>()?;
        let CollectionJobParts { query, agg_param, extensions } = parts;
        Ok(Self { bytes: bytes.to_vec(), query, agg_param, extensions })
    }
}

struct CollectionJobParts {
    query: Query,
    agg_param: Vec<u8>,
    extensions: Vec<CollectionJobExtension>,
}

impl Decode for CollectionJobParts {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            query: Query::decode(reader)?,
            agg_param: reader.opaque32(0)?.to_vec(),
            extensions: decode_extensions(reader)?,
        })
    }
}

/// The leader's answer to the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionJobResp {
    /// How many reports are in the batch.
    pub report_count: u64,
    /// The smallest interval that holds the times of all of them.
    pub interval: Interval,
    /// The leader's share, sealed to the collector.
    pub leader_encrypted_agg_share: HpkeCiphertext,
    /// The helper's share, sealed to the collector.
    pub helper_encrypted_agg_share: HpkeCiphertext,
}

impl Encode for CollectionJobResp {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.report_count.to_be_bytes());
        self.interval.encode(out);
        self.leader_encrypted_agg_share.encode(out);
        self.helper_encrypted_agg_share.encode(out);
    }
}

impl Decode for CollectionJobResp {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            report_count: reader.u64()?,
            interval: Interval::decode(reader)?,
            leader_encrypted_agg_share: HpkeCiphertext::decode(reader)?,
            helper_encrypted_agg_share: HpkeCiphertext::decode(reader)?,
        })
    }
}

/// Which batch the leader chose for a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSelector {
    /// The mode the leader believes the task to have.
    pub batch_mode: BatchMode,
    /// What the mode needs to know; [`Self::selected`] reads it.
    pub config: Vec<u8>,
}

/// A batch selector that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectedBatch {
    /// All reports of this time.
    TimeInterval(Interval),
    /// The batch of this name.
    LeaderSelected(BatchId),
}

impl BatchSelector {
    /// Selects all reports of a time.
    pub fn time_interval(interval: Interval) -> Self {
        Self { batch_mode: BatchMode::TimeInterval, config: interval.encoded() }
    }

    /// Selects the batch of a name.
    pub fn leader_selected(batch: BatchId) -> Self {
        Self { batch_mode: BatchMode::LeaderSelected, config: batch.encoded() }
    }

    /// Understands the selector for a task of this mode.
    pub fn selected(&self, task_mode: BatchMode) -> Result<SelectedBatch, Problem> {
        if self.batch_mode != task_mode {
            return Err(Problem::InvalidMessage);
        }
        match task_mode {
            BatchMode::TimeInterval => read_interval(&self.config).map(SelectedBatch::TimeInterval),
            BatchMode::LeaderSelected => BatchId::from_slice(&self.config)
                .map(SelectedBatch::LeaderSelected)
                .ok_or(Problem::InvalidMessage),
        }
    }
}

impl Encode for BatchSelector {
    fn encode(&self, out: &mut Vec<u8>) {
        self.batch_mode.encode(out);
        put_opaque16(out, &self.config);
    }
}

impl Decode for BatchSelector {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { batch_mode: BatchMode::decode(reader)?, config: reader.opaque16(0)?.to_vec() })
    }
}

/// The leader's request for the helper's share of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateShareReq {
    /// The collector's request, exactly as it came.
    pub collection_job_req: CollectionJobReq,
    /// The batch the leader chose for it.
    pub batch_selector: BatchSelector,
    /// How many reports the leader counted.
    pub report_count: u64,
    /// The checksum of their identifiers.
    pub checksum: Checksum,
}

impl AggregateShareReq {
    /// Understands query and selector for a task of this mode; the selected batch must lie in the queried.
    pub fn batch(&self, task_mode: BatchMode) -> Result<(QueriedBatch, SelectedBatch), Problem> {
        let queried = self.collection_job_req.query().queried(task_mode)?;
        let selected = self.batch_selector.selected(task_mode)?;
        if let (QueriedBatch::TimeInterval(query), SelectedBatch::TimeInterval(batch)) = (queried, selected)
            && !query.contains_interval(&batch)
        {
            return Err(Problem::BatchInvalid);
        }
        Ok((queried, selected))
    }
}

impl Encode for AggregateShareReq {
    fn encode(&self, out: &mut Vec<u8>) {
        self.collection_job_req.encode(out);
        self.batch_selector.encode(out);
        out.extend_from_slice(&self.report_count.to_be_bytes());
        self.checksum.encode(out);
    }
}

impl Decode for AggregateShareReq {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            collection_job_req: CollectionJobReq::decode(reader)?,
            batch_selector: BatchSelector::decode(reader)?,
            report_count: reader.u64()?,
            checksum: Checksum::decode(reader)?,
        })
    }
}

/// The helper's answer to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateShare {
    /// The helper's share, sealed to the collector.
    pub encrypted_aggregate_share: HpkeCiphertext,
}

impl Encode for AggregateShare {
    fn encode(&self, out: &mut Vec<u8>) {
        self.encrypted_aggregate_share.encode(out);
    }
}

impl Decode for AggregateShare {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { encrypted_aggregate_share: HpkeCiphertext::decode(reader)? })
    }
}

/// An interval of the wrong length is no message; an empty or overflowing one is a message about no batch.
fn read_interval(config: &[u8]) -> Result<Interval, Problem> {
    let mut reader = Reader::new(config);
    let mut parts = || -> Result<(Time, Duration), Malformed> {
        let parts = (Time::decode(&mut reader)?, Duration::decode(&mut reader)?);
        reader.finish()?;
        Ok(parts)
    };
    let (start, duration) = parts().map_err(|_| Problem::InvalidMessage)?;
    Interval::new(start, duration).map_err(|_| Problem::BatchInvalid)
}
