//! `import`: writes keys from JSON lines, in transactions of many keys, many of them under way at once.
//!
//! Invariants: lines take effect as if written one after the other (two lines of one key never overtake each other); what the resume
//! file counts as done is on stable storage at a quorum. Importing a line twice is the same as once, so a resume may begin early.

pub mod batch;
pub mod line;
pub mod resume;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Report, table};
use batch::{Batch, Batcher};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use line::Lines;
use raftkv_core::api::{Revision, WriteOp};
use raftkv_node::client::{Client, ClientError};
use resume::Resume;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::task::JoinSet;

/// Arguments.
#[derive(Debug, Args)]
pub struct Import {
    /// JSON lines: {"key": K, "value": V}, or key_base64 and value_base64; - is stdin
    file: PathBuf,
    /// Remember here how far the import came, and go on from there when it is started again
    #[arg(long, value_name = "FILE")]
    resume_file: Option<PathBuf>,
    /// Skip this many lines
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "resume_file")]
    skip: u64,
    /// Transactions under way at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1024))]
    in_flight: u64,
}

#[derive(Debug, Serialize)]
struct Imported {
    lines: u64,
    skipped: u64,
    bytes: u64,
    revision: Revision,
    secs: f64,
}

/// Runs it. Stops at the first line that cannot be imported; everything before it is.
pub async fn run(context: &Context, import: Import) -> Result<(), Failure> {
    let started = Instant::now();
    let resume = match &import.resume_file {
        Some(path) => Resume::open(path, &import.file)?,
        None => Resume::none(import.skip),
    };
    let name = import.file.display().to_string();
    let mut lines = Lines::open(&import.file)?;
    let skipped = lines.skip(resume.done())?;
    let client = context.client().await?;
    let bar = progress(context, &import.file, &lines);
    let mut transfer = Transfer::new(client, resume, import.in_flight as usize, bar);
    let read = transfer.feed(&name, &mut lines).await;
    // What is under way is finished even when a line was bad, so that the message can say what is done.
    let drained = transfer.drain().await;
    transfer.bar.finish_and_clear();
    if let Err(failure) = read.and(drained) {
        transfer.resume.save()?;
        return Err(failure);
    }
    transfer.resume.finish()?;
    context.print(&Imported {
        lines: transfer.lines,
        skipped,
        bytes: transfer.bytes,
        revision: transfer.revision,
        secs: started.elapsed().as_secs_f64(),
    })
}

/// Batches on their way to the cluster.
struct Transfer {
    client: Client,
    batcher: Batcher,
    under_way: JoinSet<(Batch, Result<Revision, ClientError>)>,
    in_flight: usize,
    resume: Resume,
    lines: u64,
    bytes: u64,
    revision: Revision,
    bar: ProgressBar,
}

impl Transfer {
    fn new(client: Client, resume: Resume, in_flight: usize, bar: ProgressBar) -> Self {
        Transfer {
            client,
            batcher: Batcher::default(),
            under_way: JoinSet::new(),
            in_flight,
            resume,
            lines: 0,
            bytes: 0,
            revision: 0,
            bar,
        }
    }

    async fn feed(&mut self, name: &str, lines: &mut Lines) -> Result<(), Failure> {
        while let Some(line) = lines.next_line()? {
            let (key, value) = line::parse(line.bytes).map_err(|why| {
                Failure::new(Exit::Usage, format!("{name} line {}: {why}", line.number))
            })?;
            self.bar.inc(line.bytes.len() as u64 + 1);
            let number = line.number;
            if let Some(full) = self.batcher.add(number, key, value) {
                self.send(full).await?;
            }
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), Failure> {
        if let Some(last) = self.batcher.take() {
            self.send(last).await?;
        }
        while !self.under_way.is_empty() {
            self.finish_one().await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: Batch) -> Result<(), Failure> {
        while self.under_way.len() >= self.in_flight || self.batcher.must_wait(&batch) {
            self.finish_one().await?;
        }
        self.batcher.start(&batch);
        self.resume.start(batch.lines());
        let client = self.client.clone();
        self.under_way.spawn(async move {
            let written = client.write(WriteOp::Txn(batch.to_txn())).await;
            (batch, written.map(|result| result.revision()))
        });
        Ok(())
    }

    async fn finish_one(&mut self) -> Result<(), Failure> {
        let Some(joined) = self.under_way.join_next().await else { return Ok(()) };
        let (batch, result) = joined.expect("writing does not panic");
        self.batcher.finish(&batch);
        let (first, last) = batch.lines();
        let revision = result.map_err(|error| {
            let failure = Failure::from(error);
            Failure::new(failure.exit(), format!("lines {first} to {last}: {failure}"))
        })?;
        self.revision = self.revision.max(revision);
        self.lines += batch.len() as u64;
        self.bytes += batch.bytes() as u64;
        self.resume.finish_batch((first, last))
    }
}

fn progress(context: &Context, path: &Path, lines: &Lines) -> ProgressBar {
    if !context.shows_progress() {
        return ProgressBar::hidden();
    }
    let length = if path == Path::new("-") {
        None
    } else {
        path.metadata().ok().map(|metadata| metadata.len())
    };
    let template = match length {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{spinner} {bytes} {bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let bar = ProgressBar::no_length().with_style(style);
    if let Some(length) = length {
        bar.set_length(length);
    }
    bar.set_position(lines.bytes_read());
    bar
}

impl Report for Imported {
    fn table(&self) -> String {
        let size = table::size(self.bytes);
        format!(
            "{} lines imported ({size}), {} skipped, in {:.1} s; revision {}",
            self.lines, self.skipped, self.secs, self.revision
        )
    }
}
