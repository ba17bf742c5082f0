//! A sidecar by hand, and against random failures and calendars.

use super::*;
use proptest::prelude::*;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// A midnight.
const START: i64 = 20_000 * 24 * HOUR_MS;

fn sidecar(cron: &str) -> Sidecar {
    Sidecar::new(Cron::parse(cron, "UTC").unwrap())
}

/// So many milliseconds after the start, by both clocks.
fn at(ms: i64) -> Now {
    Now { mono: Mono(ms as u64 * 1_000_000), wall: Wall(START + ms) }
}

fn wait(ms: u64) -> Step {
    Step::Wait(Span::from_millis(ms))
}

fn slot(ms: i64) -> Wall {
    Wall(START + ms)
}

#[test]
fn the_newest_slot_is_due_until_it_is_settled() {
    let mut sidecar = sidecar("0 * * * *");
    assert_eq!(sidecar.step(at(10)), Step::BackUp(slot(0)));
    sidecar.settled(slot(0));
    assert_eq!(sidecar.step(at(10)), Step::Copy, "copies may be behind");
    sidecar.copied(true, at(10));
    assert_eq!(sidecar.step(at(10)), wait(30_000));
    assert_eq!(sidecar.step(at(HOUR_MS - 10)), wait(10));
    // Two slots later one backup makes up for both.
    assert_eq!(sidecar.step(at(2 * HOUR_MS)), Step::BackUp(slot(2 * HOUR_MS)));
}

#[test]
fn a_slot_is_taken_by_what_was_begun_at_or_after_it() {
    assert!(!is_taken(slot(0), None), "a store without any backup of the cluster");
    assert!(!is_taken(slot(0), Some(slot(-1))));
    assert!(is_taken(slot(0), Some(slot(0))) && is_taken(slot(0), Some(slot(1))));
}

#[test]
fn rests_double_and_end_with_the_next_slot() {
    let mut sidecar = sidecar("0 * * * *");
    let mut now = 0;
    for rest_ms in [1, 2, 4, 8, 16].map(|minutes| minutes * MINUTE_MS) {
        assert_eq!(sidecar.step(at(now)), Step::BackUp(slot(0)));
        sidecar.failed(slot(0), at(now));
        assert!(sidecar.is_failing());
        assert_eq!(sidecar.step(at(now + rest_ms - 5)), wait(5));
        now += rest_ms;
    }
    sidecar.failed(slot(0), at(now));
    // Half an hour of rest is left of which the next slot takes nothing over.
    assert_eq!(sidecar.step(at(HOUR_MS - 7)), wait(7));
    assert_eq!(sidecar.step(at(HOUR_MS)), Step::BackUp(slot(HOUR_MS)));
    sidecar.failed(slot(HOUR_MS), at(HOUR_MS));
    assert_eq!(sidecar.step(at(HOUR_MS + MINUTE_MS)), Step::BackUp(slot(HOUR_MS)));
    sidecar.settled(slot(HOUR_MS));
    assert!(!sidecar.is_failing());
}

#[test]
fn copies_that_are_behind_are_tried_again() {
    let mut sidecar = sidecar("0 0 * * *");
    sidecar.settled(slot(0));
    sidecar.copied(false, at(0));
    assert_eq!(sidecar.step(at(MINUTE_MS - 9)), wait(9));
    assert_eq!(sidecar.step(at(MINUTE_MS)), Step::Copy);
    sidecar.copied(false, at(MINUTE_MS));
    assert_eq!(sidecar.step(at(2 * MINUTE_MS)), wait(30_000));
    assert_eq!(sidecar.step(at(3 * MINUTE_MS)), Step::Copy);
    sidecar.copied(true, at(3 * MINUTE_MS));
    assert_eq!(sidecar.step(at(3 * MINUTE_MS)), wait(30_000));
    // A backup that is due comes first.
    sidecar.copied(false, at(3 * MINUTE_MS));
    assert_eq!(sidecar.step(at(24 * HOUR_MS)), Step::BackUp(slot(24 * HOUR_MS)));
}

/// What befalls a sidecar.
#[derive(Clone, Debug)]
struct Turn {
    /// The monotonic clock goes on by so much before the next look.
    late_ms: u64,
    /// The calendar jumps by so much besides.
    jump_ms: i64,
    fails: bool,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let jump = prop_oneof![9 => Just(0), 1 => -48 * HOUR_MS..48 * HOUR_MS];
    let turn = (0u64..40_000, jump, any::<bool>()).prop_map(|(late_ms, jump_ms, fails)| Turn {
        late_ms,
        jump_ms,
        fails,
    });
    proptest::collection::vec(turn, 1..400)
}

proptest! {
    #[test]
    fn nothing_is_forgotten_and_nothing_done_twice(
        turns in turns(),
        cron in prop_oneof![Just("*/5 * * * *"), Just("0 * * * *"), Just("0 2 * * *")],
    ) {
        let mut sidecar = sidecar(cron);
        let schedule = Cron::parse(cron, "UTC").unwrap();
        let (mut now, mut settled, mut tried) = (at(0), None, None);
        for turn in turns {
            let step = sidecar.step(now);
            let newest = schedule.last_until(now.wall).unwrap();
            match step {
                Step::BackUp(slot) => {
                    prop_assert_eq!(slot, newest, "only the newest one is made up for");
                    prop_assert_ne!(Some(slot), settled, "it was settled");
                    let rest = tried.filter(|(tried, _)| *tried == slot).map(|(_, at)| now.mono - at);
                    prop_assert!(rest.is_none_or(|rest| rest >= Span::from_millis(REST_MS)));
                    tried = Some((slot, now.mono));
                    match turn.fails {
                        true => sidecar.failed(slot, now),
                        false => {
                            sidecar.settled(slot);
                            settled = Some(slot);
                        }
                    }
                    prop_assert_eq!(sidecar.is_failing(), turn.fails);
                }
                Step::Copy => {
                    prop_assert_eq!(Some(newest), settled, "a backup that is due comes first");
                    sidecar.copied(!turn.fails, now);
                }
                Step::Wait(span) => {
                    prop_assert!(span <= NAP && span > Span(0));
                    let rests = tried.is_some_and(|(tried, _)| tried == newest);
                    prop_assert!(Some(newest) == settled || rests, "{newest:?} is due");
                    now.mono = now.mono + span;
                    now.wall.0 += span.as_millis() as i64;
                }
            }
            now.mono = now.mono + Span::from_millis(turn.late_ms);
            now.wall.0 += turn.late_ms as i64 + turn.jump_ms;
        }
    }
}
