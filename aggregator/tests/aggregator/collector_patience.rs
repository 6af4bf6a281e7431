//! A collector, and a leader that says when it wants to be asked again.

use std::time::{Duration as RealTime, Instant};

use mica_collector::{CollectError, Collector, CollectorTask};
use mica_dap::task::TaskParameters;
use mica_dap::time::{Duration, Interval, Time};
use mica_service::http::{HttpClient, HttpOptions};
use mica_service::secret::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::TestTask;
use crate::support::task::COLLECTOR_TOKEN;

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let body: usize = length.map_or(0, |length| length.parse().expect("a number"));
    let end = request.windows(4).position(|end| end == b"\r\n\r\n").expect("it has an end");
    request.len() >= end + 4 + body
}

/// Answers one request on each connection, and returns when each came.
async fn answer(leader: TcpListener, answers: Vec<String>) -> Vec<Instant> {
    let mut asked = Vec::new();
    for answer in answers {
        let (mut stream, _) = leader.accept().await.expect("it asks");
        let mut request = Vec::new();
        while !is_whole(&request) {
            assert_ne!(stream.read_buf(&mut request).await.expect("a request"), 0);
        }
        asked.push(Instant::now());
        let answer = format!("HTTP/1.1 {answer}connection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.expect("it listens");
        stream.shutdown().await.expect("it listens");
    }
    asked
}

/// How long a leader of these answers was left alone after each but the last, which ends the collection.
async fn pauses(hurried: bool, waits: [&str; 3]) -> Vec<RealTime> {
    let leader = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let task = TestTask::plain();
    let leader_url = format!("http://{}/", leader.local_addr().expect("it is bound"));
    let parameters = TaskParameters { leader_url, ..task.configuration.parameters().clone() };
    let collector = CollectorTask {
        task_id: task.id,
        draft: task.draft,
        configuration: parameters.build(task.draft).expect("a configuration"),
        token: Secret::new(COLLECTOR_TOKEN.to_owned()),
        keypair: task.collector,
        mechanism: None,
        guarantee: None,
        aggregation_parameter: Vec::new(),
    };
    let collector = Collector::new(collector, HttpClient::new(HttpOptions::default()));
    let collector = if hurried { collector.hurried() } else { collector };
    let place = format!("location: /tasks/{}/collection_jobs/AAAA\r\n", task.id);
    let heads = [format!("201 Created\r\n{place}"), "200 OK\r\n".to_owned(), "503 Busy\r\n".to_owned()];
    let mut answers: Vec<String> = heads
        .into_iter()
        .zip(waits)
        .map(|(head, wait)| if wait.is_empty() { head } else { format!("{head}retry-after: {wait}\r\n") })
        .collect();
    answers.push("500 Enough\r\n".to_owned());
    let answering = tokio::spawn(answer(leader, answers));
    let interval = Interval::new(Time(1), Duration(1)).expect("an hour");
    let collection = collector.collect(interval).await.expect("it is taken");
    assert_eq!(
        collector.wait(&collection, || ()).await,
        Err(CollectError::Failed { status: 500, detail: None })
    );
    let asked = answering.await.expect("it has answered");
    asked.iter().zip(asked.iter().skip(1)).map(|(first, next)| next.duration_since(*first)).collect()
}

#[tokio::test]
async fn a_collector_leaves_the_leader_alone_for_as_long_as_it_says() {
    let pauses = pauses(false, ["1", "2", ""]).await;
    let least = [1, 2, 1].map(RealTime::from_secs);
    assert!(pauses.iter().zip(least).all(|(pause, least)| *pause >= least), "{pauses:?}");
}

/// Only who says that the leader is its own asks sooner.
#[tokio::test]
async fn a_collector_in_a_hurry_asks_again_within_a_second() {
    let pauses = pauses(true, ["20", "30", "40"]).await;
    assert!(pauses.iter().all(|pause| *pause < RealTime::from_secs(10)), "{pauses:?}");
}
