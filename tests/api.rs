//! The AWS APIs, driven by unmodified clients.

use crate::support::aws::client;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_answers_in_the_form_it_was_asked_in() {
    let running = World::new().open_api().start().await;
    client(&running, "entry.py", &["none"]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_without_a_good_signature_are_refused_alike() {
    let running = World::new().start().await;
    client(&running, "entry.py", &["sigv4"]).await;
    running.stop().await;
}
