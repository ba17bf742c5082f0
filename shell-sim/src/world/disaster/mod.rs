//! The loss of the data centre, and the life after it.
//!
//! At some instant all machines are gone with their disks. The operator restores the newest usable backup onto new machines, which form
//! a new cluster; clients go on with what they remember of the old one. A *life* is the time of one cluster: it has its own observer and
//! its own history, which are checked when it ends. Old machines may come back afterwards, with their old disks.

mod options;
mod strays;

use super::atlas::Atlas;
use super::backups::Recovery;
use super::founding::Founding;
use super::observer::Observer;
use super::operator::Operator;
use super::process::address;
use super::slot::{Process, Slot};
use super::{World, genesis};
use crate::check::replay::Replay;
use crate::check::{self, Violation, loss, rebirth};
use crate::history::History;
use crate::model::disk::{Crash, CrashPolicy};
use crate::model::network::Network;
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use bytes::Bytes;
use raftkv_core::api::{KeyValue, MemberInfo, MemberRole, Revision};
use raftkv_core::backup::restore::rebase;
use raftkv_core::boot;
use raftkv_core::ids::{ClusterId, Identity, NodeId};
use raftkv_core::log::ConfState;
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::time::Span;
use std::collections::BTreeMap;
use strays::Stray;

pub use options::DisasterOptions;

/// The plan, and what is left of lives that have ended.
#[derive(Debug)]
pub(super) struct Disaster {
    options: DisasterOptions,
    rng: Rng,
    /// When the data centre is lost.
    next: SimTime,
    /// Nothing is planned any more.
    is_resting: bool,
    /// How many clusters have been lost.
    lives: u64,
    /// The life that ended, until a new cluster has taken over.
    ended: Option<Ended>,
    /// What clients did and saw of the first cluster, once another has taken over.
    first: Option<History>,
    /// What the present cluster started from, if it was restored.
    origin: Option<BTreeMap<Bytes, KeyValue>>,
    pub(super) strays: Vec<Stray>,
    pub(super) totals: Totals,
}

/// A life that has ended.
#[derive(Debug)]
struct Ended {
    bounds: rebirth::Bounds,
    replay: Replay,
    history: History,
    machines: Vec<Slot>,
}

/// What was done in lives that have ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) acknowledged: u64,
    pub(super) requested: u64,
    pub(super) applied: u64,
    pub(super) elections: u64,
}

impl Disaster {
    pub(super) fn new(options: DisasterOptions, seed: &Seed) -> Self {
        Disaster {
            options,
            rng: seed.fork("disaster"),
            next: options.after.map_or(SimTime::NEVER, |after| SimTime(0) + after),
            is_resting: false,
            lives: 0,
            ended: None,
            first: None,
            origin: None,
            strays: Vec::new(),
            totals: Totals::default(),
        }
    }

    pub(super) fn next_wake(&self) -> SimTime {
        self.strays.iter().map(Stray::next_wake).min().unwrap_or(SimTime::NEVER).min(self.next)
    }

    /// No data centre is lost any more.
    pub(super) fn rest(&mut self) {
        self.is_resting = true;
        self.next = SimTime::NEVER;
    }

    /// Whether no new cluster has taken over yet.
    pub(super) fn is_recovering(&self) -> bool {
        self.ended.is_some()
    }

    /// What clients did and saw of the first cluster, if it was lost.
    pub(super) fn into_first_history(self) -> Option<History> {
        self.first.or(self.ended.map(|ended| ended.history))
    }

    /// Whether the present cluster was restored.
    pub(super) fn is_restored(&self) -> bool {
        self.lives > 0
    }
}

impl World {
    /// Lets the data centre be lost, and lets strays speak.
    pub(super) fn run_disaster(&mut self) -> Result<(), Violation> {
        if self.disaster.next <= self.now {
            self.disaster.next = SimTime::NEVER;
            // Without a backup, and without anything to lose, there is nothing to be told.
            if self.backups.good() == 0 || self.history.acknowledged() < 2 {
                self.disaster.next = self.now + Span::from_millis(500);
            } else {
                self.lose_data_centre()?;
            }
        }
        self.run_strays();
        Ok(())
    }

    /// All machines are gone.
    pub(super) fn lose_data_centre(&mut self) -> Result<(), Violation> {
        self.count("data centre lost");
        self.trace.line(self.now, "world", "disaster", format_args!("data centre lost"));
        if self.backups.is_taking() {
            self.sometimes("data centre lost during a backup");
        }
        for at in 0..self.slots.len() {
            let policy = *self.disaster.rng.pick(&CrashPolicy::DRAWN);
            self.crash(at, Crash::Power(policy), SimTime::NEVER);
        }
        let replay = self.end_life()?;
        let identity = self.slots[0].identity;
        let index = replay.hashes.last_key_value().map_or(0, |(index, _)| *index);
        let history = std::mem::take(&mut self.history);
        let bounds = rebirth::Bounds {
            cluster: identity.cluster,
            epoch: identity.epoch,
            revision: loss::newest_told(&history),
            index,
        };
        self.disaster.totals.add(&history, &self.observer);
        self.disaster.lives += 1;
        let machines = self.new_machines();
        self.go_on(&history);
        self.disaster.ended = Some(Ended { bounds, replay, history, machines });
        self.backups.recover(self.now, self.slots.len());
        self.lose_in_primary_store();
        Ok(())
    }

    /// Checks the life that ends, and gives the replay it was checked with.
    pub(super) fn end_life(&mut self) -> Result<Replay, Violation> {
        let Some(genesis) = self.observer.genesis() else {
            return Err(Violation::new("real work", "no node was ever started"));
        };
        if let Some(origin) = &self.disaster.origin
            && *origin != loss::contents(&genesis.1)
        {
            let detail = "the nodes of the new cluster start from something else than was restored";
            return Err(Violation::new("reported loss", detail));
        }
        let states = self.observer.states();
        let evidence = check::Evidence {
            genesis,
            log: &self.observer.applied_log(),
            elections: self.observer.election_times(),
            history: &self.history,
            ends: &self.final_states(),
            drift: self.options.clock.drift,
            // The reference model begins with nothing.
            with_reference: self.options.with_reference && !self.disaster.is_restored(),
        };
        let (replay, rare) = check::after(evidence, |index| states.hash_at(index))?;
        let rare: Vec<&'static str> = rare.into_iter().chain(self.observer.rare()).collect();
        rare.into_iter().for_each(|state| self.sometimes(state));
        self.sweep_backups(self.slots[0].identity.cluster, &replay)?;
        Ok(replay)
    }

    /// Replaces all machines by empty ones, and everything that knew the old ones. Gives the old ones.
    fn new_machines(&mut self) -> Vec<Slot> {
        let Disaster { options, lives, .. } = self.disaster;
        let seed = Seed::from_number(self.options.seed ^ lives << 48);
        let count = (options.voters + self.options.spares) as usize;
        let machine = |member| {
            let mut slot = Slot::new(&self.options, member, self.now, &seed);
            slot.boots = 50 * lives;
            slot
        };
        let machines = (1..=count as u32).map(machine).collect();
        let lost = self.wires.counts();
        *self.tally.entry("client frame lost").or_default() += lost.lost + lost.cut;
        // What was on its way to clients dies with the connections.
        self.wires = Network::new(self.options.client_network, seed.fork("wires"));
        self.peers.heal_links();
        self.nemesis.forget();
        self.overtaking = None;
        self.operator = Operator::new(count);
        self.atlas = Atlas::default();
        self.observer = Observer::default();
        // Nobody, until there is a cluster again.
        self.observer.begin(0, ConfState::default());
        std::mem::replace(&mut self.slots, machines)
    }

    /// Clients and watchers go on: with another cluster, and with what they remember.
    fn go_on(&mut self, old: &History) {
        let count = self.slots.len();
        for client in &mut self.clients {
            client.move_on(count, old, &mut self.history);
        }
        for watcher in &mut self.watchers {
            watcher.move_on(self.now, count);
        }
    }

    /// A backup was restored: a new cluster starts from it.
    pub(super) fn on_recovered(&mut self, recovery: Recovery) -> Result<(), Violation> {
        let Some(Ended { bounds, replay, history, machines }) = self.disaster.ended.take() else {
            return Ok(());
        };
        let Recovery { restored, skipped } = recovery;
        let rebased = rebase(&restored, ClusterId(self.disaster.rng.bytes()), bounds.epoch)
            .expect("a simulation has few epochs");
        let reported = restored.metadata.revision;
        let new = rebirth::Bounds {
            cluster: rebased.cluster,
            epoch: rebased.epoch,
            revision: rebased.base.state.revision(),
            index: rebased.base.index,
        };
        rebirth::check(bounds, new)?;
        if restored.metadata.cluster == bounds.cluster {
            loss::check(&replay, reported, &rebased.base.state)?;
            self.report_loss(&history, reported);
        } else {
            self.sometimes("restored from an earlier cluster's backup");
        }
        self.disaster.first.get_or_insert(history);
        if skipped > 0 {
            self.sometimes("an older backup restored for a damaged newest one");
        }
        self.disaster.origin = Some(loss::contents(&rebased.base.state));
        self.found(rebased.cluster, rebased.epoch, rebased.base);
        self.plan_after(machines);
        Ok(())
    }

    fn report_loss(&mut self, history: &History, reported: Revision) {
        let loss::Loss { kept, lost } = loss::count(history, reported);
        let line = format_args!("up to revision {reported}: {kept} writes kept, {lost} lost");
        self.trace.line(self.now, "world", "loss", line);
        if lost > 0 {
            self.sometimes("acknowledged writes lost with the data centre, and reported");
        }
    }

    /// The data directories of a restored cluster are made on the new machines.
    fn found(
        &mut self,
        cluster: ClusterId,
        epoch: raftkv_core::ids::Epoch,
        base: boot::GenesisBase,
    ) {
        let node = |member| NodeId::new(member, 0);
        let founders = self.disaster.options.voters as usize;
        let members: Vec<MemberInfo> = self.slots[..founders]
            .iter()
            .map(|slot| {
                let identity = Identity { cluster, epoch, node: node(slot.member) };
                genesis::founder(identity, address(slot.member), MemberRole::Voter)
            })
            .collect();
        for slot in &mut self.slots[..founders] {
            slot.identity = Identity { cluster, epoch, node: node(slot.member) };
            slot.founding = Some(Founding { members: members.clone(), base: base.clone() });
            slot.process = Process::Down { until: self.now };
        }
        let voters = members.iter().map(|member| member.node).collect();
        self.observer = Observer::default();
        self.observer.begin(base.index, ConfState { voters, ..ConfState::default() });
        let line = format_args!("cluster {cluster} epoch {} with {} nodes", epoch.0, members.len());
        self.trace.line(self.now, "world", "founded", line);
        self.sometimes("a cluster restored onto new machines");
    }

    /// Old machines may come back, and the data centre may be lost once more.
    fn plan_after(&mut self, machines: Vec<Slot>) {
        let wakes = self.disaster.options.old_nodes_wake;
        for old in machines.into_iter().filter(|_| wakes) {
            let wait = self.disaster.rng.tail(Span::from_millis(2_000));
            self.disaster.strays.push(Stray::old_node(old, self.now + wait));
        }
        let again = self.disaster.rng.happens(self.disaster.options.again);
        if again && !self.disaster.is_resting {
            let wait = self.disaster.rng.span(Span::from_millis(2_000), Span::from_millis(15_000));
            self.disaster.next = self.now + wait;
        }
    }
}

impl Totals {
    fn add(&mut self, history: &History, observer: &Observer) {
        self.acknowledged += history.acknowledged() as u64;
        self.requested += history.operations.len() as u64;
        self.applied += observer.states().log().count() as u64;
        self.elections += observer.elections() as u64;
    }
}

impl Default for DisasterOptions {
    fn default() -> Self {
        DisasterOptions { after: None, voters: 3, old_nodes_wake: false, again: Ppm::NEVER }
    }
}
