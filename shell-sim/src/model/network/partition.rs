//! Ways to split hosts from each other.

use super::Host;
use crate::random::Draw;
use raftkv_core::rng::Rng;

/// A shape of partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Partition {
    /// One host is alone.
    Isolate,
    /// One host hears nobody, but is heard.
    DeafOne,
    /// One host is heard by nobody, but hears.
    MuteOne,
    /// Two groups.
    Split,
    /// Two groups, and one host that reaches both.
    Bridge,
    /// Each host reaches its two neighbours only.
    Ring,
    /// Single links, each in one direction.
    OneWayLinks,
    /// Nobody reaches anybody.
    Total,
}

impl Partition {
    /// Every shape.
    pub const ALL: [Partition; 8] = [
        Partition::Isolate,
        Partition::DeafOne,
        Partition::MuteOne,
        Partition::Split,
        Partition::Bridge,
        Partition::Ring,
        Partition::OneWayLinks,
        Partition::Total,
    ];

    /// The directed links between `hosts` that this partition cuts; which hosts are hit is drawn.
    pub fn links(self, hosts: &[Host], rng: &mut Rng) -> Vec<(Host, Host)> {
        let mut order = hosts.to_vec();
        rng.shuffle(&mut order);
        let count = order.len();
        let first_group = if count > 1 { rng.between(1, count as u64 - 1) as usize } else { count };
        let mut links = Vec::new();
        for (i, &from) in order.iter().enumerate() {
            for (j, &to) in order.iter().enumerate() {
                let apart = (i < first_group) != (j < first_group);
                let cut = match self {
                    Partition::Isolate => i == 0 || j == 0,
                    Partition::DeafOne => j == 0,
                    Partition::MuteOne => i == 0,
                    Partition::Split => apart,
                    Partition::Bridge => apart && i != count - 1 && j != count - 1,
                    Partition::Ring => i.abs_diff(j) != 1 && i.abs_diff(j) != count - 1,
                    Partition::OneWayLinks => rng.below(4) == 0,
                    Partition::Total => true,
                };
                if cut && i != j {
                    links.push((from, to));
                }
            }
        }
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::rng::Seed;
    use std::collections::BTreeSet;

    #[test]
    fn shapes_cut_what_they_say() {
        let hosts: Vec<Host> = (1..=5).map(Host).collect();
        let mut rng = Seed::from_number(1).fork("partition");
        for _ in 0..50 {
            let isolate = Partition::Isolate.links(&hosts, &mut rng);
            assert_eq!(isolate.len(), 8);
            assert_eq!(Partition::DeafOne.links(&hosts, &mut rng).len(), 4);
            assert_eq!(Partition::Total.links(&hosts, &mut rng).len(), 20);
            assert_eq!(Partition::Ring.links(&hosts, &mut rng).len(), 10);
            let split: BTreeSet<_> = Partition::Split.links(&hosts, &mut rng).into_iter().collect();
            assert!(!split.is_empty() && split.iter().all(|&(a, b)| split.contains(&(b, a))));
        }
    }
}
