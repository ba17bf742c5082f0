//! Keys, values and events as data.

use super::json_bytes::{printable, split};
use super::{Report, table};
use raftkv_core::api::{Event, EventKind, KeyValue, RangeResponse};
use serde::Serialize;

/// One version of one key.
#[derive(Debug, Serialize)]
pub struct KeyValueView {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    create_revision: u64,
    mod_revision: u64,
    version: u64,
    lease: u64,
    #[serde(skip)]
    shown: [String; 2],
}

/// Keys read at one revision.
#[derive(Debug, Serialize)]
pub struct RangeView {
    revision: u64,
    count: u64,
    kvs: Vec<KeyValueView>,
}

/// One change of a key.
#[derive(Debug, Serialize)]
pub struct EventView {
    revision: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    kv: KeyValueView,
}

/// The outcome of something that only made a revision.
#[derive(Debug, Serialize)]
pub struct RevisionView {
    /// The revision.
    pub revision: u64,
}

impl KeyValueView {
    /// `with_value` is false where only keys were asked for.
    pub fn new(kv: &KeyValue, with_value: bool) -> Self {
        let (key, key_base64) = split(&kv.key);
        let (value, value_base64) = if with_value { split(&kv.value) } else { (None, None) };
        KeyValueView {
            key,
            key_base64,
            value,
            value_base64,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
            shown: [printable(&kv.key), printable(&kv.value)],
        }
    }
}

impl RangeView {
    /// As a node answered.
    pub fn new(range: &RangeResponse, with_values: bool) -> Self {
        let kvs = range.kvs.iter().map(|kv| KeyValueView::new(kv, with_values)).collect();
        RangeView { revision: range.revision, count: range.count, kvs }
    }

    /// Whether any key matched.
    pub fn found(&self) -> bool {
        self.count > 0
    }
}

impl Report for RangeView {
    fn table(&self) -> String {
        let mut rows = table::new(&["KEY", "VALUE", "REVISION", "VERSION", "LEASE"]);
        for kv in &self.kvs {
            let [key, value] = &kv.shown;
            rows.add_row(
                [key.clone(), value.clone()].into_iter().chain(
                    [kv.mod_revision, kv.version, kv.lease].map(|number| number.to_string()),
                ),
            );
        }
        let summary = format!("{} keys at revision {}", self.count, self.revision);
        if self.kvs.is_empty() { summary } else { format!("{}\n{summary}", table::text(&rows)) }
    }
}

impl EventView {
    /// As a watch saw it.
    pub fn new(event: &Event) -> Self {
        let kind = match event.kind {
            EventKind::Put => "put",
            EventKind::Delete => "delete",
        };
        let with_value = event.kind == EventKind::Put;
        let kv = KeyValueView::new(&event.kv, with_value);
        EventView { revision: event.kv.mod_revision, kind, kv }
    }
}

impl Report for EventView {
    fn table(&self) -> String {
        let [key, value] = &self.kv.shown;
        match self.kind {
            "delete" => format!("{}\tdelete\t{key}", self.revision),
            _ => format!("{}\tput\t{key}\t{value}", self.revision),
        }
    }
}

impl Report for RevisionView {
    fn table(&self) -> String {
        format!("ok, revision {}", self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    fn kv(key: &'static [u8], value: &'static [u8]) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: 3,
            mod_revision: 5,
            version: 2,
            lease: 0,
        }
    }

    #[test]
    fn the_json_of_a_range_is_what_is_documented() {
        let range = RangeResponse {
            revision: 9,
            kvs: vec![kv(b"a", b"1"), kv(b"\xff", b"\x00\xfe")],
            count: 2,
            more: false,
        };
        assert_eq!(
            Format::Json.render(&RangeView::new(&range, true)),
            concat!(
                r#"{"revision":9,"count":2,"kvs":["#,
                r#"{"key":"a","value":"1","create_revision":3,"mod_revision":5,"version":2,"lease":0},"#,
                r#"{"key_base64":"/w==","value_base64":"AP4=","create_revision":3,"mod_revision":5,"version":2,"lease":0}"#,
                r#"]}"#
            )
        );
        assert_eq!(
            Format::Json.render(&RangeView::new(&RangeResponse { kvs: vec![], ..range }, true)),
            r#"{"revision":9,"count":2,"kvs":[]}"#
        );
    }

    #[test]
    fn keys_only_leaves_values_out() {
        let range = RangeResponse { revision: 9, kvs: vec![kv(b"a", b"")], count: 1, more: false };
        let json = Format::Json.render(&RangeView::new(&range, false));
        assert!(!json.contains("value"), "{json}");
    }

    #[test]
    fn the_json_of_events_is_what_is_documented() {
        let put = Event { kind: EventKind::Put, kv: kv(b"a", b"1"), previous: None };
        assert_eq!(
            Format::Json.render(&EventView::new(&put)),
            r#"{"revision":5,"type":"put","key":"a","value":"1","create_revision":3,"mod_revision":5,"version":2,"lease":0}"#
        );
        let delete = Event { kind: EventKind::Delete, kv: kv(b"a", b""), previous: None };
        assert_eq!(Format::Table.render(&EventView::new(&delete)), "5\tdelete\ta");
    }

    #[test]
    fn yaml_has_the_same_fields() {
        let range = RangeResponse { revision: 9, kvs: vec![kv(b"a", b"1")], count: 1, more: false };
        let yaml = Format::Yaml.render(&RangeView::new(&range, true));
        assert!(yaml.starts_with("revision: 9\ncount: 1\nkvs:"), "{yaml}");
    }
}
