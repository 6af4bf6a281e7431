//! Budgets that renew: charged to the time of the data, whenever anybody asks, with edges that belong to one side.

use http::StatusCode;
use mica_dap::codec::Encode as _;
use mica_dap::time::Time;
use mica_service::testing::databases;
use serde_json::Value;

use crate::support::leader::{Reply, ids, now, share_request};
use crate::support::task::Kind;
use crate::support::{Flaw, ScriptedLeader, Server, TestTask};

/// A task whose budget lasts for three releases in this window.
fn task(window: &'static str) -> TestTask {
    TestTask::new(&Kind { epsilon: Some("1/10"), window: Some((window, "3/10")), ..Kind::default() })
}

/// The first hour of the day of the tests, or of one before or after it.
fn midnight(day: i64) -> u64 {
    (now().0 / 24 * 24).checked_add_signed(24 * day).expect("a day long after 1970")
}

/// Asks for the share of a batch of so many hours from `hour` on, with two reports in its first.
async fn release(leader: &ScriptedLeader, hour: u64, hours: u64) -> Reply {
    let reports = [1, 2].map(|value| leader.report_at(value, Time(hour), Flaw::None));
    leader.aggregate(&reports).await;
    leader.post_share(share_request(Time(hour), hours, &ids(&reports)).encoded()).await
}

async fn granted(leader: &ScriptedLeader, hour: u64, hours: u64) {
    let reply = release(leader, hour, hours).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
}

async fn refused(leader: &ScriptedLeader, hour: u64, hours: u64) -> Value {
    let reply = release(leader, hour, hours).await;
    assert_eq!(
        (reply.status, reply.problem().as_str()),
        (StatusCode::FORBIDDEN, "budget-exhausted"),
        "{reply:?}"
    );
    serde_json::from_slice(&reply.body).expect("JSON")
}

#[tokio::test]
async fn a_rolling_budget_is_charged_to_the_days_of_the_data_and_renews() {
    for database in databases().await {
        let task = task(r#"{ kind = "rolling", length = "2d", epoch = "1d" }"#);
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        granted(&leader, midnight(0) + 5, 1).await;
        granted(&leader, midnight(0) + 6, 1).await;
        // The last hour of the day before: with today, those two days are full.
        granted(&leader, midnight(0) - 1, 1).await;
        let problem = refused(&leader, midnight(0) + 7, 1).await;
        let texts =
            ["spent", "requested", "limit", "remaining", "would_fit"].map(|name| problem[name].clone());
        assert_eq!(texts, ["0.3", "0.1", "0.3", "0", "0"], "{problem}");
        assert_eq!(problem["window_from"], "2026-05-27T00:00:00Z", "{problem}");
        assert_eq!(problem["window_to"], "2026-05-29T00:00:00Z");
        assert_eq!(problem["renews_at"], "2026-05-29T00:00:00Z");
        // Data of that hour do not fit by waiting, and the words say what would have to happen.
        let detail = problem["detail"].as_str().expect("a sentence");
        let never = "Nothing fits. This batch does not fit as long as nothing is given back and the limit stays, for the \
                     time of its data is fixed; one like it whose data are all of 2026-05-29T00:00:00Z or later has room";
        assert!(detail.contains(never), "{detail}");
        assert_eq!((&problem["budget"], &problem["ledger_of"]), (&"demo-lifetime".into(), &"helper".into()));
        // A batch of long ago, asked for late, belongs to its own days.
        granted(&leader, midnight(-30) + 3, 1).await;
        // The day before yesterday shares two days with yesterday, and not with today.
        granted(&leader, midnight(-2) + 3, 1).await;
        granted(&leader, midnight(-2) + 4, 1).await;
        refused(&leader, midnight(-2) + 5, 1).await;
        // Two days later, by the clock of the server as well, an equal release fits; also of the same hour as before.
        server.clock.set(server.clock.now() + 2 * 86_400);
        refused(&leader, midnight(0) + 8, 1).await;
        granted(&leader, midnight(1) + 8, 1).await;
        server.spent().await;
    }
}

#[tokio::test]
async fn a_batch_over_the_edge_of_a_day_is_charged_to_both() {
    for database in databases().await {
        let task = task(r#"{ kind = "calendar", unit = "day" }"#);
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        // From eleven at night to one in the morning.
        granted(&leader, midnight(-1) - 1, 2).await;
        for hour in 1..3 {
            granted(&leader, midnight(-1) + hour, 1).await;
            granted(&leader, midnight(-2) + hour, 1).await;
        }
        // The first and the last hour of each belong to it, and those of its neighbours do not.
        let problem = refused(&leader, midnight(-1) + 23, 1).await;
        assert_eq!(
            (&problem["window_from"], &problem["renews_at"]),
            (&"2026-05-27T00:00:00Z".into(), &"2026-05-28T00:00:00Z".into())
        );
        refused(&leader, midnight(-2), 1).await;
        granted(&leader, midnight(0), 1).await;
        granted(&leader, midnight(-2) - 1, 1).await;
        server.spent().await;
    }
}

#[tokio::test]
async fn a_cap_of_one_report_a_week_lets_every_batch_of_the_week_go_for_the_price_of_one() {
    for database in databases().await {
        let text = r#"{ kind = "rolling", length = "7d", epoch = "1d" }"#;
        let mut task = TestTask::new(&Kind {
            epsilon: Some("1/10"),
            reports_per_window: 1,
            window: Some((text, "1/10")),
            ..Kind::default()
        });
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        for hour in 0..12 {
            granted(&leader, midnight(-1) + hour, 1).await;
        }
        assert_eq!(server.spent().await, [(100_000_000_000, 24)], "{}", database.kind);
        server.kill();
        // Under a lower limit what was granted stays, and nothing is added.
        task.policy = task.policy.replace("version = 1 ", "version = 2 ");
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        granted(&leader, midnight(-1) + 12, 1).await;
        // A batch over midnight is in some week only in part, and there no cap holds for it.
        refused(&leader, midnight(0) - 1, 2).await;
    }
}

/// The noise is made for what a client sends in one piece of time. Whoever asks for more afterwards gets nothing, and no
/// budget pays for it.
#[tokio::test]
async fn a_helper_refuses_a_batch_of_more_than_one_piece_of_time_and_charges_nothing() {
    for database in databases().await {
        let kind = Kind { epsilon: Some("1/10"), batch_window: Some("1h"), ..Kind::default() };
        let task = TestTask::new(&kind);
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reply = release(&leader, midnight(0) + 5, 2).await;
        assert_eq!((reply.status, reply.problem().as_str()), (StatusCode::FORBIDDEN, "batch-too-wide"));
        let problem: Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert_eq!(
            (&problem["batch_within"], &problem["fits_from"], &problem["fits_to"]),
            (&"one hour (UTC)".into(), &"2026-05-28T05:00:00Z".into(), &"2026-05-28T06:00:00Z".into()),
            "{problem}"
        );
        assert!(server.spent().await.is_empty(), "{}", database.kind);
        // Nothing was closed either: the hour is collected by itself.
        let reports = [1, 2].map(|value| leader.report_at(value, Time(midnight(0) + 7), Flaw::None));
        leader.aggregate(&reports).await;
        let request = share_request(Time(midnight(0) + 7), 1, &ids(&reports));
        assert_eq!(leader.post_share(request.encoded()).await.status, StatusCode::OK);
    }
}
