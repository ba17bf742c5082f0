//! What the key-value state should do, written to be obviously right rather than fast.
//!
//! Every version of every key is kept for ever in plain sorted maps; when a step of a transaction fails, whatever has its revision is
//! forgotten. Answers are not bounded in size here, so compare with small values only. The text of
//! [`Error::Invalid`] is not modelled: it is empty.

use raftkv_core::api::{
    Compare, CompareOp, CompareTarget, DeleteRequest, Error, Event, EventKind, KeyRange, KeyValue,
    LeaseId, LeaseInfo, PutRequest, RangeEnd, RangeRequest, RangeResponse, Revision, SessionRef,
    TxnOp, TxnOpResult, WriteOp, WriteResult,
};
use raftkv_core::kv::session::{SESSION_ANSWERS_MAX, SESSION_IDLE_MS, SESSIONS_MAX};
use raftkv_core::kv::{Action, Command, Outcome};
use std::collections::{BTreeMap, BTreeSet};

type Key = Vec<u8>;
type Answer = Result<WriteResult, Error>;

/// The model of the whole state, members apart.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    revision: Revision,
    compacted: Revision,
    log_time_ms: u64,
    /// Every change ever made, deletions as `None`, oldest first.
    history: BTreeMap<Key, Vec<(Revision, Option<KeyValue>)>>,
    /// Time to live and deadline.
    leases: BTreeMap<LeaseId, (u64, u64)>,
    sessions: BTreeMap<u64, Session>,
}

#[derive(Clone, Debug)]
struct Session {
    used_ms: u64,
    floor: u64,
    answers: BTreeMap<u64, Answer>,
}

impl Reference {
    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest readable revision.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// Live keys, and bytes of them and their values.
    pub fn size(&self) -> (u64, u64) {
        let live = self.live(&KeyRange::all(), self.revision);
        let bytes: usize = live.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        (live.len() as u64, bytes as u64)
    }

    /// Every lease.
    pub fn leases(&self) -> Vec<LeaseInfo> {
        let live = self.live(&KeyRange::all(), self.revision);
        let info = |(id, (ttl_ms, deadline_ms)): (&LeaseId, &(u64, u64))| LeaseInfo {
            id: *id,
            ttl_ms: *ttl_ms,
            remaining_ms: deadline_ms.saturating_sub(self.log_time_ms),
            keys: live.iter().filter(|kv| kv.lease == *id).count() as u64,
        };
        self.leases.iter().map(info).collect()
    }

    /// Applies a command.
    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        self.log_time_ms = self.log_time_ms.max(command.log_time_ms);
        let now = self.log_time_ms;
        let due: BTreeSet<LeaseId> =
            self.leases.iter().filter(|(_, (_, at))| *at <= now).map(|(id, _)| *id).collect();
        self.end_leases(&due);
        self.sessions.retain(|_, session| session.used_ms.saturating_add(SESSION_IDLE_MS) > now);
        match &command.action {
            Action::Tick => Outcome::Ticked,
            // Backups touch no key, and have rules of their own; this model is about keys.
            Action::Backup(_) => Outcome::Backup(Ok(())),
            Action::SessionOpen => Outcome::SessionOpened(self.session_open(index)),
            Action::Write { session: None, op } => Outcome::Write(self.write(index, op)),
            Action::Write { session: Some(session), op } => {
                Outcome::Write(self.write_once(index, session, op))
            }
        }
    }

    /// Reads a range.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let asked = if request.revision == 0 { self.revision } else { request.revision };
        if asked > self.revision {
            return Err(Error::FutureRevision { asked, newest: self.revision });
        }
        if asked < self.compacted {
            return Err(Error::Compacted { asked, oldest: self.compacted });
        }
        let mut kvs = self.live(&request.range, asked);
        let count = kvs.len() as u64;
        if request.limit != 0 {
            kvs.truncate(request.limit as usize);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        if request.count_only {
            kvs.clear();
        }
        let more = !request.count_only && (kvs.len() as u64) < count;
        Ok(RangeResponse { revision: self.revision, kvs, count, more })
    }

    /// All events of a range from a revision on.
    pub fn events(
        &self,
        range: &KeyRange,
        from: Revision,
        with_previous: bool,
    ) -> Result<Vec<Event>, Error> {
        if from <= self.compacted {
            return Err(Error::Compacted { asked: from, oldest: self.compacted });
        }
        Ok(self.events_ever(range, from, with_previous))
    }

    /// The same with what was compacted since.
    pub fn events_ever(&self, range: &KeyRange, from: Revision, with_previous: bool) -> Vec<Event> {
        let mut events = Vec::new();
        for (key, versions) in self.history.iter().filter(|(key, _)| range.contains(key)) {
            let mut previous = None;
            for (revision, kv) in versions {
                if *revision >= from {
                    events.push(event(key, *revision, kv, &previous, with_previous));
                }
                previous.clone_from(kv);
            }
        }
        events.sort_by(|a, b| (a.kv.mod_revision, &a.kv.key).cmp(&(b.kv.mod_revision, &b.kv.key)));
        events
    }

    fn live(&self, range: &KeyRange, at: Revision) -> Vec<KeyValue> {
        let visible = |versions: &Vec<(Revision, Option<KeyValue>)>| {
            versions.iter().rev().find(|(revision, _)| *revision <= at)?.1.clone()
        };
        let in_range = self.history.iter().filter(|(key, _)| range.contains(key));
        in_range.filter_map(|(_, versions)| visible(versions)).collect()
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        self.history.get(key)?.last()?.1.clone()
    }

    fn session_open(&mut self, index: u64) -> u64 {
        while self.sessions.len() >= SESSIONS_MAX {
            let idle = self.sessions.iter().min_by_key(|(id, session)| (session.used_ms, **id));
            let id = *idle.expect("there are many").0;
            self.sessions.remove(&id);
        }
        let id = (index..).find(|id| !self.sessions.contains_key(id)).expect("some number is free");
        let session = Session { used_ms: self.log_time_ms, floor: 1, answers: BTreeMap::new() };
        self.sessions.insert(id, session);
        id
    }

    fn write_once(&mut self, index: u64, write: &SessionRef, op: &WriteOp) -> Answer {
        let SessionRef { session: id, sequence, acknowledged_below } = *write;
        let session = self.sessions.get_mut(&id).ok_or(Error::SessionUnknown(id))?;
        session.used_ms = self.log_time_ms;
        session.floor = session.floor.max(acknowledged_below);
        let floor = session.floor;
        session.answers.retain(|sequence, _| *sequence >= floor);
        if let Some(answer) = session.answers.get(&sequence) {
            return answer.clone();
        }
        if sequence < floor {
            return Err(Error::SequenceForgotten { session: id, sequence });
        }
        if session.answers.len() >= SESSION_ANSWERS_MAX {
            return Err(Error::Busy {
                what: format!("session {id} has {SESSION_ANSWERS_MAX} unacknowledged answers"),
            });
        }
        let answer = self.write(index, op);
        let session = self.sessions.get_mut(&id).expect("a write ends no session");
        session.answers.insert(sequence, answer.clone());
        answer
    }

    fn write(&mut self, index: u64, op: &WriteOp) -> Answer {
        match op {
            WriteOp::Put(_) | WriteOp::Delete(_) | WriteOp::Txn(_) => self.change(op),
            WriteOp::LeaseGrant { id, ttl_ms } => {
                if self.leases.contains_key(id) {
                    return Err(Error::LeaseExists(*id));
                }
                let free = (index.max(1)..).find(|id| !self.leases.contains_key(id));
                let id = if *id == 0 { free.expect("some id is free") } else { *id };
                self.lease_start(id, *ttl_ms);
                Ok(WriteResult::Lease { revision: self.revision, id, ttl_ms: *ttl_ms })
            }
            WriteOp::LeaseRevoke { id } => {
                self.leases.get(id).ok_or(Error::LeaseNotFound(*id))?;
                self.end_leases(&BTreeSet::from([*id]));
                Ok(WriteResult::Lease { revision: self.revision, id: *id, ttl_ms: 0 })
            }
            WriteOp::LeaseKeepAlive { id } => {
                let (ttl_ms, _) = *self.leases.get(id).ok_or(Error::LeaseNotFound(*id))?;
                self.lease_start(*id, ttl_ms);
                Ok(WriteResult::Lease { revision: self.revision, id: *id, ttl_ms })
            }
            WriteOp::Compact { revision: asked } => {
                if *asked > self.revision {
                    return Err(Error::FutureRevision { asked: *asked, newest: self.revision });
                }
                if *asked < self.compacted {
                    return Err(Error::Compacted { asked: *asked, oldest: self.compacted });
                }
                self.compacted = *asked;
                Ok(WriteResult::Compact { compacted: *asked })
            }
        }
    }

    fn lease_start(&mut self, id: LeaseId, ttl_ms: u64) {
        self.leases.insert(id, (ttl_ms, self.log_time_ms.saturating_add(ttl_ms)));
    }

    fn end_leases(&mut self, ended: &BTreeSet<LeaseId>) {
        if ended.is_empty() {
            return;
        }
        self.leases.retain(|id, _| !ended.contains(id));
        let at = self.revision + 1;
        for kv in self.live(&KeyRange::all(), self.revision) {
            if ended.contains(&kv.lease) {
                self.record(&kv.key, at, None);
            }
        }
    }

    /// Puts, deletes and transactions: all of it happens, or nothing.
    fn change(&mut self, op: &WriteOp) -> Answer {
        let at = self.revision + 1;
        let result = self.try_change(op, at);
        if result.is_err() {
            self.forget(at);
        }
        result
    }

    fn try_change(&mut self, op: &WriteOp, at: Revision) -> Answer {
        Ok(match op {
            WriteOp::Put(put) => {
                let previous = self.put(put, at)?;
                WriteResult::Put { revision: self.revision, previous }
            }
            WriteOp::Delete(delete) => {
                let (deleted, previous) = self.delete(delete, at);
                WriteResult::Delete { revision: self.revision, deleted, previous }
            }
            WriteOp::Txn(txn) => {
                let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
                let ops = if succeeded { &txn.success } else { &txn.failure };
                check_written_once(ops)?;
                let mut results = Vec::new();
                for op in ops {
                    results.push(self.step(op, at)?);
                }
                WriteResult::Txn { revision: self.revision, succeeded, results }
            }
            _ => unreachable!("only called for changes of keys"),
        })
    }

    /// As if nothing had been written at this revision, the newest.
    fn forget(&mut self, at: Revision) {
        self.revision = at - 1;
        for versions in self.history.values_mut() {
            versions.retain(|(revision, _)| *revision < at);
        }
        self.history.retain(|_, versions| !versions.is_empty());
    }

    fn step(&mut self, op: &TxnOp, at: Revision) -> Result<TxnOpResult, Error> {
        Ok(match op {
            TxnOp::Range(request) if request.revision == at => {
                return Err(Error::FutureRevision { asked: at, newest: at - 1 });
            }
            TxnOp::Range(request) => {
                TxnOpResult::Range(self.range(request).map_err(|error| match error {
                    Error::FutureRevision { asked, .. } => {
                        Error::FutureRevision { asked, newest: at - 1 }
                    }
                    error => error,
                })?)
            }
            TxnOp::Put(put) => TxnOpResult::Put(self.put(put, at)?),
            TxnOp::Delete(delete) => {
                let (deleted, previous) = self.delete(delete, at);
                TxnOpResult::Delete { deleted, previous }
            }
        })
    }

    fn put(&mut self, put: &PutRequest, at: Revision) -> Result<Option<KeyValue>, Error> {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(Error::LeaseNotFound(put.lease));
        }
        let old = self.get(&put.key);
        let new = KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: old.as_ref().map_or(at, |old| old.create_revision),
            mod_revision: at,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease: put.lease,
        };
        self.record(&put.key, at, Some(new));
        Ok(old.filter(|_| put.return_previous))
    }

    fn delete(&mut self, delete: &DeleteRequest, at: Revision) -> (u64, Vec<KeyValue>) {
        let mut old = self.live(&delete.range, Revision::MAX);
        let deleted = old.len() as u64;
        old.iter().for_each(|kv| self.record(&kv.key, at, None));
        if !delete.return_previous {
            old.clear();
        }
        (deleted, old)
    }

    fn record(&mut self, key: &[u8], at: Revision, kv: Option<KeyValue>) {
        self.revision = at;
        self.history.entry(key.to_vec()).or_default().push((at, kv));
    }

    fn holds(&self, compare: &Compare) -> bool {
        let live = self.live(&compare.range, self.revision);
        if live.is_empty() {
            return key_holds(compare, None);
        }
        live.iter().all(|kv| key_holds(compare, Some(kv)))
    }
}

fn check_written_once(ops: &[TxnOp]) -> Result<(), Error> {
    let puts: Vec<&PutRequest> = ops
        .iter()
        .filter_map(|op| if let TxnOp::Put(put) = op { Some(put) } else { None })
        .collect();
    let ranges = ops.iter().filter_map(|op| match op {
        TxnOp::Put(put) => Some(KeyRange { start: put.key.clone(), end: RangeEnd::Single }),
        TxnOp::Delete(delete) => Some(delete.range.clone()),
        TxnOp::Range(_) => None,
    });
    let covered: usize =
        ranges.map(|range| puts.iter().filter(|put| range.contains(&put.key)).count()).sum();
    // Each put is covered by itself; anything beyond that writes its key again.
    if covered > puts.len() { Err(Error::Invalid(String::new())) } else { Ok(()) }
}

fn event(
    key: &[u8],
    mod_revision: Revision,
    kv: &Option<KeyValue>,
    previous: &Option<KeyValue>,
    with_previous: bool,
) -> Event {
    let deleted = KeyValue {
        key: key.to_vec().into(),
        value: Default::default(),
        create_revision: 0,
        mod_revision,
        version: 0,
        lease: 0,
    };
    Event {
        kind: if kv.is_some() { EventKind::Put } else { EventKind::Delete },
        kv: kv.clone().unwrap_or(deleted),
        previous: previous.clone().filter(|_| with_previous),
    }
}

fn key_holds(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    fn related<T: Ord>(op: CompareOp, key: T, request: T) -> bool {
        match op {
            CompareOp::Equal => key == request,
            CompareOp::NotEqual => key != request,
            CompareOp::Greater => key > request,
            CompareOp::Less => key < request,
        }
    }
    match &compare.target {
        CompareTarget::Value(value) => kv.is_some_and(|kv| related(compare.op, &kv.value, value)),
        CompareTarget::Version(version) => {
            related(compare.op, kv.map_or(0, |kv| kv.version), *version)
        }
        CompareTarget::CreateRevision(at) => {
            related(compare.op, kv.map_or(0, |kv| kv.create_revision), *at)
        }
        CompareTarget::ModRevision(at) => {
            related(compare.op, kv.map_or(0, |kv| kv.mod_revision), *at)
        }
        CompareTarget::Lease(lease) => related(compare.op, kv.map_or(0, |kv| kv.lease), *lease),
    }
}
