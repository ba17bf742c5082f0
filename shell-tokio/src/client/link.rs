//! One connection to one node, shared by any number of requests.
//!
//! Callers append their frames to one buffer; a writer task sends whatever has gathered each time it wakes, a reader task hands
//! answers to those who wait. Under load one wake-up, one packet and one lock serve many requests.
//!
//! Invariant: once the link is broken, every waiting and every later request ends with an error at once.

use super::lock::lock;
use crate::tls;
use bytes::BytesMut;
use quinn::{Connection, ReadError, RecvStream, SendStream, WriteError};
use raftkv_core::api::{Error, Request, Response};
use raftkv_core::wire::client::ResponseFrame;
use raftkv_core::wire::frame::{self, CLIENT_FRAME_BYTES_MAX, Decoder};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, oneshot};

/// A live connection with its stream.
pub(super) struct Link {
    connection: Connection,
    shared: Arc<Shared>,
}

/// Why a request on a link has no answer.
#[derive(Debug)]
pub(super) enum LinkError {
    /// It was certainly not sent.
    NotSent(String),
    /// It may have been sent.
    Lost(String),
    /// It is larger than a frame may be.
    TooLarge(Error),
}

/// Answers to one watch. Closed when the link broke or the reader of the watch fell too far behind.
pub(super) struct Answers {
    /// Where they arrive.
    pub receiver: mpsc::Receiver<Response>,
    /// Forgets the request when the watch is dropped.
    pub waiting: Waiting,
}

/// A registered request; forgotten when dropped.
pub(super) struct Waiting {
    /// Its number on this link.
    pub id: u64,
    shared: Arc<Shared>,
}

/// Answers that may wait for a slow reader of a watch before the watch is started anew.
const WATCH_ANSWERS_MAX: usize = 1024;

struct Shared {
    outgoing: Mutex<BytesMut>,
    wake: Notify,
    next_id: AtomicU64,
    waiting: Mutex<Registry>,
}

enum Registry {
    Open(HashMap<u64, Waiter>),
    Broken(String),
}

enum Waiter {
    Once(oneshot::Sender<Response>),
    Many(mpsc::Sender<Response>),
}

impl Link {
    /// Opens the stream of a fresh connection and starts its tasks.
    pub async fn start(connection: Connection) -> Result<Link, quinn::ConnectionError> {
        let (send, receive) = connection.open_bi().await?;
        let shared = Arc::new(Shared {
            outgoing: Mutex::new(BytesMut::new()),
            wake: Notify::new(),
            next_id: AtomicU64::new(1),
            waiting: Mutex::new(Registry::Open(HashMap::new())),
        });
        tokio::spawn(write_frames(shared.clone(), send));
        tokio::spawn(read_frames(shared.clone(), receive));
        Ok(Link { connection, shared })
    }

    /// Asks at once, whenever the one answer is waited for. What is asked on one link arrives in that order.
    pub fn ask(
        &self,
        request: &Request,
    ) -> impl Future<Output = Result<Response, LinkError>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let sent = self.send(request, Waiter::Once(sender));
        let shared = self.shared.clone();
        async move {
            let _waiting = sent?;
            receiver.await.map_err(|_| LinkError::Lost(shared.why_broken()))
        }
    }

    /// Asks for answers that keep coming.
    pub fn subscribe(&self, request: &Request) -> Result<Answers, LinkError> {
        let (sender, receiver) = mpsc::channel(WATCH_ANSWERS_MAX);
        let waiting = self.send(request, Waiter::Many(sender))?;
        Ok(Answers { receiver, waiting })
    }

    /// Sends without wanting an answer.
    pub fn tell(&self, request: &Request) {
        let (sender, _) = oneshot::channel();
        // Whoever tells does not care whether the link still stands.
        let _ = self.send(request, Waiter::Once(sender));
    }

    /// Whether no request can succeed any more.
    pub fn is_broken(&self) -> bool {
        matches!(*self.shared.registry(), Registry::Broken(_))
    }

    fn send(&self, request: &Request, waiter: Waiter) -> Result<Waiting, LinkError> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        match &mut *self.shared.registry() {
            Registry::Open(waiting) => waiting.insert(id, waiter),
            Registry::Broken(why) => return Err(LinkError::NotSent(why.clone())),
        };
        let waiting = Waiting { id, shared: self.shared.clone() };
        let mut outgoing = lock(&self.shared.outgoing);
        let start = outgoing.len();
        // The fields of a `RequestFrame` in their order: the same bytes, without taking the request.
        frame::encode(&(id, request), &mut outgoing);
        let length = outgoing.len() - start;
        if length > CLIENT_FRAME_BYTES_MAX {
            outgoing.truncate(start);
            return Err(LinkError::TooLarge(Error::TooLarge {
                what: "the request".into(),
                got: length as u64,
                limit: CLIENT_FRAME_BYTES_MAX as u64,
            }));
        }
        drop(outgoing);
        self.shared.wake.notify_one();
        Ok(waiting)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.close(0u32.into(), b"done");
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Registry::Open(waiting) = &mut *self.shared.registry() {
            waiting.remove(&self.id);
        }
    }
}

impl Waiter {
    /// Hands an answer over; returns itself if it waits for more.
    fn hand(self, response: Response) -> Option<Waiter> {
        match self {
            Waiter::Once(sender) => {
                // Whoever waited may have left this instant.
                let _ = sender.send(response);
                None
            }
            Waiter::Many(sender) => {
                // One too far behind is dropped: its watch ends after what is queued, and resumes from there.
                sender.try_send(response).ok()?;
                Some(Waiter::Many(sender))
            }
        }
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.waiting)
    }

    fn break_down(&self, why: String) {
        let mut registry = self.registry();
        if let Registry::Open(_) = &*registry {
            *registry = Registry::Broken(why);
        }
        drop(registry);
        self.wake.notify_one();
    }

    fn why_broken(&self) -> String {
        match &*self.registry() {
            Registry::Broken(why) => why.clone(),
            Registry::Open(_) => "the request was dropped".into(),
        }
    }
}

async fn write_frames(shared: Arc<Shared>, mut send: SendStream) {
    loop {
        shared.wake.notified().await;
        // Let everyone who became ready together with the first append a frame too.
        tokio::task::yield_now().await;
        if let Registry::Broken(_) = *shared.registry() {
            return;
        }
        let batch = lock(&shared.outgoing).split().freeze();
        if let Err(error) = send.write_chunk(batch).await {
            let why = match error {
                WriteError::ConnectionLost(error) => tls::explain(&error),
                error => error.to_string(),
            };
            return shared.break_down(format!("the connection was lost while sending: {why}"));
        }
    }
}

async fn read_frames(shared: Arc<Shared>, mut receive: RecvStream) {
    let mut decoder = Decoder::new(CLIENT_FRAME_BYTES_MAX);
    loop {
        match receive.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            Ok(None) => return shared.break_down("the node closed the connection".into()),
            Err(error) => {
                // A node that wants a certificate says so only once the stream is open.
                let why = match error {
                    ReadError::ConnectionLost(error) => tls::explain(&error),
                    error => error.to_string(),
                };
                return shared.break_down(format!("the connection was lost: {why}"));
            }
        }
        if let Err(why) = hand_out(&shared, &mut decoder) {
            return shared.break_down(why);
        }
    }
}

fn hand_out(shared: &Shared, decoder: &mut Decoder) -> Result<(), String> {
    let mut registry = shared.registry();
    let Registry::Open(waiting) = &mut *registry else { return Err("already broken".into()) };
    loop {
        let frame = match decoder.next_frame::<ResponseFrame>() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(error) => {
                return Err(format!("the node sent something else than answers: {error}"));
            }
        };
        // An id that is not known any more was given up meanwhile.
        let waiter = waiting.remove(&frame.id);
        if let Some(waiter) = waiter.and_then(|waiter| waiter.hand(frame.response)) {
            waiting.insert(frame.id, waiter);
        }
    }
}
