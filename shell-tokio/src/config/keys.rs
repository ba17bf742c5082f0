//! The table of settings: one row each, shared by file, environment, flags and documentation.

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in the file; upper case after `RAFTKV_` in the environment, with dashes as a flag.
    pub name: &'static str,
    /// Its value when nobody says anything; empty means unset.
    pub default: &'static str,
    /// What stands for the value in the help text; empty for a switch.
    pub value: &'static str,
    /// One line.
    pub help: &'static str,
}

const fn key(
    name: &'static str,
    default: &'static str,
    value: &'static str,
    help: &'static str,
) -> Key {
    Key { name, default, value, help }
}

/// All settings, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    key("id", "", "N", "this member's number, from 1 [1 for a new cluster]"),
    key("data_dir", "./raftkv-data", "DIR", "where everything is kept"),
    key("listen", "127.0.0.1:7400", "IP:PORT", "UDP address for clients and peers"),
    key("advertise", "", "HOST:PORT", "where others reach this node [same as listen]"),
    key("initial_cluster", "", "N=HOST:PORT,...", "make a cluster of these members"),
    key("cluster_token", "", "TEXT", "tells clusters apart that are made from the same list"),
    key("join", "", "HOST:PORT,...", "join the cluster of these members"),
    key("learner", "false", "", "join without a vote"),
    key("rejoin", "false", "", "if the data directory is damaged, set it aside and join again"),
    key("cert_dir", "", "DIR", "certificates made by `raftkv-cli cert init`"),
    key("backup_config", "", "FILE", "make backups for the cluster with this store and these keys"),
    key("metrics_listen", "", "IP:PORT", "show metrics here over plain HTTP, for Prometheus"),
    key("max_connections", "4096", "N", "client connections at most"),
    key("log_format", "text", "text|json", "how log lines look"),
    key("log_level", "info", "LEVEL", "error, warn, info, debug, trace, or a tracing filter"),
    key("tick", "100ms", "TIME", "raft's unit of time"),
    key("election_timeout", "1s", "TIME", "without a leader for this long, stand for election"),
    key("heartbeat", "100ms", "TIME", "between a leader's heartbeats"),
    key("snapshot_entries", "8192", "N", "snapshot after this many entries"),
    key("snapshot_interval", "120s", "TIME", "snapshot after this long, if anything changed"),
    key("snapshots_kept", "3", "N", "complete snapshots kept"),
    key("segment", "64MiB", "SIZE", "size of a log segment"),
    key("history_revisions", "100000", "N", "old revisions kept readable; 0 keeps all"),
    key("max_key", "64KiB", "SIZE", "longest key"),
    key("max_value", "1536KiB", "SIZE", "longest value"),
    key("max_write", "4MiB", "SIZE", "largest write request"),
    key("max_txn_ops", "1024", "N", "operations and compares of one transaction at most"),
    key("max_range", "4MiB", "SIZE", "largest answer to a range read; longer ones are cut"),
    key("max_inflight", "64MiB", "SIZE", "bytes of proposals under way"),
    key("max_inflight_requests", "65536", "N", "requests under way"),
];

/// Variables of the environment that mean something to the command line or to the reading of the configuration, not to a setting.
pub const OTHER_VARIABLES: &[&str] = &[
    "RAFTKV_CONFIG",
    "RAFTKV_ENDPOINTS",
    "RAFTKV_OUTPUT",
    "RAFTKV_TIMEOUT",
    "RAFTKV_BACKUP_CONFIG",
];

impl Key {
    /// As a flag, without the dashes before it.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// As a variable of the environment.
    pub fn variable(&self) -> String {
        format!("RAFTKV_{}", self.name.to_uppercase())
    }

    /// Whether it takes no value as a flag.
    pub fn is_switch(&self) -> bool {
        self.value.is_empty()
    }
}

/// The row of a name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The key that was probably meant: at most two letters away.
pub fn nearest(name: &str) -> Option<&'static str> {
    let name = name.replace('-', "_").to_lowercase();
    KEYS.iter()
        .map(|key| (distance(&name, key.name), key.name))
        .min()
        .and_then(|(distance, key)| (distance <= 2).then_some(key))
}

/// Levenshtein's edit distance; swapped neighbours count as two.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_documented_with_its_default() {
        let page = include_str!("../../../docs/OPERATIONS.md");
        for key in KEYS {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", key.name)))
                .unwrap_or_else(|| panic!("{} is not documented", key.name));
            assert!(row.contains(key.default), "{row} should say {}", key.default);
        }
    }

    #[test]
    fn near_misses_find_their_key() {
        assert_eq!(nearest("data-dri"), Some("data_dir"));
        assert_eq!(nearest("colour"), None);
    }
}
