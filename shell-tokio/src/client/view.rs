//! Reading the frozen state of one node as a snapshot stream.
//!
//! Chunks are asked for ahead of the reader, so that the node makes the next ones while this one is on its way.

use super::Client;
use super::error::ClientError;
use super::link::{Link, LinkError};
use bytes::Bytes;
use raftkv_core::api::{Request, Response, ViewInfo};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Chunks asked for at once.
const ASKED_AT_ONCE: usize = 3;

/// An open view. It lives on one node; when that node is lost the view is lost, and must be opened anew.
pub struct View {
    info: ViewInfo,
    address: String,
    link: Arc<Link>,
    timeout: Duration,
    /// Answers to come, in the order of their chunks.
    asked: VecDeque<Answer>,
    /// The chunk to be asked for next.
    next: u64,
    finished: bool,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, ClientError>> + Send>>;

impl View {
    pub(super) async fn open(client: &Client, address: &str) -> Result<View, ClientError> {
        let link = client
            .shared
            .nodes
            .link(address)
            .await
            .map_err(|last| ClientError::Unreachable { addresses: address.to_owned(), last })?;
        let timeout = client.shared.options.timeout;
        match ask(&link, address, timeout, &Request::ViewOpen).await? {
            Response::ViewOpened(info) => Ok(View {
                info,
                address: address.to_owned(),
                link,
                timeout,
                asked: VecDeque::new(),
                next: 0,
                finished: false,
            }),
            other => Err(ClientError::unexpected("view", &other)),
        }
    }

    /// The exact point that was frozen.
    pub fn info(&self) -> &ViewInfo {
        &self.info
    }

    /// The next chunk, and whether it is the last one.
    pub async fn next(&mut self) -> Result<(Bytes, bool), ClientError> {
        while self.asked.len() < ASKED_AT_ONCE {
            self.asked.push_back(Box::pin(self.ask(self.next)));
            self.next += 1;
        }
        let answer = self.asked.front_mut().expect("at least one was asked for").await;
        self.asked.pop_front();
        match answer? {
            Response::ViewChunk { bytes, last } => {
                self.finished |= last;
                Ok((bytes, last))
            }
            other => Err(ClientError::unexpected("view read", &other)),
        }
    }

    /// Lets the node hear that the view is being read. What is wrong with it, the next chunk tells.
    pub async fn keep(&mut self) {
        drop(self.ask(self.next.saturating_sub(1)).await);
    }

    fn ask(
        &self,
        chunk: u64,
    ) -> impl Future<Output = Result<Response, ClientError>> + Send + use<> {
        let request = Request::ViewRead { view: self.info.view, chunk };
        ask(&self.link, &self.address, self.timeout, &request)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if !self.finished {
            self.link.tell(&Request::ViewClose { view: self.info.view });
        }
    }
}

fn ask(
    link: &Link,
    address: &str,
    after: Duration,
    request: &Request,
) -> impl Future<Output = Result<Response, ClientError>> + Send + use<> {
    let answer = timeout(after, link.ask(request));
    let address = address.to_owned();
    async move {
        match answer.await {
            Ok(Ok(Response::Error(error))) => Err(error.into()),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(LinkError::TooLarge(error))) => Err(error.into()),
            Ok(Err(LinkError::NotSent(last) | LinkError::Lost(last))) => {
                Err(ClientError::Unreachable { addresses: address, last })
            }
            Err(_) => {
                Err(ClientError::Timeout { after, last: format!("{address} did not answer") })
            }
        }
    }
}
