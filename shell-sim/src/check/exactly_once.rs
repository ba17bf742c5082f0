//! Exactly once: however often a write was sent, retried or duplicated, it changed the state at most once. Thesis §6.3.
//!
//! The workload never writes a value twice, so a value that two changes carry was applied twice.

use super::Violation;
use raftkv_core::api::{Event, EventKind, Revision};
use std::collections::BTreeMap;

/// Checks the changes of a whole run.
pub fn check(events: &[Event]) -> Result<(), Violation> {
    let mut writes: BTreeMap<&[u8], Revision> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == EventKind::Put) {
        if let Some(first) = writes.insert(&event.kv.value, event.kv.mod_revision) {
            let value = String::from_utf8_lossy(&event.kv.value[..event.kv.value.len().min(20)]);
            let detail = format!(
                "the write of {value} was applied at revision {first} and again at {}",
                event.kv.mod_revision
            );
            return Err(Violation::new("exactly once", detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use raftkv_core::api::KeyValue;

    #[test]
    fn a_second_application_is_noticed() {
        let put = |value: &'static str, revision| Event {
            kind: EventKind::Put,
            kv: KeyValue {
                key: "k".into(),
                value: value.into(),
                create_revision: 1,
                mod_revision: revision,
                version: 1,
                lease: 0,
            },
            previous: None,
        };
        assert_eq!(check(&[put("a", 1), put("b", 2)]), Ok(()));
        assert!(check(&[put("a", 1), put("b", 2), put("a", 3)]).is_err());
    }
}
