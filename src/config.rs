//! Process settings: everything of the configuration file that is not a resource, and the words
//! for time.
//!
//! Plain values with their defaults; `api::file` reads the file and reports what is wrong with
//! it. Relative paths are relative to the working directory of the process. **Invariant:**
//! [`Settings::default`] is a complete, valid configuration, and is what an empty file means.

mod images;
mod instance;
mod time;
mod url;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::model::{Account, HOST_PORTS, HostPortRange, Pool};

pub use self::images::{ImageSettings, PullBehaviour};
pub use self::instance::{InstanceSettings, Reserve};
use self::time::text;
pub use self::time::{BadTime, Time};
pub use url::{BadUrl, Place, PlainUrl};

/// More data threads than this is a typing error.
const MOST_THREADS: usize = 1024;

/// How this process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Journal, lock, control socket, logs of tasks.
    pub data_dir: PathBuf,
    /// Whose resources these are: part of every ARN and DNS name.
    pub account: Account,
    /// The domain of load balancers' DNS names.
    pub domain: String,
    /// Data threads; 0 stands for one per core that this process may use.
    pub threads: usize,
    /// How long open exchanges may go on after a stop signal.
    pub shutdown_grace: Duration,
    pub on_exit: OnExit,
    pub log: LogSettings,
    pub access_log: AccessLogSettings,
    pub health_log: HealthLogSettings,
    pub metrics: MetricsSettings,
    pub api: ApiSettings,
    pub events: EventSettings,
    pub metadata: MetadataSettings,
    pub dns: DnsSettings,
    pub elb: ElbSettings,
    pub runtime: RuntimeSettings,
    /// Empty: the one that `runtime` tells of.
    pub instance: Vec<InstanceSettings>,
    pub limits: Limits,
    pub autoscaling: AutoscalingSettings,
}

/// What becomes of the tasks when this process ends in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// They live on and are adopted at the next start.
    #[default]
    Leave,
    Stop,
}

/// `[log]`: our own log on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// `[access_log]`: ALB's access log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogSettings {
    /// None: off.
    pub path: Option<PathBuf>,
}

/// `[health_log]`: ALB's health check log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthLogSettings {
    /// None: off.
    pub path: Option<PathBuf>,
}

/// `[metrics]`: the listener of `/metrics`, `/healthz` and `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsSettings {
    pub address: SocketAddr,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self { address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9180) }
    }
}

/// `[api]`: the endpoint of the AWS APIs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    pub address: SocketAddr,
    pub auth: ApiAuth,
    /// PEM files, both or neither. None: it speaks plain HTTP.
    pub certificate: Option<PathBuf>,
    pub private_key: Option<PathBuf>,
    /// None: off.
    pub audit_log: Option<PathBuf>,
    /// Beside those of the data directory's `credentials`.
    pub key: Vec<KeySettings>,
}

/// `[[api.key]]`: an access key and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// Whose it is, IAM's user name.
    pub name: String,
    pub id: String,
    /// One line; readable by its owner alone.
    pub secret_file: PathBuf,
    /// IAM policy documents. None: it may do everything.
    pub policies: Option<Vec<PathBuf>>,
}

impl Default for ApiSettings {
    fn default() -> Self {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 4566);
        Self {
            address,
            auth: ApiAuth::default(),
            certificate: None,
            private_key: None,
            audit_log: None,
            key: Vec::new(),
        }
    }
}

/// What the API endpoint asks of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiAuth {
    /// A signature by a key of the data directory's `credentials`.
    #[default]
    Sigv4,
    /// Nothing: whoever reaches the address may do everything.
    None,
}

/// `[events]`: what changes in the State, told as ECS tells EventBridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    /// Where each is posted. None: nowhere.
    pub webhook: Option<PlainUrl>,
}

/// `[metadata]`: where tasks ask about themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataSettings {
    pub enabled: bool,
    /// For processes and tasks in the machine's network; others find its port at the address that
    /// the machine has in their network.
    pub address: SocketAddr,
}

impl Default for MetadataSettings {
    fn default() -> Self {
        // The port of the ECS agent's.
        Self { enabled: true, address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 51679) }
    }
}

/// `[dns]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsSettings {
    /// Answered over UDP and TCP. Empty: no DNS.
    pub addresses: Vec<SocketAddr>,
    /// Whether containers ask us for names, at port 53 …
    pub tasks: bool,
    /// … of this address. None: of the machine's in their network.
    pub task_address: Option<IpAddr>,
    /// Whom names that are not ours are asked of for them. Empty: whom the machine asks.
    pub resolvers: Vec<SocketAddr>,
}

impl Default for DnsSettings {
    fn default() -> Self {
        let addresses = vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 5533)];
        Self { addresses, tasks: true, task_address: None, resolvers: Vec::new() }
    }
}

/// `[elb]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ElbSettings {
    /// Where load balancers without an address of their own get one.
    pub addresses: Pool,
    /// One or two secrets, a line each, that seal the cookies of stickiness; processes that share
    /// them take each other's cookies. None: keys of our own in the journal.
    pub cookie_key_file: Option<PathBuf>,
    /// Stands for S3 where trust stores are made: a bucket is a folder in it. None: there is none.
    pub trust_store_folder: Option<PathBuf>,
    /// PEM: who vouches for identity providers. None: whom the system trusts.
    pub identity_ca_file: Option<PathBuf>,
}

impl Default for ElbSettings {
    fn default() -> Self {
        let addresses = block([127, 0, 10, 0], 24);
        Self { addresses, cookie_key_file: None, trust_store_folder: None, identity_ca_file: None }
    }
}

/// `[runtime]`: what starts the tasks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeSettings {
    pub kind: RuntimeKind,
    /// Where tasks of the process runtime get their addresses.
    pub addresses: Pool,
    /// Where Docker Engine listens.
    pub docker_endpoint: String,
    /// The Docker network that tasks join. None: Docker's default bridge.
    pub docker_network: Option<String>,
    /// Where ports of the host are chosen from for tasks on Docker.
    pub host_ports: HostPortRange,
    /// How long the address of a task that stopped is given to no other.
    #[serde(with = "text")]
    pub quarantine: Duration,
    /// A task that nothing checks counts as healthy after it has run for this long.
    #[serde(with = "text")]
    pub healthy_after: Duration,
    /// When a container instance that does not answer has its services' tasks replaced elsewhere.
    #[serde(with = "text")]
    pub lost_after: Duration,
    /// Of Docker.
    pub images: ImageSettings,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        Self {
            kind: RuntimeKind::default(),
            addresses: block([127, 64, 0, 0], 16),
            docker_endpoint: "unix:///var/run/docker.sock".to_owned(),
            docker_network: None,
            host_ports: HOST_PORTS,
            quarantine: Duration::from_secs(60),
            healthy_after: Duration::from_secs(40),
            lost_after: Duration::from_secs(300),
            images: ImageSettings::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    #[default]
    Process,
    Docker,
}

impl RuntimeKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
        }
    }
}

/// `[limits]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Client connections open at once on one listener; more are closed at once.
    pub max_connections: usize,
    /// The same of one client address on one listener; 0: no cap.
    pub max_connections_per_client: usize,
    /// Wait after the first task of a service that failed to start or died young; doubles with
    /// each one.
    #[serde(with = "text")]
    pub crash_backoff: Duration,
    /// What that wait never exceeds.
    #[serde(with = "text")]
    pub crash_backoff_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_client: 0,
            crash_backoff: Duration::from_secs(1),
            crash_backoff_max: Duration::from_secs(300),
        }
    }
}

/// `[autoscaling]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AutoscalingSettings {
    pub profile: ScalingProfile,
}

/// How fast scaling follows its metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScalingProfile {
    /// As AWS: a period is a minute.
    #[default]
    Faithful,
    /// The same rules with seconds for minutes.
    Fast,
}

impl ScalingProfile {
    /// What stands for a minute.
    #[must_use]
    pub const fn period(self) -> Duration {
        match self {
            Self::Faithful => Duration::from_secs(60),
            Self::Fast => Duration::from_secs(1),
        }
    }

    /// Between two samples of our own metrics.
    #[must_use]
    pub const fn step(self) -> Duration {
        match self {
            Self::Faithful => Duration::from_secs(10),
            Self::Fast => Duration::from_secs(1),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: "var/roadstead".into(),
            account: Account::new("local", "000000000000"),
            domain: "roadstead.internal".to_owned(),
            threads: 0,
            shutdown_grace: Duration::from_secs(30),
            on_exit: OnExit::default(),
            log: LogSettings::default(),
            access_log: AccessLogSettings::default(),
            health_log: HealthLogSettings::default(),
            metrics: MetricsSettings::default(),
            api: ApiSettings::default(),
            events: EventSettings::default(),
            metadata: MetadataSettings::default(),
            dns: DnsSettings::default(),
            elb: ElbSettings::default(),
            runtime: RuntimeSettings::default(),
            instance: Vec::new(),
            limits: Limits::default(),
            autoscaling: AutoscalingSettings::default(),
        }
    }
}

/// A setting whose value has the right form and makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct BadSetting {
    /// As in the file, `limits.max_connections`.
    pub key: &'static str,
    pub reason: String,
}

impl Settings {
    /// The number of data threads to start.
    #[must_use]
    pub fn data_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }

    /// # Errors
    /// The first setting that makes no sense.
    pub fn check(&self) -> Result<(), BadSetting> {
        let Account { region, id, others, .. } = &self.account;
        let label = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let endpoint = &self.runtime.docker_endpoint;
        let labelled = others.iter().all(|other| label(other));
        let known = |at: usize, other: &String| other == region || others[..at].contains(other);
        let apart = others.iter().enumerate().all(|(at, other)| !known(at, other));
        let checks = [
            ("data_dir", !self.data_dir.as_os_str().is_empty(), "must not be empty"),
            ("region", label(region), "must be letters, digits and hyphens"),
            ("regions", labelled, "must each be letters, digits and hyphens"),
            ("regions", apart, "must be different from each other and from region"),
            (
                "account",
                id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit()),
                "must be twelve digits",
            ),
            ("domain", self.domain.split('.').all(label), "must be a domain name"),
            ("threads", self.threads <= MOST_THREADS, "must be at most 1024"),
            (
                "api.auth",
                self.api.auth == ApiAuth::Sigv4 || self.api.address.ip().is_loopback(),
                "must be sigv4 unless api.address is a loopback address",
            ),
            (
                "api.private_key",
                self.api.certificate.is_some() == self.api.private_key.is_some(),
                "belongs to api.certificate: both or neither",
            ),
            (
                "metadata.address",
                self.metadata.address.ip().is_loopback() && self.metadata.address.port() != 0,
                "must be a loopback address and a port",
            ),
            (
                "dns.task_address",
                self.dns.task_address.is_none_or(is_for_containers),
                "must be an address at which containers reach this machine",
            ),
            ("dns.resolvers", self.dns.resolvers.len() <= 3, "must be at most 3"),
            (
                "runtime.docker_endpoint",
                endpoint.starts_with("unix:///"),
                "must be a socket such as unix:///var/run/docker.sock",
            ),
            (
                "runtime.docker_network",
                self.runtime.docker_network.as_deref().is_none_or(has_addresses),
                "must be a network in which containers have addresses",
            ),
            ("limits.max_connections", self.limits.max_connections > 0, "must be at least 1"),
            (
                "limits.crash_backoff",
                self.limits.crash_backoff <= self.limits.crash_backoff_max,
                "must not be greater than crash_backoff_max",
            ),
        ];
        match checks.into_iter().find(|(_, good, _)| !good) {
            Some((key, _, reason)) => Err(BadSetting { key, reason: reason.to_owned() }),
            None => instance::check(&self.instance),
        }
    }
}

fn block(network: [u8; 4], prefix: u8) -> Pool {
    let text = format!("{}/{prefix}", Ipv4Addr::from(network));
    text.parse().unwrap_or_else(|_| unreachable!("{text} is a block"))
}

/// A loopback address is each container's own.
fn is_for_containers(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

/// Not so in Docker's host, none and container: networks.
fn has_addresses(network: &str) -> bool {
    !network.is_empty()
        && !["host", "none"].contains(&network)
        && !network.starts_with("container:")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, millis: Option<u64>) {
        let time = text.parse::<Time>().ok();
        assert_eq!(time, millis.map(|m| Time(Duration::from_millis(m))), "{text}");
    }

    #[test]
    fn times_are_a_number_and_a_unit() {
        check("100ms", Some(100));
        check("30s", Some(30_000));
        check("5m", Some(300_000));
        check("1h", Some(3_600_000));
        check("0s", Some(0));
        check("", None);
        check("30", None);
        check("s", None);
        check("-1s", None);
        check("1.5s", None);
        check("1 s", None);
        check("1d", None);
        check("18446744073709551615h", None);
        check("99999999h", None);
    }

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Settings::default().check(), Ok(()));
        assert!(Settings::default().data_threads() > 0);
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let mut settings = Settings::default();
        settings.limits.max_connections = 0;
        let bad = settings.check().unwrap_err();
        assert_eq!(bad.to_string(), "limits.max_connections: must be at least 1");
    }

    proptest! {
        #[test]
        fn time_reads_back_what_it_prints(millis in 0u64..10_000_000_000) {
            let time = Time(Duration::from_millis(millis));
            prop_assert_eq!(time.to_string().parse::<Time>().unwrap(), time);
        }

        #[test]
        fn no_text_makes_the_time_parser_panic(text in ".{0,30}") {
            let _ = text.parse::<Time>();
        }
    }
}
