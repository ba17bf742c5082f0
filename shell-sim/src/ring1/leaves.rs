//! The edges of the driver's world ([`raftkv_node::leaf`]): what they are told is said to the world, which carries it out on its models.
//!
//! Invariant: nothing is decided here but what the traits' contracts say: a disk's turn is handed on when it is flushed. A turn takes time,
//! so that a timer may be due when it ends.

use super::{Words, lock, timer};
use crate::model::clock::Dials;
use crate::random::Draw;
use crate::world::driven::{Said, View};
use madsim::time::TimeHandle;
use raftkv_core::api::Response;
use raftkv_core::backup::blob::{BlobOp, StoreIndex};
use raftkv_core::backup::machine::Work;
use raftkv_core::ids::{NodeId, OpId, ReqId};
use raftkv_core::io::{DiskOp, Lane, Output};
use raftkv_core::node::Node;
use raftkv_core::planted::{self, Bug};
use raftkv_core::rng::Rng;
use raftkv_core::time::{Mono, Now, Span};
use raftkv_core::wire::peer::PeerFrame;
use raftkv_node::leaf::{Blob, Clock, Disk, Net, Probe};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Says to the world what a process says: its network, and its backup store.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    at: usize,
    said: Arc<Mutex<Words>>,
}

/// The disk: gathers a turn's operations, and remembers which lane a completion belongs to.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    outlet: Outlet,
    gathered: Vec<(OpId, DiskOp)>,
    under_way: UnderWay,
}

/// Operations that have not ended, by lane.
pub(super) type UnderWay = Arc<Mutex<BTreeMap<OpId, Lane>>>;

/// Looks at the node after every turn, and lets time pass that the turn has taken.
pub(super) struct Glance {
    pub(super) outlet: Outlet,
    pub(super) time: TimeHandle,
    pub(super) rng: Rng,
    /// How long a turn takes.
    pub(super) turn_mean: Span,
}

/// The clocks of a machine.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) dials: Arc<Mutex<Dials>>,
    pub(super) time: TimeHandle,
}

impl Outlet {
    /// The outlet of the process on this machine.
    pub(super) fn new(at: usize, said: Arc<Mutex<Words>>) -> Self {
        Outlet { at, said }
    }

    /// Says something.
    pub(super) fn say(&self, said: Said) {
        lock(&self.said).say(self.at, said);
    }
}

impl Net for Outlet {
    fn send(&mut self, to: NodeId, frame: PeerFrame) {
        self.say(Said::Output(Output::Send { to, frame }));
    }

    fn reply(&mut self, req: ReqId, response: Response) {
        self.say(Said::Output(Output::Reply { req, response }));
    }

    fn peers(&mut self, peers: Vec<(NodeId, String)>) {
        self.say(Said::Output(Output::Peers(peers)));
    }
}

impl Blob for Outlet {
    fn submit(&mut self, store: StoreIndex, op: OpId, action: BlobOp) {
        self.say(Said::Output(Output::Blob { store, op, action }));
    }

    fn work(&mut self, op: OpId, work: Work) {
        self.say(Said::Output(Output::Work { op, work }));
    }
}

impl Probe for Glance {
    fn turn_ended(&mut self, node: &Node) {
        self.outlet.say(Said::Turn(Box::new(View::of(node))));
        if self.turn_mean > Span(0) {
            self.time.advance(Duration::from_nanos(self.rng.tail(self.turn_mean).0));
        }
    }
}

impl Lanes {
    /// Lanes with nothing under way.
    pub(super) fn new(outlet: Outlet) -> Self {
        Lanes { outlet, gathered: Vec::new(), under_way: UnderWay::default() }
    }

    /// What has been submitted and has not ended.
    pub(super) fn under_way(&self) -> UnderWay {
        self.under_way.clone()
    }
}

impl Disk for Lanes {
    fn submit(&mut self, op: OpId, action: DiskOp) {
        lock(&self.under_way).insert(op, action.lane());
        self.gathered.push((op, action));
    }

    fn flush(&mut self) {
        if planted::is(Bug::LaneReversed) {
            self.gathered.reverse();
        }
        for (op, action) in self.gathered.drain(..) {
            self.outlet.say(Said::Output(Output::Disk { op, action }));
        }
    }
}

impl Clock for Hands {
    fn now(&self) -> Now {
        lock(&self.dials).read(timer::now(&self.time))
    }

    fn sleep_until(&self, deadline: Mono) -> impl Future<Output = ()> + Send {
        timer::until(&self.time, lock(&self.dials).when(deadline))
    }
}
