//! Semantics: what the store answers, and the changes it makes, are those of the reference model, which is written to be obviously right.

use super::Violation;
use super::replay::Step;
use crate::reference::Reference;
use raftkv_core::api::{Error, Event, KeyRange, Revision, WriteResult};
use raftkv_core::kv::{Action, Outcome};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Checks every step of a replay, and all changes it made.
pub fn check(steps: &[Step], events: &[Event]) -> Result<(), Violation> {
    let mut reference = Reference::default();
    let mut written = BTreeMap::new();
    for step in steps {
        let expected = reference.apply(step.index, &step.command);
        let first = match &step.command.action {
            Action::Write { session: Some(session), .. } => {
                match written.entry((session.session, session.sequence)) {
                    Entry::Occupied(first) => Some(*first.get()),
                    Entry::Vacant(place) => {
                        place.insert(step.revision);
                        None
                    }
                }
            }
            _ => None,
        };
        let is_same = step.revision == reference.revision()
            && (comparable(step.outcome.clone()) == comparable(expected.clone())
                || is_in_short(&step.outcome, &expected, first));
        if !is_same {
            let detail = format!(
                "entry {} {:?} led to {:?} at revision {}, the model says {expected:?} at {}",
                step.index,
                step.command.action,
                step.outcome,
                step.revision,
                reference.revision()
            );
            return Err(Violation::new("semantics", detail));
        }
    }
    let mut expected = reference.events_ever(&KeyRange::all(), 0, true);
    expected.sort_by(|one, other| {
        (one.kv.mod_revision, &one.kv.key).cmp(&(other.kv.mod_revision, &other.kv.key))
    });
    let differs = events.iter().zip(&expected).find(|(got, expected)| got != expected);
    if let Some((got, expected)) = differs {
        let detail = format!("the change {got:?} should be {expected:?}");
        return Err(Violation::new("semantics", detail));
    }
    if events.len() != expected.len() {
        let detail = format!("{} changes, the model made {}", events.len(), expected.len());
        return Err(Violation::new("semantics", detail));
    }
    Ok(())
}

/// The model keeps every answer in full; the store keeps of a large one only `revision`, which the first attempt led to.
fn is_in_short(outcome: &Outcome, expected: &Outcome, first: Option<Revision>) -> bool {
    match (outcome, expected) {
        (Outcome::Write(Ok(WriteResult::AppliedBefore { revision })), Outcome::Write(Ok(_))) => {
            Some(*revision) == first
        }
        _ => false,
    }
}

/// The model does not know the words of a refusal, nor the rules of backups.
fn comparable(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Write(Err(error)) => Outcome::Write(Err(wordless(&error))),
        Outcome::Backup(_) => Outcome::Backup(Ok(())),
        other => other,
    }
}

/// A refusal without its words: a session may keep it so, and the model does not know them.
pub fn wordless(error: &Error) -> Error {
    match error {
        Error::Invalid(_) => Error::Invalid(String::new()),
        Error::TooLarge { got, limit, .. } => {
            Error::TooLarge { what: String::new(), got: *got, limit: *limit }
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::api::{PutRequest, WriteOp};
    use raftkv_core::kv::Command;
    use raftkv_core::time::Wall;

    #[test]
    fn a_wrong_answer_and_a_missing_change_are_noticed() {
        let put =
            PutRequest { key: "k".into(), value: "v".into(), lease: 0, return_previous: false };
        let action = Action::Write { session: None, op: WriteOp::Put(put) };
        let command = Command { log_time_ms: 1, wall: Wall(0), action };
        let mut reference = Reference::default();
        let outcome = reference.apply(1, &command);
        let revision = reference.revision();
        let events = reference.events_ever(&KeyRange::all(), 0, true);
        let mut step = Step {
            index: 1,
            command,
            outcome,
            revision_before: 0,
            revision,
            leases_expired: Vec::new(),
        };
        assert_eq!(check(std::slice::from_ref(&step), &events), Ok(()));
        assert!(check(std::slice::from_ref(&step), &[]).is_err());
        let wrong = WriteResult::Put { revision: revision + 1, previous: None };
        step.outcome = Outcome::Write(Ok(wrong));
        assert!(check(&[step], &events).is_err());
    }
}
