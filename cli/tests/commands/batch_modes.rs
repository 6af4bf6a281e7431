//! Tasks whose batches the leader selects, on the command line.

use crate::world::{Folder, Ran, free_port};

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
