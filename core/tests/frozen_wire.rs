//! Frames written by earlier builds are read for ever, and today's build still writes the same bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "frozen examples are files")]

use raftkv_core::api::{
    KeyRange, PutRequest, RangeRequest, Request, RunOutcome, SessionRef, TxnOp, TxnRequest, WriteOp,
};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::log::{ConfState, Entry, EntryKind};
use raftkv_core::wire::client::RequestFrame;
use raftkv_core::wire::frame::{self, Decoder};
use raftkv_core::wire::handshake::Hello;
use raftkv_core::wire::peer::{BackupReport, PeerFrame, RaftKind, RaftMessage, SnapshotMeta};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(name);
    let today = frame::to_bytes(value);
    if std::env::var_os("FREEZE").is_some() && !path.exists() {
        std::fs::write(&path, &today).unwrap();
    }
    let frozen = std::fs::read(&path).unwrap();
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(&frozen);
    assert_eq!(
        decoder.next_frame::<T>().unwrap().as_ref(),
        Some(value),
        "{name} reads differently"
    );
    assert_eq!(frozen, today, "{name} is written differently: that is a new version of the format");
}

#[test]
fn hello() {
    let cluster = ClusterId(*b"0123456789abcdef");
    let from = Identity { cluster, epoch: Epoch(2), node: NodeId::new(3, 1) };
    check("hello-v1.bin", &Hello { from, to: NodeId::new(1, 0) });
}

#[test]
fn append() {
    let entry =
        |index, kind, data: &'static [u8]| Entry { index, term: 4, kind, data: data.into() };
    let message = RaftMessage {
        kind: RaftKind::Append,
        to: NodeId::new(1, 0),
        from: NodeId::new(2, 0),
        term: 5,
        log_term: 4,
        index: 9,
        entries: vec![entry(10, EntryKind::Normal, b"data"), entry(11, EntryKind::Membership, b"")],
        commit: 9,
        commit_term: 4,
        snapshot: None,
        request_snapshot: 0,
        reject: false,
        reject_hint: 0,
        context: b"context".as_slice().into(),
        priority: -1,
    };
    check("append-v1.bin", &PeerFrame::Raft(Box::new(message)));
}

#[test]
fn snapshot_chunk() {
    let conf = ConfState { voters: vec![NodeId::new(1, 0)], ..ConfState::default() };
    let snapshot = SnapshotMeta { index: 300, term: 7, conf };
    let bytes = b"bytes".as_slice().into();
    let frame =
        PeerFrame::SnapshotChunk { snapshot, term: 8, offset: 1000, total_bytes: 1005, bytes };
    check("snapshot-chunk-v1.bin", &frame);
}

#[test]
fn leaving_and_backups() {
    check("may-leave-v1.bin", &PeerFrame::MayLeave);
    check("removed-v1.bin", &PeerFrame::Removed);
    check("backup-ask-v1.bin", &PeerFrame::BackupAsk { round: 300 });
    check("backup-answer-v1.bin", &PeerFrame::BackupAnswer { round: 300, life: Some(7) });
    check("backup-busy-v1.bin", &PeerFrame::BackupBusy { round: 300 });
    let report = BackupReport::Ended(RunOutcome::Complete { data_bytes: 1 << 20 });
    check("backup-report-v1.bin", &PeerFrame::BackupReport { number: 300, report });
}

#[test]
fn transaction() {
    let put = PutRequest { key: "k".into(), value: "v".into(), lease: 6, return_previous: true };
    let read = RangeRequest::new(KeyRange::prefix("p"));
    let txn = TxnRequest {
        compares: vec![],
        success: vec![TxnOp::Put(put)],
        failure: vec![TxnOp::Range(read)],
    };
    let session = Some(SessionRef { session: 70, sequence: 3, acknowledged_below: 2 });
    let request = Request::Write { session, op: WriteOp::Txn(txn) };
    check("transaction-v1.bin", &RequestFrame { id: 12, request });
}
