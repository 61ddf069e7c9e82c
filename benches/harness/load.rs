//! The load: wrk, dnsperf, and a stream of our own; each gives one [`Sample`] of the program it
//! loads.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use roadstead::clock;

use super::process::pinned;
use super::{
    Contestant, Cores, Latencies, Options, Program, Sample, Site, Table, alternate, beside,
    progress,
};

/// Runs after wrk's last request; what it prints is exact where wrk's own report is rounded.
const REPORT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("figures %d %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.timeout, e.status))
end
"#;
/// Before the first round: connections to targets, caches.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);
/// The stream's blocks.
const BLOCK: usize = 256 * 1024;
/// Between two queries that measure latency while dnsperf loads.
const PROBE: Duration = Duration::from_millis(1);
/// Queries that dnsperf has open.
const OUTSTANDING: &str = "100";

/// How wrk uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    KeptAlive(usize),
    /// A new one for every request.
    Fresh(usize),
}

fn run(mut command: Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().context("the load generator")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "the load generator failed: {text} {complaint}");
    Ok(text)
}

/// One table per case: a warm-up, then every contestant in turns. `unit` is `request` or
/// `exchange`.
pub(crate) fn wrk_tables(
    cases: &[(&'static str, Connections)],
    unit: &str,
    site: &Site,
    contestants: &[Contestant],
    options: &Options,
) {
    for case in cases {
        wrk_table(*case, unit, site, contestants, options);
    }
}

/// One of them; what each run gave.
pub(crate) fn wrk_table(
    (title, connections): (&'static str, Connections),
    unit: &str,
    site: &Site,
    contestants: &[Contestant],
    options: &Options,
) -> Vec<(&'static str, Vec<Sample>)> {
    let load = |contestant: &Contestant, time| wrk(contestant, site, connections, time);
    for contestant in contestants {
        if let Err(error) = load(contestant, WARM_UP) {
            progress(&format!("{}: {error:#}", contestant.name));
        }
    }
    let results =
        alternate(title, options.rounds, contestants, |contestant| load(contestant, options.run()));
    let (rate, cpu) = (&format!("{unit}s/s"), &format!("CPU µs/{unit}"));
    Table { title, rate, cpu, scale: 1e6, latencies: true }.show(&results);
    results
}

/// The same with Roadstead and each of the others at once, on the core that they share.
pub(crate) fn wrk_beside(
    (title, connections): (&'static str, Connections),
    site: &Site,
    contestants: &[Contestant],
    options: &Options,
) {
    let load = |contestant: &Contestant| wrk(contestant, site, connections, options.run());
    beside(title, options.rounds, contestants, load);
}

/// HTTP requests for `time`.
fn wrk(
    contestant: &Contestant,
    site: &Site,
    connections: Connections,
    time: Duration,
) -> anyhow::Result<Sample> {
    let script = site.dir.path().join(format!("{}.lua", contestant.name));
    std::fs::write(&script, REPORT)?;
    let (count, fresh) = match connections {
        Connections::KeptAlive(count) => (count, false),
        Connections::Fresh(count) => (count, true),
    };
    let mut command = pinned(&Program::Wrk.require()?, site.cores.load);
    command.args(["-t1", &format!("-c{count}"), &format!("-d{}s", time.as_secs()), "-s"]);
    command.arg(script).args(["-H", "User-Agent: bench/1.0", "-H", "Accept: */*"]);
    if fresh {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(contestant.url());
    let before = contestant.running.usage();
    let text = run(command)?;
    let (cpu, wall) = contestant.running.usage().since(before);
    let figures = text.lines().find_map(|line| line.strip_prefix("figures "));
    let words = figures.with_context(|| format!("wrk says {text}"))?.split_whitespace();
    let figures: Vec<f64> = words.map(str::parse).collect::<Result<_, _>>()?;
    let &[requests, micros, p50, p99, errors, refused] = figures.as_slice() else {
        anyhow::bail!("wrk says {text}")
    };
    anyhow::ensure!(requests > 0.0, "not one request was answered");
    let errors = format!("{:.0}", errors + refused).parse()?;
    Ok(Sample {
        rate: requests / (micros / 1e6),
        cpu: cpu / requests,
        busy: cpu / wall,
        p50: p50 / 1e6,
        p99: p99 / 1e6,
        errors,
    })
}

/// Tables of HTTP/2 requests on so many connections with so many streams each: a warm-up, then
/// every contestant in turns, then at once.
pub(crate) fn h2load_table(
    title: &'static str,
    at_once: (usize, usize),
    site: &Site,
    contestants: &[Contestant],
    options: &Options,
) {
    for contestant in contestants {
        if let Err(error) = h2load(contestant, site, at_once, WARM_UP) {
            progress(&format!("{}: {error:#}", contestant.name));
        }
    }
    let results = alternate(title, options.rounds, contestants, |contestant| {
        h2load(contestant, site, at_once, options.run())
    });
    let (rate, cpu) = ("requests/s", "CPU µs/request");
    Table { title, rate, cpu, scale: 1e6, latencies: true }.show(&results);
    let load = |contestant: &Contestant| h2load(contestant, site, at_once, options.run());
    beside(title, options.rounds, contestants, load);
}

/// Requests of each connection per second, where h2load keeps a rate: it looks at each one's a
/// hundred times a second at most.
const PACE: u32 = 70;

/// So many requests per second, whatever becomes of those before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate(u32);

impl Rate {
    /// What h2load can keep of `percent` of `peak`.
    pub(crate) fn part(peak: f64, percent: f64) -> anyhow::Result<Self> {
        let clients = (peak * percent / 100.0 / f64::from(PACE)).round();
        Ok(Self(format!("{clients:.0}").parse::<u32>()?.max(1)))
    }

    pub(crate) const fn per_second(self) -> u32 {
        self.0 * PACE
    }
}

/// One table of HTTP/1.1 requests on kept connections at a constant rate; contestants take turns.
pub(crate) fn rate_table(
    title: &str,
    rate: Rate,
    rounds: usize,
    site: &Site,
    contestants: &[Contestant],
    options: &Options,
) {
    let results = alternate(title, rounds, contestants, |contestant| {
        h2load_paced(contestant, site, rate, options.run())
    });
    let (rate, cpu) = ("requests/s", "CPU µs/request");
    Table { title, rate, cpu, scale: 1e6, latencies: true }.show(&results);
}

/// HTTP/2 requests for `time`.
fn h2load(
    contestant: &Contestant,
    site: &Site,
    (clients, streams): (usize, usize),
    time: Duration,
) -> anyhow::Result<Sample> {
    let arguments = [
        format!("-c{clients}"),
        format!("-m{streams}"),
        format!("-D{}", time.as_secs()),
        "-Haccept: */*".to_owned(),
    ];
    let (mut sample, _) = run_h2load(contestant, site, &arguments, Duration::ZERO)?;
    sample.rate /= time.as_secs_f64();
    Ok(sample)
}

/// HTTP/1.1 requests at a rate for `time`, behind the while in which the connections come, one each
/// millisecond so that they do not speak all at once.
fn h2load_paced(
    contestant: &Contestant,
    site: &Site,
    Rate(clients): Rate,
    time: Duration,
) -> anyhow::Result<Sample> {
    let coming = Duration::from_millis(clients.into());
    let requests = (f64::from(clients * PACE) * (time + coming).as_secs_f64()).ceil();
    let arguments = [
        "--h1".to_owned(),
        format!("-c{clients}"),
        format!("-n{requests:.0}"),
        format!("--rps={PACE}"),
        "-r1".to_owned(),
        "--rate-period=1ms".to_owned(),
        "-Haccept: */*".to_owned(),
    ];
    let (mut sample, span) = run_h2load(contestant, site, &arguments, coming)?;
    sample.rate /= span.as_secs_f64();
    Ok(sample)
}

/// Latencies are those of its log, a line per request, without the first and the last `margin`. The
/// rate is the number of those requests still; also what time they took.
fn run_h2load(
    contestant: &Contestant,
    site: &Site,
    arguments: &[String],
    margin: Duration,
) -> anyhow::Result<(Sample, Duration)> {
    let log = site.dir.path().join(format!("{}.h2load.log", contestant.name));
    let _ = std::fs::remove_file(&log);
    let mut command = pinned(&Program::H2load.require()?, site.cores.load);
    command.args(["-t1", "-Huser-agent: bench/1.0"]).args(arguments);
    command.arg(format!("--log-file={}", log.display())).arg(contestant.url());
    let before = contestant.running.usage();
    run(command)?;
    let (cpu, wall) = contestant.running.usage().since(before);
    let mut rows = Vec::new();
    for line in std::fs::read_to_string(&log)?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[at, status, micros] = words.as_slice() else { anyhow::bail!("h2load logs {line}") };
        let (at, took): (u64, u64) = (at.parse()?, micros.parse()?);
        rows.push((Duration::from_micros(at), status == "200", Duration::from_micros(took)));
    }
    let all = f64::from(u32::try_from(rows.len())?);
    let times = || rows.iter().map(|(at, ..)| *at);
    let (first, last) = times().min().zip(times().max()).context("not one request was sent")?;
    let (first, last) = (first + margin, last.saturating_sub(margin));
    rows.retain(|(at, ..)| (first..=last).contains(at));
    let errors = rows.iter().filter(|(_, is_good, _)| !is_good).count();
    anyhow::ensure!(rows.len() > errors, "not one request was answered");
    let mut latencies = Latencies::default();
    rows.iter().for_each(|(.., took)| latencies.add(*took));
    let sample = Sample {
        rate: f64::from(u32::try_from(rows.len())?),
        cpu: cpu / all,
        busy: cpu / wall,
        p50: latencies.percentile(50).as_secs_f64(),
        p99: latencies.percentile(99).as_secs_f64(),
        errors: errors as u64,
    };
    Ok((sample, last.saturating_sub(first)))
}

/// Queries from `queries`, one `NAME TYPE` a line, for `time`. Latencies are those of `probe`, a
/// query of our own sent all the while: dnsperf tells only averages.
pub(crate) fn dnsperf(
    contestant: &Contestant,
    cores: &Cores,
    queries: &Path,
    probe: &[u8],
    time: Duration,
) -> anyhow::Result<Sample> {
    let mut command = pinned(&Program::Dnsperf.require()?, cores.load);
    let (address, port) = (contestant.address.ip().to_string(), contestant.address.port());
    command.args(["-s", &address, "-p", &port.to_string(), "-T", "1", "-c", "16"]);
    command.args(["-q", OUTSTANDING, "-l", &time.as_secs().to_string(), "-d"]).arg(queries);
    let done = AtomicBool::new(false);
    let before = contestant.running.usage();
    let (text, mut latencies) = std::thread::scope(|scope| {
        let probing = scope.spawn(|| probe_until(&done, contestant.address, probe));
        let text = run(command);
        done.store(true, Ordering::Relaxed);
        (text, probing.join().unwrap_or_default())
    });
    let (cpu, wall) = contestant.running.usage().since(before);
    let text = text?;
    let number = |label: &str| -> anyhow::Result<f64> {
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(label));
        let word = line.and_then(|line| line.split_whitespace().next());
        Ok(word.with_context(|| format!("dnsperf says no {label:?}: {text}"))?.parse()?)
    };
    let answered = number("Queries completed:")?;
    anyhow::ensure!(answered > 0.0, "not one query was answered");
    Ok(Sample {
        rate: number("Queries per second:")?,
        cpu: cpu / answered,
        busy: cpu / wall,
        p50: latencies.percentile(50).as_secs_f64(),
        p99: latencies.percentile(99).as_secs_f64(),
        errors: format!("{:.0}", number("Queries lost:")?).parse()?,
    })
}

/// Asks one query after the other until `done`; unanswered ones count as a second.
fn probe_until(done: &AtomicBool, address: SocketAddr, query: &[u8]) -> Latencies {
    let mut latencies = Latencies::default();
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return latencies };
    let _ = socket.connect(address);
    let _ = socket.set_read_timeout(Some(Duration::from_secs(1)));
    let mut answer = [0; 1232];
    while !done.load(Ordering::Relaxed) {
        let sent = clock::instant();
        if socket.send(query).is_ok() {
            let _ = socket.recv(&mut answer);
            latencies.add(sent.elapsed());
        }
        std::thread::sleep(PROBE);
    }
    latencies
}

/// Listens on `address`; whoever connects says in eight bytes how many it wants, and gets them.
pub(crate) fn target_of_bulk(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("{address}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve_bulk(stream));
        }
    });
    Ok(())
}

fn serve_bulk(mut stream: TcpStream) -> std::io::Result<()> {
    let mut wanted = [0; 8];
    stream.read_exact(&mut wanted)?;
    let mut left = u64::from_be_bytes(wanted);
    let block = vec![0x5a; BLOCK];
    while left > 0 {
        let part = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        stream.write_all(&block[..part])?;
        left -= part as u64;
    }
    Ok(())
}

/// Streams `bytes` through the contestant; a GiB is the unit of its sample.
pub(crate) fn bulk(
    contestant: &Contestant,
    address: SocketAddr,
    bytes: u64,
) -> anyhow::Result<Sample> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let before = contestant.running.usage();
    stream.write_all(&bytes.to_be_bytes())?;
    let mut block = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        let count = stream.read(&mut block)?;
        anyhow::ensure!(count > 0, "the stream ended {left} bytes early");
        left = left.saturating_sub(count as u64);
    }
    let (cpu, wall) = contestant.running.usage().since(before);
    #[allow(clippy::cast_precision_loss, reason = "a few GiB")]
    let size = bytes as f64 / f64::from(1u32 << 30);
    Ok(Sample { rate: size / wall, cpu: cpu / size, busy: cpu / wall, ..Sample::default() })
}
