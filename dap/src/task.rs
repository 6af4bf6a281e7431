//! The configuration of a task, agreed by all parties before the first report (DAP 4.2).
//!
//! Its bytes are part of the additional data of every encryption in the task, so they are kept exactly as
//! they came; endpoints are never written anew. Keys and tokens are not part of it.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::codec::{Decode, Encode, Malformed, Reader, put_list16, put_opaque8, put_opaque16};
use crate::draft::Draft;
use crate::extension::{Extension, decode_extensions, strictly_increasing};
use crate::id::TaskId;
use crate::time::{Interval, TimePrecision};
use crate::vdaf_config::{VdafConfig, VdafConfigError};

/// How reports are put into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BatchMode {
    /// By the time of the report; the collector names an interval.
    TimeInterval = 1,
    /// By the leader, who names each batch.
    LeaderSelected = 2,
}

impl BatchMode {
    /// The code point.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The mode of a code point.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::TimeInterval),
            2 => Some(Self::LeaderSelected),
            _ => None,
        }
    }

    /// The name used in configuration files and on screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeInterval => "time_interval",
            Self::LeaderSelected => "leader_selected",
        }
    }
}

impl fmt::Display for BatchMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Encode for BatchMode {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.code());
    }
}

impl Decode for BatchMode {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::from_code(reader.u8()?).ok_or(Malformed("an unknown batch mode"))
    }
}

/// What a task is made of, before it has bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskParameters {
    /// What the parties agreed to call the task; may hold the hash of a release statement.
    pub task_info: Vec<u8>,
    /// The leader's base URL.
    pub leader_url: String,
    /// The helper's base URL.
    pub helper_url: String,
    /// The length of one unit of time.
    pub time_precision: TimePrecision,
    /// No smaller batch is ever released.
    pub min_batch_size: u64,
    /// How reports are put into batches.
    pub batch_mode: BatchMode,
    /// What is computed.
    pub vdaf: VdafConfig,
    /// When reports are taken, if that is limited.
    pub task_interval: Option<Interval>,
}

/// A task configuration and the bytes that spell it.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskConfiguration {
    bytes: Vec<u8>,
    parameters: TaskParameters,
}

/// Why a task configuration is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskConfigurationError {
    /// Not an encoding of a configuration, or a field outside its bounds.
    #[error("task configuration: {0}")]
    Malformed(#[from] Malformed),
    /// A batch mode that this program does not know.
    #[error("task configuration: unknown batch mode {0}")]
    UnknownBatchMode(u8),
    /// A VDAF that this program does not run.
    #[error("task configuration: unknown VDAF type {0:#010x}")]
    UnknownVdaf(u32),
    /// A task extension that this program does not know, which forbids taking part (DAP 4.2.2).
    #[error("task configuration: unknown task extension {0}")]
    UnknownExtension(u16),
}

impl TaskParameters {
    /// Writes the configuration and checks it as if it came from a peer.
    pub fn build(&self, draft: Draft) -> Result<TaskConfiguration, TaskConfigurationError> {
        if self.task_info.len() > usize::from(u8::MAX) {
            return Err(Malformed("task_info longer than 255 bytes").into());
        }
        if [&self.leader_url, &self.helper_url].iter().any(|url| url.len() > usize::from(u16::MAX)) {
            return Err(Malformed("an endpoint URL longer than 65535 bytes").into());
        }
        TaskConfiguration::parse(&self.encoded(), draft)
    }
}

impl Encode for TaskParameters {
    fn encode(&self, out: &mut Vec<u8>) {
        put_opaque8(out, &self.task_info);
        put_opaque16(out, self.leader_url.as_bytes());
        put_opaque16(out, self.helper_url.as_bytes());
        out.extend_from_slice(&self.time_precision.seconds().to_be_bytes());
        out.extend_from_slice(&self.min_batch_size.to_be_bytes());
        self.batch_mode.encode(out);
        put_opaque16(out, &[]);
        out.extend_from_slice(&self.vdaf.vdaf_type().to_be_bytes());
        put_opaque16(out, &self.vdaf.encode_config());
        let interval =
            self.task_interval.map(|i| Extension { extension_type: TASK_INTERVAL, data: i.encoded() });
        put_list16(out, interval.as_slice());
    }
}

impl TaskConfiguration {
    /// Reads a configuration and keeps its bytes.
    pub fn parse(bytes: &[u8], draft: Draft) -> Result<Self, TaskConfigurationError> {
        let mut reader = Reader::new(bytes);
        let parameters = parse_parameters(&mut reader, draft)?;
        reader.finish()?;
        Ok(Self { bytes: bytes.to_vec(), parameters })
    }

    /// The bytes, exactly as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The decoded fields.
    pub fn parameters(&self) -> &TaskParameters {
        &self.parameters
    }

    /// What the parties agreed to call the task.
    pub fn task_info(&self) -> &[u8] {
        &self.parameters.task_info
    }

    /// The leader's base URL, exactly as configured.
    pub fn leader_url(&self) -> &str {
        &self.parameters.leader_url
    }

    /// The helper's base URL, exactly as configured.
    pub fn helper_url(&self) -> &str {
        &self.parameters.helper_url
    }

    /// The length of one unit of time.
    pub fn time_precision(&self) -> TimePrecision {
        self.parameters.time_precision
    }

    /// No smaller batch is ever released.
    pub fn min_batch_size(&self) -> u64 {
        self.parameters.min_batch_size
    }

    /// How reports are put into batches.
    pub fn batch_mode(&self) -> BatchMode {
        self.parameters.batch_mode
    }

    /// What is computed.
    pub fn vdaf(&self) -> &VdafConfig {
        &self.parameters.vdaf
    }

    /// When reports are taken, if that is limited.
    pub fn task_interval(&self) -> Option<Interval> {
        self.parameters.task_interval
    }

    /// The task identifier that the configuration itself determines, as task provisioning derives it:
    /// who changes one byte of the configuration speaks of another task.
    pub fn derived_task_id(&self) -> TaskId {
        let prefix = Sha256::digest(b"dap-taskprov task id");
        TaskId::new(Sha256::new().chain_update(prefix).chain_update(&self.bytes).finalize().into())
    }
}

impl fmt::Debug for TaskConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parameters.fmt(f)
    }
}

impl Encode for TaskConfiguration {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }
}

fn parse_parameters(reader: &mut Reader<'_>, draft: Draft) -> Result<TaskParameters, TaskConfigurationError> {
    let task_info = reader.opaque8(draft.least_task_info())?.to_vec();
    let leader_url = parse_url(reader)?;
    let helper_url = parse_url(reader)?;
    let time_precision = TimePrecision::new(reader.u64()?).ok_or(Malformed("a time precision of zero"))?;
    let min_batch_size = reader.u64()?;
    if min_batch_size == 0 {
        // A batch of no report has no smallest interval, so it could never be answered.
        return Err(Malformed("a minimum batch size of zero").into());
    }
    let code = reader.u8()?;
    let batch_mode = BatchMode::from_code(code).ok_or(TaskConfigurationError::UnknownBatchMode(code))?;
    if !reader.opaque16(0)?.is_empty() {
        return Err(Malformed("a batch configuration for a mode that has none").into());
    }
    let vdaf_type = reader.u32()?;
    let vdaf = VdafConfig::decode_config(vdaf_type, reader.opaque16(0)?)?;
    let task_interval = parse_extensions(reader)?;
    Ok(TaskParameters {
        task_info,
        leader_url,
        helper_url,
        time_precision,
        min_batch_size,
        batch_mode,
        vdaf,
        task_interval,
    })
}

fn parse_url(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let bytes = reader.opaque16(1)?;
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(Malformed("an endpoint URL that is not printable ASCII"));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("an endpoint URL that is not printable ASCII"))
}

fn parse_extensions(reader: &mut Reader<'_>) -> Result<Option<Interval>, TaskConfigurationError> {
    let extensions = decode_extensions(reader)?;
    if !strictly_increasing(&extensions) {
        return Err(Malformed("task extensions out of order").into());
    }
    let mut task_interval = None;
    for extension in &extensions {
        match extension.extension_type {
            TASK_INTERVAL => task_interval = Some(Interval::decoded(&extension.data)?),
            unknown => return Err(TaskConfigurationError::UnknownExtension(unknown)),
        }
    }
    Ok(task_interval)
}

impl From<VdafConfigError> for TaskConfigurationError {
    fn from(error: VdafConfigError) -> Self {
        match error {
            VdafConfigError::UnknownType(code) => Self::UnknownVdaf(code),
            VdafConfigError::Malformed(malformed) => Self::Malformed(malformed),
        }
    }
}

/// The task extension that limits when reports are taken (DAP 4.2.3).
const TASK_INTERVAL: u16 = 1;

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
