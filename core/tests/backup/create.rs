//! Making backups: what is written, what never is, and what happens when the store fails at any step.

use super::sample::*;
use super::store::{Fault, Store};
use raftkv_core::backup::blob::{BlobErrorKind, BlobOp};
use raftkv_core::backup::compress::Compression;
use raftkv_core::backup::create::{Create, Failure, Outcome, SettingsError, Source, Step};
use raftkv_core::backup::machine::{Action, ActionResult, Machine as _};
use raftkv_core::backup::verify::Level;
use raftkv_core::backup::{BackupId, Key};
use raftkv_core::kv::KvState;
use raftkv_core::snapshot::{Encoder, Header};
use raftkv_core::time::Wall;
use std::collections::BTreeSet;

#[test]
fn the_same_state_gives_other_bytes_under_another_seed_and_the_same_under_the_same() {
    let state = state(300);
    let data = |index| {
        let mut store = Store::default();
        let id = backup(&mut store, &state, index, settings(GZIP, &[key(1)]));
        store.objects[&format!("{id}/data.db")].clone()
    };
    assert_eq!(data(5), data(5));
    let (a, b) = (data(5), data(6));
    let shared = a.chunks(64).filter(|window| b.windows(64).any(|other| other == *window)).count();
    assert_eq!(shared, 0, "64 equal bytes under two data keys");
}

#[test]
fn order_of_work_does_not_matter() {
    let state = state(1000);
    let bytes = |reversed| {
        let mut store = Store { reversed, ..Store::default() };
        let id = backup(&mut store, &state, 9, settings(GZIP, &[key(1)]));
        (store.objects[&format!("{id}/data.db")].clone(), store.objects.len())
    };
    assert_eq!(bytes(false), bytes(true));
}

#[test]
fn an_encoder_beside_it_makes_the_same_backup_as_its_stream() {
    let state = state(1000);
    let mut streamed = Store::default();
    let id = backup(&mut streamed, &state, 9, settings(GZIP, &[key(1)]));

    let mut encoder = encoder(&state, 9);
    let mut create = begin(encoder.header(), &state, &[key(1)]);
    let mut store = Store::default();
    pull(&mut store, &mut create, &mut encoder);
    let Some(Outcome::Complete(made)) = create.outcome() else { panic!("{:?}", create.outcome()) };
    assert_eq!(made.id, id);
    let data = format!("{id}/data.db");
    assert!(store.objects[&data] == streamed.objects[&data], "the bytes differ");
    assert!(restore(&mut store, id, access(&[key(1)])).is_ok());
}

#[test]
fn an_encoder_of_another_state_makes_no_backup() {
    let state = state(10);
    let mut create = begin(encoder(&state, 10).header(), &state, &[]);
    let mut store = Store::default();
    pull(&mut store, &mut create, &mut encoder(&state, 9));
    let Some(Outcome::Failed(failure)) = create.outcome() else { panic!("{:?}", create.outcome()) };
    assert!(failure.cause.to_string().contains("index"), "{failure}");
    assert!(store.objects.is_empty() && store.uploads.is_empty());
}

#[test]
fn an_encoder_that_was_read_from_before_makes_no_backup() {
    let state = state(1000);
    let mut used = encoder(&state, 9);
    let mut create = begin(used.header(), &state, &[]);
    used.next_chunk();
    let mut store = Store::default();
    pull(&mut store, &mut create, &mut used);
    let Some(Outcome::Failed(failure)) = create.outcome() else { panic!("{:?}", create.outcome()) };
    assert!(failure.cause.to_string().contains("from the middle"), "{failure}");
}

fn begin(header: &Header, state: &KvState, keys: &[Key]) -> Create {
    let now = Wall(1_764_930_645_009);
    Create::new(source(header, state), settings(GZIP, keys), now, &mut rng(9)).unwrap()
}

fn pull(store: &mut Store, create: &mut Create, encoder: &mut Encoder) {
    store.drive(create);
    while create.wants_input() {
        create.pull(encoder);
        store.drive(create);
    }
}

#[test]
fn memory_stays_bounded_whatever_the_size() {
    let peak = |keys, chunks_in_flight| {
        let mut store = Store { reversed: true, ..Store::default() };
        let mut settings = settings(Compression::None, &[key(1)]);
        settings.bounds.chunks_in_flight = chunks_in_flight;
        let id = backup(&mut store, &state(keys), 9, settings);
        let made = std::mem::take(&mut store.peak_bytes);
        assert!(restore(&mut store, id, access(&[key(1)])).is_ok());
        (made, store.peak_bytes, store.objects[&format!("{id}/data.db")].len())
    };
    let (made, read, len) = peak(5000, 3);
    // 3 chunks of 4 KiB and 2 parts of 9,000 bytes; 3 windows of 5,000 bytes and 3 chunks.
    assert!(len > 10 * made, "{len} bytes are too few to show anything");
    assert!(made <= 3 * 4096 + 2 * 9000, "{made}");
    assert!(read <= 3 * 5000 + 3 * 4200, "{read}");
    let (more, ..) = peak(5000, 14);
    assert!(more > made && more <= 14 * 4096 + 2 * 9000, "{more}");
}

#[test]
fn parts_are_as_long_as_their_number_demands() {
    let state = state(5000);
    let (header, chunks) = stream(&state, 9);
    let begin = |stream_bytes, max_parts| {
        let mut settings = settings(Compression::None, &[key(1)]);
        settings.bounds.max_parts = max_parts;
        let source = Source { stream_bytes, ..source(&header, &state) };
        Create::new(source, settings, Wall(0), &mut rng(9))
    };
    let estimate = source(&header, &state).stream_bytes;
    let made = |stream_bytes, max_parts| {
        let mut store = Store::default();
        let mut create = begin(stream_bytes, max_parts).unwrap();
        feed(&mut store, &mut create, &chunks);
        (create.outcome().unwrap().clone(), store)
    };
    for max_parts in [3, 5, 100] {
        let (outcome, store) = made(estimate, max_parts);
        assert!(matches!(outcome, Outcome::Complete(_)), "{max_parts} parts: {outcome:?}");
        let parts = store.asked.iter().filter(|name| **name == "part").count();
        assert!(parts <= max_parts as usize, "{parts} parts");
    }
    // It was taken for shorter than it is.
    let (outcome, store) = made(0, 3);
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert!(failure.to_string().contains("more than 3 parts of 9000 bytes"), "{failure}");
    assert!(!failure.left_behind && store.objects.is_empty() && store.uploads.is_empty());
    assert_eq!(store.asked.iter().filter(|name| **name == "part").count(), 3);
    // No part that memory holds is long enough.
    let refused = begin(31 << 20, 3).unwrap_err();
    assert_eq!(refused, SettingsError::TooLong { stream_bytes: 31 << 20, most: 30 << 20 });
}

#[test]
fn no_plain_byte_leaves_when_encryption_is_on() {
    let state = state(200);
    let mut store = Store::default();
    backup(&mut store, &state, 9, settings(Compression::None, &[key(1)]));
    let mut plain = Store::default();
    backup(&mut plain, &state, 9, settings(Compression::None, &[]));
    let holds = |store: &Store, canary: &[u8]| {
        store.objects.values().any(|bytes| bytes.windows(canary.len()).any(|w| w == canary))
    };
    for canary in [&b"app/users/"[..], b"of a user, as it might be"] {
        assert!(holds(&plain, canary), "the canary is not in the plain backup either");
        assert!(!holds(&store, canary));
    }
}

#[test]
fn metadata_comes_last_and_alone_makes_a_backup_complete() {
    let mut store = Store::default();
    backup(&mut store, &state(300), 9, settings(Compression::None, &[key(1)]));
    assert_eq!(store.asked.first(), Some(&"start"));
    assert_eq!(store.asked[store.asked.len() - 2..], ["finish", "put"]);
    assert!(store.asked.iter().filter(|name| **name == "part").count() > 1);
}

#[test]
fn a_failure_at_any_step_leaves_nothing_that_looks_complete() {
    let state = state(300);
    let mut whole = Store::default();
    let id = backup(&mut whole, &state, 9, settings(GZIP, &[key(1)]));
    let (header, chunks) = stream(&state, 9);
    let mut steps = BTreeSet::new();
    for at in 0..whole.asked.len() {
        for kind in [BlobErrorKind::Denied, BlobErrorKind::Transient, BlobErrorKind::Full] {
            let mut store = Store { fault: Some(Fault::Fails { at, kind }), ..Store::default() };
            let mut create = Create::new(
                source(&header, &state),
                settings(GZIP, &[key(1)]),
                Wall(0),
                &mut rng(9),
            )
            .unwrap();
            feed(&mut store, &mut create, &chunks);
            let Some(Outcome::Failed(failure)) = create.outcome() else {
                panic!("operation {at} failed, the backup did not")
            };
            steps.insert(failure.step);
            assert!(failure.cause.to_string().contains("by the test's wish"), "{failure}");
            assert!(!failure.left_behind);
            assert!(store.objects.is_empty() && store.uploads.is_empty(), "operation {at}");
        }
    }
    assert_eq!(steps.len(), 4, "{steps:?}");
    assert!(verify(&mut whole, id, Level::Restore, access(&[key(1)])).result.is_ok());
}

#[test]
fn a_lost_answer_to_the_commit_is_looked_up() {
    let (id, failure, store) = lost_answer(1);
    assert_eq!((failure.step, failure.left_behind), (Step::Committing, true));
    let left: Vec<_> = store.objects.keys().collect();
    assert_eq!(left, [&format!("{id}/data.db")], "data stays: metadata may yet arrive");
}

#[test]
fn a_lost_answer_to_the_end_of_the_upload_is_looked_up() {
    let (_, failure, store) = lost_answer(2);
    assert_eq!((failure.step, failure.left_behind), (Step::Finishing, false));
    assert!(store.objects.is_empty() && store.uploads.is_empty());
}

/// The operation so many from the end: once it is carried out and its answer lost, and the backup completes all the same; once nothing
/// came of it, and what that is like comes back.
fn lost_answer(from_the_end: usize) -> (BackupId, Failure, Store) {
    let state = state(100);
    let mut whole = Store::default();
    backup(&mut whole, &state, 9, settings(GZIP, &[key(1)]));
    let at = whole.asked.len() - from_the_end;
    let mut store = Store { fault: Some(Fault::AnswerLost { at }), ..Store::default() };
    let id = backup(&mut store, &state, 9, settings(GZIP, &[key(1)]));
    assert!(verify(&mut store, id, Level::Restore, access(&[key(1)])).result.is_ok());

    let kind = BlobErrorKind::Unknown;
    let mut store = Store { fault: Some(Fault::Fails { at, kind }), ..Store::default() };
    let (header, chunks) = stream(&state, 9);
    let mut create =
        Create::new(source(&header, &state), settings(GZIP, &[]), Wall(0), &mut rng(9)).unwrap();
    feed(&mut store, &mut create, &chunks);
    let Some(Outcome::Failed(failure)) = create.outcome() else { panic!("{:?}", create.outcome()) };
    (create.id(), failure.clone(), store)
}

#[test]
fn a_source_that_breaks_or_lies_makes_no_backup() {
    let state = state(300);
    let (header, chunks) = stream(&state, 9);
    let (other, _) = stream(&state, 10);
    let begin = |header| {
        Create::new(source(header, &state), settings(GZIP, &[]), Wall(0), &mut rng(1)).unwrap()
    };
    let cause = |create: &Create| match create.outcome() {
        Some(Outcome::Failed(failure)) => failure.cause.to_string(),
        other => panic!("{other:?}"),
    };
    let mut store = Store::default();

    let mut cut = begin(&header);
    feed(&mut store, &mut cut, &chunks[..chunks.len() - 1]);
    assert!(cause(&cut).contains("not whole"), "{}", cause(&cut));

    let mut mislabelled = begin(&other);
    feed(&mut store, &mut mislabelled, &chunks);
    assert!(cause(&mislabelled).contains("index"), "{}", cause(&mislabelled));

    let mut damaged = chunks.clone();
    let mut bytes = damaged[1].to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    damaged[1] = bytes.into();
    let mut flipped = begin(&header);
    feed(&mut store, &mut flipped, &damaged);
    assert!(cause(&flipped).contains("checksum"), "{}", cause(&flipped));

    let mut abandoned = begin(&header);
    store.drive(&mut abandoned);
    abandoned.push(&chunks[0]);
    abandoned.abandon("the node went away");
    store.drive(&mut abandoned);
    assert_eq!(cause(&abandoned), "the node went away");
    assert!(store.objects.is_empty() && store.uploads.is_empty());
}

#[test]
fn impossible_settings_are_refused() {
    let state = state(1);
    let (header, _) = stream(&state, 1);
    let check = |change: &dyn Fn(&mut raftkv_core::backup::create::Settings)| {
        let mut settings = settings(GZIP, &[]);
        change(&mut settings);
        Create::new(source(&header, &state), settings, Wall(0), &mut rng(1)).map(|_| ())
    };
    assert!(matches!(
        check(&|s| s.compression = Compression::Gzip { level: 0 }),
        Err(SettingsError::Compression(_))
    ));
    assert_eq!(
        check(&|s| s.bounds.chunk_bytes = 1),
        Err(SettingsError::ChunkBytes { chunk_bytes: 1 })
    );
    assert_eq!(
        check(&|s| s.recipients = (0..17).map(key).collect()),
        Err(SettingsError::TooManyKeys { found: 17 })
    );
    assert_eq!(check(&|s| s.bounds.part_bytes = 0), Err(SettingsError::ZeroBound));
}

#[test]
fn an_end_of_the_upload_that_comes_late_is_waited_for_before_it_is_taken_back() {
    let state = state(50);
    let (header, chunks) = stream(&state, 9);
    let mut store = Store::default();
    let mut create =
        Create::new(source(&header, &state), settings(GZIP, &[]), Wall(0), &mut rng(9)).unwrap();
    store.drive(&mut create);
    for piece in &chunks {
        create.push(piece);
        while let Some(work) = next_work(&mut store, &mut create) {
            create.handle(work);
        }
    }
    create.finish();
    let finish = loop {
        match create.poll_action().expect("the upload is ended") {
            Action::Blob { store: _, op, action: action @ BlobOp::PutFinish { .. } } => {
                break (op, action);
            }
            action => create.handle(carry_out(&mut store, action)),
        }
    };
    create.abandon("nobody wants it");
    assert!(create.poll_action().is_none(), "nothing is taken back while the end is under way");
    let (op, action) = finish;
    let result = store.answer(op, action);
    create.handle(ActionResult::Blob { op, result });
    store.drive(&mut create);
    assert!(matches!(create.outcome(), Some(Outcome::Failed(failure)) if !failure.left_behind));
    assert_eq!(store.asked[store.asked.len() - 2..], ["abort", "delete"]);
    assert!(store.objects.is_empty() && store.uploads.is_empty());
}

fn next_work(store: &mut Store, create: &mut Create) -> Option<ActionResult> {
    create.poll_action().map(|action| carry_out(store, action))
}

fn carry_out(store: &mut Store, action: Action) -> ActionResult {
    match action {
        Action::Work(work) => ActionResult::Work(work.run()),
        Action::Blob { op, action, .. } => {
            ActionResult::Blob { op, result: store.answer(op, action) }
        }
    }
}
