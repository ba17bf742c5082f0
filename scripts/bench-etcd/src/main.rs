//! The same closed loop as `raftkv-cli bench`, against etcd's gRPC: every client sends its next request when the last was
//! answered. Prints one line of JSON: operations, errors, seconds, operations a second, and latencies in microseconds.
//!
//! etcd's messages are few and flat, so they are written out here and no protoc is needed.
//! Source: etcd 3.4, `etcdserver/etcdserverpb/rpc.proto`.

mod etcd;

use etcd::Etcd;
use hdrhistogram::Histogram;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const USAGE: &str = "usage: bench-etcd put ADDRESS CLIENTS CONNECTIONS OPS KEYS VALUE_BYTES
       bench-etcd get ADDRESS CLIENTS CONNECTIONS OPS KEYS
       bench-etcd fill ADDRESS KEYS VALUE_BYTES     (each key once)
       bench-etcd wait ADDRESS                      (until one linearizable read succeeds)";
const FILL_CLIENTS: u64 = 256;
const FILL_CONNECTIONS: u64 = 8;
/// Latencies up to this are told apart, to three digits.
const LATENCY_US_MAX: u64 = 60_000_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct Load {
    writes: bool,
    /// Each key once and in order, instead of spread over all.
    fills: bool,
    clients: u64,
    connections: u64,
    ops: u64,
    keys: u64,
    value: Vec<u8>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match command(&arguments) {
        Ok(Some((address, load))) => run(&address, load).await,
        Ok(None) => wait(&arguments[1]).await,
        Err(failure) => Err(failure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench-etcd: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What to measure and where, or `None` for `wait`.
fn command(arguments: &[String]) -> Result<Option<(String, Load)>, Failure> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let load = |clients, connections, ops: &str, keys: &str| -> Result<Load, Failure> {
        let (ops, keys) = (ops.parse()?, keys.parse()?);
        Ok(Load { writes: true, fills: false, clients, connections, ops, keys, value: Vec::new() })
    };
    let (address, load) = match arguments[..] {
        ["put", address, clients, connections, ops, keys, size] => {
            let load = load(clients.parse()?, connections.parse()?, ops, keys)?;
            (address, Load { value: value(size.parse()?), ..load })
        }
        ["get", address, clients, connections, ops, keys] => {
            let load = load(clients.parse()?, connections.parse()?, ops, keys)?;
            (address, Load { writes: false, ..load })
        }
        ["fill", address, keys, size] => {
            let load = load(FILL_CLIENTS, FILL_CONNECTIONS, keys, keys)?;
            (address, Load { fills: true, value: value(size.parse()?), ..load })
        }
        ["wait", _] => return Ok(None),
        _ => return Err(USAGE.into()),
    };
    Ok(Some((address.to_owned(), load)))
}

async fn run(address: &str, load: Load) -> Result<(), Failure> {
    let mut connections = Vec::new();
    for _ in 0..load.connections.clamp(1, load.clients) {
        connections.push(Etcd::connect(address).await?);
    }
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..load.clients as usize {
        let etcd = connections[client % connections.len()].clone();
        tasks.push(tokio::spawn(client_loop(etcd, load.clone(), next.clone())));
    }
    let mut total = Tally::new()?;
    for task in tasks {
        total.add(&task.await??)?;
    }
    total.print(started.elapsed());
    Ok(())
}

/// One request after the other, until every operation was taken by some client.
async fn client_loop(mut etcd: Etcd, load: Load, next: Arc<AtomicU64>) -> Result<Tally, Failure> {
    let mut tally = Tally::new()?;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.ops {
            return Ok(tally);
        }
        let place = if load.fills { number } else { mix(number) };
        let key = key(place % load.keys);
        let started = Instant::now();
        let done =
            if load.writes { etcd.put(key, load.value.clone()).await } else { etcd.get(key).await };
        match done {
            Ok(()) => tally.latencies_us.record(started.elapsed().as_micros() as u64)?,
            Err(_) => tally.errors += 1,
        }
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("bench/{number:012}").into_bytes()
}

/// The same bytes as raftkv-cli's.
fn value(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|place| mix(place) as u8).collect()
}

/// Spreads consecutive numbers (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

async fn wait(address: &str) -> Result<(), Failure> {
    loop {
        if let Ok(mut etcd) = Etcd::connect(address).await {
            let read = tokio::time::timeout(Duration::from_secs(1), etcd.get(key(0)));
            if matches!(read.await, Ok(Ok(()))) {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Tally {
    latencies_us: Histogram<u64>,
    errors: u64,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        Ok(Tally { latencies_us: Histogram::new_with_max(LATENCY_US_MAX, 3)?, errors: 0 })
    }

    fn add(&mut self, other: &Tally) -> Result<(), Failure> {
        self.latencies_us.add(&other.latencies_us)?;
        self.errors += other.errors;
        Ok(())
    }

    fn print(&self, took: Duration) {
        let (ops, secs) = (self.latencies_us.len(), took.as_secs_f64());
        let at = |quantile| self.latencies_us.value_at_quantile(quantile);
        println!(
            r#"{{"ops":{ops},"errors":{},"secs":{secs:.3},"ops_per_s":{:.1},"p50_us":{},"p99_us":{},"p999_us":{}}}"#,
            self.errors,
            ops as f64 / secs,
            at(0.5),
            at(0.99),
            at(0.999),
        );
    }
}
