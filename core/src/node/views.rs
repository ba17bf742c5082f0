//! Views: the state frozen at one point and read as a snapshot stream, chunk by chunk, at the reader's pace.
//!
//! Invariants: a view costs the writers nothing but the memory of what changes meanwhile; at most a fixed number are open; one that is
//! not read for [`PATIENCE`] is dropped.

use super::Node;
use crate::api::{Error, Response, ViewInfo};
use crate::planted::{self, Bug};
use crate::snapshot::{Encoder, Header};
use crate::time::{Mono, Span};
use crate::wire::peer::SnapshotMeta;
use bytes::Bytes;
use std::collections::BTreeMap;

/// How long a view may go unread.
const PATIENCE: Span = Span::from_millis(60_000);

/// The open views of one node.
#[derive(Debug)]
pub(super) struct Views {
    limit: usize,
    next: u64,
    open: BTreeMap<u64, View>,
}

struct View {
    encoder: Encoder,
    /// The chunk given last, for a reader that asks again.
    given: Option<(u64, Bytes)>,
    /// The one after it, made early to know whether it is the last.
    ahead: Option<Bytes>,
    expires: Mono,
}

impl Views {
    /// At most `limit` views at once.
    pub(super) fn new(limit: usize) -> Self {
        Views { limit, next: 1, open: BTreeMap::new() }
    }

    fn open(&mut self, mut encoder: Encoder, now: Mono) -> Result<u64, Error> {
        if self.open.len() >= self.limit {
            // One that was read to its end stays only for a reader that asks for the end again.
            let ended = self.open.iter().filter(|(_, view)| view.has_ended());
            let oldest = ended.min_by_key(|(_, view)| view.expires).map(|(id, _)| *id);
            let Some(oldest) = oldest else {
                return Err(Error::Busy { what: "open views".into() });
            };
            self.open.remove(&oldest);
        }
        let id = self.next;
        self.next += 1;
        let ahead = encoder.next_chunk();
        self.open.insert(id, View { encoder, given: None, ahead, expires: now + PATIENCE });
        Ok(id)
    }

    /// The chunk of that number: the next one, or the one given last again.
    pub(super) fn read(&mut self, id: u64, chunk: u64, now: Mono) -> Response {
        let Some(view) = self.open.get_mut(&id) else {
            return Response::Error(Error::NotFound(format!("view {id}")));
        };
        view.expires = now + PATIENCE;
        let next = view.given.as_ref().map_or(0, |(number, _)| number + 1);
        if chunk == next
            && let Some(bytes) = view.ahead.take()
        {
            view.ahead = view.encoder.next_chunk();
            view.given = Some((chunk, bytes));
        }
        match &view.given {
            Some((number, bytes)) if *number == chunk => {
                Response::ViewChunk { bytes: bytes.clone(), last: view.ahead.is_none() }
            }
            _ => Response::Error(Error::Invalid(format!("view {id} is at chunk {next}"))),
        }
    }

    /// The reader is done.
    pub(super) fn close(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// Drops what was not read for long.
    pub(super) fn expire(&mut self, now: Mono) {
        self.open.retain(|_, view| view.expires > now);
    }
}

impl View {
    fn has_ended(&self) -> bool {
        self.given.is_some() && self.ahead.is_none()
    }
}

impl Node {
    /// Freezes the state as it is.
    pub(super) fn open_view(&mut self) -> Response {
        let header = self.snapshot_header();
        let encoder = Encoder::new(header.clone(), self.state.items());
        match self.views.open(encoder, self.now.mono) {
            Ok(view) => Response::ViewOpened(self.view_info(view, &header)),
            Err(error) => Response::Error(error),
        }
    }

    fn view_info(&self, view: u64, header: &Header) -> ViewInfo {
        ViewInfo {
            view,
            identity: self.identity,
            index: header.meta.index,
            term: header.meta.term,
            revision: self.state.revision(),
            state_hash: header.state_hash,
            keys: header.keys,
            bytes: header.bytes,
            stream_bytes_estimate: header.stream_bytes_estimate(),
            members: self.state.members().cloned().collect(),
        }
    }

    /// What a snapshot of the state as it is now says about itself.
    pub(super) fn snapshot_header(&self) -> Header {
        let (index, term) = self.applied;
        let index = index - u64::from(planted::is(Bug::SnapshotIndexBehind));
        let conf = self.consensus.conf().clone();
        Header {
            cluster: self.identity.cluster,
            epoch: self.identity.epoch,
            meta: SnapshotMeta { index, term, conf },
            revision: self.state.revision(),
            state_hash: self.state.hash(),
            keys: self.state.keys(),
            bytes: self.state.bytes(),
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("expires", &self.expires).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ClusterId, Epoch, Identity, NodeId};
    use crate::kv::KvState;

    fn encoder() -> Encoder {
        let node = NodeId::new(1, 0);
        let identity = Identity { cluster: ClusterId([1; 16]), epoch: Epoch(1), node };
        let state = KvState::default();
        Encoder::new(Header::of(&identity, SnapshotMeta::default(), &state), state.items())
    }

    fn read_to_its_end(views: &mut Views, id: u64) {
        for chunk in 0.. {
            match views.read(id, chunk, Mono(0)) {
                Response::ViewChunk { last: true, .. } => return,
                Response::ViewChunk { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_view_that_was_read_to_its_end_makes_way_and_another_does_not() {
        let mut views = Views::new(2);
        let [read, unread] = [(); 2].map(|()| views.open(encoder(), Mono(0)).unwrap());
        let busy = || Err(Error::Busy { what: "open views".into() });
        assert_eq!(views.open(encoder(), Mono(0)), busy());
        read_to_its_end(&mut views, read);
        let next = views.open(encoder(), Mono(0)).unwrap();
        let is_there = |views: &Views, id| views.open.contains_key(&id);
        assert!(!is_there(&views, read) && is_there(&views, unread) && is_there(&views, next));
        assert_eq!(views.open(encoder(), Mono(0)), busy());
    }
}
