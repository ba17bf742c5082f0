//! Where a key comes from, as the configuration names it.
//!
//! Invariant: what stands where a source belongs, or a source's name, may be a key that was put there by mistake. No error repeats it.

use super::keys::looks_like_key;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Where a key comes from. Never from the configuration itself.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySource {
    /// A file.
    File(String),
    /// An environment variable.
    Env(String),
    /// What a program prints: the program and its arguments, without a shell.
    Command(Vec<String>),
}

/// Which of them.
enum Kind {
    File,
    Env,
    Command,
}

const EXPECTED: &str = "one of {file: PATH}, {env: VARIABLE} and {command: [program, argument, ...]}, never a key itself";

impl KeySource {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            KeySource::File(name) | KeySource::Env(name) => name.is_empty(),
            KeySource::Command(argv) => argv.first().is_none_or(String::is_empty),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            KeySource::File(path) => ("key file", path.as_str()),
            KeySource::Env(name) => ("environment variable", name.as_str()),
            // Arguments may hold a credential.
            KeySource::Command(argv) => ("key command", argv.first().map_or("", String::as_str)),
        };
        match looks_like_key(name) {
            true => write!(f, "{kind} (not named here: the name looks like a key)"),
            false => write!(f, "{kind} {name}"),
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySource({self})")
    }
}

impl<'de> Deserialize<'de> for KeySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not as a map: some formats would then complain themselves, and repeat the value.
        deserializer.deserialize_any(Source)
    }
}

struct Source;

impl<'de> Visitor<'de> for Source {
    type Value = KeySource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeySource, A::Error> {
        let source = match map.next_key()? {
            Some(Kind::File) => KeySource::File(map.next_value()?),
            Some(Kind::Env) => KeySource::Env(map.next_value()?),
            Some(Kind::Command) => KeySource::Command(map.next_value()?),
            None => return Err(refused()),
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(source),
            Some(_) => Err(refused()),
        }
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<KeySource, E> {
        Err(refused())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<KeySource, E> {
        Err(refused())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<KeySource, E> {
        Err(refused())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<KeySource, E> {
        Err(refused())
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<KeySource, E> {
        Err(refused())
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<KeySource, E> {
        Err(refused())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<KeySource, E> {
        Err(refused())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<KeySource, A::Error> {
        Err(refused())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Kind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("file, env or command")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Kind, E> {
                match name {
                    "file" => Ok(Kind::File),
                    "env" => Ok(Kind::Env),
                    "command" => Ok(Kind::Command),
                    _ => Err(refused()),
                }
            }
        }
        deserializer.deserialize_identifier(Name)
    }
}

fn refused<E: de::Error>() -> E {
    E::custom(format_args!("a key's source must be {EXPECTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn sources_are_read_as_they_are_written() {
        for source in [
            KeySource::File("/etc/key".into()),
            KeySource::Env("KEY".into()),
            KeySource::Command(vec!["pass".into(), "show".into()]),
        ] {
            let written = serde_json::to_value(&source).unwrap();
            assert_eq!(serde_json::from_value::<KeySource>(written).unwrap(), source);
        }
    }

    #[test]
    fn what_is_no_source_is_not_repeated() {
        let key = "5e1fab90".repeat(8);
        let wrong: [Value; 10] = [
            json!(key),
            json!([key]),
            json!({ &key: "x" }),
            json!({ "file": "/key", &key: "x" }),
            json!({}),
            json!(null),
            json!(true),
            json!(12_345),
            json!(-12_345),
            json!(12_345.5),
        ];
        for value in wrong {
            let error = serde_json::from_value::<KeySource>(value).unwrap_err().to_string();
            assert!(error.contains("{env: VARIABLE}"), "{error}");
            assert!(!error.contains(&key) && !error.contains("12345"), "{error}");
        }
    }

    #[test]
    fn a_name_that_looks_like_a_key_is_withheld() {
        let key = "5e1fab90".repeat(8);
        for source in [
            KeySource::File(key.clone()),
            KeySource::Env(key.clone()),
            KeySource::Command(vec![key.clone(), "x".into()]),
        ] {
            let shown = format!("{source} {source:?}");
            assert!(shown.contains("looks like a key") && !shown.contains(&key), "{shown}");
        }
        let source = KeySource::File("/etc/raftkv/backup-keys/2026.key".into());
        assert_eq!(source.to_string(), "key file /etc/raftkv/backup-keys/2026.key");
    }
}
