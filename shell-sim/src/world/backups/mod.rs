//! Backups in the world: a store, the operator's command line that makes and reads backups, and everything that goes wrong with either.
//!
//! Invariant: every finding of the command line is judged by what really happened in the store, which the checkers follow by its facts.

mod console;
mod copies;
mod findings;
mod found;
mod janitor;
mod keys;
mod mending;
mod mischief;
pub mod options;
mod pinning;
mod pruning;
mod reading;
mod rotating;
mod scenario;
mod shelf;
mod sweep;
mod taking;
mod undoing;
mod wants;

use super::{CONSOLE_HOST, World};
use crate::check::backup_commit::Commits;
use crate::check::backup_restore::{self, Truth};
use crate::check::canaries::Canaries;
use crate::check::nonces::Nonces;
use crate::check::openers::{Openers, Opens};
use crate::check::pins::Pins;
use crate::check::{Violation, newest_restored, retention_kept};
use crate::model::clock::calendar;
use crate::model::network::Host;
use crate::model::store::{Call, Fact, Store};
use crate::time::SimTime;
use console::Console;
use copies::Copies;
use found::Means;
use janitor::{JANITOR_SESSIONS, Janitor, Swept};
use mischief::Mischief;
use options::BackupOptions;
use raftkv_core::api::Response;
use raftkv_core::backup::blob::{Role, StoreIndex};
use raftkv_core::backup::create::Settings;
use raftkv_core::backup::read::{Access, ReadError, ReadTrouble};
use raftkv_core::backup::restore::Restored;
use raftkv_core::backup::{BackupId, Metadata};
use raftkv_core::io::Input;
use raftkv_core::kv::StateHash;
use raftkv_core::rng::{Rng, Seed};
use shelf::Shelf;
use std::collections::BTreeMap;

/// Sessions of nodes in the store are numbered from here on; those of the command line from 1.
const NODE_SESSIONS: u64 = 1 << 32;

/// Everything about backups.
#[derive(Debug)]
pub(super) struct Backups {
    pub(super) store: Store,
    copies: Copies,
    console: Console,
    janitor: Janitor,
    commits: Commits,
    openers: Openers,
    pins: Pins,
    pub(super) nonces: Nonces,
    pub(super) canaries: Canaries,
    mischief: Mischief,
    /// Whether nodes can make backups, and how.
    nodes_are_able: bool,
    /// Whether they run retention behind them.
    nodes_prune: bool,
    node_sessions: u64,
    /// Of the last restore in memory.
    last_trouble: Option<ReadTrouble>,
}

/// A cluster can start from this.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) restored: Box<Restored>,
    /// How many newer backups did not restore.
    pub(super) skipped: usize,
}

impl Backups {
    pub(super) fn new(options: &BackupOptions, nodes: usize, seed: &Seed) -> Self {
        let mut console = Console::new(options.clone(), nodes, seed);
        let mut canaries = Canaries::default();
        canaries.guard(console.keys().secrets().iter().cloned());
        Backups {
            store: Store::new(options.store, seed.fork("store")),
            copies: Copies::new(options, seed),
            console,
            janitor: Janitor::new(options, seed.fork("janitor")),
            commits: Commits::default(),
            openers: Openers::default(),
            pins: Pins::default(),
            nonces: Nonces::default(),
            canaries,
            mischief: Mischief::new(options, seed),
            nodes_are_able: options.by_cluster,
            nodes_prune: options.by_cluster && options.nodes_prune,
            node_sessions: NODE_SESSIONS,
            last_trouble: None,
        }
    }

    pub(super) fn next_wake(&self) -> SimTime {
        let wakes = [
            self.store.next_wake(),
            self.copies.next_wake(),
            self.console.next_wake(),
            self.janitor.next_wake(),
            self.mischief.next_wake(),
        ];
        wakes.into_iter().min().unwrap_or(SimTime::NEVER)
    }

    /// A node's process begins to ask the store under this name.
    pub(super) fn begin_node_session(&mut self) -> u64 {
        self.node_sessions += 1;
        self.node_sessions
    }

    /// How nodes make backups, and with what they read them, if they can.
    pub(super) fn node_settings(&mut self) -> Option<(Settings, Access)> {
        let settings = Settings { stores: self.copies.required, ..self.console.settings() };
        self.nodes_are_able.then(|| (settings, self.console.keys().access()))
    }

    /// All stores.
    fn shelf(&mut self) -> Shelf<'_> {
        Shelf { primary: &mut self.store, copies: &mut self.copies }
    }

    /// The command line, beside all stores.
    fn desk(&mut self) -> (&mut Console, Shelf<'_>) {
        let shelf = Shelf { primary: &mut self.store, copies: &mut self.copies };
        (&mut self.console, shelf)
    }

    /// A node's answer to the command line.
    pub(super) fn handle(&mut self, now: SimTime, attempt: u64, response: Option<Response>) {
        let (console, mut shelf) = self.desk();
        console.handle(now, attempt, response, &mut shelf);
    }

    /// Everything is good from now on; a backup is made, and restored in memory.
    pub(super) fn prove(&mut self, now: SimTime) {
        self.store.heal();
        self.copies.heal();
        self.mischief.rest();
        self.janitor.rest();
        self.console.prove(now);
    }

    /// Whether that was done.
    pub(super) fn is_proven(&self) -> bool {
        self.console.is_done()
    }

    /// Find a backup from which a cluster of so many nodes can start.
    pub(super) fn recover(&mut self, now: SimTime, nodes: usize) {
        let (console, mut shelf) = self.desk();
        console.recover(now, nodes, &mut shelf);
    }

    /// Whether a backup is under way.
    pub(super) fn is_taking(&self) -> bool {
        self.console.is_taking()
    }

    /// How many backups are complete that nobody has damaged.
    pub(super) fn good(&self) -> usize {
        let bucket = self.store.bucket();
        self.commits.complete().filter(|metadata| !bucket.is_tampered(metadata.id)).count()
    }

    /// The newest of these in the primary store, and whether another one has it as well.
    fn newest_good(&self) -> Option<(BackupId, bool)> {
        let good = copies::good(&self.commits, &self.store, SimTime::NEVER);
        let newest = good.max_by_key(|metadata| (metadata.epoch, metadata.index))?.id;
        Some((newest, self.copies.good(SimTime::NEVER).any(|copy| copy.id == newest)))
    }

    /// Checks that nothing newer than this was whole anywhere when it was looked for.
    fn judge_newest(&self, restored: &Metadata, means: &Means) -> Result<(), Violation> {
        if !self.store.lists_truly() || !self.copies.list_truly() {
            return Ok(());
        }
        let heard = (0..).map(StoreIndex).zip(self.truths());
        let heard = heard.filter(|(store, _)| !means.silent.contains(store));
        let whole = heard.flat_map(|(at, (commits, store))| {
            let good = copies::good(commits, store, means.began);
            good.filter(move |metadata| self.opens(at, metadata, means) == Opens::Always)
        });
        newest_restored::check(restored, whole)
    }

    /// How many of these are among the newest, which retention leaves alone: a list does not show all damage.
    fn good_and_kept(&self) -> usize {
        if !self.janitor.is_planned() && !self.nodes_prune {
            return self.good();
        }
        let mut newest: Vec<_> = self
            .commits
            .complete()
            .map(|metadata| (metadata.epoch, metadata.index, metadata.timestamp, metadata.id))
            .collect();
        newest.sort();
        let kept = newest.iter().rev().take(self.janitor.rules().min_backups.max(1) as usize);
        kept.filter(|(_, _, _, id)| !self.store.bucket().is_tampered(*id)).count()
    }

    /// How often each fault fired, and how much was done.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
        for counts in std::iter::once(&self.store).chain(self.copies.stores()).map(Store::counts) {
            let by_chance = [
                ("store transient error", counts.transient),
                ("store request lost", counts.requests_lost),
                ("store answer lost", counts.answers_lost),
                ("store late write", counts.late),
                ("store write retried", counts.retried),
                ("store stale listing", counts.stale_listings),
            ];
            let named =
                counts.refused.iter().chain(&counts.damaged).map(|(name, count)| (*name, *count));
            for (name, count) in named.chain(by_chance) {
                *all.entry(name).or_default() += count;
            }
        }
        all.into_iter().collect()
    }

    /// What really happened in each store, and what is there.
    fn truths(&self) -> impl Iterator<Item = (&Commits, &Store)> {
        std::iter::once((&self.commits, &self.store)).chain(self.copies.truths())
    }

    /// What really happened in a store, and what is there.
    fn truth(&self, store: StoreIndex) -> (&Commits, &Store) {
        match usize::from(store.0).checked_sub(1) {
            None => (&self.commits, &self.store),
            Some(at) => self.copies.truth(at),
        }
    }

    /// A store, to look at what is really there.
    fn store_mut(&mut self, store: StoreIndex) -> &mut Store {
        match usize::from(store.0).checked_sub(1) {
            None => &mut self.store,
            Some(at) => &mut self.copies.site(at).store,
        }
    }

    /// Which keys open what a store has.
    fn openers(&self, store: StoreIndex) -> &Openers {
        match usize::from(store.0).checked_sub(1) {
            None => &self.openers,
            Some(at) => self.copies.openers(at),
        }
    }

    /// Whether what is at hand opens a backup in a store.
    fn opens(&self, store: StoreIndex, metadata: &Metadata, means: &Means) -> Opens {
        self.openers(store).opens(&means.access, metadata, means.began)
    }

    /// Judges an attempt to read a backup.
    fn judge(
        &self,
        id: BackupId,
        result: Result<(&Metadata, Option<StateHash>), &ReadError>,
        means: &Means,
    ) -> Result<(), Violation> {
        let (commits, store) = self.truth(means.store);
        let metadata = commits.metadata(id);
        let mut is_gone = metadata.is_some() && !commits.is_complete(id);
        if is_gone && means.held && store.lists_truly() {
            // Whoever found the metadata finds the data, too.
            is_gone = matches!(result, Err(ReadError::NotComplete { .. }));
        }
        // A copy that was damaged may have been made again.
        let was_tampered = match usize::from(means.store.0).checked_sub(1) {
            None => store.bucket().was_tampered(id, means.began),
            Some(at) => self.copies.has_spoiled(at, id, means.began),
        };
        let before = means.refusals_before.get(usize::from(means.store.0));
        let truth = Truth {
            metadata,
            was_tampered,
            is_tampered: is_gone
                || store.bucket().is_tampered_since(id, means.began)
                || commits.was_made_again(id),
            opens: metadata.map_or(Opens::Always, |it| self.opens(means.store, it, means)),
            store_may_fail: before.is_some_and(|before| store.counts().refusals() > *before),
        };
        backup_restore::check(result, truth)
    }
}

/// A key is replaced.
fn rotate_key(console: &mut Console, canaries: &mut Canaries, rng: &mut Rng) {
    let keys = console.keys();
    let known = keys.secrets().len();
    keys.rotate(rng);
    canaries.guard(keys.secrets()[known..].iter().cloned());
}

impl World {
    /// Lets the store, the command line and their troubles go on.
    pub(super) fn run_backups(&mut self) -> Result<(), Violation> {
        if self.backups.next_wake() > self.now {
            return Ok(());
        }
        self.strike_backups();
        let backups = &mut self.backups;
        while let Some((call, result)) =
            backups.store.poll(self.now).or_else(|| backups.copies.poll(self.now))
        {
            let Call { session, op } = call;
            if session < JANITOR_SESSIONS {
                let (console, mut shelf) = backups.desk();
                console.hear(self.now, call, result, &mut shelf);
            } else if session < NODE_SESSIONS {
                backups.janitor.hear(self.now, call, result, &mut backups.store);
            } else if let Some(slot) = self.slots.iter_mut().find(|it| it.store_session == session)
            {
                slot.inbox.push_back(Input::Blob { op, result });
            }
        }
        self.note_facts()?;
        self.run_janitor()?;
        loop {
            let Backups { console, store, copies, nonces, janitor, .. } = &mut self.backups;
            console.beside(janitor.steps().is_some());
            let mut shelf = Shelf { primary: store, copies };
            let sending = console.poll(self.now, &mut shelf, nonces)?;
            while let Some(found) = self.backups.console.found() {
                self.on_found(found)?;
            }
            let Some(sending) = sending else { return Ok(()) };
            self.speak(Host(CONSOLE_HOST), sending);
        }
    }

    fn run_janitor(&mut self) -> Result<(), Violation> {
        let access = self.backups.console.keys().access();
        if self.backups.console.is_mending() {
            self.backups.janitor.wait(self.now);
        }
        loop {
            let Backups { janitor, store, .. } = &mut self.backups;
            let Some(swept) = janitor.poll(self.now, calendar(self.now), &access, store) else {
                return Ok(());
            };
            self.note_facts()?;
            match swept {
                Swept::Refused(error) => {
                    self.sometimes("retention refused to go by a wrong clock");
                    self.tell("no plan", format_args!("{error}"));
                }
                Swept::Planned(going) => {
                    self.tell("plan", format_args!("{} may go", going.len()));
                    if going.iter().any(|id| self.backups.store.bucket().has_aged(*id)) {
                        self.sometimes("a hold that a dead reader left kept nothing for ever");
                    }
                    self.note_pins(&going);
                    if let Some(id) = going.first() {
                        self.backups.console.read_before_it_goes(self.now, *id);
                    }
                }
                Swept::Removed(gone) => {
                    let min = self.backups.janitor.rules().min_backups.max(1) as usize;
                    for id in gone {
                        self.sometimes("retention removed a backup");
                        self.tell("pruned", format_args!("{id}"));
                        retention_kept::check(id, &self.backups.commits, min)?;
                        self.backups.judge_pin(StoreIndex::PRIMARY, id)?;
                    }
                }
                Swept::Unlisted => self.tell("unlisted", format_args!("for retention")),
                Swept::Died => self.tell("died", format_args!("in retention")),
            }
        }
    }

    fn note_facts(&mut self) -> Result<(), Violation> {
        while let Some(fact) = self.backups.store.poll_fact() {
            let backups = &mut self.backups;
            backups.commits.fact(&fact, backups.store.bucket())?;
            backups.openers.fact(self.now, &fact)?;
            match &fact {
                Fact::Written(_, bytes) => backups.canaries.seen("the object store", bytes)?,
                Fact::Appeared(object) | Fact::Begun(object) | Fact::Removed(object) => {
                    let what = match fact {
                        Fact::Appeared(_) => "appeared",
                        Fact::Removed(_) => "removed",
                        _ => "upload",
                    };
                    self.trace.line(self.now, "store", what, format_args!("{object}"));
                    if what == "appeared" && object.role == Role::Metadata {
                        self.backups.judge_required(object.backup)?;
                    }
                }
            }
        }
        self.note_copies()
    }
}
