//! What a server starts with all the same although its operator can hardly mean it: files with secrets that everybody on
//! the machine may read, and settings with which nobody is ever served.
//!
//! Said once in the log at the start, again when the configuration has been read again, and by `mica doctor`. It names
//! files and keys, and never says what is in a file.

use std::path::{Path, PathBuf};

use mica_gateway::Dates;
use mica_service::config::bounds::is_own_url;

/// One thing, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Warning {
    /// A word for scripts.
    pub(super) check: &'static str,
    pub(super) what: String,
    pub(super) todo: String,
}

/// Of a relay, whose paths are those that it reads.
pub(super) fn of_relay(config: &mica_relay::Config) -> Vec<Warning> {
    let files = [&config.gateway_token_file, &config.admin_token_file];
    let mut found = exposed(files.into_iter().flatten().cloned());
    // Whoever shows a token is somebody of their own, and one connection carries several.
    let by_token = config.clients.as_ref().is_some_and(|clients| clients.tokens_file.is_some());
    if let Some(mixing) = config.mixing
        && mixing.requests > config.max_connections
        && !by_token
    {
        let what = format!(
            "no pool of {} clients can fill: there are {} connections at most",
            mixing.requests, config.max_connections
        );
        found.push(serves("mixing", what, "raise max_connections, or lower mixing.requests"));
    }
    found
}

/// Of a gateway, the same; `database` is its URL as it is opened.
pub(super) fn of_gateway(config: &mica_gateway::Config, database: &str) -> Vec<Warning> {
    let tokens = config.relays.iter().filter_map(|relay| relay.token_file.clone());
    let mut found = exposed(tokens.chain(config.admin_token_file.clone()).chain(file_of(database)));
    if config.routes.is_empty() {
        let what = "there is no route: every request is refused, inside the envelope";
        found.push(serves("routes", what, "add tables [[routes]]"));
    }
    for (number, route) in (1..).zip(&config.routes) {
        if is_own_url(&config.listen, &route.target) {
            let what =
                format!("the target of route {number} is this gateway, which forwards sealed requests only");
            found.push(serves("routes", what, "name the server behind it"));
        }
        if config.replay.dates == Dates::Require
            && route.content_type.as_deref().is_some_and(|media| media.starts_with(DAP))
        {
            let what =
                format!("route {number} is for uploads, whose clients send no date, and dates are required");
            found.push(serves("routes", what, "set dates = \"check\" in [replay], unless yours do"));
        }
    }
    found
}

/// Of a leader or a helper.
pub(super) fn of_aggregator(config: &mica_aggregator::Config) -> Vec<Warning> {
    let taskprov = config.taskprov.iter().flat_map(|taskprov| {
        taskprov.peer_token_file.iter().cloned().chain([taskprov.verify_key_init_file.clone()])
    });
    let files = config.tasks.iter().chain(&config.admin_token_file).cloned();
    exposed(files.chain(taskprov).chain(file_of(&config.database)))
}

/// Says them in the log.
pub(super) fn log(warnings: &[Warning]) {
    for Warning { what, todo, .. } in warnings {
        tracing::warn!(todo, "{what}");
    }
}

/// Whether others on this machine than the owner of a file and their group may read it.
pub(super) fn is_exposed(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

fn exposed(files: impl IntoIterator<Item = PathBuf>) -> Vec<Warning> {
    let warn = |path: PathBuf| {
        let path = path.display();
        let what = format!("{path} holds secrets, and everybody on this machine may read it");
        Warning { check: "secrets", what, todo: format!("chmod 600 {path}") }
    };
    files.into_iter().filter(|path| is_exposed(path)).map(warn).collect()
}

fn serves(check: &'static str, what: impl Into<String>, todo: &str) -> Warning {
    Warning { check, what: what.into(), todo: todo.to_owned() }
}

/// The file of a database that has one.
fn file_of(database: &str) -> Option<PathBuf> {
    database.strip_prefix("sqlite:").map(PathBuf::from)
}

/// Media types of DAP begin so.
const DAP: &str = "application/ppm-dap";

#[cfg(all(test, unix))]
mod tests {
    use mica_gateway::RouteConfig;
    use mica_service::testing::restrict;

    use super::*;

    fn checks(warnings: &[Warning]) -> Vec<&'static str> {
        warnings.iter().map(|warning| warning.check).collect()
    }

    #[test]
    fn a_file_of_a_secret_is_pointed_out_when_everybody_may_read_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("relay.token");
        std::fs::write(&file, "a-token").expect("a file in a folder of our own");
        let mut config = mica_relay::Config::new("127.0.0.1:0", "http://127.0.0.1:1/");
        config.gateway_token_file = Some(file.clone());
        restrict(&file, 0o644);
        let warnings = of_relay(&config);
        assert_eq!(checks(&warnings), ["secrets"]);
        assert_eq!(warnings.first().map(|it| it.todo.clone()), Some(format!("chmod 600 {}", file.display())));
        for mode in [0o600, 0o640] {
            restrict(&file, mode);
            assert_eq!(of_relay(&config), []);
        }
    }

    #[test]
    fn settings_with_which_nobody_is_served_are_pointed_out() {
        let route = |content: Option<&str>, target| RouteConfig::new("POST", "a", "/b", content, target);
        let gateway = |routes| mica_gateway::Config::new("127.0.0.1:8483", "sqlite:none.db", routes);
        let of = |config: &mica_gateway::Config| checks(&of_gateway(config, &config.database));
        assert_eq!(of(&gateway(vec![])), ["routes"]);
        assert_eq!(of(&gateway(vec![route(None, "http://localhost:8483/")])), ["routes"]);
        let mut uploads =
            gateway(vec![route(Some("application/ppm-dap;message=upload-req"), "http://127.0.0.1:1")]);
        assert_eq!(of(&uploads), [""; 0]);
        uploads.replay.dates = Dates::Require;
        assert_eq!(of(&uploads), ["routes"]);
        let mut relay = mica_relay::Config::new("127.0.0.1:0", "http://127.0.0.1:1/");
        relay.mixing = Some(mica_relay::Mixing { requests: 8, wait: std::time::Duration::from_secs(1) });
        assert_eq!(of_relay(&relay), []);
        relay.max_connections = 7;
        assert_eq!(checks(&of_relay(&relay)), ["mixing"]);
        let clients = mica_relay::ClientsConfig { tokens_file: None, certificates: true };
        relay.clients = Some(clients.clone());
        assert_eq!(checks(&of_relay(&relay)), ["mixing"], "a connection has one certificate");
        relay.clients = Some(mica_relay::ClientsConfig { tokens_file: Some("tokens".into()), ..clients });
        assert_eq!(of_relay(&relay), [], "one connection carries requests of several tokens");
    }
}
