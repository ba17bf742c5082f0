//! A network without a core: what reaches the inbox is checked by the test, and some of it answered.

#![allow(dead_code, reason = "each test file uses a part")]

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream};
use raftkv_core::api::{Request, Response};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::io::Input;
use raftkv_core::wire::client::{RequestFrame, ResponseFrame};
use raftkv_core::wire::frame::{self, Decoder};
use raftkv_core::wire::handshake::{Hello, Welcome};
use raftkv_node::leaf::Net as _;
use raftkv_node::net::{NetSettings, Port};
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::Path;
use tokio::sync::mpsc;

/// Serves on a free port; answers every client, except watches, with an empty list of members.
pub struct Server {
    /// Where.
    pub address: SocketAddr,
    /// What came in and was not answered.
    pub inputs: tokio::sync::Mutex<mpsc::UnboundedReceiver<Input>>,
}

/// Who the server is.
pub fn identity() -> Identity {
    Identity { cluster: ClusterId([7; 16]), epoch: Epoch(0), node: NodeId::new(1, 0) }
}

/// A member of the server's cluster, by number.
pub fn member(number: u32) -> Identity {
    Identity { node: NodeId::new(number, 0), ..identity() }
}

impl Server {
    /// Must be called within a runtime.
    pub fn start(certs: Option<&Path>) -> Server {
        let (inbox, mut inputs) = mpsc::channel(64);
        let settings = NetSettings {
            listen: "127.0.0.1:0".parse().expect("an address"),
            certs: certs.map(Into::into),
            max_connections: 16,
        };
        let port = Port::bind(settings).expect("a free port");
        let address = port.endpoint().local_addr().expect("an address");
        let mut net = port.serve(identity(), &inbox);
        let (unanswered, kept) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(input) = inputs.recv().await {
                match input {
                    Input::Client { request: Request::Watch(_), .. } => {}
                    Input::Client { req, .. } => net.reply(req, Response::Members(Vec::new())),
                    // The test may have ended.
                    input => drop(unanswered.send(input)),
                }
            }
        });
        Server { address, inputs: tokio::sync::Mutex::new(kept) }
    }

    /// A request on the connection is answered.
    pub async fn assert_serves(&self, connection: &Connection) {
        let (mut send, receive) = connection.open_bi().await.expect("a stream");
        let request = RequestFrame { id: 5, request: Request::MemberList };
        send.write_all(&frame::to_bytes(&request)).await.expect("sent");
        let answer: ResponseFrame = first_frame(receive).await.expect("an answer");
        assert_eq!(answer, ResponseFrame { id: 5, response: Response::Members(Vec::new()) });
    }

    /// A greeting on the connection is answered kindly.
    pub async fn assert_welcomes(&self, connection: &Connection) {
        let hello = Hello { from: member(2), to: identity().node };
        assert_eq!(greet(connection, &hello).await, Some(Welcome::Accepted));
    }
}

/// Says hello on a new connection.
pub async fn greet(connection: &Connection, hello: &Hello) -> Option<Welcome> {
    let (mut send, receive) = connection.open_bi().await.expect("a stream");
    send.write_all(&frame::to_bytes(hello)).await.expect("sent");
    first_frame(receive).await
}

/// Dials as the settings say, under the name `127.0.0.1`.
pub async fn call(
    address: SocketAddr,
    config: ClientConfig,
) -> Result<Connection, ConnectionError> {
    let endpoint = Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a port");
    endpoint.connect_with(config, address, "127.0.0.1").expect("settings").await
}

/// `None` when the stream ends or breaks before a frame came.
pub async fn first_frame<T: DeserializeOwned>(mut stream: RecvStream) -> Option<T> {
    let mut decoder = Decoder::new(1 << 20);
    loop {
        if let Some(value) = decoder.next_frame().expect("a frame") {
            return Some(value);
        }
        let chunk = stream.read_chunk(1 << 16, true).await.ok()??;
        decoder.push(&chunk.bytes);
    }
}
