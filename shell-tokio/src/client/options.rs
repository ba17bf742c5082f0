//! What a client is told at start.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`super::Client`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to begin, `host:port` each. The other members are learned.
    pub endpoints: Vec<String>,
    /// Directory with `ca.crt`, `client.crt` and `client.key`; without one, only nodes on loopback can be reached.
    pub certs: Option<PathBuf>,
    /// How long a request may take, with all its retries.
    pub timeout: Duration,
    /// How long one node has to answer before the request goes to another.
    pub attempt_timeout: Duration,
    /// How long one connection may take to come up.
    pub connect_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            endpoints: vec!["127.0.0.1:7400".into()],
            certs: None,
            timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
        }
    }
}
