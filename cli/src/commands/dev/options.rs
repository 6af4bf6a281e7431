//! What the command line says of the task, resolved: defaults filled in, contradictions refused.
//!
//! The same resolved options are kept beside a database that is kept, so that the same command finds the same task and
//! another command is told what differs.

use clap::ValueEnum;
use mica_dap::Draft;
use mica_dap::time::{Duration, Interval, Time};
use mica_dap::vdaf_config::VdafConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::args::Mode;
use crate::deployment::{Addresses, Cast};
use crate::exit::Failure;
use crate::provision::TaskSpec;

use super::Args;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// How many clients said yes
    Count,
    /// One number per client, up to --max
    Sum,
    /// --length numbers per client, up to --max each
    Sumvec,
    /// One of --length buckets per client
    Histogram,
    /// Up to --max of --length choices per client
    Multihot,
    /// A string of --length bits per client, counted by prefixes; needs --no-dp
    Poplar1,
}

/// Which aggregator runs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Only {
    /// The leader, with relay and gateway
    Leader,
    /// The helper
    Helper,
}

/// Everything that makes the task what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Options {
    pub(super) label: String,
    pub(super) vdaf: Vdaf,
    #[serde(default)]
    pub(super) batch_mode: Mode,
    pub(super) draft: String,
    pub(super) time_precision: u64,
    pub(super) min_batch_size: u64,
    pub(super) task_interval: Option<(u64, u64)>,
    #[serde(default)]
    pub(super) prefixes: Vec<String>,
    pub(super) policy: Option<String>,
    pub(super) no_dp: bool,
    pub(super) only: Option<Only>,
    pub(super) leader_url: Option<String>,
    pub(super) helper_url: Option<String>,
}

/// A VDAF, spelled out as in the JSON of `mica dev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(super) enum Vdaf {
    #[serde(rename = "prio3-count")]
    Count {},
    #[serde(rename = "prio3-sum")]
    Sum { max_measurement: u64 },
    #[serde(rename = "prio3-sum-vec")]
    SumVec { length: u32, max_measurement: u64, chunk_length: u32 },
    #[serde(rename = "prio3-histogram")]
    Histogram { length: u32, chunk_length: u32 },
    #[serde(rename = "prio3-multihot-count-vec")]
    Multihot { length: u32, chunk_length: u32, max_weight: u64 },
    #[serde(rename = "poplar1")]
    Poplar1 { bits: u16 },
}

impl Options {
    /// The options of a command line.
    ///
    /// # Errors
    /// When flags contradict each other, or ask for what is not there yet.
    pub(super) fn of(args: &Args) -> Result<Self, Failure> {
        let needed = match args.only {
            Some(Only::Leader) => (args.helper_url.is_some(), args.leader_url.is_none(), "--helper-url"),
            Some(Only::Helper) => (args.leader_url.is_some(), args.helper_url.is_none(), "--leader-url"),
            None => (true, args.leader_url.is_none() && args.helper_url.is_none(), ""),
        };
        match needed {
            (true, true, _) => {}
            (false, _, flag) => {
                return Err(Failure::usage(format!("--only needs {flag}: where the other aggregator is")));
            }
            (_, false, _) => {
                return Err(Failure::usage(
                    "--leader-url goes with --only helper and --helper-url with --only leader: what runs here says \
                     itself where it is",
                ));
            }
        }
        let policy = args.policy.as_ref().map(std::path::absolute).transpose()?;
        Ok(Self {
            label: args.label.clone(),
            vdaf: vdaf(args)?,
            batch_mode: args.batch_mode,
            draft: args.draft.to_string(),
            time_precision: args.time_precision,
            min_batch_size: args.min_batch_size,
            task_interval: args.task_interval.as_deref().map(interval).transpose()?,
            prefixes: prefixes(args),
            policy: policy.map(|path| path.display().to_string()),
            no_dp: args.no_dp,
            only: args.only,
            leader_url: args.leader_url.clone(),
            helper_url: args.helper_url.clone(),
        })
    }

    /// The first option that differs from `stored`, in a sentence.
    pub(super) fn difference(&self, stored: &Self) -> Option<String> {
        let object = |options: &Self| serde_json::to_value(options).unwrap_or(Value::Null);
        let (mine, theirs) = (object(self), object(stored));
        let (mine, theirs) = (mine.as_object()?, theirs.as_object()?);
        let differs = mine.iter().find(|(key, value)| theirs.get(*key) != Some(*value));
        differs.map(|(key, value)| {
            let was = theirs.get(key).unwrap_or(&Value::Null);
            format!("{key} was {was} and is {value} now")
        })
    }

    /// Who runs here.
    pub(super) fn cast(&self) -> Cast {
        match (self.only, &self.leader_url, &self.helper_url) {
            (Some(Only::Leader), _, Some(url)) => Cast::LeaderOnly { helper_url: url.clone() },
            (Some(Only::Helper), Some(url), _) => Cast::HelperOnly { leader_url: url.clone() },
            _ => Cast::Both,
        }
    }

    /// The task that is to be made.
    ///
    /// # Errors
    /// When the interval is none.
    pub(super) fn spec(&self, addresses: &Addresses) -> Result<TaskSpec, Failure> {
        let task_interval = match self.task_interval {
            Some((start, duration)) => Some(self.units(start, duration)?),
            None => None,
        };
        Ok(TaskSpec {
            label: self.label.clone(),
            leader_url: addresses.leader.clone(),
            helper_url: addresses.helper.clone(),
            draft: self.draft.parse::<Draft>().map_err(Failure::usage)?,
            vdaf: self.vdaf.config(),
            time_precision_seconds: self.time_precision,
            min_batch_size: self.min_batch_size,
            batch_mode: self.batch_mode.into(),
            batch_target_size: None,
            task_interval,
            prefixes: self.prefixes.clone(),
        })
    }

    fn units(&self, start: u64, duration: u64) -> Result<Interval, Failure> {
        let precision = self.time_precision.max(1);
        if !start.is_multiple_of(precision) || !duration.is_multiple_of(precision) {
            return Err(Failure::usage(format!(
                "--task-interval {start}:{duration} is not made of whole units of {precision} s; use multiples of it"
            )));
        }
        Interval::new(Time(start / precision), Duration(duration / precision)).map_err(Failure::usage)
    }
}

impl Vdaf {
    pub(super) fn config(&self) -> VdafConfig {
        match *self {
            Self::Count {} => VdafConfig::Count,
            Self::Sum { max_measurement } => VdafConfig::Sum { max_measurement },
            Self::SumVec { length, max_measurement, chunk_length } => {
                VdafConfig::SumVec { length, max_measurement, chunk_length }
            }
            Self::Histogram { length, chunk_length } => VdafConfig::Histogram { length, chunk_length },
            Self::Multihot { length, chunk_length, max_weight } => {
                VdafConfig::MultihotCountVec { length, chunk_length, max_weight }
            }
            Self::Poplar1 { bits } => VdafConfig::Poplar1 { bits },
        }
    }
}

impl From<VdafConfig> for Vdaf {
    fn from(config: VdafConfig) -> Self {
        match config {
            VdafConfig::Count => Self::Count {},
            VdafConfig::Sum { max_measurement } => Self::Sum { max_measurement },
            VdafConfig::SumVec { length, max_measurement, chunk_length } => {
                Self::SumVec { length, max_measurement, chunk_length }
            }
            VdafConfig::Histogram { length, chunk_length } => Self::Histogram { length, chunk_length },
            VdafConfig::MultihotCountVec { length, chunk_length, max_weight } => {
                Self::Multihot { length, chunk_length, max_weight }
            }
            VdafConfig::Poplar1 { bits } => Self::Poplar1 { bits },
        }
    }
}

fn vdaf(args: &Args) -> Result<Vdaf, Failure> {
    let (length, max) = (args.length.unwrap_or(LENGTH), args.max);
    let config = match args.vdaf {
        Kind::Count => VdafConfig::Count,
        Kind::Sum => VdafConfig::Sum { max_measurement: max.unwrap_or(LARGEST) },
        Kind::Sumvec => VdafConfig::sum_vec(length, max.unwrap_or(LARGEST)),
        Kind::Histogram => VdafConfig::histogram(length),
        Kind::Multihot => VdafConfig::multihot(length, max.unwrap_or(CHOICES.min(u64::from(length)))),
        Kind::Poplar1 => VdafConfig::Poplar1 { bits: u16::try_from(length).map_err(Failure::usage)? },
    };
    let takes_length = !matches!(args.vdaf, Kind::Count | Kind::Sum);
    let takes_max = !matches!(args.vdaf, Kind::Count | Kind::Histogram | Kind::Poplar1);
    if (args.length.is_some() && !takes_length) || (args.max.is_some() && !takes_max) {
        let flag = if args.length.is_some() && !takes_length { "--length" } else { "--max" };
        return Err(Failure::usage(format!("a {} takes no {flag}; leave it out", config.name())));
    }
    Ok(config.into())
}

/// What is counted of strings: by their first bit, when nothing is said.
fn prefixes(args: &Args) -> Vec<String> {
    match args.vdaf {
        Kind::Poplar1 if args.prefixes.is_empty() => ["0", "1"].map(str::to_owned).to_vec(),
        _ => args.prefixes.clone(),
    }
}

fn interval(text: &str) -> Result<(u64, u64), Failure> {
    let read = text
        .split_once(':')
        .and_then(|(start, duration)| Some((start.parse().ok()?, duration.parse().ok()?)));
    read.ok_or_else(|| {
        Failure::usage(format!(
            "`{text}` is no task interval; write START:DURATION in seconds, such as 1767225600:86400"
        ))
    })
}

const LENGTH: u32 = 8;
const LARGEST: u64 = 255;
const CHOICES: u64 = 3;
