//! Flows over real sockets: what each side sees, and what is counted.

use std::future::Future;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Timestamp;
use crate::metrics::Metrics;
use crate::model::{
    Account, Action, Listener, ListenerKey, LoadBalancer, LoadBalancerKind, Owner, Protocol,
    Registration, Target, TargetGroup, Transport, Verdict, VerdictState, WeightedGroup,
};
use crate::routing::{Context, Publisher, Reader};
use crate::state::{Key, MemoryJournal, Store, StoreError, Tx};

const DEADLINE: Duration = Duration::from_secs(30);
const NOW: Timestamp = Timestamp(0);
const IDLE: Duration = Duration::from_secs(350);

/// A listener with these targets, and one thread that relays.
struct World {
    store: Store,
    publisher: Publisher,
    relay: Arc<TcpRelay>,
    socket: SocketKey,
    /// Where the clients connect.
    front: TcpListener,
}

async fn timeout<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("deadline")
}

fn put(tx: &mut Tx<'_>, front: SocketAddr, targets: &[SocketAddr]) {
    tx.put(LoadBalancer {
        name: "lb".into(),
        id: "0".into(),
        kind: LoadBalancerKind::Network,
        address: front.ip(),
        idle_timeout: IDLE,
        client_keep_alive: IDLE,
        owner: Owner::File,
        created_at: NOW,
        options: Default::default(),
    });
    tx.put(TargetGroup {
        deregistration_delay: Duration::ZERO,
        ..TargetGroup::new("echo".into(), "0".into(), (Protocol::Tcp, 1), Owner::File)
    });
    tx.put(Listener {
        key: ListenerKey { load_balancer: "lb".into(), port: front.port() },
        id: "0".into(),
        protocol: Protocol::Tcp,
        carrier: crate::model::Carrier::default(),
        rules: Vec::new(),
        default_action: Action::Forward(vec![WeightedGroup { group: "echo".into(), weight: 1 }]),
        owner: Owner::File,
        options: Default::default(),
    });
    for (address, n) in targets.iter().zip(1..) {
        tx.put(Target {
            id: RegistrationId(n),
            group: "echo".into(),
            address: address.ip(),
            port: address.port(),
            task: None,
            registration: Registration::Active,
            registered_at: NOW,
        });
        tx.put(Verdict {
            target: RegistrationId(n),
            state: VerdictState::Healthy,
            reason: None,
            description: String::new(),
            since: NOW,
        });
    }
}

impl World {
    async fn new(targets: &[SocketAddr]) -> Self {
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let store = Store::memory(&MemoryJournal::default()).unwrap();
        let targets = targets.to_vec();
        let rows = move |tx: &mut Tx<'_>| -> Result<(), StoreError> {
            put(tx, address, &targets);
            Ok(())
        };
        store.update(rows).await.unwrap();
        let metrics = Metrics::new(1);
        let reader = Reader::new(&metrics);
        let account = Account::new("local-1", "000000000000");
        let context = Context { account, domain: "roadstead.test".into(), metrics };
        let publisher = Publisher::new(store.clone(), reader.clone(), context);
        publisher.publish();
        let thread = DataThread { index: 0, reader, closing: CancellationToken::new() };
        let relay = Arc::new(TcpRelay::new(thread));
        let socket = SocketKey { address, transport: Transport::Tcp };
        Self { store, publisher, relay, socket, front }
    }

    /// A client, and the flow that carries it.
    async fn client(&self) -> (TcpStream, JoinHandle<Ended>) {
        let client = TcpStream::connect(self.socket.address).await.unwrap();
        let (accepted, peer) = self.front.accept().await.unwrap();
        let (relay, socket) = (Arc::clone(&self.relay), self.socket);
        (client, tokio::spawn(async move { relay.relay(accepted, peer, socket).await }))
    }

    async fn update(&self, change: impl FnOnce(&mut Tx<'_>) + Send + 'static) {
        let change = |tx: &mut Tx<'_>| -> Result<(), StoreError> {
            change(tx);
            Ok(())
        };
        self.store.update(change).await.unwrap();
        self.publisher.publish();
    }

    /// `requests errors retries in-flight received sent` of the first target's world.
    fn counts(&self) -> [u64; 6] {
        let routing = self.relay.thread.reader.load();
        let group = &routing.groups[&"echo".into()].metrics;
        let listener = &routing.listeners[&self.socket].metrics;
        let in_flight: i64 = routing.endpoints.values().map(|e| e.in_flight()).sum();
        [
            group.requests.total(),
            group.connection_errors.total(),
            group.retries.total(),
            in_flight.try_into().unwrap(),
            listener.received.total(),
            listener.sent.total(),
        ]
    }
}

/// A target, its address, and what it accepts.
async fn target() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address that refuses: bound, never listening, so nobody else gets the port.
fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A flow with both of its ends in hand.
struct Flow {
    world: World,
    client: TcpStream,
    target: TcpStream,
    relayed: JoinHandle<Ended>,
}

async fn flow() -> Flow {
    let (listener, address) = target().await;
    let world = World::new(&[address]).await;
    let (client, relayed) = world.client().await;
    let (target, _) = timeout(listener.accept()).await.unwrap();
    Flow { world, client, target, relayed }
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn expect(stream: &mut TcpStream, text: &str) {
    let mut read = vec![0; text.len()];
    timeout(stream.read_exact(&mut read)).await.unwrap();
    assert_eq!(String::from_utf8(read).unwrap(), text);
}

async fn expect_end(stream: &mut TcpStream) {
    assert_eq!(timeout(stream.read(&mut [0])).await.unwrap(), 0);
}

async fn expect_reset(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let error = timeout(stream.read_to_end(&mut rest)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn bytes_go_both_ways_and_are_counted() {
    let Flow { world, mut client, mut target, relayed } = flow().await;
    // Either side may speak first.
    send(&mut target, "hello").await;
    expect(&mut client, "hello").await;
    send(&mut client, "ping").await;
    expect(&mut target, "ping").await;
    send(&mut target, "pong").await;
    expect(&mut client, "pong").await;
    assert_eq!(world.counts(), [1, 0, 0, 1, 4, 9]);
    drop((client, target));
    assert_eq!(timeout(relayed).await.unwrap(), Ended::Finished);
    assert_eq!(world.counts(), [1, 0, 0, 0, 4, 9]);
}

/// One side finishes (at once, or behind some bytes); the other goes on, then finishes.
async fn check_half_close(client_first: bool, bytes: &str) {
    let Flow { world, client, target, relayed } = flow().await;
    let (mut first, mut second) = if client_first { (client, target) } else { (target, client) };
    send(&mut first, bytes).await;
    first.shutdown().await.unwrap();
    expect(&mut second, bytes).await;
    expect_end(&mut second).await;
    for part in ["a", "late", "answer"] {
        send(&mut second, part).await;
        expect(&mut first, part).await;
    }
    second.shutdown().await.unwrap();
    expect_end(&mut first).await;
    assert_eq!(timeout(relayed).await.unwrap(), Ended::Finished);
    assert_eq!(world.counts()[3], 0);
}

#[tokio::test]
async fn the_other_direction_goes_on_after_an_end() {
    check_half_close(true, "").await;
    check_half_close(true, "request").await;
    check_half_close(false, "").await;
    check_half_close(false, "greeting").await;
}

fn sum(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

/// Sends 16 MiB in random chunks, then finishes; the checksum.
async fn send_all(to: &mut WriteHalf<'_>, seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut left, mut total) = (16 << 20, 0);
    while left > 0 {
        let mut chunk = vec![0; rng.usize(1..200_000).min(left)];
        rng.fill(&mut chunk);
        to.write_all(&chunk).await.unwrap();
        total = sum(total, &chunk);
        left -= chunk.len();
    }
    to.shutdown().await.unwrap();
    total
}

async fn receive_all(from: &mut ReadHalf<'_>) -> (usize, u64) {
    let (mut length, mut total, mut buffer) = (0, 0, vec![0; 50_000]);
    loop {
        match from.read(&mut buffer).await.unwrap() {
            0 => return (length, total),
            read => {
                total = sum(total, &buffer[..read]);
                length += read;
            }
        }
    }
}

#[tokio::test]
async fn sixteen_megabytes_arrive_whole_in_both_directions_at_once() {
    let Flow { world, mut client, mut target, relayed } = flow().await;
    let (mut client_read, mut client_write) = client.split();
    let (mut target_read, mut target_write) = target.split();
    let (up, down, received, sent) = timeout(async {
        tokio::join!(
            send_all(&mut client_write, 1),
            send_all(&mut target_write, 2),
            receive_all(&mut target_read),
            receive_all(&mut client_read),
        )
    })
    .await;
    assert_eq!((received, sent), ((16 << 20, up), (16 << 20, down)));
    assert_eq!(timeout(relayed).await.unwrap(), Ended::Finished);
    assert_eq!(world.counts()[3..], [0, 16 << 20, 16 << 20]);
}

#[tokio::test]
async fn a_reset_on_one_side_resets_the_other() {
    for client_first in [true, false] {
        let Flow { world, mut client, mut target, relayed } = flow().await;
        // A target that resets before the relay knows it connected has refused.
        send(&mut client, "ping").await;
        expect(&mut target, "ping").await;
        let (first, mut second) = if client_first { (client, target) } else { (target, client) };
        first.set_zero_linger().unwrap();
        drop(first);
        expect_reset(&mut second).await;
        assert_eq!(timeout(relayed).await.unwrap(), Ended::Reset);
        assert_eq!(world.counts()[3], 0);
    }
}

#[tokio::test]
async fn a_reset_after_a_half_close_resets_the_other() {
    let Flow { mut client, mut target, relayed, .. } = flow().await;
    client.shutdown().await.unwrap();
    expect_end(&mut target).await;
    target.set_zero_linger().unwrap();
    drop(target);
    expect_reset(&mut client).await;
    assert_eq!(timeout(relayed).await.unwrap(), Ended::Reset);
}

#[tokio::test]
async fn a_dropped_flow_resets_both_sides() {
    let Flow { world, mut client, mut target, relayed } = flow().await;
    send(&mut client, "ping").await;
    expect(&mut target, "ping").await;
    relayed.abort();
    expect_reset(&mut client).await;
    expect_reset(&mut target).await;
    assert!(timeout(relayed).await.unwrap_err().is_cancelled());
    assert_eq!(world.counts()[3], 0);
}

#[tokio::test]
async fn a_target_that_refuses_is_left_for_another() {
    let (_first, refusing_1) = refusing();
    let (_second, refusing_2) = refusing();
    let (listener, good) = target().await;
    let world = World::new(&[refusing_1, refusing_2, good]).await;
    for _ in 0..6 {
        let (mut client, relayed) = world.client().await;
        let (mut target, _) = timeout(listener.accept()).await.unwrap();
        send(&mut client, "ping").await;
        expect(&mut target, "ping").await;
        drop((client, target));
        assert_eq!(timeout(relayed).await.unwrap(), Ended::Finished);
    }
    let [requests, errors, retries, in_flight, ..] = world.counts();
    assert_eq!((requests, in_flight, errors == retries), (6, 0, true));
    assert!(errors >= 6, "{errors}");
}

#[tokio::test]
async fn a_flow_ends_when_every_target_refuses() {
    let sockets: Vec<_> = (0..4).map(|_| refusing()).collect();
    let addresses: Vec<_> = sockets.iter().map(|(_, address)| *address).collect();
    for (count, tried) in [(1, 1), (4, CONNECT_ATTEMPTS as u64)] {
        let world = World::new(&addresses[..count]).await;
        let (mut client, relayed) = world.client().await;
        expect_reset(&mut client).await;
        assert_eq!(timeout(relayed).await.unwrap(), Ended::Refused);
        assert_eq!(world.counts(), [0, tried, tried - 1, 0, 0, 0]);
    }
}

#[tokio::test]
async fn a_flow_without_a_target_or_a_listener_is_reset() {
    let world = World::new(&[]).await;
    let (mut client, relayed) = world.client().await;
    expect_reset(&mut client).await;
    assert_eq!(timeout(relayed).await.unwrap(), Ended::NoTarget);
    let port = world.socket.address.port();
    let key = ListenerKey { load_balancer: "lb".into(), port };
    world.update(move |tx| tx.remove(Key::Listener(key))).await;
    let (mut client, relayed) = world.client().await;
    expect_reset(&mut client).await;
    assert_eq!(timeout(relayed).await.unwrap(), Ended::NoTarget);
}

/// Time moves when everything waits: the test's own deadlines have to be later than what it waits
/// for.
async fn check_idle(half_close: bool, expected: Duration) {
    let Flow { mut client, mut target, relayed, .. } = flow().await;
    if half_close {
        client.shutdown().await.unwrap();
        expect_end(&mut target).await;
    }
    for _ in 0..3 {
        tokio::time::pause();
        tokio::time::advance(expected - Duration::from_secs(1)).await;
        tokio::time::resume();
        send(&mut target, "still here").await;
        expect(&mut client, "still here").await;
    }
    let last = clock::instant();
    tokio::time::pause();
    assert_eq!(relayed.await.unwrap(), Ended::Idle);
    let silence = last.elapsed();
    assert!(silence >= expected - Duration::from_secs(1), "{silence:?}");
    assert!(silence <= expected + Duration::from_secs(1), "{silence:?}");
    tokio::time::resume();
    expect_reset(&mut client).await;
    if half_close {
        // Its end of stream came before the reset; only writing shows it now.
        while target.write_all(b"anybody?").await.is_ok() {
            yield_now().await;
        }
    } else {
        expect_reset(&mut target).await;
    }
}

#[tokio::test]
async fn a_silent_flow_ends_after_the_idle_timeout() {
    check_idle(false, IDLE).await;
}

#[tokio::test]
async fn a_silent_half_closed_flow_ends_sooner() {
    check_idle(true, HALF_CLOSED_IDLE).await;
}

#[tokio::test]
async fn a_draining_target_keeps_its_flows_until_its_registration_is_gone() {
    let Flow { world, mut client, mut target, relayed } = flow().await;
    world
        .update(|tx| {
            let target = tx.state().targets[&RegistrationId(1)].as_ref().clone();
            tx.put(Target { registration: Registration::Draining { since: NOW }, ..target });
        })
        .await;
    send(&mut client, "ping").await;
    expect(&mut target, "ping").await;
    assert!(!relayed.is_finished());
    assert_eq!(world.counts()[3], 1);
    world
        .update(|tx| {
            tx.remove(Key::Verdict(RegistrationId(1)));
            tx.remove(Key::Target(RegistrationId(1)));
        })
        .await;
    expect_reset(&mut client).await;
    expect_reset(&mut target).await;
    assert_eq!(timeout(relayed).await.unwrap(), Ended::Deregistered);
}

#[tokio::test]
async fn other_generations_leave_a_flow_alone() {
    let Flow { world, mut client, mut target, relayed } = flow().await;
    for round in 0..20u64 {
        world
            .update(move |tx| {
                let group = tx.state().target_groups[&"echo".into()].as_ref().clone();
                let deregistration_delay = Duration::from_secs(round + 1);
                tx.put(TargetGroup { deregistration_delay, ..group });
            })
            .await;
        send(&mut client, "ping").await;
        expect(&mut target, "ping").await;
    }
    assert!(!relayed.is_finished());
}

#[tokio::test]
async fn a_slow_reader_holds_up_its_own_flow_only() {
    let Flow { world, mut client, mut target, relayed } = flow().await;
    // Until the sockets are full and nothing more is taken.
    let mut sent = 0;
    let block = vec![7; 1 << 20];
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(300), client.write(&block)).await
    {
        sent += written.unwrap();
    }
    // The other direction is not held up.
    send(&mut target, "pong").await;
    expect(&mut client, "pong").await;
    client.shutdown().await.unwrap();
    let (read, _) = timeout(receive_all(&mut target.split().0)).await;
    assert_eq!(read, sent);
    drop((client, target));
    assert_eq!(timeout(relayed).await.unwrap(), Ended::Finished);
    assert_eq!(world.counts()[3], 0);
}
