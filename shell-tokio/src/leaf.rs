//! The edges of the world that a shell provides: network, disk, backup store, clock, and the inbox everything comes back through.
//!
//! The driver ([`crate::driver`]) is generic over these, so production and simulation share it. Invariants: no call blocks or
//! waits; what a call starts is answered through the inbox, if its contract names an answer.

use raftkv_core::api::Response;
use raftkv_core::backup::blob::{BlobOp, StoreIndex};
use raftkv_core::backup::machine::Work;
use raftkv_core::ids::{NodeId, OpId, ReqId};
use raftkv_core::io::{DiskOp, Input};
use raftkv_core::node::Node;
use raftkv_core::time::{Mono, Now};
use raftkv_core::wire::peer::PeerFrame;
use std::future::Future;
use tokio::sync::mpsc;

/// Where leaves put what happened. Bounded: a full inbox makes clients and peers wait, never the driver.
pub type Inbox = mpsc::Sender<Input>;

/// Carries frames to peers and answers to clients.
pub trait Net {
    /// Sends a frame, or loses it: when the peer cannot be reached or its queue is full, the frame is dropped, and
    /// [`Input::PeerUnreachable`] says so.
    fn send(&mut self, to: NodeId, frame: PeerFrame);
    /// Answers a client. Nothing happens if it has gone.
    fn reply(&mut self, req: ReqId, response: Response);
    /// All peers and where they listen, replacing what was said before.
    fn peers(&mut self, peers: Vec<(NodeId, String)>);
}

/// Carries out operations on the data directory.
pub trait Disk {
    /// Starts an operation. Those of one lane are done in the order given. Each ends with one [`Input::Disk`].
    fn submit(&mut self, op: OpId, action: DiskOp);
    /// The turn is over: whatever was batched may start now.
    fn flush(&mut self);
}

/// Carries out operations in the backup store, and what takes a processor for long.
pub trait Blob {
    /// Starts an operation. It ends with one [`Input::Blob`].
    fn submit(&mut self, store: StoreIndex, op: OpId, action: BlobOp);
    /// Starts work, on any thread but the driver's. It ends with one [`Input::Work`].
    fn work(&mut self, op: OpId, work: Work);
}

/// Tells and awaits the time.
pub trait Clock {
    /// Both clocks, now.
    fn now(&self) -> Now;
    /// Ends at `deadline`, or at once if that is past.
    fn sleep_until(&self, deadline: Mono) -> impl Future<Output = ()> + Send;
}

/// Looks at the node after every turn, when everything it had to say was carried to its lane. Production has nobody there: `()`.
pub trait Probe {
    /// The turn is over.
    fn turn_ended(&mut self, node: &Node);
}

impl Probe for () {
    fn turn_ended(&mut self, _: &Node) {}
}
