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

const USAGE: &str = "usage: bench-etcd put ADDRESS CLIENTS OPS VALUE_BYTES
       bench-etcd get ADDRESS CLIENTS OPS     (of the keys that put wrote)
       bench-etcd wait ADDRESS                (until one linearizable read succeeds)";
/// Connections are shared by the clients; more than this gave etcd nothing.
const CONNECTIONS_MAX: u64 = 16;
/// Latencies up to this are told apart, to three digits.
const LATENCY_US_MAX: u64 = 60_000_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy)]
enum Kind {
    Put,
    Get,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["put", address, clients, ops, size] => run(Kind::Put, address, clients, ops, size).await,
        ["get", address, clients, ops] => run(Kind::Get, address, clients, ops, "0").await,
        ["wait", address] => wait(address).await,
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench-etcd: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(
    kind: Kind,
    address: &str,
    clients: &str,
    ops: &str,
    size: &str,
) -> Result<(), Failure> {
    let (clients, ops): (u64, u64) = (clients.parse()?, ops.parse()?);
    let value = vec![b'v'; size.parse()?];
    let mut connections = Vec::new();
    for _ in 0..clients.min(CONNECTIONS_MAX) {
        connections.push(Etcd::connect(address).await?);
    }
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..clients {
        let etcd = connections[(client % connections.len() as u64) as usize].clone();
        let plan = Plan { kind, ops, value: value.clone(), next: next.clone() };
        tasks.push(tokio::spawn(client_loop(etcd, plan)));
    }
    let mut total = Tally::new()?;
    for task in tasks {
        total.add(&task.await??)?;
    }
    total.print(started.elapsed());
    Ok(())
}

struct Plan {
    kind: Kind,
    ops: u64,
    value: Vec<u8>,
    /// The next operation that no client has taken yet.
    next: Arc<AtomicU64>,
}

async fn client_loop(mut etcd: Etcd, plan: Plan) -> Result<Tally, Failure> {
    let mut tally = Tally::new()?;
    loop {
        let number = plan.next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.ops {
            return Ok(tally);
        }
        let started = Instant::now();
        let done = match plan.kind {
            Kind::Put => etcd.put(key(number), plan.value.clone()).await,
            Kind::Get => etcd.get(key(number)).await,
        };
        match done {
            Ok(()) => tally.latencies_us.record(started.elapsed().as_micros() as u64)?,
            Err(_) => tally.errors += 1,
        }
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("bench/{number:012}").into_bytes()
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
