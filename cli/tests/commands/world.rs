//! A folder with files, the program run in it, and servers that are stopped when a test is over.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A folder of its own for one test.
pub(crate) struct Folder(TempDir);

/// What a run of the program left behind.
pub(crate) struct Ran {
    /// The exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

/// A server that is killed when it goes out of scope.
pub(crate) struct Server(Child);

impl Folder {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// One with a policy, a task in `task/` for leader and helper at these ports, and their configurations.
    pub(crate) fn with_task(leader_port: u16, helper_port: u16) -> Self {
        let folder = Self::new();
        folder.write("policy.toml", POLICY);
        let (leader, helper) =
            (format!("http://127.0.0.1:{leader_port}/"), format!("http://127.0.0.1:{helper_port}/"));
        let made = folder.new_task("task", &["--leader", &leader, "--helper", &helper]);
        assert_eq!(made.code, 0, "{}", made.err);
        for (role, port) in [("leader", leader_port), ("helper", helper_port)] {
            folder.write(&format!("{role}.toml"), &aggregator(role, port, ""));
        }
        folder
    }

    /// Makes a task in a folder `out`, with these flags beside those that every task needs; the two URLs are among them.
    pub(crate) fn new_task(&self, out: &str, flags: &[&str]) -> Ran {
        self.mica(&Self::of_new_task(out, flags))
    }

    /// The command line of that.
    pub(crate) fn of_new_task<'a>(out: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
        [&NEW_TASK[..], &["--out", out], flags].concat()
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file in a folder of our own");
    }

    /// Reads a file.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file that was written")
    }

    /// The path of a file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program to its end.
    pub(crate) fn mica(&self, args: &[&str]) -> Ran {
        self.mica_with(args, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn mica_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        let output = self.command(args).envs(variables.iter().copied()).output().expect("the program runs");
        ran(&output)
    }

    /// Runs the program with nobody at the other end of its outputs, and returns its exit code.
    pub(crate) fn mica_unread(&self, args: &[&str]) -> Option<i32> {
        let mut command = self.command(args);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        drop((child.stdout.take(), child.stderr.take()));
        child.wait().expect("it is our child").code()
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn serve(&self, role: &str) -> Server {
        let log = self.path(&format!("{role}.log"));
        let file = fs::File::create(&log).expect("a file in a folder of our own");
        let mut command = self.command(&[role, "--config", &format!("{role}.toml")]);
        let server = Server(command.stderr(file).spawn().expect("the program runs"));
        wait_for(&log, "listening");
        server
    }

    /// The same with so few file descriptors.
    pub(crate) fn serve_with_descriptors(&self, role: &str, most: u32) -> Server {
        self.serve_under(&format!("ulimit -n {most}"), role)
    }

    /// The same after something was done in its shell.
    pub(crate) fn serve_under(&self, before: &str, role: &str) -> Server {
        let log = self.path(&format!("{role}.log"));
        let file = fs::File::create(&log).expect("a file in a folder of our own");
        let mut command = self.under(before, &[role, "--config", &format!("{role}.toml")]);
        let server = Server(command.stderr(file).spawn().expect("the program runs"));
        wait_for(&log, "listening");
        server
    }

    /// A deployment that is kept in `dev.db`, ready to work, after something was done in its shell.
    pub(crate) fn develop_under(&self, before: &str) -> Server {
        let mut command = self.under(before, &["dev", "--database", "sqlite:dev.db", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let mut sheet = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut sheet).expect("it prints what it made");
        assert!(sheet.starts_with('{'), "{sheet}");
        Server(child)
    }

    /// Runs the program to its end, after something was done in its shell.
    pub(crate) fn mica_under(&self, before: &str, args: &[&str]) -> Ran {
        ran(&self.under(before, args).output().expect("the program runs"))
    }

    fn under(&self, before: &str, args: &[&str]) -> Command {
        let program = self.command(args);
        let mut shell = Command::new("sh");
        shell
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.args(["-c", &format!("{before} && exec \"$0\" \"$@\"")]);
        shell.arg(program.get_program()).args(program.get_args());
        shell
    }

    /// Starts a server, asks it to stop, and returns its exit code.
    pub(crate) fn mica_briefly(&self, role: &str) -> Option<i32> {
        self.serve(role).terminate()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mica"));
        command.current_dir(self.0.path()).args(args).stdin(Stdio::null());
        command.env_remove("MICA_LOG").env_remove("MICA_LOG_FORMAT").env("LC_ALL", "C.UTF-8");
        command
    }
}

impl Ran {
    /// Ended with this code and exactly one line on standard error, which is returned.
    pub(crate) fn one_line(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err.trim_end()
    }
}

impl Server {
    /// Tells it that its files have changed.
    pub(crate) fn hang_up(&self) {
        let told = Command::new("kill").args(["-HUP", &self.0.id().to_string()]).status();
        assert!(told.expect("there is a kill").success());
    }

    /// How much of the machine's memory it has, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Asks it to stop and returns its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let asked = Command::new("kill").arg(self.0.id().to_string()).status().expect("there is a kill");
        assert!(asked.success());
        self.0.wait().expect("it is our child").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The configuration of a leader or a helper, with further lines.
pub(crate) fn aggregator(role: &str, port: u16, further: &str) -> String {
    format!(
        "role = \"{role}\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:{role}.db\"\n\
         policy = \"policy.toml\"\ntasks = [\"task/{role}.task.toml\"]\n{further}"
    )
}

/// A port that nobody used a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code().expect("it ended by itself"),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn wait_for(log: &Path, word: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !fs::read_to_string(log).is_ok_and(|text| text.contains(word)) {
        assert!(Instant::now() < deadline, "{}", fs::read_to_string(log).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `mica task new` but for the two URLs and where to.
const NEW_TASK: [&str; 12] = [
    "task",
    "new",
    "--label",
    "counter",
    "--vdaf",
    "count",
    "--policy",
    "policy.toml",
    "--min-batch-size",
    "3",
    "--time-precision",
    "1h",
];

/// A policy with one release.
pub(crate) const POLICY: &str = r#"schema = "dp-policy/1"

[policy]
id = "counter"
version = 1
justification = "a test"

[[budget]]
id = "lifetime"
privacy_unit = "report"
neighboring_relation = "replace_one"
dp_variant = "pure"
epsilon = 10
window = { kind = "lifetime" }
on_exhausted = "refuse"

[[release]]
id = "counter"
match = { label = "counter" }
vdaf = { type = "prio3-count" }
min_batch_size = 3
charge = ["lifetime"]
mechanism = "discrete_laplace"
epsilon_per_release = 1
noise_by = "each_aggregator"
report_count = "public"

[unmatched]
action = "refuse"
"#;
