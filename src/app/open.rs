//! Opening what a process needs before it serves: keys, logs, the control side's listeners.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::{TcpListener, UnixListener};

use super::StartError;
use super::take_over::{Inherited, Offer, Purpose};
use crate::api::keys::Keys;
use crate::api::{Auth, Users};
use crate::config::{ApiAuth, Settings};
use crate::metrics::{Gauge, Metrics, names};
use crate::model::Transport;
use crate::net::{self, SocketKey};

pub(super) fn build_info(metrics: &Metrics) -> Gauge {
    let info = metrics.gauge(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")]);
    info.set(1);
    info
}

pub(super) fn io(what: &str, source: std::io::Error) -> StartError {
    StartError::Io { what: what.to_owned(), source }
}

/// The control side's TCP socket for one purpose, with the address that it has got.
pub(super) fn bind(
    address: SocketAddr,
    purpose: Purpose,
    inherited: &mut Inherited,
) -> Result<Offer, StartError> {
    let key = SocketKey { address, transport: Transport::Tcp };
    if let Some(offer) = inherited.take(purpose, key) {
        return Ok(offer);
    }
    let sockets = net::open(key, 1)?;
    let bound = sockets[0].local_addr().map_err(|source| io("the control side", source))?;
    let key = SocketKey { address: bound.as_socket().unwrap_or(address), ..key };
    Ok(Offer { purpose, key, sockets })
}

/// A listener on a copy of the socket.
pub(super) fn listener(offer: &Offer) -> Result<TcpListener, StartError> {
    let copy = || TcpListener::from_std(offer.sockets[0].try_clone()?.into());
    copy().map_err(|source| io(&format!("the listener on {}", offer.key), source))
}

/// Who may call: with the keys of the data directory, and with those of the file.
pub(super) fn authentication(settings: &Settings, keys: Keys) -> Result<Auth, StartError> {
    let bad = |(key, why): (&str, String)| io(key, std::io::Error::other(why));
    let users = Users::read(&settings.api).map_err(bad)?;
    let twice = |id| bad(("api.key", format!("{id} is a key of the data directory already")));
    let keys = keys.with(users.keys()).map_err(twice)?;
    Ok(match settings.api.auth {
        ApiAuth::None => Auth::None,
        ApiAuth::Sigv4 => Auth::Signatures(keys, users),
    })
}

/// A unix socket (0600) in the data directory. That is 0700 and locked, so a socket found there is
/// a predecessor's.
pub(super) fn bind_unix(data_dir: &Path, name: &str) -> Result<UnixListener, StartError> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = data_dir.join(name);
    let bind = || {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(|source| io(&format!("socket {}", path.display()), source))
}
