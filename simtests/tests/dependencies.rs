//! The one direction of dependencies: `cli -> shell-tokio -> core`, `simtests -> shell-sim -> core`. The simulation may run
//! shell-tokio's driver too, but without its default features, which hold the real network and object stores.
//!
//! The core's own closure holds no runtime, no sockets and no clock, on any platform and through any number of crates.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may name whom in its manifest, whatever the kind of the dependency.
const ALLOWED: &[(&str, &[&str])] = &[
    ("raftkv-core", &[]),
    ("raftkv-node", &["raftkv-core"]),
    ("raftkv-sim", &["raftkv-core", "raftkv-node"]),
    ("raftkv-cli", &["raftkv-core", "raftkv-node"]),
    ("simtests", &["raftkv-core", "raftkv-sim", "raftkv-node"]),
];

/// Crates that may name raftkv-node only for its driver, without quinn and opendal.
const SIMULATED: &[&str] = &["raftkv-sim", "simtests"];

/// Runtimes, sockets and clocks.
const IMPURE: &[&str] = &[
    "async-io",
    "async-std",
    "chrono",
    "coarsetime",
    "instant",
    "madsim",
    "mio",
    "minstant",
    "opendal",
    "polling",
    "quanta",
    "quinn",
    "reqwest",
    "smol",
    "socket2",
    "time",
    "tokio",
    "wasm-timer",
    "web-time",
];

/// What would reach past the simulated network and object store.
const REAL_WORLD: &[&str] = &["opendal", "quinn", "reqwest", "rustls"];

/// One workspace crate names another.
#[derive(Debug, Clone)]
struct Edge {
    from: String,
    to: String,
    default_features: bool,
}

#[test]
fn workspace_edges_point_one_way() {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata is JSON");
    let edges = edges(&metadata);
    assert!(
        edges.iter().any(|edge| edge.from == "raftkv-node" && edge.to == "raftkv-core"),
        "no edge from raftkv-node to raftkv-core was read: {edges:?}"
    );
    assert_eq!(wrong_edges(&edges), Vec::<String>::new());
}

#[test]
fn the_core_reaches_no_runtime_socket_or_clock() {
    let closure = closure("raftkv-core", &["--target", "all"]);
    assert!(closure.contains("raft"), "the closure was not read: {closure:?}");
    assert_eq!(among(&closure, IMPURE), Vec::<&str>::new(), "in the core's closure");
}

#[test]
fn the_simulation_reaches_no_real_network_or_store() {
    let closure = closure("raftkv-sim", &[]);
    assert!(closure.contains("raftkv-core"), "the closure was not read: {closure:?}");
    assert_eq!(among(&closure, REAL_WORLD), Vec::<&str>::new(), "in the simulation's closure");
}

#[test]
fn every_wrong_edge_is_told() {
    let edge = |from: &str, to: &str, default_features| Edge {
        from: from.into(),
        to: to.into(),
        default_features,
    };
    let wrong = [
        edge("raftkv-core", "raftkv-node", true),
        edge("raftkv-node", "raftkv-sim", true),
        edge("raftkv-cli", "simtests", false),
        edge("raftkv-sim", "raftkv-node", true),
        edge("newcomer", "raftkv-core", true),
    ];
    assert_eq!(wrong_edges(&wrong).len(), wrong.len());
    let right = [
        edge("raftkv-cli", "raftkv-node", true),
        edge("raftkv-node", "raftkv-core", true),
        edge("raftkv-sim", "raftkv-node", false),
    ];
    assert_eq!(wrong_edges(&right), Vec::<String>::new());
    let closure = ["bytes", "tokio", "raft"].map(String::from).into();
    assert_eq!(among(&closure, IMPURE), ["tokio"]);
}

fn wrong_edges(edges: &[Edge]) -> Vec<String> {
    let complaint = |edge: &Edge| {
        let allowed = ALLOWED.iter().find(|(from, _)| *from == edge.from).map(|(_, to)| *to);
        let Some(allowed) = allowed else {
            return Some(format!("{} has no place in the order of crates", edge.from));
        };
        if !allowed.contains(&edge.to.as_str()) {
            return Some(format!("{} must not depend on {}", edge.from, edge.to));
        }
        let whole_node = edge.to == "raftkv-node" && edge.default_features;
        (whole_node && SIMULATED.contains(&edge.from.as_str())).then(|| {
            format!("{} may use {} only with default-features = false", edge.from, edge.to)
        })
    };
    edges.iter().filter_map(complaint).collect()
}

fn edges(metadata: &Value) -> Vec<Edge> {
    let packages = metadata["packages"].as_array().expect("packages");
    let members: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut edges = Vec::new();
    for package in packages {
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = dependency["name"].as_str().expect("name");
            if members.contains(to) {
                edges.push(Edge {
                    from: package["name"].as_str().expect("name").into(),
                    to: to.into(),
                    default_features: dependency["uses_default_features"] == true,
                });
            }
        }
    }
    edges
}

/// The names of all crates that end up in `package`, build scripts and tests apart.
fn closure(package: &str, options: &[&str]) -> BTreeSet<String> {
    let tree = [
        "tree",
        "-p",
        package,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--locked",
        "--color=never",
    ];
    let tree = cargo(&[&tree, options].concat());
    tree.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect()
}

fn among<'a>(closure: &BTreeSet<String>, names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().filter(|name| closure.contains(*name)).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(workspace_root())
        .output()
        .expect("cargo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace root").to_path_buf()
}
