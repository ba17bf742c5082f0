//! `metadata.json`: what a backup is, for people, lists and retention. Written last: its presence makes a backup complete.
//!
//! The document ends in a MAC over everything before it, under a key derived from the data key and the header of `data.db`
//! (HMAC-SHA-256); without encryption the key is the header's hash, which finds damage and mix-ups, but not malice.
//! Invariant: there is one spelling. A document that does not render back to the very same bytes is refused, so every flipped bit
//! is noticed, and no two JSON parsers can read it differently.

use super::compress::Compression;
use super::format::Suite;
use super::id::BackupId;
use super::keys::KeyId;
use crate::api::{MemberInfo, MemberRole};
use crate::ids::{ClusterId, Epoch, NodeId};
use crate::kv::StateHash;
use crate::time::Wall;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The version that is written, and the newest that is read.
pub const METADATA_VERSION: u16 = 1;

/// No document is longer.
pub const MAX_METADATA_BYTES: usize = 64 << 10;

/// What a backup is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its id.
    pub id: BackupId,
    /// When it was begun.
    pub timestamp: Wall,
    /// How it stands.
    pub status: Status,
    /// Why it failed; empty otherwise.
    pub error: String,
    /// The cluster it was taken from.
    pub cluster: ClusterId,
    /// That cluster's restore epoch.
    pub epoch: Epoch,
    /// The node it was taken from.
    pub node: NodeId,
    /// The cluster's members at that point.
    pub members: Vec<MemberInfo>,
    /// Log index of the state.
    pub index: u64,
    /// Term of the entry at that index.
    pub term: u64,
    /// Revision of the state.
    pub revision: u64,
    /// Hash over the state.
    pub state_hash: StateHash,
    /// Live keys.
    pub keys: u64,
    /// Length of the plain snapshot stream.
    pub size_bytes: u64,
    /// SHA-256 of the plain snapshot stream.
    pub plain_checksum: Checksum,
    /// Length of `data.db`.
    pub data_bytes: u64,
    /// SHA-256 of `data.db`.
    pub checksum: Checksum,
    /// How it is compressed.
    pub compression: CompressionType,
    /// How it is encrypted.
    pub suite: Suite,
    /// The keys that open it.
    pub key_ids: Vec<KeyId>,
    /// The software that made it.
    pub version: String,
}

/// How a backup stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Being made.
    InProgress,
    /// Whole.
    Complete,
    /// Given up.
    Failed,
}

/// The kind of a [`Compression`], without its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionType {
    /// Not compressed.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// A SHA-256. Prints as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum(pub [u8; 32]);

/// Signs and checks the metadata of one backup.
#[derive(Clone)]
pub struct MetadataKey(Zeroizing<[u8; 32]>);

/// A document that was read, and the MAC it carries. Nothing in it is to be trusted before [`Signed::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    metadata: Metadata,
    mac: Checksum,
}

/// Why a `metadata.json` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Longer than any real one.
    #[error("metadata.json is longer than {MAX_METADATA_BYTES} bytes")]
    TooLong,
    /// Made by newer software.
    #[error(
        "metadata.json has format {found}; this software reads up to {METADATA_VERSION}: use a newer version"
    )]
    UnknownVersion {
        /// What it says.
        found: u64,
    },
    /// It cannot be read.
    #[error("metadata.json is damaged: {0}")]
    Malformed(String),
    /// It can be read, but was not written like this.
    #[error("metadata.json was edited or damaged: it is not spelled as it was written")]
    NotCanonical,
    /// It does not belong to this backup's data.
    #[error("metadata.json was altered, or belongs to another backup: its MAC does not match")]
    Forged,
}

impl Metadata {
    /// Whether it is of another cluster than this one, with the same restore epoch: the two cannot be ordered.
    pub fn is_rival(&self, cluster: ClusterId, epoch: Epoch) -> bool {
        self.epoch == epoch && self.cluster != cluster
    }

    /// The document, signed.
    pub fn render(&self, key: &MetadataKey) -> Vec<u8> {
        let mac = key.mac(self);
        document(self, Some(mac))
    }
}

impl Signed {
    /// Reads a document without judging whether it is genuine.
    pub fn parse(bytes: &[u8]) -> Result<Signed, MetadataError> {
        if bytes.len() > MAX_METADATA_BYTES {
            return Err(MetadataError::TooLong);
        }
        let malformed = |error: serde_json::Error| MetadataError::Malformed(error.to_string());
        let Versioned { format_version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format_version != u64::from(METADATA_VERSION) {
            return Err(MetadataError::UnknownVersion { found: format_version });
        }
        let document: Document = serde_json::from_slice(bytes).map_err(malformed)?;
        let signed = document.into_signed().map_err(|field| {
            MetadataError::Malformed(format!("the field {field} cannot be read"))
        })?;
        let again = self::document(&signed.metadata, Some(signed.mac));
        (again == bytes).then_some(signed).ok_or(MetadataError::NotCanonical)
    }

    /// What it says, if it is genuine.
    pub fn verify(self, key: &MetadataKey) -> Result<Metadata, MetadataError> {
        let genuine = bool::from(key.mac(&self.metadata).0.ct_eq(&self.mac.0));
        genuine.then_some(self.metadata).ok_or(MetadataError::Forged)
    }

    /// What it says, true or not.
    pub fn claims(&self) -> &Metadata {
        &self.metadata
    }
}

impl MetadataKey {
    pub(super) fn new(key: [u8; 32]) -> Self {
        MetadataKey(Zeroizing::new(key))
    }

    fn mac(&self, metadata: &Metadata) -> Checksum {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.as_ref()).expect("any key length will do");
        Checksum(mac.chain_update(document(metadata, None)).finalize().into_bytes().into())
    }
}

fn document(metadata: &Metadata, mac: Option<Checksum>) -> Vec<u8> {
    let document = Document::new(metadata, mac);
    let mut bytes = serde_json::to_vec_pretty(&document).expect("strings and numbers only");
    bytes.push(b'\n');
    bytes
}

#[derive(Deserialize)]
struct Versioned {
    format_version: u64,
}

/// The fields as they are spelled, in their order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format_version: u16,
    id: String,
    timestamp: String,
    status: Status,
    error: String,
    cluster_id: String,
    epoch: u64,
    node_id: String,
    members: Vec<MemberDocument>,
    raft_index: u64,
    raft_term: u64,
    revision: u64,
    state_hash: String,
    keys: u64,
    size: u64,
    plain_checksum: String,
    compressed_size: u64,
    checksum: String,
    compressed: bool,
    compression_type: CompressionType,
    encrypted: bool,
    encryption_type: String,
    key_ids: Vec<String>,
    version: String,
    mac: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberDocument {
    id: String,
    address: String,
    role: MemberRole,
}

impl Document {
    fn new(metadata: &Metadata, mac: Option<Checksum>) -> Document {
        let m = metadata.clone();
        let member = |member: MemberInfo| MemberDocument {
            id: member.node.to_string(),
            address: member.address,
            role: member.role,
        };
        Document {
            format_version: METADATA_VERSION,
            id: m.id.to_string(),
            timestamp: rfc3339(m.timestamp),
            status: m.status,
            error: m.error,
            cluster_id: m.cluster.to_string(),
            epoch: m.epoch.0,
            node_id: m.node.to_string(),
            members: m.members.into_iter().map(member).collect(),
            raft_index: m.index,
            raft_term: m.term,
            revision: m.revision,
            state_hash: m.state_hash.to_string(),
            keys: m.keys,
            size: m.size_bytes,
            plain_checksum: m.plain_checksum.to_string(),
            compressed_size: m.data_bytes,
            checksum: m.checksum.to_string(),
            compressed: m.compression != CompressionType::None,
            compression_type: m.compression,
            encrypted: m.suite != Suite::Plain,
            encryption_type: m.suite.name().into(),
            key_ids: m.key_ids.iter().map(KeyId::to_string).collect(),
            version: m.version,
            mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
        }
    }

    /// The typed fields, or the name of the one that has no meaning. What is said twice is checked by rendering again.
    fn into_signed(self) -> Result<Signed, &'static str> {
        let members = self.members.into_iter().map(|member| {
            let node = node(&member.id)?;
            Some(MemberInfo { node, address: member.address, role: member.role })
        });
        let key_ids = self.key_ids.iter().map(|id| id.parse().ok());
        let metadata = Metadata {
            id: self.id.parse().map_err(|_| "id")?,
            timestamp: wall(&self.timestamp).ok_or("timestamp")?,
            status: self.status,
            error: self.error,
            cluster: self.cluster_id.parse().map_err(|_| "cluster_id")?,
            epoch: Epoch(self.epoch),
            node: node(&self.node_id).ok_or("node_id")?,
            members: members.collect::<Option<_>>().ok_or("members")?,
            index: self.raft_index,
            term: self.raft_term,
            revision: self.revision,
            state_hash: self.state_hash.parse().map_err(|_| "state_hash")?,
            keys: self.keys,
            size_bytes: self.size,
            plain_checksum: Checksum::parse(&self.plain_checksum).ok_or("plain_checksum")?,
            data_bytes: self.compressed_size,
            checksum: Checksum::parse(&self.checksum).ok_or("checksum")?,
            compression: self.compression_type,
            suite: Suite::from_name(&self.encryption_type).ok_or("encryption_type")?,
            key_ids: key_ids.collect::<Option<_>>().ok_or("key_ids")?,
            version: self.version,
        };
        Ok(Signed { metadata, mac: Checksum::parse(&self.mac).ok_or("mac")? })
    }
}

/// RFC 3339 in UTC with milliseconds. A time outside the years -9999 to 9999 shows as the nearest end of that range.
pub fn rfc3339(wall: Wall) -> String {
    let nearest = if wall.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    format!("{:.3}", jiff::Timestamp::from_millisecond(wall.0).unwrap_or(nearest))
}

/// A time spelled by RFC 3339.
pub fn wall(text: &str) -> Option<Wall> {
    text.parse::<jiff::Timestamp>().ok().map(|time| Wall(time.as_millisecond()))
}

fn node(text: &str) -> Option<NodeId> {
    let (member, incarnation) = text.split_once('.').unwrap_or((text, "0"));
    Some(NodeId::new(member.parse().ok()?, incarnation.parse().ok()?))
}

impl Suite {
    /// The name used in metadata and configuration: `none` or `aes-256-gcm`.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Plain => "none",
            Suite::Aes256Gcm => "aes-256-gcm",
        }
    }

    /// The suite with this name.
    pub fn from_name(name: &str) -> Option<Suite> {
        [Suite::Plain, Suite::Aes256Gcm].into_iter().find(|suite| suite.name() == name)
    }
}

impl From<Compression> for CompressionType {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => CompressionType::None,
            Compression::Gzip { .. } => CompressionType::Gzip,
            Compression::Zstd { .. } => CompressionType::Zstd,
        }
    }
}

impl Checksum {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Checksum {
        Checksum(Sha256::digest(bytes).into())
    }

    fn parse(text: &str) -> Option<Checksum> {
        let mut bytes = [0; 32];
        let len = base16ct::lower::decode(text, &mut bytes).ok()?.len();
        (len == 32).then_some(Checksum(bytes))
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base16ct::lower::encode_string(&self.0))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

impl fmt::Debug for MetadataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetadataKey(..)")
    }
}

#[cfg(test)]
mod tests;
