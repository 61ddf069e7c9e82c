//! A plane on real sockets: a State with one load balancer, and targets that do as they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::{HttpPlane, Settings};
use crate::auth::Fetcher;
use crate::clock::{self, Timestamp};
use crate::logs::AccessLog;
use crate::metrics::Metrics;
use crate::model::*;
use crate::routing::{Context, DataThread, Publisher, Reader, SocketKey, keep_keys};
use crate::state::{Journal, Key, Store, StoreError};
use crate::tls::Authorities;
use crate::tls::policy::RECOMMENDED;
use crate::tls::testing::{Client as Asking, Pem};

pub(super) use super::client::{Client, Response};
pub(super) use super::target::{
    ASK, Act, SWITCH, Target, accept, by_hand, nobody, ok, switch, switched,
};

/// The file of an access log.
const LOG: &str = "access.log";

/// Longer than any test takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = clock::instant() + PATIENCE;
    while !condition() {
        assert!(clock::instant() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(super) struct World {
    pub(super) plane: Arc<HttpPlane>,
    pub(super) metrics: Metrics,
    pub(super) closing: CancellationToken,
    pub(super) key: SocketKey,
    pub(super) reader: Reader,
    store: Store,
    publisher: Publisher,
    serving: Arc<AtomicUsize>,
    log: Option<tempfile::TempDir>,
    /// Ends the accept loop with the world.
    _tasks: JoinSet<()>,
}

/// What a world is made of.
pub(super) struct Plan {
    pub(super) carrier: Carrier,
    pub(super) idle_timeout: Duration,
    pub(super) client_keep_alive: Duration,
    pub(super) rules: Vec<Rule>,
    pub(super) default_action: Option<Action>,
    /// Whether an access log is written; [`World::logged`] reads it.
    pub(super) log: bool,
    /// The listener's certificates; none: it speaks HTTP.
    pub(super) certificates: Vec<Pem>,
    /// Of the groups.
    pub(super) protocol: Protocol,
    /// Of group `a`.
    pub(super) version: ProtocolVersion,
    pub(super) desync: DesyncMode,
    /// Of both groups.
    pub(super) routing: GroupRouting,
    /// Before the default action.
    pub(super) check: Option<ClientCheck>,
    /// Whom identity providers are believed by, PEM.
    pub(super) authority: String,
    /// Of the default action.
    pub(super) stickiness: GroupStickiness,
    pub(super) requests: RequestRules,
    pub(super) responses: ResponseRules,
    pub(super) rate_limit: Option<RateLimit>,
    /// What the kernel holds for a client; 0: as it likes.
    pub(super) send_buffer: usize,
}

impl Plan {
    pub(super) fn of(carrier: Carrier) -> Self {
        Self {
            carrier,
            idle_timeout: PATIENCE,
            client_keep_alive: Duration::from_secs(3600),
            rules: Vec::new(),
            default_action: None,
            log: false,
            certificates: Vec::new(),
            protocol: Protocol::Http,
            version: ProtocolVersion::Http1,
            desync: DesyncMode::default(),
            routing: GroupRouting::default(),
            check: None,
            authority: String::new(),
            stickiness: GroupStickiness::default(),
            requests: RequestRules::default(),
            responses: ResponseRules::default(),
            rate_limit: None,
            send_buffer: 0,
        }
    }
}

fn cookie_key(secret: &str, made_at: u64) -> CookieKey {
    CookieKey { id: secret.into(), secret: secret.into(), made_at: Timestamp(made_at) }
}

pub(super) fn forward(group: &str) -> Action {
    Action::Forward(vec![WeightedGroup { group: group.into(), weight: 1 }])
}

pub(super) fn rule(priority: u32, condition: Condition, action: Action) -> Rule {
    Rule::new(format!("{priority:016x}"), priority, vec![condition], action)
}

/// `/b/*` and the host `b.test` go to `b`; `/tea` is answered by ourselves.
pub(super) fn ordinary_rules() -> Vec<Rule> {
    let fixed = FixedResponse {
        status: 418,
        content_type: "text/plain".into(),
        body: "short and stout".into(),
    };
    vec![
        rule(10, Condition::PathPattern(vec!["/b/*".into()]), forward("b")),
        rule(20, Condition::HostHeader(vec!["b.test".into()]), forward("b")),
        rule(30, Condition::PathPattern(vec!["/tea".into()]), Action::FixedResponse(fixed)),
    ]
}

impl World {
    /// Groups `a`, which the default action forwards to, and `b`.
    pub(super) async fn new(plan: Plan, targets: &[(&str, &Target)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = socket2::SockRef::from(&listener);
        socket.set_tcp_nodelay(true).unwrap();
        if plan.send_buffer > 0 {
            socket.set_send_buffer_size(plan.send_buffer).unwrap();
        }
        let address = listener.local_addr().unwrap();
        let key = SocketKey { address, transport: Transport::Tcp };
        let metrics = Metrics::new(1);
        let folder = plan.log.then(|| tempfile::tempdir().unwrap());
        let log = folder.as_ref().map(|folder| folder.path().join(LOG));
        let log = log.map(|path| AccessLog::open(&path, &metrics).unwrap());
        let Journal::Memory(journal) = Journal::memory() else { panic!("not in memory") };
        let store = Store::memory(&journal).unwrap();
        let reader = Reader::new(&metrics);
        let account = Account::new("eu-west-1", "123456789012");
        let context = Context { account, domain: "test".into(), metrics: metrics.clone() };
        let publisher = Publisher::new(store.clone(), reader.clone(), context);
        let closing = CancellationToken::new();
        let thread = DataThread { index: 0, reader: reader.clone(), closing: closing.clone() };
        let trusted = Authorities::read(plan.authority.as_bytes()).unwrap_or_default();
        let fetcher = Fetcher::new(trusted);
        let settings = Settings { fetcher: fetcher.clone(), ..Settings::default() };
        let plane = HttpPlane::new(thread, &settings, &metrics, log);
        let serving = Arc::<AtomicUsize>::default();
        let mut tasks = JoinSet::new();
        let ends = CancellationToken::new();
        tasks.spawn(keep_keys(reader.clone(), fetcher, metrics.clone(), ends));
        let (accepting, count) = (Arc::clone(&plane), Arc::clone(&serving));
        tasks.spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (plane, count) = (Arc::clone(&accepting), Arc::clone(&count));
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    plane.serve(stream, peer, key).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let (log, _tasks) = (folder, tasks);
        let world =
            Self { plane, metrics, closing, key, reader, store, publisher, serving, log, _tasks };
        world.fill(plan).await;
        for (group, target) in targets {
            world.register(group, target.address).await;
        }
        world
    }

    async fn fill(&self, plan: Plan) {
        let address = self.key.address;
        let balancer = LoadBalancer {
            name: "front".into(),
            id: "50dc6c495c0c9188".into(),
            kind: LoadBalancerKind::Application,
            address: address.ip(),
            idle_timeout: plan.idle_timeout,
            client_keep_alive: plan.client_keep_alive,
            owner: Owner::File,
            created_at: Timestamp::default(),
            options: BalancerOptions {
                desync_mitigation_mode: plan.desync,
                requests: plan.requests,
                ..BalancerOptions::default()
            },
        };
        let rows = self.certificates(&plan.certificates);
        let tls = (!rows.is_empty()).then(|| ListenerTls {
            certificates: rows.iter().map(|row| row.arn.clone()).collect(),
            policy: RECOMMENDED.to_owned(),
            alpn: AlpnPolicy::default(),
            mutual: MutualTls::Off,
        });
        let listener = Listener {
            key: ListenerKey { load_balancer: "front".into(), port: address.port() },
            id: "0000000000000001".into(),
            protocol: if tls.is_some() { Protocol::Https } else { Protocol::Http },
            carrier: plan.carrier,
            rules: plan.rules,
            default_action: plan.default_action.unwrap_or_else(|| forward("a")),
            owner: Owner::File,
            options: ListenerOptions {
                tls,
                authentication: plan.check.map(|check| Authentication { order: None, check }),
                stickiness: plan.stickiness,
                responses: plan.responses,
                rate_limit: plan.rate_limit,
                ..ListenerOptions::default()
            },
        };
        let protocol = plan.protocol;
        let group = |name: &str, id: u8, version: ProtocolVersion| TargetGroup {
            deregistration_delay: Duration::ZERO,
            options: GroupOptions { version, routing: plan.routing.clone(), ..Default::default() },
            ..TargetGroup::new(name.into(), format!("{id:016x}"), (protocol, 80), Owner::File)
        };
        let a = group("a", 2, plan.version);
        let b = group("b", 3, ProtocolVersion::Http1);
        let key = cookie_key("first", 1);
        let filled = self.store.update(move |tx| {
            rows.into_iter().for_each(|row| tx.put(row));
            tx.put(key);
            tx.put(a);
            tx.put(b);
            tx.put(balancer);
            tx.put(listener);
            Ok::<_, StoreError>(())
        });
        filled.await.unwrap();
        self.publisher.publish();
    }

    /// `arn:0`, `arn:1` …
    fn certificates(&self, all: &[Pem]) -> Vec<Certificate> {
        let row = |(pem, n): (&Pem, usize)| Certificate {
            arn: CertificateArn::new(format!("arn:{n}")),
            store: CertificateStore::Acm,
            body: pem.certificate.clone(),
            chain: String::new(),
            private_key: PrivateKey::new(pem.key.clone()),
            owner: Owner::File,
            created_at: Timestamp::default(),
            imported_at: Timestamp::default(),
        };
        all.iter().zip(0..).map(row).collect()
    }

    /// The listener presents these from now on.
    pub(super) async fn present(&self, all: &[Pem]) {
        let rows = self.certificates(all);
        let changed = self.store.update(move |tx| {
            rows.into_iter().for_each(|row| tx.put(row));
            Ok::<_, StoreError>(())
        });
        changed.await.unwrap();
        self.publisher.publish();
    }

    /// A client over TLS that asks for `test`.
    pub(super) async fn secure_client(&self, asking: &Asking) -> Client {
        Client::new(asking.dial(self.key.address, "test").await.unwrap())
    }

    /// Registers a target that is healthy at once.
    pub(super) async fn register(
        &self,
        group: &str,
        address: std::net::SocketAddr,
    ) -> RegistrationId {
        let group: TargetGroupName = group.into();
        let put = self.store.update(move |tx| {
            let id = tx.next_registration();
            tx.put(crate::model::Target {
                id,
                group,
                address: address.ip(),
                port: address.port(),
                task: None,
                registration: Registration::Active,
                registered_at: Timestamp::default(),
            });
            Ok::<_, StoreError>(id)
        });
        let target = put.await.unwrap().value;
        self.judge(target, VerdictState::Healthy);
        target
    }

    /// What its health checks have come to.
    pub(super) fn judge(&self, target: RegistrationId, state: VerdictState) {
        let verdict = Verdict {
            target,
            state,
            reason: None,
            description: String::new(),
            since: Timestamp::default(),
        };
        self.store.update_riding(move |tx| tx.put(verdict)).unwrap();
        self.publisher.publish();
    }

    /// The default action leads there from now on.
    pub(super) async fn forward_to(&self, group: &str) {
        let action = forward(group);
        let put = self.store.update(move |tx| {
            let listener = tx.state().listeners.values().next().unwrap();
            let changed = Listener { default_action: action, ..Listener::clone(listener) };
            tx.put(changed);
            Ok::<_, StoreError>(())
        });
        put.await.unwrap();
        self.publisher.publish();
    }

    /// One more key, which seals from now on.
    pub(super) async fn add_key(&self, secret: &str, made_at: u64) {
        let key = cookie_key(secret, made_at);
        let put = self.store.update(move |tx| {
            tx.put(key);
            Ok::<_, StoreError>(())
        });
        put.await.unwrap();
        self.publisher.publish();
    }

    /// Tells the target registered first to let go, and names it.
    pub(super) async fn drain_first(&self) -> RegistrationId {
        let id = self.store.read().targets.keys().copied().min().unwrap();
        self.drain(id).await;
        id
    }

    /// Nothing new goes to the target from now on.
    pub(super) async fn drain(&self, id: RegistrationId) {
        let drained = self.store.update(move |tx| {
            let target = crate::model::Target::clone(&tx.state().targets[&id]);
            let since = Timestamp::default();
            tx.put(crate::model::Target {
                registration: Registration::Draining { since },
                ..target
            });
            Ok::<_, StoreError>(())
        });
        drained.await.unwrap();
        self.publisher.publish();
        self.plane.forget(&self.reader.load());
    }

    pub(super) async fn remove(&self, keys: Vec<Key>) {
        let removed = self.store.update(move |tx| {
            keys.into_iter().for_each(|key| tx.remove(key));
            Ok::<_, StoreError>(())
        });
        removed.await.unwrap();
        self.publisher.publish();
        self.plane.forget(&self.reader.load());
    }

    /// The keys of tokens were read long ago.
    pub(super) fn rest_keys(&self) {
        self.reader.load().key_sets.values().for_each(|set| set.rest());
    }

    pub(super) async fn client(&self) -> Client {
        Client::connect(self.key.address).await
    }

    /// One exchange on a connection of its own.
    pub(super) async fn get(&self, path: &str) -> Response {
        self.client().await.get(path).await
    }

    pub(super) fn in_flight(&self) -> i64 {
        self.reader.load().endpoints.values().map(|endpoint| endpoint.in_flight()).sum()
    }

    /// Nothing is counted on any target and no connection is served any more.
    pub(super) async fn at_rest(&self) {
        until("in-flight is zero", || self.in_flight() == 0).await;
        until("connections ended", || self.serving.load(Ordering::SeqCst) == 0).await;
    }

    /// The access log of a world at rest, once it has so many lines.
    pub(super) async fn logged(&self, count: usize) -> Vec<String> {
        self.at_rest().await;
        let path = self.log.as_ref().unwrap().path().join(LOG);
        let text = || std::fs::read_to_string(&path).unwrap_or_default();
        until("all lines are written", || text().matches('\n').count() >= count).await;
        let lines: Vec<_> = text().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }

    /// The value of the first such series with this in its labels.
    pub(super) fn metric(&self, name: &str, label: &str) -> u64 {
        let text = self.metrics.render().unwrap();
        let mut lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let line = lines.find(|line| line.contains(label));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}
