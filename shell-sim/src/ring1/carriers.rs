//! The ways into a driver's bounded inbox: one task for each source, each waiting where the server's threads and tasks wait.
//!
//! Invariants: what comes from one source (a disk's lane, a peer's stream, a client's stream) arrives in the order it was handed in;
//! nothing is lost but the hint that a peer cannot be reached, which the server, too, drops when the inbox is full.

use super::leaves::UnderWay;
use super::{lock, timer};
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use madsim::runtime::NodeHandle;
use madsim::time::TimeHandle;
use raftkv_core::ids::NodeId;
use raftkv_core::io::{Input, Lane};
use raftkv_core::planted::{self, Bug};
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::time::Span;
use raftkv_core::wire::peer::PeerFrame;
use raftkv_node::leaf::Inbox;
use std::collections::BTreeMap;
use std::fmt;
use tokio::sync::mpsc;

/// Streams that a machine's clients share.
const CLIENT_STREAMS: u64 = 4;
/// A carrier that dawdles takes about this long.
const DAWDLE_MEAN: Span = Span(20_000);

/// Who has something for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Disk(Lane),
    Peer(NodeId, Stream),
    Client(u64),
    /// The object store, and threads that work for it.
    Store,
    /// Whoever tells the process to stop.
    Signal,
}

/// A peer's frames come on two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stream {
    Raft,
    Bulk,
}

/// The carriers of one process.
pub(super) struct Carriers {
    process: NodeHandle,
    inbox: Inbox,
    under_way: UnderWay,
    time: TimeHandle,
    rng: Rng,
    dawdles: Ppm,
    queues: BTreeMap<Source, mpsc::UnboundedSender<Input>>,
}

impl Carriers {
    /// No carriers yet: each begins with the first thing to carry. `under_way` tells which lane a completion comes from.
    pub(super) fn new(
        process: NodeHandle,
        inbox: Inbox,
        under_way: UnderWay,
        time: TimeHandle,
        rng: Rng,
        dawdles: Ppm,
    ) -> Self {
        Carriers { process, inbox, under_way, time, rng, dawdles, queues: BTreeMap::new() }
    }

    /// Takes something to the inbox, as soon as there is room.
    pub(super) fn take(&mut self, input: Input) {
        let Some(source) = self.source(&input) else {
            // A lost hint is no harm: the next loss gives another.
            let _ = self.inbox.try_send(input);
            return;
        };
        if !self.queues.contains_key(&source) {
            let queue = self.begin();
            self.queues.insert(source, queue);
        }
        // A carrier lives as long as its process.
        let _ = self.queues[&source].send(input);
    }

    fn source(&self, input: &Input) -> Option<Source> {
        match input {
            Input::Disk { op, .. } => lock(&self.under_way).remove(op).map(Source::Disk),
            Input::Peer { from, frame } => {
                let is_bulk = matches!(frame, PeerFrame::SnapshotChunk { .. });
                Some(Source::Peer(*from, if is_bulk { Stream::Bulk } else { Stream::Raft }))
            }
            Input::Client { req, .. } | Input::ClientGone { req } => {
                Some(Source::Client(req.0 % CLIENT_STREAMS))
            }
            Input::Blob { .. } | Input::Work { .. } => Some(Source::Store),
            Input::Shutdown => Some(Source::Signal),
            Input::PeerUnreachable { .. } | Input::Timeout => None,
        }
    }

    fn begin(&mut self) -> mpsc::UnboundedSender<Input> {
        let (queue, mut waiting) = mpsc::unbounded_channel();
        let (inbox, time, dawdles) = (self.inbox.clone(), self.time.clone(), self.dawdles);
        let mut rng = Seed::from_number(self.rng.next_u64()).fork("carrier");
        let carry = async move {
            while let Some(input) = waiting.recv().await {
                if rng.happens(dawdles) {
                    let end: SimTime = timer::now(&time) + rng.tail(DAWDLE_MEAN);
                    timer::until(&time, end).await;
                }
                let is_completion = matches!(input, Input::Disk { .. });
                if planted::is(Bug::CompletionDroppedWhenFull) && is_completion {
                    let _ = inbox.try_send(input);
                } else {
                    // The driver is gone only when its process ends.
                    let _ = inbox.send(input).await;
                }
            }
        };
        drop(self.process.spawn(carry));
        queue
    }
}

impl fmt::Debug for Carriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carriers").field("sources", &self.queues.keys()).finish_non_exhaustive()
    }
}
