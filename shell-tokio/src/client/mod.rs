//! The client: finds the leader, follows it, and retries what is safe to retry.
//!
//! One QUIC connection per node, one stream on it, any number of requests on the stream at once. Reads are retried until the
//! deadline. Writes go through a session, so that a write whose answer was lost is sent again under its old number and applies
//! once (Raft thesis §6.3). Membership changes have no session: they are retried only while they certainly did nothing.
//!
//! Invariant: an error other than [`ClientError::OutcomeUnknown`] means that the request was not applied, and never will be.

mod error;
mod link;
mod lock;
mod nodes;
mod options;
mod routing;
mod session;
#[cfg(test)]
mod tests;
mod view;
mod watch;

pub use error::ClientError;
pub use options::Options;
pub use view::View;
pub use watch::{Watch, WatchBatch};

use nodes::Nodes;
use raftkv_core::api::{
    BackupStatus, Consistency, LeaseInfo, MemberInfo, NodeStatus, PutRequest, RangeRequest,
    RangeResponse, Request, Response, SnapshotInfo, WatchRequest, WriteOp, WriteResult,
};
use routing::{Retry, Target};
use session::Sessions;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How long a connection may take to come up before the next endpoint is tried beside it.
const SILENCE: Duration = Duration::from_millis(200);

/// A handle on a cluster. Clones share connections and session.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    nodes: Nodes,
    sessions: Sessions,
}

impl Client {
    /// Reaches any node of the cluster and learns from it where the others and the leader are.
    pub async fn connect(options: Options) -> Result<Client, ClientError> {
        let nodes = Nodes::new(&options)?;
        let shared = Shared { options, nodes, sessions: Sessions::default() };
        let client = Client { shared: Arc::new(shared) };
        client.reach_any().await;
        client.learn_members().await?;
        Ok(client)
    }

    /// Reads keys.
    pub async fn range(&self, range: RangeRequest) -> Result<RangeResponse, ClientError> {
        // The leader answers without a round trip to another node; a stale read is about not needing one.
        let target = match range.consistency {
            Consistency::Linearizable => Target::Leader,
            Consistency::Stale => Target::Any,
        };
        match self.ask(target, Request::Range(range), Retry::Always).await? {
            Response::Range(range) => Ok(range),
            other => Err(ClientError::unexpected("range", &other)),
        }
    }

    /// Changes the state, exactly once however often it must be sent.
    pub async fn write(&self, op: WriteOp) -> Result<WriteResult, ClientError> {
        session::write(self, op, self.deadline()).await
    }

    /// Writes one key.
    pub async fn put(&self, put: PutRequest) -> Result<WriteResult, ClientError> {
        self.write(WriteOp::Put(put)).await
    }

    /// Follows changes; goes on by itself when a node is lost.
    pub async fn watch(&self, watch: WatchRequest) -> Result<Watch, ClientError> {
        Watch::start(self.clone(), watch).await
    }

    /// The leases.
    pub async fn leases(&self) -> Result<Vec<LeaseInfo>, ClientError> {
        match self.ask(Target::Leader, Request::LeaseList, Retry::Always).await? {
            Response::Leases(leases) => Ok(leases),
            other => Err(ClientError::unexpected("lease list", &other)),
        }
    }

    /// The members of the cluster, as the leader knows them.
    pub async fn members(&self) -> Result<Vec<MemberInfo>, ClientError> {
        match self.ask(Target::Leader, Request::MemberList, Retry::Always).await? {
            Response::Members(members) => Ok(members),
            other => Err(ClientError::unexpected("member list", &other)),
        }
    }

    /// A change of membership or leadership. Not sent again once it may have had an effect.
    pub async fn administer(&self, request: Request) -> Result<(), ClientError> {
        match self.ask(Target::Leader, request, Retry::UnlessSent).await? {
            Response::Done => Ok(()),
            other => Err(ClientError::unexpected("administration", &other)),
        }
    }

    /// The state of every node, by address, that was named or is a member. Asks all at once.
    pub async fn statuses(&self) -> Vec<(String, Result<NodeStatus, ClientError>)> {
        let mut asked = JoinSet::new();
        for address in self.shared.nodes.addresses() {
            let client = self.clone();
            asked.spawn(async move {
                let status = client.status_of(&address).await;
                (address, status)
            });
        }
        let mut statuses = asked.join_all().await;
        statuses.sort_by(|(a, _), (b, _)| a.cmp(b));
        statuses
    }

    /// The state of the node at one address.
    pub async fn status_of(&self, address: &str) -> Result<NodeStatus, ClientError> {
        match self.ask_at(address, Request::Status).await? {
            Response::Status(status) => Ok(*status),
            other => Err(ClientError::unexpected("status", &other)),
        }
    }

    /// Makes the node at `address` write a snapshot, and waits until it is durable.
    pub async fn snapshot_save(&self, address: &str) -> Result<SnapshotInfo, ClientError> {
        match self.ask_at(address, Request::SnapshotSave).await? {
            Response::SnapshotSaved(info) => Ok(info),
            other => Err(ClientError::unexpected("snapshot save", &other)),
        }
    }

    /// The snapshots on the disk of the node at `address`, oldest first.
    pub async fn snapshots(&self, address: &str) -> Result<Vec<SnapshotInfo>, ClientError> {
        match self.ask_at(address, Request::SnapshotList).await? {
            Response::Snapshots(snapshots) => Ok(snapshots),
            other => Err(ClientError::unexpected("snapshot list", &other)),
        }
    }

    /// What the leader knows of the cluster's backups, after this request: one of those answered by `Response::Backups`.
    pub async fn backups(&self, request: Request) -> Result<BackupStatus, ClientError> {
        let retry = match request {
            Request::BackupRun => Retry::UnlessSent,
            _ => Retry::Always,
        };
        match self.ask(Target::Leader, request, retry).await? {
            Response::Backups(status) => Ok(*status),
            other => Err(ClientError::unexpected("backups", &other)),
        }
    }

    /// What the node at `address` knows of the cluster's backups.
    pub async fn backups_at(&self, address: &str) -> Result<BackupStatus, ClientError> {
        match self.ask_at(address, Request::BackupStatus).await? {
            Response::Backups(status) => Ok(*status),
            other => Err(ClientError::unexpected("backup status", &other)),
        }
    }

    /// Freezes the state of the node at `address` and reads it as a snapshot stream.
    pub async fn view(&self, address: &str) -> Result<View, ClientError> {
        View::open(self, address).await
    }

    /// Where the leader was last seen.
    pub fn leader_address(&self) -> Option<String> {
        self.shared.nodes.leader()
    }

    /// Says good-bye to the nodes, so that they need not wait for this client to time out.
    pub async fn close(&self) {
        self.shared.nodes.close().await;
    }

    async fn ask(
        &self,
        target: Target,
        request: Request,
        retry: Retry,
    ) -> Result<Response, ClientError> {
        routing::ask(self, target, &request, retry, self.deadline()).await
    }

    async fn ask_at(&self, address: &str, request: Request) -> Result<Response, ClientError> {
        routing::ask_at(self, address, &request, self.deadline()).await
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.shared.options.timeout
    }

    /// Dials the endpoints one after the other, and the next one without waiting long for a silent one, until one answers.
    async fn reach_any(&self) {
        let mut dials = JoinSet::new();
        for address in self.shared.nodes.addresses() {
            let client = self.clone();
            dials.spawn(async move { client.shared.nodes.link(&address).await.is_ok() });
            if let Ok(Some(Ok(true))) = timeout(SILENCE, dials.join_next()).await {
                return dials.detach_all();
            }
        }
        while !matches!(dials.join_next().await, Some(Ok(true)) | None) {}
        dials.detach_all();
    }

    async fn learn_members(&self) -> Result<(), ClientError> {
        let members = self.ask(Target::Any, Request::MemberList, Retry::Always).await?;
        let Response::Members(members) = members else {
            return Err(ClientError::unexpected("member list", &members));
        };
        self.shared.nodes.learn(members.iter().map(|member| member.address.as_str()));
        let status = self.ask(Target::Any, Request::Status, Retry::Always).await?;
        let Response::Status(status) = status else {
            return Err(ClientError::unexpected("status", &status));
        };
        let leader = members.iter().find(|member| Some(member.node) == status.leader);
        if let Some(leader) = leader {
            self.shared.nodes.leader_is(&leader.address);
        }
        Ok(())
    }
}
