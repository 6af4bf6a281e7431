//! What a gateway cannot work with, found before it listens.

use std::num::NonZeroUsize;
use std::time::Duration;

use mica_service::config::bounds::{self, Wrong};

use crate::config::Config;

/// Whether each value is one that can work, alone and beside the others: the key that is not, and a sentence. What a start
/// refuses is not taken up later either.
pub(crate) fn check_all(config: &Config) -> Result<(), Wrong> {
    check(config).and_then(|()| config.windows())
}

fn check(config: &Config) -> Result<(), Wrong> {
    bounds::apart(&config.listen, config.admin_listen)?;
    bounds::number("max_connections", config.max_connections, [1, MANY])?;
    bounds::number("max_streams", usize::try_from(config.max_streams).unwrap_or(MANY), [1, MANY])?;
    bounds::number("threads", config.threads.map_or(1, NonZeroUsize::get), [1, bounds::THREADS])?;
    bounds::number("max_request_bytes", config.max_request_bytes, [SMALLEST, LARGEST])?;
    bounds::number("max_buffered_bytes", config.max_buffered_bytes, [SMALLEST, usize::MAX])?;
    bounds::number("max_response_bytes", config.max_response_bytes, [SMALLEST, LARGEST])?;
    bounds::number("min_response_bytes", config.min_response_bytes, [0, LONGEST_ANSWER])?;
    bounds::number("replay.max_requests", config.replay.max_requests, [1, usize::MAX])?;
    bounds::time("timeout", config.timeout, Duration::from_hours(1))?;
    if config.answer_grid > LONGEST_GRID {
        let what = "answers that wait for more than 10 s come too late for clients".to_owned();
        return Err(("answer_grid", what));
    }
    Ok(())
}

const MANY: usize = 1_000_000;
/// The smallest of the sizes that clients pad to.
const SMALLEST: usize = 512;
const LARGEST: usize = 64 << 20;
/// What relays take by default.
const LONGEST_ANSWER: usize = 1 << 20;
const LONGEST_GRID: Duration = Duration::from_secs(10);
