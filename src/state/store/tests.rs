//! Tests of the store: what a commit promises.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Timestamp;
use crate::metrics::Metrics;
use crate::model::{
    Cluster, Owner, Protocol, Registration, Target, TargetGroup, Verdict, VerdictState,
};

fn cluster(name: &str) -> Cluster {
    Cluster::new(name.into(), Owner::Api)
}

fn group(name: &str) -> TargetGroup {
    TargetGroup::new(name.into(), "0".repeat(16), (Protocol::Http, 80), Owner::File)
}

fn target(id: RegistrationId, group: &str) -> Target {
    Target {
        id,
        group: group.into(),
        address: [127, 0, 0, 9].into(),
        port: 80,
        task: None,
        registration: Registration::Active,
        registered_at: Timestamp(0),
    }
}

fn verdict(target: RegistrationId, state: VerdictState) -> Verdict {
    Verdict { target, state, reason: None, description: String::new(), since: Timestamp(0) }
}

/// A group with one target, and the target's id.
async fn with_target(store: &Store) -> RegistrationId {
    let committed = store
        .update(|tx| {
            let id = tx.next_registration();
            tx.put(group("web"));
            tx.put(target(id, "web"));
            Ok::<_, StoreError>(id)
        })
        .await;
    committed.unwrap().value
}

#[tokio::test]
async fn commit_is_current_when_it_returns_and_wakes_watchers() {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let mut commits = store.watch();
    commits.borrow_and_update();
    let change = |tx: &mut Tx<'_>| {
        tx.put(cluster("one"));
        Ok::<_, StoreError>(7)
    };
    let committed = store.update(change).await.unwrap();
    assert_eq!(committed.value, 7);
    assert_eq!(store.read().generation, committed.generation);
    assert!(store.read().clusters.contains_key(&"one".into()));
    commits.changed().await.unwrap();
    assert_eq!(commits.borrow().generation, committed.generation);
}

#[tokio::test]
async fn change_that_changes_nothing_makes_no_generation() {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let change = |tx: &mut Tx<'_>| {
        tx.put(cluster("one"));
        Ok::<_, StoreError>(())
    };
    let first = store.update(change).await.unwrap().generation;
    assert_eq!(store.update(change).await.unwrap().generation, first);
}

#[tokio::test]
async fn refused_change_leaves_nothing_behind() {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let before = store.read();
    let outcome = store
        .update(|tx| {
            tx.put(cluster("one"));
            tx.put(target(RegistrationId(1), "missing"));
            Ok::<_, StoreError>(())
        })
        .await;
    let message = outcome.unwrap_err().to_string();
    assert_eq!(message, "target r-1 names target group missing, which does not exist");
    assert_eq!(*store.read(), *before);
}

#[tokio::test]
async fn what_is_in_use_cannot_be_removed() {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let id = with_target(&store).await;
    let remove = |tx: &mut Tx<'_>| {
        tx.remove(Key::TargetGroup("web".into()));
        Ok::<_, StoreError>(())
    };
    let message = store.update(remove).await.unwrap_err().to_string();
    assert_eq!(message, format!("target group web is in use by target {id}"));
}

#[tokio::test]
async fn old_states_stay_whole_for_their_readers() {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let id = with_target(&store).await;
    let old = store.read();
    let gone = move |tx: &mut Tx<'_>| {
        tx.remove(Key::Target(id));
        Ok::<_, StoreError>(())
    };
    store.update(gone).await.unwrap();
    assert!(old.targets.contains_key(&id) && !store.read().targets.contains_key(&id));
}

#[tokio::test]
async fn verdicts_go_on_while_the_disk_fails_and_ride_with_the_next_write() {
    let journal = MemoryJournal::default();
    let store = Store::memory(&journal).unwrap();
    let id = with_target(&store).await;
    journal.set_failing(true);
    let write = |tx: &mut Tx<'_>| {
        tx.put(cluster("one"));
        Ok::<_, StoreError>(())
    };
    let error = store.update(write).await.unwrap_err().to_string();
    assert_eq!(error, "not written: journal writes are made to fail");
    assert!(!store.read().clusters.contains_key(&"one".into()));
    store.update_riding(|tx| tx.put(verdict(id, VerdictState::Healthy))).unwrap();
    assert_eq!(store.read().verdict_state(id), VerdictState::Healthy);
    journal.set_failing(false);
    store.update(write).await.unwrap();
    let again = Store::memory(&journal).unwrap().read();
    assert_eq!(again.verdict_state(id), VerdictState::Healthy);
    assert!(again.clusters.contains_key(&"one".into()));
}

#[tokio::test]
async fn verdict_of_a_gone_target_is_refused_and_durable_rows_do_not_ride() {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let gone = verdict(RegistrationId(77), VerdictState::Healthy);
    assert!(store.update_riding(|tx| tx.put(gone)).is_err());
    assert!(store.update_riding(|tx| tx.put(cluster("one"))).is_err());
    assert!(store.read().clusters.is_empty());
}

#[tokio::test]
async fn generations_and_ids_never_fall_over_restarts() {
    let journal = MemoryJournal::default();
    let (mut generation, mut id) = (Generation(0), RegistrationId(0));
    for _ in 0..5 {
        let store = Store::memory(&journal).unwrap();
        assert!(store.read().generation > generation);
        let next = store
            .update(|tx| {
                let id = tx.next_registration();
                tx.put(group("web"));
                tx.put(target(id, "web"));
                Ok::<_, StoreError>(id)
            })
            .await
            .unwrap();
        assert!(next.value > id && next.generation > generation);
        (generation, id) = (next.generation, next.value);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_journal_keeps_what_was_acknowledged_and_groups_commits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store = Store::open(Journal::open(&path).unwrap(), &Metrics::new(1)).unwrap();
    let writers = (0..64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let name = format!("c{n}");
            let change = move |tx: &mut Tx<'_>| {
                tx.put(cluster(&name));
                Ok::<_, StoreError>(())
            };
            store.update(change).await.unwrap()
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let before = store.read();
    drop(store);
    let store = reopen(&path).await;
    assert_eq!(store.read().clusters, before.clusters);
    assert!(store.read().generation > before.generation);
}

/// The writer thread lets go of the file a moment after the last handle.
async fn reopen(path: &std::path::Path) -> Store {
    for _ in 0..500 {
        match Journal::open(path) {
            Ok(journal) => return Store::open(journal, &Metrics::new(1)).unwrap(),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    panic!("{} stays locked", path.display());
}

#[tokio::test]
async fn a_second_process_cannot_open_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let _first = Journal::open(&path).unwrap();
    assert!(Journal::open(&path).is_err());
}

#[tokio::test]
async fn the_journal_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    // One that an earlier version made for everybody to read.
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _journal = Journal::open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let database = redb::Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    txn.open_table(meta).unwrap().insert("schema", 99).unwrap();
    txn.commit().unwrap();
    drop(database);
    let message = Journal::open(&path).unwrap_err().to_string();
    assert!(message.contains("has schema 99, this version reads up to 1"), "{message}");
}

#[tokio::test]
async fn errors_of_a_change_come_back_as_they_are() {
    #[derive(Debug, PartialEq)]
    struct Own(&'static str);
    impl From<StoreError> for Own {
        fn from(_: StoreError) -> Self {
            Self("store")
        }
    }
    impl From<Infallible> for Own {
        fn from(never: Infallible) -> Self {
            match never {}
        }
    }
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let outcome = store
        .update(|tx| {
            tx.put(cluster("one"));
            Err::<(), _>(Own("no"))
        })
        .await;
    assert_eq!(outcome.unwrap_err(), Own("no"));
    assert!(Arc::ptr_eq(&store.read().clusters, &store.read().clusters));
    assert!(store.read().clusters.is_empty());
}

#[tokio::test]
async fn a_closed_store_has_written_everything_and_given_up_its_journal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let store = Store::open(Journal::open(&path).unwrap(), &Metrics::new(1)).unwrap();
    let id = with_target(&store).await;
    store.update_riding(|tx| tx.put(verdict(id, VerdictState::Healthy))).unwrap();
    let late = store.clone();
    store.close().await;
    store.close().await;

    let next = Store::open(Journal::open(&path).unwrap(), &Metrics::new(1)).unwrap();
    assert_eq!(next.read().verdict_state(id), VerdictState::Healthy);
    assert!(next.read().generation > late.read().generation);
    let refused = late.update(|tx| {
        tx.put(cluster("late"));
        Ok::<_, StoreError>(())
    });
    assert!(matches!(refused.await, Err(StoreError::Closed)));
    assert_eq!(late.read().verdict_state(id), VerdictState::Healthy);
}
