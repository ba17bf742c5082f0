//! Reading: ranges of keys at any readable revision, and the events that led from one revision to another.

use super::key::Key;
use super::state::KvState;
use super::store::Stored;
use crate::api::{
    Error, Event, EventKind, KeyRange, KeyValue, RangeRequest, RangeResponse, Revision,
};
use std::ops::Bound;

/// What an answer's entry costs beside its key and value, roughly.
const ENTRY_BYTES: usize = 32;

/// A place in the sequence of all changes, from which events are read on.
#[derive(Clone, Debug)]
pub struct Cursor {
    revision: Revision,
    /// Where a revision too large for one answer was left.
    after: Option<Key>,
}

impl Cursor {
    /// Before the first change of `revision`.
    pub fn at(revision: Revision) -> Self {
        Cursor { revision, after: None }
    }

    /// The newest revision that lies wholly behind.
    pub fn done(&self) -> Revision {
        self.revision.saturating_sub(1)
    }

    /// The revision whose changes, or some of them, are still to come.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

impl KvState {
    /// Reads a range. At most about `range_bytes` are answered (one key always is); `more` says that there is more.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::FutureRevision`].
    pub fn range(
        &self,
        request: &RangeRequest,
        range_bytes: usize,
    ) -> Result<RangeResponse, Error> {
        self.check_readable(request.revision)?;
        Ok(self.read(request, range_bytes).0)
    }

    /// The live keys of a range with their values, in order.
    pub fn live(&self, range: &KeyRange) -> impl Iterator<Item = KeyValue> {
        self.store.live(range).map(|(key, stored)| stored.to_kv(key, true))
    }

    /// Events of `range` from `from` on, oldest first, and where to go on: at the revision after the newest when nothing is
    /// left. Ends with a whole revision once there are about `bytes_max`; a single revision larger than that is cut.
    ///
    /// # Errors
    /// [`Error::Compacted`] when events from there on are no longer known.
    pub fn events_since(
        &self,
        range: &KeyRange,
        from: &Cursor,
        with_previous: bool,
        bytes_max: usize,
    ) -> Result<(Vec<Event>, Cursor), Error> {
        if from.revision <= self.store.compacted {
            return Err(Error::Compacted { asked: from.revision, oldest: self.store.compacted });
        }
        let mut events: Vec<Event> = Vec::new();
        let mut bytes = 0;
        let mut whole = 0;
        for (revision, key) in self.changes_since(from).filter(|(_, key)| range.contains(key)) {
            let last = events.last().map(|event| event.kv.mod_revision);
            if last.is_some_and(|last| last != revision) {
                whole = events.len();
            }
            if bytes >= bytes_max {
                let next = if whole > 0 {
                    events.truncate(whole);
                    Cursor::at(events[whole - 1].kv.mod_revision + 1)
                } else {
                    let after = events.last().map(|event| Key::new(&event.kv.key));
                    Cursor { revision, after }
                };
                return Ok((events, next));
            }
            let event = self.event(key, revision, with_previous);
            bytes += event_bytes(&event);
            events.push(event);
        }
        Ok((events, Cursor::at(from.revision.max(self.store.revision + 1))))
    }

    /// What changed from `from` on, in order of revision and key.
    pub(super) fn changes_since(&self, from: &Cursor) -> impl Iterator<Item = (Revision, &Key)> {
        let start = match &from.after {
            Some(key) => Bound::Excluded((from.revision, key.clone())),
            None => Bound::Included((from.revision, Key::EMPTY)),
        };
        self.store.changes(start.as_ref()).map(|(revision, key)| (*revision, key))
    }

    /// Whether a read at `revision` (0 for the newest) can be answered.
    pub(super) fn check_readable(&self, revision: Revision) -> Result<(), Error> {
        let (newest, oldest) = (self.store.revision, self.store.compacted);
        if revision > newest {
            return Err(Error::FutureRevision { asked: revision, newest });
        }
        if revision != 0 && revision < oldest {
            return Err(Error::Compacted { asked: revision, oldest });
        }
        Ok(())
    }

    /// Reads at a revision that was checked; also how many bytes the answer takes.
    pub(super) fn read(
        &self,
        request: &RangeRequest,
        range_bytes: usize,
    ) -> (RangeResponse, usize) {
        let mut page = Page::new(request, range_bytes);
        if request.revision == 0 || request.revision == self.store.revision {
            if request.count_only && request.range == KeyRange::all() {
                page.count = self.store.keys();
            } else {
                self.store.live(&request.range).for_each(|(key, stored)| page.see(key, stored));
            }
        } else {
            let visit = |key, stored| page.see(key, stored);
            self.store.visit_at(&request.range, request.revision, visit);
        }
        let more = !request.count_only && page.count > page.kvs.len() as u64;
        let Page { kvs, count, bytes, .. } = page;
        (RangeResponse { revision: self.store.revision, kvs, count, more }, bytes)
    }

    fn event(&self, key: &Key, revision: Revision, with_previous: bool) -> Event {
        let stored = self.store.made_by(key, revision).expect("each change has its version");
        let previous = with_previous.then(|| self.store.at(key, revision - 1)).flatten();
        Event {
            kind: if stored.value.is_some() { EventKind::Put } else { EventKind::Delete },
            kv: stored.to_kv(key, true),
            previous: previous.map(|stored| stored.to_kv(key, true)),
        }
    }
}

/// An answer being filled.
struct Page<'a> {
    request: &'a RangeRequest,
    range_bytes: usize,
    kvs: Vec<KeyValue>,
    count: u64,
    bytes: usize,
    full: bool,
}

impl<'a> Page<'a> {
    fn new(request: &'a RangeRequest, range_bytes: usize) -> Self {
        let full = request.count_only;
        Page { request, range_bytes, kvs: Vec::new(), count: 0, bytes: 0, full }
    }

    fn see(&mut self, key: &Key, stored: &Stored) {
        self.count += 1;
        if self.full {
            return;
        }
        let value_bytes = if self.request.keys_only { 0 } else { stored.value_len() };
        let bytes = ENTRY_BYTES + key.len() + value_bytes;
        if !self.kvs.is_empty() && self.bytes + bytes > self.range_bytes {
            self.full = true;
            return;
        }
        self.bytes += bytes;
        self.kvs.push(stored.to_kv(key, !self.request.keys_only));
        self.full = self.kvs.len() as u64 == self.request.limit;
    }
}

fn event_bytes(event: &Event) -> usize {
    let kv_bytes = |kv: &KeyValue| ENTRY_BYTES + kv.key.len() + kv.value.len();
    kv_bytes(&event.kv) + event.previous.as_ref().map_or(0, kv_bytes)
}
