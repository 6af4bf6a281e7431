//! The helper is stopped dead in the middle of its work, again and again, and counts every report once.

use std::time::Duration;

use http::{Method, StatusCode};
use mica_dap::codec::Encode as _;
use mica_dap::media::Media;
use mica_service::testing::databases;

use crate::support::leader::{ids, job, now, share_request};
use crate::support::{ScriptedLeader, Server, TestTask};

#[tokio::test]
async fn a_helper_killed_in_the_middle_of_a_job_counts_its_reports_once() {
    for database in databases().await {
        let task = TestTask::plain();
        let server = Server::helper(&task, &database).await;
        let mut all = Vec::new();
        let mut jobs = Vec::new();
        for round in 0..8_u64 {
            let leader = ScriptedLeader::of(&task, &server);
            let reports = leader.reports(&[round; 12]);
            all.extend(ids(&reports));
            jobs.push(reports);
        }
        server.kill();
        for (round, reports) in jobs.iter().enumerate() {
            let server = Server::helper(&task, &database).await;
            let leader = ScriptedLeader::of(&task, &server);
            let url = leader.job_url();
            let media = Some(Media::AggregationJobInitReq.header());
            let lost = leader.send(Method::POST, &url, media, job(reports));
            // From before the first byte is read until after the commit.
            let patience = Duration::from_millis(3 * round as u64);
            let _ = tokio::time::timeout(patience, lost).await;
            server.kill();
        }
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let mut outputs = Vec::new();
        for reports in jobs {
            let answer = leader.post_job(job(&reports)).await;
            assert_eq!(leader.post_job(job(&reports)).await, answer);
            outputs.extend(leader.count(reports).await);
        }
        assert_eq!(server.tallies().await, [("aggregated".to_owned(), 96)], "{}", database.kind);
        let request = share_request(now(), 1, &all);
        let reply = leader.post_share(request.encoded()).await;
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(leader.unshard(&reply.body, &request, &outputs), [12 * 28]);
    }
}

#[tokio::test]
async fn a_helper_killed_in_the_middle_of_a_release_draws_and_charges_once() {
    for database in databases().await {
        let task = TestTask::noised();
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reports = leader.reports(&[1, 2, 3]);
        let request = share_request(now(), 1, &ids(&reports));
        leader.aggregate(&reports).await;
        server.kill();
        for round in 0..8 {
            let server = Server::helper(&task, &database).await;
            let leader = ScriptedLeader::of(&task, &server);
            let _ =
                tokio::time::timeout(Duration::from_millis(2 * round), leader.post_share(request.encoded()))
                    .await;
            server.kill();
        }
        let server = Server::helper(&task, &database).await;
        let leader = ScriptedLeader::of(&task, &server);
        let reply = leader.post_share(request.encoded()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}: {reply:?}", database.kind);
        assert_eq!(leader.post_share(request.encoded()).await, reply);
        assert_eq!(server.spent().await, [(100_000_000_000, 2)]);
    }
}
