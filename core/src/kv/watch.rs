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
use crate::planted::{self, Bug};
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
            asked => asked - u64::from(planted::is(Bug::WatchRepeatsAtStart)),
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

    /// Closes all; whose they were.
    pub fn take_all(&mut self) -> impl Iterator<Item = ReqId> + use<> {
        self.ready.clear();
        std::mem::take(&mut self.watches).into_keys()
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
                let skipped = u64::from(planted::is(Bug::WatchSkipsOnWake));
                self.wake(req, Cursor::at(revision + skipped));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Event, KeyRange, PutRequest, TxnOp, TxnRequest, WriteOp};
    use crate::kv::command::{Action, Command};
    use crate::time::Wall;
    use bytes::Bytes;

    const REQ: ReqId = ReqId(7);

    fn apply(state: &mut KvState, op: WriteOp) {
        let action = Action::Write { session: None, op };
        state.apply(1, &Command { log_time_ms: 0, wall: Wall(0), action });
    }

    fn put(key: &str, value: impl Into<Bytes>) -> PutRequest {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), value.into());
        PutRequest { key, value, lease: 0, return_previous: false }
    }

    fn open(watches: &mut Watches, state: &KvState, key: &'static str, from_revision: Revision) {
        let request =
            WatchRequest { range: KeyRange::prefix(key), from_revision, with_previous: false };
        watches.open(REQ, request, state).unwrap();
    }

    fn poll(watches: &mut Watches, state: &KvState) -> Option<(Revision, Vec<Event>)> {
        match watches.poll(state)? {
            (REQ, Response::Watch { revision, events }) => Some((revision, events)),
            other => panic!("a watch said {other:?}"),
        }
    }

    #[test]
    fn compaction_of_what_does_not_concern_a_watch_leaves_it_running() {
        let (mut state, mut watches) = (KvState::new(), Watches::new());
        open(&mut watches, &state, "a", 0);
        assert_eq!(poll(&mut watches, &state), Some((0, vec![])));
        for _ in 0..5 {
            apply(&mut state, WriteOp::Put(put("b", "")));
            assert_eq!(poll(&mut watches, &state), None);
        }
        apply(&mut state, WriteOp::Compact { revision: 5 });
        apply(&mut state, WriteOp::Put(put("a", "")));
        let (revision, events) = poll(&mut watches, &state).unwrap();
        assert_eq!((revision, events.len()), (6, 1));
        assert_eq!(poll(&mut watches, &state), None);
    }

    #[test]
    fn a_watch_that_compaction_overtakes_says_so_and_ends() {
        let (mut state, mut watches) = (KvState::new(), Watches::new());
        open(&mut watches, &state, "a", 0);
        poll(&mut watches, &state);
        assert_eq!(poll(&mut watches, &state), None);
        apply(&mut state, WriteOp::Put(put("a", "1")));
        apply(&mut state, WriteOp::Put(put("a", "2")));
        apply(&mut state, WriteOp::Compact { revision: 1 });
        let compacted = Response::Error(Error::Compacted { asked: 1, oldest: 1 });
        assert_eq!(watches.poll(&state), Some((REQ, compacted)));
        assert_eq!(watches.poll(&state), None);
        assert!(watches.is_empty());
    }

    #[test]
    fn a_revision_too_large_for_one_answer_is_done_with_its_last_part() {
        let (mut state, mut watches) = (KvState::new(), Watches::new());
        let value = Bytes::from(vec![0; ANSWER_BYTES / 4]);
        let success = (0..10).map(|n| TxnOp::Put(put(&format!("a{n}"), value.clone()))).collect();
        apply(&mut state, WriteOp::Txn(TxnRequest { success, ..TxnRequest::default() }));
        apply(&mut state, WriteOp::Put(put("a", "")));
        open(&mut watches, &state, "a", 1);
        assert_eq!(poll(&mut watches, &state), Some((0, vec![])));
        let said: Vec<_> = std::iter::from_fn(|| poll(&mut watches, &state)).collect();
        let parts: Vec<_> = said.iter().map(|(done, events)| (*done, events.len())).collect();
        assert_eq!(parts, [(0, 4), (0, 4), (2, 3)]);
        let keys: Vec<_> =
            said.into_iter().flat_map(|(_, events)| events).map(|e| e.kv.key).collect();
        assert!(keys[..10].is_sorted() && keys[10] == "a");
    }
}
