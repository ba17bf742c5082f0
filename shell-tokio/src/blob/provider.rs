//! From a configured provider to an open store: the client for it, with credentials from the file, the environment or the platform.

use super::BlobStore;
use super::credentials::{access_key, account_key};
use super::http::Transport;
use super::local::LocalStore;
use super::remote::{Place, RemoteStore, Ways};
use opendal::services::{Azblob, Gcs as GcsService, S3 as S3Service};
use opendal::{HttpTransporter, OperationContext, Operator};
use raftkv_core::backup::provider::{Azure, Gcs, Provider, S3, check_endpoint};
use raftkv_core::backup::retry::Policy;
use raftkv_core::rng::Seed;
use std::path::Path;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something is missing in the file and in the environment.
    #[error("provider.{key} is missing: give it, or set {variable}")]
    Missing {
        /// The key in the file.
        key: &'static str,
        /// The environment's variable.
        variable: &'static str,
    },
    /// A variable of the environment cannot be used.
    #[error("environment variable {variable}: {what}")]
    Environment {
        /// Which.
        variable: &'static str,
        /// What is wrong, without its value.
        what: &'static str,
    },
    /// The client does not take the configuration.
    #[error("provider: {0}")]
    Client(String),
}

/// Opens the store of a provider, below `prefix`, which is empty or ends in a slash.
pub fn open_provider(
    provider: &Provider,
    prefix: &str,
    policy: Policy,
) -> Result<Box<dyn BlobStore>, OpenError> {
    let root = |path: &str| format!("/{path}{prefix}");
    let (operator, ways) = match provider {
        Provider::Local { local_path } => {
            return Ok(Box::new(LocalStore::new(Path::new(local_path).join(prefix))));
        }
        Provider::S3(s3) => (
            operator(s3_service(s3)?.root(&root(&s3.path)), policy)?,
            Ways { conditional_parts: true },
        ),
        Provider::Gcs(gcs) => (
            operator(gcs_service(gcs).root(&root(&gcs.path)), policy)?,
            Ways { conditional_parts: false },
        ),
        Provider::Azure(azure) => (
            operator(azure_service(azure)?.root(&root(&azure.path)), policy)?,
            Ways { conditional_parts: true },
        ),
    };
    let name = format!("{provider}{prefix}").into();
    Ok(Box::new(RemoteStore::new(Place { operator, name, ways })))
}

fn operator(service: impl opendal::Builder, policy: Policy) -> Result<Operator, OpenError> {
    let failed = |what: String| OpenError::Client(what);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| failed(error.to_string()))?;
    let rng = Seed::from_bytes(seed).fork("object store pauses");
    let transport = Transport::new(policy, rng).map_err(|error| failed(error.to_string()))?;
    let operator = Operator::new(service).map_err(|error| failed(error.message().to_owned()))?;
    let transport = HttpTransporter::new(transport);
    Ok(operator.with_context(OperationContext::new().with_http_transport(transport)))
}

fn s3_service(s3: &S3) -> Result<S3Service, OpenError> {
    let endpoint = match &s3.endpoint {
        Some(endpoint) => Some(endpoint.clone()),
        None => endpoint_from(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])?,
    };
    let region = s3
        .region
        .clone()
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = match (region, &endpoint) {
        (Some(region), _) => region,
        // Stores of one's own have no regions, but signatures name one.
        (None, Some(_)) => "us-east-1".into(),
        (None, None) => {
            return Err(OpenError::Missing { key: "s3_region", variable: "AWS_REGION" });
        }
    };
    let mut service = S3Service::default().bucket(&s3.bucket).region(&region);
    service = match endpoint {
        Some(endpoint) => service.endpoint(&endpoint),
        // A dot in the name would not fit the wildcard of Amazon's certificate.
        None if !s3.bucket.contains('.') => {
            service.endpoint(&amazon(&region)).enable_virtual_host_style()
        }
        None => service.endpoint(&amazon(&region)),
    };
    if let Some((access, secret)) = &s3.credentials {
        service = service.credential_provider_chain(access_key(access, secret));
    }
    Ok(service)
}

fn amazon(region: &str) -> String {
    match region.starts_with("cn-") {
        true => format!("https://s3.{region}.amazonaws.com.cn"),
        false => format!("https://s3.{region}.amazonaws.com"),
    }
}

fn gcs_service(gcs: &Gcs) -> GcsService {
    let mut service = GcsService::default().bucket(&gcs.bucket);
    if let Some(endpoint) = &gcs.endpoint {
        service = service.endpoint(endpoint);
    }
    if let Some(file) = &gcs.credentials_file {
        service = service.credential_path(file).disable_config_load().disable_vm_metadata();
    }
    service
}

fn azure_service(azure: &Azure) -> Result<Azblob, OpenError> {
    let account = azure.account.clone().or_else(|| variable("AZURE_STORAGE_ACCOUNT_NAME"));
    let endpoint = match (&azure.endpoint, &account) {
        (Some(endpoint), _) => endpoint.clone(),
        (None, Some(account)) => format!("https://{account}.blob.core.windows.net"),
        (None, None) => {
            let variable = "AZURE_STORAGE_ACCOUNT_NAME";
            return Err(OpenError::Missing { key: "azure_account", variable });
        }
    };
    let mut service = Azblob::default().container(&azure.container).endpoint(&endpoint);
    if let Some(account) = &account {
        service = service.account_name(account);
    }
    if let Some(key) = &azure.key {
        let Some(account) = &account else {
            let variable = "AZURE_STORAGE_ACCOUNT_NAME";
            return Err(OpenError::Missing { key: "azure_account", variable });
        };
        service = service.credential_provider_chain(account_key(account, key));
    }
    Ok(service)
}

fn endpoint_from(variables: &[&'static str]) -> Result<Option<String>, OpenError> {
    let found = variables.iter().find_map(|name| Some((*name, variable(name)?)));
    let Some((variable, endpoint)) = found else { return Ok(None) };
    check_endpoint(&endpoint).map_err(|what| OpenError::Environment { variable, what })?;
    Ok(Some(endpoint.trim_end_matches('/').to_owned()))
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
