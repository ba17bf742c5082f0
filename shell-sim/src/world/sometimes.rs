//! Rare states worth reaching. A simulation that never gets there proves nothing about them, so a campaign says which it reached.
//!
//! Source of the idea: FoundationDB's `CODE_PROBE`, Antithesis' "sometimes" assertions.

/// States that the seeds of the default test must reach all together.
pub const REQUIRED: &[&str] = &[
    "a change of membership was lost to another leader",
    "a lease ended under another leader than it began",
    "a lone voter got company",
    "a member joined anew",
    "a member stays dead",
    "a new member joined",
    "a node stopped because of its disk",
    "a read survived a change of leader",
    "a removed node stopped",
    "a segment of the log was begun",
    "a snapshot was installed",
    "a snapshot's transfer began anew",
    "a tail that was not committed was replaced",
    "a watch was overtaken by compaction",
    "a watch was taken up again",
    "a write stood in the log twice, and was applied once",
    "crash during recovery",
    "crash while a snapshot was being written or received",
    "damage was overcome at start",
    "damage was refused at start",
    "leadership changed during a joint configuration",
    "leadership was handed over",
    "recovery met a failing disk",
    "snapshot on its way during a joint configuration",
];
