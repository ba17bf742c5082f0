//! A cluster that makes backups, and its stores.

use super::cluster::Cluster;
use super::store::Store;
use raftkv_core::api::{
    BackupStatus, Backups, PutRequest, Request, Response, Run, Schedule, WriteOp,
};
use raftkv_core::backup::blob::{BlobError, BlobErrorKind};
use raftkv_core::backup::catalog::{Catalog, ReadCatalog};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::config::Retention;
use raftkv_core::backup::create::{Bounds, Settings};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::lock::{self, Acquire, Lock, Renew};
use raftkv_core::backup::marker::Owner;
use raftkv_core::backup::prune::Pruning;
use raftkv_core::backup::read::{Access, ReadBounds};
use raftkv_core::backup::restore::Restore;
use raftkv_core::backup::{BackupId, KeyRing};
use raftkv_core::config::Config;
use raftkv_core::ids::ReqId;
use raftkv_core::io::Input;
use raftkv_core::node::Node;
use raftkv_core::time::{Span, Wall};

/// Nodes, and the stores they share.
pub struct Scene {
    pub cluster: Cluster,
    /// The stores that the nodes share, the primary one first.
    pub stores: Vec<Store>,
    /// Hosts whose requests to the store go nowhere.
    pub cut_off: Vec<u32>,
    /// Stores in which everything fails.
    pub down: Vec<usize>,
}

impl Scene {
    pub fn new(size: u32) -> Self {
        Scene::prepared(size, able)
    }

    pub fn prepared(size: u32, able: fn(&mut Node)) -> Self {
        let config = Config { backup_lease: Span::from_millis(5_000), ..Config::default() };
        let mut cluster = Cluster::new(size, config);
        for host in cluster.hosts.values_mut() {
            host.prepare = able;
            able(host.node.as_mut().unwrap());
        }
        cluster.elect();
        let stores = vec![Store::default(), Store::default(), Store::default()];
        Scene { cluster, stores, cut_off: Vec::new(), down: Vec::new() }
    }

    pub fn leader(&mut self) -> u32 {
        self.cluster.elect()
    }

    pub fn ask_leader(&mut self, request: Request) -> ReqId {
        let leader = self.leader();
        let req = self.cluster.ask(leader, request);
        self.cluster.settle();
        req
    }

    pub fn put(&mut self, key: &str, value: &str) {
        let (key, value) = (key.to_owned().into(), value.to_owned().into());
        let put = PutRequest { key, value, lease: 0, return_previous: false };
        self.ask_leader(Request::Write { session: None, op: WriteOp::Put(put) });
    }

    pub fn schedule(&mut self, cron: &str) {
        let schedule = Schedule { cron: cron.into(), timezone: "UTC".into(), prune: true };
        let req = self.ask_leader(Request::BackupSchedule { schedule: Some(schedule) });
        assert!(matches!(self.cluster.answer(req), Response::Backups(_)));
    }

    /// One operation in the store, or one piece of work; whether there was one.
    pub fn step(&mut self, member: u32) -> bool {
        let host = self.cluster.hosts.get_mut(&member).unwrap();
        if host.node.is_none() {
            return false;
        }
        if let Some((op, work)) = host.work_queue.pop_front() {
            self.cluster.input(member, Input::Work { op, done: work.run() });
            return true;
        }
        let Some((store, op, action)) = host.blob_queue.pop_front() else { return false };
        let store = usize::from(store.0);
        let kind = BlobErrorKind::Transient;
        let down = BlobError { kind, message: "by the test's wish".into() };
        let result = match self.down.contains(&store) || self.cut_off.contains(&member) {
            true => Err(down),
            false => self.stores[store].answer(op, action),
        };
        self.cluster.input(member, Input::Blob { op, result });
        true
    }

    /// A tick, and everything that follows from it.
    pub fn tick(&mut self) {
        self.cluster.pass_tick();
        for member in self.cluster.members() {
            while self.step(member) {
                self.cluster.settle();
            }
        }
    }

    /// How often a node warned of this.
    pub fn warnings(&self, what: &str) -> usize {
        let lines = self.cluster.trace.lines();
        lines.filter(|line| line.contains("log Warn") && line.contains(what)).count()
    }

    pub fn ticks(&mut self, count: u32) {
        (0..count).for_each(|_| self.tick());
    }

    /// Ticks until this holds of what the leader knows.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Backups) -> bool) -> Backups {
        for _ in 0..3_000 {
            let backups = self.backups();
            if holds(&backups) {
                return backups;
            }
            self.tick();
        }
        panic!("never: {what}; it is {:?}", self.backups());
    }

    pub fn backups(&mut self) -> Backups {
        let leader = self.leader();
        self.node(leader).state().backups().clone()
    }

    /// What a node answers about backups.
    pub fn status(&mut self, member: u32) -> BackupStatus {
        let req = self.cluster.ask(member, Request::BackupStatus);
        self.cluster.settle();
        match self.cluster.answer(req) {
            Response::Backups(status) => (**status).clone(),
            other => panic!("{other:?}"),
        }
    }

    pub fn node(&self, member: u32) -> &Node {
        self.cluster.hosts[&member].node.as_ref().unwrap()
    }

    pub fn catalog(&mut self) -> Catalog {
        self.catalog_of(0)
    }

    pub fn catalog_of(&mut self, store: usize) -> Catalog {
        let mut machine = ReadCatalog::new(KeyRing::default());
        self.stores[store].drive(&mut machine);
        machine.outcome().unwrap().clone().unwrap()
    }

    /// Ids of what the catalog calls complete; each restores.
    pub fn complete(&mut self) -> Vec<BackupId> {
        self.complete_in(0)
    }

    /// The same, of another store.
    pub fn complete_in(&mut self, store: usize) -> Vec<BackupId> {
        let catalog = self.catalog_of(store);
        let complete = catalog.entries.iter().filter(|entry| entry.is_complete());
        let ids: Vec<BackupId> = complete.map(|entry| entry.id).collect();
        for id in &ids {
            let mut restore = Restore::new(*id, plain(), ReadBounds::default());
            self.stores[store].drive(&mut restore);
            restore.take().unwrap().unwrap();
        }
        ids
    }
}

/// Without keys, as everything here is.
pub fn plain() -> Access {
    Access { keys: KeyRing::default(), plaintext: Plaintext::Allowed }
}

pub fn able(node: &mut Node) {
    node.make_backups(plain_settings(), plain());
}

/// How backups are made that are not encrypted.
pub fn plain_settings() -> Settings {
    Settings {
        compression: Compression::Gzip { level: 1 },
        stores: 1,
        recipients: Vec::new(),
        plain_is_said: false,
        version: "test".into(),
        bounds: Bounds { chunk_bytes: 1 << 16, part_bytes: 1 << 16, ..Bounds::default() },
    }
}

/// Able, and told to keep two.
pub fn tidy(node: &mut Node) {
    able(node);
    node.prune_backups(Pruning {
        rules: Retention {
            retention_days: 0,
            max_backups: 2,
            min_backups: 1,
            ..Retention::default()
        },
        access: plain(),
    });
}

impl Scene {
    pub fn tick_without_store(&mut self, count: u32) {
        for _ in 0..count {
            self.cluster.pass_tick();
        }
    }
}

impl Scene {
    /// Somebody else takes the store's lock.
    pub fn lock(&mut self) -> Lock {
        self.lock_in(0)
    }

    /// The same, of another store.
    pub fn lock_in(&mut self, store: usize) -> Lock {
        let mut acquire = Acquire::new(lock::marker(Owner([7; 16]), "a person", Wall(0)), None);
        self.stores[store].drive(&mut acquire);
        acquire.outcome().unwrap().clone().unwrap()
    }

    /// They give a sign of life, or let it go.
    pub fn renew(&mut self, mut renew: Renew) -> Lock {
        self.stores[0].drive(&mut renew);
        renew.outcome().unwrap().clone().unwrap()
    }

    /// They give a sign of life in another store.
    pub fn renew_in(&mut self, store: usize, lock: &Lock) {
        self.stores[store].drive(&mut Renew::new(lock.clone()));
    }

    /// Asks for a backup, and ticks until it has begun; it may have ended, too.
    pub fn run(&mut self) -> Backups {
        let before = self.backups().last;
        self.ask_leader(Request::BackupRun);
        self.until("it begins", |backups| backups.run.is_some() || backups.last != before)
    }

    /// One operation of that member for each tick, until this holds: what follows from it has only begun then.
    pub fn step_until(&mut self, member: u32, what: &str, holds: impl Fn(&mut Scene) -> bool) {
        for _ in 0..3_000 {
            if holds(self) {
                return;
            }
            self.cluster.pass_tick();
            self.step(member);
            self.cluster.settle();
        }
        panic!("never: {what}; it is {:?}", self.backups());
    }

    /// Ticks until a run begins, of which nothing is done yet.
    pub fn begin(&mut self) -> Run {
        for _ in 0..3_000 {
            if let Some(run) = self.backups().run {
                return run;
            }
            self.cluster.pass_tick();
        }
        panic!("no run begins; it is {:?}", self.backups());
    }

    /// So many steps of that member: operations and pieces of work, or ticks where it has none.
    pub fn steps(&mut self, member: u32, count: u32) {
        for _ in 0..count {
            if !self.step(member) {
                self.cluster.pass_tick();
            }
            self.cluster.settle();
        }
    }

    /// How many objects a backup has, but for its status.
    pub fn objects_of(&self, id: BackupId) -> usize {
        let paths = self.stores[0].objects.keys();
        paths.filter(|it| it.starts_with(&id.to_string()) && !it.ends_with("status.json")).count()
    }

    /// A backup on schedule of something new.
    pub fn next(&mut self, round: u64) -> BackupId {
        self.put("a", &format!("{round}"));
        let is_new = |backups: &Backups| {
            backups.complete.as_ref().is_some_and(|complete| complete.revision == round)
        };
        let id = self.until("a new one", is_new).complete.unwrap().id;
        // What follows the backup: pruning, and letting the lock go.
        self.ticks(20);
        id
    }
}
