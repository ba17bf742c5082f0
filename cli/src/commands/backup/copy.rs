//! `backup copy`: bring the stores that have copies up to date.

use super::progress::Meter;
use super::prune::tidy;
use super::setup::{ConfigFile, Setup};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{Report, table};
use crate::say::say;
use crate::stop::Stop;
use clap::Args;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::catch_up::{CatchUp, CatchUpError, CaughtUp};
use raftkv_core::backup::copy::{Copied, CopyError, Route};
use raftkv_core::backup::prune::Older;
use raftkv_core::backup::read::Access;
use raftkv_node::blob::drive_until;
use serde::Serialize;
use std::collections::BTreeSet;

/// Arguments.
#[derive(Debug, Args)]
pub struct Copy {
    #[command(flatten)]
    config: ConfigFile,
    /// Only to this store; to all others if left out
    #[arg(long, value_name = "NAME", conflicts_with = "store")]
    to: Option<String>,
    /// From this store: primary, unless that is what has to be filled again
    #[arg(long, value_name = "NAME", default_value = "primary", conflicts_with = "store")]
    from: String,
    /// Copy backups that are not encrypted, although encryption is configured
    #[arg(long)]
    allow_plaintext: bool,
}

#[derive(Debug, Serialize)]
struct CopiedView {
    stores: Vec<StoreView>,
}

#[derive(Debug, Serialize)]
struct StoreView {
    store: String,
    already: usize,
    copies: Vec<CopyView>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct CopyView {
    id: String,
    /// `copied`, `already`, `gone`, `forged`, `unreadable`, `plain` or `failed`.
    outcome: &'static str,
    data_bytes: Option<u64>,
    error: Option<String>,
}

/// What is said when a copy could not be given up in time.
const BROKEN_OFF: &str = "stopped at work on a copy: repeat this later";

/// Runs it. Every store is tried even when one fails; the first failure decides the exit code.
pub async fn run(context: &Context, copy: Copy) -> Result<(), Failure> {
    let setup = copy.config.open()?;
    let stop = Stop::listen()?;
    stop.in_time(copy_all(context, copy, setup, &stop), BROKEN_OFF).await
}

async fn copy_all(
    context: &Context,
    copy: Copy,
    mut setup: Setup,
    stop: &Stop,
) -> Result<(), Failure> {
    let from = setup.find(&copy.from)?;
    let to = match &copy.to {
        Some(name) => vec![setup.find(name)?],
        None => setup.all().filter(|store| *store != from).collect(),
    };
    if to.is_empty() || to.contains(&from) {
        let what =
            "there is no store to copy to: name one under copies, other than the one to copy from";
        return Err(Failure::new(Exit::Usage, what));
    }
    let (mut stores, mut first) = (Vec::new(), None);
    for to in to {
        let access = setup.loaded.access(copy.allow_plaintext);
        let done = catch_up(context, &mut setup, Route { from, to }, access, stop).await;
        let failed = failed(&done, setup.name(to));
        first = first.or(failed);
        stores.push(view(setup.name(to), &done));
    }
    context.print(&CopiedView { stores })?;
    first.map_or(Ok(()), Err)
}

/// Copies what was made, and what is missing from before; says whether everything is everywhere now. The backup counts already, so whatever
/// goes wrong here is only said.
pub async fn after_backup(
    context: &Context,
    setup: &mut Setup,
    made: BackupId,
    stop: &Stop,
) -> bool {
    // The first stores had to have it before it was complete.
    let has_it = usize::from(setup.loaded.config.required_copies);
    let mut lacking: BTreeSet<StoreIndex> = setup.all().skip(has_it).collect();
    let done = |to: StoreIndex, done: &CaughtUp| {
        if done.copies.iter().any(|(id, copied)| *id == made && copied.is_ok()) {
            lacking.remove(&to);
        }
    };
    let is_whole = stop.with_grace(copy_everywhere(context, setup, stop, done)).await;
    if !stop.was_told() {
        return is_whole == Some(true);
    }
    let names: Vec<_> = lacking.iter().map(|store| setup.name(*store)).collect();
    match names.is_empty() {
        true => say!(
            "stopped: the backup is complete, and every store has it; backup copy makes up for what they lack of older ones"
        ),
        false => say!(
            "stopped: the backup is complete, but has no copy in {}; backup copy makes up for this",
            names.join(" and ")
        ),
    }
    false
}

/// Copies what is missing, when no backup was made just now; says whether everything is everywhere now.
pub async fn once_more(context: &Context, setup: &mut Setup, stop: &Stop) -> bool {
    let copied = stop.with_grace(copy_everywhere(context, setup, stop, |_, _| {})).await;
    copied == Some(true)
}

/// Brings every store up to date, and says whether that went well; `done` takes what was done in each.
async fn copy_everywhere(
    context: &Context,
    setup: &mut Setup,
    stop: &Stop,
    mut done: impl FnMut(StoreIndex, &CaughtUp),
) -> bool {
    let (from, mut is_whole) = (StoreIndex::PRIMARY, true);
    for to in setup.all().skip(1) {
        let access = setup.loaded.access(false);
        let caught_up = catch_up(context, setup, Route { from, to }, access, stop).await;
        caught_up.iter().for_each(|caught_up| done(to, caught_up));
        if stop.was_told() {
            return false;
        }
        let failed = failed(&caught_up, setup.name(to));
        if let Some(failure) = failed {
            is_whole = false;
            say!("{failure}; the backup is complete, and backup copy makes up for this");
        }
    }
    is_whole
}

/// Brings one store up to date, under its lock, and lets older backups go there, if they are to.
async fn catch_up(
    context: &Context,
    setup: &mut Setup,
    route: Route,
    access: Access,
    stop: &Stop,
) -> Result<CaughtUp, Failure> {
    let stopped = || {
        let what = format!("nothing was copied to {}: told to stop", setup.name(route.to));
        Failure::new(Exit::Failed, what)
    };
    if stop.was_told() {
        return Err(stopped());
    }
    let lock = setup.lock_until(route.to, "backup copy", stop.told()).await.map_err(|failure| {
        Failure::new(failure.exit(), format!("nothing was copied: {failure}"))
    })?;
    let lock = lock.ok_or_else(stopped)?;
    let max_parts = setup.loaded.config.max_parts([route.to]);
    let mut machine = CatchUp::new(route, access, max_parts);
    let meter = Meter::new(context);
    let show = |progress| meter.show(progress);
    drive_until(&mut machine, &mut setup.stores, stop.told(), CatchUp::stop, show).await;
    meter.finish_and_clear();
    let done = match machine.outcome() {
        Some(Ok(done)) => Ok(done.clone()),
        Some(Err(error)) => {
            let (CatchUpError::From(cause) | CatchUpError::To(cause)) = error;
            let name = match error {
                CatchUpError::From(_) => setup.name(route.from),
                CatchUpError::To(_) => setup.name(route.to),
            };
            Err(Failure::new(Exit::Storage, format!("store {name}: {cause}")))
        }
        None => unreachable!("a driven machine has an outcome"),
    };
    if let Ok(done) = &done
        && !stop.was_told()
    {
        let older = if done.is_whole() { setup.older() } else { Older::Stay };
        tokio::select! {
            () = tidy(setup, route.to, &lock, &older) => {}
            () = stop.told() => {}
        }
    }
    lock.release().await;
    done
}

/// The worst that happened in one store.
fn failed(done: &Result<CaughtUp, Failure>, name: &str) -> Option<Failure> {
    let done = match done {
        Ok(done) => done,
        Err(failure) => return Some(Failure::new(failure.exit(), failure)),
    };
    if let Some(id) = done.forged.first() {
        let what = format!("store {name} has a forged backup {id}, which was left as it is");
        return Some(Failure::new(Exit::Verification, what));
    }
    if let Some(id) = done.unreadable.first() {
        let what = format!("store {name} has a backup {id}, but cannot read it: repeat this later");
        return Some(Failure::new(Exit::Storage, what));
    }
    let Some((id, error)) = done.failures().next() else {
        let stopped = format!("store {name} was not brought up to date: told to stop");
        return done.is_stopped().then(|| Failure::new(Exit::Failed, stopped));
    };
    let exit = match error {
        CopyError::Damaged(_) | CopyError::Displaced => Exit::Verification,
        CopyError::Changed(_)
        | CopyError::Gone
        | CopyError::GivenUp
        | CopyError::TooLong { .. } => Exit::Failed,
        CopyError::Read { .. } | CopyError::Write { .. } => Exit::Storage,
    };
    Some(Failure::new(exit, format!("backup {id} was not copied to {name}: {error}")))
}

fn view(name: &str, done: &Result<CaughtUp, Failure>) -> StoreView {
    let store = name.to_owned();
    let done = match done {
        Ok(done) => done,
        Err(failure) => {
            let error = Some(failure.to_string());
            return StoreView { store, already: 0, copies: Vec::new(), error };
        }
    };
    let copied = |(id, copied): &(BackupId, Result<Copied, CopyError>)| {
        let (outcome, data_bytes) = match copied {
            Ok(Copied::Done { data_bytes }) => ("copied", Some(*data_bytes)),
            Ok(Copied::Already) => ("already", None),
            Err(CopyError::Gone) => ("gone", None),
            Err(_) => ("failed", None),
        };
        let error = copied.as_ref().err().map(ToString::to_string);
        CopyView { id: id.to_string(), outcome, data_bytes, error }
    };
    let forged = |id: &BackupId| {
        let error = Some("it is forged there, and was left as it is".to_owned());
        CopyView { id: id.to_string(), outcome: "forged", data_bytes: None, error }
    };
    let unreadable = |id: &BackupId| {
        let error = Some("it is there, but cannot be read".to_owned());
        CopyView { id: id.to_string(), outcome: "unreadable", data_bytes: None, error }
    };
    let plain = |id: &BackupId| {
        let error = Some("it is not encrypted: --allow-plaintext copies it".to_owned());
        CopyView { id: id.to_string(), outcome: "plain", data_bytes: None, error }
    };
    let copies = done.copies.iter().map(copied).chain(done.forged.iter().map(forged));
    let copies = copies.chain(done.unreadable.iter().map(unreadable));
    let copies = copies.chain(done.plain.iter().map(plain)).collect();
    StoreView { store, already: done.already, copies, error: None }
}

impl Report for CopiedView {
    fn table(&self) -> String {
        let mut rows = table::new(&["STORE", "ID", "RESULT"]);
        for store in &self.stores {
            if let Some(error) = &store.error {
                rows.add_row([store.store.clone(), "-".into(), error.clone()]);
            }
            for copy in &store.copies {
                let result = copy.error.clone().unwrap_or_else(|| copy.outcome.to_owned());
                rows.add_row([store.store.clone(), copy.id.clone(), result]);
            }
            if store.already > 0 {
                let what = format!("{} had been there", store.already);
                rows.add_row([store.store.clone(), "-".into(), what]);
            }
        }
        table::text(&rows)
    }
}
