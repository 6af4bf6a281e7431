//! Log lines: text or JSON, to a writer, and, where several roles share a process, to a file per role.
//!
//! No line carries the address of a peer. Other libraries are heard only from warnings upwards, whatever
//! the filter asks for: at lower levels they log addresses and headers.

mod panics;
mod route;

use std::fs::File;
use std::io::Write;
use std::str::FromStr;
use std::sync::Mutex;

use serde::Deserialize;
use thiserror::Error;
use tracing::{Instrument as _, Level, Span, Subscriber};
use tracing_subscriber::filter::{Directive, EnvFilter, filter_fn};
use tracing_subscriber::fmt::format::{Format, JsonFields};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::route::{RoleLayer, Routed};

pub use self::route::LogRoutes;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line, for machines.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("`{other}` is no log format: use text or json")),
        }
    }
}

/// Logs cannot be written.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("`{filter}` is no log filter: write a level such as info, or mica_relay=debug,info")]
    Filter {
        /// What was given.
        filter: String,
    },
    /// Somebody else in this process took the logs first.
    #[error("logs are already being written in this process")]
    Taken,
}

/// What is logged when nobody says otherwise.
pub const DEFAULT_FILTER: &str = "info";

/// Sends the log lines of this process to `writer`: `std::io::stderr()` or a file.
///
/// `filter` is a level, or levels by target (`mica_relay=debug,info`). The routes that are returned
/// take the lines of single roles elsewhere. What panics in the same place again and again has a line a minute on standard
/// error.
pub fn init(
    format: LogFormat,
    filter: &str,
    writer: impl Write + Send + 'static,
) -> Result<LogRoutes, TelemetryError> {
    let (subscriber, routes) = subscriber(format, filter, writer)?;
    subscriber.try_init().map_err(|_| TelemetryError::Taken)?;
    panics::tell_seldom();
    Ok(routes)
}

/// The same without making it the one of the process, for `tracing::subscriber::with_default`.
pub fn subscriber(
    format: LogFormat,
    filter: &str,
    writer: impl Write + Send + 'static,
) -> Result<(Box<dyn Subscriber + Send + Sync>, LogRoutes), TelemetryError> {
    let levels = EnvFilter::try_new(filter)
        .map_err(|_| TelemetryError::Filter { filter: filter.to_owned() })?
        // The span that names the role must be there whatever the filter leaves out.
        .add_directive(role_directive());
    let ours_or_serious = filter_fn(|metadata| {
        let (target, level) = (metadata.target(), *metadata.level());
        // HTTP/2 warns of each peer that goes too far, as often as peers do.
        let serious = if target.starts_with("h2::") { Level::ERROR } else { Level::WARN };
        target.starts_with("mica") || level <= serious
    });
    let routes = LogRoutes::default();
    let registry = Registry::default().with(levels).with(RoleLayer);
    let writer = Mutex::new(writer);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match format {
        LogFormat::Text => {
            let format = Routed { format: Format::default().with_ansi(false), routes: routes.clone() };
            Box::new(registry.with(lines.event_format(format).with_filter(ours_or_serious)))
        }
        LogFormat::Json => {
            let format = Routed { format: Format::default().json(), routes: routes.clone() };
            let lines = lines.fmt_fields(JsonFields::new()).event_format(format);
            Box::new(registry.with(lines.with_filter(ours_or_serious)))
        }
    };
    Ok((subscriber, routes))
}

/// The span in which everything of a role runs: `role.run(..).instrument(role_span("leader"))`.
pub fn role_span(role: &str) -> Span {
    tracing::error_span!(target: "mica_role", "role", role)
}

/// Spawns a task that stays inside the current span; a bare `tokio::spawn` would leave the role.
pub fn spawn<F>(task: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(task.in_current_span())
}

impl LogRoutes {
    /// From now on the lines of `role` go to `file` and nowhere else.
    pub fn to_file(&self, role: &str, file: File) {
        self.add(role, Box::new(file));
    }
}

fn role_directive() -> Directive {
    "mica_role=error".parse().expect("a target and a level are a directive")
}

#[cfg(test)]
mod tests;
