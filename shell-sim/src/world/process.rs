//! Starting and running the process of a node: what the shell does in production.

use super::observer::Activity;
use super::sayings::{describe, summary};
use super::slot::Process;
use super::{World, genesis};
use crate::check::{Violation, bounded, refusal};
use crate::fingerprint::Fingerprint;
use crate::model::disk::Crash;
use crate::model::network::{Fate, Host};
use crate::model::store::{Call, describe as describe_blob};
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use raftkv_core::api::{MemberInfo, MemberRole, NodeStatus};
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::boot::{Boot, BootError, BootStep, Image};
use raftkv_core::config::Config;
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::io::{DiskDone, DiskError, DiskOp, FileName, Input, Output};
use raftkv_core::log::{ConfState, Level};
use raftkv_core::node::Node;
use raftkv_core::rng::Seed;
use raftkv_core::time::Span;
use raftkv_core::wire::handshake::Hello;
use raftkv_core::wire::peer::PeerFrame;

/// A frame between nodes, with what the connection's handshake established.
#[derive(Clone, Debug)]
pub(super) struct PeerEnvelope {
    /// Tells it from every other in the trace.
    pub(super) number: u64,
    pub(super) hello: Hello,
    pub(super) frame: PeerFrame,
}

/// The identity a founding member of this run's cluster has.
pub(super) fn first_identity(seed: u64, member: u32) -> Identity {
    let mut cluster = [7; 16];
    cluster[..8].copy_from_slice(&seed.to_le_bytes());
    Identity { cluster: ClusterId(cluster), epoch: Epoch(0), node: NodeId::new(member, 0) }
}

/// Where a member listens.
pub(super) fn address(member: u32) -> String {
    format!("n{member}:7400")
}

impl World {
    /// Puts the data directories of the founding members on their disks.
    pub(super) fn provision(&mut self) {
        let voters = self.options.voters as usize;
        let founders = voters + self.options.learners as usize;
        let members: Vec<MemberInfo> = self.slots[..founders]
            .iter()
            .enumerate()
            .map(|(at, slot)| {
                let role = if at < voters { MemberRole::Voter } else { MemberRole::Learner };
                genesis::founder(slot.identity, address(slot.member), role)
            })
            .collect();
        for slot in &mut self.slots[..founders] {
            for action in genesis::operations(slot.identity, members.clone()) {
                slot.disk.provision(&action);
            }
            slot.process = Process::Down { until: SimTime(0) };
        }
        let nodes: Vec<NodeId> = members.iter().map(|member| member.node).collect();
        let (voters, learners) = nodes.split_at(voters);
        let (voters, learners) = (voters.to_vec(), learners.to_vec());
        self.observer.begin(1, ConfState { voters, learners, ..ConfState::default() });
    }

    /// Hands frames that have arrived to the nodes they are for.
    pub(super) fn deliver_to_nodes(&mut self) -> Result<(), Violation> {
        while let Some(delivery) = self.peers.poll(self.now) {
            let PeerEnvelope { number, hello, frame } = delivery.frame;
            self.offer_to_strays(&hello)?;
            let Some(slot) = self.slots.get_mut(delivery.to.0 as usize) else { continue };
            if slot.is_running() && hello.check(&slot.identity).is_ok() {
                refusal::delivered(&hello.from, &slot.identity)?;
                slot.inbox.push_back(Input::Peer { from: hello.from.node, frame });
                let here = slot.identity.node;
                self.trace.line(self.now, here, "recv", format_args!("#{number}"));
            } else {
                self.notice_unreachable(delivery.from, delivery.to, hello.to);
            }
        }
        Ok(())
    }

    /// Handles what the disk has done.
    pub(super) fn run_disk(&mut self, at: usize) -> Result<(), Violation> {
        while let Some((op, result)) = self.slots[at].disk.poll(self.now) {
            let slot = &mut self.slots[at];
            let node = slot.identity.node;
            match &mut slot.process {
                Process::Booting { waits_for, .. } if *waits_for == op => {
                    self.on_boot_step_done(at, result)?;
                }
                Process::Founding { waits_for, .. } if *waits_for == op => {
                    self.on_founding_step_done(at, result);
                }
                Process::Running { .. } | Process::Driven { .. } => {
                    if result.is_ok() {
                        self.observer.on_disk_done(node, op);
                        slot.log_map.on_done(op);
                    }
                    slot.inbox.push_back(Input::Disk { op, result });
                }
                Process::Booting { .. }
                | Process::Founding { .. }
                | Process::Down { .. }
                | Process::Vacant => {}
            }
        }
        Ok(())
    }

    /// Starts the process if it is time, or lets the node handle what has arrived.
    pub(super) fn run_process(&mut self, at: usize) -> Result<(), Violation> {
        if self.is_driven() {
            self.drive(at);
        }
        let slot = &mut self.slots[at];
        if slot.next_wake() > self.now {
            return Ok(());
        }
        match &slot.process {
            Process::Down { .. } => self.start(at),
            Process::Running { .. } => self.run_node(at),
            Process::Driven { .. }
            | Process::Booting { .. }
            | Process::Founding { .. }
            | Process::Vacant => Ok(()),
        }
    }

    fn start(&mut self, at: usize) -> Result<(), Violation> {
        let slot = &mut self.slots[at];
        slot.boots += 1;
        slot.faults_at_boot = slot.disk.counts();
        let listing = slot.disk.listing();
        let node = slot.identity.node;
        self.trace.line(self.now, node, "boot", format_args!("{} files", listing.len()));
        self.boot(at, Box::new(Boot::new(listing)))
    }

    fn on_boot_step_done(
        &mut self,
        at: usize,
        result: Result<DiskDone, DiskError>,
    ) -> Result<(), Violation> {
        let down = Process::Down { until: self.now };
        let before = std::mem::replace(&mut self.slots[at].process, down);
        let Process::Booting { mut boot, .. } = before else { return Ok(()) };
        boot.handle(result.map(|done| match done {
            DiskDone::Bytes(bytes) => bytes,
            DiskDone::Done => Default::default(),
        }));
        self.boot(at, boot)
    }

    fn boot(&mut self, at: usize, mut boot: Box<Boot>) -> Result<(), Violation> {
        let action = loop {
            match boot.poll() {
                BootStep::Read { file, offset, len_bytes } => {
                    break DiskOp::Read { file, offset, len_bytes };
                }
                BootStep::Do(action) => break action,
                BootStep::Sum(sum) => boot.take_sum(sum.make()),
                BootStep::AwaitSum => unreachable!("every sum is made at once"),
                BootStep::Ready(image) => return self.become_node(at, *image),
                BootStep::Refused(error) => return self.on_refused(at, &error),
            }
        };
        let slot = &mut self.slots[at];
        let waits_for = slot.name_operation();
        slot.disk.submit(self.now, waits_for, action);
        slot.process = Process::Booting { boot, waits_for };
        Ok(())
    }

    fn become_node(&mut self, at: usize, image: Image) -> Result<(), Violation> {
        let slot = &mut self.slots[at];
        let id = slot.identity.node;
        if image.identity != slot.identity {
            let detail = format!("{id} finds the identity {:?} on its disk", image.identity);
            return Err(Violation::new("recovery", detail));
        }
        let damaged = slot.damaged;
        slot.founding = None;
        self.observer.on_boot(id, &image)?;
        let slot = &mut self.slots[at];
        if damaged && slot.forgot.is_none() {
            // Everything was read back and is whole: it can be relied on again.
            self.atlas.regain(id);
            *self.sometimes.entry("damage was overcome at start").or_default() += 1;
        }
        let mut config = self.options.config.clone();
        config.address = address(slot.member);
        let seed = Seed::from_number(
            self.options.seed
                ^ Fingerprint::of(&[slot.member as u64, slot.boots].map(u64::to_le_bytes).concat()),
        );
        let (snapshot, entries) = (image.snapshot.index, image.entries.len());
        let state = image.hard_state;
        let now = slot.clock.read(self.now);
        let mut node = Box::new(Node::new(config, image, seed, now));
        slot.store_session = self.backups.begin_node_session();
        if let Some((settings, access)) = self.backups.node_settings() {
            node.make_backups(settings, access);
        }
        if let Some(pruning) = self.backups.node_pruning() {
            node.prune_backups(pruning);
        }
        if let Some(copies) = self.backups.node_copies() {
            node.copy_backups(copies);
        }
        slot.process = match &mut self.drivers {
            None => Process::Running { node, wake: self.now },
            Some(drivers) => {
                drivers.start(at, node, slot.clock.dials());
                Process::Driven { is_stopped: false, outputs: 0, view: None }
            }
        };
        slot.free_at = self.now;
        slot.ran_at = now.mono;
        self.trace.line(
            self.now,
            id,
            "start",
            format_args!(
                "snapshot {snapshot} entries {entries} term {} vote {} commit {}",
                state.term, state.vote, state.commit
            ),
        );
        self.run_node(at)
    }

    fn on_refused(&mut self, at: usize, error: &BootError) -> Result<(), Violation> {
        let slot = &mut self.slots[at];
        let node = slot.identity.node;
        self.trace.line(self.now, node, "refused", format_args!("{error}"));
        let slot = &mut self.slots[at];
        if slot.disk_has_failed() {
            self.sometimes("recovery met a failing disk");
            self.crash(at, Crash::Process, self.now + Span::from_millis(500));
            return Ok(());
        }
        if slot.damaged {
            self.vacate(at);
            self.sometimes("damage was refused at start");
            return Ok(());
        }
        if let (BootError::Empty, Some(founding)) = (error, slot.founding.clone()) {
            self.begin_founding(at, founding);
            return Ok(());
        }
        Err(Violation::new("recovery", format!("node {node} refuses a good disk: {error}")))
    }

    fn run_node(&mut self, at: usize) -> Result<(), Violation> {
        let slot = &mut self.slots[at];
        let now = slot.clock.read(self.now);
        let Process::Running { node, .. } = &mut slot.process else { return Ok(()) };
        let ran = (now.mono - slot.ran_at).min(self.options.config.tick);
        slot.ran_at = now.mono;
        let mut heard = Vec::new();
        for input in slot.inbox.drain(..) {
            if let Input::Peer { from, frame: PeerFrame::Raft(_) } = &input {
                heard.push(*from);
            }
            node.handle(now, input);
        }
        node.handle(now, Input::Timeout);
        let mut outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
        bounded::outputs(slot.identity.node, outputs.len())?;
        node.check().map_err(|broken| Violation::new("invariant", broken.to_string()))?;
        let status = Box::new(node.status());
        let conf = node.consensus().conf().clone();
        let wake = node.poll_timeout().map(|(mono, _)| slot.clock.when(mono));
        let wanted = wake.unwrap_or(SimTime::NEVER);
        if let Process::Running { wake, .. } = &mut slot.process {
            *wake = wanted;
        }
        slot.count_spin(wanted > self.now)?;
        let busy = Span(self.rng.below(slot.busy.0 + 1));
        slot.free_at = self.now + busy;
        let last = outputs.pop_if(|output| matches!(output, Output::Halt(_)));
        outputs.into_iter().try_for_each(|output| self.carry_out(at, output))?;
        // A node may be the first to apply its own removal: what it applied is looked at before it stops.
        let election_timeout = self.election_timeout();
        let activity = Activity { heard: &heard, ran, election_timeout };
        self.on_status(at, status, &conf, &activity)?;
        last.map_or(Ok(()), |halt| self.carry_out(at, halt))
    }

    /// Raft's, as all nodes are configured.
    pub(super) fn election_timeout(&self) -> Span {
        let Config { tick, election_ticks, .. } = self.options.config;
        Span(tick.0 * u64::from(election_ticks))
    }

    pub(super) fn carry_out(&mut self, at: usize, output: Output) -> Result<(), Violation> {
        let slot = &mut self.slots[at];
        let node = slot.identity.node;
        match output {
            Output::Send { to, frame } => {
                if let PeerFrame::Raft(message) = &frame {
                    self.observer.on_sent(node, message)?;
                }
                self.overhear_peer(&frame)?;
                self.send(at, to, frame);
            }
            Output::Disk { op, action } => {
                self.observer.on_disk_asked(node, op, &action)?;
                self.trace.line(self.now, node, "disk", format_args!("{}", describe(&action)));
                let slot = &mut self.slots[at];
                slot.log_map.on_asked(op, &action);
                let rolls = matches!(action, DiskOp::Create { file: FileName::Wal(_), .. });
                if rolls {
                    *self.sometimes.entry("a segment of the log was begun").or_default() += 1;
                }
                let publishes = matches!(action, DiskOp::Publish { to: FileName::Snapshot(_), .. });
                self.on_installing(at, &action);
                self.slots[at].disk.submit(self.now, op, action);
                if publishes {
                    self.on_publishing(at);
                }
            }
            Output::Reply { req, response } => self.reply(at, req, response)?,
            Output::Blob { store, op, action } => {
                slot.blobs += 1;
                match store {
                    StoreIndex::PRIMARY => self.judge_pruning(at, &action)?,
                    _ => self.judge_pruning_copies(at, store, &action)?,
                }
                let slot = &self.slots[at];
                let call = Call { session: slot.store_session, op };
                let what = describe_blob(&action);
                self.trace.line(self.now, node, "blob", format_args!("{what} in {}", store.0));
                self.backups.submit(self.now, store, call, action);
            }
            Output::Work { op, work } => {
                self.backups.nonces.working(&work)?;
                let done = work.run();
                self.slots[at].inbox.push_back(Input::Work { op, done });
            }
            Output::Peers(_) => {}
            Output::Event(event) => {
                self.trace.line(self.now, node, "log", format_args!("{event}"));
                self.overhear_line(&event.message)?;
                if event.message.ends_with("is installed") {
                    self.sometimes("a snapshot was installed");
                    self.slots[at].installed_before = self.slots[at].next_request;
                }
                if event.level == Level::Error && !self.slots[at].disk_has_failed() {
                    return Err(Violation::new("error logged", format!("{node}: {event}")));
                }
            }
            Output::Halt(halt) => return self.on_halt(at, &halt),
        }
        Ok(())
    }

    fn send(&mut self, at: usize, to: NodeId, frame: PeerFrame) {
        let slot = &self.slots[at];
        let (from, host) = (slot.identity.node, slot.host());
        self.frames += 1;
        let number = self.frames;
        self.trace.line(self.now, from, "send", format_args!("{to} #{number} {}", summary(&frame)));
        if to.member() == 0 || to.member() as usize > self.slots.len() {
            return;
        }
        let target = Host(to.member() - 1);
        let hello = Hello { from: slot.identity, to };
        self.notice_snapshot(to, &frame);
        let bytes = size(&frame);
        let envelope = PeerEnvelope { number, hello, frame };
        let fate = self.peers.submit_bytes(self.now, host, target, envelope, bytes);
        if fate == Fate::Cut {
            self.notice_unreachable(host, target, to);
        }
    }

    /// Transport finds out that a peer cannot be reached: sometimes, and not all the time.
    fn notice_unreachable(&mut self, from: Host, to: Host, peer: NodeId) {
        let last = self.notices.get(&(from, to)).copied().unwrap_or_default();
        if self.now - last < Span::from_millis(300) || self.rng.happens(Ppm::percent(50)) {
            return;
        }
        self.notices.insert((from, to), self.now);
        // Those that should not be there are not told.
        let Some(slot) = self.slots.get_mut(from.0 as usize) else { return };
        if slot.is_running() {
            slot.inbox.push_back(Input::PeerUnreachable { peer });
        }
    }

    pub(super) fn on_status(
        &mut self,
        at: usize,
        status: Box<NodeStatus>,
        conf: &ConfState,
        activity: &Activity<'_>,
    ) -> Result<(), Violation> {
        let node = self.slots[at].identity.node;
        let configurations = self.observer.configurations().count();
        if self.observer.on_status(self.now, node, &status, conf, activity)? {
            let line = format_args!("term {} last {}", status.term, status.last_index);
            self.trace.line(self.now, node, "elected", line);
            if !self.observer.configurations().newest().voters_outgoing.is_empty() {
                self.sometimes("leadership changed during a joint configuration");
            }
        }
        if self.observer.configurations().count() > configurations {
            self.on_membership_applied();
        }
        self.slots[at].status = Some(status);
        self.go_on_overtaking(at);
        self.look_for_forgotten(at);
        Ok(())
    }
}

/// About how long a frame is on the wire.
fn size(frame: &PeerFrame) -> usize {
    const HEAD_BYTES: usize = 64;
    HEAD_BYTES
        + match frame {
            PeerFrame::Raft(message) => message.entries.iter().map(|entry| entry.data.len()).sum(),
            PeerFrame::SnapshotChunk { bytes, .. } => bytes.len(),
            _ => 0,
        }
}
