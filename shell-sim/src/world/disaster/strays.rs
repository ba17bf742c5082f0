//! Nodes that should not be there: of the cluster that was lost, or of another one restored from the same backup. They run the
//! production core on their own disks and talk to the addresses they know, where other nodes live now.
//!
//! Their disks are good and do everything at once: what matters is what they say, and that nobody listens.

use crate::check::Violation;
use crate::check::refusal;
use crate::model::clock::ClockModel;
use crate::model::disk::Disk;
use crate::model::network::Host;
use crate::time::SimTime;
use crate::world::process::{PeerEnvelope, address};
use crate::world::slot::Slot;
use crate::world::{World, genesis};
use bytes::Bytes;
use raftkv_core::api::{MemberInfo, MemberRole};
use raftkv_core::backup::restore::{Rebased, Restored, rebase};
use raftkv_core::boot::{self, Boot, BootStep, Image};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::io::{DiskDone, DiskOp, Input, Output};
use raftkv_core::node::Node;
use raftkv_core::rng::Seed;
use raftkv_core::wire::handshake::Hello;

/// The first host number of strays.
const STRAY_HOSTS: u32 = 400;

/// A node that should not be there.
#[derive(Debug)]
pub(in crate::world) struct Stray {
    identity: Identity,
    disk: Disk,
    clock: ClockModel,
    node: Option<Box<Node>>,
    wake: SimTime,
}

impl Stray {
    /// A machine that was thought lost, from when it has power again.
    pub(super) fn old_node(slot: Slot, wake: SimTime) -> Self {
        Stray { identity: slot.identity, disk: slot.disk, clock: slot.clock, node: None, wake }
    }

    pub(super) fn next_wake(&self) -> SimTime {
        self.wake
    }

    /// Runs the node until it waits. Gives the frames it sends.
    fn run(&mut self, now: SimTime, world: &World) -> Vec<PeerEnvelope> {
        let mut frames = Vec::new();
        self.wake = SimTime::NEVER;
        if self.node.is_none() {
            self.node = self.start(now, world);
        }
        let Some(node) = &mut self.node else { return frames };
        let time = self.clock.read(now);
        node.handle(time, Input::Timeout);
        let mut is_halted = false;
        while let Some(output) = node.poll_output() {
            match output {
                Output::Send { to, frame } => {
                    let hello = Hello { from: self.identity, to };
                    frames.push(PeerEnvelope { number: 0, hello, frame });
                }
                Output::Disk { op, action } => {
                    let result = Ok(done(&mut self.disk, &action));
                    node.handle(time, Input::Disk { op, result });
                }
                Output::Halt(_) => is_halted = true,
                _ => {}
            }
        }
        match node.poll_timeout() {
            Some((mono, _)) if !is_halted => self.wake = self.clock.when(mono),
            _ => self.node = None,
        }
        frames
    }

    fn start(&mut self, now: SimTime, world: &World) -> Option<Box<Node>> {
        let image = read(&mut self.disk)?;
        let seed =
            Seed::from_number(world.options.seed ^ u64::from(self.identity.node.member()) << 56);
        let config = world.options.config.clone();
        Some(Box::new(Node::new(config, image, seed, self.clock.read(now))))
    }
}

impl World {
    /// Lets strays say what they want.
    pub(super) fn run_strays(&mut self) {
        for at in 0..self.disaster.strays.len() {
            if self.disaster.strays[at].wake > self.now {
                continue;
            }
            let mut stray = self.disaster.strays.swap_remove(at);
            let is_new = stray.node.is_none();
            let frames = stray.run(self.now, self);
            if is_new && stray.node.is_some() {
                self.sometimes("a node of another cluster is there");
                let line = format_args!("epoch {}", stray.identity.epoch.0);
                self.trace.line(self.now, stray.identity.node, "stray", line);
            }
            self.disaster.strays.push(stray);
            let last = self.disaster.strays.len() - 1;
            self.disaster.strays.swap(at, last);
            let host = Host(STRAY_HOSTS + at as u32);
            for envelope in frames {
                let member = envelope.hello.to.member();
                if (1..=self.slots.len() as u32).contains(&member) {
                    self.peers.submit(self.now, host, Host(member - 1), envelope);
                }
            }
        }
    }

    /// Another cluster starts from the same backup, on as many machines.
    pub(in crate::world) fn found_elsewhere(&mut self, restored: &Restored) {
        let cluster = ClusterId(self.rng.bytes());
        let Rebased { cluster, epoch, base } =
            rebase(restored, cluster, Epoch(0)).expect("a simulation has few epochs");
        let members = (1..=self.slots.len() as u32).map(|member| {
            let identity = Identity { cluster, epoch, node: NodeId::new(member, 0) };
            genesis::founder(identity, address(member), MemberRole::Voter)
        });
        let members: Vec<MemberInfo> = members.collect();
        for member in &members {
            let identity = Identity { cluster, epoch, node: member.node };
            let name = format!("elsewhere {}", member.node);
            let seed = Seed::from_number(self.options.seed);
            let mut disk = Disk::new(self.options.disk, seed.fork(&name));
            for action in boot::genesis(identity, members.clone(), base.clone()) {
                disk.provision(&action);
            }
            let clock = ClockModel::new(self.now, self.options.clock, seed.fork(&name));
            self.disaster.strays.push(Stray { identity, disk, clock, node: None, wake: self.now });
        }
    }

    /// A frame has arrived at the address of a member, where a stray may live, too. It must refuse what is not of its cluster.
    pub(in crate::world) fn offer_to_strays(&self, hello: &Hello) -> Result<(), Violation> {
        for stray in &self.disaster.strays {
            if hello.check(&stray.identity).is_ok() {
                refusal::delivered(&hello.from, &stray.identity)?;
            }
        }
        Ok(())
    }
}

/// Reads a data directory at once. `None` when it cannot be used, as after the power was lost at a bad moment.
fn read(disk: &mut Disk) -> Option<Image> {
    let mut boot = Boot::new(disk.listing());
    loop {
        let action = match boot.poll() {
            BootStep::Read { file, offset, len_bytes } => DiskOp::Read { file, offset, len_bytes },
            BootStep::Do(action) => action,
            BootStep::Sum(sum) => {
                boot.take_sum(sum.make());
                continue;
            }
            BootStep::AwaitSum => unreachable!("every sum is made at once"),
            BootStep::Ready(image) => return Some(*image),
            BootStep::Refused(_) => return None,
        };
        boot.handle(Ok(match done(disk, &action) {
            DiskDone::Bytes(bytes) => bytes,
            DiskDone::Done => Bytes::new(),
        }));
    }
}

fn done(disk: &mut Disk, action: &DiskOp) -> DiskDone {
    let DiskOp::Read { file, offset, len_bytes } = action else {
        disk.provision(action);
        return DiskDone::Done;
    };
    let content = disk.contents(*file).unwrap_or_default();
    let start = content.len().min(*offset as usize);
    let end = content.len().min(start.saturating_add(*len_bytes as usize));
    DiskDone::Bytes(Bytes::copy_from_slice(&content[start..end]))
}
