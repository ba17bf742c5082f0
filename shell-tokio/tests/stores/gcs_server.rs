//! A server of the calls of Google Cloud Storage that are used, and no others: the JSON API for single objects and listings, the XML
//! API for uploads in parts, the token exchange of workload identity. From Google's API reference
//! (<https://cloud.google.com/storage/docs/json_api/v1>, <https://cloud.google.com/storage/docs/xml-api/overview>). Strict: what the
//! reference does not allow is answered with 400.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use raftkv_core::backup::metadata::rfc3339;
use raftkv_core::time::Wall;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio::net::TcpListener;

/// A token that is exchanged for one that permits everything.
pub const SUBJECT: &str = "subject.hunter8";
/// That one.
pub const TOKEN: &str = "permitted.hunter9";

const PAGE: usize = 1_000;
const PART_BYTES_MIN: usize = 5 << 20;

#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, Upload>,
    sessions: BTreeMap<String, String>,
    ended: BTreeSet<String>,
    /// Where clients reach it: `http://HOST:PORT`, as the request said.
    origin: String,
    begun: u64,
}

struct Upload {
    name: String,
    parts: BTreeMap<u32, Bytes>,
}

/// A request, taken apart.
struct Call {
    method: Method,
    path: String,
    query: BTreeMap<String, String>,
    range: Option<String>,
    body: Bytes,
}

type Answer = (u16, Bytes, Vec<(&'static str, String)>);

/// Starts a server with one bucket, `bucket`, for whoever exchanges the token [`SUBJECT`].
pub async fn serve() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server { address: listener.local_addr().unwrap(), state: Arc::default() };
    let serving = server.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let server = serving.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| server.clone().answer(request));
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    server
}

impl Server {
    pub fn unfinished_uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.len()
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let header = |name: &str| {
            let value = request.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let (token, range) = (header("authorization"), header("range"));
        let origin = format!("http://{}", header("host").unwrap_or_default());
        let uri = request.uri().clone();
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), decoded(value))
        });
        let call = Call {
            method: request.method().clone(),
            path: uri.path().to_owned(),
            query: query.collect(),
            range,
            // A body that breaks off is the client's trouble: nobody hears this answer.
            body: match request.into_body().collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => {
                    return Ok(Response::builder().status(400).body(Full::default()).unwrap());
                }
            },
        };
        let (status, body, headers) = match (call.path.as_str(), token.as_deref()) {
            ("/token", None) => exchange(&call.body),
            // The session's URL is its own permission.
            (_, None) if call.query.contains_key("upload_id") => {
                self.state.lock().unwrap().carry_out(&call)
            }
            (_, Some(bearer)) if bearer.strip_prefix("Bearer ") == Some(TOKEN) => {
                let mut state = self.state.lock().unwrap();
                state.origin = origin;
                state.carry_out(&call)
            }
            (_, Some(_)) => failure(403, "forbidden"),
            (_, None) => failure(401, "required"),
        };
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        Ok(response.body(Full::new(body)).unwrap())
    }
}

impl State {
    fn carry_out(&mut self, call: &Call) -> Answer {
        let get = |name: &str| call.query.get(name).map(String::as_str);
        if let Some(bucket) = call.path.strip_prefix("/upload/storage/v1/b/") {
            return match (bucket, &call.method, get("uploadType"), get("name")) {
                ("bucket/o", &Method::POST, Some("media"), Some(name)) => {
                    self.insert(name, get("ifGenerationMatch"), call)
                }
                ("bucket/o", &Method::POST, Some("resumable"), Some(name)) => {
                    self.open_session(name, get("ifGenerationMatch"))
                }
                ("bucket/o", &Method::PUT, Some("resumable"), None) => {
                    self.end_session(get("upload_id"), call)
                }
                ("nowhere/o", ..) => failure(404, "notFound"),
                _ => failure(400, "invalid"),
            };
        }
        if let Some(path) = call.path.strip_prefix("/storage/v1/b/") {
            let Some(path) = path.strip_prefix("bucket/o") else { return failure(404, "notFound") };
            return match (&call.method, path.strip_prefix('/').map(decoded)) {
                (&Method::GET, None) => self.list(get("prefix"), get("pageToken")),
                (&Method::GET, Some(name)) if get("alt") == Some("media") => {
                    self.read(&name, call.range.as_deref())
                }
                (&Method::GET, Some(name)) => self.describe(&name),
                (&Method::DELETE, Some(name)) => match self.objects.remove(&name) {
                    Some(_) => (204, Bytes::new(), Vec::new()),
                    None => failure(404, "notFound"),
                },
                _ => failure(400, "invalid"),
            };
        }
        if call.path == "/bucket" && call.method == Method::GET && get("uploads") == Some("") {
            return self.list_uploads(get("prefix"), get("key-marker"), get("upload-id-marker"));
        }
        let Some(name) = call.path.strip_prefix("/bucket/").map(decoded) else {
            return xml_failure(404, "NoSuchBucket");
        };
        match (&call.method, get("uploads"), get("uploadId"), get("partNumber")) {
            (&Method::POST, Some(""), None, None) => self.begin(name),
            (&Method::PUT, None, Some(id), Some(number)) => {
                self.part(id, &name, number, &call.body)
            }
            (&Method::POST, None, Some(id), None) => self.complete(id, &name, &call.body),
            (&Method::DELETE, None, Some(id), None) => match self.uploads.remove(id) {
                Some(_) => (204, Bytes::new(), Vec::new()),
                None => xml_failure(404, "NoSuchUpload"),
            },
            _ => xml_failure(400, "InvalidArgument"),
        }
    }

    fn insert(&mut self, name: &str, generation: Option<&str>, call: &Call) -> Answer {
        match generation {
            Some("0") if self.objects.contains_key(name) => failure(412, "conditionNotMet"),
            None | Some("0") => {
                self.objects.insert(name.to_owned(), call.body.clone());
                self.describe(name)
            }
            Some(_) => failure(400, "invalid"),
        }
    }

    /// A resumable upload: only the form in which everything comes at once.
    fn open_session(&mut self, name: &str, generation: Option<&str>) -> Answer {
        if generation != Some("0") {
            return failure(400, "invalid");
        }
        self.begun += 1;
        let id = format!("session{}", self.begun);
        let place = format!(
            "{}/upload/storage/v1/b/bucket/o?uploadType=resumable&upload_id={id}",
            self.origin
        );
        self.sessions.insert(id, name.to_owned());
        (200, Bytes::new(), vec![("location", place)])
    }

    fn end_session(&mut self, id: Option<&str>, call: &Call) -> Answer {
        let Some((id, name)) =
            id.and_then(|id| Some((id.to_owned(), self.sessions.get(id)?.clone())))
        else {
            return failure(404, "notFound");
        };
        // A session that has ended tells again how it did.
        if self.ended.contains(&id) {
            return self.describe(&name);
        }
        if self.objects.contains_key(&name) {
            return failure(412, "conditionNotMet");
        }
        self.ended.insert(id);
        self.objects.insert(name.clone(), call.body.clone());
        self.describe(&name)
    }

    fn describe(&self, name: &str) -> Answer {
        match self.objects.get(name) {
            Some(bytes) => json_answer(&description(name, bytes)),
            None => failure(404, "notFound"),
        }
    }

    fn read(&self, name: &str, range: Option<&str>) -> Answer {
        let Some(bytes) = self.objects.get(name) else { return failure(404, "notFound") };
        let Some(range) = range else { return (200, bytes.clone(), Vec::new()) };
        let Some((first, last)) =
            range.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
        else {
            return failure(400, "invalid");
        };
        let first: usize = first.parse().unwrap();
        let end = last.parse().map_or(bytes.len(), |last: usize| (last + 1).min(bytes.len()));
        if first >= bytes.len() {
            return failure(416, "requestedRangeNotSatisfiable");
        }
        let described = format!("bytes {first}-{}/{}", end - 1, bytes.len());
        (206, bytes.slice(first..end), vec![("content-range", described)])
    }

    fn list(&self, prefix: Option<&str>, after: Option<&str>) -> Answer {
        let prefix = prefix.unwrap_or_default();
        let after = after.unwrap_or_default();
        let named = self.objects.iter().filter(|(name, _)| name.starts_with(prefix));
        let mut left = named.filter(|(name, _)| name.as_str() > after);
        let page: Vec<_> = left.by_ref().take(PAGE).collect();
        let items: Vec<Value> = page.iter().map(|(name, bytes)| description(name, bytes)).collect();
        let mut answer = json!({ "kind": "storage#objects", "items": items });
        if left.next().is_some() {
            answer["nextPageToken"] = json!(page.last().unwrap().0);
        }
        json_answer(&answer)
    }

    fn begin(&mut self, name: String) -> Answer {
        self.begun += 1;
        let id = format!("upload{}", self.begun);
        let text = format!(
            "<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>{name}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        self.uploads.insert(id, Upload { name, parts: BTreeMap::new() });
        (200, text.into(), Vec::new())
    }

    /// A page has one upload.
    fn list_uploads(&self, prefix: Option<&str>, key: Option<&str>, id: Option<&str>) -> Answer {
        let named = self.uploads.iter().map(|(id, upload)| (upload.name.as_str(), id.as_str()));
        let mut all: Vec<_> =
            named.filter(|(name, _)| name.starts_with(prefix.unwrap_or_default())).collect();
        all.sort_unstable();
        let mut left = all.into_iter().filter(|upload| key.zip(id).is_none_or(|it| *upload > it));
        let Some((name, id)) = left.next() else {
            let none = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
            return (200, none.into(), Vec::new());
        };
        let is_truncated = left.next().is_some();
        let text = format!(
            "<?xml version='1.0' encoding='UTF-8'?><ListMultipartUploadsResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>\
             <Bucket>bucket</Bucket><NextKeyMarker>{name}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>\
             <IsTruncated>{is_truncated}</IsTruncated><Upload><Key>{name}</Key><UploadId>{id}</UploadId>\
             <Initiated>2026-01-02T03:04:05.678Z</Initiated></Upload></ListMultipartUploadsResult>"
        );
        (200, text.into(), Vec::new())
    }

    fn part(&mut self, id: &str, name: &str, number: &str, bytes: &Bytes) -> Answer {
        let upload = self.uploads.get_mut(id).filter(|upload| upload.name == name);
        let Some(upload) = upload else { return xml_failure(404, "NoSuchUpload") };
        match number.parse() {
            Ok(number) if (1..=10_000).contains(&number) => {
                upload.parts.insert(number, bytes.clone());
                (200, Bytes::new(), vec![("etag", etag(number, bytes))])
            }
            _ => xml_failure(400, "InvalidArgument"),
        }
    }

    fn complete(&mut self, id: &str, name: &str, body: &[u8]) -> Answer {
        let upload = self.uploads.get(id).filter(|upload| upload.name == name);
        let Some(upload) = upload else { return xml_failure(404, "NoSuchUpload") };
        let text = String::from_utf8(body.to_vec()).unwrap().replace("&quot;", "\"");
        let named: Vec<(u32, String)> = text
            .split("<Part>")
            .skip(1)
            .map(|part| {
                let between = |tag: &str| {
                    part.split_once(&format!("<{tag}>"))
                        .unwrap()
                        .1
                        .split_once('<')
                        .unwrap()
                        .0
                        .to_owned()
                };
                (between("PartNumber").parse().unwrap(), between("ETag"))
            })
            .collect();
        let there: Vec<_> =
            upload.parts.iter().map(|(number, bytes)| (*number, etag(*number, bytes))).collect();
        if named != there {
            return xml_failure(400, "InvalidPart");
        }
        let short = upload.parts.values().rev().skip(1).any(|part| part.len() < PART_BYTES_MIN);
        if short || there.is_empty() {
            return xml_failure(400, "EntityTooSmall");
        }
        let whole: Vec<u8> = upload.parts.values().flatten().copied().collect();
        self.objects.insert(name.to_owned(), whole.into());
        self.uploads.remove(id);
        let text =
            "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>";
        (200, text.into(), vec![("etag", "\"whole\"".into())])
    }
}

/// RFC 8693, as Google's token service speaks it.
fn exchange(body: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(body);
    let token = match text.contains(&format!("subject_token={SUBJECT}")) {
        true => TOKEN,
        false => "unpermitted",
    };
    json_answer(&json!({
        "access_token": token,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 3600,
    }))
}

fn description(name: &str, bytes: &Bytes) -> Value {
    json!({
        "kind": "storage#object", "name": name, "bucket": "bucket", "size": bytes.len().to_string(),
        "generation": "1", "updated": now(), "etag": "CAE=",
    })
}

fn json_answer(value: &Value) -> Answer {
    (200, value.to_string().into(), vec![("content-type", "application/json".into())])
}

fn failure(status: u16, reason: &str) -> Answer {
    let error = json!({ "error": { "code": status, "message": reason, "errors": [{ "domain": "global", "reason": reason, "message": reason }] } });
    (status, error.to_string().into(), vec![("content-type", "application/json".into())])
}

fn xml_failure(status: u16, code: &str) -> Answer {
    let text = format!(
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>no</Message></Error>"
    );
    (status, text.into(), vec![("content-type", "application/xml".into())])
}

fn etag(number: u32, bytes: &Bytes) -> String {
    format!("\"{number}-{}-{}\"", bytes.len(), bytes.first().copied().unwrap_or_default())
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = match byte {
            b'%' => [rest.next().unwrap(), rest.next().unwrap()],
            _ => {
                bytes.push(byte);
                continue;
            }
        };
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

fn now() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    rfc3339(Wall(now.as_millis() as i64))
}
