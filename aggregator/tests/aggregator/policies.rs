//! Policies that come into force one after the other, at a start and while an aggregator runs.

use http::StatusCode;
use mica_aggregator::budget;
use mica_aggregator::policy::{Objections, PolicyError, objections};
use mica_aggregator::store::{ledger, policies};
use mica_dap::codec::Encode as _;
use mica_dap::time::Time;
use mica_dp::{EntryKind, Policy};
use mica_service::testing::databases;

use crate::support::leader::{ids, now, share_request};
use crate::support::{Flaw, ScriptedLeader, Server, TestTask};

/// The same policy, with another version and whatever `change` does to it.
fn version(task: &TestTask, version: u32, change: (&str, &str)) -> String {
    let text = task.policy.replace("version = 1 ", &format!("version = {version} "));
    assert!(change.0.is_empty() || text.contains(change.0), "{text}");
    text.replace(change.0, change.1)
}

const DEARER: (&str, &str) = ("\nepsilon = \"1\"", "\nepsilon = \"3/10\"");
const SAME: (&str, &str) = ("", "");

fn parse(text: &str) -> Policy {
    Policy::parse("policy.toml", text).expect("a valid policy")
}

#[tokio::test]
async fn an_older_version_and_a_version_with_another_text_do_not_come_into_force() {
    for database in databases().await {
        let mut task = TestTask::noised();
        let first = task.policy.clone();
        task.policy = version(&task, 5, SAME);
        let server = Server::helper(&task, &database).await;
        let line = task.policy.lines().position(|line| line.starts_with("version")).expect("it has one") + 1;
        let refused = [
            (first.clone(), "policy demo v5 is loaded already, and versions only grow; write version = 6"),
            (format!("{}# other\n", task.policy), "policy demo v5 is already loaded with another sha256"),
        ];
        for (text, what) in refused {
            let error = server.reload.adopt(parse(&text)).await.expect_err("it is refused").to_string();
            assert!(error.starts_with(&format!("policy.toml:{line}:11: E050: {what}")), "{error}");
            let other = TestTask { policy: text, ..task.clone() };
            assert_eq!(Server::refusal(&other, &database).await, error, "at a start as well");
        }
        server.reload.adopt(parse(&task.policy)).await.expect("the same again changes nothing");
        server.kill();
        let server = Server::helper(&task, &database).await;
        let kept = server.store.read("policies", |mut tx| async move {
            let kept = policies::all(&mut tx).await?;
            Ok((tx, kept))
        });
        let kept = kept.await.expect("the database answers");
        assert_eq!(
            kept.iter().map(|it| (it.version, it.text.as_str())).collect::<Vec<_>>(),
            [(5, &*task.policy)]
        );
        assert_eq!(kept[0].sha256, parse(&task.policy).sha256());
    }
}

#[tokio::test]
async fn a_policy_under_which_a_task_could_not_be_served_leaves_the_old_one_in_force() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::noised();
    let server = Server::helper(&task, &database).await;
    let other = version(&task, 2, ("epsilon_per_release = \"1/10\"", "epsilon_per_release = \"1/20\""));
    let refused =
        server.reload.adopt(parse(&other)).await.expect_err("the task is bound to another statement");
    assert!(matches!(&refused, PolicyError::Unserved(tasks) if tasks.len() == 1), "{refused}");
    assert!(refused.to_string().contains("bound to the release statement"), "{refused}");
    assert!(server.reload.is_in_force(&parse(&task.policy)));
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    leader.aggregate(&reports).await;
    let reply = leader.post_share(share_request(now(), 1, &ids(&reports)).encoded()).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    // What was refused was not kept either: the number is free.
    server.reload.adopt(parse(&version(&task, 2, SAME))).await.expect("nothing holds it up");
}

/// A limit that is lowered holds from the next release on, and each charge names the policy that its noise is from.
#[tokio::test]
async fn a_reloaded_policy_holds_from_the_next_release_on() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let mut requests = Vec::new();
        for hour in 0..5 {
            let time = Time(now().0 - hour);
            let reports = [1, 2].map(|value| leader.report_at(value, time, Flaw::None));
            leader.aggregate(&reports).await;
            requests.push(share_request(time, 1, &ids(&reports)).encoded());
        }
        let mut statuses = Vec::new();
        for (at, request) in requests.iter().enumerate() {
            match at {
                2 => server.reload.adopt(parse(&version(&task, 2, DEARER))).await.expect("a lower limit"),
                4 => server.reload.adopt(parse(&version(&task, 3, SAME))).await.expect("the old limit"),
                _ => {}
            }
            statuses.push(leader.post_share(request.clone()).await.status.as_u16());
        }
        assert_eq!(statuses, [200, 200, 200, 403, 200], "{}", database.kind);
        let entries = server.store.read("ledger", |mut tx| async move {
            let entries = ledger::entries(&mut tx).await?;
            Ok((tx, entries))
        });
        let entries = entries.await.expect("the database answers");
        let charges = entries.iter().filter(|entry| entry.kind == EntryKind::Charge);
        let versions: Vec<_> = charges.map(|entry| (entry.policy.version, entry.limit)).collect();
        let (full, lowered) = (1_000_000_000_000, 300_000_000_000);
        assert_eq!(versions, [(1, full), (1, full), (2, lowered), (3, full)]);
    }
}

/// A new name, of the policy or of a budget, is no way to begin at nothing: whoever means it says so.
#[tokio::test]
async fn another_name_does_not_forget_what_was_spent_unless_that_is_allowed() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = [1, 2].map(|value| leader.report_at(value, now(), Flaw::None));
        leader.aggregate(&reports).await;
        let request = share_request(now(), 1, &ids(&reports)).encoded();
        assert_eq!(leader.post_share(request).await.status, StatusCode::OK);
        let text = version(&task, 2, SAME);
        let renamed_budget = text.replace("demo-lifetime", "demo-again");
        let refused =
            server.reload.adopt(parse(&renamed_budget)).await.expect_err("it would begin at nothing");
        let said = refused.to_string();
        assert!(
            said.contains("W053: budget \"demo-lifetime\" has charges that count for all time"),
            "{said}"
        );
        assert!(said.contains("policy_allow = [\"W053\"]"), "{said}");
        let found = objections(&server.store, &parse(&renamed_budget), server.clock.now()).await;
        let codes: Vec<_> =
            found.expect("the database answers").findings.into_iter().map(|it| it.code).collect();
        assert_eq!(codes, ["W053"], "{}", database.kind);
        let id = text.lines().find(|line| line.starts_with("id = ")).expect("a policy has a name");
        let renamed = text.replacen(id, "id = \"other-app\"", 1);
        let refused = server.reload.adopt(parse(&renamed)).await.expect_err("its versions begin anew");
        assert!(refused.to_string().contains("W054: policy "), "{refused}");
        // Whoever means it may.
        server.reload.adopt(parse(&renamed_budget).allowing(&["W053"])).await.expect("it is allowed");
        server.clock.advance(1);
        server.reload.adopt(parse(&renamed).allowing(&["W054", "W053"])).await.expect("it is allowed");
    }
}

/// A budget keeps its meaning for ever; its limit may fall below what is spent, and then nothing is released.
#[tokio::test]
async fn a_version_that_reads_a_budget_otherwise_is_refused_and_one_that_lowers_its_limit_is_not() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let mut requests = Vec::new();
        for hour in 0..2 {
            let time = Time(now().0 - hour);
            let reports = [1, 2].map(|value| leader.report_at(value, time, Flaw::None));
            leader.aggregate(&reports).await;
            requests.push(share_request(time, 1, &ids(&reports)).encoded());
        }
        let lowered = ("\nepsilon = \"1\"", "\nepsilon = \"1/10\"");
        server.reload.adopt(parse(&version(&task, 2, lowered))).await.expect("nothing is spent yet");
        assert_eq!(leader.post_share(requests[0].clone()).await.status, StatusCode::OK);
        assert_eq!(leader.post_share(requests[1].clone()).await.problem(), "budget-exhausted");
        server.reload.adopt(parse(&version(&task, 3, SAME))).await.expect("a higher limit");
        assert_eq!(leader.post_share(requests[1].clone()).await.status, StatusCode::OK);
        // A check beside the server finds what a start would, and loads nothing.
        let check = async |text: &str| {
            let found = objections(&server.store, &parse(text), server.clock.now()).await;
            let Objections { findings, unserved, .. } = found.expect("the database answers");
            (findings.into_iter().map(|it| (it.code, it.what)).collect::<Vec<_>>(), unserved.len())
        };
        let window = ("{ kind = \"lifetime\" }", "{ kind = \"calendar\", unit = \"month\" }");
        let found = check(&version(&task, 9, window)).await;
        assert!(matches!(&found.0[..], [(code, _)] if code == "E052"), "{found:?}");
        assert_eq!(found.1, 1, "the window is in the statement that the task is bound to");
        let found = check(&version(&task, 9, lowered)).await;
        let spent = "budget \"demo-lifetime\": 0.2 is already spent of the new limit 0.1";
        assert!(matches!(&found.0[..], [(code, what)] if code == "W051" && what == spent), "{found:?}");
        assert_eq!(check(&version(&task, 3, SAME)).await, (vec![], 0));
        // Lower than what is spent: a warning, and no error.
        server.reload.adopt(parse(&version(&task, 4, lowered))).await.expect("it is allowed");
        server.kill();
        let other = TestTask { policy: version(&task, 5, window), ..task.clone() };
        let refused = Server::refusal(&other, &database).await;
        assert!(
            refused.contains("E052: budget \"demo-lifetime\" has charges and changes its window"),
            "{refused}"
        );
    }
}

/// What a budget was charged for cannot be looked up any more, so nobody can say whether a version keeps its meaning.
#[tokio::test]
async fn a_version_is_refused_while_the_text_that_a_budget_was_charged_under_is_missing_or_another() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2]);
        leader.aggregate(&reports).await;
        let reply = leader.post_share(share_request(now(), 1, &ids(&reports)).encoded()).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        let second = version(&task, 2, SAME);
        let cases = [
            ("UPDATE policies SET text = text || '#'", "its text that is kept was changed"),
            ("DELETE FROM policies", "its text is not kept"),
        ];
        for (change, why) in cases {
            execute(&server, change).await;
            let error = server.reload.adopt(parse(&second)).await.expect_err("it is refused");
            assert!(matches!(&error, PolicyError::Unread(budgets) if budgets.len() == 1), "{error}");
            let said = format!(
                "E052: budget \"demo-lifetime\" was charged under policy demo v1, and {why}: it cannot be told"
            );
            assert!(error.to_string().starts_with(&said), "{error}");
            let advice = "start once with the file of policy demo v1 whose sha256 is ";
            assert!(error.to_string().contains(advice), "{error}");
            let other = TestTask { policy: second.clone(), ..task.clone() };
            assert_eq!(Server::refusal(&other, &database).await, error.to_string(), "at a start as well");
        }
        server.kill();
        // As the message says: the old file once, and then the new one.
        let server = Server::helper(&task, &database).await;
        server.reload.adopt(parse(&second)).await.expect("the text is kept again");
    }
}

async fn execute(server: &Server, statement: &'static str) {
    let changed = server.store.tx("change", move |mut tx| async move {
        sqlx::query(statement).execute(tx.connection()).await?;
        Ok((tx, ()))
    });
    changed.await.expect("the database answers");
}

/// A policy of a later day releases nothing before it.
#[tokio::test]
async fn a_policy_that_holds_from_a_later_day_on_releases_nothing_before() {
    let database = mica_service::testing::sqlite();
    let mut task = TestTask::noised();
    let from = "version = 1 \neffective_from = 2026-06-01T00:00:00Z\n";
    task.policy =
        task.policy.replacen("version = 1 ", from, 1).replacen("\n                       #", "#", 1);
    let server = Server::helper(&task, &database).await;
    let leader = ScriptedLeader::of(&task, &server);
    let reports = leader.reports(&[1, 2]);
    leader.aggregate(&reports).await;
    let request = share_request(now(), 1, &ids(&reports)).encoded();
    assert_eq!(leader.post_share(request.clone()).await.problem(), "policy-not-in-force");
    assert_eq!(server.spent().await, []);
    server.clock.set(1_780_272_000);
    assert_eq!(leader.post_share(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_exception_that_is_over_does_not_come_into_force() {
    let database = mica_service::testing::sqlite();
    let task = TestTask::plain();
    let server = Server::helper(&task, &database).await;
    let over = task.policy.replace("version = 1\n", "version = 2\n").replace("2199-01-01", "2020-12-31");
    let refused = server.reload.adopt(parse(&over)).await.expect_err("it is refused").to_string();
    assert!(
        refused.contains("E042: unmatched.action = \"release_without_dp\" expired on 2020-12-31"),
        "{refused}"
    );
    server.kill();
    let other = TestTask { policy: over, ..task };
    assert_eq!(Server::refusal(&other, &database).await, refused, "at a start as well");
}

#[tokio::test]
async fn a_budget_that_is_spent_as_far_as_its_warning_says_so_wherever_budgets_are_shown() {
    for database in databases().await {
        let mut task = TestTask::noised();
        task.policy = task.policy.replacen("on_exhausted", "warn_at = 0.2\non_exhausted", 1);
        let policy = parse(&task.policy);
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let mut shown = Vec::new();
        for hour in 0..3 {
            let time = Time(now().0 - hour);
            let reports = [1, 2].map(|value| leader.report_at(value, time, Flaw::None));
            leader.aggregate(&reports).await;
            let reply = leader.post_share(share_request(time, 1, &ids(&reports)).encoded()).await;
            assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
            let budgets = budget::status(&server.store, &policy, server.clock.now()).await;
            let budgets = budgets.expect("the database answers");
            shown.extend(budgets.iter().map(|it| (it.spent_thousandths(), it.warns())));
        }
        assert_eq!(shown, [(100, false), (200, true), (300, true)], "{}", database.kind);
    }
}
