//! Backups in golden scripts: a view read through the boundary, the pipeline, an object store that shows every operation, and the cluster
//! that a restore makes.

use super::cluster::{self, Cluster, Disk};
use super::store::{Fault, Store};
use raftkv_core::api::{MemberInfo, MemberRole, Request, Response, ViewInfo};
use raftkv_core::backup::blob::BlobErrorKind;
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::create::{Bounds, Create, Outcome, Settings};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::read::{Access, ReadBounds};
use raftkv_core::backup::restore::{Rebased, Restore, rebase};
use raftkv_core::backup::{BackupId, Key, KeyRing};
use raftkv_core::boot;
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::io::Input;
use raftkv_core::node::Node;
use raftkv_core::rng::Seed;
use raftkv_core::time::Wall;
use std::fmt::Write;

/// What scripts know of backups.
#[derive(Default)]
pub struct Backups {
    store: Store,
    /// The open view, and on which node.
    view: Option<(u32, ViewInfo)>,
    newest: Option<BackupId>,
    made: u64,
}

pub const COMMANDS: &str = "
    view NODE          freezes its state
    backup none|gzip [KEY]  makes a backup of the view, encrypted under a key of that number
    restore SIZE [KEY] makes a new cluster of the newest backup
    fail N             the store's operation N from now on fails, counted from 0
    flip AT            a bit of the newest backup's data changes
    objects            what the store holds
    able NODE          lets it make backups for its cluster
    run NODE           asks for a backup that the cluster makes
    serve NODE [N]     N operations in the store or pieces of work, or all, and what follows
";

impl Backups {
    /// Runs a command; false when it is not one of these.
    pub fn run(&mut self, cluster: &mut Cluster, words: &[&str]) -> Result<bool, String> {
        let number = |at: usize| -> Result<u64, String> {
            let word = words.get(at).ok_or(format!("{words:?}: a number is missing"))?;
            word.parse().map_err(|_| format!("{words:?}: {word} is no number"))
        };
        let key = words.get(2).map(|_| number(2)).transpose()?.map(key);
        match words[0] {
            "view" => self.open_view(cluster, number(1)? as u32),
            "backup" => self.back_up(cluster, words.get(1) == Some(&"gzip"), key),
            "restore" => self.restore(cluster, number(1)? as u32, key),
            "fail" => {
                let at = self.store.asked.len() + number(1)? as usize;
                self.store.fault = Some(Fault::Fails { at, kind: BlobErrorKind::Denied });
            }
            "flip" => {
                let path = format!("{}/data.db", self.newest.expect("a backup"));
                self.store.objects.get_mut(&path).expect("its data")[number(1)? as usize] ^= 1;
            }
            "objects" => {
                for (path, bytes) in &self.store.objects {
                    // The length of metadata is not what a script is about.
                    let length = match path.ends_with("data.db") {
                        true => format!(" {} bytes", bytes.len()),
                        false => String::new(),
                    };
                    writeln!(cluster.trace, "store: holds {path}{length}").unwrap();
                }
            }
            "able" => {
                let host = cluster.hosts.get_mut(&(number(1)? as u32)).expect("a host");
                host.prepare = able;
                host.node.as_mut().map(able).expect("a node");
            }
            "run" => {
                cluster.ask(number(1)? as u32, Request::BackupRun);
            }
            "serve" => {
                let (node, count) = (number(1)? as u32, number(2).unwrap_or(u64::MAX));
                (0..count).find(|_| !self.serve(cluster, node));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn open_view(&mut self, cluster: &mut Cluster, node: u32) {
        let req = cluster.ask(node, Request::ViewOpen);
        cluster.settle();
        let Response::ViewOpened(info) = cluster.answer(req).clone() else {
            panic!("no view: {:?}", cluster.answer(req));
        };
        self.view = Some((node, info));
    }

    fn back_up(&mut self, cluster: &mut Cluster, compress: bool, key: Option<Key>) {
        let (node, info) = self.view.take().expect("a view is open");
        let compression = if compress { Compression::Gzip { level: 6 } } else { Compression::None };
        let settings = Settings {
            compression,
            stores: 1,
            recipients: key.into_iter().collect(),
            plain_is_said: false,
            version: "0.1.0".into(),
            bounds: Bounds::default(),
        };
        self.made += 1;
        let mut rng = Seed::from_number(self.made).fork("backup");
        let mut create =
            Create::new(info.clone().into(), settings, Wall(1_700_000_100_000), &mut rng).unwrap();
        for chunk in 0.. {
            let req = cluster.ask(node, Request::ViewRead { view: info.view, chunk });
            cluster.settle();
            let Response::ViewChunk { bytes, last } = cluster.answer(req).clone() else {
                panic!("no chunk: {:?}", cluster.answer(req));
            };
            create.push(&bytes);
            self.store.drive(&mut create);
            if last {
                break;
            }
        }
        create.finish();
        self.store.drive(&mut create);
        self.show_store(cluster);
        match create.outcome().expect("the machine ends") {
            Outcome::Complete(metadata) => {
                self.newest = Some(metadata.id);
                writeln!(
                    cluster.trace,
                    "backup {} complete: index {} revision {} state {} of {} bytes",
                    metadata.id,
                    metadata.index,
                    metadata.revision,
                    metadata.state_hash,
                    metadata.size_bytes
                )
                .unwrap();
            }
            Outcome::Failed(failure) => writeln!(cluster.trace, "no backup: {failure}").unwrap(),
        }
    }

    fn restore(&mut self, cluster: &mut Cluster, size: u32, key: Option<Key>) {
        let plaintext = if key.is_some() { Plaintext::Refused } else { Plaintext::Allowed };
        let access = Access { keys: KeyRing::new(key), plaintext };
        let id = self.newest.expect("a backup");
        let mut machine = Restore::new(id, access, ReadBounds::default());
        self.store.drive(&mut machine);
        self.show_store(cluster);
        let restored = match machine.take().expect("the machine ends") {
            Ok(restored) => restored,
            Err(error) => {
                writeln!(cluster.trace, "nothing restored: {error}").unwrap();
                return;
            }
        };
        let members: Vec<MemberInfo> = (1..=size)
            .map(|member| MemberInfo {
                node: NodeId::new(member, 0),
                address: cluster::address(member),
                role: MemberRole::Voter,
            })
            .collect();
        let mut made = Cluster::new(0, cluster.config.clone());
        made.trace = std::mem::take(&mut cluster.trace);
        for member in &members {
            let Rebased { cluster, epoch, base } =
                rebase(&restored, ClusterId(*b"another, to live"), Epoch(0)).unwrap();
            let identity = Identity { cluster, epoch, node: member.node };
            let mut disk = Disk::default();
            for op in boot::genesis(identity, members.clone(), base) {
                disk.carry_out(&op).unwrap();
            }
            made.add_host(member.node.member(), disk);
        }
        *cluster = made;
        let hash = restored.state.hash();
        writeln!(cluster.trace, "restored: state {hash}, as a new cluster of {size}").unwrap();
    }

    /// One operation or one piece of work that a node asked for; whether there was one.
    fn serve(&mut self, cluster: &mut Cluster, node: u32) -> bool {
        let host = cluster.hosts.get_mut(&node).expect("a host");
        let input = if let Some((op, work)) = host.work_queue.pop_front() {
            Input::Work { op, done: work.run() }
        } else if let Some((_, op, action)) = host.blob_queue.pop_front() {
            Input::Blob { op, result: self.store.answer(op, action) }
        } else {
            return false;
        };
        self.show_store(cluster);
        cluster.input(node, input);
        cluster.input(node, Input::Timeout);
        true
    }

    fn show_store(&mut self, cluster: &mut Cluster) {
        for line in self.store.lines.drain(..) {
            writeln!(cluster.trace, "store: {line}").unwrap();
        }
    }
}

fn able(node: &mut Node) {
    let settings = Settings {
        compression: Compression::None,
        stores: 1,
        recipients: Vec::new(),
        plain_is_said: false,
        version: "0.1.0".into(),
        bounds: Bounds::default(),
    };
    let access = Access { keys: KeyRing::default(), plaintext: Plaintext::Allowed };
    node.make_backups(settings, access);
}

fn key(number: u64) -> Key {
    Key::draw(&mut Seed::from_number(number).fork("recipient"))
}
