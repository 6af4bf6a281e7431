//! Which tasks a release is for: by identifier, or by label.

use mica_dap::id::TaskId;

use super::catalogue;
use super::reader::{At, Section, brief};
use crate::shape::Shape;

/// The `match` of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selector {
    /// These tasks and no others; goes before every label.
    Tasks(Vec<TaskId>),
    /// Tasks by label.
    Label {
        /// The label, or its beginning.
        text: String,
        /// Whether more may follow.
        is_prefix: bool,
        /// Only tasks with this VDAF.
        vdaf_type: Option<&'static str>,
    },
}

impl Selector {
    /// Whether the release names this very task.
    pub(crate) fn names(&self, task: Option<TaskId>) -> bool {
        matches!((self, task), (Self::Tasks(ids), Some(task)) if ids.contains(&task))
    }

    /// Whether the release is for tasks with such a label and VDAF.
    pub(crate) fn covers(&self, label: &str, vdaf: &str) -> bool {
        match self {
            Self::Tasks(_) => false,
            Self::Label { text, is_prefix, vdaf_type } => {
                let matches = if *is_prefix { label.starts_with(text.as_str()) } else { label == text };
                matches && vdaf_type.is_none_or(|it| it == vdaf)
            }
        }
    }

    /// Whether no second task can be meant. Two tasks may have one label.
    pub(crate) fn is_one_task(&self) -> bool {
        matches!(self, Self::Tasks(ids) if ids.len() == 1)
    }

    /// Whether two releases can never be told apart for some task, whatever its label is.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tasks(a), Self::Tasks(b)) => a.iter().any(|id| b.contains(id)),
            (
                Self::Label { text: a, is_prefix: a_prefix, vdaf_type: a_vdaf },
                Self::Label { text: b, is_prefix: b_prefix, vdaf_type: b_vdaf },
            ) => {
                let apart = matches!((a_vdaf, b_vdaf), (Some(a), Some(b)) if a != b);
                a == b && a_prefix == b_prefix && !apart
            }
            _ => false,
        }
    }

    /// How people read it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Tasks(ids) => {
                format!("the tasks {}", ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            Self::Label { text, is_prefix, vdaf_type } => {
                let star = if *is_prefix { "*" } else { "" };
                let vdaf = vdaf_type.map(|it| format!(" with {it}")).unwrap_or_default();
                format!("tasks labelled \"{text}{star}\"{vdaf}")
            }
        }
    }
}

/// Reads `match = { label = "page-load/*", vdaf_type = "prio3-histogram" }` or `match = { task_ids = ["..."] }`.
pub(super) fn read(section: &Section<'_>, shape: Option<Shape>) -> Option<Selector> {
    if !section.has("match") {
        section.missing("match", "{ label = \"task-label\" }");
    }
    let selector = section.section("match")?;
    selector.refuse_other_keys(&catalogue::MATCH, &[]);
    let vdaf_type = read_vdaf_type(&selector, shape);
    let is_unread = selector.has("vdaf_type") && vdaf_type.is_none();
    match (selector.has("task_ids"), selector.has("label")) {
        (false, false) => {
            selector.missing("label", "\"task-label\"");
            None
        }
        (true, true) => {
            let what = "match has task_ids and label, and a task is matched by one of them";
            selector.reader.report(selector.key_place("label"), "E001", what, "remove one of them");
            None
        }
        (true, false) => read_tasks(&selector),
        (false, true) if is_unread => None,
        (false, true) => read_label(&selector, vdaf_type),
    }
}

/// The word under `vdaf_type`, if there is one and it is that of the release.
fn read_vdaf_type(selector: &Section<'_>, shape: Option<Shape>) -> Option<&'static str> {
    let words = catalogue::MATCH.words("vdaf_type");
    let words: Vec<(&str, &'static str)> = words.iter().map(|word| (*word, *word)).collect();
    let named = selector.choice("vdaf_type", &words)?;
    if let Some(shape) = shape.filter(|shape| shape.name() != named.value) {
        let what = format!("match.vdaf_type is {}, vdaf.type is {}", named.value, shape.name());
        selector.reader.report(named.at, "E023", what, "make them equal, or remove vdaf_type");
        return None;
    }
    Some(named.value)
}

fn read_tasks(selector: &Section<'_>) -> Option<Selector> {
    if selector.has("vdaf_type") {
        let at = selector.key_place("vdaf_type");
        let what = "vdaf_type goes with label: a task that is named by its identifier needs no second mark";
        selector.reader.report(at, "E001", what, "remove it");
    }
    let texts = selector.texts("task_ids")?;
    if texts.value.is_empty() {
        selector.reader.report(texts.at, "E001", "task_ids is empty", "name a task, or match by label");
        return None;
    }
    let mut ids: Vec<TaskId> = Vec::new();
    for At { value: text, at } in &texts.value {
        match text.parse::<TaskId>() {
            Ok(id) if ids.contains(&id) => {
                selector.reader.report(*at, "E010", format!("task {id} is named twice"), "name it once");
            }
            Ok(id) => ids.push(id),
            Err(_) => {
                let what = format!("\"{}\" is no task identifier", brief(text));
                let fix = "write the 43 letters of base64url that `mica task list` shows";
                selector.reader.report(*at, "E001", what, fix);
            }
        }
    }
    (ids.len() == texts.value.len()).then_some(Selector::Tasks(ids))
}

fn read_label(selector: &Section<'_>, vdaf_type: Option<&'static str>) -> Option<Selector> {
    let label = selector.text("label")?;
    let (text, is_prefix) = match label.value.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (label.value.as_str(), false),
    };
    if text.contains('*') {
        let what = format!("label \"{}\" has a * before its end", brief(&label.value));
        selector.reader.report(label.at, "E001", what, "a * is allowed as the last character only");
        return None;
    }
    Some(Selector::Label { text: text.to_owned(), is_prefix, vdaf_type })
}
