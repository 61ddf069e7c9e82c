//! The AWS APIs, driven by unmodified clients.

use crate::support::aws::client;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_answers_in_the_form_it_was_asked_in() {
    let running = World::new().open_api().start().await;
    client(&running, "entry.py", &[]).await;
    running.stop().await;
}
