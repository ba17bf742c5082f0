//! How data is printed: as a table for people, as JSON or YAML for programs.

pub mod json_bytes;
pub mod kv;
pub mod node;
pub mod table;

use clap::ValueEnum;
use serde::Serialize;

/// How to print data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON document; a line per event or item where there is no end.
    Json,
    /// One YAML document.
    Yaml,
}

/// Data that can be printed. What it serializes to is a contract.
pub trait Report: Serialize {
    /// For people, without a newline at the end.
    fn table(&self) -> String;
}

impl Format {
    /// The report in this format, without a newline at the end.
    pub fn render(self, report: &impl Report) -> String {
        match self {
            Format::Table => json_bytes::harmless(&report.table()).into_owned(),
            Format::Json => serde_json::to_string(report).expect("reports have string keys"),
            Format::Yaml => {
                let yaml = serde_saphyr::to_string(report).expect("reports have string keys");
                yaml.trim_end().to_owned()
            }
        }
    }
}
