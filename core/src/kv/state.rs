//! The replicated state: what a sequence of commands makes of nothing, on every replica alike.
//!
//! Applying is total: any command succeeds or yields a typed error, and no limit that nodes may set differently is looked at.
//! Every write that changes keys makes one new revision; the keys of all leases that end at one command go under one revision of
//! their own, before the command itself. A clone is a frozen view: it costs a few reference counts and never changes.

use super::command::{Action, Command, MemberChange};
use super::hash::StateHash;
use super::lease::Leases;
use super::members::Members;
use super::session::{Answer, Sessions};
use super::store::Store;
use crate::api::{
    Backups, Error, KeyRange, LeaseId, LeaseInfo, MemberInfo, Revision, SessionRef, WriteOp,
    WriteResult,
};
use crate::buffer;
use crate::kv::key::Key;
use crate::planted::{self, Bug};
use crate::time::Wall;
use bytes::BytesMut;

/// The whole state.
#[derive(Clone, Debug, Default)]
pub struct KvState {
    pub(super) store: Store,
    pub(super) leases: Leases,
    pub(super) sessions: Sessions,
    pub(super) members: Members,
    pub(super) log_time_ms: u64,
    pub(super) wall: Wall,
    pub(super) backups: Backups,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of a client's write.
    Write(Result<WriteResult, Error>),
    /// Of opening a session: its id.
    SessionOpened(u64),
    /// Log time moved.
    Ticked,
    /// Of what is done about backups.
    Backup(Result<(), Error>),
}

impl KvState {
    /// The state before the first command.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the command of the log entry at `index`. What it changed can be read with [`Self::events_since`].
    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        self.log_time_ms = self.log_time_ms.max(command.log_time_ms);
        self.wall = command.wall;
        self.end_due_leases();
        self.sessions.expire(self.log_time_ms);
        match &command.action {
            Action::Write { session: None, op } => Outcome::Write(self.write(index, op)),
            Action::Write { session: Some(session), op } => {
                Outcome::Write(self.write_once(index, session, op))
            }
            Action::SessionOpen => {
                Outcome::SessionOpened(self.sessions.open(index, self.log_time_ms))
            }
            Action::Tick => Outcome::Ticked,
            Action::Backup(op) => Outcome::Backup(self.apply_backup(index, op)),
        }
    }

    /// Applies a change of the member table.
    pub fn apply_members(&mut self, change: &MemberChange) {
        self.members.apply(change);
    }

    /// Every member, by number.
    pub fn members(&self) -> impl Iterator<Item = &MemberInfo> {
        self.members.iter()
    }

    /// A member by the operator's number.
    pub fn member(&self, member: u32) -> Option<&MemberInfo> {
        self.members.get(member)
    }

    /// The incarnation to give this member number next: one above the highest it ever had.
    pub fn next_incarnation(&self, member: u32) -> u32 {
        self.members.incarnation(member).map_or(0, |highest| {
            highest.saturating_add(u32::from(!planted::is(Bug::IncarnationNotRaised)))
        })
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.store.revision
    }

    /// The oldest readable revision. Events are readable after it.
    pub fn compacted(&self) -> Revision {
        self.store.compacted
    }

    /// The revision that made the change with this number among those retained, from 0; the newest one where there are not as many.
    pub fn revision_of_change(&self, number: usize) -> Revision {
        self.store.revision_of_change(number)
    }

    /// Log time in milliseconds.
    pub fn log_time_ms(&self) -> u64 {
        self.log_time_ms
    }

    /// The calendar stamp of the last command.
    pub fn wall(&self) -> Wall {
        self.wall
    }

    /// Live keys.
    pub fn keys(&self) -> u64 {
        self.store.keys()
    }

    /// Bytes of live keys and values.
    pub fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// Every lease, by id.
    pub fn leases(&self) -> Vec<LeaseInfo> {
        self.leases.infos(self.log_time_ms)
    }

    /// How many leases there are.
    pub fn lease_count(&self) -> u64 {
        self.leases.len() as u64
    }

    /// Log time at which the first lease ends: a command must be applied then, a tick if there is no other.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.leases.next_deadline_ms()
    }

    /// Makes what watches and compaction need to find changes. Without it the first that needs it, or the first write, waits for that.
    pub fn index_changes(&mut self) {
        self.store.index_changes();
    }

    /// Hash over everything.
    pub fn hash(&self) -> StateHash {
        let mut hash = self.store.hash();
        hash.combine(self.leases.hash());
        hash.combine(self.sessions.hash());
        hash.combine(self.members.hash());
        hash.add(&[
            b"T",
            &self.store.revision.to_le_bytes(),
            &self.store.compacted.to_le_bytes(),
            &self.log_time_ms.to_le_bytes(),
            &self.wall.0.to_le_bytes(),
        ]);
        if self.backups != Backups::default() {
            hash.add(&[b"B", &postcard_of(&self.backups)]);
        }
        hash
    }

    fn write_once(&mut self, index: u64, session: &SessionRef, op: &WriteOp) -> Answer {
        if let Some(answer) = self.sessions.begin(session, self.log_time_ms) {
            return answer;
        }
        let answer = self.write(index, op);
        self.sessions.keep(session, &answer, self.store.revision);
        answer
    }

    fn write(&mut self, index: u64, op: &WriteOp) -> Answer {
        match op {
            WriteOp::Put(put) => self.put_alone(put),
            WriteOp::Delete(delete) => self.delete_alone(delete),
            WriteOp::Txn(txn) => self.txn(txn),
            WriteOp::LeaseGrant { id, ttl_ms } => self.lease_grant(index, *id, *ttl_ms),
            WriteOp::LeaseRevoke { id } => self.lease_revoke(*id),
            WriteOp::LeaseKeepAlive { id } => {
                let ttl_ms = self.leases.keep_alive(*id, self.log_time_ms);
                self.lease_result(*id, ttl_ms.ok_or(Error::LeaseNotFound(*id))?)
            }
            WriteOp::Compact { revision } => {
                self.store.compact(*revision)?;
                Ok(WriteResult::Compact { compacted: *revision })
            }
        }
    }

    fn lease_grant(&mut self, index: u64, id: LeaseId, ttl_ms: u64) -> Answer {
        if self.leases.exists(id) {
            return Err(Error::LeaseExists(id));
        }
        let id = if id == 0 { self.leases.free_id(index) } else { id };
        self.leases.set(id, ttl_ms, self.log_time_ms.saturating_add(ttl_ms));
        self.lease_result(id, ttl_ms)
    }

    fn lease_revoke(&mut self, id: LeaseId) -> Answer {
        if !self.leases.exists(id) {
            return Err(Error::LeaseNotFound(id));
        }
        let keys = self.leases.end(id);
        self.delete_keys(&keys);
        self.lease_result(id, 0)
    }

    fn lease_result(&self, id: LeaseId, ttl_ms: u64) -> Answer {
        Ok(WriteResult::Lease { revision: self.store.revision, id, ttl_ms })
    }

    /// Ends every lease that is due; all their keys go under one revision.
    fn end_due_leases(&mut self) {
        let mut keys = Vec::new();
        while let Some(id) = self.leases.due(self.log_time_ms) {
            keys.append(&mut self.leases.end(id));
        }
        self.delete_keys(&keys);
    }

    fn delete_keys(&mut self, keys: &[Key]) {
        let at = self.store.revision + 1;
        keys.iter().for_each(|key| {
            self.delete_key(key, at);
        });
    }

    /// The live keys of a range, copied out so that they can be changed.
    pub(super) fn keys_in(&self, range: &KeyRange) -> Vec<Key> {
        self.store.live(range).map(|(key, _)| key.clone()).collect()
    }
}

fn postcard_of(backups: &Backups) -> BytesMut {
    let mut bytes = BytesMut::new();
    buffer::append(backups, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{DeleteRequest, PutRequest, RangeRequest};
    use crate::kv::{Builder, Cursor};

    fn write(state: &mut KvState, index: u64, log_time_ms: u64, op: WriteOp) -> Answer {
        let action = Action::Write { session: None, op };
        match state.apply(index, &Command { log_time_ms, wall: Wall(0), action }) {
            Outcome::Write(answer) => answer,
            other => panic!("a write was answered with {other:?}"),
        }
    }

    fn put(key: &'static str, value: &'static str, lease: LeaseId) -> WriteOp {
        let (key, value) = (key.into(), value.into());
        WriteOp::Put(PutRequest { key, value, lease, return_previous: false })
    }

    #[test]
    fn a_frozen_view_keeps_what_it_saw() {
        let mut state = KvState::new();
        write(&mut state, 1, 0, put("a", "1", 0)).unwrap();
        let view = state.clone();
        let frozen = (view.hash(), view.bytes());
        let delete = DeleteRequest { range: KeyRange::all(), return_previous: false };
        write(&mut state, 2, 0, WriteOp::Delete(delete)).unwrap();
        assert_eq!((state.keys(), state.revision()), (0, 2));
        let all = RangeRequest::new(KeyRange::all());
        assert_eq!(view.range(&all, 1 << 20).unwrap().count, 1);
        assert_eq!((view.hash(), view.bytes()), frozen);
        assert_ne!(state.hash(), frozen.0);
    }

    #[test]
    fn the_changes_of_many_keys_in_one_revision_are_counted_singly() {
        let mut state = KvState::new();
        write(&mut state, 1, 0, put("a", "1", 0)).unwrap();
        write(&mut state, 2, 0, put("b", "1", 0)).unwrap();
        let delete = DeleteRequest { range: KeyRange::all(), return_previous: false };
        write(&mut state, 3, 0, WriteOp::Delete(delete)).unwrap();
        write(&mut state, 4, 0, put("c", "1", 0)).unwrap();
        let revisions: Vec<Revision> = (0..6).map(|at| state.revision_of_change(at)).collect();
        assert_eq!(revisions, [1, 2, 3, 3, 4, 4]);
        write(&mut state, 5, 0, WriteOp::Compact { revision: 3 }).unwrap();
        assert_eq!(state.revision_of_change(0), 4);
    }

    /// The same state, read back; nothing needed its changes so far.
    fn read_back(state: &KvState) -> KvState {
        let mut builder = Builder::new();
        state.items().for_each(|item| builder.push(item).unwrap());
        builder.finish().unwrap()
    }

    #[test]
    fn a_state_that_is_read_back_finds_its_changes_whatever_comes_first() {
        let mut state = KvState::new();
        for (index, key) in (1..).zip(["a", "b", "c", "d", "b", "e"]) {
            write(&mut state, index, 0, put(key, "1", 0)).unwrap();
        }
        write(&mut state, 7, 0, WriteOp::Compact { revision: 2 }).unwrap();
        let delete = |range| DeleteRequest { range, return_previous: false };
        let firsts = [
            put("c", "2", 0),
            put("f", "2", 0),
            WriteOp::Delete(delete(KeyRange::prefix("c"))),
            WriteOp::Delete(delete(KeyRange::all())),
            WriteOp::Compact { revision: 4 },
        ];
        for first in firsts {
            let (mut early, mut late) = (state.clone(), read_back(&state));
            for state in [&mut early, &mut late] {
                write(state, 8, 0, first.clone()).unwrap();
            }
            let from = Cursor::at(if matches!(first, WriteOp::Compact { .. }) { 5 } else { 3 });
            let events = |state: &KvState| {
                state.events_since(&KeyRange::all(), &from, true, 1000).unwrap().0
            };
            assert_eq!(events(&late), events(&early), "after {first:?}");
            let compact = WriteOp::Compact { revision: early.revision() };
            for state in [&mut early, &mut late] {
                write(state, 9, 0, compact.clone()).unwrap();
            }
            assert_eq!(late.hash(), early.hash(), "after {first:?}");
        }
    }

    #[test]
    fn leases_end_when_due_and_not_before() {
        let mut state = KvState::new();
        write(&mut state, 1, 1000, WriteOp::LeaseGrant { id: 7, ttl_ms: 50 }).unwrap();
        write(&mut state, 2, 1000, put("a", "1", 7)).unwrap();
        assert_eq!(state.next_deadline_ms(), Some(1050));
        let tick = |log_time_ms| Command { log_time_ms, wall: Wall(0), action: Action::Tick };
        state.apply(3, &tick(1049));
        assert_eq!((state.keys(), state.revision()), (1, 1));
        state.apply(4, &tick(1050));
        assert_eq!((state.keys(), state.revision()), (0, 2));
        assert_eq!(state.next_deadline_ms(), None);
    }
}
