//! Whom containers ask for names: our own DNS, at an address of this machine that they reach.
//!
//! Not here: what is answered there (`dns`), opening it (`app`). **Invariant:** a container is told
//! of an address only once names are answered there, and only that one: a second server, asked at
//! the same time or after a refusal (musl, glibc), would say of our names that they do not exist.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;

use crate::model::NetworkMode;
use crate::runtime::{ContainerSpec, Reach, Runtime, RuntimeError};

/// How long a container waits for us to open an address (ours: it is tried within a second of the
/// engine's first answer).
const OPENING: Duration = Duration::from_secs(5);

/// Where containers ask for names. Clones know the same.
#[derive(Clone, Debug)]
pub struct NameServer {
    /// For all of them, wherever they are. None: the machine's own in their network.
    fixed: Option<IpAddr>,
    /// Addresses that were tried: names are answered there, or cannot be.
    tried: watch::Sender<BTreeMap<IpAddr, bool>>,
}

impl NameServer {
    #[must_use]
    pub fn new(fixed: Option<IpAddr>) -> Self {
        Self { fixed, tried: watch::Sender::default() }
    }

    /// The address for containers that reach this machine so. None: there is none.
    #[must_use]
    pub const fn address(&self, reach: Reach) -> Option<IpAddr> {
        match (reach, self.fixed) {
            // Processes have the machine's files and names.
            (Reach::Loopback, _) => None,
            (_, Some(fixed)) => Some(fixed),
            (Reach::At(own), None) => Some(own),
            (Reach::Nowhere, None) => None,
        }
    }

    /// Says whether names are answered at an address.
    pub fn tried(&self, address: IpAddr, answers: bool) {
        self.tried.send_if_modified(|tried| tried.insert(address, answers) != Some(answers));
    }

    /// The server of a container of `runtime`. None: it asks whom its definition or its machine
    /// says.
    pub(super) async fn of(
        &self,
        runtime: &dyn Runtime,
        spec: &ContainerSpec,
    ) -> Result<Option<IpAddr>, RuntimeError> {
        let has_own = !spec.definition.dns_servers.is_empty();
        if has_own || spec.network_mode == Some(NetworkMode::None) {
            return Ok(None);
        }
        // One in the machine's own network finds that address there too.
        let reach = runtime.reach(Some(NetworkMode::Bridge)).await?;
        let Some(address) = self.address(reach) else { return Ok(None) };
        let mut tried = self.tried.subscribe();
        let known = tried.wait_for(|tried| tried.contains_key(&address));
        match tokio::time::timeout(OPENING, known).await {
            Ok(Ok(tried)) => Ok(Some(address).filter(|_| tried.get(&address) == Some(&true))),
            _ => Err(RuntimeError::Timeout(format!(
                "no name server at {address} yet: it is opened at port 53 there as soon as Docker \
                 tells of the network; if this lasts, name an address of this machine with \
                 dns.task_address, or set dns.tasks = false"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContainerDefinition, TaskDefinition};
    use crate::runtime::sim::Sim;

    #[test]
    fn containers_are_told_of_an_address_that_they_reach() {
        let [own, fixed] = ["172.17.0.1", "10.0.0.1"].map(|text| text.parse().unwrap());
        let check = |given, reach, expected| {
            assert_eq!(NameServer::new(given).address(reach), expected, "{given:?} {reach:?}");
        };
        check(None, Reach::Loopback, None);
        check(None, Reach::Nowhere, None);
        check(None, Reach::At(own), Some(own));
        check(Some(fixed), Reach::Loopback, None);
        check(Some(fixed), Reach::Nowhere, Some(fixed));
        check(Some(fixed), Reach::At(own), Some(fixed));
    }

    fn spec(container: ContainerDefinition, mode: Option<NetworkMode>) -> ContainerSpec {
        let mut definition = TaskDefinition::new("f".into(), 1, vec![container]);
        definition.network_mode = mode;
        ContainerSpec::new(&"t".into(), "c", &definition, "app", None).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_waits_until_names_are_answered_or_cannot_be() {
        let own: IpAddr = "172.17.0.1".parse().unwrap();
        let sim = Sim::new(1);
        sim.set_reach(Reach::At(own));
        let server = NameServer::new(None);
        let plain = spec(ContainerDefinition::new("app"), None);
        let early = server.of(&sim, &plain).await;
        assert!(matches!(early, Err(RuntimeError::Timeout(_))), "{early:?}");
        let (waits, ()) = tokio::join!(server.of(&sim, &plain), async {
            tokio::task::yield_now().await;
            server.tried(own, true);
        });
        assert_eq!(waits, Ok(Some(own)));
        server.tried(own, false);
        assert_eq!(server.of(&sim, &plain).await, Ok(None));
        server.tried(own, true);
        for (mode, expected) in [
            (NetworkMode::Bridge, Some(own)),
            (NetworkMode::Awsvpc, Some(own)),
            (NetworkMode::Host, Some(own)),
            (NetworkMode::None, None),
        ] {
            let plain = spec(ContainerDefinition::new("app"), Some(mode));
            assert_eq!(server.of(&sim, &plain).await, Ok(expected), "{mode:?}");
        }
        let dns_servers = vec!["10.0.0.2".to_owned()];
        let own =
            spec(ContainerDefinition { dns_servers, ..ContainerDefinition::new("app") }, None);
        assert_eq!(server.of(&sim, &own).await, Ok(None));
    }
}
