//! Queries over real sockets, and messages of any kind through the same path in process.

mod forward;

use std::net::IpAddr;

use hickory_server::proto::op::{
    Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_server::proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Timestamp;
use crate::model::{
    Account, DiscoveryInstance, DiscoveryKey, DiscoveryService, InstanceKey, Namespace, Owner,
};
use crate::routing::{Context, Publisher, Reader};
use crate::state::{MemoryJournal, Store, StoreError, Tx};

const DEADLINE: Duration = Duration::from_secs(20);

/// One data thread's DNS, answering until dropped.
struct World {
    plane: Arc<DnsPlane>,
    metrics: Metrics,
    others: OtherServers,
    closing: CancellationToken,
    serving: tokio::task::JoinSet<()>,
    udp: SocketAddr,
    tcp: SocketAddr,
}

fn key(id: &str, service: &str) -> InstanceKey {
    let service = DiscoveryKey { namespace: "demo.internal".into(), name: service.into() };
    InstanceKey { service, id: id.into() }
}

/// `count` instances of one service of `demo.internal`.
fn put(tx: &mut Tx<'_>, service: &str, count: u8) {
    let ttl = Duration::from_secs(5);
    tx.put(Namespace::new("demo.internal".into(), ttl, Owner::File));
    tx.put(DiscoveryService::new(key("", service).service, ttl, Owner::File));
    for n in 0..count {
        tx.put(DiscoveryInstance {
            address: Some(IpAddr::from([10, 0, 0, n])),
            port: Some(80),
            ..DiscoveryInstance::new(key(&format!("{n:032x}"), service))
        });
    }
}

impl World {
    async fn new() -> Self {
        Self::facing(Facing::Anyone).await
    }

    async fn facing(facing: Facing) -> Self {
        let metrics = Metrics::new(1);
        let store = Store::memory(&MemoryJournal::default()).unwrap();
        let long = "x".repeat(60);
        let rows = move |tx: &mut Tx<'_>| -> Result<(), StoreError> {
            put(tx, "web", 3);
            put(tx, "many", 20);
            put(tx, &format!("{long}.{long}"), 20);
            put(tx, "empty", 0);
            Ok(())
        };
        store.update(rows).await.unwrap();
        let reader = Reader::new(&metrics);
        let account = Account::new("local-1", "000000000000");
        let domain = "roadstead.test".to_owned();
        let context = Context { account, domain, metrics: metrics.clone() };
        Publisher::new(store, reader.clone(), context).publish();
        let closing = CancellationToken::new();
        let thread = DataThread { index: 0, reader, closing: closing.clone() };
        let others = OtherServers::default();
        let plane = Arc::new(DnsPlane::new(thread, &metrics, others.clone()));
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (udp_at, tcp_at) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(Arc::clone(&plane).serve_tcp(tcp, facing));
        let answering = Arc::clone(&plane);
        serving.spawn(async move { answering.serve_udp(udp, facing).await });
        Self { plane, metrics, others, closing, serving, udp: udp_at, tcp: tcp_at }
    }

    /// The answer in process.
    fn answer(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        self.plane.answer(query, SocketAddr::from(([127, 0, 0, 1], 1000)), transport)
    }

    fn ask(&self, query: &Message, transport: Transport) -> Message {
        let answer = self.answer(&query.to_vec().unwrap(), transport).expect("no answer");
        Message::from_vec(&answer).unwrap()
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.metrics.counter(&names::DNS_DROPPED, &[reason]).total()
    }

    fn queries(&self, zone: &str, kind: &str, code: &str) -> u64 {
        self.metrics.counter(&names::DNS_QUERIES, &[zone, kind, code]).total()
    }

    async fn ask_udp(&self, query: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.udp).await.unwrap();
        socket.send(query).await.unwrap();
        let mut buffer = vec![0; 65535];
        let length = timeout(socket.recv(&mut buffer)).await.unwrap();
        buffer.truncate(length);
        buffer
    }
}

async fn timeout<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("deadline")
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.edns = Some(edns);
    message
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    [&length.to_be_bytes()[..], message].concat()
}

async fn read_framed(stream: &mut TcpStream) -> Option<Message> {
    let length = timeout(stream.read_u16()).await.ok()?;
    let mut answer = vec![0; length.into()];
    timeout(stream.read_exact(&mut answer)).await.unwrap();
    Some(Message::from_vec(&answer).unwrap())
}

/// `CODE FLAGS ANSWERS/AUTHORITIES/ADDITIONALS`.
fn shape(message: &Message) -> String {
    let Metadata { response_code, .. } = message.metadata;
    let code = match response_code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        // One number, two names: without a signature it is BADVERS.
        ResponseCode::BADVERS | ResponseCode::BADSIG => "BADVERS",
        _ => "other",
    };
    let flags = message.metadata.flags();
    let sections = [&message.answers, &message.authorities, &message.additionals].map(Vec::len);
    format!("{code} {flags} {}/{}/{}", sections[0], sections[1], sections[2])
}

#[tokio::test]
async fn answers_have_their_code_flags_and_sections() {
    let world = World::new().await;
    let check = |name: &str, kind, expected: &str| {
        let answer = world.ask(&query(name, kind), Transport::Udp);
        assert_eq!(shape(&answer), expected, "{name} {kind}");
        assert_eq!(answer.metadata.id, 0x1234);
        assert_eq!(answer.queries, query(name, kind).queries);
    };
    check("web.demo.internal.", RecordType::A, "NOERROR RD,AA,RA 3/0/0");
    check("wEb.Demo.INTERNAL.", RecordType::A, "NOERROR RD,AA,RA 3/0/0");
    check("web.demo.internal.", RecordType::SRV, "NOERROR RD,AA,RA 3/0/3");
    check("web.demo.internal.", RecordType::AAAA, "NOERROR RD,AA,RA 0/1/0");
    check("web.demo.internal.", RecordType::HTTPS, "NOERROR RD,AA,RA 0/1/0");
    check("web.demo.internal.", RecordType::ANY, "NOERROR RD,AA,RA 1/0/0");
    check("empty.demo.internal.", RecordType::A, "NOERROR RD,AA,RA 0/1/0");
    check("demo.internal.", RecordType::SOA, "NOERROR RD,AA,RA 1/0/0");
    check("demo.internal.", RecordType::NS, "NOERROR RD,AA,RA 1/0/0");
    check("none.demo.internal.", RecordType::A, "NXDOMAIN RD,AA,RA 0/1/0");
    check("example.com.", RecordType::A, "REFUSED RD 0/0/0");
    check(".", RecordType::NS, "REFUSED RD 0/0/0");
    check("demo.internal.", RecordType::AXFR, "REFUSED RD 0/0/0");
}

#[tokio::test]
async fn unusual_queries_get_the_code_that_says_why() {
    let world = World::new().await;
    let check = |change: &dyn Fn(&mut Message), expected: &str| {
        let mut message = query("web.demo.internal.", RecordType::A);
        change(&mut message);
        assert_eq!(shape(&world.ask(&message, Transport::Udp)), expected);
    };
    check(&|m| m.metadata.op_code = OpCode::Notify, "NOTIMP RD 0/0/0");
    check(&|m| m.metadata.op_code = OpCode::Unknown(15), "NOTIMP RD 0/0/0");
    check(&|m| m.queries.clear(), "FORMERR RD 0/0/0");
    check(&|m| m.queries = vec![m.queries[0].clone(), m.queries[0].clone()], "FORMERR RD 0/0/0");
    check(&|m| _ = m.queries[0].set_query_class(DNSClass::CH), "REFUSED RD 0/0/0");
    check(&|m| m.metadata.checking_disabled = true, "NOERROR RD,AA,RA 3/0/0");
    check(&|m| m.metadata.authentic_data = true, "NOERROR RD,AA,RA 3/0/0");
    check(&|m| m.metadata.recursion_desired = false, "NOERROR AA,RA 3/0/0");
    let version = |m: &mut Message| {
        let mut edns = Edns::new();
        edns.set_version(1);
        m.edns = Some(edns);
    };
    check(&version, "BADVERS RD 0/0/0");
}

#[tokio::test]
async fn edns_is_answered_with_edns_and_only_then() {
    let world = World::new().await;
    let plain = query("web.demo.internal.", RecordType::A);
    assert_eq!(world.ask(&plain, Transport::Udp).edns, None);
    let edns = world.ask(&with_edns(plain, 4096), Transport::Udp).edns.unwrap();
    assert_eq!((edns.max_payload(), edns.version()), (1232, 0));
    let mut version = with_edns(query("web.demo.internal.", RecordType::A), 4096);
    version.edns.as_mut().unwrap().set_version(3);
    assert_eq!(world.ask(&version, Transport::Udp).edns.unwrap().version(), 0);
}

#[tokio::test]
async fn a_denial_carries_the_soa_with_the_negative_ttl() {
    let world = World::new().await;
    let answer = world.ask(&query("x.y.demo.internal.", RecordType::A), Transport::Udp);
    let soa = &answer.authorities[0];
    assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), ("demo.internal.", 5));
    let RData::SOA(data) = &soa.data else { panic!("{soa}") };
    assert_eq!(data.minimum, 5);
    assert_eq!(data.mname.to_ascii(), "ns.dns.demo.internal.");
}

#[tokio::test]
async fn udp_answers_end_at_what_the_client_takes_and_keep_what_fits() {
    let world = World::new().await;
    let long = format!("{0}.{0}.demo.internal.", "x".repeat(60));
    let check = |message: Message, limit: usize, truncated: bool, answers: usize| {
        let bytes = world.answer(&message.to_vec().unwrap(), Transport::Udp).unwrap();
        assert!(bytes.len() <= limit, "{} of {limit} bytes", bytes.len());
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.truncation, truncated, "{answer}");
        assert_eq!(answer.answers.len(), answers, "{answer}");
        assert_eq!(answer.edns.is_some(), message.edns.is_some());
        answer
    };
    check(query("many.demo.internal.", RecordType::A), 512, false, 8);
    // Eight SRV records with long targets: 512 bytes hold some, 1232 hold four with 4096 asked for.
    let srv = query(&long, RecordType::SRV);
    check(srv.clone(), 512, true, 1);
    check(with_edns(srv.clone(), 100), 512, true, 1);
    check(with_edns(srv.clone(), 700), 700, true, 2);
    let most = check(with_edns(srv.clone(), 1232), 1232, true, 4);
    let more = check(with_edns(srv.clone(), 4096), 1232, true, 4);
    assert_eq!((most.additionals.len(), more.additionals.len()), (0, 0));
    // Over TCP everything.
    let whole = world.ask(&srv, Transport::Tcp);
    assert_eq!(shape(&whole), "NOERROR RD,AA,RA 8/0/8");
}

#[tokio::test]
async fn additional_records_are_left_out_without_a_truncation() {
    let world = World::new().await;
    let message = with_edns(query("many.demo.internal.", RecordType::SRV), 700);
    let answer = world.ask(&message, Transport::Udp);
    assert_eq!((answer.answers.len(), answer.metadata.truncation), (8, false));
    assert!(answer.additionals.len() < 8, "{answer}");
    let whole = world.ask(&with_edns(message, 1232), Transport::Udp);
    assert_eq!(shape(&whole), "NOERROR RD,AA,RA 8/0/8");
}

#[tokio::test]
async fn what_is_no_query_gets_no_answer() {
    let world = World::new().await;
    let bytes = query("web.demo.internal.", RecordType::A).to_vec().unwrap();
    for length in 0..12 {
        assert_eq!(world.answer(&bytes[..length], Transport::Udp), None);
    }
    assert_eq!(world.dropped("short"), 12);
    let mut response = bytes.clone();
    response[2] |= 0x80;
    assert_eq!(world.answer(&response, Transport::Udp), None);
    assert_eq!(world.dropped("response"), 1);
    let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
    assert_eq!(world.plane.answer(&bytes, nobody, Transport::Udp), None);
    assert_eq!(world.dropped("source"), 1);
}

#[tokio::test]
async fn queries_that_end_early_are_malformed() {
    let world = World::new().await;
    let bytes = with_edns(query("web.demo.internal.", RecordType::A), 4096).to_vec().unwrap();
    for length in 12..bytes.len() {
        let answer = world.answer(&bytes[..length], Transport::Udp).unwrap();
        assert_eq!(answer, [0x12, 0x34, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0], "{length}");
    }
}

#[tokio::test]
async fn mutated_queries_never_stop_the_plane() {
    let world = World::new().await;
    let mut rng = fastrand::Rng::with_seed(42);
    let seeds = [
        query("web.demo.internal.", RecordType::A),
        with_edns(query("many.demo.internal.", RecordType::SRV), 4096),
        with_edns(query("x.y.demo.internal.", RecordType::ANY), 600),
    ]
    .map(|message| message.to_vec().unwrap());
    for round in 0..30_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(..bytes.len());
            match rng.u8(..5) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes[at] ^= 1 << rng.u8(..8),
                2 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, rng.u8(..)),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes.truncate(QUERY_BYTES);
        let transport = if rng.bool() { Transport::Udp } else { Transport::Tcp };
        if let Some(answer) = world.answer(&bytes, transport) {
            assert_eq!(answer[..2], bytes[..2]);
            assert_ne!(answer[2] & 0x80, 0);
            assert!(transport == Transport::Tcp || answer.len() <= UDP_PAYLOAD.into());
            Message::from_vec(&answer).unwrap();
        }
    }
    let good = query("web.demo.internal.", RecordType::A).to_vec().unwrap();
    let answer = Message::from_vec(&world.ask_udp(&good).await).unwrap();
    assert_eq!(shape(&answer), "NOERROR RD,AA,RA 3/0/0");
}

#[tokio::test]
async fn a_truncated_answer_is_whole_over_tcp() {
    let world = World::new().await;
    let name = format!("{0}.{0}.demo.internal.", "x".repeat(60));
    let bytes = query(&name, RecordType::SRV).to_vec().unwrap();
    let short = Message::from_vec(&world.ask_udp(&bytes).await).unwrap();
    assert!(short.metadata.truncation && !short.answers.is_empty());
    let mut stream = TcpStream::connect(world.tcp).await.unwrap();
    stream.write_all(&framed(&bytes)).await.unwrap();
    let whole = read_framed(&mut stream).await.unwrap();
    assert_eq!(shape(&whole), "NOERROR RD,AA,RA 8/0/8");
}

#[tokio::test]
async fn case_of_the_question_comes_back() {
    let world = World::new().await;
    let bytes = query("wEb.dEMo.InTeRnAl.", RecordType::A).to_vec().unwrap();
    let answer = world.ask_udp(&bytes).await;
    assert_eq!(answer[12..bytes.len()], bytes[12..]);
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.answers[0].name.to_ascii(), "wEb.dEMo.InTeRnAl.");
}

#[tokio::test]
async fn many_queries_on_one_connection_are_answered_in_order_up_to_a_number() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.tcp).await.unwrap();
    let mut all = Vec::new();
    for id in 0..150u16 {
        let mut message = query("web.demo.internal.", RecordType::A);
        message.metadata.id = id;
        all.extend(framed(&message.to_vec().unwrap()));
    }
    // In two parts with a cut inside a message.
    stream.write_all(&all[..77]).await.unwrap();
    for id in 0..1 {
        assert_eq!(read_framed(&mut stream).await.unwrap().metadata.id, id);
    }
    stream.write_all(&all[77..]).await.unwrap();
    for id in 1..100 {
        assert_eq!(read_framed(&mut stream).await.unwrap().metadata.id, id);
    }
    assert!(read_framed(&mut stream).await.is_none(), "closed after the hundredth");
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_one_that_ends_makes_room() {
    let world = World::new().await;
    let bytes = framed(&query("web.demo.internal.", RecordType::A).to_vec().unwrap());
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(world.tcp).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        assert!(read_framed(&mut stream).await.is_some());
        open.push(stream);
    }
    let mut extra = TcpStream::connect(world.tcp).await.unwrap();
    assert!(!matches!(timeout(extra.read(&mut [0])).await, Ok(1..)));
    assert_eq!(world.dropped("connections"), 1);
    open.pop();
    loop {
        let mut stream = TcpStream::connect(world.tcp).await.unwrap();
        if stream.write_all(&bytes).await.is_ok() && read_framed(&mut stream).await.is_some() {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_brings_no_whole_query_is_closed() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.tcp).await.unwrap();
    stream.write_all(&[0]).await.unwrap();
    // Time is paused: it moves only when all wait, so this is no wait at all.
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_query_longer_than_any_is_not_read() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.tcp).await.unwrap();
    stream.write_all(&[0xff, 0xff]).await.unwrap();
    assert!(!matches!(timeout(stream.read(&mut [0])).await, Ok(1..)));
    assert_eq!(world.dropped("long"), 1);
}

#[tokio::test]
async fn what_is_queued_when_the_process_stops_is_answered() {
    let mut world = World::new().await;
    let bytes = query("web.demo.internal.", RecordType::A).to_vec().unwrap();
    let mut idle = TcpStream::connect(world.tcp).await.unwrap();
    idle.write_all(&framed(&bytes)).await.unwrap();
    assert!(read_framed(&mut idle).await.is_some());
    // Written without an await in between, so the plane has seen none of it when it is told to
    // close.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..5 {
        socket.send_to(&bytes, world.udp).unwrap();
    }
    let mut queued = std::net::TcpStream::connect(world.tcp).unwrap();
    std::io::Write::write_all(&mut queued, &framed(&bytes)).unwrap();
    world.closing.cancel();
    while timeout(world.serving.join_next()).await.is_some() {}
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 512];
    for _ in 0..5 {
        assert!(socket.recv(&mut buffer).unwrap() > 12);
    }
    queued.set_nonblocking(true).unwrap();
    let mut queued = TcpStream::from_std(queued).unwrap();
    assert!(read_framed(&mut queued).await.is_some());
    assert!(read_framed(&mut idle).await.is_none());
}

#[tokio::test]
async fn queries_are_counted_by_zone_type_and_code() {
    let world = World::new().await;
    // Handles keep a series alive; the plane's own do from the first query on.
    for name in ["web.demo.internal.", "WEB.demo.internal.", "none.demo.internal.", "example.com."]
    {
        _ = world.ask(&query(name, RecordType::A), Transport::Udp);
        _ = world.ask(&query(name, RecordType::TXT), Transport::Udp);
    }
    _ = world.answer(&[0; 12], Transport::Udp);
    assert_eq!(world.queries("demo.internal", "A", "NOERROR"), 2);
    assert_eq!(world.queries("demo.internal", "A", "NXDOMAIN"), 1);
    assert_eq!(world.queries("demo.internal", "TXT", "NOERROR"), 2);
    assert_eq!(world.queries("none", "A", "REFUSED"), 1);
    assert_eq!(world.queries("none", "other", "FORMERR"), 1);
    _ = world.ask_udp(&query("web.demo.internal.", RecordType::A).to_vec().unwrap()).await;
    assert_eq!(world.queries("demo.internal", "A", "NOERROR"), 3);
}

#[tokio::test]
async fn an_answer_moves_cached_until_before_it_arrives() {
    let world = World::new().await;
    let before = clock_now();
    _ = world.ask_udp(&query("web.demo.internal.", RecordType::A).to_vec().unwrap()).await;
    let routing = world.plane.thread.reader.load();
    let until = |id: u8| routing.zones.cached_until(&key(&format!("{id:032x}"), "web"));
    for id in 0..3 {
        assert!(until(id) >= before + Duration::from_secs(5));
    }
    assert_eq!(routing.zones.cached_until(&key(&format!("{:032x}", 0), "many")), Timestamp(0));
}

fn clock_now() -> Timestamp {
    crate::clock::now()
}
