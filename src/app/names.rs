//! Where tasks ask for names: port 53 of an address of this machine that containers reach.
//!
//! At the address of the settings, or at the machine's own in each network that Docker puts
//! containers into, as soon as Docker tells it. **Invariant:** a socket that is open stays so, and
//! goes to a successor with the others: containers know its address for as long as they live.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::parts::Parts;
use super::take_over::Inherited;
use crate::config::{InstanceSettings, RuntimeKind, Settings};
use crate::orchestrator::NameServer;
use crate::runtime::Fleet;

/// The only port that stub resolvers ask at (resolv.conf(5)).
const PORT: u16 = 53;
/// Whom the machine asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Between two looks at where the machine is reached, and whom it asks (ours: a full pass).
const AGAIN: Duration = Duration::from_secs(10);
/// While something is not open yet (ours).
const SOON: Duration = Duration::from_secs(1);
/// resolv.conf(5): `MAXNS`.
const MOST_SERVERS: usize = 3;

/// None: containers ask whom their machine asks.
pub(super) fn name_server(settings: &Settings) -> Option<NameServer> {
    let of_docker = |instance: &InstanceSettings| instance.kind() == RuntimeKind::Docker;
    let asked = settings.dns.tasks && settings.instances().iter().any(of_docker);
    asked.then(|| NameServer::new(settings.dns.task_address))
}

/// Opens what is to be open from the start: what the process before this one had, and an address
/// that the file names.
pub(super) async fn open(parts: &Parts, inherited: &mut Inherited) -> Result<(), StartError> {
    parts.others.set(servers(parts).await);
    parts.sockets.resume_task_dns(inherited).await;
    let own = &parts.settings.dns;
    if let Some(address) = own.task_address.filter(|_| own.tasks) {
        parts.sockets.open_task_dns(SocketAddr::new(address, PORT)).await?;
    }
    Ok(())
}

/// Opens what is missing, and follows whom the machine asks, until dropped.
pub(super) fn serve(
    parts: &Arc<Parts>,
    fleet: &Fleet,
    name_server: NameServer,
) -> impl Future<Output = ()> + Send + 'static {
    let (parts, fleet) = (Arc::clone(parts), fleet.clone());
    async move {
        let mut complained = BTreeSet::new();
        loop {
            let mut pause = AGAIN;
            // What Docker does not tell now it tells later.
            let bridges = fleet.bridges().await;
            if bridges.contains(&None) {
                pause = SOON;
            }
            let reaches = bridges.into_iter().flatten();
            let wanted = reaches.filter_map(|reach| name_server.address(reach));
            for address in wanted.collect::<BTreeSet<_>>() {
                let opened = parts.sockets.open_task_dns(SocketAddr::new(address, PORT)).await;
                name_server.tried(address, opened.is_ok());
                if let Err(error) = opened {
                    pause = SOON;
                    if complained.insert(address) {
                        tracing::warn!(%error, "containers there do not find our names");
                    }
                }
            }
            parts.others.set(servers(&parts).await);
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whom names are asked of that are not ours.
async fn servers(parts: &Parts) -> Vec<SocketAddr> {
    let written = &parts.settings.dns.resolvers;
    if !written.is_empty() {
        return written.clone();
    }
    let text = tokio::fs::read_to_string(RESOLV_CONF).await.unwrap_or_default();
    let own = parts.sockets.task_dns();
    name_servers(&text).filter(|server| !own.contains(server)).take(MOST_SERVERS).collect()
}

/// The name servers of resolv.conf(5).
fn name_servers(text: &str) -> impl Iterator<Item = SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        Some(SocketAddr::new(words.next()?.parse().ok()?, PORT))
    };
    text.lines().filter_map(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_system_reads_them() {
        let check = |text: &str, expected: &[&str]| {
            let servers: Vec<_> = name_servers(text).map(|server| server.to_string()).collect();
            assert_eq!(servers, expected, "{text}");
        };
        check("", &[]);
        check("# nameserver 1.1.1.1\nsearch a b\n nameserver\t10.0.0.1 # x\n", &["10.0.0.1:53"]);
        check("nameserver ::1\nnameserver x\nnameserver\n", &["[::1]:53"]);
        check(
            "nameserver 10.0.0.2\noptions ndots:2\nnameserver 10.0.0.1",
            &["10.0.0.2:53", "10.0.0.1:53"],
        );
    }
}
