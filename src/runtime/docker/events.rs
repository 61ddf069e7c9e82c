//! Docker's events, made into ours: one subscription that is renewed for ever.
//!
//! **Invariant:** whenever events may have been lost, a gap is announced after the new subscription
//! began to count. Docker keeps 256 events in memory and drops those of a slow reader, so the
//! filter is the daemon's and the reader does nothing but read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use tokio::sync::broadcast;

use super::engine::{Engine, Failure, PING};
use super::shape::{LABEL_CLUSTER, LABEL_CONTAINER, LABEL_TASK};
use crate::clock;
use crate::runtime::RuntimeEvent;

/// Pauses between attempts to subscribe: first, doubling, longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A stream this old or older was a good one: the next pause is the first again.
const SETTLED: Duration = Duration::from_secs(10);
/// The stream itself never times out, so the daemon is asked for a sign of life.
const IDLE_CHECK: Duration = Duration::from_secs(15);
/// A subscription asks for the events since a little before it began; what was seen already is left
/// out.
const OVERLAP: Duration = Duration::from_secs(2);
/// What tells of a container's life; without the executions of its checks, which would flood the
/// ring. `health_status` comes only when it changes.
const ACTIONS: [&str; 5] = ["create", "start", "die", "destroy", "health_status"];

/// Never ends; the runtime aborts it when it goes.
pub(super) async fn run(
    engine: Arc<Engine>,
    cluster_uid: String,
    events: broadcast::Sender<RuntimeEvent>,
) {
    let mut pause = PAUSE;
    let mut seen = 0;
    loop {
        let began = clock::instant();
        if let Err(failure) = follow(&engine, &cluster_uid, &events, &mut seen).await {
            tracing::debug!(?failure, "docker's events ended");
        }
        if began.elapsed() >= SETTLED {
            pause = PAUSE;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// One subscription, until it fails.
async fn follow(
    engine: &Engine,
    cluster_uid: &str,
    events: &broadcast::Sender<RuntimeEvent>,
    seen: &mut i64,
) -> Result<(), Failure> {
    let since = clock::now().0.saturating_sub(u64::try_from(OVERLAP.as_micros()).unwrap_or(0));
    ping(engine).await?;
    let label = format!("{LABEL_CLUSTER}={cluster_uid}");
    let filters: HashMap<&str, Vec<&str>> = HashMap::from([
        ("type", vec!["container"]),
        ("label", vec![label.as_str()]),
        ("event", ACTIONS.to_vec()),
    ]);
    let options = EventsOptionsBuilder::default()
        .since(&format!("{}.{:06}000", since / 1_000_000, since % 1_000_000))
        .filters(&filters)
        .build();
    let mut stream = Box::pin(engine.client()?.events(Some(options)));
    // Whoever looks from now on sees what was before; what comes after is in the stream, from
    // `since` on.
    let _ = events.send(RuntimeEvent::Gap);
    loop {
        match tokio::time::timeout(IDLE_CHECK, stream.next()).await {
            Ok(Some(message)) => {
                let message = message?;
                let time = message.time_nano.unwrap_or(i64::MAX);
                // Two events may carry one time; those of other times come once and in order.
                if time < *seen {
                    continue;
                }
                *seen = if time == i64::MAX { *seen } else { time };
                if let Some(event) = event(&message) {
                    let _ = events.send(event);
                }
            }
            Ok(None) => return Err(Failure::Unavailable("the stream ended".to_owned())),
            Err(_) => ping(engine).await?,
        }
    }
}

async fn ping(engine: &Engine) -> Result<(), Failure> {
    engine.call(PING, |client| async move { client.ping().await }).await.map(drop)
}

fn event(message: &EventMessage) -> Option<RuntimeEvent> {
    let labels = message.actor.as_ref()?.attributes.as_ref()?;
    let task = labels.get(LABEL_TASK)?.as_str().into();
    let Some(container) = labels.get(LABEL_CONTAINER).cloned() else {
        // A pause: what joined it has to be looked at.
        return Some(RuntimeEvent::Changed { task, container: String::new() });
    };
    Some(if message.action.as_deref() == Some("die") {
        RuntimeEvent::Died { task, container }
    } else {
        RuntimeEvent::Changed { task, container }
    })
}
