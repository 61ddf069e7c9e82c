//! Names that are not ours, asked of servers that the cases make.

use super::super::forward::{FORWARDS, is_near};
use super::*;

/// What a server of a case says.
#[derive(Clone, Copy)]
enum Says {
    /// One address.
    Answer,
    /// Answers of other questions and ids first.
    ForgedFirst,
    Code(ResponseCode),
    Nothing,
}

/// What a server of a case finds.
fn found() -> RData {
    RData::A(std::net::Ipv4Addr::new(192, 0, 2, 7).into())
}

fn reply(query: &[u8], says: Says) -> Vec<Vec<u8>> {
    let asked = Message::from_vec(query).unwrap();
    let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.queries.clone_from(&asked.queries);
    let name = asked.queries[0].name().clone();
    let data = found();
    answer.answers.push(hickory_server::proto::rr::Record::from_rdata(name, 60, data));
    let good = answer.to_vec().unwrap();
    match says {
        Says::Answer => vec![good],
        Says::ForgedFirst => {
            let mut other_id = good.clone();
            other_id[0] ^= 1;
            let mut other_name = good.clone();
            other_name[HEADER_BYTES + 1] ^= 1;
            let short = good[..HEADER_BYTES - 1].to_vec();
            vec![other_id, other_name, query.to_vec(), short, good]
        }
        Says::Code(code) => {
            answer.answers.clear();
            answer.metadata.response_code = code;
            vec![answer.to_vec().unwrap()]
        }
        Says::Nothing => Vec::new(),
    }
}

/// A server that says so, over both transports; queries that came are counted.
async fn server(says: Says) -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        match TcpListener::bind(udp.local_addr().unwrap()).await {
            Ok(tcp) => break (udp, tcp),
            Err(_) => continue,
        }
    };
    let (address, counting) = (udp.local_addr().unwrap(), Arc::clone(&count));
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            for answer in reply(&buffer[..length], says) {
                udp.send_to(&answer, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            for answer in reply(&query, says) {
                stream.write_all(&framed(&answer)).await.unwrap();
            }
        }
    });
    (address, count)
}

async fn world(servers: &[SocketAddr]) -> World {
    let world = World::facing(Facing::Tasks).await;
    world.others.set(servers.to_vec());
    world
}

fn elsewhere() -> Vec<u8> {
    query("wWw.example.com.", RecordType::A).to_vec().unwrap()
}

async fn asked(world: &World, query: &[u8]) -> Message {
    Message::from_vec(&world.ask_udp(query).await).unwrap()
}

#[tokio::test]
async fn names_of_others_are_asked_of_others_and_ours_are_not() {
    for says in [Says::Answer, Says::ForgedFirst] {
        let (address, count) = server(says).await;
        let world = world(&[address]).await;
        let answer = asked(&world, &elsewhere()).await;
        assert_eq!((answer.metadata.id, &*shape(&answer)), (0x1234, "NOERROR RA 1/0/0"));
        assert_eq!(answer.answers[0].data, found());
        let ours = query("none.demo.internal.", RecordType::A).to_vec().unwrap();
        assert_eq!(shape(&asked(&world, &ours).await), "NXDOMAIN RD,AA,RA 0/1/0");
        let transfer = query("example.com.", RecordType::AXFR).to_vec().unwrap();
        assert_eq!(shape(&asked(&world, &transfer).await), "REFUSED RD 0/0/0");
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn a_query_by_connection_is_asked_by_connection() {
    let (address, count) = server(Says::Answer).await;
    let world = world(&[address]).await;
    let mut stream = TcpStream::connect(world.tcp).await.unwrap();
    let ours = query("web.demo.internal.", RecordType::A).to_vec().unwrap();
    let both = [framed(&elsewhere()), framed(&ours)].concat();
    stream.write_all(&both).await.unwrap();
    let (first, second) = (read_framed(&mut stream).await, read_framed(&mut stream).await);
    assert_eq!(shape(&first.unwrap()), "NOERROR RA 1/0/0");
    assert_eq!(shape(&second.unwrap()), "NOERROR RD,AA,RA 3/0/0");
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 0, "not by datagram");
}

#[tokio::test]
async fn others_do_not_have_names_looked_up() {
    let (address, count) = server(Says::Answer).await;
    let open = World::facing(Facing::Anyone).await;
    open.others.set(vec![address]);
    assert_eq!(shape(&asked(&open, &elsewhere()).await), "REFUSED RD 0/0/0");
    let world = world(&[address]).await;
    let stranger = SocketAddr::from(([192, 0, 2, 1], 1000));
    assert!(!world.plane.is_for_others(&elsewhere(), stranger, Facing::Tasks));
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 0);
    let near = ["10.1.2.3", "172.17.0.2", "192.168.1.1", "127.0.0.1", "100.64.0.1", "fd00::1"];
    let far = ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8"];
    for (addresses, expected) in [(&near[..], true), (&far[..], false)] {
        for address in addresses {
            assert_eq!(is_near(address.parse().unwrap()), expected, "{address}");
        }
    }
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_refuses_or_is_silent() {
    let (good, _) = server(Says::Answer).await;
    let silent = server(Says::Nothing).await.0;
    let refuses = server(Says::Code(ResponseCode::Refused)).await.0;
    for servers in [[refuses, good], [silent, good]] {
        let world = world(&servers).await;
        assert_eq!(shape(&asked(&world, &elsewhere()).await), "NOERROR RA 1/0/0");
    }
    // Not there is an answer; no is the answer where nobody says more.
    let (gone, _) = server(Says::Code(ResponseCode::NXDomain)).await;
    let world_of_gone = world(&[gone, good]).await;
    assert_eq!(shape(&asked(&world_of_gone, &elsewhere()).await), "NXDOMAIN RA 0/0/0");
    let only = world(&[refuses]).await;
    assert_eq!(shape(&asked(&only, &elsewhere()).await), "REFUSED RA 0/0/0");
    // Nobody to ask.
    let none = world(&[]).await;
    let answer = asked(&none, &elsewhere()).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert_eq!((answer.queries.len(), answer.metadata.id), (1, 0x1234));
    let failed = none.metrics.counter(&names::DNS_FORWARDED, &["failed"]).total();
    assert_eq!(failed, 1);
}

#[tokio::test]
async fn too_many_that_wait_are_refused_and_ours_are_still_answered() {
    let (silent, count) = server(Says::Nothing).await;
    let world = world(&[silent]).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(world.udp).await.unwrap();
    let refusals = world.metrics.counter(&names::DNS_FORWARDED, &["refused"]);
    let mut sent = 0;
    // Each is under way before the next comes, so that no buffer has to hold them all.
    while refusals.total() == 0 {
        socket.send(&elsewhere()).await.unwrap();
        sent += 1;
        while count.load(std::sync::atomic::Ordering::Relaxed) < sent && refusals.total() == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(sent > FORWARDS, "{sent}");
    let mut buffer = [0; 512];
    let length = timeout(socket.recv(&mut buffer)).await.unwrap();
    let refused = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(refused.metadata.response_code, ResponseCode::ServFail);
    let ours = query("web.demo.internal.", RecordType::A).to_vec().unwrap();
    assert_eq!(shape(&asked(&world, &ours).await), "NOERROR RD,AA,RA 3/0/0");
}
