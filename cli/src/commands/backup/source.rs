//! Where the state that is backed up comes from: a node of the live cluster, or the data directory of a stopped one.

use crate::failure::{Exit, Failure};
use crate::say::say;
use bytes::Bytes;
use raftkv_core::api::{KeyRange, RangeRequest, Revision};
use raftkv_core::backup::create::Source;
use raftkv_core::boot::{BootError, Image};
use raftkv_core::snapshot::{Encoder, Header};
use raftkv_node::blob::Piece;
use raftkv_node::client::{Client, ClientError, View};
use raftkv_node::disk::directory::DirectoryError;
use raftkv_node::disk::{self, Directory};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Pieces read ahead.
const PIECES_AHEAD: usize = 4;
/// How often a node hears of whoever reads its view: one that is not read for a minute is gone.
const RENEW_EVERY: Duration = Duration::from_secs(20);
/// How often, and after which pause, followers that lag are asked again.
const FOLLOWER_TRIES: u32 = 5;
const FOLLOWER_PAUSE: Duration = Duration::from_millis(100);

/// A frozen state and its snapshot stream.
pub struct Frozen {
    /// The exact point.
    pub source: Source,
    /// The stream.
    pub stream: mpsc::Receiver<Piece>,
}

/// The revision that has everything which was acknowledged before the call.
pub async fn acknowledged(client: &Client) -> Result<Revision, Failure> {
    let newest = RangeRequest {
        count_only: true,
        ..RangeRequest::new(KeyRange::one(Bytes::from_static(b"\0")))
    };
    Ok(client.range(newest).await?.revision)
}

/// Freezes the state on a node of the cluster. Everything that was acknowledged before the call is in it. An in-sync follower is asked
/// first, so that the leader has no load from it.
pub async fn live(client: &Client) -> Result<Frozen, Failure> {
    let acknowledged = acknowledged(client).await?;
    for round in 0..=FOLLOWER_TRIES {
        let last_round = round == FOLLOWER_TRIES;
        for address in candidates(client, acknowledged, last_round).await {
            match client.view(&address).await {
                Ok(view) if view.info().revision >= acknowledged => return Ok(read_view(view)),
                Ok(_) => {}
                Err(error) => say!("{address} gives no view: {error}"),
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

fn read_view(view: View) -> Frozen {
    let (sender, stream) = mpsc::channel(PIECES_AHEAD);
    let source = Source::from(view.info().clone());
    tokio::spawn(read_all(view, sender));
    Frozen { source, stream }
}

/// A frozen state, read chunk by chunk.
trait Chunks: Send {
    /// The next chunk, and whether it is the last one.
    fn next(&mut self) -> impl Future<Output = Result<(Bytes, bool), ClientError>> + Send;

    /// Says that more will be read.
    fn keep(&mut self) -> impl Future<Output = ()> + Send;
}

impl Chunks for View {
    async fn next(&mut self) -> Result<(Bytes, bool), ClientError> {
        View::next(self).await
    }

    async fn keep(&mut self) {
        View::keep(self).await;
    }
}

async fn read_all(mut chunks: impl Chunks, sender: mpsc::Sender<Piece>) {
    loop {
        let (piece, last) = match chunks.next().await {
            Ok((bytes, last)) => (Piece::Bytes(bytes), last),
            Err(error) => (Piece::Broken(error.to_string()), true),
        };
        let broken = matches!(piece, Piece::Broken(_));
        // A backup that has failed takes no more; nobody is left to be told.
        let Some(room) = room(&mut chunks, last, &sender).await else { return };
        room.send(piece);
        if broken {
            return;
        }
        if last {
            let _ = sender.send(Piece::End).await;
            return;
        }
    }
}

/// Waits until the piece that was read can be taken. Meanwhile the node hears of us now and then, unless it was the last, so that it
/// keeps the view however long that takes.
async fn room<'a>(
    chunks: &mut impl Chunks,
    last: bool,
    sender: &'a mpsc::Sender<Piece>,
) -> Option<mpsc::Permit<'a, Piece>> {
    loop {
        match timeout(RENEW_EVERY, sender.reserve()).await {
            Ok(room) => return room.ok(),
            Err(_) if last => {}
            Err(_) => chunks.keep().await,
        }
    }
}

/// Reads the data directory of a stopped node: its state with everything it knows to be committed.
pub fn stopped(path: &Path) -> Result<Frozen, Failure> {
    if !path.join("identity").exists() {
        let what = format!("{} holds no node: there is no identity in it", path.display());
        return Err(Failure::new(Exit::NotFound, what));
    }
    let directory = Directory::open_to_read(path).map_err(|error| unusable(&error))?;
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
    let header = Header::of(&identity, committed.meta, &committed.state);
    let members = committed.state.members().cloned().collect();
    let source = Source::new(&header, identity.node, members);
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
    Ok(Frozen { source, stream })
}

/// A data directory that cannot be opened. The node's own messages name a flag of the node.
pub fn unusable(error: &DirectoryError) -> Failure {
    match error {
        DirectoryError::Locked { root, owner } => {
            let root = root.display();
            let what = format!(
                "the data directory {root} is in use by process {owner}: stop it first, or name another --db"
            );
            Failure::new(Exit::Refused, what)
        }
        DirectoryError::Denied { root, error } => {
            let root = root.display();
            let what = format!(
                "the data directory {root} cannot be made or written: {error}; run this as the user that runs the node, or name another --db"
            );
            Failure::new(Exit::Storage, what)
        }
        error => Failure::new(Exit::Storage, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tokio::time::Instant;

    /// How long a node keeps a view that is not read.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A view of so many chunks, which is gone when it is not read for long, and how often the node heard of its reader.
    struct Kept {
        chunks: u64,
        next: u64,
        heard: Instant,
        times: Arc<Mutex<usize>>,
    }

    impl Kept {
        fn hear(&mut self) -> Result<(), ClientError> {
            *self.times.lock().unwrap() += 1;
            if self.heard.elapsed() >= PATIENCE {
                let gone = raftkv_core::api::Error::NotFound("view 1".into());
                return Err(ClientError::Refused(gone));
            }
            self.heard = Instant::now();
            Ok(())
        }
    }

    impl Chunks for Kept {
        async fn next(&mut self) -> Result<(Bytes, bool), ClientError> {
            self.hear()?;
            let number = self.next;
            self.next += 1;
            Ok((number.to_string().into(), self.next == self.chunks))
        }

        async fn keep(&mut self) {
            drop(self.hear());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_is_kept_while_nobody_takes_its_pieces() {
        let (sender, mut stream) = mpsc::channel(1);
        let times = Arc::new(Mutex::new(0));
        let view = Kept { chunks: 4, next: 0, heard: Instant::now(), times: times.clone() };
        tokio::spawn(read_all(view, sender));
        for number in 0..4 {
            sleep(PATIENCE * 5).await;
            match stream.recv().await {
                Some(Piece::Bytes(bytes)) => assert_eq!(bytes, number.to_string()),
                other => panic!("piece {number}: {other:?}"),
            }
        }
        sleep(PATIENCE * 5).await;
        let heard = *times.lock().unwrap();
        assert!(matches!(stream.recv().await, Some(Piece::End)));
        assert!(stream.recv().await.is_none());
        assert_eq!(*times.lock().unwrap(), heard, "nothing is asked for behind the last piece");
    }
}
