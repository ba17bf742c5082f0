//! What comes after a backup in one store: older ones go by the rules, if there are rules for that, and then what nobody finishes and nobody
//! needs ([`super::sweep`]).
//!
//! For whoever holds the store's lock until this has ended. Invariants: the sweep begins when pruning has ended, however that went, and not at
//! all once it was stopped meanwhile; what was begun goes on to its end.

use super::blob::BlobError;
use super::machine::{Action, ActionResult, Machine};
use super::numbered::Numbered;
use super::prune::{Prune, PruneError, Pruned, Pruning};
use super::sweep::Sweep;
use crate::time::Wall;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// What came of pruning; nothing where there were no rules.
    pub pruned: Option<Result<Pruned, PruneError>>,
    /// How many objects the sweep has removed; nothing if it was not begun.
    pub swept: Option<Result<usize, BlobError>>,
}

/// The machine.
#[derive(Debug)]
pub struct Tidy {
    stage: Stage,
    done: Tidied,
    is_stopped: bool,
}

#[derive(Debug)]
enum Stage {
    Pruning(Numbered<Prune>),
    Sweeping(Numbered<Sweep>),
    Ended,
}

impl Tidy {
    /// Begins; it is `now` by the calendar of whoever asks. Without rules nothing but the sweep is done.
    pub fn new(pruning: Option<&Pruning>, now: Wall) -> Self {
        let stage = match pruning {
            Some(pruning) => Stage::Pruning(Numbered::new(Prune::new(pruning, now), 0)),
            None => Stage::Sweeping(Numbered::new(Sweep::new(), 0)),
        };
        Tidy { stage, done: Tidied::default(), is_stopped: false }
    }

    /// Does not go on from pruning to the sweep.
    pub fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// What was done, once it has ended.
    pub fn outcome(&self) -> Option<&Tidied> {
        matches!(self.stage, Stage::Ended).then_some(&self.done)
    }

    fn advance(&mut self) {
        match &self.stage {
            Stage::Pruning(pruning) => {
                let Some(outcome) = pruning.get().outcome() else { return };
                self.done.pruned = Some(outcome.clone());
                self.stage = match self.is_stopped {
                    true => Stage::Ended,
                    false => Stage::Sweeping(Numbered::new(Sweep::new(), pruning.end())),
                };
            }
            Stage::Sweeping(sweep) => {
                let Some(outcome) = sweep.get().outcome() else { return };
                self.done.swept = Some(outcome.clone());
                self.stage = Stage::Ended;
            }
            Stage::Ended => {}
        }
    }
}

impl Machine for Tidy {
    fn poll_action(&mut self) -> Option<Action> {
        match &mut self.stage {
            Stage::Pruning(pruning) => pruning.poll_action(),
            Stage::Sweeping(sweep) => sweep.poll_action(),
            Stage::Ended => None,
        }
    }

    fn handle(&mut self, result: ActionResult) {
        let ActionResult::Blob { op, result } = result else { return };
        let is_ours = match &mut self.stage {
            Stage::Pruning(pruning) => pruning.take(op, &result),
            Stage::Sweeping(sweep) => sweep.take(op, &result),
            Stage::Ended => false,
        };
        if is_ours {
            self.advance();
        }
    }

    fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }
}

impl Tidied {
    /// Whether pruning has failed, and what came of it, for people; nothing where there were no rules.
    pub fn told(&self) -> Option<(bool, String)> {
        self.pruned.as_ref().map(|outcome| match outcome {
            Ok(pruned) => (pruned.has_failed(), pruned.to_string()),
            Err(error) => (true, format!("older backups were not pruned: {error}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::blob::{BlobDone, BlobErrorKind, BlobOp, Listing, ObjectName};
    use crate::backup::config::Retention;
    use crate::backup::format::Plaintext;
    use crate::backup::keys::KeyRing;
    use crate::backup::read::Access;
    use crate::backup::retention::BROKEN_OFF_MS;
    use crate::backup::{BackupId, remove::Fate};
    use crate::ids::OpId;
    use crate::rng::Seed;
    use std::collections::BTreeMap;

    fn pruning() -> Pruning {
        let access = Access { keys: KeyRing::new([]), plaintext: Plaintext::Allowed };
        Pruning { rules: Retention::default(), access }
    }

    fn denied() -> BlobError {
        BlobError { kind: BlobErrorKind::Denied, message: "no".into() }
    }

    /// What a backup that broke off has left, longer ago than the lock was written.
    fn leftover() -> Listing {
        let id = BackupId::draw(&mut Seed::from_number(1).fork("tidy"));
        let (status, lock) = (ObjectName::status(id), ObjectName::lock(1));
        let written = [(status, Wall(0)), (lock, Wall(BROKEN_OFF_MS + 1))];
        Listing::of(written.map(|(object, at)| (object.path(), 1, Some(at))))
    }

    /// The one thing that is to be done next.
    fn next(machine: &mut Tidy) -> (OpId, BlobOp) {
        let Some(Action::Blob { op, action, .. }) = machine.poll_action() else {
            panic!("there is nothing to do in the store");
        };
        assert!(machine.poll_action().is_none());
        (op, action)
    }

    /// Answers to a listing that was asked for.
    fn list(machine: &mut Tidy, result: Result<Listing, BlobError>) -> OpId {
        let (op, action) = next(machine);
        assert_eq!(action, BlobOp::List);
        machine.handle(ActionResult::Blob { op, result: result.map(BlobDone::Listing) });
        op
    }

    /// Lets the one object go that is to go.
    fn delete(machine: &mut Tidy) {
        let (op, action) = next(machine);
        assert!(matches!(action, BlobOp::Delete { .. }), "{action:?}");
        machine.handle(ActionResult::Blob { op, result: Ok(BlobDone::Done) });
    }

    #[test]
    fn without_rules_there_is_only_the_sweep() {
        let mut machine = Tidy::new(None, Wall(0));
        list(&mut machine, Ok(leftover()));
        assert!(!machine.is_ended());
        delete(&mut machine);
        assert_eq!(machine.outcome(), Some(&Tidied { pruned: None, swept: Some(Ok(1)) }));
        assert_eq!(machine.outcome().and_then(Tidied::told), None);
        assert!(machine.is_ended());
    }

    #[test]
    fn the_sweep_follows_on_pruning_however_that_went() {
        for listed in [Ok(Listing::default()), Err(denied())] {
            let mut machine = Tidy::new(Some(&pruning()), Wall(0));
            let first = list(&mut machine, listed.clone());
            assert_eq!(machine.outcome(), None);
            let second = list(&mut machine, Ok(leftover()));
            assert!(second > first, "no two operations have the same number");
            delete(&mut machine);
            let pruned = Some(listed.map(|_| Pruned::default()).map_err(PruneError::Store));
            assert_eq!(machine.outcome(), Some(&Tidied { pruned, swept: Some(Ok(1)) }));
        }
    }

    #[test]
    fn a_sweep_that_fails_is_told_apart_from_one_that_was_not_begun() {
        let mut machine = Tidy::new(Some(&pruning()), Wall(0));
        list(&mut machine, Ok(Listing::default()));
        list(&mut machine, Err(denied()));
        let pruned = Some(Ok(Pruned::default()));
        assert_eq!(machine.outcome(), Some(&Tidied { pruned, swept: Some(Err(denied())) }));
    }

    #[test]
    fn once_stopped_it_ends_with_pruning() {
        let mut machine = Tidy::new(Some(&pruning()), Wall(0));
        machine.stop();
        assert!(!machine.is_ended());
        list(&mut machine, Ok(Listing::default()));
        let pruned = Some(Ok(Pruned::default()));
        assert_eq!(machine.outcome(), Some(&Tidied { pruned, swept: None }));
        assert!(machine.is_ended() && machine.poll_action().is_none());
    }

    #[test]
    fn a_sweep_that_was_begun_goes_on_to_its_end() {
        let mut machine = Tidy::new(None, Wall(0));
        list(&mut machine, Ok(leftover()));
        machine.stop();
        delete(&mut machine);
        assert_eq!(machine.outcome(), Some(&Tidied { pruned: None, swept: Some(Ok(1)) }));
    }

    #[test]
    fn what_came_of_pruning_is_told_with_whether_it_failed() {
        let told = |pruned| Tidied { pruned: Some(pruned), swept: None }.told().unwrap();
        let of_one = |fate| Ok(Pruned { fates: BTreeMap::from([(BackupId::NONE, fate)]) });
        let (failed, what) = told(of_one(Fate::Removed));
        assert!(!failed && what == "1 of 1 older backups that were to go are gone", "{what}");
        assert!(!told(of_one(Fate::Pinned)).0);
        assert!(told(of_one(Fate::Failed(denied()))).0);
        let (failed, what) = told(Err(PruneError::Store(denied())));
        assert!(failed && what.starts_with("older backups were not pruned: "), "{what}");
    }
}
