//! `get`: read a key or a range of keys.

use super::range::Pages;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::json_bytes::printable;
use crate::output::kv::RangeView;
use clap::Args;
use raftkv_core::api::{Consistency, KeyRange, RangeRequest, RangeResponse};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// Arguments.
#[derive(Debug, Args)]
pub struct Get {
    /// The key, or with --prefix the beginning of keys
    key: OsString,
    /// Every key that begins with KEY; "" is every key
    #[arg(long)]
    prefix: bool,
    /// As of this revision
    #[arg(long, value_name = "N", default_value_t = 0)]
    rev: u64,
    /// At most this many keys; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u64,
    /// Leave values out
    #[arg(long)]
    keys_only: bool,
    /// Only count
    #[arg(long, conflicts_with = "keys_only")]
    count_only: bool,
    /// Whatever any node has: may be old, and is not slowed down by a missing leader
    #[arg(long)]
    stale: bool,
}

/// Runs it. A single key that does not exist is exit code 10.
pub async fn run(context: &Context, get: Get) -> Result<(), Failure> {
    let key = get.key.into_vec();
    let shown = printable(&key);
    let request = RangeRequest {
        range: if get.prefix { KeyRange::prefix(key) } else { KeyRange::one(key) },
        revision: get.rev,
        limit: get.limit,
        keys_only: get.keys_only,
        count_only: get.count_only,
        consistency: if get.stale { Consistency::Stale } else { Consistency::Linearizable },
    };
    let client = context.client().await?;
    let mut pages = Pages::new(&client, request);
    let mut kvs = Vec::new();
    while let Some(page) = pages.next().await? {
        kvs.extend(page);
    }
    let range =
        RangeResponse { revision: pages.revision(), count: pages.count(), kvs, more: false };
    let view = RangeView::new(&range, !get.keys_only);
    context.print(&view)?;
    if view.found() || get.prefix || get.count_only {
        return Ok(());
    }
    Err(Failure::new(Exit::NotFound, format!("there is no key {shown}")))
}
