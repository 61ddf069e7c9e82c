//! The programs that benches start: where they are, what they are called in Debian.

use std::path::PathBuf;
use std::process::Command;

/// Debian puts servers where an ordinary PATH does not look.
const ALSO: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    Haproxy,
    Nginx,
    Knot,
    Unbound,
    Wrk,
    H2load,
    Dnsperf,
}

impl Program {
    pub(crate) const ALL: [Self; 7] = [
        Self::Haproxy,
        Self::Nginx,
        Self::Knot,
        Self::Unbound,
        Self::Wrk,
        Self::H2load,
        Self::Dnsperf,
    ];

    const fn file(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Knot => "knotd",
            Self::Unbound => "unbound",
            Self::Wrk => "wrk",
            Self::H2load => "h2load",
            Self::Dnsperf => "dnsperf",
        }
    }

    pub(crate) const fn package(self) -> &'static str {
        match self {
            Self::Knot => "knot",
            Self::H2load => "nghttp2-client",
            _ => self.file(),
        }
    }

    pub(crate) fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(ALSO.map(PathBuf::from));
        folders.map(|folder| folder.join(self.file())).find(|file| file.is_file())
    }

    pub(crate) fn require(self) -> anyhow::Result<PathBuf> {
        let missing =
            || anyhow::anyhow!("{} is not installed (Debian: {})", self.file(), self.package());
        self.find().ok_or_else(missing)
    }

    /// Its name and the first word of its own words about its version that begins with a digit.
    pub(super) fn version(self) -> String {
        let option = match self {
            Self::Nginx | Self::Haproxy | Self::Wrk => "-v",
            Self::Unbound => "-V",
            Self::Dnsperf => "-h",
            Self::Knot | Self::H2load => "--version",
        };
        let output = self.find().and_then(|file| Command::new(file).arg(option).output().ok());
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let words = text.split_whitespace().filter_map(|word| word.rsplit('/').next());
        let mut versions = words
            .filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
        format!("{} {}", self.package(), versions.next().unwrap_or_default())
    }
}

/// The program under test, as Cargo built it for this bench.
pub(crate) fn roadstead() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_roadstead"))
}
