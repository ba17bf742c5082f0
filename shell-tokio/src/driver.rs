//! The loop around the core: inbox, handle, drain, lanes, wait. Written once, run by production and simulation.
//!
//! Invariants: outputs are drained to the end after every batch of inputs; a turn handles at most [`INPUTS_PER_TURN_MAX`] of them,
//! so that answers and messages leave steadily under load; nothing here spawns, sleeps or touches the outside but through the
//! leaf traits, so any runtime can poll it.

use crate::leaf::{Blob, Clock, Disk, Net, Probe};
use raftkv_core::io::{DiskDone, Halt, Input, Output};
use raftkv_core::log::{Event, Level};
use raftkv_core::node::Node;
use raftkv_core::planted::{self, Bug};
use tokio::sync::mpsc;

/// Inputs handled before outputs leave. Large enough to share one fdatasync among many writes.
pub const INPUTS_PER_TURN_MAX: usize = 1024;

/// A node with the world it lives in.
#[derive(Debug)]
pub struct Driver<N, D, B, C, P = ()> {
    node: Node,
    inbox: mpsc::Receiver<Input>,
    net: N,
    disk: D,
    blob: B,
    clock: C,
    probe: P,
}

impl<N: Net, D: Disk, B: Blob, C: Clock> Driver<N, D, B, C> {
    /// Ready to run.
    pub fn new(
        node: Node,
        inbox: mpsc::Receiver<Input>,
        net: N,
        disk: D,
        blob: B,
        clock: C,
    ) -> Self {
        Driver { node, inbox, net, disk, blob, clock, probe: () }
    }

    /// The same, with somebody who looks at the node after every turn.
    pub fn probed<P: Probe>(self, probe: P) -> Driver<N, D, B, C, P> {
        let Driver { node, inbox, net, disk, blob, clock, probe: () } = self;
        Driver { node, inbox, net, disk, blob, clock, probe }
    }
}

impl<N: Net, D: Disk, B: Blob, C: Clock, P: Probe> Driver<N, D, B, C, P> {
    /// Runs until the core halts, or until every sender of the inbox is gone.
    pub async fn run(mut self) -> Halt {
        let mut inputs = Vec::with_capacity(INPUTS_PER_TURN_MAX);
        loop {
            if let Some(halt) = self.drain() {
                return halt;
            }
            if !self.wait(&mut inputs).await {
                return Halt::Stopped;
            }
            for input in inputs.drain(..) {
                if planted::is(Bug::InputHandledTwice) {
                    self.node.handle(self.clock.now(), input.clone());
                }
                self.node.handle(self.clock.now(), input);
            }
        }
    }

    /// Waits for inputs or the next deadline. False when no input can come any more.
    async fn wait(&mut self, inputs: &mut Vec<Input>) -> bool {
        let timeout = self.node.poll_timeout();
        let Some((deadline, _why)) = timeout.filter(|_| !planted::is(Bug::TimersNotWaitedFor))
        else {
            return self.inbox.recv_many(inputs, INPUTS_PER_TURN_MAX).await > 0;
        };
        if self.clock.now().mono >= deadline {
            // Due already: timers come first, so that a flood of requests cannot hold back heartbeats.
            inputs.push(Input::Timeout);
            while inputs.len() < INPUTS_PER_TURN_MAX
                && let Ok(input) = self.inbox.try_recv()
            {
                inputs.push(input);
            }
            return true;
        }
        tokio::select! {
            biased;
            count = self.inbox.recv_many(inputs, INPUTS_PER_TURN_MAX) => count > 0,
            () = self.clock.sleep_until(deadline) => {
                inputs.push(Input::Timeout);
                true
            }
        }
    }

    /// Carries every output to its lane. `Some` when the core wants to stop.
    fn drain(&mut self) -> Option<Halt> {
        let mut halt = None;
        if planted::is(Bug::FlushedATurnLate) {
            self.disk.flush();
        }
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Send { to, frame } => self.net.send(to, frame),
                Output::Disk { op, action } => {
                    if planted::is(Bug::SubmittedCalledDone) {
                        let result = Ok(DiskDone::Done);
                        self.node.handle(self.clock.now(), Input::Disk { op, result });
                    }
                    self.disk.submit(op, action);
                }
                Output::Blob { store, op, action } => self.blob.submit(store, op, action),
                Output::Work { op, work } => self.blob.work(op, work),
                Output::Reply { req, response } => self.net.reply(req, response),
                Output::Peers(peers) => self.net.peers(peers),
                Output::Event(event) => log(&event),
                Output::Halt(_) if planted::is(Bug::HaltIgnored) => {}
                Output::Halt(reason) => {
                    halt = Some(reason);
                    break;
                }
            }
        }
        if !planted::is(Bug::FlushedATurnLate) {
            self.disk.flush();
        }
        self.probe.turn_ended(&self.node);
        halt
    }
}

fn log(event: &Event) {
    let message = &event.message;
    match event.level {
        Level::Debug => tracing::debug!("{message}"),
        Level::Info => tracing::info!("{message}"),
        Level::Warn => tracing::warn!("{message}"),
        Level::Error => tracing::error!("{message}"),
    }
}
