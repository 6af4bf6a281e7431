//! Where the demonstration takes place: a folder, databases, a policy; made before it and cleared away after it.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use mica_diagnostic::Diagnostic;
use mica_dp::Policy;
use mica_service::telemetry::{self, LogRoutes};
use rand::RngExt as _;
use tempfile::TempDir;

use super::Args;
use super::scene::Scene;
use super::witness::PROCESS;
use crate::args::Global;
use crate::deployment::Databases;
use crate::exit::Failure;
use crate::files;

/// The folder and what is in it.
pub(super) struct Stage {
    pub(super) folder: PathBuf,
    pub(super) databases: Databases,
    pub(super) logs: LogRoutes,
    temporary: Option<TempDir>,
    server: Option<(String, String)>,
}

impl Stage {
    /// Makes the folder and the databases, and sends the lines of the process to a log of their own.
    ///
    /// # Errors
    /// When one of them cannot be made.
    pub(super) async fn set(args: &Args, global: &Global) -> Result<Self, Failure> {
        let (folder, temporary) = folder(args.keep.as_deref())?;
        let format = global.log_format.parse().map_err(Failure::usage)?;
        // Whatever a role could write down in its daily work is written down, so that it can be searched.
        let logs = telemetry::init(format, "debug", log(&folder)?)?;
        let (databases, server) = match &args.database {
            None => (Databases::in_folder(&folder), None),
            Some(url) if crate::deployment::is_postgres(url) => {
                let prefix = format!("mica_demo_{:08x}", rand::rng().random::<u32>());
                (Databases::on_server(url, &prefix).await?, Some((url.clone(), prefix)))
            }
            Some(_) => {
                return Err(Failure::usage(
                    "--database takes the URL of a PostgreSQL server; without it the demo makes SQLite files, \
                     which --keep DIR keeps",
                ));
            }
        };
        Ok(Self { folder, databases, logs, temporary, server })
    }

    /// Where the databases are, in a word.
    pub(super) fn database(&self, role: &str) -> String {
        match &self.server {
            None => format!("sqlite {role}.db"),
            Some((_, prefix)) => format!("postgres {prefix}_{role}"),
        }
    }

    /// The folder, and what becomes of it.
    pub(super) fn describe(&self) -> String {
        let fate = if self.temporary.is_some() { "removed on exit" } else { "kept" };
        format!("{} ({fate})", self.folder.display())
    }

    /// Writes the policy into the folder and reads it from there, as an aggregator does.
    ///
    /// # Errors
    /// When the policy makes no sense, for example for its epsilon.
    pub(super) fn policy(
        &self,
        scene: &Scene,
        min_batch_size: u64,
        epsilon: &str,
    ) -> Result<Policy, Failure> {
        let text = Policy::for_demo(scene.label, &scene.vdaf, min_batch_size, epsilon);
        let name = "demo-policy.toml";
        let policy = Policy::parse(name, &text).map_err(|findings| of_flags(epsilon, &findings))?;
        files::create_private(&self.folder.join(name), &text)?;
        Ok(policy)
    }

    /// Clears away what is not to be kept.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) async fn strike(self) -> Result<(), Failure> {
        let Some(folder) = self.temporary else { return Ok(()) };
        if let Some((url, prefix)) = self.server {
            Databases::drop_from_server(&url, &prefix).await?;
        }
        folder.close().map_err(|error| Failure::unexpected(format!("cannot remove the folder: {error}")))
    }
}

/// The folder to keep, which must be new or empty, or a temporary one.
fn folder(keep: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), Failure> {
    let cannot = |what: &Path, error: std::io::Error| {
        Failure::invalid(format!("cannot make the folder {}: {error}", what.display()))
    };
    let Some(folder) = keep else {
        let temporary = tempfile::Builder::new()
            .prefix("mica-demo-")
            .tempdir()
            .map_err(|error| cannot(&std::env::temp_dir(), error))?;
        return Ok((temporary.path().to_owned(), Some(temporary)));
    };
    std::fs::create_dir_all(folder).map_err(|error| cannot(folder, error))?;
    let mut content = std::fs::read_dir(folder).map_err(|error| cannot(folder, error))?;
    if content.next().is_some() {
        let folder = folder.display();
        return Err(Failure::invalid(format!("{folder} is not empty; give --keep a new folder")));
    }
    let folder = std::path::absolute(folder).map_err(|error| cannot(folder, error))?;
    Ok((folder, None))
}

/// The log of what belongs to no role.
fn log(folder: &Path) -> Result<std::fs::File, Failure> {
    let path = folder.join(format!("{PROCESS}.log"));
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path).map_err(|error| Failure::invalid(format!("cannot write {}: {error}", path.display())))
}

/// Nobody wrote the policy: what is wrong with it is wrong with what it was made of.
fn of_flags(epsilon: &str, findings: &[Diagnostic]) -> Failure {
    let what: Vec<&str> = findings.iter().map(|finding| finding.what.as_str()).collect();
    Failure::usage(format!("--epsilon {epsilon}: {}", what.join("; ")))
}
