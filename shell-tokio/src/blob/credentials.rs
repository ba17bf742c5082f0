//! Credentials from the configuration, as the signers take them.
//!
//! Invariant: their `Debug` shows nothing. The signers' own static providers show theirs, in what they log while they look for
//! credentials.

use raftkv_core::backup::provider::Secret;
use reqsign_aws_v4::Credential as Aws;
use reqsign_azure_storage::Credential as Azure;
use reqsign_core::{Context, ProvideCredential, ProvideCredentialChain, Result};

/// An access key of S3's.
#[derive(Debug)]
struct AccessKey {
    id: Secret,
    secret: Secret,
}

/// The key of an Azure storage account.
#[derive(Debug)]
struct AccountKey {
    account: String,
    key: Secret,
}

pub(super) fn access_key(id: &Secret, secret: &Secret) -> ProvideCredentialChain<Aws> {
    ProvideCredentialChain::new().push(AccessKey { id: id.clone(), secret: secret.clone() })
}

pub(super) fn account_key(account: &str, key: &Secret) -> ProvideCredentialChain<Azure> {
    ProvideCredentialChain::new().push(AccountKey { account: account.into(), key: key.clone() })
}

impl ProvideCredential for AccessKey {
    type Credential = Aws;

    async fn provide_credential(&self, _: &Context) -> Result<Option<Aws>> {
        Ok(Some(Aws {
            access_key_id: self.id.expose().into(),
            secret_access_key: self.secret.expose().into(),
            session_token: None,
            expires_in: None,
        }))
    }
}

impl ProvideCredential for AccountKey {
    type Credential = Azure;

    async fn provide_credential(&self, _: &Context) -> Result<Option<Azure>> {
        Ok(Some(Azure::with_shared_key(&self.account, self.key.expose())))
    }
}
