//! What a relay cannot work with, found before it listens.

use std::num::NonZeroUsize;
use std::time::Duration;

use mica_service::config::bounds::{self, Wrong};

use crate::config::Config;

/// Whether each value is one that can work: the key that is not, and a sentence.
pub(crate) fn check(config: &Config) -> Result<(), Wrong> {
    bounds::apart(&config.listen, config.admin_listen)?;
    bounds::number("max_connections", config.max_connections, [1, MANY])?;
    let (most, own) =
        (config.max_connections, config.max_connections_per_client.map_or(1, NonZeroUsize::get));
    bounds::number("max_connections_per_client", own, [1, most])?;
    bounds::number("threads", config.threads.map_or(1, NonZeroUsize::get), [1, bounds::THREADS])?;
    bounds::number("max_request_bytes", config.max_request_bytes, [SMALLEST, LARGEST])?;
    bounds::number("max_buffered_bytes", config.max_buffered_bytes, [SMALLEST, usize::MAX])?;
    bounds::number("max_response_bytes", config.max_response_bytes, [SMALLEST, LARGEST])?;
    bounds::time("timeout", config.timeout, Duration::from_hours(1))?;
    if bounds::is_own_url(&config.listen, &config.gateway_url) {
        let what = "this is the relay itself: each request would go round until there is no room".to_owned();
        return Err(("gateway_url", what));
    }
    if TAKEN.contains(&config.path.as_str()) {
        return Err(("path", format!("`{}` is where a relay shows something else", config.path)));
    }
    let names_others = config.gateway_operator.is_some() || config.leader_operator.is_some();
    if names_others && config.operator.is_none() {
        let key = if config.gateway_operator.is_some() { "gateway_operator" } else { "leader_operator" };
        let what = "without `operator`, who runs the relay, nothing can be compared with it".to_owned();
        return Err((key, what));
    }
    Ok(())
}

const MANY: usize = 1_000_000;
/// The smallest of the sizes that clients pad to.
const SMALLEST: usize = 512;
const LARGEST: usize = 64 << 20;
const TAKEN: [&str; 6] =
    ["/about", "/health", "/ready", "/ohttp-keys", "/ohttp-keys/history", "/.well-known/ohttp-gateway"];
