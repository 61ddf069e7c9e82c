//! The grid of requests that try to hide another one, with nginx and HAProxy as targets: neither
//! sees a request that nobody meant. Skipped where they are not installed: as servers they would
//! take ports that other tests want.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::desync::{ALL, case, read_strictly};
use super::world::*;
use crate::model::{Carrier, DesyncMode};

/// Cases under way at once.
const AT_ONCE: usize = 32;

/// A server that answers everything, and logs the method and the target of each request.
struct Peer {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Peer {
    /// None where it is not installed.
    async fn start(name: &str) -> Option<Self> {
        let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"];
        let program = places.map(|place| PathBuf::from(place).join(name));
        let Some(program) = program.into_iter().find(|path| path.is_file()) else {
            super::note(&format!("skipped: no {name}"));
            return None;
        };
        let (dir, address) = (tempfile::tempdir().unwrap(), nobody_yet());
        let (log, config) = (dir.path().join("log"), dir.path().join("config"));
        let shown = dir.path().display();
        let text = match name {
            "nginx" => format!(
                "daemon off; master_process off; pid {shown}/pid; error_log {shown}/error;
                events {{ worker_connections 1024; }}
                http {{
                    log_format saw '$request_method $request_uri'; access_log {shown}/log saw;
                    client_body_temp_path {shown}/a; proxy_temp_path {shown}/b;
                    fastcgi_temp_path {shown}/c; uwsgi_temp_path {shown}/d;
                    scgi_temp_path {shown}/e;
                    server {{ listen {address}; location / {{ return 200 ''; }} }}
                }}"
            ),
            _ => format!(
                "global\n log stdout format raw local0\ndefaults\n mode http\n log global\n \
                 log-format \"%HM %HU\"\n timeout client 60s\n timeout http-request 60s\n\
                 frontend all\n bind {address}\n http-request return status 200\n"
            ),
        };
        std::fs::write(&config, text).unwrap();
        let arguments: &[&str] = if name == "nginx" { &["-c"] } else { &["-db", "-f"] };
        let said = if name == "nginx" { dir.path().join("said") } else { log.clone() };
        let child = Command::new(program)
            .args(arguments)
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(said).unwrap())
            .stderr(std::fs::File::create(dir.path().join("complaints")).unwrap())
            .spawn()
            .unwrap();
        let peer = Self { child, address, log, _dir: dir };
        until(name, || std::net::TcpStream::connect(address).is_ok()).await;
        Some(peer)
    }

    /// What it saw of each case, in order.
    fn seen(&self) -> BTreeMap<usize, Vec<String>> {
        let mut seen: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for line in std::fs::read_to_string(&self.log).unwrap().lines() {
            // What says no number is no request of ours, as a connection without one.
            if let Some(number) = line.split_once('?').and_then(|(_, number)| number.parse().ok()) {
                seen.entry(number).or_default().push(line.to_owned());
            }
        }
        seen
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address where nobody listens.
fn nobody_yet() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

async fn sees_what_was_meant(name: &str) {
    // A stride that is prime to each of the lists' lengths meets them all.
    let step = if super::is_full() { 1 } else { 17 };
    for mode in [DesyncMode::Monitor, DesyncMode::Defensive, DesyncMode::Strictest] {
        let Some(peer) = Peer::start(name).await else { return };
        let idle_timeout = Duration::from_secs(1);
        let plan = Plan { desync: mode, idle_timeout, ..Plan::of(Carrier::Native) };
        let world = Arc::new(World::new(plan, &[]).await);
        world.register("a", peer.address).await;
        let mut running = JoinSet::new();
        let mut answered = 0;
        for number in (0..ALL).step_by(step) {
            let world = Arc::clone(&world);
            running.spawn(async move {
                let mut client = world.client().await;
                client.send_bytes(case(number).as_bytes()).await;
                client.rest_bytes().await.len()
            });
            if running.len() >= AT_ONCE {
                answered += usize::from(running.join_next().await.unwrap().unwrap() > 0);
            }
        }
        while let Some(ended) = running.join_next().await {
            answered += usize::from(ended.unwrap() > 0);
        }
        world.at_rest().await;
        // It logs what it is through with, one after the other.
        let last = format!("GET /?{ALL} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        let mut client = Client::connect(peer.address).await;
        client.send(&last).await;
        assert!(client.rest().await.starts_with("HTTP/1.1 200"));
        until("the last line", || peer.seen().contains_key(&ALL)).await;
        let mut seen = peer.seen();
        seen.remove(&ALL);
        for (number, seen) in &seen {
            let (meant, _) = read_strictly(case(*number).as_bytes());
            let meant: Vec<_> = meant.into_iter().map(|meant| meant.line).collect();
            assert!(meant.starts_with(seen), "{mode:?} {name} {:?}: {seen:?}", case(*number));
        }
        let all = ALL.div_ceil(step);
        assert!(seen.len() > all / 100 && answered > all / 2, "{mode:?}: {}", seen.len());
        super::note(&format!(
            "{name}, {mode:?}: {all} cases, {} requests of {} of them seen",
            seen.values().map(Vec::len).sum::<usize>(),
            seen.len()
        ));
    }
}

#[tokio::test]
async fn nginx_sees_what_was_meant() {
    sees_what_was_meant("nginx").await;
}

#[tokio::test]
async fn haproxy_sees_what_was_meant() {
    sees_what_was_meant("haproxy").await;
}
