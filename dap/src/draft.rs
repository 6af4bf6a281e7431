//! Which edition of the protocol a task speaks: a value of the task, not a constant of the program.
//!
//! This is the only file that writes a draft number. An edition decides the version tag in the HPKE
//! infos and the VDAF context, the table of report errors, the least length of `task_info`, and the
//! choice of error in a few situations (see [`crate::report_error`]).

use std::fmt;
use std::str::FromStr;

/// The edition of DAP that a task speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Draft {
    /// draft-ietf-ppm-dap-18.
    #[default]
    V18,
    /// draft-ietf-ppm-dap-19.
    V19,
}

impl Draft {
    /// Every edition this program speaks, oldest first.
    pub const ALL: [Self; 2] = [Self::V18, Self::V19];

    /// The tag that starts every HPKE info and VDAF context.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::V18 => "dap-18",
            Self::V19 => "dap-19",
        }
    }

    /// The shortest `task_info` that the edition allows.
    pub(crate) const fn least_task_info(self) -> usize {
        match self {
            Self::V18 => 1,
            Self::V19 => 0,
        }
    }
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V18 => "18",
            Self::V19 => "19",
        })
    }
}

impl FromStr for Draft {
    type Err = UnknownDraft;

    fn from_str(text: &str) -> Result<Self, UnknownDraft> {
        match text {
            "18" => Ok(Self::V18),
            "19" => Ok(Self::V19),
            _ => Err(UnknownDraft),
        }
    }
}

/// The text names no edition that this program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown draft; this program speaks 18 and 19")]
pub struct UnknownDraft;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edition_reads_what_it_writes() {
        for draft in Draft::ALL {
            assert_eq!(draft.to_string().parse(), Ok(draft));
            assert_eq!(draft.tag(), format!("dap-{draft}"));
        }
        assert_eq!("17".parse::<Draft>(), Err(UnknownDraft));
    }
}
