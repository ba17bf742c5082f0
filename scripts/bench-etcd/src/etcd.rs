//! The few calls of etcd's v3 API that the comparison makes.

use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// One connection to one member; clones share it.
#[derive(Clone)]
pub struct Etcd {
    grpc: Grpc<Channel>,
}

impl Etcd {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Result<Self, super::Failure> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        Ok(Etcd { grpc: Grpc::new(channel) })
    }

    /// Writes one key.
    pub async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Status> {
        self.call("/etcdserverpb.KV/Put", Put { key, value }).await
    }

    /// Reads one key, linearizably.
    pub async fn get(&mut self, key: Vec<u8>) -> Result<(), Status> {
        self.call("/etcdserverpb.KV/Range", Range { key }).await
    }

    async fn call<T: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        message: T,
    ) -> Result<(), Status> {
        self.grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec: ProstCodec<T, Answer> = ProstCodec::default();
        self.grpc.unary(Request::new(message), PathAndQuery::from_static(path), codec).await?;
        Ok(())
    }
}

#[derive(Clone, PartialEq, Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Range {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

/// Only that there is an answer matters; its fields are skipped.
#[derive(Clone, PartialEq, Message)]
struct Answer {}
