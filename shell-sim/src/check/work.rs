//! The run did real work: a test in which nothing happened proves nothing. etcd's robustness tests demand a minimum, too.

use super::Violation;
use crate::history::History;

/// Answers that every run must get.
const ACKNOWLEDGED_MIN: usize = 2;

/// Checks that clients got something done.
pub fn check(history: &History) -> Result<(), Violation> {
    let acknowledged = history.acknowledged();
    if acknowledged >= ACKNOWLEDGED_MIN {
        return Ok(());
    }
    let asked = history.operations.len();
    let detail = format!("only {acknowledged} of {asked} requests were answered well");
    Err(Violation::new("real work", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_run_is_noticed() {
        assert!(check(&History::default()).is_err());
    }
}
