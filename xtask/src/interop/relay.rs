//! A relay of another make between our client and our gateway, and a leader and a helper of ours behind it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::World;
use super::aggregators::{Aggregators, mica, write};
use super::checks::Checks;
use super::configs;
use super::http::Message;
use super::listener::Listener;
use super::server::{Server, free_port};

/// Runs all checks.
pub(super) fn run(world: &World, program: &Path, checks: &mut Checks) -> Result<()> {
    let folder = world.folder("ohttp-relay")?;
    let aggregators = Aggregators::start(world, &folder)?;
    let port = free_port()?;
    let config = write(&folder, "gateway.toml", &configs::gateway(port, &["x25519"], &aggregators.routes()))?;
    let mut command = mica(world, "gateway", &config);
    let gateway = Server::start(command.current_dir(&folder), "gateway", port, &folder)?;
    let behind = Listener::before(gateway.port)?;
    let port = free_port()?;
    let mut command = Command::new(program);
    command.env("GATEWAY_ORIGIN", behind.url()).env("PORT", port.to_string());
    let relay = Server::start(&mut command, "ohttp-relay", port, &folder)?;
    let front = Listener::before(relay.port)?;

    let keys = format!("http://127.0.0.1:{}/ohttp-keys", gateway.port);
    let bundle = aggregators.bundle(&front.url(), &keys)?;
    report_all(&aggregators, &bundle, checks)?;
    let sent = front.bodies();
    checks.is(
        "the gateway gets byte for byte what our client sent",
        sent == behind.bodies() && !sent.is_empty(),
        (sent.len(), behind.bodies().len()),
    );
    check_fields(&front, &behind, checks);
    let kept = front.kept();
    let keys: Vec<_> = kept.iter().filter(|passed| passed.asked.line.starts_with("GET ")).collect();
    let refused = keys.iter().all(|passed| (400..500).contains(&passed.answered.status()));
    checks.is(
        "it has no copy of the gateway's keys: our client asks, is refused, and goes on with those of its bundle",
        refused && !keys.is_empty(),
        keys.iter().map(|passed| &passed.answered.line).collect::<Vec<_>>(),
    );
    check_repeated(&relay, sent, checks)?;

    let outdated = aggregators.report(&aggregators.outdated(&bundle)?, "1")?;
    checks.is(
        "a key that the gateway never had: our client is told through the relay, and says so (exit code 3)",
        outdated.code == 3 && outdated.err.contains("does not know the key"),
        outdated.err,
    );
    let chunked = Message::post("/", "message/ohttp-chunked-req", b"sealed".to_vec()).ask(relay.port)?;
    checks.equal("it refuses another media type itself", &chunked.status(), &415);
    let short = Message::sealed("/abc", b"sealed".to_vec()).ask(relay.port);
    checks.is(
        "known defect: to a path that is short, it panics and gives no answer",
        short.is_err() && relay.log().contains("panicked"),
        short.map(|answer| answer.line),
    );
    let after = aggregators.report(&bundle, "1")?;
    checks.is("it serves the next report all the same", after.out.contains("accepted"), after.err);
    let (count, total) = aggregators.collect()?;
    checks.equal("our collector gets each report once", &count, &6);
    checks.equal("and their exact total", total.as_str(), "4");
    Ok(())
}

/// Five measurements of 1, 0, 1, 1 and 0, by our client.
pub(super) fn report_all(aggregators: &Aggregators, bundle: &Path, checks: &mut Checks) -> Result<()> {
    for (number, value) in (1..).zip(["1", "0", "1", "1", "0"]) {
        let ended = aggregators.report(bundle, value)?;
        let accepted = ended.code == 0 && ended.out.contains("accepted");
        checks.is(format!("report {number} of our client is accepted"), accepted, ended.err);
    }
    Ok(())
}

/// What the relay adds to, and leaves of, the fields of both directions.
fn check_fields(front: &Listener, behind: &Listener, checks: &mut Checks) {
    let (front, behind) = (front.posted(), behind.posted());
    let asked = behind.iter().flat_map(|passed| passed.asked.names());
    let strange: Vec<_> =
        asked.filter(|name| !["content-length", "content-type", "host"].contains(name)).collect();
    checks.is("it shows the gateway no field but type, length and host", strange.is_empty(), strange);
    let of_ours = ["cache-control", "content-length", "content-type", "date"];
    let strange: Vec<_> = behind
        .iter()
        .flat_map(|passed| passed.answered.names())
        .filter(|name| !of_ours.contains(name))
        .collect();
    checks.is(
        "our gateway gives it no field but type, length, caching and date",
        strange.is_empty(),
        strange,
    );
    let pairs = front.iter().zip(&behind);
    let added: Vec<_> = pairs
        .flat_map(|(to_client, of_gateway)| {
            let known = of_gateway.answered.names();
            to_client.answered.names().into_iter().filter(move |name| !known.contains(name))
        })
        .filter(|name| *name != "access-control-allow-origin")
        .collect();
    checks.is("it adds no field to answers but `access-control-allow-origin`", added.is_empty(), added);
}

/// The last sealed request once more, as a relay that was impatient would send it.
fn check_repeated(relay: &Server, sent: Vec<Vec<u8>>, checks: &mut Checks) -> Result<()> {
    let last = sent.into_iter().next_back().context("nothing was sent")?;
    let first = Message::sealed("/", last.clone()).ask(relay.port)?;
    let second = Message::sealed("/", last).ask(relay.port)?;
    let is_sealed = |answer: &Message| {
        answer.status() == 200 && answer.field("content-type") == Some("message/ohttp-res")
    };
    checks.is(
        "an upload that is sent again and again is answered, each time under another nonce, in the same size",
        is_sealed(&first)
            && is_sealed(&second)
            && first.body != second.body
            && first.body.len() == second.body.len(),
        (first.line, second.line),
    );
    Ok(())
}
