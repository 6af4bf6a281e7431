//! How a command ends: a sentence for people on stderr and a number for scripts.
//!
//! Every failure of every command becomes one [`Failure`], so that the same mistake has the same number
//! everywhere. No message repeats a secret, a measurement or a report identifier.

use std::fmt;
use std::process::ExitCode;

use mica_aggregator::BuildError as AggregatorError;
use mica_aggregator::enrol::EnrolError;
use mica_aggregator::high_water::{FollowError, MarkError};
use mica_client::{BundleError, ClientError};
use mica_collector::{CollectError, CollectorTaskError};
use mica_dap::problem::{Problem, ProblemDocument};
use mica_diagnostic::Diagnostic;
use mica_gateway::BuildError as GatewayError;
use mica_service::config::ConfigError;
use mica_service::http::PeerError;
use mica_service::listener::BindError;
use mica_service::store::StoreError;
use mica_service::telemetry::TelemetryError;
use serde_json::{Value, json};

/// The exit codes of `mica`; 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Nothing that was foreseen.
    Unexpected = 1,
    /// The command line itself is wrong.
    Usage = 2,
    /// A configuration, policy or task file, or what it names, is of no use.
    Invalid = 3,
    /// The policy, the budget or a peer said no.
    Refused = 4,
    /// Not yet: too few reports, or a job that is not done.
    NotReady = 5,
    /// A peer does not answer; trying again later may help.
    Unreachable = 6,
    /// A peer does not accept the token.
    Unauthorized = 7,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    broken_pipe: bool,
    refusal: Option<Value>,
}

impl Failure {
    /// A failure with this number and these words.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), broken_pipe: false, refusal: None }
    }

    /// Something in a file or a setting is wrong.
    pub(crate) fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Exit::Invalid, message)
    }

    /// The command line is wrong in a way that its grammar does not show.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Nothing that was foreseen.
    pub(crate) fn unexpected(message: impl fmt::Display) -> Self {
        Self::new(Exit::Unexpected, message)
    }

    /// The findings in a file, one line each.
    pub(crate) fn findings(findings: &[Diagnostic]) -> Self {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        Self::invalid(lines.join("\n"))
    }

    /// Whether nobody reads our output any more.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.broken_pipe
    }

    /// What a peer refused and why, for programs: one object, where `-o json` wants one.
    pub(crate) fn refusal(&self) -> Option<&Value> {
        self.refusal.as_ref()
    }

    /// The number.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A message may hold what a peer or a file said, and a terminal would obey it.
        let shown: String = self.message.chars().filter(|it| *it == '\n' || !it.is_control()).collect();
        f.write_str(&shown)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Box<Diagnostic>> for Failure {
    fn from(finding: Box<Diagnostic>) -> Self {
        Self::invalid(finding)
    }
}

impl From<Vec<Diagnostic>> for Failure {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self::findings(&findings)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::invalid(error)
    }
}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        Self::invalid(error)
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Self {
        Self::invalid(error)
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::invalid(error)
    }
}

impl From<CollectorTaskError> for Failure {
    fn from(error: CollectorTaskError) -> Self {
        Self::invalid(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let broken_pipe = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { broken_pipe, ..Self::unexpected(error) }
    }
}

impl From<CollectError> for Failure {
    fn from(error: CollectError) -> Self {
        let exit = match error {
            CollectError::Unreachable(error) => return error.into(),
            CollectError::Unauthorized => Exit::Unauthorized,
            CollectError::Refused(ref problem) if problem.type_ == Problem::InvalidBatchSize.urn() => {
                Exit::NotReady
            }
            CollectError::Refused(_) | CollectError::Failed { status: 400..500, .. } => Exit::Refused,
            CollectError::Failed { status: 500.., .. } | CollectError::Busy(_) => Exit::Unreachable,
            CollectError::Task(_) => Exit::Invalid,
            CollectError::Failed { .. }
            | CollectError::Answer(_)
            | CollectError::Share(_)
            | CollectError::Sum(_) => Exit::Unexpected,
        };
        let refusal = match &error {
            CollectError::Refused(problem) => Some(refusal(problem)),
            _ => None,
        };
        Self { refusal, ..Self::new(exit, error) }
    }
}

/// A refusal as one object: the members of its problem document, those of an exhausted budget among them.
fn refusal(problem: &ProblemDocument) -> Value {
    let mut object = json!({
        "refused": true,
        "type": problem.type_,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "taskid": problem.taskid,
    });
    for (name, text) in &problem.further {
        if object.get(name).is_none() {
            object[name] = json!(text);
        }
    }
    object
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::NewerSchema { .. }
            | StoreError::OlderSchema { .. }
            | StoreError::AlteredSchema { .. }
            | StoreError::Unwritable(_)
            | StoreError::BadUrl(_) => Exit::Invalid,
            StoreError::Unreachable(_) => Exit::Unreachable,
            _ => Exit::Unexpected,
        };
        Self::new(exit, error)
    }
}

impl From<mica_relay::BuildError> for Failure {
    fn from(error: mica_relay::BuildError) -> Self {
        Self::invalid(error)
    }
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Store(error) => error.into(),
            other => Self::invalid(other),
        }
    }
}

impl From<AggregatorError> for Failure {
    fn from(error: AggregatorError) -> Self {
        match error {
            AggregatorError::Store(error) => error.into(),
            other @ (AggregatorError::Task(_) | AggregatorError::Policy(_)) => Self::invalid(other),
        }
    }
}

impl From<MarkError> for Failure {
    fn from(error: MarkError) -> Self {
        Self::invalid(error)
    }
}

impl From<FollowError> for Failure {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Store(error) => error.into(),
            other @ FollowError::Mark(_) => Self::invalid(other),
        }
    }
}

impl From<EnrolError> for Failure {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Store(error) => error.into(),
            refused => Self::new(Exit::Refused, refused),
        }
    }
}

impl From<PeerError> for Failure {
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::BadUrl(why) => Self::invalid(why),
            PeerError::NotAccepted { .. } => Self::new(Exit::Unauthorized, error),
            other => Self::new(Exit::Unreachable, other),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Measurement(_) => Exit::Usage,
            ClientError::Task(_) | ClientError::StaleOhttpKey(_) | ClientError::Unusable(_) => Exit::Invalid,
            ClientError::Unreachable { .. }
            | ClientError::Certificate { .. }
            | ClientError::Relay(_)
            | ClientError::Refused { status: 408 | 429 | 500.., .. } => Exit::Unreachable,
            ClientError::Refused { status: 401 | 403, .. } | ClientError::NotAccepted { .. } => {
                Exit::Unauthorized
            }
            ClientError::Refused { .. } => Exit::Refused,
            ClientError::Answer(_) | ClientError::NoUsableKey(_) => Exit::Unexpected,
        };
        Self::new(exit, error)
    }
}

#[cfg(test)]
mod tests {
    use super::{Exit, Failure};

    #[test]
    fn a_refusal_is_one_object_with_what_the_budget_said() {
        use mica_collector::CollectError;
        use mica_dap::problem::ProblemDocument;
        let said = br#"{"type":"urn:x-mica:problem:dp-budget-exhausted","status":403,"detail":"no","budget":"weekly",
            "window_from":"2026-05-27T00:00:00Z","spent":"0.3","requested":"0.1","remaining":"0","would_fit":"0",
            "renews_at":"2026-05-29T00:00:00Z","refused":"no"}"#;
        let problem = ProblemDocument::from_json(said).expect("a problem");
        let failure = Failure::from(CollectError::Refused(Box::new(problem)));
        assert_eq!(failure.exit(), Exit::Refused);
        let object = failure.refusal().expect("an object");
        for (name, value) in
            [("budget", "weekly"), ("spent", "0.3"), ("requested", "0.1"), ("would_fit", "0")]
        {
            assert_eq!(object[name], value, "{object}");
        }
        assert_eq!(
            (&object["refused"], &object["renews_at"]),
            (&true.into(), &"2026-05-29T00:00:00Z".into())
        );
        assert!(Failure::usage("no").refusal().is_none());
    }

    #[test]
    fn the_same_kind_of_mistake_has_the_same_number_wherever_it_is_made() {
        use mica_service::store::StoreError;
        let cases = [
            (Failure::from(StoreError::NewerSchema { found: 2, supported: 1 }), Exit::Invalid),
            (Failure::from(StoreError::Unwritable("no".to_owned())), Exit::Invalid),
            (
                Failure::from(mica_gateway::BuildError::Store(StoreError::BadUrl("no".to_owned()))),
                Exit::Invalid,
            ),
            (Failure::from(StoreError::Unreachable("no".to_owned())), Exit::Unreachable),
            (Failure::from(mica_client::ClientError::Relay(502)), Exit::Unreachable),
            (Failure::from(mica_client::ClientError::Measurement("no".to_owned())), Exit::Usage),
        ];
        for (failure, exit) in cases {
            assert_eq!(failure.exit(), exit, "{failure}");
        }
    }
}
