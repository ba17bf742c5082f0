//! Serves clients: many requests at once on each stream, answers in any order.
//!
//! Invariants: every request that reaches the core has a route back until its last answer, or until its client has gone and the
//! core was told; a client that sends garbage, reuses an id or does not read its answers loses its connection, nothing more.
//! A client that ends its side of a stream wants no more answers on it.

use super::outbox::{Outbox, Refused};
use super::{Frames, ReadFrameError, close};
use crate::leaf::Inbox;
use quinn::{Connection, RecvStream, SendStream};
use raftkv_core::api::{Error, Request, Response};
use raftkv_core::ids::ReqId;
use raftkv_core::io::Input;
use raftkv_core::wire::client::{RequestFrame, ResponseFrame};
use raftkv_core::wire::frame::CLIENT_FRAME_BYTES_MAX;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

/// Requests of one stream that wait for an answer.
const PENDING_MAX: usize = 16_384;
/// Answers that wait for one client to read them.
const OUTBOX_BYTES_MAX: usize = 64 << 20;

/// All clients of a node.
#[derive(Debug)]
pub struct Clients {
    connections: Semaphore,
    inbox: Inbox,
    next_req: AtomicU64,
    routes: Mutex<HashMap<ReqId, Route>>,
    /// Questions of this process itself.
    own: Mutex<HashMap<ReqId, oneshot::Sender<Response>>>,
}

/// The way back to a client: its stream, and the id it gave the request.
#[derive(Clone, Debug)]
struct Route {
    stream: Arc<Stream>,
    id: u64,
}

#[derive(Debug)]
struct Stream {
    connection: Connection,
    outbox: Outbox,
    /// From the client's ids to ours, of requests that have not had their last answer.
    pending: Mutex<HashMap<u64, ReqId>>,
}

impl Clients {
    /// No clients yet.
    pub fn new(max_connections: usize, inbox: Inbox) -> Self {
        Clients {
            connections: Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)),
            inbox,
            next_req: AtomicU64::new(1),
            routes: Mutex::default(),
            own: Mutex::default(),
        }
    }

    /// Asks the core from within this process what has one answer. `None` when the core is gone.
    pub async fn ask(&self, request: Request) -> Option<Response> {
        let (answer, answered) = oneshot::channel();
        // The core answers every request it is given: one that is never given must leave nothing behind.
        let place = self.inbox.reserve().await.ok()?;
        let req = self.name();
        lock(&self.own).insert(req, answer);
        place.send(Input::Client { req, request });
        answered.await.ok()
    }

    fn name(&self) -> ReqId {
        ReqId(self.next_req.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends an answer on its way. Nothing happens if the client has gone.
    pub fn reply(&self, req: ReqId, response: Response) {
        let more_follow = matches!(response, Response::Watch { .. });
        let route = match more_follow {
            true => lock(&self.routes).get(&req).cloned(),
            false => lock(&self.routes).remove(&req),
        };
        let Some(Route { stream, id }) = route else {
            if let Some(answer) = lock(&self.own).remove(&req) {
                // Whoever asked may have given up.
                let _ = answer.send(response);
            }
            return;
        };
        if !more_follow {
            lock(&stream.pending).remove(&id);
        }
        stream.answer(id, response);
    }

    /// Serves one connection until it ends.
    pub async fn serve(self: Arc<Self>, connection: Connection) {
        let Ok(_permit) = self.connections.try_acquire() else {
            connection.close(close::BUSY, b"too many connections");
            return;
        };
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                stream = connection.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        let stream = Arc::new(Stream {
                            connection: connection.clone(),
                            outbox: Outbox::new(OUTBOX_BYTES_MAX, CLIENT_FRAME_BYTES_MAX),
                            pending: Mutex::default(),
                        });
                        streams.spawn(self.clone().serve_stream(stream, send, receive));
                    }
                    Err(why) => {
                        tracing::debug!("client {} has gone: {why}", connection.remote_address());
                        break;
                    }
                },
                Some(_) = streams.join_next() => {}
            }
        }
        // Each ends by itself now, and tells the core which requests nobody waits for.
        while streams.join_next().await.is_some() {}
    }

    async fn serve_stream(
        self: Arc<Self>,
        stream: Arc<Stream>,
        send: SendStream,
        receive: RecvStream,
    ) {
        let writer = tokio::spawn(write(stream.clone(), send));
        let mut frames = Frames::new(receive, CLIENT_FRAME_BYTES_MAX);
        loop {
            match frames.next().await {
                Ok(Some(frame)) => self.take(&stream, frame).await,
                Ok(None) | Err(ReadFrameError::Stream(_)) => break,
                Err(ReadFrameError::Frame(error)) => {
                    stream.refuse(&error.to_string());
                    break;
                }
            }
        }
        writer.abort();
        let pending = std::mem::take(&mut *lock(&stream.pending));
        for req in pending.into_values() {
            lock(&self.routes).remove(&req);
            // The core is gone only when the process ends.
            let _ = self.inbox.send(Input::ClientGone { req }).await;
        }
    }

    /// One request: to the core, or answered here if it cannot go there.
    async fn take(&self, stream: &Arc<Stream>, RequestFrame { id, mut request }: RequestFrame) {
        let req = self.name();
        if let Request::WatchCancel { watch } = &mut request {
            let Some(watched) = lock(&stream.pending).remove(watch) else {
                let nothing = Error::NotFound(format!("watch {watch} on this stream"));
                return stream.answer(id, Response::Error(nothing));
            };
            lock(&self.routes).remove(&watched);
            *watch = watched.0;
        }
        {
            let mut pending = lock(&stream.pending);
            if pending.len() >= PENDING_MAX {
                let what = format!("{PENDING_MAX} requests of this stream are under way");
                return stream.answer(id, Response::Error(Error::Busy { what }));
            }
            if pending.contains_key(&id) {
                return stream.refuse(&format!("request id {id} is in use"));
            }
            pending.insert(id, req);
        }
        lock(&self.routes).insert(req, Route { stream: stream.clone(), id });
        // The core is gone only when the process ends.
        let _ = self.inbox.send(Input::Client { req, request }).await;
    }
}

impl Stream {
    fn answer(&self, id: u64, response: Response) {
        match self.outbox.push(&ResponseFrame { id, response }) {
            Ok(()) => {}
            Err(Refused::TooLong { bytes }) => {
                let error = Error::TooLarge {
                    what: "the answer".into(),
                    got: bytes as u64,
                    limit: CLIENT_FRAME_BYTES_MAX as u64,
                };
                self.answer(id, Response::Error(error));
            }
            Err(Refused::Full) => {
                let client = self.connection.remote_address();
                tracing::warn!("client {client} does not read its answers and was disconnected");
                self.connection.close(close::SLOW, b"answers were not read");
            }
        }
    }

    fn refuse(&self, why: &str) {
        let client = self.connection.remote_address();
        tracing::warn!("client {client} was disconnected: {why}");
        self.connection.close(close::MALFORMED, why.as_bytes());
    }
}

/// Writes answers until the connection ends or the task is aborted.
async fn write(stream: Arc<Stream>, mut send: SendStream) {
    while send.write_chunk(stream.outbox.take().await).await.is_ok() {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is a single insertion or removal: a panic elsewhere leaves the maps whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
