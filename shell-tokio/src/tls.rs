//! Who may talk to whom: TLS 1.3 inside QUIC, with certificates on both sides.
//!
//! Rules:
//! - With a certificate directory, both sides must show a certificate of its authority, and a server's must carry
//!   the name of the host that was dialled and [`NODE_NAME`].
//! - Peers and clients speak different protocols (ALPN). Only a certificate with [`NODE_NAME`] may speak the peer protocol:
//!   [`is_node`] is asked once a connection is up.
//! - Without certificates everything stays on loopback: servers may only listen there, clients only dial there.
//! - No early data (it can be replayed) and no session tickets (a resumed session would outlive its certificate).

use crate::certs::{NODE_NAME, file};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, TransportErrorCode};
use raftkv_core::wire::{client, handshake};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ConfigBuilder, ConfigSide, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier, WantsVersions,
};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificates, but not on loopback either.
    #[error(
        "{0} is not a loopback address, and without certificates everything stays on loopback: \
         make certificates with `raftkv-cli cert init --out DIR --hosts HOST,...` and give --cert-dir DIR"
    )]
    NotLoopback(SocketAddr),
    /// A certificate or key file cannot be used.
    #[error("{path} cannot be used: {why}; check --cert-dir")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A key that others can read.
    #[error(
        "{path} can be read by others (mode {mode:04o}): chmod 600 it, or make new certificates if it leaked"
    )]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificates do not fit together.
    #[error("the certificates in {dir} do not work together: {why}")]
    Unfit {
        /// The directory.
        dir: PathBuf,
        /// Why.
        why: String,
    },
}

/// What a node shows and demands when it is called, for peers and clients alike.
pub fn server_config(certs: Option<&Path>) -> Result<quinn::ServerConfig, TlsError> {
    let builder = only_tls13(rustls::ServerConfig::builder_with_provider(provider()));
    let mut config = match certs {
        Some(dir) => {
            let Papers { chain, key, roots } = Papers::read(dir, NODE_PAPERS)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| unfit(dir, error))?;
            builder
                .with_client_cert_verifier(verifier)
                .with_single_cert(chain, key)
                .map_err(|error| unfit(dir, error))?
        }
        None => {
            let (certificate, key) = ephemeral();
            builder
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .expect("a fresh key fits its certificate")
        }
    };
    config.alpn_protocols = vec![handshake::PEER_ALPN.into(), client::ALPN.into()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    let crypto = QuicServerConfig::try_from(config).expect("TLS 1.3 has QUIC's initial cipher");
    Ok(quinn::ServerConfig::with_crypto(Arc::new(crypto)))
}

/// How a client calls a node: with `client.crt` of the directory, or without certificates on loopback.
/// The server name to connect with is the host as the user gave it (see [`server_name`]).
pub fn client_config(certs: Option<&Path>) -> Result<quinn::ClientConfig, TlsError> {
    caller_config(certs, CLIENT_PAPERS, client::ALPN)
}

/// How a node calls a node as its peer.
pub fn peer_config(certs: Option<&Path>) -> Result<quinn::ClientConfig, TlsError> {
    caller_config(certs, NODE_PAPERS, handshake::PEER_ALPN)
}

/// How a node calls a node as a client, to ask for membership.
pub fn joining_config(certs: Option<&Path>) -> Result<quinn::ClientConfig, TlsError> {
    caller_config(certs, NODE_PAPERS, client::ALPN)
}

/// The name to verify for an address `host:port`: its host, without the brackets of IPv6.
pub fn server_name(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether the other side of a connection may speak as a node. Always, where there are no certificates.
pub fn is_node(connection: &quinn::Connection, certs: Option<&Path>) -> bool {
    if certs.is_none() {
        return true;
    }
    let Some(identity) = connection.peer_identity() else { return false };
    let Ok(chain) = identity.downcast::<Vec<CertificateDer<'static>>>() else { return false };
    chain.first().is_some_and(|certificate| has_name(certificate, &node_name()).is_ok())
}

/// Refuses to serve or be reached beyond loopback without certificates.
pub fn check_address(certs: Option<&Path>, address: SocketAddr) -> Result<(), TlsError> {
    match certs {
        None if !address.ip().is_loopback() => Err(TlsError::NotLoopback(address)),
        _ => Ok(()),
    }
}

/// A connection error in words an operator can act on.
pub fn explain(error: &ConnectionError) -> String {
    let (code, ours) = match error {
        ConnectionError::TransportError(error) => (error.code, true),
        ConnectionError::ConnectionClosed(close) => (close.error_code, false),
        _ => return error.to_string(),
    };
    let hint = match (alert(code), ours) {
        (Some(UNKNOWN_CA | DECRYPT_ERROR), true) => {
            "the other side's certificate is not from our ca.crt: another cluster's, or none at all"
        }
        (Some(UNKNOWN_CA | DECRYPT_ERROR), false) => {
            "the other side does not know the authority of our certificate: use its ca.crt"
        }
        (Some(CERTIFICATE_EXPIRED), true) => {
            "the other side's certificate has expired or is not valid yet (check both clocks)"
        }
        (Some(CERTIFICATE_EXPIRED), false) => {
            "our certificate has expired or is not valid yet (check both clocks)"
        }
        (Some(CERTIFICATE_REQUIRED), true) => "the other side showed no certificate",
        (Some(CERTIFICATE_REQUIRED), false) => {
            "a certificate is required: give the certificate directory"
        }
        (Some(NO_APPLICATION_PROTOCOL), _) => "the other side speaks another protocol version",
        (Some(BAD_CERTIFICATE), true) => {
            "the other side's certificate does not name the host that was dialled, or is not a node's"
        }
        (Some(BAD_CERTIFICATE), false) => "the other side refused our certificate",
        _ => return error.to_string(),
    };
    format!("{hint} ({error})")
}

const BAD_CERTIFICATE: u8 = 42;
const CERTIFICATE_EXPIRED: u8 = 45;
const UNKNOWN_CA: u8 = 48;
/// A signature does not fit: an authority of the same name, but another key.
const DECRYPT_ERROR: u8 = 51;
const CERTIFICATE_REQUIRED: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// Whether the other side ended the call of its own will, rather than for a fault.
pub fn is_hang_up(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed => true,
        ConnectionError::ConnectionClosed(close) => {
            close.error_code == TransportErrorCode::APPLICATION_ERROR
        }
        _ => false,
    }
}

/// The TLS alert in a transport error code (RFC 9001, section 4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    let code = u64::from(code);
    (0x100..0x200).contains(&code).then_some(code as u8)
}

fn caller_config(
    certs: Option<&Path>,
    papers: (&str, &str),
    alpn: &[u8],
) -> Result<quinn::ClientConfig, TlsError> {
    let builder = only_tls13(rustls::ClientConfig::builder_with_provider(provider())).dangerous();
    let verifier = |accepted| Arc::new(ServerVerifier { accepted, provider: provider() });
    let mut config = match certs {
        Some(dir) => {
            let Papers { chain, key, roots } = Papers::read(dir, papers)?;
            let authority = WebPkiServerVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| unfit(dir, error))?;
            builder
                .with_custom_certificate_verifier(verifier(Accepted::Nodes(authority)))
                .with_client_auth_cert(chain, key)
                .map_err(|error| unfit(dir, error))?
        }
        None => builder
            .with_custom_certificate_verifier(verifier(Accepted::Loopback))
            .with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.into()];
    config.resumption = Resumption::disabled();
    let crypto = QuicClientConfig::try_from(config).expect("TLS 1.3 has QUIC's initial cipher");
    Ok(quinn::ClientConfig::new(Arc::new(crypto)))
}

/// Decides about the certificate of a server.
#[derive(Debug)]
struct ServerVerifier {
    accepted: Accepted,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Accepted {
    /// Certificates of the authority that name the host and are a node's.
    Nodes(Arc<WebPkiServerVerifier>),
    /// Any certificate, but only from this machine.
    Loopback,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.accepted {
            Accepted::Nodes(authority) => {
                authority.verify_server_cert(end_entity, intermediates, name, ocsp, now)?;
                has_name(end_entity, &node_name())?;
            }
            Accepted::Loopback => check_loopback(name)?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn check_loopback(name: &ServerName<'_>) -> Result<(), rustls::Error> {
    let loopback = match name {
        ServerName::IpAddress(ip) => std::net::IpAddr::from(*ip).is_loopback(),
        // Reserved for loopback by RFC 6761.
        ServerName::DnsName(name) => name.as_ref() == "localhost",
        _ => false,
    };
    if loopback {
        return Ok(());
    }
    let host = name.to_str();
    Err(rustls::Error::General(format!("{host} is not loopback: give a certificate directory")))
}

fn only_tls13<S: ConfigSide>(
    builder: ConfigBuilder<S, WantsVersions>,
) -> ConfigBuilder<S, WantsVerifier> {
    builder.with_protocol_versions(&[&rustls::version::TLS13]).expect("ring speaks TLS 1.3")
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn node_name() -> ServerName<'static> {
    ServerName::try_from(NODE_NAME).expect("a constant DNS name")
}

fn has_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), rustls::Error> {
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)
}

/// A certificate that lives as long as the process.
fn ephemeral() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])
        .expect("a self-signed certificate for a constant name");
    let key = made.signing_key.serialize_der();
    (made.cert.into(), PrivateKeyDer::Pkcs8(key.into()))
}

/// What one side shows, and whom it trusts.
struct Papers {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
}

/// Files of the certificate and its key.
const NODE_PAPERS: (&str, &str) = (file::NODE_CERT, file::NODE_KEY);
const CLIENT_PAPERS: (&str, &str) = (file::CLIENT_CERT, file::CLIENT_KEY);

impl Papers {
    fn read(dir: &Path, (cert, key): (&str, &str)) -> Result<Papers, TlsError> {
        let path = dir.join(key);
        let metadata = std::fs::metadata(&path).map_err(|error| unusable(&path, error))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TlsError::Exposed { path, mode });
        }
        let key = PrivateKeyDer::from_pem_file(&path).map_err(|error| unusable(&path, error))?;
        let mut roots = RootCertStore::empty();
        let authority = dir.join(file::CA_CERT);
        for certificate in read_chain(&authority)? {
            roots.add(certificate).map_err(|error| unusable(&authority, error))?;
        }
        Ok(Papers { chain: read_chain(&dir.join(cert))?, key, roots: Arc::new(roots) })
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path, error))?;
    match chain.is_empty() {
        true => Err(unusable(path, "it holds no certificate")),
        false => Ok(chain),
    }
}

fn unusable(path: &Path, why: impl ToString) -> TlsError {
    TlsError::File { path: path.into(), why: why.to_string() }
}

fn unfit(dir: &Path, why: impl ToString) -> TlsError {
    TlsError::Unfit { dir: dir.into(), why: why.to_string() }
}
