//! The nodes a client knows: their addresses, the connections to them, and which one led last.
//!
//! Invariants: at most one connection attempt per node at a time; whoever comes while a node has just failed is told so at once
//! instead of waiting in line for the same timeout; a node that is silent is only asked while there is no other.

use super::error::ClientError;
use super::link::Link;
use super::lock::lock;
use super::options::Options;
use crate::net::transport;
use crate::tls;
use quinn::{ClientConfig, Endpoint};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Silence after which a node counts as lost. Pings keep a living one from being silent.
const IDLE: Duration = Duration::from_secs(2);
const PING_EVERY: Duration = Duration::from_millis(500);
/// How long a failed node is not tried again.
const FAILURE_MEMORY: Duration = Duration::from_millis(300);
/// How long a node that was lost is only tried when there is no other.
const SHUN: Duration = Duration::from_secs(1);

pub(super) struct Nodes {
    certs: Option<PathBuf>,
    connect_timeout: Duration,
    config: ClientConfig,
    v4: OnceLock<Endpoint>,
    v6: OnceLock<Endpoint>,
    book: Mutex<Book>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Book {
    nodes: BTreeMap<String, Arc<Node>>,
    leader: Option<String>,
}

#[derive(Default)]
struct Node {
    /// Read by every request; written by whoever connects.
    link: Mutex<Option<Arc<Link>>>,
    connecting: tokio::sync::Mutex<Option<Failure>>,
    /// Until then others are better; also while it is being dialled.
    shunned_until: Mutex<Option<Instant>>,
}

struct Failure {
    at: Instant,
    why: String,
}

impl Nodes {
    pub fn new(options: &Options) -> Result<Nodes, ClientError> {
        let config = tls::client_config(options.certs.as_deref())?;
        let nodes = Nodes {
            certs: options.certs.clone(),
            connect_timeout: options.connect_timeout,
            config,
            v4: OnceLock::new(),
            v6: OnceLock::new(),
            book: Mutex::default(),
            turn: AtomicUsize::new(0),
        };
        for endpoint in &options.endpoints {
            check_endpoint(endpoint)?;
        }
        if options.endpoints.is_empty() {
            let why = "none is given".into();
            return Err(ClientError::Endpoint { endpoint: String::new(), why });
        }
        nodes.learn(options.endpoints.iter().map(String::as_str));
        Ok(nodes)
    }

    /// Adds addresses; those known stay.
    pub fn learn<'a>(&self, addresses: impl Iterator<Item = &'a str>) {
        let mut book = self.book();
        for address in addresses {
            book.nodes.entry(address.to_owned()).or_default();
        }
    }

    pub fn addresses(&self) -> Vec<String> {
        self.book().nodes.keys().cloned().collect()
    }

    pub fn leader(&self) -> Option<String> {
        self.book().leader.clone()
    }

    pub fn leader_is(&self, address: &str) {
        let mut book = self.book();
        if book.leader.as_deref() != Some(address) {
            book.nodes.entry(address.to_owned()).or_default();
            book.leader = Some(address.to_owned());
        }
    }

    /// Forgets the leader, if it is still the one that disappointed.
    pub fn leader_is_not(&self, address: &str) {
        let mut book = self.book();
        if book.leader.as_deref() == Some(address) {
            book.leader = None;
        }
    }

    /// Notes that somebody was told the leader is at `address`. Not believed while that node is silent: the news may be old.
    pub fn leader_is_said_to_be(&self, address: &str) {
        let shunned = self.book().nodes.get(address).is_some_and(|node| node.is_shunned());
        if !shunned {
            self.leader_is(address);
        }
    }

    /// The node did not answer: the leader is elsewhere, and others are asked first for a while.
    pub fn lost(&self, address: &str) {
        self.leader_is_not(address);
        if let Some(node) = self.book().nodes.get(address) {
            node.shun(SHUN);
        }
    }

    /// The next node in turn, of those that are not silent if there are any.
    pub fn any(&self) -> String {
        let book = self.book();
        let good: Vec<&String> =
            book.nodes.iter().filter(|(_, node)| !node.is_shunned()).map(|(at, _)| at).collect();
        let candidates = if good.is_empty() { book.nodes.keys().collect() } else { good };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % candidates.len();
        candidates[turn].clone()
    }

    /// A node that answers without being dialled first, or the next in turn.
    pub fn connected(&self) -> String {
        let book = self.book();
        let connected = book.nodes.iter().find(|(_, node)| node.alive().is_some());
        match connected.map(|(address, _)| address.clone()) {
            Some(address) => address,
            None => {
                drop(book);
                self.any()
            }
        }
    }

    /// A working link to the node, dialling if there is none. The error says why not.
    pub async fn link(&self, address: &str) -> Result<Arc<Link>, String> {
        let node = self.book().nodes.entry(address.to_owned()).or_default().clone();
        if let Some(link) = node.alive() {
            return Ok(link);
        }
        let mut failure = node.connecting.lock().await;
        if let Some(link) = node.alive() {
            return Ok(link);
        }
        if let Some(failure) = &*failure
            && failure.at.elapsed() < FAILURE_MEMORY
        {
            return Err(failure.why.clone());
        }
        node.shun(self.connect_timeout);
        match timeout(self.connect_timeout, self.dial(address)).await {
            Ok(Ok(link)) => {
                let link = Arc::new(link);
                *lock(&node.link) = Some(link.clone());
                *lock(&node.shunned_until) = None;
                *failure = None;
                Ok(link)
            }
            failed => {
                let why = match failed {
                    Ok(Err(why)) => format!("{address}: {why}"),
                    _ => format!("{address}: no answer"),
                };
                node.shun(SHUN);
                *failure = Some(Failure { at: Instant::now(), why: why.clone() });
                Err(why)
            }
        }
    }

    pub async fn close(&self) {
        for node in self.book().nodes.values() {
            lock(&node.link).take();
        }
        for endpoint in [&self.v4, &self.v6].into_iter().filter_map(OnceLock::get) {
            endpoint.wait_idle().await;
        }
    }

    async fn dial(&self, address: &str) -> Result<Link, String> {
        let resolved = tokio::net::lookup_host(address).await.map_err(|error| error.to_string())?;
        let mut last = "the name has no address".to_owned();
        for socket in resolved {
            match self.dial_socket(address, socket).await {
                Ok(link) => return Ok(link),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    async fn dial_socket(&self, address: &str, socket: SocketAddr) -> Result<Link, String> {
        tls::check_address(self.certs.as_deref(), socket).map_err(|error| error.to_string())?;
        let config = transport::caller(self.config.clone(), socket, IDLE, PING_EVERY);
        let connecting = self
            .endpoint(socket)
            .map_err(|error| format!("no UDP socket can be opened: {error}"))?
            .connect_with(config, socket, tls::server_name(address))
            .map_err(|error| error.to_string())?;
        let connection = connecting.await.map_err(|error| tls::explain(&error))?;
        Link::start(connection).await.map_err(|error| tls::explain(&error))
    }

    fn endpoint(&self, to: SocketAddr) -> std::io::Result<&Endpoint> {
        let (cell, from) = match to {
            SocketAddr::V4(_) => (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        match cell.get() {
            Some(endpoint) => Ok(endpoint),
            None => {
                let endpoint = transport::bind(from)?;
                Ok(cell.get_or_init(|| endpoint))
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

impl Node {
    fn alive(&self) -> Option<Arc<Link>> {
        lock(&self.link).as_ref().filter(|link| !link.is_broken()).cloned()
    }

    fn shun(&self, span: Duration) {
        *lock(&self.shunned_until) = Some(Instant::now() + span);
    }

    fn is_shunned(&self) -> bool {
        lock(&self.shunned_until).is_some_and(|until| Instant::now() < until)
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), ClientError> {
    let bad = |why: &str| ClientError::Endpoint { endpoint: endpoint.to_owned(), why: why.into() };
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(|| bad("it has no port"))?;
    if host.is_empty() {
        return Err(bad("it has no host"));
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err(bad("an IPv6 address is written [ADDRESS]:PORT"));
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(()),
        _ => Err(bad("its port is not a number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_name_host_and_port() {
        for good in ["127.0.0.1:7400", "node-1.example:1", "[::1]:7400"] {
            assert!(check_endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1", ":7400", "::1:7400", "host:0", "host:port", "host:70000"] {
            assert!(check_endpoint(bad).is_err(), "{bad}");
        }
    }
}
