//! The AWS APIs: from the start to the first answer, and calls per second over a large State.
//!
//! The program has one core, the clients another; calls are not signed, so that clients are not
//! what is measured. **Invariant:** every answer is checked to be one of success.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use roadstead::clock;

use crate::harness::{
    Cores, Latencies, LoadCore, Network, Options, Running, folder, median, millis, roadstead, show,
    until,
};

const STARTS: usize = 10;
const GROUPS: usize = 100;
const TARGETS: usize = 10_000;
/// Each call: its name, its path, and how many clients make it at once.
const CALLS: [(&str, &str, usize); 5] = [
    ("STS GetCallerIdentity", "/?Action=GetCallerIdentity&Version=2011-06-15", 4),
    ("ELB DescribeTargetGroups, 20 of 100", DESCRIBE_GROUPS, 4),
    ("ELB DescribeTargetGroups, one by name", DESCRIBE_GROUP, 4),
    ("EC2 DescribeSubnets", "/?Action=DescribeSubnets&Version=2016-11-15", 4),
    ("EC2 CreateTags, durable", CREATE_TAGS, 32),
];
const DESCRIBE_GROUPS: &str = "/?Action=DescribeTargetGroups&Version=2015-12-01&PageSize=20";
const DESCRIBE_GROUP: &str =
    "/?Action=DescribeTargetGroups&Version=2015-12-01&Names.member.1=group-7";
/// The value is each call's own number.
const CREATE_TAGS: &str = "/?Action=CreateTags&Version=2016-11-15\
    &ResourceId.1=vpc-00000000000000001&Tag.1.Key=k&Tag.1.Value=";

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    starts(if options.quick { 2 } else { STARTS })?;
    let (network, dir) = (Network::new(), folder()?);
    let mut text = settings(network, dir.path());
    for group in 0..GROUPS {
        let targets: Vec<_> = (0..TARGETS / GROUPS)
            .map(|target| format!("\"{}\"", network.address(200, port(group, target))))
            .collect();
        let _ = write!(
            text,
            "[[target_group]]\nname = \"group-{group}\"\ntargets = [{}]\n\
             health_check = {{ interval = \"300s\" }}\n",
            targets.join(", ")
        );
    }
    let (mut running, address) = start(network, dir.path(), &text)?;
    // The probes of so many targets take their time at the start.
    std::thread::sleep(if options.quick { Duration::ZERO } else { Duration::from_secs(15) });
    running.check_alive()?;
    show(&format!(
        "\nCalls over a State of {TARGETS} targets (medians of {} runs).\n",
        options.rounds
    ));
    show("| call | clients | calls/s | p50 | p99 |");
    show("|---|---:|---:|---:|---:|");
    for (name, path, clients) in CALLS {
        let runs = (0..options.rounds).map(|_| measure(address, path, clients, options.run()));
        let mut runs = runs.collect::<anyhow::Result<Vec<_>>>()?;
        let rate = median(runs.iter().map(|(rate, _)| *rate));
        runs.sort_by(|one, other| one.0.total_cmp(&other.0));
        let middle = runs.len() / 2;
        let latencies = &mut runs[middle].1;
        let (p50, p99) = (latencies.percentile(50), latencies.percentile(99));
        show(&format!("| {name} | {clients} | {rate:.0} | {} | {} |", millis(p50), millis(p99)));
    }
    show("\nGoals: 2,000 describes/s with p99 10 ms, 500 durable writes/s.");
    Ok(())
}

fn port(group: usize, target: usize) -> u16 {
    u16::try_from(1024 + group * (TARGETS / GROUPS) + target).unwrap_or(u16::MAX)
}

fn settings(network: Network, dir: &Path) -> String {
    format!(
        "data_dir = {:?}\nthreads = 1\n[api]\naddress = \"{}\"\nauth = \"none\"\n\
         [metrics]\naddress = \"{}\"\n[dns]\naddresses = []\n",
        dir.join("data"),
        network.address(1, 4566),
        network.address(1, 9180)
    )
}

fn start(network: Network, dir: &Path, text: &str) -> anyhow::Result<(Running, SocketAddr)> {
    let config = dir.join("roadstead.toml");
    std::fs::write(&config, text)?;
    let config = config.display().to_string();
    let core = Cores::get().program;
    let arguments = ["serve", "--config", &config];
    let mut running = Running::start("roadstead", &roadstead(), core, dir, &arguments)?;
    let address = network.address(1, 4566);
    until(&mut running, "the API endpoint", || TcpStream::connect(address).is_ok())?;
    Ok((running, address))
}

/// From the start on an empty data directory to the first answer.
fn starts(count: usize) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for _ in 0..count {
        let (network, dir) = (Network::new(), folder()?);
        let text = settings(network, dir.path());
        let config = dir.path().join("roadstead.toml");
        std::fs::write(&config, text)?;
        let config = config.display().to_string();
        let begun = clock::instant();
        let arguments = ["serve", "--config", &config];
        let mut running = Running::start("roadstead", &roadstead(), None, dir.path(), &arguments)?;
        let address = network.address(1, 4566);
        loop {
            if let Ok(mut stream) = TcpStream::connect(address) {
                call(&mut stream, CALLS[0].1)?;
                break;
            }
            running.check_alive()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let worst = times.iter().copied().fold(0.0, f64::max);
    let middle = median(times);
    show(&format!(
        "\nFirst answer after a start on an empty data directory: median {middle:.0} ms, worst \
         {worst:.0} ms of {count}; goal 200 ms."
    ));
    Ok(())
}

/// Calls per second, and how long each took.
fn measure(
    address: SocketAddr,
    path: &'static str,
    clients: usize,
    time: Duration,
) -> anyhow::Result<(f64, Latencies)> {
    let _core = LoadCore::enter(&Cores::get());
    let stop = Arc::new(AtomicBool::new(false));
    let client = |number: usize| {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || -> anyhow::Result<Vec<Duration>> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            let mut times = Vec::new();
            let mut count = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let own = format!("{path}{number}-{count}");
                let begun = clock::instant();
                call(&mut stream, if path == CREATE_TAGS { &own } else { path })?;
                times.push(begun.elapsed());
                count += 1;
            }
            Ok(times)
        })
    };
    let begun = clock::instant();
    let threads: Vec<_> = (0..clients).map(client).collect();
    std::thread::sleep(time);
    stop.store(true, Ordering::Relaxed);
    let (mut latencies, mut count) = (Latencies::default(), 0_u32);
    for thread in threads {
        let times = thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        for time in times {
            latencies.add(time);
            count += 1;
        }
    }
    Ok((f64::from(count) / begun.elapsed().as_secs_f64(), latencies))
}

/// One call on an open connection.
fn call(stream: &mut TcpStream, path: &str) -> anyhow::Result<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = Vec::with_capacity(4096);
    let mut part = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut part)?;
        anyhow::ensure!(count > 0, "the endpoint closed the connection");
        answer.extend_from_slice(&part[..count]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        anyhow::ensure!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        while answer.len() < end + 4 + length {
            let count = stream.read(&mut part)?;
            anyhow::ensure!(count > 0, "the endpoint closed the connection");
            answer.extend_from_slice(&part[..count]);
        }
        return Ok(());
    }
}
