//! `cargo xtask interop`: implementations of Oblivious HTTP by others, each in the place of one of our parties.
//!
//! Every peer is fetched in the version that is named here, built below the target folder, and run as a process of its own
//! against processes of ours, over loopback. What is checked is printed line by line, and at the end a table.

mod aggregators;
mod checks;
mod clients;
mod configs;
mod gateway;
mod http;
mod install;
mod listener;
mod relay;
mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use self::checks::{Checks, print_table};
use self::install::Source;
use crate::bench::target_folder;
use crate::process;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run this peer only; may be given more than once
    #[arg(long, value_name = "PEER", value_parser = PEERS.map(|peer| peer.name))]
    only: Vec<String>,
}

/// An implementation by others.
struct Peer {
    name: &'static str,
    version: &'static str,
    /// Whose place it takes.
    place: &'static str,
    source: Source,
    run: fn(&World, &Path, &mut Checks) -> Result<()>,
}

/// Those that are run, in the order of a report's way.
const PEERS: [Peer; 5] = [
    Peer {
        name: "ohttp-client",
        version: "0.0.2",
        place: "client",
        source: Source::Program("ohttp-client"),
        run: clients::ohttp_client,
    },
    Peer {
        name: "node",
        version: "@hpke/core 1.9.0, bhttp-js 0.2.1",
        place: "client",
        source: Source::Node("node-client"),
        run: clients::node,
    },
    Peer {
        name: "janus_client",
        version: "0.7.145",
        place: "client",
        source: Source::Program("janus-client"),
        run: clients::janus,
    },
    Peer {
        name: "ohttp-relay",
        version: "0.0.11",
        place: "relay",
        source: Source::Binary("ohttp-relay"),
        run: relay::run,
    },
    Peer {
        name: "ohttp-gateway",
        version: "1.0.2",
        place: "gateway",
        source: Source::Binary("ohttp-gateway"),
        run: gateway::run,
    },
];

/// What all runs have in common.
struct World {
    /// Our own binary.
    mica: PathBuf,
    /// Where the files of this run are. They stay, to be looked at.
    runs: PathBuf,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let target = target_folder(root)?;
    let world = World { mica: build(root, &target)?, runs: target.join("interop/runs") };
    let mut all = Vec::new();
    for peer in PEERS.iter().filter(|peer| is_chosen(peer, options)) {
        process::check_interrupted()?;
        install::progress(&format!("{} {}", peer.name, peer.version));
        let mut checks = Checks::new(peer.name, peer.version, peer.place);
        let outcome = install::install(root, &target, peer);
        checks.holds("it can be fetched and built", outcome.as_ref().map(|_| ()));
        if let Ok(program) = outcome {
            let outcome = (peer.run)(&world, &program, &mut checks);
            checks.holds("the run comes to its end", outcome);
        }
        checks.print();
        all.push(checks);
    }
    process::check_interrupted()?;
    print_table(&all);
    Ok(if all.iter().all(Checks::passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One of the programs of others, in the version that is run here, built for being measured.
pub(crate) fn shipped(root: &Path, target: &Path, name: &str) -> Result<PathBuf> {
    let peer = PEERS.iter().find(|peer| peer.name == name).context("there is no peer of that name")?;
    install::progress(&format!("{} {}", peer.name, peer.version));
    install::shipped(root, target, peer)
}

fn is_chosen(peer: &Peer, options: &Options) -> bool {
    options.only.is_empty() || options.only.iter().any(|name| name == peer.name)
}

impl World {
    /// An empty folder for the files of one run.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.runs.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

/// Builds our own binary.
fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    install::progress("mica");
    let mut build = process::cargo(root, "build");
    build.args(["--quiet", "--locked", "--package", "mica-cli"]);
    if !process::run_aside(&mut build)?.success() {
        bail!("mica does not build");
    }
    Ok(target.join("debug/mica"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Cli;

    #[test]
    fn the_commands_of_the_page_are_understood() {
        let page = include_str!("../../../docs/interop.md");
        let commands: Vec<&str> =
            page.lines().filter(|line| line.starts_with("cargo xtask interop")).collect();
        assert!(!commands.is_empty(), "the page shows how it is run");
        for command in commands {
            let words = command.split_whitespace().skip(1);
            assert!(Cli::try_parse_from(words).is_ok(), "{command}");
        }
    }

    #[test]
    fn a_peer_is_chosen_by_its_name_and_no_other_name_is_taken() {
        let only = |name: &str| Cli::try_parse_from(["xtask", "interop", "--only", name]);
        assert!(PEERS.iter().all(|peer| only(peer.name).is_ok()));
        assert!(only("somebody-else").is_err());
        let options = Options { only: vec!["node".to_owned()] };
        let chosen: Vec<_> = PEERS.iter().filter(|peer| is_chosen(peer, &options)).collect();
        assert_eq!(chosen.iter().map(|peer| peer.name).collect::<Vec<_>>(), ["node"]);
    }

    #[test]
    fn the_versions_of_the_table_are_those_that_are_built() {
        let pinned = |manifest: &str, line: &str| assert!(manifest.contains(line), "{line}");
        let version = |name: &str| PEERS.iter().find(|peer| peer.name == name).unwrap().version;
        let ohttp_client = include_str!("../../interop/ohttp-client/Cargo.toml");
        pinned(ohttp_client, &format!("ohttp-client = {{ version = \"={}\"", version("ohttp-client")));
        let janus = include_str!("../../interop/janus-client/Cargo.toml");
        pinned(janus, &format!("janus_client = {{ version = \"={}\"", version("janus_client")));
        let node = include_str!("../../interop/node-client/package.json");
        for package in version("node").split(", ") {
            let (name, version) = package.split_once(' ').unwrap();
            pinned(node, &format!("\"{name}\": \"{version}\""));
        }
    }
}
