//! A party of another make: a program that is told of the task and then plays one role, as `docs/interop.md` says.

use std::env;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use serde_json::Value;

/// A program and its first arguments.
pub struct Peer {
    command: Vec<String>,
    /// Where it is already, if it need not be started.
    pub url: Option<String>,
}

impl Peer {
    /// The peer that the environment names for this role: its command line in `MICA_INTEROP_ROLE`, its address, if it
    /// runs already, in `MICA_INTEROP_ROLE_URL`. Otherwise `own`, which is mica.
    #[must_use]
    pub fn of(role: &str, own: &str) -> Self {
        let variable = format!("MICA_INTEROP_{}", role.to_uppercase());
        let url = env::var(format!("{variable}_URL")).ok();
        let given = env::var(&variable).ok().or_else(|| url.as_ref().map(|_| String::new()));
        match given {
            Some(ref line) => eprintln!("{variable}: `{line}`"),
            None => eprintln!("{variable} is not set: mica itself is the peer"),
        }
        let words = |line: String| line.split_whitespace().map(ToOwned::to_owned).collect();
        Self { command: given.map_or_else(|| vec![own.to_owned()], words), url }
    }

    /// Runs it to its end, which must be a success, and gives what it printed.
    #[must_use]
    pub fn run(&self, folder: &Path, arguments: &[String]) -> String {
        let printed = folder.join("peer.out");
        let stdout = File::create(&printed).expect("the folder can be written");
        let mut running = self.start(folder, arguments, Stdio::from(stdout)).expect("a command line");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = running.child.try_wait().expect("our child can be waited for") {
                break status;
            }
            assert!(Instant::now() < deadline, "the peer has not ended within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "the peer ended with {status}");
        std::fs::read_to_string(&printed).expect("what it printed is text")
    }

    /// Lets it serve until the answer is dropped. `None` where all there is, is the address of one that runs.
    pub fn serve(&self, folder: &Path, arguments: &[String]) -> Option<Serving> {
        self.start(folder, arguments, Stdio::null())
    }

    fn start(&self, folder: &Path, arguments: &[String], stdout: Stdio) -> Option<Serving> {
        let (program, first) = self.command.split_first()?;
        let log = folder.join("peer.log");
        let stderr = File::options().create(true).append(true).open(&log).expect("the folder can be written");
        let child = Command::new(program)
            .args(first)
            .args(arguments)
            .current_dir(folder)
            .env("MICA_BIN", crate::mica())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            // A group of its own, so that what it starts ends with it.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
        Some(Serving { child, log })
    }
}

/// A peer that runs. It ends when this is dropped, and if a test failed, what it said is shown.
pub struct Serving {
    child: Child,
    log: PathBuf,
}

impl Serving {
    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child can be waited for").is_some()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        // It may have ended by itself, and that is as good.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- what the peer said\n{}---",
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
    }
}

/// A measurement as peers are told of it: numbers with commas between them.
#[must_use]
pub fn written(measurement: &Measurement) -> String {
    match measurement {
        Measurement::Bool(value) => u8::from(*value).to_string(),
        Measurement::Integer(value) => value.to_string(),
        Measurement::Bucket(bucket) => bucket.to_string(),
        Measurement::Vector(values) => values.iter().map(u64::to_string).collect::<Vec<_>>().join(","),
        Measurement::Set(values) | Measurement::Bits(values) => {
            values.iter().map(|value| u8::from(*value).to_string()).collect::<Vec<_>>().join(",")
        }
    }
}

/// The measurement that was [`written`] so.
#[must_use]
pub fn read(vdaf: &VdafConfig, text: &str) -> Measurement {
    let numbers: Vec<u64> = text.split(',').map(|number| number.parse().expect("a number")).collect();
    let first = numbers.first().copied().expect("at least one number");
    match vdaf {
        VdafConfig::Count => Measurement::Bool(first == 1),
        VdafConfig::Sum { .. } => Measurement::Integer(first),
        VdafConfig::SumVec { .. } => Measurement::Vector(numbers),
        VdafConfig::Histogram { .. } => Measurement::Bucket(u32::try_from(first).expect("a bucket")),
        VdafConfig::Poplar1 { .. } => Measurement::Bits(numbers.iter().map(|one| *one == 1).collect()),
        VdafConfig::MultihotCountVec { .. } => {
            Measurement::Set(numbers.iter().map(|one| *one == 1).collect())
        }
    }
}

/// What a collector of another make printed: the number of reports, and the totals.
#[must_use]
pub fn collected(printed: &str) -> (u64, Vec<i128>) {
    let told: Value =
        serde_json::from_str(printed).unwrap_or_else(|_| panic!("one JSON object, not {printed:?}"));
    let count = told["report_count"].as_u64().unwrap_or_else(|| panic!("no report_count: {told}"));
    let results = told["results"].as_array().unwrap_or_else(|| panic!("no results: {told}"));
    let number = |value: &Value| value.as_i64().map_or_else(|| panic!("no number: {told}"), i128::from);
    (count, results.iter().map(number).collect())
}

/// Other makes have their own ideas of how long to wait before they ask again.
const PATIENCE: Duration = Duration::from_secs(90);
