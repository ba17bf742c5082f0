//! Links to peers: one for each, with at most one connection, which carries frames both ways.
//!
//! Both sides may dial; the newest connection wins. The side with the larger id waits a little before it dials, so that two
//! nodes seldom cross. A restarted peer dials at once and thereby replaces a connection that is dead but not yet known to be.
//! Consensus and snapshots travel on streams of their own, so that chunks never hold back heartbeats. Frames that cannot leave
//! are dropped: consensus expects loss, and stale messages help nobody.

use super::outbox::Outbox;
use super::{Frames, HANDSHAKE_TIMEOUT, ReadFrameError, close, one_frame, transport};
use crate::leaf::Inbox;
use crate::tls;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream};
use raftkv_core::ids::{Identity, NodeId};
use raftkv_core::io::Input;
use raftkv_core::wire::frame::PEER_FRAME_BYTES_MAX;
use raftkv_core::wire::handshake::{Hello, Refusal, Welcome};
use raftkv_core::wire::peer::PeerFrame;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Consensus frames waiting for one peer.
const OUTBOX_BYTES_MAX: usize = 32 << 20;
/// Snapshot frames waiting for one peer: the core sends a chunk only after the last was acknowledged.
const BULK_BYTES_MAX: usize = 16 << 20;
const HELLO_BYTES_MAX: usize = 4 << 10;
const RAFT_PRIORITY: i32 = 1;
const BULK_PRIORITY: i32 = 0;
/// How long the larger id leaves it to the smaller one to dial.
const COURTESY: Duration = Duration::from_millis(300);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A connection that lived shorter counts as a failed try.
const STABLE: Duration = Duration::from_secs(1);

/// All links of a node.
#[derive(Debug)]
pub struct Links {
    endpoint: Endpoint,
    identity: Identity,
    config: ClientConfig,
    certs: Option<PathBuf>,
    inbox: Inbox,
    links: Mutex<BTreeMap<NodeId, Link>>,
}

#[derive(Debug)]
struct Link {
    queues: Arc<Queues>,
    /// Connections that the peer opened.
    newer: mpsc::Sender<Connection>,
    /// Where the peer listens, once known.
    address: watch::Sender<Option<String>>,
}

#[derive(Debug)]
struct Queues {
    raft: Outbox,
    bulk: Outbox,
    /// The core was told that frames are lost, and not yet that the link is up again.
    reported: AtomicBool,
}

impl Links {
    /// No links yet. `config` is for calls between nodes.
    pub fn new(
        endpoint: Endpoint,
        identity: Identity,
        config: ClientConfig,
        certs: Option<PathBuf>,
        inbox: Inbox,
    ) -> Arc<Links> {
        Arc::new(Links { endpoint, identity, config, certs, inbox, links: Mutex::default() })
    }

    /// Queues a frame, or drops it.
    pub fn send(&self, to: NodeId, frame: &PeerFrame) {
        let links = self.lock();
        let Some(link) = links.get(&to) else { return };
        let outbox = match frame {
            PeerFrame::SnapshotChunk { .. } => &link.queues.bulk,
            PeerFrame::Raft(_)
            | PeerFrame::SnapshotAck { .. }
            | PeerFrame::SnapshotRefused { .. }
            | PeerFrame::Removed
            | PeerFrame::MayLeave
            | PeerFrame::BackupAsk { .. }
            | PeerFrame::BackupAnswer { .. }
            | PeerFrame::BackupBusy { .. }
            | PeerFrame::BackupReport { .. } => &link.queues.raft,
        };
        if outbox.push(frame).is_err() {
            self.report_unreachable(to, &link.queues);
        }
    }

    /// Makes links to these peers. One that is no longer named is not dialled any more, but what is queued for it still leaves, because
    /// it may be the news of its removal; and it may call.
    pub fn set_peers(self: &Arc<Self>, peers: Vec<(NodeId, String)>) {
        let mut peers: BTreeMap<_, _> = peers.into_iter().collect();
        let mut links = self.lock();
        for (peer, link) in links.iter() {
            let address = peers.remove(peer);
            link.address.send_if_modified(|known| {
                let changed = *known != address;
                *known = address;
                changed
            });
        }
        for (peer, address) in peers {
            let link = self.open(peer);
            link.address.send_replace(Some(address));
            links.insert(peer, link);
        }
    }

    /// Answers a peer that called, and takes its connection over if it may stay.
    pub async fn welcome(self: Arc<Self>, connection: Connection) {
        let caller = connection.remote_address();
        match timeout(HANDSHAKE_TIMEOUT, self.answer(&connection)).await {
            Ok(Ok(Some(peer))) => {
                let mut links = self.lock();
                let link = links.entry(peer).or_insert_with(|| self.open(peer));
                // A peer that calls faster than its link can take calls is told so by the drop.
                let _ = link.newer.try_send(connection);
            }
            Ok(Ok(None)) => {}
            Ok(Err(why)) if connection.close_reason().is_some() => {
                tracing::debug!("a node at {caller} hung up before it was let in: {why}");
            }
            Ok(Err(why)) => {
                tracing::warn!("a node at {caller} did not introduce itself properly: {why}");
                connection.close(close::MALFORMED, why.as_bytes());
            }
            Err(_) => connection.close(close::TIMEOUT, b"no greeting came"),
        }
    }

    /// Who called, if it may stay.
    async fn answer(&self, connection: &Connection) -> Result<Option<NodeId>, String> {
        let (mut send, receive) =
            connection.accept_bi().await.map_err(|error| error.to_string())?;
        let hello: Hello = first_frame(receive).await?;
        let verdict = hello.check(&self.identity);
        let answer = match &verdict {
            Ok(()) => Welcome::Accepted,
            Err(refusal) => Welcome::Refused(refusal.clone()),
        };
        send.write_chunk(one_frame(&answer)).await.map_err(|error| error.to_string())?;
        // The stream is ours and open.
        let _ = send.finish();
        let Err(refusal) = verdict else { return Ok(Some(hello.from.node)) };
        tracing::warn!("a node at {} was refused: {refusal}", connection.remote_address());
        // The caller reads the answer and hangs up; if it does not, the drop does.
        let _ = timeout(HANDSHAKE_TIMEOUT, connection.closed()).await;
        connection.close(close::REFUSED, refusal.to_string().as_bytes());
        Ok(None)
    }

    fn open(self: &Arc<Self>, peer: NodeId) -> Link {
        let queues = Arc::new(Queues {
            raft: Outbox::new(OUTBOX_BYTES_MAX, PEER_FRAME_BYTES_MAX),
            bulk: Outbox::new(BULK_BYTES_MAX, PEER_FRAME_BYTES_MAX),
            reported: AtomicBool::new(false),
        });
        let (newer, calls) = mpsc::channel(4);
        let (address, known) = watch::channel(None);
        let line =
            Line { links: self.clone(), peer, queues: queues.clone(), calls, address: known };
        tokio::spawn(line.run());
        Link { queues, newer, address }
    }

    /// A lost hint is no harm: the next loss gives another.
    fn report_unreachable(&self, peer: NodeId, queues: &Queues) {
        if !queues.reported.swap(true, Ordering::Relaxed)
            && self.inbox.try_send(Input::PeerUnreachable { peer }).is_err()
        {
            queues.reported.store(false, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task behind a link.
struct Line {
    links: Arc<Links>,
    peer: NodeId,
    queues: Arc<Queues>,
    calls: mpsc::Receiver<Connection>,
    address: watch::Receiver<Option<String>>,
}

impl Line {
    /// Runs until its link is dropped.
    async fn run(mut self) {
        let polite = self.links.identity.node > self.peer;
        let mut backoff = Backoff::new();
        let mut next = None;
        let mut delay = if polite { COURTESY } else { Duration::ZERO };
        loop {
            let connection = match next.take() {
                Some(connection) => connection,
                None => match self.connect(delay, &mut backoff).await {
                    Some(connection) => connection,
                    None => return,
                },
            };
            self.queues.reported.store(false, Ordering::Relaxed);
            let peer = self.peer;
            tracing::info!(%peer, "connected with node {peer} at {}", connection.remote_address());
            let since = Instant::now();
            match self.carry(&connection).await {
                Ended::Replaced(newer) => {
                    connection.close(close::REPLACED, b"a newer connection took over");
                    next = Some(newer);
                }
                Ended::Lost(why) => {
                    tracing::info!(%peer, "the connection with node {peer} ended: {why}");
                    self.lose_frames();
                }
                Ended::Unlinked => return,
            }
            let stable = since.elapsed() >= STABLE;
            if stable {
                backoff = Backoff::new();
            }
            delay = match (stable, polite) {
                (true, false) => Duration::ZERO,
                (true, true) => COURTESY,
                (false, _) => backoff.next(),
            };
        }
    }

    /// A connection, after trying as long as it takes. `None` when the link is dropped.
    async fn connect(&mut self, mut delay: Duration, backoff: &mut Backoff) -> Option<Connection> {
        let mut told: Option<Failure> = None;
        loop {
            let dialling = async {
                let address = known(&mut self.address).await;
                sleep(delay).await;
                let dialled = timeout(HANDSHAKE_TIMEOUT, dial(&self.links, self.peer, &address));
                let why = match dialled.await {
                    Ok(Ok(connection)) => return Ok(connection),
                    Ok(Err(why)) => why,
                    Err(_) => Failure::Unreached("no answer".into()),
                };
                Err((address, why))
            };
            let (address, why) = tokio::select! {
                called = self.calls.recv() => return called,
                dialled = dialling => match dialled {
                    Ok(connection) => return Some(connection),
                    Err(failure) => failure,
                },
            };
            let peer = self.peer;
            if why.is_news_after(told.as_ref()) {
                tracing::warn!(%peer, "node {peer} at {address} cannot be reached, and will be tried again: {why}");
                told = Some(why);
            } else {
                tracing::debug!(%peer, "node {peer} at {address} cannot be reached: {why}");
            }
            self.lose_frames();
            delay = backoff.next();
        }
    }

    /// Carries frames both ways until the connection ends or a newer one comes.
    async fn carry(&mut self, connection: &Connection) -> Ended {
        let read = read(connection, self.peer, &self.links.inbox);
        let raft = write(connection, &self.queues.raft, RAFT_PRIORITY);
        let bulk = write(connection, &self.queues.bulk, BULK_PRIORITY);
        tokio::select! {
            why = read => Ended::Lost(why),
            why = raft => Ended::Lost(why),
            why = bulk => Ended::Lost(why),
            called = self.calls.recv() => match called {
                Some(newer) => Ended::Replaced(newer),
                None => Ended::Unlinked,
            },
        }
    }

    fn lose_frames(&self) {
        self.queues.raft.clear();
        self.queues.bulk.clear();
        self.links.report_unreachable(self.peer, &self.queues);
        self.queues.reported.store(false, Ordering::Relaxed);
    }
}

/// Why a peer could not be connected with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Unreached(String),
    #[error("it refused this node: {0}")]
    Refused(Refusal),
}

impl Failure {
    /// Whether people should hear of it who were told of that one in the same outage. A refusal does not pass by itself, so it is news
    /// also where nobody answered before.
    fn is_news_after(&self, told: Option<&Failure>) -> bool {
        match (told, self) {
            (None, _) => true,
            (Some(told), Failure::Refused(_)) => told != self,
            (Some(_), Failure::Unreached(_)) => false,
        }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Failure::Unreached(why)
    }
}

/// Why a connection is no longer used.
enum Ended {
    Lost(String),
    Replaced(Connection),
    Unlinked,
}

/// The peer's address, as soon as there is one.
async fn known(address: &mut watch::Receiver<Option<String>>) -> String {
    loop {
        if let Some(address) = address.borrow_and_update().clone() {
            return address;
        }
        if address.changed().await.is_err() {
            // The link is gone, and its task is about to learn that from its calls.
            std::future::pending::<()>().await;
        }
    }
}

/// A connection to a peer that let this node in.
async fn dial(links: &Links, peer: NodeId, address: &str) -> Result<Connection, Failure> {
    let target = tokio::net::lookup_host(address)
        .await
        .map_err(|error| error.to_string())?
        .next()
        .ok_or_else(|| "its name has no address".to_owned())?;
    tls::check_address(links.certs.as_deref(), target).map_err(|error| error.to_string())?;
    let config = transport::peer(links.config.clone(), target);
    let connection = links
        .endpoint
        .connect_with(config, target, tls::server_name(address))
        .map_err(|error| error.to_string())?
        .await
        .map_err(|error| tls::explain(&error))?;
    match greet(&connection, Hello { from: links.identity, to: peer }).await {
        Ok(Welcome::Accepted) => Ok(connection),
        Ok(Welcome::Refused(refusal)) => {
            connection.close(close::REFUSED, b"refused");
            Err(Failure::Refused(refusal))
        }
        Err(error) => Err(Failure::Unreached(match connection.close_reason() {
            Some(reason) => tls::explain(&reason),
            None => error,
        })),
    }
}

async fn greet(connection: &Connection, hello: Hello) -> Result<Welcome, String> {
    let (mut send, receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
    send.write_chunk(one_frame(&hello)).await.map_err(|error| error.to_string())?;
    // The stream is ours and open.
    let _ = send.finish();
    first_frame(receive).await
}

async fn first_frame<T: DeserializeOwned>(stream: RecvStream) -> Result<T, String> {
    match Frames::new(stream, HELLO_BYTES_MAX).next().await {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err("it said nothing".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes what comes into the outbox until the connection ends; says why.
async fn write(connection: &Connection, outbox: &Outbox, priority: i32) -> String {
    let first = outbox.take().await;
    let written = async {
        let mut stream = connection.open_uni().await?;
        // It fails only on a stream that is closed already.
        let _ = stream.set_priority(priority);
        stream.write_chunk(first).await?;
        loop {
            stream.write_chunk(outbox.take().await).await?;
        }
    };
    let error: Result<(), quinn::WriteError> = written.await;
    error.err().map_or_else(String::new, |error| error.to_string())
}

/// Reads every stream until the connection ends; says why.
async fn read(connection: &Connection, peer: NodeId, inbox: &Inbox) -> String {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_uni() => match stream {
                Ok(stream) => {
                    streams.spawn(read_stream(stream, peer, inbox.clone()));
                }
                Err(ConnectionError::ApplicationClosed(close)) => return close.to_string(),
                Err(error) => return tls::explain(&error),
            },
            Some(ended) = streams.join_next() => {
                if let Ok(Err(why)) = ended {
                    tracing::warn!(%peer, "node {peer} sent what is no frame: {why}");
                    connection.close(close::MALFORMED, why.as_bytes());
                    return why;
                }
            }
        }
    }
}

/// Hands frames to the core. The error is about bytes that are no frames.
async fn read_stream(stream: RecvStream, peer: NodeId, inbox: Inbox) -> Result<(), String> {
    let mut frames = Frames::new(stream, PEER_FRAME_BYTES_MAX);
    loop {
        match frames.next().await {
            // The core is gone only when the process ends.
            Ok(Some(frame)) => drop(inbox.send(Input::Peer { from: peer, frame }).await),
            Ok(None) | Err(ReadFrameError::Stream(_)) => return Ok(()),
            Err(ReadFrameError::Frame(error)) => return Err(error.to_string()),
        }
    }
}

/// Doubling waits with jitter, so that restarted clusters do not dial in step.
struct Backoff {
    wait: Duration,
}

impl Backoff {
    fn new() -> Self {
        Backoff { wait: BACKOFF_MIN }
    }

    fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(BACKOFF_MAX);
        // Without randomness from the system there is no jitter, and that is all.
        let draw = getrandom::u32().unwrap_or(0);
        wait + wait.mul_f64(f64::from(draw) / f64::from(u32::MAX) / 2.0)
    }
}
