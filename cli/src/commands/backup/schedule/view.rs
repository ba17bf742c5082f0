//! What is printed of schedules and runs.

use crate::output::{Report, table};
use raftkv_core::api::{BackupStatus, CopyReport, Ended, Run, RunOutcome, Schedule};
use raftkv_core::backup::metadata::rfc3339;
use serde::Serialize;
use std::collections::BTreeMap;

/// `backup schedule status`.
#[derive(Debug, Serialize)]
pub struct ScheduleView {
    schedule: Option<SpecView>,
    paused: bool,
    run: Option<RunView>,
    last: Option<EndedView>,
    last_complete: Option<EndedView>,
    /// What came of pruning after the last complete backup; nothing where its node has not pruned, or was started again since.
    pruned: Option<String>,
    /// What came of each store of copies, by whoever worked on it last and was not started again since.
    copies: Vec<CopyView>,
    /// Failures in a row at the newest slot.
    failures: u32,
    next: Vec<String>,
    /// How long a backup has been due that is not begun.
    overdue_seconds: Option<i64>,
    /// Age of the newest state that is known to be in the store.
    lag_seconds: Option<i64>,
    nodes: Vec<NodeView>,
}

#[derive(Debug, Serialize)]
struct SpecView {
    cron: String,
    timezone: String,
    prune: bool,
}

#[derive(Debug, Serialize)]
struct RunView {
    id: String,
    index: u64,
    revision: u64,
    slot: Option<String>,
    node: u32,
    started: String,
}

#[derive(Debug, Serialize)]
struct NodeView {
    address: String,
    /// Whether it has a `backup_config`; nothing where it did not answer.
    able: Option<bool>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct CopyView {
    store: String,
    /// Something is not there that should be.
    behind: bool,
    at: String,
    /// Who did it.
    node: u32,
    what: String,
}

/// A run that ended.
#[derive(Debug, Serialize)]
pub struct EndedView {
    id: String,
    index: u64,
    revision: u64,
    slot: Option<String>,
    node: u32,
    started: String,
    ended: String,
    /// `complete`, `unchanged`, `failed` or `abandoned`.
    outcome: &'static str,
    data_bytes: Option<u64>,
    unchanged_since: Option<String>,
    error: Option<String>,
}

impl ScheduleView {
    /// From what the leader and the nodes say.
    pub fn new(status: &BackupStatus, nodes: Vec<(String, Result<BackupStatus, String>)>) -> Self {
        let backups = &status.backups;
        let seconds = |since: raftkv_core::time::Wall| (status.wall.0 - since.0) / 1000;
        ScheduleView {
            schedule: backups.schedule.as_ref().map(SpecView::new),
            paused: backups.paused,
            run: backups.run.as_ref().map(RunView::new),
            last: backups.last.as_ref().map(EndedView::new),
            last_complete: backups.complete.as_ref().map(EndedView::new),
            pruned: backups.complete.as_ref().and_then(|complete| pruned_after(complete, &nodes)),
            copies: newest_copies(&nodes),
            failures: backups.failures,
            next: status.next.iter().map(|slot| rfc3339(*slot)).collect(),
            overdue_seconds: status.overdue.map(seconds),
            lag_seconds: status.lag_ms().map(|lag_ms| lag_ms / 1000),
            nodes: nodes.into_iter().map(NodeView::new).collect(),
        }
    }
}

/// Of each store the newest report there is.
fn newest_copies(nodes: &[(String, Result<BackupStatus, String>)]) -> Vec<CopyView> {
    let mut newest: BTreeMap<&str, (u32, &CopyReport)> = BTreeMap::new();
    for status in nodes.iter().filter_map(|(_, node)| node.as_ref().ok()) {
        for report in &status.copies {
            let known = newest.get(report.store.as_str());
            if known.is_none_or(|(_, known)| known.at < report.at) {
                newest.insert(&report.store, (status.node.member(), report));
            }
        }
    }
    let view = |(node, report): (u32, &CopyReport)| CopyView {
        store: report.store.clone(),
        behind: report.behind,
        at: rfc3339(report.at),
        node,
        what: report.what.clone(),
    };
    newest.into_values().map(view).collect()
}

/// Only the node that made a backup knows what it has pruned after it.
fn pruned_after(
    complete: &Ended,
    nodes: &[(String, Result<BackupStatus, String>)],
) -> Option<String> {
    let mut pruned = nodes.iter().filter_map(|(_, node)| node.as_ref().ok()?.pruned.as_ref());
    pruned.find(|pruned| pruned.after == complete.id).map(|pruned| pruned.what.clone())
}

impl SpecView {
    fn new(schedule: &Schedule) -> Self {
        let Schedule { cron, timezone, prune } = schedule.clone();
        SpecView { cron, timezone, prune }
    }
}

impl RunView {
    fn new(run: &Run) -> Self {
        RunView {
            id: run.id.to_string(),
            index: run.number,
            revision: run.revision,
            slot: run.slot.map(rfc3339),
            node: run.node.member(),
            started: rfc3339(run.started),
        }
    }
}

impl NodeView {
    fn new((address, status): (String, Result<BackupStatus, String>)) -> Self {
        let error = status.as_ref().err().cloned();
        NodeView { address, able: status.ok().map(|status| status.able), error }
    }
}

impl EndedView {
    /// Of a run.
    pub fn new(ended: &Ended) -> Self {
        let (mut data_bytes, mut unchanged_since, mut error) = (None, None, None);
        let outcome = match &ended.outcome {
            RunOutcome::Complete { data_bytes: bytes } => {
                data_bytes = Some(*bytes);
                "complete"
            }
            RunOutcome::Unchanged { since } => {
                unchanged_since = Some(since.to_string());
                "unchanged"
            }
            RunOutcome::Failed { why } => {
                error = Some(why.clone());
                "failed"
            }
            RunOutcome::Abandoned => {
                error = Some("its node was not heard of in time".into());
                "abandoned"
            }
        };
        if let Some(error) = error.as_mut().filter(|_| ended.committing) {
            error.push_str("; it may be complete all the same");
        }
        EndedView {
            id: ended.id.to_string(),
            index: ended.number,
            revision: ended.revision,
            slot: ended.slot.map(rfc3339),
            node: ended.node.member(),
            started: rfc3339(ended.started),
            ended: rfc3339(ended.ended),
            outcome,
            data_bytes,
            unchanged_since,
            error,
        }
    }

    fn line(&self) -> String {
        let size = self.data_bytes.map(|bytes| format!(", {}", table::size(bytes)));
        let since = self.unchanged_since.as_ref().map(|id| format!(" since {id}"));
        let error = self.error.as_ref().map(|error| format!(": {error}"));
        let more = [size, since, error].into_iter().flatten().collect::<String>();
        format!("{} {}{more} (node {}, {})", self.outcome, self.id, self.node, self.ended)
    }
}

impl Report for EndedView {
    fn table(&self) -> String {
        self.line()
    }
}

impl Report for ScheduleView {
    fn table(&self) -> String {
        let schedule = match &self.schedule {
            Some(SpecView { cron, timezone, .. }) if self.paused => {
                format!("{cron} ({timezone}), paused")
            }
            Some(SpecView { cron, timezone, .. }) => format!("{cron} ({timezone})"),
            None => "none".into(),
        };
        let mut rows = vec![("schedule", schedule)];
        if let Some(run) = &self.run {
            let what = format!("{} of index {} by node {}", run.id, run.index, run.node);
            rows.push(("under way", format!("{what}, since {}", run.started)));
        }
        rows.push(("last run", self.last.as_ref().map_or("none".into(), EndedView::line)));
        if let Some(pruned) = &self.pruned {
            rows.push(("pruning", pruned.clone()));
        }
        for CopyView { store, behind, at, node, what } in &self.copies {
            let behind = if *behind { "BEHIND: " } else { "" };
            rows.push(("copies", format!("{store}: {behind}{what}; by node {node} at {at}")));
        }
        if self.failures > 0 {
            rows.push(("failures", format!("{} in a row", self.failures)));
        }
        if let Some(seconds) = self.overdue_seconds {
            rows.push(("overdue", format!("{seconds} s")));
        }
        if let Some(seconds) = self.lag_seconds {
            rows.push(("newest state", format!("{seconds} s old")));
        }
        rows.push(("next", self.next.first().cloned().unwrap_or_else(|| "none".into())));
        for node in &self.nodes {
            let can = match (node.able, &node.error) {
                (Some(true), _) => "can make backups",
                (Some(false), _) => "cannot: no backup_config",
                (None, _) => "does not answer",
            };
            rows.push(("node", format!("{} {can}", node.address)));
        }
        let lines = rows.into_iter().map(|(name, value)| format!("{name:<13} {value}"));
        lines.collect::<Vec<_>>().join("\n")
    }
}
