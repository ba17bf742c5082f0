//! A session keeps every answer that its client may still ask for: nobody is told that the answer to a request is forgotten while it
//! still retries it. Thesis §6.3.

use super::Violation;
use crate::history::{History, Outcome};
use raftkv_core::api::Error;

/// Checks every refusal of the run. Clients never acknowledge what they retry.
pub fn check(history: &History) -> Result<(), Violation> {
    let forgotten = history.operations.iter().find(|operation| {
        matches!(operation.outcome, Outcome::Refused(Error::SequenceForgotten { .. }))
    });
    match forgotten {
        None => Ok(()),
        Some(operation) => {
            let (client, call) = (operation.client, operation.call);
            let detail = format!(
                "client {client} at {call} {:?}: {:?}, though it never acknowledged the answer",
                operation.request, operation.outcome
            );
            Err(Violation::new("session answers", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Operation;
    use crate::time::SimTime;
    use raftkv_core::api::Request;

    #[test]
    fn an_answer_forgotten_too_early_is_noticed() {
        let refused = |error| Operation {
            client: 1,
            request: Request::SessionOpen,
            call: SimTime(0),
            end: SimTime(1),
            outcome: Outcome::Refused(error),
            attempts: 2,
        };
        let history = |error| History { operations: vec![refused(error)], ..History::default() };
        assert_eq!(check(&history(Error::SessionUnknown(3))), Ok(()));
        let forgotten = Error::SequenceForgotten { session: 3, sequence: 4 };
        assert!(check(&history(forgotten)).is_err());
    }
}
