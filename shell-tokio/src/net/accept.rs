//! Lets connections in: bounds handshakes, then hands each connection to the side its protocol (ALPN) names.

use super::client::Clients;
use super::peer::Links;
use super::{HANDSHAKE_TIMEOUT, close};
use crate::tls;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Endpoint, Incoming, ServerConfig};
use raftkv_core::wire::{client, handshake};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// Handshakes under way at most.
const HANDSHAKES_MAX: usize = 256;
/// With more than this under way, callers must first prove that they own their address (RFC 9000, section 8.1.2).
const UNPROVED_HANDSHAKES_MAX: usize = 64;

/// What the accept loop needs.
pub struct Acceptor {
    /// Whose port it is.
    pub endpoint: Endpoint,
    /// Settings for callers from this machine.
    pub local: Arc<ServerConfig>,
    /// Certificates, if any.
    pub certs: Option<PathBuf>,
    /// Takes the clients' connections.
    pub clients: Arc<Clients>,
    /// Takes the peers' connections.
    pub links: Arc<Links>,
}

/// Runs until the endpoint closes.
pub async fn run(acceptor: Acceptor) {
    let acceptor = Arc::new(acceptor);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let complaints = Arc::new(Complaints::new());
    while let Some(incoming) = acceptor.endpoint.accept().await {
        let under_way = HANDSHAKES_MAX - handshakes.available_permits();
        if under_way >= UNPROVED_HANDSHAKES_MAX && incoming.may_retry() {
            // It fails only for callers that may not be told to retry.
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let (acceptor, complaints) = (acceptor.clone(), complaints.clone());
        tokio::spawn(async move {
            let connection = acceptor.shake_hands(incoming, &complaints).await;
            drop(permit);
            if let Some(connection) = connection {
                acceptor.route(connection, &complaints).await;
            }
        });
    }
}

impl Acceptor {
    async fn shake_hands(&self, incoming: Incoming, complaints: &Complaints) -> Option<Connection> {
        let caller = incoming.remote_address();
        let connecting = match caller.ip().is_loopback() {
            true => incoming.accept_with(self.local.clone()),
            false => incoming.accept(),
        };
        let outcome = match connecting {
            Ok(connecting) => timeout(HANDSHAKE_TIMEOUT, connecting).await,
            Err(error) => Ok(Err(error)),
        };
        match outcome {
            Ok(Ok(connection)) => return Some(connection),
            // Two nodes that dial each other at once end one of the calls.
            Ok(Err(error)) if tls::is_hang_up(&error) => {
                tracing::debug!("{caller} hung up during its handshake");
            }
            Ok(Err(error)) => {
                complaints.say(&format!("{caller} was not let in: {}", tls::explain(&error)));
            }
            Err(_) => {
                complaints.say(&format!("{caller} was not let in: its handshake took too long"))
            }
        }
        None
    }

    async fn route(&self, connection: Connection, complaints: &Complaints) {
        let data =
            connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        match data.and_then(|data| data.protocol).as_deref() {
            Some(client::ALPN) => self.clients.clone().serve(connection).await,
            Some(handshake::PEER_ALPN) if tls::is_node(&connection, self.certs.as_deref()) => {
                self.links.clone().welcome(connection).await;
            }
            _ => {
                let caller = connection.remote_address();
                complaints.say(&format!(
                    "{caller} spoke the protocol between nodes without a node's certificate, and was refused"
                ));
                connection
                    .close(close::NOT_A_NODE, b"only a node's certificate may speak this protocol");
            }
        }
    }
}

/// Log lines about strangers: one a second at most, so that nobody can fill the log from outside.
struct Complaints {
    start: Instant,
    next_second: AtomicU64,
}

impl Complaints {
    fn new() -> Self {
        Complaints { start: Instant::now(), next_second: AtomicU64::new(0) }
    }

    fn say(&self, line: &str) {
        let second = self.start.elapsed().as_secs();
        if self.next_second.fetch_max(second + 1, Ordering::Relaxed) <= second {
            tracing::warn!("{line}");
        } else {
            tracing::debug!("{line}");
        }
    }
}
