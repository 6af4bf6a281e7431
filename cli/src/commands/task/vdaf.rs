//! What is measured, as it is said on a command line.

use clap::ValueEnum;
use mica_dap::vdaf_config::VdafConfig;

use crate::exit::Failure;

/// The kinds of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// How many clients said yes
    #[value(alias = "prio3-count")]
    Count,
    /// The sum of one number per client; needs --max
    #[value(alias = "prio3-sum")]
    Sum,
    /// The sum of one vector per client; needs --length and --max
    #[value(name = "sumvec", aliases = ["sum-vec", "prio3-sum-vec"])]
    SumVec,
    /// How many clients chose each bucket; needs --length
    #[value(alias = "prio3-histogram")]
    Histogram,
    /// The same with several choices each; needs --length and --max-weight
    #[value(aliases = ["multihot-count-vec", "prio3-multihot-count-vec"])]
    Multihot,
    /// How many clients hold a string that begins with each prefix; needs --bits and --prefixes
    Poplar1,
}

/// A kind of measurement and its parameters.
#[derive(clap::Args)]
pub(crate) struct VdafArgs {
    /// What is measured
    #[arg(long, value_enum)]
    vdaf: Kind,
    /// The number of buckets or coordinates
    #[arg(long, value_name = "N")]
    length: Option<u32>,
    /// The largest number a client may send
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// The most buckets that one client may choose
    #[arg(long, value_name = "N")]
    max_weight: Option<u64>,
    /// The number of bits of every client's string
    #[arg(long, value_name = "N")]
    bits: Option<u16>,
    /// With Poplar1: the prefixes to count, of one length, such as 00,01,11
    #[arg(long, value_name = "BITS,..", value_delimiter = ',')]
    prefixes: Vec<String>,
}

impl VdafArgs {
    /// The configuration, with the chunk length that makes proofs shortest.
    pub(super) fn config(&self) -> Result<VdafConfig, Failure> {
        let Self { vdaf, length, max, max_weight, bits, .. } = *self;
        let config = match (vdaf, length, max, max_weight) {
            _ if self.prefixes.is_empty() == (vdaf == Kind::Poplar1) => {
                return Err(Failure::usage(needs(vdaf)));
            }
            _ if bits.is_some() != (vdaf == Kind::Poplar1) => return Err(Failure::usage(needs(vdaf))),
            (Kind::Count, None, None, None) => VdafConfig::Count,
            (Kind::Sum, None, Some(max_measurement), None) => VdafConfig::Sum { max_measurement },
            (Kind::SumVec, Some(length), Some(max), None) => VdafConfig::sum_vec(length, max),
            (Kind::Histogram, Some(length), None, None) => VdafConfig::histogram(length),
            (Kind::Multihot, Some(length), None, Some(max_weight)) => {
                VdafConfig::multihot(length, max_weight)
            }
            (Kind::Poplar1, None, None, None) => VdafConfig::Poplar1 { bits: bits.unwrap_or_default() },
            _ => return Err(Failure::usage(needs(vdaf))),
        };
        Ok(config)
    }

    /// The prefixes to count.
    pub(super) fn prefixes(&self) -> Vec<String> {
        self.prefixes.clone()
    }
}

fn needs(kind: Kind) -> &'static str {
    match kind {
        Kind::Count => {
            "a count takes none of --length, --max, --max-weight, --bits and --prefixes; leave them out"
        }
        Kind::Sum => "a sum takes --max, the largest number a client may send, and nothing else",
        Kind::SumVec => "a sum of vectors takes --length and --max, and nothing else",
        Kind::Histogram => "a histogram takes --length, the number of buckets, and nothing else",
        Kind::Poplar1 => {
            "Poplar1 takes --bits, the number of bits of every string, and --prefixes, what to count of them, and nothing else"
        }
        Kind::Multihot => "a multihot count takes --length and --max-weight, and nothing else",
    }
}
