//! The ledger as its operator meets it: watched, tampered with, restored from an older copy, and under another policy.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mica_collector::{CollectError, Outcome};
use mica_dap::collection::{CollectionJobReq, Query};
use mica_dap::media::Media;
use mica_dap::problem::ProblemDocument;
use mica_dap::time::Interval;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_dp::EntryKind;
use mica_tests::{Parties, Plan, Wire, eventually, mica, now};
use serde_json::Value;
use tokio::task::JoinSet;

/// What a command printed, and how it ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn budget(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(mica());
    let output = command.arg("budget").args(arguments).current_dir(folder).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let ran = budget(folder, &[arguments, &["-o", "json"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    serde_json::from_str(&ran.out).expect("one JSON document")
}

/// A pair whose budget lasts for ten releases, with two reports in each of so many hours before this one.
async fn parties(hours: u64) -> (Parties, Vec<Interval>) {
    let parties = Parties::start(&Plan::with_noise(VdafConfig::Count, "1/10")).await;
    let builder = parties.task.builder().await;
    let mut batches = Vec::new();
    for hour in 1..=hours {
        let time = now() - hour * 3600;
        let reports =
            [true, false].map(|value| builder.report(&Measurement::Bool(value), time).expect("a report"));
        parties.upload(&reports).await;
        batches.push(Interval::unit(reports[0].metadata.time).expect("an hour"));
    }
    (parties, batches)
}

async fn collect(parties: &Parties, batch: Interval) -> Result<Outcome, CollectError> {
    let collector = parties.task.collector();
    let collection = collector.collect(batch).await?;
    collector.wait(&collection, || ()).await
}

async fn refused(parties: &Parties, batch: Interval) -> Box<ProblemDocument> {
    match collect(parties, batch).await {
        Err(CollectError::Refused(problem)) => problem,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was released"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_every_charge_and_whatever_was_tampered_with() {
    let (parties, batches) = parties(11).await;
    for batch in &batches[..10] {
        collect(&parties, *batch).await.expect("the budget lasts for ten");
    }
    let problem = refused(&parties, batches[10]).await;
    assert_eq!(problem.type_, "urn:x-mica:problem:budget-exhausted");
    let detail = problem.detail.expect("a sentence");
    assert!(
        detail.contains("of the leader has 0 of 1 left for all time (1 spent), and this release needs 0.1"),
        "{detail}"
    );
    assert!(detail.contains("Nothing fits. The budget does not renew."), "{detail}");
    assert!(detail.contains("`mica budget show`"), "{detail}");

    for role in ["leader", "helper"] {
        let config = format!("{role}.toml");
        let of = |verb| [verb, "--config", config.as_str()];
        let folder = parties.folder();
        let shown = json(folder, &of("show"));
        let shown = &shown["budgets"][0];
        assert_eq!(
            (&shown["now"]["spent"], &shown["remaining"]),
            (&"1".into(), &"0".into()),
            "{role}: {shown}"
        );
        assert_eq!((&shown["releases"], &shown["epsilon"]), (&10.into(), &1.0.into()), "{role}");
        let history =
            json(folder, &[&of("history")[..], &["--limit", "3", "--budget", "demo-lifetime"]].concat());
        let entries = history["entries"].as_array().expect("a list");
        let kinds: Vec<_> = entries.iter().map(|entry| (&entry["entry"], &entry["kind"])).collect();
        let (commit, charge) = (Value::from("commit"), Value::from("charge"));
        assert_eq!(kinds, [(&20.into(), &commit), (&19.into(), &charge), (&18.into(), &commit)], "{role}");
        let nobody = ["--task", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"];
        let nothing = json(folder, &[&of("history")[..], &nobody].concat());
        assert_eq!(nothing["entries"], Value::Array(Vec::new()));
        let verified = json(folder, &of("verify"));
        assert_eq!(
            (&verified["charges"], &verified["commits"]),
            (&10.into(), &10.into()),
            "{role}: {verified}"
        );
    }
    tamper(&parties).await;
}

/// What a budget has spent in its part `warn_at` of the policy, marked wherever an operator looks.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_warned_from_the_part_of_a_budget_that_the_policy_names() {
    let (parties, batches) = parties(2).await;
    let policy = parties.folder().join("policy.toml");
    let text = std::fs::read_to_string(&policy).expect("the policy of both");
    std::fs::write(&policy, text.replacen("on_exhausted", "warn_at = 0.2\non_exhausted", 1))
        .expect("a policy");
    let shown = || {
        let table = budget(parties.folder(), &["show", "--config", "leader.toml"]).out;
        let line = table.lines().find(|line| line.starts_with("demo-lifetime")).expect("its line").to_owned();
        let mut doctor = Command::new(mica());
        doctor.args(["doctor", "--config", "leader.toml"]).current_dir(parties.folder());
        let told = doctor.output().expect("it runs");
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let told = told.lines().find(|line| line.contains("  budgets ")).expect("its line").to_owned();
        let json =
            json(parties.folder(), &["show", "--config", "leader.toml"])["budgets"][0]["warns"].clone();
        (line, told, json)
    };
    collect(&parties, batches[0]).await.expect("a tenth");
    let (line, told, json) = shown();
    assert!(!line.ends_with('!') && json == false, "{line}");
    assert!(told.starts_with("ok  "), "{told}");
    collect(&parties, batches[1]).await.expect("another tenth");
    let (line, told, json) = shown();
    assert!(line.ends_with(" !") && json == true, "{line}");
    assert!(
        told.starts_with("warn  budgets   0.2 of 1 is spent of budget \"demo-lifetime\"; it does not renew;")
            && told.ends_with("`mica budget show` tells more"),
        "{told}"
    );
}

/// A release that nothing in the ledger paid for.
const UNPAID: &str = "INSERT INTO releases (task, batch_key, request, state, report_count, checksum, interval_start, \
    interval_duration, sealed_share, policy_id, policy_version, policy_sha256, mechanism, created_at) \
    SELECT task, x'00', request, state, report_count, checksum, interval_start, interval_duration, sealed_share, \
    policy_id, policy_version, policy_sha256, mechanism, created_at FROM releases WHERE id = 1";

/// Each change is found, named, and undone.
async fn tamper(parties: &Parties) {
    let changes = [
        (
            "UPDATE ledger SET units = units - 1 WHERE seq = 3",
            "UPDATE ledger SET units = units + 1 WHERE seq = 3",
            "ledger entry 3: its content was changed",
        ),
        (
            "UPDATE budget_uses SET releases = releases - 1",
            "UPDATE budget_uses SET releases = releases + 1",
            "what is kept as spent of budget \"demo-lifetime\"",
        ),
        (
            "UPDATE policies SET version = 2",
            "UPDATE policies SET version = 1",
            "policy demo v2 is kept with a text",
        ),
        (UNPAID, "DELETE FROM releases WHERE batch_key = x'00'", ", committed, has no charge in the ledger"),
        (
            "UPDATE releases SET state = 'reserved' WHERE id = 1",
            "UPDATE releases SET state = 'committed' WHERE id = 1",
            ", reserved, has a charge that is final in the ledger",
        ),
        (
            "UPDATE releases SET mechanism = 'discrete_laplace(scale=1)' WHERE id = 1",
            "UPDATE releases SET mechanism = (SELECT mechanism FROM releases WHERE id = 2) WHERE id = 1",
            "its mechanism is not that of its release",
        ),
        (
            "UPDATE releases SET mechanism = 'none' WHERE id = 1",
            "UPDATE releases SET mechanism = (SELECT mechanism FROM releases WHERE id = 2) WHERE id = 1",
            ", committed, is without noise: the task is bound to the release statement ",
        ),
        ("DELETE FROM ledger WHERE seq = 20", "", "the ledger ends at entry 19 and had come to entry 20"),
    ];
    let mut database = parties.leader_database().await;
    for (change, undo, found) in changes {
        database.execute(change).await;
        let ran = budget(parties.folder(), &["verify", "--config", "leader.toml"]);
        assert_eq!(ran.code, Some(4), "{change}: {}", ran.out);
        assert!(ran.err.contains(found), "{change}: {}", ran.err);
        if !undo.is_empty() {
            database.execute(undo).await;
            let ran = budget(parties.folder(), &["verify", "--config", "leader.toml"]);
            assert_eq!(ran.code, Some(0), "{undo}: {}", ran.err);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for file in ["leader.db", "leader.db-wal"] {
        let (from, to) = (from.join(file), to.join(file));
        if from.exists() {
            std::fs::copy(from, to).expect("a folder of our own");
        } else if to.exists() {
            std::fs::remove_file(to).expect("a folder of our own");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_on_an_older_copy_of_its_database_takes_reports_and_releases_nothing() {
    let (mut parties, batches) = parties(3).await;
    let backup = tempfile::tempdir().expect("a place for temporary files");
    collect(&parties, batches[0]).await.expect("the budget lasts");
    parties.kill_leader();
    copy(parties.folder(), backup.path());
    parties.start_leader().await;
    collect(&parties, batches[1]).await.expect("the budget lasts");
    parties.kill_leader();
    copy(backup.path(), parties.folder());
    let index = parties.folder().join("leader.db-shm");
    if index.exists() {
        std::fs::remove_file(index).expect("a folder of our own");
    }
    parties.start_leader().await;
    for batch in &batches[1..] {
        let problem = refused(&parties, *batch).await;
        assert_eq!(problem.type_, "urn:x-mica:problem:ledger-set-back");
    }
    let builder = parties.task.builder().await;
    parties.upload(&parties.reports(&builder, &[Measurement::Bool(true)])).await;
    let said = "the ledger ends at entry 2 and had come to entry ";
    assert!(parties.log_text("leader").contains(said), "{}", parties.log_text("leader"));
    let verified = budget(parties.folder(), &["verify", "--config", "leader.toml"]);
    assert_eq!((verified.code, verified.err.contains(said)), (Some(4), true), "{}", verified.err);
    let by = ["--by", "alice", "--why", "the disk failed"];
    let accept = [&["accept-restored", "--config", "leader.toml"], &by[..], &["--entries"]].concat();
    let other = budget(parties.folder(), &[&accept[..], &["4"]].concat());
    assert_eq!(other.code, Some(4), "{}", other.out);
    refused(&parties, batches[2]).await;
    let accepted = budget(parties.folder(), &[&accept[..], &["2"]].concat());
    assert_eq!(accepted.code, Some(0), "{}", accepted.err);
    collect(&parties, batches[2]).await.expect("its operator took it on");
    let verified = budget(parties.folder(), &["verify", "--config", "leader.toml"]);
    assert_eq!(verified.code, Some(0), "{}", verified.err);
    assert!(verified.out.contains("1 accepted restores are among them"), "{}", verified.out);
    let history = budget(parties.folder(), &["history", "--config", "leader.toml", "-o", "csv"]);
    let noted = "alice: the disk failed (the ledger had come to entry";
    let entry = history.out.lines().find(|line| line.contains(noted)).expect("an auditor sees it");
    assert!(entry.starts_with("3,") && entry.contains(",accepted_restore,,"), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_file_that_changed_is_taken_up_at_a_hangup_or_refused_with_its_line() {
    let (parties, batches) = parties(3).await;
    collect(&parties, batches[0]).await.expect("the budget lasts");
    let file = parties.folder().join("policy.toml");
    let first = std::fs::read_to_string(&file).expect("it was written");
    let patience = Duration::from_secs(15);
    let told = async |words: &str| {
        parties.signal("leader", "HUP");
        let log = async || parties.log_text("leader").contains(words).then_some(());
        eventually("the leader to look at its policy", patience, log).await;
    };
    std::fs::write(&file, format!("{first}\n# another text\n")).expect("a folder of our own");
    told("E050: policy demo v1 is already loaded with another sha256").await;
    collect(&parties, batches[1]).await.expect("the old policy is in force");
    let lowered =
        first.replace("version = 1 ", "version = 2 ").replace("\nepsilon = \"1\"", "\nepsilon = \"1/5\"");
    assert_ne!(lowered, first);
    std::fs::write(&file, lowered).expect("a folder of our own");
    told("the policy was read again and is in force").await;
    let detail = refused(&parties, batches[2]).await.detail.expect("a sentence");
    assert!(detail.contains("0 of 0.2 left"), "{detail}");
}

/// A release ends under the policy that it began with, however long the helper takes; the next one begins under the new.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_at_a_hangup_while_a_collection_is_open_leaves_that_release_as_it_began() {
    let (mut parties, batches) = parties(2).await;
    let patience = Duration::from_mins(1);
    let aggregated = async || (parties.leader_database().await.tally("aggregated").await == 4).then_some(());
    eventually("all reports to be counted", patience, aggregated).await;
    parties.kill_helper();
    let collector = parties.task.collector();
    let open = collector.collect(batches[0]).await.expect("the leader takes it");
    let reserved = async || {
        let entries = "SELECT COUNT(*) FROM ledger";
        (parties.leader_database().await.number(entries).await == 1).then_some(())
    };
    eventually("the leader to charge", patience, reserved).await;
    let file = parties.folder().join("policy.toml");
    let first = std::fs::read_to_string(&file).expect("it was written");
    let second =
        first.replace("version = 1 ", "version = 2 ").replace("\nepsilon = \"1\"", "\nepsilon = \"1/2\"");
    std::fs::write(&file, second).expect("a folder of our own");
    parties.signal("leader", "HUP");
    let taken = async || {
        parties.log_text("leader").contains("the policy was read again and is in force").then_some(())
    };
    eventually("the leader to take the policy", patience, taken).await;
    parties.start_helper().await;
    assert_eq!(collector.wait(&open, || ()).await.expect("it is released").report_count, 2);
    collect(&parties, batches[1]).await.expect("half of the budget is enough");
    let ledger = parties.leader_database().await.verified_ledger().await;
    let entries: Vec<_> =
        ledger.iter().map(|entry| (entry.kind, entry.policy.version, entry.limit)).collect();
    let (full, half) = (1_000_000_000_000, 500_000_000_000);
    let (charge, commit) = (EntryKind::Charge, EntryKind::Commit);
    assert_eq!(entries, [(charge, 1, full), (commit, 1, full), (charge, 2, half), (commit, 2, half)]);
    let verified = budget(parties.folder(), &["verify", "--config", "leader.toml"]);
    assert_eq!(verified.code, Some(0), "{}", verified.err);
}

/// The same request fifty times at once, after a power cut and after a DELETE: one job, one draw, one charge on each side.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_who_ask_for_one_batch_at_once_get_one_answer_and_cost_one_charge() {
    let (mut parties, batches) = parties(1).await;
    let request = CollectionJobReq::new(Query::time_interval(batches[0]), Vec::new());
    let (url, token) = (parties.task.collections_url(), parties.task.collector_to_leader.clone());
    let fifty = async || {
        let mut asked = JoinSet::new();
        for _ in 0..50 {
            let (url, token, body) = (url.clone(), token.clone(), request.bytes().to_vec());
            asked.spawn(async move {
                Wire::default().post_with_token(&url, Media::CollectionJobReq, &token, body).await
            });
        }
        asked.join_all().await
    };
    assert!(fifty().await.iter().all(|reply| reply.status == 200));
    collect(&parties, batches[0]).await.expect("the budget lasts");
    let answers = fifty().await;
    assert!(!answers[0].body.is_empty());
    assert!(answers.iter().all(|reply| reply.body == answers[0].body));
    parties.kill_leader();
    parties.start_leader().await;
    assert!(fifty().await.iter().all(|reply| reply.body == answers[0].body));
    let collector = parties.task.collector();
    let collection = collector.collect(batches[0]).await.expect("the same job");
    collector.delete(&collection).await.expect("it is the collector's own");
    assert!(fifty().await.iter().all(|reply| reply.problem() == "batchOverlap"));
    for database in [parties.leader_database().await, parties.helper_database().await] {
        assert_eq!(database.verified_ledger().await.len(), 2, "a charge and its commit");
    }
}
