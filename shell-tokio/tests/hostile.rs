//! Bytes that are no frames: they end their own connection with a code that says why, and touch nothing else.

mod server;

use quinn::{Connection, ConnectionError, VarInt};
use raftkv_core::api::{Error, KeyRange, Request, Response, WatchRequest};
use raftkv_core::io::Input;
use raftkv_core::wire::client::{RequestFrame, ResponseFrame};
use raftkv_core::wire::frame::{self, CLIENT_FRAME_BYTES_MAX};
use raftkv_core::wire::handshake::{Hello, Refusal, Welcome};
use raftkv_core::wire::peer::PeerFrame;
use raftkv_node::net::close;
use raftkv_node::tls;
use server::{Server, call, greet, identity, member};

/// Nothing of these is a frame, each for a reason of its own.
fn garbage() -> Vec<Vec<u8>> {
    let oversize = (CLIENT_FRAME_BYTES_MAX as u32 * 4).to_le_bytes().to_vec();
    let empty = vec![0; 4];
    let other_version = vec![1, 0, 0, 0, 99];
    let nonsense = [&[64, 0, 0, 0, frame::VERSION][..], &[0xff; 63]].concat();
    let mut trailing = frame::to_bytes(&RequestFrame { id: 1, request: Request::Status }).to_vec();
    trailing[0] += 1;
    trailing.push(0);
    vec![oversize, empty, other_version, nonsense, trailing]
}

async fn client(server: &Server) -> Connection {
    call(server.address, tls::client_config(None).expect("no certificates are needed"))
        .await
        .expect("a connection")
}

async fn peer(server: &Server) -> Connection {
    call(server.address, tls::peer_config(None).expect("no certificates are needed"))
        .await
        .expect("a connection")
}

async fn close_code(connection: &Connection) -> VarInt {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(closed) => closed.error_code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn clients_that_send_garbage_lose_their_connection_only() {
    let server = Server::start(None);
    let bystander = client(&server).await;
    for bytes in garbage() {
        let connection = client(&server).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        assert_eq!(close_code(&connection).await, close::MALFORMED, "{bytes:?}");
        server.assert_serves(&bystander).await;
    }
}

#[tokio::test]
async fn an_id_in_use_is_refused() {
    let server = Server::start(None);
    let connection = client(&server).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    // Both arrive together, so the second comes before the first can be answered.
    let twice = frame::to_bytes(&RequestFrame { id: 1, request: Request::MemberList }).repeat(2);
    send.write_all(&twice).await.unwrap();
    assert_eq!(close_code(&connection).await, close::MALFORMED);
}

#[tokio::test]
async fn peers_that_greet_with_garbage_are_cut_off() {
    let server = Server::start(None);
    for bytes in garbage() {
        let connection = peer(&server).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        assert_eq!(close_code(&connection).await, close::MALFORMED, "{bytes:?}");
    }
    server.assert_welcomes(&peer(&server).await).await;
}

#[tokio::test]
async fn peers_that_send_garbage_lose_their_connection_and_may_come_back() {
    let server = Server::start(None);
    for bytes in garbage() {
        let connection = peer(&server).await;
        server.assert_welcomes(&connection).await;
        let mut send = connection.open_uni().await.unwrap();
        // Larger than a client may send is not yet too large for a peer.
        let bytes = if bytes.len() == 4 && bytes != [0; 4] { vec![0xff; 4] } else { bytes };
        send.write_all(&bytes).await.unwrap();
        assert_eq!(close_code(&connection).await, close::MALFORMED, "{bytes:?}");
    }
    let connection = peer(&server).await;
    server.assert_welcomes(&connection).await;
    let frame = PeerFrame::SnapshotAck { index: 3, next_offset: 4 };
    let mut send = connection.open_uni().await.unwrap();
    send.write_all(&frame::to_bytes(&frame)).await.unwrap();
    let mut inputs = server.inputs.lock().await;
    loop {
        match inputs.recv().await.unwrap() {
            Input::PeerUnreachable { .. } => {}
            input => {
                assert_eq!(input, Input::Peer { from: member(2).node, frame });
                return;
            }
        }
    }
}

#[tokio::test]
async fn strangers_are_refused_by_name() {
    let server = Server::start(None);
    let stranger =
        raftkv_core::ids::Identity { cluster: raftkv_core::ids::ClusterId([9; 16]), ..member(2) };
    let connection = peer(&server).await;
    let answer = greet(&connection, &Hello { from: stranger, to: identity().node }).await;
    assert!(matches!(answer, Some(Welcome::Refused(Refusal::OtherCluster { .. }))), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_leaves_is_reported() {
    // The server answers everything but watches, so a watch stays open until its client has gone.
    let server = Server::start(None);
    let connection = client(&server).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    let watch = Request::Watch(WatchRequest {
        range: KeyRange::all(),
        from_revision: 0,
        with_previous: false,
    });
    send.write_all(&frame::to_bytes(&RequestFrame { id: 1, request: watch })).await.unwrap();
    server.assert_serves(&connection).await;
    connection.close(0_u32.into(), b"");
    let gone = server.inputs.lock().await.recv().await.unwrap();
    assert!(matches!(gone, Input::ClientGone { .. }), "{gone:?}");
}

#[tokio::test]
async fn cancelling_what_is_not_watched_is_answered_without_the_core() {
    let server = Server::start(None);
    let connection = client(&server).await;
    let (mut send, receive) = connection.open_bi().await.unwrap();
    let cancel = RequestFrame { id: 2, request: Request::WatchCancel { watch: 1 } };
    send.write_all(&frame::to_bytes(&cancel)).await.unwrap();
    let answer: ResponseFrame = server::first_frame(receive).await.unwrap();
    assert!(matches!(answer.response, Response::Error(Error::NotFound(_))), "{answer:?}");
}
