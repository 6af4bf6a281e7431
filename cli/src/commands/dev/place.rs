//! Where a deployment keeps things: in a folder that goes away with it, or beside a database that stays.

use std::path::{Path, PathBuf};

use mica_dp::Policy;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::options::Options;
use crate::args::Mode;
use crate::deployment::{Databases, beside, is_postgres, name_in};
use crate::exit::Failure;

/// All the places.
pub(super) struct Place {
    /// Everything lies beside this name.
    base: PathBuf,
    server: Option<String>,
    temporary: Option<TempDir>,
}

impl Place {
    /// For this `--database`, or for none.
    ///
    /// # Errors
    /// When a folder cannot be made, or the URL is none.
    pub(super) fn of(database: Option<&str>) -> Result<Self, Failure> {
        let cannot = |path: &Path, error: std::io::Error| {
            Failure::invalid(format!("cannot make the folder {}: {error}", path.display()))
        };
        let place = match database {
            None => {
                let temporary = tempfile::Builder::new().prefix("mica-dev-").tempdir();
                let temporary = temporary.map_err(|error| cannot(&std::env::temp_dir(), error))?;
                Self { base: temporary.path().join("dev.db"), server: None, temporary: Some(temporary) }
            }
            Some(url) if is_postgres(url) => {
                let folder = state_folder()?;
                std::fs::create_dir_all(&folder).map_err(|error| cannot(&folder, error))?;
                let name = hex::encode(Sha256::digest(url.as_bytes()));
                Self {
                    base: folder.join(format!("{name}.db")),
                    server: Some(url.to_owned()),
                    temporary: None,
                }
            }
            Some(url) => Self { base: file(url)?, server: None, temporary: None },
        };
        let logs = place.logs();
        std::fs::create_dir_all(&logs).map_err(|error| cannot(&logs, error))?;
        Ok(place)
    }

    /// The folder of the log files.
    pub(super) fn logs(&self) -> PathBuf {
        beside(&self.base, "logs")
    }

    /// The file that remembers the task; nothing when nothing is to be kept.
    pub(super) fn state(&self) -> Option<PathBuf> {
        self.temporary.is_none().then(|| beside(&self.base, "state.json"))
    }

    /// The file of a policy that is written for the task.
    pub(super) fn policy(&self) -> PathBuf {
        beside(&self.base, "policy.toml")
    }

    /// The databases; on a server they are made where they are missing.
    ///
    /// # Errors
    /// When the server does not do it.
    pub(super) async fn databases(&self) -> Result<Databases, Failure> {
        match &self.server {
            None => Ok(Databases::beside(&self.base)),
            Some(url) => Databases::on_server(url, name_in(url).unwrap_or("mica_dev")).await,
        }
    }

    /// Removes what is only for a while.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) fn clear(self) -> Result<(), Failure> {
        let Some(temporary) = self.temporary else { return Ok(()) };
        temporary.close().map_err(|error| Failure::unexpected(format!("cannot remove the folder: {error}")))
    }
}

/// The text of a policy for a task that brings none: with noise unless that is switched off.
pub(super) fn policy_text(options: &Options, now: u64) -> String {
    if options.no_dp {
        return Policy::for_release_without_dp("development: no client here is real", &in_a_year(now));
    }
    let text = match options.batch_mode {
        Mode::TimeInterval => Policy::for_demo_with_clients,
        // No client can know which of its reports share a batch of the leader's choice.
        Mode::LeaderSelected => Policy::for_demo,
    };
    text(&options.label, &options.vdaf.config(), options.min_batch_size, "1")
}

fn in_a_year(now: u64) -> String {
    let day =
        i64::try_from(now).ok().and_then(|now| jiff::Timestamp::from_second(now.checked_add(YEAR)?).ok());
    day.map_or_else(|| "9999-12-31".to_owned(), |day| day.strftime("%Y-%m-%d").to_string())
}

fn file(url: &str) -> Result<PathBuf, Failure> {
    let path = url.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
    let path = path.filter(|path| !path.is_empty() && !path.ends_with('/')).ok_or_else(|| {
        Failure::invalid(
            "the URL of a database starts with sqlite: and the path of a file, or with postgres://",
        )
    })?;
    let path = std::path::absolute(path)?;
    match path.parent().filter(|folder| folder.is_dir()) {
        Some(_) => Ok(path),
        None => Err(Failure::invalid(format!(
            "there is no folder for {}; create it or choose another path",
            path.display()
        ))),
    }
}

/// `$XDG_STATE_HOME/mica`, or where that is when nobody says.
fn state_folder() -> Result<PathBuf, Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    let folder =
        folder.ok_or_else(|| Failure::invalid("neither XDG_STATE_HOME nor HOME is set; set one of them"))?;
    Ok(folder.join("mica"))
}

const YEAR: i64 = 365 * 24 * 3_600;
