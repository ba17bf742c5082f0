//! Ring 1: the server's driver loop (`raftkv_node::driver`) on madsim's executor, with leaves that are thin adapters over the models
//! of the world.
//!
//! A machine is a node of madsim's: its tasks are stopped, let go on and dropped together, at whatever they await. The driver is one of
//! them; the others carry what has arrived into its bounded inbox, one for each source, as the threads and tasks of the server do
//! ([`carriers`]). Which task runs next, and how long each takes, is madsim's choice; what disks and networks do is the world's.
//!
//! Invariants: a run is a function of the seed; time is madsim's, and the world's time follows it; nothing of madsim's own network, disk
//! or calendar is used.

mod carriers;
mod leaves;
mod log;
mod timer;

use crate::model::clock::Dials;
use crate::time::SimTime;
use crate::world::driven::{DriverOptions, Drivers, Said};
use carriers::Carriers;
use leaves::{Glance, Hands, Lanes, Outlet};
use log::Lines;
use madsim::Config;
use madsim::runtime::Runtime;
use madsim::task::NodeId;
use madsim::time::TimeHandle;
use raftkv_core::io::Input;
use raftkv_core::node::Node;
use raftkv_core::rng::{Rng, Seed};
use raftkv_node::driver::Driver;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use tokio::sync::mpsc;
use tracing::instrument::WithSubscriber as _;

/// All machines' processes.
pub(crate) struct Madsim {
    runtime: Runtime,
    time: TimeHandle,
    said: Arc<Mutex<Words>>,
    machines: Vec<Machine>,
    rng: Rng,
    options: DriverOptions,
}

/// What was said and not heard yet, and who waits for it.
#[derive(Debug, Default)]
struct Words {
    queue: VecDeque<(usize, Said)>,
    listener: Option<Waker>,
}

#[derive(Debug)]
struct Machine {
    id: NodeId,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    /// The ways into its inbox.
    carriers: Carriers,
    /// What its clocks show.
    dials: Arc<Mutex<Dials>>,
}

impl Madsim {
    /// No machines yet: each is there when its first process begins.
    pub(crate) fn new(seed: u64, options: DriverOptions) -> Self {
        let runtime = Runtime::with_seed_and_config(seed, Config::default());
        let time = runtime.block_on(async { TimeHandle::current() });
        let rng = Seed::from_number(seed).fork("drivers");
        Madsim { runtime, time, said: Arc::default(), machines: Vec::new(), rng, options }
    }
}

impl Drivers for Madsim {
    fn start(&mut self, at: usize, node: Box<Node>, clock: Dials) {
        while self.machines.len() <= at {
            let id = self.runtime.create_node().build().id();
            self.machines.push(Machine { id, process: None });
        }
        let machine = &mut self.machines[at];
        let dials = Arc::new(Mutex::new(clock));
        self.runtime.handle().restart(machine.id);
        let process = self.runtime.handle().get_node(machine.id).expect("it was built");
        let (inbox, inputs) = mpsc::channel(self.options.inbox_inputs);
        let outlet = Outlet::new(at, self.said.clone());
        let lanes = Lanes::new(outlet.clone());
        let seed = Seed::from_number(self.rng.next_u64());
        let hands = Hands { dials: dials.clone(), time: self.time.clone() };
        let (outlet_of_glance, time) = (outlet.clone(), self.time.clone());
        let rng = seed.fork("turns");
        let glance =
            Glance { outlet: outlet_of_glance, time, rng, turn_mean: self.options.turn_mean };
        let under_way = lanes.under_way();
        let driver =
            Driver::new(*node, inputs, outlet.clone(), lanes, outlet.clone(), hands).probed(glance);
        let lines = Lines(outlet.clone());
        let life = async move { outlet.say(Said::Ended(driver.run().await)) };
        drop(process.spawn(life.with_subscriber(lines)));
        let (time, rng, dawdles) = (self.time.clone(), seed.fork("carriers"), self.options.dawdles);
        let carriers = Carriers::new(process, inbox, under_way, time, rng, dawdles);
        machine.process = Some(Process { carriers, dials });
    }

    fn end(&mut self, at: usize) {
        let Some(machine) = self.machines.get_mut(at) else { return };
        if machine.process.take().is_some() {
            self.runtime.handle().kill(machine.id);
            lock(&self.said).queue.retain(|(who, _)| *who != at);
        }
    }

    fn stop(&mut self, at: usize, is_stopped: bool) {
        let (handle, id) = (self.runtime.handle(), self.machines[at].id);
        if is_stopped { handle.pause(id) } else { handle.resume(id) }
    }

    fn hand_in(&mut self, at: usize, input: Input) {
        if let Some(process) = &mut self.machines[at].process {
            process.carriers.take(input);
        }
    }

    fn set_clock(&mut self, at: usize, clock: Dials) {
        if let Some(process) = &self.machines[at].process {
            *lock(&process.dials) = clock;
        }
    }

    fn run_until(&mut self, until: SimTime) -> SimTime {
        let mut end = timer::until(&self.time, until);
        let said = self.said.clone();
        self.runtime.block_on(poll_fn(|context| {
            let mut said = lock(&said);
            if !said.queue.is_empty() {
                return Poll::Ready(());
            }
            said.listener = Some(context.waker().clone());
            Pin::new(&mut end).poll(context)
        }));
        timer::now(&self.time)
    }

    fn hear(&mut self) -> Option<(usize, Said)> {
        lock(&self.said).queue.pop_front()
    }
}

impl fmt::Debug for Madsim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Madsim").field("machines", &self.machines).finish_non_exhaustive()
    }
}

impl Words {
    fn say(&mut self, at: usize, said: Said) {
        self.queue.push_back((at, said));
        if let Some(listener) = self.listener.take() {
            listener.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // One thread runs everything; a panic in it ends the run.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
