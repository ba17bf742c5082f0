//! Where the signers get credentials: from the configuration, else from the environment and the platform. What signs beside a client has
//! the same sources as the client.
//!
//! Invariant: the `Debug` of what is made here shows no secret. The signers log it while they look for credentials, and their own
//! providers show static keys and the token with which a machine asks for its role.

use raftkv_core::backup::provider::{Gcs, S3, Secret};
use reqsign_aws_v4::{
    Credential as Aws, DefaultCredentialProvider as AwsSources, IMDSv2CredentialProvider,
};
use reqsign_azure_storage::Credential as Azure;
use reqsign_core::{Context, ProvideCredential, ProvideCredentialChain, Result};
use reqsign_google::{
    Credential as Google, DefaultCredentialProvider as GoogleSources, FileCredentialProvider,
    ServiceAccountTokenCredentialProvider,
};
use std::fmt;

/// What Google is asked for. Its client asks for the same.
pub(super) const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// An access key of S3's.
#[derive(Debug)]
struct AccessKey {
    id: Secret,
    secret: Secret,
}

/// The role of the machine that this runs on, in Amazon's cloud.
struct MachineRole(IMDSv2CredentialProvider);

/// The key of an Azure storage account.
#[derive(Debug)]
struct AccountKey {
    account: String,
    key: Secret,
}

/// Tokens of Google's, which are kept until they end. The signer would exchange the key of a service account for a new one with every
/// request.
#[derive(Debug)]
struct Tokens(ProvideCredentialChain<Google>);

/// For S3.
pub(super) fn aws(s3: &S3) -> ProvideCredentialChain<Aws> {
    let chain = ProvideCredentialChain::new();
    match s3.credentials.clone() {
        Some((id, secret)) => chain.push(AccessKey { id, secret }),
        None => {
            let sources = AwsSources::builder().no_imds().build();
            chain.push(sources).push(MachineRole(IMDSv2CredentialProvider::new()))
        }
    }
}

/// For Google's store.
pub(super) fn google(gcs: &Gcs) -> ProvideCredentialChain<Google> {
    let sources = ProvideCredentialChain::new();
    let sources = match &gcs.credentials_file {
        Some(file) => sources.push(FileCredentialProvider::new(file).with_scope(GOOGLE_SCOPE)),
        None => sources.push(GoogleSources::new()),
    };
    ProvideCredentialChain::new().push(Tokens(sources))
}

/// For an account of Azure's whose key is known.
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

impl ProvideCredential for MachineRole {
    type Credential = Aws;

    async fn provide_credential(&self, context: &Context) -> Result<Option<Aws>> {
        self.0.provide_credential(context).await
    }
}

impl fmt::Debug for MachineRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MachineRole")
    }
}

impl ProvideCredential for AccountKey {
    type Credential = Azure;

    async fn provide_credential(&self, _: &Context) -> Result<Option<Azure>> {
        Ok(Some(Azure::with_shared_key(&self.account, self.key.expose())))
    }
}

impl ProvideCredential for Tokens {
    type Credential = Google;

    async fn provide_credential(&self, context: &Context) -> Result<Option<Google>> {
        let found = self.0.provide_credential(context).await?;
        let Some(account) = found.as_ref().and_then(|found| found.service_account.clone()) else {
            return Ok(found);
        };
        let exchange = ServiceAccountTokenCredentialProvider::new(account);
        exchange.with_scope(GOOGLE_SCOPE).provide_credential(context).await
    }
}
