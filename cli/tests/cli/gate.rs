//! Stands between a client and a server, and can hold a request for as long as a test wants.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// How long a request may be waited for on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Passes everything on, except that requests that name something special wait until it is opened.
pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    /// What the requests that are held have in them.
    names: &'static str,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_open: bool,
    has_held: bool,
}

impl Gate {
    /// A gate in front of this server.
    pub fn before(server: SocketAddr, names: &'static str) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { server, names, state, changed });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                connect(client.unwrap(), &of_thread);
            }
        });
        Gate { address, shared }
    }

    /// Where the server seems to be.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until a request is held.
    pub fn wait_until_held(&self) {
        let state = self.shared.state.lock().unwrap();
        let waited =
            self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !state.has_held);
        assert!(waited.unwrap().0.has_held, "no request names {}", self.shared.names);
    }

    /// Holds nothing any more.
    pub fn open(&self) {
        self.shared.state.lock().unwrap().is_open = true;
        self.shared.changed.notify_all();
    }
}

fn connect(client: TcpStream, shared: &Arc<Shared>) {
    let server = TcpStream::connect(shared.server).unwrap();
    let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || pass(from, to, |_| {}));
    let shared = Arc::clone(shared);
    thread::spawn(move || pass(client, server, |bytes| shared.hold(bytes)));
}

/// Whoever closes its side ends the other's; what is broken then concerns only those two.
fn pass(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        look(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

impl Shared {
    fn hold(&self, bytes: &[u8]) {
        let names = self.names.as_bytes();
        if bytes.windows(names.len()).any(|window| window == names) {
            let mut state = self.state.lock().unwrap();
            state.has_held |= !state.is_open;
            self.changed.notify_all();
            drop(self.changed.wait_while(state, |state| !state.is_open).unwrap());
        }
    }
}
