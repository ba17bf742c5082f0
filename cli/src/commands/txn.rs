//! `txn`: compare and change several keys as one. The request is JSON on stdin; its schema is [`schema`]'s, and is in `docs/CLI.md`.

pub mod schema;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::Report;
use crate::output::kv::RangeView;
use clap::Args;
use raftkv_core::api::{TxnOp, TxnOpResult, TxnRequest, WriteOp, WriteResult};
use schema::Document;
use serde::Serialize;

/// Arguments: none; the transaction comes on stdin.
#[derive(Debug, Args)]
pub struct Txn {}

#[derive(Debug, Serialize)]
struct TxnView {
    revision: u64,
    /// Unknown only for a retry whose first answer was too large to keep.
    succeeded: Option<bool>,
    results: Vec<OpView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum OpView {
    Get(RangeView),
    Put {},
    Delete { deleted: u64 },
}

/// Runs it. Compares that do not hold are an answer, not a failure.
pub async fn run(context: &Context, _txn: Txn) -> Result<(), Failure> {
    let document: Document = serde_json::from_reader(std::io::stdin().lock())
        .map_err(|error| Failure::new(Exit::Usage, format!("stdin: {error}; see docs/CLI.md")))?;
    let request = document
        .into_request()
        .map_err(|why| Failure::new(Exit::Usage, format!("stdin: {why}; see docs/CLI.md")))?;
    let client = context.client().await?;
    let result = client.write(WriteOp::Txn(request.clone())).await?;
    context.print(&TxnView::new(&request, &result))
}

impl TxnView {
    fn new(request: &TxnRequest, result: &WriteResult) -> Self {
        let WriteResult::Txn { revision, succeeded, results } = result else {
            return TxnView { revision: result.revision(), succeeded: None, results: Vec::new() };
        };
        let done = if *succeeded { &request.success } else { &request.failure };
        let results = done.iter().zip(results).map(|(op, result)| OpView::new(op, result));
        TxnView { revision: *revision, succeeded: Some(*succeeded), results: results.collect() }
    }
}

impl OpView {
    fn new(op: &TxnOp, result: &TxnOpResult) -> Self {
        match result {
            TxnOpResult::Range(range) => {
                let keys_only = matches!(op, TxnOp::Range(range) if range.keys_only);
                OpView::Get(RangeView::new(range, !keys_only))
            }
            TxnOpResult::Put(_) => OpView::Put {},
            TxnOpResult::Delete { deleted, .. } => OpView::Delete { deleted: *deleted },
        }
    }
}

impl Report for TxnView {
    fn table(&self) -> String {
        let outcome = match self.succeeded {
            Some(true) => "the compares held",
            Some(false) => "the compares did not hold",
            None => "applied before",
        };
        let mut lines = vec![format!("{outcome}, revision {}", self.revision)];
        lines.extend(self.results.iter().map(|result| match result {
            OpView::Get(range) => range.table(),
            OpView::Put {} => "put".to_owned(),
            OpView::Delete { deleted } => format!("{deleted} keys deleted"),
        }));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use raftkv_core::api::RangeResponse;

    #[test]
    fn the_json_of_a_transaction_is_what_is_documented() {
        let text = r#"{"success":[{"put":{"key":"a","value":"1"}},{"get":{"key":"b"}},{"delete":{"key":"c"}}]}"#;
        let document: Document = serde_json::from_str(text).unwrap();
        let request = document.into_request().unwrap();
        let result = WriteResult::Txn {
            revision: 4,
            succeeded: true,
            results: vec![
                TxnOpResult::Put(None),
                TxnOpResult::Range(RangeResponse { revision: 4, ..RangeResponse::default() }),
                TxnOpResult::Delete { deleted: 1, previous: vec![] },
            ],
        };
        assert_eq!(
            Format::Json.render(&TxnView::new(&request, &result)),
            concat!(
                r#"{"revision":4,"succeeded":true,"results":["#,
                r#"{"put":{}},{"get":{"revision":4,"count":0,"kvs":[]}},{"delete":{"deleted":1}}]}"#
            )
        );
    }
}
