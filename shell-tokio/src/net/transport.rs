//! QUIC's settings, and the socket.
//!
//! On loopback datagrams may be large: packets cost per piece there, not per byte. Elsewhere the path's limit is found by probing.

use quinn::congestion::CubicConfig;
use quinn::{
    AckFrequencyConfig, ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Largest datagram, on loopback and wherever the path takes it. quinn hands up to ten to the kernel at once, which must not be longer together
/// than one may be: those would all be lost, until quinn takes the path for one that carries no more than the least.
const DATAGRAM_BYTES_MAX: u16 = 6500;
/// What the kernel is asked for; it may give less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// A client uses one stream, a handshake between nodes another; more are room for clients to come.
const BIDI_STREAMS_MAX: u32 = 16;
/// Between nodes: one for consensus, one for snapshots, in case of a new one before the old ended twice that.
const UNI_STREAMS_MAX: u32 = 4;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(8);
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// An endpoint on `address` that can call, and serves once it is given a server's settings.
pub fn bind(address: SocketAddr) -> io::Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Too small a limit of the kernel's is no reason not to start.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(DATAGRAM_BYTES_MAX)
        .expect("more than QUIC's minimum, less than UDP's maximum");
    Endpoint::new(config, None, socket.into(), Arc::new(TokioRuntime))
}

/// A server's settings for callers from this machine (`local`) or from elsewhere.
pub fn server(mut config: ServerConfig, local: bool) -> ServerConfig {
    config.transport_config(Arc::new(transport(local, IDLE_TIMEOUT, KEEP_ALIVE)));
    // Nodes do not roam, and a migrating client is not worth the attack surface.
    config.migration(false);
    config
}

/// A caller's settings towards a peer at `address`.
pub fn peer(config: ClientConfig, address: SocketAddr) -> ClientConfig {
    caller(config, address, PEER_IDLE_TIMEOUT, PEER_KEEP_ALIVE)
}

/// A node's settings as a client of another at `address`.
pub fn client(config: ClientConfig, address: SocketAddr) -> ClientConfig {
    caller(config, address, IDLE_TIMEOUT, KEEP_ALIVE)
}

/// The settings of whoever calls a node at `address`, and takes it for lost when it is silent for `idle`.
pub fn caller(
    mut config: ClientConfig,
    address: SocketAddr,
    idle: Duration,
    keep_alive: Duration,
) -> ClientConfig {
    let local = address.ip().is_loopback();
    config.transport_config(Arc::new(transport(local, idle, keep_alive)));
    config
}

fn transport(local: bool, idle: Duration, keep_alive: Duration) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(CONNECTION_WINDOW_BYTES.into())
        .max_idle_timeout(Some(IdleTimeout::try_from(idle).expect("seconds fit")))
        .keep_alive_interval(Some(keep_alive))
        .datagram_receive_buffer_size(None)
        .send_fairness(false)
        // A node that is just starting misses the first packet; the next should not be a second away.
        .initial_rtt(Duration::from_millis(100));
    let mut congestion = CubicConfig::default();
    let mut acks = AckFrequencyConfig::default();
    if local {
        config.initial_mtu(DATAGRAM_BYTES_MAX).mtu_discovery_config(None);
        congestion.initial_window(1 << 20);
        acks.ack_eliciting_threshold(VarInt::from_u32(8))
            .max_ack_delay(Some(Duration::from_millis(5)));
    } else {
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(DATAGRAM_BYTES_MAX);
        config.mtu_discovery_config(Some(discovery));
        acks.ack_eliciting_threshold(VarInt::from_u32(4));
    }
    config.congestion_controller_factory(Arc::new(congestion)).ack_frequency_config(Some(acks));
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn large_datagrams_arrive_however_many_are_sent_at_once() {
        const BYTES: usize = 8 << 20;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let serving = bind(any).unwrap();
        serving.set_server_config(Some(server(tls::server_config(None).unwrap(), true)));
        let address = serving.local_addr().unwrap();
        let giving = tokio::spawn(async move {
            let connection = serving.accept().await.unwrap().await.unwrap();
            let mut stream = connection.open_uni().await.unwrap();
            stream.write_all(&vec![7; BYTES]).await.unwrap();
            stream.finish().unwrap();
            stream.stopped().await.unwrap();
            connection.stats().path
        });
        let calling = bind(any).unwrap();
        let config = client(tls::client_config(None).unwrap(), address);
        let name = tls::server_name("127.0.0.1:1");
        let connection = calling.connect_with(config, address, name).unwrap().await.unwrap();
        let mut stream = connection.accept_uni().await.unwrap();
        assert_eq!(stream.read_to_end(BYTES).await.unwrap().len(), BYTES);
        let path = giving.await.unwrap();
        assert_eq!((path.current_mtu, path.black_holes_detected), (DATAGRAM_BYTES_MAX, 0));
    }
}
