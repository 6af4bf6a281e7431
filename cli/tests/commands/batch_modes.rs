//! Tasks whose batches the leader selects, on the command line.

use crate::world::{Folder, POLICY, Ran, free_port};

/// Makes a task with these flags beside those that every task needs.
fn made(folder: &Folder, flags: &[&str]) -> Ran {
    let urls = ["--leader", "http://127.0.0.1:1/", "--helper", "http://127.0.0.1:2/"];
    folder.new_task("by-leader", &[&urls[..], flags].concat())
}

#[test]
fn a_target_size_is_told_to_the_leader_alone() {
    let folder = Folder::with_task(1, 2);
    let ran = made(&folder, &["--batch-mode", "leader_selected", "--batch-target-size", "7"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(folder.read("by-leader/leader.task.toml").contains("\nbatch_target_size = 7\n"));
    assert!(!folder.read("by-leader/helper.task.toml").contains("batch_target_size"));
    let shown = folder.mica(&["task", "show", "by-leader/leader.task.toml"]);
    assert!(shown.out.contains("leader_selected"), "{} {}", shown.out, shown.err);
}

/// No server takes such a task, so none is made.
#[test]
fn a_task_whose_clients_would_have_to_know_the_batches_is_not_made() {
    let folder = Folder::new();
    let caps = "contribution = { max_reports_per_batch = 1, batch_window = \"1d\", max_reports_per_window = 30, \
                enforced_by = \"client\" }";
    let policy = POLICY
        .replace("privacy_unit = \"report\"", "privacy_unit = \"client\"")
        .replace("mechanism =", &format!("{caps}\nmechanism ="));
    folder.write("policy.toml", &policy);
    let ran = made(&folder, &["--batch-mode", "leader_selected"]);
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("E035") && ran.err.contains("as in all (30 and not 1)"), "{}", ran.err);
    assert!(!folder.path("by-leader").exists(), "nothing is written");
    let ran = made(&folder, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn a_target_size_that_makes_no_sense_is_refused() {
    let folder = Folder::with_task(1, 2);
    let ran = made(&folder, &["--batch-target-size", "7"]);
    assert!(ran.one_line(2).contains("is for --batch-mode leader_selected"), "{}", ran.err);
    let ran = made(&folder, &["--batch-mode", "leader_selected", "--batch-target-size", "2"]);
    assert!(ran.one_line(2).contains("at least the minimum batch size, 3"), "{}", ran.err);
}

#[test]
fn a_leader_with_a_target_below_the_minimum_does_not_start() {
    let (leader, helper) = (free_port(), free_port());
    let folder = Folder::with_task(leader, helper);
    let ran = made(&folder, &["--batch-mode", "leader_selected", "--batch-target-size", "7"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let file =
        folder.read("by-leader/leader.task.toml").replace("batch_target_size = 7", "batch_target_size = 2");
    folder.write("task/leader.task.toml", &file);
    let ran = folder.mica(&["config", "check", "leader.toml"]);
    assert!(ran.one_line(3).contains("below the task's minimum batch size"), "{}", ran.err);
}
