//! `status`: the state of every node that answers.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::node::StatusView;
use crate::say::say;
use clap::Args;

/// Arguments: none.
#[derive(Debug, Args)]
pub struct Status {}

/// Runs it. Nodes that do not answer are named on stderr; at least one must.
pub async fn run(context: &Context, _status: Status) -> Result<(), Failure> {
    let client = context.client().await?;
    let mut reachable = Vec::new();
    for (address, status) in client.statuses().await {
        match status {
            Ok(status) => reachable.push(status),
            Err(error) => say!("{address} does not answer: {error}"),
        }
    }
    // Two endpoints may name the same node.
    reachable.sort_by_key(|status| status.identity.node);
    reachable.dedup_by_key(|status| status.identity.node);
    match StatusView::new(&reachable) {
        Some(view) => context.print(&view),
        None => Err(Failure::new(Exit::Unreachable, "no node answers")),
    }
}
