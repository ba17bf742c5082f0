//! `backup restore-keys`: put keys of a backup back into the live cluster, as ordinary transactions.
//!
//! Invariants: a key that the cluster has is replaced only with `--overwrite`; nothing is deleted; run again after an interruption, it
//! does what is left. What is done about each key is decided by [`raftkv_core::backup::compare`].

mod pace;

use super::load::Loading;
use super::progress::Meter;
use crate::commands::range::Pages;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use crate::output::json_bytes::printable;
use crate::say::say;
use clap::Args;
use pace::{Pace, batch_keys};
use raftkv_core::api::{Error, KeyRange, KeyValue, RangeRequest, Revision, WriteOp, WriteResult};
use raftkv_core::backup::compare::{Comparison, Decision, Existing, Write, transaction};
use raftkv_core::backup::machine::Progress;
use raftkv_node::client::{Client, ClientError};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use tokio::time::Instant;

/// Bytes of keys and values per transaction, unless one key alone has more.
const BATCH_BYTES_MAX: u64 = 256 << 10;

/// So many keys in a row are refused by a cluster that takes none of them.
const REFUSED_IN_A_ROW_MAX: u32 = 100;

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
    /// The cluster takes no such key or value.
    refused: u64,
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
    let keys = || restored.state.live(&range).map(|kv| renamed(kv, &from, &to));
    let total_bytes = keys().map(|kv| bytes_of(&kv.key, &kv.value)).sum();
    let mut comparison = Comparison::new(keys());
    let mut pages = Pages::moving_on(&client, RangeRequest::new(KeyRange::prefix(to.clone())));
    let mut writer = Writer {
        client: &client,
        batch: Vec::new(),
        batch_bytes: 0,
        batch_keys_max: batch_keys(asked.rate),
        refused_in_a_row: 0,
        pace: Pace::new(asked.rate),
        meter: Meter::new(context),
        progress: Progress { done_bytes: 0, total_bytes: Some(total_bytes) },
        report: RestoredKeys {
            backup: restored.metadata.id.to_string(),
            backup_revision: restored.metadata.revision,
            dry_run: asked.dry_run,
            ..RestoredKeys::default()
        },
    };
    while let Some(page) = pages.next().await.map_err(|error| writer.broken_off(error))? {
        let is_last = pages.is_done();
        for compared in comparison.page(page, is_last) {
            let bytes = compared.backup.as_ref().map_or(0, |kv| bytes_of(&kv.key, &kv.value));
            match compared.decide(existing) {
                Decision::Write(write) => writer.write(write).await?,
                Decision::Unchanged => {
                    writer.report.unchanged += 1;
                    writer.done(bytes);
                }
                Decision::Kept => {
                    writer.report.kept += 1;
                    writer.done(bytes);
                }
                Decision::NotInBackup => {}
            }
        }
    }
    writer.flush().await?;
    writer.meter.finish_and_clear();
    let mut report = writer.report;
    report.secs = started.elapsed().as_secs_f64();
    let found = report.written + report.unchanged + report.kept + report.refused;
    context.print(&report)?;
    match (found, report.refused) {
        (0, _) => Err(Failure::new(Exit::NotFound, "no key of the backup begins with this prefix")),
        (_, 0) => Ok(()),
        (_, refused) => {
            let what = format!("{refused} keys were refused by the cluster, and are not there");
            Err(Failure::new(Exit::Failed, what))
        }
    }
}

/// The same key below another prefix.
fn renamed(kv: KeyValue, from: &[u8], to: &[u8]) -> KeyValue {
    if from == to {
        return kv;
    }
    KeyValue { key: [to, &kv.key[from.len()..]].concat().into(), ..kv }
}

fn bytes_of(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

/// Gathers writes into transactions, and paces them.
struct Writer<'a> {
    client: &'a Client,
    batch: Vec<Write>,
    batch_bytes: u64,
    /// As many as the rate allows at once, and the cluster has not refused to take.
    batch_keys_max: usize,
    refused_in_a_row: u32,
    pace: Pace,
    meter: Meter,
    progress: Progress,
    report: RestoredKeys,
}

/// What came of a transaction.
enum Outcome {
    /// All of it was written.
    Written,
    /// Nothing, because somebody has made one of the keys in the meantime.
    Taken,
    /// Nothing, because it is more than the cluster takes at once.
    TooLarge,
    /// Nothing, because the cluster takes no such key or value, now or later.
    Refused(Error),
}

impl Writer<'_> {
    async fn write(&mut self, write: Write) -> Result<(), Failure> {
        let bytes = bytes_of(&write.key, &write.value);
        if self.batch.len() >= self.batch_keys_max || self.batch_bytes + bytes > BATCH_BYTES_MAX {
            self.flush().await?;
        }
        self.batch_bytes += bytes;
        self.batch.push(write);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let (mut rest, mut keys_max) = (&batch[..], self.batch_keys_max);
        while !rest.is_empty() {
            let (writes, behind) = rest.split_at(keys_max.min(rest.len()));
            match self.commit(writes).await? {
                Outcome::Written => self.report.written += writes.len() as u64,
                Outcome::TooLarge => {
                    self.batch_keys_max = writes.len() / 2;
                    keys_max = keys_max.min(self.batch_keys_max);
                    continue;
                }
                // One of them stays, the others are written one by one.
                Outcome::Taken if writes.len() > 1 => {
                    keys_max = 1;
                    continue;
                }
                Outcome::Taken => self.report.kept += 1,
                Outcome::Refused(why) => self.refused(&writes[0], why)?,
            }
            self.done(writes.iter().map(|write| bytes_of(&write.key, &write.value)).sum());
            rest = behind;
        }
        Ok(())
    }

    async fn commit(&mut self, writes: &[Write]) -> Result<Outcome, Failure> {
        if self.report.dry_run {
            return Ok(Outcome::Written);
        }
        self.pace.wait().await;
        let next_at = self.pace.after(writes.len());
        let result = match self.client.write(WriteOp::Txn(transaction(writes))).await {
            Ok(result) => result,
            // One of them keeps the others from nothing.
            Err(ClientError::Refused(Error::TooLarge { .. } | Error::Invalid(_)))
                if writes.len() > 1 =>
            {
                return Ok(Outcome::TooLarge);
            }
            Err(ClientError::Refused(why @ (Error::TooLarge { .. } | Error::Invalid(_)))) => {
                return Ok(Outcome::Refused(why));
            }
            Err(error) => return Err(self.broken_off(error)),
        };
        self.pace.written(next_at);
        self.refused_in_a_row = 0;
        if !matches!(result, WriteResult::Txn { succeeded: true, .. }) {
            return Ok(Outcome::Taken);
        }
        self.report.revision = result.revision();
        Ok(Outcome::Written)
    }

    /// One key that the cluster does not take keeps no other from its place; a cluster that takes none ends it.
    fn refused(&mut self, write: &Write, why: Error) -> Result<(), Failure> {
        say!("{} is not written: {why}", printable(&write.key));
        self.report.refused += 1;
        self.refused_in_a_row += 1;
        match self.refused_in_a_row < REFUSED_IN_A_ROW_MAX {
            true => Ok(()),
            false => Err(self.broken_off(ClientError::Refused(why))),
        }
    }

    /// So many bytes of the backup need nothing more.
    fn done(&mut self, bytes: u64) {
        self.progress.done_bytes += bytes;
        self.meter.show(self.progress);
    }

    fn broken_off(&self, error: ClientError) -> Failure {
        let failure = Failure::from(error);
        let what = match self.report.written {
            0 => return failure,
            so_far => format!("after {so_far} keys: {failure}; run it again for the rest"),
        };
        Failure::new(failure.exit(), what)
    }
}

impl Report for RestoredKeys {
    fn table(&self) -> String {
        let done = match self.dry_run {
            true => "would be written".to_owned(),
            false => format!("written in {:.1} s", self.secs),
        };
        let refused = match self.refused {
            0 => String::new(),
            refused => format!(", {refused} were refused"),
        };
        format!(
            "{} keys of backup {} (revision {}) {done}; {} were there unchanged, {} have another value and stay{refused}",
            self.written, self.backup, self.backup_revision, self.unchanged, self.kept
        )
    }
}
