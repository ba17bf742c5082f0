//! The client against scripted nodes: real QUIC on loopback, answers made up by the test.

mod view;

use super::{Client, ClientError, Options};
use crate::tls;
use bytes::BytesMut;
use raftkv_core::api::{
    Error, Event, EventKind, KeyRange, KeyValue, MemberInfo, MemberRole, NodeStatus, PutRequest,
    RangeRequest, RangeResponse, Request, Response, Role, SessionRef, WatchRequest, WriteOp,
    WriteResult,
};
use raftkv_core::ids::{ClusterId, Epoch, Identity, NodeId};
use raftkv_core::kv::StateHash;
use raftkv_core::wire::client::{RequestFrame, ResponseFrame};
use raftkv_core::wire::frame::{self, CLIENT_FRAME_BYTES_MAX, Decoder};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a scripted node does with a request.
enum Say {
    /// Answer, perhaps several times.
    Answers(Vec<Response>),
    /// Say nothing.
    Nothing,
    /// Answer, then cut the connection.
    AnswersAndHangUp(Vec<Response>),
    /// Cut the connection.
    HangUp,
}

type Script = dyn Fn(&Request) -> Say + Send + Sync;

/// A node made of a script; gone when dropped.
struct FakeNode {
    address: String,
    endpoint: quinn::Endpoint,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeNode {
    fn bind() -> quinn::Endpoint {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        quinn::Endpoint::server(tls::server_config(None).unwrap(), any).unwrap()
    }

    fn start(script: impl Fn(&Request) -> Say + Send + Sync + 'static) -> FakeNode {
        Self::serve(Self::bind(), script)
    }

    fn serve(
        endpoint: quinn::Endpoint,
        script: impl Fn(&Request) -> Say + Send + Sync + 'static,
    ) -> FakeNode {
        let address = endpoint.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (acceptor, seen) = (endpoint.clone(), requests.clone());
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(async move {
            while let Some(incoming) = acceptor.accept().await {
                let (script, seen) = (script.clone(), seen.clone());
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        talk(connection, script, seen).await;
                    }
                });
            }
        });
        FakeNode { address, endpoint, requests }
    }

    fn seen(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.endpoint.close(0u32.into(), b"gone");
    }
}

async fn talk(connection: quinn::Connection, script: Arc<Script>, seen: Arc<Mutex<Vec<Request>>>) {
    let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
    let mut decoder = Decoder::new(CLIENT_FRAME_BYTES_MAX);
    while let Ok(Some(chunk)) = receive.read_chunk(usize::MAX, true).await {
        decoder.push(&chunk.bytes);
        while let Some(RequestFrame { id, request }) = decoder.next_frame().unwrap() {
            let said = script(&request);
            seen.lock().unwrap().push(request);
            let (responses, hang_up) = match said {
                Say::Answers(responses) => (responses, false),
                Say::AnswersAndHangUp(responses) => (responses, true),
                Say::Nothing => (Vec::new(), false),
                Say::HangUp => (Vec::new(), true),
            };
            let mut out = BytesMut::new();
            for response in responses {
                frame::encode(&ResponseFrame { id, response }, &mut out);
            }
            send.write_all(&out).await.unwrap();
            if hang_up {
                // Finished streams are delivered before the connection ends.
                let _ = send.finish();
                let _ = send.stopped().await;
                return connection.close(1u32.into(), b"scripted");
            }
        }
    }
}

fn one(response: Response) -> Say {
    Say::Answers(vec![response])
}

/// Answers what `Client::connect` asks, with these members; the first one leads.
fn topology(request: &Request, addresses: &[String]) -> Option<Response> {
    let members = addresses.iter().zip(1..).map(|(address, number)| MemberInfo {
        node: NodeId::new(number, 0),
        address: address.clone(),
        role: MemberRole::Voter,
    });
    match request {
        Request::MemberList => Some(Response::Members(members.collect())),
        Request::Status => Some(Response::Status(Box::new(status()))),
        _ => None,
    }
}

fn status() -> NodeStatus {
    let node = NodeId::new(1, 0);
    NodeStatus {
        identity: Identity { cluster: ClusterId([1; 16]), epoch: Epoch(0), node },
        address: String::new(),
        role: Role::Follower,
        leader: Some(node),
        term: 1,
        last_index: 1,
        commit_index: 1,
        applied_index: 1,
        revision: 1,
        compacted: 0,
        state_hash: StateHash::default(),
        keys: 0,
        bytes: 0,
        leases: 0,
        watches: 0,
        snapshot_index: 0,
        log_bytes: 0,
        version: String::new(),
    }
}

fn options(endpoints: Vec<String>) -> Options {
    Options { endpoints, timeout: Duration::from_secs(5), ..Options::default() }
}

fn put(key: &str) -> PutRequest {
    let key = bytes::Bytes::copy_from_slice(key.as_bytes());
    PutRequest { key, value: "v".into(), lease: 0, return_previous: false }
}

fn done(revision: u64) -> Say {
    one(Response::Write(WriteResult::Put { revision, previous: None }))
}

fn session_of(request: &Request) -> SessionRef {
    match request {
        Request::Write { session: Some(session), .. } => *session,
        other => panic!("{other:?} has no session"),
    }
}

fn writes(requests: &[Request]) -> Vec<SessionRef> {
    let writes = requests.iter().filter(|request| matches!(request, Request::Write { .. }));
    writes.map(session_of).collect()
}

#[tokio::test]
async fn writes_follow_the_leader() {
    let leader = FakeNode::start(|request| match request {
        Request::SessionOpen => one(Response::SessionOpened { session: 9 }),
        _ => done(5),
    });
    let redirect = Error::NotLeader { leader: Some((NodeId::new(2, 0), leader.address.clone())) };
    let follower = FakeNode::start(move |request| {
        one(topology(request, &[]).unwrap_or(Response::Error(redirect.clone())))
    });
    let client = Client::connect(options(vec![follower.address.clone()])).await.unwrap();
    assert_eq!(client.put(put("a")).await.unwrap().revision(), 5);
    assert_eq!(client.leader_address().as_deref(), Some(leader.address.as_str()));
    let first = SessionRef { session: 9, sequence: 1, acknowledged_below: 1 };
    assert_eq!(writes(&leader.seen()), [first]);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_sent_again_under_its_number() {
    let endpoint = FakeNode::bind();
    let own = [endpoint.local_addr().unwrap().to_string()];
    let tries = Mutex::new(0);
    let node = FakeNode::serve(endpoint, move |request| match request {
        Request::SessionOpen => one(Response::SessionOpened { session: 9 }),
        Request::Write { .. } => {
            *tries.lock().unwrap() += 1;
            match *tries.lock().unwrap() {
                1 => Say::HangUp,
                2 => one(Response::Error(Error::Unknown)),
                _ => done(5),
            }
        }
        other => one(topology(other, &own).unwrap()),
    });
    let client = Client::connect(options(vec![node.address.clone()])).await.unwrap();
    assert_eq!(client.put(put("a")).await.unwrap().revision(), 5);
    let sequences: Vec<u64> = writes(&node.seen()).iter().map(|write| write.sequence).collect();
    assert_eq!(sequences, [1, 1, 1]);
    client.put(put("b")).await.unwrap();
    let second = SessionRef { session: 9, sequence: 2, acknowledged_below: 2 };
    assert_eq!(writes(&node.seen()).last(), Some(&second));
}

/// A node that forgets sessions when asked with the first write; what it did before that is the parameter.
async fn forgetful(first: fn() -> Say) -> (FakeNode, Result<WriteResult, ClientError>) {
    let endpoint = FakeNode::bind();
    let own = [endpoint.local_addr().unwrap().to_string()];
    let (tries, sessions) = (Mutex::new(0), Mutex::new(0));
    let node = FakeNode::serve(endpoint, move |request| match request {
        Request::SessionOpen => {
            *sessions.lock().unwrap() += 1;
            one(Response::SessionOpened { session: *sessions.lock().unwrap() })
        }
        Request::Write { session: Some(SessionRef { session: 1, .. }), .. } => {
            *tries.lock().unwrap() += 1;
            match *tries.lock().unwrap() {
                1 => first(),
                _ => one(Response::Error(Error::SessionUnknown(1))),
            }
        }
        Request::Write { .. } => done(7),
        other => one(topology(other, &own).unwrap()),
    });
    let client = Client::connect(options(vec![node.address.clone()])).await.unwrap();
    let result = client.put(put("a")).await;
    (node, result)
}

#[tokio::test]
async fn an_expired_session_is_replaced_when_nothing_was_sent_under_it() {
    let (_node, result) = forgetful(|| one(Response::Error(Error::SessionUnknown(1)))).await;
    assert_eq!(result.unwrap().revision(), 7);
}

#[tokio::test]
async fn an_expired_session_leaves_an_unanswered_write_unknown() {
    let (node, result) = forgetful(|| Say::HangUp).await;
    assert!(matches!(result, Err(ClientError::OutcomeUnknown { .. })), "{result:?}");
    assert!(writes(&node.seen()).iter().all(|write| write.session == 1), "never sent anew");
}

#[tokio::test]
async fn membership_changes_are_not_repeated_once_sent() {
    let endpoint = FakeNode::bind();
    let own = [endpoint.local_addr().unwrap().to_string()];
    let node = FakeNode::serve(endpoint, move |request| match topology(request, &own) {
        Some(answer) => one(answer),
        None => Say::HangUp,
    });
    let client = Client::connect(options(vec![node.address.clone()])).await.unwrap();
    let result = client.administer(Request::MemberRemove { member: 3 }).await;
    assert!(matches!(result, Err(ClientError::OutcomeUnknown { .. })), "{result:?}");
    let removals = node.seen();
    let removals =
        removals.iter().filter(|request| matches!(request, Request::MemberRemove { .. }));
    assert_eq!(removals.count(), 1);
}

/// Who is asked next must know of the change: a follower may not have heard of it yet.
#[tokio::test]
async fn whoever_does_what_only_a_leader_does_is_taken_for_it() {
    let endpoints = [FakeNode::bind(), FakeNode::bind()];
    let members = endpoints.each_ref().map(|it| it.local_addr().unwrap().to_string());
    let nodes = endpoints.map(|endpoint| {
        let members = members.clone();
        FakeNode::serve(endpoint, move |request| {
            one(match request {
                Request::Status => {
                    Response::Status(Box::new(NodeStatus { leader: None, ..status() }))
                }
                _ => topology(request, &members).unwrap_or(Response::Done),
            })
        })
    });
    let client = Client::connect(options(members.to_vec())).await.unwrap();
    assert_eq!(client.leader_address(), None);
    client.administer(Request::MemberRemove { member: 3 }).await.unwrap();
    let removes = |request: &Request| matches!(request, Request::MemberRemove { .. });
    let leader = nodes.iter().find(|node| node.seen().iter().any(removes)).unwrap();
    assert_eq!(client.leader_address().as_deref(), Some(leader.address.as_str()));
}

#[tokio::test]
async fn reads_go_on_at_another_node() {
    let alive = FakeNode::start(|_| one(Response::Range(RangeResponse::default())));
    let endpoint = FakeNode::bind();
    let members = [endpoint.local_addr().unwrap().to_string(), alive.address.clone()];
    let dying = FakeNode::serve(endpoint, move |request| match topology(request, &members) {
        Some(answer) => one(answer),
        None => Say::HangUp,
    });
    let client = Client::connect(options(vec![dying.address.clone()])).await.unwrap();
    client.range(RangeRequest::new(KeyRange::one("a"))).await.unwrap();
    assert!(alive.seen().iter().any(|request| matches!(request, Request::Range(_))));
}

#[tokio::test]
async fn watches_resume_after_the_last_event_they_returned() {
    let event = |revision| Event {
        kind: EventKind::Put,
        kv: KeyValue {
            key: "a".into(),
            value: "v".into(),
            create_revision: 1,
            mod_revision: revision,
            version: 1,
            lease: 0,
        },
        previous: None,
    };
    let endpoint = FakeNode::bind();
    let own = [endpoint.local_addr().unwrap().to_string()];
    let node = FakeNode::serve(endpoint, move |request| match request {
        Request::Watch(WatchRequest { from_revision: 0, .. }) => Say::AnswersAndHangUp(vec![
            Response::Watch { revision: 3, events: vec![] },
            Response::Watch { revision: 5, events: vec![event(4), event(5)] },
        ]),
        // A node may send again what the client has; it must not come out twice.
        Request::Watch(_) => Say::Answers(vec![
            Response::Watch { revision: 5, events: vec![] },
            Response::Watch { revision: 8, events: vec![event(5), event(8)] },
        ]),
        Request::WatchCancel { .. } => Say::Nothing,
        other => one(topology(other, &own).unwrap()),
    });
    let client = Client::connect(options(vec![node.address.clone()])).await.unwrap();
    let request = WatchRequest { range: KeyRange::all(), from_revision: 0, with_previous: false };
    let mut watch = client.watch(request).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let batch = watch.next().await.unwrap();
        seen.extend(batch.events.iter().map(|event| event.kv.mod_revision));
    }
    assert_eq!(seen, [4, 5, 8]);
    let resumed = node.seen();
    let resumed = resumed.iter().rev().find_map(|request| match request {
        Request::Watch(watch) => Some(watch.from_revision),
        _ => None,
    });
    assert_eq!(resumed, Some(6));
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    // Bound but never answered, so that nobody else can take the port.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let options = Options {
        timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(100),
        ..options(vec![address.clone()])
    };
    let Err(error) = Client::connect(options).await else { panic!("connected to nobody") };
    assert!(matches!(&error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn silent_endpoints_are_asked_only_when_there_is_no_other() {
    let endpoint = FakeNode::bind();
    let own = [endpoint.local_addr().unwrap().to_string()];
    let node = FakeNode::serve(endpoint, move |request| match topology(request, &own) {
        Some(answer) => one(answer),
        None => one(Response::Range(RangeResponse::default())),
    });
    let silent: Vec<std::net::UdpSocket> =
        (0..3).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let mut endpoints = vec![node.address.clone()];
    endpoints.extend(silent.iter().map(|socket| socket.local_addr().unwrap().to_string()));
    // A silent node costs an hour: the test only ends if none is waited for.
    let connect_timeout = Duration::from_secs(3600);
    let timeout = Duration::from_secs(7200);
    let client = Client::connect(Options { timeout, connect_timeout, ..options(endpoints) });
    let client = client.await.unwrap();
    for _ in 0..8 {
        client.range(RangeRequest::new(KeyRange::one("a"))).await.unwrap();
    }
}

#[tokio::test]
async fn requests_larger_than_a_frame_are_refused_before_they_are_sent() {
    let endpoint = FakeNode::bind();
    let own = [endpoint.local_addr().unwrap().to_string()];
    let node = FakeNode::serve(endpoint, move |request| match request {
        Request::SessionOpen => one(Response::SessionOpened { session: 9 }),
        Request::Write { .. } => done(5),
        other => one(topology(other, &own).unwrap()),
    });
    let client = Client::connect(options(vec![node.address.clone()])).await.unwrap();
    let huge = PutRequest { value: vec![0; CLIENT_FRAME_BYTES_MAX].into(), ..put("a") };
    let result = client.write(WriteOp::Put(huge)).await;
    assert!(matches!(result, Err(ClientError::Refused(Error::TooLarge { .. }))), "{result:?}");
    client.put(put("b")).await.unwrap();
}
