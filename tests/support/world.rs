//! A whole Roadstead in a test, on addresses of its own: in this process, or as the built program.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use roadstead::api::file;
use roadstead::api::status::Status;
use roadstead::app::App;
use roadstead::model::{Task, TaskStatus, VerdictState};
use roadstead::state::State;
use tempfile::TempDir;

/// The built program; tasks run its `whoami`.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_roadstead");

/// Worlds of this process so far. Addresses differ between processes by their ids.
static WORLDS: AtomicU8 = AtomicU8::new(0);

/// What a test asks for, in a sentence: `World::new().service(Service::http("web",
/// 3)).start().await`.
#[derive(Debug)]
#[must_use]
pub(crate) struct World {
    pub(crate) dir: Arc<TempDir>,
    octets: (u8, u8),
    pub(crate) services: Vec<Service>,
    /// Lines at the top of the file.
    pub(crate) settings: String,
    /// The endpoint's `auth`.
    auth: &'static str,
    /// More lines of `[api]`.
    api: String,
    /// More lines of `[elb]`.
    elb: String,
    /// Of `[dns]`: port 53 of Docker's bridge is one for all worlds.
    names: String,
}

/// One service behind a load balancer of its own.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) desired: u32,
    pub(crate) tcp: bool,
    /// The last part of its load balancer's address.
    pub(crate) front: u8,
    pub(crate) port: u16,
    /// Behind `whoami`.
    pub(crate) arguments: Vec<String>,
    /// Replaces the command altogether.
    pub(crate) command: Option<Vec<String>>,
    pub(crate) image: Option<String>,
    pub(crate) interval: &'static str,
    pub(crate) unhealthy_threshold: u32,
    pub(crate) stop_timeout: u32,
    pub(crate) deregistration_delay: &'static str,
    pub(crate) maximum_percent: u32,
    /// Its definition's `networkMode`.
    pub(crate) mode: Option<&'static str>,
    /// A second target group, and a second listener on the next port for test traffic.
    pub(crate) paired: bool,
    /// Further lines of the service.
    pub(crate) more: &'static str,
    /// Further lines of its target group.
    pub(crate) group: &'static str,
}

impl Service {
    pub(crate) fn http(name: &'static str, desired: u32) -> Self {
        Self {
            name,
            desired,
            tcp: false,
            front: 1,
            port: 8080,
            arguments: Vec::new(),
            command: None,
            image: None,
            interval: "500ms",
            unhealthy_threshold: 2,
            stop_timeout: 20,
            deregistration_delay: "20s",
            maximum_percent: 200,
            mode: None,
            paired: false,
            more: "",
            group: "",
        }
    }

    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self
    }

    fn toml(&self, address: IpAddr) -> String {
        let (name, port) = (self.name, self.port);
        let (kind, protocol) = if self.tcp { ("network", "TCP") } else { ("application", "HTTP") };
        let mut command = vec![PROGRAM.to_owned(), "whoami".to_owned()];
        if self.image.is_some() {
            command[0] = "/roadstead".to_owned();
        }
        if self.tcp {
            command.push("--tcp".to_owned());
        }
        command.extend(self.arguments.clone());
        let command = self.command.clone().unwrap_or(command);
        let path = if self.tcp { "" } else { "path = \"/health\"\n" };
        let image = self.image.as_ref().map(|i| format!("image = {i:?}\n")).unwrap_or_default();
        let (pair, groups) = if self.paired { self.pair() } else { Default::default() };
        format!(
            r#"
[[load_balancer]]
name = "{name}"
type = "{kind}"
address = "{address}"
[[load_balancer.listener]]
port = {port}
protocol = "{protocol}"
target_group = "{name}"
{second}
[[target_group]]
name = "{name}"
protocol = "{protocol}"
deregistration_delay = "{delay}"
{group}
[target_group.health_check]
{path}interval = "{interval}"
timeout = "400ms"
healthy_threshold = 2
unhealthy_threshold = {threshold}
[[task_definition]]
family = "{name}"
{mode}[[task_definition.containerDefinitions]]
name = "{name}"
{image}command = {command:?}
stopTimeout = {stop_timeout}
portMappings = [{{ containerPort = {port} }}]
[[service]]
name = "{name}"
task_definition = "{name}"
desired_count = {desired}
maximum_percent = {maximum}
namespace = "demo.internal"
load_balancers = [{{ target_group = "{name}", container_port = {port}{pair} }}]
{more}
{groups}
"#,
            more = self.more,
            mode = self.mode.map(|m| format!("networkMode = {m:?}\n")).unwrap_or_default(),
            group = self.group,
            second = if self.paired {
                let port = self.port + 1;
                format!("[[load_balancer.listener]]\nport = {port}\ntarget_group = {name:?}")
            } else {
                String::new()
            },
            delay = self.deregistration_delay,
            interval = self.interval,
            threshold = self.unhealthy_threshold,
            stop_timeout = self.stop_timeout,
            desired = self.desired,
            maximum = self.maximum_percent,
        )
    }

    /// What its load balancer says more when deployments take turns, and what stands beside it.
    fn pair(&self) -> (String, String) {
        let (name, port, test) = (self.name, self.port, self.port + 1);
        let rule = |port: u16| format!("{{ load_balancer = \"{name}\", port = {port} }}");
        let pair = format!(
            ", alternate_target_group = \"{name}-alt\", production_rule = {}, test_rule = {}",
            rule(port),
            rule(test)
        );
        let groups = format!(
            r#"
[[target_group]]
name = "{name}-alt"
deregistration_delay = "{delay}"
[target_group.health_check]
path = "/health"
interval = "{interval}"
timeout = "400ms"
healthy_threshold = 2
unhealthy_threshold = {threshold}
"#,
            delay = self.deregistration_delay,
            interval = self.interval,
            threshold = self.unhealthy_threshold,
        );
        (pair, groups)
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let process = 16 + u8::try_from(std::process::id() % 200).unwrap();
        Self {
            dir: Arc::new(tempfile::tempdir().unwrap()),
            octets: (process, number),
            services: Vec::new(),
            settings: String::new(),
            auth: "sigv4",
            api: String::new(),
            elb: String::new(),
            names: "tasks = false\n".to_owned(),
        }
    }

    pub(crate) fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    pub(crate) fn setting(mut self, line: &str) -> Self {
        self.settings.push_str(line);
        self.settings.push('\n');
        self
    }

    /// Containers ask us for names, and others' names are asked of `resolver`.
    pub(crate) fn task_names(mut self, resolver: SocketAddr) -> Self {
        self.names = format!("resolvers = [\"{resolver}\"]\n");
        self
    }

    /// The AWS APIs take unsigned calls.
    pub(crate) fn open_api(mut self) -> Self {
        self.auth = "none";
        self
    }

    /// The endpoint speaks HTTPS with `NAME.pem` and `NAME.key` of `folder`.
    pub(crate) fn secure_api(mut self, folder: &Path, name: &str) -> Self {
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        let (certificate, key) = (file("pem"), file("key"));
        self.api = format!("certificate = {certificate:?}\nprivate_key = {key:?}\n");
        self
    }

    /// Buckets of this folder are S3's where trust stores are made.
    pub(crate) fn trust_store_folder(mut self, folder: &Path) -> Self {
        let _ = writeln!(self.elb, "trust_store_folder = {folder:?}");
        self
    }

    /// A key of the file's: its id is `AKIA` and NAME in capitals, its secret forty times the first
    /// letter.
    pub(crate) fn api_key(mut self, name: &str, policy: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let file = |end: &str, text: &str| {
            let path = self.dir.path().join(format!("{name}.{end}"));
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let (secret, policy) = (file("secret", &name[..1].repeat(40)), file("json", policy));
        let id = format!("AKIA{:0<16}", name.to_ascii_uppercase());
        let _ = write!(
            self.api,
            "[[api.key]]\nname = {name:?}\nid = {id:?}\nsecret_file = {secret:?}\n\
             policies = [{policy:?}]\n"
        );
        self
    }

    /// Containers of all worlds find the machine at one address, so the port tells them apart.
    fn metadata_port(&self) -> u16 {
        20_000 + u16::from(self.octets.0) * 40 + u16::from(self.octets.1) % 40
    }

    /// An address of this world: 1 is the load balancers', tasks have their own from 64 on.
    pub(crate) fn address(&self, last: u8) -> IpAddr {
        IpAddr::from([127, self.octets.0, self.octets.1, last])
    }

    pub(crate) fn listener(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(1), port)
    }

    /// Collides with another world on purpose.
    pub(crate) fn copy_addresses(&mut self, other: &Self) {
        self.octets = other.octets;
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("roadstead.toml")
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where calls of the AWS APIs are written down.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    /// The configuration as text.
    pub(crate) fn toml(&self) -> String {
        let mut text = format!("data_dir = {:?}\nthreads = 2\n", self.data_dir());
        text.push_str(&self.settings);
        let (own, auth, audit) = (self.address(1), self.auth, self.audit_log());
        let more = &self.api;
        let _ = write!(
            text,
            "[metrics]\naddress = \"{own}:9180\"\n[api]\naddress = \"{own}:4566\"\nauth = \"{auth}\"\n\
             audit_log = {audit:?}\n{more}\
             [dns]\naddresses = [\"{own}:5533\"]\n{names}\
             [metadata]\naddress = \"{own}:{asked}\"\n",
            asked = self.metadata_port(),
            names = self.names,
        );
        if !self.settings.contains("[runtime]") {
            let _ = write!(
                text,
                "[runtime]\nhealthy_after = \"0s\"\naddresses = \"{}\"\n",
                self.pool()
            );
        }
        if !self.settings.contains("[elb]") {
            let (first, second) = self.octets;
            let addresses = format!("127.{first}.{second}.128/26");
            let _ = write!(text, "[elb]\naddresses = {addresses:?}\n{}", self.elb);
        }
        text.push_str("[[namespace]]\nname = \"demo.internal\"\n");
        for service in &self.services {
            text.push_str(&service.toml(self.address(service.front)));
        }
        text
    }

    /// Writes the file, as an editor does: a new file under the old name.
    pub(crate) fn write(&self) {
        let fresh = self.dir.path().join("roadstead.toml.new");
        std::fs::write(&fresh, self.toml()).unwrap();
        std::fs::rename(fresh, self.config()).unwrap();
    }

    /// Runs it in this process.
    pub(crate) async fn start(self) -> Running {
        self.write();
        let app = self.start_app().await;
        Running { world: self, app: Some(app) }
    }

    pub(crate) async fn start_app(&self) -> App {
        let config = self.config();
        let loaded = file::load(&config).unwrap_or_else(|problem| panic!("{problem}"));
        App::start(&config, loaded).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Where process tasks get their addresses.
    pub(crate) fn pool(&self) -> String {
        format!("127.{}.{}.64/26", self.octets.0, self.octets.1)
    }

    /// Runs the built program on it.
    pub(crate) fn spawn(&self) -> Serve {
        self.spawn_text(&self.toml())
    }

    pub(crate) fn spawn_text(&self, text: &str) -> Serve {
        self.spawn_until(text, "")
    }

    /// Runs the built program until it comes to a failpoint.
    pub(crate) fn spawn_until(&self, text: &str, failpoint: &str) -> Serve {
        self.spawn_with(text, &[], failpoint)
    }

    /// Runs the built program so that it takes over from the one that serves already.
    pub(crate) fn spawn_taking_over(&self) -> Serve {
        self.spawn_text_taking_over(&self.toml())
    }

    pub(crate) fn spawn_text_taking_over(&self, text: &str) -> Serve {
        self.spawn_with(text, &["--take-over"], "")
    }

    fn spawn_with(&self, text: &str, options: &[&str], failpoint: &str) -> Serve {
        std::fs::write(self.config(), text).unwrap();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("serve.log"))
            .unwrap();
        let child = Command::new(PROGRAM)
            .args(["serve", "--config"])
            .arg(self.config())
            .args(options)
            .env("ROADSTEAD_FAILPOINT", failpoint)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Serve { child, data_dir: self.data_dir() }
    }

    /// What the built program has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("serve.log")).unwrap_or_default()
    }

    /// Ends what `spawn` and `start` left running.
    pub(crate) fn sweep(&self) {
        for pid in self.processes() {
            kill(pid, "KILL");
        }
    }

    /// Tasks' processes: those whose environment names our data directory.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        let uid = std::fs::read_to_string(self.data_dir().join("uid")).unwrap_or_default();
        if uid.is_empty() {
            return found;
        }
        // Of every instance: those that have a name add it to the uid.
        let mark = format!("ROADSTEAD_CONTAINER={uid}");
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|b| *b == 0).any(|line| line.starts_with(mark.as_bytes())) {
                found.insert(pid);
            }
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.sweep();
    }
}

/// Sends a signal to one process by its id.
pub(crate) fn kill(pid: i32, signal: &str) {
    // The shell's own kill: Debian's /bin/kill is a package of its own.
    let command = format!("kill -s {signal} {pid} 2>/dev/null");
    let _ = Command::new("sh").args(["-c", &command]).status();
}

/// An [`App`] of this process.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) world: World,
    pub(crate) app: Option<App>,
}

impl Running {
    pub(crate) fn state(&self) -> Arc<State> {
        self.app.as_ref().unwrap().store().read()
    }

    /// Changes the file and lets the running App notice it.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Vec<Service>)) {
        change(&mut self.world.services);
        self.world.write();
    }

    /// Waits until `count` tasks of the service run, are healthy and get traffic, and no other is
    /// left.
    pub(crate) async fn settled(&self, service: &str, count: usize) {
        let mut generation = None;
        let is_settled = super::comes_true(|| {
            let state = self.state();
            generation = settled(&state, service, count).then_some(state.generation);
            generation.is_some()
        });
        if !is_settled.await {
            let state = self.state();
            let progress: Vec<_> = state.progress.values().collect();
            let (tasks, verdicts, instances) = (&state.tasks, &state.verdicts, &state.instances);
            panic!(
                "waited in vain for {count} healthy tasks of {service}: {tasks:#?}\n\
                 {verdicts:#?}\n{instances:#?}\n{progress:#?}"
            );
        }
        // The State is ahead of those who route by it.
        let reader = self.app.as_ref().unwrap().reader();
        assert!(reader.wait_for(generation.unwrap()).await.is_ok(), "a data thread is silent");
    }

    /// Stops the tasks, then the App.
    pub(crate) async fn stop(mut self) {
        if let Some(app) = self.app.take() {
            app.shutdown().await;
        }
    }
}

pub(crate) fn tasks_of<'a>(state: &'a State, service: &'a str) -> impl Iterator<Item = &'a Task> {
    let of =
        move |task: &&Task| task.service.as_ref().is_some_and(|key| key.name.as_str() == service);
    state.tasks.values().map(AsRef::as_ref).filter(of)
}

pub(crate) fn settled(state: &State, service: &str, count: usize) -> bool {
    let alive: Vec<_> =
        tasks_of(state, service).filter(|task| task.known < TaskStatus::Stopped).collect();
    let good = |task: &&&Task| {
        task.known == TaskStatus::Running
            && task.is_live()
            && state.targets_of_task(&task.id).count() > 0
            && state
                .targets_of_task(&task.id)
                .all(|t| t.is_active() && state.verdict_state(t.id) == VerdictState::Healthy)
    };
    alive.len() == count && alive.iter().filter(good).count() == count
}

/// The built program, serving.
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) child: Child,
    data_dir: PathBuf,
}

impl Serve {
    /// What `status --json` says; none while it does not answer.
    pub(crate) fn status(&self) -> Option<Status> {
        status(&self.data_dir)
    }

    pub(crate) fn signal(&self, signal: &str) {
        kill(i32::try_from(self.child.id()).unwrap(), signal);
    }

    /// Waits for it to end by itself; its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut code = None;
        super::until("serve to exit", || match self.child.try_wait().unwrap() {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        })
        .await;
        code
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn status(data_dir: &Path) -> Option<Status> {
    let output = Command::new(PROGRAM)
        .args(["status", "--json", "--data-dir"])
        .arg(data_dir)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).ok()
}

/// Ids of the tasks of `service` that are RUNNING and whose every target is healthy.
pub(crate) fn healthy_tasks(status: &Status, service: &str) -> Vec<String> {
    let of = |task: &&roadstead::api::status::TaskRow| {
        task.service.as_deref() == Some(&format!("default/{service}"))
            && task.last_status == "RUNNING"
            && task.desired_status == "RUNNING"
    };
    let healthy = |id: &String| {
        let mut targets = status.targets.iter().filter(|t| t.task.as_ref() == Some(id)).peekable();
        targets.peek().is_some() && targets.all(|target| target.state == "healthy")
    };
    status.tasks.iter().filter(of).map(|task| task.task.clone()).filter(healthy).collect()
}
