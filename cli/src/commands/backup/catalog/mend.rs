//! Puts one store right, under its lock.

use super::view::FindingView;
use super::{Fsck, LEFT_ALONE};
use crate::commands::backup::progress::Meter;
use crate::commands::backup::prune::{first_failure, remove};
use crate::commands::backup::setup::{Setup, read_failure};
use crate::commands::backup::stores::Place;
use crate::context::Context;
use crate::failure::{Exit, Failure};
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::fsck::{Finding, Making, Remedy, examine};
use raftkv_core::backup::lock::{BEAT_EVERY_MS, Liveness, Watch};
use raftkv_core::backup::mark::Mark;
use raftkv_core::backup::marker::Owner;
use raftkv_core::backup::rebuild::RebuildMetadata;
use raftkv_core::backup::remove::Force;
use raftkv_node::blob::drive;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What becomes of something that is found since the question was asked.
const NOT_SHOWN: &str = "left to the next time: it was not shown";

/// What was found and done in a store, and the first failure.
#[derive(Default)]
pub struct Mended {
    /// What was found, with what was done about it.
    pub views: Vec<FindingView>,
    /// Whether something was left alone because nothing can be done about it without knowing more.
    pub left_alone: bool,
    /// The first of what could not be done.
    pub first: Option<Failure>,
}

impl Mended {
    fn add(&mut self, place: &Place, finding: &Finding, outcome: Result<String, Failure>) {
        let text = outcome.as_ref().map_or_else(|failure| failure.to_string(), Clone::clone);
        self.left_alone |= finding.remedy() == Remedy::None;
        self.views.push(FindingView::new(place.name.clone(), finding, Some(text)));
        self.first = self.first.take().or(outcome.err());
    }
}

/// With the lock, nobody is making a backup: what is unfinished stays unfinished.
pub async fn examine_locked(setup: &mut Setup) -> Result<Vec<Finding>, Failure> {
    Ok(examine(&setup.catalog().await?, Making::Excluded))
}

/// Makes lost metadata anew, of all backups or of one; what has metadata that cannot be used is only told of.
pub async fn rebuild_all(
    context: &Context,
    place: &mut Place,
    only: Option<BackupId>,
    allow_plaintext: bool,
) -> Result<Mended, Failure> {
    let mut mended = Mended::default();
    for finding in examine_locked(&mut place.setup).await? {
        let Some(id) = finding.backup().filter(|id| only.is_none_or(|only| only == *id)) else {
            continue;
        };
        let outcome = match finding {
            Finding::Orphan(_) => {
                let rebuilt = rebuild(context, &mut place.setup, id, allow_plaintext).await;
                let not =
                    |error: Failure| Failure::new(error.exit(), format!("not rebuilt: {error}"));
                rebuilt.map(|()| "rebuilt".to_owned()).map_err(not)
            }
            Finding::Broken(..) => Ok(LEFT_ALONE.to_owned()),
            _ => continue,
        };
        mended.add(place, &finding, outcome);
    }
    Ok(mended)
}

async fn rebuild(
    context: &Context,
    setup: &mut Setup,
    id: BackupId,
    allow_plaintext: bool,
) -> Result<(), Failure> {
    let mut machine = RebuildMetadata::new(id, setup.loaded.access(allow_plaintext));
    let meter = Meter::new(context);
    drive(&mut machine, &mut setup.stores, |progress| meter.show(progress)).await;
    meter.finish_and_clear();
    let outcome = machine.outcome().expect("a driven machine has an outcome");
    outcome.as_ref().map(|_| ()).map_err(read_failure)
}

/// Puts right what can be, as far as it was agreed upon.
pub async fn repair(
    context: &Context,
    place: &mut Place,
    fsck: &Fsck,
    agreed: Option<&[Finding]>,
) -> Result<Mended, Failure> {
    let setup = &mut place.setup;
    let abandoned = abandoned_holds(setup).await?;
    let findings = examine_locked(setup).await?;
    let is_agreed = |finding: &Finding| agreed.is_none_or(|agreed| agreed.contains(finding));
    let mut mended = Mended::default();
    for finding in &findings {
        let setup = &mut place.setup;
        let outcome = match (finding, finding.remedy()) {
            (_, Remedy::None) => Ok(LEFT_ALONE.to_owned()),
            (finding, _) if !is_agreed(finding) => Ok(NOT_SHOWN.to_owned()),
            (Finding::Hold(id, owner), _) if !abandoned.contains(&(*id, *owner)) => {
                Ok("in use".to_owned())
            }
            (Finding::Hold(id, owner), _) => {
                let withdrawn = withdraw(setup, ObjectName::hold(*id, *owner)).await;
                withdrawn.map(|()| "abandoned: removed".to_owned())
            }
            (Finding::Unremoved(id), _) => {
                withdraw(setup, ObjectName::removal(*id)).await.map(|()| "it stays".to_owned())
            }
            (Finding::Orphan(id), _) if !fsck.remove_orphans => {
                let rebuilt = rebuild(context, setup, *id, fsck.allow_plaintext).await;
                rebuilt.map(|()| "rebuilt".to_owned())
            }
            (finding, _) => remove_one(setup, finding).await,
        };
        mended.add(place, finding, outcome);
    }
    Ok(mended)
}

async fn withdraw(setup: &mut Setup, marker: ObjectName) -> Result<(), Failure> {
    let mut machine = Mark::remove(marker);
    drive(&mut machine, &mut setup.stores, |_| {}).await;
    let outcome = machine.outcome().expect("a driven machine has an outcome");
    outcome.clone().map_err(|error| Failure::new(Exit::Storage, error))
}

async fn remove_one(setup: &mut Setup, finding: &Finding) -> Result<String, Failure> {
    let Some(id) = finding.backup() else { return Ok(LEFT_ALONE.into()) };
    // Markers without a backup keep nothing.
    let force = match finding {
        Finding::Leftover(_) => Force::Override,
        _ => Force::Respect,
    };
    let fates = remove(setup, vec![id], force).await;
    first_failure(&fates)?;
    Ok(fates.get(&id).map(ToString::to_string).unwrap_or_default())
}

/// Watches every hold until it gave a sign of life, or long enough none.
async fn abandoned_holds(setup: &mut Setup) -> Result<Vec<(BackupId, Owner)>, Failure> {
    let start = Instant::now();
    let mut watches: BTreeMap<(BackupId, Owner), (Watch, Liveness)> = BTreeMap::new();
    loop {
        let catalog = setup.catalog().await?;
        let now_ms = start.elapsed().as_millis() as u64;
        let mut undecided = false;
        let holds = catalog.entries.iter();
        for (id, hold) in holds.flat_map(|e| e.holds.iter().map(|hold| (e.id, hold))) {
            let key = (id, hold.owner);
            let (watch, liveness) =
                watches.entry(key).or_insert_with(|| (Watch::default(), Liveness::Unknown));
            if *liveness == Liveness::Unknown {
                *liveness = watch.see(ObjectName::hold(id, hold.owner), hold.beats, now_ms);
            }
            undecided |= *liveness == Liveness::Unknown;
        }
        if !undecided {
            let gone = |(_, liveness): &(Watch, Liveness)| *liveness == Liveness::Abandoned;
            return Ok(watches.into_iter().filter(|(_, w)| gone(w)).map(|(key, _)| key).collect());
        }
        sleep(Duration::from_millis(BEAT_EVERY_MS)).await;
    }
}
