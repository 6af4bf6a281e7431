//! Why a report could not be made or sent. Nothing here quotes a measurement, a share or an identifier.

use mica_dap::problem::ProblemDocument;
use thiserror::Error;

/// A failed step between a measurement and its upload.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ClientError {
    /// The measurement does not fit the task.
    #[error("{0}")]
    Measurement(String),
    /// The task cannot be served by this client.
    #[error("this client cannot report for the task: {0}")]
    Task(String),
    /// The relay or the gateway did not answer.
    #[error("cannot reach {origin}: {why}")]
    Unreachable {
        /// Scheme, host and port.
        origin: String,
        /// In one phrase.
        why: String,
    },
    /// The relay or the gateway is not who it should be. Nothing was sent.
    #[error("the certificate of {host} is not valid: {why}")]
    Certificate {
        /// The host that was asked.
        host: String,
        /// Why, and what to do.
        why: String,
    },
    /// The relay or the gateway does not accept our certificate, or that we have none.
    #[error("{origin} does not let us in: {why}")]
    NotAccepted {
        /// Scheme, host and port.
        origin: String,
        /// Why, and what to do.
        why: String,
    },
    /// The relay or the gateway may not be asked like this: one sentence.
    #[error("{0}")]
    Unusable(String),
    /// The relay or the gateway refused the envelope itself.
    #[error("the relay answered {0}; nothing was delivered")]
    Relay(u16),
    /// The gateway no longer uses the key that the request was sealed to, and there is no other.
    #[error(
        "the gateway does not know the key that the request was sealed to, and {0}; fetch a fresh bundle"
    )]
    StaleOhttpKey(String),
    /// The answer in the envelope is not what was asked for.
    #[error("the answer cannot be read: {0}")]
    Answer(String),
    /// An aggregator does not offer a key that this client can seal to (DAP 4.4.1).
    #[error("the {0} offers no HPKE configuration that this client can use")]
    NoUsableKey(&'static str),
    /// The leader, or the gateway for it, refused the whole request, inside the envelope.
    #[error("the leader, or the gateway for it, refused the request with {status}{}", detail(*status, .problem.as_deref()))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said about it.
        problem: Option<Box<ProblemDocument>>,
    },
}

fn detail(status: u16, problem: Option<&ProblemDocument>) -> String {
    let said = problem.map_or_else(String::new, |problem| {
        let text = problem.detail.as_deref().or(problem.title.as_deref()).unwrap_or_default();
        // A document without a type of its own says no more than the status.
        let type_ = if problem.type_ == "about:blank" { "" } else { problem.type_.as_str() };
        [type_, text].join(" ").trim().to_owned()
    });
    let said = if said.is_empty() { said } else { format!(": {said}") };
    match status {
        502 | 504 => format!("{said}; the gateway does not reach the leader, try again later"),
        500.. => format!("{said}; try again later"),
        _ => said,
    }
}
