//! Bounded queues and memory: what a node holds stays within what its configuration allows, and when nothing is under way it owes nothing.

use super::Violation;
use raftkv_core::config::Config;
use raftkv_core::ids::NodeId;

/// Entries that may be applied while a snapshot is being made, on a disk that works.
const WHILE_WRITING_ENTRIES: u64 = 256;
/// What one input may make a node say at once.
const OUTPUTS_AT_ONCE_MAX: usize = 20_000;

/// A node handled what had arrived, and said this much.
pub fn outputs(node: NodeId, said: usize) -> Result<(), Violation> {
    within(node, "outputs at once", said as u64, OUTPUTS_AT_ONCE_MAX as u64)
}

/// What a node holds when all is well and nobody asks.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Entries of the log in memory.
    pub log_entries: u64,
    /// Requests that were neither answered nor given up.
    pub requests: u64,
    /// Leases.
    pub leases: u64,
}

/// Checks one node at rest.
pub fn at_rest(node: NodeId, held: Held, config: &Config) -> Result<(), Violation> {
    let entries = config.trailing_entries + 2 * config.snapshot_entries + WHILE_WRITING_ENTRIES;
    within(node, "log entries in memory", held.log_entries, entries)?;
    within(node, "requests without an answer", held.requests, 0)?;
    within(node, "leases that nobody keeps alive", held.leases, 0)
}

fn within(node: NodeId, what: &str, held: u64, bound: u64) -> Result<(), Violation> {
    if held <= bound {
        return Ok(());
    }
    let detail = format!("node {node} has {held} {what}, the bound is {bound}");
    Err(Violation::new("bounded queues", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_long_a_log_and_a_forgotten_request_are_noticed() {
        let node = NodeId::new(1, 0);
        let config = Config { trailing_entries: 10, snapshot_entries: 20, ..Config::default() };
        let held = Held { log_entries: 306, requests: 0, leases: 0 };
        assert_eq!(at_rest(node, held, &config), Ok(()));
        assert!(at_rest(node, Held { log_entries: 307, ..held }, &config).is_err());
        assert!(at_rest(node, Held { requests: 1, ..held }, &config).is_err());
        assert!(at_rest(node, Held { leases: 1, ..held }, &config).is_err());
        assert!(outputs(node, OUTPUTS_AT_ONCE_MAX).is_ok() && outputs(node, 1 << 20).is_err());
    }
}
