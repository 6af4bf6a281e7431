//! What the operating system knows of a process: CPU time, memory, bytes written.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// CPU time, its own and that of its children that have ended, in user and kernel mode.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    Ok(read_stat(pid)?.with_children())
}

/// CPU time of a process that starts others, with all of them, those that live and those that have ended.
pub(crate) fn cpu_time_of_family(parent: u32) -> Result<Duration> {
    let mut total = cpu_time(parent)?;
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let name = entry.context("cannot read /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended since the folder was read; then its parent has its time.
        let Ok(stat) = read_stat(pid) else { continue };
        if stat.parent == parent {
            total += stat.with_children();
        }
    }
    Ok(total)
}

/// The parent of a process, and the name of its program.
pub(crate) fn parent_and_name(pid: u32) -> Result<(u32, String)> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).context("cannot read /proc")?;
    Ok((read_stat(pid)?.parent, name.trim().to_owned()))
}

/// Memory that is resident now and that was at most, in bytes.
pub(crate) fn memory(pid: u32) -> Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("cannot read /proc")?;
    let kibibytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let read =
        |key| kibibytes(key).with_context(|| format!("/proc does not tell {key}")).map(|kib| kib * 1024);
    Ok((read("VmRSS:")?, read("VmHWM:")?))
}

/// Bytes that the process caused to be written to storage.
pub(crate) fn written(pid: u32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).context("cannot read /proc")?;
    let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok());
    bytes.context("/proc does not tell write_bytes")
}

/// Lets this process, and those it starts, have as many files open as they may have at most.
pub(crate) fn allow_many_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot open many files")
}

/// The load averages over one, five and fifteen minutes.
pub(crate) fn load_average() -> Result<[f64; 3]> {
    let text = fs::read_to_string("/proc/loadavg").context("cannot read /proc")?;
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    let mut next = || numbers.next().context("/proc/loadavg holds something else");
    Ok([next()?, next()?, next()?])
}

/// The name that the processor gives itself.
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

struct Stat {
    parent: u32,
    ticks: u64,
    ticks_of_children: u64,
}

impl Stat {
    fn with_children(&self) -> Duration {
        let second = rustix::param::clock_ticks_per_second();
        let ticks = self.ticks + self.ticks_of_children;
        Duration::from_nanos(ticks.saturating_mul(1_000_000_000) / second)
    }
}

fn read_stat(pid: u32) -> Result<Stat> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    parse_stat(&text).with_context(|| format!("/proc/{pid}/stat holds something else"))
}

/// The name, in parentheses, may hold blanks and parentheses itself; after it come numbers (`man 5 proc_pid_stat`).
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        ticks_of_children: number(13)? + number(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_hold_anything() {
        let stat = parse_stat("42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 50 6 700 8 20 0 1 0 9").unwrap();
        assert_eq!((stat.parent, stat.ticks, stat.ticks_of_children), (7, 56, 708));
        assert!(parse_stat("42 (cut off) S 7").is_none());
    }

    #[test]
    fn this_process_has_a_parent_memory_and_cpu_time() {
        let pid = std::process::id();
        let before = cpu_time(pid).unwrap();
        let started = std::time::Instant::now();
        while cpu_time(pid).unwrap() == before {
            assert!(started.elapsed() < Duration::from_secs(30), "a busy process takes no time");
        }
        let (resident, peak) = memory(pid).unwrap();
        assert!(resident > 0 && peak >= resident);
        assert!(parent_and_name(pid).unwrap().0 > 0);
    }
}
