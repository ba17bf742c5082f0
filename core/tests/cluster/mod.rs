//! A cluster in a box for scripts and scenarios: real nodes, a disk and a wire that do exactly what they are told, and a trace of
//! everything that crosses the boundary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use raftkv_core::api::{MemberInfo, MemberRole, Request, Response};
use raftkv_core::backup::blob::{BlobOp, StoreIndex};
use raftkv_core::backup::machine::Work;
use raftkv_core::boot::{self, Boot, BootStep, GenesisBase};
use raftkv_core::config::Config;
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId, OpId, ReqId};
use raftkv_core::io::{DiskDone, DiskError, DiskErrorKind, DiskOp, FileName, Halt, Input, Output};
use raftkv_core::node::Node;
use raftkv_core::rng::Seed;
use raftkv_core::time::{Mono, Now, Wall};
use raftkv_core::wire::peer::{PeerFrame, RaftMessage};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

pub const CLUSTER: ClusterId = ClusterId(*b"a cluster to try");

/// A test's disk reserves no more than this; what is written beyond makes a file longer all the same.
const RESERVED_BYTES_MAX: u64 = 1 << 16;

/// Files by name; durable as soon as an operation is carried out.
#[derive(Default, Clone)]
pub struct Disk {
    pub files: BTreeMap<FileName, Vec<u8>>,
}

impl Disk {
    pub fn carry_out(&mut self, op: &DiskOp) -> Result<DiskDone, DiskError> {
        let missing =
            |file: FileName| DiskError { kind: DiskErrorKind::Missing, message: file.path() };
        match op {
            DiskOp::Create { file, reserve_bytes, bytes } => {
                let mut content = bytes.to_vec();
                let reserved = (*reserve_bytes).min(RESERVED_BYTES_MAX) as usize;
                content.resize(content.len().max(reserved), 0);
                self.files.insert(*file, content);
            }
            DiskOp::Write { file, offset, bytes, .. } => {
                let content = self.files.get_mut(file).ok_or(missing(*file))?;
                let end = *offset as usize + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*offset as usize..end].copy_from_slice(bytes);
            }
            DiskOp::Publish { from, to } => {
                let content = self.files.remove(from).ok_or(missing(*from))?;
                self.files.insert(*to, content);
            }
            DiskOp::Read { file, offset, len_bytes } => {
                let content = self.files.get(file).ok_or(missing(*file))?;
                let start = content.len().min(*offset as usize);
                let end = content.len().min(start + *len_bytes as usize);
                return Ok(DiskDone::Bytes(Bytes::copy_from_slice(&content[start..end])));
            }
            DiskOp::Remove { file } => {
                self.files.remove(file);
            }
            DiskOp::Sync { file } => {
                self.files.get(file).ok_or(missing(*file))?;
            }
        }
        Ok(DiskDone::Done)
    }
}

/// One node and what surrounds it.
pub struct Host {
    pub node: Option<Node>,
    pub disk: Disk,
    /// Asked for, not carried out yet.
    pub disk_queue: VecDeque<(OpId, DiskOp)>,
    /// The disk does nothing until resumed.
    pub stalled: bool,
    pub halted: Option<Halt>,
    /// Asked of the backup store, and of processors; nothing here carries it out.
    pub blob_queue: VecDeque<(StoreIndex, OpId, BlobOp)>,
    pub work_queue: VecDeque<(OpId, Work)>,
    /// Done to every life of the node as it begins.
    pub prepare: fn(&mut Node),
    lives: u64,
}

/// The box.
pub struct Cluster {
    pub hosts: BTreeMap<u32, Host>,
    pub wire: VecDeque<(NodeId, NodeId, PeerFrame)>,
    /// Pairs whose frames are lost, from the first to the second.
    pub cut: BTreeSet<(u32, u32)>,
    pub config: Config,
    pub replies: BTreeMap<ReqId, Vec<Response>>,
    pub trace: String,
    now: Now,
    next_req: u64,
}

pub fn identity(node: NodeId) -> Identity {
    Identity { cluster: CLUSTER, epoch: Epoch(0), node }
}

pub fn address(member: u32) -> String {
    format!("host{member}:7400")
}

impl Cluster {
    /// A new cluster of voters 1..=size, every node started.
    pub fn new(size: u32, config: Config) -> Self {
        let mut cluster = Cluster {
            hosts: BTreeMap::new(),
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            config,
            replies: BTreeMap::new(),
            trace: String::new(),
            now: Now { mono: Mono(0), wall: Wall(1_700_000_000_000) },
            next_req: 1,
        };
        let members: Vec<MemberInfo> = (1..=size)
            .map(|member| MemberInfo {
                node: NodeId::new(member, 0),
                address: address(member),
                role: MemberRole::Voter,
            })
            .collect();
        for member in 1..=size {
            let base = GenesisBase::empty();
            let mut disk = Disk::default();
            for op in boot::genesis(identity(NodeId::new(member, 0)), members.clone(), base) {
                disk.carry_out(&op).unwrap();
            }
            cluster.add_host(member, disk);
        }
        cluster
    }

    /// A new host joins through a member.
    pub fn join(&mut self, member: u32, via: u32, learner: bool) {
        let req = self.ask(via, Request::Join { member, address: address(member), learner });
        self.settle();
        let Response::Joined { identity, grant } = self.answer(req).clone() else {
            panic!("the join was refused: {:?}", self.answer(req));
        };
        let mut disk = Disk::default();
        for op in boot::joining(identity, grant.members) {
            disk.carry_out(&op).unwrap();
        }
        self.add_host(member, disk);
    }

    /// Adds a host with this disk and starts its node.
    pub fn add_host(&mut self, member: u32, disk: Disk) {
        let lives = self.hosts.get(&member).map_or(0, |host| host.lives);
        let host = Host {
            node: None,
            disk,
            disk_queue: VecDeque::new(),
            stalled: false,
            halted: None,
            blob_queue: VecDeque::new(),
            work_queue: VecDeque::new(),
            prepare: |_| {},
            lives,
        };
        self.hosts.insert(member, host);
        self.start(member);
    }

    /// Boots a node from its disk. Panics when the directory is refused.
    pub fn start(&mut self, member: u32) {
        let host = self.hosts.get_mut(&member).unwrap();
        let listing = host.disk.files.iter().map(|(name, bytes)| (*name, bytes.len() as u64));
        let mut boot = Boot::new(listing.collect());
        let image = loop {
            match boot.poll() {
                BootStep::Read { file, offset, len_bytes } => {
                    let read = DiskOp::Read { file, offset, len_bytes };
                    boot.handle(host.disk.carry_out(&read).map(|done| match done {
                        DiskDone::Bytes(bytes) => bytes,
                        DiskDone::Done => Bytes::new(),
                    }));
                }
                BootStep::Do(op) => {
                    boot.handle(host.disk.carry_out(&op).map(|_| Bytes::new()));
                }
                BootStep::Sum(sum) => boot.take_sum(sum.make()),
                BootStep::AwaitSum => unreachable!("every sum is made at once"),
                BootStep::Ready(image) => break image,
                BootStep::Refused(error) => panic!("node {member} does not boot: {error}"),
            }
        };
        host.lives += 1;
        let seed = Seed::from_number(u64::from(member) * 1000 + host.lives);
        let config = Config { address: address(member), ..self.config.clone() };
        let mut node = Node::new(config, *image, seed, self.now);
        (host.prepare)(&mut node);
        host.node = Some(node);
        host.halted = None;
        self.drain(member);
    }

    /// The process is gone; what was not carried out on disk never happened.
    pub fn crash(&mut self, member: u32) {
        let host = self.hosts.get_mut(&member).unwrap();
        host.node = None;
        host.disk_queue.clear();
        host.blob_queue.clear();
        host.work_queue.clear();
        host.stalled = false;
    }

    /// Hands one input in and takes every output.
    pub fn input(&mut self, member: u32, input: Input) {
        let now = self.now;
        let Some(node) = self.hosts.get_mut(&member).and_then(|host| host.node.as_mut()) else {
            return;
        };
        node.handle(now, input);
        self.drain(member);
        let node = self.hosts.get(&member).and_then(|host| host.node.as_ref());
        if let Some(node) = node {
            node.check().unwrap();
        }
    }

    /// A request to one node; its id.
    pub fn ask(&mut self, member: u32, request: Request) -> ReqId {
        let req = ReqId(self.next_req);
        self.next_req += 1;
        self.input(member, Input::Client { req, request });
        req
    }

    /// It is a tick later, and nobody has noticed.
    pub fn advance(&mut self) {
        self.now.mono = self.now.mono + self.config.tick;
        self.now.wall.0 += self.config.tick.as_millis() as i64;
    }

    /// A tick of time passes for everybody, then everything that follows from it.
    pub fn pass_tick(&mut self) {
        self.advance();
        for member in self.members() {
            self.input(member, Input::Timeout);
        }
        self.settle();
    }

    /// Ticks until some node leads; its member number.
    pub fn elect(&mut self) -> u32 {
        for _ in 0..200 {
            if let Some(leader) = self.leader() {
                return leader;
            }
            self.pass_tick();
        }
        panic!("no leader within 200 ticks");
    }

    /// The leader of the highest term that knows all of the past.
    pub fn leader(&self) -> Option<u32> {
        let nodes = self.hosts.iter().filter_map(|(m, host)| Some((*m, host.node.as_ref()?)));
        let leaders = nodes.filter(|(_, node)| node.consensus().leads_and_knows_all());
        leaders.max_by_key(|(_, node)| node.consensus().term()).map(|(member, _)| member)
    }

    /// Carries disks and frames on until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let disks: Vec<u32> = self.members();
            let moved = disks.into_iter().any(|member| self.disk_step(member));
            if !moved && !self.deliver() {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// One disk operation; whether there was one.
    pub fn disk_step(&mut self, member: u32) -> bool {
        let Some(host) = self.hosts.get_mut(&member) else { return false };
        if host.stalled || host.node.is_none() {
            return false;
        }
        let Some((op, action)) = host.disk_queue.pop_front() else { return false };
        let result = host.disk.carry_out(&action);
        self.input(member, Input::Disk { op, result });
        true
    }

    /// One frame; whether there was one.
    pub fn deliver(&mut self) -> bool {
        let Some((from, to, frame)) = self.wire.pop_front() else { return false };
        let lost = self.cut.contains(&(from.member(), to.member()));
        let here = self.hosts.get(&to.member()).and_then(|host| host.node.as_ref());
        if !lost && here.is_some_and(|node| node.identity().node == to) {
            self.input(to.member(), Input::Peer { from, frame });
        }
        true
    }

    pub fn members(&self) -> Vec<u32> {
        self.hosts.keys().copied().collect()
    }

    /// The one answer to a request. Panics when there is none.
    pub fn answer(&self, req: ReqId) -> &Response {
        self.replies.get(&req).and_then(|answers| answers.last()).expect("an answer")
    }

    fn drain(&mut self, member: u32) {
        loop {
            let host = self.hosts.get_mut(&member).unwrap();
            let Some(node) = host.node.as_mut() else { return };
            let Some(output) = node.poll_output() else { return };
            let here = node.identity().node;
            writeln!(self.trace, "{member}: {}", show(&output)).unwrap();
            match output {
                Output::Send { to, frame } => self.wire.push_back((here, to, frame)),
                Output::Disk { op, action } => host.disk_queue.push_back((op, action)),
                Output::Blob { store, op, action } => {
                    host.blob_queue.push_back((store, op, action))
                }
                Output::Work { op, work } => host.work_queue.push_back((op, work)),
                Output::Reply { req, response } => {
                    self.replies.entry(req).or_default().push(response);
                }
                Output::Halt(halt) => {
                    host.halted = Some(halt);
                    host.node = None;
                    return;
                }
                Output::Peers(_) | Output::Event(_) => {}
            }
        }
    }
}

/// One line per output, short enough to read in a script.
pub fn show(output: &Output) -> String {
    match output {
        Output::Send { to, frame } => format!("send {to} {}", show_frame(frame)),
        Output::Disk { action, .. } => show_disk(action),
        Output::Reply { req, response: Response::ViewChunk { bytes, last } } => {
            let last = if *last { ", the last" } else { "" };
            format!("reply {} {} bytes of a view{last}", req.0, bytes.len())
        }
        Output::Blob { action, .. } => format!("blob {}", show_blob(action)),
        Output::Work { .. } => "work".into(),
        Output::Reply { req, response: Response::Backups(status) } => {
            let run = status.backups.run.as_ref().map(|run| (run.number, run.id));
            format!("reply {} backup run {run:?}", req.0)
        }
        Output::Reply { req, response } => format!("reply {} {response:?}", req.0),
        Output::Peers(peers) => {
            let names: Vec<String> =
                peers.iter().map(|(node, at)| format!("{node}={at}")).collect();
            format!("peers {}", names.join(" "))
        }
        Output::Event(event) => format!("log {event}"),
        Output::Halt(halt) => format!("halt {halt}"),
    }
}

fn show_frame(frame: &PeerFrame) -> String {
    match frame {
        PeerFrame::Raft(message) => show_message(message),
        PeerFrame::SnapshotChunk { snapshot, offset, total_bytes, bytes, .. } => {
            format!("chunk of {} at {offset}+{} of {total_bytes}", snapshot.index, bytes.len())
        }
        PeerFrame::SnapshotAck { index, next_offset } => format!("ack of {index} to {next_offset}"),
        PeerFrame::SnapshotRefused { index, reason } => format!("refuses {index}: {reason}"),
        PeerFrame::Removed => "removed".into(),
        PeerFrame::MayLeave => "may leave".into(),
        PeerFrame::BackupAsk { round } => format!("who can make a backup? ({round})"),
        PeerFrame::BackupAnswer { round, life } => {
            format!("{} make a backup ({round})", if life.is_some() { "can" } else { "cannot" })
        }
        PeerFrame::BackupBusy { round } => format!("cannot make a backup now ({round})"),
        PeerFrame::BackupReport { number, report } => format!("backup run {number}: {report:?}"),
    }
}

fn show_message(message: &RaftMessage) -> String {
    let mut line = format!("{:?} term {}", message.kind, message.term);
    write!(line, " at {}/{}", message.index, message.log_term).unwrap();
    if let (Some(first), Some(last)) = (message.entries.first(), message.entries.last()) {
        write!(line, " entries {}..{}", first.index, last.index).unwrap();
    }
    if message.commit > 0 {
        write!(line, " commit {}", message.commit).unwrap();
    }
    if message.reject {
        write!(line, " REJECT hint {}", message.reject_hint).unwrap();
    }
    line
}

fn show_blob(action: &BlobOp) -> String {
    match action {
        BlobOp::Put { object, .. } => format!("put {}", object.role),
        BlobOp::PutStart { object, .. } => format!("start {}", object.role),
        BlobOp::PutPart { number, .. } => format!("part {number}"),
        BlobOp::PutFinish { .. } => "finish".into(),
        BlobOp::PutAbort { .. } => "abort".into(),
        BlobOp::Get { object, .. } => format!("get {}", object.role),
        BlobOp::Head { object } => format!("head {}", object.role),
        BlobOp::List => "list".into(),
        BlobOp::Delete { object } => format!("delete {}", object.role),
    }
}

fn show_disk(action: &DiskOp) -> String {
    match action {
        DiskOp::Create { file, bytes, .. } => format!("create {} +{}", file.path(), bytes.len()),
        DiskOp::Write { file, offset, bytes, sync } => {
            let synced = if *sync { " sync" } else { "" };
            format!("write {} at {offset}+{}{synced}", file.path(), bytes.len())
        }
        DiskOp::Publish { from, to } => format!("publish {} as {}", from.path(), to.path()),
        DiskOp::Read { file, offset, len_bytes } => {
            format!("read {} at {offset}+{len_bytes}", file.path())
        }
        DiskOp::Remove { file } => format!("remove {}", file.path()),
        DiskOp::Sync { file } => format!("sync {}", file.path()),
    }
}
