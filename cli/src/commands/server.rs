//! What the commands of all four roles have in common: logs, one listener, a wish to stop.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read as _;
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;

use mica_dp::not_allowable;
use mica_service::config::Provenance;
use mica_service::listener;
use mica_service::shutdown::Shutdown;
use mica_service::telemetry::{self, LogFormat};
use mica_service::tls::TlsError;
use tokio::net::TcpListener;

use crate::args::Global;
use crate::exit::Failure;
use crate::settings::Settings;

/// A place to listen, and the switch that stops the server.
pub(super) struct Started {
    pub(super) listener: TcpListener,
    pub(super) shutdown: Shutdown,
}

/// Log lines go to standard error from here on.
pub(super) fn log(global: &Global) -> Result<(), Failure> {
    let format: LogFormat = global.log_format.parse().map_err(Failure::usage)?;
    telemetry::init(format, &global.log, std::io::stderr())?;
    Ok(())
}

/// Takes `address`, and minds SIGTERM and Ctrl-C from here on. Done before a database is touched, so that a second
/// server that is started by mistake does nothing to the first.
pub(super) async fn bind(address: &str) -> Result<Started, Failure> {
    let shutdown = Shutdown::on_signal()?;
    Ok(Started { listener: listener::bind(address).await?, shutdown })
}

impl Started {
    /// Says where, now that everything is ready.
    pub(super) fn announce(&self) -> Result<(), Failure> {
        let address = self.listener.local_addr()?;
        tracing::info!(%address, "listening");
        Ok(())
    }
}

/// Whether `listen` is an address that may be listened on, said with its place in the file: one of this machine, unless
/// there is TLS or plain HTTP may leave the machine.
pub(super) fn check_listen(
    settings: &Settings,
    provenance: &Provenance,
    listen: &str,
    reachable: bool,
) -> Result<(), Failure> {
    let addresses: Vec<_> = listen.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    if addresses.is_empty() {
        let what = format!("\"{listen}\" is not an address to listen on");
        let fix = "write it as \"127.0.0.1:8080\" or \"[::1]:8080\"";
        return Err(settings.wrong(provenance, "listen", &what, fix));
    }
    if reachable || addresses.iter().all(|address| address.ip().is_loopback()) {
        return Ok(());
    }
    let what = format!("\"{listen}\" can be reached from other machines, and there is no TLS");
    let fix = "add a table [tls] with certificate and private_key, or listen on 127.0.0.1; \
               behind a proxy that speaks TLS, start with --insecure";
    Err(settings.wrong(provenance, "listen", &what, fix))
}

/// Something wrong with a file of TLS, said at the key that names it.
pub(super) fn explain_tls(settings: &Settings, provenance: &Provenance, error: &TlsError) -> Failure {
    settings.wrong(provenance, &error.key, &error.what, &error.fix)
}

/// Whether every code under `policy_allow` is one that can be allowed.
pub(super) fn check_allowed(
    settings: &Settings,
    provenance: &Provenance,
    allowed: &[String],
) -> Result<(), Failure> {
    let wrong = allowed.iter().find_map(|code| not_allowable(code));
    wrong.map_or(Ok(()), |(what, fix)| Err(settings.wrong(provenance, "policy_allow", &what, &fix)))
}

/// Whether `database` names a database that could be there, without touching it.
pub(super) fn check_database(
    settings: &Settings,
    provenance: &Provenance,
    database: &str,
) -> Result<(), Failure> {
    let wrong = |what: &str, fix: &str| Err(settings.wrong(provenance, "database", what, fix));
    if database.starts_with("postgres://") || database.starts_with("postgresql://") {
        return Ok(());
    }
    // The URL may hold a password: it is not repeated.
    let Some(path) = database.strip_prefix("sqlite:") else {
        return wrong("this is not the URL of a database", "write \"sqlite:FILE\" or \"postgres://...\"");
    };
    let folder = std::path::Path::new(path).parent().unwrap_or(std::path::Path::new(""));
    if !folder.as_os_str().is_empty() && !folder.is_dir() {
        let what = format!("there is no folder {}", folder.display());
        return wrong(&what, "create it or choose another path");
    }
    if is_other_than_database(std::path::Path::new(path)) {
        return wrong(&format!("{path} is there, and is no database"), "choose another path");
    }
    Ok(())
}

/// Whether a file holds something that does not begin as all databases of SQLite do.
fn is_other_than_database(path: &std::path::Path) -> bool {
    let mut begin = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(SQLITE.len() as u64).read_to_end(&mut begin));
    read.is_ok_and(|length| length > 0) && begin != SQLITE
}

/// The first bytes of a database (one that is new is empty).
const SQLITE: &[u8] = b"SQLite format 3\0";

/// The file that remembers how far the ledger had come, which must be outside the database.
pub(super) fn high_water_mark(
    settings: &Settings,
    provenance: &Provenance,
    config: &mica_aggregator::Config,
) -> Result<PathBuf, Failure> {
    let wrong = |key: &str, what: &str, fix: &str| Err(settings.wrong(provenance, key, what, fix));
    let Some(path) = config.high_water_mark() else {
        let what = "with PostgreSQL, nothing outside the database remembers how far the ledger had come";
        let fix = "add a table [ledger] with high_water_mark = \"/a/folder/that/stays/leader.mark\"";
        return wrong("database", what, fix);
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        let what = format!("there is no folder for {}", path.display());
        return wrong("ledger.high_water_mark", &what, "create it or choose another path");
    }
    Ok(path)
}

/// A database of SQLite with its path taken from the folder of the configuration.
pub(super) fn database_relative_to(settings: &Settings, database: String) -> String {
    match database.strip_prefix("sqlite:").filter(|path| !path.starts_with('/')) {
        Some(path) => format!("sqlite:{}", settings.folder().join(path).display()),
        None => database,
    }
}

/// Keeps other servers away from a database of SQLite for as long as the file is open: two would not know of each other. The
/// file is beside it and stays there; what counts is who holds it, so a server that was killed is in nobody's way.
pub(super) fn alone(database: &str) -> Result<Option<File>, Failure> {
    let Some(path) = database.strip_prefix("sqlite:") else { return Ok(None) };
    let beside = format!("{path}.lock");
    let file = OpenOptions::new().append(true).create(true).open(&beside);
    let file = file
        .map_err(|error| Failure::invalid(format!("cannot write the database {path}: {beside}: {error}")))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Failure::invalid(format!(
            "another server works on {path}; stop it, or use PostgreSQL for several"
        ))),
        Err(TryLockError::Error(error)) => Err(Failure::invalid(format!("cannot lock {beside}: {error}"))),
    }
}
