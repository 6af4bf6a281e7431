//! `mica budget` on a database in which nothing was released yet, and what else it says no to.

use serde_json::Value;

use crate::world::{Folder, free_port};

#[test]
fn the_budgets_of_a_policy_are_shown_before_anything_is_spent() {
    let folder = Folder::with_task(free_port(), free_port());
    assert_eq!(folder.mica_briefly("leader"), Some(0));
    let shown = folder.mica(&["budget", "show", "--config", "leader.toml", "-o", "json"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    let shown: Value = serde_json::from_str(&shown.out).expect("one JSON object");
    let budgets = shown["budgets"].as_array().expect("a list");
    assert_eq!(budgets.len(), 1, "{shown}");
    let budget = &budgets[0];
    assert_eq!((&budget["now"]["spent"], &budget["releases"]), (&"0".into(), &0.into()), "{budget}");
    assert_eq!((&budget["remaining"], &budget["renews_at"]), (&budget["limit"], &Value::Null), "{budget}");
    assert_eq!(budget["in_force"], true);
    let table = folder.mica(&["budget", "show", "--config", "leader.toml"]);
    let name = budget["budget"].as_str().expect("a name");
    let line = table.out.lines().find(|line| line.starts_with(name)).expect("the budget has a line");
    assert!(line.ends_with("░".repeat(10).as_str()), "{line}");
    let history = folder.mica(&["budget", "history", "--config", "leader.toml", "-o", "csv"]);
    assert_eq!((history.code, history.out.lines().count()), (0, 1), "{}", history.out);
    let verified = folder.mica(&["budget", "verify", "--config", "leader.toml", "-o", "json"]);
    let verified: Value = serde_json::from_str(&verified.out).expect("one JSON object");
    assert_eq!((&verified["ok"], &verified["entries"]), (&true.into(), &0.into()), "{verified}");
    let accept = ["budget", "accept-restored", "--config", "leader.toml", "--entries", "0", "--by", "alice"];
    let accepted = folder.mica(&[&accept[..], &["--why", "a drill"]].concat());
    assert_eq!(accepted.code, 0, "{}", accepted.err);
    assert!(accepted.out.contains("nothing to accept"), "{}", accepted.out);
    let silent = folder.mica(&[&accept[..], &["--why", " "]].concat());
    assert!(silent.one_line(2).contains("why is said in 1 to 200 printable characters"), "{}", silent.err);
}

#[test]
fn who_has_no_budgets_and_what_is_no_mark_are_refused() {
    let folder = Folder::with_task(free_port(), free_port());
    folder.write(
        "relay.toml",
        "role = \"relay\"\nlisten = \"127.0.0.1:0\"\ngateway_url = \"http://127.0.0.1:1/\"\n",
    );
    let refused = folder.mica(&["budget", "show", "--config", "relay.toml"]);
    assert!(refused.one_line(2).contains("relay, which has no budgets"), "{}", refused.err);
    folder.write("leader.db.mark", "something else");
    let wrong = folder.mica(&["budget", "verify", "--config", "leader.toml"]);
    assert!(wrong.one_line(3).contains("this is not a high-water mark"), "{}", wrong.err);
}

#[test]
fn with_postgres_the_file_outside_of_the_database_must_be_named() {
    let folder = Folder::with_task(1, 2);
    let text = folder.read("leader.toml");
    let database = text.lines().find(|line| line.starts_with("database")).expect("it names one");
    let postgres = text.replace(database, "database = \"postgres://localhost/mica\"");
    folder.write("leader.toml", &postgres);
    let refused = folder.mica(&["config", "check", "leader.toml"]);
    assert!(refused.one_line(3).contains("add a table [ledger] with high_water_mark"), "{}", refused.err);
    folder.write("leader.toml", &format!("{postgres}\n[ledger]\nhigh_water_mark = \"leader.mark\"\n"));
    assert_eq!(folder.mica(&["config", "check", "leader.toml"]).code, 0);
}
