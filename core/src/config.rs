//! What one node is told at start, apart from its identity. Every bound has a name, a unit and a default.

use crate::time::Span;
use serde::{Deserialize, Serialize};

/// Settings of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where this node listens, as members see it.
    pub address: String,
    /// Raft's unit of time.
    pub tick: Span,
    /// Ticks without a leader before standing for election; the real number is drawn from this up to twice this.
    pub election_ticks: u32,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: u32,
    /// Snapshot after this many applied entries.
    pub snapshot_entries: u64,
    /// Snapshot after this many bytes of applied entries, so that the log stays bounded whatever its entries hold.
    pub snapshot_entry_bytes: u64,
    /// Snapshot after this long, if anything was applied.
    pub snapshot_interval: Span,
    /// Complete snapshots kept on disk.
    pub snapshots_kept: usize,
    /// Size of a log segment on disk.
    pub segment_bytes: u64,
    /// Entries kept in memory behind the newest snapshot, for followers that are a little behind.
    pub trailing_entries: u64,
    /// Revisions of history kept for reads and watches; older ones are compacted by the leader. 0 keeps everything.
    pub history_revisions: u64,
    /// How long a node that makes a backup for the cluster may go unheard, by log time, before another is chosen.
    pub backup_lease: Span,
    /// Bounds on requests.
    pub limits: Limits,
}

/// Bounds on what one request, or all under way together, may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A key's length.
    pub key_bytes: usize,
    /// A value's length.
    pub value_bytes: usize,
    /// Operations and compares of one transaction.
    pub txn_ops: usize,
    /// A whole write request.
    pub write_bytes: usize,
    /// A range's answer; a longer one is cut and says `more`.
    pub range_bytes: usize,
    /// Proposals under way.
    pub inflight_bytes: usize,
    /// Requests under way.
    pub inflight_requests: usize,
    /// Events waiting for one slow watch before it is cancelled.
    pub watch_backlog_events: usize,
    /// Views open at once.
    pub views: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            address: "127.0.0.1:7400".into(),
            tick: Span::from_millis(100),
            election_ticks: 10,
            heartbeat_ticks: 1,
            snapshot_entries: 8192,
            snapshot_entry_bytes: 256 << 20,
            snapshot_interval: Span::from_millis(120_000),
            snapshots_kept: 3,
            segment_bytes: 64 << 20,
            trailing_entries: 4096,
            history_revisions: 100_000,
            backup_lease: Span::from_millis(60_000),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            key_bytes: 64 << 10,
            value_bytes: 1536 << 10,
            txn_ops: 1024,
            write_bytes: 4 << 20,
            range_bytes: 4 << 20,
            inflight_bytes: 64 << 20,
            inflight_requests: 65_536,
            watch_backlog_events: 65_536,
            views: 8,
        }
    }
}
