//! Reading a range page by page at one revision: an answer is bounded, a range is not.

use raftkv_core::api::{Error, KeyValue, RangeEnd, RangeRequest, Revision};
use raftkv_node::client::{Client, ClientError};

/// The pages of one range, all as of the revision of the first, unless that may be left.
pub struct Pages<'a> {
    client: &'a Client,
    next: Option<RangeRequest>,
    /// The caller's limit, as far as it is not used up; `None` is no limit.
    left: Option<u64>,
    revision: Revision,
    count: u64,
    /// Pages may be of later revisions than the first.
    moves_on: bool,
}

impl<'a> Pages<'a> {
    /// Starts reading; a `limit` of 0 is none.
    pub fn new(client: &'a Client, request: RangeRequest) -> Self {
        let left = (request.limit > 0).then_some(request.limit);
        Pages { client, next: Some(request), left, revision: 0, count: 0, moves_on: false }
    }

    /// As [`Self::new`], where each key is looked at by itself: when the revision is compacted meanwhile, the rest is read at the newest one.
    pub fn moving_on(client: &'a Client, request: RangeRequest) -> Self {
        Pages { moves_on: true, ..Pages::new(client, request) }
    }

    /// The next page; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, ClientError> {
        let Some(mut request) = self.next.take() else { return Ok(None) };
        let mut page = self.client.range(request.clone()).await;
        if self.moves_on && matches!(page, Err(ClientError::Refused(Error::Compacted { .. }))) {
            (self.revision, request.revision) = (0, 0);
            page = self.client.range(request.clone()).await;
        }
        let page = page?;
        if self.revision == 0 {
            self.revision = if request.revision > 0 { request.revision } else { page.revision };
            self.count = page.count;
        }
        self.left = self.left.map(|left| left.saturating_sub(page.kvs.len() as u64));
        let wants_more = page.more && !request.count_only && self.left != Some(0);
        if let Some(last) = page.kvs.last().filter(|_| wants_more) {
            request.range.start = [last.key.as_ref(), &[0]].concat().into();
            request.revision = self.revision;
            request.limit = self.left.unwrap_or(0);
            // A range of one key never has more.
            debug_assert_ne!(request.range.end, RangeEnd::Single);
            self.next = Some(request);
        }
        Ok(Some(page.kvs))
    }

    /// Whether the last page was read.
    pub fn is_done(&self) -> bool {
        self.next.is_none()
    }

    /// The revision that pages are read at; known after the first.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How many keys match, whatever the limit; known after the first page. Once the revision was left, how many were left then.
    pub fn count(&self) -> u64 {
        self.count
    }
}
