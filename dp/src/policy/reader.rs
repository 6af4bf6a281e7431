//! Reads TOML with places: every value knows where it stands, every problem becomes a finding, none stops the
//! reading.
//!
//! Numbers are taken from the text of the file, not from the binary number a TOML reader makes of them.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::num::NonZeroU32;

use mica_diagnostic::{Diagnostic, Lines, Severity, suggest};
use toml_edit::{Item, TableLike, Value};

use super::catalogue::Table;
use super::date;
use crate::rational::{NotExact, Rational};

/// One file while it is read, and what was found so far.
pub(super) struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    lines: Lines<'a>,
    findings: RefCell<Vec<Diagnostic>>,
    errors: Cell<usize>,
}

/// What is wrong beyond these is not looked at: nobody mends a hundred errors at once, and a file that is nothing but
/// errors should not take a minute to say so.
const MOST_ERRORS: usize = 100;

/// Sections of one name that are read. Some rules compare each with each.
const MOST_SECTIONS: usize = 1000;

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, lines: Lines::of(text), findings: RefCell::default(), errors: Cell::new(0) }
    }

    /// Notes an error at a byte of the file.
    pub(super) fn report(&self, at: usize, code: &str, what: impl Into<String>, fix: impl Into<String>) {
        let found = self.errors.replace(self.errors.get() + 1);
        match found.cmp(&MOST_ERRORS) {
            Ordering::Less => self.find(at, code, Severity::Error, &what.into(), &fix.into()),
            Ordering::Equal => {
                let what = format!("there is more wrong than these {MOST_ERRORS}");
                self.find(at, code, Severity::Error, &what, "correct them and check again");
            }
            Ordering::Greater => {}
        }
    }

    /// Notes what its author should know and may mean.
    pub(super) fn warn(&self, at: usize, code: &str, what: impl Into<String>, fix: impl Into<String>) {
        self.find(at, code, Severity::Warning, &what.into(), &fix.into());
    }

    fn find(&self, at: usize, code: &str, severity: Severity, what: &str, fix: &str) {
        let (line, col) = self.lines.locate(at);
        let (file, code) = (self.file.to_owned(), code.to_owned());
        let (what, fix) = (shown(what), shown(fix));
        self.findings.borrow_mut().push(Diagnostic { file, line, col, code, severity, what, fix });
    }

    pub(super) fn line(&self, at: usize) -> usize {
        self.lines.locate(at).0
    }

    /// A place that outlives the reading.
    pub(super) fn place(&self, at: usize) -> Place {
        let (line, col) = self.lines.locate(at);
        Place { line, col }
    }

    /// All findings in the order of the file.
    pub(super) fn into_findings(self) -> Vec<Diagnostic> {
        let mut findings = self.findings.into_inner();
        findings.sort_by(|a, b| (a.line, a.col, &a.code).cmp(&(b.line, b.col, &b.code)));
        findings.dedup();
        findings
    }

    fn source(&self, item: &Item) -> &'a str {
        item.span().and_then(|span| self.text.get(span)).unwrap_or("")
    }
}

/// Where something stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) col: usize,
}

/// A value and the byte where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// A table of the file.
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader<'a>,
    /// How messages call it: `[[release]] "x"`.
    pub(super) name: String,
    pub(super) at: usize,
    table: &'a dyn TableLike,
}

impl<'a> Section<'a> {
    pub(super) fn new(reader: &'a Reader<'a>, name: &str, at: usize, table: &'a dyn TableLike) -> Self {
        let id = table.get("id").and_then(Item::as_str);
        let name = id.map_or_else(|| name.to_owned(), |id| format!("{name} \"{}\"", brief(id)));
        Self { reader, name, at, table }
    }

    /// Refuses every key that the table does not have; `special` are refused elsewhere, in words of their own.
    pub(super) fn refuse_other_keys(&self, table: &Table, special: &[&str]) {
        let known: Vec<&str> = table.names().collect();
        for (key, _) in self.table.iter().filter(|(key, _)| !known.contains(key) && !special.contains(key)) {
            let fix =
                did_you_mean(key, &known).unwrap_or_else(|| format!("known here: {}", known.join(", ")));
            let what = format!("unknown field \"{}\" in {}", brief(key), self.name);
            self.reader.report(self.key_place(key), "E001", what, fix);
        }
    }

    /// Refuses keys that make no sense with the word that decides about them.
    pub(super) fn refuse_keys_of_other_cases(&self, table: &Table, word: &str) {
        let Some(cases) = &table.cases else { return };
        let refused = cases.cases.iter().filter(|case| case.word == word).flat_map(|case| case.refuses);
        for key in refused.filter(|key| self.has(key)) {
            let what = format!("\"{key}\" makes no sense with {} = \"{word}\"", cases.by);
            self.reader.report(self.key_place(key), "E001", what, "remove it");
        }
    }

    /// Where a key stands; the section itself when it is not there.
    pub(super) fn key_place(&self, key: &str) -> usize {
        self.table
            .get_key_value(key)
            .and_then(|(key, item)| key.span().or_else(|| item.span()))
            .map_or(self.at, |span| span.start)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes that a key is missing.
    pub(super) fn missing(&self, key: &str, example: &str) {
        self.reader.report(
            self.at,
            "E001",
            format!("{} has no \"{key}\"", self.name),
            format!("add {key} = {example}"),
        );
    }

    pub(super) fn text(&self, key: &str) -> Option<At<String>> {
        let item = self.table.get(key)?;
        match item.as_str() {
            Some(text) if text.chars().any(forges) => {
                let place = self.value_place(item);
                let what =
                    format!("\"{key}\" has a line break, or another character that is not seen as it is");
                self.reader.report(
                    place,
                    "E004",
                    what,
                    "write one line of plain text: it is printed as it stands",
                );
                None
            }
            Some(text) if !text.trim().is_empty() => Some(self.found(item, text.to_owned())),
            Some(_) => {
                let place = self.value_place(item);
                self.reader.report(
                    place,
                    "E001",
                    format!("\"{key}\" is empty"),
                    "write a text between the quotes",
                );
                None
            }
            None => self.wrong_type(key, item, "a text in quotes"),
        }
    }

    pub(super) fn required_text(&self, key: &str, example: &str) -> Option<At<String>> {
        if !self.has(key) {
            self.missing(key, example);
        }
        self.text(key)
    }

    /// A name by which other parts of the file, the ledger and people call something.
    pub(super) fn name(&self, key: &str, example: &str) -> Option<At<String>> {
        let name = self.required_text(key, example)?;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
        if name.value.len() <= LONGEST_NAME && name.value.chars().all(plain) {
            return Some(name);
        }
        let what = format!("{key} \"{}\" is no name", brief(&name.value));
        let fix = format!("use letters a to z, digits and . _ - /, at most {LONGEST_NAME} of them");
        self.reader.report(name.at, "E004", what, fix);
        None
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<At<T>> {
        let word = self.text(key)?;
        if let Some((_, value)) = words.iter().find(|(known, _)| *known == word.value) {
            return Some(At { value: *value, at: word.at });
        }
        let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
        let fix = did_you_mean(&word.value, &known).unwrap_or_else(|| format!("use {}", known.join(" or ")));
        let what = format!("\"{}\" is no value of {key}", brief(&word.value));
        self.reader.report(word.at, "E001", what, fix);
        None
    }

    /// An exact number above zero: a decimal, or a fraction as a text.
    pub(super) fn positive(&self, key: &str) -> Option<At<Rational>> {
        let number = self.number(key)?;
        if number.value.is_zero() {
            self.not_positive(key, number.at, "0");
            return None;
        }
        Some(number)
    }

    /// An exact number that is zero or more.
    pub(super) fn number(&self, key: &str) -> Option<At<Rational>> {
        const WANTED: &str = "a number such as 0.25, or a fraction such as \"1/10\"";
        let item = self.table.get(key)?;
        let at = self.value_place(item);
        let source = match item.as_value() {
            Some(Value::Integer(_) | Value::Float(_)) => self.reader.source(item),
            Some(Value::String(text)) => text.value(),
            _ => return self.wrong_type(key, item, WANTED),
        };
        match source.parse::<Rational>() {
            Ok(value) => return Some(At { value, at }),
            Err(NotExact::TooLong) => {
                let what = format!("{key} {} has more digits than the ledger", brief(source));
                self.reader.report(at, "E003", what, "write it with fewer digits");
            }
            Err(NotExact::NotANumber) if item.is_str() => return self.wrong_type(key, item, WANTED),
            Err(_) => self.not_positive(key, at, source),
        }
        None
    }

    fn not_positive(&self, key: &str, at: usize, source: &str) {
        let what = format!("{key} must be a finite number greater than 0, got {}", brief(source));
        self.reader.report(at, "E002", what, "write a positive decimal or a fraction such as \"1/10\"");
    }

    /// A whole number that is zero or more.
    pub(super) fn whole(&self, key: &str) -> Option<At<u64>> {
        let item = self.table.get(key)?;
        let at = self.value_place(item);
        let Some(number) = item.as_integer() else {
            // TOML ends at i64; the largest measurements do not.
            return match item.as_str().map(str::parse::<u64>) {
                Some(Ok(value)) => Some(At { value, at }),
                _ => self.wrong_type(key, item, "a whole number"),
            };
        };
        if let Ok(value) = u64::try_from(number) {
            return Some(At { value, at });
        }
        self.reader.report(
            at,
            "E002",
            format!("{key} must not be negative, got {number}"),
            "write 1 or more",
        );
        None
    }

    /// A whole number from 1 to 2³² − 1. `code` is that of a zero.
    pub(super) fn counting(&self, key: &str, code: &str) -> Option<At<NonZeroU32>> {
        let whole = self.whole(key)?;
        let number = u32::try_from(whole.value).ok().and_then(NonZeroU32::new);
        if number.is_none() {
            let what = format!("{key} must be from 1 to {}, got {}", u32::MAX, whole.value);
            self.reader.report(whole.at, code, what, "write a whole number in that range");
        }
        number.map(|value| At { value, at: whole.at })
    }

    /// A calendar day, as the text `YYYY-MM-DD`.
    pub(super) fn day(&self, key: &str) -> Option<At<toml_edit::Date>> {
        let item = self.table.get(key)?;
        let date = item.as_datetime().filter(|it| it.time.is_none()).and_then(|it| it.date);
        match date {
            Some(date) => Some(self.found(item, date)),
            None => self.wrong_type(key, item, "a day such as 2027-06-30, without quotes"),
        }
    }

    /// A moment with its offset, in seconds since 1970.
    pub(super) fn moment(&self, key: &str) -> Option<At<u64>> {
        let item = self.table.get(key)?;
        match item.as_datetime().and_then(date::moment) {
            Some(seconds) => Some(self.found(item, seconds)),
            None => self.wrong_type(key, item, "a moment such as 2027-01-01T00:00:00Z, without quotes"),
        }
    }

    /// A time span such as `30d`, in seconds.
    pub(super) fn time_span(&self, key: &str) -> Option<At<u64>> {
        let item = self.table.get(key)?;
        match item.as_str().and_then(seconds) {
            Some(seconds) => Some(self.found(item, seconds)),
            None => self.wrong_type(key, item, "a time span such as \"30d\" (s, m, h, d or w)"),
        }
    }

    pub(super) fn section(&self, key: &str) -> Option<Section<'a>> {
        let item = self.table.get(key)?;
        match item.as_table_like() {
            Some(table) => Some(Section::new(self.reader, key, self.key_place(key), table)),
            None => self.wrong_type(key, item, "a table"),
        }
    }

    /// The tables of `[[key]]`, or of a list of inline tables.
    pub(super) fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let Some(item) = self.table.get(key) else { return Vec::new() };
        let name = format!("[[{key}]]");
        if let Some(tables) = item.as_array_of_tables() {
            let place = |table: &toml_edit::Table| table.span().map_or(self.at, |span| span.start);
            if let Some(table) = tables.get(MOST_SECTIONS) {
                let what = format!("more than {MOST_SECTIONS} times {name}");
                self.reader.report(place(table), "E001", what, "divide the policy into several files");
            }
            return tables
                .iter()
                .take(MOST_SECTIONS)
                .map(|table| Section::new(self.reader, &name, place(table), table))
                .collect();
        }
        self.wrong_type::<()>(key, item, &format!("written as {name}"));
        Vec::new()
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str) -> Option<At<Vec<At<String>>>> {
        let item = self.table.get(key)?;
        let Some(list) = item.as_array() else { return self.wrong_type(key, item, "a list of texts") };
        let mut texts = Vec::new();
        for value in list {
            let at = value.span().map_or(self.at, |span| span.start);
            match value.as_str() {
                Some(text) => texts.push(At { value: text.to_owned(), at }),
                None => return self.wrong_type(key, item, "a list of texts"),
            }
        }
        Some(self.found(item, texts))
    }

    fn found<T>(&self, item: &Item, value: T) -> At<T> {
        At { value, at: self.value_place(item) }
    }

    fn value_place(&self, item: &Item) -> usize {
        item.span().map_or(self.at, |span| span.start)
    }

    fn wrong_type<T>(&self, key: &str, item: &Item, wanted: &str) -> Option<T> {
        let what = format!("\"{key}\" in {} is a {}, not {wanted}", self.name, item.type_name());
        self.reader.report(self.value_place(item), "E001", what, format!("write {key} as {wanted}"));
        None
    }
}

/// Whether a character would make a printed line look like another one: control characters, ends of lines, those that
/// change the direction of what follows, and those that are not seen at all.
fn forges(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// What a finding quotes of the file: the beginning says which value it is, whatever follows.
pub(super) fn brief(text: &str) -> Cow<'_, str> {
    let Some((end, _)) = text.char_indices().nth(LONGEST_NAME) else { return text.into() };
    let beginning = text.get(..end).unwrap_or_default();
    format!("{beginning}…({} characters)", text.chars().count()).into()
}

/// A finding is one line, whatever it quotes.
fn shown(text: &str) -> String {
    text.chars()
        .flat_map(|letter| if forges(letter) { letter.escape_unicode().collect() } else { vec![letter] })
        .collect()
}

/// Names are columns of tables.
const LONGEST_NAME: usize = 100;

/// The nearest of the words that are known here, as advice.
pub(super) fn did_you_mean(word: &str, known: &[&str]) -> Option<String> {
    let lower = word.to_lowercase();
    suggest(&lower, known.iter().copied()).map(|near| format!("did you mean \"{near}\"?"))
}

/// The seconds of `90s`, `15m`, `12h`, `30d` or `2w`.
fn seconds(text: &str) -> Option<u64> {
    let unit = text.chars().last()?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let number = text.strip_suffix(unit)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(seconds)
}
