//! A proxy in front of a store's server that answers, cuts and swallows requests as a test plans it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a request instead of what it asked for.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is answered with this status, and goes no further. Further header lines, each ending in `\r\n`.
    Status(u16, &'static str),
    /// It is answered as S3 answers what failed after it had begun to answer: well, with a failure in the body.
    FailLate,
    /// The connection is cut when half of the request has arrived.
    Cut,
    /// The server carries it out, and nobody hears of it.
    LoseAnswer,
    /// Half of the answer arrives.
    CutAnswer,
}

/// Requests whose head holds this text meet this fault, so many times.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub holds: &'static str,
    pub fault: Fault,
    pub times: u32,
}

/// The running proxy.
#[derive(Clone)]
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    plans: Vec<Plan>,
    /// What the head of every request must hold.
    demands: Vec<String>,
    /// First lines of all requests.
    seen: Vec<String>,
}

impl Proxy {
    pub async fn start(upstream: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy { address: listener.local_addr().unwrap(), state: Arc::default() };
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let proxy = serving.clone();
                // A connection that breaks is the test's own doing.
                tokio::spawn(async move { proxy.serve(client, upstream).await.ok() });
            }
        });
        proxy
    }

    pub fn plan(&self, holds: &'static str, fault: Fault, times: u32) {
        self.state.lock().unwrap().plans.push(Plan { holds, fault, times });
    }

    /// From now on, requests without this text in their head are refused.
    pub fn demand(&self, text: &str) {
        self.state.lock().unwrap().demands.push(text.to_owned());
    }

    /// Whether everything that was planned has happened.
    pub fn is_done(&self) -> bool {
        self.state.lock().unwrap().plans.iter().all(|plan| plan.times == 0)
    }

    /// How many requests had a first line with this text.
    pub fn count(&self, holds: &str) -> usize {
        self.state.lock().unwrap().seen.iter().filter(|line| line.contains(holds)).count()
    }

    /// Forgets plans, demands and requests.
    pub fn reset(&self) {
        *self.state.lock().unwrap() = State::default();
    }

    fn fault(&self, head: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        state.seen.push(head.lines().next().unwrap_or_default().to_owned());
        if state.demands.iter().any(|text| !head.contains(text)) {
            return Some(Fault::Status(403, ""));
        }
        let plan =
            state.plans.iter_mut().find(|plan| plan.times > 0 && head.contains(plan.holds))?;
        plan.times -= 1;
        Some(plan.fault)
    }

    /// One request for each connection, which ends with it.
    async fn serve(&self, mut client: TcpStream, upstream: SocketAddr) -> std::io::Result<()> {
        let mut request = Vec::new();
        let body_at = loop {
            if client.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
            if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let head = String::from_utf8_lossy(&request[..body_at]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        let length = body_at + length.unwrap_or(0);
        let fault = self.fault(&head);
        let wanted = match fault {
            Some(Fault::Cut) => body_at + (length - body_at) / 2,
            _ => length,
        };
        while request.len() < wanted {
            if client.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        match fault {
            Some(Fault::Cut) => return Ok(()),
            Some(Fault::Status(status, lines)) => {
                let answer = format!(
                    "HTTP/1.1 {status} planned\r\n{lines}content-length: 0\r\nconnection: close\r\n\r\n"
                );
                client.write_all(answer.as_bytes()).await?;
                return client.shutdown().await;
            }
            Some(Fault::FailLate) => {
                let body = "<Error><Code>InternalError</Code></Error>";
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                client.write_all(answer.as_bytes()).await?;
                return client.shutdown().await;
            }
            _ => {}
        }
        let answer = forward(&request, body_at, upstream).await?;
        let told = match fault {
            Some(Fault::LoseAnswer) => 0,
            Some(Fault::CutAnswer) => answer.len() - 1,
            _ => answer.len(),
        };
        client.write_all(&answer[..told]).await?;
        client.shutdown().await
    }
}

async fn forward(request: &[u8], body_at: usize, upstream: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(&request[..body_at - 2]).await?;
    server.write_all(b"connection: close\r\n\r\n").await?;
    server.write_all(&request[body_at..]).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    Ok(answer)
}
