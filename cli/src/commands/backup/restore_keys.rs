//! `backup restore-keys`: put keys of a backup back into the live cluster, as ordinary transactions.
//!
//! Invariants: a key that the cluster has is replaced only with `--overwrite`; nothing is deleted; run again after an interruption, it
//! does what is left. What is done about each key is decided by [`raftkv_core::backup::compare`].

use super::load::Loading;
use crate::commands::range::Pages;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use raftkv_core::api::{KeyRange, KeyValue, RangeRequest, Revision, WriteOp, WriteResult};
use raftkv_core::backup::compare::{Comparison, Decision, Existing, Write, transaction};
use raftkv_node::client::Client;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Keys per transaction.
const BATCH_KEYS_MAX: usize = 128;
/// Bytes of keys and values per transaction, unless one key alone has more.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Arguments.
#[derive(Debug, Args)]
pub struct RestoreKeys {
    #[command(flatten)]
    loading: Loading,
    /// Which: an id, the beginning of one, latest, or the newest of a time
    #[arg(long, value_name = "ID|latest|@TIME")]
    backup: String,
    /// The keys that begin with this; "" is every key
    #[arg(long, value_name = "P")]
    prefix: OsString,
    /// Put them under this prefix instead
    #[arg(long, value_name = "Q")]
    to: Option<OsString>,
    /// Leave keys alone that the cluster has (the default)
    #[arg(long, conflicts_with = "overwrite")]
    if_absent: bool,
    /// Replace what the cluster has
    #[arg(long)]
    overwrite: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Write at most this many keys a second
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct RestoredKeys {
    backup: String,
    backup_revision: u64,
    /// Written, or with `--dry-run`, to be written.
    written: u64,
    /// Had the backup's value already.
    unchanged: u64,
    /// Had another value, which stays.
    kept: u64,
    dry_run: bool,
    /// Of the last write; 0 if there was none.
    revision: Revision,
    secs: f64,
}

/// Runs it.
pub async fn run(context: &Context, asked: RestoreKeys) -> Result<(), Failure> {
    let from = asked.prefix.into_vec();
    let to = asked.to.map_or_else(|| from.clone(), OsString::into_vec);
    let existing = if asked.overwrite { Existing::Overwrite } else { Existing::Keep };
    let restored = asked.loading.load(context, &asked.backup).await?;
    let started = Instant::now();
    let client = context.client().await?;
    let range = KeyRange::prefix(from.clone());
    let keys = restored.state.live(&range).map(|kv| renamed(kv, &from, &to));
    let mut comparison = Comparison::new(keys);
    let mut pages = Pages::new(&client, RangeRequest::new(KeyRange::prefix(to.clone())));
    let mut writer = Writer {
        client: &client,
        batch: Vec::new(),
        batch_bytes: 0,
        next_at: started,
        per_key: Duration::from_secs(1) / asked.rate,
        bar: progress(context),
        report: RestoredKeys {
            backup: restored.metadata.id.to_string(),
            backup_revision: restored.metadata.revision,
            dry_run: asked.dry_run,
            ..RestoredKeys::default()
        },
    };
    while let Some(page) = pages.next().await? {
        let is_last = pages.is_done();
        for compared in comparison.page(page, is_last) {
            match compared.decide(existing) {
                Decision::Write(write) => writer.write(write).await?,
                Decision::Unchanged => writer.report.unchanged += 1,
                Decision::Kept => writer.report.kept += 1,
                Decision::NotInBackup => {}
            }
        }
    }
    writer.flush().await?;
    writer.bar.finish_and_clear();
    let mut report = writer.report;
    report.secs = started.elapsed().as_secs_f64();
    let found = report.written + report.unchanged + report.kept;
    context.print(&report)?;
    match found {
        0 => Err(Failure::new(Exit::NotFound, "no key of the backup begins with this prefix")),
        _ => Ok(()),
    }
}

/// The same key below another prefix.
fn renamed(kv: KeyValue, from: &[u8], to: &[u8]) -> KeyValue {
    if from == to {
        return kv;
    }
    KeyValue { key: [to, &kv.key[from.len()..]].concat().into(), ..kv }
}

/// Gathers writes into transactions, and paces them.
struct Writer<'a> {
    client: &'a Client,
    batch: Vec<Write>,
    batch_bytes: usize,
    /// The rate allows the next transaction from then on.
    next_at: Instant,
    per_key: Duration,
    bar: ProgressBar,
    report: RestoredKeys,
}

impl Writer<'_> {
    async fn write(&mut self, write: Write) -> Result<(), Failure> {
        let bytes = write.key.len() + write.value.len();
        if self.batch.len() >= BATCH_KEYS_MAX || self.batch_bytes + bytes > BATCH_BYTES_MAX {
            self.flush().await?;
        }
        self.batch_bytes += bytes;
        self.batch.push(write);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if self.report.dry_run {
            self.report.written += batch.len() as u64;
            return Ok(());
        }
        if batch.is_empty() || self.commit(&batch).await? {
            return Ok(());
        }
        // Somebody has made one of the keys in the meantime: that one stays, the others are written.
        for write in batch {
            if !self.commit(std::slice::from_ref(&write)).await? {
                self.report.kept += 1;
            }
        }
        Ok(())
    }

    /// Whether the writes were done: all of them, or none.
    async fn commit(&mut self, writes: &[Write]) -> Result<bool, Failure> {
        sleep_until(self.next_at).await;
        self.next_at = self.next_at.max(Instant::now()) + self.per_key * writes.len() as u32;
        let written = self.client.write(WriteOp::Txn(transaction(writes))).await;
        let result = written.map_err(|error| {
            let failure = Failure::from(error);
            let so_far = self.report.written;
            Failure::new(
                failure.exit(),
                format!("after {so_far} keys: {failure}; run it again for the rest"),
            )
        })?;
        let done = matches!(result, WriteResult::Txn { succeeded: true, .. });
        if done {
            self.report.written += writes.len() as u64;
            self.report.revision = result.revision();
            self.bar.set_position(self.report.written);
        }
        Ok(done)
    }
}

fn progress(context: &Context) -> ProgressBar {
    if !context.shows_progress() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos} keys {per_sec}")
        .expect("the template is well-formed");
    ProgressBar::no_length().with_style(style)
}

impl Report for RestoredKeys {
    fn table(&self) -> String {
        let done = match self.dry_run {
            true => "would be written".to_owned(),
            false => format!("written in {:.1} s", self.secs),
        };
        format!(
            "{} keys of backup {} (revision {}) {done}; {} were there unchanged, {} have another value and stay",
            self.written, self.backup, self.backup_revision, self.unchanged, self.kept
        )
    }
}
