//! What can be chosen: the work, and what it is done on.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mica_dap::vdaf_config::VdafConfig;
use serde::Serialize;

use crate::ohttp;

/// Measures what one report costs. `cargo xtask bench` builds everything and calls this.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
    #[command(flatten)]
    pub(crate) whole: Option<Options>,
}

/// A part of the way of a report.
#[derive(Subcommand)]
pub(crate) enum Part {
    /// Relay and gateway alone, before a target that does nothing
    Ohttp(ohttp::Options),
}

/// The whole way of a report.
#[derive(Args)]
pub(crate) struct Options {
    /// The program whose roles are measured
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) mica: PathBuf,
    /// A PostgreSQL server on this machine, as a user that may create databases; without it each role has an SQLite file
    #[arg(long, value_name = "URL")]
    pub(crate) database: Option<String>,
    /// What is computed
    #[arg(long, value_enum, default_value = "histogram")]
    pub(crate) vdaf: Vdaf,
    /// Coordinates of a vector, or buckets of a histogram
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) length: u32,
    /// How many reports are sent
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=200_000))]
    pub(crate) reports: u32,
    /// How many connections send at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) connections: u16,
    /// Straight to the leader, or through relay and gateway
    #[arg(long, value_enum, default_value = "dap")]
    pub(crate) path: Path,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// The five VDAFs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vdaf {
    Count,
    Sum,
    Sumvec,
    Histogram,
    Multihot,
}

/// The way of a report to the leader.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Path {
    /// Client to leader.
    Dap,
    /// Client to relay to gateway to leader.
    Full,
}

impl Options {
    /// The VDAF and its parameters.
    pub(crate) fn vdaf_config(&self) -> VdafConfig {
        match self.vdaf {
            Vdaf::Count => VdafConfig::Count,
            Vdaf::Sum => VdafConfig::Sum { max_measurement: LARGEST_NUMBER },
            Vdaf::Sumvec => VdafConfig::sum_vec(self.length, LARGEST_COORDINATE),
            Vdaf::Histogram => VdafConfig::histogram(self.length),
            Vdaf::Multihot => VdafConfig::multihot(self.length, u64::from(self.length).min(MOST_CHOICES)),
        }
    }

    /// The same in words.
    pub(crate) fn vdaf_name(&self) -> String {
        let length = self.length;
        match self.vdaf_config() {
            VdafConfig::Count => "Count".to_owned(),
            VdafConfig::Sum { max_measurement } => format!("Sum(0..={max_measurement})"),
            VdafConfig::SumVec { max_measurement, chunk_length, .. } => {
                format!("SumVec({length} x 0..={max_measurement}, chunk {chunk_length})")
            }
            VdafConfig::Histogram { chunk_length, .. } => {
                format!("Histogram({length}, chunk {chunk_length})")
            }
            VdafConfig::MultihotCountVec { chunk_length, max_weight, .. } => {
                format!("MultihotCountVec({length}, weight {max_weight}, chunk {chunk_length})")
            }
            VdafConfig::Poplar1 { bits } => format!("Poplar1({bits} bits)"),
        }
    }
}

pub(crate) const LARGEST_NUMBER: u64 = u16::MAX as u64;
pub(crate) const LARGEST_COORDINATE: u64 = 15;
pub(crate) const MOST_CHOICES: u64 = 10;
