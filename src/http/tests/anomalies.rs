//! Weighted random with anomaly mitigation: a target that fails gets less, and gets it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::world::*;
use crate::model::{Algorithm, Carrier, GroupRouting};
use crate::routing::Anomalies;

/// Sends so many requests; how many of them the targets got.
async fn spread(world: &World, targets: &[&Target; 3], count: usize) -> [usize; 3] {
    let before = targets.map(Target::requests);
    let mut client = world.client().await;
    for _ in 0..count {
        client.get("/").await;
    }
    let mut got = targets.map(Target::requests);
    got.iter_mut().zip(before).for_each(|(got, before)| *got -= before);
    got
}

async fn a_target_that_fails_gets_less_until_it_recovers(carrier: Carrier) {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let bad = Target::new(move |_| match is_broken.load(Ordering::SeqCst) {
        true => Act::Send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".into()),
        false => ok(""),
    })
    .await;
    let (one, two) = (Target::new(|_| ok("")).await, Target::new(|_| ok("")).await);
    let routing = GroupRouting {
        algorithm: Algorithm::WeightedRandom,
        anomaly_mitigation: true,
        ..GroupRouting::default()
    };
    let plan = Plan { routing, ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &one), ("a", &two), ("a", &bad)]).await;
    let (all, mut anomalies) = ([&one, &two, &bad], Anomalies::default());
    let share = |got: [usize; 3]| got[2] * 100 / got.iter().sum::<usize>();
    let first = share(spread(&world, &all, 300).await);
    assert!((20..47).contains(&first), "{first}");
    for _ in 0..3 {
        anomalies.look(&world.reader.load());
        spread(&world, &all, 60).await;
    }
    let less = share(spread(&world, &all, 300).await);
    assert!(less < 10, "{less}");
    let gauge = |state| world.metric("roadstead_target_group_anomalies", state);
    assert_eq!(["anomalous", "mitigated"].map(gauge), [1, 1]);
    broken.store(false, Ordering::SeqCst);
    // What has failed so far is of windows before.
    anomalies.look(&world.reader.load());
    for _ in 0..20 {
        spread(&world, &all, 60).await;
        anomalies.look(&world.reader.load());
    }
    let again = share(spread(&world, &all, 300).await);
    assert!((20..47).contains(&again), "{again}");
    assert_eq!(["anomalous", "mitigated"].map(gauge), [0, 0]);
}

on_both_carriers!(a_target_that_fails_gets_less_until_it_recovers);
