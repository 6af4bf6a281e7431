//! What replicas were answered, for all who ask at once: whoever comes while one look is under way waits for the next. So
//! those who have no place at a target, because of their date or because it is busy, share one connection to PostgreSQL.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use mica_envelope::EncDigest;
use mica_service::{
    store::{Dialect, Store, StoreError},
    telemetry,
};
use tokio::sync::{mpsc, oneshot};

use super::{Answer, group};
use crate::deadline::in_time;

/// Asks for everybody. Clones share the queue.
#[derive(Clone)]
pub(super) struct Questions(mpsc::Sender<Question>);

struct Question {
    enc: EncDigest,
    told: oneshot::Sender<Result<Option<Answer>, StoreError>>,
}

impl Questions {
    /// Starts the one who looks, where there may be replicas.
    pub(super) fn start(store: &Store) -> Self {
        let (questions, queue) = mpsc::channel(QUEUE);
        if store.dialect() == Dialect::Postgres {
            telemetry::spawn(look(store.clone(), queue));
        }
        Self(questions)
    }

    /// The stored answer, wherever a replica has left it.
    pub(super) async fn ask(&self, enc: EncDigest) -> Result<Option<Answer>, StoreError> {
        let (told, answer) = oneshot::channel();
        self.0.send(Question { enc, told }).await.map_err(|_| StoreError::Contended)?;
        let answered = tokio::time::timeout(PATIENCE, answer).await;
        answered.map_err(|_| StoreError::Contended)?.map_err(|_| StoreError::Contended)?
    }
}

async fn look(store: Store, mut queue: mpsc::Receiver<Question>) {
    let mut group = Vec::new();
    while queue.recv_many(&mut group, LARGEST).await > 0 {
        // Each once: its answer may be long.
        let encs: HashSet<EncDigest> = group.iter().map(|it: &Question| it.enc).collect();
        let encs = &encs.into_iter().collect::<Vec<_>>();
        let found = store.read("look_up_answer", move |mut tx| async move {
            let rows = group::look_up(&mut tx, encs).await?;
            Ok((tx, rows))
        });
        let found = in_time(store.dialect(), found).await.map(|rows| {
            rows.into_iter().filter_map(|row| Some((row.enc, row.answer?))).collect::<HashMap<_, _>>()
        });
        for Question { enc, told } in group.drain(..) {
            let answer = found.as_ref().map(|found| found.get(&enc).cloned());
            // Whoever asked may have gone.
            let _ = told.send(answer.map_err(Clone::clone));
        }
    }
}

/// As many as may be on their way at once.
const QUEUE: usize = 10_000;
const LARGEST: usize = 512;
const PATIENCE: Duration = Duration::from_secs(2);
