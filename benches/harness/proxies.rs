//! Roadstead, HAProxy and nginx as proxies in front of the same two targets.
//!
//! All do the same work: the headers that ALB adds, limits on connections and time, connections to
//! targets that are kept, round robin, one thread on one core, the access log on or off for all.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
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
/// Client connections that each program is set to take. HAProxy takes four files for each, and does
/// not start when the system gives it fewer.
const CONNECTIONS: usize = 4_000;
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
}

impl Contestant {
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
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
                }}
            }}",
            base = nginx_base(dir.path(), "target")
        );
        fs::write(&config, text)?;
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

/// Starts the three; one that is missing or does not come up is named and left out.
pub(crate) fn proxies(kind: Kind, site: &Site, options: &Options) -> Vec<Contestant> {
    type Start = fn(Kind, &Site, &Options, SocketAddr) -> anyhow::Result<Running>;
    let mut all: Vec<(&str, u8, Start)> =
        vec![("roadstead", 1, start_native), ("haproxy", 2, haproxy), ("nginx", 3, nginx)];
    if kind != Kind::Tcp {
        all.insert(1, ("roadstead, pingora", 4, start_pingora));
    }
    let mut contestants = Vec::new();
    for (name, host, start) in all {
        let address = site.network.address(host, PORT);
        let started = start(kind, site, options, address).and_then(|mut running| {
            until(&mut running, "its first answer", || match kind {
                Kind::Https => answers_tls(address),
                Kind::Http | Kind::Tcp => answers_http(address),
            })?;
            Ok(Contestant { name, is_secure: kind == Kind::Https, running, address })
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
    let dir = &site.dir.path().join(carrier);
    fs::create_dir_all(dir)?;
    let (ip, port) = (address.ip(), address.port());
    let (metrics, api) = (SocketAddr::new(ip, 9180), SocketAddr::new(ip, 4566));
    let mut text = format!("data_dir = {:?}\nthreads = 1\n", dir.join("roadstead"));
    if options.access_log && kind != Kind::Tcp {
        text += &format!("access_log = {{ path = {:?} }}\n", dir.join("roadstead-access.log"));
    }
    text += &format!(
        "log.level = \"warn\"\ndns.addresses = []\nmetrics.address = \"{metrics}\"\n\
        api.address = \"{api}\"\n\
        limits.max_connections = {CONNECTIONS}\n"
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
    let group = |name: &str, port: u16, targets: [SocketAddr; 2]| {
        let [first, second] = targets;
        format!(
            "[[load_balancer.listener]]\nport = {port}\n{carrier}target_group = \"{name}\"\n\
            [[target_group]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\n\
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
        "global\n nbthread 1\n maxconn {CONNECTIONS}\n {to_stdout}\n\
        defaults\n mode {mode}\n maxconn {CONNECTIONS}\n timeout connect 10s\n\
        \x20timeout client {idle}\n timeout server {idle}\n timeout http-request 60s\n\
        \x20timeout http-keep-alive 60s\n retries 1\n option redispatch\n balance roundrobin\n\
        \x20{logged}\n"
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
        let [first, second] = targets;
        format!(
            "listen {name}\n bind {address}{secure}\n{headers} server a {first} check inter 30s\n \
            server b {second} check inter 30s\n"
        )
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
    text += &section("web", address, targets(site.network, PORT), headers);
    if kind == Kind::Tcp {
        let bulk = SocketAddr::new(address.ip(), BULK);
        text += &section("bulk", bulk, site.targets_of_bulk(), headers);
    }
    let config = site.dir.path().join("haproxy.cfg");
    fs::write(&config, text)?;
    let config = config.display().to_string();
    let program = Program::Haproxy.require()?;
    let arguments = ["-db", "-f", &config];
    Running::start("haproxy", &program, site.cores.program, site.dir.path(), &arguments)
}

fn nginx(
    kind: Kind,
    site: &Site,
    options: &Options,
    address: SocketAddr,
) -> anyhow::Result<Running> {
    let dir = site.dir.path();
    let base = nginx_base(dir, "nginx");
    let text = match kind {
        Kind::Http | Kind::Https => {
            let mut secure = String::new();
            if kind == Kind::Https {
                certificate(dir)?;
                let dir = dir.display();
                secure = format!(
                    "ssl_certificate {dir}/tls.pem; ssl_certificate_key {dir}/tls.key;
                    ssl_protocols TLSv1.2 TLSv1.3; ssl_conf_command Ciphersuites {CIPHER};"
                );
            }
            format!("{base}\nhttp {{\n{}\n}}\n", nginx_http(site, options, address, &secure))
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

fn nginx_http(site: &Site, options: &Options, address: SocketAddr, secure: &str) -> String {
    let tls = if secure.is_empty() { "" } else { " ssl http2" };
    let dir = site.dir.path().display();
    let log = match options.access_log {
        true => format!("access_log {dir}/nginx-access.log combined buffer=64k flush=1s;"),
        false => "access_log off;".to_owned(),
    };
    let [first, second] = targets(site.network, PORT);
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
            location / {{
                proxy_pass http://web;
                proxy_http_version 1.1;
                proxy_connect_timeout 10s;
                proxy_set_header Connection \"\";
                proxy_set_header Host $host;
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                proxy_set_header X-Forwarded-Proto $scheme;
                proxy_set_header X-Forwarded-Port $server_port;
                proxy_set_header X-Amzn-Trace-Id \"Root=1-$request_id\";
            }}
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

fn nginx_base(dir: &Path, name: &str) -> String {
    let dir = dir.display();
    format!(
        "daemon off; user root; worker_processes 1; pid {dir}/{name}.pid;
        error_log {dir}/{name}.log warn;
        events {{ worker_connections {}; }}",
        2 * CONNECTIONS + 64
    )
}
