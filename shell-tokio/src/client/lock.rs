//! Taking a mutex that only guards plain data.

use std::sync::{Mutex, MutexGuard};

/// Nothing that holds the client's locks can panic halfway through a change, so a poisoned one is still sound.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
