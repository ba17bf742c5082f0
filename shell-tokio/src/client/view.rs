//! Reading the frozen state of one node as a snapshot stream.

use super::Client;
use super::error::ClientError;
use super::link::{Link, LinkError};
use bytes::Bytes;
use raftkv_core::api::{Request, Response, ViewInfo};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// An open view. It lives on one node; when that node is lost the view is lost, and must be opened anew.
pub struct View {
    info: ViewInfo,
    address: String,
    link: Arc<Link>,
    timeout: Duration,
    finished: bool,
}

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
            Response::ViewOpened(info) => {
                Ok(View { info, address: address.to_owned(), link, timeout, finished: false })
            }
            other => Err(ClientError::unexpected("view", &other)),
        }
    }

    /// The exact point that was frozen.
    pub fn info(&self) -> &ViewInfo {
        &self.info
    }

    /// Chunk `number`, from 0, and whether it is the last one. Asking again gives the same bytes.
    pub async fn read(&mut self, number: u64) -> Result<(Bytes, bool), ClientError> {
        let request = Request::ViewRead { view: self.info.view, chunk: number };
        match ask(&self.link, &self.address, self.timeout, &request).await? {
            Response::ViewChunk { bytes, last } => {
                self.finished |= last;
                Ok((bytes, last))
            }
            other => Err(ClientError::unexpected("view read", &other)),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if !self.finished {
            self.link.tell(&Request::ViewClose { view: self.info.view });
        }
    }
}

async fn ask(
    link: &Link,
    address: &str,
    after: Duration,
    request: &Request,
) -> Result<Response, ClientError> {
    match timeout(after, link.ask(request)).await {
        Ok(Ok(Response::Error(error))) => Err(error.into()),
        Ok(Ok(response)) => Ok(response),
        Ok(Err(LinkError::TooLarge(error))) => Err(error.into()),
        Ok(Err(LinkError::NotSent(last) | LinkError::Lost(last))) => {
            Err(ClientError::Unreachable { addresses: address.to_owned(), last })
        }
        Err(_) => Err(ClientError::Timeout { after, last: format!("{address} did not answer") }),
    }
}
