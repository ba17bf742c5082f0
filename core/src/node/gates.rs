//! What waits for the log on disk: raft's persisted messages, released in order and never early.

use crate::ids::OpId;
use crate::planted::{self, Bug};
use crate::wire::peer::RaftMessage;
use std::collections::VecDeque;

/// Steps of durability that are under way, oldest first.
#[derive(Debug, Default)]
pub struct Gates {
    waiting: VecDeque<Gate>,
}

#[derive(Debug)]
struct Gate {
    /// The last disk operation of the step; `None` when it only waits for the ones before it.
    op: Option<OpId>,
    released: Released,
}

/// What may happen once a step is durable.
#[derive(Debug, Default)]
pub struct Released {
    /// Raft's number of the step.
    pub number: u64,
    /// The term that is durable with it.
    pub term: u64,
    /// The commit index that is durable with it; 0 when none was written.
    pub commit: u64,
    /// To be sent.
    pub messages: Vec<RaftMessage>,
}

impl Gates {
    /// Adds a step that is durable when `op` is done, and every step before it is.
    pub fn push(&mut self, op: Option<OpId>, released: Released) {
        self.waiting.push_back(Gate { op, released });
    }

    /// An operation is done.
    pub fn complete(&mut self, op: OpId) {
        if planted::is(Bug::GateReleasedByWrongOperation) {
            return self.waiting.iter_mut().for_each(|gate| gate.op = None);
        }
        if let Some(gate) = self.waiting.iter_mut().find(|gate| gate.op == Some(op)) {
            gate.op = None;
        }
    }

    /// The next step that is durable with all before it.
    pub fn pop(&mut self) -> Option<Released> {
        self.waiting.pop_front_if(|gate| gate.op.is_none()).map(|gate| gate.released)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_released_in_order_whatever_order_the_disk_answers_in() {
        let mut gates = Gates::default();
        let step = |number| Released { number, ..Released::default() };
        gates.push(Some(OpId(1)), step(1));
        gates.push(None, step(2));
        gates.push(Some(OpId(2)), step(3));
        gates.complete(OpId(2));
        assert!(gates.pop().is_none());
        gates.complete(OpId(1));
        let numbers: Vec<u64> = std::iter::from_fn(|| gates.pop()).map(|r| r.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert!(gates.is_empty());
    }
}
