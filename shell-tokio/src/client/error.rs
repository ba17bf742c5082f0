//! How a request can fail, as the caller sees it.

use crate::tls::TlsError;
use raftkv_core::api::{Error, Response};
use std::time::Duration;

/// Why a request was not done, or is not known to be done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No node answered at all. Nothing was done.
    #[error(
        "cannot reach the cluster at {addresses}: {last}; check --endpoints, and that the nodes run"
    )]
    Unreachable {
        /// What was tried, separated by commas.
        addresses: String,
        /// The last failure.
        last: String,
    },
    /// Nodes answered, but the request could not be done in time. Nothing was done.
    #[error("not done within {} s: {last}", after.as_secs_f64())]
    Timeout {
        /// The overall timeout.
        after: Duration,
        /// What stood in the way last.
        last: String,
    },
    /// The request was sent and its answer never came: it may or may not be applied.
    #[error("whether the request was applied is not known ({why}); read before trying again")]
    OutcomeUnknown {
        /// What happened.
        why: String,
    },
    /// A node refused. Nothing was done.
    #[error(transparent)]
    Refused(#[from] Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An endpoint is not `host:port`.
    #[error("endpoint {endpoint:?} cannot be used: {why}; endpoints are HOST:PORT,...")]
    Endpoint {
        /// As given.
        endpoint: String,
        /// Why.
        why: String,
    },
    /// The answer does not belong to the question.
    #[error("a node answered a {asked} request with {got}: is it of another version?")]
    Unexpected {
        /// What was asked.
        asked: &'static str,
        /// What came.
        got: String,
    },
}

impl ClientError {
    pub(super) fn unexpected(asked: &'static str, got: &Response) -> Self {
        // Only the variant's name: the rest may hold values.
        let debug = format!("{got:?}");
        let name = debug.split([' ', '(', '{']).next().unwrap_or_default();
        ClientError::Unexpected { asked, got: name.to_owned() }
    }
}
