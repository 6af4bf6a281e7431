//! The `[policy]` table: which policy this is, from when on it holds, and what no budget may pass.

use super::catalogue;
use super::reader::Section;
use crate::rational::Rational;

/// What `[policy]` says.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) id: String,
    pub(super) version: u32,
    pub(super) effective_from: Option<u64>,
    pub(super) owner: Option<String>,
    pub(super) justification: String,
    pub(super) epsilon_ceiling: Option<Rational>,
}

/// Reads it. The ceiling is returned beside the rest, since budgets are held to it even when the rest is of no use.
pub(super) fn read(root: &Section<'_>) -> (Option<Header>, Option<Rational>) {
    if !root.has("policy") {
        root.missing("[policy]", "a table with id, version and justification");
    }
    let Some(header) = root.section("policy") else { return (None, None) };
    header.refuse_other_keys(&catalogue::HEADER, &[]);
    let id = header.name("id", "\"a-name\"");
    let justification = header.required_text("justification", "\"why these numbers\"");
    let owner = header.text("owner");
    if !header.has("version") {
        header.missing("version", "1");
    }
    let version = header.counting("version", "E002");
    let effective_from = header.moment("effective_from");
    let ceiling = header.positive("epsilon_ceiling").map(|it| it.value);
    let unread = (header.has("effective_from") && effective_from.is_none())
        || (header.has("epsilon_ceiling") && ceiling.is_none());
    let read = id.zip(version).zip(justification).filter(|_| !unread);
    let read = read.map(|((id, version), justification)| Header {
        id: id.value,
        version: version.value.get(),
        effective_from: effective_from.map(|it| it.value),
        owner: owner.map(|it| it.value),
        justification: justification.value,
        epsilon_ceiling: ceiling.clone(),
    });
    (read, ceiling)
}
