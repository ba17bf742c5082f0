//! `snapshot inspect`: what a snapshot file holds, as far as it can be read.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Report, table};
use raftkv_core::snapshot::inspect::{Inspector, Prefix, Summary};
use serde::Serialize;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

const READ_BYTES: usize = 1 << 20;

#[derive(Debug, Serialize)]
struct Inspection {
    file: String,
    complete: bool,
    cluster_id: Option<String>,
    epoch: Option<u64>,
    index: Option<u64>,
    term: Option<u64>,
    revision: Option<u64>,
    state_hash: Option<String>,
    keys: u64,
    bytes: u64,
    versions: u64,
    members: u64,
    leases: u64,
    sessions: u64,
    file_bytes: u64,
    checked_bytes: u64,
    sha256: Option<String>,
    damage: Option<DamageView>,
    prefixes: Vec<Prefix>,
}

#[derive(Debug, Serialize)]
struct DamageView {
    offset: u64,
    what: String,
}

/// Runs it. A damaged file is described like a whole one, and is exit code 5.
pub fn run(context: &Context, path: &Path) -> Result<(), Failure> {
    let mut file = open(path)?;
    let file_bytes = file.metadata().map_err(|error| Failure::file("read", path, error))?.len();
    let mut inspector = Inspector::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = file.read(&mut buffer).map_err(|error| Failure::file("read", path, error))?;
        if read == 0 || !inspector.push(&buffer[..read]) {
            break;
        }
    }
    let inspection = Inspection::new(path, file_bytes, inspector.finish());
    context.print(&inspection)?;
    match inspection.damage {
        None => Ok(()),
        Some(DamageView { offset, what }) => Err(Failure::new(
            Exit::Verification,
            format!("{} is damaged at byte {offset}: {what}", path.display()),
        )),
    }
}

/// Opens a file that is to be read.
pub fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("{} does not exist", path.display()))
        }
        _ => Failure::file("read", path, error),
    })
}

impl Inspection {
    fn new(path: &Path, file_bytes: u64, summary: Summary) -> Self {
        let header = summary.header.as_ref();
        Inspection {
            file: path.display().to_string(),
            complete: summary.complete,
            cluster_id: header.map(|header| header.cluster.to_string()),
            epoch: header.map(|header| header.epoch.0),
            index: header.map(|header| header.meta.index),
            term: header.map(|header| header.meta.term),
            revision: header.map(|header| header.revision),
            state_hash: header.map(|header| header.state_hash.to_string()),
            keys: summary.keys,
            bytes: summary.bytes,
            versions: summary.versions,
            members: summary.members,
            leases: summary.leases,
            sessions: summary.sessions,
            file_bytes,
            checked_bytes: summary.checked_bytes,
            sha256: summary.sha256,
            damage: summary
                .damage
                .map(|damage| DamageView { offset: damage.offset, what: damage.what }),
            prefixes: summary.prefixes.into_iter().chain(summary.other).collect(),
        }
    }
}

impl Report for Inspection {
    fn table(&self) -> String {
        let shown =
            |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
        let mut lines = vec![
            format!("{} ({})", self.file, table::size(self.file_bytes)),
            format!(
                "index {} term {} revision {} epoch {} of cluster {}",
                shown(self.index),
                shown(self.term),
                shown(self.revision),
                shown(self.epoch),
                self.cluster_id.as_deref().unwrap_or("?")
            ),
            format!("state hash {}", self.state_hash.as_deref().unwrap_or("?")),
            format!(
                "{} keys ({}), {} versions, {} members, {} leases, {} sessions",
                self.keys,
                table::size(self.bytes),
                self.versions,
                self.members,
                self.leases,
                self.sessions
            ),
        ];
        if !self.complete {
            lines.push(format!("only the first {} bytes could be checked", self.checked_bytes));
        }
        if !self.prefixes.is_empty() {
            let mut rows = table::new(&["PREFIX", "KEYS", "SIZE"]);
            for Prefix { prefix, keys, bytes } in &self.prefixes {
                let prefix = crate::output::json_bytes::printable(prefix.as_bytes());
                rows.add_row([prefix, keys.to_string(), table::size(*bytes)]);
            }
            lines.push(table::text(&rows));
        }
        lines.join("\n")
    }
}
