//! `watch`: follow changes, one line per event, until interrupted.

use crate::context::{Context, print_line};
use crate::failure::Failure;
use crate::output::Format;
use crate::output::kv::EventView;
use crate::say;
use clap::Args;
use raftkv_core::api::{KeyRange, WatchRequest};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

/// Arguments.
#[derive(Debug, Args)]
pub struct Watch {
    /// The key, or with --prefix the beginning of keys
    key: OsString,
    /// Every key that begins with KEY; "" is every key
    #[arg(long)]
    prefix: bool,
    /// From this revision on; 0 is from now on
    #[arg(long, value_name = "N", default_value_t = 0)]
    rev: u64,
    /// End after this many events; 0 is never
    #[arg(long, value_name = "N", default_value_t = 0)]
    count: u64,
}

/// Runs it.
pub async fn run(context: &Context, watch: Watch) -> Result<(), Failure> {
    let key = watch.key.into_vec();
    let range = if watch.prefix { KeyRange::prefix(key) } else { KeyRange::one(key) };
    let request = WatchRequest { range, from_revision: watch.rev, with_previous: false };
    let client = context.client().await?;
    let mut events = client.watch(request).await?;
    say::line("watching");
    let mut seen = 0;
    loop {
        let batch = tokio::select! {
            batch = events.next() => batch?,
            // Being interrupted is how a watch ends.
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        for event in &batch.events {
            if context.format() == Format::Yaml {
                print_line("---")?;
            }
            context.print_next(&EventView::new(event))?;
            seen += 1;
            if seen == watch.count {
                return Ok(());
            }
        }
    }
}
