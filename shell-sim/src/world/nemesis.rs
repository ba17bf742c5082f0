//! The nemesis: draws when something goes wrong, what, and for whom, and stays within the fault atlas.

use super::slot::Slot;
use super::{CLIENT_HOSTS, FaultKind, World};
use crate::model::disk::{Crash, CrashPolicy};
use crate::model::network::{Host, Partition};
use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use raftkv_core::api::{Request, Schedule};
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;
use std::collections::BTreeMap;

/// When the cluster makes backups: often, because a run is short, and in zones whose clocks are put forward and back.
const SCHEDULES: [(&str, &str); 5] = [
    ("* * * * *", "UTC"),
    ("* * * * *", "Europe/Berlin"),
    ("*/2 * * * *", "America/New_York"),
    ("1-59/3,*/4 * * * *", "UTC"),
    ("*/5,2,3 0-23 * * SUN-SAT", "Australia/Lord_Howe"),
];

/// Its plans.
#[derive(Debug)]
pub(super) struct Nemesis {
    rng: Rng,
    next: SimTime,
    /// What ends when, numbered so that two may end at once.
    ends: BTreeMap<(SimTime, u64), End>,
    sequence: u64,
    /// Moments drawn so far.
    strikes: u64,
    resting: bool,
    /// Of snapshots that are about to be published, so many more are met by a power cut.
    snapshots: u64,
    /// Of changes of membership that are about to be applied, so many more.
    changes: u64,
}

/// Something that comes to an end.
#[derive(Clone, Copy, Debug)]
enum End {
    Partition,
    ClientPartition,
    Slow(usize),
    DiskFull(usize),
    /// The calm after a crash: the next one comes.
    Calm(usize),
    /// The process is killed again.
    Kill(usize),
    SlowLinks,
    /// An image of the disk is put back.
    RollBack(usize),
}

impl Nemesis {
    /// A nemesis that strikes as soon as it may.
    pub(super) fn new(rng: Rng) -> Self {
        Nemesis {
            rng,
            next: SimTime(0),
            ends: BTreeMap::new(),
            sequence: 0,
            strikes: 0,
            resting: false,
            snapshots: 0,
            changes: 0,
        }
    }

    /// When it does something next.
    pub(super) fn next_wake(&self) -> SimTime {
        let ends = self.ends.first_key_value().map_or(SimTime::NEVER, |((at, _), _)| *at);
        if self.resting { ends } else { ends.min(self.next) }
    }

    /// It leaves the world alone from now on.
    pub(super) fn rest(&mut self) {
        self.resting = true;
        self.ends.clear();
    }

    /// What has begun does not end any more: its place is gone.
    pub(super) fn forget(&mut self) {
        self.ends.clear();
    }

    fn end_at(&mut self, at: SimTime, end: End) {
        self.sequence += 1;
        self.ends.insert((at, self.sequence), end);
    }
}

impl World {
    /// Lets the nemesis strike, and ends what has lasted long enough.
    pub(super) fn strike(&mut self) {
        while let Some(entry) = self.nemesis.ends.first_entry()
            && entry.key().0 <= self.now
        {
            let end = entry.remove();
            self.end(end);
        }
        if self.nemesis.resting || self.nemesis.next > self.now {
            return;
        }
        let wait = self.nemesis.rng.tail(self.options.fault_every);
        self.nemesis.next = self.now + wait + Span(1);
        if self.options.faults.is_empty() {
            self.nemesis.next = SimTime::NEVER;
        } else if self.now > SimTime(0) && !self.disaster.is_recovering() {
            let kind = *self.nemesis.rng.pick(&self.options.faults);
            self.nemesis.strikes += 1;
            if self.options.strikes.contains(&(self.nemesis.strikes - 1)) {
                self.strike_with(kind);
            }
        }
    }

    fn strike_with(&mut self, kind: FaultKind) {
        let at = self.nemesis.rng.below(self.slots.len() as u64) as usize;
        match kind {
            FaultKind::Kill => self.kill(at),
            FaultKind::PowerCut => self.power_cut(at),
            FaultKind::PowerCutAll => {
                self.count("power cut everywhere");
                (0..self.slots.len()).for_each(|at| self.power_cut(at));
            }
            FaultKind::Pause => self.pause(at),
            FaultKind::Slow => self.slow(at),
            FaultKind::Partition => self.partition(),
            FaultKind::ClientPartition => self.partition_clients(at),
            FaultKind::SwizzleClog => self.swizzle_clog(),
            FaultKind::ClockStep => {
                let what = self.slots[at].clock.disturb(self.now);
                self.count("clock step");
                self.note(at, "clock", what);
            }
            FaultKind::DiskFull => {
                self.count("disk full");
                self.slots[at].disk.set_full(true);
                let until = self.now + self.some_downtime();
                self.nemesis.end_at(until, End::DiskFull(at));
                self.note(at, "disk full", "");
            }
            FaultKind::DiskLoss => self.lose_disk(at),
            FaultKind::BitRot
            | FaultKind::LostWrite
            | FaultKind::MisdirectedWrite
            | FaultKind::LostFile => self.damage(kind, at),
            FaultKind::LeaderPartition => self.part_leader(),
            FaultKind::SlowLink => self.slow_links(at),
            FaultKind::RestartStorm => self.restart_storm(at),
            FaultKind::PauseAll => (0..self.slots.len()).for_each(|at| self.pause(at)),
            FaultKind::LeaderTransfer => {
                self.count("leader transfer");
                let member = self.slots[at].member;
                self.operator.ask(Request::LeaderTransfer { member });
            }
            FaultKind::SnapshotSave => {
                self.count("snapshot asked for");
                self.operator.ask(Request::SnapshotSave);
            }
            FaultKind::BackupRun => {
                self.count("backup asked of the cluster");
                self.operator.ask(Request::BackupRun);
            }
            FaultKind::BackupSchedule => self.change_schedule(),
            FaultKind::MakerPowerCut => {
                if let Some(at) = self.maker() {
                    self.sometimes("the node that made a backup lost power");
                    self.power_cut(at);
                }
            }
            FaultKind::MakerKilled => {
                if let Some(at) = self.maker() {
                    self.sometimes("the node that made a backup was killed");
                    self.kill(at);
                }
            }
            FaultKind::SnapshotPowerCut => self.nemesis.snapshots += 1,
            FaultKind::MembershipPowerCut => self.nemesis.changes += 1,
            FaultKind::LeaderOvertaken => self.overtake_leader(),
            FaultKind::Stop => self.tell_to_stop(at),
            FaultKind::RollBack => self.plan_roll_back(at),
            _ => self.change_membership(kind, at),
        }
    }

    /// The operator changes the membership, within the atlas.
    fn change_membership(&mut self, kind: FaultKind, at: usize) {
        let (what, done) = match kind {
            FaultKind::MemberJoin => ("join asked for", self.let_spare_join()),
            FaultKind::MemberAdd => ("addition asked for", self.add_spare()),
            FaultKind::MemberPromote => ("promotion asked for", self.promote_one()),
            FaultKind::MemberReplace => {
                ("replacement asked for", self.remove_one(at) && self.let_spare_join())
            }
            FaultKind::LeaderRemove => ("leader's removal asked for", self.remove_leader()),
            _ => ("removal asked for", self.remove_one(at)),
        };
        if done {
            self.count(what);
            self.trace.line(self.now, "operator", what, format_args!(""));
        }
    }

    /// The operator decides anew when the cluster makes backups.
    fn change_schedule(&mut self) {
        self.count("schedule changed");
        let rng = &mut self.nemesis.rng;
        let request = match rng.below(6) {
            0 => Request::BackupPause { paused: true },
            1 => Request::BackupPause { paused: false },
            2 => Request::BackupSchedule { schedule: None },
            _ => {
                let (cron, timezone) = *rng.pick(&SCHEDULES);
                let (cron, timezone) = (cron.into(), timezone.into());
                let prune = rng.happens(Ppm::percent(50));
                Request::BackupSchedule { schedule: Some(Schedule { cron, timezone, prune }) }
            }
        };
        self.operator.ask(request);
    }

    /// The node that makes a backup, by its own account.
    fn maker(&self) -> Option<usize> {
        let makes = |slot: &Slot| {
            let run = slot.state().and_then(|state| state.backups().run.as_ref());
            run.is_some_and(|run| run.node == slot.identity.node)
        };
        self.slots.iter().position(makes)
    }

    fn kill(&mut self, at: usize) {
        let until = self.now + self.some_downtime();
        self.count("process killed");
        self.crash(at, Crash::Process, until);
        self.maybe_crash_again(at, until);
    }

    pub(super) fn power_cut(&mut self, at: usize) {
        let policy = *self.nemesis.rng.pick(&CrashPolicy::DRAWN);
        let until = self.now + self.some_downtime();
        self.count("power cut");
        let slot = &mut self.slots[at];
        slot.clock.reboot(self.now);
        self.crash(at, Crash::Power(policy), until);
        self.maybe_crash_again(at, until);
    }

    /// Now and then the power fails again while the node reads its disk, or soon after.
    fn maybe_crash_again(&mut self, at: usize, restart: SimTime) {
        if self.nemesis.rng.happens(Ppm::percent(25)) {
            let soon = self.nemesis.rng.tail(Span(500_000));
            self.nemesis.end_at(restart + soon, End::Calm(at));
        }
    }

    pub(super) fn some_downtime(&mut self) -> Span {
        self.nemesis.rng.tail(Span::from_millis(1_000))
    }

    fn pause(&mut self, at: usize) {
        let rng = &mut self.nemesis.rng;
        let pause = rng.span(Span::from_millis(100), Span::from_millis(20_000));
        let slot = &mut self.slots[at];
        slot.free_at = slot.free_at.max(self.now + pause);
        self.count("process paused");
        self.note(at, "pause", &format!("{} ms", pause.as_millis()));
    }

    fn slow(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        slot.busy = Span(self.options.busy.0 * 20 + 30_000_000);
        self.count("slow node");
        let until = self.now + self.some_downtime() + Span::from_millis(2_000);
        self.nemesis.end_at(until, End::Slow(at));
        self.note(at, "slow", "");
    }

    fn partition(&mut self) {
        let hosts: Vec<Host> = self.slots.iter().map(|slot| slot.host()).collect();
        let shape = *self.nemesis.rng.pick(&Partition::ALL);
        for (from, to) in shape.links(&hosts, &mut self.nemesis.rng) {
            self.peers.cut(from, to);
        }
        let until = self.now + self.some_downtime() + Span::from_millis(1_000);
        self.nemesis.end_at(until, End::Partition);
        self.count("partition");
        self.trace.line(self.now, "net", "partition", format_args!("{shape:?}"));
    }

    fn partition_clients(&mut self, at: usize) {
        for client in 0..self.options.clients {
            let (host, client) = (Host(at as u32), Host(CLIENT_HOSTS + client));
            if self.nemesis.rng.happens(Ppm::percent(50)) {
                self.wires.cut(host, client);
            }
            if self.nemesis.rng.happens(Ppm::percent(50)) {
                self.wires.cut(client, host);
            }
        }
        let until = self.now + self.some_downtime() + Span::from_millis(500);
        self.nemesis.end_at(until, End::ClientPartition);
        self.count("client partition");
        self.note(at, "partition", "from clients");
    }

    /// Clogs a random set of links one by one, and clears them in another order.
    fn swizzle_clog(&mut self) {
        let count = self.slots.len() as u64;
        for _ in 0..self.nemesis.rng.between(1, count * count) {
            let from = Host(self.nemesis.rng.below(count) as u32);
            let to = Host(self.nemesis.rng.below(count) as u32);
            let rng = &mut self.nemesis.rng;
            let lasts = rng.span(Span::from_millis(100), Span::from_millis(8_000));
            self.peers.clog(from, to, self.now + lasts);
        }
        self.count("swizzle clog");
        self.trace.line(self.now, "net", "clog", format_args!(""));
    }

    /// The member loses its disk and joins anew. Only if a majority of good disks remains.
    fn lose_disk(&mut self, at: usize) {
        let slot = &self.slots[at];
        if !self.is_member(at) || !self.can_spare(at) {
            return;
        }
        self.atlas.lose(slot.identity.node);
        self.count("disk lost");
        self.vacate(at);
    }

    fn end(&mut self, end: End) {
        match end {
            End::Partition => self.peers.heal_links(),
            End::ClientPartition => self.wires.heal_links(),
            End::Slow(at) => self.slots[at].busy = self.options.busy,
            End::DiskFull(at) => self.slots[at].disk.set_full(false),
            End::Calm(at) => self.power_cut(at),
            End::Kill(at) => self.crash(at, Crash::Process, self.now + Span(200_000)),
            End::SlowLinks => self.peers.speed_up(self.now),
            End::RollBack(at) => self.roll_back(at),
        }
        self.trace.line(self.now, "world", "end", format_args!("{end:?}"));
    }

    /// The leader hears nobody, is heard by nobody, or both.
    fn part_leader(&mut self) {
        let Some(at) = self.leading() else { return };
        let (deaf, mute) = *self.nemesis.rng.pick(&[(true, true), (true, false), (false, true)]);
        let until = self.now + self.some_downtime() + Span::from_millis(1_500);
        self.cut_off(at, deaf, mute, until);
        self.count("leader cut off");
        self.note(at, "partition", &format!("leader, deaf {deaf}, mute {mute}"));
    }

    /// A machine hears nobody, is heard by nobody, or both.
    pub(super) fn cut_off(&mut self, at: usize, deaf: bool, mute: bool, until: SimTime) {
        let here = self.slots[at].host();
        for other in (0..self.slots.len() as u32).map(Host).filter(|other| *other != here) {
            if deaf {
                self.peers.cut(other, here);
            }
            if mute {
                self.peers.cut(here, other);
            }
        }
        self.nemesis.end_at(until, End::Partition);
    }

    /// Everything to and from a machine goes over a slow line: a snapshot keeps heartbeats waiting.
    fn slow_links(&mut self, at: usize) {
        let here = self.slots[at].host();
        let bytes_per_ms = *self.nemesis.rng.pick(&[1, 10, 100]);
        for other in (0..self.slots.len() as u32).map(Host) {
            self.peers.slow_down(here, other, bytes_per_ms);
            self.peers.slow_down(other, here, bytes_per_ms);
        }
        let until = self.now + self.some_downtime() + Span::from_millis(3_000);
        self.nemesis.end_at(until, End::SlowLinks);
        self.count("slow link");
        self.note(at, "slow link", &format!("{bytes_per_ms} bytes/ms"));
    }

    /// A snapshot is being published: its node may lose power just then.
    pub(super) fn on_publishing(&mut self, at: usize) {
        if self.nemesis.snapshots > 0 && !self.nemesis.resting {
            self.nemesis.snapshots -= 1;
            self.count("power cut at a snapshot's publication");
            let soon = self.nemesis.rng.tail(Span(self.options.disk.sync_mean.0 * 2));
            self.crash_at(self.now + soon, at, true);
        }
    }

    /// Somebody is the first to apply a change of membership: all may lose power before it is written down.
    pub(super) fn on_membership_applied(&mut self) {
        if self.nemesis.changes > 0 && !self.nemesis.resting {
            self.nemesis.changes -= 1;
            self.count("power cut everywhere at a change of membership");
            let longest = *self.nemesis.rng.pick(&[Span(1), self.options.disk.sync_mean]);
            let soon = self.nemesis.rng.tail(longest);
            (0..self.slots.len()).for_each(|at| self.crash_at(self.now + soon, at, true));
        }
    }

    /// Puts an image of a machine's disk back at a later moment.
    pub(super) fn roll_back_at(&mut self, when: SimTime, at: usize) {
        self.nemesis.end_at(when, End::RollBack(at));
    }

    /// Ends a process at a later moment.
    pub(super) fn crash_at(&mut self, when: SimTime, at: usize, power: bool) {
        self.nemesis.end_at(when, if power { End::Calm(at) } else { End::Kill(at) });
    }

    /// The generator of everything drawn on purpose.
    pub(super) fn nemesis_rng(&mut self) -> &mut Rng {
        &mut self.nemesis.rng
    }

    /// Whether everything is being mended.
    pub(super) fn nemesis_is_resting(&self) -> bool {
        self.nemesis.resting
    }

    pub(super) fn note(&mut self, at: usize, what: &str, details: &str) {
        let node = self.slots[at].identity.node;
        self.trace.line(self.now, node, what, format_args!("{details}"));
    }
}
