//! The largest keys, values and transactions there can be, through a backup and back.

use super::sample::*;
use super::store::Store;
use bytes::Bytes;
use raftkv_core::api::{
    Error, KeyRange, PutRequest, RangeRequest, Request, TxnOp, TxnRequest, WriteOp,
};
use raftkv_core::backup::bounds::MEMORY_BYTES;
use raftkv_core::config::Limits;
use raftkv_core::kv::command::Action;
use raftkv_core::kv::{Command, KvState, validate};
use raftkv_core::rng::Seed;
use raftkv_core::time::Wall;
use raftkv_core::wire::frame::CLIENT_FRAME_BYTES_MAX;

/// As far as a node can be set: a write must leave room in its frame.
fn widest() -> Limits {
    let write_bytes = CLIENT_FRAME_BYTES_MAX - (64 << 10);
    let key_bytes = 1 << 20;
    Limits { key_bytes, value_bytes: write_bytes - key_bytes, write_bytes, ..Limits::default() }
}

fn put(key: Bytes, value_bytes: usize, fill: u8) -> PutRequest {
    PutRequest { key, value: vec![fill; value_bytes].into(), lease: 0, return_previous: false }
}

/// As many puts as a transaction may have, with the largest key and value among them, of exactly as many bytes as it may have.
fn largest(limits: &Limits) -> TxnRequest {
    let key = Bytes::from(vec![0xff; limits.key_bytes]);
    let mut puts = vec![put(key, limits.value_bytes, 1)];
    let mut left = limits.write_bytes - limits.key_bytes - limits.value_bytes;
    for number in 1..limits.txn_ops {
        let key = Bytes::from(format!("{number:04}"));
        let last = number == limits.txn_ops - 1;
        let value_bytes = if last { left.saturating_sub(key.len()) } else { left / limits.txn_ops };
        if left < key.len() + value_bytes {
            break;
        }
        left -= key.len() + value_bytes;
        puts.push(put(key, value_bytes, 2));
    }
    TxnRequest { success: puts.into_iter().map(TxnOp::Put).collect(), ..TxnRequest::default() }
}

fn check(txn: &TxnRequest, limits: &Limits) -> Result<(), Error> {
    let op = WriteOp::Txn(txn.clone());
    validate(&Request::Write { session: None, op }, limits)
}

fn written(txn: &TxnRequest) -> KvState {
    let mut state = KvState::new();
    let action = Action::Write { session: None, op: WriteOp::Txn(txn.clone()) };
    state.apply(1, &Command { log_time_ms: 1, wall: Wall(1), action });
    state
}

#[test]
fn the_largest_transaction_comes_back() {
    for limits in [Limits::default(), widest()] {
        let txn = largest(&limits);
        assert_eq!(check(&txn, &limits), Ok(()));
        let mut larger = txn.clone();
        let Some(TxnOp::Put(last)) = larger.success.last_mut() else { panic!("it puts") };
        last.value = [&last.value[..], b"x"].concat().into();
        assert!(
            matches!(check(&larger, &limits), Err(Error::TooLarge { .. })),
            "it is the largest"
        );

        let state = written(&txn);
        assert_eq!(state.keys(), txn.success.len() as u64);
        assert_eq!(state.bytes(), limits.write_bytes as u64);
        for recipients in [vec![], vec![key(1)]] {
            let mut store = Store::default();
            let id = backup(&mut store, &state, 42, settings(GZIP, &recipients));
            let restored = restore(&mut store, id, access(&recipients)).unwrap();
            assert_eq!(restored.state.hash(), state.hash());
            for op in &txn.success {
                let TxnOp::Put(put) = op else { panic!("it puts") };
                let read = RangeRequest::new(KeyRange::one(put.key.clone()));
                let read = restored.state.range(&read, usize::MAX).unwrap();
                assert_eq!(read.kvs[0].value, put.value);
            }
        }
    }
}

/// No frame, no answer of a store and no memory of a backup's would hold it at once.
#[test]
fn a_state_longer_than_every_limit_comes_back() {
    let mut rng = Seed::from_number(1).fork("values");
    let (mut state, mut index) = (KvState::new(), 0);
    while state.bytes() <= MEMORY_BYTES + CLIENT_FRAME_BYTES_MAX as u64 {
        index += 1;
        let mut value = vec![0; 1 << 20];
        rng.fill(&mut value);
        let put = PutRequest { value: value.into(), ..put(index.to_string().into(), 0, 0) };
        let action = Action::Write { session: None, op: WriteOp::Put(put) };
        state.apply(index, &Command { log_time_ms: index, wall: Wall(1), action });
    }
    let mut store = Store::default();
    let recipients = [key(1)];
    let id = backup(&mut store, &state, index, settings(GZIP, &recipients));
    let restored = restore(&mut store, id, access(&recipients)).unwrap();
    assert_eq!(restored.state.hash(), state.hash());
    assert_eq!(restored.state.bytes(), state.bytes());
}
