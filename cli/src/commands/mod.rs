//! The commands, one file each.

pub mod backup;
pub mod bench;
pub mod cert;
pub mod cluster;
pub mod compact;
pub mod completions;
pub mod del;
pub mod export;
pub mod get;
pub mod import;
pub mod leader;
pub mod lease;
pub mod member;
pub mod put;
pub mod range;
pub mod snapshot;
pub mod status;
pub mod txn;
pub mod watch;

use crate::args::Command;
use crate::context::Context;
use crate::failure::Failure;

/// Runs a command to its end.
pub async fn run(context: Context, command: Command) -> Result<(), Failure> {
    let context = &context;
    match command {
        Command::Put(put) => put::run(context, put).await,
        Command::Get(get) => get::run(context, get).await,
        Command::Del(del) => del::run(context, del).await,
        Command::Txn(txn) => txn::run(context, txn).await,
        Command::Watch(watch) => watch::run(context, watch).await,
        Command::Lease(lease) => lease::run(context, lease).await,
        Command::Compact(compact) => compact::run(context, compact).await,
        Command::Import(import) => import::run(context, import).await,
        Command::Export(export) => export::run(context, export).await,
        Command::Status(status) => status::run(context, status).await,
        Command::Member(member) => member::run(context, member).await,
        Command::Leader(leader) => leader::run(context, leader).await,
        Command::Snapshot(snapshot) => snapshot::run(context, snapshot).await,
        Command::Backup(backup) => backup::run(context, backup).await,
        Command::Cluster(cluster) => cluster::run(context, cluster).await,
        Command::Bench(bench) => bench::run(context, bench).await,
        Command::Cert(cert) => cert::run(context, cert),
        Command::Completions(completions) => completions::run(&completions),
    }
}
