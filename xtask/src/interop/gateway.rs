//! A gateway of another make behind our relay, with our client in front of it and a leader and a helper of ours behind.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::World;
use super::aggregators::Aggregators;
use super::checks::Checks;
use super::clients::our_relay;
use super::configs::{self, Gateway};
use super::http::Message;
use super::listener::Listener;
use super::relay::report_all;
use super::server::{Server, free_port};

/// Runs all checks.
pub(super) fn run(world: &World, program: &Path, checks: &mut Checks) -> Result<()> {
    let folder = world.folder("ohttp-gateway")?;
    let aggregators = Aggregators::start(world, &folder)?;
    let chain = Chain::start(world, program, &folder.join("allowing"), &aggregators.authorities())?;
    let bundle = chain.bundle(&aggregators);
    checks.holds("our client takes its list of key configurations", bundle.as_ref().map(|_| ()));
    let bundle = bundle?;
    report_all(&aggregators, &bundle, checks)?;
    let sent = chain.front.bodies();
    checks.is(
        "it gets byte for byte what our client sent",
        sent == chain.behind.bodies() && !sent.is_empty(),
        (sent.len(), chain.behind.bodies().len()),
    );
    check_fields(&chain, checks);

    let last = sent.into_iter().next_back().context("nothing was sent")?;
    let before = chain.forwarded();
    let again = Message::sealed("/", last).ask(chain.relay.port)?;
    checks.equal(
        "known defect: an upload that is sent again goes to the leader again",
        &(again.status(), chain.forwarded()),
        &(200, before + 1),
    );
    let outdated = aggregators.report(&aggregators.outdated(&bundle)?, "1")?;
    checks.is(
        "known defect: a key that it never had is no `ohttp-key` problem; our client still says that nothing was delivered \
         (exit code 6)",
        outdated.code == 6 && outdated.err.contains("the relay answered 400; nothing was delivered"),
        (outdated.code, outdated.err),
    );
    let refusing = Chain::start(world, program, &folder.join("refusing"), "elsewhere.example")?;
    check_refusal(&refusing, &aggregators, checks)?;
    let (count, total) = aggregators.collect()?;
    checks.equal("our collector gets each report once", &count, &5);
    checks.equal("and their exact total", total.as_str(), "3");
    Ok(())
}

/// Our relay and the gateway, with what keeps what passes in front of each.
struct Chain {
    front: Listener,
    relay: Server,
    behind: Listener,
    gateway: Server,
}

impl Chain {
    fn start(world: &World, program: &Path, folder: &Path, authorities: &str) -> Result<Self> {
        std::fs::create_dir_all(folder).context("cannot make a folder")?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.env("PORT", port.to_string()).env("ALLOWED_TARGET_ORIGINS", authorities);
        let gateway = Server::start(&mut command, "ohttp-gateway", port, folder)?;
        let behind = Listener::before(gateway.port)?;
        let place = Gateway { port: behind.port, path: "/gateway", is_ours: false };
        let relay = our_relay(world, folder, |port| configs::relay(port, &place))?;
        Ok(Self { front: Listener::before(relay.port)?, relay, behind, gateway })
    }

    fn bundle(&self, aggregators: &Aggregators) -> Result<std::path::PathBuf> {
        let keys = format!("http://127.0.0.1:{}/ohttp-configs", self.gateway.port);
        aggregators.bundle(&self.front.url(), &keys)
    }

    /// How many uploads the gateway says that it has passed on.
    fn forwarded(&self) -> usize {
        self.gateway.log().matches("Forwarding POST request to").count()
    }
}

/// What our relay lets through in both directions.
fn check_fields(chain: &Chain, checks: &mut Checks) {
    let (front, behind) = (chain.front.posted(), chain.behind.posted());
    let asked = behind.iter().flat_map(|passed| passed.asked.names());
    let strange: Vec<_> =
        asked.filter(|name| !["content-length", "content-type", "host"].contains(name)).collect();
    checks.is("our relay shows it no field but type, length and host", strange.is_empty(), strange);
    let marks = |name: &&str| *name == "x-request-id";
    let marked = behind.iter().all(|passed| passed.answered.names().iter().any(marks));
    checks.is("it marks every answer with an identifier", marked, "some without");
    let answered = front.iter().flat_map(|passed| passed.answered.names());
    let passed = ["cache-control", "content-length", "content-type", "date"];
    let strange: Vec<_> = answered.filter(|name| !passed.contains(name)).collect();
    checks.is("our relay takes that and all like it off", strange.is_empty(), strange);
}

/// A target that it does not allow is no secret of the client to it.
fn check_refusal(chain: &Chain, aggregators: &Aggregators, checks: &mut Checks) -> Result<()> {
    let refused = aggregators.report(&chain.bundle(aggregators)?, "1")?;
    let kept = chain.behind.posted();
    let said = kept.last().context("nothing was sent")?.answered.clone();
    let text = String::from_utf8_lossy(&said.body).into_owned();
    checks.is(
        "known defect: it tells the relay, outside of the envelope, which target a client asked for",
        said.status() == 400 && text.contains("Target origin not allowed: 127.0.0.1:"),
        text,
    );
    checks.is(
        "our client says that nothing was delivered (exit code 6)",
        refused.code == 6 && refused.err.contains("nothing was delivered"),
        (refused.code, refused.err),
    );
    Ok(())
}
