//! Taking a backup as the operator's command does: learn what was acknowledged, freeze the state on a node that has it, read the view
//! chunk by chunk, seal and upload.

use super::keys::Keys;
use raftkv_core::api::{KeyRange, RangeRequest, Request, Response, Revision, ViewInfo};
use raftkv_core::backup::create::{Create, Outcome, Settings};
use raftkv_core::rng::Rng;
use raftkv_core::time::Wall;

/// Nodes asked in vain before it is given up.
const TRIES: u32 = 12;

/// A backup being taken.
#[derive(Debug)]
pub(super) struct Taking {
    settings: Settings,
    wall: Wall,
    stage: Stage,
    tries: u32,
    /// Everything up to this revision was acknowledged before, and has to be in the backup.
    acknowledged: Revision,
}

#[derive(Debug)]
enum Stage {
    /// The newest acknowledged revision is asked for.
    Newest,
    /// A node is asked for a view.
    Opening,
    Streaming(Box<Stream>),
}

#[derive(Debug)]
struct Stream {
    create: Create,
    view: u64,
    next_chunk: u64,
    is_asked: bool,
}

/// What has to be done next.
pub(super) enum Step {
    /// Ask a node, the same as before or another.
    Ask { request: Request, same_node: bool },
    /// Nothing but waiting for the store.
    Wait,
    /// No node gives a view.
    GiveUp,
}

impl Taking {
    pub(super) fn new(settings: Settings, wall: Wall) -> Self {
        Taking { settings, wall, stage: Stage::Newest, tries: 0, acknowledged: 0 }
    }

    /// What to do next, while no answer is awaited.
    pub(super) fn next(&mut self) -> Step {
        match &mut self.stage {
            Stage::Newest | Stage::Opening if self.tries >= TRIES => Step::GiveUp,
            Stage::Newest => {
                let range = KeyRange::one("\0");
                let newest = RangeRequest { count_only: true, ..RangeRequest::new(range) };
                Step::Ask { request: Request::Range(newest), same_node: false }
            }
            Stage::Opening => Step::Ask { request: Request::ViewOpen, same_node: false },
            Stage::Streaming(stream) if stream.create.wants_input() && !stream.is_asked => {
                stream.is_asked = true;
                let request = Request::ViewRead { view: stream.view, chunk: stream.next_chunk };
                Step::Ask { request, same_node: true }
            }
            Stage::Streaming(_) => Step::Wait,
        }
    }

    /// An answer; `None` when there will be none.
    pub(super) fn handle(&mut self, response: Option<Response>, rng: &mut Rng) {
        match (&mut self.stage, response) {
            (Stage::Newest, Some(Response::Range(range))) => {
                self.acknowledged = range.revision;
                self.stage = Stage::Opening;
            }
            (Stage::Opening, Some(Response::ViewOpened(info)))
                if info.revision >= self.acknowledged =>
            {
                self.begin(info, rng);
            }
            (Stage::Newest | Stage::Opening, _) => self.tries += 1,
            (Stage::Streaming(stream), Some(Response::ViewChunk { bytes, last })) => {
                stream.is_asked = false;
                stream.next_chunk += 1;
                stream.create.push(&bytes);
                if last {
                    stream.create.finish();
                }
            }
            (Stage::Streaming(stream), other) => {
                stream.is_asked = false;
                let why = other.map_or("no answer".into(), |response| format!("{response:?}"));
                stream.create.abandon(format!("the view broke off: {why}"));
            }
        }
    }

    /// The machine, once there is something to store.
    pub(super) fn machine(&mut self) -> Option<&mut Create> {
        match &mut self.stage {
            Stage::Streaming(stream) => Some(&mut stream.create),
            Stage::Newest | Stage::Opening => None,
        }
    }

    /// How it ended.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        match &self.stage {
            Stage::Streaming(stream) => stream.create.outcome(),
            Stage::Newest | Stage::Opening => None,
        }
    }

    /// Whether nothing is to be asked of a node before the store has answered.
    pub(super) fn waits_for_store(&self) -> bool {
        match &self.stage {
            Stage::Streaming(stream) => !stream.create.wants_input() || stream.is_asked,
            Stage::Newest | Stage::Opening => false,
        }
    }

    fn begin(&mut self, info: ViewInfo, rng: &mut Rng) {
        let view = info.view;
        let create = Create::new(info.into(), self.settings.clone(), self.wall, rng)
            .expect("the settings drawn are in range");
        let stream = Stream { create, view, next_chunk: 0, is_asked: false };
        self.stage = Stage::Streaming(Box::new(stream));
    }
}

/// Which compressions and lengths a backup has follows from the options; its keys from those at hand now.
pub(super) fn settings(options: &super::options::BackupOptions, keys: &Keys) -> Settings {
    Settings {
        compression: options.compression,
        stores: 1,
        recipients: keys.recipients().to_vec(),
        plain_is_said: false,
        version: "sim".into(),
        bounds: options.bounds,
    }
}
