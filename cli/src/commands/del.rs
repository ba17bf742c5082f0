//! `del`: delete a key or a range of keys.

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Report;
use clap::Args;
use raftkv_core::api::{DeleteRequest, KeyRange, WriteOp, WriteResult};
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// Arguments.
#[derive(Debug, Args)]
pub struct Del {
    /// The key, or with --prefix the beginning of keys
    key: OsString,
    /// Every key that begins with KEY; "" is every key
    #[arg(long)]
    prefix: bool,
}

#[derive(Debug, Serialize)]
struct Deleted {
    revision: u64,
    /// Unknown only for a retry whose first answer was too large to keep.
    deleted: Option<u64>,
}

/// Runs it.
pub async fn run(context: &Context, del: Del) -> Result<(), Failure> {
    let key = del.key.into_vec();
    let range = if del.prefix { KeyRange::prefix(key) } else { KeyRange::one(key) };
    let client = context.client().await?;
    let op = WriteOp::Delete(DeleteRequest { range, return_previous: false });
    let result = client.write(op).await?;
    let deleted = match &result {
        WriteResult::Delete { deleted, .. } => Some(*deleted),
        _ => None,
    };
    context.print(&Deleted { revision: result.revision(), deleted })
}

impl Report for Deleted {
    fn table(&self) -> String {
        match self.deleted {
            Some(deleted) => format!("{deleted} keys deleted, revision {}", self.revision),
            None => format!("deleted, revision {}", self.revision),
        }
    }
}
