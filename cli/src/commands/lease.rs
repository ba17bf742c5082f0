//! `lease`: keys that go away by themselves.

use crate::context::Context;
use crate::duration;
use crate::failure::Failure;
use crate::output::{Report, table};
use clap::Subcommand;
use raftkv_core::api::{LeaseId, LeaseInfo, WriteOp, WriteResult};
use raftkv_node::client::{Client, ClientError};
use serde::Serialize;
use std::time::Duration;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Lease {
    /// Make a lease
    Grant {
        /// How long it lives when it is not kept alive (500ms, 10s, 5m)
        #[arg(value_parser = duration::parse, value_name = "TIME")]
        ttl: Duration,
        /// Its id; 0 lets the store choose
        #[arg(long, default_value_t = 0)]
        id: LeaseId,
    },
    /// End a lease, and delete its keys
    Revoke {
        /// Which
        id: LeaseId,
    },
    /// Keep a lease alive until interrupted
    KeepAlive {
        /// Which
        id: LeaseId,
        /// Only once
        #[arg(long)]
        once: bool,
    },
    /// List leases
    List,
}

#[derive(Debug, Serialize)]
struct LeaseView {
    id: LeaseId,
    ttl_ms: u64,
}

#[derive(Debug, Serialize)]
struct LeasesView {
    leases: Vec<LeaseInfo>,
}

/// Runs it.
pub async fn run(context: &Context, lease: Lease) -> Result<(), Failure> {
    let client = context.client().await?;
    match lease {
        Lease::Grant { ttl, id } => {
            let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            context.print(&write(&client, id, WriteOp::LeaseGrant { id, ttl_ms }).await?)
        }
        Lease::Revoke { id } => {
            context.print(&write(&client, id, WriteOp::LeaseRevoke { id }).await?)
        }
        Lease::KeepAlive { id, once } => keep_alive(context, &client, id, once).await,
        Lease::List => context.print(&LeasesView { leases: client.leases().await? }),
    }
}

async fn keep_alive(
    context: &Context,
    client: &Client,
    id: LeaseId,
    once: bool,
) -> Result<(), Failure> {
    loop {
        let lease = write(client, id, WriteOp::LeaseKeepAlive { id }).await?;
        context.print_next(&lease)?;
        if once {
            return Ok(());
        }
        // Three chances within the time to live.
        let pause = Duration::from_millis((lease.ttl_ms / 3).max(100));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Being interrupted is how keeping alive ends.
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn write(client: &Client, asked: LeaseId, op: WriteOp) -> Result<LeaseView, ClientError> {
    match client.write(op).await? {
        WriteResult::Lease { id, ttl_ms, .. } => Ok(LeaseView { id, ttl_ms }),
        _ => Ok(LeaseView { id: asked, ttl_ms: 0 }),
    }
}

impl Report for LeaseView {
    fn table(&self) -> String {
        match self.ttl_ms {
            0 => format!("lease {} has ended", self.id),
            ttl_ms => format!("lease {} lives for {} s", self.id, ttl_ms as f64 / 1000.0),
        }
    }
}

impl Report for LeasesView {
    fn table(&self) -> String {
        let mut rows = table::new(&["ID", "TTL (s)", "LEFT (s)", "KEYS"]);
        for lease in &self.leases {
            rows.add_row([
                lease.id.to_string(),
                (lease.ttl_ms as f64 / 1000.0).to_string(),
                (lease.remaining_ms as f64 / 1000.0).to_string(),
                lease.keys.to_string(),
            ]);
        }
        table::text(&rows)
    }
}
