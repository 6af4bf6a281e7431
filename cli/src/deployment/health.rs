//! Waits until every server says that it is alive.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use mica_service::http::{HttpClient, HttpOptions};

use super::Addresses;
use crate::exit::{Exit, Failure};

/// Returns when each of our servers has answered `/health` with success.
///
/// # Errors
/// When one of them does not within a few seconds.
pub(super) async fn wait(addresses: &Addresses) -> Result<(), Failure> {
    let options = HttpOptions { timeout: Duration::from_secs(5), ..HttpOptions::default() };
    let http = HttpClient::new(options);
    let started = Instant::now();
    let ports = addresses.ports;
    for port in [ports.helper, ports.leader, ports.gateway, ports.relay].into_iter().filter(|port| *port > 0)
    {
        let url = format!("http://127.0.0.1:{port}/health");
        while !is_alive(&http, &url).await {
            if started.elapsed() > PATIENCE {
                return Err(Failure::new(Exit::Unreachable, format!("{url} does not answer")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

async fn is_alive(http: &HttpClient, url: &str) -> bool {
    let Ok(request) = Request::get(url).body(Bytes::new()) else { return false };
    http.send(request).await.is_ok_and(|answer| answer.status().is_success())
}

const PATIENCE: Duration = Duration::from_secs(15);
