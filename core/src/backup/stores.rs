//! The stores of a configuration: the primary one, and those that get a copy of every backup.
//!
//! Invariants: every store has a name that no other has, and is in a place of its own; how many must have a backup before it counts
//! is from one to all of them.

use super::blob::StoreIndex;
use super::bounds::MAX_PARTS;
use super::config::Config;
use super::provider::Provider;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// What the provider's store is called where stores are named.
pub const PRIMARY: &str = "primary";

/// No configuration names more stores for copies.
pub const MAX_COPIES: usize = 7;

/// A store that gets a copy of every backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyStore {
    /// What it is called in commands and messages.
    pub name: String,
    /// Where it is.
    pub provider: Provider,
}

/// Why stores do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoresError {
    /// Too many stores to copy to.
    #[error("copies names {found} stores, and {MAX_COPIES} are the most")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// A store whose name cannot tell it from others.
    #[error(
        "copies: {name:?} cannot name a store: names are of 1 to 32 letters, digits, - and _, each used once, and {PRIMARY} is the provider's"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Two stores are one.
    #[error("copies: {name} is the same store as {other}, and a copy in the same place is none")]
    Same {
        /// The name of one.
        name: String,
        /// The name of the other.
        other: String,
    },
    /// More copies are required than there are stores, or none.
    #[error(
        "required_copies is {required}: it counts the provider's store and those of copies, so it is from 1 to {stores}"
    )]
    Required {
        /// How many are required.
        required: u8,
        /// How many stores there are.
        stores: usize,
    },
}

impl Config {
    /// All stores with their names, the primary one first: [`StoreIndex`] counts them like this.
    pub fn stores(&self) -> impl Iterator<Item = (&str, &Provider)> {
        let copies = self.copies.iter().map(|copy| (copy.name.as_str(), &copy.provider));
        std::iter::once((PRIMARY, &self.provider)).chain(copies)
    }

    /// The stores that get copies.
    pub fn copy_stores(&self) -> impl Iterator<Item = StoreIndex> + use<> {
        StoreIndex::first(1 + self.copies.len() as u8).skip(1)
    }

    /// What a store is called.
    pub fn store_name(&self, store: StoreIndex) -> &str {
        self.stores().nth(store.0.into()).map_or("?", |(name, _)| name)
    }

    /// How many parts of an object each of these stores takes.
    pub fn max_parts(&self, stores: impl IntoIterator<Item = StoreIndex>) -> u32 {
        let providers =
            stores.into_iter().filter_map(|store| self.stores().nth(usize::from(store.0)));
        providers.map(|(_, provider)| provider.max_parts()).min().unwrap_or(MAX_PARTS)
    }

    /// The configuration of one store alone, by its name: as if it were the primary one and had no copies.
    pub fn alone(&self, name: &str) -> Option<Config> {
        let provider = self.stores().find(|(each, _)| *each == name)?.1.clone();
        Some(Config { provider, copies: Vec::new(), required_copies: 1, ..self.clone() })
    }

    pub(super) fn check_stores(&self) -> Result<(), StoresError> {
        if self.copies.len() > MAX_COPIES {
            return Err(StoresError::TooMany { found: self.copies.len() });
        }
        let stores: Vec<_> = self.stores().collect();
        for (at, (name, provider)) in stores.iter().enumerate().skip(1) {
            let before = &stores[..at];
            if !is_name(name) || before.iter().any(|(other, _)| other == name) {
                return Err(StoresError::Name { name: (*name).to_owned() });
            }
            if let Some((other, _)) =
                before.iter().find(|(_, other)| place(other) == place(provider))
            {
                let (name, other) = ((*name).to_owned(), (*other).to_owned());
                return Err(StoresError::Same { name, other });
            }
        }
        if !(1..=stores.len()).contains(&self.required_copies.into()) {
            let (required, stores) = (self.required_copies, stores.len());
            return Err(StoresError::Required { required, stores });
        }
        Ok(())
    }
}

/// Reads the stores for copies. What is wrong with one of them is told with its place in the list: a key of one is a key of all.
pub(super) fn read_copies<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<CopyStore>, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = Vec<CopyStore>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of stores under copies")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut copies = Vec::new();
            loop {
                let place = copies.len();
                match list.next_element::<CopyStore>() {
                    Ok(Some(copy)) => copies.push(copy),
                    Ok(None) => return Ok(copies),
                    Err(error) => return Err(in_copy(place, &error)),
                }
            }
        }
    }
    deserializer.deserialize_seq(List)
}

fn in_copy<E: de::Error>(place: usize, error: &E) -> E {
    let what = error.to_string();
    match what.starts_with("provider.") {
        true => E::custom(format_args!("copies[{place}].{what}")),
        false => E::custom(format_args!("copies[{place}]: {what}")),
    }
}

/// Where a store is, however it is spelled and with whichever credentials.
fn place(provider: &Provider) -> String {
    let at = |endpoint: &Option<String>| {
        endpoint.as_deref().unwrap_or_default().trim_end_matches('/').to_ascii_lowercase()
    };
    match provider {
        Provider::Local { local_path } => {
            let mut parts: Vec<&str> = Vec::new();
            for part in local_path.split('/').filter(|part| !matches!(*part, "" | ".")) {
                match part {
                    ".." => drop(parts.pop()),
                    part => parts.push(part),
                }
            }
            let root = if local_path.starts_with('/') { "/" } else { "" };
            format!("file {root}{}", parts.join("/"))
        }
        Provider::S3(s3) => format!("s3 {} {}/{}", at(&s3.endpoint), s3.bucket, s3.path),
        Provider::Gcs(gcs) => format!("gs {} {}/{}", at(&gcs.endpoint), gcs.bucket, gcs.path),
        Provider::Azure(azure) => {
            let account = azure.account.as_deref().unwrap_or_default();
            format!("az {} {account} {}/{}", at(&azure.endpoint), azure.container, azure.path)
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(value: Value) -> Result<(), String> {
        let config: Config = serde_json::from_value(value).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn copies_are_stores_of_their_own() {
        let local = |path: &str| json!({ "type": "local", "local_path": path });
        let with = |copies: Value, required: u8| json!({ "provider": local("/a"), "copies": copies, "required_copies": required });
        let copy = |name: &str, path: &str| json!({ "name": name, "provider": local(path) });
        let two = json!([copy("b", "/b"), copy("c", "/c")]);
        assert_eq!(check(with(two.clone(), 3)), Ok(()));
        let config: Config = serde_json::from_value(with(two.clone(), 2)).unwrap();
        let names: Vec<_> = config.stores().map(|(name, _)| name).collect();
        assert_eq!(names, ["primary", "b", "c"]);
        assert_eq!(config.copy_stores().last().map(|at| config.store_name(at)), Some("c"));
        let alone = config.alone("c").unwrap();
        let Provider::Local { local_path } = &alone.provider else { panic!("{alone:?}") };
        assert_eq!((local_path.as_str(), alone.copies.len()), ("/c", 0));
        assert_eq!((alone.check(), config.alone("d")), (Ok(()), None));

        let many = (0..8).map(|at| copy(&format!("n{at}"), &format!("/n{at}"))).collect();
        let cases = [
            (two.clone(), 4, "from 1 to 3"),
            (two, 0, "from 1 to 3"),
            (json!([copy("", "/b")]), 1, "cannot name a store"),
            (json!([copy("primary", "/b")]), 1, "cannot name a store"),
            (json!([copy("b", "/b"), copy("b", "/c")]), 1, "cannot name a store"),
            (json!([copy("b", "/a")]), 1, "same store as primary"),
            (json!([copy("b", "/x/../a//")]), 1, "same store as primary"),
            (Value::Array(many), 1, "8 stores"),
            (
                json!([copy("b", "/b"), { "name": "c", "provider": { "type": "ftp" } }]),
                1,
                "copies[1].provider.type: unknown variant `ftp`",
            ),
            (json!([copy("b", "")]), 1, "copies[0].provider.local_path must not be empty"),
            (json!([{ "provider": local("/b") }]), 1, "copies[0]: missing field `name`"),
            (json!([copy("b", "/b"), 7]), 1, "copies[1]: invalid type"),
            (json!("b"), 1, "a list of stores under copies"),
        ];
        for (copies, required, message) in cases {
            let error = check(with(copies, required)).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn an_object_has_as_many_parts_as_every_store_that_gets_it_takes() {
        let file = json!({
            "provider": { "type": "local", "local_path": "/a" },
            "copies": [
                { "name": "azure", "provider": {
                    "type": "azure", "azure_account": "a", "azure_container": "c",
                } },
                { "name": "s3", "provider": { "type": "s3", "s3_bucket": "b" } },
                { "name": "gcs", "provider": { "type": "gcs", "gcs_bucket": "b" } },
                { "name": "disk", "provider": { "type": "local", "local_path": "/b" } },
            ],
        });
        let config: Config = serde_json::from_value(file).unwrap();
        let cases: [(&[u8], u32); 8] = [
            (&[0], u32::MAX),
            (&[1], 50_000),
            (&[2], 10_000),
            (&[3], 10_000),
            (&[0, 4], u32::MAX),
            (&[0, 1], 50_000),
            (&[2, 1, 0], 10_000),
            // Of a store that there is not nothing is known.
            (&[9], 10_000),
        ];
        for (stores, most) in cases {
            let parts = config.max_parts(stores.iter().copied().map(StoreIndex));
            assert_eq!(parts, most, "stores {stores:?}");
        }
        assert_eq!(config.max_parts(config.copy_stores()), 10_000);
    }
}
