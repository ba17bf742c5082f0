//! `backup key`: keys for encryption.

use super::setup::rng;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use clap::Subcommand;
use raftkv_core::backup;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Make a key file. Keep a copy away from the backups: without it they are lost
    Generate {
        /// Where to; must not exist
        file: PathBuf,
    },
}

#[derive(Debug, Serialize)]
struct Generated {
    key_id: String,
    file: PathBuf,
}

/// Runs it. An existing file is never replaced: it may be the only copy of a key that backups need.
pub fn run(context: &Context, key: Key) -> Result<(), Failure> {
    let Key::Generate { file: path } = key;
    let key = backup::Key::draw(&mut rng("backup key")?);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(
            Exit::Refused,
            format!("{} exists: it is not replaced, since backups may need it", path.display()),
        ),
        _ => Failure::file("written", &path, error),
    })?;
    file.write_all(key.to_file().as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| Failure::file("written", &path, error))?;
    context.print(&Generated { key_id: key.id().to_string(), file: path })
}

impl Report for Generated {
    fn table(&self) -> String {
        format!("key {} in {}", self.key_id, self.file.display())
    }
}
