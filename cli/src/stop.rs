//! Being told to stop, by SIGINT or SIGTERM, in the middle of something that is to be taken back.

use crate::failure::{Exit, Failure};
use std::pin::pin;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// How long what is under way has to end by itself.
pub const GRACE: Duration = Duration::from_secs(10);

/// Ends when the process is told to stop. From this call on, that does not end the process by itself.
pub fn told() -> Result<impl Future<Output = ()>, Failure> {
    let told = |kind| signal(kind).map_err(|error| Failure::new(Exit::Failed, error));
    let (mut interrupt, mut terminate) =
        (told(SignalKind::interrupt())?, told(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Does some work that notices by itself when the process is told to stop. If it has not ended a while later, it is broken off with these
/// words.
pub async fn in_time<T>(
    work: impl Future<Output = Result<T, Failure>>,
    broken_off: &str,
) -> Result<T, Failure> {
    let (mut work, stop) = (pin!(work), pin!(told()?));
    tokio::select! {
        done = &mut work => done,
        () = stop => {
            let late = |_| Err(Failure::new(Exit::Failed, broken_off));
            timeout(GRACE, work).await.unwrap_or_else(late)
        }
    }
}
