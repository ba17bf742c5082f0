//! A run's options as named numbers, so that a person can change them one by one: `--set voters=1`.
//!
//! Every setting has a plainest value, at which it makes the least of a story; that is where shrinking takes it.

use raftkv_core::backup::compress::Compression;
use raftkv_core::time::Span;
use raftkv_sim::model::store::{Damage, Outage};
use raftkv_sim::random::Ppm;
use raftkv_sim::world::options::{FaultKind, Options};

/// One number of a run's options.
#[derive(Clone, Copy)]
pub struct Setting {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Where it makes the least of a story.
    pub plainest: u64,
    get: fn(&Options) -> u64,
    set: fn(&mut Options, u64),
}

impl Setting {
    /// The setting's value.
    pub fn get(&self, options: &Options) -> u64 {
        (self.get)(options)
    }

    /// Changes it.
    pub fn set(&self, options: &mut Options, value: u64) {
        (self.set)(options, value);
    }
}

/// A field that is a number, chance, span or switch.
macro_rules! setting {
    ($name:literal, $plainest:expr, $($field:ident).+) => {
        Setting {
            name: $name,
            plainest: $plainest,
            get: |options| options.$($field).+.to_number(),
            set: |options, value| options.$($field).+ = Number::from_number(value),
        }
    };
}

/// A kind of fault, which may strike or not.
macro_rules! fault {
    ($name:literal, $kind:ident) => {
        Setting {
            name: $name,
            plainest: 0,
            get: |options| u64::from(options.faults.contains(&FaultKind::$kind)),
            set: |options, value| set_fault(options, FaultKind::$kind, value > 0),
        }
    };
}

/// What the store may be like, or what may happen to its objects.
macro_rules! trouble {
    ($name:literal, $list:ident, $kind:ident::$one:ident) => {
        Setting {
            name: $name,
            plainest: 0,
            get: |options| u64::from(options.backups.$list.contains(&$kind::$one)),
            set: |options, value| {
                let before = std::mem::take(&mut options.backups.$list);
                let is_on = |kind: &$kind| match *kind == $kind::$one {
                    true => value > 0,
                    false => before.contains(kind),
                };
                options.backups.$list = $kind::ALL.into_iter().filter(is_on).collect();
            },
        }
    };
}

/// All settings, those first that make the greatest difference.
pub const SETTINGS: &[Setting] = &[
    setting!("voters", 1, voters),
    setting!("learners", 0, learners),
    setting!("spares", 0, spares),
    setting!("chaos_us", 0, chaos),
    setting!("clients", 1, clients),
    setting!("watchers", 0, watchers),
    setting!("leave_dead", 0, leave_dead),
    fault!("fault.kill", Kill),
    fault!("fault.power_cut", PowerCut),
    fault!("fault.power_cut_all", PowerCutAll),
    fault!("fault.pause", Pause),
    fault!("fault.slow", Slow),
    fault!("fault.partition", Partition),
    fault!("fault.client_partition", ClientPartition),
    fault!("fault.swizzle_clog", SwizzleClog),
    fault!("fault.clock_step", ClockStep),
    fault!("fault.disk_full", DiskFull),
    fault!("fault.disk_loss", DiskLoss),
    fault!("fault.bit_rot", BitRot),
    fault!("fault.leader_transfer", LeaderTransfer),
    fault!("fault.snapshot_save", SnapshotSave),
    fault!("fault.member_join", MemberJoin),
    fault!("fault.member_add", MemberAdd),
    fault!("fault.member_promote", MemberPromote),
    fault!("fault.member_remove", MemberRemove),
    fault!("fault.member_replace", MemberReplace),
    fault!("fault.leader_remove", LeaderRemove),
    fault!("fault.lost_write", LostWrite),
    fault!("fault.misdirected_write", MisdirectedWrite),
    fault!("fault.lost_file", LostFile),
    fault!("fault.leader_partition", LeaderPartition),
    fault!("fault.slow_link", SlowLink),
    fault!("fault.restart_storm", RestartStorm),
    fault!("fault.pause_all", PauseAll),
    fault!("fault.backup_run", BackupRun),
    fault!("fault.backup_schedule", BackupSchedule),
    fault!("fault.maker_power_cut", MakerPowerCut),
    fault!("fault.maker_killed", MakerKilled),
    fault!("fault.snapshot_power_cut", SnapshotPowerCut),
    fault!("fault.membership_power_cut", MembershipPowerCut),
    fault!("fault.leader_overtaken", LeaderOvertaken),
    fault!("fault.stop", Stop),
    fault!("fault.roll_back", RollBack),
    setting!("disaster.after_us", 0, disaster.after),
    setting!("disaster.voters", 1, disaster.voters),
    setting!("disaster.old_nodes_wake", 0, disaster.old_nodes_wake),
    setting!("disaster.again_ppm", 0, disaster.again),
    setting!("backup.every_us", 0, backups.every),
    setting!("backup.by_cluster", 0, backups.by_cluster),
    setting!("retention.by_nodes", 0, backups.nodes_prune),
    setting!("backup.kill_ppm", 0, backups.kill),
    setting!("backup.errands_ppm", 0, backups.errands),
    setting!("backup.recipients", 0, backups.recipients),
    setting!("backup.loses_metadata_ppm", 0, backups.loses_metadata),
    setting!("backup.rotates", 0, backups.rotates),
    setting!("backup.gzip", 0, backups.compression),
    setting!("backup.chunk_bytes", 1 << 20, backups.bounds.chunk_bytes),
    setting!("backup.chunks_in_flight", 1, backups.bounds.chunks_in_flight),
    setting!("backup.part_bytes", 1 << 20, backups.bounds.part_bytes),
    setting!("backup.parts_in_flight", 1, backups.bounds.parts_in_flight),
    setting!("backup.strike_every_us", 20_000_000, backups.strike_every),
    setting!("retention.every_us", 0, backups.prune_every),
    setting!("retention.days", 0, backups.rules.retention_days),
    setting!("retention.max_backups", 0, backups.rules.max_backups),
    setting!("retention.min_backups", 2, backups.rules.min_backups),
    setting!("retention.keep_hourly", 0, backups.rules.keep_hourly),
    setting!("retention.keep_daily", 0, backups.rules.keep_daily),
    setting!("retention.keep_weekly", 0, backups.rules.keep_weekly),
    setting!("retention.keep_monthly", 0, backups.rules.keep_monthly),
    trouble!("store.down", outages, Outage::Down),
    trouble!("store.denied", outages, Outage::Denied),
    trouble!("store.delete_denied", outages, Outage::DeleteDenied),
    trouble!("store.full", outages, Outage::Full),
    trouble!("store.slow", outages, Outage::Slow),
    trouble!("damage.flip", damages, Damage::Flip),
    trouble!("damage.truncate", damages, Damage::Truncate),
    trouble!("damage.delete", damages, Damage::Delete),
    trouble!("damage.swap", damages, Damage::Swap),
    trouble!("damage.roll_back", damages, Damage::RollBack),
    setting!("store.latency_mean_us", 1_000, backups.store.latency_mean),
    setting!("store.timeout_us", 500_000, backups.store.timeout),
    setting!("store.transient_ppm", 0, backups.store.transient),
    setting!("store.request_lost_ppm", 0, backups.store.request_lost),
    setting!("store.answer_lost_ppm", 0, backups.store.answer_lost),
    setting!("store.late_ppm", 0, backups.store.late),
    setting!("store.retried_ppm", 0, backups.store.retried),
    setting!("store.stale_listing_ppm", 0, backups.store.stale_listing),
    setting!("store.staleness_us", 500_000, backups.store.staleness),
    setting!("copies", 0, backups.copies),
    setting!("copies.required", 1, backups.required_copies),
    setting!("copies.latency_mean_us", 1_000, backups.copy_store.latency_mean),
    setting!("copies.timeout_us", 500_000, backups.copy_store.timeout),
    setting!("copies.transient_ppm", 0, backups.copy_store.transient),
    setting!("copies.request_lost_ppm", 0, backups.copy_store.request_lost),
    setting!("copies.answer_lost_ppm", 0, backups.copy_store.answer_lost),
    setting!("copies.late_ppm", 0, backups.copy_store.late),
    setting!("copies.retried_ppm", 0, backups.copy_store.retried),
    setting!("copies.stale_listing_ppm", 0, backups.copy_store.stale_listing),
    setting!("copies.staleness_us", 500_000, backups.copy_store.staleness),
    setting!("driver.inbox_inputs", 16_384, driver.inbox_inputs),
    setting!("driver.turn_mean_us", 0, driver.turn_mean),
    setting!("driver.dawdles_ppm", 0, driver.dawdles),
    setting!("backup_lease_us", 60_000_000, config.backup_lease),
    setting!("with_reference", 0, with_reference),
    setting!("network.loss_ppm", 0, network.loss),
    setting!("network.corrupt_ppm", 0, network.corrupt),
    setting!("network.duplicate_ppm", 0, network.duplicate),
    setting!("network.replay_ppm", 0, network.replay),
    setting!("network.ordered", 1, network.ordered),
    setting!("network.capacity", u64::MAX, network.capacity),
    setting!("network.delay_min_us", 100, network.delay_min),
    setting!("network.delay_mean_us", 200, network.delay_mean),
    setting!("client_network.loss_ppm", 0, client_network.loss),
    setting!("disk.hang_ppm", 0, disk.hang),
    setting!("disk.read_error_ppm", 0, disk.read_error),
    setting!("disk.write_error_ppm", 0, disk.write_error),
    setting!("disk.sync_error_ppm", 0, disk.sync_error),
    setting!("disk.access_mean_us", 20, disk.access_mean),
    setting!("disk.sync_mean_us", 200, disk.sync_mean),
    setting!("clock.drift_ppm", 0, clock.drift),
    setting!("clock.steps", 0, clock.steps),
    setting!("busy_us", 0, busy),
    setting!("mix.put", 1, workload.mix.put),
    setting!("mix.get", 0, workload.mix.get),
    setting!("mix.range", 0, workload.mix.range),
    setting!("mix.delete", 0, workload.mix.delete),
    setting!("mix.txn", 0, workload.mix.txn),
    setting!("mix.lease", 0, workload.mix.lease),
    setting!("mix.compact", 0, workload.mix.compact),
    setting!("keys", 1, workload.keys),
    setting!("value_bytes", 10, workload.value_bytes),
    setting!("sessions_ppm", 0, workload.sessions),
    setting!("pipeline", 1, workload.pipeline),
    setting!("reads_anywhere_ppm", 0, workload.reads_anywhere),
    setting!("values_alike", 0, workload.alike),
    setting!("think_us", 1_000_000, workload.think),
    setting!("snapshot_entries", 8_192, config.snapshot_entries),
    setting!("snapshot_interval_us", 120_000_000, config.snapshot_interval),
    setting!("snapshots_kept", 3, config.snapshots_kept),
    setting!("segment_bytes", 64 << 10, config.segment_bytes),
    setting!("trailing_entries", 4_096, config.trailing_entries),
    setting!("history_revisions", 100_000, config.history_revisions),
    setting!("inflight_requests", 65_536, config.limits.inflight_requests),
    setting!("watch_backlog_events", 65_536, config.limits.watch_backlog_events),
    setting!("fault_every_us", 5_000_000, fault_every),
    setting!("strikes_from", 0, strikes.start),
    setting!("strikes_until", 0, strikes.end),
];

/// Changes options as told: `name=value`.
pub fn change(options: &mut Options, words: &str) -> Result<(), String> {
    let wanted = words.split_once('=').ok_or_else(|| format!("{words:?} is not NAME=VALUE"))?;
    let setting = SETTINGS.iter().find(|setting| setting.name == wanted.0);
    let setting = setting.ok_or_else(|| {
        let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        format!("{:?} is no setting; these are: {}", wanted.0, names.join(" "))
    })?;
    let value = wanted.1.parse().map_err(|_| format!("{:?} is no number", wanted.1))?;
    setting.set(options, value);
    Ok(())
}

/// What must be set to get from the options of a seed to these: `name=value` each.
pub fn differences(from: &Options, to: &Options) -> Vec<String> {
    let differs = |setting: &&Setting| setting.get(from) != setting.get(to);
    let changed = SETTINGS.iter().filter(differs);
    changed.map(|setting| format!("{}={}", setting.name, setting.get(to))).collect()
}

fn set_fault(options: &mut Options, kind: FaultKind, on: bool) {
    options.faults.retain(|fault| *fault != kind);
    if on {
        options.faults.push(kind);
        options.faults.sort_unstable();
    }
}

/// What can be a setting. Spans count in microseconds, switches are 0 or 1.
trait Number {
    fn to_number(self) -> u64;
    fn from_number(number: u64) -> Self;
}

macro_rules! number {
    ($type:ty, $value:ident => $to:expr, $number:ident => $from:expr) => {
        impl Number for $type {
            fn to_number(self) -> u64 {
                let $value = self;
                $to
            }

            fn from_number($number: u64) -> Self {
                $from
            }
        }
    };
}

number!(u64, value => value, number => number);
number!(u32, value => value.into(), number => u32::try_from(number).unwrap_or(u32::MAX));
number!(usize, value => value as u64, number => usize::try_from(number).unwrap_or(usize::MAX));
number!(bool, value => value.into(), number => number > 0);
number!(Ppm, value => value.0.into(), number => Ppm(u32::from_number(number).min(1_000_000)));
// 0 is never.
number!(Option<Span>, value => value.map_or(0, Number::to_number), number => (number > 0).then(|| Span::from_number(number)));
number!(Compression, value => u64::from(value != Compression::None), number => match number {
    0 => Compression::None,
    _ => Compression::Gzip { level: 1 },
});
number!(Span, value => value.0 / 1_000, number => Span(number.saturating_mul(1_000)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_lead_from_one_run_to_another() {
        let (from, to) = (Options::draw(3), Options::draw(4));
        let mut options = from.clone();
        let words = differences(&from, &to);
        assert!(words.len() > 5, "{words:?}");
        words.iter().for_each(|words| change(&mut options, words).expect("it is a setting"));
        assert_eq!(differences(&options, &to), Vec::<String>::new());
        // They know everything but the seed, and what is less than a microsecond.
        options.seed = to.seed;
        let mut to = to;
        for setting in SETTINGS {
            let value = setting.get(&to);
            setting.set(&mut to, value);
        }
        assert_eq!(format!("{options:#?}"), format!("{to:#?}"));
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        let mut options = Options::calm(1);
        for words in ["voters", "voters=x", "votes=1"] {
            assert!(change(&mut options, words).is_err(), "{words}");
        }
    }
}
