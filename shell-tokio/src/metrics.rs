//! Shows metrics to whoever asks: `GET /metrics` over plain HTTP, for Prometheus.
//!
//! Invariants: nothing can be changed from here; whoever can reach the port reads numbers, and no key or value; so many connections at
//! once, each for one request and for a bounded time; what a stranger sends ends its own connection and nothing else.

use crate::net::NetError;
use crate::net::client::Clients;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use raftkv_core::api::{self, metrics};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Connections at once. More wait to be accepted.
const CONNECTIONS_MAX: usize = 8;
/// From the first byte to the last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The head of a request; bodies are not read.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// After a connection could not be accepted: no file descriptor is left, for example.
const PAUSE: Duration = Duration::from_secs(1);

/// A bound TCP port that does not serve yet.
#[derive(Debug)]
pub struct MetricsPort {
    listener: TcpListener,
}

impl MetricsPort {
    /// Takes the port.
    pub async fn bind(address: SocketAddr) -> Result<MetricsPort, NetError> {
        let setting = "--metrics-listen";
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| NetError::Listen { address, setting, error })?;
        Ok(MetricsPort { listener })
    }

    /// Serves what the node of these clients says of itself. Never ends.
    pub async fn serve(self, clients: Arc<Clients>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let clients = clients.clone();
                    tokio::spawn(async move {
                        // One that takes too long is dropped.
                        let _ = timeout(CONNECTION_TIMEOUT, serve_one(stream, &clients)).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("a caller for metrics could not be accepted: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn serve_one(stream: TcpStream, clients: &Clients) {
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(answer(request.method(), request.uri().path(), clients).await)
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("a caller for metrics was not served: {error}");
    }
}

async fn answer(method: &Method, path: &str, clients: &Clients) -> Response<String> {
    if path != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n".into());
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused =
            plain(StatusCode::METHOD_NOT_ALLOWED, "metrics can only be read\n".into());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match ask(clients).await {
        Ok(text) => {
            let mut shown = plain(StatusCode::OK, text);
            let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
            shown.headers_mut().insert(CONTENT_TYPE, kind);
            shown
        }
        Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn ask(clients: &Clients) -> Result<String, String> {
    let status = match clients.ask(api::Request::Status).await {
        Some(api::Response::Status(status)) => status,
        Some(api::Response::Error(error)) => return Err(error.to_string()),
        _ => return Err("the node has ended".into()),
    };
    let backups = match clients.ask(api::Request::BackupStatus).await {
        Some(api::Response::Backups(backups)) => Some(backups),
        // A node that joins knows nothing of backups yet.
        _ => None,
    };
    Ok(metrics::render(&status, backups.as_deref()))
}

fn plain(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
