//! `snapshot export` and `snapshot import`: from a snapshot file to JSON lines and back, byte for byte.

use super::inspect::open;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::node::SnapshotView;
use crate::publish::Publication;
use raftkv_core::kv::Builder;
use raftkv_core::snapshot::json::{Exporter, Importer};
use raftkv_core::snapshot::{self, Decoder, Encoder, Header};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

const READ_BYTES: usize = 1 << 20;

/// Runs the export. A damaged snapshot leaves no file, and is exit code 5.
pub fn export(context: &Context, path: &Path, json: &Path) -> Result<(), Failure> {
    if json == Path::new("-") {
        let mut stdout = BufWriter::new(io::stdout().lock());
        return write_lines(path, &mut stdout, Path::new("stdout")).map(|_| ());
    }
    let mut out = Publication::begin(json)?;
    let (header, bytes) = write_lines(path, &mut out, json)?;
    out.publish()?;
    context.print(&SnapshotView::new(&snapshot::info(&header, bytes)))
}

/// Runs the import. What does not add up to the state that its header names leaves no file, and is exit code 5.
pub fn import(context: &Context, json: &Path, path: &Path) -> Result<(), Failure> {
    let damaged = |what: &dyn std::fmt::Display| {
        Failure::new(Exit::Verification, format!("{}: {what}", json.display()))
    };
    let mut input: Box<dyn Read> =
        if json == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(open(json)?) };
    let mut importer = Importer::new();
    let mut builder = Builder::default();
    pieces(&mut input, json, |bytes| {
        for item in importer.push(bytes).map_err(|error| damaged(&error))? {
            builder.push(item).map_err(|error| damaged(&error))?;
        }
        Ok(())
    })?;
    let header = importer.finish().map_err(|error| damaged(&error))?;
    let state = builder.finish().map_err(|error| damaged(&error))?;
    let found = (state.hash(), state.revision(), state.keys(), state.bytes());
    if found != (header.state_hash, header.revision, header.keys, header.bytes) {
        return Err(damaged(&"the items are not the state that the header names"));
    }
    let mut encoder = Encoder::new(header.clone(), state.items());
    let mut out = Publication::begin(path)?;
    while let Some(chunk) = encoder.next_chunk() {
        out.write_all(&chunk).map_err(|error| Failure::file("written", path, error))?;
    }
    out.publish()?;
    context.print(&SnapshotView::new(&snapshot::info(&header, encoder.offset())))
}

fn write_lines(
    path: &Path,
    out: &mut impl Write,
    out_path: &Path,
) -> Result<(Header, u64), Failure> {
    let damaged = |error: snapshot::SnapshotError| {
        Failure::new(Exit::Verification, format!("{} is damaged at {error}", path.display()))
    };
    let unwritten = |error: io::Error| Failure::output(out_path, error);
    let mut decoder = Decoder::new();
    let mut exporter = Exporter::new();
    let mut has_header = false;
    let mut bytes_read = 0;
    pieces(&mut open(path)?, path, |bytes| {
        bytes_read += bytes.len() as u64;
        let items = decoder.push(bytes).map_err(damaged)?;
        if let Some(header) = decoder.header().filter(|_| !has_header) {
            has_header = true;
            out.write_all(exporter.header(header).as_bytes()).map_err(unwritten)?;
        }
        for item in &items {
            out.write_all(exporter.item(item).as_bytes()).map_err(unwritten)?;
        }
        Ok(())
    })?;
    let (header, _) = decoder.finish().map_err(damaged)?;
    out.write_all(exporter.end().as_bytes()).and_then(|()| out.flush()).map_err(unwritten)?;
    Ok((header, bytes_read))
}

fn pieces(
    input: &mut impl Read,
    path: &Path,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match input.read(&mut buffer).map_err(|error| Failure::file("read", path, error))? {
            0 => return Ok(()),
            read => take(&buffer[..read])?,
        }
    }
}
