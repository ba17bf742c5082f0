//! The proxy between nodes does to datagrams what it is told, and nothing else.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod proxy;

use proxy::{Counts, Faults, Host, Proxy};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Two members behind a proxy.
struct Pair {
    proxy: Proxy,
    sockets: [UdpSocket; 2],
}

impl Pair {
    async fn start() -> Pair {
        let sockets = [socket().await, socket().await];
        let addresses: Vec<SocketAddr> =
            sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        Pair { proxy: Proxy::start(&addresses, 1).await.unwrap(), sockets }
    }

    /// Member 1 sends to member 2.
    async fn send(&self, datagram: &[u8]) {
        self.sockets[0].send_to(datagram, self.proxy.fronts()[1]).await.unwrap();
    }

    /// Sends numbers from 0, and gives those that came.
    async fn sent_one_by_one(&self, count: u64) -> Vec<u64> {
        let handled = |counts: Counts| counts.passed - counts.duplicated + counts.lost + counts.cut;
        let before = self.proxy.counts();
        let mut came = Vec::new();
        for number in 0..count {
            self.send(&number.to_le_bytes()).await;
            // Not too many at once, or the kernel would lose some.
            while handled(self.proxy.counts()) <= handled(before) + number {
                tokio::task::yield_now().await;
            }
        }
        while (came.len() as u64) < self.proxy.counts().passed - before.passed {
            let (datagram, _) = receive(&self.sockets[1]).await;
            came.push(u64::from_le_bytes(datagram.try_into().unwrap()));
        }
        came
    }
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    let received = timeout(Duration::from_secs(60), socket.recv_from(&mut buffer));
    let (len_bytes, sender) = received.await.expect("a datagram").unwrap();
    buffer.truncate(len_bytes);
    (buffer, sender)
}

#[tokio::test]
async fn datagrams_pass_and_are_answered() {
    let pair = Pair::start().await;
    let longest = vec![7; 60_000];
    pair.send(&longest).await;
    let (datagram, sender) = receive(&pair.sockets[1]).await;
    assert_eq!(datagram, longest);
    pair.sockets[1].send_to(b"answer", sender).await.unwrap();
    let (answer, from) = receive(&pair.sockets[0]).await;
    assert_eq!((answer.as_slice(), from), (&b"answer"[..], pair.proxy.fronts()[1]));
}

#[tokio::test]
async fn a_cut_is_one_way_until_it_is_mended() {
    let pair = Pair::start().await;
    pair.send(b"first").await;
    let (_, sender) = receive(&pair.sockets[1]).await;
    let cut = Faults { cut: true, ..Faults::default() };
    pair.proxy.set(Host::Member(1), Host::Member(2), cut);
    assert_eq!(pair.sent_one_by_one(3).await, [] as [u64; 0]);
    assert_eq!(pair.proxy.counts().cut, 3);
    pair.sockets[1].send_to(b"still heard", sender).await.unwrap();
    assert_eq!(receive(&pair.sockets[0]).await.0, b"still heard");
    // Clients are others.
    let client = socket().await;
    client.send_to(b"client", pair.proxy.fronts()[1]).await.unwrap();
    assert_eq!(receive(&pair.sockets[1]).await.0, b"client");
    pair.proxy.heal();
    pair.send(b"again").await;
    assert_eq!(receive(&pair.sockets[1]).await.0, b"again");
}

#[tokio::test]
async fn some_are_lost_some_come_twice_and_some_overtake() {
    let pair = Pair::start().await;
    let faults = Faults { cut: false, loss_percent: 20, duplicate_percent: 20, delay_ms_max: 20 };
    pair.proxy.set(Host::Member(1), Host::Member(2), faults);
    let came = pair.sent_one_by_one(300).await;
    let counts = pair.proxy.counts();
    assert!((20..120).contains(&counts.lost), "{counts:?}");
    assert!((20..120).contains(&counts.duplicated), "{counts:?}");
    assert!(!came.is_sorted(), "none overtook another");
    let mut different = came.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len() as u64, 300 - counts.lost);
}
