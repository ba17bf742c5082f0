//! Backups in S3: real nodes put them there, all nodes are lost, and a new cluster comes from them.

use super::backup::fill;
use super::cluster::{Cli, Cluster, arg};
use super::s3_server::{ACCESS, SECRET, serve};
use serde_json::json;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::runtime::Runtime;

/// A server, and the backup configuration that names it.
pub struct S3 {
    /// Serves for as long as this lives.
    _runtime: Runtime,
    pub config: PathBuf,
    pub address: SocketAddr,
}

/// What a configuration says of the bucket that is reached at this address.
pub fn provider(address: SocketAddr) -> String {
    format!(
        "{{type: s3, s3_bucket: bucket, s3_region: eu-central-1, s3_endpoint: 'http://{address}', \
         s3_access_key: {ACCESS}, s3_secret_key: {SECRET}}}"
    )
}

impl S3 {
    /// Keeps its objects, a key and the configuration in this directory.
    pub fn start(dir: &Path) -> S3 {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let objects = dir.join("objects");
        fs::create_dir_all(&objects).unwrap();
        let address = runtime.block_on(serve(&objects));
        let (key, config) = (dir.join("backup.key"), dir.join("backup.yaml"));
        Cli::offline().ok(&["backup", "key", "generate", arg(&key)]);
        let yaml = format!(
            "provider: {}\nbackup:\n  encryption:\n    enabled: true\n    type: aes-256-gcm\n    key_file: {}\n",
            provider(address),
            key.display()
        );
        fs::write(&config, yaml).unwrap();
        S3 { _runtime: runtime, config, address }
    }

    /// From now on the configuration names this address in the server's place.
    pub fn reach(&self, address: SocketAddr) {
        let yaml = fs::read_to_string(&self.config).unwrap();
        let reached = yaml.replace(&self.address.to_string(), &address.to_string());
        fs::write(&self.config, reached).unwrap();
    }

    /// The directory in which its objects are.
    pub fn bucket(&self) -> PathBuf {
        self.config.with_file_name("objects").join("bucket")
    }
}

#[test]
fn all_nodes_are_lost_and_a_new_cluster_comes_from_s3() {
    let mut old = Cluster::prepare(3);
    let s3 = S3::start(&old.path("s3"));
    let config = arg(&s3.config);
    (0..3).for_each(|place| old.launch_with(place, &["--backup-config", config]));
    fill(&old, 2000);
    let made = old.cli().json(&["backup", "create", "--in-cluster"]);
    assert_eq!(made["outcome"], "complete", "{made}");
    let exported = old.path("before.ndjson");
    old.cli().ok(&["export", arg(&exported)]);
    let revision = old.cli().json(&["get", "k/00000"])["revision"].as_u64();
    (0..3).for_each(|place| {
        old.kill(place);
        assert!(!old.log(place).contains(SECRET));
        fs::remove_dir_all(old.data_dir(place)).unwrap();
    });

    // Other names, other addresses: nothing but the store is left of the old cluster.
    let mut new = Cluster::prepare(3);
    let lost = Instant::now();
    let (db, members) = (new.data_dir(0), new.initial_cluster());
    let restore = ["cluster", "restore", "--config", config, "--backup", "latest", "--db"];
    let restored =
        Cli::offline().json(&[&restore[..], &[arg(&db), "--initial-cluster", &members]].concat());
    assert_eq!((&restored["backup"], &restored["keys"]), (&made["id"], &json!(2000)));
    new.launch(0);
    let first = new.cli().json(&["get", "k/00000"])["kvs"][0]["value"].clone();
    // For whoever runs it with --nocapture; how long that may take depends on the machine.
    println!("recovery time, to the first linearizable read: {:.2?}", lost.elapsed());
    assert_eq!(first, "plain secret 0");
    (1..3).for_each(|place| new.launch_joining(place, 0));
    new.wait_until("three voters", |new| {
        let members = new.cli().json(&["member", "list"]);
        members["members"].as_array().unwrap().iter().filter(|it| it["role"] == "voter").count()
            == 3
    });
    // What the others hold is all there is now.
    new.kill(0);
    let again = new.path("after.ndjson");
    new.cli().ok(&["export", arg(&again)]);
    assert_eq!(fs::read(&exported).unwrap(), fs::read(&again).unwrap());
    assert!(new.cli().json(&["put", "k/new", "x"])["revision"].as_u64() > revision);
}

/// Is the server of `scripts/with-s3.sh`, until its input ends: in a test, because the servers that tests need are no part of what ships.
#[test]
#[ignore = "scripts/with-s3.sh starts it"]
fn server() {
    let Some(dir) = std::env::var_os("RAFTKV_TEST_S3") else { return };
    let _server = S3::start(Path::new(&dir));
    fs::write(Path::new(&dir).join("ready"), "").unwrap();
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
}
