//! How long deployments take: the built program, child processes and Docker Engine.
//!
//! From `UpdateService` to the first request that a container answers, a rolling deployment of four
//! tasks, and thirty containers of which one dies after the other. **Invariant:** containers and
//! the image carry names of this bench alone and end with it; nobody else's are touched.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use roadstead::clock;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Network, Options, Running, answers_http, folder, median, millis, progress, roadstead, show,
};

const ROUNDS: usize = 10;
const QUICK_ROUNDS: usize = 2;
/// Containers that are killed one after the other.
const KILLS: usize = 60;
const QUICK_KILLS: usize = 3;
const CONTAINERS: u32 = 30;
/// Between two kills.
const PAUSE: Duration = Duration::from_millis(200);
/// For whatever is waited for.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    show("\n| what | median | worst | of | goal |");
    show("|---|---:|---:|---:|---:|");
    let rounds = if options.quick { QUICK_ROUNDS } else { ROUNDS };
    rolling(rounds)?;
    let Some(image) = Image::build()? else {
        show("| Docker: no Engine answers | | | | |");
        return Ok(());
    };
    first_request(&image, rounds)?;
    churn(&image, if options.quick { QUICK_KILLS } else { KILLS })
}

/// One program with one service `web`.
struct Site {
    /// Ended before its folder goes.
    running: Running,
    network: Network,
    dir: TempDir,
    image: Option<String>,
}

impl Site {
    fn start(image: Option<&Image>, tasks: u32) -> anyhow::Result<Self> {
        let (network, dir) = (Network::new(), folder()?);
        let image = image.map(|image| image.0.clone());
        let config = write(network, dir.path(), image.as_deref(), tasks, 0)?;
        let config = config.display().to_string();
        let arguments = ["serve", "--config", &config];
        let running = Running::start("roadstead", &roadstead(), None, dir.path(), &arguments)?;
        let mut site = Self { running, network, dir, image };
        let api = site.api();
        site.until("the API endpoint", |_| Ok(TcpStream::connect(api).is_ok()))?;
        site.until("the first tasks", |site| site.is_done(tasks))?;
        Ok(site)
    }

    fn api(&self) -> SocketAddr {
        self.network.address(1, 4566)
    }

    fn ask(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        ecs(self.api(), operation, body)
    }

    fn scale(&self, tasks: u32) -> anyhow::Result<()> {
        self.ask("UpdateService", &json!({ "service": "web", "desiredCount": tasks }))?;
        Ok(())
    }

    /// So many tasks of one completed deployment, and no other.
    fn is_done(&self, tasks: u32) -> anyhow::Result<bool> {
        let shown = self.ask("DescribeServices", &json!({ "services": ["web"] }))?;
        let service = &shown["services"][0];
        let deployments = service["deployments"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(service["runningCount"] == tasks
            && service["pendingCount"] == 0
            && deployments.len() == 1
            && deployments[0]["rolloutState"] == "COMPLETED")
    }

    fn until(
        &mut self,
        what: &str,
        holds: impl Fn(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let since = clock::instant();
        while !holds(self)? {
            self.running.check_alive()?;
            let words = self.running.last_words();
            anyhow::ensure!(since.elapsed() < DEADLINE, "waited in vain for {what}: {words}");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// The configuration; `round` makes another revision of the same program.
fn write(
    network: Network,
    dir: &Path,
    image: Option<&str>,
    tasks: u32,
    round: usize,
) -> anyhow::Result<PathBuf> {
    let address = |host: u8, port: u16| network.address(host, port);
    let (program, image, runtime) = match image {
        Some(image) => {
            ("/roadstead".to_owned(), format!("image = {image:?}\n"), "kind = \"docker\"".into())
        }
        None => {
            let pool = address(0, 0).ip();
            let program = roadstead().display().to_string();
            (program, String::new(), format!("addresses = \"{pool}/24\""))
        }
    };
    let round = round.to_string();
    let command = [program.as_str(), "whoami", "--start-delay", &round];
    let text = format!(
        "data_dir = {:?}\nthreads = 1\non_exit = \"stop\"\n[api]\naddress = \"{}\"\n\
         auth = \"none\"\n[metrics]\naddress = \"{}\"\n[dns]\naddresses = []\n\
         [metadata]\nenabled = false\n[runtime]\n{runtime}\n\
         [[load_balancer]]\nname = \"web\"\ntype = \"application\"\naddress = \"{}\"\n\
         [[load_balancer.listener]]\nport = 8080\ntarget_group = \"web\"\n\
         [[target_group]]\nname = \"web\"\n[target_group.health_check]\npath = \"/health\"\n\
         [[task_definition]]\nfamily = \"web\"\n[[task_definition.containerDefinitions]]\n\
         name = \"web\"\n{image}command = {command:?}\n\
         portMappings = [{{ containerPort = 8080 }}]\n\
         [[service]]\nname = \"web\"\ntask_definition = \"web\"\ndesired_count = {tasks}\n\
         load_balancers = [{{ target_group = \"web\", container_port = 8080 }}]\n",
        dir.join("data"),
        address(1, 4566),
        address(1, 9180),
        address(1, 0).ip(),
    );
    let (config, fresh) = (dir.join("roadstead.toml"), dir.join("roadstead.toml.new"));
    std::fs::write(&fresh, text)?;
    std::fs::rename(fresh, &config)?;
    Ok(config)
}

fn ecs(api: SocketAddr, operation: &str, body: &Value) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(api)?;
    let body = body.to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: application/x-amz-json-1.1\r\n\
         X-Amz-Target: AmazonEC2ContainerServiceV20141113.{operation}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{operation}: {answer}");
    Ok(serde_json::from_str(body)?)
}

/// From the change of the file to the end of the deployment that it begins.
fn rolling(rounds: usize) -> anyhow::Result<()> {
    let mut site = Site::start(None, 4)?;
    let mut times = Vec::new();
    for round in 1..=rounds {
        let before = site.ask("DescribeServices", &json!({ "services": ["web"] }))?;
        let before = before["services"][0]["deployments"][0]["id"].clone();
        let begun = clock::instant();
        write(site.network, site.dir.path(), None, 4, round)?;
        site.until("the next deployment", |site| {
            let shown = site.ask("DescribeServices", &json!({ "services": ["web"] }))?;
            Ok(shown["services"][0]["deployments"][0]["id"] != before && site.is_done(4)?)
        })?;
        times.push(begun.elapsed());
        progress(&format!("deploy: rolling, {round} of {rounds}"));
    }
    row("rolling deployment of 4 child processes, from the file's change", &times, "10 s");
    Ok(())
}

/// From `UpdateService` to the first answer of the container that it starts.
fn first_request(image: &Image, rounds: usize) -> anyhow::Result<()> {
    let mut site = Site::start(Some(image), 0)?;
    let web = site.network.address(1, 8080);
    let mut times = Vec::new();
    for round in 1..=rounds {
        let begun = clock::instant();
        site.scale(1)?;
        site.until("the first answer", |_| Ok(answers_http(web)))?;
        times.push(begun.elapsed());
        site.scale(0)?;
        site.until("the task to go", |site| {
            Ok(site.is_done(0)? && containers(site.image.as_deref(), false)?.is_empty())
        })?;
        progress(&format!("deploy: first request, {round} of {rounds}"));
    }
    row("Docker: UpdateService to the first request, image present", &times, "1 s");
    Ok(())
}

/// Thirty containers; one dies after the other, and all are back soon after the last.
fn churn(image: &Image, kills: usize) -> anyhow::Result<()> {
    let begun = clock::instant();
    let mut site = Site::start(Some(image), CONTAINERS)?;
    let started = begun.elapsed();
    let mut killed = 0;
    while killed < kills {
        let all = containers(site.image.as_deref(), true)?;
        if let Some(victim) = (!all.is_empty()).then(|| &all[fastrand::usize(..all.len())]) {
            // It may have ended in the meantime.
            killed += usize::from(docker(&["kill", victim])?.is_some());
        }
        std::thread::sleep(PAUSE);
    }
    let begun = clock::instant();
    let name = site.image.clone();
    site.until("all containers", |site| {
        let all = containers(name.as_deref(), true)?;
        Ok(all.len() == CONTAINERS as usize && site.is_done(CONTAINERS)?)
    })?;
    let back = begun.elapsed();
    row(&format!("Docker: {CONTAINERS} containers from nothing"), &[started], "-");
    row(&format!("Docker: all {CONTAINERS} back after {kills} kills"), &[back], "10 s");
    let web = site.network.address(1, 8080);
    anyhow::ensure!(answers_http(web), "nobody answers after the churn");
    Ok(())
}

fn row(what: &str, times: &[Duration], goal: &str) {
    let middle = Duration::from_secs_f64(median(times.iter().map(Duration::as_secs_f64)));
    let worst = times.iter().copied().max().unwrap_or_default();
    let (middle, worst, of) = (millis(middle), millis(worst), times.len());
    show(&format!("| {what} | {middle} | {worst} | {of} | {goal} |"));
}

/// The image of this bench, removed with it: the program and the files `ldd` names.
struct Image(String);

impl Image {
    /// None where there is no Docker Engine.
    fn build() -> anyhow::Result<Option<Self>> {
        if docker(&["info"])?.is_none() {
            return Ok(None);
        }
        let (dir, program) = (folder()?, roadstead());
        std::fs::copy(&program, dir.path().join("roadstead"))?;
        let ldd = Command::new("ldd").arg(&program).output()?;
        let words = String::from_utf8_lossy(&ldd.stdout).into_owned();
        for word in words.split_whitespace().filter(|word| word.starts_with('/')) {
            let place = dir.path().join(word.trim_start_matches('/'));
            std::fs::create_dir_all(place.parent().context("no folder")?)?;
            std::fs::copy(word, place)?;
        }
        let tag = format!("roadstead-bench:{}", std::process::id());
        let mut tar = Command::new("tar")
            .args(["-c", "-C"])
            .arg(dir.path())
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()?;
        let input = tar.stdout.take().context("no output")?;
        let mut import = Command::new("docker");
        import.args(["import", "-", &tag]).stdin(input).stdout(Stdio::null());
        let imported = import.status()?;
        anyhow::ensure!(tar.wait()?.success() && imported.success(), "no image was made");
        Ok(Some(Self(tag)))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for id in containers(Some(&self.0), false).unwrap_or_default() {
            let _ = docker(&["rm", "-f", &id]);
        }
        let _ = docker(&["rmi", "-f", &self.0]);
    }
}

/// Ids of the containers of this bench's image.
fn containers(image: Option<&str>, running: bool) -> anyhow::Result<Vec<String>> {
    let Some(image) = image else { return Ok(Vec::new()) };
    let filter = format!("ancestor={image}");
    let which = if running { "-q" } else { "-aq" };
    let listed = docker(&["ps", which, "--filter", &filter])?.context("docker ps failed")?;
    Ok(listed.split_whitespace().map(str::to_owned).collect())
}

/// What the command said; none: it failed.
fn docker(arguments: &[&str]) -> anyhow::Result<Option<String>> {
    let mut command = Command::new("docker");
    let output = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    match output {
        Ok(output) => Ok(output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
