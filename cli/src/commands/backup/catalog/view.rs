//! What was found in the stores, for people and for programs.

use crate::output::{Report, table};
use raftkv_core::backup::fsck::{Finding, Remedy};
use serde::Serialize;

/// All that was found.
#[derive(Debug, Serialize)]
pub struct Examined {
    /// Store by store.
    pub findings: Vec<FindingView>,
    /// Whether every store was listed.
    #[serde(skip)]
    pub heard_all: bool,
}

/// Something that is not as it should be.
#[derive(Debug, Serialize)]
pub struct FindingView {
    /// In which store, if there are several.
    store: Option<String>,
    backup: Option<String>,
    finding: String,
    remedy: &'static str,
    /// What was done; nothing without --repair.
    outcome: Option<String>,
}

impl FindingView {
    /// With what was done about it, if anything was to be.
    pub fn new(store: Option<String>, finding: &Finding, outcome: Option<String>) -> Self {
        FindingView {
            store,
            backup: finding.backup().map(|id| id.to_string()),
            finding: finding.to_string(),
            remedy: match finding.remedy() {
                Remedy::RebuildOrRemove => "rebuild or remove",
                Remedy::Keep => "keep",
                Remedy::Remove => "remove",
                Remedy::Watch => "watch",
                Remedy::None => "none",
            },
            outcome,
        }
    }
}

impl Report for Examined {
    fn table(&self) -> String {
        if self.findings.is_empty() {
            return match self.heard_all {
                true => "nothing is wrong".into(),
                false => "nothing is wrong in the stores that were listed".into(),
            };
        }
        let has_several = self.findings.iter().any(|found| found.store.is_some());
        let mut columns = vec!["BACKUP", "FINDING", "REMEDY", "OUTCOME"];
        if has_several {
            columns.insert(0, "STORE");
        }
        let mut rows = table::new(&columns);
        for found in &self.findings {
            let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
            let mut row: Vec<String> = found.store.iter().cloned().collect();
            row.extend([
                or_dash(&found.backup),
                found.finding.clone(),
                found.remedy.to_owned(),
                or_dash(&found.outcome),
            ]);
            rows.add_row(row);
        }
        table::text(&rows)
    }
}
