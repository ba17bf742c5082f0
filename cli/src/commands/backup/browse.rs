//! `backup browse` and `backup get`: read keys straight from a backup, without a cluster.

use super::load::Loading;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::json_bytes::printable;
use crate::output::kv::RangeView;
use clap::Args;
use raftkv_core::api::{KeyRange, RangeRequest};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// Arguments of `browse`.
#[derive(Debug, Args)]
pub struct Browse {
    #[command(flatten)]
    loading: Loading,
    /// Which: an id, the beginning of one, latest, or the newest of a time
    #[arg(value_name = "ID|latest|@TIME")]
    backup: String,
    /// Only keys that begin with this
    #[arg(long, value_name = "P", default_value = "")]
    prefix: OsString,
    /// At most this many keys; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    limit: u64,
    /// Leave values out
    #[arg(long)]
    keys_only: bool,
    /// Only count
    #[arg(long, conflicts_with = "keys_only")]
    count_only: bool,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    loading: Loading,
    /// Which: an id, the beginning of one, latest, or the newest of a time
    #[arg(value_name = "ID|latest|@TIME")]
    backup: String,
    /// The key
    key: OsString,
}

/// Runs `browse`.
pub async fn browse(context: &Context, browse: Browse) -> Result<(), Failure> {
    let request = RangeRequest {
        limit: browse.limit,
        keys_only: browse.keys_only,
        count_only: browse.count_only,
        ..RangeRequest::new(KeyRange::prefix(browse.prefix.into_vec()))
    };
    print(context, &browse.loading, &browse.backup, request).await?;
    Ok(())
}

/// Runs `get`. A key that is not in the backup is exit code 10.
pub async fn get(context: &Context, get: Get) -> Result<(), Failure> {
    let key = get.key.into_vec();
    let shown = printable(&key);
    let request = RangeRequest::new(KeyRange::one(key));
    match print(context, &get.loading, &get.backup, request).await? {
        true => Ok(()),
        false => {
            let what = format!("there is no key {shown} in the backup");
            Err(Failure::new(Exit::NotFound, what))
        }
    }
}

/// Prints what the backup answers, as `get` prints what the cluster does; says whether there was anything.
async fn print(
    context: &Context,
    loading: &Loading,
    asked: &str,
    request: RangeRequest,
) -> Result<bool, Failure> {
    let restored = loading.load(context, asked).await?;
    let range = restored
        .state
        .range(&request, usize::MAX)
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    let view = RangeView::new(&range, !request.keys_only);
    context.print(&view)?;
    Ok(view.found())
}
