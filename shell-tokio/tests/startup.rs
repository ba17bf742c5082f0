//! How a node starts and ends: what it does with the directory it finds, and the codes it exits with.

mod process;

use process::{Cluster, Node, command, free_addresses, get, put};
use raftkv_node::certs::Validity;
use std::fs;

/// Exit code, standard output, last line of standard error.
fn run(args: &[String]) -> (i32, String, String) {
    let output = command(args).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let last = text(&output.stderr).lines().last().unwrap_or_default().to_owned();
    (output.status.code().expect("not killed"), text(&output.stdout), last)
}

fn args(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| arg.to_string()).collect()
}

#[tokio::test]
async fn a_single_node_serves_stops_and_remembers() {
    let mut cluster = Cluster::new(1, &[]);
    let flags = cluster.base_flags(1);
    cluster.start_with(1, &flags);
    let client = cluster.client().await;
    put(&client, "hello", "world").await.unwrap();
    assert_eq!(get(&client, "hello").await.as_deref(), Some("world"));
    let status = cluster.take(1).terminate();
    assert_eq!(status.code(), Some(0), "{}", cluster.log(1));
    cluster.start_with(1, &flags);
    assert_eq!(get(&cluster.client().await, "hello").await.as_deref(), Some("world"));
}

#[tokio::test]
async fn a_node_whose_log_nobody_reads_serves_and_ends_as_any_other() {
    let cluster = Cluster::new(1, &[]);
    let flags = cluster.flags(1, &[]);
    let node = Node::unheard(&flags);
    put(&cluster.client().await, "a", "b").await.unwrap();
    assert_eq!(Node::unheard(&flags).wait().await.code(), Some(3), "the directory is in use");
    let misspelt = args(&["--log-level", "raftkv=lod"]);
    assert_eq!(Node::unheard(&misspelt).wait().await.code(), Some(2));
    assert_eq!(node.terminate().code(), Some(0));
}

#[tokio::test]
async fn directories_of_others_are_refused() {
    let mut cluster = Cluster::start(1, &[]);
    put(&cluster.client().await, "a", "b").await.unwrap();
    let flags = cluster.flags(1, &[]);
    let (code, _, last) = run(&flags);
    assert!(code == 3 && last.contains("in use by process"), "{code} {last}");
    cluster.take(1).kill();

    let data_dir = cluster.data_dir(1).display().to_string();
    let (code, _, last) = run(&args(&["--id", "2", "--data-dir", &data_dir]));
    assert!(code == 3 && last.contains("belongs to member 1"), "{code} {last}");
    let (code, _, last) = run(&cluster.flags(1, &["--cluster-token", "another"]));
    assert!(code == 3 && last.contains("belongs to cluster"), "{code} {last}");

    let foreign = cluster.temp.path().join("home");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    let (code, _, last) = run(&args(&["--data-dir", &foreign.display().to_string()]));
    assert!(code == 3 && last.contains("letter.txt"), "{code} {last}");
}

#[test]
fn an_address_that_cannot_be_listened_on_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let data_dir = temp.path().join("d").display().to_string();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (code, _, last) = run(&args(&["--data-dir", &data_dir, "--listen", &address]));
    assert!(code == 4 && last.contains(&address), "{code} {last}");
    assert!(last.contains("in use") && last.contains("another --listen"), "{last}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = taken.local_addr().unwrap().to_string();
    let free = free_addresses(1).remove(0);
    let more = ["--listen", &free, "--metrics-listen", &metrics];
    let (code, _, last) = run(&args(&[&["--data-dir", &data_dir], &more[..]].concat()));
    assert!(code == 4 && last.contains(&metrics), "{code} {last}");
    assert!(last.contains("another --metrics-listen"), "{last}");

    let certs = temp.path().join("certs");
    raftkv_node::certs::init(&certs, &[], Validity::days(1)).unwrap();
    let certs = certs.display().to_string();
    // An address for documentation (RFC 5737): no machine has it.
    let more = ["--listen", "192.0.2.1:7400", "--cert-dir", &certs];
    let (code, _, last) = run(&args(&[&["--data-dir", &data_dir], &more[..]].concat()));
    assert!(code == 4 && last.contains("no interface"), "{code} {last}");
    let (code, _, last) = run(&args(&["--data-dir", &data_dir, "--listen", "db1.example:7400"]));
    assert!(code == 2 && last.contains("`listen` (--listen)"), "{code} {last}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    fs::write(&file, "").unwrap();
    for place in [file.clone(), file.join("d")] {
        let place = place.display().to_string();
        let (code, _, last) = run(&args(&["--data-dir", &place]));
        assert!(code == 3 && last.contains(&place), "{code} {last}");
        assert!(last.contains("another --data-dir"), "{last}");
    }
}

#[test]
fn missing_certificates_are_named_and_no_node_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let data_dir = temp.path().join("d").display().to_string();
    let certs = temp.path().join("certs").display().to_string();
    let (code, _, last) = run(&args(&["--data-dir", &data_dir, "--cert-dir", &certs]));
    assert!(code == 2 && last.contains(&certs) && last.contains("--cert-dir"), "{code} {last}");
    assert!(!temp.path().join("d/identity").exists());
}

#[test]
fn configuration_is_checked_before_anything_is_touched() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("raftkv.yaml");
    let data_dir = temp.path().join("d");
    let config = file.display().to_string();
    fs::write(&file, format!("data_dir: {}\nid: 3\nelection_tmeout: 1s\n", data_dir.display()))
        .unwrap();
    let (code, _, last) = run(&args(&["--config", &config]));
    assert!(code == 2 && last.contains("line 3") && last.contains("election_timeout"), "{last}");

    fs::write(&file, format!("data_dir: {}\nid: 3\n", data_dir.display())).unwrap();
    let (code, out, _) = run(&args(&["--config", &config, "--tick", "50ms", "--check-config"]));
    assert_eq!(code, 0);
    assert!(out.contains("id: 3  #") && out.contains("tick: 50ms  # --tick"), "{out}");
    let (code, _, last) = run(&args(&["--listen", "0.0.0.0:7400", "--advertise", "db1:7400"]));
    assert!(code == 2 && last.contains("cert init"), "{code} {last}");
    let (code, _, last) = run(&args(&["--log-level", "loud=very", "--check-config"]));
    assert!(code == 2 && last.contains("`log_level` (--log-level)"), "{code} {last}");
    let (code, ..) = run(&args(&["--no-such-flag"]));
    assert_eq!(code, 2);
    let output = command(&args(&["--check-config"])).env("RAFTKV_TICK", "fast").output().unwrap();
    let last = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && last.contains("`tick` (RAFTKV_TICK)"), "{last}");
    assert!(!data_dir.exists());
}

#[test]
fn joining_nobody_fails_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let data_dir = temp.path().join("d");
    let addresses = free_addresses(1);
    // Its own address is no member to ask, so there is nobody, and no patience is spent on waiting for an answer.
    let flags = ["--id", "4", "--data-dir", &data_dir.display().to_string()]
        .map(String::from)
        .into_iter()
        .chain(["--listen".into(), addresses[0].clone(), "--join".into(), addresses[0].clone()])
        .collect::<Vec<_>>();
    let (code, _, last) = run(&flags);
    assert!(code == 2 && last.contains("itself"), "{code} {last}");
}
