//! A relay and a gateway: do they run, and do those answer whom they pass things on to?

use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response, Uri};
use mica_envelope::media::PROBLEM_OHTTP_KEY;
use mica_service::http::{HttpClient, HttpOptions, PeerError};
use mica_service::tls::{PeerTls, Peers};
use mica_service::token;

use super::finding::Finding;
use super::{gateway as inside, mirror, server, warned};
use crate::commands::server::database_relative_to;
use crate::commands::warnings;
use crate::exit::{Exit, Failure};
use crate::settings::Settings;

/// A relay, and its gateway.
pub(super) async fn relay(settings: &Settings, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let Ok(loaded) = settings.load::<mica_relay::Config>() else { return Ok(()) };
    let config = loaded.config.relative_to(settings.folder());
    findings.extend(warned(warnings::of_relay(&config)));
    findings.extend(unsaid(config.unsaid_operators()));
    let http = client(&config.peer_tls, config.insecure_peers)?;
    server::examine(&http, &config.listen, config.tls.is_some(), findings).await;
    reach(&http, "gateway", &config.gateway_url, findings).await;
    if findings.last().is_some_and(|finding| finding.exit().is_none()) {
        admitted(&http, &config, findings).await?;
    }
    if let Some(mirror) = &config.mirror {
        mirror::examine(&http, (&config.listen, config.tls.is_some()), mirror, findings).await;
    }
    Ok(())
}

/// A gateway, and the servers behind its routes.
pub(super) async fn gateway(settings: &Settings, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let Ok(loaded) = settings.load::<mica_gateway::Config>() else { return Ok(()) };
    let config = loaded.config.relative_to(settings.folder());
    let database = database_relative_to(settings, config.database.clone());
    findings.extend(warned(warnings::of_gateway(&config, &database)));
    findings.extend(unsaid(config.unsaid_operators()));
    inside::examine(&config, &database, findings).await;
    let http = client(&config.peer_tls, config.insecure_peers)?;
    server::examine(&http, &config.listen, config.tls.is_some(), findings).await;
    let targets: BTreeSet<_> = config.routes.iter().map(|route| route.target.as_str()).collect();
    for target in targets.into_iter().take(MOST) {
        reach(&http, "target", target, findings).await;
    }
    Ok(())
}

/// What the server says in its log, too, as long as nobody has said who runs what.
fn unsaid(operators: Option<String>) -> Option<Finding> {
    let said = operators?;
    let (what, todo) = said.split_once(": ").unwrap_or((&said, "say who does"));
    Some(Finding::warn("operators", what, todo))
}

fn client(tls: &PeerTls, insecure_peers: bool) -> Result<HttpClient, Failure> {
    let peers = Peers::load(tls, insecure_peers).map_err(Failure::invalid)?;
    Ok(HttpClient::new(HttpOptions { peers, ..HttpOptions::default() }))
}

/// Whether the gateway takes requests of this relay: it is shown what the relay shows, around nothing.
async fn admitted(
    http: &HttpClient,
    config: &mica_relay::Config,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let mut request = Request::post(&config.gateway_url).header(CONTENT_TYPE, "message/ohttp-req");
    if let Some(path) = &config.gateway_token_file {
        request = request.header(AUTHORIZATION, token::authorization(path).map_err(Failure::invalid)?);
    }
    let Ok(request) = request.body(Bytes::new()) else { return Ok(()) };
    let what = "the gateway's door";
    findings.push(match http.send(request).await {
        Ok(answer) if matches!(answer.status().as_u16(), 401 | 403 | 407) => {
            let todo = format!(
                "it does not accept this relay ({}); compare gateway_token_file or the certificate of peer_tls with \
                 [[relays]] of the gateway",
                answer.status().as_u16()
            );
            Finding::fail("admitted", what, todo, Exit::Unauthorized)
        }
        Ok(answer) => opened(&answer, what),
        Err(error @ PeerError::NotAccepted { .. }) => {
            Finding::fail("admitted", what, error.to_string(), Exit::Unauthorized)
        }
        Err(error) => Finding::fail("admitted", what, error.to_string(), Exit::Unreachable),
    });
    Ok(())
}

/// Nothing is what no key opens, and a gateway says so (RFC 9458 5.3).
fn opened(answer: &Response<Bytes>, what: &'static str) -> Finding {
    let status = answer.status().as_u16();
    let key = PROBLEM_OHTTP_KEY.as_bytes();
    match status {
        400 if answer.body().windows(key.len()).any(|part| part == key) => Finding::ok("admitted", what),
        400 => {
            let todo = "it answers 400 to a request of nothing, but not with the ohttp-key problem: is it a gateway?";
            Finding::warn("admitted", what, todo)
        }
        _ => {
            let todo = format!(
                "it answers {status}, and a gateway 400 to a request of nothing: is gateway_url, with its path, \
                 that of a gateway?"
            );
            Finding::fail("admitted", what, todo, Exit::Unreachable)
        }
    }
}

/// Whether the origin of `url` answers at all.
async fn reach(http: &HttpClient, check: &'static str, url: &str, findings: &mut Vec<Finding>) {
    let origin =
        url.parse::<Uri>().ok().and_then(|uri| Some((uri.scheme()?.clone(), uri.authority()?.clone())));
    let Some((scheme, authority)) = origin else { return };
    let what = format!("the {check} at {scheme}://{authority}");
    let Ok(request) = Request::get(format!("{scheme}://{authority}/health")).body(Bytes::new()) else {
        return;
    };
    findings.push(match http.send(request).await {
        // Whoever it is has no need to tell us of its health.
        Ok(_) => Finding::ok(check, what),
        Err(error) => Finding::fail(check, what, format!("{error}; is it running?"), Exit::Unreachable),
    });
}

/// More are not asked in one go.
const MOST: usize = 16;
