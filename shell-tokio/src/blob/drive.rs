//! The one loop that runs every machine of the backup pipeline: store operations as tasks, work on chunks on the thread pool.

use super::Storage;
use bytes::Bytes;
use raftkv_core::backup::create::Create;
use raftkv_core::backup::machine::{Action, ActionResult, Machine, Progress};
use std::future::{pending, ready};
use std::pin::pin;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A piece of the stream that is backed up. A stream that just stops, without [`Piece::End`], is broken.
#[derive(Debug)]
pub enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// Everything was given.
    End,
    /// Nothing more comes, for this reason; the backup is given up.
    Broken(String),
}

/// Runs a machine to its end. `observe` is told now and then how far it is.
pub async fn drive(
    machine: &mut (dyn Machine + Send),
    store: &mut (impl Storage + ?Sized),
    observe: impl FnMut(Progress),
) {
    drive_until(machine, store, pending(), |_| {}, observe).await;
}

/// As [`drive`], for work that can be given up: when `stop` ends, `give_up` tells the machine, which then comes to its end.
pub async fn drive_until<M: Machine + Send + ?Sized>(
    machine: &mut M,
    store: &mut (impl Storage + ?Sized),
    stop: impl Future<Output = ()>,
    give_up: impl FnOnce(&mut M),
    mut observe: impl FnMut(Progress),
) {
    let (mut stop, mut give_up) = (pin!(stop), Some(give_up));
    let mut under_way = UnderWay::default();
    loop {
        under_way.start(machine, store);
        observe(machine.progress());
        if machine.is_ended() {
            return;
        }
        tokio::select! {
            biased;
            () = &mut stop, if give_up.is_some() => {
                if let Some(give_up) = give_up.take() {
                    give_up(machine);
                }
            }
            result = under_way.next() => machine.handle(result),
        }
    }
}

/// Runs a backup to its end, with the stream it takes. When `stop` ends it is given up, unless all that is left is to say that it is complete.
pub async fn drive_create(
    create: &mut Create,
    store: &mut (impl Storage + ?Sized),
    stream: mpsc::Receiver<Piece>,
    stop: impl Future<Output = ()>,
    observe: impl FnMut(Progress),
) {
    drive_fenced(create, store, stream, stop, ready(Ok(())), observe).await;
}

/// As [`drive_create`], for one that waits for a permit before it says that it is complete: `permit` is asked for it then, and says otherwise why
/// the backup is given up.
pub async fn drive_fenced(
    create: &mut Create,
    store: &mut (impl Storage + ?Sized),
    mut stream: mpsc::Receiver<Piece>,
    stop: impl Future<Output = ()>,
    permit: impl Future<Output = Result<(), String>>,
    mut observe: impl FnMut(Progress),
) {
    let (mut stop, mut is_stopped) = (pin!(stop), false);
    let mut permit = pin!(permit);
    let mut under_way = UnderWay::default();
    loop {
        under_way.start(create, store);
        observe(create.progress());
        if create.is_ended() {
            return;
        }
        let wants_input = create.wants_input();
        tokio::select! {
            () = &mut stop, if !is_stopped => {
                is_stopped = true;
                create.abandon("it was told to stop");
            }
            permitted = &mut permit, if create.wants_permit() => match permitted {
                Ok(()) => create.permit_commit(),
                Err(why) => create.abandon(why),
            },
            piece = stream.recv(), if wants_input => match piece {
                Some(Piece::Bytes(bytes)) => create.push(&bytes),
                Some(Piece::End) => create.finish(),
                Some(Piece::Broken(why)) => create.abandon(why),
                None => create.abandon("the stream of the state broke off"),
            },
            result = under_way.next(), if !under_way.is_empty() => create.handle(result),
        }
    }
}

/// Actions whose results are awaited.
#[derive(Default)]
struct UnderWay(JoinSet<ActionResult>);

impl UnderWay {
    fn start(
        &mut self,
        machine: &mut (impl Machine + Send + ?Sized),
        storage: &mut (impl Storage + ?Sized),
    ) {
        while let Some(action) = machine.poll_action() {
            match action {
                Action::Blob { store, op, action } => {
                    let pending = storage.submit_in(store, op, action);
                    self.0.spawn(async move { ActionResult::Blob { op, result: pending.await } });
                }
                Action::Work(work) => {
                    self.0.spawn_blocking(move || ActionResult::Work(work.run()));
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits for one result. There must be something under way: a machine that has not ended waits for something.
    async fn next(&mut self) -> ActionResult {
        let joined =
            self.0.join_next().await.expect("a machine that has not ended waits for something");
        match joined {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
