//! The portable form of a snapshot: JSON lines, one object each.
//!
//! The first line is the header, each item is a line, the last line counts them, so a file that was cut short is noticed. Bytes are
//! text where they are UTF-8, else base64 in a field whose name ends in `_base64`. Lossless: from a snapshot to JSON and back gives
//! the same bytes. Invariants: bounded by one line; no line makes the reader panic; unknown fields are refused, not dropped.

use super::Header;
use crate::api::{Backups, MemberInfo};
use crate::ids::{ClusterId, Epoch};
use crate::kv::Item;
use crate::kv::item::{Meta, Version};
use crate::log::ConfState;
use crate::wire::peer::SnapshotMeta;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The version this build writes and reads.
pub const VERSION: u32 = 1;
/// The longest line a reader accepts: an item of the longest allowed, in base64.
pub const LINE_BYTES_MAX: usize = super::format::ITEM_BYTES_MAX / 3 * 4 + (1 << 20);

/// Why a JSON snapshot cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct JsonError {
    /// Which line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: String,
}

/// Turns a header and items into lines, each with its line break.
#[derive(Debug, Default)]
pub struct Exporter {
    items: u64,
}

impl Exporter {
    /// An exporter at the start of a file.
    pub fn new() -> Self {
        Exporter::default()
    }

    /// The first line.
    pub fn header(&self, header: &Header) -> String {
        line(&Line::Snapshot(JsonHeader::from(header)))
    }

    /// An item's line.
    pub fn item(&mut self, item: &Item) -> String {
        self.items += 1;
        line(&Line::from(item))
    }

    /// The last line.
    pub fn end(&self) -> String {
        line(&Line::End { items: self.items })
    }
}

/// Reads lines, in pieces of any size, back to a header and items.
#[derive(Debug, Default)]
pub struct Importer {
    partial: Vec<u8>,
    line: u64,
    items: u64,
    header: Option<Header>,
    ended: bool,
}

impl Importer {
    /// An importer at the start of a file.
    pub fn new() -> Self {
        Importer::default()
    }

    /// Takes the next bytes of the file; the items that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Item>, JsonError> {
        let mut items = Vec::new();
        let mut rest = bytes;
        while let Some(place) = rest.iter().position(|byte| *byte == b'\n') {
            let (part, behind) = rest.split_at(place);
            rest = &behind[1..];
            if self.partial.is_empty() {
                items.extend(self.take_line(part)?);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(part);
                items.extend(self.take_line(&whole)?);
            }
        }
        if self.partial.len() + rest.len() > LINE_BYTES_MAX {
            return Err(self.error_ahead(format!("a line has more than {LINE_BYTES_MAX} bytes")));
        }
        self.partial.extend_from_slice(rest);
        Ok(items)
    }

    /// The header, as soon as it has come.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Ends the file: the header, if the file was whole.
    pub fn finish(mut self) -> Result<Header, JsonError> {
        if !self.partial.is_empty() {
            let last = std::mem::take(&mut self.partial);
            if self.take_line(&last)?.is_some() {
                return Err(self.error("the file ends in the middle".into()));
            }
        }
        match self.header.take() {
            Some(header) if self.ended => Ok(header),
            _ => Err(self.error_ahead("the file ends before its last line, `end`".into())),
        }
    }

    fn take_line(&mut self, bytes: &[u8]) -> Result<Option<Item>, JsonError> {
        self.line += 1;
        if bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        let line = serde_json::from_slice(bytes).map_err(|error| self.error(error.to_string()))?;
        if self.ended {
            return Err(self.error("nothing may follow `end`".into()));
        }
        match (line, &self.header) {
            (Line::Snapshot(header), None) => {
                self.header = Some(header.read().map_err(|what| self.error(what))?);
                Ok(None)
            }
            (_, None) => Err(self.error("the first line must be `snapshot`".into())),
            (Line::Snapshot(_), Some(_)) => {
                Err(self.error("`snapshot` must be the first line".into()))
            }
            (Line::End { items }, _) if items != self.items => {
                Err(self.error(format!("{} items came, `end` says {items}", self.items)))
            }
            (Line::End { .. }, _) => {
                self.ended = true;
                Ok(None)
            }
            (line, _) => {
                self.items += 1;
                line.read().map(Some).map_err(|what| self.error(what))
            }
        }
    }

    fn error(&self, what: String) -> JsonError {
        JsonError { line: self.line, what }
    }

    fn error_ahead(&self, what: String) -> JsonError {
        JsonError { line: self.line + 1, what }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Snapshot(JsonHeader),
    Meta(Meta),
    Backups(Box<Backups>),
    Member(MemberInfo),
    Incarnation { member: u32, incarnation: u32 },
    Lease { id: crate::api::LeaseId, ttl_ms: u64, deadline_ms: u64 },
    Session { id: u64, used_ms: u64, floor: u64, answers: Vec<JsonAnswer> },
    Key(JsonKey),
    End { items: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonHeader {
    version: u32,
    cluster: String,
    epoch: u64,
    index: u64,
    term: u64,
    conf: ConfState,
    revision: crate::api::Revision,
    state_hash: String,
    keys: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonAnswer {
    sequence: u64,
    answer_base64: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonKey {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    versions: Vec<JsonVersion>,
}

/// Without a value: a deletion.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonVersion {
    mod_revision: crate::api::Revision,
    create_revision: crate::api::Revision,
    version: u64,
    lease: crate::api::LeaseId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl From<&Header> for JsonHeader {
    fn from(header: &Header) -> Self {
        JsonHeader {
            version: VERSION,
            cluster: header.cluster.to_string(),
            epoch: header.epoch.0,
            index: header.meta.index,
            term: header.meta.term,
            conf: header.meta.conf.clone(),
            revision: header.revision,
            state_hash: header.state_hash.to_string(),
            keys: header.keys,
            bytes: header.bytes,
        }
    }
}

impl JsonHeader {
    fn read(self) -> Result<Header, String> {
        if self.version != VERSION {
            return Err(format!(
                "version {} is not known; this build reads {VERSION}",
                self.version
            ));
        }
        let cluster: ClusterId = self.cluster.parse().map_err(|e| format!("`cluster`: {e}"))?;
        Ok(Header {
            cluster,
            epoch: Epoch(self.epoch),
            meta: SnapshotMeta { index: self.index, term: self.term, conf: self.conf },
            revision: self.revision,
            state_hash: self.state_hash.parse().map_err(|e| format!("`state_hash`: {e}"))?,
            keys: self.keys,
            bytes: self.bytes,
        })
    }
}

impl From<&Item> for Line {
    fn from(item: &Item) -> Self {
        match item {
            Item::Meta(meta) => Line::Meta(*meta),
            Item::Backups(backups) => Line::Backups(backups.clone()),
            Item::Member(member) => Line::Member(member.clone()),
            Item::Incarnation { member, incarnation } => {
                Line::Incarnation { member: *member, incarnation: *incarnation }
            }
            Item::Lease { id, ttl_ms, deadline_ms } => {
                Line::Lease { id: *id, ttl_ms: *ttl_ms, deadline_ms: *deadline_ms }
            }
            Item::Session { id, used_ms, floor, answers } => {
                let answers = answers.iter().map(|(sequence, answer)| JsonAnswer {
                    sequence: *sequence,
                    answer_base64: STANDARD.encode(answer),
                });
                let (id, used_ms, floor) = (*id, *used_ms, *floor);
                Line::Session { id, used_ms, floor, answers: answers.collect() }
            }
            Item::Key { key, versions } => {
                let (key, key_base64) = split(key);
                Line::Key(JsonKey {
                    key,
                    key_base64,
                    versions: versions.iter().map(JsonVersion::from).collect(),
                })
            }
        }
    }
}

impl From<&Version> for JsonVersion {
    fn from(version: &Version) -> Self {
        let (value, value_base64) = version.value.as_deref().map(split).unwrap_or_default();
        JsonVersion {
            mod_revision: version.mod_revision,
            create_revision: version.create_revision,
            version: version.version,
            lease: version.lease,
            value,
            value_base64,
        }
    }
}

impl Line {
    fn read(self) -> Result<Item, String> {
        Ok(match self {
            Line::Snapshot(_) | Line::End { .. } => return Err("not an item".into()),
            Line::Meta(meta) => Item::Meta(meta),
            Line::Backups(backups) => Item::Backups(backups),
            Line::Member(member) => Item::Member(member),
            Line::Incarnation { member, incarnation } => Item::Incarnation { member, incarnation },
            Line::Lease { id, ttl_ms, deadline_ms } => Item::Lease { id, ttl_ms, deadline_ms },
            Line::Session { id, used_ms, floor, answers } => {
                let answers = answers.into_iter().map(|answer| {
                    let bytes = join("answer", None, Some(answer.answer_base64))?;
                    Ok((answer.sequence, bytes.unwrap_or_default()))
                });
                let answers = answers.collect::<Result<_, String>>()?;
                Item::Session { id, used_ms, floor, answers }
            }
            Line::Key(JsonKey { key, key_base64, versions }) => Item::Key {
                key: join("key", key, key_base64)?.ok_or("`key` is missing")?,
                versions: versions.into_iter().map(JsonVersion::read).collect::<Result<_, _>>()?,
            },
        })
    }
}

impl JsonVersion {
    fn read(self) -> Result<Version, String> {
        Ok(Version {
            mod_revision: self.mod_revision,
            create_revision: self.create_revision,
            version: self.version,
            lease: self.lease,
            value: join("value", self.value, self.value_base64)?,
        })
    }
}

fn line(line: &Line) -> String {
    // Strings, numbers and lists of them always have a JSON form.
    let mut text = serde_json::to_string(line).expect("plain values have a JSON form");
    text.push('\n');
    text
}

/// Text where the bytes are UTF-8, else base64.
fn split(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

fn join(
    field: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Bytes>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("`{field}` and `{field}_base64` exclude each other")),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => match STANDARD.decode(&base64) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => Err(format!("`{field}_base64`: {error}")),
        },
        (None, None) => Ok(None),
    }
}
