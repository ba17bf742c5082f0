//! Where a request goes, and whether it goes again.

use super::Client;
use super::error::ClientError;
use super::link::{Link, LinkError};
use raftkv_core::api::{Error, Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Who should answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The leader, as far as it is known.
    Leader,
    /// Whoever can be reached.
    Any,
}

/// When a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// Always: doing it twice is the same as doing it once.
    Always,
    /// Only while it certainly had no effect.
    UnlessSent,
}

const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// Sends until there is an answer, the request is refused for good, or the deadline comes.
pub(super) async fn ask(
    client: &Client,
    target: Target,
    request: &Request,
    retry: Retry,
    deadline: Instant,
) -> Result<Response, ClientError> {
    Attempts::new(client, target, retry, deadline).run(request).await
}

/// Asks one node, once it can be reached; for what only that node can answer.
pub(super) async fn ask_at(
    client: &Client,
    address: &str,
    request: &Request,
    deadline: Instant,
) -> Result<Response, ClientError> {
    let unreachable = |last| ClientError::Unreachable { addresses: address.to_owned(), last };
    let nodes = &client.shared.nodes;
    let link = timeout_at(deadline, nodes.link(address))
        .await
        .map_err(|_| unreachable("no answer in time".into()))?
        .map_err(unreachable)?;
    match timeout_at(deadline, link.ask(request)).await {
        Ok(Ok(Response::Error(error))) => Err(error.into()),
        Ok(Ok(response)) => Ok(response),
        Ok(Err(LinkError::TooLarge(error))) => Err(error.into()),
        Ok(Err(LinkError::NotSent(why) | LinkError::Lost(why))) => {
            Err(unreachable(format!("{address}: {why}")))
        }
        Err(_) => Err(ClientError::Timeout {
            after: client.shared.options.timeout,
            last: format!("{address} did not answer"),
        }),
    }
}

/// What came of sending a request once.
enum Attempt {
    Answered(Response),
    /// It had no effect, and cannot have.
    NotDone(String),
    /// It may have had an effect, or have one later.
    Unclear(String),
    Refused(ClientError),
}

struct Attempts<'a> {
    client: &'a Client,
    target: Target,
    retry: Retry,
    deadline: Instant,
    backoff: Duration,
    /// Some node answered something.
    answered: bool,
    /// Why an earlier attempt may have had an effect.
    unclear: Option<String>,
    last: String,
}

impl<'a> Attempts<'a> {
    fn new(client: &'a Client, target: Target, retry: Retry, deadline: Instant) -> Self {
        Attempts {
            client,
            target,
            retry,
            deadline,
            backoff: BACKOFF_FIRST,
            answered: false,
            unclear: None,
            last: "nothing was tried yet".into(),
        }
    }

    async fn run(mut self, request: &Request) -> Result<Response, ClientError> {
        loop {
            match self.attempt(request).await {
                Attempt::Answered(response) => return Ok(response),
                Attempt::Refused(error) => return Err(self.refused(error)),
                Attempt::NotDone(why) => self.last = why,
                Attempt::Unclear(why) => {
                    self.unclear = Some(why.clone());
                    if self.retry == Retry::UnlessSent {
                        return Err(ClientError::OutcomeUnknown { why });
                    }
                    self.last = why;
                }
            }
            if Instant::now() + self.backoff >= self.deadline {
                return Err(self.out_of_time(request));
            }
            sleep(self.backoff).await;
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn attempt(&mut self, request: &Request) -> Attempt {
        let nodes = &self.client.shared.nodes;
        let address = match (self.target, nodes.leader()) {
            (Target::Leader, Some(leader)) => leader,
            (Target::Leader, None) => nodes.any(),
            (Target::Any, _) if self.backoff == BACKOFF_FIRST => nodes.connected(),
            (Target::Any, _) => nodes.any(),
        };
        let link = match timeout_at(self.deadline, nodes.link(&address)).await {
            Ok(Ok(link)) => link,
            Ok(Err(why)) => {
                nodes.lost(&address);
                return Attempt::NotDone(why);
            }
            Err(_) => return Attempt::NotDone(format!("{address}: no connection in time")),
        };
        self.send(&address, link, request).await
    }

    async fn send(&mut self, address: &str, link: Arc<Link>, request: &Request) -> Attempt {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let wait = left.min(self.client.shared.options.attempt_timeout);
        match timeout(wait, link.ask(request)).await {
            Ok(Ok(response)) => {
                self.answered = true;
                if request.needs_leader() && !matches!(response, Response::Error(_)) {
                    self.client.shared.nodes.leader_is(address);
                }
                self.judge(address, response)
            }
            Ok(Err(LinkError::NotSent(why))) => Attempt::NotDone(format!("{address}: {why}")),
            Ok(Err(LinkError::TooLarge(error))) => Attempt::Refused(error.into()),
            Ok(Err(LinkError::Lost(why))) => {
                self.client.shared.nodes.lost(address);
                Attempt::Unclear(format!("{address}: {why}"))
            }
            Err(_) => {
                self.client.shared.nodes.lost(address);
                Attempt::Unclear(format!("{address} did not answer"))
            }
        }
    }

    fn judge(&self, address: &str, response: Response) -> Attempt {
        let error = match response {
            Response::Error(error) => error,
            answer => return Attempt::Answered(answer),
        };
        let nodes = &self.client.shared.nodes;
        match error {
            Error::NotLeader { leader: Some((_, leader)) } if leader != address => {
                // Somebody who knows better: no reason to wait, unless everybody points to somebody else.
                nodes.leader_is_said_to_be(&leader);
                Attempt::NotDone(format!("{address} is not the leader, {leader} should be"))
            }
            Error::NotLeader { .. } => {
                nodes.leader_is_not(address);
                Attempt::NotDone(format!("{address} is not the leader and knows none"))
            }
            Error::Unknown => {
                nodes.leader_is_not(address);
                Attempt::Unclear(format!("{address}: {}", Error::Unknown))
            }
            error if error.retryable() => Attempt::NotDone(format!("{address}: {error}")),
            error => Attempt::Refused(error.into()),
        }
    }

    /// A refusal is final, but says nothing of an earlier attempt when it is about the session itself.
    fn refused(&mut self, error: ClientError) -> ClientError {
        let about_session = matches!(
            error,
            ClientError::Refused(Error::SessionUnknown(_) | Error::SequenceForgotten { .. })
        );
        match self.unclear.take() {
            Some(why) if about_session => {
                ClientError::OutcomeUnknown { why: format!("{why}; then {error}") }
            }
            _ => error,
        }
    }

    fn out_of_time(self, request: &Request) -> ClientError {
        let may_have_changed = matches!(request, Request::Write { .. });
        match self.unclear {
            Some(why) if may_have_changed => ClientError::OutcomeUnknown { why },
            None if !self.answered => ClientError::Unreachable {
                addresses: self.client.shared.nodes.addresses().join(","),
                last: self.last,
            },
            _ => {
                ClientError::Timeout { after: self.client.shared.options.timeout, last: self.last }
            }
        }
    }
}
