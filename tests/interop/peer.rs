//! mica in the place of a party of another make: what `tests/interop.rs` runs when it is told of no other, so that what
//! it demands of peers is shown by one that is always there. `docs/interop.md` has the command line of every peer.

use std::env;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use mica_aggregator::Role;
use mica_collector::Outcome;
use mica_dap::codec::Encode as _;
use mica_dap::media::Media;
use mica_dap::report::UploadRequest;
use mica_dap::time::Interval;
use mica_dp::Policy;
use mica_tests::peer::read;
use mica_tests::{Task, Wire, mica, now};
use serde_json::{Value, json};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [role, sheet, rest @ ..] = arguments.as_slice() else {
        panic!("usage: interop-peer client|collector|helper|leader SHEET ...");
    };
    let sheet: Value = serde_json::from_slice(&fs::read(sheet).expect("the sheet is there")).expect("JSON");
    let task = Task::of_dev(&sheet);
    match (role.as_str(), rest) {
        ("client", measurements) => upload(&task, measurements).await,
        ("collector", [start, end]) => collect(&task, seconds(start), seconds(end)).await,
        ("helper", [port]) => serve(&task, Role::Helper, port),
        ("leader", [port]) => serve(&task, Role::Leader, port),
        _ => panic!("not what a {role} is told: {rest:?}"),
    }
}

async fn upload(task: &Task, measurements: &[String]) {
    let builder = task.builder().await;
    let report = |text: &String| builder.report(&read(task.vdaf(), text), now()).expect("a report");
    let body = UploadRequest { reports: measurements.iter().map(report).collect() }.encoded();
    let reply = Wire::default().post(&task.reports_url(), Media::UploadReq, body).await;
    assert_eq!((reply.status, reply.body.len()), (200, 0), "{reply:?}");
}

async fn collect(task: &Task, start: u64, end: u64) {
    let precision = task.configuration.time_precision();
    let (start, end) = (precision.time_of(start), precision.time_of(end));
    let interval = Interval::between(start, end).expect("it ends after it starts");
    let collector = task.collector();
    let collection = collector.collect(interval).await.expect("the leader takes the request");
    let Outcome { report_count, values, .. } =
        collector.wait(&collection, || ()).await.expect("the batch is released");
    let results: Vec<i64> =
        values.iter().map(|value| i64::try_from(*value).expect("a small total")).collect();
    println!("{}", json!({ "report_count": report_count, "results": results }));
}

/// Becomes `mica helper` or `mica leader`, in the folder it is started in.
fn serve(task: &Task, role: Role, port: &str) {
    let config = format!(
        "role = \"{role}\"\nlisten = \"127.0.0.1:{port}\"\ndatabase = \"sqlite:peer.db\"\n\
         policy = \"peer.policy.toml\"\npolicy_allow = [\"W045\"]\ntasks = [\"peer.task.toml\"]\n"
    );
    let policy = Policy::for_release_without_dp("a test compares with plain sums", "2099-12-31");
    let files = [
        ("peer.toml", config),
        ("peer.policy.toml", policy),
        ("peer.task.toml", task.file(role).to_toml().to_string()),
    ];
    for (name, text) in files {
        // For nobody else to read: task files hold secrets.
        let options = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(name);
        options.and_then(|mut file| file.write_all(text.as_bytes())).expect("the folder can be written");
    }
    let error = Command::new(mica()).args([&role.to_string(), "--config", "peer.toml"]).exec();
    panic!("mica cannot be started: {error}");
}

fn seconds(text: &str) -> u64 {
    text.parse().expect("seconds since the Unix epoch")
}
