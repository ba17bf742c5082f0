//! What a node knows of itself and of its cluster's backups, as Prometheus reads it: its text format, version 0.0.4.
//!
//! Invariants: no key, value, credential or place of a store is in it; what is not known is left out, never shown as 0; no label holds
//! text that has to be escaped: from outside come only the names of stores of copies, which are letters, digits, - and _.

use super::admin::{NodeStatus, Role};
use super::backups::{BackupStatus, CopyReport, Ended, RunOutcome, RunTotals};
use crate::time::Wall;
use std::fmt::{Display, Write as _};

/// The `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of one node. Without `backups` it does not know any yet.
pub fn render(status: &NodeStatus, backups: Option<&BackupStatus>) -> String {
    let mut page = Page::default();
    page.node(status);
    if let Some(backups) = backups {
        page.backups(backups);
    }
    page.text
}

#[derive(Debug, Default)]
struct Page {
    text: String,
}

impl Page {
    fn node(&mut self, status: &NodeStatus) {
        let identity = &status.identity;
        let labels = format!(
            "version=\"{}\",cluster=\"{}\",epoch=\"{}\",node=\"{}\"",
            status.version, identity.cluster, identity.epoch.0, identity.node
        );
        self.begin("raftkv_info", "Always 1: who the node is.");
        self.sample("raftkv_info", &labels, 1);
        let roles = [
            ("leader", Role::Leader),
            ("follower", Role::Follower),
            ("candidate", Role::Candidate),
            ("pre-candidate", Role::PreCandidate),
            ("learner", Role::Learner),
        ];
        let roles = roles.map(|(name, role)| (name, status.role == role));
        self.one_of("raftkv_role", "What the node does in consensus.", "role", &roles);
        for (name, help, value) in [
            ("is_leader", "Whether the node leads.", u64::from(status.role == Role::Leader)),
            ("has_leader", "Whether it knows a leader.", u64::from(status.leader.is_some())),
            ("term", "Its term.", status.term),
            ("last_index", "Index of the last entry in its log.", status.last_index),
            ("commit_index", "Index up to which it knows entries committed.", status.commit_index),
            ("applied_index", "Index of the last entry applied.", status.applied_index),
            ("revision", "Revision of the state.", status.revision),
            ("compacted_revision", "The oldest revision that can be read.", status.compacted),
            ("keys", "Live keys.", status.keys),
            ("state_bytes", "Bytes of live keys and values.", status.bytes),
            ("leases", "Leases.", status.leases),
            ("watches", "Open watches on this node.", status.watches),
            ("snapshot_index", "Index of the newest durable snapshot.", status.snapshot_index),
            ("log_bytes", "Bytes of log on disk.", status.log_bytes),
        ] {
            self.gauge(name, help, value);
        }
    }

    fn backups(&mut self, status: &BackupStatus) {
        let backups = &status.backups;
        let overdue_ms = status.overdue.map_or(0, |slot| status.wall.0.saturating_sub(slot.0));
        for (name, help, value) in [
            ("backup_able", "Whether this node can make backups.", status.able),
            ("backup_scheduled", "Whether there is a schedule.", backups.schedule.is_some()),
            ("backup_paused", "Whether the schedule is paused.", backups.paused),
            ("backup_running", "Whether a run is under way.", backups.run.is_some()),
        ] {
            self.gauge(name, help, u64::from(value));
        }
        let help = "How long a backup has been due that is not begun.";
        self.gauge("backup_overdue_seconds", help, seconds(overdue_ms));
        let help = "Failures in a row at the newest slot.";
        self.gauge("backup_slot_failures", help, backups.failures);
        if let Some(last) = &backups.last {
            self.last_run(last);
        }
        self.totals(&status.totals);
        if let Some(complete) = &backups.complete {
            self.complete(complete);
        }
        if let Some(pruned) = &status.pruned {
            let help = "Whether pruning failed after the last backup for which this node did it.";
            self.gauge("backup_prune_failed", help, u64::from(pruned.failed));
        }
        self.copies(&status.copies);
        if let Some(lag_ms) = status.lag_ms() {
            let help = "Age of the newest state that is known to be in the store.";
            self.gauge("backup_lag_seconds", help, seconds(lag_ms));
        }
    }

    /// Of every store of copies that this node keeps.
    fn copies(&mut self, copies: &[CopyReport]) {
        if copies.is_empty() {
            return;
        }
        let name = "raftkv_backup_copy_behind";
        let help = "Whether a store of copies that this node keeps lacks something.";
        self.begin(name, help);
        for CopyReport { store, behind, .. } in copies {
            self.sample(name, &format!("store=\"{store}\""), u64::from(*behind));
        }
        let name = "raftkv_backup_copy_timestamp_seconds";
        self.begin(name, "When it was last worked on.");
        for CopyReport { store, at, .. } in copies {
            self.line(format_args!("{name}{{store=\"{store}\"}} {}", timestamp(*at)));
        }
    }

    fn last_run(&mut self, last: &Ended) {
        let outcome = match last.outcome {
            RunOutcome::Complete { .. } => "complete",
            RunOutcome::Unchanged { .. } => "unchanged",
            RunOutcome::Failed { .. } => "failed",
            RunOutcome::Abandoned => "abandoned",
        };
        let outcomes = ["complete", "unchanged", "failed", "abandoned"];
        let outcomes = outcomes.map(|name| (name, name == outcome));
        let help = "How the last run ended.";
        self.one_of("raftkv_backup_last_outcome", help, "outcome", &outcomes);
        let help = "When the last run ended.";
        self.gauge("backup_last_end_timestamp_seconds", help, timestamp(last.ended));
        if let Some(lasted_ms) = last.lasted_ms() {
            let help = "How long the last run took.";
            self.gauge("backup_last_duration_seconds", help, seconds(lasted_ms));
        }
    }

    fn totals(&mut self, totals: &RunTotals) {
        let RunTotals { complete, unchanged, failed, abandoned } = *totals;
        let name = "raftkv_backup_runs_total";
        let help = "Runs of the cluster that ended, as this node has seen since it was started.";
        self.begin_as("counter", name, help);
        for (outcome, total) in [
            ("complete", complete),
            ("unchanged", unchanged),
            ("failed", failed),
            ("abandoned", abandoned),
        ] {
            self.sample(name, &format!("outcome=\"{outcome}\""), total);
        }
    }

    fn complete(&mut self, complete: &Ended) {
        let help = "When the newest complete backup was begun, and its state taken.";
        self.gauge("backup_complete_timestamp_seconds", help, timestamp(complete.started));
        let help = "Revision of the state in it.";
        self.gauge("backup_complete_revision", help, complete.revision);
        if let RunOutcome::Complete { data_bytes } = complete.outcome {
            self.gauge("backup_complete_bytes", "Length of its data.", data_bytes);
        }
    }

    /// A number under this name after `raftkv_`.
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        let name = format!("raftkv_{name}");
        self.begin(&name, help);
        self.line(format_args!("{name} {value}"));
    }

    /// Several names of which one holds: that is 1, the others are 0.
    fn one_of(&mut self, name: &str, help: &str, label: &str, values: &[(&str, bool)]) {
        self.begin(name, help);
        for (value, holds) in values {
            self.sample(name, &format!("{label}=\"{value}\""), u64::from(*holds));
        }
    }

    fn begin(&mut self, name: &str, help: &str) {
        self.begin_as("gauge", name, help);
    }

    fn begin_as(&mut self, kind: &str, name: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        self.line(format_args!("{name}{{{labels}}} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn timestamp(wall: Wall) -> f64 {
    seconds(wall.0)
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Backups, PruneReport};
    use crate::backup::BackupId;
    use crate::backup::retention::CLOCK_TOLERANCE_MS;
    use crate::ids::{ClusterId, Epoch, Identity, NodeId};
    use crate::kv::hash::StateHash;
    use crate::rng::Seed;

    fn status() -> NodeStatus {
        let node = NodeId::new(2, 1);
        NodeStatus {
            identity: Identity { cluster: ClusterId([0xab; 16]), epoch: Epoch(3), node },
            address: "db2.example:7400".into(),
            role: Role::Follower,
            leader: Some(NodeId::new(1, 0)),
            term: 7,
            last_index: 105,
            commit_index: 104,
            applied_index: 103,
            revision: 90,
            compacted: 10,
            state_hash: StateHash::default(),
            keys: 5,
            bytes: 500,
            leases: 2,
            watches: 1,
            snapshot_index: 64,
            log_bytes: 4096,
            version: "1.2.3".into(),
        }
    }

    fn ended(number: u64, outcome: RunOutcome) -> Ended {
        Ended {
            number,
            id: BackupId::draw(&mut Seed::from_number(number).fork("id")),
            slot: None,
            node: NodeId::new(3, 0),
            revision: number - 10,
            started: Wall(number as i64 * 1000),
            ended: Wall(number as i64 * 1000 + 500),
            committing: true,
            outcome,
        }
    }

    fn backups() -> BackupStatus {
        let why = "s3://secret-bucket/ said no".to_owned();
        BackupStatus {
            backups: Backups {
                paused: true,
                failures: 4,
                last: Some(ended(100, RunOutcome::Failed { why })),
                complete: Some(ended(80, RunOutcome::Complete { data_bytes: 1234 })),
                ..Backups::default()
            },
            node: NodeId::new(2, 1),
            able: true,
            wall: Wall(120_250),
            next: Vec::new(),
            overdue: Some(Wall(119_000)),
            done_bytes: None,
            pruned: Some(PruneReport {
                after: ended(80, RunOutcome::Abandoned).id,
                failed: true,
                what: "s3://secret-bucket/ said no".into(),
            }),
            copies: [("near", false), ("far", true)]
                .map(|(store, behind)| CopyReport {
                    store: store.into(),
                    at: Wall(110_500),
                    behind,
                    what: "s3://secret-bucket/ said no".into(),
                })
                .into(),
            totals: RunTotals { complete: 5, unchanged: 2, failed: 3, abandoned: 0 },
        }
    }

    #[test]
    fn a_node_and_its_backups() {
        let text = render(&status(), Some(&backups()));
        assert_eq!(text, include_str!("metrics.txt"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let all = render(&status(), Some(&backups()));
        let joining = render(&status(), None);
        assert!(all.starts_with(&joining) && !joining.contains("raftkv_backup"), "{joining}");
        let mut none_made = backups();
        none_made.backups = Backups::default();
        none_made.overdue = None;
        none_made.pruned = None;
        none_made.copies.clear();
        let text = render(&status(), Some(&none_made));
        assert!(text.contains("\nraftkv_backup_overdue_seconds 0\n"), "{text}");
        for unknown in ["backup_last_", "timestamp", "backup_complete_", "prune", "lag"] {
            assert!(!text.contains(unknown), "{unknown} in {text}");
        }
    }

    #[test]
    fn a_run_that_found_nothing_changed_makes_the_state_new_again() {
        let mut status = backups();
        let since = ended(80, RunOutcome::Abandoned).id;
        status.backups.last = Some(ended(110, RunOutcome::Unchanged { since }));
        assert_eq!(status.newest_state(), Some(Wall(110_000)));
        let text = render(&self::status(), Some(&status));
        assert!(text.contains("\nraftkv_backup_lag_seconds 10.25\n"), "{text}");
        assert!(text.contains("\nraftkv_backup_complete_timestamp_seconds 80\n"), "{text}");
    }

    #[test]
    fn a_run_that_ended_before_it_began_took_no_known_time() {
        let mut status = backups();
        status.backups.last.as_mut().unwrap().ended = Wall(99_999);
        let text = render(&self::status(), Some(&status));
        assert!(text.contains("last_end_timestamp_seconds 99.999"), "{text}");
        assert!(!text.contains("duration"), "{text}");
    }

    #[test]
    fn one_calendar_that_was_ahead_hides_no_age() {
        let mut status = backups();
        let complete = status.backups.complete.as_mut().unwrap();
        complete.started = Wall(315_360_000_000);
        let text = render(&self::status(), Some(&status));
        assert!(!text.contains("lag"), "from the future: not known\n{text}");
        // A later run is the newest, whatever the times.
        status.backups.last = Some(ended(110, RunOutcome::Complete { data_bytes: 1 }));
        assert_eq!(status.lag_ms(), Some(10_250));
        status.wall = Wall(110_000 - CLOCK_TOLERANCE_MS);
        assert_eq!(status.lag_ms(), Some(0), "calendars may differ by this much");
        status.wall.0 -= 1;
        assert_eq!(status.lag_ms(), None);
    }
}
