//! Readers of a hub without sockets.

use super::*;
use crate::model::{Cluster, ClusterName, Owner, Task, TaskDefinition};
use crate::state::{MemoryJournal, StoreError};

fn hub() -> (Store, Events) {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let account = Account::new("r", "1".repeat(12));
    let events = Events::new(store.clone(), account, None, Metrics::new(0));
    (store, events)
}

/// A commit with one task more.
async fn add(store: &Store, name: &str) {
    let (name, now) = (name.to_owned(), Timestamp(7));
    let written = store.update(move |tx| {
        let cluster = ClusterName::from("c");
        let definition = TaskDefinition::new("f".into(), 1, Vec::new());
        let task = Task::new(name.as_str().into(), cluster.clone(), definition.key(), now);
        tx.put(Cluster::new(cluster, Owner::Api));
        tx.put(definition);
        tx.put(task);
        Ok::<_, StoreError>(())
    });
    written.await.unwrap();
}

/// Ids of the tasks that events tell of.
fn tasks(events: impl IntoIterator<Item = Arc<Told>>) -> String {
    let of = |told: Arc<Told>| {
        let event: serde_json::Value = serde_json::from_slice(&told.text).unwrap();
        let arn = event["resources"][0].as_str().unwrap().to_owned();
        arn.rsplit_once('/').unwrap().1.to_owned()
    };
    events.into_iter().map(of).collect::<Vec<_>>().join(" ")
}

fn drained(live: &mut mpsc::Receiver<Arc<Told>>) -> Vec<Arc<Told>> {
    std::iter::from_fn(|| live.try_recv().ok()).collect()
}

#[tokio::test]
async fn reader_that_comes_back_gets_what_it_missed_and_is_told_of_a_gap() {
    let (store, events) = hub();
    let cut = CancellationToken::new;
    let mut first = events.subscribe(None, cut()).unwrap();
    for name in ["a", "b", "c"] {
        add(&store, name).await;
        events.look(Timestamp(9));
        events.look(Timestamp(9));
    }
    let got = drained(&mut first.live);
    assert_eq!(tasks(got.clone()), "a b c");
    assert!(got.is_sorted_by_key(|told| told.number));
    let again = events.subscribe(Some(got[0].number), cut()).unwrap();
    assert_eq!((again.gap, tasks(again.replay)), (false, "b c".to_owned()));
    let new = events.subscribe(Some(got[2].number), cut()).unwrap();
    assert_eq!((new.gap, tasks(new.replay)), (false, String::new()));
    for number in 0..RING {
        add(&store, &format!("t{number}")).await;
        events.look(Timestamp(9));
    }
    let late = events.subscribe(Some(got[0].number), cut()).unwrap();
    assert_eq!((late.gap, late.replay.len()), (true, RING));
    let just = events.subscribe(Some(got[2].number), cut()).unwrap();
    assert_eq!((just.gap, just.replay.len()), (false, RING));
}

#[tokio::test]
async fn slow_reader_is_cut_and_counted_and_others_go_on() {
    let (store, events) = hub();
    let (slow_cut, cut) = (CancellationToken::new(), CancellationToken::new());
    let mut slow = events.subscribe(None, slow_cut.clone()).unwrap();
    let mut quick = events.subscribe(None, cut.clone()).unwrap();
    let mut count = 0;
    for number in 0..=BEHIND {
        assert!(!slow_cut.is_cancelled());
        add(&store, &format!("t{number}")).await;
        events.look(Timestamp(9));
        count += drained(&mut quick.live).len();
    }
    assert_eq!((slow_cut.is_cancelled(), cut.is_cancelled()), (true, false));
    assert_eq!((drained(&mut slow.live).len(), count), (BEHIND, BEHIND + 1));
    assert_eq!(events.0.cut.total(), 1);
    for _ in 1..READERS {
        let other = events.subscribe(None, cut.clone()).unwrap();
        std::mem::forget(other);
    }
    assert!(events.subscribe(None, cut.clone()).is_none());
    drop(quick);
    assert!(events.subscribe(None, cut).is_some());
}

#[test]
fn numbers_read_back_what_they_print() {
    let number = Number { generation: 12, place: 3 };
    assert_eq!(number.to_string().parse(), Ok(number));
    for text in ["", "12", "12.", ".3", "a.b", "-1.0"] {
        assert_eq!(text.parse::<Number>(), Err(BadNumber), "{text}");
    }
}

#[test]
fn envelope_is_eventbridges() {
    let account = Account::new("r", "1".repeat(12));
    let detail = json!({ "eventName": "N", "nothing": null });
    let event = Event { kind: Kind::Action, resource: "arn:x".to_owned(), detail };
    let text = envelope(&account, &event, "id", Timestamp(1_700_000_000_123_456));
    let expected = json!({
        "version": "0",
        "id": "id",
        "detail-type": "ECS Service Action",
        "source": "aws.ecs",
        "account": "111111111111",
        "time": "2023-11-14T22:13:20Z",
        "region": "r",
        "resources": ["arn:x"],
        "detail": { "eventName": "N" },
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    assert!(!text.contains('\n'));
    let cluster = account.cluster(&ClusterName::within("far-1", "c")).to_string();
    let text = envelope(&account, &Event { resource: cluster, ..event }, "id", Timestamp(0));
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["region"], "far-1");
}
