//! A task that came with an upload, and that its operator gives to the leader as well.

use std::time::{Duration as RealTime, Instant};

use mica_aggregator::Role;
use mica_aggregator::auth::{Bearer, TokenHash};
use mica_aggregator::enrol::{Rules, enrol};
use mica_aggregator::store::tasks::{self, Origin};
use mica_aggregator::task_file::{TaskFile, Tokens};
use mica_dap::media::Media;
use mica_dap::task::TaskConfiguration;
use mica_dap::taskprov::header_value;
use mica_dap::vdaf::VerifyKey;
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::testing::databases;
use zeroize::Zeroizing;

use crate::support::NOW;
use crate::support::task::{COLLECTOR_TOKEN, LEADER_TOKEN};
use crate::taskprov::{Helper, KNOWN};

/// The file of the task that an upload brought, as the operator would import it.
fn file(leader: &Helper, configuration: &TaskConfiguration) -> TaskFile {
    let task_id = configuration.derived_task_id();
    let to_helper = Bearer::new(LEADER_TOKEN).expect("a token");
    TaskFile {
        role: Role::Leader,
        task_id,
        draft: leader.task.draft,
        configuration: configuration.clone(),
        verify_key: Zeroizing::new(*VerifyKey::derive_provisioned(&[7; 32], &task_id).as_bytes()),
        verification_key_id: 0,
        collector: leader.task.collector.config.clone(),
        tokens: Tokens::Leader {
            to_helper: Some(to_helper),
            of_collector: TokenHash::of(COLLECTOR_TOKEN).into(),
        },
        batch_target_size: None,
        aggregation_parameter: Vec::new(),
    }
}

#[tokio::test]
async fn a_task_on_trial_that_its_operator_imports_is_never_forgotten() {
    for database in databases().await {
        let leader = Helper::of(Role::Leader, &database).await;
        let task = leader.configuration(|task| task.min_batch_size = 10);
        let upload = async |task: &TaskConfiguration, advertised: bool| {
            let place = format!("{}/reports", task.derived_task_id());
            let header = advertised.then(|| header_value(task));
            leader.ask_at(&place, Media::UploadReq, "stranger", header.as_deref()).await.1
        };
        assert_eq!(upload(&task, true).await, KNOWN);
        let policy = leader.task.policy();
        let http = HttpClient::new(HttpOptions::default());
        let rules = Rules { role: Role::Leader, policy: &policy, min_batch_size_floor: 2, http: &http };
        let stored = enrol(&leader.store, &file(&leader, &task), &rules, NOW).await;
        assert!(!stored.expect("it is the same task").is_new);
        leader.clock.advance(601);
        // Another that comes removes those whose trial is over, and the leader has looked at the table since.
        let other = leader.configuration(|task| task.min_batch_size = 11);
        let deadline = Instant::now() + RealTime::from_secs(10);
        while upload(&other, true).await != KNOWN {
            assert!(Instant::now() < deadline, "there is room for another");
            tokio::time::sleep(RealTime::from_millis(20)).await;
        }
        assert_eq!(leader.tasks().await, 3);
        assert_eq!(upload(&task, false).await, KNOWN, "{}", database.kind);
        let id = task.derived_task_id();
        let row = leader.store.read("task", |mut tx| async move {
            let row = tasks::task_by_id(&mut tx, &id).await?;
            Ok((tx, row))
        });
        let row = row.await.expect("the database answers").expect("it is there");
        assert!(row.task.origin == Origin::Operator && row.task.expires_at.is_none());
    }
}
