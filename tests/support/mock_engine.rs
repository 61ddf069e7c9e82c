//! A Docker Engine that only talks: the HTTP API of the releases 20.10, 25 and 29 on a socket of
//! its own, as far as Roadstead uses it. Containers are rows, images are names.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use roadstead::clock;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Its newest API version and its oldest, behind `1.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Release(pub(crate) &'static str, u32, u32);

pub(crate) const RELEASES: [Release; 3] =
    [Release("20.10.24", 41, 12), Release("25.0.5", 44, 24), Release("29.4.0", 53, 44)];

/// From here on answers leave out what was only deprecated before.
const LEAN: u32 = 52;
/// Events that an engine remembers.
const RING: usize = 256;

#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    /// As it was asked for.
    pub(crate) body: Value,
    status: &'static str,
    code: i64,
    health: Option<&'static str>,
}

#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) containers: Vec<Container>,
    /// Ids by name.
    pub(crate) images: BTreeMap<String, String>,
    /// `METHOD /path?query` of every request, without its version.
    pub(crate) asked: Vec<String>,
    /// Name and `X-Registry-Auth` of every pull.
    pub(crate) pulls: Vec<(String, Option<String>)>,
    /// What registries have now: names and ids.
    pub(crate) registries: BTreeMap<String, String>,
    /// Names of which registries want a login.
    pub(crate) locked: BTreeSet<String>,
    /// Requests that contain this are never answered.
    pub(crate) mute: Option<&'static str>,
    /// Requests of a version that it does not speak.
    pub(crate) refused: usize,
    ring: VecDeque<Value>,
    made: usize,
}

#[derive(Debug)]
struct Shared {
    release: Release,
    rows: Mutex<Rows>,
    events: broadcast::Sender<Value>,
    cut: watch::Sender<()>,
}

#[derive(Debug)]
pub(crate) struct MockEngine {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for MockEngine {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl MockEngine {
    pub(crate) fn start(release: Release) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("d.sock")).unwrap();
        let (events, cut) = (broadcast::Sender::new(4096), watch::Sender::default());
        let shared = Arc::new(Shared { release, rows: Mutex::default(), events, cut });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { folder, shared, server }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.folder.path().join("d.sock").display())
    }

    /// A file beside its socket.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.shared.rows.lock().unwrap()
    }

    /// A container ends by itself.
    pub(crate) fn die(&self, name: &str, code: i64) {
        let mut rows = self.rows();
        let own = rows.containers.iter_mut().find(|container| container.name == name).unwrap();
        (own.status, own.code) = ("exited", code);
        let own = own.clone();
        self.shared.tell(&mut rows, &own, "die");
    }

    pub(crate) fn check_says(&self, name: &str, health: &'static str) {
        let mut rows = self.rows();
        let own = rows.containers.iter_mut().find(|container| container.name == name).unwrap();
        own.health = Some(health);
        let own = own.clone();
        self.shared.tell(&mut rows, &own, &format!("health_status: {health}"));
    }

    /// Breaks every connection.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_replace(());
    }
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (shared, mut cut) = (Arc::clone(&shared), shared.cut.subscribe());
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(Arc::clone(&shared), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                _ = connection => {}
                _ = cut.changed() => {}
            }
        });
    }
}

fn text(status: u16, text: String) -> Response<Body> {
    let kind = "application/json";
    Response::builder()
        .status(status)
        .header("Content-Type", kind)
        .body(Full::new(text.into()).boxed_unsync())
        .unwrap()
}

fn said(status: u16, value: &Value) -> Response<Body> {
    text(status, value.to_string())
}

fn refusal(status: u16, message: &str) -> Response<Body> {
    said(status, &json!({ "message": message }))
}

fn nothing() -> Response<Body> {
    Response::builder().status(204).body(none()).unwrap()
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let Release(_, newest, oldest) = shared.release;
    let whole = head.uri.path();
    let versioned = whole.strip_prefix("/v1.").and_then(|rest| rest.split_once('/'));
    let (api, path) = match versioned {
        Some((minor, rest)) => (minor.parse().unwrap(), format!("/{rest}")),
        None => (newest, whole.to_owned()),
    };
    if api > newest || api < oldest {
        shared.rows.lock().unwrap().refused += 1;
        let text = format!("client version 1.{api} is not between 1.{oldest} and 1.{newest}");
        return Ok(refusal(400, &text));
    }
    let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    let query: BTreeMap<String, String> = query.into_owned().collect();
    let call = format!("{} {path}", head.method);
    let is_mute = {
        let mut rows = shared.rows.lock().unwrap();
        rows.asked.push(format!("{call}?{}", head.uri.query().unwrap_or_default()));
        rows.mute.is_some_and(|mute| call.contains(mute))
    };
    if is_mute {
        std::future::pending::<()>().await;
    }
    let auth = head.headers.get("X-Registry-Auth").map(|v| v.to_str().unwrap().to_owned());
    let asked = Asked { shared: &shared, api, query, body, auth };
    Ok(asked.answer(&head.method, &path))
}

struct Asked<'a> {
    shared: &'a Shared,
    api: u32,
    query: BTreeMap<String, String>,
    body: Bytes,
    auth: Option<String>,
}

impl Asked<'_> {
    fn answer(&self, method: &hyper::Method, path: &str) -> Response<Body> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let rows = &mut *self.shared.rows.lock().unwrap();
        match (method.as_str(), &parts[..]) {
            ("GET", ["_ping"]) => text(200, "OK".to_owned()),
            ("GET", ["version"]) => said(200, &self.version()),
            ("GET", ["info"]) => said(200, &json!({ "NCPU": 4, "MemTotal": 8_u64 << 30 })),
            ("GET", ["events"]) => self.events(rows),
            ("GET", ["containers", "json"]) => self.list(rows),
            ("POST", ["containers", "create"]) => self.create(rows),
            ("POST", ["images", "create"]) => self.pull(rows),
            ("GET", ["volumes"]) => said(200, &json!({ "Volumes": [], "Warnings": null })),
            ("GET", ["networks", "bridge"]) => said(200, &bridge(self.api)),
            ("GET", ["images", name @ .., "json"]) => {
                match rows.images.get_key_value(&name.join("/")) {
                    Some((name, id)) => said(200, &self.image(name, id)),
                    None => refusal(404, "No such image"),
                }
            }
            ("DELETE", ["images", name @ ..]) => self.forget(rows, &name.join("/")),
            (method, ["containers", name, rest @ ..]) => {
                let is_it = |c: &Container| c.id == *name || c.name == *name;
                match rows.containers.iter().position(is_it) {
                    Some(at) => self.of_container(rows, at, method, rest),
                    None => refusal(404, &format!("No such container: {name}")),
                }
            }
            _ => refusal(404, "page not found"),
        }
    }

    fn version(&self) -> Value {
        let Release(name, newest, oldest) = self.shared.release;
        json!({
            "Version": name, "ApiVersion": format!("1.{newest}"),
            "MinAPIVersion": format!("1.{oldest}"), "Os": "linux", "Arch": "amd64",
        })
    }

    fn of_container(
        &self,
        rows: &mut Rows,
        at: usize,
        method: &str,
        rest: &[&str],
    ) -> Response<Body> {
        let own = &mut rows.containers[at];
        let runs = own.status == "running";
        match (method, rest) {
            ("GET", ["json"]) => said(200, &self.inspected(own, at)),
            ("POST", ["start"]) if runs => Response::builder().status(304).body(none()).unwrap(),
            ("POST", ["start"]) => self.turn(rows, at, "running", 0, "start"),
            ("POST", ["stop"]) if !runs => Response::builder().status(304).body(none()).unwrap(),
            ("POST", ["stop"]) => self.turn(rows, at, "exited", 0, "die"),
            ("POST", ["kill"]) => self.turn(rows, at, "exited", 137, "die"),
            ("POST", ["wait"]) => said(200, &json!({ "StatusCode": own.code, "Error": null })),
            ("DELETE", []) if runs && self.query.get("force").is_none_or(|f| f == "false") => {
                refusal(409, "You cannot remove a running container")
            }
            ("DELETE", []) => {
                let own = rows.containers.remove(at);
                self.shared.tell(rows, &own, "destroy");
                nothing()
            }
            _ => refusal(404, "page not found"),
        }
    }

    fn turn(
        &self,
        rows: &mut Rows,
        at: usize,
        status: &'static str,
        code: i64,
        action: &str,
    ) -> Response<Body> {
        (rows.containers[at].status, rows.containers[at].code) = (status, code);
        let own = rows.containers[at].clone();
        self.shared.tell(rows, &own, action);
        nothing()
    }

    fn create(&self, rows: &mut Rows) -> Response<Body> {
        let (body, name): (Value, _) =
            (serde_json::from_slice(&self.body).unwrap(), self.query["name"].clone());
        let image = body["Image"].as_str().unwrap();
        if !rows.images.contains_key(&tagged(image)) {
            return refusal(404, &format!("No such image: {image}"));
        }
        if rows.containers.iter().any(|container| container.name == name) {
            return refusal(409, "Conflict. The container name is already in use");
        }
        rows.made += 1;
        let id = format!("{:064x}", rows.made);
        let own = Container { id, name, body, status: "created", code: 0, health: None };
        rows.containers.push(own.clone());
        self.shared.tell(rows, &own, "create");
        said(201, &json!({ "Id": own.id, "Warnings": [] }))
    }

    fn pull(&self, rows: &mut Rows) -> Response<Body> {
        if self.query.contains_key("fromSrc") {
            let name = format!("{}:{}", self.query["repo"], self.query["tag"]);
            rows.images.insert(name.clone(), format!("sha256:{name}"));
            return text(200, "{\"status\":\"sha256:0\"}\n".to_owned());
        }
        let name = self.query["fromImage"].clone();
        rows.pulls.push((name.clone(), self.auth.clone()));
        match rows.registries.get(&name) {
            Some(_) if rows.locked.contains(&name) && self.auth.is_none() => {
                refusal(404, &format!("pull access denied for {name}, may require 'docker login'"))
            }
            Some(id) => {
                rows.images.insert(name, id.clone());
                text(200, "{\"status\":\"Pulling\"}\r\n{\"status\":\"Done\"}\r\n".to_owned())
            }
            // The head of the answer was a success.
            None => {
                let line = json!({ "errorDetail": { "message": "no route" }, "error": "no route" });
                text(200, format!("{{\"status\":\"Pulling\"}}\r\n{line}\r\n"))
            }
        }
    }

    fn forget(&self, rows: &mut Rows, name: &str) -> Response<Body> {
        let uses = |container: &Container| tagged(container.body["Image"].as_str().unwrap());
        if rows.containers.iter().any(|container| uses(container) == name) {
            return refusal(409, "conflict: unable to remove: container is using it");
        }
        match rows.images.remove(name) {
            Some(_) => said(200, &json!([{ "Untagged": name }])),
            None => refusal(404, "No such image"),
        }
    }

    fn image(&self, name: &str, id: &str) -> Value {
        let mut image = json!({ "Id": id, "RepoTags": [name], "Os": "linux", "Size": 1 });
        if self.api < 44 {
            image["VirtualSize"] = json!(1);
        }
        if self.api < 45 {
            image["ContainerConfig"] = json!({ "Image": "" });
        }
        image
    }

    fn list(&self, rows: &Rows) -> Response<Body> {
        let filters = self.filters();
        let all = self.query.get("all").is_some_and(|all| all == "true");
        let shown = |(at, own): (usize, &Container)| {
            let image = own.body["Image"].as_str().unwrap();
            let mut row = json!({
                "Id": own.id, "Names": [format!("/{}", own.name)], "Image": image,
                "ImageID": rows.images.get(&tagged(image)), "Command": "", "Created": 1,
                "Ports": [], "Labels": own.body["Labels"], "State": own.status,
                "Status": own.status, "HostConfig": { "NetworkMode": "default" },
                "NetworkSettings": { "Networks": networks(own, at, self.api) }, "Mounts": [],
            });
            if self.api >= LEAN {
                row["Health"] = json!({ "Status": "none", "FailingStreak": 0 });
            }
            row
        };
        let meant = |own: &Container| all || own.status == "running";
        let rows = rows.containers.iter().enumerate();
        let rows = rows.filter(|(_, own)| meant(own) && filters.take(own));
        said(200, &rows.map(shown).collect())
    }

    fn inspected(&self, own: &Container, at: usize) -> Value {
        let mut settings = json!({
            "SandboxID": "0", "SandboxKey": "/var/run/docker/netns/0", "Ports": {},
            "Networks": networks(own, at, self.api),
        });
        let mut config = own.body.clone();
        if self.api < LEAN {
            settings["Bridge"] = json!("");
            settings["IPAddress"] = json!("");
            settings["MacAddress"] = json!("");
            config["MacAddress"] = json!("");
        }
        let mut state = json!({
            "Status": own.status, "Running": own.status == "running", "Paused": false,
            "Restarting": false, "OOMKilled": false, "Dead": false, "Pid": 1,
            "ExitCode": own.code, "Error": "", "StartedAt": "2026-01-01T00:00:00Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
        });
        if let Some(health) = own.health {
            state["Health"] = json!({ "Status": health, "FailingStreak": 0, "Log": null });
        }
        json!({
            "Id": own.id, "Created": "2026-01-01T00:00:00Z", "Path": "x", "Args": [],
            "State": state, "Image": "sha256:0", "Name": format!("/{}", own.name),
            "RestartCount": 0, "Config": config, "HostConfig": own.body["HostConfig"],
            "NetworkSettings": settings, "Mounts": [],
        })
    }

    fn events(&self, rows: &Rows) -> Response<Body> {
        let filters = self.filters();
        // Seconds, a dot, nine digits.
        let since = self.query.get("since").map(|since| since.replace('.', "").parse().unwrap());
        let old = rows.ring.iter().filter(|event| event["timeNano"].as_i64() >= since);
        let old: Vec<Value> = old.cloned().collect();
        let new = stream::unfold(self.shared.events.subscribe(), |mut events| async move {
            Some((events.recv().await.ok()?, events))
        });
        let api = self.api;
        let lines = stream::iter(old).chain(new).filter_map(move |event| {
            let line = filters.meant(&event).then(|| {
                let mut event = event;
                if api < LEAN {
                    event["status"] = event["Action"].clone();
                    event["id"] = event["Actor"]["ID"].clone();
                    event["from"] = event["Actor"]["Attributes"]["image"].clone();
                }
                Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{event}\n"))))
            });
            std::future::ready(line)
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }

    fn filters(&self) -> Filters {
        let text = self.query.get("filters").map_or("{}", String::as_str);
        Filters(serde_json::from_str(text).unwrap())
    }
}

fn none() -> Body {
    Full::default().boxed_unsync()
}

fn tagged(image: &str) -> String {
    if image.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

/// In the network of this machine's own loopback, so that we find our address there.
fn bridge(api: u32) -> Value {
    let config = json!([{ "Subnet": "127.0.0.0/8", "Gateway": "127.0.0.1" }]);
    let mut network = json!({
        "Name": "bridge", "Id": "0", "Scope": "local", "Driver": "bridge", "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": config }, "Containers": {},
        "Options": {}, "Labels": {},
    });
    if api >= LEAN {
        network["Status"] = json!({ "IPAM": { "Subnets": {} } });
    }
    network
}

fn networks(own: &Container, at: usize, api: u32) -> Value {
    let mode = own.body["HostConfig"]["NetworkMode"].as_str().unwrap_or_default();
    if mode.starts_with("container:") || mode == "none" {
        return json!({});
    }
    let runs = own.status == "running";
    let address = if runs { format!("172.17.0.{}", at + 2) } else { String::new() };
    let mut bridge = json!({
        "NetworkID": "0", "EndpointID": "0", "Gateway": "172.17.0.1", "IPAddress": address,
        "IPPrefixLen": 16, "IPv6Gateway": "", "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0, "Links": null, "Aliases": null, "DriverOpts": null,
        "MacAddress": "", "IPAMConfig": null,
    });
    if api >= 44 {
        bridge["DNSNames"] = Value::Null;
    }
    json!({ "bridge": bridge })
}

/// Docker's filters: of one kind any, of several kinds all; of labels all.
struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    fn labels(&self, labels: &Value) -> bool {
        self.0.get("label").into_iter().flatten().all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels[name] == value,
            None => !labels[wanted].is_null(),
        })
    }

    fn take(&self, own: &Container) -> bool {
        self.labels(&own.body["Labels"])
    }

    fn meant(&self, event: &Value) -> bool {
        let any = |kind: &str, is_it: &dyn Fn(&str) -> bool| {
            self.0.get(kind).is_none_or(|all| all.iter().any(|wanted| is_it(wanted)))
        };
        let action = event["Action"].as_str().unwrap();
        any("type", &|wanted| event["Type"] == wanted)
            && any("event", &|wanted| action.split(':').next() == Some(wanted))
            && self.labels(&event["Actor"]["Attributes"])
    }
}

impl Shared {
    fn tell(&self, rows: &mut Rows, own: &Container, action: &str) {
        let mut attributes = own.body["Labels"].clone();
        attributes["image"] = own.body["Image"].clone();
        attributes["name"] = json!(own.name);
        let time = i64::try_from(clock::now().0 * 1000).unwrap();
        let event = json!({
            "Type": "container", "Action": action, "scope": "local",
            "Actor": { "ID": own.id, "Attributes": attributes },
            "time": time / 1_000_000_000, "timeNano": time,
        });
        rows.ring.push_back(event.clone());
        let surplus = rows.ring.len().saturating_sub(RING);
        rows.ring.drain(..surplus);
        let _ = self.events.send(event);
    }
}
