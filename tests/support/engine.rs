//! A Docker Engine of a test's own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::docker::Image;
use crate::support;

/// One more daemon, with a socket, folders and a bridge of its own; it ends with the test.
#[derive(Debug)]
pub(crate) struct Engine {
    folder: tempfile::TempDir,
    bridge: String,
    daemon: Child,
}

/// The daemon whose files are in `folder`.
fn spawn(folder: &Path, bridge: &str) -> Child {
    let path = |name: &str| folder.join(name);
    let log = std::fs::File::options().create(true).append(true).open(path("log")).unwrap();
    Command::new("dockerd")
        .arg("--config-file")
        .arg(path("daemon.json"))
        .args(["--host", &format!("unix://{}", path("d.sock").display())])
        .arg("--data-root")
        .arg(path("data"))
        .arg("--exec-root")
        .arg(path("exec"))
        .arg("--pidfile")
        .arg(path("pid"))
        .args(["--bridge", bridge, "--iptables=false", "--ip-forward=false", "--ip-masq=false"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Engine {
    /// None where no second daemon can be had.
    pub(crate) async fn start(number: u8) -> Option<Self> {
        Self::start_with(number, false).await
    }

    /// With live restore its containers survive it.
    pub(crate) async fn start_with(number: u8, survives: bool) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let process = std::process::id();
        let bridge = format!("rst{process}-{number}");
        let own = IpAddr::from([10, 224 + number, u8::try_from(process % 256).unwrap(), 1]);
        let address = format!("{own}/24");
        let made = quiet("ip", &["link", "add", &bridge, "type", "bridge"])
            && quiet("ip", &["address", "add", &address, "dev", &bridge])
            && quiet("ip", &["link", "set", &bridge, "up"]);
        if !made {
            support::skip("no bridge can be made");
            return None;
        }
        let driver = Command::new("docker").args(["info", "-f", "{{.Driver}}"]).output().unwrap();
        let driver = String::from_utf8_lossy(&driver.stdout).trim().to_owned();
        let settings = format!("{{\"storage-driver\": {driver:?}, \"live-restore\": {survives}}}");
        std::fs::write(folder.path().join("daemon.json"), settings).unwrap();
        let daemon = spawn(folder.path(), &bridge);
        let engine = Self { folder, bridge, daemon };
        support::until("the second daemon", || engine.docker(&["info"])).await;
        Some(engine)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("d.sock")
    }

    pub(crate) fn docker(&self, arguments: &[&str]) -> bool {
        let host = format!("unix://{}", self.socket().display());
        quiet("docker", &[&["-H", &host], arguments].concat())
    }

    /// Ends the daemon as a service would be, and starts it again.
    pub(crate) async fn restart(&mut self) {
        quiet("kill", &[&self.daemon.id().to_string()]);
        support::until("the daemon to end", || self.daemon.try_wait().unwrap().is_some()).await;
        self.daemon = spawn(self.folder.path(), &self.bridge);
        support::until("the daemon to be back", || self.docker(&["info"])).await;
    }

    /// Ids of its containers, running or not.
    pub(crate) fn containers(&self) -> BTreeSet<String> {
        self.says(&["ps", "-aq", "--no-trunc"]).lines().map(str::to_owned).collect()
    }

    /// Takes an image over from the shared daemon.
    pub(crate) fn load(&self, image: &Image) {
        let mut saved =
            Command::new("docker").args(["save", &image.0]).stdout(Stdio::piped()).spawn().unwrap();
        let loaded = Command::new("docker")
            .args(["-H", &format!("unix://{}", self.socket().display()), "load"])
            .stdin(saved.stdout.take().unwrap())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(saved.wait().unwrap().success() && loaded.success());
    }

    /// What the daemon says to a command.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let host = format!("unix://{}", self.socket().display());
        let output = Command::new("docker").args(["-H", &host]).args(arguments).output().unwrap();
        let (out, error) = (output.stdout, output.stderr);
        [out, error].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
    }

    /// Containers that run.
    pub(crate) fn running(&self) -> usize {
        self.says(&["ps", "-q"]).lines().count()
    }

    /// Nobody reaches it any more; its containers do not notice.
    pub(crate) fn hide(&self) {
        std::fs::rename(self.socket(), self.folder.path().join("hidden.sock")).unwrap();
    }

    pub(crate) fn show(&self) {
        std::fs::rename(self.folder.path().join("hidden.sock"), self.socket()).unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let hidden = self.folder.path().join("hidden.sock");
        if hidden.exists() {
            let _ = std::fs::rename(hidden, self.socket());
        }
        let host = format!("unix://{}", self.socket().display());
        let all = Command::new("docker").args(["-H", &host, "ps", "-aq"]).output();
        let all = all.map(|all| String::from_utf8_lossy(&all.stdout).into_owned());
        for id in all.unwrap_or_default().lines() {
            self.docker(&["rm", "-f", id]);
        }
        quiet("kill", &[&self.daemon.id().to_string()]);
        let _ = self.daemon.wait();
        quiet("ip", &["link", "delete", &self.bridge]);
    }
}

fn quiet(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
