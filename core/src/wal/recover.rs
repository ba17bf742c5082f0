//! Reads a log back: cuts a torn tail, refuses damage in the middle. The rule that tells them apart is in [`super`].
//!
//! Invariants: what is recovered is what the writer wrote, up to some record; that record is not older than any that was called
//! durable by another readable one. No byte is trusted before its checksum is.

use super::record::{self, ALIGN_BYTES, Place, WalRecord};
use super::segment::{self, SEGMENT_HEAD_BYTES, SegmentHead};
use super::writer::{Segment, Tail, WalWriter};
use crate::ids::Identity;
use crate::io::FileName;
use crate::log::{Entry, HardState};
use crate::planted::{self, Bug};
use crate::wire::peer::SnapshotMeta;
use bytes::Bytes;
use std::collections::VecDeque;

/// A log read back.
#[derive(Debug)]
pub struct Recovered {
    /// The newest hard state.
    pub hard_state: HardState,
    /// The entries, without gaps.
    pub entries: VecDeque<Entry>,
    /// Index that the first entry has, or will have.
    pub first_index: u64,
    /// The installed snapshot the log was last restarted behind, if that record is still there.
    pub snapshot: Option<SnapshotMeta>,
    /// Goes on where the log ends.
    pub writer: WalWriter,
    /// Segments that were begun when the machine stopped, and hold nothing. To be removed before the first write.
    pub void: Vec<FileName>,
    /// What was cut, in words; `None` after a clean stop.
    pub torn: Option<String>,
}

/// Why a log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment}, byte {offset}: {cause}")]
pub struct WalDamage {
    /// The segment's number.
    pub segment: u64,
    /// Where in its file.
    pub offset: u64,
    /// What is wrong there.
    pub cause: WalDamageCause,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalDamageCause {
    /// A record that was durable is gone.
    #[error("{what}, but record {sequence} was on stable storage: {evidence} says so")]
    Middle {
        /// How it is damaged.
        what: String,
        /// Its sequence number.
        sequence: u64,
        /// Where that is written.
        evidence: String,
    },
    /// Nothing of the log can be read.
    #[error("{0}, and no record before it is left: a log never starts like this")]
    NoStart(String),
    /// A segment is not there.
    #[error("this segment follows {after}: those between are missing")]
    Gap {
        /// The one before it.
        after: u64,
    },
    /// The segment belongs to another node, cluster or epoch.
    #[error(
        "the log of node {} of cluster {} (epoch {}) lies in another node's directory",
        .0.node, .0.cluster, .0.epoch.0
    )]
    Stranger(Identity),
    /// Records are whole, but contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

/// Reads all segments, in ascending order.
pub fn recover(
    identity: Identity,
    segments: impl IntoIterator<Item = (u64, Bytes)>,
) -> Result<Recovered, WalDamage> {
    let mut recovery = Recovery::new(identity);
    for (number, bytes) in segments {
        recovery.push(number, &bytes)?;
    }
    recovery.finish()
}

/// Reads segments one by one, so that just one must be in memory.
#[derive(Debug)]
pub struct Recovery {
    identity: Identity,
    last_number: Option<u64>,
    segments: VecDeque<Segment>,
    /// Where the last whole record ends, in the last segment of `segments`.
    offset: u64,
    next_sequence: u64,
    started: bool,
    log: Log,
    damage: Option<Damage>,
    void: Vec<FileName>,
}

/// The first place that is not a record, while it is open whether it is the log's end.
#[derive(Debug)]
struct Damage {
    segment: u64,
    offset: u64,
    what: String,
}

/// What the records amount to.
#[derive(Debug)]
struct Log {
    hard_state: HardState,
    entries: VecDeque<Entry>,
    /// Never 0: no entry has that index.
    next_index: u64,
    snapshot: Option<SnapshotMeta>,
}

impl Recovery {
    /// Of the log of this node.
    pub fn new(identity: Identity) -> Self {
        Recovery {
            identity,
            last_number: None,
            segments: VecDeque::new(),
            offset: 0,
            next_sequence: 1,
            started: false,
            log: Log {
                hard_state: HardState::default(),
                entries: VecDeque::new(),
                next_index: 1,
                snapshot: None,
            },
            damage: None,
            void: Vec::new(),
        }
    }

    /// Takes the next segment, whole.
    pub fn push(&mut self, number: u64, bytes: &[u8]) -> Result<(), WalDamage> {
        let at = |offset, cause| WalDamage { segment: number, offset, cause };
        if let Some(after) = self.last_number.filter(|after| after.checked_add(1) != Some(number)) {
            return Err(at(0, WalDamageCause::Gap { after }));
        }
        let first = self.last_number.is_none();
        self.last_number = Some(number);
        let head = SegmentHead::decode(bytes);
        if let Ok(head) = head
            && (head.identity != self.identity || head.number != number)
        {
            return Err(at(0, self.stranger(&head)));
        }
        match head {
            Ok(head) if first => {
                self.next_sequence = head.first_sequence.max(1);
                self.log.next_index = head.next_index.max(1);
            }
            Ok(head) if head.first_sequence == self.next_sequence => {
                // An earlier start cut the log here, and went on in this segment.
                self.damage = None;
                if !self.started {
                    self.log.next_index = head.next_index.max(1);
                }
            }
            Ok(head) => {
                let what = format!("segment {number} goes on at record {}", head.first_sequence);
                if head.first_sequence < self.next_sequence {
                    let what = format!("{what}, which the segment before it has too");
                    return Err(at(0, WalDamageCause::Contradiction(what)));
                }
                self.note_damage_at_end(what);
                self.refuse_if_durable(head.durable, number, 0)?;
            }
            Err(what) => self.note_damage(number, 0, what),
        }
        if self.damage.is_some() {
            self.void.push(FileName::Wal(number));
            return self.search(number, SEGMENT_HEAD_BYTES, bytes);
        }
        self.segments.push_back(Segment { number, bytes: bytes.len() as u64, last_index: 0 });
        self.replay(number, bytes)
    }

    /// The log as it stands when every segment was taken.
    pub fn finish(self) -> Result<Recovered, WalDamage> {
        if !self.started {
            let (segment, offset, what) = match self.damage {
                Some(damage) => (damage.segment, damage.offset, damage.what),
                None => (self.last_number.unwrap_or(1), 0, "there is no record".into()),
            };
            return Err(WalDamage { segment, offset, cause: WalDamageCause::NoStart(what) });
        }
        let Log { hard_state, entries, next_index, snapshot } = self.log;
        let last = self.segments.back().map(|segment| segment.number);
        let torn = self.damage.as_ref().is_some_and(|damage| Some(damage.segment) == last);
        // A segment without a record is left behind, too: only the writer's first record of a segment holds the hard state.
        let left = torn && planted::is(Bug::TornTailLeftInPlace);
        let sealed = torn && !left || self.offset == SEGMENT_HEAD_BYTES as u64;
        let torn_bytes = if left { super::record::RECORD_HEAD_BYTES as u64 } else { 0 };
        let tail = Tail {
            segments: self.segments,
            sealed,
            offset: self.offset + torn_bytes,
            next_sequence: self.next_sequence,
            next_index,
            hard_state,
        };
        Ok(Recovered {
            hard_state,
            first_index: next_index - entries.len() as u64,
            entries,
            snapshot,
            writer: WalWriter::resume(self.identity, tail),
            void: self.void,
            torn: self.damage.map(|damage| {
                format!("segment {}, byte {}: {}", damage.segment, damage.offset, damage.what)
            }),
        })
    }

    /// Applies the records of a segment, up to the first place that is none.
    fn replay(&mut self, number: u64, bytes: &[u8]) -> Result<(), WalDamage> {
        let seed = segment::seed(&self.identity, number);
        let mut offset = SEGMENT_HEAD_BYTES;
        loop {
            self.offset = offset as u64;
            let rest = bytes.get(offset..).unwrap_or_default();
            let checked = record::check(rest, Place { seed, offset: offset as u64 });
            let what = match checked {
                Ok((head, body)) if head.sequence == self.next_sequence => {
                    self.apply(head.sequence, body).map_err(|what| WalDamage {
                        segment: number,
                        offset: offset as u64,
                        cause: WalDamageCause::Contradiction(what),
                    })?;
                    offset += head.record_bytes();
                    continue;
                }
                Ok((head, _)) => {
                    format!("record {} stands where {} belongs", head.sequence, self.next_sequence)
                }
                Err(what) => what.into(),
            };
            if !is_zero(rest) {
                self.note_damage(number, offset as u64, what);
                self.search(number, offset, bytes)?;
            }
            return Ok(());
        }
    }

    fn apply(&mut self, sequence: u64, body: &[u8]) -> Result<(), String> {
        self.next_sequence = sequence.checked_add(1).ok_or("a sequence number is out of range")?;
        self.started = true;
        let record = record::decode(body)?;
        if let Some(snapshot) = &record.snapshot {
            self.segments.iter_mut().for_each(|segment| segment.last_index = 0);
            // The snapshot's index is checked like any other number from a file.
            snapshot.index.checked_add(1).ok_or("a snapshot's index is out of range")?;
        }
        let replaced_from = record.entries.first().map(|entry| entry.index);
        self.log.apply(record)?;
        if let Some(first) = replaced_from {
            for segment in &mut self.segments {
                segment.last_index = segment.last_index.min(first - 1);
            }
            if let Some(segment) = self.segments.back_mut() {
                segment.last_index = self.log.next_index - 1;
            }
        }
        Ok(())
    }

    /// Looks for records that call the damaged one durable.
    fn search(&self, number: u64, start: usize, bytes: &[u8]) -> Result<(), WalDamage> {
        let seed = segment::seed(&self.identity, number);
        let mut offset = start;
        while offset < bytes.len() {
            match record::check(&bytes[offset..], Place { seed, offset: offset as u64 }) {
                Ok((head, _)) => {
                    self.refuse_if_durable(head.durable(), number, offset)?;
                    offset += head.record_bytes();
                }
                Err(_) => offset += ALIGN_BYTES,
            }
        }
        Ok(())
    }

    fn refuse_if_durable(&self, durable: u64, number: u64, offset: usize) -> Result<(), WalDamage> {
        match &self.damage {
            Some(_) if planted::is(Bug::MiddleDamageCut) => Ok(()),
            Some(damage) if durable >= self.next_sequence => Err(WalDamage {
                segment: damage.segment,
                offset: damage.offset,
                cause: WalDamageCause::Middle {
                    what: damage.what.clone(),
                    sequence: self.next_sequence,
                    evidence: format!("segment {number}, byte {offset}"),
                },
            }),
            _ => Ok(()),
        }
    }

    fn note_damage(&mut self, segment: u64, offset: u64, what: String) {
        self.damage.get_or_insert(Damage { segment, offset, what });
    }

    /// Records are missing at the end of the segment before.
    fn note_damage_at_end(&mut self, what: String) {
        let segment = self.segments.back().map_or(0, |segment| segment.number);
        let offset = self.offset;
        self.note_damage(segment, offset, format!("the records end, but {what}"));
    }

    fn stranger(&self, head: &SegmentHead) -> WalDamageCause {
        if head.identity != self.identity {
            return WalDamageCause::Stranger(head.identity);
        }
        WalDamageCause::Contradiction(format!("this is segment {} under another name", head.number))
    }
}

impl Log {
    fn apply(&mut self, record: WalRecord) -> Result<(), String> {
        if let Some(snapshot) = record.snapshot {
            self.entries.clear();
            self.next_index = snapshot.index + 1;
            self.snapshot = Some(snapshot);
        }
        if let Some(first) = record.entries.first().map(|entry| entry.index) {
            if first == 0 || first > self.next_index {
                return Err(format!("entry {first} follows entry {}", self.next_index - 1));
            }
            let kept = self.entries.len() as u64;
            let replaced = (self.next_index - first).min(kept);
            if replaced > 0 && planted::is(Bug::ReplacedEntriesRecovered) {
                return Ok(());
            }
            self.entries.truncate((kept - replaced) as usize);
            self.next_index = first;
            for entry in record.entries {
                if entry.index != self.next_index {
                    return Err(format!(
                        "entry {} follows entry {}",
                        entry.index,
                        self.next_index - 1
                    ));
                }
                self.next_index =
                    entry.index.checked_add(1).ok_or("an entry's index is out of range")?;
                self.entries.push_back(entry);
            }
        }
        if let Some(hard_state) = record.hard_state {
            if hard_state.term < self.hard_state.term {
                return Err(format!("term {} follows {}", hard_state.term, self.hard_state.term));
            }
            self.hard_state = hard_state;
        }
        Ok(())
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // Whole blocks at once, which compiles to wide instructions.
    let mut blocks = bytes.chunks_exact(64);
    blocks.all(|block| block.iter().fold(0, |any, byte| any | byte) == 0)
        && blocks.remainder().iter().all(|byte| *byte == 0)
}
