//! Requests on their way through the log: queued, appended at an index, answered when that index is applied.
//!
//! Invariant: every request that enters leaves exactly once, with its outcome, or as not done, or as not known.

use crate::ids::ReqId;
use crate::planted::{self, Bug};
use std::collections::VecDeque;

/// See the module.
#[derive(Debug, Default)]
pub struct Proposals {
    queued: Vec<(Option<ReqId>, usize)>,
    appended: VecDeque<Appended>,
    bytes: usize,
}

#[derive(Debug)]
struct Appended {
    index: u64,
    term: u64,
    req: Option<ReqId>,
    bytes: usize,
}

/// What became of the request at an applied index.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody here waits for that entry.
    Foreign,
    /// The entry is this request's.
    Ours(ReqId),
}

impl Proposals {
    /// A proposal was queued; `req` is `None` for the node's own.
    pub fn queue(&mut self, req: Option<ReqId>, bytes: usize) {
        self.queued.push((req, bytes));
        self.bytes += bytes;
    }

    /// Whether anything is queued.
    pub fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Everything queued was appended from `first` on, in order.
    pub fn appended(&mut self, first: u64, term: u64) {
        for ((req, bytes), index) in std::mem::take(&mut self.queued).into_iter().zip(first..) {
            self.appended.push_back(Appended { index, term, req, bytes });
        }
    }

    /// Nothing queued was appended: the requests, to be refused.
    pub fn take_queued(&mut self) -> Vec<ReqId> {
        let queued = std::mem::take(&mut self.queued);
        self.bytes -= queued.iter().map(|(_, bytes)| bytes).sum::<usize>();
        queued.into_iter().filter_map(|(req, _)| req).collect()
    }

    /// An entry was applied.
    pub fn applied(&mut self, index: u64, term: u64) -> Fate {
        let Some(front) = self.appended.pop_front_if(|front| front.index <= index) else {
            return Fate::Foreign;
        };
        self.bytes -= front.bytes;
        match front.req {
            Some(req)
                if front.index == index
                    && (front.term == term || planted::is(Bug::RequestsOutliveLeadership)) =>
            {
                Fate::Ours(req)
            }
            _ => Fate::Foreign,
        }
    }

    /// Leadership is lost: what was appended may or may not be applied later. The requests, to be told so.
    pub fn take_appended(&mut self) -> Vec<ReqId> {
        if planted::is(Bug::RequestsOutliveLeadership) {
            return Vec::new();
        }
        let appended = std::mem::take(&mut self.appended);
        self.bytes -= appended.iter().map(|one| one.bytes).sum::<usize>();
        appended.into_iter().filter_map(|one| one.req).collect()
    }

    /// Bytes under way.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Requests under way.
    pub fn len(&self) -> usize {
        self.queued.len() + self.appended.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_leave_with_their_own_entry_only() {
        let mut proposals = Proposals::default();
        proposals.queue(Some(ReqId(1)), 10);
        proposals.queue(None, 5);
        proposals.queue(Some(ReqId(2)), 20);
        proposals.appended(7, 2);
        assert_eq!(proposals.applied(6, 2), Fate::Foreign);
        assert_eq!(proposals.applied(7, 2), Fate::Ours(ReqId(1)));
        assert_eq!(proposals.applied(8, 2), Fate::Foreign);
        assert_eq!(proposals.bytes(), 20);
        assert_eq!(proposals.take_appended(), [ReqId(2)]);
        assert_eq!((proposals.bytes(), proposals.len()), (0, 0));
    }
}
