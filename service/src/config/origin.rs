//! Where a value of the configuration came from.

use std::collections::BTreeMap;
use std::fmt;

use mica_diagnostic::locate;
use toml_edit::{Document, Item, TableLike};

use super::Sources;

/// Where one value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the file.
    File {
        /// The file as the user named it.
        file: String,
        /// Counted from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// The origin of every key that was given, by its dotted path; of several tables of one name, `routes[1].path` is in the first.
/// Holds no values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance(BTreeMap<String, Origin>);

impl Provenance {
    /// Where `key` came from; nothing when it has its default.
    pub fn of(&self, key: &str) -> Option<&Origin> {
        self.0.get(key)
    }

    /// All keys that were given, in the order of the alphabet.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.0.iter().map(|(key, origin)| (key.as_str(), origin))
    }
}

impl Sources {
    pub(super) fn provenance(&self) -> Provenance {
        let mut origins = BTreeMap::new();
        if let Ok(document) = Document::parse(self.text.as_str()) {
            self.walk(document.as_table(), "", &mut origins);
        }
        for given in &self.overrides {
            origins.insert(given.path.join("."), given.origin.clone());
        }
        Provenance(origins)
    }

    fn walk(&self, table: &dyn TableLike, above: &str, origins: &mut BTreeMap<String, Origin>) {
        for (name, item) in table.iter() {
            let key = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
            if let Some(tables) = item.as_array_of_tables() {
                for (number, below) in (1..).zip(tables.iter()) {
                    self.walk(below, &format!("{key}[{number}]"), origins);
                }
                continue;
            }
            match item.as_table_like() {
                Some(below) => self.walk(below, &key, origins),
                None => self.note(key, table, name, item, origins),
            }
        }
    }

    fn note(
        &self,
        key: String,
        table: &dyn TableLike,
        name: &str,
        item: &Item,
        origins: &mut BTreeMap<String, Origin>,
    ) {
        let key_span = table.get_key_value(name).and_then(|(key, _)| key.span());
        let at = key_span.or_else(|| item.span()).map_or(0, |span| span.start);
        let (line, _) = locate(&self.text, at);
        origins.insert(key, Origin::File { file: self.file.clone(), line });
    }
}
