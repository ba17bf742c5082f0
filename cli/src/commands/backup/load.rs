//! A backup's state, read into memory and verified as a whole: what restoring, browsing and comparing begin with.
//!
//! Invariant: a state comes back only when every byte of the backup was there and agreed; otherwise nothing of it is used. Which backup
//! was read instead of the one that was asked for, or from which other store, and why, is said on stderr.

use super::progress::Meter;
use super::setup::{ConfigFile, Setup, read_failure, store_failure};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::say::say;
use clap::Args;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::catalog::{Entry, Proof, Standing};
use raftkv_core::backup::choose::{Choice, Doubt};
use raftkv_core::backup::epochs;
use raftkv_core::backup::metadata::rfc3339;
use raftkv_core::backup::read::{ReadBounds, ReadError, ReadTrouble};
use raftkv_core::backup::recall::{Next, Recall};
use raftkv_core::backup::restore::{Restore, Restored};
use raftkv_core::ids::Epoch;
use raftkv_node::backup::lock::Guard;
use raftkv_node::blob::drive;

/// How backups are read.
#[derive(Debug, Args)]
pub struct Loading {
    #[command(flatten)]
    pub config: ConfigFile,
    /// When the backup turns out damaged, go on with the next older complete one; also take the newest there is although a store does not
    /// answer that may have a newer one
    #[arg(long)]
    pub or_older: bool,
    /// Accept an unencrypted backup although encryption is configured
    #[arg(long)]
    pub allow_plaintext: bool,
}

/// A backup that was picked, and where it is read from.
pub struct Picked {
    /// Which.
    pub id: BackupId,
    /// The highest restore epoch that a cluster of before may have had, by what is in the stores.
    pub highest_epoch: Epoch,
    setup: Setup,
    recall: Recall,
}

impl Loading {
    /// Reads the backup that `asked` selects.
    pub async fn load(&self, context: &Context, asked: &str) -> Result<Restored, Failure> {
        self.read(context, self.pick(asked).await?).await
    }

    /// Picks the backup that `asked` selects, by what the stores list.
    pub async fn pick(&self, asked: &str) -> Result<Picked, Failure> {
        let setup = self.config.open()?;
        let replicas = setup.replicas().await?;
        let catalog = replicas.merged().map_err(|error| store_failure(&error))?;
        let plaintext = setup.loaded.access(self.allow_plaintext).plaintext;
        let choice = setup.choice(&replicas, &catalog, asked, plaintext)?;
        let id = self.choose(&setup, choice)?;
        let highest_epoch = epochs::highest(&replicas, &catalog, plaintext);
        let recall = Recall::new(replicas, catalog, id, self.or_older, plaintext);
        Ok(Picked { id, highest_epoch, setup, recall })
    }

    /// Reads a picked backup, or what takes its place.
    pub async fn read(&self, context: &Context, picked: Picked) -> Result<Restored, Failure> {
        let Picked { mut setup, mut recall, .. } = picked;
        loop {
            let (id, store) = recall.place().expect("a backup that was picked is in some store");
            let hold = setup.hold(store, id, "a restore").await?;
            let error = match self.read_copy(context, &mut setup, store, id, hold).await {
                Ok(restored) => return Ok(restored),
                Err(error) => error,
            };
            let here = setup.in_store(store, read_failure(&error));
            match recall.failed(error) {
                Next::Copy(next) => {
                    let next = setup.name(next);
                    say!("{here}; going on with the copy in {next}");
                }
                Next::Older(_) => {
                    let older = recall.entry().map(described).unwrap_or_default();
                    say!("{here}; going on with the next older one, {older}");
                }
                Next::Nothing { error, older } => {
                    if setup.has_several() {
                        say!("{here}");
                    }
                    return Err(nothing_read(&error, older.and_then(|id| recall.find(id))));
                }
            }
        }
    }

    /// The backup that was picked, if nothing newer had to be passed over unasked.
    fn choose(&self, setup: &Setup, choice: Choice<'_>) -> Result<BackupId, Failure> {
        let chosen = described(choice.entry);
        for doubt in choice.doubts {
            if !self.or_older || matches!(doubt, Doubt::OtherCluster(_)) {
                return Err(refused(setup, doubt, &chosen));
            }
            match doubt {
                Doubt::Unusable(newer) => {
                    let (id, what) = (newer.id, newer.standing.objection());
                    let is = is_newer(newer);
                    say!("backup {id} {is} newer, but is not usable: {what}; using {chosen}");
                }
                Doubt::OtherCluster(_) => {}
                Doubt::Silent(store, _) => {
                    let name = setup.name(store);
                    say!("store {name} may have a newer backup; using {chosen}");
                }
            }
        }
        Ok(choice.entry.id)
    }

    async fn read_copy(
        &self,
        context: &Context,
        setup: &mut Setup,
        store: StoreIndex,
        id: BackupId,
        hold: Option<Guard>,
    ) -> Result<Restored, ReadError> {
        let access = setup.loaded.access(self.allow_plaintext);
        let mut machine = Restore::new(id, access, ReadBounds::default());
        let meter = Meter::new(context);
        let place = setup.stores.get(store).expect("places are stores of the configuration");
        drive(&mut machine, place, |progress| meter.show(progress)).await;
        meter.finish_and_clear();
        if let Some(hold) = hold {
            hold.release().await;
        }
        machine.take().expect("a driven machine has an outcome")
    }
}

/// `older` is the backup that could be used instead, if this one is beyond repair and there is one.
fn nothing_read(error: &ReadError, older: Option<&Entry>) -> Failure {
    let failure = read_failure(error);
    let advice = match (older, error.trouble()) {
        (Some(older), _) => format!(
            "the next older usable backup is {}: ask for it, or repeat with --or-older",
            described(older)
        ),
        (None, ReadTrouble::Verification | ReadTrouble::NotFound) => {
            "backup list shows what else there is".to_owned()
        }
        (None, _) => return failure,
    };
    Failure::new(failure.exit(), format!("{failure}; nothing of it was used; {advice}"))
}

/// Why what is `chosen` is not used unasked.
fn refused(setup: &Setup, doubt: Doubt<'_>, chosen: &str) -> Failure {
    match doubt {
        Doubt::Unusable(newer) => {
            let (id, what) = (newer.id, newer.standing.objection());
            let what = format!(
                "backup {id} {} newer than all that are usable: {what}; nothing of it was used{}; \
                 the next older usable backup is {chosen}: ask for it, or repeat with --or-older",
                is_newer(newer),
                mended(newer)
            );
            Failure::new(unusable(newer), what)
        }
        Doubt::OtherCluster(other) => Failure::new(Exit::Refused, two_clusters(other, chosen)),
        Doubt::Silent(store, error) => {
            let name = setup.name(store);
            let what = format!(
                "store {name} may have a newer backup, but could not be listed: {error}; nothing was used; \
                 what would be taken from the other stores is {chosen}: ask for it by its id, or repeat with --or-older"
            );
            Failure::new(Exit::Storage, what)
        }
    }
}

/// Why age does not tell which backup is meant.
pub fn two_clusters(other: &Entry, chosen: &str) -> String {
    format!(
        "two clusters that have nothing to do with each other have backups here, and nothing tells which are newer: {chosen}, and {}; name the one that is meant by its id",
        described(other)
    )
}

fn is_newer(unusable: &Entry) -> &'static str {
    if unusable.metadata.is_some() || unusable.front.is_some() { "is" } else { "may be" }
}

/// How a backup may be made usable again.
fn mended(unusable: &Entry) -> &'static str {
    match (&unusable.metadata, &unusable.standing) {
        (None, Standing::Damaged(_)) => {
            " (take its metadata.json away, and backup catalog rebuild makes it anew if the data are whole)"
        }
        (_, Standing::Incomplete) => {
            " (backup catalog rebuild makes its metadata anew if the data are whole)"
        }
        (_, Standing::Complete(Proof::KeyMissing(_))) => " (name its key under old_keys)",
        (_, Standing::Complete(Proof::Plain)) => " (if it is yours: --allow-plaintext)",
        _ => "",
    }
}

/// The exit code for a backup that nobody can restore.
pub fn unusable(entry: &Entry) -> Exit {
    match entry.standing {
        Standing::Unreadable(_) => Exit::Storage,
        Standing::Complete(Proof::KeyMissing(_)) => Exit::Key,
        Standing::Complete(Proof::Plain) => Exit::Refused,
        _ => Exit::Verification,
    }
}

pub fn described(entry: &Entry) -> String {
    match &entry.metadata {
        Some(metadata) => format!(
            "{} of {} (cluster {}, revision {}, {} keys)",
            entry.id,
            rfc3339(metadata.timestamp),
            metadata.cluster,
            metadata.revision,
            metadata.keys
        ),
        None => entry.id.to_string(),
    }
}
