//! Client sessions: a write that is sent again is answered again, not applied again.
//!
//! Each session numbers its writes; the state keeps the answer to every number the client has not acknowledged. A client that
//! never acknowledges is refused ([`Error::Busy`]) rather than made to forget; an answer too large to keep is kept in short:
//! as its revision, or as a refusal of the same kind. Sessions idle for [`SESSION_IDLE_MS`] of log time end, and the one unused for longest makes room for a new one
//! when there are [`SESSIONS_MAX`].
//! Source: Ongaro's thesis §6.3 (linearizable semantics).

use super::hash::StateHash;
use crate::api::{Error, Revision, SessionRef, WriteResult};
use crate::planted::{self, Bug};
use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use std::ops::Bound;

/// A session that is not used for this much log time ends. A client must not retry a write for longer.
pub const SESSION_IDLE_MS: u64 = 3_600_000;
/// Sessions kept at once.
pub const SESSIONS_MAX: usize = 65_536;
/// Answers one session may have unacknowledged.
pub const SESSION_ANSWERS_MAX: usize = 1_024;
/// Bytes of answers kept for one session; beyond it they are kept in short.
pub const SESSION_BYTES_MAX: usize = 64 << 10;
/// No answer in short is longer.
const SHORT_ANSWER_BYTES_MAX: usize = 32;

/// A write's outcome, as the client gets it.
pub(super) type Answer = Result<WriteResult, Error>;

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) used_ms: u64,
    pub(super) floor: u64,
    pub(super) answers: OrdMap<u64, Bytes>,
    bytes: usize,
}

/// All sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    sessions: OrdMap<u64, Session>,
    by_use: OrdSet<(u64, u64)>,
    hash: StateHash,
}

impl Sessions {
    /// Hash over all sessions and their answers.
    pub(super) fn hash(&self) -> StateHash {
        self.hash
    }

    /// The first session after the one of this id.
    pub(super) fn after(&self, after: Option<u64>) -> Option<(u64, &Session)> {
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.sessions.range::<_, u64>((from, Bound::Unbounded));
        rest.next().map(|(id, session)| (*id, session))
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Opens a session named by the index of its entry, or the next free number.
    pub(super) fn open(&mut self, index: u64, log_time_ms: u64) -> u64 {
        while self.sessions.len() >= SESSIONS_MAX
            && let Some((_, id)) = self.by_use.get_min().copied()
        {
            self.close(id);
        }
        let mut id = index;
        while self.sessions.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        self.load(id, log_time_ms, 1, OrdMap::new());
        id
    }

    /// Ends the sessions that have been idle for too long.
    pub(super) fn expire(&mut self, log_time_ms: u64) {
        while let Some((used_ms, id)) = self.by_use.get_min().copied()
            && used_ms.saturating_add(SESSION_IDLE_MS) <= log_time_ms
        {
            self.close(id);
        }
    }

    /// Notes that a session is used. The answer when the write must not be done: it was done before, or cannot be.
    pub(super) fn begin(&mut self, write: &SessionRef, log_time_ms: u64) -> Option<Answer> {
        let SessionRef { session: id, sequence, acknowledged_below } = *write;
        let Some(mut session) = self.sessions.remove(&id) else {
            return Some(Err(Error::SessionUnknown(id)));
        };
        self.by_use.remove(&(session.used_ms, id));
        self.hash.remove(&[&head(id, session.used_ms, session.floor)]);
        session.used_ms = log_time_ms;
        session.floor = session.floor.max(acknowledged_below);
        if planted::is(Bug::SessionForgetsAnswers) {
            session.floor = session.floor.max(sequence);
        }
        while let Some((old, bytes)) = session.answers.get_min().cloned()
            && old < session.floor
        {
            session.answers.remove(&old);
            session.bytes -= bytes.len();
            self.hash.remove(&[&answer_head(id, old), &bytes]);
        }
        self.hash.add(&[&head(id, session.used_ms, session.floor)]);
        self.by_use.insert((session.used_ms, id));
        let answer = match session.answers.get(&sequence) {
            Some(_) if planted::is(Bug::RetryAppliedAgain) => None,
            Some(bytes) => Some(decode(bytes)),
            None if sequence < session.floor => {
                Some(Err(Error::SequenceForgotten { session: id, sequence }))
            }
            None if session.answers.len() >= SESSION_ANSWERS_MAX => Some(Err(Error::Busy {
                what: format!("session {id} has {SESSION_ANSWERS_MAX} unacknowledged answers"),
            })),
            None => None,
        };
        self.sessions.insert(id, session);
        answer
    }

    /// Keeps the answer to a write that [`Self::begin`] let through.
    pub(super) fn keep(&mut self, write: &SessionRef, answer: &Answer, revision: Revision) {
        let Some(session) = self.sessions.get_mut(&write.session) else { return };
        let mut bytes = encode(answer);
        if session.bytes + bytes.len() > SESSION_BYTES_MAX {
            bytes = encode(&in_short(answer, revision));
        }
        session.bytes += bytes.len();
        self.hash.add(&[&answer_head(write.session, write.sequence), &bytes]);
        session.answers.insert(write.sequence, bytes);
    }

    /// Takes a session as it was, with its answers' bytes.
    pub(super) fn load(&mut self, id: u64, used_ms: u64, floor: u64, answers: OrdMap<u64, Bytes>) {
        self.hash.add(&[&head(id, used_ms, floor)]);
        for (sequence, bytes) in &answers {
            self.hash.add(&[&answer_head(id, *sequence), bytes]);
        }
        let bytes = answers.values().map(Bytes::len).sum();
        self.by_use.insert((used_ms, id));
        self.sessions.insert(id, Session { used_ms, floor, answers, bytes });
    }

    fn close(&mut self, id: u64) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.by_use.remove(&(session.used_ms, id));
        self.hash.remove(&[&head(id, session.used_ms, session.floor)]);
        for (sequence, bytes) in &session.answers {
            self.hash.remove(&[&answer_head(id, *sequence), bytes]);
        }
    }
}

/// What is kept of an answer when there is no room for its words. A refusal stays one: a retry must not hear that it was done.
fn in_short(answer: &Answer, revision: Revision) -> Answer {
    let words = || "as before".to_owned();
    Err(match answer {
        Ok(_) => return Ok(WriteResult::AppliedBefore { revision }),
        Err(Error::Invalid(_)) => Error::Invalid(words()),
        Err(Error::TooLarge { got, limit, .. }) => {
            Error::TooLarge { what: "it".into(), got: *got, limit: *limit }
        }
        Err(Error::Busy { .. }) => Error::Busy { what: words() },
        Err(Error::NotFound(_)) => Error::NotFound(words()),
        Err(Error::Conflict(_)) => Error::Conflict(words()),
        Err(Error::Refused(_)) => Error::Refused(words()),
        Err(Error::Unavailable(_)) => Error::Unavailable(words()),
        Err(Error::NotLeader { .. }) => Error::NotLeader { leader: None },
        Err(
            error @ (Error::Unknown
            | Error::Compacted { .. }
            | Error::FutureRevision { .. }
            | Error::LeaseNotFound(_)
            | Error::LeaseExists(_)
            | Error::SessionUnknown(_)
            | Error::SequenceForgotten { .. }),
        ) => error.clone(),
    })
}

/// The bytes of a kept answer: postcard.
fn encode(answer: &Answer) -> Bytes {
    // Serializing these plain types into memory cannot fail.
    postcard::to_stdvec(answer).expect("answers serialize").into()
}

/// Why answers read from elsewhere cannot be kept.
pub(super) fn check_answers<B: AsRef<[u8]>>(answers: &[(u64, B)]) -> Result<(), &'static str> {
    let bytes: usize = answers.iter().map(|(_, bytes)| bytes.as_ref().len()).sum();
    let bytes_max = SESSION_BYTES_MAX + SESSION_ANSWERS_MAX * SHORT_ANSWER_BYTES_MAX;
    if answers.len() > SESSION_ANSWERS_MAX || bytes > bytes_max {
        return Err("the session keeps too many answers");
    }
    if answers.iter().any(|(_, bytes)| postcard::from_bytes::<Answer>(bytes.as_ref()).is_err()) {
        return Err("a kept answer does not decode");
    }
    Ok(())
}

fn decode(bytes: &[u8]) -> Answer {
    postcard::from_bytes(bytes).expect("kept answers were encoded here or checked when loaded")
}

/// What the hash sees of a session: `S`, id, last use, floor, little endian.
fn head(id: u64, used_ms: u64, floor: u64) -> [u8; 25] {
    let mut bytes = [b'S'; 25];
    bytes[1..9].copy_from_slice(&id.to_le_bytes());
    bytes[9..17].copy_from_slice(&used_ms.to_le_bytes());
    bytes[17..25].copy_from_slice(&floor.to_le_bytes());
    bytes
}

/// What the hash sees of a kept answer before its bytes: `A`, session, sequence, little endian.
fn answer_head(id: u64, sequence: u64) -> [u8; 17] {
    let mut bytes = [b'A'; 17];
    bytes[1..9].copy_from_slice(&id.to_le_bytes());
    bytes[9..17].copy_from_slice(&sequence.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str =
        "a reason of the kind that nobody would want to keep for every client there is";

    fn write(sequence: u64) -> SessionRef {
        SessionRef { session: 7, sequence, acknowledged_below: 1 }
    }

    /// What a retry is told, once the session has no room left.
    fn retried(answer: &Answer) -> Answer {
        let mut sessions = Sessions::default();
        sessions.open(7, 0);
        for sequence in 1..=SESSION_ANSWERS_MAX as u64 {
            assert_eq!(sessions.begin(&write(sequence), 0), None);
            sessions.keep(&write(sequence), answer, 5);
        }
        let (_, session) = sessions.after(None).unwrap();
        let kept: Vec<(u64, Bytes)> = session.answers.clone().into_iter().collect();
        assert_eq!(check_answers(&kept), Ok(()), "a snapshot of it can be read");
        sessions.begin(&write(SESSION_ANSWERS_MAX as u64), 0).unwrap()
    }

    #[test]
    fn without_room_a_write_that_was_done_is_known_by_its_revision() {
        let key_value = crate::api::KeyValue {
            key: "k".into(),
            value: vec![0; 100].into(),
            create_revision: 1,
            mod_revision: 1,
            version: 1,
            lease: 0,
        };
        let answer = Ok(WriteResult::Put { revision: 5, previous: Some(key_value) });
        assert_eq!(retried(&answer), Ok(WriteResult::AppliedBefore { revision: 5 }));
    }

    #[test]
    fn without_room_a_write_that_was_refused_stays_refused() {
        let told = retried(&Err(Error::Invalid(LONG.into())));
        assert_eq!(told, Err(Error::Invalid("as before".into())));
    }

    #[test]
    fn what_is_kept_in_short_says_the_same_and_is_short() {
        let (number, words) = (u64::MAX, || LONG.to_owned());
        let errors = [
            Error::NotLeader { leader: Some((crate::ids::NodeId::new(1, 0), words())) },
            Error::Unknown,
            Error::Busy { what: words() },
            Error::TooLarge { what: words(), got: number, limit: number },
            Error::Invalid(words()),
            Error::Compacted { asked: number, oldest: number },
            Error::FutureRevision { asked: number, newest: number },
            Error::LeaseNotFound(number),
            Error::LeaseExists(number),
            Error::SessionUnknown(number),
            Error::SequenceForgotten { session: number, sequence: number },
            Error::NotFound(words()),
            Error::Conflict(words()),
            Error::Refused(words()),
            Error::Unavailable(words()),
        ];
        for error in errors {
            let short = in_short(&Err(error.clone()), 5);
            assert!(encode(&short).len() <= SHORT_ANSWER_BYTES_MAX, "{short:?}");
            let short = short.unwrap_err();
            assert_eq!(std::mem::discriminant(&short), std::mem::discriminant(&error), "{short}");
        }
        let done = in_short(&Ok(WriteResult::AppliedBefore { revision: number }), number);
        assert!(encode(&done).len() <= SHORT_ANSWER_BYTES_MAX);
    }
}
