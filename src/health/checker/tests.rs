//! The checker on a store in memory, with real sockets on loopback addresses.

use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::clock::Timestamp;
use crate::model::{Owner, Protocol, Registration, TargetGroup, TargetReason};
use crate::state::{MemoryJournal, StoreError};

/// Generous: nothing here is expected to take a tenth of it.
const DEADLINE: Duration = Duration::from_secs(30);

/// A target that answers its probes with a code, and counts them.
struct Answering {
    code: watch::Sender<u16>,
    counted: watch::Receiver<usize>,
    target: RegistrationId,
    port: u16,
}

struct Bench {
    store: Store,
    metrics: Metrics,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Bench {
    fn start(store: Store) -> Self {
        Self::start_with(store, None)
    }

    fn start_with(store: Store, log: Option<&std::path::Path>) -> Self {
        let metrics = Metrics::new(1);
        let rng = fastrand::Rng::with_seed(1);
        let log = log.map(|path| HealthLog::open(path, &metrics).unwrap());
        let checker = Checker::new(store.clone(), metrics.clone(), Clock::System, rng);
        let checker = checker.with_log(log);
        let stop = CancellationToken::new();
        let running = tokio::spawn(checker.run(stop.clone()));
        Self { store, metrics, stop, running }
    }

    /// A healthy target.
    async fn answering(&self) -> Answering {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (code, codes) = watch::channel(200);
        let counted = serve(listener, codes);
        let target = register(&self.store, group(SHORT, Protocol::Http), port).await;
        self.verdict(target, VerdictState::Healthy).await;
        Answering { code, counted, target, port }
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }

    async fn verdict(&self, target: RegistrationId, wanted: VerdictState) -> Verdict {
        until(&self.store, |state| {
            state.verdict(target).filter(|verdict| verdict.state == wanted).cloned()
        })
        .await
    }
}

async fn until<T>(store: &Store, found: impl Fn(&State) -> Option<T>) -> T {
    let mut changed = store.watch();
    let waiting = async {
        loop {
            if let Some(value) = found(&store.read()) {
                return value;
            }
            changed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap()
}

fn store() -> Store {
    Store::memory(&MemoryJournal::default()).unwrap()
}

fn group(interval: Duration, protocol: Protocol) -> TargetGroup {
    let mut health_check = HealthCheck::defaults(protocol);
    health_check.interval = interval;
    // Whoever answers at all passes, however slow the machine is.
    health_check.timeout = DEADLINE;
    health_check.healthy_threshold = 2;
    TargetGroup {
        health_check,
        deregistration_delay: Duration::ZERO,
        ..TargetGroup::new("web".into(), "0".repeat(16), (protocol, 80), Owner::File)
    }
}

async fn register(store: &Store, group: TargetGroup, port: u16) -> RegistrationId {
    let committed = store.update(move |tx| {
        let id = tx.next_registration();
        tx.put(Target {
            id,
            group: group.name.clone(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
            task: None,
            registration: Registration::Active,
            registered_at: Timestamp(0),
        });
        tx.put(group);
        Ok::<_, StoreError>(id)
    });
    committed.await.unwrap().value
}

/// Answers every connection with `code`, which may be changed meanwhile; counts them.
fn serve(listener: TcpListener, code: watch::Receiver<u16>) -> watch::Receiver<usize> {
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.send_modify(|count| *count += 1);
            let code = *code.borrow();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(format!("HTTP/1.1 {code} X\r\n\r\n").as_bytes()).await;
        }
    });
    counted
}

/// A port that nobody listens on, and that stays ours.
fn closed_port() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn target_that_listens_late_is_healthy_long_before_its_interval() {
    let bench = Bench::start(store());
    let (socket, port) = closed_port();
    let target = register(&bench.store, group(LONG, Protocol::Tcp), port).await;
    let failed = || bench.metrics.counter(&names::PROBES, &["web", "failed"]).total();
    let started = clock::instant();
    while failed() < 3 {
        assert!(started.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bench.store.read().verdict_state(target), VerdictState::Initial);
    socket.listen(16).unwrap();
    bench.verdict(target, VerdictState::Healthy).await;
    bench.end().await;
}

#[tokio::test]
async fn every_probe_has_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("health.log");
    let bench = Bench::start_with(store(), Some(&path));
    let Answering { code, counted, target, port } = bench.answering().await;
    code.send_replace(503);
    bench.verdict(target, VerdictState::Unhealthy).await;
    let least = *counted.borrow() - 1;
    // What is queued is on disk when the checker and its probes are gone.
    bench.end().await;
    let started = clock::instant();
    let lines = loop {
        let text = std::fs::read_to_string(&path).unwrap();
        if text.lines().count() >= least {
            break text;
        }
        assert!(started.elapsed() < DEADLINE, "{least}: {text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let place = format!(" 127.0.0.1:{port} 0000000000000000 ");
    assert!(lines.lines().all(|line| line.starts_with("http 20") && line.contains(&place)));
    assert!(lines.lines().next().unwrap().ends_with(" PASS 200 -"), "{lines}");
    assert!(lines.contains(" FAIL 503 Target.ResponseCodeMismatch\n"), "{lines}");
}

#[tokio::test]
async fn verdict_follows_the_thresholds_both_ways() {
    let bench = Bench::start(store());
    let Answering { code, counted, target, .. } = bench.answering().await;
    code.send_replace(503);
    let before = *counted.borrow();
    let verdict = bench.verdict(target, VerdictState::Unhealthy).await;
    assert!(*counted.borrow() >= before + 2, "one failure is not enough");
    assert_eq!(verdict.reason, Some(TargetReason::ResponseCodeMismatch));
    assert_eq!(verdict.description, "Health checks failed with these codes: [503]");
    code.send_replace(200);
    bench.verdict(target, VerdictState::Healthy).await;
    let healthy = bench.metrics.counter(&names::VERDICTS, &["web", "healthy"]);
    assert_eq!(healthy.total(), 2);
    bench.end().await;
}

#[tokio::test]
async fn draining_registration_is_not_probed_and_has_no_verdict() {
    let bench = Bench::start(store());
    let Answering { code: _code, counted, target, .. } = bench.answering().await;
    let draining = bench.store.update(move |tx| {
        let mut row = (*tx.state().targets[&target]).clone();
        row.registration = Registration::Draining { since: Timestamp(0) };
        tx.put(row);
        Ok::<_, StoreError>(())
    });
    draining.await.unwrap();
    until(&bench.store, |state| state.verdict(target).is_none().then_some(())).await;
    let before = *counted.borrow();
    // Whatever was on its way has arrived once five intervals are over.
    tokio::time::sleep(SHORT * 5).await;
    assert!(*counted.borrow() <= before + 1);
    assert!(bench.store.read().verdict(target).is_none());
    bench.end().await;
}

#[tokio::test]
async fn changed_parameters_are_used_at_once() {
    let bench = Bench::start(store());
    let (socket, port) = closed_port();
    socket.listen(16).unwrap();
    let target = register(&bench.store, group(LONG, Protocol::Tcp), port).await;
    bench.verdict(target, VerdictState::Healthy).await;
    let (_other, closed) = closed_port();
    let mut changed = group(SHORT, Protocol::Tcp);
    changed.health_check.port = Some(closed);
    let put = bench.store.update(move |tx| {
        tx.put(changed);
        Ok::<_, StoreError>(())
    });
    put.await.unwrap();
    let verdict = bench.verdict(target, VerdictState::Unhealthy).await;
    assert_eq!(verdict.reason, Some(TargetReason::FailedHealthChecks));
    bench.end().await;
}

#[tokio::test]
async fn recorded_verdict_is_believed_until_probes_say_otherwise() {
    let store = store();
    let (_socket, port) = closed_port();
    let target = register(&store, group(SHORT, Protocol::Tcp), port).await;
    let healthy = Verdict {
        target,
        state: VerdictState::Healthy,
        reason: None,
        description: String::new(),
        since: Timestamp(1),
    };
    store.update_riding(|tx| tx.put(healthy)).unwrap();
    let bench = Bench::start(store);
    let failed = || bench.metrics.counter(&names::PROBES, &["web", "failed"]).total();
    bench.verdict(target, VerdictState::Unhealthy).await;
    assert!(failed() >= 2, "one failure is not enough");
    bench.end().await;
}

#[test]
fn early_probes_double_up_to_a_second() {
    let start = clock::instant();
    let interval = Duration::from_secs(30);
    let mut schedule = Schedule::new(VerdictState::Initial, start, interval, 0.5);
    let mut waits = Vec::new();
    let mut now = start;
    for _ in 0..8 {
        let (due, occasion) = schedule.next();
        assert_eq!(occasion, Occasion::Early);
        waits.push((due - now).as_millis());
        now = due;
        schedule.done(occasion, VerdictState::Initial, now, interval);
    }
    assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1000, 1000]);
    schedule.done(Occasion::Early, VerdictState::Healthy, now, interval);
    assert_eq!(schedule.next(), (start + interval, Occasion::Regular));
}

#[test]
fn late_regular_probe_is_not_followed_by_a_burst() {
    let start = clock::instant();
    let interval = Duration::from_secs(1);
    let mut schedule = Schedule::new(VerdictState::Healthy, start, interval, 0.0);
    let late = start + Duration::from_secs(10);
    schedule.done(Occasion::Regular, VerdictState::Healthy, late, interval);
    assert_eq!(schedule.next(), (late, Occasion::Regular));
    schedule.done(Occasion::Regular, VerdictState::Healthy, late, interval);
    assert_eq!(schedule.next().0, late + interval);
}
