//! Goes through all stores of a configuration: what is wrong with one keeps nobody from the others.

use super::setup::{Setup, pick};
use crate::failure::{Exit, Failure};
use crate::say::say;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::StoreIndex;
use raftkv_core::backup::catalog::Catalog;
use raftkv_core::backup::replicas::Replicas;
use raftkv_node::backup::lock::Guard;

/// The stores that were heard, and what went wrong so far.
pub struct Round {
    /// The stores, in the configuration's order.
    pub places: Vec<Place>,
    /// The first that could not be listed.
    unheard: Option<Failure>,
    /// The first of several that is not there.
    absent: Option<Failure>,
    /// The first of what went wrong in those that were heard.
    first: Option<Failure>,
}

/// One of the stores.
pub struct Place {
    /// Which.
    pub store: StoreIndex,
    /// What it is called, if there are several.
    pub name: Option<String>,
    /// The store alone.
    pub setup: Setup,
    /// What was in it when the round began. Nobody had its lock then.
    pub catalog: Catalog,
}

impl Round {
    /// Lists every store. One of several that is not there has nothing to look after; nothing is made in its place, as a lock would be.
    pub async fn begin(setup: &Setup) -> Result<Round, Failure> {
        let has_several = setup.has_several();
        let mut round = Round { places: Vec::new(), unheard: None, absent: None, first: None };
        for (store, (name, mut alone)) in setup.all().zip(setup.each()?) {
            match alone.catalog().await {
                Ok(catalog) => {
                    let name = has_several.then_some(name);
                    round.places.push(Place { store, name, setup: alone, catalog });
                }
                Err(failure) if !has_several => return Err(failure),
                Err(failure) => {
                    say!("store {name} is left out: {failure}");
                    if failure.exit() == Exit::NotFound {
                        let what = format!("store {name}: {failure}");
                        round.absent = round.absent.or(Some(Failure::new(Exit::NotFound, what)));
                        continue;
                    }
                    let what = format!("store {name} could not be listed");
                    round.unheard = round.unheard.or(Some(Failure::new(failure.exit(), what)));
                }
            }
        }
        match round.places.is_empty() {
            true => Err(round.unheard.or(round.absent).expect("there is a store")),
            false => Ok(round),
        }
    }

    /// Something went wrong in one of them.
    pub fn failed(&mut self, name: Option<&str>, failure: Failure) {
        let failure = match name {
            Some(name) => Failure::new(failure.exit(), format!("store {name}: {failure}")),
            None => failure,
        };
        self.first = self.first.take().or(Some(failure));
    }

    /// Takes the lock of one of them. Where it cannot be had, that is what went wrong there.
    pub async fn lock(&mut self, place: &Place, command: &str) -> Option<Guard> {
        match place.setup.lock(command).await {
            Ok(guard) => Some(guard),
            Err(failure) => {
                self.failed(place.name.as_deref(), failure);
                None
            }
        }
    }

    /// Whether so far nothing kept anybody from looking into every store that is there.
    pub fn heard_all(&self) -> bool {
        self.unheard.is_none() && self.first.is_none()
    }

    /// The backup that was asked for, in any of the stores.
    pub fn select(&mut self, asked: &str) -> Result<BackupId, Failure> {
        let plaintext = self.places[0].setup.loaded.access(false).plaintext;
        let catalogs = self.places.iter().map(|place| Ok(place.catalog.clone()));
        let merged = Replicas::new(catalogs.collect()).merged();
        let merged = merged.expect("every one of them was heard");
        match pick(&merged, asked, plaintext) {
            Ok(entry) => Ok(entry.id),
            // It may be in one that was not heard.
            Err(failure) if failure.exit() == Exit::NotFound => {
                Err(self.unheard.take().unwrap_or(failure))
            }
            Err(failure) => Err(failure),
        }
    }

    /// What it comes to: what went wrong weighs most, then what is not as it should be, then what was not heard.
    pub fn end(self, wrong: Option<Failure>) -> Result<(), Failure> {
        self.first.or(wrong).or(self.unheard).map_or(Ok(()), Err)
    }

    /// The same for what has to reach every store: that one is not there does not say that nothing is in it.
    pub fn end_all(mut self) -> Result<(), Failure> {
        let absent = self.absent.take().map(|failure| Failure::new(Exit::Storage, failure));
        self.end(absent)
    }
}

impl Place {
    /// Its name before what is said of it, where there are several.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or(String::new(), |name| format!("store {name}: "))
    }
}

/// Whether a lock is still this command's. One that was suspended, or cut off, may have lost it to somebody who took it for dead.
pub async fn confirm(lock: &Guard) -> Result<(), Failure> {
    lock.confirm().await.map_err(|error| Failure::new(error.obstacle().into(), error))
}
