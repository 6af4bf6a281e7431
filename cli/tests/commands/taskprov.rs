//! `mica task new --taskprov`: a task that no aggregator is told of beforehand.

use serde_json::Value;

use crate::collecting::gateway_keys;
use crate::world::Folder;

const URLS: [&str; 4] = ["--leader", "http://127.0.0.1:8481/", "--helper", "http://127.0.0.1:8482/"];
const INTERVAL: [&str; 2] = ["--task-interval", "3600:36000"];

fn collector(folder: &Folder, name: &str) -> Value {
    serde_json::from_str(&folder.read(&format!("{name}/collector.task.json"))).expect("it is JSON")
}

#[test]
fn a_task_that_comes_with_requests_follows_from_its_configuration_and_the_agreed_collector() {
    let folder = Folder::with_task(8481, 8482);
    let agreed = ["--taskprov", "task/collector.task.json"];
    for name in ["first", "again"] {
        let ran = folder.new_task(name, &[&URLS[..], &INTERVAL, &agreed].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        for other in ["leader.task.toml", "helper.task.toml"] {
            assert!(!folder.path(&format!("{name}/{other}")).exists(), "{other}");
        }
    }
    let (first, before) = (collector(&folder, "first"), collector(&folder, "task"));
    assert_eq!(first, collector(&folder, "again"), "the same parameters are the same task");
    let differ: Vec<&String> = before
        .as_object()
        .expect("an object")
        .iter()
        .filter_map(|(name, value)| (first[name] != *value).then_some(name))
        .collect();
    assert_eq!(differ, ["task_config", "task_id"], "key and token are those that were agreed on");
    let export =
        ["task", "export", "first", "--relay", "http://127.0.0.1:3/", "--ohttp-keys", &gateway_keys()];
    let bundle = folder.mica(&export);
    assert_eq!(bundle.code, 0, "{}", bundle.err);
    assert!(bundle.out.contains(first["task_id"].as_str().expect("a name")), "{}", bundle.out);
}

#[test]
fn what_a_configuration_cannot_say_no_task_that_comes_with_requests_has() {
    let folder = Folder::with_task(8481, 8482);
    let agreed = ["--taskprov", "task/collector.task.json"];
    let ran = folder.new_task("endless", &[&URLS[..], &agreed].concat());
    assert!(ran.one_line(2).contains("--task-interval"), "{}", ran.err);
    let batches = ["--batch-mode", "leader_selected", "--batch-target-size", "500"];
    let ran = folder.new_task("target", &[&URLS[..], &INTERVAL, &agreed, &batches].concat());
    assert!(ran.one_line(2).contains("told to the leader alone"), "{}", ran.err);
    assert!(!folder.path("endless").exists() && !folder.path("target").exists());
}
