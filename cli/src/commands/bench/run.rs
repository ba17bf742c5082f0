//! The loop itself.

use super::{Kind, Load, Measured};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::say::say;
use bytes::Bytes;
use hdrhistogram::Histogram;
use raftkv_core::api::{KeyRange, PutRequest, RangeRequest};
use raftkv_node::client::{Client, ClientError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinSet;

/// Writers that fill the key space before reads are measured.
const FILLERS: u32 = 64;

/// What all clients of one run share.
struct Run {
    kind: Kind,
    load: Load,
    value: Bytes,
    next: AtomicU64,
    ops: u64,
}

struct Share {
    latencies_us: Histogram<u64>,
    errors: u64,
    last_error: Option<ClientError>,
}

pub(super) async fn measure(
    context: &Context,
    kind: Kind,
    load: Load,
) -> Result<Measured, Failure> {
    let mut connections = Vec::new();
    for _ in 0..load.connections.min(load.clients) {
        connections.push(context.client().await?);
    }
    if kind != Kind::Put {
        let filled = clients(&connections, Run::new(Kind::Put, &load, load.key_space), FILLERS);
        filled.await?;
    }
    let started = Instant::now();
    let share = clients(&connections, Run::new(kind, &load, load.ops), load.clients).await?;
    let secs = started.elapsed().as_secs_f64();
    if let Some(error) = &share.last_error {
        say!("{} requests failed, the last one: {error}", share.errors);
    }
    let ops = share.latencies_us.len();
    let quantile = |quantile| share.latencies_us.value_at_quantile(quantile);
    Ok(Measured {
        ops,
        errors: share.errors,
        secs,
        ops_per_s: ops as f64 / secs,
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        max_us: share.latencies_us.max(),
    })
}

/// Runs closed loops until every request of the run is done, and adds up what they saw.
async fn clients(connections: &[Client], run: Run, count: u32) -> Result<Share, Failure> {
    let run = Arc::new(run);
    let mut loops = JoinSet::new();
    for number in 0..count as usize {
        loops.spawn(closed_loop(connections[number % connections.len()].clone(), run.clone()));
    }
    let mut total = Share::new();
    for share in loops.join_all().await {
        total.latencies_us.add(&share.latencies_us).expect("all have the same bounds");
        total.errors += share.errors;
        total.last_error = share.last_error.or(total.last_error);
    }
    match total.last_error.take() {
        Some(error) if total.latencies_us.is_empty() => Err(error.into()),
        None if total.latencies_us.is_empty() => {
            Err(Failure::new(Exit::Usage, "there is nothing to measure with --ops 0"))
        }
        error => Ok(Share { last_error: error, ..total }),
    }
}

async fn closed_loop(client: Client, run: Arc<Run>) -> Share {
    let mut share = Share::new();
    loop {
        let number = run.next.fetch_add(1, Ordering::Relaxed);
        if number >= run.ops {
            return share;
        }
        let started = Instant::now();
        match run.request(&client, number).await {
            Ok(()) => {
                let micros = started.elapsed().as_micros() as u64;
                share.latencies_us.saturating_record(micros);
            }
            Err(error) => {
                share.errors += 1;
                share.last_error = Some(error);
            }
        }
    }
}

impl Run {
    fn new(kind: Kind, load: &Load, ops: u64) -> Self {
        // Not one repeated byte: a store that compresses should not look better than it is.
        let value = (0..load.value_size as u64).map(|place| mix(place) as u8).collect();
        Run { kind, load: load.clone(), value, next: AtomicU64::new(0), ops }
    }

    async fn request(&self, client: &Client, number: u64) -> Result<(), ClientError> {
        let writes = match self.kind {
            Kind::Put => true,
            Kind::Get => false,
            Kind::Mixed => number.is_multiple_of(2),
        };
        let filling = self.kind == Kind::Put && self.ops == self.load.key_space;
        let place = if filling { number } else { mix(number) };
        let key = format!("{}{:012}", self.load.prefix, place % self.load.key_space);
        if writes {
            let value = self.value.clone();
            let put = PutRequest { key: key.into(), value, lease: 0, return_previous: false };
            client.put(put).await.map(|_| ())
        } else {
            client.range(RangeRequest::new(KeyRange::one(key))).await.map(|_| ())
        }
    }
}

impl Share {
    fn new() -> Self {
        // Up to ten minutes with three digits.
        let latencies_us = Histogram::new_with_bounds(1, 600_000_000, 3);
        Share {
            latencies_us: latencies_us.expect("the bounds are in order"),
            errors: 0,
            last_error: None,
        }
    }
}

/// Spreads consecutive numbers (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
