//! Whether the gateway can be reached.
//!
//! Requests find out; while none gets through, the relay tries by itself, so that one that is left alone by its load
//! balancer learns that it may come back. No client's request causes a try.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use mica_service::http::HttpClient;
use tokio::time::{Instant, sleep};

use crate::counters::Outcome;

/// Since when nothing gets through.
#[derive(Default)]
pub(crate) struct Reach(Mutex<Option<Instant>>);

impl Reach {
    /// What became of a request.
    pub(crate) fn note(&self, outcome: Outcome) {
        match outcome {
            Outcome::Unreachable | Outcome::Timeout => {
                self.lock().get_or_insert_with(Instant::now);
            }
            Outcome::Forwarded | Outcome::BadAnswer => *self.lock() = None,
            _ => {}
        }
    }

    /// Whether nothing has got through for so long.
    pub(crate) fn is_lost_for(&self, time: Duration) -> bool {
        self.lock().is_some_and(|since| since.elapsed() >= time)
    }

    /// Asks the gateway for its health now and then while nothing gets through.
    pub(crate) async fn try_again(&self, client: HttpClient, gateway: Uri) {
        let mut parts = gateway.into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/health"));
        let Ok(health) = Uri::from_parts(parts) else { return };
        loop {
            sleep(TRY_EVERY).await;
            if self.lock().is_none() {
                continue;
            }
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = health.clone();
            // Whatever it says of its health, it is there.
            if client.send(request).await.is_ok() {
                *self.lock() = None;
                tracing::info!("the gateway can be reached again");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const TRY_EVERY: Duration = Duration::from_secs(1);
