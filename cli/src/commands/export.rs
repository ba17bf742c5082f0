//! `export`: all keys, or those of a prefix, as JSON lines; all of one revision.

use super::range::Pages;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::json_bytes::split;
use crate::output::{Report, table};
use crate::publish::Publication;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use raftkv_core::api::{KeyRange, KeyValue, RangeRequest};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(Debug, Args)]
pub struct Export {
    /// Where to; - is stdout
    file: PathBuf,
    /// Only keys that begin with this
    #[arg(long, value_name = "P", default_value = "")]
    prefix: OsString,
    /// As of this revision; 0 is now
    #[arg(long, value_name = "N", default_value_t = 0)]
    rev: u64,
}

#[derive(Debug, Serialize)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

#[derive(Debug, Serialize)]
struct Exported {
    revision: u64,
    keys: u64,
    bytes: u64,
}

/// Runs it. The summary goes to stdout only when the data does not.
pub async fn run(context: &Context, export: Export) -> Result<(), Failure> {
    let range = KeyRange::prefix(export.prefix.into_vec());
    let request = RangeRequest { revision: export.rev, ..RangeRequest::new(range) };
    let client = context.client().await?;
    let pages = Pages::new(&client, request);
    if export.file == Path::new("-") {
        write_all(context, pages, &mut BufWriter::new(io::stdout()), Path::new("stdout")).await?;
        return Ok(());
    }
    let mut file = Publication::begin(&export.file)?;
    let exported = write_all(context, pages, &mut file, &export.file).await?;
    file.publish()?;
    context.print(&exported)
}

async fn write_all(
    context: &Context,
    mut pages: Pages<'_>,
    out: &mut impl Write,
    path: &Path,
) -> Result<Exported, Failure> {
    let failed = |error: io::Error| Failure::output(path, error);
    let bar = progress(context);
    let mut exported = Exported { revision: 0, keys: 0, bytes: 0 };
    while let Some(kvs) = pages.next().await? {
        bar.set_length(pages.count());
        for kv in &kvs {
            serde_json::to_writer(&mut *out, &Line::new(kv))
                .map_err(|error| failed(error.into()))?;
            out.write_all(b"\n").map_err(failed)?;
            exported.keys += 1;
            exported.bytes += (kv.key.len() + kv.value.len()) as u64;
        }
        bar.set_position(exported.keys);
    }
    out.flush().map_err(failed)?;
    bar.finish_and_clear();
    exported.revision = pages.revision();
    Ok(exported)
}

fn progress(context: &Context) -> ProgressBar {
    if !context.shows_progress() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} keys {per_sec} {eta}")
        .expect("the template is well-formed");
    ProgressBar::new(0).with_style(style)
}

impl Line {
    fn new(kv: &KeyValue) -> Self {
        let (key, key_base64) = split(&kv.key);
        let (value, value_base64) = split(&kv.value);
        Line { key, key_base64, value, value_base64 }
    }
}

impl Report for Exported {
    fn table(&self) -> String {
        let size = table::size(self.bytes);
        format!("{} keys ({size}) of revision {}", self.keys, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_import_reads() {
        let kv = KeyValue {
            key: "a\"\n".into(),
            value: b"\xff"[..].into(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: 0,
        };
        let line = serde_json::to_string(&Line::new(&kv)).unwrap();
        assert_eq!(line, r#"{"key":"a\"\n","value_base64":"/w=="}"#);
        let (key, value) = crate::commands::import::line::parse(line.as_bytes()).unwrap();
        assert_eq!((key.as_slice(), value.as_slice()), (&b"a\"\n"[..], &b"\xff"[..]));
    }
}
