//! Uploads in parts: one task for each, which takes its parts in the order they were submitted and keeps a few under way.
//!
//! Invariants: a part is done when the task has taken it over, and the task takes over at most [`PARTS_AT_ONCE`] and one more, so that
//! memory is bounded; the first failure is the answer to everything that follows; an upload whose owner goes away is given up; one that
//! begins or is finished leaves no other of the same object, of a process that was killed or of a try whose answer was lost.

use super::Pending;
use super::remote::Place;
use bytes::Bytes;
use opendal::Writer;
use raftkv_core::backup::blob::{BlobDone, BlobError, BlobErrorKind, ObjectName};
use raftkv_core::ids::OpId;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, oneshot};

/// Parts on their way to the store at once.
const PARTS_AT_ONCE: usize = 3;

/// The uploads of a store.
#[derive(Default)]
pub(super) struct Uploads(BTreeMap<OpId, Upload>);

/// One of them, as its owner sees it.
pub(super) struct Upload {
    commands: mpsc::UnboundedSender<Command>,
    is_unwanted: Arc<Notify>,
}

enum Command {
    Part(Bytes, Answer),
    Finish(Answer),
    Abort(Answer),
}

type Answer = oneshot::Sender<Result<BlobDone, BlobError>>;

/// The task's own state.
struct Task {
    place: Place,
    object: ObjectName,
    if_absent: bool,
    failure: Option<BlobError>,
}

impl Uploads {
    pub(super) fn insert(&mut self, op: OpId, upload: Upload) {
        self.0.retain(|_, upload| !upload.commands.is_closed());
        self.0.insert(op, upload);
    }

    pub(super) fn part(&self, upload: OpId, bytes: Bytes) -> Pending {
        match self.0.get(&upload) {
            Some(upload) => upload.command(|answer| Command::Part(bytes, answer)),
            None => unknown(upload),
        }
    }

    pub(super) fn finish(&self, upload: OpId) -> Pending {
        match self.0.get(&upload) {
            Some(upload) => upload.command(Command::Finish),
            None => unknown(upload),
        }
    }

    pub(super) fn abort(&mut self, upload: OpId) -> Pending {
        match self.0.remove(&upload) {
            // One that was finished has nothing to give up.
            Some(upload) if upload.commands.is_closed() => Box::pin(async { Ok(BlobDone::Done) }),
            Some(upload) => {
                upload.is_unwanted.notify_one();
                upload.command(Command::Abort)
            }
            None => Box::pin(async { Ok(BlobDone::Done) }),
        }
    }
}

impl Upload {
    /// Begins one. The answer comes once it is known that nothing is in its place, where that matters.
    pub(super) fn start(place: Place, object: ObjectName, if_absent: bool) -> (Upload, Pending) {
        let (commands, received) = mpsc::unbounded_channel();
        let is_unwanted = Arc::new(Notify::new());
        let (answer, started) = oneshot::channel();
        let task = Task { place, object, if_absent, failure: None };
        tokio::spawn(task.run(received, is_unwanted.clone(), answer));
        (Upload { commands, is_unwanted }, pending(started))
    }

    fn command(&self, command: impl FnOnce(Answer) -> Command) -> Pending {
        let (answer, answered) = oneshot::channel();
        // A task that has ended drops the answer, which tells as much.
        let _ = self.commands.send(command(answer));
        pending(answered)
    }
}

impl Task {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        is_unwanted: Arc<Notify>,
        started: Answer,
    ) {
        let mut writer = match self.open().await {
            Ok(writer) => {
                self.forget_others().await;
                let _ = started.send(Ok(BlobDone::Done));
                Some(writer)
            }
            Err(error) => {
                self.failure = Some(error.clone());
                let _ = started.send(Err(error));
                None
            }
        };
        while let Some(command) = commands.recv().await {
            match command {
                Command::Part(bytes, answer) => {
                    let written = tokio::select! {
                        written = self.part(writer.as_mut(), bytes) => written,
                        () = is_unwanted.notified() => Err(self.failed(given_up())),
                    };
                    let _ = answer.send(written);
                }
                Command::Finish(answer) => {
                    let finished = self.finish(writer.as_mut()).await;
                    let is_over = finished.is_ok();
                    if is_over {
                        self.forget_others().await;
                    }
                    let _ = answer.send(finished);
                    if is_over {
                        return;
                    }
                }
                Command::Abort(answer) => {
                    let _ = answer.send(self.abort(writer.take()).await);
                    return;
                }
            }
        }
        // Nobody is left to be told; what cannot be removed now is the store's lifecycle rules' to remove.
        let _ = self.abort(writer.take()).await;
    }

    async fn open(&self) -> Result<Writer, BlobError> {
        let Place { operator, ways, .. } = &self.place;
        let path = self.object.path();
        let failed = |error| self.place.error(&path, error);
        if self.if_absent {
            match operator.stat(&path).await.map_err(failed) {
                Ok(_) => {
                    let message = format!("{}{path} is there already", self.place.name);
                    return Err(BlobError { kind: BlobErrorKind::Exists, message });
                }
                // Who may write need not be allowed to look; the condition below holds all the same.
                Err(error)
                    if matches!(error.kind, BlobErrorKind::NotFound | BlobErrorKind::Denied) => {}
                Err(error) => return Err(error),
            }
        }
        let writer = operator.writer_with(&path).concurrent(PARTS_AT_ONCE);
        writer.if_not_exists(self.if_absent && ways.conditional_parts).await.map_err(failed)
    }

    async fn part(
        &mut self,
        writer: Option<&mut Writer>,
        bytes: Bytes,
    ) -> Result<BlobDone, BlobError> {
        let Some(writer) = self.usable(writer)? else { return Err(self.failed(given_up())) };
        match writer.write(bytes).await {
            Ok(()) => Ok(BlobDone::Done),
            Err(error) => Err(self.failed(self.place.error(&self.object.path(), error))),
        }
    }

    async fn finish(&mut self, writer: Option<&mut Writer>) -> Result<BlobDone, BlobError> {
        let Some(writer) = self.usable(writer)? else { return Err(self.failed(given_up())) };
        match writer.close().await {
            Ok(_) => Ok(BlobDone::Done),
            Err(error) => Err(self.failed(self.place.error(&self.object.path(), error))),
        }
    }

    /// What is left of other uploads of this object is of no use to anybody. If it cannot be removed now, it is found later.
    async fn forget_others(&self) {
        let _ = self.place.forget_uploads(&self.object.path()).await;
    }

    /// The writer, unless something failed before.
    fn usable<'a>(
        &self,
        writer: Option<&'a mut Writer>,
    ) -> Result<Option<&'a mut Writer>, BlobError> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(writer),
        }
    }

    /// Remembers the first failure.
    fn failed(&mut self, error: BlobError) -> BlobError {
        self.failure.get_or_insert(error).clone()
    }

    async fn abort(&self, writer: Option<Writer>) -> Result<BlobDone, BlobError> {
        let Some(mut writer) = writer else { return Ok(BlobDone::Done) };
        let path = self.object.path();
        match writer.abort().await.map_err(|error| self.place.error(&path, error)) {
            Err(error) if error.kind != BlobErrorKind::NotFound => Err(error),
            _ => Ok(BlobDone::Done),
        }
    }
}

fn pending(answered: oneshot::Receiver<Result<BlobDone, BlobError>>) -> Pending {
    Box::pin(async move { answered.await.unwrap_or_else(|_| Err(given_up())) })
}

fn unknown(upload: OpId) -> Pending {
    let message = format!("there is no upload {}", upload.0);
    Box::pin(async move { Err(BlobError { kind: BlobErrorKind::Failed, message }) })
}

fn given_up() -> BlobError {
    BlobError { kind: BlobErrorKind::Failed, message: "the upload was given up".into() }
}
