//! Why a whole request was refused: the problem types of DAP 3.6, as RFC 9457 documents.
//!
//! A document goes back to whoever asked, so it says what is wrong with the request and nothing of what
//! is stored.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::id::TaskId;

/// A problem type of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.token())]
pub enum Problem {
    /// The request cannot be read, or contradicts itself or the task.
    InvalidMessage,
    /// The task is not known here.
    UnrecognizedTask,
    /// The aggregation job is not known here.
    UnrecognizedAggregationJob,
    /// The aggregation parameter is none of the VDAF's.
    InvalidAggregationParameter,
    /// The query or selector names no valid batch.
    BatchInvalid,
    /// A part of the batch was collected already.
    BatchOverlap,
    /// The batch has fewer reports than the task demands.
    InvalidBatchSize,
    /// The aggregators do not agree on what is in the batch.
    BatchMismatch,
    /// The aggregators do not agree on the step of the job.
    StepMismatch,
    /// An extension is not known here.
    UnsupportedExtension,
    /// An extension is out of order or not acceptable.
    InvalidExtension,
    /// The aggregator does not take part in the task.
    InvalidTask,
}

impl Problem {
    /// Every problem type.
    pub const ALL: [Self; 12] = [
        Self::InvalidMessage,
        Self::UnrecognizedTask,
        Self::UnrecognizedAggregationJob,
        Self::InvalidAggregationParameter,
        Self::BatchInvalid,
        Self::BatchOverlap,
        Self::InvalidBatchSize,
        Self::BatchMismatch,
        Self::StepMismatch,
        Self::UnsupportedExtension,
        Self::InvalidExtension,
        Self::InvalidTask,
    ];

    /// The last part of the URN; fit for a metric.
    pub const fn token(self) -> &'static str {
        self.urn().split_at(NAMESPACE.len()).1
    }

    /// The URN that is the type of the document.
    pub const fn urn(self) -> &'static str {
        match self {
            Self::InvalidMessage => "urn:ietf:params:ppm:dap:error:invalidMessage",
            Self::UnrecognizedTask => "urn:ietf:params:ppm:dap:error:unrecognizedTask",
            Self::UnrecognizedAggregationJob => "urn:ietf:params:ppm:dap:error:unrecognizedAggregationJob",
            Self::InvalidAggregationParameter => "urn:ietf:params:ppm:dap:error:invalidAggregationParameter",
            Self::BatchInvalid => "urn:ietf:params:ppm:dap:error:batchInvalid",
            Self::BatchOverlap => "urn:ietf:params:ppm:dap:error:batchOverlap",
            Self::InvalidBatchSize => "urn:ietf:params:ppm:dap:error:invalidBatchSize",
            Self::BatchMismatch => "urn:ietf:params:ppm:dap:error:batchMismatch",
            Self::StepMismatch => "urn:ietf:params:ppm:dap:error:stepMismatch",
            Self::UnsupportedExtension => "urn:ietf:params:ppm:dap:error:unsupportedExtension",
            Self::InvalidExtension => "urn:ietf:params:ppm:dap:error:invalidExtension",
            Self::InvalidTask => "urn:ietf:params:ppm:dap:error:invalidTask",
        }
    }

    /// The problem type of a URN.
    pub fn from_urn(urn: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.urn() == urn)
    }

    /// One sentence for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::InvalidMessage => "The message is not one that can be taken.",
            Self::UnrecognizedTask => "The task is not known here.",
            Self::UnrecognizedAggregationJob => "The aggregation job is not known here.",
            Self::InvalidAggregationParameter => "The aggregation parameter does not fit the task.",
            Self::BatchInvalid => "The query or the selector names no valid batch.",
            Self::BatchOverlap => "A part of the batch was collected already.",
            Self::InvalidBatchSize => "The batch has fewer reports than the task demands.",
            Self::BatchMismatch => "Leader and helper do not agree on what is in the batch.",
            Self::StepMismatch => "Leader and helper do not agree on the step of the aggregation job.",
            Self::UnsupportedExtension => "The request has an extension that is not known here.",
            Self::InvalidExtension => "An extension is out of order or cannot be accepted.",
            Self::InvalidTask => "This aggregator does not take part in the task.",
        }
    }

    /// The HTTP status that goes with it: always the client's error.
    pub const fn status(self) -> u16 {
        match self {
            Self::UnrecognizedTask | Self::UnrecognizedAggregationJob => 404,
            _ => 400,
        }
    }
}

/// The body of a response of status 4xx or 5xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProblemDocument {
    /// The problem type: a URN of [`Problem`], or `about:blank` where the status says it all.
    pub type_: String,
    /// One sentence for people.
    pub title: Option<String>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// What is wrong in this one request.
    pub detail: Option<String>,
    /// The task, as unpadded base64url.
    pub taskid: Option<String>,
    /// Members beside those, as far as they are texts and few: what a peer says of its own problem types. They are read
    /// and not written.
    pub further: BTreeMap<String, String>,
}

impl ProblemDocument {
    /// The document of a problem type.
    pub fn new(problem: Problem) -> Self {
        Self {
            type_: problem.urn().to_owned(),
            title: Some(problem.title().to_owned()),
            status: Some(problem.status()),
            detail: None,
            taskid: None,
            further: BTreeMap::new(),
        }
    }

    /// The document of a failure that the specification has no type for.
    pub fn of_status(status: u16, title: impl Into<String>) -> Self {
        Self {
            type_: ABOUT_BLANK.to_owned(),
            title: Some(title.into()),
            status: Some(status),
            detail: None,
            taskid: None,
            further: BTreeMap::new(),
        }
    }

    /// Names the task.
    #[must_use]
    pub fn with_task(mut self, task: &TaskId) -> Self {
        self.taskid = Some(task.to_string());
        self
    }

    /// Says what is wrong in this one request.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The problem type, if it is one of the specification.
    pub fn problem(&self) -> Option<Problem> {
        Problem::from_urn(&self.type_)
    }

    /// The document as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let mut members = Map::new();
        members.insert("type".to_owned(), self.type_.clone().into());
        let texts = [("title", &self.title), ("detail", &self.detail), ("taskid", &self.taskid)];
        for (name, text) in texts {
            if let Some(text) = text {
                members.insert(name.to_owned(), text.clone().into());
            }
        }
        if let Some(status) = self.status {
            members.insert("status".to_owned(), status.into());
        }
        Value::Object(members).to_string().into_bytes()
    }

    /// Reads a peer's document. As RFC 9457 3.1 wants it, members that are unknown or of the wrong type
    /// are passed over, and a missing type is `about:blank`; what is not a JSON object is none. Its texts are [`printable`].
    pub fn from_json(body: &[u8]) -> Option<Self> {
        let Value::Object(members) = serde_json::from_slice(body).ok()? else { return None };
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(printable);
        let known = |name: &str| ["type", "title", "status", "detail", "taskid"].contains(&name);
        let further = members.iter().filter(|(name, _)| !known(name));
        let further = further.filter_map(|(name, value)| Some((printable(name), printable(value.as_str()?))));
        Some(Self {
            type_: text("type").unwrap_or_else(|| ABOUT_BLANK.to_owned()),
            title: text("title"),
            status: members.get("status").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()),
            detail: text("detail"),
            taskid: text("taskid"),
            further: further.take(MOST_FURTHER).collect(),
        })
    }
}

/// What a peer says, as far as it can be shown to people: without control characters, which a terminal would obey, or
/// those that turn the direction of writing; and no longer than people read.
#[must_use]
pub fn printable(text: &str) -> String {
    let turns = |letter| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|letter| !letter.is_control() && !turns(*letter)).take(LONGEST_TEXT).collect()
}

/// The most members of a peer's own that are kept.
const MOST_FURTHER: usize = 16;

/// The most characters of one text of a peer that are kept.
const LONGEST_TEXT: usize = 400;

const NAMESPACE: &str = "urn:ietf:params:ppm:dap:error:";
const ABOUT_BLANK: &str = "about:blank";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_reads_what_it_writes() {
        for problem in Problem::ALL {
            assert_eq!(format!("{NAMESPACE}{}", problem.token()), problem.urn());
            let document =
                ProblemDocument::new(problem).with_task(&TaskId::new([1; 32])).with_detail("a \"detail\"");
            let read = ProblemDocument::from_json(&document.to_json()).unwrap();
            assert_eq!(read, document);
            assert_eq!(read.problem(), Some(problem));
        }
    }

    #[test]
    fn every_problem_blames_the_request() {
        for problem in Problem::ALL {
            assert!((400..500).contains(&problem.status()), "{problem}");
        }
    }

    #[test]
    fn a_document_of_a_peer_is_read_leniently() {
        let body = br#"{"type":7,"status":"400","title":"t","unknown":[1],"taskid":null}"#;
        let read = ProblemDocument::from_json(body).unwrap();
        assert_eq!((read.type_.as_str(), read.title.as_deref(), read.status), (ABOUT_BLANK, Some("t"), None));
        assert_eq!(read.problem(), None);
        assert_eq!(ProblemDocument::from_json(b"[]"), None);
        assert_eq!(ProblemDocument::from_json(b"{"), None);
    }

    #[test]
    fn a_few_texts_of_a_problem_type_of_the_peers_own_are_kept() {
        let body = br#"{"type":"urn:x","budget":"we\u001bekly","spent":"0.3","count":7,"taskid":"t"}"#;
        let read = ProblemDocument::from_json(body).unwrap();
        let kept: Vec<_> = read.further.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(kept, [("budget", "weekly"), ("spent", "0.3")]);
        let many: Vec<String> = (0..100).map(|number| format!("\"{number}\":\"x\"")).collect();
        let many = format!("{{{}}}", many.join(","));
        assert_eq!(ProblemDocument::from_json(many.as_bytes()).unwrap().further.len(), MOST_FURTHER);
    }

    #[test]
    fn what_a_peer_says_cannot_move_the_cursor_of_a_terminal() {
        let detail = format!("\u{1b}[2Jall is well\r\n\u{9b}31m\u{202e}{}", "x".repeat(1_000));
        let read =
            ProblemDocument::from_json(&ProblemDocument::of_status(400, "t").with_detail(detail).to_json());
        let detail = read.unwrap().detail.unwrap();
        assert!(detail.starts_with("[2Jall is well31mxxx"), "{detail}");
        assert_eq!(detail.chars().count(), 400);
        assert!(!detail.contains(|letter: char| letter.is_control() || letter == '\u{202e}'));
    }

    #[test]
    fn a_failure_without_a_type_of_its_own_is_about_blank() {
        let json: Value =
            serde_json::from_slice(&ProblemDocument::of_status(404, "Not Found").to_json()).unwrap();
        assert_eq!(json, serde_json::json!({"type": "about:blank", "title": "Not Found", "status": 404}));
    }
}
