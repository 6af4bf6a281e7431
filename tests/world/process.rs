//! One `mica` process: started, heard, killed.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running process. Killed when dropped; if that is because a test failed, the end of its log is shown.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lines: Receiver<String>,
}

impl Process {
    /// Starts `mica` with these arguments. What it writes to stderr is appended to `NAME.log` in `folder`.
    pub fn start<A: AsRef<OsStr>>(name: &str, folder: &Path, arguments: impl IntoIterator<Item = A>) -> Self {
        Self::start_program(crate::mica(), name, folder, arguments)
    }

    /// The same with another program than `mica`.
    pub fn start_program<A: AsRef<OsStr>>(
        program: &Path,
        name: &str,
        folder: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let log = folder.join(format!("{name}.log"));
        let stderr =
            OpenOptions::new().create(true).append(true).open(&log).expect("the folder can be written");
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the program can be started");
        let stdout = child.stdout.take().expect("it is piped");
        let (line, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for read in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.send(read).is_err() {
                    return;
                }
            }
        });
        Self { name: name.to_owned(), child, log, lines }
    }

    /// The first JSON document that it prints to stdout, however many lines that has.
    pub fn first_json(&mut self, patience: Duration) -> Value {
        let deadline = Instant::now() + patience;
        let mut text = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{} printed no JSON but {text:?}; its log: {}", self.name, self.log_text());
            };
            text.push_str(&line);
            text.push('\n');
            if let Ok(document) = serde_json::from_str(&text) {
                return document;
            }
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.end();
    }

    /// Sends it a signal, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent =
            Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("there is a `kill`");
        assert!(sent.success(), "{} is gone already", self.name);
    }

    /// Asks it to end and waits until it has.
    pub fn terminate(mut self, patience: Duration) -> ExitStatus {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().expect("there is a `kill`");
        assert!(asked.success(), "{} is gone already", self.name);
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not end within {patience:?}", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child can be waited for")
    }

    /// All that it wrote to stderr, and others of its name before it.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn end(&mut self) {
        // It may have ended by itself, and that is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = self.log_text();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default();
            eprintln!("--- the end of the log of {}\n{}\n---", self.name, shown.join("\n"));
        }
    }
}

/// Lines of a log that are shown when a test fails.
const SHOWN: usize = 25;
