//! The files of a cluster, and the user they belong to.
//!
//! PostgreSQL refuses to run as root, so root runs it as `postgres` or, where there is no such user, as `nobody`.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;
use tempfile::TempDir;

use super::cluster::USER;

/// A path to a unix socket must fit 107 bytes, and the socket's own name takes some of them.
const LONGEST_SOCKET_FOLDER: usize = 85;

/// Enough of the log to see why the server did not start.
const LOG_LINES: usize = 20;

/// Tests run in parallel and each opens a pool or two.
const SETTINGS: [&str; 6] = [
    "fsync=on",
    "synchronous_commit=on",
    "max_connections=300",
    "shared_buffers=128MB",
    "log_min_messages=warning",
    "timezone=UTC",
];

/// A folder for one cluster; dropping it removes it.
pub(super) struct Home {
    folder: TempDir,
    owner: Option<Owner>,
}

/// The unprivileged user that root runs PostgreSQL as.
#[derive(Clone, Copy)]
struct Owner {
    user: u32,
    group: u32,
}

impl Home {
    pub(super) fn create() -> Result<Self> {
        let owner = if geteuid().is_root() { Some(Owner::find()?) } else { None };
        let parent = match owner {
            Some(_) => folder_for_everyone(),
            None => std::env::temp_dir(),
        };
        let folder = tempfile::Builder::new()
            .prefix("mica-postgres-")
            .tempdir_in(&parent)
            .with_context(|| format!("cannot create a folder in {}", parent.display()))?;
        let home = Self { folder, owner };
        home.give_away(home.folder.path())?;
        Ok(home)
    }

    /// Creates an empty cluster that asks for `password`.
    pub(super) fn initialise(&self, programs: &Path, password: &str) -> Result<()> {
        let password_file = self.path("password");
        fs::write(&password_file, password).context("cannot write the password file")?;
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))
            .context("cannot protect the password file")?;
        self.give_away(&password_file)?;
        let mut initdb = self.command(&programs.join("initdb"));
        initdb.arg("--pgdata").arg(self.data()).arg("--pwfile").arg(&password_file);
        // What must survive a crash is written by the tests, after this; so initdb itself need not wait for the disk.
        initdb.args([
            "--username",
            USER,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
        ]);
        let output = initdb.output().context("cannot start initdb")?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("initdb ended with {}:\n{}", output.status, String::from_utf8_lossy(&said));
        }
        fs::remove_file(&password_file).context("cannot remove the password file")
    }

    /// Starts the server on `port` of 127.0.0.1 and on a socket in this folder.
    pub(super) fn spawn_server(&self, programs: &Path, port: u16) -> Result<Child> {
        let log = File::create(self.path("log")).context("cannot write the server's log")?;
        let errors = log.try_clone().context("cannot write the server's log")?;
        let mut server = self.dying_with_us(&programs.join("postgres"));
        server.arg("-D").arg(self.data()).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"]);
        if self.folder.path().as_os_str().len() <= LONGEST_SOCKET_FOLDER {
            server.arg(self.folder.path());
        } else {
            server.arg("");
        }
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        // A group of its own: Ctrl-C is for us, and the server ends when the tests have ended.
        server.stdout(log).stderr(errors).process_group(0).spawn().context("cannot start postgres")
    }

    /// Whether the server says, in its own lock file, that it accepts connections.
    pub(super) fn server_is_ready(&self) -> bool {
        let lock_file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        says_ready(&lock_file)
    }

    /// The last lines of the server's log.
    pub(super) fn log(&self) -> String {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(LOG_LINES)).copied().collect::<Vec<_>>().join("\n")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// A command that runs as the owner, in this folder, knowing nothing of our environment.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some(Owner { user, group }) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    /// The same, but ended by the kernel should we be killed without a chance to stop it.
    fn dying_with_us(&self, program: &Path) -> Command {
        const DIE_WITH_PARENT: [&str; 2] = ["--pdeathsig", "QUIT"];
        let setpriv = Path::new("setpriv");
        let mut check = self.command(setpriv);
        check.args(DIE_WITH_PARENT).arg("true").stdout(Stdio::null()).stderr(Stdio::null());
        if !check.status().is_ok_and(|status| status.success()) {
            return self.command(program);
        }
        let mut command = self.command(setpriv);
        command.args(DIE_WITH_PARENT).arg(program);
        command
    }

    fn give_away(&self, path: &Path) -> Result<()> {
        let Some(Owner { user, group }) = self.owner else { return Ok(()) };
        chown(path, Some(user), Some(group))
            .with_context(|| format!("cannot give {} to user {user}", path.display()))
    }
}

impl Owner {
    fn find() -> Result<Self> {
        ["postgres", "nobody"].into_iter().find_map(Self::named).context(
            "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it; create one \
             of them or run this as another user",
        )
    }

    fn named(name: &str) -> Option<Self> {
        Some(Self { user: id("-u", name)?, group: id("-g", name)? })
    }
}

fn id(which: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([which, name]).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// The folder for temporary files, or `/tmp` where another user could not reach the former.
fn folder_for_everyone() -> PathBuf {
    let folder = std::env::temp_dir();
    if open_to_everyone(&folder) { folder } else { PathBuf::from("/tmp") }
}

fn open_to_everyone(folder: &Path) -> bool {
    folder
        .ancestors()
        .all(|folder| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}

/// The eighth line of `postmaster.pid` is the server's state, padded with blanks.
fn says_ready(lock_file: &str) -> bool {
    lock_file.lines().nth(7).is_some_and(|state| state.trim() == "ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_when_its_lock_file_says_so() {
        let lock_file =
            |state| format!("4711\n/data\n1790000000\n5432\n/socket\n127.0.0.1\n 123 0\n{state}\n");
        assert!(says_ready(&lock_file("ready   ")));
        assert!(!says_ready(&lock_file("starting")));
        assert!(!says_ready("4711\n/data\n"));
    }

    #[test]
    fn a_folder_below_a_closed_one_is_not_open_to_everyone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("inside");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!open_to_everyone(&folder));
    }
}
