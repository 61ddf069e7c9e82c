//! Requests to Docker Engine: the connection, every timeout, retries, and what errors mean.
//!
//! **Invariant:** no request waits longer than its timeout, head and body together. The client
//! library limits the head alone, so its own limit is set out of the way.

use std::future::Future;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, ImageInspect};
use bollard::{API_DEFAULT_VERSION, Docker as Client};

use super::network;
use crate::model::{CORE, Capacity};
use crate::runtime::RuntimeError;

// The ECS agent's timeouts for the same calls (`dockerclient/timeout.go`), where it has them.
pub(super) const CREATE: Duration = Duration::from_secs(4 * 60);
pub(super) const START: Duration = Duration::from_secs(3 * 60);
/// On top of the container's own grace.
pub(super) const STOP: Duration = Duration::from_secs(30);
pub(super) const REMOVE: Duration = Duration::from_secs(5 * 60);
const INSPECT: Duration = Duration::from_secs(30);
pub(super) const REMOVE_IMAGE: Duration = Duration::from_secs(3 * 60);
/// Until a pull says its first word.
pub(super) const PULL_BEGIN: Duration = Duration::from_secs(5 * 60);
/// A pull may take long, but not without a word.
pub(super) const PULL_SILENCE: Duration = Duration::from_secs(60);
pub(super) const PULL: Duration = Duration::from_secs(2 * 60 * 60);
pub(super) const VOLUME: Duration = Duration::from_secs(2 * 60);
pub(super) const STATS: Duration = Duration::from_secs(18);
// Ours: the agent waits ten minutes for a list, and a reconcile pass cannot.
pub(super) const LIST: Duration = Duration::from_secs(60);
pub(super) const PING: Duration = Duration::from_secs(5);

/// A request that changes nothing, or nothing more the second time, is tried so often.
const TRIES: u32 = 3;
/// Before the second try; doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The client library's own limit, longer than any of ours.
const NO_LIMIT_SECONDS: u64 = 24 * 60 * 60;

/// What came of a request.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such thing.
    Gone(String),
    /// 409: the name is taken, or it runs, or is being removed.
    Conflict(String),
    /// Docker understood, and says no.
    Refused(String),
    Timeout(String),
    Unavailable(String),
}

impl Failure {
    /// As an error of the call that `kind` stands for.
    pub(super) fn into_error(self, kind: fn(String) -> RuntimeError) -> RuntimeError {
        match self {
            Self::Gone(text) => RuntimeError::Vanished(text),
            Self::Conflict(text) | Self::Refused(text) => kind(text),
            Self::Timeout(text) => RuntimeError::Timeout(text),
            Self::Unavailable(text) => RuntimeError::Unavailable(text),
        }
    }

    const fn is_passing(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Unavailable(_))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => match status_code {
                404 => Self::Gone(message),
                409 => Self::Conflict(message),
                // A proxy in between, or a daemon that is starting or stopping.
                502..=504 => Self::Unavailable(message),
                _ => Self::Refused(message),
            },
            Error::DockerStreamError { error } => Self::Refused(error),
            Error::RequestTimeoutError => Self::Timeout("docker does not answer".to_owned()),
            other => Self::Unavailable(format!("docker: {}", causes(&other))),
        }
    }
}

/// The error with what caused it: the client library's own words leave that out.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

#[derive(Debug)]
pub(super) struct Engine {
    /// Path of the daemon's socket.
    socket: String,
    /// Made at the first call that finds the socket there.
    client: OnceLock<Client>,
}

impl Engine {
    pub(super) fn new(endpoint: &str) -> Result<Self, RuntimeError> {
        match endpoint.strip_prefix("unix://").unwrap_or(endpoint) {
            socket if socket.starts_with('/') => {
                Ok(Self { socket: socket.to_owned(), client: OnceLock::new() })
            }
            _ => Err(RuntimeError::Unavailable(format!(
                "docker endpoint {endpoint}: not unix:// and the path of a socket"
            ))),
        }
    }

    /// The path of the daemon's socket.
    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    pub(super) fn client(&self) -> Result<Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client =
            Client::connect_with_unix(&self.socket, NO_LIMIT_SECONDS, API_DEFAULT_VERSION)?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// One request within its time.
    pub(super) async fn call<T, F>(
        &self,
        within: Duration,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let client = self.client()?;
        match tokio::time::timeout(within, request(client)).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure::Timeout(format!("docker: no answer in {within:?}"))),
        }
    }

    /// A request that may be made again when the daemon hiccups.
    pub(super) async fn retry<T, F>(
        &self,
        within: Duration,
        request: impl Fn(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut pause = RETRY_PAUSE;
        for _ in 1..TRIES {
            match self.call(within, &request).await {
                Err(failure) if failure.is_passing() => tokio::time::sleep(pause).await,
                other => return other,
            }
            pause *= 2;
        }
        self.call(within, &request).await
    }

    /// Where the machine is in a network. None: there is no such network, or we are not in it.
    pub(super) async fn gateway(&self, network: &str) -> Result<Option<IpAddr>, Failure> {
        let inspected = self.retry(INSPECT, |client| {
            let network = network.to_owned();
            async move { client.inspect_network(&network, None).await }
        });
        let network = match inspected.await {
            Ok(network) => network,
            Err(Failure::Gone(_)) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let all = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let subnets = all.into_iter().filter_map(|config| config.subnet);
        let own = subnets.filter_map(|subnet| network::own_address(&subnet));
        Ok(own.min_by_key(IpAddr::is_ipv6))
    }

    /// What the daemon's machine has.
    pub(super) async fn capacity(&self) -> Result<Capacity, Failure> {
        let info = self.call(PING, |client| async move { client.info().await }).await?;
        let cores = u32::try_from(info.ncpu.unwrap_or_default()).unwrap_or_default();
        let mib = u32::try_from(info.mem_total.unwrap_or_default() >> 20).unwrap_or_default();
        Ok(Capacity { cpu: cores.saturating_mul(CORE), memory_mib: mib })
    }

    /// What a reference stands for now. None: there is no such image.
    pub(super) async fn image(&self, reference: &str) -> Result<Option<ImageInspect>, Failure> {
        let inspected = self
            .retry(INSPECT, |client| async move { client.inspect_image(reference).await })
            .await;
        match inspected {
            Ok(image) => Ok(Some(image)),
            Err(Failure::Gone(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// None: there is no such container.
    pub(super) async fn inspect(
        &self,
        name: &str,
    ) -> Result<Option<ContainerInspectResponse>, Failure> {
        let inspected = self
            .retry(INSPECT, |client| {
                let name = name.to_owned();
                async move { client.inspect_container(&name, None).await }
            })
            .await;
        match inspected {
            Ok(container) => Ok(Some(container)),
            Err(Failure::Gone(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}
