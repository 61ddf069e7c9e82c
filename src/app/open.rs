//! Opening what a process needs before it serves: runtime, logs, the control side's listeners.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use super::{DataDir, STATUS_SOCKET, StartError};
use crate::api::Auth;
use crate::api::keys::Keys;
use crate::config::{ApiAuth, RuntimeKind, Settings};
use crate::logs::{AccessLog, AuditLog};
use crate::metrics::{Gauge, Metrics, names};
use crate::model::Transport;
use crate::net::{self, SocketKey};
use crate::runtime::Runtime;
use crate::runtime::docker::Docker;
use crate::runtime::process::Process;

pub(super) fn build_info(metrics: &Metrics) -> Gauge {
    let info = metrics.gauge(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")]);
    info.set(1);
    info
}

pub(super) fn io(what: &str, source: std::io::Error) -> StartError {
    StartError::Io { what: what.to_owned(), source }
}

pub(super) fn open_runtime(
    settings: &Settings,
    data_dir: &DataDir,
) -> Result<Arc<dyn Runtime>, StartError> {
    Ok(match settings.runtime.kind {
        RuntimeKind::Process => {
            Arc::new(Process::open(&data_dir.path().join("process"), data_dir.uid())?)
        }
        RuntimeKind::Docker => {
            let network = settings.runtime.docker_network.clone();
            let endpoint = &settings.runtime.docker_endpoint;
            let docker = Docker::connect(endpoint, data_dir.uid(), network)?;
            Arc::new(docker.keep_logs(&data_dir.path().join("logs")))
        }
    })
}

pub(super) fn open_logs(
    settings: &Settings,
    metrics: &Metrics,
) -> Result<(Option<AccessLog>, Option<AuditLog>), StartError> {
    let bad = |what: &str, path: &Path| {
        let what = format!("{what} {}", path.display());
        move |source| io(&what, source)
    };
    let access = settings.access_log.path.as_deref();
    let access = access
        .map(|path| AccessLog::open(path, metrics).map_err(bad("access log", path)))
        .transpose()?;
    let audit = settings.api.audit_log.as_deref();
    let audit = audit
        .map(|path| AuditLog::open(path, metrics).map_err(bad("audit log", path)))
        .transpose()?;
    Ok((access, audit))
}

/// A TCP listener of the control side, and the address that it has got.
pub(super) fn bind(
    address: SocketAddr,
    what: &str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let key = SocketKey { address, transport: Transport::Tcp };
    let socket = net::open(key, 1)?.remove(0);
    let listener = TcpListener::from_std(socket.into()).map_err(|source| io(what, source))?;
    let bound = listener.local_addr().map_err(|source| io(what, source))?;
    Ok((listener, bound))
}

pub(super) fn authentication(settings: &Settings, keys: Keys) -> Auth {
    match settings.api.auth {
        ApiAuth::None => Auth::None,
        ApiAuth::Sigv4 => Auth::Signatures(keys),
    }
}

/// The directory is 0700 and locked, so a socket found there is a dead predecessor's.
pub(super) fn bind_status(data_dir: &Path) -> Result<UnixListener, StartError> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = data_dir.join(STATUS_SOCKET);
    let bind = || {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|source| io(&format!("status socket {}", path.display()), source))
}
