//! Changing keys where not everything in the stores is a complete backup: what needs the old key is changed, or named.

use super::backup::data_of;
use super::cluster::{Cli, arg};
use super::retention::Store;
use serde_json::{Value, json};
use std::fs;

/// A store whose backups are sealed for an old key, and a new key that is to take its place.
struct Rotation {
    store: Store,
    made: Vec<Value>,
    old: String,
    new: String,
}

impl Rotation {
    /// With so many backups, and a configuration that ends in `more`.
    fn new(backups: usize, more: &str) -> Rotation {
        let store = Store::new(more);
        let made = (0..backups).map(|_| store.create()).collect();
        let old = store.json(&["key", "list"])["keys"][0]["key_id"].as_str().unwrap().to_owned();
        let new_key = store.cluster.path("new-key");
        let generated = Cli::offline().json(&["backup", "key", "generate", arg(&new_key)]);
        let new = generated["key_id"].as_str().unwrap().to_owned();
        let rotation = Rotation { store, made, old, new };
        rotation.names(&format!("key_file: {}\n    old_keys: [{{file: OLD}}]", arg(&new_key)));
        rotation
    }

    /// Has the configuration name these keys, `OLD` being the file of the old one.
    fn names(&self, keys: &str) {
        let yaml = fs::read_to_string(&self.store.config).unwrap();
        let keys = keys.replace("OLD", arg(&self.store.config.with_file_name("key")));
        let is_other = |line: &&str| {
            let line = line.trim_start();
            !line.starts_with("old_keys:") && !line.starts_with("more_keys:")
        };
        let lines = yaml.lines().filter(is_other);
        let named: Vec<_> = lines
            .map(|line| match line.trim_start().starts_with("key_file:") {
                true => format!("    {keys}"),
                false => line.to_owned(),
            })
            .collect();
        fs::write(&self.store.config, named.join("\n") + "\n").unwrap();
    }

    fn metadata(&self, place: usize) -> std::path::PathBuf {
        data_of(&self.store.config, &self.made[place]).with_file_name("metadata.json")
    }

    /// Rotates; the exit code, what came of each backup, and what is said.
    fn rotate(&self) -> (Option<i32>, Vec<Value>, String) {
        let rotate = ["key", "rotate", "--old", &self.old, "--new", &self.new, "-o", "json"];
        let output = Cli::offline().run(&self.store.args(&rotate));
        let rotated: Value = serde_json::from_slice(&output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), rotated["backups"].as_array().unwrap().clone(), said)
    }
}

fn outcomes(rotated: &[Value]) -> Vec<&str> {
    let mut outcomes: Vec<_> =
        rotated.iter().map(|backup| backup["outcome"].as_str().unwrap()).collect();
    outcomes.sort_unstable();
    outcomes
}

#[test]
fn what_can_be_rebuilt_is_rotated_as_well() {
    let rotation = Rotation::new(3, "");
    let store = &rotation.store;
    fs::remove_file(rotation.metadata(0)).unwrap();
    let written = fs::read(rotation.metadata(1)).unwrap();
    fs::write(rotation.metadata(1), &written[1..]).unwrap();
    let (code, rotated, said) = rotation.rotate();
    assert_eq!((code, said.as_str()), (Some(0), ""), "{rotated:?}");
    assert_eq!(outcomes(&rotated), ["changed", "changed", "changed"]);
    let opened = |checked: &Value| -> Vec<bool> {
        let backups = checked["backups"].as_array().unwrap().iter();
        let by = backups.map(|backup| backup["opened_by"].as_array().unwrap().clone());
        by.map(|keys| keys.contains(&json!(rotation.new))).collect()
    };
    assert_eq!(opened(&store.json(&["key", "check"])), [true; 3]);

    // The old key is gone for good.
    rotation.names(&format!("key_file: {}", arg(&store.cluster.path("new-key"))));
    fs::remove_file(rotation.metadata(1)).unwrap();
    let rebuilt = store.json(&["catalog", "rebuild"]);
    assert_eq!(rebuilt["findings"][0]["outcome"], "rebuilt", "{rebuilt}");
    assert_eq!(rebuilt["findings"][1]["outcome"], "rebuilt", "{rebuilt}");
    store.json(&["verify", "--backup", "all", "--level", "restore"]);
    let checked = store.json(&["key", "check"]);
    let backups = checked["backups"].as_array().unwrap();
    assert!(backups.iter().all(|backup| backup["opened_by"] == json!([rotation.new])), "{checked}");
}

#[test]
fn what_was_not_rotated_is_named_and_fails() {
    let rotation = Rotation::new(3, "");
    // Put together from two backups.
    fs::copy(rotation.metadata(1), rotation.metadata(0)).unwrap();
    let (code, rotated, said) = rotation.rotate();
    assert_eq!(code, Some(5), "{said}");
    assert_eq!(outcomes(&rotated), ["changed", "changed", "skipped"]);
    let skipped = rotated.iter().find(|backup| backup["outcome"] == "skipped").unwrap();
    assert_eq!(skipped["id"], rotation.made[0]["id"]);
    assert!(skipped["error"].as_str().unwrap().contains("skipped: forged"), "{skipped}");
    assert!(said.contains("was skipped: forged") && said.contains("keep the old key"), "{said}");

    // Without a front there is nothing to rotate, but perhaps a backup.
    fs::remove_dir_all(rotation.metadata(0).parent().unwrap()).unwrap();
    let data = data_of(&rotation.store.config, &rotation.made[2]);
    let written = fs::read(&data).unwrap();
    fs::write(&data, &written[1..]).unwrap();
    let (code, rotated, said) = rotation.rotate();
    assert_eq!((code, outcomes(&rotated)), (Some(5), vec!["already", "failed"]), "{said}");
    let untried = rotation.store.fails(5, &["key", "check"]);
    assert!(untried.contains(rotation.made[2]["id"].as_str().unwrap()), "{untried}");
}

#[test]
fn a_store_that_is_not_there_is_not_one_without_backups() {
    let dir = tempfile::tempdir().unwrap();
    let second = dir.path().join("second");
    let copies = format!(
        "copies: [{{name: second, provider: {{type: local, local_path: {}}}}}]\n",
        arg(&second)
    );
    let rotation = Rotation::new(1, &copies);
    // Not mounted, say.
    fs::rename(&second, dir.path().join("gone")).unwrap();
    let (code, rotated, said) = rotation.rotate();
    assert_eq!((code, outcomes(&rotated)), (Some(6), vec!["changed"]), "{said}");
    assert!(said.contains("store second") && said.contains("keep the old key"), "{said}");
    assert!(rotation.store.fails(6, &["key", "check"]).contains("store second"));
    fs::rename(dir.path().join("gone"), &second).unwrap();
    let (code, rotated, said) = rotation.rotate();
    assert_eq!((code, outcomes(&rotated)), (Some(0), vec!["already", "changed"]), "{said}");
    rotation.store.json(&["key", "check"]);
}

#[test]
fn ids_that_would_cost_a_key_in_use_are_refused() {
    let rotation = Rotation::new(1, "");
    let (store, old, new) = (&rotation.store, rotation.old.as_str(), rotation.new.as_str());
    let swapped = store.fails(2, &["key", "rotate", "--old", new, "--new", old]);
    assert!(swapped.contains(new) && swapped.contains("old_keys"), "{swapped}");

    // New backups would go on being sealed for the key that is about to be destroyed.
    let new_key = store.cluster.path("new-key");
    for keys in [
        format!("key_file: OLD\n    old_keys: [{{file: {}}}]", arg(&new_key)),
        format!("key_file: {}\n    more_keys: [{{file: OLD}}]", arg(&new_key)),
        format!("key_file: OLD\n    more_keys: [{{file: {}}}]", arg(&new_key)),
    ] {
        rotation.names(&keys);
        let said = store.fails(2, &["key", "rotate", "--old", old, "--new", new]);
        assert!(said.contains(old) && said.contains("old_keys"), "{said}");
    }
    let checked = store.json(&["key", "check"]);
    assert_eq!(checked["backups"][0]["key_ids"], json!([old]), "nothing was changed");
}

#[test]
fn an_id_that_nobody_knows_is_not_one_that_was_rotated() {
    let mut rotation = Rotation::new(1, "");
    let known = std::mem::replace(&mut rotation.old, "ab".repeat(16));
    let (code, rotated, said) = rotation.rotate();
    assert_eq!((code, outcomes(&rotated)), (Some(12), vec!["not sealed for the old key"]));
    assert!(said.contains(&rotation.old) && said.contains("key list"), "{said}");
    // Made since the new key is in the file.
    rotation.store.create();
    let (code, rotated, said) = rotation.rotate();
    assert_eq!(outcomes(&rotated), ["already", "not sealed for the old key"], "{said}");
    assert_eq!(code, Some(12), "{said}");

    rotation.old = known;
    let (code, rotated, said) = rotation.rotate();
    assert_eq!((code, outcomes(&rotated)), (Some(0), vec!["already", "changed"]), "{said}");
    // Repeated, with the old key, and when that is gone for good.
    let new_key = rotation.store.cluster.path("new-key");
    let both = format!("key_file: {}\n    old_keys: [{{file: OLD}}]", arg(&new_key));
    for keys in [both, format!("key_file: {}", arg(&new_key))] {
        rotation.names(&keys);
        let (code, rotated, said) = rotation.rotate();
        assert_eq!((code, outcomes(&rotated)), (Some(0), vec!["already"; 2]), "{said}");
    }
}
