//! A watch that outlives the connection it began on.
//!
//! Invariant: every event of the range from the first revision on is returned exactly once and in order, across reconnects;
//! what can no longer be had ends the watch with `Compacted`, never with silence.

use super::Client;
use super::error::ClientError;
use super::link::{Answers, Link};
use raftkv_core::api::{Error, Event, Request, Response, Revision, WatchRequest};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Events of whole revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Every event up to and including this revision has been returned.
    pub revision: Revision,
    /// Oldest first. May be empty: time has passed and nothing happened in the range.
    pub events: Vec<Event>,
}

/// A running watch. Dropping it ends it.
pub struct Watch {
    client: Client,
    request: WatchRequest,
    current: Option<Running>,
    /// What came with the acceptance.
    first: Option<WatchBatch>,
}

struct Running {
    link: Arc<Link>,
    answers: Answers,
}

impl Watch {
    /// Starts the watch, and waits until a node has accepted it.
    pub(super) async fn start(client: Client, request: WatchRequest) -> Result<Watch, ClientError> {
        let mut watch = Watch { client, request, current: None, first: None };
        let answer = watch.next_answer().await?;
        watch.first = watch.accept(answer);
        Ok(watch)
    }

    /// The next batch. Waits without end while nothing happens; fails when no node can be reached for the client's timeout,
    /// or when what comes next was compacted away.
    pub async fn next(&mut self) -> Result<WatchBatch, ClientError> {
        if let Some(batch) = self.first.take() {
            return Ok(batch);
        }
        loop {
            let answer = self.next_answer().await?;
            if let Some(batch) = self.accept(answer) {
                return Ok(batch);
            }
        }
    }

    /// Takes an answer into account; `None` when it says nothing new.
    fn accept(&mut self, batch: WatchBatch) -> Option<WatchBatch> {
        let next = self.request.from_revision;
        let events: Vec<Event> =
            batch.events.into_iter().filter(|event| event.kv.mod_revision >= next).collect();
        if batch.revision < next {
            return None;
        }
        self.request.from_revision = batch.revision + 1;
        Some(WatchBatch { revision: batch.revision, events })
    }

    async fn next_answer(&mut self) -> Result<WatchBatch, ClientError> {
        let mut deadline = None;
        loop {
            let why = match self.answer().await {
                Ok(Response::Watch { revision, events }) => {
                    return Ok(WatchBatch { revision, events });
                }
                Ok(Response::Error(error)) if self.is_passing(&error) => error.to_string(),
                Ok(Response::Error(error)) => return Err(error.into()),
                Ok(other) => return Err(ClientError::unexpected("watch", &other)),
                Err(why) => why,
            };
            self.current = None;
            let timeout = self.client.shared.options.timeout;
            if Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + timeout) {
                let addresses = self.client.shared.nodes.addresses().join(",");
                return Err(ClientError::Unreachable { addresses, last: why });
            }
            sleep(RETRY_AFTER).await;
        }
    }

    async fn answer(&mut self) -> Result<Response, String> {
        if self.current.is_none() {
            let address = self.client.shared.nodes.any();
            let link = self.client.shared.nodes.link(&address).await?;
            let request = Request::Watch(self.request.clone());
            let answers = link
                .subscribe(&request)
                .map_err(|_| format!("{address}: the connection was lost"))?;
            self.current = Some(Running { link, answers });
        }
        let running = self.current.as_mut().expect("it was just set");
        running.answers.receiver.recv().await.ok_or_else(|| "the connection was lost".to_owned())
    }

    /// Whether another node, or the same one later, may do better.
    fn is_passing(&self, error: &Error) -> bool {
        // A node that lags has not seen the revision at which a resumed watch stands.
        error.retryable() || matches!(error, Error::FutureRevision { .. } | Error::NotFound(_))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.link.tell(&Request::WatchCancel { watch: self.answers.waiting.id });
    }
}
