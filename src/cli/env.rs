//! `roadstead env`: shell lines that point AWS clients at a `serve` of this machine.
//!
//! Reads the configuration file and the key that the first start made; asks no process.
//! **Invariant:** all lines or none, so `eval` of a failure changes nothing.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::api::file;
use crate::api::keys::{FILE, Key, Keys};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration file of the `serve` to be called.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let settings = file::load(&options.config)?.settings;
    let (address, is_secure) = (settings.api.address, settings.api.certificate.is_some());
    anyhow::ensure!(address.port() != 0, "api.address: port 0 leaves the endpoint unknown");
    let path = settings.data_dir.join(FILE);
    let keys = Keys::read(&path).context("no key; the first start of roadstead serve makes one")?;
    super::print(&lines((address, is_secure), &settings.account.region, keys.default_key()));
    Ok(())
}

fn lines((address, is_secure): (SocketAddr, bool), region: &str, key: &Key) -> String {
    let scheme = if is_secure { "https" } else { "http" };
    let url = format!("{scheme}://{}", SocketAddr::new(reachable(address.ip()), address.port()));
    let variables = [
        ("AWS_ENDPOINT_URL", url.as_str()),
        ("AWS_REGION", region),
        ("AWS_DEFAULT_REGION", region),
        ("AWS_ACCESS_KEY_ID", &key.id),
        ("AWS_SECRET_ACCESS_KEY", key.secret()),
        // Clients would put data-, and the like, before an address.
        ("AWS_DISABLE_HOST_PREFIX_INJECTION", "true"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    // Either would win over the key.
    let mut text = "unset AWS_SESSION_TOKEN AWS_PROFILE\n".to_owned();
    for (name, value) in variables {
        let _ = writeln!(text, "export {name}={}", quoted(value));
    }
    text
}

/// Where a client of this machine finds what listens on every address.
const fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    }
}

/// One word of the POSIX shell (2.2.2, single-quotes).
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shell that evaluates the lines then has.
    #[test]
    fn shell_reads_back_what_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        Keys::open(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let odd = "a'b\"c$(id)`id`\\;&|/+=";
        let text = "[default]\naws_access_key_id = AKIAAAAAAAAAAAAAAAAA\n\
                    aws_secret_access_key = ";
        std::fs::write(&path, format!("{text}{odd}\n")).unwrap();
        let keys = Keys::read(&path).unwrap();
        let check = |address: &str, url: &str| {
            let endpoint = (address.parse().unwrap(), url.starts_with("https"));
            let lines = lines(endpoint, "eu-west-1", keys.default_key());
            let script = format!(
                "{lines}printf '%s\\n' \"$AWS_ENDPOINT_URL\" \"$AWS_REGION\" \
                 \"$AWS_DEFAULT_REGION\" \"$AWS_ACCESS_KEY_ID\" \"$AWS_SECRET_ACCESS_KEY\" \
                 \"$AWS_DISABLE_HOST_PREFIX_INJECTION\" \"$AWS_EC2_METADATA_DISABLED\" \
                 \"${{AWS_SESSION_TOKEN-unset}}\" \"${{AWS_PROFILE-unset}}\""
            );
            let mut shell = std::process::Command::new("sh");
            shell.args(["-euc", &script]).env("AWS_SESSION_TOKEN", "t").env("AWS_PROFILE", "p");
            let output = String::from_utf8(shell.output().unwrap().stdout).unwrap();
            let read: Vec<_> = output.lines().collect();
            let id = "AKIAAAAAAAAAAAAAAAAA";
            let expected =
                [url, "eu-west-1", "eu-west-1", id, odd, "true", "true", "unset", "unset"];
            assert_eq!(read, expected);
        };
        check("127.0.0.1:4566", "http://127.0.0.1:4566");
        check("127.0.0.1:4566", "https://127.0.0.1:4566");
        check("0.0.0.0:4566", "http://127.0.0.1:4566");
        check("[::]:80", "http://[::1]:80");
        check("10.1.2.3:4566", "http://10.1.2.3:4566");
    }
}
