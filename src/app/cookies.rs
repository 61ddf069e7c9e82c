//! The keys that seal stickiness cookies: made, renewed, or read from a file that several processes
//! share.
//!
//! **Invariant:** the State never has fewer keys than one period's before this one: a cookie that
//! was sealed before a renewal opens until it ends.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::clock::{self, Timestamp};
use crate::model::{CookieKey, hex};
use crate::state::{Key, State, StoreError};

/// How long a key seals (ours: a day more than ALB's longest stickiness). It opens as long again.
const PERIOD: Duration = Duration::from_secs(8 * 24 * 3600);
/// Keys that open: this period's and the last one's.
const KEPT: usize = 2;
/// How often keys and their file are looked at (ours).
const PASS: Duration = Duration::from_secs(60);
/// A file's secret has at least this many characters (ours: 128 bits in hexadecimal).
const SHORTEST: usize = 32;
/// A key file is not read further than this.
const LARGEST: usize = 4096;

/// Looks at the keys again and again.
pub(super) async fn run(parts: Arc<Parts>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PASS) => keep(&parts).await,
            () = stop.cancelled() => return,
        }
    }
}

/// Makes the State's keys what they should be now.
pub(super) async fn keep(parts: &Parts) {
    let (store, file) = (&parts.store, parts.settings.elb.cookie_key_file.as_deref());
    let shared = file.map(read).transpose().unwrap_or_else(|error| {
        let path = file.unwrap_or_else(|| Path::new("")).display();
        tracing::error!(%path, %error, "the cookie keys are not taken from their file");
        None
    });
    if file.is_some() && shared.is_none() && !store.read().cookie_keys.is_empty() {
        return;
    }
    let now = clock::now();
    if wanted(&store.read(), shared.as_deref(), now, String::new).is_none() {
        return;
    }
    let mut random = [0; 32];
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::error!(%error, "no randomness for a cookie key");
        return;
    }
    let fresh = hex(&random);
    let changed = store.update(move |tx| {
        if let Some(keys) = wanted(tx.state(), shared.as_deref(), now, || fresh) {
            let old: Vec<_> = tx.state().cookie_keys.keys().cloned().collect();
            old.into_iter().for_each(|id| tx.remove(Key::CookieKey(id)));
            keys.into_iter().for_each(|key| tx.put(key));
        }
        Ok::<_, StoreError>(())
    });
    if let Err(error) = changed.await {
        tracing::error!(%error, "cookie keys were not written");
    }
}

/// The secrets of a file, the one that seals first: a line each, two at most.
fn read(path: &Path) -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string(path)?;
    secrets(&text).map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))
}

fn secrets(text: &str) -> Result<Vec<String>, &'static str> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets: Vec<String> = lines.map(str::to_owned).collect();
    if text.len() > LARGEST || !(1..=KEPT).contains(&secrets.len()) {
        return Err("it must hold one or two lines");
    }
    if secrets.iter().any(|secret| secret.len() < SHORTEST) {
        return Err("each line must have at least 32 characters");
    }
    Ok(secrets)
}

/// The keys that should be there; none where they are.
fn wanted(
    state: &State,
    shared: Option<&[String]>,
    now: Timestamp,
    fresh: impl FnOnce() -> String,
) -> Option<Vec<CookieKey>> {
    let mut keys: Vec<CookieKey> =
        state.cookie_keys.values().map(|key| CookieKey::clone(key)).collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.made_at));
    let key = |secret: String, made_at: Timestamp| {
        let id = format!("{}", made_at.0).as_str().into();
        CookieKey { id, secret, made_at }
    };
    if let Some(shared) = shared {
        if keys.iter().map(|key| &key.secret).eq(shared) {
            return None;
        }
        let ages = (0..).map(|age| Timestamp(now.0.saturating_sub(age)));
        return Some(shared.iter().cloned().zip(ages).map(|(s, at)| key(s, at)).collect());
    }
    if keys.first().is_some_and(|newest| now.since(newest.made_at) < PERIOD) {
        return None;
    }
    keys.insert(0, key(fresh(), now));
    keys.truncate(KEPT);
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys as `secret@day`; what should be there on `day`.
    fn check(keys: &str, shared: Option<&[&str]>, day: u64, expected: Option<&str>) {
        let at = |day: u64| Timestamp::from_millis(day * 24 * 3600 * 1000);
        let mut state = State::default();
        for word in keys.split_whitespace() {
            let (secret, day) = word.split_once('@').unwrap();
            let made_at = at(day.parse().unwrap());
            let key = CookieKey { id: word.into(), secret: secret.to_owned(), made_at };
            Arc::make_mut(&mut state.cookie_keys).insert(key.id.clone(), Arc::new(key));
        }
        let shared: Option<Vec<_>> =
            shared.map(|own| own.iter().map(ToString::to_string).collect());
        let found = wanted(&state, shared.as_deref(), at(day), || "new".to_owned());
        let words = found.map(|keys| {
            let words: Vec<_> = keys.iter().map(|key| key.secret.as_str()).collect();
            assert!(keys.is_sorted_by(|a, b| a.made_at > b.made_at && a.id != b.id));
            words.join(" ")
        });
        assert_eq!(words.as_deref(), expected, "{keys} {shared:?} {day}");
    }

    #[test]
    fn a_key_seals_for_a_period_and_opens_for_another() {
        check("", None, 1, Some("new"));
        check("a@1", None, 2, None);
        check("a@1", None, 9, Some("new a"));
        check("a@1 b@9", None, 17, Some("new b"));
        check("b@9 a@1", None, 16, None);
    }

    #[test]
    fn a_files_keys_take_the_place_of_all_others() {
        check("a@1", Some(&["x"]), 1, Some("x"));
        check("x@1", Some(&["x"]), 100, None);
        check("x@2 y@1", Some(&["x", "y"]), 3, None);
        check("x@2 y@1", Some(&["z", "x"]), 3, Some("z x"));
    }

    #[test]
    fn files_hold_one_or_two_long_lines() {
        let long = "x".repeat(32);
        assert_eq!(secrets(&format!("{long}\n\n{long}y\n")).unwrap().len(), 2);
        for bad in [String::new(), "short".into(), format!("{long}\n{long}\n{long}")] {
            assert!(secrets(&bad).is_err(), "{bad}");
        }
    }
}
