//! Which cluster may make backups where some are already, and whether they may be plain.

use super::sample::*;
use super::store::Store;
use raftkv_core::backup::BackupId;
use raftkv_core::backup::admission::{Refusal, check};
use raftkv_core::backup::catalog::{Catalog, ReadCatalog};
use raftkv_core::backup::create::{Settings, Source};
use raftkv_core::backup::format::Plaintext;
use raftkv_core::backup::{Key, KeyRing};
use raftkv_core::ids::{ClusterId, Epoch};

const OTHER: ClusterId = ClusterId(*b"another cluster!");

/// Two backups of one cluster, of epoch 1, as somebody with these keys lists them; and the newer one.
fn listed(sealed_for: &[Key], keys: &[Key]) -> (Catalog, BackupId) {
    let mut store = Store::default();
    let make = |index| backup(&mut store, &state(9), index, settings(GZIP, sealed_for));
    let newer = [8, 9].map(make)[1];
    let mut list = ReadCatalog::new(KeyRing::new(keys.iter().cloned()));
    store.drive(&mut list);
    (list.outcome().unwrap().clone().unwrap(), newer)
}

/// What a cluster would back up.
fn of(cluster: ClusterId, epoch: u64) -> Source {
    let state = state(9);
    let (header, _) = stream(&state, 10);
    Source { cluster, epoch: Epoch(epoch), ..source(&header, &state) }
}

#[test]
fn clusters_of_one_epoch_do_not_share_a_place() {
    let keys = [key(1)];
    let settings = settings(GZIP, &keys);
    let (catalog, newer) = listed(&keys, &keys);
    let asks = |cluster, epoch| check(&catalog, Plaintext::Refused, &of(cluster, epoch), &settings);
    assert_eq!(asks(CLUSTER, 1), Ok(()));
    assert_eq!(asks(OTHER, 2), Ok(()), "it was restored from the other one");
    let other = Refusal::OtherCluster { backup: newer, cluster: CLUSTER, own: OTHER };
    assert_eq!(asks(OTHER, 1), Err(other));
    let (epoch, own) = (Epoch(1), Epoch(0));
    let heir = Refusal::Heir { backup: newer, cluster: CLUSTER, epoch, own };
    assert_eq!(asks(OTHER, 0), Err(heir));
}

#[test]
fn what_no_key_at_hand_vouches_for_refuses_no_cluster() {
    let keys = [key(2)];
    for sealed_for in [&[key(1)][..], &[]] {
        let (catalog, _) = listed(sealed_for, &keys);
        for epoch in [0, 1] {
            let source = of(OTHER, epoch);
            let admitted = check(&catalog, Plaintext::Refused, &source, &settings(GZIP, &keys));
            assert_eq!(admitted, Ok(()), "epoch {epoch}");
        }
    }
}

#[test]
fn plain_backups_beside_encrypted_ones_must_be_asked_for() {
    let source = of(CLUSTER, 1);
    let (sealed, newer) = listed(&[key(1)], &[]);
    let (plain, _) = listed(&[], &[]);
    let lost = settings(GZIP, &[]);
    let said = Settings { plain_is_said: true, ..lost.clone() };
    let asks = |catalog, settings| check(catalog, Plaintext::Allowed, &source, settings);
    assert_eq!(asks(&sealed, &lost), Err(Refusal::WouldBePlain { backup: newer }));
    assert_eq!(asks(&sealed, &said), Ok(()));
    assert_eq!(asks(&plain, &lost), Ok(()));
    assert_eq!(asks(&plain, &settings(GZIP, &[key(1)])), Ok(()), "encryption may begin");
}
