//! A network between hosts, as bad as its options say.
//!
//! # Contract
//! A frame may be lost, delayed without bound (but finitely), delivered twice, delivered again a minute later, and
//! overtaken by later ones. It is never altered: a corrupted frame fails its authentication in transport and is dropped, so
//! corruption counts as loss here. It is never made up, and never delivered to or from another host than it was sent.
//! A cut link loses what is sent while it is cut; what was under way before still arrives. A clogged link
//! holds everything until it clears. A slow link carries so many bytes in a millisecond, one frame after the other, and queues at most
//! what it carries in `BACKLOG_MAX`. A link holds at most its capacity. What exceeds these is lost.

pub mod partition;

use crate::random::{Draw, Ppm};
use crate::time::SimTime;
use raftkv_core::rng::Rng;
use raftkv_core::time::Span;
use std::collections::{BTreeMap, BTreeSet};

pub use partition::Partition;

/// How far a slow link may fall behind.
const BACKLOG_MAX: Span = Span::from_millis(5_000);

/// A machine in the simulation: nodes first, then clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(pub u32);

/// How bad the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkFaults {
    /// The shortest delay.
    pub delay_min: Span,
    /// Mean of the delay beyond it; its tail is heavy.
    pub delay_mean: Span,
    /// Frames that get lost.
    pub loss: Ppm,
    /// Frames corrupted under way: transport drops them.
    pub corrupt: Ppm,
    /// Frames that arrive twice.
    pub duplicate: Ppm,
    /// Frames that arrive once more, up to a minute late.
    pub replay: Ppm,
    /// Whether frames of one link keep their order (apart from duplicates and replays).
    pub ordered: bool,
    /// Frames under way on one link at most.
    pub capacity: usize,
}

impl NetworkFaults {
    /// A good local network.
    pub const fn none() -> Self {
        NetworkFaults {
            delay_min: Span(100_000),
            delay_mean: Span(200_000),
            loss: Ppm::NEVER,
            corrupt: Ppm::NEVER,
            duplicate: Ppm::NEVER,
            replay: Ppm::NEVER,
            ordered: true,
            capacity: usize::MAX,
        }
    }
}

/// What became of a frame handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is under way.
    Sent,
    /// Lost, or too many under way.
    Lost,
    /// Corrupted, so dropped.
    Corrupted,
    /// The link is cut. Transport notices sooner or later.
    Cut,
}

/// A frame that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<T> {
    /// Who sent it.
    pub from: Host,
    /// Where it arrives.
    pub to: Host,
    /// What it is.
    pub frame: T,
}

/// How often each fault fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounts {
    /// Frames handed in.
    pub sent: u64,
    /// Frames lost to chance or to a full link.
    pub lost: u64,
    /// Frames corrupted, so dropped.
    pub corrupted: u64,
    /// Frames delivered twice.
    pub duplicated: u64,
    /// Frames delivered again much later.
    pub replayed: u64,
    /// Frames lost to a cut.
    pub cut: u64,
    /// Frames that had to wait for a clogged link.
    pub clogged: u64,
    /// Frames that went over a slow link.
    pub slowed: u64,
}

/// The network.
#[derive(Debug)]
pub struct Network<T> {
    rng: Rng,
    faults: NetworkFaults,
    under_way: BTreeMap<(SimTime, u64), Delivery<T>>,
    sequence: u64,
    links: BTreeMap<(Host, Host), Link>,
    cuts: BTreeSet<(Host, Host)>,
    counts: NetworkCounts,
}

#[derive(Debug, Default)]
struct Link {
    load: usize,
    /// When the last frame in order arrives.
    last: SimTime,
    clogged_until: SimTime,
    /// Bytes it carries in a millisecond; 0 for as many as there are.
    bytes_per_ms: u64,
    /// When the last frame has gone over it.
    carried: SimTime,
}

impl<T: Clone> Network<T> {
    /// A network without cuts.
    pub fn new(faults: NetworkFaults, rng: Rng) -> Self {
        Network {
            rng,
            faults,
            under_way: BTreeMap::new(),
            sequence: 0,
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            counts: NetworkCounts::default(),
        }
    }

    /// Sends a small frame.
    pub fn submit(&mut self, now: SimTime, from: Host, to: Host, frame: T) -> Fate {
        self.submit_bytes(now, from, to, frame, 0)
    }

    /// Sends a frame of so many bytes.
    pub fn submit_bytes(
        &mut self,
        now: SimTime,
        from: Host,
        to: Host,
        frame: T,
        bytes: usize,
    ) -> Fate {
        self.counts.sent += 1;
        if self.cuts.contains(&(from, to)) {
            self.counts.cut += 1;
            return Fate::Cut;
        }
        let link = self.links.entry((from, to)).or_default();
        let is_behind = link.bytes_per_ms > 0 && link.carried > now + BACKLOG_MAX;
        let full = is_behind || link.load >= self.faults.capacity;
        if full || self.rng.happens(self.faults.loss) {
            self.counts.lost += 1;
            return Fate::Lost;
        }
        if self.rng.happens(self.faults.corrupt) {
            self.counts.corrupted += 1;
            return Fate::Corrupted;
        }
        let due = self.arrival(now, from, to, bytes);
        if self.rng.happens(self.faults.duplicate) {
            self.counts.duplicated += 1;
            let later = due + self.rng.tail(self.faults.delay_mean);
            self.enqueue(later, from, to, frame.clone());
        }
        if self.rng.happens(self.faults.replay) {
            self.counts.replayed += 1;
            let later = due + self.rng.span(Span::from_millis(100), Span::from_millis(60_000));
            self.enqueue(later, from, to, frame.clone());
        }
        self.enqueue(due, from, to, frame);
        Fate::Sent
    }

    /// The next frame that has arrived by `now`.
    pub fn poll(&mut self, now: SimTime) -> Option<Delivery<T>> {
        let entry = self.under_way.first_entry().filter(|entry| entry.key().0 <= now)?;
        let delivery = entry.remove();
        if let Some(link) = self.links.get_mut(&(delivery.from, delivery.to)) {
            link.load -= 1;
        }
        Some(delivery)
    }

    /// When the next frame arrives.
    pub fn next_wake(&self) -> SimTime {
        self.under_way.first_key_value().map_or(SimTime::NEVER, |((due, _), _)| *due)
    }

    /// Whether any way is cut.
    pub fn has_cuts(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// From now on nothing sent from `from` to `to` arrives.
    pub fn cut(&mut self, from: Host, to: Host) {
        self.cuts.insert((from, to));
    }

    /// Holds frames from `from` to `to` back until `until`.
    pub fn clog(&mut self, from: Host, to: Host, until: SimTime) {
        let link = self.links.entry((from, to)).or_default();
        link.clogged_until = link.clogged_until.max(until);
    }

    /// Mends every cut and clears every clog; what waited behind a clog still comes late.
    pub fn heal_links(&mut self) {
        self.cuts.clear();
        self.links.values_mut().for_each(|link| link.clogged_until = SimTime(0));
    }

    /// From now on the link carries only so many bytes in a millisecond.
    pub fn slow_down(&mut self, from: Host, to: Host, bytes_per_ms: u64) {
        self.links.entry((from, to)).or_default().bytes_per_ms = bytes_per_ms;
    }

    /// All links carry what there is, also what was waiting on them.
    pub fn speed_up(&mut self, now: SimTime) {
        let links = &mut self.links;
        let waits = |(due, _): &(SimTime, u64), delivery: &mut Delivery<T>| {
            let link = links.get(&(delivery.from, delivery.to));
            *due > now && link.is_some_and(|link| link.bytes_per_ms > 0)
        };
        let waiting: Vec<_> = self.under_way.extract_if(.., waits).collect();
        for (_, delivery) in waiting {
            self.sequence += 1;
            self.under_way.insert((now, self.sequence), delivery);
        }
        for link in self.links.values_mut().filter(|link| link.bytes_per_ms > 0) {
            (link.bytes_per_ms, link.carried, link.last) = (0, now, now);
        }
    }

    /// Makes it a good network from now on. What is under way arrives within a second: the word of a leader that is gone, repeated
    /// for a minute, would keep the others from electing one.
    pub fn heal(&mut self, now: SimTime) {
        self.heal_links();
        self.speed_up(now);
        self.faults = NetworkFaults::none();
        let soon = now + Span::from_millis(1_000);
        let late: Vec<_> = self.under_way.extract_if(.., |(due, _), _| *due > soon).collect();
        for (_, delivery) in late {
            self.sequence += 1;
            self.under_way.insert((soon, self.sequence), delivery);
        }
    }

    /// Whether a frame from `from` to `to` would be lost to a cut.
    pub fn is_cut(&self, from: Host, to: Host) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// How often each fault fired.
    pub fn counts(&self) -> NetworkCounts {
        self.counts
    }

    fn arrival(&mut self, now: SimTime, from: Host, to: Host, bytes: usize) -> SimTime {
        let mut due = now + self.faults.delay_min + self.rng.tail(self.faults.delay_mean);
        let link = self.links.entry((from, to)).or_default();
        if link.clogged_until > now {
            self.counts.clogged += 1;
            due = due.max(link.clogged_until);
        }
        if let Some(takes_ms) = (bytes as u64).checked_div(link.bytes_per_ms) {
            self.counts.slowed += 1;
            link.carried = link.carried.max(now) + Span::from_millis(takes_ms);
            due = due.max(link.carried);
        }
        if self.faults.ordered {
            due = due.max(link.last);
            link.last = due;
        }
        due
    }

    fn enqueue(&mut self, due: SimTime, from: Host, to: Host, frame: T) {
        self.links.entry((from, to)).or_default().load += 1;
        self.sequence += 1;
        self.under_way.insert((due, self.sequence), Delivery { from, to, frame });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::rng::Seed;

    const A: Host = Host(1);
    const B: Host = Host(2);

    fn network(faults: NetworkFaults) -> Network<u32> {
        Network::new(faults, Seed::from_number(1).fork("network"))
    }

    fn drain(network: &mut Network<u32>) -> Vec<u32> {
        std::iter::from_fn(|| network.poll(SimTime::NEVER).map(|delivery| delivery.frame)).collect()
    }

    #[test]
    fn a_good_network_delivers_each_frame_once_and_in_order() {
        let mut network = network(NetworkFaults::none());
        for frame in 0..1000 {
            let now = SimTime::from_millis(u64::from(frame) / 10);
            assert_eq!(network.submit(now, A, B, frame), Fate::Sent);
        }
        assert_eq!(network.poll(SimTime(0)), None);
        assert_eq!(drain(&mut network), (0..1000).collect::<Vec<_>>());
        assert_eq!(network.next_wake(), SimTime::NEVER);
    }

    #[test]
    fn every_fault_fires_and_nothing_is_made_up() {
        let faults = NetworkFaults {
            loss: Ppm::percent(10),
            corrupt: Ppm::percent(1),
            duplicate: Ppm::percent(10),
            replay: Ppm::percent(5),
            ordered: false,
            capacity: 500,
            ..NetworkFaults::none()
        };
        let mut network = network(faults);
        (0..1000).for_each(|frame| {
            network.submit(SimTime(u64::from(frame)), A, B, frame);
        });
        let got = drain(&mut network);
        let counts = network.counts();
        let expected = counts.sent - counts.lost - counts.corrupted;
        assert_eq!(got.len() as u64, expected + counts.duplicated + counts.replayed);
        assert!(counts.lost > 200 && counts.corrupted > 0);
        assert!(counts.duplicated > 0 && counts.replayed > 0);
        assert!(!got.is_sorted(), "frames overtake each other");
    }

    #[test]
    fn a_slow_link_carries_one_frame_after_the_other() {
        let mut network = network(NetworkFaults::none());
        network.slow_down(A, B, 10);
        network.submit_bytes(SimTime(0), A, B, 1, 1_000);
        network.submit_bytes(SimTime(0), A, B, 2, 1_000);
        assert_eq!(network.poll(SimTime::from_millis(99)), None);
        assert_eq!(network.poll(SimTime::from_millis(110)).map(|d| d.frame), Some(1));
        assert_eq!(network.poll(SimTime::from_millis(199)), None);
        assert_eq!(network.poll(SimTime::from_millis(210)).map(|d| d.frame), Some(2));
    }

    #[test]
    fn a_slow_link_loses_what_it_cannot_carry_soon() {
        let mut network = network(NetworkFaults::none());
        network.slow_down(A, B, 10);
        let fates: Vec<Fate> =
            (0..8).map(|n| network.submit_bytes(SimTime(0), A, B, n, 10_000)).collect();
        assert_eq!(fates, [vec![Fate::Sent; 6], vec![Fate::Lost; 2]].concat());
        assert_eq!(network.submit_bytes(SimTime(0), B, A, 9, 10_000), Fate::Sent);
    }

    #[test]
    fn what_waits_on_a_slow_link_comes_when_it_is_mended() {
        let mut network = network(NetworkFaults { ordered: true, ..NetworkFaults::none() });
        network.slow_down(A, B, 1);
        network.submit_bytes(SimTime(0), A, B, 1, 1_000_000);
        network.submit_bytes(SimTime(0), B, A, 2, 0);
        network.speed_up(SimTime::from_millis(50));
        network.submit_bytes(SimTime::from_millis(50), A, B, 3, 1_000_000);
        let mut poll = |ms| network.poll(SimTime::from_millis(ms)).map(|d| d.frame);
        assert_eq!([poll(60), poll(60), poll(60)], [Some(2), Some(1), Some(3)]);
    }

    #[test]
    fn cuts_are_one_way_and_clogs_hold_back() {
        let mut network = network(NetworkFaults::none());
        network.cut(A, B);
        assert_eq!(network.submit(SimTime(0), A, B, 1), Fate::Cut);
        assert_eq!(network.submit(SimTime(0), B, A, 2), Fate::Sent);
        network.heal_links();
        network.clog(A, B, SimTime::from_millis(500));
        assert_eq!(network.submit(SimTime(0), A, B, 3), Fate::Sent);
        assert_eq!(network.poll(SimTime::from_millis(400)).map(|d| d.frame), Some(2));
        assert_eq!(network.poll(SimTime::from_millis(499)), None);
        assert_eq!(network.poll(SimTime::from_millis(501)).map(|d| d.frame), Some(3));
    }
}
