//! `bench`: throughput and latency of a closed loop: each client has one request under way, and sends the next when it is answered.

mod run;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Report;
use clap::{Args, Subcommand};
use serde::Serialize;

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Only writes
    Put(Load),
    /// Only linearizable reads, of keys that are written first
    Get(Load),
    /// Half reads, half writes
    Mixed(Load),
}

/// Arguments of all of them.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Requests under way at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    clients: u32,
    /// Requests in all
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    ops: u64,
    /// Bytes of a value
    #[arg(long, value_name = "B", default_value_t = 100)]
    value_size: usize,
    /// Different keys
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    key_space: u64,
    /// Connections to the leader
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// What keys begin with
    #[arg(long, value_name = "P", default_value = "bench/")]
    prefix: String,
}

/// What was measured. Times are of single requests, with all their retries.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    ops: u64,
    errors: u64,
    secs: f64,
    ops_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

/// What a client does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Get,
    Mixed,
}

/// Runs it.
pub async fn run(context: &Context, bench: Bench) -> Result<(), Failure> {
    let (kind, load) = match bench {
        Bench::Put(load) => (Kind::Put, load),
        Bench::Get(load) => (Kind::Get, load),
        Bench::Mixed(load) => (Kind::Mixed, load),
    };
    let measured = run::measure(context, kind, load).await?;
    context.print(&measured)
}

impl Report for Measured {
    fn table(&self) -> String {
        format!(
            "{} requests ({} failed) in {:.2} s: {:.0}/s; p50 {} us, p99 {} us, p99.9 {} us, longest {} us",
            self.ops,
            self.errors,
            self.secs,
            self.ops_per_s,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.max_us
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn the_json_of_a_measurement_is_what_is_documented() {
        let measured = Measured {
            ops: 10,
            errors: 0,
            secs: 0.5,
            ops_per_s: 20.0,
            p50_us: 1,
            p99_us: 2,
            p999_us: 3,
            max_us: 4,
        };
        assert_eq!(
            Format::Json.render(&measured),
            r#"{"ops":10,"errors":0,"secs":0.5,"ops_per_s":20.0,"p50_us":1,"p99_us":2,"p999_us":3,"max_us":4}"#
        );
    }
}
