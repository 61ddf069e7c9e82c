//! Several container instances: loss, draining, and what is found when one comes back.

use super::*;
use crate::model::{Contact, InstanceName, Membership, Task};
use crate::runtime::Runtime;

/// Longer than an instance may be silent.
const GONE: Duration = Duration::from_secs(600);

/// Two instances, `a` and `b`.
struct Pair {
    house: House,
    a: Sim,
    b: Sim,
}

async fn pair() -> Pair {
    let (a, b) = (Sim::new(1), Sim::new(2));
    let fleet: Fleet = [("a", &a), ("b", &b)]
        .into_iter()
        .map(|(name, sim)| (name.into(), Arc::new(sim.clone()) as Arc<dyn Runtime>))
        .collect();
    let house = House::of(MemoryJournal::default(), a.clone(), &fleet, Clock::paused(ORIGIN));
    let written = house.store.update(|tx| {
        for name in ["a", "b"] {
            let row = ContainerInstance::new(name.into(), InstanceKind::Process, Timestamp(0));
            tx.put(row.connected(Capacity { cpu: 4096, memory_mib: 4096 }));
        }
        Ok::<_, StoreError>(())
    });
    written.await.unwrap();
    house.scale(2).await;
    house.until("a task on each", |state| on(state, "a") == 1 && on(state, "b") == 1).await;
    house.until("steady", is_steady).await;
    Pair { house, a, b }
}

/// Running tasks that are to run, on an instance.
fn on(state: &State, instance: &str) -> usize {
    let here = |task: &&Arc<Task>| task.instance.as_str() == instance && task.is_live();
    let tasks = state.tasks.values().filter(here);
    tasks.filter(|task| task.known == TaskStatus::Running).count()
}

fn contact(state: &State, name: &str) -> Contact {
    state.instances[&InstanceName::new(name)].contact
}

/// How often a container was started, by task: nobody may start one twice.
fn most_starts(sim: &Sim) -> usize {
    let mut starts: BTreeMap<TaskId, usize> = BTreeMap::new();
    for effect in sim.history() {
        if matches!(effect.kind, EffectKind::Started { .. }) {
            *starts.entry(effect.task).or_default() += 1;
        }
    }
    starts.into_values().max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn tasks_of_a_lost_instance_are_replaced_and_its_strays_end_when_it_is_back() {
    let Pair { house, a, b } = pair().await;
    let stray = a.running()[0].0.clone();
    a.outage(GONE);
    house.until("silent", |state| contact(state, "a") == Contact::Silent).await;
    assert_eq!(on(&house.store.read(), "b"), 1, "silence alone replaces nothing");
    house.until("lost", |state| contact(state, "a") == Contact::Lost).await;
    house.until("two on b", |state| on(state, "b") == 2 && on(state, "a") == 0).await;
    let stopped = |state: &State| state.tasks[&stray].known == TaskStatus::Stopped;
    house.until("the lost one is given up", stopped).await;
    let state = house.store.read();
    assert_eq!(state.targets_of_task(&stray).count(), 0);
    let reason = state.tasks[&stray].stop.as_ref().unwrap().reason.clone();
    assert!(reason.ends_with("does not answer any more"), "{reason}");
    // It ran on: nobody could tell it to stop.
    assert_eq!(a.running().len(), 1);
    house.until("back", |state| contact(state, "a") == Contact::Connected).await;
    for _ in 0..400 {
        house.serve();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(a.observed().is_empty(), "the stray is removed: {:?}", a.observed());
    assert_eq!((on(&house.store.read(), "b"), most_starts(&a), most_starts(&b)), (2, 1, 1));
    let kinds: Vec<_> = a.history().into_iter().map(|effect| effect.kind).collect();
    assert!(kinds.contains(&EffectKind::StopSignalled) && kinds.contains(&EffectKind::Removed));
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_back_in_time_keeps_its_tasks() {
    let Pair { house, a, b } = pair().await;
    a.outage(Duration::from_secs(200));
    house.until("silent", |state| contact(state, "a") == Contact::Silent).await;
    house.until("back", |state| contact(state, "a") == Contact::Connected).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let state = house.store.read();
    assert_eq!((on(&state, "a"), on(&state, "b"), state.tasks.len()), (1, 1, 2));
    assert_eq!((most_starts(&a), most_starts(&b)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_drained_instance_gives_its_tasks_away_and_takes_them_again() {
    let Pair { house, a, b } = pair().await;
    let drain = |draining: bool| {
        house.store.update(move |tx| {
            let row = ContainerInstance::clone(&tx.state().instances[&InstanceName::new("a")]);
            let own = Membership { draining, ..Membership::default() };
            let memberships = [("c".into(), own)].into();
            tx.put(ContainerInstance { memberships, ..row });
            Ok::<_, StoreError>(())
        })
    };
    drain(true).await.unwrap();
    let mut least = 2;
    for _ in 0..600 {
        house.serve();
        let state = house.store.read();
        let healthy = |target: &&Arc<crate::model::Target>| {
            target.is_active() && state.verdict_state(target.id) == VerdictState::Healthy
        };
        least = least.min(state.targets.values().filter(healthy).count());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(least >= 2, "{least} targets were left in between");
    let state = house.store.read();
    assert_eq!((on(&state, "a"), on(&state, "b")), (0, 2));
    assert!(a.running().is_empty());
    assert_eq!(b.running().len(), 2);
    drain(false).await.unwrap();
    house.scale(4).await;
    house.until("both again", |state| on(state, "a") == 2 && on(state, "b") == 2).await;
}
