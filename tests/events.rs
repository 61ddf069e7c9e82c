//! What happens to tasks, told to readers of the stream and to the webhook.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

use crate::support::client;
use crate::support::world::{Running, Service, World};
use crate::support::{self, DEADLINE};

/// A reader of `GET /events`.
#[derive(Debug)]
struct Stream {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _write: tokio::net::tcp::OwnedWriteHalf,
    /// The id of the newest event read.
    last: String,
    /// It was told that something is missing.
    gap: bool,
}

impl Stream {
    async fn open(api: SocketAddr, last: Option<&str>) -> Self {
        let (read, mut write) = TcpStream::connect(api).await.unwrap().into_split();
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        let request = format!("GET /events HTTP/1.1\r\nhost: localhost\r\n{last}\r\n");
        write.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(read).lines();
        let status = lines.next_line().await.unwrap().unwrap();
        assert!(status.contains(" 200 "), "{status}");
        let mut stream = Self { lines, _write: write, last: String::new(), gap: false };
        // The first thing said: it is subscribed now.
        loop {
            match stream.line().await.unwrap().as_str() {
                ":" => return stream,
                "event: gap" => {
                    stream.gap = true;
                    return stream;
                }
                _ => {}
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(DEADLINE, self.lines.next_line()).await;
        line.expect("nothing is told").unwrap_or_default()
    }

    /// The next event. None: the stream has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let line = self.line().await?;
            if let Some(id) = line.strip_prefix("id: ") {
                self.last = id.to_owned();
            } else if let Some(data) = line.strip_prefix("data: {\"") {
                return Some(serde_json::from_str(&format!("{{\"{data}")).unwrap());
            }
        }
    }

    /// Events up to the first that `is_last`.
    async fn until(&mut self, mut is_last: impl FnMut(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
            if is_last(events.last().unwrap()) {
                return events;
            }
        }
        panic!("the stream ended after {events:#?}");
    }
}

fn named(event: &Value, name: &str) -> bool {
    event["detail"]["eventName"] == name
}

/// What the events of the one task say, each status once.
fn statuses(events: &[Value]) -> Vec<String> {
    let of_task = |event: &&Value| event["detail-type"] == "ECS Task State Change";
    let text = |event: &Value| event["detail"]["lastStatus"].as_str().unwrap().to_owned();
    let mut all: Vec<String> = events.iter().filter(of_task).map(text).collect();
    all.dedup();
    all
}

fn api(running: &Running) -> SocketAddr {
    running.app.as_ref().unwrap().api_address()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_told_of_tasks_services_and_deployments() {
    let mut running = World::new().open_api().service(Service::http("web", 0)).start().await;
    let mut stream = Stream::open(api(&running), None).await;
    assert!(!stream.gap);
    running.edit(|services| services[0].desired = 1);
    // Without a task it was steady too.
    let mut runs = false;
    let up = stream.until(|event| {
        runs |= event["detail"]["lastStatus"] == "RUNNING";
        runs && named(event, "SERVICE_STEADY_STATE")
    });
    let up = up.await;
    assert!(up.iter().any(|event| named(event, "SERVICE_DESIRED_COUNT_UPDATED")), "{up:#?}");
    // Two commits that come together are told as one.
    let order = ["PROVISIONING", "PENDING", "ACTIVATING", "RUNNING"];
    let told = statuses(&up);
    let places = told.iter().map(|status| order.iter().position(|known| known == status));
    assert!(places.clone().all(|place| place.is_some()) && places.is_sorted(), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("RUNNING"), "{told:?}");
    let versions: Vec<_> = up.iter().filter_map(|e| e["detail"]["version"].as_u64()).collect();
    assert!(versions.is_sorted() && !versions.is_empty(), "{versions:?}");
    let seen = stream.last.clone();

    // A reader that comes back has what happened in between; deployments are told too.
    drop(stream);
    running.edit(|services| services[0].arguments = vec!["--log".into()]);
    let app = running.app.as_ref().unwrap();
    support::until("the new deployment", || {
        let state = app.store().read();
        state.progress.values().any(|p| p.all().count() == 2 && p.deployments.len() == 1)
    })
    .await;
    let mut stream = Stream::open(api(&running), Some(&seen)).await;
    assert!(!stream.gap);
    let replaced = stream.until(|event| named(event, "SERVICE_DEPLOYMENT_COMPLETED")).await;
    let begun = replaced.iter().find(|event| named(event, "SERVICE_DEPLOYMENT_IN_PROGRESS"));
    let begun = begun.unwrap_or_else(|| panic!("{replaced:#?}"));
    let ended = replaced.last().unwrap();
    assert_eq!(begun["detail"]["deploymentId"], ended["detail"]["deploymentId"]);
    assert_eq!(begun["source"], "aws.ecs");
    let service = "arn:aws:ecs:local:000000000000:service/default/web";
    assert_eq!(begun["resources"][0], service);

    // From before this process: it cannot know all that there was.
    assert!(Stream::open(api(&running), Some("1.0")).await.gap);
    let odd = "/events HTTP/1.1\r\nLast-Event-ID: seven\r\nx-rest:";
    assert_eq!(client::get(api(&running), odd).await.unwrap().status, 400);
    // Readers do not keep the process.
    running.edit(|services| services[0].desired = 0);
    running.stop().await;
    while stream.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_is_for_those_who_sign() {
    let running = World::new().start().await;
    assert_eq!(client::get(api(&running), "/events").await.unwrap().status, 400);
    running.stop().await;
}

/// A server that takes posts: it answers with `statuses` first, then always 200.
async fn hook(statuses: &[u16]) -> (SocketAddr, Arc<Mutex<Vec<(u16, Value)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut statuses: VecDeque<u16> = statuses.to_vec().into();
    let posts = Arc::<Mutex<Vec<(u16, Value)>>>::default();
    let seen = Arc::clone(&posts);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let body = loop {
                let mut chunk = [0; 4096];
                let count = stream.read(&mut chunk).await.unwrap();
                assert!(count > 0, "the post is cut");
                bytes.extend_from_slice(&chunk[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                assert!(head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{head}");
                let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
                if body.len() >= length.parse().unwrap() {
                    break body.to_owned();
                }
            };
            let status = statuses.pop_front().unwrap_or(200);
            seen.lock().unwrap().push((status, serde_json::from_str(&body).unwrap()));
            let answer = format!("HTTP/1.1 {status} Told\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, posts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_gets_every_event_in_order_and_again_when_it_fails() {
    // Tried again, taken, refused for good.
    let (address, posts) = hook(&[503, 200, 410]).await;
    let world = World::new()
        .setting(&format!("[events]\nwebhook = \"http://{address}/hook?a=b\""))
        .service(Service::http("web", 1));
    let running = world.start().await;
    running.settled("web", 1).await;
    let steady = || {
        let posts = posts.lock().unwrap();
        posts.iter().any(|(status, event)| *status == 200 && named(event, "SERVICE_STEADY_STATE"))
    };
    support::until("the last event", steady).await;
    let posted = posts.lock().unwrap().clone();
    assert_eq!(posted[0].1, posted[1].1, "what failed came again first");
    assert_ne!(posted[2].1, posted[3].1, "what is refused for good does not");
    let mut ids: Vec<_> = posted[1..].iter().map(|(_, event)| event["id"].to_string()).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
    let metrics = running.app.as_ref().unwrap().metrics_address();
    let delivered = format!("roadstead_event_posts_total{{outcome=\"delivered\"}} {}", all - 1);
    let told = || async {
        let text = support::scrape(metrics).await;
        text.contains(&delivered)
            && text.contains("roadstead_event_posts_total{outcome=\"dropped\"} 1")
    };
    support::until_async("the counters", async || told().await).await;
    running.stop().await;
}
