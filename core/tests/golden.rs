//! Golden interaction scripts: commands in, everything that crosses the boundary out.
//!
//! A script is blocks of commands, `----`, and the trace they must give. `UPDATE_GOLDEN=1 cargo test -p raftkv-core --test golden`
//! rewrites the traces; commit the difference only if you understand it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "scripts are files")]

#[path = "backup/script.rs"]
mod backups;
mod cluster;
#[allow(dead_code, reason = "scripts use a part")]
#[path = "backup/store.rs"]
mod store;

use backups::Backups;
use cluster::Cluster;
use raftkv_core::api::{Consistency, KeyRange, PutRequest, RangeRequest, Request, WriteOp};
use raftkv_core::config::Config;
use raftkv_core::io::Input;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const COMMANDS: &str = "
    elect              ticks until a node leads, quietly
    quietly COMMAND    without showing what happens
    tick [N]           N ticks of time, and all that follows
    put NODE KEY VALUE a write
    get NODE KEY       a linearizable read
    stale NODE KEY     a read of what the node has
    settle             disks and frames move until nothing is left
    step NODE          one disk operation
    deliver            one frame
    stall NODE         its disk stops answering
    resume NODE        and goes on
    cut A B, heal      frames from A to B and back are lost
    crash NODE, start NODE
    join NEW VIA       a new host joins through a member
    promote, remove, transfer, snapshot, status NODE ARG
";

fn run(cluster: &mut Option<Cluster>, backups: &mut Backups, line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| -> Result<u32, String> {
        let word = words.get(at).ok_or(format!("{line}: a number is missing"))?;
        word.parse().map_err(|_| format!("{line}: {word} is no number"))
    };
    let text = |at: usize| words.get(at).map(|word| word.to_string()).unwrap_or_default();
    if words[0] == "cluster" {
        let mut config = Config::default();
        for pair in &words[2..] {
            match pair.split_once('=') {
                Some(("snapshot_entries", n)) => config.snapshot_entries = n.parse().unwrap(),
                Some(("trailing", n)) => config.trailing_entries = n.parse().unwrap(),
                _ => return Err(format!("{line}: {pair} is not known")),
            }
        }
        *cluster = Some(Cluster::new(number(1)?, config));
        return Ok(());
    }
    let cluster = cluster.as_mut().ok_or("a script starts with: cluster SIZE")?;
    match words[0] {
        "quietly" => {
            let shown = cluster.trace.len();
            let rest = line.strip_prefix("quietly").unwrap_or_default().trim();
            let mut inner = Some(std::mem::replace(cluster, Cluster::new(0, Config::default())));
            let outcome = run(&mut inner, backups, rest);
            *cluster = inner.unwrap();
            cluster.trace.truncate(shown);
            return outcome;
        }
        "elect" => {
            let leader = cluster.elect();
            cluster.trace.clear();
            writeln!(cluster.trace, "node {leader} leads").unwrap();
        }
        "tick" => (0..number(1).unwrap_or(1)).for_each(|_| cluster.pass_tick()),
        "put" => {
            let (key, value) = (text(2).into(), text(3).into());
            let put = PutRequest { key, value, lease: 0, return_previous: false };
            cluster.ask(number(1)?, Request::Write { session: None, op: WriteOp::Put(put) });
        }
        "get" | "stale" => {
            let mut range = RangeRequest::new(KeyRange::one(text(2)));
            if words[0] == "stale" {
                range.consistency = Consistency::Stale;
            }
            cluster.ask(number(1)?, Request::Range(range));
        }
        "settle" => cluster.settle(),
        "step" => {
            cluster.disk_step(number(1)?);
        }
        "deliver" => {
            cluster.deliver();
        }
        "stall" => cluster.hosts.get_mut(&number(1)?).unwrap().stalled = true,
        "resume" => cluster.hosts.get_mut(&number(1)?).unwrap().stalled = false,
        "cut" => {
            let (a, b) = (number(1)?, number(2)?);
            cluster.cut.extend([(a, b), (b, a)]);
        }
        "heal" => cluster.cut.clear(),
        "crash" => cluster.crash(number(1)?),
        "start" => cluster.start(number(1)?),
        "join" => cluster.join(number(1)?, number(2)?, false),
        "promote" => {
            cluster.ask(number(1)?, Request::MemberPromote { member: number(2)? });
        }
        "remove" => {
            cluster.ask(number(1)?, Request::MemberRemove { member: number(2)? });
        }
        "transfer" => {
            cluster.ask(number(1)?, Request::LeaderTransfer { member: number(2)? });
        }
        "snapshot" => {
            cluster.ask(number(1)?, Request::SnapshotSave);
        }
        "stop" => cluster.input(number(1)?, Input::Shutdown),
        _ if backups.run(cluster, &words)? => {}
        _ => return Err(format!("{line}: not known. Commands:{COMMANDS}{}", backups::COMMANDS)),
    }
    Ok(())
}

fn check(path: &Path) {
    let script = std::fs::read_to_string(path).unwrap();
    let (mut cluster, mut backups) = (None, Backups::default());
    let (mut rewritten, mut commands, mut expecting) = (String::new(), Vec::new(), false);
    for line in script.lines() {
        if expecting {
            expecting = !line.is_empty();
            continue;
        }
        writeln!(rewritten, "{line}").unwrap();
        if line == "----" {
            for command in commands.drain(..) {
                run(&mut cluster, &mut backups, command)
                    .unwrap_or_else(|error| panic!("{path:?}: {error}"));
            }
            let trace = std::mem::take(&mut cluster.as_mut().unwrap().trace);
            writeln!(rewritten, "{trace}").unwrap();
            expecting = true;
        } else if !line.is_empty() && !line.starts_with('#') {
            commands.push(line);
        }
    }
    assert!(commands.is_empty(), "{path:?} ends in commands without ----");
    let rewritten = format!("{}\n", rewritten.trim_end());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, rewritten).unwrap();
        return;
    }
    let differing = script.lines().zip(rewritten.lines()).position(|(old, new)| old != new);
    let at = differing.unwrap_or(script.lines().count().min(rewritten.lines().count()));
    let line = |text: &str| text.lines().nth(at).unwrap_or("(end)").to_string();
    assert!(
        script == rewritten,
        "{path:?} line {}:\n  expected {}\n  got      {}",
        at + 1,
        line(&script),
        line(&rewritten)
    );
}

#[test]
fn scripts_give_the_traces_they_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut scripts: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 8, "the scripts are there");
    scripts.iter().for_each(|script| check(script));
}
