//! Metrics of a real node, as Prometheus asks for them, and what else may come to their port.

use super::backup::encrypted;
use super::cluster::{Cluster, arg};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

/// One node that makes backups and shows metrics, and where.
fn start() -> (Cluster, String) {
    let mut cluster = Cluster::prepare(1);
    let config = encrypted(&cluster.path("backup"));
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let flags = ["--backup-config", arg(&config), "--metrics-listen", &address];
    cluster.launch_with(0, &flags);
    cluster.leader();
    (cluster, address)
}

/// What comes back for these bytes.
fn exchange(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // One that is refused early may be closed while it is still being sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn metrics(address: &str) -> String {
    let answer = exchange(address, b"GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    text.to_owned()
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|other| other == line)
}

#[test]
fn a_node_shows_how_it_and_its_backups_are() {
    let (cluster, address) = start();
    cluster.cli().ok(&["put", "secret-name", "secret-word"]);
    let before = metrics(&address);
    for line in ["raftkv_revision 1", "raftkv_keys 1", "raftkv_is_leader 1", "raftkv_backup_able 1"]
    {
        assert!(has(&before, line), "{line}: {before}");
    }
    assert!(!before.contains("raftkv_backup_lag_seconds"), "{before}");

    let made = cluster.cli().json(&["backup", "create", "--in-cluster"]);
    let after = metrics(&address);
    for line in [
        "raftkv_backup_running 0".to_owned(),
        "raftkv_backup_last_outcome{outcome=\"complete\"} 1".into(),
        "raftkv_backup_runs_total{outcome=\"complete\"} 1".into(),
        "raftkv_backup_runs_total{outcome=\"failed\"} 0".into(),
        format!("raftkv_backup_complete_revision {}", made["revision"]),
        format!("raftkv_backup_complete_bytes {}", made["data_bytes"]),
    ] {
        assert!(has(&after, &line), "{line}: {after}");
    }
    for known in ["lag_seconds", "last_duration_seconds"] {
        assert!(after.contains(&format!("\nraftkv_backup_{known} ")), "{after}");
    }
    let key = fs::read_to_string(cluster.path("backup").join("key")).unwrap();
    let store = cluster.path("backup").display().to_string();
    for hidden in ["secret", key.trim(), &store] {
        assert!(!after.contains(hidden), "{hidden} is shown: {after}");
    }
}

#[test]
fn whatever_else_is_asked_is_refused_and_harms_nothing() {
    let (_cluster, address) = start();
    let says_nothing = TcpStream::connect(&address).unwrap();
    let long = [b"GET /metrics HTTP/1.1\r\nx: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\nhost: node\r\n\r\n"[..], "404"),
        (b"POST /metrics HTTP/1.1\r\nhost: node\r\ncontent-length: 1\r\n\r\nx", "405"),
        (b"\0\xff nonsense\r\n\r\n", "400"),
        (&long, "431"),
    ] {
        let answer = exchange(&address, request);
        // What was not read when the connection ends may make the system throw the answer away.
        let is_refused = answer.split(' ').nth(1) == Some(status);
        assert!(is_refused || answer.is_empty() && status == "431", "{status}: {answer}");
        assert!(has(&metrics(&address), "raftkv_is_leader 1"));
    }
    drop(says_nothing);
}
