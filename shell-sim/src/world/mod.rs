//! The world: nodes with their disks and clocks, networks, clients, an operator and a nemesis, in one deterministic event loop.
//!
//! Invariants: everything that happens is a function of the options; time moves to the next moment at which any machine wants to wake;
//! machines that want the same moment are served in a fixed order. After every step of a node its own invariants are
//! checked, and the observer compares what it did with everything seen before.
//!
//! A run has two phases. In the first anything on the option list may happen. In the second everything is mended (but for a node
//! that may stay dead), and within a bound of simulated time the cluster must be well again. Source: TigerBeetle's VOPR.

mod atlas;
pub mod backups;
mod clients;
mod configurations;
mod damage;
pub mod disaster;
pub mod driven;
mod ending;
mod founding;
mod genesis;
mod liveness;
mod log_map;
mod membership;
mod nemesis;
mod observer;
mod operator;
pub mod options;
mod overtaking;
mod probes;
mod process;
mod rollback;
mod sayings;
pub mod scenario;
mod secrecy;
mod slot;
pub mod sometimes;
mod trace;

use crate::check::Violation;
use crate::client::Client;
use crate::client::watcher::Watcher;
use crate::history::History;
use crate::model::network::{Host, Network};
use crate::time::SimTime;
use atlas::Atlas;
use backups::Backups;
use clients::ClientFrame;
use disaster::Disaster;
use driven::Drivers;
use nemesis::Nemesis;
use observer::Observer;
use operator::Operator;
use options::{FaultKind, Options, Ring};
use overtaking::Overtaking;
use probes::Probes;
use process::PeerEnvelope;
use raftkv_core::ids::NodeId;
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::time::Span;
use slot::Slot;
use std::collections::{BTreeMap, BTreeSet};
use trace::Trace;

pub use trace::Story;

/// The first host number of clients; nodes are numbered from 0.
const CLIENT_HOSTS: u32 = 100;
/// The first host number of watchers.
const WATCHER_HOSTS: u32 = 200;
/// The operator's host number.
const OPERATOR_HOST: u32 = 300;
/// The host number of the operator's command line for backups.
const CONSOLE_HOST: u32 = 301;

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    /// What it did.
    pub report: Report,
    /// What was wrong, if anything.
    pub result: Result<(), Violation>,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Simulated time.
    pub simulated: Span,
    /// Lines of the trace.
    pub events: u64,
    /// Requests answered well.
    pub acknowledged: u64,
    /// Requests made.
    pub requested: u64,
    /// Entries applied.
    pub applied: u64,
    /// Terms with a leader.
    pub elections: u64,
    /// How often each fault fired.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each rare state was reached.
    pub sometimes: BTreeMap<&'static str, u64>,
    /// How much each check was fed.
    pub checks: BTreeMap<&'static str, u64>,
}

/// The world.
#[derive(Debug)]
pub struct World {
    options: Options,
    now: SimTime,
    rng: Rng,
    /// Who runs the nodes, unless the world does so itself.
    drivers: Option<Box<dyn Drivers>>,
    slots: Vec<Slot>,
    peers: Network<PeerEnvelope>,
    wires: Network<ClientFrame>,
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    operator: Operator,
    nemesis: Nemesis,
    overtaking: Option<Overtaking>,
    backups: Backups,
    disaster: Disaster,
    atlas: Atlas,
    observer: Observer,
    history: History,
    probes: Probes,
    trace: Trace,
    /// Frames sent between nodes.
    frames: u64,
    tally: BTreeMap<&'static str, u64>,
    sometimes: BTreeMap<&'static str, u64>,
    /// Last notice that a peer cannot be reached, by the node told and the peer.
    notices: BTreeMap<(Host, Host), SimTime>,
    /// Snapshots whose transfer has begun, by receiver and index.
    snapshots_begun: BTreeSet<(NodeId, u64)>,
}

impl World {
    /// A world in which the nodes have their data directories and are about to be started. What happens is told to `story`, if there is one.
    pub fn new(options: Options, story: Option<Story>) -> World {
        let seed = Seed::from_number(options.seed);
        let count = (options.voters + options.learners + options.spares) as usize;
        let slots = (1..=count as u32)
            .map(|member| Slot::new(&options, member, SimTime(0), &seed))
            .collect();
        let client = |number: u32| {
            let rng = seed.fork(&format!("client {number}"));
            Client::new(number, count, options.workload, rng)
        };
        let watcher =
            |number: u32| Watcher::new(number, count, seed.fork(&format!("watcher {number}")));
        let mut world = World {
            now: SimTime(0),
            rng: seed.fork("world"),
            drivers: driven::drivers(&options),
            slots,
            peers: Network::new(options.network, seed.fork("peers")),
            wires: Network::new(options.client_network, seed.fork("wires")),
            clients: (0..options.clients).map(client).collect(),
            watchers: (0..options.watchers).map(watcher).collect(),
            operator: Operator::new(count),
            nemesis: Nemesis::new(seed.fork("nemesis")),
            overtaking: None,
            disaster: Disaster::new(options.disaster, &seed),
            backups: Backups::new(&options.backups, count, &seed),
            atlas: Atlas::default(),
            observer: Observer::default(),
            history: History::default(),
            probes: Probes::default(),
            trace: Trace::new(story),
            frames: 0,
            tally: BTreeMap::new(),
            sometimes: BTreeMap::new(),
            notices: BTreeMap::new(),
            snapshots_begun: BTreeSet::new(),
            options,
        };
        world.provision();
        world
    }

    /// Runs to the end.
    pub fn run(self) -> Run {
        self.run_recorded().0
    }

    /// Runs to the end, and gives what clients did and saw of the first cluster: the only one that began with nothing.
    pub fn run_recorded(mut self) -> (Run, History) {
        let result = self.phases();
        if let Err(violation) = &result {
            self.trace.line(self.now, "world", "violation", format_args!("{violation}"));
        }
        let report = self.report();
        (Run { report, result }, self.disaster.into_first_history().unwrap_or(self.history))
    }

    fn phases(&mut self) -> Result<(), Violation> {
        self.run_until(SimTime(0) + self.options.chaos)?;
        self.recover()?;
        self.end_life()?;
        Ok(())
    }

    /// Lets everything happen that happens up to `end`.
    fn run_until(&mut self, end: SimTime) -> Result<(), Violation> {
        loop {
            let next = self.next_wake().max(self.now);
            self.now = self.advance(next.min(end)).max(self.now);
            if next > end && self.now >= end {
                return Ok(());
            }
            self.step()?;
        }
    }

    fn next_wake(&self) -> SimTime {
        let slots = self.slots.iter().map(|slot| slot.next_wake().min(slot.disk.next_wake()));
        let clients = self.clients.iter().map(Client::next_wake);
        let watchers = self.watchers.iter().map(Watcher::next_wake);
        let rest = [
            self.peers.next_wake(),
            self.wires.next_wake(),
            self.nemesis.next_wake(),
            self.operator.next_wake(),
            self.backups.next_wake(),
            self.disaster.next_wake(),
        ];
        slots.chain(clients).chain(watchers).chain(rest).min().unwrap_or(SimTime::NEVER)
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.hear_drivers()?;
        self.strike();
        self.run_disaster()?;
        self.deliver_to_nodes()?;
        self.deliver_client_frames();
        self.let_clients_speak();
        self.let_operator_speak();
        self.run_backups()?;
        for at in 0..self.slots.len() {
            self.run_disk(at)?;
            self.run_process(at)?;
        }
        Ok(())
    }

    /// Counts a fault.
    fn count(&mut self, fault: &'static str) {
        *self.tally.entry(fault).or_default() += 1;
    }

    /// Counts a rare state worth reaching.
    fn sometimes(&mut self, state: &'static str) {
        *self.sometimes.entry(state).or_default() += 1;
    }

    fn report(&self) -> Report {
        let mut faults = self.tally.clone();
        for (name, count) in self.model_counts() {
            *faults.entry(name).or_default() += count;
        }
        faults.retain(|_, count| *count > 0);
        let totals = self.disaster.totals;
        Report {
            simulated: self.now - SimTime(0),
            events: self.trace.lines(),
            acknowledged: totals.acknowledged + self.history.acknowledged() as u64,
            requested: totals.requested + self.history.operations.len() as u64,
            applied: totals.applied + self.observer.states().log().count() as u64,
            elections: totals.elections + self.observer.elections() as u64,
            faults,
            sometimes: self.sometimes.clone(),
            checks: self.fed(),
        }
    }

    /// What the checks had to look at.
    fn fed(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.observer.counts();
        let answered = self.history.operations.len() as u64;
        let watched: usize = self.history.watches.iter().map(|run| run.events.len()).sum();
        let applied = self.observer.states().log().count() as u64;
        let semantics = if self.options.with_reference { applied } else { 0 };
        BTreeMap::from([
            ("invariants of a node, steps", counts.statuses),
            ("election safety, steps", counts.statuses),
            ("state-machine safety, steps", counts.statuses),
            ("log matching, entries", counts.entries),
            ("hard state, writes", counts.hard_states),
            ("recovery, starts", counts.boots),
            ("quorum durability, entries", applied),
            ("promises, messages", counts.messages),
            ("replay, entries", applied),
            ("semantics, entries", semantics),
            ("strict serializability, requests", answered),
            ("watch, events", watched as u64),
        ])
    }

    fn model_counts(&self) -> Vec<(&'static str, u64)> {
        let net = self.peers.counts();
        let mut counts = vec![
            ("frame lost", net.lost),
            ("frame corrupted", net.corrupted),
            ("frame duplicated", net.duplicated),
            ("frame replayed", net.replayed),
            ("frame cut", net.cut),
            ("frame clogged", net.clogged),
            ("frame slowed", net.slowed),
            ("client frame lost", self.wires.counts().lost + self.wires.counts().cut),
        ];
        for disk in self.slots.iter().map(|slot| slot.disk.counts()) {
            counts.extend([
                ("disk hang", disk.hung),
                ("disk read error", disk.read_errors),
                ("disk write error", disk.write_errors),
                ("disk sync error", disk.sync_errors),
                ("disk full refusal", disk.full),
                ("unsynced data at power cut", disk.torn),
            ]);
        }
        counts.extend(self.backups.counts());
        counts
    }
}
