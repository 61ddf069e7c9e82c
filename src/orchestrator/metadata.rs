//! The task metadata endpoint as containers are told of it: addresses that nobody guesses.
//!
//! Not here: what is answered there (`api::metadata`), who listens (`app`). **Invariant:** a
//! container's id follows from its name and a key that no container has, so it is the same after a
//! restart and tells nothing about any other's.

use std::net::SocketAddr;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::model::{Task, TaskId, hex};
use crate::runtime::Reach;
use crate::state::State;

/// Bytes of an id that its key makes.
const BYTES: usize = 16;

/// Where containers ask about themselves.
#[derive(Clone)]
pub struct Endpoint {
    key: [u8; 32],
    /// For containers that share the machine's network; its port for all.
    address: SocketAddr,
}

/// Without the key.
impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Endpoint {
    #[must_use]
    pub const fn new(key: [u8; 32], address: SocketAddr) -> Self {
        Self { key, address }
    }

    /// Where a container that reaches us so finds the endpoint. None: it cannot.
    #[must_use]
    pub const fn address(&self, reach: Reach) -> Option<SocketAddr> {
        match reach {
            Reach::Nowhere => None,
            Reach::Loopback => Some(self.address),
            Reach::At(address) => Some(SocketAddr::new(address, self.address.port())),
        }
    }

    /// The variables of one container (Amazon ECS Developer Guide, "task metadata endpoint version
    /// 4", "task scale-in protection endpoint").
    pub(super) fn variables(
        &self,
        at: SocketAddr,
        task: &TaskId,
        container: &str,
    ) -> [(String, String); 2] {
        let id = self.id(task, container);
        [
            ("ECS_CONTAINER_METADATA_URI_V4".to_owned(), format!("http://{at}/v4/{id}")),
            ("ECS_AGENT_URI".to_owned(), format!("http://{at}/api/{id}")),
        ]
    }

    fn mac(&self, task: &TaskId, container: &str) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(format!("{task}/{container}").as_bytes());
        Some(mac)
    }

    /// `TASK-SECRET`.
    #[must_use]
    pub fn id(&self, task: &TaskId, container: &str) -> String {
        let mac = self.mac(task, container).map(|mac| mac.finalize().into_bytes());
        format!("{task}-{}", hex(&mac.unwrap_or_default()[..BYTES]))
    }

    /// The task and the container whose id it is. None: nobody's.
    #[must_use]
    pub fn find<'a>(&self, state: &'a State, id: &str) -> Option<(&'a Task, &'a str)> {
        let (task, secret) = id.rsplit_once('-')?;
        let secret = bytes(secret)?;
        let task = state.tasks.get(&TaskId::from(task))?;
        let mut names = task.containers.iter().map(|container| container.name.as_str());
        // Compared in constant time.
        let is_its = |name: &&str| {
            let mac = self.mac(&task.id, name);
            mac.is_some_and(|mac| mac.verify_truncated_left(&secret).is_ok())
        };
        names.find(is_its).map(|name| (&**task, name))
    }
}

/// Exactly as many as an id has.
fn bytes(hex: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    if hex.len() != 2 * BYTES || !hex.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Timestamp;
    use crate::model::{Container, TaskDefinition};

    fn state() -> State {
        let definition = TaskDefinition::new("f".into(), 1, Vec::new()).key();
        let containers = vec![Container::new("app"), Container::new("side")];
        let task = Task::new("t1".into(), "c".into(), definition, Timestamp(1));
        let task = Task { containers, ..task };
        let tasks = Arc::new([(task.id.clone(), Arc::new(task))].into());
        State { tasks, ..State::default() }
    }

    #[test]
    fn ids_name_their_container_and_nothing_else_does() {
        let endpoint = |key| Endpoint::new([key; 32], "127.0.0.1:51679".parse().unwrap());
        let (own, other) = (endpoint(1), endpoint(2));
        let state = state();
        let check = |id: &str, expected: Option<&str>| {
            let found = own.find(&state, id).map(|(task, name)| format!("{}/{name}", task.id));
            assert_eq!(found.as_deref(), expected, "{id}");
        };
        check(&own.id(&"t1".into(), "app"), Some("t1/app"));
        check(&own.id(&"t1".into(), "side"), Some("t1/side"));
        check(&own.id(&"t1".into(), "none"), None);
        check(&own.id(&"t2".into(), "app"), None);
        check(&other.id(&"t1".into(), "app"), None);
        check(&own.id(&"t1".into(), "app")[..34], None);
        check("t1-", None);
        check("", None);
        check(&format!("t1-{}", "é".repeat(16)), None);
        assert!(!format!("{own:?}").contains('['));
    }

    #[test]
    fn containers_are_told_where_they_reach_it() {
        let endpoint = Endpoint::new([1; 32], "127.0.0.9:51679".parse().unwrap());
        let id = endpoint.id(&"t".into(), "app");
        let check = |reach, expected: Option<&str>| {
            let told = endpoint.address(reach);
            let told = told.map(|at| endpoint.variables(at, &"t".into(), "app"));
            let told = told.map(|told| told.map(|(name, value)| format!("{name}={value}")));
            let expected = expected.map(|at| {
                [
                    format!("ECS_CONTAINER_METADATA_URI_V4=http://{at}/v4/{id}"),
                    format!("ECS_AGENT_URI=http://{at}/api/{id}"),
                ]
            });
            assert_eq!(told, expected);
        };
        check(Reach::Loopback, Some("127.0.0.9:51679"));
        check(Reach::At([172, 17, 0, 1].into()), Some("172.17.0.1:51679"));
        check(Reach::Nowhere, None);
    }
}
