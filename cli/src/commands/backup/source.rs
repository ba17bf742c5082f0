//! Where the state that is backed up comes from: a node of the live cluster, or the data directory of a stopped one.

use crate::failure::{Exit, Failure};
use bytes::Bytes;
use raftkv_core::api::{KeyRange, RangeRequest, Revision, ViewInfo};
use raftkv_core::backup::create::Source;
use raftkv_core::boot::{BootError, Image};
use raftkv_core::snapshot::Encoder;
use raftkv_node::blob::Piece;
use raftkv_node::client::{Client, View};
use raftkv_node::disk::{self, Directory};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Pieces read ahead.
const PIECES_AHEAD: usize = 4;
/// How often, and after which pause, followers that lag are asked again.
const FOLLOWER_TRIES: u32 = 5;
const FOLLOWER_PAUSE: Duration = Duration::from_millis(100);

/// A frozen state and its snapshot stream.
pub struct Frozen {
    /// The exact point.
    pub source: Source,
    /// Length of the stream, roughly.
    pub bytes_estimate: u64,
    /// The stream.
    pub stream: mpsc::Receiver<Piece>,
}

/// Freezes the state on a node of the cluster. Everything that was acknowledged before the call is in it. An in-sync follower is asked
/// first, so that the leader has no load from it.
pub async fn live(client: &Client) -> Result<Frozen, Failure> {
    let newest = RangeRequest {
        count_only: true,
        ..RangeRequest::new(KeyRange::one(Bytes::from_static(b"\0")))
    };
    let acknowledged = client.range(newest).await?.revision;
    for round in 0..=FOLLOWER_TRIES {
        let last_round = round == FOLLOWER_TRIES;
        for address in candidates(client, acknowledged, last_round).await {
            match client.view(&address).await {
                Ok(view) if view.info().revision >= acknowledged => return Ok(read_view(view)),
                Ok(_) => {}
                Err(error) => eprintln!("raftkv-cli: {address} gives no view: {error}"),
            }
        }
        sleep(FOLLOWER_PAUSE).await;
    }
    Err(Failure::new(
        Exit::Unreachable,
        format!("no node gives a view of revision {acknowledged} or later"),
    ))
}

/// Nodes that have this revision: followers, the furthest first; then, if wanted or if there is nobody else, the leader.
async fn candidates(client: &Client, revision: Revision, with_leader: bool) -> Vec<String> {
    let mut followers = Vec::new();
    let mut leaders = Vec::new();
    let statuses = client.statuses().await;
    let alone = statuses.len() == 1;
    for (address, status) in statuses {
        let Ok(status) = status else { continue };
        if status.leader == Some(status.identity.node) {
            leaders.push(address);
        } else if status.revision >= revision {
            followers.push((status.applied_index, address));
        }
    }
    followers.sort_by(|a, b| b.cmp(a));
    let followers = followers.into_iter().map(|(_, address)| address);
    match with_leader || alone {
        true => followers.chain(leaders).collect(),
        false => followers.collect(),
    }
}

fn read_view(mut view: View) -> Frozen {
    let (sender, stream) = mpsc::channel(PIECES_AHEAD);
    let info = view.info().clone();
    tokio::spawn(async move {
        for number in 0.. {
            let (piece, last) = match view.read(number).await {
                Ok((bytes, last)) => (Piece::Bytes(bytes), last),
                Err(error) => (Piece::Broken(error.to_string()), true),
            };
            let broken = matches!(piece, Piece::Broken(_));
            // A backup that has failed takes no more; nobody is left to be told.
            if sender.send(piece).await.is_err() || broken {
                return;
            }
            if last {
                let _ = sender.send(Piece::End).await;
                return;
            }
        }
    });
    let bytes_estimate = info.stream_bytes_estimate;
    Frozen { source: source_of(info), bytes_estimate, stream }
}

fn source_of(info: ViewInfo) -> Source {
    Source {
        cluster: info.identity.cluster,
        epoch: info.identity.epoch,
        node: info.identity.node,
        members: info.members,
        index: info.index,
        term: info.term,
        revision: info.revision,
        state_hash: info.state_hash,
        keys: info.keys,
    }
}

/// Reads the data directory of a stopped node: its state with everything it knows to be committed.
pub fn stopped(path: &Path) -> Result<Frozen, Failure> {
    if !path.join("identity").exists() {
        let what = format!("{} holds no node: there is no identity in it", path.display());
        return Err(Failure::new(Exit::NotFound, what));
    }
    let directory = Directory::open(path).map_err(|error| Failure::new(Exit::Storage, error))?;
    let image = disk::look(&directory).map_err(|error| {
        let exit = match error {
            BootError::Unreadable { .. } => Exit::Storage,
            _ => Exit::Verification,
        };
        Failure::new(exit, format!("{}: {error}", path.display()))
    })?;
    let Image { identity, joining, .. } = *image;
    if joining {
        let what = format!("{}: the node has not got its first snapshot yet", path.display());
        return Err(Failure::new(Exit::NotFound, what));
    }
    let committed = raftkv_core::boot::replay(*image).map_err(|error| {
        Failure::new(Exit::Verification, format!("{}: {error}", path.display()))
    })?;
    let source = Source {
        cluster: identity.cluster,
        epoch: identity.epoch,
        node: identity.node,
        members: committed.state.members().cloned().collect(),
        index: committed.meta.index,
        term: committed.meta.term,
        revision: committed.state.revision(),
        state_hash: committed.state.hash(),
        keys: committed.state.keys(),
    };
    let bytes_estimate = committed.state.bytes();
    let header = raftkv_core::snapshot::Header::of(&identity, committed.meta, &committed.state);
    let mut encoder = Encoder::new(header, committed.state.items());
    let (sender, stream) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        // The lock is held until everything was read.
        let _directory = directory;
        while let Some(chunk) = encoder.next_chunk() {
            if sender.blocking_send(Piece::Bytes(chunk)).is_err() {
                return;
            }
        }
        let _ = sender.blocking_send(Piece::End);
    });
    Ok(Frozen { source, bytes_estimate, stream })
}
