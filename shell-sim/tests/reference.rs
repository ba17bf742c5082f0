//! The core's state against the reference model: every answer, every readable revision, every event.

use proptest::collection::vec;
use proptest::prelude::*;
use raftkv_core::api::{
    Compare, CompareOp, CompareTarget, DeleteRequest, Error, Event, KeyRange, PutRequest, RangeEnd,
    RangeRequest, Response, Revision, SessionRef, TxnOp, TxnRequest, WatchRequest, WriteOp,
};
use raftkv_core::ids::ReqId;
use raftkv_core::kv::{Action, Builder, Command, Cursor, Item, KvState, Outcome, Watches};
use raftkv_core::time::Wall;
use raftkv_sim::reference::Reference;
use std::collections::BTreeMap;

const PLENTY: usize = 1 << 20;

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a",
        "a/1",
        "a/2",
        "b",
        "c",
        "a key of more than thirty bytes, kept apart",
    ])
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => key().prop_map(KeyRange::one),
        2 => Just(KeyRange::all()),
        2 => Just(KeyRange::prefix("a")),
        2 => (key(), key())
            .prop_map(|(a, b)| KeyRange { start: a.into(), end: RangeEnd::Before(b.into()) }),
        1 => key().prop_map(|a| KeyRange { start: a.into(), end: RangeEnd::Unbounded }),
    ]
}

fn put() -> impl Strategy<Value = PutRequest> {
    (key(), "[xyz]{0,3}", prop_oneof![3 => Just(0), 2 => 1..5_u64], any::<bool>()).prop_map(
        |(key, value, lease, return_previous)| PutRequest {
            key: key.into(),
            value: value.into(),
            lease,
            return_previous,
        },
    )
}

fn delete() -> impl Strategy<Value = DeleteRequest> {
    (range(), any::<bool>())
        .prop_map(|(range, return_previous)| DeleteRequest { range, return_previous })
}

fn read() -> impl Strategy<Value = RangeRequest> {
    let revision = prop_oneof![2 => Just(0), 1 => 0..40_u64];
    (range(), revision, 0..3_u64, any::<bool>(), any::<bool>()).prop_map(
        |(range, revision, limit, keys_only, count_only)| RangeRequest {
            revision,
            limit,
            keys_only,
            count_only,
            ..RangeRequest::new(range)
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let op = prop::sample::select(vec![
        CompareOp::Equal,
        CompareOp::NotEqual,
        CompareOp::Greater,
        CompareOp::Less,
    ]);
    let target = prop_oneof![
        "[xyz]{0,2}".prop_map(|value| CompareTarget::Value(value.into())),
        (0..4_u64).prop_map(CompareTarget::Version),
        (0..30_u64).prop_map(CompareTarget::CreateRevision),
        (0..30_u64).prop_map(CompareTarget::ModRevision),
        (0..5_u64).prop_map(CompareTarget::Lease),
    ];
    (range(), op, target).prop_map(|(range, op, target)| Compare { range, op, target })
}

fn txn() -> impl Strategy<Value = TxnRequest> {
    let op = || {
        prop_oneof![
            3 => put().prop_map(TxnOp::Put),
            1 => delete().prop_map(TxnOp::Delete),
            2 => read().prop_map(TxnOp::Range),
        ]
    };
    (vec(compare(), 0..3), vec(op(), 0..4), vec(op(), 0..4))
        .prop_map(|(compares, success, failure)| TxnRequest { compares, success, failure })
}

fn write_op() -> impl Strategy<Value = WriteOp> {
    prop_oneof![
        8 => put().prop_map(WriteOp::Put),
        3 => delete().prop_map(WriteOp::Delete),
        5 => txn().prop_map(WriteOp::Txn),
        3 => (0..5_u64, 1..60_u64).prop_map(|(id, ttl_ms)| WriteOp::LeaseGrant { id, ttl_ms }),
        1 => (0..5_u64).prop_map(|id| WriteOp::LeaseRevoke { id }),
        1 => (0..5_u64).prop_map(|id| WriteOp::LeaseKeepAlive { id }),
        2 => (0..30_u64).prop_map(|revision| WriteOp::Compact { revision }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let session =
        (1..6_u64, 0..8_u64, 0..5_u64).prop_map(|(session, sequence, acknowledged_below)| {
            SessionRef { session, sequence, acknowledged_below }
        });
    prop_oneof![
        12 => (prop::option::weighted(0.4, session), write_op())
            .prop_map(|(session, op)| Action::Write { session, op }),
        1 => Just(Action::SessionOpen),
        1 => Just(Action::Tick),
    ]
}

/// Commands with log time that mostly runs, sometimes stands or goes back, and now and then leaps past a session's life.
fn commands(count: usize) -> impl Strategy<Value = Vec<Command>> {
    let step = prop_oneof![20 => -5..30_i64, 1 => Just(3_000_000)];
    vec((step, action()), 1..count).prop_map(|steps| {
        let mut log_time_ms = 1_000_u64;
        let command = |(step, action)| {
            log_time_ms = log_time_ms.saturating_add_signed(step);
            Command { log_time_ms, wall: Wall(log_time_ms as i64), action }
        };
        steps.into_iter().map(command).collect()
    })
}

/// The model does not word its refusals.
fn unworded(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Write(Err(Error::Invalid(_))) => {
            Outcome::Write(Err(Error::Invalid(String::new())))
        }
        outcome => outcome,
    }
}

fn rebuilt(items: impl Iterator<Item = Item>) -> KvState {
    let mut builder = Builder::new();
    items.for_each(|item| builder.push(item).expect("items of a state fit"));
    builder.finish().expect("items of a state are complete")
}

fn some_ranges() -> [KeyRange; 5] {
    [
        KeyRange::all(),
        KeyRange::one("a"),
        KeyRange::prefix("a/"),
        KeyRange { start: "a/1".into(), end: RangeEnd::Before("c".into()) },
        KeyRange { start: "c".into(), end: RangeEnd::Before("a".into()) },
    ]
}

fn compare_reads(state: &KvState, model: &Reference) -> Result<(), TestCaseError> {
    prop_assert_eq!(state.revision(), model.revision());
    prop_assert_eq!(state.compacted(), model.compacted());
    prop_assert_eq!((state.keys(), state.bytes()), model.size());
    prop_assert_eq!(state.leases(), model.leases());
    for range in some_ranges() {
        for revision in 0..=model.revision() + 1 {
            let request = RangeRequest { revision, ..RangeRequest::new(range.clone()) };
            prop_assert_eq!(state.range(&request, PLENTY), model.range(&request));
            let count = RangeRequest { count_only: true, ..request };
            prop_assert_eq!(state.range(&count, PLENTY), model.range(&count));
        }
        for from in 0..=model.revision() + 1 {
            for with_previous in [false, true] {
                let events = state.events_since(&range, &Cursor::at(from), with_previous, PLENTY);
                let events = events.map(|(events, _)| events);
                prop_assert_eq!(events, model.events(&range, from, with_previous));
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn answers_and_reads_are_the_models(commands in commands(40)) {
        let (mut state, mut model) = (KvState::new(), Reference::default());
        for (index, command) in (1..).zip(&commands) {
            let got = unworded(state.apply(index, command));
            prop_assert_eq!(got, unworded(model.apply(index, command)), "{:?}", command);
        }
        compare_reads(&state, &model)?;
    }

    #[test]
    fn a_rebuilt_state_goes_on_like_the_original(
        before in commands(40),
        after in commands(20),
    ) {
        let mut state = KvState::new();
        for (index, command) in (1..).zip(&before) {
            state.apply(index, command);
        }
        let mut copy = rebuilt(state.items());
        prop_assert_eq!(copy.hash(), state.hash());
        prop_assert!(copy.items().eq(state.items()));
        for (index, command) in (1 + before.len() as u64..).zip(&after) {
            prop_assert_eq!(copy.apply(index, command), state.apply(index, command));
            prop_assert_eq!(copy.hash(), state.hash());
        }
        prop_assert_eq!(copy.leases(), state.leases());
        prop_assert_eq!((copy.keys(), copy.bytes()), (state.keys(), state.bytes()));
        prop_assert!(copy.items().eq(state.items()));
    }

    #[test]
    fn events_come_whole_and_in_order_in_pieces_of_any_size(
        commands in commands(40),
        from in 1..10_u64,
        bytes_max in 1..200_usize,
    ) {
        let (mut state, mut model) = (KvState::new(), Reference::default());
        for (index, command) in (1..).zip(&commands) {
            state.apply(index, command);
            model.apply(index, command);
        }
        let mut cursor = Cursor::at(from);
        let mut got: Vec<Event> = Vec::new();
        let expected = model.events(&KeyRange::all(), from, true);
        while let Ok((events, next)) =
            state.events_since(&KeyRange::all(), &cursor, true, bytes_max)
        {
            let read_all = next.revision() > state.revision();
            prop_assert!(read_all || !events.is_empty(), "reading must get on");
            got.extend(events);
            // What is said to be done is done: nothing of it comes later.
            let done = got.iter().take_while(|event| event.kv.mod_revision <= next.done()).count();
            let all = expected.as_ref().map_or(0, |all| {
                all.iter().take_while(|event| event.kv.mod_revision <= next.done()).count()
            });
            prop_assert_eq!(done, all);
            cursor = next;
            if read_all {
                break;
            }
        }
        prop_assert_eq!(got, expected.unwrap_or_default());
    }

    #[test]
    fn watches_tell_every_event_once_or_end(
        commands in commands(60),
        opened in vec((0..60_usize, range(), 0..20_u64, any::<bool>()), 1..6),
        polled in vec(any::<bool>(), 60),
        replaced in vec(prop::bool::weighted(0.1), 60),
    ) {
        let (mut state, mut model) = (KvState::new(), Reference::default());
        let mut watches = Watches::new();
        let mut told: BTreeMap<u64, Told> = BTreeMap::new();
        for (at, command) in commands.iter().enumerate() {
            for (req, (_, range, from_revision, with_previous)) in
                (0..).zip(&opened).filter(|(_, (when, ..))| *when == at)
            {
                let request = WatchRequest {
                    range: range.clone(),
                    from_revision: *from_revision,
                    with_previous: *with_previous,
                };
                let compacted = *from_revision != 0 && *from_revision <= state.compacted();
                let opened = watches.open(ReqId(req), request.clone(), &state);
                prop_assert_eq!(opened.is_err(), compacted);
                if opened.is_ok() {
                    let from = if *from_revision == 0 { state.revision() + 1 } else { *from_revision };
                    told.insert(req, Told { request, read: 0, from, done: None, events: vec![], ended: false });
                }
            }
            state.apply(at as u64 + 1, command);
            model.apply(at as u64 + 1, command);
            if replaced[at] {
                state = rebuilt(state.items());
            }
            if polled[at] {
                drain(&mut watches, &state, &mut told)?;
            }
        }
        drain(&mut watches, &state, &mut told)?;
        for watch in told.values() {
            watch.check(&state, &model)?;
        }
    }
}

/// What a watch has said so far.
struct Told {
    request: WatchRequest,
    /// The newest revision when all its answers were last taken.
    read: Revision,
    from: Revision,
    done: Option<Revision>,
    events: Vec<Event>,
    ended: bool,
}

/// Takes every answer.
fn drain(
    watches: &mut Watches,
    state: &KvState,
    told: &mut BTreeMap<u64, Told>,
) -> Result<(), TestCaseError> {
    while let Some((req, response)) = watches.poll(state) {
        let watch = told.get_mut(&req.0).expect("only open watches speak");
        prop_assert!(!watch.ended, "nothing comes after the end");
        match response {
            Response::Watch { revision, events } => {
                match watch.done {
                    None => prop_assert!(events.is_empty() && revision == watch.from - 1),
                    Some(done) => prop_assert!(!events.is_empty() && revision >= done),
                }
                watch.done = Some(revision);
                watch.events.extend(events);
            }
            Response::Error(Error::Compacted { .. }) => {
                prop_assert!(state.compacted() > watch.read, "it ends without need");
                watch.ended = true;
            }
            other => prop_assert!(false, "a watch said {:?}", other),
        }
    }
    told.values_mut().for_each(|watch| watch.read = state.revision());
    Ok(())
}

impl Told {
    fn check(&self, state: &KvState, model: &Reference) -> Result<(), TestCaseError> {
        prop_assert!(self.done.is_some(), "a watch is always announced");
        let WatchRequest { range, with_previous, .. } = &self.request;
        let all = model.events_ever(range, self.from, *with_previous);
        if self.ended {
            prop_assert!(all.starts_with(&self.events) && state.compacted() >= self.from);
        } else {
            prop_assert_eq!(&self.events, &all);
        }
        Ok(())
    }
}
