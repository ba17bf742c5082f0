//! What can be wrong with a store: by chance all the time, and for a while when it is told to.

use crate::random::Ppm;
use raftkv_core::backup::blob::{BlobErrorKind, BlobOp};
use raftkv_core::time::Span;
use std::collections::BTreeMap;

/// How bad the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFaults {
    /// Mean time of an operation.
    pub latency_mean: Span,
    /// After this long the shell gives an operation up.
    pub timeout: Span,
    /// Refused without effect: 5xx, throttled.
    pub transient: Ppm,
    /// Writes that never arrive; nobody can tell.
    pub request_lost: Ppm,
    /// Writes that are done; nobody can tell.
    pub answer_lost: Ppm,
    /// Writes that are done after they were given up.
    pub late: Ppm,
    /// Whole-object writes that the shell did twice.
    pub retried: Ppm,
    /// Listings that lag.
    pub stale_listing: Ppm,
    /// How far at most.
    pub staleness: Span,
}

impl StoreFaults {
    /// A good store.
    pub const fn none() -> Self {
        StoreFaults {
            latency_mean: Span(5_000_000),
            timeout: Span(1_000_000_000),
            transient: Ppm::NEVER,
            request_lost: Ppm::NEVER,
            answer_lost: Ppm::NEVER,
            late: Ppm::NEVER,
            retried: Ppm::NEVER,
            stale_listing: Ppm::NEVER,
            staleness: Span(0),
        }
    }
}

/// What a store can be like for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outage {
    /// Nothing is answered well.
    Down,
    /// The credentials were revoked.
    Denied,
    /// The credentials do not allow deletion (any more), as under an object lock.
    DeleteDenied,
    /// There is no room.
    Full,
    /// Everything takes fifty times as long.
    Slow,
}

impl Outage {
    /// Every kind.
    pub const ALL: [Outage; 5] =
        [Outage::Down, Outage::Denied, Outage::DeleteDenied, Outage::Full, Outage::Slow];

    /// Those that refuse something.
    pub(super) const REFUSING: [Outage; 4] =
        [Outage::Down, Outage::Denied, Outage::DeleteDenied, Outage::Full];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Outage::Down => "store down",
            Outage::Denied => "store credentials lost",
            Outage::DeleteDenied => "store refuses deletion",
            Outage::Full => "store full",
            Outage::Slow => "store slow",
        }
    }

    pub(super) fn concerns(self, op: &BlobOp) -> bool {
        match self {
            Outage::Down | Outage::Denied => true,
            Outage::DeleteDenied => matches!(op, BlobOp::Delete { .. }),
            Outage::Full => matches!(op, BlobOp::Put { .. } | BlobOp::PutPart { .. }),
            Outage::Slow => false,
        }
    }

    pub(super) fn error(self) -> BlobErrorKind {
        match self {
            Outage::Down | Outage::Slow => BlobErrorKind::Transient,
            Outage::Denied | Outage::DeleteDenied => BlobErrorKind::Denied,
            Outage::Full => BlobErrorKind::Full,
        }
    }
}

/// How often each fault fired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Operations asked for.
    pub asked: u64,
    /// Refused as busy or broken.
    pub transient: u64,
    /// Writes that never arrived.
    pub requests_lost: u64,
    /// Writes whose answer was lost.
    pub answers_lost: u64,
    /// Writes done after they were given up.
    pub late: u64,
    /// Writes that were done twice.
    pub retried: u64,
    /// Listings that lagged.
    pub stale_listings: u64,
    /// Outages begun.
    pub outages: u64,
    /// Operations refused, by kind of outage.
    pub refused: BTreeMap<&'static str, u64>,
    /// Objects damaged, by kind of damage.
    pub damaged: BTreeMap<&'static str, u64>,
}

impl StoreCounts {
    /// Operations refused.
    pub fn refusals(&self) -> u64 {
        self.transient + self.refused.values().sum::<u64>()
    }
}

/// Whether an operation changes nothing.
pub(super) fn reads(op: &BlobOp) -> bool {
    matches!(op, BlobOp::Get { .. } | BlobOp::Head { .. } | BlobOp::List)
}

/// An operation in a few words.
pub fn describe(op: &BlobOp) -> String {
    match op {
        BlobOp::Put { object, .. } => format!("put {object}"),
        BlobOp::PutStart { object, .. } => format!("begin {object}"),
        BlobOp::PutPart { number, .. } => format!("part {number}"),
        BlobOp::PutFinish { .. } => "finish the upload".into(),
        BlobOp::PutAbort { .. } => "abort the upload".into(),
        BlobOp::Get { object, .. } => format!("get {object}"),
        BlobOp::Head { object } => format!("head {object}"),
        BlobOp::List => "list".into(),
        BlobOp::Delete { object } => format!("delete {object}"),
    }
}
