//! A server that answers as a test says: for what is asked beside the stores themselves, and by stores of which a test needs little.

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// What to answer to a request, given as its head and its body: a status and a body.
pub type Answers = dyn Fn(&str, &str) -> (u16, String) + Send + Sync;

/// Starts a server. It ends with the process.
pub fn serve(answers: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> SocketAddr {
    listen(move |stream| answer(stream, &answers))
}

/// Starts a proxy for HTTPS that is itself the one host that may be reached through it. Also the certificate, in PEM, to be trusted.
pub fn serve_as(
    host: &'static str,
    answers: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static,
) -> (SocketAddr, String) {
    let (config, certificate) = certified(host);
    let address = listen(move |mut stream| {
        let (asked, _) = read(&mut stream)?;
        if !asked.starts_with(&format!("CONNECT {host}:443 ")) {
            return None;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
        let connection = ServerConnection::new(config.clone()).ok()?;
        answer(StreamOwned::new(connection, stream), &answers)
    });
    (address, certificate)
}

/// Starts a server for HTTPS whose certificate nobody trusts. `called` counts connections.
pub fn serve_untrusted(called: impl Fn() -> u32 + Send + Sync + 'static) -> SocketAddr {
    let (config, _) = certified("127.0.0.1");
    listen(move |stream| {
        called();
        let connection = ServerConnection::new(config.clone()).ok()?;
        answer(StreamOwned::new(connection, stream), &|_, _| (200, String::new()))
    })
}

/// A server that shows a certificate of its own making, and that.
fn certified(host: &str) -> (Arc<ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), made.cert.pem())
}

/// Whoever breaks a connection off, or does not trust the certificate, is no failure of the server's.
fn listen(serve: impl Fn(TcpStream) -> Option<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

/// One request for each connection.
fn answer(mut stream: impl Read + Write, answers: &Answers) -> Option<()> {
    let (head, body) = read(&mut stream)?;
    let (status, body) = answers(&head, &body);
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status} as asked\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).ok()?;
    stream.flush().ok()
}

/// A request's head and body.
fn read(stream: &mut impl Read) -> Option<(String, String)> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&request[..at]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if request.len() >= at + 4 + length.map_or(0, |length| length.parse().unwrap()) {
                return Some((head, String::from_utf8_lossy(&request[at + 4..]).into_owned()));
            }
        }
        match stream.read(&mut buffer).ok()? {
            0 => return None,
            read => request.extend_from_slice(&buffer[..read]),
        }
    }
}
