//! Makes the certificates of a cluster: one authority, one certificate for its nodes, one for its clients.
//!
//! Invariants: key files are 0600 in a directory of 0700; nothing that exists is overwritten; a node's certificate carries the
//! name [`NODE_NAME`] and a client's never does, which is what keeps a client from speaking as a node
//! (Consul's CVE-2021-37219 is what happens without such a mark).

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// The DNS name that only certificates of nodes carry.
pub const NODE_NAME: &str = "node.raftkv";
/// The DNS name that certificates of clients carry.
pub const CLIENT_NAME: &str = "client.raftkv";

/// File names within a certificate directory.
pub mod file {
    /// The authority's certificate: who may talk to whom.
    pub const CA_CERT: &str = "ca.crt";
    /// The authority's key: only needed to make more certificates; keep it offline.
    pub const CA_KEY: &str = "ca.key";
    /// The nodes' certificate.
    pub const NODE_CERT: &str = "node.crt";
    /// Its key.
    pub const NODE_KEY: &str = "node.key";
    /// The clients' certificate.
    pub const CLIENT_CERT: &str = "client.crt";
    /// Its key.
    pub const CLIENT_KEY: &str = "client.key";
}

/// From when until when certificates hold.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// Not before this moment.
    pub from: OffsetDateTime,
    /// Not after this moment.
    pub until: OffsetDateTime,
}

impl Validity {
    /// From an hour ago (clocks differ) for `days` days.
    pub fn days(days: u32) -> Self {
        let now = OffsetDateTime::now_utc();
        Validity { from: now - Duration::hours(1), until: now + Duration::days(days.into()) }
    }
}

/// Why certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file is there already.
    #[error(
        "{0} exists already, and certificates are never overwritten: choose another directory, or move it away"
    )]
    Exists(PathBuf),
    /// A host name cannot stand in a certificate.
    #[error("{host:?} cannot stand in a certificate: {error}")]
    Host {
        /// The name.
        host: String,
        /// Why.
        error: rcgen::Error,
    },
    /// Keys or signatures could not be made.
    #[error("making a certificate failed: {0}")]
    Generate(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("{path} cannot be written: {error}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Makes an authority and the certificates of nodes and clients in `dir`. `hosts` are the names and IP addresses under which
/// nodes are reached; loopback is always among them. Returns the files written.
pub fn init(dir: &Path, hosts: &[String], validity: Validity) -> Result<Vec<PathBuf>, CertsError> {
    use file::*;
    for name in [CA_CERT, CA_KEY, NODE_CERT, NODE_KEY, CLIENT_CERT, CLIENT_KEY] {
        if dir.join(name).exists() {
            return Err(CertsError::Exists(dir.join(name)));
        }
    }
    let authority = authority(validity)?;
    let node = issue(&authority.issuer, node_params(hosts)?, validity)?;
    let client = issue(&authority.issuer, client_params()?, validity)?;

    create_private_dir(dir)?;
    let files = [
        (CA_CERT, authority.pem),
        (CA_KEY, authority.issuer.key().serialize_pem()),
        (NODE_CERT, node.0),
        (NODE_KEY, node.1),
        (CLIENT_CERT, client.0),
        (CLIENT_KEY, client.1),
    ];
    let mut written = Vec::new();
    for (name, text) in files {
        let path = dir.join(name);
        write_private(&path, &text).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CertsError::Exists(path.clone()),
            _ => CertsError::Write { path: path.clone(), error },
        })?;
        written.push(path);
    }
    Ok(written)
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn authority(validity: Validity) -> Result<Authority, CertsError> {
    let key = KeyPair::generate()?;
    // Authorities of different clusters should not look alike.
    let mark: String =
        key.public_key_raw().iter().rev().take(4).map(|b| format!("{b:02x}")).collect();
    let mut params = named(&format!("RaftKV cluster authority {mark}"), Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (validity.from, validity.until);
    let pem = params.self_signed(&key)?.pem();
    Ok(Authority { issuer: Issuer::new(params, key), pem })
}

/// Nodes are servers to everyone, and clients of each other.
fn node_params(hosts: &[String]) -> Result<CertificateParams, CertsError> {
    let mut names: Vec<String> =
        [NODE_NAME, "localhost", "127.0.0.1", "::1"].map(String::from).into();
    for host in hosts.iter().filter(|host| !host.is_empty()) {
        CertificateParams::new(vec![host.clone()])
            .map_err(|error| CertsError::Host { host: host.clone(), error })?;
        if !names.contains(host) {
            names.push(host.clone());
        }
    }
    let mut params = named("RaftKV node", names)?;
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn client_params() -> Result<CertificateParams, CertsError> {
    let mut params = named("RaftKV client", vec![CLIENT_NAME.into()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn named(common_name: &str, names: Vec<String>) -> Result<CertificateParams, CertsError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}

/// Certificate and key as PEM.
fn issue(
    issuer: &Issuer<'static, KeyPair>,
    mut params: CertificateParams,
    validity: Validity,
) -> Result<(String, String), CertsError> {
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (validity.from, validity.until);
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

fn create_private_dir(dir: &Path) -> Result<(), CertsError> {
    let failed = |error| CertsError::Write { path: dir.into(), error };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_private_and_never_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("certs");
        let written = init(&dir, &["db1.example".into()], Validity::days(1)).unwrap();
        assert_eq!(written.len(), 6);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        assert!(written.iter().all(|path| mode(path) == 0o600));

        let before = fs::read(dir.join(file::CA_KEY)).unwrap();
        let again = init(&dir, &[], Validity::days(1));
        assert!(matches!(again, Err(CertsError::Exists(_))), "{again:?}");
        assert_eq!(fs::read(dir.join(file::CA_KEY)).unwrap(), before);
    }

    #[test]
    fn hosts_that_are_no_names_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let result = init(temp.path(), &["zoë.example".into()], Validity::days(1));
        assert!(matches!(result, Err(CertsError::Host { .. })), "{result:?}");
    }
}
