//! What the AWS APIs acknowledged survives `kill -9`, whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::client::{Answer, exchange};
use crate::support::world::World;
use crate::support::{full_or, note};

/// Clients that write at once.
const WRITERS: usize = 4;
/// Acknowledgements that a round waits for before the kill.
const WANTED: usize = 12;
/// Starting again takes some tens of milliseconds; a machine under load may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was acknowledged: id of a network, and the name in its tag.
type Acknowledged = Arc<Mutex<BTreeMap<String, String>>>;

async fn call(stream: &mut tokio::net::TcpStream, query: &str) -> Option<Answer> {
    let path = format!("/?Version=2016-11-15&{query}");
    exchange(stream, "GET", &path, false).await.ok()
}

/// Writes until the endpoint goes. One call writes three rows: a network, its group, its tags.
async fn write(address: SocketAddr, writer: String, acknowledged: Acknowledged) {
    let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return };
    for number in 0.. {
        let name = format!("{writer}-{number}");
        let query = format!(
            "Action=CreateVpc&CidrBlock=10.0.0.0/16&TagSpecification.1.ResourceType=vpc\
             &TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value={name}"
        );
        let Some(answer) = call(&mut stream, &query).await else { return };
        assert_eq!(answer.status, 200, "{}", answer.body);
        let id = between(&answer.body, "<vpcId>", "</vpcId>").unwrap().to_owned();
        acknowledged.lock().unwrap().insert(id, name);
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(inner, _)| inner)
}

/// Waits until the endpoint of a program that was just started answers.
async fn ready(address: SocketAddr) -> tokio::net::TcpStream {
    let connecting = async {
        loop {
            if let Ok(mut stream) = tokio::net::TcpStream::connect(address).await
                && call(&mut stream, "Action=DescribeAvailabilityZones").await.is_some()
            {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, connecting).await.expect("the endpoint answers again")
}

/// Every item of a listing, over all its pages, as text.
async fn items(stream: &mut tokio::net::TcpStream, action: &str) -> Vec<String> {
    let (mut items, mut token) = (Vec::new(), String::new());
    loop {
        let query = format!("Action={action}&MaxResults=500&NextToken={token}");
        let answer = call(stream, &query).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        // Members are written in the order of their names: an item's VPC id is its last.
        let mut own: Vec<_> = answer.body.split("</vpcId>").map(str::to_owned).collect();
        own.pop();
        items.append(&mut own);
        match between(&answer.body, "<nextToken>", "</nextToken>") {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => return items,
        }
    }
}

/// The id that an item of [`items`] ends with.
fn vpc_of(item: &str) -> &str {
    item.rsplit_once("<vpcId>").unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_calls_survive_kills_and_none_is_done_by_half() {
    let rounds = full_or(200, 10);
    let world = World::new().open_api();
    let address = SocketAddr::new(world.address(1), 4566);
    let acknowledged = Acknowledged::default();
    for round in 0..rounds {
        let serve = world.spawn();
        drop(ready(address).await);
        let before = acknowledged.lock().unwrap().len();
        let writers = (0..WRITERS).map(|writer| {
            let name = format!("w{round}-{writer}");
            tokio::spawn(write(address, name, Arc::clone(&acknowledged)))
        });
        let writers: Vec<_> = writers.collect();
        let wanted = before + WANTED;
        crate::support::until("acknowledged calls", || {
            acknowledged.lock().unwrap().len() >= wanted
        })
        .await;
        // Somewhere inside a write.
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..5_000))).await;
        serve.signal("KILL");
        for writer in writers {
            writer.await.unwrap();
        }
        drop(serve);
    }
    let serve = world.spawn();
    let mut stream = ready(address).await;
    let networks = items(&mut stream, "DescribeVpcs").await;
    let groups = items(&mut stream, "DescribeSecurityGroups").await;
    let acknowledged = acknowledged.lock().unwrap();
    let found: BTreeMap<_, _> = networks.iter().map(|text| (vpc_of(text), text)).collect();
    for (id, name) in &*acknowledged {
        let text = found.get(id.as_str()).unwrap_or_else(|| panic!("{id} ({name}) is lost"));
        assert!(text.contains(&format!("<value>{name}</value>")), "{id} has lost its tag: {text}");
    }
    for (id, text) in &found {
        let is_default = text.contains("<isDefault>true</isDefault>");
        assert!(is_default || text.contains("<value>w"), "{id} was made without its tag: {text}");
        let own = groups.iter().filter(|group| vpc_of(group) == *id);
        assert_eq!(own.count(), 1, "{id} was made without its group");
    }
    let (count, all) = (acknowledged.len(), found.len() - 1);
    note(&format!("{rounds} kills, {count} acknowledged calls, {all} networks, none lost"));
    drop(serve);
}
