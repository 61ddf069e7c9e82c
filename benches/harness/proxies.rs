//! Roadstead, HAProxy and nginx as proxies in front of the same two targets.
//!
//! All do the same work: the headers that ALB adds, limits on connections and time, connections to
//! targets that are kept, round robin, one thread on one core, the access log on or off for all.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    Cores, Network, Options, Program, Running, answers_http, folder, progress, roadstead, until,
};

/// The port of everything that speaks HTTP, or TCP to a target that does.
const PORT: u16 = 8080;
/// The port of the stream.
const BULK: u16 = 9000;
/// The one cipher of TLS 1.3 that all are set to, so that none pays for a longer key.
const CIPHER: &str = "TLS_AES_128_GCM_SHA256";
/// Client connections that each program is set to take. HAProxy takes two files for each, four
/// where it splices, and does not start when the system gives it fewer.
const fn connections(kind: Kind) -> usize {
    match kind {
        Kind::Http | Kind::Https => 8_400,
        Kind::Tcp => 4_000,
    }
}
/// The rules' paths, but for their number.
const RULED: &str = "/team/";
/// What the targets have beside a line of text.
const LARGE: &str = "/mib";
const MIB: usize = 1 << 20;
/// Where Debian's libnginx-mod-stream puts it.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A program under test, or one it is compared with.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    /// It is spoken to over TLS.
    pub(crate) is_secure: bool,
    pub(crate) running: Running,
    pub(crate) address: SocketAddr,
    /// What it is asked for.
    pub(crate) path: String,
}

impl Contestant {
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.address, self.path)
    }

    /// From now on it is asked for a MiB.
    pub(crate) fn ask_for_large(&mut self) {
        LARGE.clone_into(&mut self.path);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http,
    /// The same over TLS with one ECDSA certificate and one cipher; plain to the targets.
    Https,
    /// One port to the HTTP targets, one to the source of the stream.
    Tcp,
}

/// Where a bench takes place: its folder, its addresses, its targets.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) network: Network,
    pub(crate) cores: Cores,
    _target: Running,
}

impl Site {
    /// With nginx as the target of all: it answers for two addresses, on a core of its own where
    /// there is one.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (dir, network, cores) = (folder()?, Network::new(), Cores::get());
        let config = dir.path().join("target.conf");
        let [first, second] = targets(network, PORT);
        let text = format!(
            "{base}
            http {{
                access_log off;
                keepalive_timeout 1h;
                keepalive_requests 1000000000;
                server {{
                    listen {first} backlog=4096;
                    listen {second} backlog=4096;
                    location / {{ return 200 \"hello from a target\\n\"; }}
                    location {LARGE} {{ root {root}; sendfile on; }}
                }}
            }}",
            base = nginx_base(dir.path(), "target", 2 * connections(Kind::Http)),
            root = dir.path().display()
        );
        fs::write(&config, text)?;
        fs::write(dir.path().join(LARGE.trim_start_matches('/')), vec![b'x'; MIB])?;
        let config = config.display().to_string();
        let nginx = Program::Nginx.require()?;
        let mut target =
            Running::start("target", &nginx, cores.targets, dir.path(), &["-c", &config])?;
        until(&mut target, "the target", || answers_http(first) && answers_http(second))?;
        Ok(Self { dir, network, cores, _target: target })
    }

    pub(crate) fn targets_of_bulk(&self) -> [SocketAddr; 2] {
        targets(self.network, BULK)
    }

    /// Where a contestant of kind TCP takes the stream.
    pub(crate) fn bulk_address(contestant: &Contestant) -> SocketAddr {
        SocketAddr::new(contestant.address.ip(), BULK)
    }
}

fn targets(network: Network, port: u16) -> [SocketAddr; 2] {
    [network.address(201, port), network.address(202, port)]
}

type Start = fn(Kind, &Site, &Options, SocketAddr) -> anyhow::Result<Running>;

/// Starts the three, and Roadstead's other carrier; one that is missing or does not come up is
/// named and left out.
pub(crate) fn proxies(kind: Kind, site: &Site, options: &Options) -> Vec<Contestant> {
    let mut all: Vec<(&str, u8, Start)> =
        vec![("roadstead", 1, start_native), ("haproxy", 2, haproxy), ("nginx", 3, nginx)];
    if kind != Kind::Tcp {
        all.push(("roadstead, pingora", 4, start_pingora));
    }
    started(&all, kind, site, options)
}

/// The three with so many rules, and their access logs on. They are asked for what the last rule
/// matches.
pub(crate) fn with_rules(rules: usize, site: &Site, options: &Options) -> Vec<Contestant> {
    let options = &Options { rules, access_log: true, ..options.clone() };
    let all: [(&str, u8, Start); 3] = [
        ("roadstead, rules and log", 11, start_native),
        ("haproxy, rules and log", 12, haproxy),
        ("nginx, rules and log", 13, nginx),
    ];
    let mut contestants = started(&all, Kind::Http, site, options);
    contestants.iter_mut().for_each(|each| each.path = format!("{RULED}{rules}/index.html"));
    contestants
}

/// Of one program started more than once, files and folders of its own.
fn own(site: &Site, options: &Options, name: &str) -> anyhow::Result<PathBuf> {
    let dir = site.dir.path().join(format!("{name}-{}", options.rules));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn started(
    all: &[(&'static str, u8, Start)],
    kind: Kind,
    site: &Site,
    options: &Options,
) -> Vec<Contestant> {
    let mut contestants = Vec::new();
    for &(name, host, start) in all {
        let address = site.network.address(host, PORT);
        let started = start(kind, site, options, address).and_then(|mut running| {
            until(&mut running, "its first answer", || match kind {
                Kind::Https => answers_tls(address),
                Kind::Http | Kind::Tcp => answers_http(address),
            })?;
            let (is_secure, path) = (kind == Kind::Https, "/".to_owned());
            Ok(Contestant { name, is_secure, running, address, path })
        });
        match started {
            Ok(contestant) => contestants.push(contestant),
            Err(error) => progress(&format!("{name} is left out: {error:#}")),
        }
    }
    contestants
}

/// Whether anybody takes a connection: what is behind it is warmed up before it is measured.
fn answers_tls(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// One certificate for all: `tls.pem` and `tls.key`, and both in `tls.both`.
fn certificate(dir: &Path) -> anyhow::Result<()> {
    if dir.join("tls.both").exists() {
        return Ok(());
    }
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = rcgen::CertificateParams::new(vec!["bench.test".to_owned()])?;
    let (certificate, key) = (certificate.self_signed(&key)?.pem(), key.serialize_pem());
    fs::write(dir.join("tls.pem"), &certificate)?;
    fs::write(dir.join("tls.key"), &key)?;
    fs::write(dir.join("tls.both"), certificate + &key)?;
    Ok(())
}

fn start_native(
    kind: Kind,
    site: &Site,
    options: &Options,
    address: SocketAddr,
) -> anyhow::Result<Running> {
    start_roadstead(kind, site, options, address, "native")
}

fn start_pingora(
    kind: Kind,
    site: &Site,
    options: &Options,
    address: SocketAddr,
) -> anyhow::Result<Running> {
    start_roadstead(kind, site, options, address, "pingora")
}

fn start_roadstead(
    kind: Kind,
    site: &Site,
    options: &Options,
    address: SocketAddr,
    carrier: &'static str,
) -> anyhow::Result<Running> {
    let dir = &own(site, options, carrier)?;
    let (ip, port) = (address.ip(), address.port());
    let (metrics, api) = (SocketAddr::new(ip, 9180), SocketAddr::new(ip, 4566));
    let mut text = format!("data_dir = {:?}\nthreads = 1\n", dir.join("roadstead"));
    if options.access_log && kind != Kind::Tcp {
        text += &format!("access_log = {{ path = {:?} }}\n", dir.join("roadstead-access.log"));
    }
    text += &format!(
        "log.level = \"warn\"\ndns.addresses = []\nmetrics.address = \"{metrics}\"\n\
        api.address = \"{api}\"\n\
        limits.max_connections = {}\n",
        connections(kind)
    );
    let (sort, protocol, mut carrier) = match kind {
        Kind::Http | Kind::Https => ("application", "HTTP", format!("carrier = \"{carrier}\"\n")),
        Kind::Tcp => ("network", "TCP", String::new()),
    };
    if kind == Kind::Https {
        certificate(site.dir.path())?;
        let (pem, key) = (site.dir.path().join("tls.pem"), site.dir.path().join("tls.key"));
        carrier += "protocol = \"HTTPS\"\ncertificates = [\"bench\"]\n";
        text += &format!(
            "[[certificate]]\nname = \"bench\"\ncertificate = {pem:?}\nprivate_key = {key:?}\n"
        );
    }
    text +=
        &format!("[[load_balancer]]\nname = \"bench\"\ntype = \"{sort}\"\naddress = \"{ip}\"\n");
    let rule = |number: usize| {
        format!(
            "[[load_balancer.listener.rule]]\npriority = {number}\n\
            path_pattern = [\"{RULED}{number}/*\"]\ntarget_group = \"web\"\n"
        )
    };
    let rules: String = (1..=options.rules).map(rule).collect();
    let group = |name: &str, port: u16, targets: [SocketAddr; 2]| {
        let [first, second] = targets;
        format!(
            "[[load_balancer.listener]]\nport = {port}\n{carrier}target_group = \"{name}\"\n\
            {rules}[[target_group]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\n\
            targets = [\"{first}\", \"{second}\"]\n"
        )
    };
    text += &group("web", port, targets(site.network, PORT));
    if kind == Kind::Tcp {
        text += &group("bulk", BULK, site.targets_of_bulk());
    }
    let config = dir.join("roadstead.toml");
    fs::write(&config, text)?;
    let config = config.display().to_string();
    let arguments = ["serve", "--config", &config];
    Running::start("roadstead", &roadstead(), site.cores.program, dir, &arguments)
}

fn haproxy(
    kind: Kind,
    site: &Site,
    options: &Options,
    address: SocketAddr,
) -> anyhow::Result<Running> {
    let log = options.access_log && kind != Kind::Tcp;
    let (to_stdout, logged) = if log {
        ("log stdout format raw local0", "log global\n option httplog")
    } else {
        ("", "")
    };
    let (mode, idle) = match kind {
        Kind::Http | Kind::Https => ("http", "60s"),
        Kind::Tcp => ("tcp", "350s"),
    };
    let mut text = format!(
        "global\n nbthread 1\n maxconn {connections}\n {to_stdout}\n\
        defaults\n mode {mode}\n maxconn {connections}\n timeout connect 10s\n\
        \x20timeout client {idle}\n timeout server {idle}\n timeout http-request 60s\n\
        \x20timeout http-keep-alive 60s\n retries 1\n option redispatch\n balance roundrobin\n\
        \x20{logged}\n",
        connections = connections(kind)
    );
    if kind != Kind::Tcp {
        text += " http-reuse always\n option forwardfor\n";
    }
    let mut secure = String::new();
    if kind == Kind::Https {
        certificate(site.dir.path())?;
        let both = site.dir.path().join("tls.both");
        secure = format!(" ssl crt {} ciphersuites {CIPHER} alpn h2,http/1.1", both.display());
    }
    let section = |name: &str, address: SocketAddr, targets: [SocketAddr; 2], headers: &str| {
        format!("listen {name}\n bind {address}{secure}\n{headers}{}", servers(targets))
    };
    let headers = match kind {
        Kind::Http | Kind::Https => {
            " http-request set-header X-Forwarded-Proto http\n \
            http-request set-header X-Forwarded-Proto https if { ssl_fc }\n \
            http-request set-header X-Forwarded-Port %[dst_port]\n \
            http-request set-header X-Amzn-Trace-Id Root=1-%[date,hex]-%[uuid] \
            unless { req.hdr(X-Amzn-Trace-Id) -m found }\n"
        }
        // What makes it cheapest for bulk, and leaves small exchanges as they are.
        Kind::Tcp => " option splice-auto\n",
    };
    let rule = |number| format!(" use_backend ruled if {{ path_beg {RULED}{number}/ }}\n");
    let rules: String = (1..=options.rules).map(rule).collect();
    let web = targets(site.network, PORT);
    text += &section("web", address, web, &format!("{headers}{rules}"));
    if options.rules > 0 {
        text += &format!("backend ruled\n{}", servers(web));
    }
    if kind == Kind::Tcp {
        let bulk = SocketAddr::new(address.ip(), BULK);
        text += &section("bulk", bulk, site.targets_of_bulk(), headers);
    }
    let dir = own(site, options, "haproxy")?;
    let config = dir.join("haproxy.cfg");
    fs::write(&config, text)?;
    let config = config.display().to_string();
    let program = Program::Haproxy.require()?;
    let arguments = ["-db", "-f", &config];
    Running::start("haproxy", &program, site.cores.program, &dir, &arguments)
}

/// HAProxy's.
fn servers([first, second]: [SocketAddr; 2]) -> String {
    format!(" server a {first} check inter 30s\n server b {second} check inter 30s\n")
}

fn nginx(
    kind: Kind,
    site: &Site,
    options: &Options,
    address: SocketAddr,
) -> anyhow::Result<Running> {
    let dir = &own(site, options, "nginx")?;
    let base = nginx_base(dir, "nginx", 2 * connections(kind));
    let text = match kind {
        Kind::Http | Kind::Https => {
            let mut secure = String::new();
            if kind == Kind::Https {
                certificate(site.dir.path())?;
                let dir = site.dir.path().display();
                secure = format!(
                    "ssl_certificate {dir}/tls.pem; ssl_certificate_key {dir}/tls.key;
                    ssl_protocols TLSv1.2 TLSv1.3; ssl_conf_command Ciphersuites {CIPHER};"
                );
            }
            let http = nginx_http((site, dir), options, address, &secure);
            format!("{base}\nhttp {{\n{http}\n}}\n")
        }
        Kind::Tcp => {
            let load = match Path::new(STREAM_MODULE).is_file() {
                true => format!("load_module {STREAM_MODULE};\n"),
                false => String::new(),
            };
            let bulk = SocketAddr::new(address.ip(), BULK);
            let web = nginx_stream("web", address, targets(site.network, PORT));
            let bulk = nginx_stream("bulk", bulk, site.targets_of_bulk());
            format!("{load}{base}\nstream {{\n{web}{bulk}\n}}\n")
        }
    };
    let config = dir.join("nginx.conf");
    fs::write(&config, text)?;
    let config = config.display().to_string();
    let program = Program::Nginx.require()?;
    Running::start("nginx", &program, site.cores.program, dir, &["-c", &config])
        .map_err(|error| error.context("TCP needs the Debian package libnginx-mod-stream"))
}

fn nginx_http(
    (site, dir): (&Site, &Path),
    options: &Options,
    address: SocketAddr,
    secure: &str,
) -> String {
    let tls = if secure.is_empty() { "" } else { " ssl http2" };
    let dir = dir.display();
    let log = match options.access_log {
        true => format!("access_log {dir}/nginx-access.log combined buffer=64k flush=1s;"),
        false => "access_log off;".to_owned(),
    };
    let [first, second] = targets(site.network, PORT);
    let location = |path: String| format!("location {path} {{ proxy_pass http://web; }}\n");
    let rules = (1..=options.rules).map(|number| format!("{RULED}{number}/"));
    let locations: String = rules.chain(["/".to_owned()]).map(location).collect();
    format!(
        "{log}
        client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
        fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
        keepalive_timeout 1h; keepalive_requests 1000000000;
        client_header_timeout 60s; client_body_timeout 60s; client_max_body_size 0;
        upstream web {{
            server {first}; server {second};
            keepalive 256; keepalive_requests 1000000000; keepalive_timeout 1h;
        }}
        server {{
            listen {address} backlog=4096{tls}; {secure}
            proxy_http_version 1.1;
            proxy_connect_timeout 10s;
            proxy_max_temp_file_size 0;
            proxy_set_header Connection \"\";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Amzn-Trace-Id \"Root=1-$request_id\";
            {locations}
        }}"
    )
}

fn nginx_stream(name: &str, address: SocketAddr, targets: [SocketAddr; 2]) -> String {
    let [first, second] = targets;
    format!(
        "upstream {name} {{ server {first}; server {second}; }}
        server {{
            listen {address} backlog=4096;
            proxy_pass {name};
            proxy_connect_timeout 10s; proxy_timeout 350s;
        }}\n"
    )
}

fn nginx_base(dir: &Path, name: &str, connections: usize) -> String {
    let dir = dir.display();
    format!(
        "daemon off; user root; worker_processes 1; pid {dir}/{name}.pid;
        error_log {dir}/{name}.log warn;
        events {{ worker_connections {}; }}",
        connections + 64
    )
}
