//! A bad network in user space: a UDP port in front of every node, through which peers and clients reach it, and which loses, delays,
//! duplicates, reorders and cuts datagrams, in each direction by itself.
//!
//! A node is known by the port it listens on, from which it also calls; everybody else is a client. Datagrams are never changed.

#![allow(dead_code, reason = "each test file uses a part")]

use raftkv_core::rng::{Rng, Seed};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// A member, by number from 1.
    Member(usize),
    /// Any client.
    Client,
}

/// What happens to datagrams on the way from one host to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Nothing passes.
    pub cut: bool,
    /// So many of a hundred are lost.
    pub loss_percent: u64,
    /// So many of a hundred come twice.
    pub duplicate_percent: u64,
    /// Each is late by up to this much, so that they overtake each other.
    pub delay_ms_max: u64,
}

/// What the proxy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams passed on, copies included.
    pub passed: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Stopped by a cut.
    pub cut: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Passed on late.
    pub delayed: u64,
}

/// The ports in front of all nodes. Dropping it closes them.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    fronts: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    members: Vec<SocketAddr>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    links: BTreeMap<(Host, Host), Faults>,
    rng: Rng,
    counts: Counts,
}

/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 1 << 16;
/// What the kernel is asked for; it may give less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

impl Proxy {
    /// Opens a port in front of each member's address. Nothing is wrong with any link yet. Must be called within a runtime.
    pub async fn start(members: &[SocketAddr], seed: u64) -> io::Result<Proxy> {
        let rng = Seed::from_number(seed).fork("proxy");
        let state = State { links: BTreeMap::new(), rng, counts: Counts::default() };
        let shared = Arc::new(Shared { members: members.to_vec(), state: Mutex::new(state) });
        let (mut fronts, mut tasks) = (Vec::new(), JoinSet::new());
        for member in 1..=members.len() {
            let socket = Arc::new(bind()?);
            fronts.push(socket.local_addr()?);
            tasks.spawn(serve(shared.clone(), member, socket));
        }
        Ok(Proxy { shared, fronts, _tasks: tasks })
    }

    /// Where each member is reached.
    pub fn fronts(&self) -> &[SocketAddr] {
        &self.fronts
    }

    /// Sets what happens from one host to another.
    pub fn set(&self, from: Host, to: Host, faults: Faults) {
        self.shared.lock().links.insert((from, to), faults);
    }

    /// Mends all links.
    pub fn heal(&self) {
        self.shared.lock().links.clear();
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }
}

/// Receives what is sent to a member, and gives each sender a socket of its own towards it.
async fn serve(shared: Arc<Shared>, member: usize, front: Arc<UdpSocket>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut senders: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut answers = JoinSet::new();
    loop {
        let Ok((len_bytes, sender)) = front.recv_from(&mut buffer).await else { continue };
        let host = shared.host(sender);
        let back = match senders.get(&sender) {
            Some(back) => back.clone(),
            None => {
                let Ok(back) = towards(shared.members[member - 1]).await else { continue };
                let back = Arc::new(back);
                senders.insert(sender, back.clone());
                answers.spawn(answer(
                    shared.clone(),
                    (member, host),
                    back.clone(),
                    front.clone(),
                    sender,
                ));
                back
            }
        };
        let send = move |datagram: Vec<u8>| {
            let back = back.clone();
            // A member that is down, or a full buffer: datagrams may be lost.
            async move { drop(back.send(&datagram).await) }
        };
        shared.carry(host, Host::Member(member), &buffer[..len_bytes], send).await;
    }
}

/// Carries a member's answers to a sender.
async fn answer(
    shared: Arc<Shared>,
    (member, host): (usize, Host),
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    sender: SocketAddr,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // The error is that nobody listens there at the moment.
        let Ok(len_bytes) = back.recv(&mut buffer).await else { continue };
        let send = |datagram: Vec<u8>| {
            let front = front.clone();
            async move { drop(front.send_to(&datagram, sender).await) }
        };
        shared.carry(Host::Member(member), host, &buffer[..len_bytes], send).await;
    }
}

async fn towards(member: SocketAddr) -> io::Result<UdpSocket> {
    let socket = bind()?;
    socket.connect(member).await?;
    Ok(socket)
}

/// A socket on a free port, with room for the bursts of a snapshot: only what was asked for shall be lost.
fn bind() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    UdpSocket::from_std(socket.into())
}

impl Shared {
    fn host(&self, address: SocketAddr) -> Host {
        let member = self.members.iter().position(|member| *member == address);
        member.map_or(Host::Client, |place| Host::Member(place + 1))
    }

    async fn carry<F>(
        &self,
        from: Host,
        to: Host,
        datagram: &[u8],
        send: impl Fn(Vec<u8>) -> F + Send,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        for delay in self.copies(from, to) {
            let sent = send(datagram.to_vec());
            if delay.is_zero() {
                sent.await;
            } else {
                tokio::spawn(async move {
                    sleep(delay).await;
                    sent.await;
                });
            }
        }
    }

    /// How late each copy of a datagram is.
    fn copies(&self, from: Host, to: Host) -> Vec<Duration> {
        let mut state = self.lock();
        let faults = state.links.get(&(from, to)).copied().unwrap_or_default();
        if faults.cut {
            state.counts.cut += 1;
            return Vec::new();
        }
        if state.rng.below(100) < faults.loss_percent {
            state.counts.lost += 1;
            return Vec::new();
        }
        let twice = state.rng.below(100) < faults.duplicate_percent;
        let count = if twice { 2 } else { 1 };
        state.counts.passed += count;
        state.counts.duplicated += count - 1;
        let delay =
            |state: &mut State| Duration::from_millis(state.rng.below(faults.delay_ms_max + 1));
        let delays: Vec<Duration> = (0..count).map(|_| delay(&mut state)).collect();
        state.counts.delayed += delays.iter().filter(|delay| !delay.is_zero()).count() as u64;
        delays
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
