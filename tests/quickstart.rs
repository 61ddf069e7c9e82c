//! The README's first minutes: `config/quickstart.toml`, as it is but for its addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr as _;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::world::{World, healthy_tasks};
use crate::support::{self, client};

/// Asks our DNS server over UDP; the answer section's data.
async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Vec<RData> {
    let mut query = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(&query.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let received = tokio::time::timeout(support::DEADLINE, socket.recv(&mut buffer)).await;
    let answer = Message::from_vec(&buffer[..received.unwrap().unwrap()]).unwrap();
    answer.answers.iter().map(|record| record.data.clone()).collect()
}

async fn echo(address: SocketAddr) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"hello\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quickstart_does_what_the_readme_says() {
    let world = World::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let sample = std::fs::read_to_string(root.join("config/quickstart.toml")).unwrap();
    let own = world.address(1);
    let text = sample
        .replace("127.0.0.1", &own.to_string())
        .replace("var/quickstart", world.data_dir().to_str().unwrap());
    let text = format!("{text}\n[runtime]\naddresses = \"{}\"\n", world.pool());
    let mut serve = world.spawn_text(&text);
    support::until("five healthy tasks", || {
        serve.status().is_some_and(|status| {
            healthy_tasks(&status, "web").len() == 3 && healthy_tasks(&status, "echo").len() == 2
        })
    })
    .await;
    let mut answered = BTreeSet::new();
    for _ in 0..6 {
        let answer = client::get(SocketAddr::new(own, 8080), "/hello").await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body.contains("x-forwarded-for: 127."), "{}", answer.body);
        assert!(answer.body.contains("x-amzn-trace-id: Root=1-"), "{}", answer.body);
        answered.insert(answer.header("x-task-id").unwrap().to_owned());
    }
    assert_eq!(answered.len(), 3, "round robin over three tasks");
    let fixed = client::get(SocketAddr::new(own, 8080), "/quickstart").await.unwrap();
    assert_eq!(fixed.body, "answered by the load balancer itself\n");
    assert_eq!(echo(SocketAddr::new(own, 8081)).await, b"hello\n");
    let dns = SocketAddr::new(own, 5533);
    let addresses = ask(dns, "web.demo.internal.", RecordType::A).await;
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    let ports = ask(dns, "web.demo.internal.", RecordType::SRV).await;
    assert!(
        ports.iter().all(|data| matches!(data, RData::SRV(srv) if srv.port == 8080)),
        "{ports:?}"
    );
    assert_eq!(ports.len(), 3);
    let status = serve.status().unwrap();
    let front = &status.listeners.iter().find(|row| row.load_balancer == "web").unwrap().dns_name;
    let front = ask(dns, &format!("{front}."), RecordType::A).await;
    let IpAddr::V4(own_v4) = own else { panic!("{own}") };
    assert_eq!(front, [RData::A(own_v4.into())]);
    let metrics = support::scrape(SocketAddr::new(own, 9180)).await;
    for line in [
        "roadstead_service_tasks{service=\"default/web\",state=\"running\"} 3",
        "roadstead_target_group_targets{target_group=\"web\",state=\"healthy\"} 3",
        "roadstead_build_info{version=\"",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    serve.signal("TERM");
    assert_eq!(serve.ended().await, Some(0));
    for task in addresses {
        let RData::A(address) = task else { panic!("{task:?}") };
        assert!(std::net::TcpStream::connect((address.0, 8080)).is_err(), "a task was left");
    }
}
