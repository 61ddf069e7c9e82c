//! Targets that fail or are slow though their health checks pass.

use std::time::Duration;

use super::world::*;
use crate::clock;
use crate::model::{Algorithm, Carrier, GroupRouting, OutlierEjection};

/// The first ejection; long enough for a slow machine to send in it what it should.
const BASE: Duration = Duration::from_secs(3);

fn bad() -> Act {
    Act::Send("HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n".into())
}

fn ejecting(rules: OutlierEjection) -> GroupRouting {
    GroupRouting { outlier_ejection: Some(rules), ..GroupRouting::default() }
}

fn ejections(world: &World, reason: &str) -> u64 {
    let label = format!("reason=\"{reason}\"");
    world.metric("roadstead_target_group_ejections_total", &label)
}

/// How long the target that is ejected longest still is.
fn ejected_for(world: &World) -> Duration {
    let now = clock::now();
    let routing = world.reader.load();
    let ends = routing.endpoints.values().filter_map(|endpoint| endpoint.outlier.until(now));
    ends.max().map(|end| end.since(now)).unwrap_or_default()
}

async fn statuses(world: &World, count: usize) -> Vec<u16> {
    let mut client = world.client().await;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(client.get("/").await.status());
    }
    all
}

async fn failing_targets_are_left_alone_for_a_while(carrier: Carrier) {
    let rules = OutlierEjection {
        consecutive_5xx: 3,
        base_time: BASE,
        max_time: 10 * BASE,
        ..OutlierEjection::default()
    };
    let (good, broken) = (Target::new(|_| ok("")).await, Target::new(|_| bad()).await);
    let plan = Plan { routing: ejecting(rules), ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &good), ("a", &broken)]).await;
    let first = statuses(&world, 20).await;
    assert_eq!(first.iter().filter(|status| **status == 500).count(), 3, "{first:?}");
    assert_eq!(broken.requests(), 3);
    assert_eq!(ejections(&world, "consecutive_5xx"), 1);
    assert_eq!(world.metric("roadstead_target_group_ejected_targets", "\"a\""), 1);
    // It comes back by itself, and goes for longer.
    until("the first ejection is over", || ejected_for(&world).is_zero()).await;
    let second = statuses(&world, 20).await;
    assert_eq!(second.iter().filter(|status| **status == 500).count(), 3, "{second:?}");
    assert!(ejected_for(&world) > BASE, "{:?}", ejected_for(&world));
    assert_eq!(statuses(&world, 6).await, [200; 6]);
    assert_eq!(ejections(&world, "consecutive_5xx"), 2);
}

async fn targets_that_refuse_connections_are_ejected(carrier: Carrier) {
    let rules = OutlierEjection { consecutive_failures: 2, ..OutlierEjection::default() };
    let good = Target::new(|_| ok("")).await;
    let plan = Plan { routing: ejecting(rules), ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &good)]).await;
    world.register("a", nobody()).await;
    assert_eq!(statuses(&world, 20).await, [200; 20]);
    assert_eq!(ejections(&world, "consecutive_failures"), 1);
    assert_eq!(world.metric("roadstead_target_group_retries_total", "\"a\""), 2);
}

async fn no_more_are_ejected_than_may_be(carrier: Carrier) {
    let rules =
        OutlierEjection { consecutive_5xx: 1, max_percent: 50, ..OutlierEjection::default() };
    let all = [Target::new(|_| bad()).await, Target::new(|_| bad()).await];
    let plan = Plan { routing: ejecting(rules), ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &all[0]), ("a", &all[1])]).await;
    assert_eq!(statuses(&world, 10).await, [500; 10]);
    assert_eq!(ejections(&world, "consecutive_5xx"), 1);
    let alone = OutlierEjection { consecutive_5xx: 1, ..OutlierEjection::default() };
    let plan = Plan { routing: ejecting(alone), ..Plan::of(carrier) };
    let world = World::new(plan, &[("a", &all[0])]).await;
    assert_eq!(statuses(&world, 5).await, [500; 5], "somebody has to answer");
    assert_eq!(ejections(&world, "consecutive_5xx"), 1);
}

async fn the_quicker_target_gets_most_requests(carrier: Carrier) {
    let (quick, slow) = (Target::new(|_| ok("")).await, Target::new(|_| ok("")).await);
    let routing = GroupRouting { algorithm: Algorithm::PeakEwma, ..GroupRouting::default() };
    let world = World::new(Plan { routing, ..Plan::of(carrier) }, &[("a", &quick)]).await;
    let slow_id = world.register("a", slow.address).await;
    // It was slow just now.
    let routing = std::sync::Arc::clone(&world.reader.load());
    routing.endpoints[&slow_id].times.tell(Duration::from_secs(60), clock::now());
    assert_eq!(statuses(&world, 40).await, [200; 40]);
    assert_eq!((quick.requests(), slow.requests()), (40, 0));
    // One that does not answer at all is not taken for a quick one.
    let world = World::new(
        Plan {
            routing: GroupRouting { algorithm: Algorithm::PeakEwma, ..GroupRouting::default() },
            ..Plan::of(carrier)
        },
        &[("a", &quick)],
    )
    .await;
    world.register("a", nobody()).await;
    assert_eq!(statuses(&world, 40).await, [200; 40]);
    let errors = world.metric("roadstead_target_group_connection_errors_total", "\"a\"");
    assert!(errors <= 1, "{errors}");
}

on_both_carriers!(
    failing_targets_are_left_alone_for_a_while,
    targets_that_refuse_connections_are_ejected,
    no_more_are_ejected_than_may_be,
    the_quicker_target_gets_most_requests,
);
