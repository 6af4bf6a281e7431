//! Does the peer of an aggregator answer, in the protocol, at the same time of day?

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use mica_dap::codec::Decode as _;
use mica_dap::hpke_config::HpkeConfigList;
use mica_dap::media::Media;
use mica_dap::resource::Resource;
use mica_service::clock::Clock;
use mica_service::http::{HttpClient, PeerError};

use super::finding::Finding;
use crate::exit::Exit;

/// Asks `endpoint` for what it tells everybody, and looks at its clock.
pub(super) async fn examine(http: &HttpClient, endpoint: &str, findings: &mut Vec<Finding>) {
    let what = format!("the peer at {endpoint}");
    let request = Request::get(Resource::HpkeConfig.url(endpoint)).body(Bytes::new());
    let Ok(request) = request else {
        findings.push(Finding::fail("peer", what, "its endpoint is not a URL", Exit::Invalid));
        return;
    };
    let answer = match http.send(request).await {
        Ok(answer) => answer,
        Err(error) => {
            let exit = if matches!(error, PeerError::BadUrl(_)) { Exit::Invalid } else { Exit::Unreachable };
            findings.push(Finding::fail("peer", what, format!("{error}; is it running?"), exit));
            return;
        }
    };
    let media = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let speaks = answer.status().is_success()
        && media.is_some_and(|media| Media::HpkeConfigList.matches(media))
        && HpkeConfigList::decoded(answer.body()).is_ok();
    findings.push(if speaks {
        Finding::ok("peer", what)
    } else {
        let todo = format!("it answers {} and no HPKE keys: is this an aggregator?", answer.status());
        Finding::fail("peer", what, todo, Exit::Unreachable)
    });
    if let Some(ahead) =
        clock_ahead(answer.headers(), UNIX_EPOCH + Duration::from_secs(Clock::system().now()))
    {
        findings.push(clock(endpoint, ahead));
    }
}

fn clock(endpoint: &str, ahead: i64) -> Finding {
    let what = format!("the clock of {endpoint} is {ahead} s ahead of ours");
    if ahead.unsigned_abs() <= TOLERATED_SECONDS {
        return Finding::ok("clock", what);
    }
    Finding::warn("clock", what, "set both clocks: reports may be refused as too early")
}

/// The peer's clock minus ours in seconds, as its `Date` tells it.
fn clock_ahead(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let told = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    let seconds = |distance: Duration| i64::try_from(distance.as_secs()).unwrap_or(i64::MAX);
    Some(match told.duration_since(now) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    })
}

/// Less is no trouble; a `Date` itself is up to a second old.
const TOLERATED_SECONDS: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Grade;

    #[test]
    fn a_clock_that_differs_by_more_than_a_minute_is_pointed_out() {
        let mut headers = HeaderMap::new();
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(clock_ahead(&headers, now), None);
        headers.insert(header::DATE, http::HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(clock_ahead(&headers, now), Some(0));
        assert_eq!(clock_ahead(&headers, now + Duration::from_secs(90)), Some(-90));
        assert_eq!(clock_ahead(&headers, now - Duration::from_secs(61)), Some(61));
        assert!(clock("https://h", 60).grade == Grade::Ok && clock("https://h", -61).grade == Grade::Warn);
    }
}
