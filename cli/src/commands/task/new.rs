//! `mica task new`: three files, one for each party that holds a secret of the task.

use std::path::{Path, PathBuf};

use http::Uri;
use mica_collector::CollectorTask;
use mica_dap::Draft;
use mica_dap::time::{Duration, Interval, Time};
use mica_dp::{Budget, Decision, Policy, TaskFacts, parse_task_info};
use mica_service::config::parse_duration;
use mica_service::tls::{PeerTls, Peers};
use serde_json::json;
use zeroize::Zeroizing;

use super::vdaf::VdafArgs;
use crate::args::{Format, Global, Mode};
use crate::exit::Failure;
use crate::provision::{Provisioned, TaskSpec, advertise, provision};
use crate::{files, print};

/// Make a task.
#[derive(clap::Args)]
#[command(
    after_help = "Writes leader.task.toml, helper.task.toml and collector.task.json, readable by their owner only. Give each
to the party it is for, and keep none of the others."
)]
pub(crate) struct Args {
    /// What people call the task; the policy matches it
    #[arg(long, value_name = "LABEL")]
    label: String,
    /// The leader's URL
    #[arg(long, value_name = "URL")]
    leader: String,
    /// The helper's URL
    #[arg(long, value_name = "URL")]
    helper: String,
    /// What is measured
    #[command(flatten)]
    vdaf: VdafArgs,
    /// The policy file that sets the noise and the budget
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The fewest reports in a batch; the policy must say the same
    #[arg(long, value_name = "N")]
    min_batch_size: u64,
    /// The length of one unit of time, such as 1h: the smallest batch, and all that a report says of its time
    #[arg(long, value_name = "TIME")]
    time_precision: String,
    /// How reports are put into batches
    #[arg(long, value_enum, default_value_t = Mode::TimeInterval)]
    batch_mode: Mode,
    /// With batches of the leader: how many reports it puts in a batch; the fewest when left out
    #[arg(long, value_name = "N")]
    batch_target_size: Option<u64>,
    /// The draft of DAP that the task speaks
    #[arg(long, value_name = "18|19", default_value = "18")]
    draft: Draft,
    /// Take reports only in this time: START:DURATION in seconds, both whole units of the time precision
    #[arg(long, value_name = "START:DURATION")]
    task_interval: Option<String>,
    /// Take URLs of plain HTTP on other machines, for a task whose parties are all behind proxies that speak TLS
    #[arg(long, env = "MICA_INSECURE_PEERS")]
    insecure_peers: bool,
    /// Make a task that comes to the aggregators with requests: they are told nothing beforehand, and FILE is a task file of
    /// the collector whose key and token they have agreed on; only the collector's file is written
    #[arg(long, value_name = "FILE")]
    taskprov: Option<PathBuf>,
    /// The folder for the files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Does what the command line says.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    args.check_urls()?;
    let policy = files::policy(&args.policy)?;
    let spec = args.spec()?;
    warn_of_straddling(&spec, &policy);
    let Some(agreed) = &args.taskprov else {
        let Provisioned { leader, helper, collector, .. } = provision(&spec, &policy)?;
        let contents = [leader.to_toml(), helper.to_toml(), collector.to_json()];
        let files: Vec<_> = FILES.into_iter().zip(contents).collect();
        write(&args.out, &files)?;
        return say(&args.out, &files, &collector, global.output);
    };
    let agreed = CollectorTask::from_json(&files::read(agreed, "collector's task file")?)?;
    let collector = advertise(&spec, &policy, agreed)?;
    let files = [(COLLECTOR, collector.to_json())];
    write(&args.out, &files)?;
    say(&args.out, &files, &collector, global.output)
}

/// Says when almost every batch would count in two windows of a budget, because the borders of its units are not those of
/// the windows. What is wrong otherwise is said elsewhere.
fn warn_of_straddling(spec: &TaskSpec, policy: &Policy) {
    let facts = TaskFacts::new(&spec.label, &spec.vdaf, spec.min_batch_size);
    let Ok(Decision::Release(plan)) = policy.release_for(&facts) else { return };
    let seconds = spec.time_precision_seconds;
    let straddled: Vec<&str> =
        plan.budgets().iter().filter(|it| it.is_straddled_by(seconds)).map(Budget::id).collect();
    if !straddled.is_empty() {
        print::aside(&format!(
            "warning: units of {seconds} s lie across the borders of the windows of budget {}, and a batch of such a unit \
             is charged in both windows; choose a --time-precision that divides them, such as 1h",
            straddled.join(", ")
        ));
    }
}

impl Args {
    /// The URLs are bound into every report: what no server would ask is told now, and not when it is too late.
    fn check_urls(&self) -> Result<(), Failure> {
        let peers = Peers::load(&PeerTls::default(), self.insecure_peers).map_err(Failure::invalid)?;
        for (flag, url) in [("--leader", &self.leader), ("--helper", &self.helper)] {
            let Ok(uri) = url.parse::<Uri>() else { continue };
            peers.allow(&uri).map_err(|why| Failure::invalid(format!("{flag}: {why}")))?;
        }
        Ok(())
    }

    fn spec(&self) -> Result<TaskSpec, Failure> {
        let time_precision_seconds = seconds(&self.time_precision)?;
        let task_interval =
            self.task_interval.as_deref().map(|text| interval(text, time_precision_seconds)).transpose()?;
        Ok(TaskSpec {
            label: self.label.clone(),
            leader_url: self.leader.clone(),
            helper_url: self.helper.clone(),
            draft: self.draft,
            vdaf: self.vdaf.config()?,
            time_precision_seconds,
            min_batch_size: self.min_batch_size,
            batch_mode: self.batch_mode.into(),
            batch_target_size: self.batch_target_size,
            task_interval,
            prefixes: self.vdaf.prefixes(),
        })
    }
}

/// `1h`, or a bare number of seconds.
fn seconds(text: &str) -> Result<u64, Failure> {
    match text.parse() {
        Ok(seconds) => Ok(seconds),
        Err(_) => parse_duration(text).map(|duration| duration.as_secs()).map_err(Failure::usage),
    }
}

fn interval(text: &str, precision: u64) -> Result<Interval, Failure> {
    let units = |text: &str| {
        text.parse::<u64>()
            .ok()?
            .checked_div(precision)
            .filter(|units| units * precision == text.parse().unwrap_or(0))
    };
    let parsed = text
        .split_once(':')
        .and_then(|(start, duration)| Interval::new(Time(units(start)?), Duration(units(duration)?)).ok());
    parsed.ok_or_else(|| {
        Failure::usage(format!(
            "\"{text}\" is no task interval; write START:DURATION in seconds, both multiples of {precision}"
        ))
    })
}

fn write(folder: &Path, files: &[(&str, Zeroizing<String>)]) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::invalid(format!("cannot make the folder {}: {error}", folder.display())))?;
    // All or nothing: a task of which one party has an old file would never work.
    if let Some(there) = files.iter().map(|(file, _)| folder.join(file)).find(|path| path.exists()) {
        return Err(Failure::invalid(format!(
            "{} exists already; choose another folder or remove it",
            there.display()
        )));
    }
    files.iter().try_for_each(|(file, content)| files::create_private(&folder.join(file), content))
}

/// Says what was made; none of it is a secret.
fn say(
    folder: &Path,
    files: &[(&str, Zeroizing<String>)],
    task: &CollectorTask,
    format: Format,
) -> Result<(), Failure> {
    let id = task.task_id.to_string();
    let statement = parse_task_info(task.configuration.task_info()).map(|(_, hash)| hex::encode(hash));
    let files: Vec<String> = files.iter().map(|(file, _)| folder.join(file).display().to_string()).collect();
    match format {
        Format::Json => print::json(&json!({ "task_id": id, "statement_sha256": statement, "files": files })),
        Format::Csv => print::csv(&["task_id"], &[vec![id]]),
        Format::Table => {
            let noise = match task.mechanism.as_ref() {
                Some(mechanism) => mechanism.describe(),
                None => {
                    "NONE: by written exception the totals of this task are released as they are".to_owned()
                }
            };
            print::lines(&format!("task   {id}\nnoise  {noise}\nfiles  {}", files.join("\n       ")))
        }
    }
}

/// Leader, helper, collector.
const FILES: [&str; 3] = ["leader.task.toml", "helper.task.toml", COLLECTOR];
const COLLECTOR: &str = "collector.task.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_interval_is_whole_units() {
        let taken = interval("7200:3600", 3600).expect("whole hours");
        assert_eq!((taken.start(), taken.duration()), (Time(2), Duration(1)));
        for wrong in ["", "7200", "7200:", "7200:0", "7201:3600", "7200:10", "a:b"] {
            assert!(interval(wrong, 3600).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_is_seconds_or_has_its_unit() {
        assert_eq!(seconds("3600").ok(), Some(3600));
        assert_eq!(seconds("1h").ok(), Some(3600));
        assert!(seconds("soon").is_err());
    }
}
