//! `put`: write a key.

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::kv::RevisionView;
use clap::Args;
use raftkv_core::api::PutRequest;
use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// Arguments.
#[derive(Debug, Args)]
pub struct Put {
    /// The key
    key: OsString,
    /// Its value; - reads it from stdin, all of it
    value: OsString,
    /// Attach the key to this lease
    #[arg(long, value_name = "ID", default_value_t = 0)]
    lease: u64,
}

/// Runs it.
pub async fn run(context: &Context, put: Put) -> Result<(), Failure> {
    let value = if put.value.as_bytes() == b"-" {
        let mut value = Vec::new();
        std::io::stdin().read_to_end(&mut value).map_err(|error| {
            Failure::new(Exit::Storage, format!("stdin cannot be read: {error}"))
        })?;
        value
    } else {
        put.value.into_vec()
    };
    let request = PutRequest {
        key: put.key.into_vec().into(),
        value: value.into(),
        lease: put.lease,
        return_previous: false,
    };
    let client = context.client().await?;
    let result = client.put(request).await?;
    context.print(&RevisionView { revision: result.revision() })
}
