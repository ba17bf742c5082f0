//! The HTTP client under every remote store: each request has a time limit, is tried again when that may help, and fails with a
//! [`Refusal`] that says what the store said.
//!
//! Invariants: whether to try again is decided by [`Retry`] in core; an answer is read whole before it counts, so that a connection cut
//! in the middle is a failed try; no message holds a URL, a header or a body, which may carry credentials.

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::header::RANGE;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use opendal::raw::ServiceOperation;
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport};
use raftkv_core::backup::blob::BlobErrorKind;
use raftkv_core::backup::retry::{Effect, Policy, Retry, Trouble, Verdict};
use raftkv_core::rng::Rng;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The client.
#[derive(Clone)]
pub(super) struct Transport {
    client: reqwest::Client,
    policy: Policy,
    rng: Arc<Mutex<Rng>>,
}

/// Why a request failed for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) struct Refusal {
    /// What kind of failure.
    pub kind: BlobErrorKind,
    /// The store's name for what was asked.
    pub operation: &'static str,
    /// The status of the last answer, if there was one.
    pub status: Option<u16>,
    /// The store's own code in it.
    pub code: Option<String>,
    /// What happened instead of an answer.
    pub cause: String,
    /// How often it was tried.
    pub tries: u32,
}

/// An answer, read whole.
pub(super) struct Answer {
    parts: http::response::Parts,
    pub(super) body: Bytes,
}

/// No answer: how far the request came, and what happened.
struct NoAnswer {
    reach: Reach,
    cause: String,
}

/// How far a request came that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// There was no connection.
    Unsent,
    /// There was one, to somebody who could not show that it is the store.
    Untrusted,
    /// The time was up: perhaps there was no connection either.
    Late,
    /// The connection broke.
    Broken,
}

/// Answers longer than this are not read: the longest is a part of an object, or a page of a listing.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long the sources of credentials may take: they are asked in turn, and most are not there.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a source is asked that is there and does not serve: everything waits for it.
const CREDENTIALS_TRIES: u32 = 5;
/// How long that may take.
const CREDENTIALS_WHOLE_MS: u64 = 60_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Transport {
    pub(super) fn new(policy: Policy, rng: Rng) -> Result<Self, reqwest::Error> {
        // Only the first call in the process sets it; they all set the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("raftkv/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Transport { client, policy, rng: Arc::new(Mutex::new(rng)) })
    }

    /// Requests that are not the store's: those that fetch credentials. A source that does not answer in time is most probably not there,
    /// and is not asked again. What others answer is for the signer to judge, unless they have no time now.
    async fn fetch_plainly(&self, request: Request<Bytes>) -> opendal::Result<Answer> {
        let tries = self.policy.tries.min(CREDENTIALS_TRIES);
        let policy = Policy { tries, whole_ms: CREDENTIALS_WHOLE_MS, ..self.policy };
        let mut retry = Retry::new(policy, Effect::Reads);
        let began = Instant::now();
        loop {
            let tried = self.ask(request.clone(), CREDENTIALS_TIMEOUT).await;
            let passing = match &tried {
                Ok(answer) => {
                    let trouble = trouble("", answer);
                    trouble.filter(|trouble| !matches!(trouble, Trouble::Refused(_)))
                }
                Err(no_answer) => (no_answer.reach == Reach::Broken).then_some(Trouble::Lost),
            };
            if let Some(trouble) = passing {
                if let Verdict::Again { pause_ms } = self.judge(&mut retry, trouble, began) {
                    tracing::debug!(?trouble, pause_ms, "no credentials yet, asking again");
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    continue;
                }
                let tries = retry.tries();
                tracing::warn!(?trouble, tries, "a source of credentials does not serve");
            }
            return tried.map_err(|no_answer| Error::new(ErrorKind::Unexpected, no_answer.cause));
        }
    }

    /// Requests that are the store's, tried again when that may help.
    pub(super) async fn fetch_patiently(
        &self,
        operation: &'static str,
        request: Request<Bytes>,
    ) -> Result<Answer, Refusal> {
        let effect = match *request.method() {
            Method::GET | Method::HEAD => Effect::Reads,
            _ => Effect::Writes,
        };
        let policy = self.policy.for_bytes(carried_bytes(&request));
        let mut retry = Retry::new(policy, effect);
        let began = Instant::now();
        loop {
            let tried = self.ask(request.clone(), Duration::from_millis(policy.try_ms)).await;
            let (trouble, status, code, cause) = match tried {
                Ok(answer) => match trouble(operation, &answer) {
                    None => return Ok(answer),
                    Some(trouble) => {
                        (trouble, Some(answer.parts.status.as_u16()), code(&answer), String::new())
                    }
                },
                Err(NoAnswer { reach: Reach::Unsent, cause }) => {
                    (Trouble::Unreachable, None, None, cause)
                }
                Err(NoAnswer { reach: Reach::Untrusted, cause }) => {
                    (Trouble::Refused(BlobErrorKind::Failed), None, None, cause)
                }
                Err(NoAnswer { cause, .. }) => (Trouble::Lost, None, None, cause),
            };
            match self.judge(&mut retry, trouble, began) {
                Verdict::Again { pause_ms } => {
                    tracing::debug!(
                        operation,
                        status,
                        code,
                        cause,
                        pause_ms,
                        "object store request failed, trying again"
                    );
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
                Verdict::Failed(kind) => {
                    let tries = retry.tries();
                    return Err(Refusal { kind, operation, status, code, cause, tries });
                }
            }
        }
    }

    fn judge(&self, retry: &mut Retry, trouble: Trouble, began: Instant) -> Verdict {
        let elapsed_ms = began.elapsed().as_millis() as u64;
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        retry.failed(trouble, elapsed_ms, &mut rng)
    }

    async fn ask(&self, request: Request<Bytes>, limit: Duration) -> Result<Answer, NoAnswer> {
        match tokio::time::timeout(limit, self.send(request)).await {
            Ok(answer) => answer,
            Err(_) => {
                let cause = format!("no answer within {} s", limit.as_secs_f32());
                Err(NoAnswer { reach: Reach::Late, cause })
            }
        }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Answer, NoAnswer> {
        let lost = |error: reqwest::Error| {
            let reach = match error.is_connect() {
                true if is_untrusted(&error) => Reach::Untrusted,
                true => Reach::Unsent,
                false => Reach::Broken,
            };
            NoAnswer { reach, cause: chain(error) }
        };
        let (parts, body) = request.into_parts();
        let mut request = Request::from_parts(parts, reqwest::Body::from(body));
        request.extensions_mut().clear();
        let request = reqwest::Request::try_from(request)
            .map_err(|error| NoAnswer { reach: Reach::Unsent, cause: chain(error) })?;
        let is_head = request.method() == Method::HEAD;
        let mut response = self.client.execute(request).await.map_err(lost)?;
        let mut head = Response::new(());
        *head.status_mut() = response.status();
        *head.headers_mut() = std::mem::take(response.headers_mut());
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(lost)? {
            if is_head || body.len() + piece.len() > ANSWER_BYTES_MAX {
                let cause = "the answer is longer than any should be".to_owned();
                return Err(NoAnswer { reach: Reach::Broken, cause });
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { parts: head.into_parts().0, body: body.freeze() })
    }
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let operation = request.extensions().get::<ServiceOperation>().copied();
        let request = request.map(|body| body.to_bytes());
        let answer = match operation {
            None => self.fetch_plainly(request).await?,
            Some(ServiceOperation(operation)) => {
                self.fetch_patiently(operation, request).await.map_err(|refusal| {
                    Error::new(ErrorKind::Unexpected, "the object store refused")
                        .set_permanent()
                        .set_source(refusal)
                })?
            }
        };
        let body = stream::iter([Ok(Buffer::from(answer.body))]);
        Ok(Response::from_parts(answer.parts, HttpBody::new(body, None)))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.operation)?;
        match (self.status, &self.code) {
            (Some(status), Some(code)) => write!(f, "was answered with {status} {code}")?,
            (Some(status), None) => write!(f, "was answered with {status}")?,
            (None, _) => write!(f, "was not answered: {}", self.cause)?,
        }
        match self.tries {
            0 | 1 => Ok(()),
            tries => write!(f, " ({tries} tries)"),
        }
    }
}

/// How many bytes come and go at least: the request's own, or those of the range that it asks for.
fn carried_bytes(request: &Request<Bytes>) -> u64 {
    let range = request.headers().get(RANGE).and_then(|range| range.to_str().ok());
    let bounds = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let asked = bounds.and_then(|(first, last)| {
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)?.saturating_add(1))
    });
    asked.unwrap_or(0).max(request.body().len() as u64)
}

/// Whether the certificate is why there is no connection. Trying again would not change it.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // What an I/O error is made of is not what it names as its source.
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| is_untrusted(inner)) || error.source().is_some_and(is_untrusted)
}

/// What is wrong with an answer, if anything is.
fn trouble(operation: &str, answer: &Answer) -> Option<Trouble> {
    let status = answer.parts.status;
    let retry_after_ms = retry_after_ms(&answer.parts.headers);
    let code = code(answer);
    let code = code.as_deref().unwrap_or_default();
    if status.is_success() {
        // S3 begins this one, which is slow, before it knows how it ends. In others such text may be the object's own.
        let has_failed = operation == "CompleteMultipartUpload"
            && answer.body.starts_with(b"<")
            && contains(&answer.body, b"<Error>");
        return has_failed.then_some(Trouble::Broken { retry_after_ms });
    }
    if code.contains("QuotaExceeded") || code.contains("StorageFull") || code == "quotaExceeded" {
        return Some(Trouble::Refused(BlobErrorKind::Full));
    }
    // S3 says 400 to keys that have run out.
    if matches!(code, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") {
        return Some(Trouble::Refused(BlobErrorKind::Denied));
    }
    Some(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::Refused(BlobErrorKind::Denied),
        StatusCode::NOT_FOUND => Trouble::Refused(BlobErrorKind::NotFound),
        StatusCode::PRECONDITION_FAILED => Trouble::Refused(BlobErrorKind::Exists),
        StatusCode::CONFLICT if code == "BlobAlreadyExists" => {
            Trouble::Refused(BlobErrorKind::Exists)
        }
        // Another conditional write to the same name is under way: S3 asks to try again.
        StatusCode::CONFLICT
            if matches!(code, "ConditionalRequestConflict" | "OperationAborted") =>
        {
            Trouble::Busy { retry_after_ms }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY => Trouble::Busy { retry_after_ms },
        StatusCode::REQUEST_TIMEOUT => Trouble::Lost,
        StatusCode::BAD_REQUEST if code == "RequestTimeout" => Trouble::Lost,
        StatusCode::INSUFFICIENT_STORAGE => Trouble::Refused(BlobErrorKind::Full),
        StatusCode::NOT_IMPLEMENTED => Trouble::Refused(BlobErrorKind::Failed),
        _ if status.is_server_error() => Trouble::Broken { retry_after_ms },
        _ => Trouble::Refused(BlobErrorKind::Failed),
    })
}

/// `Retry-After` in seconds; as a date it would need the store's clock, and is left to the pauses.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}

/// The store's code for what went wrong: a header of Azure's, an element of S3's XML, a field of Google's JSON. Nothing else of the
/// answer is kept.
fn code(answer: &Answer) -> Option<String> {
    let header = answer.parts.headers.get("x-ms-error-code").and_then(|code| code.to_str().ok());
    let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(4096)]);
    let between = |before: &str, after: char| {
        let (_, rest) = text.split_once(before)?;
        rest.split_once(after).map(|(code, _)| code)
    };
    let json = || between("\"reason\": \"", '"').or_else(|| between("\"reason\":\"", '"'));
    let code = header.or_else(|| between("<Code>", '<')).or_else(json)?;
    let is_code = (1..=64).contains(&code.len()) && code.chars().all(|c| c.is_ascii_alphanumeric());
    is_code.then(|| code.to_owned())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// An error with its causes, without the URL.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_carries_is_its_body_or_the_range_it_asks_for() {
        let cases: [(Option<&str>, usize, u64); 6] = [
            (None, 0, 0),
            (None, 700, 700),
            (Some("bytes=10-19"), 0, 10),
            (Some("bytes=0-18446744073709551615"), 0, u64::MAX),
            (Some("bytes=19-10"), 5, 5),
            (Some("bytes=10-"), 0, 0),
        ];
        for (range, body_bytes, carried) in cases {
            let mut request = Request::new(Bytes::from(vec![0; body_bytes]));
            if let Some(range) = range {
                request.headers_mut().insert(RANGE, range.parse().unwrap());
            }
            assert_eq!(carried_bytes(&request), carried, "{range:?} {body_bytes}");
        }
    }
}
