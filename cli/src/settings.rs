//! The configuration file of a server: which role it is for, what it says, and where in it something is wrong.
//!
//! Every such file begins with `role = "..."`, so that a file given to the wrong server is noticed before
//! anything listens, and `mica config check` needs no flag to know what it reads.

use std::fmt;
use std::path::{Path, PathBuf};

use mica_diagnostic::{Diagnostic, Severity, locate};
use mica_service::config::{Loaded, Origin, Provenance, Sources};
use serde::de::DeserializeOwned;
use toml_edit::{Document, Item, TableLike};

use crate::args::ServerArgs;
use crate::exit::Failure;
use crate::files;

/// The roles that have a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RoleName {
    /// Sees addresses, never contents
    Relay,
    /// Opens envelopes, never sees addresses
    Gateway,
    /// Takes reports
    Leader,
    /// Verifies with the leader
    Helper,
}

impl RoleName {
    /// As it is written in files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Gateway => "gateway",
            Self::Leader => "leader",
            Self::Helper => "helper",
        }
    }

    const ALL: [Self; 4] = [Self::Relay, Self::Gateway, Self::Leader, Self::Helper];
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One configuration file, read and known to be for a role.
pub(crate) struct Settings {
    path: PathBuf,
    name: String,
    /// The text with `role` blanked out, so that every place in it is as it was.
    text: String,
    role: RoleName,
    listen: Option<String>,
    insecure: bool,
    insecure_peers: bool,
}

impl Settings {
    /// Reads a file and its `role`.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or has no role that there is.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read(path, "configuration")?;
        let name = path.display().to_string();
        let (text, role) = take_role(&name, &text)?;
        Ok(Self {
            path: path.to_owned(),
            name,
            text,
            role,
            listen: None,
            insecure: false,
            insecure_peers: false,
        })
    }

    /// The configuration that a server is started with, provided that it is for `role`.
    ///
    /// # Errors
    /// When it is another role's.
    pub(crate) fn of_server(role: RoleName, args: &ServerArgs) -> Result<Self, Failure> {
        let settings = Self::of(role, &args.config)?;
        let (insecure, insecure_peers) = (args.insecure, args.insecure_peers);
        Ok(Self { listen: args.listen.clone(), insecure, insecure_peers, ..settings })
    }

    /// The same without flags.
    ///
    /// # Errors
    /// When it is another role's.
    pub(crate) fn of(role: RoleName, path: &Path) -> Result<Self, Failure> {
        let settings = Self::read(path)?;
        if settings.role == role {
            return Ok(settings);
        }
        let what = format!("this is the configuration of a {}, not of a {role}", settings.role);
        let fix = format!("start it with `mica {} --config {}`", settings.role, settings.name);
        Err(Box::new(diagnostic(&settings.name, (1, 1), ROLE, &what, &fix)).into())
    }

    /// Whose configuration it is.
    pub(crate) fn role(&self) -> RoleName {
        self.role
    }

    /// The file as it was named.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The folder that relative paths in the file are taken from.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// File, environment and flags, put together.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub(crate) fn load<T: DeserializeOwned>(&self) -> Result<Loaded<T>, Failure> {
        let mut sources = Sources::text(self.name.clone(), self.text.clone())
            .environment(self.role.name(), std::env::vars_os());
        if let Some(listen) = &self.listen {
            sources = sources.flag("--listen", "listen", listen.clone());
        }
        if self.insecure {
            sources = sources.flag("--insecure", "insecure", "true");
        }
        if self.insecure_peers {
            sources = sources.flag("--insecure-peers", "insecure_peers", "true");
        }
        Ok(sources.load()?)
    }

    /// Something wrong with the value of `key`, at the place where the value is.
    pub(crate) fn wrong(&self, provenance: &Provenance, key: &str, what: &str, fix: &str) -> Failure {
        match provenance.of(key) {
            Some(origin @ (Origin::Environment(_) | Origin::Flag(_))) => {
                Failure::invalid(format!("{origin}: {what}; {fix}"))
            }
            _ => Box::new(diagnostic(&self.name, self.place(key), VALUE, what, fix)).into(),
        }
    }

    /// Something wrong with a key of one of several tables of the same name, counted from 1: at its value, or where the table
    /// begins that lacks it.
    pub(crate) fn wrong_entry(
        &self,
        (tables, number, key): (&str, usize, &str),
        what: &str,
        fix: &str,
    ) -> Failure {
        let document = Document::parse(self.text.as_str()).ok();
        let span = document.as_ref().and_then(|document| {
            let table = document.get(tables)?.as_array_of_tables()?.get(number.checked_sub(1)?)?;
            table.get(key).and_then(Item::span).or_else(|| table.span())
        });
        let place = span.map_or_else(|| self.place(tables), |span| locate(&self.text, span.start));
        Box::new(diagnostic(&self.name, place, VALUE, what, fix)).into()
    }

    /// Where the value of a dotted key of the file begins; or the table that it would be in.
    fn place(&self, key: &str) -> (usize, usize) {
        let Ok(document) = Document::parse(self.text.as_str()) else { return (1, 1) };
        let mut item = document.as_item();
        let mut span = None;
        for part in key.split('.') {
            let Some(below) = item.get(part) else { break };
            (item, span) = (below, below.span());
        }
        span.map_or((1, 1), |span| locate(&self.text, span.start))
    }

    /// The value of a dotted key as the file spells it; of several tables of one name, `routes[1].path` is in the first.
    pub(crate) fn spelling(&self, key: &str) -> Option<String> {
        let document = Document::parse(self.text.as_str()).ok()?;
        let (above, name) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table: &dyn TableLike = document.as_table();
        for part in above.split('.').filter(|part| !part.is_empty()) {
            table = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
                Some((tables, number)) => {
                    let number = number.parse::<usize>().ok()?.checked_sub(1)?;
                    table.get(tables)?.as_array_of_tables()?.get(number)?
                }
                None => table.get(part)?.as_table_like()?,
            };
        }
        table.get(name)?.span().and_then(|span| self.text.get(span)).map(ToOwned::to_owned)
    }
}

/// The role, and the text with that line blanked out: the rest is for the role's own reader.
fn take_role(name: &str, text: &str) -> Result<(String, RoleName), Failure> {
    let document = Document::parse(text).map_err(|error| {
        let place = error.span().map_or((1, 1), |span| locate(text, span.start));
        let what = error.message().trim().replace('\n', ", ");
        Box::new(diagnostic(name, place, SYNTAX, &what, "correct the TOML on this line"))
    })?;
    let Some((key, item)) = document.as_table().get_key_value("role") else {
        let what = "the key \"role\" is missing";
        let fix = "begin the file with role = \"relay\", \"gateway\", \"leader\" or \"helper\"";
        return Err(Box::new(diagnostic(name, (1, 1), ROLE, what, fix)).into());
    };
    let span = item.span().unwrap_or_default();
    let role = item.as_str().and_then(|text| RoleName::ALL.into_iter().find(|role| role.name() == text));
    let role = role.ok_or_else(|| {
        let what = "the value of \"role\" is no role";
        let fix = "write \"relay\", \"gateway\", \"leader\" or \"helper\"";
        Box::new(diagnostic(name, locate(text, span.start), ROLE, what, fix))
    })?;
    let start = key.span().map_or(span.start, |span| span.start);
    let mut blanked = text.to_owned();
    blanked.replace_range(start..span.end, &" ".repeat(span.end - start));
    Ok((blanked, role))
}

fn diagnostic(file: &str, (line, col): (usize, usize), code: &str, what: &str, fix: &str) -> Diagnostic {
    let (file, code, what, fix) = (file.to_owned(), code.to_owned(), what.to_owned(), fix.to_owned());
    Diagnostic { file, line, col, code, severity: Severity::Error, what, fix }
}

/// The code of broken TOML and unknown keys, as the loader has it.
const SYNTAX: &str = "C001";
/// The code of findings about `role`.
const ROLE: &str = "C002";
/// The code of values that can be read and are of no use.
const VALUE: &str = "C003";

#[cfg(test)]
mod tests {
    use super::{RoleName, take_role};

    #[test]
    fn the_role_is_taken_out_and_every_other_place_stays() {
        let text = "# ours\nrole = \"relay\" # yes\nlisten = \"x\"\n".to_owned();
        let length = text.len();
        let (rest, role) = take_role("r.toml", &text).expect("it has a role");
        assert_eq!(role, RoleName::Relay);
        assert_eq!(rest.len(), length);
        assert!(!rest.contains("role") && rest.contains("# yes\nlisten"), "{rest}");
    }

    #[test]
    fn a_file_without_a_role_that_there_is_says_what_to_write() {
        for (text, place) in
            [("listen = 1\n", "r.toml:1:1: C002: "), ("\nrole = \"boss\"\n", "r.toml:2:8: C002: ")]
        {
            let failure = take_role("r.toml", text).expect_err("it is wrong").to_string();
            assert!(failure.starts_with(place) && failure.contains("\"helper\""), "{failure}");
        }
    }
}
