//! What the log says of a budget that is nearly spent.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mica_service::store::StoreError;
use mica_service::telemetry::{LogFormat, subscriber};
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;

use super::World;

/// A log that can be read afterwards.
#[derive(Clone, Default)]
struct Sheet(Arc<Mutex<Vec<u8>>>);

impl Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sheet {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).expect("logs are text")
    }
}

/// The first release brings the budget to its `warn_at`; its transaction fails at first, as it does when others are in
/// the way.
#[tokio::test]
async fn a_crossed_warning_is_logged_once_and_not_before_the_commit() {
    for world in World::all().await {
        let sheet = Sheet::default();
        let (subscriber, _) =
            subscriber(LogFormat::Text, "mica=warn", sheet.clone()).expect("this is a filter");
        // As long as there is one listener only, a line that another test's thread meets first is silenced for all of them.
        let (nobody, _) = mica_service::telemetry::subscriber(LogFormat::Text, "off", io::sink())
            .expect("this is a filter");
        let _second = Dispatch::new(nobody);
        let listening = Dispatch::new(subscriber);
        let (attempts, world, log) = (&AtomicU64::new(0), &world, &sheet);
        let reserving = world.store.tx("reserve", move |mut tx| async move {
            world.try_reserve(&mut tx).await.expect("the budget lasts");
            assert_eq!(log.text(), "", "nothing is spent yet");
            match attempts.fetch_add(1, Ordering::SeqCst) {
                0 => Err(StoreError::Contended),
                _ => Ok((tx, ())),
            }
        });
        reserving.with_subscriber(listening).await.expect("the second attempt succeeds");
        let text = sheet.text();
        assert_eq!(text.matches("a budget is spent as far as its warn_at").count(), 1, "{text}");
        assert!(text.contains("spent=\"0.1\" limit=\"1\""), "{text}");
    }
}
