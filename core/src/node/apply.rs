//! Applying committed entries: to the state, to the configuration, and to the requests that wait for them.

use super::Node;
use super::proposals::Fate;
use crate::api::{Error, MemberRole, Response, WriteOp};
use crate::consensus::{ConfChange, is_command};
use crate::io::Halt;
use crate::kv::{Action, Command, MemberChange, Outcome};
use crate::log::{Entry, EntryKind, Level};
use crate::planted::{self, Bug};

impl Node {
    /// Applies one committed entry.
    pub(super) fn apply(&mut self, entry: Entry) {
        assert!(entry.index == self.applied.0 + 1, "entries are applied in order, without gaps");
        let fate = self.proposals.applied(entry.index, entry.term);
        let applied = match entry.kind {
            EntryKind::Membership => self.apply_membership(&entry),
            EntryKind::Normal if is_command(&entry) => self.apply_command(&entry, fate),
            // A leader's first entry; or a membership change that raft nullified, see `members::Changes`.
            EntryKind::Normal => Ok(()),
        };
        if let Err(what) = applied {
            self.halt(Halt::Unreadable { index: entry.index, what });
            return;
        }
        self.applied = (entry.index, entry.term);
        self.begin_making();
        self.settle_membership(entry.index, entry.term, entry.kind);
        self.snapshots.applied(&entry);
    }

    fn apply_command(&mut self, entry: &Entry, fate: Fate) -> Result<(), String> {
        let command = Command::decode(&entry.data).map_err(|error| error.to_string())?;
        if matches!(&command.action, Action::Write { op: WriteOp::Compact { .. }, .. })
            && !planted::is(Bug::WatchOvertakenByCompaction)
        {
            // What watches have not been sent yet is about to be forgotten.
            self.serve_watches();
        }
        let last_run = self.state.backups().last.as_ref().map(|run| run.number);
        let outcome = self.state.apply(entry.index, &command);
        if matches!(outcome, Outcome::Backup(_)) {
            self.count_run(entry.index, last_run);
        }
        if let Fate::Ours(req) = fate {
            let response = match outcome {
                Outcome::Write(result) => result.into(),
                Outcome::SessionOpened(session) => Response::SessionOpened { session },
                Outcome::Ticked => Response::Done,
                Outcome::Backup(Ok(())) => Response::Backups(Box::new(self.backup_status())),
                Outcome::Backup(Err(error)) => Response::Error(error),
            };
            self.reply(req, response);
        }
        Ok(())
    }

    fn apply_membership(&mut self, entry: &Entry) -> Result<(), String> {
        let change = ConfChange::decode(&entry.data).ok_or("a damaged membership change")?;
        let conf = match self.consensus.apply_membership(&change.step) {
            Ok(conf) => conf,
            Err(what) => {
                // Every replica refuses it alike: the leader should not have proposed it.
                let index = entry.index;
                self.log(Level::Error, format!("membership change {index} is impossible: {what}"));
                return Ok(());
            }
        };
        if !change.change.is_empty() {
            let member_change =
                MemberChange::decode(&change.change).map_err(|error| error.to_string())?;
            self.state.apply_members(&member_change);
        }
        self.announce_peers();
        self.members.changed(entry.index);
        let voters = self.state.members().filter(|member| member.role == MemberRole::Voter).count();
        self.log(
            Level::Info,
            format!("membership changed: {voters} voters, {} learners", conf.learners.len()),
        );
        self.notice_removal();
        Ok(())
    }

    /// Serves the reads whose index is applied.
    pub(super) fn serve_reads(&mut self) {
        for req in self.reads.ready(self.applied.0) {
            let Some(request) = self.reading.remove(&req) else { continue };
            let response = self.answer_read(request);
            self.reply(req, response);
        }
    }

    /// Sends what watches are owed.
    pub(super) fn serve_watches(&mut self) {
        while let Some((req, response)) = self.watches.poll(&self.state) {
            self.reply(req, response);
        }
    }

    /// Hands the queued proposals to raft, all as one append.
    pub(super) fn submit_proposals(&mut self) {
        use crate::consensus::NotProposed;
        if !self.proposals.has_queued() {
            return;
        }
        let error = match self.consensus.submit_proposals() {
            Ok((first, term)) => return self.proposals.appended(first, term),
            Err(NotProposed::NotLeader) => self.not_leader(),
            Err(NotProposed::Dropped) => Error::Busy { what: "log entries not committed".into() },
        };
        for req in self.proposals.take_queued() {
            self.reply_error(req, error.clone());
        }
    }
}
