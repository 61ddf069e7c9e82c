//! Events: what changes in the State, told as ECS tells EventBridge.
//!
//! One loop compares each State with the one before and keeps the newest events in a ring, from
//! which `stream` serves readers and `webhook` posts. Not here: what an event says (`ecs::events`).
//! **Invariant:** nothing waits for a reader: one that is too slow is cut, a full queue drops its
//! oldest, and both are counted. Numbers of events rise for ever, also over restarts, for they
//! follow from generations.

mod stream;
mod webhook;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ecs::events::{self, Event, Kind};
use crate::clock::{self, Timestamp};
use crate::config::PlainUrl;
use crate::metrics::{Counter, Metrics, names};
use crate::model::{Account, Arn, uuid};
use crate::state::{State, Store};

pub(super) use stream::{EventStream, wants};

/// Events that a reader who comes back may still have (ours: some megabytes).
const RING: usize = 1024;
/// Events that one reader may be behind (ours).
const BEHIND: usize = 256;
/// Readers at once (ours).
const READERS: usize = 64;

/// An event's number: the generation that showed it, and its place among those of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    generation: u64,
    place: u32,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.place)
    }
}

/// A text that is no event's number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadNumber;

impl FromStr for Number {
    type Err = BadNumber;

    fn from_str(text: &str) -> Result<Self, BadNumber> {
        let (generation, place) = text.split_once('.').ok_or(BadNumber)?;
        let generation = generation.parse().map_err(|_| BadNumber)?;
        Ok(Self { generation, place: place.parse().map_err(|_| BadNumber)? })
    }
}

/// An event as everybody gets it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) number: Number,
    /// EventBridge's JSON, one line.
    pub(crate) text: Bytes,
}

/// Tells events. Clones tell the same ones.
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    account: Account,
    store: Store,
    live: Mutex<Live>,
    /// What is still to be posted; none without a webhook.
    webhook: Option<webhook::Queue>,
    metrics: Metrics,
    told: BTreeMap<Kind, Counter>,
    cut: Counter,
}

#[derive(Debug)]
struct Live {
    /// What was last compared.
    state: Arc<State>,
    ring: VecDeque<Arc<Told>>,
    /// The newest that the ring does not have any more.
    floor: Number,
    readers: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    sender: mpsc::Sender<Arc<Told>>,
    /// Ends its connection.
    cut: CancellationToken,
}

/// What a new reader gets.
#[derive(Debug)]
struct Subscription {
    /// Some that came after the one it asked to go on from are not kept any more.
    gap: bool,
    replay: VecDeque<Arc<Told>>,
    live: mpsc::Receiver<Arc<Told>>,
}

impl Events {
    /// Compares with the State as it is now. `webhook` is where events are posted.
    #[must_use]
    pub fn new(
        store: Store,
        account: Account,
        webhook: Option<PlainUrl>,
        metrics: Metrics,
    ) -> Self {
        let state = store.read();
        let floor = Number { generation: state.generation.0, place: u32::MAX };
        let live = Live { state, ring: VecDeque::new(), floor, readers: Vec::new() };
        let told = |kind: Kind| (kind, metrics.counter(&names::EVENTS, &[kind.as_str()]));
        Self(Arc::new(Inner {
            account,
            store,
            live: Mutex::new(live),
            webhook: webhook.map(|url| webhook::Queue::new(url, &metrics)),
            told: Kind::ALL.into_iter().map(told).collect(),
            cut: metrics.counter(&names::EVENT_READERS_CUT, &[]),
            metrics,
        }))
    }

    /// Tells until `stop`, and then what is still queued for the webhook, for a moment.
    pub async fn run(self, stop: CancellationToken) {
        let posting = async {
            match &self.0.webhook {
                Some(queue) => queue.post(&stop).await,
                None => stop.cancelled().await,
            }
        };
        tokio::join!(self.follow(&stop), posting);
    }

    async fn follow(&self, stop: &CancellationToken) {
        let mut commits = self.0.store.watch();
        loop {
            commits.borrow_and_update();
            self.look(clock::now());
            tokio::select! {
                changed = commits.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    /// Tells what changed since the last look.
    fn look(&self, now: Timestamp) {
        let inner = &self.0;
        let state = inner.store.read();
        let mut live = inner.lock();
        let before = std::mem::replace(&mut live.state, Arc::clone(&state));
        let events = events::between(&inner.account, &before, &state, now);
        let mut rng = fastrand::Rng::new();
        for (place, event) in (0..).zip(&events) {
            let number = Number { generation: state.generation.0, place };
            let text = envelope(&inner.account, event, &uuid(&mut rng), now);
            inner.told[&event.kind].add(inner.metrics.control(), 1);
            let told = Arc::new(Told { number, text: text.into() });
            if let Some(queue) = &inner.webhook {
                queue.push(Arc::clone(&told));
            }
            inner.tell(&mut live, told);
        }
    }

    /// None: there are too many readers.
    fn subscribe(&self, last: Option<Number>, cut: CancellationToken) -> Option<Subscription> {
        let mut live = self.0.lock();
        live.readers.retain(|reader| !reader.sender.is_closed());
        if live.readers.len() >= READERS {
            return None;
        }
        let (sender, receiver) = mpsc::channel(BEHIND);
        live.readers.push(Reader { sender, cut });
        let replay = last.map(|last| live.ring.iter().filter(move |told| told.number > last));
        Some(Subscription {
            gap: last.is_some_and(|last| last < live.floor),
            replay: replay.into_iter().flatten().cloned().collect(),
            live: receiver,
        })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, live: &mut Live, told: Arc<Told>) {
        live.readers.retain(|reader| match reader.sender.try_send(Arc::clone(&told)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.cut.add(self.metrics.control(), 1);
                reader.cut.cancel();
                false
            }
        });
        if live.ring.len() >= RING
            && let Some(oldest) = live.ring.pop_front()
        {
            live.floor = oldest.number;
        }
        live.ring.push_back(told);
    }
}

/// EventBridge's (AWS, "AWS service event metadata").
fn envelope(account: &Account, event: &Event, id: &str, now: Timestamp) -> String {
    // To the second, as EventBridge tells it.
    let time = now.to_string();
    let time = format!("{}Z", time.split('.').next().unwrap_or_default());
    let arn = event.resource.parse::<Arn>();
    let region = arn.map_or_else(|_| account.region.clone(), |arn| arn.region);
    let envelope = json!({
        "version": "0",
        "id": id,
        "detail-type": event.kind.as_str(),
        "source": "aws.ecs",
        "account": account.id,
        "time": time,
        "region": region,
        "resources": [event.resource],
        "detail": super::answer::strip(event.detail.clone()),
    });
    envelope.to_string()
}

#[cfg(test)]
mod tests;
