//! Addresses of the bench's own, and whether something answers there.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use roadstead::clock;

use super::{Running, progress};

/// Says to a bench that the network it is in is its own.
const OWN: &str = "ROADSTEAD_BENCH_NETWORK";

/// Whether this process is in a network of its own.
pub(crate) fn is_alone() -> bool {
    std::env::var_os(OWN).is_some()
}

/// This program once more, in a network namespace of its own, where no firewall of the host costs
/// as much per packet as a proxy's own work; whether it succeeded. None: this is it already, or
/// there can be none (it takes root, and Debian's `util-linux` and `iproute2`). Its settings
/// (`net.*`) are those that new namespaces have.
pub(crate) fn alone(arguments: &[String]) -> Option<bool> {
    if is_alone() {
        return None;
    }
    let within = |script: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", "unshare", "--net", "--"]);
        command.args(["sh", "-c", script]);
        command
    };
    let tried = within("ip link set lo up").output().ok()?;
    if !tried.status.success() {
        let words = String::from_utf8_lossy(&tried.stderr);
        progress(&format!("no network of its own: {}", words.trim()));
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let mut command = within("ip link set lo up && exec \"$0\" \"$@\"");
    let status = command.arg(program).args(arguments).env(OWN, "own").status();
    status.ok().map(|status| status.success())
}

/// For a program to answer after its start.
const DEADLINE: Duration = Duration::from_secs(30);
/// For one try.
const TRY: Duration = Duration::from_secs(1);

/// A block of loopback addresses that no other bench and no test uses at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network([u8; 2]);

impl Network {
    /// Chosen at random: 127.64.0.0/16 and 127.0.0.0/16 are others'.
    pub(crate) fn new() -> Self {
        Self([fastrand::u8(100..250), fastrand::u8(1..250)])
    }

    pub(crate) fn address(self, host: u8, port: u16) -> SocketAddr {
        let [second, third] = self.0;
        SocketAddr::from(([127, second, third, host], port))
    }
}

/// Waits for `condition`, as long as `running` lives.
pub(crate) fn until(
    running: &mut Running,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let since = clock::instant();
    while !condition() {
        running.check_alive()?;
        let words = running.last_words();
        anyhow::ensure!(since.elapsed() < DEADLINE, "waited in vain for {what}: {words}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Whether a GET of `/` is answered with 200.
pub(crate) fn answers_http(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, TRY)?;
        stream.set_read_timeout(Some(TRY))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer.starts_with(b"HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}

/// How many records a DNS query is answered with: NOERROR and its count of answers.
pub(crate) fn answers_with(address: SocketAddr, query: &[u8]) -> Option<u16> {
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket.set_read_timeout(Some(TRY)).ok()?;
    socket.send_to(query, address).ok()?;
    let mut answer = [0; 1232];
    let length = socket.recv(&mut answer).ok()?;
    let good = length >= 12 && answer[..2] == query[..2] && answer[3] & 0x0f == 0;
    good.then(|| u16::from_be_bytes([answer[6], answer[7]]))
}
