//! Mirroring: copies of requests for another group, whose answers nobody waits for.
//!
//! A copy is sent once its request is through, as a request of its own on a connection of its own.
//! Not here: which requests are mirrored. **Invariant:** no client waits for a copy; what is under
//! way at a time, what each holds and how long it takes is bounded.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::Client;
use super::pool::Pool;
use super::reach::connect;
use super::report::Exchange;
use crate::balance::{Group, InFlight, Turn};
use crate::clock;
use crate::model::{Mirror, Protocol};
use crate::routing::DataThread;
use crate::tls::Alpn;

/// Copies that are made or under way on one data thread; others are dropped (ours: with the largest
/// bodies 64 MiB).
const UNDER_WAY: usize = 64;
/// For a copy to be sent and answered (ours).
const TIMEOUT: Duration = Duration::from_secs(30);

/// What became of a copy; the places of `GroupMetrics::mirrored`.
#[derive(Clone, Copy, Debug)]
enum Became {
    Answered,
    Failed,
    /// It was never sent: there were too many, its body was too long or never came.
    Dropped,
}

/// A request that is to be copied.
#[derive(Debug)]
pub(super) struct Copied {
    mirror: Mirror,
    /// Its head without what frames a body, and without its end.
    head: Vec<u8>,
    has_body: bool,
    place: OwnedSemaphorePermit,
}

/// The whole request.
fn whole(mut head: Vec<u8>, has_body: bool, body: &[u8]) -> Vec<u8> {
    if has_body {
        head.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    head.extend_from_slice(body);
    head
}

/// A head's lines but for those that frame its body and describe its connection, and whether it has
/// a body. `bytes` begin with it.
fn unframed(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 2;
    let (mut head, mut has_body) = (Vec::with_capacity(end), false);
    for line in bytes[..end].split_inclusive(|byte| *byte == b'\n') {
        let is = |name: &[u8]| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        };
        if is(b"content-length:") || is(b"transfer-encoding:") {
            has_body = true;
        } else if !is(b"connection:") {
            head.extend_from_slice(line);
        }
    }
    Some((head, has_body))
}

/// The copies of one data thread.
#[derive(Debug)]
pub(super) struct Mirrors {
    thread: DataThread,
    pool: Arc<Pool>,
    places: Arc<Semaphore>,
}

impl Mirrors {
    pub(super) fn new(thread: DataThread, pool: Arc<Pool>) -> Self {
        Self { thread, pool, places: Arc::new(Semaphore::new(UNDER_WAY)) }
    }

    fn group(&self, mirror: &Mirror) -> Option<Arc<Group>> {
        self.thread.reader.load().groups.get(&mirror.group).map(Arc::clone)
    }

    /// Begins to copy the request whose head is about to be sent; none of what is no request of
    /// HTTP/1's own, nor where all places are taken. Boxed: few exchanges have one, and a
    /// connection at rest shall be small.
    pub(super) fn begin(
        &self,
        client: &mut Client,
        exchange: &mut Exchange,
    ) -> Option<Box<Copied>> {
        let mirror = exchange.mirror.take().filter(|_| !exchange.request.upgrades)?;
        let (head, has_body) = unframed(&client.up.lead)?;
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let group = self.group(&mirror)?;
            count(&group, Became::Dropped, self.thread.index);
            return None;
        };
        client.up.copy(usize::try_from(mirror.max_body).unwrap_or(usize::MAX));
        Some(Box::new(Copied { mirror, head, has_body, place }))
    }

    /// Sends the copy of a request that is through, and forgets about it.
    pub(super) fn send(&self, client: &mut Client, copied: Copied) {
        let body = client.up.take_copy().filter(|_| client.up.ends());
        let Some(group) = self.group(&copied.mirror) else { return };
        let count = |became| count(&group, became, self.thread.index);
        let Some(body) = body else { return count(Became::Dropped) };
        let mut rng = fastrand::Rng::new();
        let mut turn = Turn { exclude: &[], now: clock::now(), rng: &mut rng };
        let picked = group.pick(&mut turn);
        let Some(guard) = picked.and_then(|own| group.enter(own, self.thread.index)) else {
            return count(Became::Dropped);
        };
        let Copied { head, has_body, place, .. } = copied;
        let (pool, thread) = (Arc::clone(&self.pool), self.thread.index);
        let whole = whole(head, has_body, &body);
        tokio::spawn(async move {
            let exchange = exchange(&pool, &group, &guard, thread, &whole);
            let became = match tokio::time::timeout(TIMEOUT, exchange).await {
                Ok(true) => Became::Answered,
                Ok(false) | Err(_) => Became::Failed,
            };
            self::count(&group, became, thread);
            drop((guard, place));
        });
    }
}

fn count(group: &Group, became: Became, thread: usize) {
    group.metrics.mirrored[became as usize].add(thread, 1);
}

/// Sends it and reads what comes back to its end. Whether that was an answer.
async fn exchange(
    pool: &Arc<Pool>,
    group: &Group,
    guard: &InFlight,
    thread: usize,
    whole: &[u8],
) -> bool {
    let endpoint = guard.endpoint();
    let is_secure = group.protocol == Protocol::Https;
    let Ok(stream) = connect(endpoint.address, is_secure, Alpn::Http1).await else {
        group.metrics.connection_errors.add(thread, 1);
        return false;
    };
    // Cut when its target's deregistration delay is over, like any other.
    let mut held = pool.hold(stream, endpoint.id);
    endpoint.requests.add(thread, 1);
    group.metrics.requests.add(thread, 1);
    if held.stream.write_all(whole).await.is_err() {
        return false;
    }
    let (mut start, mut thrown) = (Vec::new(), vec![0; 4096]);
    loop {
        match held.stream.read(&mut thrown).await {
            Ok(0) | Err(_) => return start.starts_with(b"HTTP/1."),
            Ok(count) if start.len() < 16 => start.extend_from_slice(&thrown[..count]),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, body: &str, expected: &str) {
        let bytes = head.replace('\n', "\r\n");
        let (head, has_body) = unframed(bytes.as_bytes()).unwrap();
        let whole = whole(head, has_body, body.as_bytes());
        assert_eq!(String::from_utf8(whole).unwrap().replace("\r\n", "\n"), expected);
    }

    #[test]
    fn copies_are_framed_by_themselves() {
        check(
            "GET / HTTP/1.1\nHost: t\nConnection: close\n\n",
            "",
            "GET / HTTP/1.1\nHost: t\nConnection: close\n\n",
        );
        check(
            "POST / HTTP/1.1\nTransfer-Encoding: chunked\nHost: t\n\n3\n",
            "abc",
            "POST / HTTP/1.1\nHost: t\nContent-Length: 3\nConnection: close\n\nabc",
        );
        check(
            "PUT / HTTP/1.1\nContent-Length: 0\nHost: t\n\n",
            "",
            "PUT / HTTP/1.1\nHost: t\nContent-Length: 0\nConnection: close\n\n",
        );
        assert!(unframed(b"").is_none());
    }
}
