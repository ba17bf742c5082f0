//! The contract, broken and kept.

use super::*;
use bytes::Bytes;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::blob::Listing;
use raftkv_core::rng::Seed;

fn store(faults: StoreFaults) -> Store {
    Store::new(faults, Seed::from_number(1).fork("store"))
}

fn names(count: usize) -> Vec<ObjectName> {
    let mut rng = Seed::from_number(2).fork("names");
    (0..count).map(|_| ObjectName::data(BackupId::draw(&mut rng))).collect()
}

fn put(object: ObjectName, bytes: &'static str) -> BlobOp {
    BlobOp::Put { object, bytes: bytes.into(), if_absent: true }
}

/// Submits at `now` and waits for the answer.
fn ask(store: &mut Store, now: SimTime, op: u64, action: BlobOp) -> Answer {
    let call = Call { session: 1, op: OpId(op) };
    store.submit(now, call, action);
    loop {
        let at = store.next_wake();
        assert_ne!(at, SimTime::NEVER, "every operation is answered");
        if let Some((answered, answer)) = store.poll(at) {
            assert_eq!(answered, call);
            return answer;
        }
    }
}

fn kind(answer: Answer) -> BlobErrorKind {
    answer.expect_err("it is refused").kind
}

#[test]
fn a_good_store_keeps_what_it_is_given() {
    let mut store = store(StoreFaults::none());
    let [one, other] = names(2)[..] else { panic!() };
    let now = SimTime(0);
    assert_eq!(ask(&mut store, now, 1, put(one, "a")), Ok(BlobDone::Done));
    assert_eq!(kind(ask(&mut store, now, 2, put(one, "b"))), BlobErrorKind::Exists);
    ask(&mut store, now, 3, BlobOp::PutStart { object: other, if_absent: true }).unwrap();
    for (number, bytes) in [(1, "xx"), (2, "y")] {
        let part = BlobOp::PutPart { upload: OpId(3), number, bytes: bytes.into() };
        ask(&mut store, now, 3 + u64::from(number), part).unwrap();
    }
    let get = BlobOp::Get { object: other, offset: 1, len_bytes: 9 };
    assert_eq!(kind(store.look(now, get.clone())), BlobErrorKind::NotFound, "not visible yet");
    let BlobDone::Listing(listing) = store.look(now, BlobOp::List).unwrap() else { panic!() };
    assert_eq!((listing.objects.len(), listing.uploads.len()), (1, 1));
    ask(&mut store, now, 6, BlobOp::PutFinish { upload: OpId(3) }).unwrap();
    assert_eq!(ask(&mut store, now, 7, get), Ok(BlobDone::Bytes(Bytes::from_static(b"xy"))));
    ask(&mut store, now, 8, BlobOp::Delete { object: one }).unwrap();
    ask(&mut store, now, 9, BlobOp::Delete { object: one }).unwrap();
    let facts: Vec<Fact> = std::iter::from_fn(|| store.poll_fact()).collect();
    assert_eq!(facts.iter().filter(|fact| matches!(fact, Fact::Removed(_))).count(), 1);
    assert!(facts.contains(&Fact::Appeared(other)) && facts.contains(&Fact::Begun(other)));
}

#[test]
fn an_error_says_what_may_have_happened() {
    let percent = Ppm::percent(20);
    let mut store = store(StoreFaults {
        transient: percent,
        request_lost: percent,
        answer_lost: percent,
        late: percent,
        retried: percent,
        ..StoreFaults::none()
    });
    let (mut done, mut undone) = (0, 0);
    for (number, object) in names(300).into_iter().enumerate() {
        let now = SimTime(number as u64);
        let answer = ask(&mut store, now, number as u64, put(object, "a"));
        store.poll(SimTime::from_millis(100_000_000));
        let is_there = store.bucket().get(object).is_some();
        match answer.map_err(|error| error.kind) {
            Ok(_) | Err(BlobErrorKind::Exists) => assert!(is_there),
            Err(BlobErrorKind::Transient) => assert!(!is_there),
            Err(BlobErrorKind::Unknown) if is_there => done += 1,
            Err(BlobErrorKind::Unknown) => undone += 1,
            Err(kind) => panic!("{kind}"),
        }
    }
    let counts = store.counts();
    assert_eq!((done, undone), (counts.answers_lost + counts.late, counts.requests_lost));
    assert!(counts.transient > 0 && counts.retried > 0 && counts.late > 0);
}

#[test]
fn outages_refuse_what_they_concern_and_end() {
    let mut store = store(StoreFaults::none());
    let object = names(1)[0];
    let until = SimTime::from_millis(1_000);
    for (outage, refused) in [
        (Outage::Down, BlobErrorKind::Transient),
        (Outage::Denied, BlobErrorKind::Denied),
        (Outage::Full, BlobErrorKind::Full),
    ] {
        store.begin_outage(outage, until);
        assert_eq!(kind(ask(&mut store, SimTime(0), 1, put(object, "a"))), refused);
        store.outages.clear();
    }
    store.begin_outage(Outage::DeleteDenied, until);
    let delete = BlobOp::Delete { object };
    ask(&mut store, SimTime(0), 2, put(object, "a")).unwrap();
    assert_eq!(kind(ask(&mut store, SimTime(0), 3, delete.clone())), BlobErrorKind::Denied);
    ask(&mut store, until, 4, delete).unwrap();
    assert!(store.bucket().get(object).is_none());
}

#[test]
fn listings_lag_only_as_far_as_they_may() {
    let staleness = Span::from_millis(500);
    let mut store =
        store(StoreFaults { stale_listing: Ppm::ALWAYS, staleness, ..StoreFaults::none() });
    let objects = names(40);
    for (number, object) in objects.iter().enumerate() {
        ask(&mut store, SimTime(0), number as u64, put(*object, "a")).unwrap();
    }
    let list = |store: &mut Store, now| -> Listing {
        let BlobDone::Listing(listing) = ask(store, now, 99, BlobOp::List).unwrap() else {
            panic!()
        };
        listing
    };
    let early = list(&mut store, SimTime::from_millis(100)).objects.len();
    assert!((1..40).contains(&early), "{early}");
    assert_eq!(list(&mut store, SimTime::from_millis(900)).objects.len(), 40);
}

#[test]
fn a_dead_process_is_told_nothing_and_leaves_parts_behind() {
    let mut store = store(StoreFaults::none());
    let object = names(1)[0];
    ask(&mut store, SimTime(0), 1, BlobOp::PutStart { object, if_absent: true }).unwrap();
    let call = Call { session: 1, op: OpId(2) };
    let part = BlobOp::PutPart { upload: OpId(1), number: 1, bytes: "x".into() };
    store.submit(SimTime(0), call, part);
    store.abandon(1);
    assert_eq!(store.poll(SimTime::from_millis(100_000)), None);
    assert_eq!(store.bucket().open_uploads(), 1);
}

#[test]
fn every_damage_is_remembered() {
    for damage in Damage::ALL {
        let mut store = store(StoreFaults::none());
        let [one, other] = names(2)[..] else { panic!() };
        ask(&mut store, SimTime(0), 1, put(one, "abcdef")).unwrap();
        ask(&mut store, SimTime(0), 2, put(other, "uvwxyz")).unwrap();
        let said = store.damage(SimTime(9), one, damage).expect("something is there");
        assert!(said.contains(&one.path()), "{said}");
        assert!(store.bucket().is_tampered(one.backup));
        assert_eq!(store.bucket().is_tampered(other.backup), damage == Damage::Swap);
        assert_ne!(store.bucket().get(one).map(|bytes| &bytes[..]), Some(&b"abcdef"[..]));
        assert_eq!(store.counts().damaged[damage.name()], 1);
    }
}

#[test]
fn a_deleted_object_that_is_written_again_is_whole() {
    let mut store = store(StoreFaults::none());
    let object = names(1)[0];
    ask(&mut store, SimTime(0), 1, put(object, "abcdef")).unwrap();
    store.damage(SimTime(9), object, Damage::Delete).expect("something is there");
    assert!(store.bucket().was_tampered(object.backup, SimTime(10)));
    ask(&mut store, SimTime(10), 2, put(object, "abcdef")).unwrap();
    let bucket = store.bucket();
    assert!(!bucket.is_tampered(object.backup) && bucket.is_put_back(object.backup));
    assert!(bucket.is_tampered_since(object.backup, SimTime(9)), "attempts under way may fail");
    assert!(!bucket.is_tampered_since(object.backup, SimTime::from_millis(100_000)));
    assert_eq!(bucket.lost(object), bucket.get(object));
}

#[test]
fn a_deleted_object_in_whose_place_another_is_written_is_not() {
    let mut store = store(StoreFaults::none());
    let object = names(1)[0];
    ask(&mut store, SimTime(0), 1, put(object, "abcdef")).unwrap();
    store.damage(SimTime(9), object, Damage::Delete).expect("something is there");
    ask(&mut store, SimTime(10), 2, put(object, "uvwxyz")).unwrap();
    let bucket = store.bucket();
    assert!(bucket.is_tampered(object.backup) && !bucket.is_put_back(object.backup));
    assert!(!bucket.was_tampered(object.backup, SimTime(20)), "and yet it was written");
}

#[test]
fn a_damaged_object_is_mended_by_what_replaces_it_and_not_by_its_damage() {
    let mut store = store(StoreFaults::none());
    let object = names(1)[0];
    ask(&mut store, SimTime(0), 1, put(object, "abcdef")).unwrap();
    let later = SimTime::from_millis(1_000);
    assert!(!store.bucket().is_mended(object.backup), "nothing was wrong");
    store.damage(later, object, Damage::Flip).expect("something is there");
    assert!(!store.bucket().is_mended(object.backup));
    let again = BlobOp::Put { object, bytes: "abcdef".into(), if_absent: false };
    ask(&mut store, later + Span(1), 2, again).unwrap();
    assert!(store.bucket().is_mended(object.backup));
}

#[test]
fn a_store_loses_all_only_when_no_write_is_under_way() {
    let mut store = store(StoreFaults::none());
    let [one, other] = names(2)[..] else { panic!() };
    ask(&mut store, SimTime(0), 1, put(one, "abcdef")).unwrap();
    let call = Call { session: 1, op: OpId(2) };
    store.submit(SimTime::from_millis(1_000), call, put(other, "uvwxyz"));
    assert!(!store.lose_all(SimTime::from_millis(1_000)), "a write is under way");
    while store.poll(store.next_wake()).is_none() {}
    assert!(store.lose_all(SimTime::from_millis(2_000)));
    assert_eq!(store.bucket().objects().count(), 0);
    assert!(store.bucket().is_tampered(one.backup) && store.bucket().is_tampered(other.backup));
}
