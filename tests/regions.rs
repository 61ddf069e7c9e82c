//! Several regions over one State, by real clients.

use std::time::Duration;

use crate::support::aws::{client, client_of};
use crate::support::certificates;
use crate::support::world::{PROGRAM, World};

const AWAY: &str = "regions = [\"eu-west-1\"]";
/// Seconds stand for minutes.
const FAST: &str = "[autoscaling]\nprofile = \"fast\"";

/// Waits until the endpoint of a program that was just started answers.
async fn ready(world: &World) {
    let address = (world.address(1), 4566);
    let connecting = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), connecting).await.expect("the endpoint opens");
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_have_the_same_names_and_nothing_in_common_over_a_kill() {
    let folder = certificates::folder();
    let folder = folder.path().to_str().unwrap();
    let world = World::new().open_api().setting(AWAY).setting(FAST);
    let text = world.toml();
    for phase in ["make", "again"] {
        let serve = world.spawn();
        ready(&world).await;
        let clients = client_of(&world, "regions.py", &[phase, PROGRAM, folder]).await;
        serve.signal("KILL");
        if !clients {
            return;
        }
    }
    // What is in a region cannot be hidden by taking the region away.
    let mut serve = world.spawn_text(&text.replace(AWAY, ""));
    assert_eq!(serve.ended().await, Some(2), "{}", world.log());
    let log = world.log();
    assert!(log.contains("regions: the journal has"), "{log}");
    assert!(log.contains("of the region eu-west-1"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_tell_regions_apart() {
    const POLICY: &str = r#"{"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["ecs:*", "elasticloadbalancing:*"], "Resource": "*",
         "Condition": {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}},
        {"Effect": "Allow", "Action": "logs:*", "Resource": "arn:aws:logs:local:*:log-group:*"},
        {"Effect": "Allow", "Action": "ec2:CreateSecurityGroup", "Resource": [
            "arn:aws:ec2:eu-west-1:*:security-group/*", "arn:aws:ec2:eu-west-1:*:vpc/*"]}
    ]}"#;
    let running = World::new().setting(AWAY).api_key("ci", POLICY).start().await;
    let arguments = ["AKIACI00000000000000", &"c".repeat(40)];
    client(&running, "regions_policies.py", &arguments).await;
    running.stop().await;
}
