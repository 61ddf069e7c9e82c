//! Queries for a zone of 100 services with three instances each, A and SRV in turn.
//!
//! Roadstead finds the zone in its journal, where this bench puts it first: no tasks run.
//! **Invariant:** every server has the same names, addresses and TTLs, on one core.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use roadstead::metrics::Metrics;
use roadstead::state::{Journal, Store};

use crate::harness::{
    Contestant, Cores, Fleet, LoadCore, Network, Options, Program, Running, Table, WARM_UP,
    alternate, answers_with, dnsperf, folder, progress, roadstead, until,
};

const SERVICES: u64 = 100;
const INSTANCES: u64 = 3;
const PORT: u16 = 5353;

/// Where the bench takes place.
struct Site {
    dir: tempfile::TempDir,
    cores: Cores,
    fleet: Fleet,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let fleet = Fleet::of(SERVICES * INSTANCES, INSTANCES);
    let site = Site { dir: folder()?, cores: Cores::get(), fleet };
    let _core = LoadCore::enter(&site.cores);
    let queries = site.dir.path().join("queries");
    fs::write(&queries, site.queries())?;
    let probe = query(&site.fleet.name(0));
    let contestants = site.servers(&probe);
    let load =
        |contestant: &Contestant, time| dnsperf(contestant, &site.cores, &queries, &probe, time);
    for contestant in &contestants {
        if let Err(error) = load(contestant, WARM_UP) {
            progress(&format!("{}: {error:#}", contestant.name));
        }
    }
    let results = alternate("dns", options.rounds, &contestants, |contestant| {
        load(contestant, options.run())
    });
    let table = Table {
        title: "A and SRV over UDP, 100 queries open; latency of a query every ms meanwhile.",
        rate: "queries/s",
        cpu: "CPU µs/query",
        scale: 1e6,
        latencies: true,
    };
    table.show(&results);
    Ok(())
}

/// A query for the addresses of `name`.
fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x52, 0x53, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or_default());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query
}

impl Site {
    fn queries(&self) -> String {
        let mut text = String::new();
        for service in 0..SERVICES {
            let name = self.fleet.name(service * INSTANCES);
            let _ = writeln!(text, "{name} A\n{name} SRV");
        }
        text
    }

    /// Starts all; one that is missing or does not come up is named and left out.
    fn servers(&self, probe: &[u8]) -> Vec<Contestant> {
        type Start = fn(&Site, SocketAddr) -> anyhow::Result<Running>;
        let all: [(&str, u8, Start); 3] = [
            ("roadstead", 1, Self::start_roadstead),
            ("knot", 2, Self::start_knot),
            ("unbound", 3, Self::start_unbound),
        ];
        let network = Network::new();
        let mut contestants = Vec::new();
        for (name, host, start) in all {
            let address = network.address(host, PORT);
            let started = start(self, address).and_then(|mut running| {
                let complete = || {
                    answers_with(address, probe).is_some_and(|count| u64::from(count) == INSTANCES)
                };
                until(&mut running, "its first complete answer", complete)?;
                let path = String::new();
                Ok(Contestant { name, is_secure: false, running, address, path })
            });
            match started {
                Ok(contestant) => contestants.push(contestant),
                Err(error) => progress(&format!("{name} is left out: {error:#}")),
            }
        }
        contestants
    }

    fn start(
        &self,
        name: &'static str,
        program: &Path,
        before: &[&str],
        config: &str,
    ) -> anyhow::Result<Running> {
        let file = self.dir.path().join(format!("{name}.conf"));
        fs::write(&file, config)?;
        let file = file.display().to_string();
        let arguments = [before, &[&file]].concat();
        Running::start(name, program, self.cores.program, self.dir.path(), &arguments)
    }

    fn start_roadstead(&self, address: SocketAddr) -> anyhow::Result<Running> {
        let data_dir = self.dir.path().join("roadstead");
        fs::create_dir(&data_dir)?;
        let store = Store::open(Journal::open(&data_dir.join("state.redb"))?, &Metrics::new(1))?;
        tokio::runtime::Builder::new_current_thread()
            .build()?
            .block_on(async { self.fleet.fill_names(&store).await })?;
        drop(store);
        let ip = address.ip();
        let (metrics, api) = (SocketAddr::new(ip, 9180), SocketAddr::new(ip, 4566));
        let config = format!(
            "data_dir = {data_dir:?}\nthreads = 1\nlog.level = \"warn\"\n\
            dns.addresses = [\"{address}\"]\nmetrics.address = \"{metrics}\"\n\
            api.address = \"{api}\"\n"
        );
        self.start("roadstead", &roadstead(), &["serve", "--config"], &config)
    }

    fn start_knot(&self, address: SocketAddr) -> anyhow::Result<Running> {
        let (dir, zone) = (self.dir.path().display(), self.fleet.namespace());
        let mut records = format!(
            "$ORIGIN {zone}.\n$TTL 5\n@ SOA ns.dns hostmaster 1 3600 600 86400 5\n\
            @ 3600 NS ns.dns\nns.dns A {}\n",
            address.ip()
        );
        for (name, kind, data) in self.fleet.records() {
            let _ = writeln!(records, "{name}. {kind} {data}");
        }
        fs::write(self.dir.path().join("zone"), records)?;
        let (ip, port) = (address.ip(), address.port());
        let config = format!(
            "server:\n  rundir: \"{dir}\"\n  listen: {ip}@{port}\n  udp-workers: 1\n  \
            tcp-workers: 1\n  background-workers: 1\n\
            database:\n  storage: \"{dir}\"\n\
            log:\n  - target: stderr\n    any: warning\n\
            template:\n  - id: default\n    storage: \"{dir}\"\n    zonefile-load: whole\n    \
            journal-content: none\n\
            zone:\n  - domain: {zone}\n    file: \"{dir}/zone\"\n"
        );
        self.start("knot", &Program::Knot.require()?, &["-c"], &config)
    }

    fn start_unbound(&self, address: SocketAddr) -> anyhow::Result<Running> {
        let (dir, zone) = (self.dir.path().display(), self.fleet.namespace());
        let (ip, port) = (address.ip(), address.port());
        let mut config = format!(
            "server:\n directory: \"{dir}\"\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n \
            use-syslog: no\n do-daemonize: no\n num-threads: 1\n interface: {ip}@{port}\n \
            access-control: 127.0.0.0/8 allow\n verbosity: 0\n rrset-roundrobin: yes\n \
            module-config: \"iterator\"\n local-zone: \"{zone}.\" static\n"
        );
        for (name, kind, data) in self.fleet.records() {
            let _ = writeln!(config, " local-data: \"{name}. 5 {kind} {data}\"");
        }
        config += "remote-control:\n control-enable: no\n";
        self.start("unbound", &Program::Unbound.require()?, &["-d", "-c"], &config)
    }
}
