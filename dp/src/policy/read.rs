//! The file as a whole: its tables in turn, and what is wrong between them.

use super::budget::{self, Budget};
use super::reader::{At, Section, brief};
use super::release::{self, Release};
use super::unmatched::{self, Unmatched};
use super::{Policy, catalogue, header};
use crate::canonical::sha256;
use crate::plan::PolicyRef;

const SCHEMA: &str = "dp-policy/1";

/// Reads the root table of a file with that name and text.
pub(super) fn read(root: &Section<'_>, (file, text): (&str, &str)) -> Option<Policy> {
    root.refuse_other_keys(&catalogue::ROOT, &[]);
    if let Some(At { value: schema, at }) = root.required_text("schema", "\"dp-policy/1\"")
        && schema != SCHEMA
    {
        let what = format!("unknown schema \"{}\"", brief(&schema));
        root.reader.report(at, "E001", what, format!("this version reads schema = \"{SCHEMA}\""));
    }
    let (header, ceiling) = header::read(root);
    let budget_sections = root.sections("budget");
    let known = unique_ids(&budget_sections, "budget");
    let budgets: Vec<Option<Budget>> =
        budget_sections.iter().map(|section| budget::read(section, ceiling.as_ref())).collect();
    let read_budgets: Vec<Budget> = budgets.iter().flatten().cloned().collect();
    let release_sections = root.sections("release");
    unique_ids(&release_sections, "release");
    let releases: Vec<Option<Release>> =
        release_sections.iter().map(|section| release::read(section, &read_budgets, &known)).collect();
    refuse_equal_selectors(&release_sections, &releases);
    let unmatched = match root.section("unmatched") {
        Some(section) => unmatched::read(&section),
        None if root.has("unmatched") => None,
        None => Some(Unmatched::Refuse),
    };
    if budget_sections.is_empty() && !release_sections.is_empty() && !root.has("budget") {
        let what = "the policy has releases and no budget";
        root.reader.report(0, "E011", what, "add a [[budget]] that pays for them");
    }
    let header = header?;
    let (id, version) = (header.id.clone(), header.version);
    Some(Policy {
        file: file.to_owned(),
        text: text.to_owned(),
        origin: PolicyRef { id, version, sha256: sha256(text.as_bytes()) },
        header,
        budgets: budgets.into_iter().collect::<Option<_>>()?,
        releases: releases.into_iter().collect::<Option<_>>()?,
        unmatched: unmatched?,
        warnings: Vec::new(),
        allowed: Vec::new(),
    })
}

/// The ids of all sections, and a finding for every one that comes a second time.
fn unique_ids(sections: &[Section<'_>], kind: &str) -> Vec<String> {
    let mut seen: Vec<(String, usize)> = Vec::new();
    for section in sections {
        let Some(At { value: id, at }) = section.text("id") else { continue };
        if let Some((_, first)) = seen.iter().find(|(known, _)| *known == id) {
            let (first, second) = (section.reader.line(*first), section.reader.line(at));
            let what = format!("{kind} id \"{}\" is defined at line {first} and line {second}", brief(&id));
            section.reader.report(at, "E010", what, "give every one its own id");
        } else {
            seen.push((id, at));
        }
    }
    seen.into_iter().map(|(id, _)| id).collect()
}

/// Two releases for the very same tasks can never be told apart; overlaps of prefixes are seen per task.
fn refuse_equal_selectors(sections: &[Section<'_>], releases: &[Option<Release>]) {
    let read: Vec<_> =
        sections.iter().zip(releases).filter_map(|(section, it)| Some((section, it.as_ref()?))).collect();
    for (index, (section, release)) in read.iter().enumerate() {
        let earlier = read.iter().take(index).find(|(_, it)| it.selector.collides_with(&release.selector));
        if let Some((_, other)) = earlier {
            let what = format!("releases \"{}\" and \"{}\" match the same tasks", other.id, release.id);
            section.reader.report(section.key_place("match"), "E040", what, "let them match different tasks");
        }
    }
}
