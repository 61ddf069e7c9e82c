//! The webhook: each event is posted as JSON to one URL, in order.
//!
//! Any 2xx takes it. What is refused for good (4xx but 408 and 429) is dropped, everything else is
//! tried again. **Invariant:** every event that enters the queue is counted once more when it
//! leaves: as delivered or as dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Told;
use crate::config::{Place, PlainUrl};
use crate::metrics::{Counter, Metrics, names};

/// Events that wait (ours); the oldest makes room.
const QUEUE: usize = 1024;
/// For one try, from the connection to the answer's head (ours).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Tries of one event (ours: about a minute) …
const TRIES: u32 = 8;
/// … with pauses that double from here …
const PAUSE: Duration = Duration::from_millis(500);
/// … up to here.
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// For what is still queued when the process ends (ours).
const LAST: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Queue {
    target: PlainUrl,
    waiting: Mutex<VecDeque<Arc<Told>>>,
    wake: Notify,
    delivered: Counter,
    dropped: Counter,
    thread: usize,
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Why a try failed.
#[derive(Debug)]
struct Failure {
    why: String,
    /// Another try would end likewise.
    is_final: bool,
}

impl Queue {
    pub(super) fn new(target: PlainUrl, metrics: &Metrics) -> Self {
        let count = |outcome| metrics.counter(&names::EVENT_POSTS, &[outcome]);
        Self {
            target,
            waiting: Mutex::default(),
            wake: Notify::new(),
            delivered: count("delivered"),
            dropped: count("dropped"),
            thread: metrics.control(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Told>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, told: Arc<Told>) {
        let mut waiting = self.waiting();
        if waiting.len() >= QUEUE {
            waiting.pop_front();
            self.dropped.add(self.thread, 1);
        }
        waiting.push_back(told);
        drop(waiting);
        self.wake.notify_one();
    }

    fn pop(&self) -> Option<Arc<Told>> {
        self.waiting().pop_front()
    }

    /// Posts until `stop`, then once more what is left, as far as it goes quickly.
    pub(super) async fn post(&self, stop: &CancellationToken) {
        let mut current = None;
        loop {
            current = current.or_else(|| self.pop());
            let work = async {
                match &current {
                    Some(told) => self.deliver(told).await,
                    None => self.wake.notified().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = work => current = None,
            }
        }
        let mut left: VecDeque<_> = current.into_iter().collect();
        left.extend(std::mem::take(&mut *self.waiting()));
        let hurry = async {
            while let Some(told) = left.front() {
                if self.once(told).await.is_err() {
                    return;
                }
                self.delivered.add(self.thread, 1);
                left.pop_front();
            }
        };
        let _ = tokio::time::timeout(LAST, hurry).await;
        self.dropped.add(self.thread, left.len() as u64);
    }

    async fn deliver(&self, told: &Told) {
        let mut pause = PAUSE;
        for attempt in 1..=TRIES {
            let Failure { why, is_final } = match self.once(told).await {
                Ok(()) => {
                    self.delivered.add(self.thread, 1);
                    return;
                }
                Err(failure) => failure,
            };
            if is_final || attempt == TRIES {
                tracing::warn!(event = %told.number, why, "an event is dropped");
                break;
            }
            tracing::debug!(event = %told.number, why, "an event is posted again");
            // Half of the wait is chance.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MOST);
        }
        self.dropped.add(self.thread, 1);
    }

    async fn once(&self, told: &Told) -> Result<(), Failure> {
        let again = |why: String| Failure { why, is_final: false };
        let sent = tokio::time::timeout(TIMEOUT, self.send(told)).await;
        let status = sent.map_err(|_| again(format!("no answer within {TIMEOUT:?}")))?;
        let status = status.map_err(|error| again(error.to_string()))?;
        let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        match status {
            status if status.is_success() => Ok(()),
            status => Err(Failure {
                why: format!("answered {status}"),
                is_final: status.is_client_error() && !passes.contains(&status),
            }),
        }
    }

    /// Sends it once, on a connection of its own.
    async fn send(&self, told: &Told) -> Result<StatusCode, Broken> {
        let PlainUrl(Place { host, port, authority, path }) = &self.target;
        let stream = TcpStream::connect((host.as_str(), *port)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::post(path.as_str())
            .header(header::HOST, authority.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::<Bytes>::new(told.text.clone()))?;
        let answer = sender.send_request(request);
        tokio::pin!(connection, answer);
        tokio::select! {
            biased;
            answer = &mut answer => Ok(answer?.status()),
            ended = &mut connection => {
                ended?;
                Ok(answer.await?.status())
            }
        }
    }
}
