//! Who is let in: certificates of other authorities, expired ones, none at all, and a client's on the peers' protocol.

mod server;

use raftkv_node::certs::{self, Validity};
use raftkv_node::client::{Client, Options};
use raftkv_node::net::close;
use raftkv_node::tls;
use server::{Server, call};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

fn make(root: &Path, name: &str, validity: Validity) -> PathBuf {
    let dir = root.join(name);
    certs::init(&dir, &[], validity).expect("certificates");
    dir
}

fn expired() -> Validity {
    let now = OffsetDateTime::now_utc();
    Validity { from: now - Duration::days(9), until: now - Duration::days(2) }
}

/// What the caller learns. A server judges the caller's certificate only after the caller thinks the handshake is done.
async fn refusal(connection: Result<quinn::Connection, quinn::ConnectionError>) -> String {
    match connection {
        Ok(connection) => tls::explain(&connection.closed().await),
        Err(error) => tls::explain(&error),
    }
}

#[tokio::test]
async fn the_right_certificates_open_both_protocols() {
    let temp = tempfile::tempdir().unwrap();
    let certs = make(temp.path(), "certs", Validity::days(1));
    let server = Server::start(Some(&certs));
    for config in [tls::client_config(Some(&certs)), tls::joining_config(Some(&certs))] {
        let connection = call(server.address, config.unwrap()).await.unwrap();
        server.assert_serves(&connection).await;
    }
    let peer = call(server.address, tls::peer_config(Some(&certs)).unwrap()).await.unwrap();
    server.assert_welcomes(&peer).await;
}

#[tokio::test]
async fn a_clients_certificate_may_not_speak_as_a_node() {
    let temp = tempfile::tempdir().unwrap();
    let certs = make(temp.path(), "certs", Validity::days(1));
    let server = Server::start(Some(&certs));
    // A thief of the client's certificate would put it in the node's place.
    let stolen = temp.path().join("stolen");
    std::fs::create_dir(&stolen).unwrap();
    for (from, to) in [("ca.crt", "ca.crt"), ("client.crt", "node.crt"), ("client.key", "node.key")]
    {
        std::fs::copy(certs.join(from), stolen.join(to)).unwrap();
    }
    let connection = call(server.address, tls::peer_config(Some(&stolen)).unwrap()).await.unwrap();
    match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(closed) => {
            assert_eq!(closed.error_code, close::NOT_A_NODE);
        }
        other => panic!("{other:?}"),
    }
    // Nor may it serve: who dials it finds that it is no node.
    let imposter = Server::start(Some(&stolen));
    let error = call(imposter.address, tls::client_config(Some(&certs)).unwrap()).await;
    assert!(error.is_err(), "{error:?}");
}

#[tokio::test]
async fn another_authority_is_told_apart_on_both_sides() {
    let temp = tempfile::tempdir().unwrap();
    let ours = make(temp.path(), "ours", Validity::days(1));
    let theirs = make(temp.path(), "theirs", Validity::days(1));
    let server = Server::start(Some(&ours));
    // The caller refuses the server.
    let error =
        refusal(call(server.address, tls::client_config(Some(&theirs)).unwrap()).await).await;
    assert!(error.contains("not from our ca.crt"), "{error}");
    // The server refuses the caller, which trusts it.
    std::fs::copy(ours.join("ca.crt"), theirs.join("ca.crt")).unwrap();
    let error =
        refusal(call(server.address, tls::client_config(Some(&theirs)).unwrap()).await).await;
    assert!(error.contains("does not know the authority of our certificate"), "{error}");
}

#[tokio::test]
async fn expired_certificates_are_named_as_such() {
    let temp = tempfile::tempdir().unwrap();
    let old = make(temp.path(), "old", expired());
    let server = Server::start(Some(&old));
    let error = refusal(call(server.address, tls::client_config(Some(&old)).unwrap()).await).await;
    assert!(error.contains("the other side's certificate has expired"), "{error}");
}

#[tokio::test]
async fn callers_without_certificates_are_told_to_bring_some() {
    let temp = tempfile::tempdir().unwrap();
    let certs = make(temp.path(), "certs", Validity::days(1));
    let server = Server::start(Some(&certs));
    let error = refusal(call(server.address, tls::client_config(None).unwrap()).await).await;
    assert!(error.contains("a certificate is required"), "{error}");
    // And a caller with certificates does not talk to a server without.
    let open = Server::start(None);
    let error = refusal(call(open.address, tls::client_config(Some(&certs)).unwrap()).await).await;
    assert!(error.contains("none at all"), "{error}");
}

#[tokio::test]
async fn the_client_says_what_the_node_wanted() {
    let temp = tempfile::tempdir().unwrap();
    let certs = make(temp.path(), "certs", Validity::days(1));
    let server = Server::start(Some(&certs));
    let options = Options {
        endpoints: vec![server.address.to_string()],
        timeout: std::time::Duration::from_secs(3),
        ..Options::default()
    };
    let ask = async { Client::connect(options).await?.members().await };
    let error = ask.await.unwrap_err().to_string();
    assert!(error.contains("a certificate is required"), "{error}");
}

#[tokio::test]
async fn without_certificates_everything_stays_on_loopback() {
    let everywhere = "0.0.0.0:7400".parse().unwrap();
    let error = tls::check_address(None, everywhere).unwrap_err().to_string();
    assert!(error.contains("cert init"), "{error}");
    let server = Server::start(None);
    let connection = call(server.address, tls::client_config(None).unwrap()).await.unwrap();
    server.assert_serves(&connection).await;
    // The name decides what the caller believes it talks to.
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = tls::client_config(None).unwrap();
    let far = endpoint.connect_with(config, server.address, "db1.example").unwrap().await;
    assert!(far.is_err(), "{far:?}");
}

#[test]
fn keys_that_others_can_read_are_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let temp = tempfile::tempdir().unwrap();
    let certs = make(temp.path(), "certs", Validity::days(1));
    let open = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(certs.join("node.key"), open).unwrap();
    let error = tls::server_config(Some(&certs)).unwrap_err().to_string();
    assert!(error.contains("node.key") && error.contains("0640"), "{error}");
}
