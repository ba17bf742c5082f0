//! Small real backups for the tests of the checkers.

use crate::model::store::{Bucket, Call, Damage, Fact, Store, StoreFaults};
use crate::time::SimTime;
use raftkv_core::api::{PutRequest, WriteOp};
use raftkv_core::backup::blob::{BlobOp, ObjectName};
use raftkv_core::backup::catalog::{Catalog, ReadCatalog};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::create::{Bounds, Create, Outcome, Settings, Source};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::machine::{Action, ActionResult, Machine};
use raftkv_core::backup::read::{Access, ReadBounds, ReadError};
use raftkv_core::backup::restore::{Restore, Restored};
use raftkv_core::backup::{BackupId, Key, KeyRing, Metadata};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId, OpId};
use raftkv_core::kv::{self, Command, KvState};
use raftkv_core::rng::{Rng, Seed};
use raftkv_core::snapshot::{Encoder, Header};
use raftkv_core::time::Wall;
use raftkv_core::wire::peer::SnapshotMeta;

/// Makes and reads backups in a good store.
pub struct BackupMaker {
    store: Store,
    rng: Rng,
    state: KvState,
    index: u64,
    /// Each machine is a session of its own.
    session: u64,
}

/// A key.
pub fn key(number: u64) -> Key {
    Key::draw(&mut Seed::from_number(number).fork("key"))
}

/// Settings for these keys.
pub fn settings(keys: &[Key]) -> Settings {
    Settings {
        compression: Compression::None,
        stores: 1,
        recipients: keys.to_vec(),
        plain_is_said: false,
        version: "test".into(),
        bounds: Bounds { chunk_bytes: 4096, ..Bounds::default() },
    }
}

impl BackupMaker {
    /// With an empty state and store.
    pub fn new(seed: u64) -> Self {
        let seed = Seed::from_number(seed);
        BackupMaker {
            store: Store::new(StoreFaults::none(), seed.fork("store")),
            rng: seed.fork("backups"),
            state: KvState::new(),
            index: 1,
            session: 0,
        }
    }

    /// Writes a value and makes a backup of the state.
    pub fn make(&mut self, settings: Settings, value: &'static str) -> Metadata {
        self.index += 1;
        self.session += 1;
        let put =
            PutRequest { key: "k".into(), value: value.into(), lease: 0, return_previous: false };
        let action = kv::Action::Write { session: None, op: WriteOp::Put(put) };
        self.state.apply(self.index, &Command { log_time_ms: 1, wall: Wall(0), action });
        let node = NodeId::new(1, 0);
        let identity = Identity { cluster: ClusterId([1; 16]), epoch: Epoch(0), node };
        let meta = SnapshotMeta { index: self.index, term: 1, ..SnapshotMeta::default() };
        let header = Header::of(&identity, meta, &self.state);
        let source = Source::new(&header, node, Vec::new());
        let mut encoder = Encoder::new(header, self.state.items());
        let mut create = Create::new(source, settings, Wall(0), &mut self.rng).unwrap();
        self.drive(&mut create);
        while let Some(chunk) = encoder.next_chunk() {
            create.push(&chunk);
            self.drive(&mut create);
        }
        create.finish();
        self.drive(&mut create);
        match create.outcome() {
            Some(Outcome::Complete(metadata)) => *metadata.clone(),
            other => panic!("a good store takes every backup: {other:?}"),
        }
    }

    /// What happened in the store.
    pub fn facts(&mut self) -> Vec<Fact> {
        std::iter::from_fn(|| self.store.poll_fact()).collect()
    }

    /// What is in the store.
    pub fn bucket(&self) -> &Bucket {
        self.store.bucket()
    }

    /// An object is gone.
    pub fn lose(&mut self, object: ObjectName) {
        self.session += 1;
        let call = Call { session: self.session, op: OpId(1) };
        self.store.submit(SimTime(0), call, BlobOp::Delete { object });
        while self.store.poll(self.store.next_wake()).is_none() {}
    }

    /// Somebody takes an object away who has no business there.
    pub fn steal(&mut self, object: ObjectName) {
        self.store.damage(SimTime(0), object, Damage::Delete);
    }

    /// What a catalog shows.
    pub fn catalog(&mut self) -> Catalog {
        self.session += 1;
        let mut machine = ReadCatalog::new(KeyRing::default());
        self.drive(&mut machine);
        machine.outcome().unwrap().clone().unwrap()
    }

    /// Tries to restore.
    pub fn restore(
        &mut self,
        id: BackupId,
        keys: &[Key],
        plaintext: Plaintext,
    ) -> Result<Restored, ReadError> {
        let access = Access { keys: KeyRing::new(keys.to_vec()), plaintext };
        self.session += 1;
        let mut machine = Restore::new(id, access, ReadBounds::default());
        self.drive(&mut machine);
        machine.take().expect("it was driven to its end")
    }

    fn drive(&mut self, machine: &mut dyn Machine) {
        loop {
            while let Some(action) = machine.poll_action() {
                match action {
                    Action::Blob { op, action, .. } => {
                        self.store.submit(SimTime(0), Call { session: self.session, op }, action);
                    }
                    Action::Work(work) => machine.handle(ActionResult::Work(work.run())),
                }
            }
            let at = self.store.next_wake();
            match self.store.poll(at) {
                Some((call, result)) => machine.handle(ActionResult::Blob { op: call.op, result }),
                None if at == SimTime::NEVER => return,
                None => {}
            }
        }
    }
}
