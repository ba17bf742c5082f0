//! The open watches of one node.
//!
//! A watch holds no events: it is a place in the state's history, and every answer is read from there. So a slow watch costs
//! nothing and loses nothing; one that falls behind compaction is told so ([`Error::Compacted`]) and ends. It does not matter
//! either whether the state moved by commands or was replaced by a snapshot. Invariants: a watch's answers are in order, without
//! gap or repetition; one that is not `ready` has nothing to read at or before `seen`.
//! Model: etcd's watch guarantees (ordered, unique, reliable, atomic, resumable).

use super::read::Cursor;
use super::state::KvState;
use crate::api::{Error, Response, Revision, WatchRequest};
use crate::ids::ReqId;
use std::collections::{BTreeMap, VecDeque};

/// One answer ends with the revision that takes it to this many bytes. A revision larger than this is cut: until its last
/// part, answers name the revision before.
pub const ANSWER_BYTES: usize = 1 << 20;

/// All watches.
#[derive(Debug, Default)]
pub struct Watches {
    watches: BTreeMap<ReqId, Watch>,
    /// Watches that may have something to say, each once.
    ready: VecDeque<ReqId>,
    /// The newest revision whose changes were shown to every watch.
    seen: Revision,
}

#[derive(Debug)]
struct Watch {
    request: WatchRequest,
    from: Cursor,
    announced: bool,
    ready: bool,
}

impl Watches {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Opens a watch. Its first answer says from where it runs.
    ///
    /// # Errors
    /// [`Error::Compacted`] when its first revision is no longer known, [`Error::Invalid`] when `req` has one already.
    pub fn open(
        &mut self,
        req: ReqId,
        request: WatchRequest,
        state: &KvState,
    ) -> Result<(), Error> {
        let oldest = state.compacted();
        let from = match request.from_revision {
            0 => state.revision() + 1,
            asked if asked <= oldest => return Err(Error::Compacted { asked, oldest }),
            asked => asked,
        };
        if self.watches.contains_key(&req) {
            return Err(Error::Invalid(format!("request {} is a watch already", req.0)));
        }
        if self.watches.is_empty() {
            self.seen = state.revision();
        }
        let watch = Watch { request, from: Cursor::at(from), announced: false, ready: true };
        self.watches.insert(req, watch);
        self.ready.push_back(req);
        Ok(())
    }

    /// Closes a watch; whether there was one.
    pub fn cancel(&mut self, req: ReqId) -> bool {
        self.watches.remove(&req).is_some()
    }

    /// The next answer, `None` until the state moves on. To be asked after every command that is applied, so that no compaction
    /// overtakes what a watch has not read. Watches with much to read take turns.
    pub fn poll(&mut self, state: &KvState) -> Option<(ReqId, Response)> {
        self.look(state);
        while let Some(req) = self.ready.pop_front() {
            let Some(watch) = self.watches.get_mut(&req) else { continue };
            match watch.next(state) {
                Ok(Some(response)) => {
                    self.ready.push_back(req);
                    return Some((req, response));
                }
                Ok(None) => watch.ready = false,
                Err(error) => {
                    self.watches.remove(&req);
                    return Some((req, Response::Error(error)));
                }
            }
        }
        None
    }

    /// Finds the watches that the newest changes concern.
    fn look(&mut self, state: &KvState) {
        if self.watches.is_empty() || state.revision() <= self.seen {
            return;
        }
        let next = Cursor::at(self.seen + 1);
        self.seen = state.revision();
        if next.revision() <= state.compacted() {
            let all: Vec<ReqId> = self.watches.keys().copied().collect();
            all.into_iter().for_each(|req| self.wake(req, next.clone()));
            return;
        }
        for (revision, key) in state.changes_since(&next) {
            let concerned = |watch: &Watch| !watch.ready && watch.request.range.contains(key);
            let concerned =
                self.watches.iter().filter(|(_, watch)| concerned(watch)).map(|(req, _)| *req);
            for req in concerned.collect::<Vec<_>>() {
                self.wake(req, Cursor::at(revision));
            }
        }
    }

    /// Lets a watch that has read everything before `from` read on from there.
    fn wake(&mut self, req: ReqId, from: Cursor) {
        if let Some(watch) = self.watches.get_mut(&req).filter(|watch| !watch.ready) {
            if from.revision() > watch.from.revision() {
                watch.from = from;
            }
            watch.ready = true;
            self.ready.push_back(req);
        }
    }
}

impl Watch {
    fn next(&mut self, state: &KvState) -> Result<Option<Response>, Error> {
        if !self.announced {
            self.announced = true;
            return Ok(Some(Response::Watch { revision: self.from.done(), events: Vec::new() }));
        }
        let WatchRequest { range, with_previous, .. } = &self.request;
        let (events, next) = state.events_since(range, &self.from, *with_previous, ANSWER_BYTES)?;
        self.from = next;
        if events.is_empty() {
            return Ok(None);
        }
        Ok(Some(Response::Watch { revision: self.from.done(), events }))
    }
}
