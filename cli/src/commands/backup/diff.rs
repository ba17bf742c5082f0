//! `backup diff`: what has changed since a backup, in the live cluster or up to another backup.

use super::load::Loading;
use crate::commands::range::Pages;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::json_bytes::{printable, split};
use crate::output::{Report, table};
use clap::Args;
use raftkv_core::api::{KeyRange, RangeRequest};
use raftkv_core::backup::compare::{Change, Compared, Comparison};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// Arguments.
#[derive(Debug, Args)]
pub struct Diff {
    #[command(flatten)]
    loading: Loading,
    /// Which: an id, the beginning of one, latest, or the newest of a time
    #[arg(value_name = "ID|latest|@TIME")]
    backup: String,
    /// Compare with this backup instead of the live cluster
    #[arg(long, value_name = "ID|latest|@TIME")]
    with: Option<String>,
    /// Only keys that begin with this
    #[arg(long, value_name = "P", default_value = "")]
    prefix: OsString,
}

/// What has changed since the backup was made.
#[derive(Debug, Default, Serialize)]
struct Differences {
    backup: String,
    backup_revision: u64,
    /// The other backup; none is the live cluster.
    with: Option<String>,
    with_revision: u64,
    same: u64,
    changed: u64,
    added: u64,
    deleted: u64,
    keys: Vec<DifferentKey>,
}

#[derive(Debug, Serialize)]
struct DifferentKey {
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip)]
    shown: String,
}

/// Runs it.
pub async fn run(context: &Context, diff: Diff) -> Result<(), Failure> {
    let range = KeyRange::prefix(diff.prefix.into_vec());
    let restored = diff.loading.load(context, &diff.backup).await?;
    let mut differences = Differences {
        backup: restored.metadata.id.to_string(),
        backup_revision: restored.metadata.revision,
        ..Differences::default()
    };
    let mut comparison = Comparison::new(restored.state.live(&range));
    if let Some(with) = &diff.with {
        let other = diff.loading.load(context, with).await?;
        differences.with = Some(other.metadata.id.to_string());
        differences.with_revision = other.metadata.revision;
        let all = other.state.live(&range).collect();
        comparison.page(all, true).for_each(|compared| differences.add(&compared));
    } else {
        let client = context.client().await?;
        let mut pages = Pages::new(&client, RangeRequest::new(range.clone()));
        while let Some(page) = pages.next().await? {
            let is_last = pages.is_done();
            comparison.page(page, is_last).for_each(|compared| differences.add(&compared));
        }
        differences.with_revision = pages.revision();
    }
    context.print(&differences)
}

impl Differences {
    fn add(&mut self, compared: &Compared) {
        let (count, change) = match compared.change() {
            Change::Same => {
                self.same += 1;
                return;
            }
            Change::Changed => (&mut self.changed, "changed"),
            Change::Added => (&mut self.added, "added"),
            Change::Deleted => (&mut self.deleted, "deleted"),
        };
        *count += 1;
        let (key, key_base64) = split(compared.key());
        self.keys.push(DifferentKey { change, key, key_base64, shown: printable(compared.key()) });
    }
}

impl Report for Differences {
    fn table(&self) -> String {
        let mut rows = table::new(&["CHANGE", "KEY"]);
        for key in &self.keys {
            rows.add_row([key.change, &key.shown]);
        }
        let with = match &self.with {
            Some(backup) => format!("backup {backup}"),
            None => "the cluster".to_owned(),
        };
        let summary = format!(
            "since backup {} (revision {}), {with} (revision {}) has {} keys deleted, {} changed, {} added; {} are the same",
            self.backup,
            self.backup_revision,
            self.with_revision,
            self.deleted,
            self.changed,
            self.added,
            self.same
        );
        if self.keys.is_empty() { summary } else { format!("{}\n{summary}", table::text(&rows)) }
    }
}
