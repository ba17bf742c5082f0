//! Asks a cluster to take this node in, before the node exists.
//!
//! The members are asked in turn; one that does not lead names the one that does. Asking twice is harmless: the later grant names a
//! later incarnation, and the earlier one is never used.

use crate::net::{Frames, one_frame, transport};
use crate::tls::{self, TlsError};
use quinn::Endpoint;
use raftkv_core::api::request::JoinGrant;
use raftkv_core::api::{Error, Request, Response};
use raftkv_core::ids::Identity;
use raftkv_core::wire::client::{RequestFrame, ResponseFrame};
use raftkv_core::wire::frame::CLIENT_FRAME_BYTES_MAX;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Why no cluster took the node in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The cluster said no.
    #[error("{address} refused to take this node in: {error}")]
    Refused {
        /// Who.
        address: String,
        /// Why.
        error: Error,
    },
    /// Nobody answered in time.
    #[error("no member of the cluster took this node in within {} s; the last try: {last}", PATIENCE.as_secs())]
    NoAnswer {
        /// What happened last.
        last: String,
    },
}

/// What a joining node says of itself.
#[derive(Clone, Debug)]
pub struct Applicant {
    /// Its member number.
    pub member: u32,
    /// Where it will be reached.
    pub address: String,
    /// It wants no vote.
    pub learner: bool,
}

/// How long to go on asking. A cluster may be between two leaders.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a refusal may be a mistake: a leader needs a while to see that the member's earlier life has ended.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(15);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);

/// Asks until somebody grants or refuses it, or patience ends.
pub async fn join(
    endpoint: &Endpoint,
    certs: Option<&Path>,
    members: &[String],
    applicant: &Applicant,
) -> Result<(Identity, JoinGrant), JoinError> {
    let started = Instant::now();
    let caller = Caller { endpoint, certs, config: tls::joining_config(certs)? };
    let mut last = "no member is known".to_owned();
    let mut leader: Option<String> = None;
    for address in members.iter().cycle() {
        let address = leader.take().unwrap_or_else(|| address.clone());
        if address != applicant.address {
            match timeout(ANSWER_TIMEOUT, caller.ask(&address, applicant)).await {
                Ok(Ok(Response::Joined { identity, grant })) => return Ok((identity, grant)),
                Ok(Ok(Response::Error(Error::NotLeader { leader: Some((_, named)) }))) => {
                    last = format!("{address} says that {named} leads");
                    leader = Some(named);
                }
                Ok(Ok(Response::Error(error)))
                    if !error.retryable() && started.elapsed() >= REFUSAL_PATIENCE =>
                {
                    return Err(JoinError::Refused { address, error });
                }
                Ok(Ok(Response::Error(error))) => last = format!("{address}: {error}"),
                Ok(Ok(_)) => last = format!("{address} answered something else"),
                Ok(Err(why)) => last = format!("{address}: {why}"),
                Err(_) => last = format!("{address} did not answer"),
            }
            tracing::info!("asking to be taken in: {last}");
        }
        if started.elapsed() >= PATIENCE {
            break;
        }
        sleep(PAUSE).await;
    }
    Err(JoinError::NoAnswer { last })
}

struct Caller<'a> {
    endpoint: &'a Endpoint,
    certs: Option<&'a Path>,
    config: quinn::ClientConfig,
}

impl Caller<'_> {
    async fn ask(&self, address: &str, applicant: &Applicant) -> Result<Response, String> {
        let target = tokio::net::lookup_host(address)
            .await
            .map_err(|error| error.to_string())?
            .next()
            .ok_or("its name has no address")?;
        tls::check_address(self.certs, target).map_err(|error| error.to_string())?;
        let config = transport::client(self.config.clone(), target);
        let connection = self
            .endpoint
            .connect_with(config, target, tls::server_name(address))
            .map_err(|error| error.to_string())?
            .await
            .map_err(|error| tls::explain(&error))?;
        let explained = |error: String| match connection.close_reason() {
            Some(reason) => tls::explain(&reason),
            None => error,
        };
        let (mut send, receive) =
            connection.open_bi().await.map_err(|error| explained(error.to_string()))?;
        let Applicant { member, address, learner } = applicant.clone();
        let request = RequestFrame { id: 1, request: Request::Join { member, address, learner } };
        send.write_chunk(one_frame(&request))
            .await
            .map_err(|error| explained(error.to_string()))?;
        let answer: Option<ResponseFrame> = Frames::new(receive, CLIENT_FRAME_BYTES_MAX)
            .next()
            .await
            .map_err(|error| explained(error.to_string()))?;
        connection.close(0_u32.into(), b"");
        answer.map(|frame| frame.response).ok_or_else(|| "it gave no answer".to_owned())
    }
}
