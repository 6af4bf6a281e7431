//! Puts the values of the environment and of flags into the file, and blames the right one for an error.

use std::ops::Range;

use mica_diagnostic::{from_toml, from_toml_as, parse_toml};
use serde::de::DeserializeOwned;
use toml_edit::{Document, DocumentMut, Item, Table, TableLike, Value};

use super::{CODE, ConfigError, Override, Sources};

impl Sources {
    pub(super) fn merged<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        // The file by itself first: its errors have exact places. What it lacks may come from elsewhere.
        if let Err(error) = toml::from_str::<T>(&self.text)
            && !error.message().starts_with("missing field")
        {
            return Err(ConfigError::Invalid(Box::new(from_toml_as::<T>(
                &self.file, &self.text, &error, CODE,
            ))));
        }
        let mut as_text = self.texts()?;
        loop {
            let merged = self.render(&as_text)?;
            let error = match toml::from_str::<T>(&merged) {
                Ok(config) => return Ok(config),
                Err(error) => error,
            };
            let Some(culprit) = self.culprit(&merged, error.span()) else {
                return Err(self.blame_file(&merged, &error));
            };
            // `12345` looks like a number and may yet be a password.
            match as_text.get_mut(culprit) {
                Some(text) if !*text && error.message().starts_with("invalid type") => *text = true,
                _ => return Err(self.blame_override(culprit, &merged, &error)),
            }
        }
    }

    /// Which overrides are text for certain: those of keys that are text in the file.
    fn texts(&self) -> Result<Vec<bool>, ConfigError> {
        let document = self.document()?;
        let is_text = |given: &Override| {
            find(document.as_table(), &given.path).is_some_and(|(_, item)| item.as_str().is_some())
        };
        Ok(self.overrides.iter().map(is_text).collect())
    }

    fn document(&self) -> Result<DocumentMut, ConfigError> {
        self.text.parse().map_err(|_| match parse_toml::<toml::Table>(&self.file, &self.text, CODE) {
            Err(finding) => ConfigError::Invalid(finding),
            Ok(_) => ConfigError::Unreadable(format!("cannot read {} as TOML", self.file)),
        })
    }

    fn render(&self, as_text: &[bool]) -> Result<String, ConfigError> {
        let mut document = self.document()?;
        for (given, as_text) in self.overrides.iter().zip(as_text) {
            let value = match given.value.parse::<Value>() {
                Ok(value) if !as_text => value,
                _ => Value::from(given.value.as_str()),
            };
            put(document.as_table_mut(), &given.path, value).ok_or_else(|| ConfigError::Override {
                origin: given.origin.clone(),
                what: format!("`{}` is no key", given.path.join(".")),
                fix: "a key that holds a value has no keys below it".to_owned(),
            })?;
        }
        Ok(document.to_string())
    }

    /// The override whose key or value lies where the error is.
    fn culprit(&self, merged: &str, error: Option<Range<usize>>) -> Option<usize> {
        let error = error?;
        let document = Document::parse(merged).ok()?;
        self.overrides.iter().position(|given| {
            find(document.as_table(), &given.path).is_some_and(|(key, item)| {
                key.is_some_and(|span| span.contains(&error.start))
                    || item.span().is_some_and(|span| span.contains(&error.start))
            })
        })
    }

    fn blame_override(&self, culprit: usize, merged: &str, error: &toml::de::Error) -> ConfigError {
        let finding = from_toml(&self.file, merged, error, CODE);
        match self.overrides.get(culprit) {
            Some(given) => {
                let fix = finding.fix.replace("correct this line", "correct its value");
                ConfigError::Override { origin: given.origin.clone(), what: finding.what, fix }
            }
            None => ConfigError::Invalid(Box::new(finding)),
        }
    }

    /// The line is one of the merged text: look it up in the file.
    fn blame_file(&self, merged: &str, error: &toml::de::Error) -> ConfigError {
        let mut finding = from_toml(&self.file, merged, error, CODE);
        let line = merged.lines().nth(finding.line.saturating_sub(1));
        let found = self.text.lines().position(|candidate| Some(candidate) == line);
        (finding.line, finding.col) = found.map_or((1, 1), |at| (at + 1, finding.col));
        ConfigError::Invalid(Box::new(finding))
    }
}

fn find<'t>(table: &'t dyn TableLike, path: &[String]) -> Option<(Option<Range<usize>>, &'t Item)> {
    let (name, below) = path.split_first()?;
    let (key, item) = table.get_key_value(name)?;
    if below.is_empty() { Some((key.span(), item)) } else { find(item.as_table_like()?, below) }
}

fn put(table: &mut dyn TableLike, path: &[String], value: Value) -> Option<()> {
    let (name, below) = path.split_first()?;
    if below.is_empty() {
        table.insert(name, Item::Value(value));
        return Some(());
    }
    let item = table.entry(name).or_insert_with(|| Item::Table(Table::new()));
    put(item.as_table_like_mut()?, below, value)
}
