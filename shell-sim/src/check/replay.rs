//! Snapshot equals replay: the applied log, replayed from the beginning by one machine that never stops, leads to the state hash that
//! nodes had at the same index, however often they were restarted, and whatever snapshots they started from.
//!
//! The replay also is the witness for the other checkers: what each write should have answered, and the state at each revision.

use super::Violation;
use raftkv_core::api::{Event, KeyRange, LeaseId, LeaseInfo, Revision, WriteOp};
use raftkv_core::consensus::ConfChange;
use raftkv_core::kv::{Action, Command, Cursor, KvState, MemberChange, Outcome, StateHash};
use raftkv_core::log::{Entry, EntryKind};
use std::collections::BTreeMap;

/// The log and what came of it.
#[derive(Debug)]
pub struct Replay {
    /// Every entry that holds a command.
    pub steps: Vec<Step>,
    /// Every change of a key, in order, with the version before.
    pub events: Vec<Event>,
    /// State hash and revision after each entry.
    pub hashes: BTreeMap<u64, (StateHash, Revision)>,
    /// The state as it was when each revision was made.
    pub states: BTreeMap<Revision, KvState>,
}

/// One command and what came of it.
#[derive(Debug)]
pub struct Step {
    /// Its place in the log.
    pub index: u64,
    /// What it was.
    pub command: Command,
    /// What it answered.
    pub outcome: Outcome,
    /// The revision before.
    pub revision_before: Revision,
    /// The revision after.
    pub revision: Revision,
    /// Leases whose time was up.
    pub leases_expired: Vec<LeaseId>,
}

/// Replays `log` on the state at `start`, comparing with the hashes that `seen` gives for some indexes.
pub fn replay(
    start: u64,
    genesis: KvState,
    log: &[&Entry],
    seen: impl Fn(u64) -> Option<StateHash>,
) -> Result<Replay, Violation> {
    let mut state = genesis;
    let states = BTreeMap::from([(state.revision(), state.clone())]);
    let hashes = BTreeMap::from([(start, (state.hash(), state.revision()))]);
    let mut replay = Replay { steps: Vec::new(), events: Vec::new(), hashes, states };
    for (next, entry) in (start + 1..).zip(log.iter().filter(|entry| entry.index > start)) {
        if entry.index != next {
            let detail =
                format!("nobody wrote entry {next}, but entry {} was applied", entry.index);
            return Err(Violation::new("replay", detail));
        }
        apply(&mut state, entry, &mut replay)?;
        replay.hashes.insert(entry.index, (state.hash(), state.revision()));
        if let Some(hash) = seen(entry.index)
            && hash != state.hash()
        {
            let detail = format!(
                "after entry {} nodes have state {hash}, the replay has {}",
                entry.index,
                state.hash()
            );
            return Err(Violation::new("snapshot equals replay", detail));
        }
    }
    Ok(replay)
}

fn apply(state: &mut KvState, entry: &Entry, replay: &mut Replay) -> Result<(), Violation> {
    let bad = |what: &str| Violation::new("replay", format!("entry {} {what}", entry.index));
    if entry.data.is_empty() {
        return Ok(());
    }
    if entry.kind == EntryKind::Membership {
        let change =
            ConfChange::decode(&entry.data).ok_or_else(|| bad("is no membership change"))?;
        if !change.change.is_empty() {
            let change = MemberChange::decode(&change.change)
                .map_err(|_| bad("holds no change of members"))?;
            state.apply_members(&change);
        }
        return Ok(());
    }
    let command = Command::decode(&entry.data).map_err(|_| bad("holds no command"))?;
    let revision_before = state.revision();
    let leases = state.leases();
    let outcome = state.apply(entry.index, &command);
    let revision = state.revision();
    if revision > revision_before {
        let (events, _) = state
            .events_since(&KeyRange::all(), &Cursor::at(revision_before + 1), true, usize::MAX)
            .map_err(|error| bad(&format!("makes events unreadable: {error}")))?;
        replay.events.extend(events);
        replay.states.insert(revision, state.clone());
    }
    let leases_expired =
        if leases.is_empty() { Vec::new() } else { expired(&leases, state, &command) };
    let index = entry.index;
    replay.steps.push(Step { index, command, outcome, revision_before, revision, leases_expired });
    Ok(())
}

/// Leases that were there before and are not now, but for one that was revoked.
fn expired(before: &[LeaseInfo], state: &KvState, command: &Command) -> Vec<LeaseId> {
    let revoked = match &command.action {
        Action::Write { op: WriteOp::LeaseRevoke { id }, .. } => *id,
        _ => 0,
    };
    let now = state.leases();
    let gone = before.iter().filter(|lease| now.iter().all(|other| other.id != lease.id));
    gone.map(|lease| lease.id).filter(|id| *id != revoked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::api::PutRequest;
    use raftkv_core::time::Wall;

    fn put(index: u64, value: &'static str) -> Entry {
        let put =
            PutRequest { key: "k".into(), value: value.into(), lease: 0, return_previous: false };
        let action = Action::Write { session: None, op: WriteOp::Put(put) };
        let command = Command { log_time_ms: index, wall: Wall(0), action };
        Entry { index, term: 1, kind: EntryKind::Normal, data: command.encode() }
    }

    #[test]
    fn another_state_and_a_gap_are_noticed() {
        let entries = [put(1, "a"), put(2, "b"), put(3, "c")];
        let log: Vec<&Entry> = entries.iter().collect();
        let replayed = replay(0, KvState::new(), &log, |_| None).unwrap();
        assert_eq!((replayed.steps.len(), replayed.events.len()), (3, 3));
        let honest = replayed.states.values().last().map(KvState::hash);
        let seen = |at: u64| move |index| if index == at { honest } else { None };
        assert!(replay(0, KvState::new(), &log, seen(3)).is_ok());
        assert!(replay(0, KvState::new(), &log, seen(2)).is_err());
        assert!(replay(0, KvState::new(), &[&entries[0], &entries[2]], |_| None).is_err());
    }
}
