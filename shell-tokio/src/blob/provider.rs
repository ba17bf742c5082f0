//! From a configured provider to an open store: the client for it, with credentials from the file, the environment or the platform.

use super::BlobStore;
use super::credentials::{self, GOOGLE_SCOPE, account_key};
use super::http::Transport;
use super::local::LocalStore;
use super::remote::{Place, RemoteStore, Ways};
use super::unfinished::{Bucket, Signatures, Unfinished};
use opendal::services::{Azblob, Gcs as GcsService, S3 as S3Service};
use opendal::{HttpTransporter, OperationContext, Operator};
use raftkv_core::backup::provider::{Azure, Gcs, Provider, S3, check_endpoint};
use raftkv_core::backup::retry::Policy;
use raftkv_core::rng::Seed;
use reqsign_core::{Context, Signer};
use std::path::Path;
use std::sync::Arc;

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
    let name = format!("{provider}{prefix}").into();
    let root = |path: &str| format!("{path}{prefix}");
    let (operator, conditional_parts, unfinished) = match provider {
        Provider::Local { local_path } => {
            return Ok(Box::new(LocalStore::new(Path::new(local_path).join(prefix))));
        }
        Provider::S3(s3) => {
            let (bucket, transport) = (S3Bucket::of(s3)?, transport(policy)?);
            let root = root(&s3.path);
            let service = bucket.service(s3).root(&format!("/{root}"));
            let place = Bucket { url: bucket.url, root };
            let unfinished = Unfinished::new(place, aws(s3, &bucket.region), transport.clone());
            (operator(service, transport)?, true, Some(unfinished))
        }
        Provider::Gcs(gcs) => {
            let (root, transport) = (root(&gcs.path), transport(policy)?);
            let service = gcs_service(gcs).root(&format!("/{root}"));
            let endpoint = gcs.endpoint.as_deref().unwrap_or(GOOGLE).trim_end_matches('/');
            let place = Bucket { url: format!("{endpoint}/{}", gcs.bucket), root };
            let unfinished = Unfinished::new(place, google(gcs), transport.clone());
            (operator(service, transport)?, false, Some(unfinished))
        }
        Provider::Azure(azure) => {
            let service = azure_service(azure)?.root(&format!("/{}", root(&azure.path)));
            (operator(service, transport(policy)?)?, true, None)
        }
    };
    let (ways, unfinished) = (Ways { conditional_parts }, unfinished.map(Arc::new));
    Ok(Box::new(RemoteStore::new(Place { operator, name, ways, unfinished })))
}

/// Google's own endpoint.
const GOOGLE: &str = "https://storage.googleapis.com";

fn transport(policy: Policy) -> Result<Transport, OpenError> {
    let failed = |what: String| OpenError::Client(what);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| failed(error.to_string()))?;
    let rng = Seed::from_bytes(seed).fork("object store pauses");
    Transport::new(policy, rng).map_err(|error| failed(error.to_string()))
}

fn operator(service: impl opendal::Builder, transport: Transport) -> Result<Operator, OpenError> {
    let operator = Operator::new(service);
    let operator = operator.map_err(|error| OpenError::Client(error.message().to_owned()))?;
    let transport = HttpTransporter::new(transport);
    Ok(operator.with_context(OperationContext::new().with_http_transport(transport)))
}

/// Where a bucket of S3's is.
struct S3Bucket {
    region: String,
    endpoint: String,
    /// The bucket's name stands in the host's.
    is_virtual: bool,
    url: String,
}

impl S3Bucket {
    fn of(s3: &S3) -> Result<S3Bucket, OpenError> {
        let endpoint = match &s3.endpoint {
            Some(endpoint) => Some(endpoint.trim_end_matches('/').to_owned()),
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
        let bucket = &s3.bucket;
        // A dot in the name would not fit the wildcard of Amazon's certificate.
        let is_virtual = endpoint.is_none() && !bucket.contains('.');
        let endpoint = endpoint.unwrap_or_else(|| amazon(&region));
        let url = match endpoint.split_once("://") {
            Some((scheme, host)) if is_virtual => format!("{scheme}://{bucket}.{host}"),
            _ => format!("{endpoint}/{bucket}"),
        };
        Ok(S3Bucket { region, endpoint, is_virtual, url })
    }

    fn service(&self, s3: &S3) -> S3Service {
        let mut service = S3Service::default().bucket(&s3.bucket).region(&self.region);
        service = service.endpoint(&self.endpoint);
        if self.is_virtual {
            service = service.enable_virtual_host_style();
        }
        service.credential_provider_chain(credentials::aws(s3))
    }
}

/// Signs as the client of S3 does.
fn aws(s3: &S3, region: &str) -> Signatures {
    let signer = reqsign_aws_v4::RequestSigner::new("s3", region);
    Signatures::Aws(Signer::new(Context::new(), credentials::aws(s3), signer))
}

/// Signs as the client of Google's store does.
fn google(gcs: &Gcs) -> Signatures {
    let signer = reqsign_google::RequestSigner::new("storage").with_scope(GOOGLE_SCOPE);
    Signatures::Google(Signer::new(Context::new(), credentials::google(gcs), signer))
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
    // Its own sources would come after these.
    service = service.disable_config_load().disable_vm_metadata();
    service.credential_provider_chain(credentials::google(gcs))
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
