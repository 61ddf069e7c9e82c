//! gRPC calls by a stock client, through listeners to targets.

use crate::support::aws::client;
use crate::support::certificates;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_kind_reach_their_targets() {
    let (running, folder) = (World::new().open_api().start().await, certificates::folder());
    client(&running, "grpc_calls.py", &[folder.path().to_str().unwrap()]).await;
    running.stop().await;
}
