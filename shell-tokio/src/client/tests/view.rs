//! Views: chunks that are asked for ahead of the reader.

use super::*;
use raftkv_core::api::ViewInfo;

/// The view that every node here gives.
const VIEW: u64 = 7;
const CHUNKS: u64 = 5;

fn info() -> ViewInfo {
    ViewInfo {
        view: VIEW,
        identity: status().identity,
        index: 1,
        term: 1,
        revision: 1,
        state_hash: StateHash::default(),
        keys: 0,
        bytes: 0,
        stream_bytes_estimate: 0,
        members: Vec::new(),
    }
}

/// A node with a view; it gives the chunks before `silent_from`, and says nothing to who asks for others.
fn node(silent_from: u64) -> FakeNode {
    FakeNode::start(move |request| match request {
        Request::ViewOpen => one(Response::ViewOpened(info())),
        Request::ViewRead { view: VIEW, chunk } if *chunk < silent_from.min(CHUNKS) => {
            let (bytes, last) = (chunk.to_string().into(), chunk + 1 == CHUNKS);
            one(Response::ViewChunk { bytes, last })
        }
        Request::ViewRead { chunk, .. } if *chunk >= CHUNKS => {
            one(Response::Error(Error::Invalid("there is no such chunk".into())))
        }
        Request::ViewRead { .. } | Request::ViewClose { .. } => Say::Nothing,
        other => topology(other, &[]).map_or(Say::Nothing, one),
    })
}

fn reads(node: &FakeNode) -> Vec<u64> {
    let read = |request: &Request| match request {
        Request::ViewRead { chunk, .. } => Some(*chunk),
        _ => None,
    };
    node.seen().iter().filter_map(read).collect()
}

#[tokio::test]
async fn chunks_come_in_order_and_end_with_the_last() {
    let node = node(CHUNKS);
    let client = Client::connect(options(vec![node.address.clone()])).await.unwrap();
    let mut view = client.view(&node.address).await.unwrap();
    for chunk in 0..CHUNKS {
        let (bytes, last) = view.next().await.unwrap();
        assert_eq!((bytes, last), (chunk.to_string().into(), chunk + 1 == CHUNKS));
    }
    let read = reads(&node);
    let in_order: Vec<u64> = (0..read.len() as u64).collect();
    assert_eq!(read, in_order, "none is asked for twice");
}

#[tokio::test]
async fn what_comes_next_is_asked_for_before_this_has_come() {
    let node = node(1);
    let client = Client::connect(options(vec![node.address.clone()])).await.unwrap();
    let mut view = client.view(&node.address).await.unwrap();
    assert_eq!(view.next().await.unwrap(), ("0".into(), false));
    let error = view.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    assert!(reads(&node).starts_with(&[0, 1, 2, 3]), "{:?}", reads(&node));
}
