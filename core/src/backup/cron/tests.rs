//! Slots by hand, around every change of a clock, and for any bytes.

use super::*;
use proptest::prelude::*;

fn wall(text: &str) -> Wall {
    Wall(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn utc(wall: Wall) -> String {
    Timestamp::from_millisecond(wall.0).unwrap().to_string()
}

/// The slots after an instant, in UTC, as many as expected.
fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
    let cron = Cron::parse(expression, zone).unwrap();
    let slots: Vec<String> =
        cron.upcoming(wall(after), expected.len()).into_iter().map(utc).collect();
    assert_eq!(slots, expected, "{expression} in {zone}");
    for slot in &slots {
        assert_eq!(utc(cron.last_until(wall(slot)).unwrap()), *slot, "{expression} in {zone}");
    }
    for pair in slots.windows(2) {
        let just_before = Wall(wall(&pair[1]).0 - 1);
        assert_eq!(utc(cron.last_until(just_before).unwrap()), pair[0], "{expression} in {zone}");
    }
}

#[test]
fn common_schedules() {
    let after = "2026-01-30T13:10:00Z";
    check("0 0 * * *", "UTC", after, &["2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"]);
    check("0 */6 * * *", "UTC", after, &["2026-01-30T18:00:00Z", "2026-01-31T00:00:00Z"]);
    check("0 0 * * 0", "UTC", after, &["2026-02-01T00:00:00Z", "2026-02-08T00:00:00Z"]);
    check("0 2 1 * *", "UTC", after, &["2026-02-01T02:00:00Z", "2026-03-01T02:00:00Z"]);
    check("*/30 * * * *", "UTC", after, &["2026-01-30T13:30:00Z", "2026-01-30T14:00:00Z"]);
}

#[test]
fn names_ranges_steps_and_lists() {
    let after = "2026-03-01T00:00:00Z";
    let friday = ["2026-03-06T08:30:00Z", "2026-03-06T12:30:00Z", "2026-03-07T08:30:00Z"];
    check("30 8-15/4 * * fri,SAT", "UTC", after, &friday);
    check("0 0 * * SAT-SUN", "UTC", after, &["2026-03-07T00:00:00Z", "2026-03-08T00:00:00Z"]);
    check("0 0 * * 7", "UTC", after, &["2026-03-08T00:00:00Z"]);
    check("5/25 23 31 DEC *", "UTC", after, &["2026-12-31T23:05:00Z", "2026-12-31T23:30:00Z"]);
    check("0 0 29 2 *", "UTC", after, &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
    // Either day field is enough where both are restricted; a step from `*` is no restriction.
    check("0 0 4 * MON", "UTC", after, &["2026-03-02T00:00:00Z", "2026-03-04T00:00:00Z"]);
    check("0 0 */2 * MON", "UTC", after, &["2026-03-09T00:00:00Z", "2026-03-23T00:00:00Z"]);
    check("0 2 * * *", "Asia/Kolkata", after, &["2026-03-01T20:30:00Z"]);
}

#[test]
fn a_skipped_time_is_the_first_moment_behind_the_gap() {
    // Berlin, 29 March 2026: 02:00 becomes 03:00 at 01:00 UTC.
    let after = "2026-03-28T12:00:00Z";
    check("30 2 * * *", "Europe/Berlin", after, &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    let half_hours = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
    check("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", &half_hours);
    // Lord Howe Island moves by half an hour; Samoa left out 30 December 2011.
    check("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", &["2026-10-03T15:30:00Z"]);
    check("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", &["2011-12-30T10:00:00Z"]);
}

#[test]
fn a_time_that_happens_twice_is_its_first_occurrence() {
    // Berlin, 25 October 2026: 03:00 becomes 02:00 at 01:00 UTC.
    let after = "2026-10-24T12:00:00Z";
    check("30 2 * * *", "Europe/Berlin", after, &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let half_hours = ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"];
    check("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", &half_hours);
    let cron = Cron::parse("30 2 * * *", "Europe/Berlin").unwrap();
    let again = wall("2026-10-25T01:10:00Z");
    assert_eq!(cron.last_until(again), Some(wall("2026-10-25T00:30:00Z")));
}

#[test]
fn mistakes_are_named() {
    let cases = [
        ("0 0 * *", "UTC", "this one has 4"),
        ("0 0 * * * *", "UTC", "this one has 6"),
        ("@daily", "UTC", "this one has 1"),
        ("60 0 * * *", "UTC", "the minute is \"60\": \"60\" is no number from 0 to 59"),
        ("0 24 * * *", "UTC", "the hour"),
        ("0 0 0 * *", "UTC", "the day of the month"),
        ("0 0 * 13 *", "UTC", "three letters"),
        ("0 0 * * 8", "UTC", "the day of the week"),
        ("0 0 * * MONDAY", "UTC", "the day of the week"),
        ("5-1 0 * * *", "UTC", "ends before it begins"),
        ("*/0 0 * * *", "UTC", "a step is a number from 1"),
        ("*/ 0 * * *", "UTC", "a step is a number from 1"),
        ("+1 0 * * *", "UTC", "the minute"),
        ("1,,2 0 * * *", "UTC", "the minute"),
        ("0 0 30 2 *", "UTC", "no day ever matches"),
        ("0 0 * * *", "Mars/Olympus", "no time zone"),
        ("0 0 * * *", "../../etc/passwd", "no time zone"),
        ("0 0 * * *", "", "no time zone"),
    ];
    for (expression, zone, part) in cases {
        let error = Cron::parse(expression, zone).unwrap_err().to_string();
        assert!(error.contains(part), "{expression} in {zone}: {error}");
    }
    let long = "0,".repeat(200);
    assert!(matches!(Cron::parse(&long, "UTC"), Err(CronError::TooLong { .. })));
}

#[test]
fn the_ends_of_time_have_no_slots_and_no_panics() {
    let cron = Cron::parse("* * * * *", "America/New_York").unwrap();
    for wall in [i64::MIN, i64::MAX, -377_705_023_201_000, 253_402_207_200_999] {
        let _ = (cron.next_after(Wall(wall)), cron.last_until(Wall(wall)));
    }
}

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
];

proptest! {
    #[test]
    fn any_text_is_read_or_refused(expression in "[ -~]{0,40}", zone in "[A-Za-z/_]{0,20}") {
        let _ = Cron::parse(&expression, &zone);
    }

    #[test]
    fn slots_ascend_and_agree_in_both_directions(
        minute in "([0-9]|[1-5][0-9]|\\*|\\*/(7|15|30))",
        hour in "([0-9]|1[0-9]|2[0-3]|\\*|\\*/[1-6])",
        day in "([1-9]|1[0-9]|2[0-8]|\\*)",
        weekday in "([0-7]|\\*)",
        zone in proptest::sample::select(ZONES.to_vec()),
        after in -2_000_000_000_000_i64..4_000_000_000_000,
    ) {
        let cron = Cron::parse(&format!("{minute} {hour} {day} * {weekday}"), zone).unwrap();
        let slots = cron.upcoming(Wall(after), 5);
        prop_assert_eq!(slots.len(), 5);
        prop_assert!(slots[0].0 > after && slots.is_sorted_by(|a, b| a < b));
        for pair in slots.windows(2) {
            prop_assert_eq!(cron.last_until(Wall(pair[1].0 - 1)), Some(pair[0]));
            prop_assert_eq!(cron.last_until(pair[1]), Some(pair[1]));
        }
    }
}
