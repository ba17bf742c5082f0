//! Holds the lock of a store, or a hold on a backup, for as long as something runs: a task gives the signs of life.
//!
//! The task has a store of its own, because the work that is guarded has the other. Nothing is decided here: see
//! [`raftkv_core::backup::lock`]. A guard that is dropped stops giving signs of life; whoever comes next takes over after a while.

use crate::blob::{BlobStore, drive};
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::lock::{
    Acquire, BEAT_EVERY_MS, Held, Liveness, Lock, LockError, Renew, Watch, marker,
};
use raftkv_core::backup::mark::{Mark, MarkError};
use raftkv_core::backup::marker::{Marker, Owner};
use raftkv_core::time::Wall;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Something in the store that is kept alive.
#[derive(Debug)]
pub struct Guard {
    /// The task ends when there is nobody left to ask it.
    questions: Option<mpsc::Sender<Question>>,
    task: JoinHandle<()>,
}

/// Is the lock still held?
type Question = oneshot::Sender<Result<(), LockError>>;

impl Guard {
    /// Takes the store's lock. Someone who has it already is watched: alive, this fails; without a sign of life for long enough,
    /// its lock is taken over. When `stop` ends while someone is watched, nothing is taken; what is being taken then is taken and returned, so that
    /// it can be released.
    pub async fn lock(
        mut store: Box<dyn BlobStore>,
        owner: Owner,
        note: &str,
        since: Wall,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Guard>, LockError> {
        let (start, mut stop) = (Instant::now(), pin!(stop));
        let mut watch = Watch::default();
        let mut abandoned = None;
        let lock = loop {
            match acquire(store.as_mut(), marker(owner, note, since), abandoned.take()).await {
                Ok(lock) => break lock,
                Err(LockError::Held(held)) => {
                    let now_ms = start.elapsed().as_millis() as u64;
                    match watch.see(held.place(), held.beats(), now_ms) {
                        Liveness::Alive => return Err(LockError::Held(held)),
                        Liveness::Abandoned => abandoned = Some(held),
                        Liveness::Unknown => tokio::select! {
                            () = sleep(Duration::from_millis(BEAT_EVERY_MS)) => {}
                            () = &mut stop => return Ok(None),
                        },
                    }
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Some(Guard::run(|questions| keep_lock(store, lock, questions))))
    }

    /// Holds a backup, so that nobody removes it.
    pub async fn hold(mut store: Box<dyn BlobStore>, mut hold: Marker) -> Result<Guard, MarkError> {
        let mut machine = Mark::put(&hold);
        drive(&mut machine, store.as_mut(), |_| {}).await;
        machine.outcome().expect("a driven machine has an outcome").clone()?;
        Ok(Guard::run(|mut questions| async move {
            while !matches!(next(&mut questions).await, Next::End) {
                // A sign of life that is lost is made up for by the next one.
                let mut machine = Mark::renew(&mut hold);
                drive(&mut machine, store.as_mut(), |_| {}).await;
            }
            remove(store.as_mut(), hold.place).await;
        }))
    }

    /// Looks whether a lock is still held, and gives a sign of life: from then on it is safe for a minute. What this process knows of it may be old, if
    /// it was suspended.
    pub async fn confirm(&self) -> Result<(), LockError> {
        let Some(questions) = &self.questions else { return Err(LockError::Lost) };
        let (question, answer) = oneshot::channel();
        // A task that has ended knows that it lost the lock.
        if questions.send(question).await.is_err() {
            return Err(LockError::Lost);
        }
        answer.await.unwrap_or(Err(LockError::Lost))
    }

    /// Ends it, so that others need not wait.
    pub async fn release(mut self) {
        drop(self.questions.take());
        // The task ends by itself; a panic in it has been shown.
        let _ = (&mut self.task).await;
    }

    fn run<F: Future<Output = ()> + Send + 'static>(
        task: impl FnOnce(mpsc::Receiver<Question>) -> F,
    ) -> Guard {
        let (sender, questions) = mpsc::channel(1);
        Guard { questions: Some(sender), task: tokio::spawn(task(questions)) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.questions.is_some() {
            self.task.abort();
        }
    }
}

async fn acquire(
    store: &mut dyn BlobStore,
    marker: Marker,
    abandoned: Option<Held>,
) -> Result<Lock, LockError> {
    let mut machine = Acquire::new(marker, abandoned);
    drive(&mut machine, store, |_| {}).await;
    machine.outcome().expect("a driven machine has an outcome").clone()
}

async fn keep_lock(
    mut store: Box<dyn BlobStore>,
    mut lock: Lock,
    mut questions: mpsc::Receiver<Question>,
) {
    loop {
        let question = match next(&mut questions).await {
            Next::Beat => None,
            Next::Answer(question) => Some(question),
            Next::End => break,
        };
        let mut machine = Renew::new(lock.clone());
        drive(&mut machine, store.as_mut(), |_| {}).await;
        let renewed = machine.outcome().expect("a driven machine has an outcome").clone();
        let is_lost = renewed == Err(LockError::Lost);
        match &renewed {
            Ok(renewed) => lock = renewed.clone(),
            Err(error @ LockError::Lost) => tracing::warn!("{error}"),
            // The next sign of life makes up for it.
            Err(error) => tracing::debug!("{error}"),
        }
        if let Some(question) = question {
            // Whoever asked may have been told to stop meanwhile.
            let _ = question.send(renewed.map(drop));
        }
        if is_lost {
            return;
        }
    }
    let mut machine = Renew::release(lock);
    drive(&mut machine, store.as_mut(), |_| {}).await;
}

/// What a task does next.
#[derive(Debug)]
enum Next {
    Beat,
    Answer(Question),
    End,
}

/// Waits until it is time for a sign of life, somebody asks for one, or the guard is released.
async fn next(questions: &mut mpsc::Receiver<Question>) -> Next {
    tokio::select! {
        question = questions.recv() => question.map_or(Next::End, Next::Answer),
        () = sleep(Duration::from_millis(BEAT_EVERY_MS)) => Next::Beat,
    }
}

/// What cannot be removed is found as abandoned later.
async fn remove(store: &mut dyn BlobStore, object: ObjectName) {
    let mut machine = Mark::remove(object);
    drive(&mut machine, store, |_| {}).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::local::LocalStore;
    use raftkv_core::backup::lock::ABANDONED_AFTER_MS;
    use std::fs;
    use std::future::{pending, ready};
    use std::path::Path;

    fn open(dir: &Path) -> Box<dyn BlobStore> {
        Box::new(LocalStore::new(dir.join("backups")))
    }

    async fn lock(dir: &Path, who: u8) -> Result<Guard, LockError> {
        let guard = lock_until(dir, who, pending()).await?;
        Ok(guard.expect("nobody says stop"))
    }

    async fn lock_until(
        dir: &Path,
        who: u8,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Guard>, LockError> {
        Guard::lock(open(dir), Owner([who; 16]), &format!("backup {who}"), Wall(0), stop).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_one_is_told_and_gets_it_after_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path(), 1).await.unwrap();
        let refused = lock(dir.path(), 2).await.unwrap_err().to_string();
        assert!(refused.contains("backup 1 since"), "{refused}");
        first.release().await;
        lock(dir.path(), 2).await.unwrap().release().await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_gone_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        drop(lock(dir.path(), 1).await.unwrap());
        let start = Instant::now();
        lock(dir.path(), 2).await.unwrap().release().await;
        assert!(start.elapsed() >= Duration::from_millis(ABANDONED_AFTER_MS));
        let locks = fs::read_dir(dir.path().join("backups/locks")).unwrap();
        assert_eq!(locks.count(), 1, "what was taken over is cleaned up");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_lost_it_is_told_when_it_asks() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path(), 1).await.unwrap();
        assert_eq!(first.confirm().await, Ok(()));
        let locks = dir.path().join("backups/locks");
        let place = locks.join("00000000000000000001.json");
        let bytes = fs::read(place).unwrap();
        let marker = Marker::parse(ObjectName::lock(1), &bytes).unwrap();
        // As by one that saw no sign of life, while this one was suspended.
        let held = Held { number: 1, marker: Some(marker) };
        let second = super::marker(Owner([2; 16]), "backup 2", Wall(0));
        acquire(open(dir.path()).as_mut(), second, Some(held)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(first.confirm().await, Err(LockError::Lost));
        }
        first.release().await;
        assert!(fs::exists(locks.join("00000000000000000002.json")).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_to_stop_waits_for_nobody_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path(), 1).await.unwrap();
        let start = Instant::now();
        assert!(lock_until(dir.path(), 2, ready(())).await.unwrap().is_none());
        assert_eq!(start.elapsed(), Duration::ZERO);
        first.release().await;
        let free = lock_until(dir.path(), 3, ready(())).await.unwrap().unwrap();
        free.release().await;
        lock(dir.path(), 4).await.unwrap().release().await;
        assert_eq!(start.elapsed(), Duration::ZERO, "no lock was left behind");
    }
}
