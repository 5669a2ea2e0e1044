//! The embedded store loses nothing that was acknowledged, wherever the power goes, and keeps
//! nothing by half: the power is cut at every single step in turn.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its disk has failed"
)]

mod life;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lamplighter_policies::ids::EntityId;
use lamplighter_policies::time::WallClock;
use lamplighter_runtime::store::embedded::{Embedded, OpenError, Options};
use lamplighter_runtime::store::{Delta, Nonce, StableStore, StoreError, StoredBatch};
use lamplighter_tests::simulated_disk::{FATES, Fate, SimulatedDisk};

use self::life::{Told, check, live};

/// Small, so that the script fills and empties several.
const SEGMENT_BYTES: u64 = 4 << 10;

#[tokio::test]
async fn power_may_go_at_any_step_of_a_life() {
    let mut step = 0;
    loop {
        let disk = SimulatedDisk::default();
        disk.cut_at(step);
        let mut told = Told::default();
        live(&disk, &mut told).await;
        let finished = !disk.is_cut();
        // Neighbouring steps are alike, so each fate meets each kind of step.
        let fate = FATES[usize::try_from(step).unwrap() % FATES.len()];
        let found = disk.after_power_loss(fate);
        check(&found, &told, &format!("cut at {step}, {fate:?}")).await;
        if finished {
            break;
        }
        step += 1;
    }
    assert!(step > 100, "the script has only {step} steps");
}

#[tokio::test]
async fn power_may_go_again_while_the_store_recovers() {
    let mut step = 0;
    loop {
        let disk = SimulatedDisk::default();
        disk.cut_at(step);
        let mut told = Told::default();
        live(&disk, &mut told).await;
        let fates = [
            (Fate::Sectors(0), Fate::Lost),
            (Fate::Sectors(1), Fate::Kept),
        ];
        let (first, second) = fates[usize::try_from(step % 2).unwrap()];
        // A different step of the recovery each time; the script has hundreds of steps.
        let found = disk.after_power_loss(first);
        found.cut_at(step % 13);
        drop(open(&found));
        let again = found.after_power_loss(second);
        let place = format!(
            "cut at {step}, {first:?}, again at {}, {second:?}",
            step % 13
        );
        check(&again, &told, &place).await;
        if !disk.is_cut() {
            break;
        }
        step += 1;
    }
}

#[tokio::test]
async fn a_flipped_bit_is_mended_or_told_and_harms_no_other_element() {
    let (disk, elements) = filled().await;
    let name = "segment-000000000001";
    let contents = disk.contents(name);
    let used = contents.iter().rposition(|byte| *byte != 0).unwrap();
    for offset in (0..=used).step_by(3) {
        let damaged = disk.copy();
        damaged.damage(name, offset, &[1 << (offset % 8)]);
        let hit = elements.iter().find_map(|(element, log)| {
            let batch = log.iter().find(|batch| {
                let place = find(&contents, &batch.bytes);
                (place..place + batch.bytes.len()).contains(&offset)
            })?;
            Some((element, batch.first))
        });
        let store = open(&damaged).unwrap();
        for (element, log) in &elements {
            let found = store.claim(element, Nonce(9), 0).await;
            match hit {
                Some((owner, index)) if owner == element => assert_eq!(
                    found.map(|(_, saved)| saved),
                    Err(bad(element, index, "its checksum does not match")),
                    "byte {offset}"
                ),
                Some(_) | None => assert_eq!(&found.unwrap().1.log, log, "byte {offset}"),
            }
        }
        store.close().await;
    }
}

#[tokio::test]
async fn a_record_that_is_wiped_is_missed_also_after_the_log_has_gone_on() {
    let (disk, elements) = filled().await;
    let name = "segment-000000000001";
    let contents = disk.contents(name);
    for (victim, log) in &elements {
        for batch in log {
            let place = find(&contents, &batch.bytes);
            // Both headers and the body.
            let wiped = &contents[place - 128..place + batch.bytes.len()];
            let damaged = disk.copy();
            damaged.damage(name, place - 128, wiped);
            for _ in 0..3 {
                let store = open(&damaged).unwrap();
                let found = store.claim(victim, Nonce(9), 0).await.unwrap_err();
                let StoreError::Damaged { element, place, .. } = found else {
                    panic!("{found}");
                };
                assert_eq!(
                    (&element, place),
                    (victim, format!("index {}", batch.first))
                );
                // Others live on, long enough for many segments to come and go.
                let fresh = id("fresh");
                let (fence, saved) = store.claim(&fresh, Nonce(9), 0).await.unwrap();
                for head in saved.head..saved.head + 30 {
                    store
                        .append(&fence, head, head + 1, vec![5; 900])
                        .await
                        .unwrap();
                    let delta = Delta {
                        upto: head + 1,
                        ..Delta::default()
                    };
                    store.checkpoint(&fence, delta).await.unwrap();
                }
                store.close().await;
            }
        }
    }
}

#[tokio::test]
async fn damage_that_comes_while_the_store_is_open_is_told_at_the_next_reading() {
    let (disk, elements) = filled().await;
    let store = open(&disk).unwrap();
    let (element, log) = elements.first_key_value().unwrap();
    let name = "segment-000000000001";
    let place = find(&disk.contents(name), &log[2].bytes);
    disk.damage(name, place, &[1]);
    let found = store.claim(element, Nonce(9), 0).await.unwrap_err();
    assert_eq!(
        found,
        bad(element, log[2].first, "its checksum does not match")
    );
}

#[tokio::test]
async fn after_a_failed_sync_nothing_more_is_written() {
    let disk = SimulatedDisk::default();
    let store = open(&disk).unwrap();
    let lamp = id("lamp");
    let (fence, _) = store.claim(&lamp, Nonce(1), 0).await.unwrap();
    store.append(&fence, 0, 1, b"kept".to_vec()).await.unwrap();
    disk.break_syncs();
    for head in 1..4 {
        let refused = store
            .append(&fence, head, head + 1, b"unknown".to_vec())
            .await
            .unwrap_err();
        assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
        assert!(
            refused.to_string().contains("the disk is broken"),
            "{refused}"
        );
    }
    let refused = store
        .checkpoint(
            &fence,
            Delta {
                upto: 1,
                ..Delta::default()
            },
        )
        .await;
    assert!(
        matches!(refused, Err(StoreError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(disk.writes_after_failure(), 0);
    let store = open(&disk.after_power_loss(Fate::Lost)).unwrap();
    let (_, saved) = store.claim(&lamp, Nonce(2), 0).await.unwrap();
    assert_eq!(saved.head, 1);
}

#[tokio::test]
async fn the_log_stays_small_while_one_element_never_checkpoints() {
    let disk = SimulatedDisk::default();
    let store = open(&disk).unwrap();
    let (slow, _) = store.claim(&id("slow"), Nonce(1), 0).await.unwrap();
    let (busy, _) = store.claim(&id("busy"), Nonce(1), 0).await.unwrap();
    let mut expected = Vec::new();
    for head in 0..300 {
        store
            .append(&busy, head, head + 1, vec![1; 900])
            .await
            .unwrap();
        let delta = Delta {
            upto: head + 1,
            ..Delta::default()
        };
        store.checkpoint(&busy, delta).await.unwrap();
        if head % 30 == 0 {
            let at = head / 30;
            let bytes = vec![u8::try_from(at).unwrap(); 50];
            let logged_at = store
                .append(&slow, at, at + 1, bytes.clone())
                .await
                .unwrap();
            expected.push(StoredBatch {
                first: at + 1,
                last: at + 1,
                logged_at,
                bytes,
            });
        }
    }
    let names = lamplighter_runtime::store::embedded::disk::Disk::names(&disk).unwrap();
    let segments = names
        .iter()
        .filter(|name| name.starts_with("segment-"))
        .count();
    assert!(segments <= 8, "{names:?}");
    assert_eq!(store.load(&slow).await.unwrap().log, expected);
    store.close().await;
    let store = open(&disk).unwrap();
    assert_eq!(store.load(&slow).await.unwrap().log, expected);
}

#[tokio::test]
async fn a_full_log_takes_no_batch_until_a_checkpoint_makes_room() {
    let disk = SimulatedDisk::default();
    let options = Options {
        log_bytes_max: 4_000,
        ..options(&disk)
    };
    let store = Embedded::open(Path::new("simulated"), options).unwrap();
    let (fence, _) = store.claim(&id("lamp"), Nonce(1), 0).await.unwrap();
    let mut head = 0;
    let refused = loop {
        match store.append(&fence, head, head + 1, vec![1; 500]).await {
            Ok(_) => head += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(refused, StoreError::Unavailable { .. }),
        "{refused}"
    );
    assert_eq!(head, 6);
    store
        .checkpoint(
            &fence,
            Delta {
                upto: head,
                ..Delta::default()
            },
        )
        .await
        .unwrap();
    store
        .append(&fence, head, head + 1, vec![1; 500])
        .await
        .unwrap();
}

#[tokio::test]
async fn times_never_go_back_even_if_the_clock_does() {
    let disk = SimulatedDisk::default();
    let store = Embedded::open(
        Path::new("simulated"),
        Options {
            clock: || WallClock(1_000),
            ..options(&disk)
        },
    );
    let store = store.unwrap();
    let (fence, _) = store.claim(&id("lamp"), Nonce(1), 0).await.unwrap();
    assert_eq!(
        store.append(&fence, 0, 1, vec![1]).await,
        Ok(WallClock(1_000))
    );
    store.close().await;
    let store = Embedded::open(
        Path::new("simulated"),
        Options {
            clock: || WallClock(10),
            ..options(&disk)
        },
    );
    let store = store.unwrap();
    assert_eq!(
        store.append(&fence, 1, 2, vec![2]).await,
        Ok(WallClock(1_000))
    );
}

#[tokio::test]
async fn a_directory_is_opened_by_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path(), Options::default()).unwrap();
    let refused = Embedded::open(directory.path(), Options::default()).unwrap_err();
    assert!(matches!(refused, OpenError::InUse(_)), "{refused}");
    store.close().await;
    let closed = store.summary(&id("lamp")).await.unwrap_err();
    assert!(matches!(closed, StoreError::Unavailable { .. }), "{closed}");
    Embedded::open(directory.path(), Options::default()).unwrap();
}

/// Two elements that wrote in turn, one group for each batch, and their logs.
async fn filled() -> (SimulatedDisk, BTreeMap<EntityId, Vec<StoredBatch>>) {
    let disk = SimulatedDisk::default();
    let store = open(&disk).unwrap();
    let mut elements = BTreeMap::new();
    let mut fences = Vec::new();
    for name in ["left", "right"] {
        fences.push(store.claim(&id(name), Nonce(1), 0).await.unwrap().0);
    }
    for head in 0..5 {
        for fence in &fences {
            let (first, last) = (head * 2 + 1, head * 2 + 2);
            let bytes = payload(&fence.element, first, 40);
            let written = store.append(fence, head * 2, last, bytes.clone()).await;
            let batch = StoredBatch {
                first,
                last,
                logged_at: written.unwrap(),
                bytes,
            };
            elements
                .entry(fence.element.clone())
                .or_insert_with(Vec::new)
                .push(batch);
        }
    }
    store.close().await;
    (disk, elements)
}

/// Bytes that are nobody else's.
fn payload(element: &EntityId, first: u64, bytes: usize) -> Vec<u8> {
    format!("{element} {first} ")
        .bytes()
        .cycle()
        .take(bytes)
        .collect()
}

fn find(contents: &[u8], bytes: &[u8]) -> usize {
    contents
        .windows(bytes.len())
        .position(|window| window == bytes)
        .unwrap()
}

fn bad(element: &EntityId, index: u64, reason: &str) -> StoreError {
    StoreError::Damaged {
        element: element.clone(),
        place: format!("index {index}"),
        reason: reason.into(),
    }
}

fn open(disk: &SimulatedDisk) -> Result<Embedded, OpenError> {
    Embedded::open(Path::new("simulated"), options(disk))
}

fn options(disk: &SimulatedDisk) -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        disk: Some(Arc::new(disk.clone())),
        ..Options::default()
    }
}

fn id(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}
