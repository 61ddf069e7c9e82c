//! Sessions of ECS's ExecuteCommand: who may open one, and what is executed in it.
//!
//! The operation makes a session and gives its token to the caller; the session manager plugin of
//! AWS's command line comes with it over a WebSocket of the same endpoint and speaks the data
//! channel of Systems Manager there: [`frame`] reads and writes its messages, [`channel`] is the
//! conversation, [`socket`] carries it. **Invariant:** a token opens one session once, soon after
//! it was made; sessions are bounded in number and in idleness.

mod channel;
mod frame;
mod socket;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::exec::Desk;
use crate::clock;
use crate::model::hex;

pub(super) use socket::{answer, url, wants};
pub(super) use words::words;

/// Sessions at once, and as many that are not opened yet (ours).
const SESSIONS: usize = 64;
/// A session is opened within this (ours: the command line starts the plugin at once).
const OPENED_WITHIN: Duration = Duration::from_secs(60);

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) task: String,
    pub(super) container: String,
    pub(super) command: Vec<String>,
}

/// A session that is not opened yet.
struct Pending {
    /// SHA-256 of its token: nothing that is compared tells of the token.
    token: [u8; 32],
    until: Instant,
    wanted: Wanted,
}

/// The sessions that wait to be opened, by their ids.
#[derive(Default)]
struct Waiting(BTreeMap<String, Pending>);

/// A session's id, and the token that opens it.
pub(super) struct Made {
    pub(super) id: String,
    pub(super) token: String,
}

/// Too many sessions wait to be opened, or the system has no randomness.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no session can be made at the moment; try again later")]
pub(super) struct Busy;

impl Waiting {
    fn make(&mut self, random: &[u8; 48], wanted: Wanted, now: Instant) -> Result<Made, Busy> {
        self.0.retain(|_, pending| pending.until > now);
        if self.0.len() >= SESSIONS {
            return Err(Busy);
        }
        let (id, token) = random.split_at(16);
        let id = format!("ecs-execute-command-{}", hex(id));
        let token = BASE64_STANDARD.encode(token);
        let digest = Sha256::digest(&token).into();
        let pending = Pending { token: digest, until: now + OPENED_WITHIN, wanted };
        self.0.insert(id.clone(), pending);
        Ok(Made { id, token })
    }

    fn has(&self, id: &str, now: Instant) -> bool {
        self.0.get(id).is_some_and(|pending| pending.until > now)
    }

    /// What is executed, told once to who has the token.
    fn open(&mut self, id: &str, token: &str, now: Instant) -> Option<Wanted> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.0.get(id).filter(|pending| pending.until > now && pending.token == digest)?;
        self.0.remove(id).map(|pending| pending.wanted)
    }
}

/// Every session of this process. Clones share them.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    desk: Desk,
    waiting: Mutex<Waiting>,
    places: Arc<Semaphore>,
    running: TaskTracker,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl Sessions {
    #[must_use]
    pub fn new(desk: Desk) -> Self {
        Self(Arc::new(Inner {
            desk,
            waiting: Mutex::default(),
            places: Arc::new(Semaphore::new(SESSIONS)),
            running: TaskTracker::new(),
        }))
    }

    /// # Errors
    /// There are too many.
    pub(super) fn make(&self, wanted: Wanted) -> Result<Made, Busy> {
        let mut random = [0; 48];
        getrandom::fill(&mut random).map_err(|_| Busy)?;
        self.waiting().make(&random, wanted, clock::instant())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every session has ended: each does when the endpoint stops.
    pub(super) async fn wait(&self) {
        self.0.running.close();
        self.0.running.wait().await;
    }
}

/// A UUID's text.
fn uuid(id: [u8; 16]) -> String {
    let hex = format!("{:032x}", u128::from_be_bytes(id));
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_five_parts() {
        assert_eq!(uuid([0x0f; 16]), "0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f0f");
        assert_eq!(uuid([0; 16]), "00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn a_token_opens_its_session_once_and_soon() {
        let (start, mut waiting) = (clock::instant(), Waiting::default());
        let wanted = |task: &str| Wanted {
            task: task.to_owned(),
            container: "app".to_owned(),
            command: vec!["sh".to_owned()],
        };
        let made = waiting.make(&[1; 48], wanted("a"), start).unwrap();
        let other = waiting.make(&[2; 48], wanted("b"), start).unwrap();
        assert!(waiting.has(&made.id, start) && !waiting.has("ecs-execute-command-0", start));
        assert_eq!(waiting.open(&made.id, &other.token, start), None);
        assert_eq!(waiting.open(&made.id, &made.token, start), Some(wanted("a")));
        assert_eq!(waiting.open(&made.id, &made.token, start), None);
        let late = start + OPENED_WITHIN;
        assert!(!waiting.has(&other.id, late));
        assert_eq!(waiting.open(&other.id, &other.token, late), None);
    }

    #[test]
    fn sessions_that_wait_are_bounded() {
        let (start, mut waiting) = (clock::instant(), Waiting::default());
        let wanted =
            Wanted { task: "a".to_owned(), container: "app".to_owned(), command: Vec::new() };
        for n in 0..64 {
            waiting.make(&[n; 48], wanted.clone(), start).unwrap();
        }
        assert!(waiting.make(&[64; 48], wanted.clone(), start).is_err());
        assert!(waiting.make(&[64; 48], wanted, start + OPENED_WITHIN).is_ok());
    }
}
