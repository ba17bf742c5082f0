//! Uploads in parts that were begun and not ended, in S3 and what speaks it, and in Google Cloud Storage, whose XML API has the same
//! calls. A process that is killed leaves them behind; they cost, and no listing of objects shows them.
//!
//! The client has no calls for these, so the requests are made here, signed and sent as the client does it. From the S3 API reference
//! (`ListMultipartUploads`, `AbortMultipartUpload`) and <https://cloud.google.com/storage/docs/xml-api/overview>. MinIO lists the uploads
//! of one object only, when asked for exactly that: what is to be removed is therefore always asked for by its whole name.
//!
//! Invariants: only what is below the root is listed and given up; what the store answers is not trusted to end.

use super::credentials::GOOGLE_SCOPE;
use super::http::{Refusal, Transport};
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request};
use opendal::HttpTransporter;
use opendal::raw::percent_encode_path;
use raftkv_core::backup::blob::BlobErrorKind;
use raftkv_core::backup::metadata::wall;
use raftkv_core::time::Wall;
use reqsign_core::{Context, Env as _, OsEnv, Signer, StaticEnv};
use reqsign_file_read_tokio::TokioFileRead;
use serde::Deserialize;

/// A store's calls for unfinished uploads.
pub(super) struct Unfinished {
    place: Bucket,
    signatures: Signatures,
    transport: Transport,
}

/// Where they are.
pub(super) struct Bucket {
    /// The bucket's URL, without a slash at its end.
    pub url: String,
    /// Empty, or ends in a slash.
    pub root: String,
}

/// How requests are signed.
pub(super) enum Signatures {
    /// As S3 wants it.
    Aws(Signer<reqsign_aws_v4::Credential>),
    /// As Google wants it.
    Google(Signer<reqsign_google::Credential>),
}

/// One that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// Of the object, below the root.
    pub path: String,
    /// The store's name for the upload.
    pub id: String,
    /// When, by the store's clock, where that can be read.
    pub at: Option<Wall>,
}

/// A store with more of them than this is not one of ours.
const PAGES_MAX: usize = 100;

/// A page of S3's and Google's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Page {
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
    upload: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    key: String,
    upload_id: String,
    #[serde(default)]
    initiated: String,
}

impl Unfinished {
    pub(super) fn new(place: Bucket, signatures: Signatures, transport: Transport) -> Self {
        Unfinished { place, signatures, transport }
    }

    /// Those of objects whose path begins so.
    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Begun>, Refusal> {
        const CALL: &str = "ListMultipartUploads";
        let Bucket { url, root } = &self.place;
        let prefix = percent_encode_path(&format!("{root}{prefix}"));
        let (mut found, mut after) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let url = format!("{url}?uploads&prefix={prefix}{after}");
            let answer = self.call(CALL, Method::GET, &url).await?;
            let page = Page::parse(&answer).map_err(|cause| refusal(CALL, cause))?;
            found.extend(page.upload.into_iter().filter_map(|listed| listed.below(root)));
            if !page.is_truncated {
                return Ok(found);
            }
            after = format!(
                "&key-marker={}&upload-id-marker={}",
                percent_encode_path(&page.next_key_marker),
                percent_encode_path(&page.next_upload_id_marker)
            );
        }
        Err(refusal(CALL, format!("more than {PAGES_MAX} pages of them")))
    }

    /// Gives up all uploads of an object.
    pub(super) async fn give_up(&self, path: &str) -> Result<(), Refusal> {
        let Bucket { url, root } = &self.place;
        for begun in self.list(path).await?.into_iter().filter(|begun| begun.path == path) {
            let key = percent_encode_path(&format!("{root}{path}"));
            let url = format!("{url}/{key}?uploadId={}", percent_encode_path(&begun.id));
            match self.call("AbortMultipartUpload", Method::DELETE, &url).await {
                // Also when an earlier try of ours gave it up, and nobody heard of that.
                Err(refusal) if refusal.status != Some(404) => return Err(refusal),
                _ => {}
            }
        }
        Ok(())
    }

    async fn call(
        &self,
        operation: &'static str,
        method: Method,
        url: &str,
    ) -> Result<Bytes, Refusal> {
        let request = Request::builder().method(method).uri(url).body(Bytes::new());
        let request = request.map_err(|error| refusal(operation, error.to_string()))?;
        let (mut parts, body) = request.into_parts();
        let transporter = HttpTransporter::new(self.transport.clone());
        let context = Context::new().with_file_read(TokioFileRead).with_http_send(transporter);
        let signed = match &self.signatures {
            Signatures::Aws(signer) => {
                let context = context.with_env(OsEnv);
                signer.clone().with_context(context).sign(&mut parts, None).await
            }
            Signatures::Google(signer) => {
                let mut envs = OsEnv.vars();
                envs.insert("GOOGLE_SCOPE".into(), GOOGLE_SCOPE.into());
                let context = context.with_env(StaticEnv { home_dir: OsEnv.home_dir(), envs });
                signer.clone().with_context(context).sign(&mut parts, None).await
            }
        };
        // Not the cause: it may quote what it could not read.
        signed.map_err(|_| refusal(operation, "it could not be signed".into()))?;
        // The client sets it as the version of HTTP wants it.
        parts.headers.remove(HOST);
        let request = Request::from_parts(parts, body);
        self.transport.fetch_patiently(operation, request).await.map(|answer| answer.body)
    }
}

impl Page {
    fn parse(bytes: &[u8]) -> Result<Page, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        quick_xml::de::from_str(text).map_err(|error| error.to_string())
    }
}

impl Listed {
    fn below(self, root: &str) -> Option<Begun> {
        let path = self.key.strip_prefix(root)?.to_owned();
        Some(Begun { path, id: self.upload_id, at: wall(&self.initiated) })
    }
}

fn refusal(operation: &'static str, cause: String) -> Refusal {
    let kind = BlobErrorKind::Failed;
    Refusal { kind, operation, status: None, code: None, cause, tries: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
          <Bucket>bucket</Bucket><KeyMarker/><UploadIdMarker/><Prefix>deep/</Prefix>
          <NextKeyMarker>deep/a&amp;b</NextKeyMarker><NextUploadIdMarker>id=2</NextUploadIdMarker>
          <MaxUploads>1000</MaxUploads><IsTruncated>true</IsTruncated>
          <Upload><Key>deep/one</Key><UploadId>id=1</UploadId><Initiator><ID>i</ID></Initiator>
            <StorageClass>STANDARD</StorageClass><Initiated>2026-01-02T03:04:05.678Z</Initiated></Upload>
          <Upload><Key>deep/a&amp;b</Key><UploadId>id=2</UploadId><Initiated>some day</Initiated></Upload>
          <Upload><Key>elsewhere</Key><UploadId>id=3</UploadId></Upload>
        </ListMultipartUploadsResult>"#;

    #[test]
    fn an_answer_tells_what_was_begun_below_the_root() {
        let page = Page::parse(ANSWER.as_bytes()).unwrap();
        assert!(page.is_truncated);
        assert_eq!((&*page.next_key_marker, &*page.next_upload_id_marker), ("deep/a&b", "id=2"));
        let begun: Vec<_> =
            page.upload.into_iter().filter_map(|listed| listed.below("deep/")).collect();
        let expected = |path: &str, id: &str, at| Begun { path: path.into(), id: id.into(), at };
        let at = Some(Wall(1_767_323_045_678));
        assert_eq!(begun, [expected("one", "id=1", at), expected("a&b", "id=2", None)]);
        let none = Page::parse(b"<ListMultipartUploadsResult/>").unwrap();
        assert!(none.upload.is_empty() && !none.is_truncated);
    }

    #[test]
    fn no_answer_is_too_strange() {
        for cut in 0..ANSWER.len() {
            let _ = Page::parse(&ANSWER.as_bytes()[..cut]);
            let mut changed = ANSWER.as_bytes().to_vec();
            changed[cut] ^= 0x3f;
            let _ = Page::parse(&changed);
        }
        let deep = "<a>".repeat(100_000);
        assert!(Page::parse(deep.as_bytes()).is_err());
    }
}
