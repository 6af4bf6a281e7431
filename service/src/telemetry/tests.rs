use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing::instrument::WithSubscriber as _;
use tracing::{Dispatch, Instrument as _};

use super::{LogFormat, role_span, spawn, subscriber};

/// A writer that can be read afterwards.
#[derive(Clone, Default)]
struct Sheet(Arc<Mutex<Vec<u8>>>);

impl Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sheet {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn lines_of_a_role_go_to_its_file_also_from_tasks_and_threads_it_started() {
    for format in [LogFormat::Text, LogFormat::Json] {
        // A filter that hides the level of the role's span must not lose the role.
        let (rest, leader) = (Sheet::default(), Sheet::default());
        let (subscriber, routes) = subscriber(format, "mica=info,off", rest.clone()).unwrap();
        routes.add("leader", Box::new(leader.clone()));
        // As long as there is one listener only, a span that another test's thread meets first is silenced for all of them.
        let _second = Dispatch::new(tracing_subscriber::registry());
        let dispatch = Dispatch::new(subscriber);
        let work = async {
            tracing::info!("from the process");
            async {
                tracing::info!(task = "t1", "from the leader");
                let task = async { tracing::info!("from its task") }.with_subscriber(dispatch.clone());
                spawn(task).await.unwrap();
                let dispatch = dispatch.clone();
                let log = move || {
                    tracing::dispatcher::with_default(&dispatch, || tracing::info!("from its thread"));
                };
                crate::compute::ComputePool::with_threads(1).run(log).await;
            }
            .instrument(role_span("leader"))
            .await;
            async { tracing::info!("from the helper") }.instrument(role_span("helper")).await;
        };
        work.with_subscriber(dispatch.clone()).await;
        let (rest, leader) = (rest.text(), leader.text());
        for line in ["from the leader", "from its task", "from its thread"] {
            assert!(leader.contains(line) && !rest.contains(line), "{line}\n{leader}\n{rest}");
        }
        assert!(rest.contains("from the process") && rest.contains("from the helper"), "{rest}");
        assert_eq!(leader.lines().count(), 3);
    }
}

#[test]
fn other_libraries_are_heard_only_when_it_is_serious() {
    let sheet = Sheet::default();
    let (subscriber, _) = subscriber(LogFormat::Text, "trace", sheet.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::debug!(target: "hyper_util::client", "connecting to 192.0.2.1:443");
        tracing::warn!(target: "hyper_util::client", "serious");
        tracing::debug!(target: "mica_relay", "ours");
    });
    let text = sheet.text();
    assert!(!text.contains("192.0.2.1"), "{text}");
    assert!(text.contains("serious") && text.contains("ours"), "{text}");
}

#[test]
fn no_peer_writes_lines_by_going_too_far_in_http_2() {
    let sheet = Sheet::default();
    let (subscriber, _) = subscriber(LogFormat::Text, "info", sheet.clone()).unwrap();
    let _second = Dispatch::new(tracing_subscriber::registry());
    tracing::dispatcher::with_default(&Dispatch::new(subscriber), || {
        tracing::warn!(target: "h2::proto::streams::recv", "a stranger has gone too far");
        tracing::error!(target: "h2::proto::connection", "something is wrong here");
    });
    let text = sheet.text();
    assert!(!text.contains("a stranger") && text.contains("something is wrong"), "{text}");
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let refused = subscriber(LogFormat::Text, "mica=loud", Sheet::default()).err().unwrap();
    assert!(refused.to_string().starts_with("`mica=loud` is no log filter"), "{refused}");
}
