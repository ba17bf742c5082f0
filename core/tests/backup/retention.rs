//! Retention: the plan by examples, and what holds of every plan.

use super::sample::*;
use proptest::prelude::*;
use raftkv_core::backup::blob::ObjectName;
use raftkv_core::backup::catalog::{Catalog, Entry, Hold, Judged, Proof, Standing};
use raftkv_core::backup::config::Retention;
use raftkv_core::backup::format::{Plaintext, Suite};
use raftkv_core::backup::marker::Owner;
use raftkv_core::backup::metadata::{Checksum, CompressionType, Metadata, Status};
use raftkv_core::backup::retention::{
    Clocks, Delete, Keep, Period, Plan, RetentionError, Verdict, plan,
};
use raftkv_core::backup::{BackupId, KeyId};
use raftkv_core::ids::{ClusterId, Epoch, NodeId};
use raftkv_core::kv::StateHash;
use raftkv_core::rng::Seed;
use raftkv_core::time::Wall;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const HOUR_MS: i64 = DAY_MS / 24;
/// Noon of a Wednesday, 2026-03-11.
const NOW_MS: i64 = 1_773_230_400_000;

fn id(number: u64) -> BackupId {
    BackupId::draw(&mut Seed::from_number(number).fork("retention"))
}

/// A genuine backup at a log index, made so many hours ago.
fn entry(index: u64, hours_ago: i64) -> Entry {
    let metadata = Metadata {
        id: id(index),
        timestamp: Wall(NOW_MS - hours_ago * HOUR_MS),
        status: Status::Complete,
        error: String::new(),
        cluster: CLUSTER,
        epoch: Epoch(1),
        node: NODE,
        members: Vec::new(),
        index,
        term: 1,
        revision: index,
        state_hash: StateHash::default(),
        keys: 1,
        size_bytes: 1,
        plain_checksum: Checksum::default(),
        data_bytes: 1,
        checksum: Checksum::default(),
        compression: CompressionType::Gzip,
        suite: Suite::Aes256Gcm,
        key_ids: vec![KeyId([1; 16])],
        version: "0.1.0".into(),
    };
    Entry {
        id: id(index),
        standing: Standing::Complete(Proof::Authentic),
        metadata: Some(metadata),
        data_bytes: Some(1),
        front: None,
        is_leaving: false,
        run: None,
        written: None,
        pin: None,
        holds: Vec::new(),
        key_ids: Vec::new(),
        opened_by: Vec::new(),
        judged: Judged::default(),
    }
}

/// Backups so many hours ago, oldest first.
fn entries(hours_ago: impl IntoIterator<Item = i64>) -> Vec<Entry> {
    hours_ago.into_iter().zip(1..).map(|(hours_ago, index)| entry(index, hours_ago)).collect()
}

fn rules(retention_days: u32, max_backups: u32, min_backups: u32) -> Retention {
    Retention { retention_days, max_backups, min_backups, ..Retention::default() }
}

fn decide(rules: &Retention, entries: &[Entry]) -> Result<Plan, RetentionError> {
    let clocks = Clocks { now: Wall(NOW_MS), store: None };
    plan(rules, Plaintext::Refused, entries, clocks)
}

fn verdict(plan: &Plan, index: u64) -> &Verdict {
    &plan.decisions.iter().find(|decision| decision.id == id(index)).unwrap().verdict
}

fn deleted(plan: &Plan) -> Vec<BackupId> {
    plan.deletions().collect()
}

#[test]
fn fifteen_backups_of_which_three_are_old_and_ten_may_stay() {
    let all = entries((32..35).rev().chain(0..12).map(|place| match place {
        old @ 32.. => old * 24,
        new => (12 - new) * 24,
    }));
    assert_eq!(all.len(), 15);
    let plan = decide(&rules(30, 10, 3), &all).unwrap();
    assert_eq!(deleted(&plan), [1, 2, 3, 4, 5].map(id));
    assert_eq!(verdict(&plan, 1), &Verdict::Delete(Delete::Age { days: 34, limit: 30 }));
    assert_eq!(verdict(&plan, 3), &Verdict::Delete(Delete::Age { days: 32, limit: 30 }));
    assert_eq!(verdict(&plan, 4), &Verdict::Delete(Delete::Count { limit: 10 }));
    assert_eq!(verdict(&plan, 6), &Verdict::Keep(Keep::WithinLimits));
    assert_eq!(verdict(&plan, 15), &Verdict::Keep(Keep::Minimum(3)));
    assert_eq!(verdict(&plan, 1).to_string(), "it is 34 days old, and 30 is the limit");
}

/// Machines are replaced, and a restored cluster has another name than the one before.
#[test]
fn nothing_is_forgotten_because_nodes_or_the_cluster_have_other_names() {
    let mut all = entries((1..=6).rev());
    for (place, entry) in (1..).zip(&mut all) {
        let metadata = entry.metadata.as_mut().unwrap();
        metadata.node = NodeId::new(place, place);
        if place > 3 {
            (metadata.cluster, metadata.epoch) = (ClusterId(*b"another cluster!"), Epoch(2));
        }
    }
    assert_eq!(deleted(&decide(&rules(0, 2, 0), &all).unwrap()), [1, 2, 3, 4].map(id));
}

#[test]
fn the_newest_stay_however_old_they_are() {
    let all = entries([50, 49, 48, 47].map(|days| days * 24));
    assert_eq!(deleted(&decide(&rules(30, 10, 3), &all).unwrap()), [id(1)]);
    assert_eq!(deleted(&decide(&rules(30, 10, 0), &all).unwrap()), [1, 2, 3].map(id));
    assert_eq!(deleted(&decide(&rules(0, 1, 0), &all).unwrap()), [1, 2, 3].map(id));
    assert_eq!(deleted(&decide(&rules(0, 0, 0), &all).unwrap()), []);
    assert_eq!(deleted(&decide(&rules(30, 10, 3), &all[..1]).unwrap()), []);
    assert_eq!(deleted(&decide(&rules(30, 10, 3), &[]).unwrap()), []);
}

#[test]
fn pins_and_holds_keep_backups() {
    let mut all = entries([50, 49, 48, 1].map(|days| days * 24));
    all[0].pin = Some("before the migration".into());
    let owner = Owner([7; 16]);
    let hold = Hold { owner, note: "a restore".into(), beats: Some(1), written: None };
    all[1].holds = vec![hold];
    let plan = decide(&rules(30, 1, 1), &all).unwrap();
    assert_eq!(deleted(&plan), [id(3)]);
    assert_eq!(verdict(&plan, 1).to_string(), "it is pinned: before the migration");
    assert_eq!(verdict(&plan, 2).to_string(), "it is in use by a restore");
}

#[test]
fn a_hold_keeps_a_backup_as_long_as_it_gives_signs_of_life() {
    let owner = Owner([7; 16]);
    let held = |hours_ago: i64| {
        let mut all = entries([50, 49, 48, 1].map(|days| days * 24));
        let written = Some(Wall(NOW_MS - hours_ago * HOUR_MS - 1));
        all[1].holds = vec![Hold { owner, note: "a restore".into(), beats: Some(1), written }];
        all
    };
    let at = |hours_ago: i64, store| {
        let clocks = Clocks { now: Wall(NOW_MS), store };
        plan(&rules(30, 1, 1), Plaintext::Refused, &held(hours_ago), clocks).unwrap()
    };
    let store = Some(Wall(NOW_MS));
    assert_eq!(deleted(&at(23, store)), [id(1), id(3)]);
    assert_eq!(at(23, store).forgotten, []);
    assert_eq!(deleted(&at(24, store)), [1, 2, 3].map(id));
    let last = Wall(NOW_MS - 24 * HOUR_MS - 1);
    assert_eq!(at(24, store).forgotten, [(ObjectName::hold(id(2), owner), last)]);
    // Only the store's own clock tells.
    assert_eq!(deleted(&at(24, None)), [id(1), id(3)]);
}

#[test]
fn the_newest_backup_of_a_cluster_is_its_own_and_not_from_the_future() {
    let mut all = entries([5, 4, 3, -2]);
    all[2].metadata.as_mut().unwrap().cluster = ClusterId(*b"another cluster!");
    all.push(Entry { standing: Standing::Complete(Proof::Plain), ..entry(9, 1) });
    let catalog = Catalog { entries: all, ..Catalog::default() };
    let ids = |plaintext| {
        let (newest, ahead) = catalog.newest_by(CLUSTER, plaintext, Wall(NOW_MS));
        (newest.map(|(entry, _)| entry.id), ahead.map(|it| it.id))
    };
    assert_eq!(ids(Plaintext::Refused), (Some(id(2)), Some(id(4))));
    assert_eq!(ids(Plaintext::Allowed), (Some(id(9)), Some(id(4))));
    let nobody = catalog.newest_by(ClusterId([0xEE; 16]), Plaintext::Allowed, Wall(NOW_MS));
    assert_eq!(nobody, (None, None));
}

#[test]
fn the_newest_of_each_hour_day_week_and_month_stay() {
    // Every hour, for a hundred days.
    let all = entries((0..100 * 24).rev());
    let hourly = Retention { keep_hourly: 5, ..rules(1, 0, 1) };
    let plan = |rules: &Retention| decide(rules, &all).unwrap();
    assert_eq!(all.len() - deleted(&plan(&hourly)).len(), 24, "a day's, which 5 hours are part of");
    let daily = Retention { keep_daily: 7, ..rules(1, 0, 1) };
    let kept = |plan: &Plan, period| {
        let is = |verdict: &Verdict| verdict == &Verdict::Keep(Keep::Newest(period));
        plan.decisions.iter().filter(|decision| is(&decision.verdict)).count()
    };
    // Of today the newest is kept as the minimum.
    assert_eq!(kept(&plan(&daily), Period::Day), 6);
    assert_eq!(all.len() - deleted(&plan(&daily)).len(), 24 + 5, "yesterday's last is not old yet");
    let weekly = Retention { keep_weekly: 4, ..rules(1, 0, 1) };
    assert_eq!(kept(&plan(&weekly), Period::Week), 3);
    let monthly = Retention { keep_monthly: 12, ..rules(1, 0, 1) };
    // December to March, of which the newest is the minimum.
    assert_eq!(kept(&plan(&monthly), Period::Month), 3);
    let sunday = all.iter().position(|entry| {
        // Noon of 11 March is 60 hours after midnight of Monday.
        entry.metadata.as_ref().unwrap().timestamp.0 == NOW_MS - 61 * HOUR_MS
    });
    let sunday = all[sunday.unwrap()].metadata.as_ref().unwrap().index;
    assert_eq!(verdict(&plan(&weekly), sunday), &Verdict::Keep(Keep::Newest(Period::Week)));
}

#[test]
fn what_is_not_complete_and_genuine_neither_goes_nor_counts() {
    let all = entries([50, 49, 48, 47, 2, 1].map(|days| days * 24));
    let before = deleted(&decide(&rules(30, 2, 2), &all).unwrap());
    assert_eq!(before, [1, 2, 3, 4].map(id));
    let standings = [
        Standing::Incomplete,
        Standing::NotWhole(Status::Failed),
        Standing::NotWhole(Status::InProgress),
        Standing::DataMissing("data.db is missing".into()),
        Standing::Damaged("a bit".into()),
        Standing::Forged("by someone".into()),
        Standing::Unreadable("no answer".into()),
        Standing::Complete(Proof::Plain),
        Standing::Complete(Proof::KeyMissing(vec![])),
    ];
    for standing in standings {
        let mut more = all.clone();
        for index in 100..110 {
            // Newest by index, and from the future: it must not even stop the pruning.
            more.push(Entry { standing: standing.clone(), ..entry(index, -10_000) });
            more.push(Entry { standing: standing.clone(), metadata: None, ..entry(index + 50, 0) });
        }
        let plan = decide(&rules(30, 2, 2), &more).unwrap();
        assert_eq!(deleted(&plan), before, "{standing:?}");
        assert!(matches!(verdict(&plan, 100), Verdict::Keep(Keep::NotCounted(_))), "{standing:?}");
    }
}

#[test]
fn what_broke_off_goes_after_a_day_by_the_stores_clock() {
    let broken = |index: u64, hours_ago: i64, released: bool| {
        let status = match released {
            true => Status::Failed,
            false => Status::InProgress,
        };
        Entry {
            standing: Standing::NotWhole(status),
            metadata: None,
            run: Some(raftkv_core::backup::making::status(id(index), "why", Wall(0), released)),
            written: Some(Wall(NOW_MS - hours_ago * HOUR_MS)),
            ..entry(index, 0)
        }
    };
    let owner = Owner([1; 16]);
    let held = vec![Hold { owner, note: "a copy".into(), beats: None, written: None }];
    let mut all = entries([3, 2, 1]);
    all.extend([broken(10, 25, true), broken(11, 25, false), broken(12, 23, false)]);
    all.push(Entry { holds: held, ..broken(13, 99, true) });
    all.push(Entry { pin: Some("look at it".into()), ..broken(14, 99, true) });
    all.push(Entry { written: None, ..broken(15, 99, true) });
    // Without a status it may be a whole backup that has lost its metadata.
    let lost = Entry { run: None, standing: Standing::Incomplete, ..broken(16, 99, true) };
    all.push(lost);
    let at = |store| {
        let clocks = Clocks { now: Wall(NOW_MS), store };
        plan(&rules(30, 2, 3), Plaintext::Refused, &all, clocks).unwrap()
    };
    let going: std::collections::BTreeSet<_> = at(Some(Wall(NOW_MS))).deletions().collect();
    assert_eq!(going, [10, 11].map(id).into());
    // Whoever has no lock does not know that nobody goes on with it.
    assert_eq!(at(None).deletions().count(), 0);
}

#[test]
fn plain_backups_count_where_nothing_is_encrypted() {
    let mut all = entries([3, 2, 1]);
    all.iter_mut().for_each(|entry| entry.standing = Standing::Complete(Proof::Plain));
    let clocks = Clocks { now: Wall(NOW_MS), store: None };
    let decided = plan(&rules(0, 1, 1), Plaintext::Allowed, &all, clocks).unwrap();
    assert_eq!(deleted(&decided), [1, 2].map(id));
    assert_eq!(deleted(&decide(&rules(0, 1, 1), &all).unwrap()), []);
}

#[test]
fn clocks_that_disagree_stop_everything() {
    let days = |days: [i64; 5]| entries(days.map(|days| days * 24));
    let at = |now_ms: i64, store: Option<i64>, all: &[Entry]| {
        let clocks = Clocks { now: Wall(now_ms), store: store.map(Wall) };
        plan(&rules(30, 10, 3), Plaintext::Refused, all, clocks)
    };
    let regular = days([5, 4, 3, 2, 1]);
    assert!(at(NOW_MS, None, &regular).is_ok());
    assert!(at(NOW_MS, Some(NOW_MS + HOUR_MS), &regular).is_ok());
    for years in [-10, 10] {
        let wrong = at(NOW_MS + years * 365 * DAY_MS, None, &regular);
        match years {
            -10 => assert!(matches!(wrong, Err(RetentionError::Future { .. })), "{wrong:?}"),
            _ => assert!(matches!(wrong, Err(RetentionError::Gap { .. })), "{wrong:?}"),
        }
        let store = at(NOW_MS, Some(NOW_MS + years * 365 * DAY_MS), &regular);
        assert!(matches!(store, Err(RetentionError::StoreClock { .. })), "{store:?}");
    }
    // The clock jumped before the newest was made, so that it agrees with the newest.
    let ten_years = 3650;
    let jumped = at(NOW_MS, None, &days([4, 3, 2, 1, 0].map(|days| days + ten_years)));
    assert!(matches!(jumped, Err(RetentionError::Gap { .. })), "{jumped:?}");
    let jumped = at(NOW_MS, None, &days([4 + ten_years, 3 + ten_years, 2 + ten_years, 1, 0]));
    assert!(matches!(jumped, Err(RetentionError::Gap { .. })), "{jumped:?}");
    // One of the newest was made by a clock that is behind.
    let behind = at(NOW_MS, None, &days([5, 4, 3, 900, 1]));
    assert!(matches!(behind, Err(RetentionError::Disorder { .. })), "{behind:?}");
    // Everything that is refused names a way out.
    let said = behind.unwrap_err().to_string();
    let from_directory = format!("or {} was made from the directory of a stopped node", id(3));
    assert!(said.contains(&from_directory) && said.contains("prune again when"), "{said}");
    let said = at(NOW_MS - 10 * DAY_MS, None, &regular).unwrap_err().to_string();
    assert!(said.contains("delete that backup by its id"), "{said}");
}

#[test]
fn one_wrong_clock_long_ago_makes_nothing_old() {
    let mut hours: Vec<i64> = (1..11).rev().map(|days| days * 24).collect();
    hours[2] = 24 * 9_000;
    let all = entries(hours);
    assert_eq!(deleted(&decide(&rules(30, 0, 2), &all).unwrap()), []);
}

#[test]
fn clusters_that_share_a_place_are_not_mixed_up() {
    let other = |mut entry: Entry, epoch| {
        let metadata = entry.metadata.as_mut().unwrap();
        metadata.cluster = ClusterId(*b"another cluster!");
        metadata.epoch = Epoch(epoch);
        entry
    };
    let mut all = entries([5, 4, 3]);
    all.push(other(entry(4, 2), 1));
    assert!(matches!(decide(&rules(30, 1, 1), &all), Err(RetentionError::TwoClusters { .. })));
    // A restored cluster continues the order, with the next epoch: its first index may be lower.
    all[3] = other(entry(4, 2), 2);
    all[3].metadata.as_mut().unwrap().index = 1;
    assert_eq!(deleted(&decide(&rules(30, 1, 1), &all).unwrap()), [1, 2, 3].map(id));
    // The one that it was restored from goes on: its new backup would be the first to go.
    all.push(entry(5, 1));
    let hour_later = decide(&rules(30, 1, 1), &all);
    assert!(hour_later.is_ok(), "clocks differ by as much: {hour_later:?}");
    all[4] = entry(5, 0);
    let error = decide(&rules(30, 1, 1), &all).unwrap_err();
    assert!(matches!(error, RetentionError::StillAlive { id: found, .. } if found == id(5)));
}

fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
    let one = (0i64..40 * 24, 0u8..10, any::<bool>(), any::<bool>());
    prop::collection::vec(one, 0..30).prop_map(|mut all| {
        all.sort_by_key(|(hours_ago, ..)| -hours_ago);
        let of = |((hours_ago, kind, pinned, held), index)| {
            let mut entry: Entry = entry(index, hours_ago);
            match kind {
                0 => entry.standing = Standing::Forged("by someone".into()),
                1 => entry.standing = Standing::Incomplete,
                2 if pinned => entry.pin = Some(String::new()),
                3 if held => {
                    let owner = Owner([1; 16]);
                    entry.holds =
                        vec![Hold { owner, note: "x".into(), beats: None, written: None }];
                }
                _ => {}
            }
            entry
        };
        all.into_iter().zip(1..).map(of).collect()
    })
}

fn any_rules() -> impl Strategy<Value = Retention> {
    (0u32..40, 0u32..12, 0u32..6, 0u32..4, 0u32..4, 0u32..4).prop_map(
        |(retention_days, max_backups, min_backups, keep_hourly, keep_daily, keep_weekly)| {
            Retention {
                retention_days,
                max_backups,
                min_backups,
                keep_hourly,
                keep_daily,
                keep_weekly,
                keep_monthly: keep_weekly / 2,
                prune_on_backup: false,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_holds_of_every_plan(all in any_entries(), rules in any_rules()) {
        let decided = decide(&rules, &all).unwrap();
        let gone = deleted(&decided);
        prop_assert_eq!(decided.decisions.len(), all.len());
        let good: Vec<&Entry> = all.iter().filter(|entry| entry.is_complete()).collect();
        let left: Vec<&&Entry> = good.iter().filter(|entry| !gone.contains(&entry.id)).collect();
        // Never below the minimum, and the newest always stay.
        let minimum = (rules.min_backups.max(1) as usize).min(good.len());
        prop_assert!(left.len() >= minimum);
        for entry in good.iter().rev().take(minimum) {
            prop_assert!(!gone.contains(&entry.id));
        }
        for entry in &all {
            if gone.contains(&entry.id) {
                prop_assert!(entry.is_complete() && entry.pin.is_none() && entry.holds.is_empty());
            }
        }
        // The order of the list does not matter.
        let mut reversed = all.clone();
        reversed.reverse();
        prop_assert_eq!(&decide(&rules, &reversed).unwrap(), &decided);
        // Entries that do not count change nothing.
        let only_good: Vec<Entry> = good.iter().map(|entry| (*entry).clone()).collect();
        prop_assert_eq!(deleted(&decide(&rules, &only_good).unwrap()), gone.clone());
        // Once carried out, there is nothing more to do.
        let rest: Vec<Entry> =
            all.iter().filter(|entry| !gone.contains(&entry.id)).cloned().collect();
        prop_assert_eq!(deleted(&decide(&rules, &rest).unwrap()), []);
    }

    #[test]
    fn stricter_limits_never_keep_more(all in any_entries(), rules in any_rules()) {
        prop_assume!(rules.retention_days > 1 && rules.max_backups > 1);
        let stricter = Retention {
            retention_days: rules.retention_days - 1,
            max_backups: rules.max_backups - 1,
            ..rules.clone()
        };
        let gone = deleted(&decide(&rules, &all).unwrap());
        let more = deleted(&decide(&stricter, &all).unwrap());
        prop_assert!(gone.iter().all(|id| more.contains(id)));
    }
}
