//! Which object store backups go to, from the keys of the configuration or from a URL, and the credentials for it.
//!
//! Invariants: a credential shows nowhere, neither in `Debug` nor when written out; what could carry one in plain sight (user
//! information in a URL or an endpoint, unknown parts of a URL's query) is refused, and the refusal does not repeat it.

mod secret;
#[cfg(test)]
mod tests;
mod url;

pub use secret::Secret;

use super::bounds::MAX_PARTS;
use secret::Given;
use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use url::{Encoded, decode, has_url};

/// Azure takes so many parts of an object.
const MAX_BLOCKS: u32 = 50_000;

/// Where backups go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, Option<Given>>")]
pub enum Provider {
    /// A directory.
    Local {
        /// Its path.
        local_path: String,
    },
    /// Amazon S3, or another store that speaks S3.
    S3(S3),
    /// Google Cloud Storage.
    Gcs(Gcs),
    /// Azure Blob Storage.
    Azure(Azure),
}

/// A store that speaks S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// Path in the bucket under which everything lies; empty, or ends in a slash.
    pub path: String,
    /// Its region; without it, the environment's.
    pub region: Option<String>,
    /// Another endpoint than Amazon's; without it, the environment's.
    pub endpoint: Option<String>,
    /// The access key's id and the secret key; without them, the environment's credentials.
    pub credentials: Option<(Secret, Secret)>,
}

/// Google Cloud Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gcs {
    /// The bucket.
    pub bucket: String,
    /// Path in the bucket under which everything lies; empty, or ends in a slash.
    pub path: String,
    /// Path of a service account's key file; without it, the environment's.
    pub credentials_file: Option<String>,
    /// Another endpoint than Google's.
    pub endpoint: Option<String>,
}

/// Azure Blob Storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// The container.
    pub container: String,
    /// Path in the container under which everything lies; empty, or ends in a slash.
    pub path: String,
    /// The storage account; without it, the environment's.
    pub account: Option<String>,
    /// Its key; without it, the environment's credentials.
    pub key: Option<Secret>,
    /// Another endpoint than Azure's.
    pub endpoint: Option<String>,
}

/// What is wrong with a store's configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Neither a kind nor a URL, or both.
    #[error("provider needs either a type (local, s3, minio, gcs or azure) or a url")]
    NoKind,
    /// No such kind.
    #[error("provider.type: unknown variant `{kind}`, expected local, s3, minio, gcs or azure")]
    UnknownKind {
        /// What it says.
        kind: String,
    },
    /// A key that this kind does not have.
    #[error("unknown field `{key}` of provider: {kind} takes {}", .takes.join(", "))]
    UnknownKey {
        /// The key.
        key: String,
        /// The kind of store.
        kind: &'static str,
        /// Which keys it has.
        takes: &'static [&'static str],
    },
    /// A value that must be there is missing or empty.
    #[error("provider.{key} must not be empty")]
    Empty {
        /// The key.
        key: &'static str,
    },
    /// A value that cannot be.
    #[error("provider.{key}: {what}")]
    Bad {
        /// The key.
        key: &'static str,
        /// What is wrong, without the value.
        what: &'static str,
    },
    /// A number or a truth value.
    #[error("provider.{key} is no text: put it in quotes")]
    NotText {
        /// The key.
        key: String,
    },
    /// One half of a credential.
    #[error("provider.s3_access_key and provider.s3_secret_key must be given together, or neither")]
    HalfCredential,
}

/// The keys as they are in the file, whatever the kind of store.
type Keys = BTreeMap<String, Option<Secret>>;

/// A kind of store: its keys, the bucket's and the path's first, and what a URL's scheme and query come to.
struct Kind {
    name: &'static str,
    keys: &'static [&'static str],
    scheme: Option<&'static str>,
    query: &'static [(&'static str, &'static str)],
}

const KINDS: &[Kind] = &[
    Kind { name: "local", keys: &["local_path"], scheme: Some("file"), query: &[] },
    Kind { name: "minio", scheme: None, ..S3_KIND },
    S3_KIND,
    Kind {
        name: "gcs",
        keys: &["gcs_bucket", "gcs_path", "gcs_credentials_file", "gcs_endpoint"],
        scheme: Some("gs"),
        query: &[("endpoint", "gcs_endpoint"), ("credentials_file", "gcs_credentials_file")],
    },
    Kind {
        name: "azure",
        keys: &["azure_container", "azure_path", "azure_account", "azure_key", "azure_endpoint"],
        scheme: Some("azblob"),
        query: &[("endpoint", "azure_endpoint"), ("account", "azure_account")],
    },
];

const S3_KIND: Kind = Kind {
    name: "s3",
    keys: &["s3_bucket", "s3_path", "s3_region", "s3_endpoint", "s3_access_key", "s3_secret_key"],
    scheme: Some("s3"),
    query: &[("region", "s3_region"), ("endpoint", "s3_endpoint")],
};

impl TryFrom<BTreeMap<String, Option<Given>>> for Provider {
    type Error = ProviderError;

    fn try_from(given: BTreeMap<String, Option<Given>>) -> Result<Self, ProviderError> {
        let (mut keys, mut no_text) = (Keys::new(), Vec::new());
        for (key, value) in given {
            match value {
                Some(Given::NoText) => no_text.push(key),
                Some(Given::Text(value)) => drop(keys.insert(key, Some(value))),
                None => drop(keys.insert(key, None)),
            }
        }
        let kind = match (take(&mut keys, "type"), take(&mut keys, "url")) {
            (Some(name), None) => {
                let kind = KINDS.iter().find(|kind| kind.name == name.expose());
                kind.ok_or_else(|| ProviderError::UnknownKind { kind: name.expose().into() })?
            }
            (None, Some(url)) => spread(url.expose(), &mut keys)?,
            _ => return Err(ProviderError::NoKind),
        };
        let mut named = keys.keys().chain(&no_text);
        if let Some(key) = named.find(|key| !kind.keys.contains(&key.as_str())) {
            let (key, takes) = (key.clone(), kind.keys);
            return Err(ProviderError::UnknownKey { key, kind: kind.name, takes });
        }
        if let Some(key) = no_text.pop() {
            return Err(ProviderError::NotText { key });
        }
        match kind.name {
            "local" => Ok(Provider::Local { local_path: need(&mut keys, "local_path")? }),
            "gcs" => gcs(&mut keys),
            "azure" => azure(&mut keys),
            _ => s3(&mut keys, kind.name == "minio"),
        }
    }
}

impl Provider {
    /// The kind, as in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            Provider::Local { .. } => "local",
            Provider::S3(_) => "s3",
            Provider::Gcs(_) => "gcs",
            Provider::Azure(_) => "azure",
        }
    }

    /// How many parts of an object it takes.
    pub fn max_parts(&self) -> u32 {
        match self {
            Provider::Local { .. } => u32::MAX,
            Provider::S3(_) | Provider::Gcs(_) => MAX_PARTS,
            Provider::Azure(_) => MAX_BLOCKS,
        }
    }
}

/// Where it is, as a URL without credentials that is read as the same place; a directory that has no such URL, as its path.
impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provider::Local { local_path } if has_url(local_path) => {
                write!(f, "file://{}", Encoded(local_path))
            }
            // Relative, but it looks like a URL.
            Provider::Local { local_path } if local_path.starts_with("file:") => {
                write!(f, "./{local_path}")
            }
            Provider::Local { local_path } => f.write_str(local_path),
            Provider::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, Encoded(&s3.path)),
            Provider::Gcs(gcs) => write!(f, "gs://{}/{}", gcs.bucket, Encoded(&gcs.path)),
            Provider::Azure(azure) => {
                write!(f, "azblob://{}/{}", azure.container, Encoded(&azure.path))
            }
        }
    }
}

impl Serialize for Provider {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Provider::Local { local_path } if !has_url(local_path) => {
                map.serialize_entry("type", self.kind())?;
                map.serialize_entry("local_path", local_path)?;
            }
            _ => map.serialize_entry("url", &self.to_string())?,
        }
        map.end()
    }
}

fn s3(keys: &mut Keys, is_minio: bool) -> Result<Provider, ProviderError> {
    let credentials = match (take(keys, "s3_access_key"), take(keys, "s3_secret_key")) {
        (Some(access), Some(secret)) => Some((access, secret)),
        (None, None) => None,
        _ => return Err(ProviderError::HalfCredential),
    };
    let endpoint = endpoint(keys, "s3_endpoint")?;
    if is_minio && endpoint.is_none() {
        return Err(ProviderError::Empty { key: "s3_endpoint" });
    }
    Ok(Provider::S3(S3 {
        bucket: bucket(keys, "s3_bucket")?,
        path: path(keys, "s3_path")?,
        region: take(keys, "s3_region").map(|region| region.expose().to_owned()),
        endpoint,
        credentials,
    }))
}

fn gcs(keys: &mut Keys) -> Result<Provider, ProviderError> {
    Ok(Provider::Gcs(Gcs {
        bucket: bucket(keys, "gcs_bucket")?,
        path: path(keys, "gcs_path")?,
        credentials_file: take(keys, "gcs_credentials_file").map(|file| file.expose().to_owned()),
        endpoint: endpoint(keys, "gcs_endpoint")?,
    }))
}

fn azure(keys: &mut Keys) -> Result<Provider, ProviderError> {
    Ok(Provider::Azure(Azure {
        container: bucket(keys, "azure_container")?,
        path: path(keys, "azure_path")?,
        account: take(keys, "azure_account").map(|account| account.expose().to_owned()),
        key: take(keys, "azure_key"),
        endpoint: endpoint(keys, "azure_endpoint")?,
    }))
}

/// Takes a URL apart into the keys of its kind. Keys given beside it (credentials, above all) stay.
fn spread(url: &str, keys: &mut Keys) -> Result<&'static Kind, ProviderError> {
    let bad = |what| ProviderError::Bad { key: "url", what };
    let (scheme, rest) = url.split_once("://").ok_or(bad("it has no scheme"))?;
    let kind = KINDS.iter().find(|kind| kind.scheme == Some(scheme));
    let kind = kind.ok_or(bad("use s3://, gs://, azblob:// or file://"))?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if place.contains(['@', '#']) {
        return Err(bad(
            "it must hold no user information and no fragment; give credentials by their keys",
        ));
    }
    let mut found: Vec<(&str, String)> = Vec::new();
    match kind.name {
        "local" => {
            let path = decode(place).ok_or(bad("it is not valid"))?;
            if !has_url(&path) {
                return Err(bad(
                    "file:// needs an absolute path without . and .., as in file:///srv/backups; give any other as local_path",
                ));
            }
            found.push(("local_path", path));
        }
        _ => {
            let (bucket, path) = place.split_once('/').unwrap_or((place, ""));
            found.push((kind.keys[0], decode(bucket).ok_or(bad("it is not valid"))?));
            found.push((kind.keys[1], decode(path).ok_or(bad("it is not valid"))?));
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = kind.query.iter().find(|(known, _)| *known == name).map(|(_, key)| *key);
        let key = key.ok_or(bad("its query may hold region, endpoint, account or credentials_file, as far as they belong to the store"))?;
        found.push((key, decode(value).ok_or(bad("it is not valid"))?));
    }
    for (key, value) in found {
        if keys.insert(key.to_owned(), Some(Secret(value))).flatten().is_some() {
            return Err(bad("what it says must not be given by another key as well"));
        }
    }
    Ok(kind)
}

/// Removes a key; empty is like absent.
fn take(keys: &mut Keys, key: &str) -> Option<Secret> {
    keys.remove(key).flatten().filter(|value| !value.expose().is_empty())
}

fn need(keys: &mut Keys, key: &'static str) -> Result<String, ProviderError> {
    let value = take(keys, key).ok_or(ProviderError::Empty { key })?;
    Ok(value.expose().to_owned())
}

/// The name of a bucket or container: what every store allows in one, so that it cannot change where a URL leads.
fn bucket(keys: &mut Keys, key: &'static str) -> Result<String, ProviderError> {
    let name = need(keys, key)?;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '$');
    match name.chars().all(is_allowed) && !matches!(name.as_str(), "." | "..") {
        true => Ok(name),
        false => Err(ProviderError::Bad { key, what: "it is no name of a bucket or container" }),
    }
}

fn path(keys: &mut Keys, key: &'static str) -> Result<String, ProviderError> {
    let path = take(keys, key).map(|path| path.expose().to_owned()).unwrap_or_default();
    let path = path.trim_matches('/');
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    match path {
        "" => Ok(String::new()),
        _ if path.split('/').all(is_plain)
            && !path.contains(|c: char| c == '\\' || c.is_control()) =>
        {
            Ok(format!("{path}/"))
        }
        _ => Err(ProviderError::Bad { key, what: "it must hold no empty part, no . and no .." }),
    }
}

/// An endpoint: `http` or `https`, an authority without user information, nothing behind it but perhaps a path.
fn endpoint(keys: &mut Keys, key: &'static str) -> Result<Option<String>, ProviderError> {
    let Some(endpoint) = take(keys, key) else { return Ok(None) };
    match check_endpoint(endpoint.expose()) {
        Ok(()) => Ok(Some(endpoint.expose().trim_end_matches('/').to_owned())),
        Err(what) => Err(ProviderError::Bad { key, what }),
    }
}

/// Finds what is wrong with an endpoint, from the file or from the environment.
pub fn check_endpoint(endpoint: &str) -> Result<(), &'static str> {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    match rest {
        None => Err("it must begin with https:// or http://"),
        Some(rest) if rest.contains('@') => {
            Err("it must hold no user information; give credentials by their keys")
        }
        Some(rest) if rest.contains(['?', '#']) => Err("it must hold no query and no fragment"),
        Some(rest) if rest.starts_with('/') || rest.is_empty() => Err("it names no host"),
        Some(rest) if rest.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err("it holds white space")
        }
        Some(_) => Ok(()),
    }
}
