//! Clients of another make, through our relay and our gateway, to a target that keeps what it gets.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::World;
use super::aggregators::{mica, write};
use super::checks::Checks;
use super::configs::{self, Gateway, Route};
use super::http::Message;
use super::listener::Listener;
use super::server::{Server, free_port, output};
use crate::process;

/// The crate `ohttp-client`.
pub(super) fn ohttp_client(world: &World, program: &Path, checks: &mut Checks) -> Result<()> {
    in_both_orders(|kems, order| {
        let place = Place::start(world, &format!("ohttp-client-{order}"), kems)?;
        place.run(&mut Command::new(program), order, checks)?;
        place.check_mirror(order, checks)?;
        place.check_uploads(order, 3, checks);
        place.check_kem(order, checks);
        let kept = place.front.kept();
        let tunnels: Vec<_> =
            kept.iter().filter(|passed| passed.asked.line.starts_with("CONNECT ")).collect();
        let answers: Vec<_> = tunnels.iter().map(|passed| passed.answered.status()).collect();
        let refused = !answers.is_empty() && answers.iter().all(|status| (400..500).contains(status));
        checks.is(named(order, "the tunnel that it asked for was refused with 4xx"), refused, answers);
        Ok(())
    })
}

/// The client in Node.
pub(super) fn node(world: &World, program: &Path, checks: &mut Checks) -> Result<()> {
    in_both_orders(|kems, order| {
        let place = Place::start(world, &format!("node-{order}"), kems)?;
        place.run(Command::new("node").arg(program), order, checks)?;
        place.check_uploads(order, 2, checks);
        Ok(())
    })?;
    let strict = Place::start_strict(world, "node-strict")?;
    strict.run(Command::new("node").arg(program), "strict", checks)?;
    checks.equal(
        "strict: the target gets what was padded and nothing else",
        &strict.target.bodies().len(),
        &3,
    );
    Ok(())
}

/// Janus's client. What it uploads is of another draft, so the target only keeps it.
pub(super) fn janus(world: &World, program: &Path, checks: &mut Checks) -> Result<()> {
    in_both_orders(|kems, order| {
        let place = Place::start(world, &format!("janus-{order}"), kems)?;
        place.front.lose_one();
        place.run(&mut Command::new(program), order, checks)?;
        place.check_kem(order, checks);
        let sent = place.front.posted();
        let [first, again, _] = sent.as_slice() else {
            bail!("it sent {} requests, and not three", sent.len())
        };
        let same = first.asked.body == again.asked.body;
        checks.is(named(order, "known defect: it sends the very same envelope again"), same, "another one");
        let (lost, answered) = (&first.answered.body, &again.answered.body);
        checks.is(
            named(order, "that is answered again, under another nonce and in the same size"),
            lost.len() == answered.len() && lost != answered,
            (lost.len(), answered.len()),
        );
        let kept = place.target.kept();
        checks.equal(named(order, "the target gets each report once"), &kept.len(), &2);
        let is_report = |asked: &Message| {
            asked.line.starts_with("PUT /tasks/")
                && asked.line.contains("/reports ")
                && asked.field("content-type") == Some("application/dap-report")
        };
        let lines: Vec<_> = kept.iter().map(|passed| &passed.asked.line).collect();
        checks.is(
            named(order, "what it gets are reports, by their method, path and media type"),
            kept.iter().all(|passed| is_report(&passed.asked) && passed.asked.body.len() > 100),
            lines,
        );
        Ok(())
    })
}

/// Some take the first key that they know, others the last.
fn in_both_orders(mut run: impl FnMut(&[&str], &str) -> Result<()>) -> Result<()> {
    run(&["x25519", "x-wing"], "x25519-first")?;
    run(&["x-wing", "x25519"], "x-wing-first")
}

/// Everything but the client: what is in front of the relay keeps what passes.
struct Place {
    front: Listener,
    gateway: Server,
    _relay: Server,
    target: Listener,
    payload: std::path::PathBuf,
}

/// One line of what a client prints.
#[derive(Deserialize)]
struct Line {
    check: String,
    ok: bool,
    why: Option<String>,
}

impl Place {
    fn start(world: &World, name: &str, kems: &[&str]) -> Result<Self> {
        Self::start_as(world, name, |port, routes| configs::gateway(port, kems, routes), configs::relay)
    }

    /// With a gateway that insists on padding, and a relay that mixes.
    fn start_strict(world: &World, name: &str) -> Result<Self> {
        let gateway = |port, routes: &[Route]| configs::strict_gateway(port, &["x25519", "x-wing"], routes);
        Self::start_as(world, name, gateway, configs::mixing_relay)
    }

    fn start_as(
        world: &World,
        name: &str,
        gateway: impl Fn(u16, &[Route]) -> String,
        relay: fn(u16, &Gateway) -> String,
    ) -> Result<Self> {
        let folder = world.folder(name)?;
        let target = Listener::target()?;
        let route =
            |method, path, media| Route { method, path, media: Some(media), port: target.port, is_old: true };
        let routes = [
            route("POST", "/kept", "application/octet-stream"),
            route("PUT", "/tasks/{task}/reports", "application/dap-report"),
        ];
        let port = free_port()?;
        let config = write(&folder, "gateway.toml", &gateway(port, &routes))?;
        let mut command = mica(world, "gateway", &config);
        let gateway = Server::start(command.current_dir(&folder), "gateway", port, &folder)?;
        let place = Gateway { port, path: "/", is_ours: true };
        let relay = our_relay(world, &folder, |port| relay(port, &place))?;
        wait_for_keys(relay.port)?;
        let payload = folder.join("payload");
        std::fs::write(&payload, payload_bytes()).context("cannot write the payload")?;
        Ok(Self { front: Listener::before(relay.port)?, gateway, _relay: relay, target, payload })
    }

    /// Runs a client to its end and takes over what it says.
    fn run(&self, client: &mut Command, order: &str, checks: &mut Checks) -> Result<()> {
        let target = self.target.url();
        let done = output(client.args([&self.front.url(), &target]).arg(&self.payload).arg(order))?;
        let out = String::from_utf8_lossy(&done.stdout);
        let mut has_failed = false;
        for line in out.lines() {
            let line: Line = serde_json::from_str(line).with_context(|| format!("it says `{line}`"))?;
            let why = line.why.unwrap_or_else(|| "it does not say why".to_owned());
            checks.holds(named(order, &line.check), if line.ok { Ok(()) } else { Err(why) });
            has_failed |= !line.ok;
        }
        if out.is_empty() || done.status.success() == has_failed {
            bail!("it ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(())
    }

    fn check_mirror(&self, order: &str, checks: &mut Checks) -> Result<()> {
        let keys = Message::get(KEYS);
        let (ours, mirrored) = (keys.ask(self.gateway.port)?, keys.ask(self.front.port)?);
        checks.is(
            named(order, "the relay shows the gateway's list byte for byte"),
            ours.body == mirrored.body && ours.field("etag") == mirrored.field("etag"),
            (ours.fields, mirrored.fields),
        );
        Ok(())
    }

    /// Clients that take the first key that they know.
    fn check_kem(&self, order: &str, checks: &mut Checks) {
        let expected = if order.starts_with("x-wing") { [0x64, 0x7a] } else { [0x00, 0x20] };
        let sealed = self.front.posted();
        let kem = sealed.first().and_then(|passed| passed.asked.body.get(1..3));
        checks.equal(named(order, "it seals to the first key of the list"), &kem, &Some(&expected[..]));
    }

    fn check_uploads(&self, order: &str, count: usize, checks: &mut Checks) {
        let bodies = self.target.bodies();
        checks.equal(named(order, "the target gets each request once"), &bodies.len(), &count);
        let lengths: Vec<_> = bodies.iter().map(Vec::len).collect();
        let same = bodies.iter().all(|body| *body == payload_bytes());
        checks.is(named(order, "what it gets is byte for byte what was sent"), same, lengths);
    }
}

/// A relay of ours, configured for the port that it gets.
pub(super) fn our_relay(world: &World, folder: &Path, config: impl Fn(u16) -> String) -> Result<Server> {
    let port = free_port()?;
    let config = write(folder, "relay.toml", &config(port))?;
    Server::start(mica(world, "relay", &config).current_dir(folder), "relay", port, folder)
}

/// The relay asks for the keys by its own clock.
fn wait_for_keys(relay: u16) -> Result<()> {
    let since = Instant::now();
    while Message::get(KEYS).ask(relay)?.status() != 200 {
        process::check_interrupted()?;
        if since.elapsed() > Duration::from_mins(1) {
            bail!("the relay shows no keys");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn named(order: &str, check: &str) -> String {
    format!("{order}: {check}")
}

/// Every byte there is, and not a multiple of any block.
fn payload_bytes() -> Vec<u8> {
    (0..=u8::MAX).cycle().take(1001).collect()
}

const KEYS: &str = "/.well-known/ohttp-gateway";
