//! Where settings come from, and which wins: defaults, then the file, then the environment, then flags.

use super::ConfigError;
use super::keys::{self, KEYS};
use saphyr::{MarkedYaml, ScalarStyle, ScanError, YamlData, YamlLoader};
use saphyr_parser::Parser;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the file.
    File {
        /// Its path.
        path: String,
        /// From 1.
        line: usize,
    },
    /// In the environment, under this name.
    Environment(String),
    /// By this flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{path}, line {line}"),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// A key that was set, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub key: &'static str,
    /// Where.
    pub origin: Origin,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({})", self.key, self.origin)
    }
}

/// The winning text of every key, and where it came from.
#[derive(Clone, Debug)]
pub struct Layers {
    values: BTreeMap<&'static str, (String, Origin)>,
}

impl Layers {
    /// Only defaults.
    pub fn defaults() -> Self {
        let row = |key: &keys::Key| (key.name, (key.default.to_owned(), Origin::Default));
        Layers { values: KEYS.iter().map(row).collect() }
    }

    /// Lays a YAML file over what is there: a mapping from keys to scalars, lists or mappings of scalars.
    pub fn add_yaml(&mut self, path: &str, yaml: &str) -> Result<(), ConfigError> {
        let syntax = |line, why: String| ConfigError::Syntax { path: path.into(), line, why };
        let documents =
            load(yaml).map_err(|error| syntax(error.marker().line(), error.info().to_owned()))?;
        if let Some(second) = documents.get(1) {
            return Err(syntax(line(second), "a second document: one is expected".into()));
        }
        let Some(document) = documents.first() else { return Ok(()) };
        let mapping = match &document.data {
            YamlData::Mapping(mapping) => mapping,
            _ if scalar(document).as_deref() == Some("") => return Ok(()),
            _ => return Err(syntax(line(document), "expected lines of `key: value`".into())),
        };
        for (key, value) in mapping {
            let origin = Origin::File { path: path.into(), line: line(key) };
            let name = scalar(key)
                .ok_or_else(|| syntax(line(key), "a key must be a plain word".into()))?;
            let Some(row) = keys::find(&name) else {
                let suggestion = keys::nearest(&name);
                return Err(ConfigError::UnknownKey { key: name, origin, suggestion });
            };
            let text = flatten(value).ok_or_else(|| {
                syntax(line(value), format!("`{name}` takes a value or a list of values"))
            })?;
            self.values.insert(row.name, (text, origin));
        }
        Ok(())
    }

    /// Lays the environment over what is there. Returns `RAFTKV_*` names that mean nothing to a node.
    pub fn add_environment(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Vec<String>, ConfigError> {
        let mut unknown = Vec::new();
        let named = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        for (name, value) in named.filter(|(name, _)| name.starts_with("RAFTKV_")) {
            match KEYS.iter().find(|key| key.variable() == name) {
                Some(key) => match value.into_string() {
                    Ok(value) => {
                        self.values.insert(key.name, (value, Origin::Environment(name)));
                    }
                    Err(_) => return Err(ConfigError::NotText { variable: name }),
                },
                None => unknown.push(name),
            }
        }
        Ok(unknown)
    }

    /// Lays one flag over what is there. `name` must be a key's.
    pub fn add_flag(&mut self, name: &str, value: &str) {
        let key = keys::find(name).expect("flags are made from the table of keys");
        self.values.insert(key.name, (value.to_owned(), Origin::Flag(key.flag())));
    }

    /// A value as it was written. `name` must be a key's.
    pub fn text(&self, name: &'static str) -> &str {
        &self.values[name].0
    }

    /// A value in its own type.
    pub fn parse<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        parse(self.text(name)).map_err(|why| self.wrong(name, why))
    }

    /// An error about a key.
    pub fn wrong(&self, name: &'static str, why: impl Into<String>) -> ConfigError {
        let place = Place { key: name, origin: self.values[name].1.clone() };
        ConfigError::Value { places: vec![place], why: why.into() }
    }

    /// An error about keys that do not go together. It names those that somebody set: the defaults go together.
    pub fn clash(&self, names: &[&'static str], why: impl Into<String>) -> ConfigError {
        let place = |name: &&'static str| Place { key: name, origin: self.values[name].1.clone() };
        let mut places: Vec<Place> = names.iter().map(place).collect();
        if places.iter().any(|place| place.origin != Origin::Default) {
            places.retain(|place| place.origin != Origin::Default);
        }
        ConfigError::Value { places, why: why.into() }
    }
}

/// The effective configuration, as a file that would give it.
impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in KEYS {
            let (text, origin) = &self.values[key.name];
            match text.is_empty() {
                true => writeln!(f, "# {}: unset", key.name)?,
                false => writeln!(f, "{}: {}  # {origin}", key.name, quoted(text))?,
            }
        }
        Ok(())
    }
}

/// YAML's double quotes are JSON's, for printable text.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "./_-".contains(c);
    match text.chars().all(plain) && !text.starts_with('-') {
        true => text.to_owned(),
        false => format!("{text:?}"),
    }
}

fn line(node: &MarkedYaml<'_>) -> usize {
    node.span.start.line()
}

/// Values stay the text that was written: `007` is a token of three characters, and no number.
fn load(yaml: &str) -> Result<Vec<MarkedYaml<'_>>, ScanError> {
    let mut loader = YamlLoader::default();
    loader.early_parse(false);
    Parser::new_from_str(yaml).load(&mut loader, true)?;
    match loader.error() {
        Some(error) => Err(error.clone()),
        None => Ok(loader.into_documents()),
    }
}

/// A key or value as it was written; nothing, for one that was left out.
fn scalar(node: &MarkedYaml<'_>) -> Option<String> {
    match &node.data {
        YamlData::Representation(text, ScalarStyle::Plain, _) if text == "~" || text == "null" => {
            Some(String::new())
        }
        YamlData::Representation(text, ..) => Some(text.to_string()),
        _ => None,
    }
}

/// Lists become `a,b`, mappings `1=a,2=b`.
fn flatten(node: &MarkedYaml<'_>) -> Option<String> {
    let items: Option<Vec<String>> = match &node.data {
        YamlData::Sequence(items) => items.iter().map(scalar).collect(),
        YamlData::Mapping(items) => items
            .iter()
            .map(|(key, value)| Some(format!("{}={}", scalar(key)?, scalar(value)?)))
            .collect(),
        _ => return scalar(node),
    };
    Some(items?.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_gives_the_same_again() {
        let mut layers = Layers::defaults();
        layers.add_flag("initial_cluster", "1=127.0.0.1:1,2=[::1]:2");
        layers.add_flag("cluster_token", "a \"b\": #c");
        let mut again = Layers::defaults();
        again.add_yaml("shown", &layers.to_string()).unwrap();
        assert!(KEYS.iter().all(|key| layers.text(key.name) == again.text(key.name)));
    }

    #[test]
    fn values_are_the_text_that_was_written() {
        let mut layers = Layers::defaults();
        layers
            .add_yaml("file", "cluster_token: 007\njoin: [a:1, \"b:2\"]\nadvertise: ~\n")
            .unwrap();
        assert_eq!(layers.text("cluster_token"), "007");
        assert_eq!(layers.text("join"), "a:1,b:2");
        assert_eq!(layers.text("advertise"), "");
        for empty in ["", "# nothing\n", "---\n", "~\n"] {
            Layers::defaults().add_yaml("file", empty).unwrap();
        }
    }

    #[test]
    fn the_environment_speaks_only_of_known_keys() {
        let mut layers = Layers::defaults();
        let variables = [("RAFTKV_ID", "7"), ("RAFTKV_ENDPOINTS", "x"), ("HOME", "/")]
            .map(|(name, value)| (name.into(), value.into()));
        let unknown = layers.add_environment(variables.into_iter()).unwrap();
        assert_eq!(unknown, ["RAFTKV_ENDPOINTS"]);
        assert_eq!(layers.text("id"), "7");
    }
    #[test]
    fn a_variable_that_is_no_text_is_named() {
        use std::os::unix::ffi::OsStringExt as _;
        let value = OsString::from_vec(vec![0xff]);
        let variables = [(OsString::from("RAFTKV_DATA_DIR"), value)];
        let error = Layers::defaults().add_environment(variables.into_iter()).unwrap_err();
        assert!(error.to_string().contains("RAFTKV_DATA_DIR"), "{error}");
    }
}
