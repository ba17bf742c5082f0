//! Bugs planted on purpose, one line each, to prove that the simulation would notice them.
//!
//! Invariants: without `--cfg planted_bugs` [`is`] is `false` by constant, so no bug is in the code; with it the server and the command
//! line refuse to compile, so no release holds one; and then still nothing is wrong until a thread plants a bug, for itself only.
//! Source: mutation testing (DeMillo et al., 1978), with the mutants chosen by hand for what they would destroy.

macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// What can be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $($(#[doc = $what])+ $name,)+
        }

        impl Bug {
            /// Every bug, in the order of this file.
            pub const ALL: &[Bug] = &[$(Bug::$name,)+];

            /// What is wrong with it planted, in words.
            pub fn what(self) -> &'static str {
                match self {
                    $(Bug::$name => concat!($($what),+).trim_ascii(),)+
                }
            }

            /// Whether it is in the server's driver loop or in a leaf of it, which only ring 1 of the simulation runs.
            pub fn is_in_driver(self) -> bool {
                self >= Bug::SubmittedCalledDone && self <= Bug::CompletionDroppedWhenFull
            }
        }
    };
}

bugs! {
    /// Records of the log are written, but not synced.
    LogNotSynced,
    /// What waits for the disk is let go before the disk is done.
    SentBeforeDurable,
    /// The completion of one operation lets go of everything that waits.
    GateReleasedByWrongOperation,
    /// A vote is not in what is written down.
    VoteNotPersisted,
    /// A change of term or vote alone is not written down.
    TermNotPersisted,
    /// What a lone voter says in a term leaves before the term is durable.
    LoneVoterSpeaksEarly,
    /// The commit index is not written down with a change of membership.
    CommitNotPersistedWithMembership,
    /// A removed node stops as soon as it has applied its removal.
    RemovedNodeLeavesAtOnce,
    /// A change of membership is answered before a majority keeps it.
    RemovalAnsweredAtOnce,
    /// A leader commits what it alone has on its disk.
    AcknowledgedBeforeQuorum,
    /// A leader commits entries of earlier terms by counting copies.
    EarlierTermCommitted,
    /// A leader that hears no quorum goes on leading.
    QuorumNotChecked,
    /// Entries are applied before they are on the own disk.
    AppliedBeforeDurable,
    /// Requests outlive the leadership they were proposed under: whichever entry comes to their index answers them.
    RequestsOutliveLeadership,
    /// Requests that may have been appended are said not to be.
    UnknownCalledNotDone,
    /// Reads are answered by whoever is asked, at once.
    ReadWithoutIndex,
    /// The leader answers reads without asking whether it still leads.
    ReadByLeaderWithoutQuorum,
    /// All attempts at a read have the same context.
    ReadContextReused,
    /// A read joins an attempt that is under way already.
    ReadJoinsEarlierAttempt,
    /// A confirmed read does not wait until its index is applied.
    ReadBeforeApplied,
    /// A read whose attempt was lost is never tried again.
    ReadNeverRetried,
    /// The checksum of a record is not compared.
    ChecksumIgnored,
    /// Damage in the middle of the log is cut off like a torn tail.
    MiddleDamageCut,
    /// Recovery keeps what later records have replaced.
    ReplacedEntriesRecovered,
    /// The writer goes on behind a torn tail, and leaves it in place.
    TornTailLeftInPlace,
    /// What recovery read is not made durable before it is built upon.
    RecoveredNotSynced,
    /// Term and vote are written where they change only, and a new segment does not start with them.
    SegmentWithoutHardState,
    /// Segments are dropped that the newest snapshots do not cover.
    SegmentDroppedEarly,
    /// Segments are dropped when a snapshot is begun, not when it is durable.
    LogRemovedBeforeSnapshotDurable,
    /// The log in memory is cut one entry beyond the snapshot.
    LogCutBeyondSnapshot,
    /// At a start a log that contradicts the snapshot is kept.
    StaleLogKeptBehindSnapshot,
    /// The record of an installed snapshot does not name it.
    InstallNotRecorded,
    /// A snapshot names an index before its state's.
    SnapshotIndexBehind,
    /// A snapshot names the membership of an earlier one.
    StaleMembershipInSnapshot,
    /// Sessions are not in snapshots.
    SessionsNotInSnapshot,
    /// Incarnations of members that left are not in snapshots.
    IncarnationsNotInSnapshot,
    /// A snapshot's checksums, digest and state hash are not compared.
    SnapshotNotVerified,
    /// Of the complete snapshots one too few is kept.
    NewestSnapshotRemoved,
    /// Raft is not told that a snapshot could not be sent.
    SnapshotFailureNotReported,
    /// A piece of a snapshot that was lost is not sent again.
    SnapshotPieceNotRetried,
    /// A message that proves a broken promise is handed to raft all the same.
    SuspicionIgnored,
    /// A node that is told to stop goes on.
    StopIgnored,
    /// A member that joins anew gets the incarnation it had.
    IncarnationNotRaised,
    /// A joint configuration is never left.
    JointConfigurationKept,
    /// The state hash does not see deletions.
    HashIgnoresDeletes,
    /// Of a transaction the last operation is not done.
    TransactionCutShort,
    /// A transaction does its operations although one of them is refused.
    TransactionPartlyApplied,
    /// A compare of a key that does not exist holds.
    CompareOfNothingHolds,
    /// A range holds the key it ends before.
    RangeEndIncluded,
    /// A write does not raise its key's version.
    VersionNotRaised,
    /// Two writes one after the other share a revision.
    RevisionReused,
    /// A restart begins at the revision before the snapshot's.
    RevisionReusedAfterRestart,
    /// Compaction forgets one revision too many.
    CompactionOneTooFar,
    /// A write that is sent again is applied again.
    RetryAppliedAgain,
    /// A session forgets the answers that its client may still ask for.
    SessionForgetsAnswers,
    /// A lease ends half a second early.
    LeaseEndsEarly,
    /// Keeping a lease alive changes nothing.
    KeepAliveIgnored,
    /// A deleted key stays attached to its lease.
    DeletedKeyKeepsLease,
    /// A new leader takes log time from its calendar.
    LogTimeFromCalendar,
    /// A watch that is resumed gets the event before its start again.
    WatchRepeatsAtStart,
    /// A watch that woke up skips the first revision it woke for.
    WatchSkipsOnWake,
    /// Compaction does not wait until watches have read what it forgets.
    WatchOvertakenByCompaction,
    /// Two chunks of a backup get the same number, and so the same nonce.
    ChunkNumberReused,
    /// A backup ends without its final chunk.
    FinalChunkNotWritten,
    /// A backup's metadata is written before its data is.
    MetadataWrittenFirst,
    /// A backup counts as complete although its data has another length than it should.
    CatalogIgnoresLength,
    /// A slot whose backup was made is due again.
    SlotNeverSettled,
    /// Retention leaves one backup less than always stay.
    RetentionKeepsOneLess,
    /// Of a backup that goes, the data goes before the metadata.
    DataRemovedFirst,
    /// Data goes, though somebody who reads it has said so.
    HoldIgnored,
    /// When one store does not give a backup whole, the others are not asked for theirs.
    OtherCopiesNotTried,
    /// A data directory gets its identity before the rest is there.
    IdentityPublishedFirst,
    /// A restored cluster has the epoch of the old one.
    RestoreKeepsEpoch,
    /// A restored cluster counts revisions on from those of the backup.
    RestoreKeepsRevision,
    /// A node talks with nodes of other clusters and epochs.
    StrangersNotRefused,
    /// A disk calls a file published whose content it has not synced.
    PublishedBeforeSync,
    /// A disk calls a file created or published whose name it has not synced.
    DirectoryNotSynced,
    /// The driver tells the node that a disk operation is done when it hands it over.
    SubmittedCalledDone,
    /// The driver hands an input to the node twice.
    InputHandledTwice,
    /// The driver waits for inputs only, whatever the node's timers say.
    TimersNotWaitedFor,
    /// The driver goes on when the node has said to stop.
    HaltIgnored,
    /// The driver hands a turn's disk operations over when the next turn begins.
    FlushedATurnLate,
    /// A turn's disk operations are handed over in the wrong order.
    LaneReversed,
    /// A disk's completion is dropped when the inbox is full.
    CompletionDroppedWhenFull,
}

/// Whether this bug is planted here. Without `--cfg planted_bugs` none ever is.
#[cfg(not(planted_bugs))]
pub const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(planted_bugs)]
pub use enabled::{is, plant};

#[cfg(planted_bugs)]
mod enabled {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants this bug, and only this, for the calling thread; `None` for none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is planted here.
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}
