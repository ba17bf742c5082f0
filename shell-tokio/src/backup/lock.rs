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
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Something in the store that is kept alive.
#[derive(Debug)]
pub struct Guard {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

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
        Ok(Some(Guard::run(|stopped| keep_lock(store, lock, stopped))))
    }

    /// Holds a backup, so that nobody removes it.
    pub async fn hold(mut store: Box<dyn BlobStore>, mut hold: Marker) -> Result<Guard, MarkError> {
        let mut machine = Mark::put(&hold);
        drive(&mut machine, store.as_mut(), |_| {}).await;
        machine.outcome().expect("a driven machine has an outcome").clone()?;
        Ok(Guard::run(|mut stopped| async move {
            while !has_stopped(&mut stopped).await {
                // A sign of life that is lost is made up for by the next one.
                let mut machine = Mark::renew(&mut hold);
                drive(&mut machine, store.as_mut(), |_| {}).await;
            }
            remove(store.as_mut(), hold.place).await;
        }))
    }

    /// Ends it, so that others need not wait.
    pub async fn release(mut self) {
        drop(self.stop.take());
        // The task ends by itself; a panic in it has been shown.
        let _ = (&mut self.task).await;
    }

    fn run<F: Future<Output = ()> + Send + 'static>(
        task: impl FnOnce(oneshot::Receiver<()>) -> F,
    ) -> Guard {
        let (stop, stopped) = oneshot::channel();
        Guard { stop: Some(stop), task: tokio::spawn(task(stopped)) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.stop.is_some() {
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
    mut stopped: oneshot::Receiver<()>,
) {
    while !has_stopped(&mut stopped).await {
        let mut machine = Renew::new(lock.clone());
        drive(&mut machine, store.as_mut(), |_| {}).await;
        match machine.outcome().expect("a driven machine has an outcome") {
            Ok(renewed) => lock = renewed.clone(),
            Err(error @ LockError::Lost) => return tracing::warn!("{error}"),
            // The next sign of life makes up for it.
            Err(error) => tracing::debug!("{error}"),
        }
    }
    let mut machine = Renew::release(lock);
    drive(&mut machine, store.as_mut(), |_| {}).await;
}

/// Waits until it is time for a sign of life, or the guard is released.
async fn has_stopped(stopped: &mut oneshot::Receiver<()>) -> bool {
    tokio::select! {
        _ = stopped => true,
        () = sleep(Duration::from_millis(BEAT_EVERY_MS)) => false,
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
