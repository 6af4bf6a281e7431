//! A leader and a helper of ours with one task, its clients, and its collector: all by the binary, as people run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::World;
use super::configs::{self, Route};
use super::server::{Server, free_port, output};

/// The two, with their task.
pub(super) struct Aggregators {
    mica: PathBuf,
    folder: PathBuf,
    leader: Server,
    helper: Server,
}

/// How a command ended.
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Aggregators {
    /// Makes a task that counts, and starts both.
    pub(super) fn start(world: &World, folder: &Path) -> Result<Self> {
        let (leader, helper) = (free_port()?, free_port()?);
        write(folder, "policy.toml", configs::POLICY)?;
        let url = |port: u16| format!("http://127.0.0.1:{port}/");
        let ended = run(Command::new(&world.mica).current_dir(folder).args([
            "task",
            "new",
            "--label",
            "interop",
            "--vdaf",
            "count",
            "--leader",
            &url(leader),
            "--helper",
            &url(helper),
            "--policy",
            "policy.toml",
            "--min-batch-size",
            "2",
            "--time-precision",
            "1h",
            "--out",
            "task",
        ]))?;
        ended.success("mica task new")?;
        let serve = |role: &str, port: u16| {
            let config = write(folder, &format!("{role}.toml"), &configs::aggregator(role, port))?;
            Server::start(mica(world, role, &config).current_dir(folder), role, port, folder)
        };
        Ok(Self {
            helper: serve("helper", helper)?,
            leader: serve("leader", leader)?,
            mica: world.mica.clone(),
            folder: folder.to_path_buf(),
        })
    }

    /// What a gateway of ours lets through to them.
    pub(super) fn routes(&self) -> [Route; 3] {
        let keys = |port| Route { method: "GET", path: "/hpke_config", media: None, port, is_old: false };
        let uploads = Route {
            method: "POST",
            path: "/tasks/{task}/reports",
            media: Some("application/ppm-dap;message=upload-req"),
            port: self.leader.port,
            is_old: false,
        };
        [uploads, keys(self.leader.port), keys(self.helper.port)]
    }

    /// What clients know them by, separated by commas.
    pub(super) fn authorities(&self) -> String {
        format!("127.0.0.1:{},127.0.0.1:{}", self.leader.port, self.helper.port)
    }

    /// The task as its clients are told of it, with the gateway's keys from `keys`.
    pub(super) fn bundle(&self, relay: &str, keys: &str) -> Result<PathBuf> {
        let mut export = Command::new(&self.mica);
        export.current_dir(&self.folder).args(["task", "export", "task/leader.task.toml"]);
        let ended = run(export.args(["--relay", relay, "--ohttp-keys", keys]))?;
        ended.success("mica task export")?;
        write(&self.folder, "task.mica", &ended.out)
    }

    /// The same bundle with another identifier of the gateway's key.
    pub(super) fn outdated(&self, bundle: &Path) -> Result<PathBuf> {
        let text = fs::read_to_string(bundle).context("cannot read the bundle")?;
        write(&self.folder, "outdated.mica", &with_other_key(&text).context("the bundle has no key")?)
    }

    /// One measurement, reported by our client.
    pub(super) fn report(&self, bundle: &Path, value: &str) -> Result<Ended> {
        run(Command::new(&self.mica).current_dir(&self.folder).arg("report").arg(bundle).arg(value))
    }

    /// What our collector gets for the hours that the run can have touched: how many reports, and their total.
    pub(super) fn collect(&self) -> Result<(u64, String)> {
        let mut collect = Command::new(&self.mica);
        collect.current_dir(&self.folder).args(["collect", "task/collector.task.json"]);
        let ended = run(collect.args(["--last", "2h", "--include-running", "-o", "json"]))?;
        ended.success("mica collect")?;
        let result: serde_json::Value = serde_json::from_str(&ended.out).context("the result is not JSON")?;
        let total = result["values"][0].to_string();
        Ok((result["report_count"].as_u64().unwrap_or_default(), total))
    }
}

impl Ended {
    fn success(&self, what: &str) -> Result<()> {
        if self.code != 0 {
            bail!("{what} ended with {}: {}", self.code, self.err.trim());
        }
        Ok(())
    }
}

/// A server of ours with the configuration in this file.
pub(super) fn mica(world: &World, role: &str, config: &Path) -> Command {
    let mut command = Command::new(&world.mica);
    command.arg(role).arg("--config").arg(config);
    command
}

/// Writes a file and gives its path.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn run(command: &mut Command) -> Result<Ended> {
    let done = output(command)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { code: done.status.code().unwrap_or(-1), out: text(&done.stdout), err: text(&done.stderr) })
}

/// The text of a bundle with another identifier of its first key: the third byte of a list, so the last bits of it are the
/// fourth digit of base64.
fn with_other_key(bundle: &str) -> Option<String> {
    let name = "\"ohttp_keys\": \"";
    let (before, list) = bundle.split_once(name)?;
    let (start, digit, rest) = (list.get(..3)?, list.get(3..4)?, list.get(4..)?);
    let other = if digit == "A" { "B" } else { "A" };
    Some([before, name, start, other, rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_is_another_digit_and_nothing_else() {
        let bundle = r#"{ "relay": "x", "ohttp_keys": "ACkBACAx", "version": 1 }"#;
        let other = with_other_key(bundle).unwrap();
        assert_eq!(other, bundle.replace("ACkB", "ACkA"));
        assert_eq!(with_other_key(&other).unwrap(), bundle);
        assert_eq!(with_other_key("{}"), None);
    }
}
