//! The drain race: a swap, its acknowledgement and a drain, against threads that decide all the
//! time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use roadstead::clock::{self, Timestamp};
use roadstead::metrics::Metrics;
use roadstead::model::{
    Account, Action, CLIENT_KEEP_ALIVE, Generation, IDLE_TIMEOUT, Listener, ListenerKey,
    LoadBalancer, LoadBalancerKind, Owner, Protocol, Registration, RegistrationId, Target,
    TargetGroup, Transport, Verdict, VerdictState, WeightedGroup,
};
use roadstead::routing::{Context, Outcome, Publisher, Reader, Slot, SocketKey, Trial, decide};
use roadstead::rules::Facts;
use roadstead::state::{Key, MemoryJournal, Store, StoreError, Tx};

use crate::support;

const THREADS: usize = 4;

fn front(tx: &mut Tx<'_>) {
    tx.put(LoadBalancer {
        name: "front".into(),
        id: "1".repeat(16),
        kind: LoadBalancerKind::Application,
        address: [127, 0, 0, 1].into(),
        idle_timeout: IDLE_TIMEOUT,
        client_keep_alive: CLIENT_KEEP_ALIVE,
        owner: Owner::File,
        created_at: Timestamp(0),
        options: Default::default(),
    });
    let at = (Protocol::Http, 80);
    tx.put(TargetGroup::new("web".into(), "2".repeat(16), at, Owner::File));
    tx.put(Listener {
        key: ListenerKey { load_balancer: "front".into(), port: 80 },
        id: "3".repeat(16),
        protocol: Protocol::Http,
        carrier: roadstead::model::Carrier::default(),
        rules: Vec::new(),
        default_action: Action::Forward(vec![WeightedGroup { group: "web".into(), weight: 1 }]),
        owner: Owner::File,
        options: Default::default(),
    });
}

/// Registers a healthy target at the address that every one of them has.
fn register(tx: &mut Tx<'_>) -> RegistrationId {
    let id = tx.next_registration();
    tx.put(Target {
        id,
        group: "web".into(),
        address: [127, 0, 0, 9].into(),
        port: 80,
        task: None,
        registration: Registration::Active,
        registered_at: Timestamp(0),
    });
    let state = VerdictState::Healthy;
    let description = String::new();
    tx.put(Verdict { target: id, state, reason: None, description, since: Timestamp(0) });
    id
}

fn drain(tx: &mut Tx<'_>, id: RegistrationId) {
    let Some(target) = tx.state().targets.get(&id).cloned() else { return };
    let registration = Registration::Draining { since: Timestamp(0) };
    tx.put(Target { registration, ..Target::clone(&target) });
}

/// What the deciding threads find wrong, and how much they did.
#[derive(Debug, Default)]
struct Tally {
    stop: AtomicBool,
    /// Every registration up to this one has been drained to its end.
    drained: AtomicU64,
    decisions: AtomicU64,
    late: AtomicU64,
}

/// A data thread in small: it acknowledges between decisions, never inside one.
fn decide_all_the_time(
    index: usize,
    reader: Reader,
    slot: Slot,
    tally: Arc<Tally>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut rng = fastrand::Rng::with_seed(index as u64);
        let key = SocketKey {
            address: std::net::SocketAddr::from(([127, 0, 0, 1], 80)),
            transport: Transport::Tcp,
        };
        let mut acknowledged = Generation(0);
        let mut held = Vec::new();
        while !tally.stop.load(Ordering::Relaxed) {
            let routing = Arc::clone(&reader.load());
            if routing.generation > acknowledged {
                acknowledged = routing.generation;
                slot.acknowledge(acknowledged);
            }
            let Some(listener) = routing.listeners.get(&key) else { continue };
            let now = clock::now();
            let mut trial = Trial::first(index, &mut rng, now);
            if let Outcome::Forward { guard, .. } =
                decide(listener, &Facts::default(), &mut trial).outcome
            {
                if guard.endpoint().id.0 <= tally.drained.load(Ordering::SeqCst) {
                    tally.late.fetch_add(1, Ordering::Relaxed);
                }
                held.push(guard);
            }
            if held.len() > 8 {
                held.clear();
                tally.decisions.fetch_add(9, Ordering::Relaxed);
                std::thread::yield_now();
            }
        }
    })
}

#[tokio::test]
async fn no_guard_is_taken_after_a_drain_has_ended() {
    let cycles = support::full_or(10_000, 500);
    let metrics = Metrics::new(THREADS);
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let reader = Reader::new(&metrics);
    let account = Account::new("local", "0".repeat(12));
    let context = Context { account, domain: "test".into(), metrics };
    let publisher = Publisher::new(store.clone(), reader.clone(), context);
    let change = |tx: &mut Tx<'_>| {
        front(tx);
        Ok::<_, StoreError>(register(tx))
    };
    let mut current = store.update(change).await.unwrap().value;
    publisher.publish();
    let tally = Arc::new(Tally::default());
    let threads: Vec<_> = (0..THREADS)
        .map(|n| decide_all_the_time(n, reader.clone(), reader.register(), Arc::clone(&tally)))
        .collect();
    for _ in 0..cycles {
        let old = current;
        let swap = move |tx: &mut Tx<'_>| {
            drain(tx, old);
            Ok::<_, StoreError>(register(tx))
        };
        let committed = store.update(swap).await.unwrap();
        current = committed.value;
        publisher.publish();
        reader.wait_for(committed.generation).await.unwrap();
        let endpoint = Arc::clone(&reader.load().endpoints[&old]);
        support::until("the drained endpoint's last exchange", || endpoint.in_flight() == 0).await;
        tally.drained.store(old.0, Ordering::SeqCst);
        let gone = move |tx: &mut Tx<'_>| {
            tx.remove(Key::Verdict(old));
            tx.remove(Key::Target(old));
            Ok::<_, StoreError>(())
        };
        store.update(gone).await.unwrap();
        assert_eq!(endpoint.in_flight(), 0);
    }
    tally.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let (decisions, late) = (&tally.decisions, &tally.late);
    support::note(&format!(
        "{cycles} drains against {} decisions",
        decisions.load(Ordering::Relaxed)
    ));
    assert!(decisions.load(Ordering::Relaxed) > cycles);
    assert_eq!(late.load(Ordering::Relaxed), 0, "guards taken after their drain");
}
