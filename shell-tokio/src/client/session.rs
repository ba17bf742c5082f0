//! Exactly-once writes: one session per client, one number per write, kept through every retry (Raft thesis §6.3).
//!
//! Invariant: a number is acknowledged only when its write has an answer or nobody waits for one any more; acknowledged numbers
//! are never used again. Acknowledging an abandoned write also fences it: a late copy of it is refused instead of applied.

use super::Client;
use super::error::ClientError;
use super::lock::lock;
use super::routing::{self, Retry, Target};
use raftkv_core::api::{Error, Request, Response, SessionRef, WriteOp, WriteResult};
use raftkv_core::kv::session::SESSION_ANSWERS_MAX;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// Sends one write under the client's session.
pub(super) async fn write(
    client: &Client,
    op: WriteOp,
    deadline: Instant,
) -> Result<WriteResult, ClientError> {
    let mut request = Request::Write { session: None, op };
    loop {
        let ticket = client.shared.sessions.begin(client, deadline).await?;
        if let Request::Write { session, .. } = &mut request {
            *session = Some(ticket.reference());
        }
        match routing::ask(client, Target::Leader, &request, Retry::Always, deadline).await {
            Ok(Response::Write(result)) => return Ok(result),
            Ok(other) => return Err(ClientError::unexpected("write", &other)),
            // It was never sent under a session that still lived, so it did nothing: a new session begins anew.
            Err(ClientError::Refused(Error::SessionUnknown(id))) if id == ticket.session.id => {
                client.shared.sessions.forget(&ticket.session);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The client's sessions: one, unless very many writes are under way. Opened when first needed, and again when the cluster has
/// forgotten them.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<Vec<Arc<Session>>>,
    opening: tokio::sync::Mutex<()>,
}

/// A node keeps a bounded number of answers per session; from the oldest write under way to the newest, a session spans no more than
/// half of that.
const WINDOW_MAX: usize = SESSION_ANSWERS_MAX / 2;

pub(super) struct Session {
    id: u64,
    numbers: Mutex<Numbers>,
}

/// The number of one write under way.
struct Ticket {
    session: Arc<Session>,
    sequence: u64,
}

/// Which numbers are in use: everything below `floor` is done, `done[i]` tells of `floor + i`.
struct Numbers {
    floor: u64,
    done: VecDeque<bool>,
}

impl Sessions {
    async fn begin(&self, client: &Client, deadline: Instant) -> Result<Ticket, ClientError> {
        if let Some(ticket) = self.begin_in_open() {
            return Ok(ticket);
        }
        let _one_at_a_time = self.opening.lock().await;
        if let Some(ticket) = self.begin_in_open() {
            return Ok(ticket);
        }
        // Opening twice is harmless: a session nobody uses expires.
        let open = Request::SessionOpen;
        match routing::ask(client, Target::Leader, &open, Retry::Always, deadline).await? {
            Response::SessionOpened { session } => {
                let session = Arc::new(Session::new(session));
                lock(&self.open).push(session.clone());
                Ok(session.begin().expect("a fresh session has room"))
            }
            other => Err(ClientError::unexpected("session", &other)),
        }
    }

    fn begin_in_open(&self) -> Option<Ticket> {
        lock(&self.open).iter().find_map(Session::begin)
    }

    fn forget(&self, session: &Arc<Session>) {
        lock(&self.open).retain(|open| !Arc::ptr_eq(open, session));
    }
}

impl Session {
    fn new(id: u64) -> Self {
        Session { id, numbers: Mutex::new(Numbers { floor: 1, done: VecDeque::new() }) }
    }

    /// The next number, unless the session spans too many already.
    fn begin(self: &Arc<Self>) -> Option<Ticket> {
        let sequence = lock(&self.numbers).begin()?;
        Some(Ticket { session: self.clone(), sequence })
    }
}

impl Ticket {
    fn reference(&self) -> SessionRef {
        SessionRef {
            session: self.session.id,
            sequence: self.sequence,
            acknowledged_below: lock(&self.session.numbers).floor,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.session.numbers).end(self.sequence);
    }
}

impl Numbers {
    fn begin(&mut self) -> Option<u64> {
        if self.done.len() >= WINDOW_MAX {
            return None;
        }
        self.done.push_back(false);
        Some(self.floor + self.done.len() as u64 - 1)
    }

    fn end(&mut self, sequence: u64) {
        let place = (sequence - self.floor) as usize;
        self.done[place] = true;
        while self.done.front() == Some(&true) {
            self.done.pop_front();
            self.floor += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_acknowledged_in_order_however_they_end() {
        let session = Arc::new(Session::new(7));
        let [first, second, third] = [(); 3].map(|()| session.begin().unwrap());
        assert_eq!((first.sequence, second.sequence, third.sequence), (1, 2, 3));
        drop(second);
        assert_eq!(third.reference().acknowledged_below, 1);
        drop(first);
        assert_eq!(
            third.reference(),
            SessionRef { session: 7, sequence: 3, acknowledged_below: 3 }
        );
        drop(third);
        let window: Vec<Ticket> = (0..WINDOW_MAX).filter_map(|_| session.begin()).collect();
        assert!(session.begin().is_none(), "{} numbers are under way", window.len());
        drop(window);
        assert_eq!(session.begin().unwrap().reference().acknowledged_below, 4 + WINDOW_MAX as u64);
    }
}
