//! The network leaf: one UDP port for peers and clients, QUIC on it, routed by the protocol named in the TLS handshake.
//!
//! [`accept`] lets connections in, [`peer`] keeps one connection to each peer, [`client`] serves clients, [`outbox`] is where
//! frames wait, [`transport`] holds QUIC's settings. Invariants: every queue is bounded; whatever a stranger sends ends at most
//! its own connection; nothing here waits for the core but through the bounded inbox.

pub mod accept;
pub mod client;
pub mod close;
pub mod outbox;
pub mod peer;
pub mod transport;

use crate::leaf::{Inbox, Net};
use crate::tls::{self, TlsError};
use bytes::BytesMut;
use client::Clients;
use peer::Links;
use quinn::{Endpoint, RecvStream};
use raftkv_core::api::Response;
use raftkv_core::ids::{Identity, NodeId, ReqId};
use raftkv_core::wire::frame::{Decoder, FrameError};
use raftkv_core::wire::peer::PeerFrame;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the network is told at start.
#[derive(Clone, Debug)]
pub struct NetSettings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Certificates, if any.
    pub certs: Option<PathBuf>,
    /// Client connections at most.
    pub max_connections: usize,
}

/// Why the network cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket.
    #[error("cannot listen on {address}: {error}; {}", what_to_do(error, setting))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What says so.
        setting: &'static str,
        /// Why.
        error: std::io::Error,
    },
}

fn what_to_do(error: &std::io::Error, setting: &str) -> String {
    use std::io::ErrorKind;
    let why = match error.kind() {
        ErrorKind::AddrInUse => "stop the process that has the port, or",
        ErrorKind::AddrNotAvailable => "no interface of this machine has that address:",
        ErrorKind::PermissionDenied => "ports below 1024 need a privilege:",
        _ => return format!("check {setting}"),
    };
    format!("{why} choose another {setting}")
}

/// A bound UDP port that does not serve yet.
#[derive(Debug)]
pub struct Port {
    endpoint: Endpoint,
    settings: NetSettings,
    server: quinn::ServerConfig,
    caller: quinn::ClientConfig,
}

impl Port {
    /// Checks the certificates and takes the port. Must be called within a tokio runtime.
    pub fn bind(settings: NetSettings) -> Result<Port, NetError> {
        let certs = settings.certs.as_deref();
        tls::check_address(certs, settings.listen)?;
        let (server, caller) = (tls::server_config(certs)?, tls::peer_config(certs)?);
        let endpoint = transport::bind(settings.listen).map_err(|error| NetError::Listen {
            address: settings.listen,
            setting: "--listen",
            error,
        })?;
        Ok(Port { endpoint, settings, server, caller })
    }

    /// The endpoint, for calls as a client before serving.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Serves peers and clients as `identity`; what they say goes to `inbox`.
    pub fn serve(self, identity: Identity, inbox: &Inbox) -> Quic {
        let clients = Arc::new(Clients::new(self.settings.max_connections, inbox.clone()));
        let links = Links::new(
            self.endpoint.clone(),
            identity,
            self.caller,
            self.settings.certs.clone(),
            inbox.clone(),
        );
        self.endpoint.set_server_config(Some(transport::server(self.server.clone(), false)));
        tokio::spawn(accept::run(accept::Acceptor {
            endpoint: self.endpoint.clone(),
            local: Arc::new(transport::server(self.server, true)),
            certs: self.settings.certs,
            clients: clients.clone(),
            links: links.clone(),
        }));
        Quic { clients, links }
    }
}

/// The running network. It ends when its endpoint is closed (see [`close::all`]).
#[derive(Debug)]
pub struct Quic {
    clients: Arc<Clients>,
    links: Arc<Links>,
}

impl Quic {
    /// Those it serves.
    pub fn clients(&self) -> Arc<Clients> {
        self.clients.clone()
    }
}

impl Net for Quic {
    fn send(&mut self, to: NodeId, frame: PeerFrame) {
        self.links.send(to, &frame);
    }

    fn reply(&mut self, req: ReqId, response: Response) {
        self.clients.reply(req, response);
    }

    fn peers(&mut self, peers: Vec<(NodeId, String)>) {
        self.links.set_peers(peers);
    }
}

/// How long a handshake, of TLS or of ours, may take.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFrameError {
    /// The stream broke.
    #[error("{0}")]
    Stream(#[from] quinn::ReadError),
    /// It is no frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
}

/// A stream as frames.
pub(crate) struct Frames {
    stream: RecvStream,
    decoder: Decoder,
}

/// Read at once from a stream.
const CHUNK_BYTES_MAX: usize = 256 << 10;

impl Frames {
    /// Frames of more than `limit_bytes` are refused.
    pub(crate) fn new(stream: RecvStream, limit_bytes: usize) -> Self {
        Frames { stream, decoder: Decoder::new(limit_bytes) }
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ReadFrameError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match self.stream.read_chunk(CHUNK_BYTES_MAX, true).await? {
                Some(chunk) => self.decoder.push(&chunk.bytes),
                None => return Ok(None),
            }
        }
    }
}

/// One frame on a stream of its own.
pub(crate) fn one_frame<T: serde::Serialize>(frame: &T) -> bytes::Bytes {
    let mut bytes = BytesMut::new();
    raftkv_core::wire::frame::encode(frame, &mut bytes);
    bytes.freeze()
}
