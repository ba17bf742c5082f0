//! The JSON of a transaction, and what it means.

use crate::output::json_bytes::join;
use raftkv_core::api::{
    Compare, CompareOp, CompareTarget, DeleteRequest, KeyRange, PutRequest, RangeRequest, TxnOp,
    TxnRequest,
};
use serde::Deserialize;

/// `{"compare": [...], "success": [...], "failure": [...]}`; each may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    #[serde(default)]
    compare: Vec<Condition>,
    #[serde(default)]
    success: Vec<Operation>,
    #[serde(default)]
    failure: Vec<Operation>,
}

/// `{"key": K, "op": "=", and one of "value", "version", "create_revision", "mod_revision", "lease"}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(default)]
    prefix: bool,
    #[serde(default)]
    op: Relation,
    value: Option<String>,
    value_base64: Option<String>,
    version: Option<u64>,
    create_revision: Option<u64>,
    mod_revision: Option<u64>,
    lease: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
enum Relation {
    #[default]
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = "<")]
    Less,
}

/// `{"put": {...}}`, `{"get": {...}}` or `{"delete": {...}}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Operation {
    Put(Put),
    Get(Get),
    Delete(Delete),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[serde(default)]
    lease: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(default)]
    prefix: bool,
    #[serde(default)]
    limit: u64,
    #[serde(default)]
    keys_only: bool,
    #[serde(default)]
    count_only: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(default)]
    prefix: bool,
}

impl Document {
    /// The request it stands for. The error says which part makes no sense.
    pub fn into_request(self) -> Result<TxnRequest, String> {
        Ok(TxnRequest {
            compares: all("compare", self.compare, Condition::into_compare)?,
            success: all("success", self.success, Operation::into_op)?,
            failure: all("failure", self.failure, Operation::into_op)?,
        })
    }
}

fn all<A, B>(
    list: &str,
    items: Vec<A>,
    convert: impl Fn(A) -> Result<B, String>,
) -> Result<Vec<B>, String> {
    let converted = items
        .into_iter()
        .enumerate()
        .map(|(number, item)| convert(item).map_err(|why| format!("{list}[{number}]: {why}")));
    converted.collect()
}

impl Condition {
    fn into_compare(self) -> Result<Compare, String> {
        let has_value = self.value.is_some() || self.value_base64.is_some();
        let mut targets = Vec::new();
        if has_value {
            let value = join("value", self.value, self.value_base64)?;
            targets.push(CompareTarget::Value(value.into()));
        }
        targets.extend(self.version.map(CompareTarget::Version));
        targets.extend(self.create_revision.map(CompareTarget::CreateRevision));
        targets.extend(self.mod_revision.map(CompareTarget::ModRevision));
        targets.extend(self.lease.map(CompareTarget::Lease));
        let target = match <[CompareTarget; 1]>::try_from(targets) {
            Ok([target]) => target,
            Err(targets) => {
                return Err(format!(
                    "exactly one of value, version, create_revision, mod_revision, lease is compared, not {}",
                    targets.len()
                ));
            }
        };
        let range = range(self.key, self.key_base64, self.prefix)?;
        Ok(Compare { range, op: self.op.into(), target })
    }
}

impl From<Relation> for CompareOp {
    fn from(relation: Relation) -> Self {
        match relation {
            Relation::Equal => CompareOp::Equal,
            Relation::NotEqual => CompareOp::NotEqual,
            Relation::Greater => CompareOp::Greater,
            Relation::Less => CompareOp::Less,
        }
    }
}

impl Operation {
    fn into_op(self) -> Result<TxnOp, String> {
        match self {
            Operation::Put(put) => Ok(TxnOp::Put(PutRequest {
                key: join("key", put.key, put.key_base64)?.into(),
                value: join("value", put.value, put.value_base64)?.into(),
                lease: put.lease,
                return_previous: false,
            })),
            Operation::Get(get) => Ok(TxnOp::Range(RangeRequest {
                limit: get.limit,
                keys_only: get.keys_only,
                count_only: get.count_only,
                ..RangeRequest::new(range(get.key, get.key_base64, get.prefix)?)
            })),
            Operation::Delete(delete) => Ok(TxnOp::Delete(DeleteRequest {
                range: range(delete.key, delete.key_base64, delete.prefix)?,
                return_previous: false,
            })),
        }
    }
}

fn range(key: Option<String>, base64: Option<String>, prefix: bool) -> Result<KeyRange, String> {
    let key = join("key", key, base64)?;
    Ok(if prefix { KeyRange::prefix(key) } else { KeyRange::one(key) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TxnRequest, String> {
        let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
        document.into_request()
    }

    #[test]
    fn every_part_arrives() {
        let request = parse(
            r#"{"compare": [{"key": "a", "op": ">", "mod_revision": 3}, {"key_base64": "/w==", "value": "x"}],
                "success": [{"put": {"key": "a", "value_base64": "AA==", "lease": 7}}],
                "failure": [{"get": {"key": "", "prefix": true, "limit": 2}}, {"delete": {"key": "b"}}]}"#,
        )
        .unwrap();
        assert_eq!(request.compares[0].op, CompareOp::Greater);
        assert_eq!(request.compares[0].target, CompareTarget::ModRevision(3));
        assert_eq!(request.compares[1].range, KeyRange::one(&b"\xff"[..]));
        assert_eq!(request.compares[1].op, CompareOp::Equal);
        let TxnOp::Put(put) = &request.success[0] else { panic!("a put") };
        assert_eq!((put.value.as_ref(), put.lease), (&b"\0"[..], 7));
        let TxnOp::Range(get) = &request.failure[0] else { panic!("a get") };
        assert_eq!((&get.range, get.limit), (&KeyRange::all(), 2));
        assert!(matches!(&request.failure[1], TxnOp::Delete(_)));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            (r#"{"then": []}"#, "then"),
            (r#"{"success": [{"put": {"key": "a"}}]}"#, "success[0]: value"),
            (r#"{"success": [{"put": {"key": "a", "value": "1", "ttl": 3}}]}"#, "ttl"),
            (r#"{"compare": [{"key": "a"}]}"#, "compare[0]: exactly one"),
            (r#"{"compare": [{"key": "a", "version": 1, "lease": 2}]}"#, "not 2"),
            (r#"{"compare": [{"key": "a", "op": "==", "version": 1}]}"#, "=="),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
