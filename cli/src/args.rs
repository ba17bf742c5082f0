//! What can be typed: the global options and the list of commands. Each command's own arguments stand beside its code.

use crate::commands::{
    backup, bench, cert, cluster, compact, completions, del, export, get, import, leader, lease,
    member, put, snapshot, status, txn, watch,
};
use crate::duration;
use crate::output::Format;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "raftkv-cli", version, about = "Talk to a RaftKV cluster, and look after it.")]
#[command(propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that may stand before or after the command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Nodes to begin with; the other members are found through them
    #[arg(
        long,
        global = true,
        env = "RAFTKV_ENDPOINTS",
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:7400"
    )]
    pub endpoints: Vec<String>,
    /// Directory with ca.crt, client.crt and client.key; needed for nodes that are not on loopback
    #[arg(long, global = true, env = "RAFTKV_CERT_DIR", value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// How to print data
    #[arg(short, long, global = true, env = "RAFTKV_OUTPUT", value_enum, default_value = "table")]
    pub output: Format,
    /// How long one request may take, with all its retries (500ms, 10s, 2m)
    #[arg(
        long,
        global = true,
        env = "RAFTKV_TIMEOUT",
        value_name = "TIME",
        value_parser = duration::parse,
        default_value = "10s"
    )]
    pub timeout: Duration,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a key
    Put(put::Put),
    /// Read a key or a range of keys
    Get(get::Get),
    /// Delete a key or a range of keys
    Del(del::Del),
    /// Compare and change several keys as one; reads JSON from stdin
    Txn(txn::Txn),
    /// Follow changes of a key or a range of keys
    Watch(watch::Watch),
    /// Leases: keys that go away by themselves
    #[command(subcommand)]
    Lease(lease::Lease),
    /// Forget history before a revision
    Compact(compact::Compact),
    /// Write keys from a file of JSON lines
    Import(import::Import),
    /// Write all keys to a file of JSON lines
    Export(export::Export),
    /// State of every node
    Status(status::Status),
    /// Members of the cluster
    #[command(subcommand)]
    Member(member::Member),
    /// Leadership
    #[command(subcommand)]
    Leader(leader::Leader),
    /// Snapshots on the nodes' disks
    #[command(subcommand)]
    Snapshot(snapshot::Snapshot),
    /// Backups: make, look at, check, restore
    #[command(subcommand)]
    Backup(backup::Backup),
    /// A whole cluster: bring it back from a backup
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Measure throughput and latency
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Certificates
    #[command(subcommand)]
    Cert(cert::Cert),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_documented_cron_jobs_can_be_typed() {
        let example = include_str!("../../docs/examples/cronjob.yaml");
        let jobs: Vec<Value> = serde_saphyr::from_multiple(example).unwrap();
        assert_eq!(jobs.len(), 2);
        for job in jobs {
            let template = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
            let container = &template["containers"][0];
            let words = ["command", "args"].map(|key| container[key].as_array().unwrap());
            let words = words.into_iter().flatten().map(|word| word.as_str().unwrap());
            let words: Vec<&str> = words.collect();
            assert!(Cli::try_parse_from(&words).is_ok(), "{words:?}");
            let mounts = container["volumeMounts"].as_array().unwrap();
            let volumes = template["volumes"].as_array().unwrap();
            for mount in mounts {
                let is_there = volumes.iter().any(|volume| volume["name"] == mount["name"]);
                assert!(is_there, "{mount}");
            }
        }
    }
}
