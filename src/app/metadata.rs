//! Where the task metadata endpoint is reached: its sockets, and the loop that opens them.
//!
//! At the loopback address of the settings, and at the machine's address in the network that Docker
//! puts containers into, as soon as Docker tells it. **Invariant:** a socket that is open stays so,
//! and goes to a successor with the others; one that cannot be opened keeps nothing else from
//! serving and is tried again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::open::{bind, listener};
use super::parts::Parts;
use super::sockets;
use super::take_over::{Inherited, Offer, Purpose};
use super::{DataDir, StartError};
use crate::api::metadata::{self, Metadata};
use crate::config::Settings;
use crate::orchestrator::Endpoint;
use crate::runtime::{Fleet, Reach};

/// Between two looks at where the machine is reached (ours: a full pass).
const AGAIN: Duration = Duration::from_secs(10);
/// While something is not open yet (ours).
const SOON: Duration = Duration::from_secs(1);

/// Those that are open.
#[derive(Debug, Default)]
pub(super) struct MetadataSockets(Mutex<Vec<Offer>>);

impl MetadataSockets {
    fn lock(&self) -> MutexGuard<'_, Vec<Offer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inherit(&self, inherited: &mut Inherited) {
        self.lock().extend(inherited.all(Purpose::Metadata));
    }

    pub(super) fn offers(&self) -> Vec<Offer> {
        self.lock().iter().map(sockets::copy).collect()
    }

    fn listener(&self, address: SocketAddr) -> Result<TcpListener, StartError> {
        let mut open = self.lock();
        if let Some(offer) = open.iter().find(|offer| offer.key.address == address) {
            return listener(offer);
        }
        let offer = bind(address, Purpose::Metadata, &mut Inherited::default())?;
        let listener = listener(&offer);
        open.push(offer);
        listener
    }
}

/// None: it is off.
pub(super) fn endpoint(settings: &Settings, data_dir: &DataDir) -> Option<Arc<Endpoint>> {
    let own = settings.metadata;
    own.enabled.then(|| Arc::new(Endpoint::new(data_dir.metadata_key(), own.address)))
}

/// Opens what is missing, and serves, until dropped.
pub(super) fn serve(
    parts: &Arc<Parts>,
    fleet: &Fleet,
    endpoint: &Arc<Endpoint>,
    uid: &str,
) -> impl Future<Output = ()> + Send + 'static {
    let metadata = Arc::new(Metadata {
        store: parts.store.clone(),
        account: parts.settings.account.clone(),
        fleet: fleet.clone(),
        endpoint: Arc::clone(endpoint),
        docker: format!("roadstead-{uid}"),
    });
    let sockets = Arc::clone(&parts.metadata_sockets);
    async move {
        let mut serving = JoinSet::new();
        let (mut served, mut complained) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let mut pause = AGAIN;
            // What Docker does not tell now it tells later.
            let bridges = metadata.fleet.bridges().await;
            if bridges.contains(&None) {
                pause = SOON;
            }
            let reaches = std::iter::once(Reach::Loopback).chain(bridges.into_iter().flatten());
            let wanted = reaches.filter_map(|reach| metadata.endpoint.address(reach));
            for address in wanted.collect::<BTreeSet<_>>() {
                if served.contains(&address) {
                    continue;
                }
                match sockets.listener(address) {
                    Ok(listener) => {
                        served.insert(address);
                        serving.spawn(metadata::serve(listener, Arc::clone(&metadata)));
                    }
                    Err(error) => {
                        pause = SOON;
                        if complained.insert(address) {
                            tracing::warn!(%error, "tasks cannot ask about themselves yet");
                        }
                    }
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}
