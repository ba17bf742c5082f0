//! What a node does with the data directory it finds: goes on, makes a cluster, joins one, or refuses.
//!
//! Invariant: a directory in which a node has lived never becomes a new member of the same name by itself. A node that forgot its
//! votes and its log may only come back through the other members, under the next incarnation.

use crate::config::Settings;
use crate::disk::{self, Directory, DirectoryError, Files};
use crate::join::{self, Applicant, JoinError};
use quinn::Endpoint;
use raftkv_core::api::{MemberInfo, MemberRole};
use raftkv_core::boot::{self, BootError, GenesisBase, Image};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::io::{DiskError, DiskOp};
use sha2::{Digest as _, Sha256};

/// Why a node does not start from its data directory.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot be opened.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It cannot be read, or not made sense of.
    #[error(transparent)]
    Boot(BootError),
    /// It is damaged.
    #[error("{0}; with --rejoin and --join the node does so by itself")]
    Damaged(BootError),
    /// It could not be set aside.
    #[error("the damaged files in {root} cannot be set aside: {error}")]
    SetAside {
        /// The data directory.
        root: String,
        /// Why.
        error: std::io::Error,
    },
    /// It belongs to another member.
    #[error(
        "{root} belongs to member {theirs}, but this node is told to be member {ours}: check --id and --data-dir"
    )]
    OtherMember {
        /// The data directory.
        root: String,
        /// Whose it is.
        theirs: u32,
        /// Who was to start.
        ours: u32,
    },
    /// It belongs to another cluster.
    #[error(
        "{root} belongs to cluster {theirs}, but --initial-cluster and --cluster-token name cluster {ours}: \
             check --data-dir, or leave them out, because a directory that holds a node needs neither"
    )]
    OtherCluster {
        /// The data directory.
        root: String,
        /// Whose it is.
        theirs: ClusterId,
        /// Which was meant.
        ours: ClusterId,
    },
    /// A node lived here, and its files were set aside.
    #[error(
        "{root} held a node whose files were set aside, and it did not finish joining again: start it with --join"
    )]
    HeldBefore {
        /// The data directory.
        root: String,
    },
    /// No cluster took it in.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// A checked image of the data directory, made first where there was nothing.
pub async fn prepare(
    settings: &Settings,
    directory: &Directory,
    endpoint: &Endpoint,
) -> Result<Box<Image>, StartError> {
    directory.forget_restore()?;
    match disk::boot(directory) {
        Ok(image) => {
            check_identity(settings, directory, &image.identity)?;
            Ok(image)
        }
        Err(BootError::Empty) => {
            make(settings, directory, endpoint).await?;
            disk::boot(directory).map_err(StartError::Boot)
        }
        Err(error @ BootError::Damaged { .. }) if settings.rejoin => {
            tracing::warn!("{error}");
            rejoin(settings, directory, endpoint).await?;
            disk::boot(directory).map_err(StartError::Boot)
        }
        Err(error @ BootError::Damaged { .. }) => Err(StartError::Damaged(error)),
        Err(error) => Err(StartError::Boot(error)),
    }
}

/// The id of a cluster that is made from a list of members: the same on each of them.
pub fn cluster_id(members: &[(u32, String)], token: &str) -> ClusterId {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    field(b"raftkv cluster");
    field(token.as_bytes());
    for (member, address) in members {
        field(&member.to_le_bytes());
        field(address.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    ClusterId(id)
}

fn check_identity(
    settings: &Settings,
    directory: &Directory,
    identity: &Identity,
) -> Result<(), StartError> {
    let root = || directory.root().display().to_string();
    let theirs = identity.node.member();
    if let Some(ours) = settings.id.filter(|ours| *ours != theirs) {
        return Err(StartError::OtherMember { root: root(), theirs, ours });
    }
    // A restored cluster has an id of its own, whatever list it was made from.
    if !settings.initial_cluster.is_empty() && identity.epoch == Epoch(0) {
        let ours = cluster_id(&settings.initial_cluster, &settings.cluster_token);
        if ours != identity.cluster {
            return Err(StartError::OtherCluster { root: root(), theirs: identity.cluster, ours });
        }
    }
    Ok(())
}

/// Fills an empty directory.
async fn make(
    settings: &Settings,
    directory: &Directory,
    endpoint: &Endpoint,
) -> Result<(), StartError> {
    if !settings.join.is_empty() {
        return join_through(settings, directory, endpoint, &settings.join).await;
    }
    if directory.has_set_aside().map_err(StartError::Disk)? {
        return Err(StartError::HeldBefore { root: directory.root().display().to_string() });
    }
    let (cluster, members) = match settings.initial_cluster.is_empty() {
        true => (random_cluster_id(), vec![(settings.member(), settings.advertise.clone())]),
        false => {
            let members = settings.initial_cluster.clone();
            (cluster_id(&members, &settings.cluster_token), members)
        }
    };
    let identity = Identity { cluster, epoch: Epoch(0), node: NodeId::new(settings.member(), 0) };
    let members = members
        .into_iter()
        .map(|(member, address)| MemberInfo {
            node: NodeId::new(member, 0),
            address,
            role: MemberRole::Voter,
        })
        .collect();
    carry_out(directory, boot::genesis(identity, members, GenesisBase::empty()))
}

/// Replaces what is damaged: first the grant, so that nothing is touched while no cluster answers.
async fn rejoin(
    settings: &Settings,
    directory: &Directory,
    endpoint: &Endpoint,
) -> Result<(), StartError> {
    let others = settings.initial_cluster.iter().map(|(_, address)| address.clone());
    let known: Vec<String> = settings.join.iter().cloned().chain(others).collect();
    let (identity, grant) = ask(settings, endpoint, &known).await?;
    let aside = directory.set_aside().map_err(|error| StartError::SetAside {
        root: directory.root().display().to_string(),
        error,
    })?;
    tracing::warn!("the damaged files are kept in {}", aside.display());
    carry_out(directory, boot::joining(identity, grant.members).into_iter())
}

async fn join_through(
    settings: &Settings,
    directory: &Directory,
    endpoint: &Endpoint,
    known: &[String],
) -> Result<(), StartError> {
    let (identity, grant) = ask(settings, endpoint, known).await?;
    carry_out(directory, boot::joining(identity, grant.members).into_iter())
}

async fn ask(
    settings: &Settings,
    endpoint: &Endpoint,
    known: &[String],
) -> Result<(Identity, raftkv_core::api::request::JoinGrant), StartError> {
    let applicant = Applicant {
        member: settings.member(),
        address: settings.advertise.clone(),
        learner: settings.learner,
    };
    let (identity, grant) =
        join::join(endpoint, settings.cert_dir.as_deref(), known, &applicant).await?;
    tracing::info!("cluster {} takes this node in as {}", identity.cluster, grant.node);
    Ok((identity, grant))
}

fn carry_out(directory: &Directory, ops: impl Iterator<Item = DiskOp>) -> Result<(), StartError> {
    let mut files = Files::new(directory);
    for op in ops {
        files.execute(&op)?;
    }
    Ok(())
}

fn random_cluster_id() -> ClusterId {
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the operating system gives randomness");
    ClusterId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_follow_from_list_and_token() {
        let list = |pairs: &[(u32, &str)]| -> Vec<(u32, String)> {
            pairs.iter().map(|(id, address)| (*id, address.to_string())).collect()
        };
        let base = cluster_id(&list(&[(1, "a:1"), (2, "b:1")]), "");
        assert_eq!(base, cluster_id(&list(&[(1, "a:1"), (2, "b:1")]), ""));
        assert_ne!(base, cluster_id(&list(&[(1, "a:1"), (2, "b:2")]), ""));
        assert_ne!(base, cluster_id(&list(&[(1, "a:1")]), ""));
        assert_ne!(base, cluster_id(&list(&[(1, "a:1"), (2, "b:1")]), "blue"));
    }
}
