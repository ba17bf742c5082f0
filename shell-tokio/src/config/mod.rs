//! What the operator says: a YAML file, overridden by `RAFTKV_*` in the environment, overridden by flags.
//!
//! Every setting is one row of [`keys::KEYS`]; the three sources use the same name (`data_dir`, `RAFTKV_DATA_DIR`,
//! `--data-dir`) and the same text form. Invariant: whatever cannot be meant is an error that names the key and where it
//! was set; nothing is guessed or ignored.

pub mod keys;
pub mod source;
pub mod units;

use raftkv_core::config::{Config, Limits};
use raftkv_core::time::Span;
use source::{Layers, Origin, Place};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything a node is told at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The member number, when one was given.
    pub id: Option<u32>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the node listens.
    pub listen: SocketAddr,
    /// Where others reach it, `host:port`.
    pub advertise: String,
    /// Members of a cluster to be made, by number; empty when none is.
    pub initial_cluster: Vec<(u32, String)>,
    /// Tells clusters apart that are made from the same list.
    pub cluster_token: String,
    /// Members of a cluster to be joined.
    pub join: Vec<String>,
    /// Join without a vote.
    pub learner: bool,
    /// Replace a damaged data directory by joining again.
    pub rejoin: bool,
    /// Certificates, if any.
    pub cert_dir: Option<PathBuf>,
    /// With what this node makes backups for its cluster, if it does.
    pub backup_config: Option<PathBuf>,
    /// Where metrics are shown, if they are.
    pub metrics_listen: Option<SocketAddr>,
    /// Client connections at most.
    pub max_connections: usize,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines are written, in the form of `tracing`'s filters.
    pub log_level: String,
    /// What the core is told.
    pub core: Config,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read: {why}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The file is not the YAML that is expected.
    #[error("{path}, line {line}: {why}")]
    Syntax {
        /// Which file.
        path: String,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// There is no such key.
    #[error("{origin}: unknown key `{key}`{}", suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The nearest key there is.
        suggestion: Option<&'static str>,
    },
    /// A variable is not text.
    #[error("{variable} in the environment is not UTF-8")]
    NotText {
        /// Which.
        variable: String,
    },
    /// A value is not what its key takes, or does not go with another.
    #[error("{}: {why}", places.iter().map(Place::to_string).collect::<Vec<_>>().join(" and "))]
    Value {
        /// The key, or all that do not go together, and where each was set.
        places: Vec<Place>,
        /// What is wrong, and what is allowed.
        why: String,
    },
}

impl Settings {
    /// Checks all values, each alone and then together.
    pub fn from_layers(layers: &Layers) -> Result<Settings, ConfigError> {
        let listen = layers.parse("listen", units::address)?;
        let advertise = match layers.text("advertise") {
            "" => listen.to_string(),
            _ => layers.parse("advertise", units::host_port)?,
        };
        let settings = Settings {
            id: layers.parse("id", units::optional(units::member))?,
            data_dir: layers.parse("data_dir", units::path)?,
            listen,
            core: core_config(layers, &advertise)?,
            advertise,
            initial_cluster: layers.parse("initial_cluster", units::members)?,
            cluster_token: layers.text("cluster_token").to_owned(),
            join: layers.parse("join", units::addresses)?,
            learner: layers.parse("learner", units::flag)?,
            rejoin: layers.parse("rejoin", units::flag)?,
            cert_dir: layers.parse("cert_dir", units::optional(units::path))?,
            backup_config: layers.parse("backup_config", units::optional(units::path))?,
            metrics_listen: layers.parse("metrics_listen", units::optional(units::address))?,
            max_connections: layers.parse("max_connections", units::count)?,
            log_format: layers.parse("log_format", units::log_format)?,
            log_level: layers.parse("log_level", units::log_filter)?,
        };
        settings.check(layers)?;
        Ok(settings)
    }

    /// The member number: the given one, or 1.
    pub fn member(&self) -> u32 {
        self.id.unwrap_or(1)
    }

    /// Combinations that cannot be meant.
    fn check(&self, layers: &Layers) -> Result<(), ConfigError> {
        if self.listen.ip().is_unspecified() && layers.text("advertise").is_empty() {
            let why = "listening on every address needs `advertise`: the host:port under which others reach this node";
            return Err(layers.wrong("listen", why));
        }
        if self.listen.port() == 0 {
            return Err(layers.wrong("listen", "a port is needed; 0 is none"));
        }
        if self.cert_dir.is_none() && !self.listen.ip().is_loopback() {
            let why = "without certificates a node listens on loopback only: make some with \
                       `raftkv-cli cert init --out DIR --hosts HOST,...` and set `cert_dir`";
            return Err(layers.wrong("listen", why));
        }
        self.check_loopback(layers)?;
        self.check_metrics(layers)?;
        if !self.join.is_empty() && !self.initial_cluster.is_empty() && !self.rejoin {
            let why =
                "a node either makes a cluster (`initial_cluster`) or joins one (`join`), not both";
            return Err(layers.clash(&["join", "initial_cluster"], why));
        }
        if !self.join.is_empty() && self.join.iter().all(|address| *address == self.advertise) {
            let why = "names only this node itself: give the address of a member";
            return Err(layers.clash(&["join", "advertise", "listen"], why));
        }
        if self.rejoin && self.join.is_empty() && self.initial_cluster.is_empty() {
            let why = "to rejoin, the other members must be known: set `join`";
            return Err(layers.wrong("rejoin", why));
        }
        if self.learner && self.join.is_empty() {
            return Err(layers.wrong("learner", "only a node that joins (`join`) can be a learner"));
        }
        if self.initial_cluster.is_empty() && !self.cluster_token.is_empty() {
            let why =
                "it tells clusters apart that are made from the same list: set `initial_cluster`";
            return Err(layers.wrong("cluster_token", why));
        }
        match self.initial_cluster.is_empty() {
            true => Ok(()),
            false => self.check_initial_cluster(layers),
        }
    }

    /// Without certificates nobody beyond loopback is called, and nobody there could call.
    fn check_loopback(&self, layers: &Layers) -> Result<(), ConfigError> {
        if self.cert_dir.is_some() {
            return Ok(());
        }
        let members = self.initial_cluster.iter().map(|(_, address)| ("initial_cluster", address));
        let known = self.join.iter().map(|address| ("join", address));
        let own = std::iter::once(("advertise", &self.advertise));
        let beyond = |address: &str| {
            address.parse().is_ok_and(|address: SocketAddr| !address.ip().is_loopback())
        };
        match own.chain(members).chain(known).find(|(_, address)| beyond(address)) {
            None => Ok(()),
            Some((key, address)) => {
                let why = format!(
                    "{address} is not on loopback, where a node without certificates stays: make some with \
                     `raftkv-cli cert init --out DIR --hosts HOST,...` and set `cert_dir`"
                );
                Err(layers.wrong(key, why))
            }
        }
    }

    /// Metrics are shown to everyone who can reach them: beyond loopback only where the node goes there, too.
    fn check_metrics(&self, layers: &Layers) -> Result<(), ConfigError> {
        match self.metrics_listen {
            Some(address) if address.port() == 0 => {
                Err(layers.wrong("metrics_listen", "a port is needed; 0 is none"))
            }
            Some(address) if self.cert_dir.is_none() && !address.ip().is_loopback() => {
                let why = "without certificates a node shows metrics on loopback only: set `cert_dir`, and mind that \
                           metrics have no authentication even then";
                Err(layers.wrong("metrics_listen", why))
            }
            _ => Ok(()),
        }
    }

    fn check_initial_cluster(&self, layers: &Layers) -> Result<(), ConfigError> {
        let me = self.member();
        let Some((_, address)) = self.initial_cluster.iter().find(|(id, _)| *id == me) else {
            let why = format!("this node's `id` {me} is not in the list");
            return Err(layers.clash(&["initial_cluster", "id"], why));
        };
        if *address != self.advertise {
            let why = format!(
                "the list says member {me} is at {address}, but this node is reached at {} \
                 (`advertise`, or else `listen`)",
                self.advertise
            );
            return Err(layers.clash(&["initial_cluster", "advertise", "listen"], why));
        }
        Ok(())
    }
}

fn core_config(layers: &Layers, advertise: &str) -> Result<Config, ConfigError> {
    let tick = layers.parse("tick", units::span)?;
    let ticks = |key| -> Result<u32, ConfigError> {
        let span: Span = layers.parse(key, units::span)?;
        if span.0 == 0 || !span.0.is_multiple_of(tick.0) {
            let why = format!("`{key}` must be a multiple of `tick` ({} ms)", tick.as_millis());
            return Err(layers.clash(&[key, "tick"], why));
        }
        u32::try_from(span.0 / tick.0).map_err(|_| layers.wrong(key, "too long"))
    };
    let (election_ticks, heartbeat_ticks) = (ticks("election_timeout")?, ticks("heartbeat")?);
    if election_ticks < 3 * heartbeat_ticks {
        let why = "`election_timeout` must be at least 3 times `heartbeat`, or healthy leaders lose elections";
        return Err(layers.clash(&["election_timeout", "heartbeat"], why));
    }
    let limits = Limits {
        key_bytes: layers.parse("max_key", units::bytes)?,
        value_bytes: layers.parse("max_value", units::bytes)?,
        txn_ops: layers.parse("max_txn_ops", units::count)?,
        write_bytes: layers.parse("max_write", units::bytes)?,
        range_bytes: layers.parse("max_range", units::bytes)?,
        inflight_bytes: layers.parse("max_inflight", units::bytes)?,
        inflight_requests: layers.parse("max_inflight_requests", units::count)?,
        ..Limits::default()
    };
    check_limits(layers, &limits)?;
    Ok(Config {
        address: advertise.to_owned(),
        tick,
        election_ticks,
        heartbeat_ticks,
        snapshot_entries: layers.parse("snapshot_entries", units::count)? as u64,
        snapshot_interval: layers.parse("snapshot_interval", units::span)?,
        snapshots_kept: layers.parse("snapshots_kept", units::count)?,
        segment_bytes: layers.parse("segment", units::segment)? as u64,
        history_revisions: layers.parse("history_revisions", units::number)?,
        limits,
        ..Config::default()
    })
}

/// One write must fit a frame from a client and one between peers; one answer a frame back.
fn check_limits(layers: &Layers, limits: &Limits) -> Result<(), ConfigError> {
    use raftkv_core::wire::frame::CLIENT_FRAME_BYTES_MAX;
    const FRAME_OVERHEAD_BYTES: usize = 64 << 10;
    let frame = CLIENT_FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES;
    for (key, bytes) in [("max_write", limits.write_bytes), ("max_range", limits.range_bytes)] {
        if bytes > frame {
            let why = format!("at most {frame} bytes fit a frame");
            return Err(layers.wrong(key, why));
        }
    }
    if limits.key_bytes + limits.value_bytes > limits.write_bytes {
        let why = "`max_write` must be at least `max_key` and `max_value` together";
        return Err(layers.clash(&["max_write", "max_key", "max_value"], why));
    }
    if limits.write_bytes > limits.inflight_bytes {
        let why = "`max_inflight` must be at least `max_write`";
        return Err(layers.clash(&["max_inflight", "max_write"], why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(yaml: &str, flags: &[(&str, &str)]) -> Result<Settings, String> {
        let mut layers = Layers::defaults();
        layers
            .add_yaml("raftkv.yaml", yaml)
            .and_then(|()| {
                flags.iter().for_each(|(key, value)| layers.add_flag(key, value));
                Settings::from_layers(&layers)
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_start_a_single_node_on_loopback() {
        let settings = settings("", &[]).unwrap();
        assert_eq!(settings.listen, "127.0.0.1:7400".parse().unwrap());
        assert_eq!((settings.id, settings.member()), (None, 1));
        assert_eq!(settings.data_dir, PathBuf::from("./raftkv-data"));
        assert_eq!(settings.core, Config::default());
    }

    #[test]
    fn later_layers_win() {
        let settings = settings("id: 2\nlisten: 127.0.0.1:1\n", &[("id", "3")]).unwrap();
        assert_eq!(settings.id, Some(3));
        assert_eq!(settings.advertise, "127.0.0.1:1");
    }

    #[test]
    fn lists_have_two_forms() {
        let text = settings("listen: 127.0.0.1:1\ninitial_cluster: 1=127.0.0.1:1,2=h:2\n", &[]);
        let map =
            settings("listen: 127.0.0.1:1\ninitial_cluster:\n  1: 127.0.0.1:1\n  2: h:2\n", &[]);
        assert_eq!(text.unwrap().initial_cluster, map.unwrap().initial_cluster);
        assert_eq!(settings("join: [a:1, b:2]", &[]).unwrap().join, ["a:1", "b:2"]);
    }

    /// A file, where its error points to, and a word of what it says.
    const WRONG_FILES: &[(&str, &str, &str)] = &[
        ("id: 1\nlitsen: x\n", "line 2", "did you mean `listen`"),
        ("a: [1\n", "line", ""),
        ("- 1\n", "line 1", "key: value"),
        ("id: 1\nid: 2\n", "line 2", "duplicate"),
        ("id: 1\n---\nid: 2\n", "line 3", "second document"),
        ("tick: {a: {b: c}}\n", "line 1", "`tick`"),
        ("id: zero\n", "`id` (raftkv.yaml, line 1)", "number"),
        ("\n\nid: 0\n", "`id` (raftkv.yaml, line 3)", "from 1"),
        ("data_dir:\n", "`data_dir` (raftkv.yaml, line 1)", "path"),
        ("listen: db1:7400\n", "`listen` (raftkv.yaml, line 1)", "127.0.0.1:7400"),
        ("advertise: db1\n", "`advertise` (raftkv.yaml, line 1)", "host:port"),
        ("metrics_listen: localhost\n", "`metrics_listen` (raftkv.yaml, line 1)", "127.0.0.1:7400"),
        ("join: [a:1, b]\n", "`join` (raftkv.yaml, line 1)", "\"b\""),
        ("join: 0.0.0.0:1\n", "`join` (raftkv.yaml, line 1)", "every address"),
        ("initial_cluster:\n  1: a\n", "`initial_cluster` (raftkv.yaml, line 1)", "\"a\""),
        ("initial_cluster: 1=h:1,1=h:2\n", "line 1", "twice"),
        ("learner: maybe\n", "`learner` (raftkv.yaml, line 1)", "true"),
        ("rejoin: 1\n", "`rejoin` (raftkv.yaml, line 1)", "true"),
        ("max_connections: 0\n", "`max_connections` (raftkv.yaml, line 1)", "from 1"),
        ("log_format: xml\n", "`log_format` (raftkv.yaml, line 1)", "json"),
        ("log_level: loud=very\n", "`log_level` (raftkv.yaml, line 1)", "debug"),
        ("tick: fast\n", "`tick` (raftkv.yaml, line 1)", "10s"),
        ("snapshot_entries: -1\n", "`snapshot_entries` (raftkv.yaml, line 1)", "number"),
        ("snapshot_interval: 0s\n", "`snapshot_interval` (raftkv.yaml, line 1)", "10s"),
        ("snapshots_kept: 0\n", "`snapshots_kept` (raftkv.yaml, line 1)", "from 1"),
        ("segment: 1 hectare\n", "`segment` (raftkv.yaml, line 1)", "64MiB"),
        ("segment: 4KiB\n", "`segment` (raftkv.yaml, line 1)", "1MiB"),
        ("segment: 1025MiB\n", "`segment` (raftkv.yaml, line 1)", "1GiB"),
        ("history_revisions: many\n", "`history_revisions` (raftkv.yaml, line 1)", "number"),
        ("max_write: 100MiB\n", "`max_write` (raftkv.yaml, line 1)", "frame"),
        ("max_range: 100MiB\n", "`max_range` (raftkv.yaml, line 1)", "frame"),
    ];

    /// Values that are right alone and wrong together: every key that somebody set is named, and no other.
    const WRONG_TOGETHER: &[(&str, &str, &str)] = &[
        ("listen: 0.0.0.0:1\n", "`listen` (raftkv.yaml, line 1): ", "advertise"),
        ("listen: 10.0.0.1:1\n", "`listen` (raftkv.yaml, line 1): ", "cert init"),
        ("listen: 127.0.0.1:0\n", "`listen` (raftkv.yaml, line 1): ", "port"),
        ("metrics_listen: 10.0.0.1:1\n", "`metrics_listen` (raftkv.yaml, line 1): ", "cert_dir"),
        ("metrics_listen: 127.0.0.1:0\n", "`metrics_listen` (raftkv.yaml, line 1): ", "port"),
        ("id: 1\nadvertise: 10.0.0.1:1\n", "`advertise` (raftkv.yaml, line 2): ", "cert init"),
        ("join: 10.0.0.1:1\n", "`join` (raftkv.yaml, line 1): ", "cert init"),
        (
            "initial_cluster: [1=127.0.0.1:7400, 2=10.0.0.1:1]\n",
            "`initial_cluster` (raftkv.yaml, line 1): ",
            "cert init",
        ),
        (
            "join: a:1\ninitial_cluster: 1=127.0.0.1:7400\n",
            "`join` (raftkv.yaml, line 1) and `initial_cluster` (raftkv.yaml, line 2): ",
            "not both",
        ),
        ("join: 127.0.0.1:7400\n", "`join` (raftkv.yaml, line 1): ", "itself"),
        (
            "initial_cluster: 2=127.0.0.1:7400\n",
            "`initial_cluster` (raftkv.yaml, line 1): ",
            "not in the list",
        ),
        (
            "initial_cluster: 1=127.0.0.1:7400\nid: 2\n",
            "`initial_cluster` (raftkv.yaml, line 1) and `id` (raftkv.yaml, line 2): ",
            "not in the list",
        ),
        (
            "initial_cluster: 1=127.0.0.1:9\nlisten: 127.0.0.1:8\n",
            "`initial_cluster` (raftkv.yaml, line 1) and `listen` (raftkv.yaml, line 2): ",
            "advertise",
        ),
        ("cluster_token: blue\n", "`cluster_token` (raftkv.yaml, line 1): ", "initial_cluster"),
        ("learner: true\n", "`learner` (raftkv.yaml, line 1): ", "join"),
        ("rejoin: true\n", "`rejoin` (raftkv.yaml, line 1): ", "join"),
        (
            "heartbeat: 150ms\n",
            "`heartbeat` (raftkv.yaml, line 1): ",
            "`heartbeat` must be a multiple of `tick`",
        ),
        ("tick: 3ms\n", "`tick` (raftkv.yaml, line 1): ", "`election_timeout` must be a multiple"),
        ("election_timeout: 200ms\n", "`election_timeout` (raftkv.yaml, line 1): ", "3 times"),
        ("heartbeat: 500ms\n", "`heartbeat` (raftkv.yaml, line 1): ", "3 times"),
        ("max_value: 4MiB\n", "`max_value` (raftkv.yaml, line 1): ", "`max_write` must be"),
        (
            "max_inflight: 1MiB\nmax_write: 2MiB\n",
            "`max_inflight` (raftkv.yaml, line 1) and `max_write` (raftkv.yaml, line 2): ",
            "at least",
        ),
    ];

    #[test]
    fn errors_name_the_key_and_the_line() {
        for (yaml, place, what) in WRONG_FILES {
            let error = settings(yaml, &[]).unwrap_err();
            assert!(error.contains(place) && error.contains(what), "{yaml:?} gave: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn values_that_do_not_go_together_are_all_named() {
        for (yaml, places, what) in WRONG_TOGETHER {
            let error = settings(yaml, &[]).unwrap_err();
            assert!(error.starts_with(places) && error.contains(what), "{yaml:?} gave: {error}");
        }
    }

    #[test]
    fn errors_name_the_flag_and_the_variable() {
        let error = settings("", &[("id", "x")]).unwrap_err();
        assert!(error.starts_with("`id` (--id)"), "{error}");
        let mut layers = Layers::defaults();
        layers.add_yaml("raftkv.yaml", "max_inflight: 1MiB\n").unwrap();
        let variable = ("RAFTKV_MAX_WRITE".into(), "2MiB".into());
        layers.add_environment(std::iter::once(variable)).unwrap();
        let error = Settings::from_layers(&layers).unwrap_err().to_string();
        let places = "`max_inflight` (raftkv.yaml, line 1) and `max_write` (RAFTKV_MAX_WRITE): ";
        assert!(error.starts_with(places), "{error}");
    }
}
