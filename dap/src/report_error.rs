//! Why one report was refused, while the others of its request went on (DAP 4.4.2.2, 4.5.3.4).
//!
//! The same byte means different things in different editions, so a code is never a cast: it is asked for,
//! and read, together with the edition of the task. So is the choice of error where editions differ.

use std::fmt;

use crate::draft::Draft;

/// Why a report was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportError {
    /// Its batch was collected already.
    BatchCollected,
    /// It was aggregated or uploaded already.
    ReportReplayed,
    /// It cannot be judged any more, or lies outside the life of the task.
    ReportDropped,
    /// It is sealed to a key that the aggregator does not have.
    HpkeUnknownConfigId,
    /// It does not open: another task, another key, or changed on the way.
    HpkeDecryptError,
    /// Its proof is wrong.
    VdafVerifyError,
    /// It was made after the task ended.
    TaskExpired,
    /// It is not an encoding of what it should be.
    InvalidMessage,
    /// It claims to be made in the future.
    ReportTooEarly,
    /// It was made before the task began.
    TaskNotStarted,
    /// It is sealed to a key that the leader does not have any more; fetch the keys anew.
    OutdatedConfig,
    /// The job names a verification key that the helper does not have.
    UnknownVerificationKeyId,
    /// It has an extension that the aggregator does not know.
    UnsupportedExtension,
    /// A code that the edition does not define.
    Unknown(u8),
}

/// Where a report is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// By the leader, while the client waits.
    Upload,
    /// By either aggregator, in an aggregation job.
    Aggregation,
}

impl ReportError {
    /// The code in an edition. A reason that the edition has no code for gets the nearest one it has.
    pub const fn code(self, draft: Draft) -> u8 {
        match (self, draft) {
            (Self::BatchCollected, _) => 1,
            (Self::ReportReplayed, _) => 2,
            (Self::ReportDropped, _) | (Self::TaskExpired | Self::TaskNotStarted, Draft::V19) => 3,
            (Self::HpkeUnknownConfigId, _) | (Self::OutdatedConfig, Draft::V19) => 4,
            (Self::HpkeDecryptError, _) => 5,
            (Self::VdafVerifyError, _) => 6,
            (Self::TaskExpired, Draft::V18) | (Self::InvalidMessage, Draft::V19) => 7,
            (
                Self::InvalidMessage | Self::UnknownVerificationKeyId | Self::UnsupportedExtension,
                Draft::V18,
            )
            | (Self::ReportTooEarly, Draft::V19) => 8,
            (Self::ReportTooEarly, Draft::V18) | (Self::UnknownVerificationKeyId, Draft::V19) => 9,
            (Self::TaskNotStarted, Draft::V18) | (Self::UnsupportedExtension, Draft::V19) => 10,
            (Self::OutdatedConfig, Draft::V18) => 11,
            (Self::Unknown(code), _) => code,
        }
    }

    /// What a code means in an edition.
    pub const fn from_code(code: u8, draft: Draft) -> Self {
        match (code, draft) {
            (1, _) => Self::BatchCollected,
            (2, _) => Self::ReportReplayed,
            (3, _) => Self::ReportDropped,
            (4, _) => Self::HpkeUnknownConfigId,
            (5, _) => Self::HpkeDecryptError,
            (6, _) => Self::VdafVerifyError,
            (7, Draft::V18) => Self::TaskExpired,
            (8, Draft::V18) | (7, Draft::V19) => Self::InvalidMessage,
            (9, Draft::V18) | (8, Draft::V19) => Self::ReportTooEarly,
            (10, Draft::V18) => Self::TaskNotStarted,
            (11, Draft::V18) => Self::OutdatedConfig,
            (9, Draft::V19) => Self::UnknownVerificationKeyId,
            (10, Draft::V19) => Self::UnsupportedExtension,
            (unknown, _) => Self::Unknown(unknown),
        }
    }

    /// The name of the error in the specification; fit for a metric.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BatchCollected => "batch_collected",
            Self::ReportReplayed => "report_replayed",
            Self::ReportDropped => "report_dropped",
            Self::HpkeUnknownConfigId => "hpke_unknown_config_id",
            Self::HpkeDecryptError => "hpke_decrypt_error",
            Self::VdafVerifyError => "vdaf_verify_error",
            Self::TaskExpired => "task_expired",
            Self::InvalidMessage => "invalid_message",
            Self::ReportTooEarly => "report_too_early",
            Self::TaskNotStarted => "task_not_started",
            Self::OutdatedConfig => "outdated_config",
            Self::UnknownVerificationKeyId => "unknown_verification_key_id",
            Self::UnsupportedExtension => "unsupported_extension",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for ReportError {}

/// Where editions choose another error for the same fault.
impl Draft {
    /// A report from before the task began.
    pub const fn before_the_task(self, stage: Stage) -> ReportError {
        match (self, stage) {
            (Self::V18, Stage::Aggregation) => ReportError::TaskNotStarted,
            (Self::V18, Stage::Upload) | (Self::V19, _) => ReportError::ReportDropped,
        }
    }

    /// A report from after the task ended.
    pub const fn after_the_task(self, stage: Stage) -> ReportError {
        match (self, stage) {
            (Self::V18, Stage::Aggregation) => ReportError::TaskExpired,
            (Self::V18, Stage::Upload) | (Self::V19, _) => ReportError::ReportDropped,
        }
    }

    /// A share sealed to a key the aggregator does not have.
    pub const fn unknown_hpke_config(self, stage: Stage) -> ReportError {
        match (self, stage) {
            (Self::V18, Stage::Upload) => ReportError::OutdatedConfig,
            (Self::V18, Stage::Aggregation) => ReportError::HpkeDecryptError,
            (Self::V19, _) => ReportError::HpkeUnknownConfigId,
        }
    }

    /// A report extension the aggregator does not know.
    pub const fn unsupported_extension(self) -> ReportError {
        match self {
            Self::V18 => ReportError::InvalidMessage,
            Self::V19 => ReportError::UnsupportedExtension,
        }
    }

    /// A job under a verification key the helper does not have: the error of each report, or none where
    /// the whole job is refused as an invalid message.
    pub const fn unknown_verification_key(self) -> Option<ReportError> {
        match self {
            Self::V18 => None,
            Self::V19 => Some(ReportError::UnknownVerificationKeyId),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_in_every_edition() {
        for draft in Draft::ALL {
            for code in 0..=u8::MAX {
                assert_eq!(ReportError::from_code(code, draft).code(draft), code);
            }
        }
    }

    #[test]
    fn the_same_byte_means_different_things_in_different_editions() {
        let meanings = |code| Draft::ALL.map(|draft| ReportError::from_code(code, draft).label());
        assert_eq!(meanings(0), ["unknown", "unknown"]);
        assert_eq!(meanings(6), ["vdaf_verify_error", "vdaf_verify_error"]);
        assert_eq!(meanings(7), ["task_expired", "invalid_message"]);
        assert_eq!(meanings(8), ["invalid_message", "report_too_early"]);
        assert_eq!(meanings(9), ["report_too_early", "unknown_verification_key_id"]);
        assert_eq!(meanings(10), ["task_not_started", "unsupported_extension"]);
        assert_eq!(meanings(11), ["outdated_config", "unknown"]);
    }

    #[test]
    fn a_reason_without_a_code_gets_the_nearest() {
        assert_eq!(ReportError::UnsupportedExtension.code(Draft::V18), 8);
        assert_eq!(ReportError::UnknownVerificationKeyId.code(Draft::V18), 8);
        assert_eq!(ReportError::TaskExpired.code(Draft::V19), 3);
        assert_eq!(ReportError::TaskNotStarted.code(Draft::V19), 3);
        assert_eq!(ReportError::OutdatedConfig.code(Draft::V19), 4);
    }

    #[test]
    fn editions_choose_another_error_for_the_same_fault() {
        use ReportError as E;
        let (old, new) = (Draft::V18, Draft::V19);
        assert_eq!(old.unknown_hpke_config(Stage::Upload), E::OutdatedConfig);
        assert_eq!(old.unknown_hpke_config(Stage::Aggregation), E::HpkeDecryptError);
        assert_eq!(new.unknown_hpke_config(Stage::Upload), E::HpkeUnknownConfigId);
        assert_eq!(old.before_the_task(Stage::Aggregation), E::TaskNotStarted);
        assert_eq!(old.after_the_task(Stage::Aggregation), E::TaskExpired);
        for stage in [Stage::Upload, Stage::Aggregation] {
            assert_eq!(new.before_the_task(stage), E::ReportDropped);
            assert_eq!(new.after_the_task(stage), E::ReportDropped);
        }
        assert_eq!(old.after_the_task(Stage::Upload), E::ReportDropped);
    }
}
