//! The local store, held to the same suite.

use super::{backup, suite};
use raftkv_core::backup::provider::Provider;

#[tokio::test]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Provider::Local { local_path: dir.path().display().to_string() };
    suite::conforms(&provider).await;
    suite::fences_uploads(&provider).await;
    suite::lists_pages(&provider, 50).await;
    backup::goes_around(&provider).await;
}

#[tokio::test]
async fn a_backup_that_is_told_to_stop_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Provider::Local { local_path: dir.path().display().to_string() };
    backup::is_taken_back_when_told_to_stop(&provider).await;
}
