//! A node that was told nothing of backups makes plain ones beside its data, when asked: for trying things out.
//!
//! Invariant: never where anybody counts on others, which may be encrypted and elsewhere. So the state decides, anew each time: the node is
//! its cluster's only member, no backup of that cluster was ever restored, there is no schedule, and every run that is known was a trial.

use super::Node;
use crate::api::Backups;
use crate::backup::BackupId;
use crate::backup::create::Settings;
use crate::backup::read::Access;
use crate::ids::Epoch;

impl Node {
    /// Lets this node make backups when asked, as long as nobody can count on others. `made` names those that it finds where it puts them.
    pub fn try_backups(&mut self, settings: Settings, access: Access, made: Vec<BackupId>) {
        self.make_backups(settings, access);
        self.maker.trial = Some(made);
    }

    /// Whether a node that may only try backups may do that now.
    pub(super) fn may_try(&self, made: &[BackupId]) -> bool {
        let here = self.identity.node;
        let is_alone = self.state.members().map(|member| member.node).eq([here]);
        let Backups { schedule, last, complete, .. } = self.state.backups();
        let is_ours = last.iter().chain(complete).all(|run| run.node == here);
        // An earlier life of this node may have had a configuration. What is new in this one was a trial.
        let is_trial = complete
            .as_ref()
            .is_none_or(|run| run.number > self.copier.born() || made.contains(&run.id));
        self.identity.epoch == Epoch(0) && is_alone && schedule.is_none() && is_ours && is_trial
    }
}
