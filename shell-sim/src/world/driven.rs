//! Ring 1: nodes that are run by the server's own driver loop, instead of by the world itself.
//!
//! Whoever runs the drivers ([`Drivers`]) is one more machine to the world: it is handed what has arrived, runs up to a moment, and says
//! what the nodes want done. Everything around it (disks, networks, clocks, clients, faults, checks) is the same in both rings.
//!
//! Invariant: what a driver says is carried out before anything else happens, in the order it was said.

use super::observer::Activity;
use super::slot::Process;
use super::{Options, Ring, World};
use crate::check::{Violation, bounded};
use crate::model::clock::Dials;
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use raftkv_core::api::NodeStatus;
use raftkv_core::ids::NodeId;
use raftkv_core::io::{Halt, Input, Output};
use raftkv_core::kv::KvState;
use raftkv_core::log::ConfState;
use raftkv_core::node::Node;
use raftkv_core::rng::Seed;
use raftkv_core::time::{Mono, Span};
use std::fmt;

/// What makes the drivers of one run different from another's.
#[derive(Clone, Copy, Debug)]
pub struct DriverOptions {
    /// How many inputs an inbox holds. The server's holds many; small ones make everybody wait all the time.
    pub inbox_inputs: usize,
    /// How long a turn of the driver takes on the mean.
    pub turn_mean: Span,
    /// Inputs that are held up on their way to the inbox.
    pub dawdles: Ppm,
}

impl DriverOptions {
    /// Nobody waits for anything.
    pub const CALM: DriverOptions =
        DriverOptions { inbox_inputs: 16_384, turn_mean: Span(0), dawdles: Ppm::NEVER };

    /// The drivers of the run that a seed stands for.
    pub fn draw(seed: Seed) -> Self {
        let mut rng = seed.fork("driver options");
        DriverOptions {
            inbox_inputs: *rng.pick(&[1, 2, 16, 16_384]),
            turn_mean: Span(*rng.pick(&[0, 10_000, 100_000, 1_000_000])),
            dawdles: Ppm::percent(*rng.pick(&[0, 10, 50])),
        }
    }
}

/// Runs the nodes of all machines, each in a process that can be stopped and ended at any moment. Machines go by their place in the world.
pub trait Drivers: fmt::Debug {
    /// A process begins on a machine that runs none.
    fn start(&mut self, at: usize, node: Box<Node>, clock: Dials);
    /// The process ends at once: nothing is heard of it any more.
    fn end(&mut self, at: usize);
    /// The process is stopped until it is let go on.
    fn stop(&mut self, at: usize, is_stopped: bool);
    /// Something has arrived for the process.
    fn hand_in(&mut self, at: usize, input: Input);
    /// From now on the machine's clocks show this.
    fn set_clock(&mut self, at: usize, clock: Dials);
    /// Lets the processes run until `until`, or until one of them has said something. Gives the moment that was reached.
    fn run_until(&mut self, until: SimTime) -> SimTime;
    /// What was said next, and on which machine.
    fn hear(&mut self) -> Option<(usize, Said)>;
}

/// What a process says.
#[derive(Debug)]
pub enum Said {
    /// The node wants this done.
    Output(Output),
    /// All was said until the next input, and this is seen of the node.
    Turn(Box<View>),
    /// The driver has ended.
    Ended(Halt),
}

/// What is seen of a node between two turns.
#[derive(Debug)]
pub struct View {
    /// What it says about itself.
    pub status: Box<NodeStatus>,
    /// The configuration it acts on.
    pub conf: ConfState,
    /// Its state.
    pub state: KvState,
    /// Entries of the log in memory.
    pub log_entries: u64,
    /// The moment of its last input, by its own clock.
    pub now: Mono,
    /// When it last heard of each peer.
    pub heard: Vec<(NodeId, Mono)>,
    /// When it wants to be woken.
    pub wake: Option<Mono>,
    /// Which of its invariants is broken.
    pub broken: Option<String>,
}

impl View {
    /// What is seen of `node`.
    pub fn of(node: &Node) -> View {
        View {
            status: Box::new(node.status()),
            conf: node.consensus().conf().clone(),
            state: node.state().clone(),
            log_entries: log_entries(node),
            now: node.now().mono,
            heard: node.heard().collect(),
            wake: node.poll_timeout().map(|(wake, _)| wake),
            broken: node.check().err().map(|broken| broken.to_string()),
        }
    }
}

/// Entries of the log that a node holds in memory.
pub(super) fn log_entries(node: &Node) -> u64 {
    node.consensus().last_index() - node.consensus().compacted_index()
}

impl World {
    /// Lets time go on until `until`; in ring 1 only until a driver says something.
    pub(super) fn advance(&mut self, until: SimTime) -> SimTime {
        let Some(drivers) = &mut self.drivers else { return until };
        for (at, slot) in self.slots.iter().enumerate() {
            if matches!(slot.process, Process::Driven { .. }) {
                drivers.set_clock(at, slot.clock.dials());
            }
        }
        drivers.run_until(until)
    }

    /// Carries out what the drivers have said.
    pub(super) fn hear_drivers(&mut self) -> Result<(), Violation> {
        while let Some((at, said)) = self.drivers.as_mut().and_then(|drivers| drivers.hear()) {
            match said {
                Said::Output(output) => {
                    if let Process::Driven { outputs, .. } = &mut self.slots[at].process {
                        *outputs += 1;
                    }
                    self.carry_out(at, output)?;
                }
                Said::Turn(view) => self.on_turn(at, view)?,
                Said::Ended(halt) => self.carry_out(at, Output::Halt(halt))?,
            }
        }
        Ok(())
    }

    /// Stops the process of a driven machine or lets it go on, and hands in what has arrived.
    pub(super) fn drive(&mut self, at: usize) {
        let (now, slot) = (self.now, &mut self.slots[at]);
        let (Process::Driven { is_stopped, .. }, Some(drivers)) =
            (&mut slot.process, &mut self.drivers)
        else {
            return;
        };
        let stops = slot.free_at > now;
        if *is_stopped != stops {
            *is_stopped = stops;
            drivers.stop(at, stops);
        }
        if !stops {
            slot.inbox.drain(..).for_each(|input| drivers.hand_in(at, input));
        }
    }

    /// Whether nodes run in drivers.
    pub(super) fn is_driven(&self) -> bool {
        self.drivers.is_some()
    }

    fn on_turn(&mut self, at: usize, view: Box<View>) -> Result<(), Violation> {
        let busy = Span(self.rng.below(self.slots[at].busy.0 + 1));
        let slot = &mut self.slots[at];
        if let Process::Driven { outputs, .. } = &mut slot.process {
            bounded::outputs(slot.identity.node, std::mem::take(outputs))?;
        }
        if let Some(broken) = &view.broken {
            return Err(Violation::new("invariant", broken.clone()));
        }
        let wake = view.wake.map_or(SimTime::NEVER, |wake| slot.clock.when(wake));
        slot.count_spin(wake > self.now)?;
        slot.free_at = slot.free_at.max(self.now + busy);
        let tick = self.options.config.tick;
        let heard_now = view.heard.iter().filter(|(_, when)| *when >= slot.ran_at);
        let heard: Vec<NodeId> = heard_now.map(|(peer, _)| *peer).collect();
        let ran = (view.now - slot.ran_at).min(tick);
        slot.ran_at = view.now;
        let election_timeout = self.election_timeout();
        let activity = Activity { heard: &heard, ran, election_timeout };
        self.on_status(at, view.status.clone(), &view.conf, &activity)?;
        if let Process::Driven { view: last, .. } = &mut self.slots[at].process {
            *last = Some(view);
        }
        Ok(())
    }
}

/// Whoever runs the drivers of this ring; nobody in ring 0.
pub(super) fn drivers(options: &Options) -> Option<Box<dyn Drivers>> {
    match options.ring {
        Ring::Models => None,
        #[cfg(madsim)]
        Ring::Driver => Some(Box::new(crate::ring1::Madsim::new(options.seed, options.driver))),
        #[cfg(not(madsim))]
        Ring::Driver => panic!("seed {}: ring 1 needs --cfg madsim", options.seed),
    }
}
