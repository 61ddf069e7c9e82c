//! Resident memory: the quickstart ten seconds after its start, and what idle connections cost.
//!
//! **Invariant:** of the quickstart only the program itself is counted, not the tasks that it runs.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use roadstead::clock;
use roadstead::tls::{self, Unverified};
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection};

use crate::harness::{
    Contestant, Kind, Network, Options, Running, Site, answers_http, folder, progress, proxies,
    raise_open_files, roadstead, show, until,
};

/// From the start to the look.
const SETTLED: Duration = Duration::from_secs(10);
const QUICK_SETTLED: Duration = Duration::from_secs(2);
/// Idle connections at once.
const IDLE: u16 = 8_000;
const QUICK_IDLE: u16 = 500;
/// What the certificate is for.
const NAME: &str = "bench.test";
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    raise_open_files();
    quickstart(options)?;
    idle_connections(Kind::Http, "", options)?;
    idle_connections(Kind::Https, " over TLS", options)
}

/// `config/quickstart.toml` with addresses of the bench's own.
fn quickstart(options: &Options) -> anyhow::Result<()> {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/quickstart.toml");
    let (network, dir) = (Network::new(), folder()?);
    let ip = network.address(1, 0).ip().to_string();
    let pool = network.address(0, 0).ip();
    let text = fs::read_to_string(&sample)?.replace("127.0.0.1", &ip);
    let config = dir.path().join("quickstart.toml");
    fs::write(&config, format!("{text}\n[runtime]\naddresses = \"{pool}/24\"\n"))?;
    let config = config.display().to_string();
    let begun = clock::instant();
    let arguments = ["serve", "--config", &config];
    let mut running = Running::start("roadstead", &roadstead(), None, dir.path(), &arguments)?;
    let web = network.address(1, 8080);
    until(&mut running, "the quickstart's web service", || answers_http(web))?;
    let serving = begun.elapsed();
    let settled = if options.quick { QUICK_SETTLED } else { SETTLED };
    std::thread::sleep(settled.saturating_sub(begun.elapsed()));
    running.check_alive()?;
    let [all, own, mapped] = resident_parts(running.pid())?;
    show(&format!(
        "\nquickstart.toml, {} s after start: VmRSS {all:.1} MiB ({own:.1} its own, {mapped:.1} of \
        files); goal 40 MiB. First answer of a task {:.0} ms after start.",
        settled.as_secs(),
        serving.as_secs_f64() * 1e3
    ));
    Ok(())
}

/// VmRSS, and of it memory of its own and pages of files, in MiB.
fn resident_parts(pid: u32) -> anyhow::Result<[f64; 3]> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let part = |label: &str| -> anyhow::Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(label));
        let word = line.and_then(|line| line.split_whitespace().next()).context("no such line")?;
        Ok(word.parse::<f64>()? / 1024.0)
    };
    Ok([part("VmRSS:")?, part("RssAnon:")?, part("RssFile:")?])
}

fn idle_connections(kind: Kind, words: &str, options: &Options) -> anyhow::Result<()> {
    let site = Site::new()?;
    let contestants = proxies(kind, &site, options);
    let count = if options.quick { QUICK_IDLE } else { IDLE };
    show(&format!("\nIdle keep-alive connections{words}: {count}, each after one request.\n"));
    show("| program | resident before | with them | KiB/connection |");
    show("|---|---:|---:|---:|");
    for contestant in &contestants {
        match hold(contestant, count) {
            Ok((before, after)) => show(&format!(
                "| {} | {:.1} MiB | {:.1} MiB | {:.1} |",
                contestant.name,
                before / MIB,
                after / MIB,
                (after - before) / 1024.0 / f64::from(count)
            )),
            Err(error) => progress(&format!("{}: {error:#}", contestant.name)),
        }
    }
    Ok(())
}

/// Bytes resident before and with the connections.
fn hold(contestant: &Contestant, count: u16) -> anyhow::Result<(f64, f64)> {
    let resident = || -> anyhow::Result<f64> {
        Ok(f64::from(u32::try_from(contestant.running.resident() / 1024)?) * 1024.0)
    };
    let client = contestant.is_secure.then(client).transpose()?;
    let open = || match &client {
        Some(client) => ask_secure(contestant.address, client),
        None => ask(contestant.address),
    };
    // The first requests make what every program makes once.
    drop((0..16).map(|_| open()).collect::<Vec<_>>());
    let before = resident()?;
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(open()?);
    }
    std::thread::sleep(Duration::from_secs(1));
    let after = resident()?;
    drop(held);
    Ok((before, after))
}

/// A connection on which one request was answered.
fn ask(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = connect(address)?;
    exchange(&mut stream)?;
    Ok(stream)
}

/// The same over TLS; of our side nothing is kept but the socket.
fn ask_secure(address: SocketAddr, client: &Arc<ClientConfig>) -> anyhow::Result<TcpStream> {
    let mut stream = connect(address)?;
    let mut session = ClientConnection::new(Arc::clone(client), NAME.try_into()?)?;
    exchange(&mut rustls::Stream::new(&mut session, &mut stream))?;
    Ok(stream)
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn exchange(stream: &mut (impl Read + Write)) -> anyhow::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !answer.ends_with(b"hello from a target\n") {
        let count = stream.read(&mut part)?;
        anyhow::ensure!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..count]);
    }
    Ok(())
}

/// Speaks HTTP/1.1, takes any certificate, and resumes nothing: each connection pays in full.
fn client() -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::clone(tls::provider());
    let verifier = Arc::new(Unverified(provider.signature_verification_algorithms));
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config?.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = config.with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
