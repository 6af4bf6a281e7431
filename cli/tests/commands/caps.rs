//! An app that counts what it sends: nothing beyond the caps of the release statement leaves it.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::collecting::gateway_keys;
use crate::world::{Folder, POLICY};

/// How often a relay was asked.
#[derive(Clone, Default)]
struct Asked(Arc<AtomicUsize>);

impl Asked {
    fn times(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A task about clients that send one report ever, its bundle, its statement, and a relay that hangs up.
fn with_caps() -> (Folder, Asked) {
    let relay = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let folder = Folder::new();
    let caps =
        "contribution = { max_reports_per_batch = 1, max_reports_per_window = 1, enforced_by = \"client\" }";
    let policy = POLICY
        .replace("privacy_unit = \"report\"", "privacy_unit = \"client\"")
        .replace("mechanism =", &format!("{caps}\nmechanism ="));
    folder.write("policy.toml", &policy);
    let made =
        folder.new_task("task", &["--leader", "http://127.0.0.1:1/", "--helper", "http://127.0.0.1:2/"]);
    assert_eq!(made.code, 0, "{}", made.err);
    let url = format!("http://127.0.0.1:{}/", relay.local_addr().expect("it is bound").port());
    let ran = folder.mica(&["task", "export", "task", "--relay", &url, "--ohttp-keys", &gateway_keys()]);
    folder.write("app.mica", &ran.out);
    let collector: Value = serde_json::from_str(&folder.read("task/collector.task.json")).expect("JSON");
    folder.write("statement.json", &collector["guarantee"]["statement"].to_string());
    let asked = Asked::default();
    let counted = asked.clone();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = relay.accept() {
            counted.0.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (folder, asked)
}

const REPORT: [&str; 7] =
    ["report", "app.mica", "true", "--counter", "counter.json", "--statement", "statement.json"];

#[test]
fn what_is_beyond_the_caps_is_refused_before_anything_is_sent() {
    let (folder, asked) = with_caps();
    // Killed or lost on its way: it is counted, since nobody can tell whether it arrived.
    assert_eq!(folder.mica(&REPORT[..]).code, 6);
    let first = asked.times();
    assert!(first > 0, "the first was sent");
    let again = folder.mica(&REPORT[..]);
    assert!(again.one_line(4).contains("the cap is reached: 1 of 1 reports"), "{}", again.err);
    assert_eq!(asked.times(), first, "nobody was asked");
}

#[test]
fn of_processes_that_report_at_once_one_is_let_through() {
    let (folder, _asked) = with_caps();
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| folder.mica(&REPORT[..]).code)).collect();
        runs.into_iter().map(|run| run.join().expect("it ends")).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 6).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 4).count(), 3, "{codes:?}");
}

#[test]
fn caps_of_another_statement_and_a_broken_counter_send_nothing() {
    let (folder, asked) = with_caps();
    let statement = folder.read("statement.json");
    folder.write(
        "statement.json",
        &statement.replace("\"max_reports_per_window\":1", "\"max_reports_per_window\":9"),
    );
    assert!(
        folder.mica(&REPORT[..]).one_line(3).contains("not the release statement that the task is bound to")
    );
    folder.write("statement.json", &statement);
    folder.write("counter.json", "{");
    assert!(folder.mica(&REPORT[..]).one_line(3).contains("is not a counter of reports"));
    assert_eq!(asked.times(), 0, "nobody was asked");
}
