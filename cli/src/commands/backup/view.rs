//! Backups as data. Field names are those of `metadata.json`.

use crate::output::{Format, Report, table};
use raftkv_core::backup::Metadata;
use raftkv_core::backup::catalog::{Catalog, Entry, Proof, Standing};
use raftkv_core::backup::format::Suite;
use raftkv_core::backup::metadata::{CompressionType, Status, rfc3339};
use raftkv_core::ids::NodeId;
use serde::Serialize;

/// One backup.
#[derive(Debug, Serialize)]
pub struct BackupView {
    id: String,
    status: &'static str,
    error: String,
    timestamp: Option<String>,
    cluster_id: Option<String>,
    epoch: Option<u64>,
    node_id: Option<String>,
    raft_index: Option<u64>,
    raft_term: Option<u64>,
    revision: Option<u64>,
    state_hash: Option<String>,
    keys: Option<u64>,
    size: Option<u64>,
    compressed_size: Option<u64>,
    checksum: Option<String>,
    compressed: Option<bool>,
    compression_type: Option<CompressionType>,
    encrypted: Option<bool>,
    encryption_type: Option<&'static str>,
    key_ids: Vec<String>,
    /// Whether the metadata is known to be genuine; unknown without its key.
    authentic: Option<bool>,
    /// Why it is pinned, if it is.
    pinned: Option<String>,
    version: Option<String>,
    /// The stores in which it is complete, if the configuration names several.
    stores: Option<Vec<String>>,
}

/// All backups of a configuration's stores.
#[derive(Debug, Serialize)]
pub struct CatalogView {
    backups: Vec<BackupView>,
    strangers: Vec<String>,
}

/// A backup that is shown alone.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct OneBackup(pub BackupView);

impl BackupView {
    /// As the catalog sees it.
    pub fn of_entry(entry: &Entry) -> Self {
        let authentic = match &entry.standing {
            Standing::Complete(Proof::Authentic) => Some(true),
            Standing::Forged(_) => Some(false),
            _ => None,
        };
        let mut view = match &entry.metadata {
            Some(metadata) => BackupView::of_metadata(metadata),
            None => BackupView::unknown(entry.id.to_string()),
        };
        if !entry.standing.fault().is_empty() {
            view.error = entry.standing.fault().to_owned();
        }
        if let Some(run) = &entry.run {
            view.timestamp = Some(rfc3339(run.since));
            view.error = if run.released { run.note.clone() } else { String::new() };
        }
        view.compressed_size = view.compressed_size.or(entry.data_bytes);
        view.pinned = entry.pin.clone();
        if !entry.key_ids.is_empty() {
            view.key_ids = entry.key_ids.iter().map(ToString::to_string).collect();
        }
        BackupView { status: entry.standing.word(), authentic, ..view }
    }

    /// As its metadata says.
    pub fn of_metadata(metadata: &Metadata) -> Self {
        let status = match metadata.status {
            Status::InProgress => "in_progress",
            Status::Complete => "complete",
            Status::Failed => "failed",
        };
        BackupView {
            id: metadata.id.to_string(),
            status,
            error: metadata.error.clone(),
            timestamp: Some(rfc3339(metadata.timestamp)),
            cluster_id: Some(metadata.cluster.to_string()),
            epoch: Some(metadata.epoch.0),
            node_id: Some(NodeId::to_string(&metadata.node)),
            raft_index: Some(metadata.index),
            raft_term: Some(metadata.term),
            revision: Some(metadata.revision),
            state_hash: Some(metadata.state_hash.to_string()),
            keys: Some(metadata.keys),
            size: Some(metadata.size_bytes),
            compressed_size: Some(metadata.data_bytes),
            checksum: Some(metadata.checksum.to_string()),
            compressed: Some(metadata.compression != CompressionType::None),
            compression_type: Some(metadata.compression),
            encrypted: Some(metadata.suite != Suite::Plain),
            encryption_type: Some(metadata.suite.name()),
            key_ids: metadata.key_ids.iter().map(ToString::to_string).collect(),
            authentic: None,
            pinned: None,
            version: Some(metadata.version.clone()),
            stores: None,
        }
    }

    fn unknown(id: String) -> Self {
        BackupView {
            id,
            status: "",
            error: String::new(),
            timestamp: None,
            cluster_id: None,
            epoch: None,
            node_id: None,
            raft_index: None,
            raft_term: None,
            revision: None,
            state_hash: None,
            keys: None,
            size: None,
            compressed_size: None,
            checksum: None,
            compressed: None,
            compression_type: None,
            encrypted: None,
            encryption_type: None,
            key_ids: Vec::new(),
            authentic: None,
            pinned: None,
            version: None,
            stores: None,
        }
    }

    /// With the stores in which it is complete.
    pub fn in_stores(self, stores: Option<Vec<String>>) -> Self {
        BackupView { stores, ..self }
    }
}

impl CatalogView {
    /// As the stores show it; `stores` says of a backup in which it is complete.
    pub fn new(catalog: &Catalog, stores: impl Fn(&Entry) -> Option<Vec<String>>) -> Self {
        let view = |entry: &Entry| BackupView::of_entry(entry).in_stores(stores(entry));
        CatalogView {
            backups: catalog.entries.iter().map(view).collect(),
            strangers: catalog.strangers.clone(),
        }
    }
}

impl Report for CatalogView {
    fn table(&self) -> String {
        let has_several = self.backups.iter().any(|backup| backup.stores.is_some());
        let mut columns = vec![
            "ID", "TIME", "STATUS", "EPOCH", "INDEX", "REVISION", "KEYS", "SIZE", "STORED",
            "SEALED",
        ];
        columns.extend(has_several.then_some("STORES"));
        let mut rows = table::new(&columns);
        let number = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
        let size = |bytes: Option<u64>| bytes.map_or("-".into(), table::size);
        for backup in &self.backups {
            let mut row = vec![
                backup.id.clone(),
                backup.timestamp.clone().unwrap_or_else(|| "-".into()),
                backup.status.to_owned(),
                number(backup.epoch),
                number(backup.raft_index),
                number(backup.revision),
                number(backup.keys),
                size(backup.size),
                size(backup.compressed_size),
                backup.encryption_type.unwrap_or("-").to_owned(),
            ];
            row.extend(backup.stores.as_ref().map(|names| names.join(" ")));
            rows.add_row(row);
        }
        let mut text = table::text(&rows);
        for stranger in &self.strangers {
            text.push_str(&format!("\nnot a backup: {stranger}"));
        }
        text
    }
}

impl Report for OneBackup {
    fn table(&self) -> String {
        // One field a line, in the order of the JSON.
        Format::Yaml.render(self)
    }
}
