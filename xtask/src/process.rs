//! Child processes that never outlive us.
//!
//! Each child gets a process group of its own, and a signal that asks us to stop is passed on to the group of the
//! child that is running. The main thread then sees that child end, returns, and drops what it holds: that is how a
//! database cluster is stopped and its folder removed whatever happens.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How often we were asked to stop.
static ASKED_TO_STOP: AtomicUsize = AtomicUsize::new(0);

/// The group of the child that [`run_reading`] waits for.
static CURRENT: Mutex<Option<Pid>> = Mutex::new(None);

/// From here on Ctrl-C, SIGTERM and SIGHUP end the current child instead of us.
pub(crate) fn watch_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for signals")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            ASKED_TO_STOP.fetch_add(1, Ordering::SeqCst);
            stop_current();
        }
    });
    Ok(())
}

/// Whether a signal has asked us to stop.
pub(crate) fn interrupted() -> bool {
    ASKED_TO_STOP.load(Ordering::SeqCst) > 0
}

/// Fails once a signal has asked us to stop.
pub(crate) fn check_interrupted() -> Result<()> {
    if interrupted() {
        bail!("interrupted");
    }
    Ok(())
}

/// Runs `command` with its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    command.stdout(Stdio::inherit());
    wait(command, None)
}

/// The same with nothing of its standard output, for what is not what we were asked for. Errors are seen.
pub(crate) fn run_aside(command: &mut Command) -> Result<ExitStatus> {
    command.stdout(Stdio::null());
    wait(command, None)
}

/// Runs `command`, passes its standard output on, and shows each line of it to `see`.
pub(crate) fn run_reading(command: &mut Command, mut see: impl FnMut(&str)) -> Result<ExitStatus> {
    command.stdout(Stdio::piped());
    wait(command, Some(&mut see))
}

/// A `cargo` command at the workspace's root: the same cargo that runs us.
pub(crate) fn cargo(root: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(root);
    // What `cargo run` tells us about our own package is not true of the packages that are built next.
    for (name, _) in std::env::vars_os() {
        let is_ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if is_ours {
            command.env_remove(name);
        }
    }
    command
}

/// Whether a program of this name is on `PATH`.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn wait(command: &mut Command, see: Option<&mut dyn FnMut(&str)>) -> Result<ExitStatus> {
    check_interrupted()?;
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    set_current(Some(Pid::from_child(&child)));
    if interrupted() {
        stop_current();
    }
    if let (Some(see), Some(output)) = (see, child.stdout.take()) {
        pass_on(output, see)?;
    }
    let status = child.wait().with_context(|| format!("cannot wait for {name}"))?;
    set_current(None);
    check_interrupted()?;
    Ok(status)
}

fn pass_on(output: impl std::io::Read, see: &mut dyn FnMut(&str)) -> Result<()> {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).context("cannot read the output of a child")? > 0 {
        let mut ours = std::io::stdout().lock();
        ours.write_all(&line).and_then(|()| ours.flush()).context("cannot write to standard output")?;
        see(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(())
}

fn set_current(child: Option<Pid>) {
    *CURRENT.lock().expect("nothing panics while it holds this lock") = child;
}

/// Asks the current child's group to stop; from the third time on, stops it.
fn stop_current() {
    let signal = if ASKED_TO_STOP.load(Ordering::SeqCst) < 3 { Signal::TERM } else { Signal::KILL };
    if let Some(group) = *CURRENT.lock().expect("nothing panics while it holds this lock") {
        // It may have ended by itself in the meantime, and that is as good.
        let _ = kill_process_group(group, signal);
    }
}
