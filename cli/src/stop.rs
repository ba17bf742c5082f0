//! Being told to stop, by SIGINT or SIGTERM, in the middle of something that is to be taken back.

use crate::failure::{Exit, Failure};
use crate::say::say;
use std::pin::pin;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long what is under way has to end by itself.
pub const GRACE: Duration = Duration::from_secs(10);

/// Knows whether the process was told to stop, however long ago.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// From this call on, being told to stop does not end the process by itself; being told a second time does.
    pub fn listen() -> Result<Stop, Failure> {
        let told = |kind| signal(kind).map_err(|error| Failure::new(Exit::Failed, error));
        let (mut interrupt, mut terminate) =
            (told(SignalKind::interrupt())?, told(SignalKind::terminate())?);
        let (sender, stop) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if sender.send_replace(true) {
                    say!("told to stop a second time: stopping at once");
                    std::process::exit(Exit::Failed as i32);
                }
                say!("told to stop: ending what is under way");
            }
        });
        Ok(Stop(stop))
    }

    /// Ends as soon as the process has been told to stop.
    pub async fn told(&self) {
        // The sender is there as long as the process.
        let _ = self.0.clone().wait_for(|told| *told).await;
    }

    /// Whether it has.
    pub fn was_told(&self) -> bool {
        *self.0.borrow()
    }

    /// Does some work that notices by itself when the process is told to stop. If it has not ended a while later, it is broken off with these
    /// words.
    pub async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
        broken_off: &str,
    ) -> Result<T, Failure> {
        let late = || Err(Failure::new(Exit::Failed, broken_off));
        self.with_grace(work).await.unwrap_or_else(late)
    }

    /// As [`Stop::in_time`], for work that cannot fail; nothing when it was broken off.
    pub async fn with_grace<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => Some(done),
            () = self.told() => timeout(GRACE, work).await.ok(),
        }
    }
}
