//! One call of the endpoint, as the operations see it: who asks, with what, and where the state is.
//!
//! **Invariant:** a member that the model has and that an operation neither reads nor names as
//! accepted refuses the call: [`Input::read`] leaves nothing silently out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::access::User;
use super::error::Error;
use super::events::Events;
use super::services::Service;
use super::session::Sessions;
use super::wire::schema::{Operation, Protocol};
use crate::clock::Timestamp;
use crate::config::ScalingProfile;
use crate::logs::AuditLog;
use crate::metrics::{Counter, Histogram, Metrics, names};
use crate::model::{Account, Generation, Pool};
use crate::net::{BindError, Claims, SocketKey};
use crate::routing::Reader;
use crate::series::Series;
use crate::state::{State, Store, Tx, View};

/// Binds a socket for a change, which claims it.
pub(super) type Bind = dyn Fn(SocketKey, &Claims) -> Result<(), BindError> + Send + Sync;

/// What every call shares.
pub struct Api {
    pub store: Store,
    pub reader: Reader,
    /// At home.
    pub account: Account,
    /// What calls of other regions than home have last seen, and home when there are others.
    pub views: Views,
    /// The DNS domain that load balancers' names end in.
    pub domain: String,
    /// Where load balancers' addresses come from.
    pub addresses: Pool,
    pub metrics: Metrics,
    pub meters: Meters,
    pub audit_log: Option<AuditLog>,
    pub series: Series,
    pub profile: ScalingProfile,
    /// Where the log streams of tasks are.
    pub log_folder: PathBuf,
    /// Stands for S3 where trust stores are made.
    pub trust_folder: Option<PathBuf>,
    pub events: Events,
    pub sessions: Sessions,
    /// Binds a socket that a listener is about to ask for.
    pub bind: Box<Bind>,
    /// Gives back what was bound for a change that was refused.
    pub give_back: Box<dyn Fn(&Claims) + Send + Sync>,
}

/// Handles of the series of calls: a series lives as long as some handle of it does.
#[derive(Debug, Default)]
pub struct Meters {
    calls: Mutex<BTreeMap<[String; 3], Counter>>,
    seconds: Mutex<BTreeMap<String, Histogram>>,
}

impl Meters {
    pub(crate) fn counter(&self, metrics: &Metrics, labels: [&str; 3]) -> Counter {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || metrics.counter(&names::API_CALLS, &labels);
        calls.entry(labels.map(str::to_owned)).or_insert_with(make).clone()
    }

    pub(crate) fn histogram(&self, metrics: &Metrics, service: &str) -> Histogram {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || metrics.histogram(&names::API_SECONDS, &[service]);
        seconds.entry(service.to_owned()).or_insert_with(make).clone()
    }
}

/// What calls of each region have last seen, as far as it was asked for.
#[derive(Debug, Default)]
pub struct Views(Mutex<BTreeMap<String, View>>);

impl Views {
    /// The account's region's part of `whole`. With one region it is all there is.
    fn of(&self, whole: Arc<State>, account: &Account) -> Arc<State> {
        if account.others.is_empty() {
            return whole;
        }
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known().get(&account.region).cloned().unwrap_or_default();
        if before.part.generation == whole.generation {
            return before.part;
        }
        let part = Arc::new(whole.within(account, &before));
        let view = View { whole, part: Arc::clone(&part) };
        let mut known = known();
        // Another call may have made a newer one meanwhile.
        let newest = known.get(&account.region).map_or(Generation(0), |v| v.whole.generation);
        if newest < view.whole.generation {
            known.insert(account.region.clone(), view);
        }
        part
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("account", &self.account).finish_non_exhaustive()
    }
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    /// In the region that the credential names; of a service without regions at home.
    pub(crate) account: Account,
    pub(crate) service: &'static Service,
    pub(crate) operation: &'static Operation,
    /// A UUID.
    pub(crate) request_id: String,
    /// The access key that signed it; none with `auth = "none"`.
    pub(crate) caller: Option<String>,
    /// Whose that key is; none: the account's own.
    pub(crate) user: Option<Arc<User>>,
    pub(crate) client: IpAddr,
    /// What the client calls this endpoint: a name or an address, and a port.
    pub(crate) host: String,
    /// It came by TLS.
    pub(crate) is_secure: bool,
    pub(crate) now: Timestamp,
}

pub(crate) type Outcome = Result<Value, Error>;

impl Call {
    pub(crate) fn name(&self) -> &'static str {
        &self.operation.name
    }

    /// What the call's region has; all there is for a service without regions.
    pub(crate) fn state(&self) -> Arc<State> {
        let whole = self.api.store.read();
        match self.service.name.is_regional() {
            true => self.api.views.of(whole, &self.account),
            false => whole,
        }
    }

    pub(crate) const fn account(&self) -> &Account {
        &self.account
    }

    /// The call's region as names have it: empty at home.
    pub(crate) fn place(&self) -> &str {
        self.account.place()
    }

    /// Makes `change` and answers with nothing.
    ///
    /// # Errors
    /// What `change` says; the store cannot write.
    pub(crate) async fn done<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, Error> + Send + 'static,
    ) -> Outcome {
        self.api.store.update(change).await?;
        Ok(Value::Object(serde_json::Map::new()))
    }

    /// One of `refused`, with the reason, or no operation of this endpoint.
    pub(crate) fn not_served(&self, refused: &[(&str, &str)]) -> Error {
        let name = self.name();
        match refused.iter().find(|(operation, _)| *operation == name) {
            Some((_, why)) => Error::unsupported(format!("{name} is not supported here: {why}")),
            None => self.unknown(),
        }
    }

    /// The model has the operation, this endpoint does not.
    pub(crate) fn unknown(&self) -> Error {
        let message = format!("{} is not served by this endpoint", self.name());
        let code = match self.service.model.metadata.protocol {
            Protocol::Json | Protocol::SmithyRpcV2Cbor => "UnknownOperationException",
            Protocol::Query | Protocol::Ec2 | Protocol::RestXml => "InvalidAction",
        };
        Error::new(code, message)
    }
}

/// A call's canonical document.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) operation: &'static str,
    pub(crate) value: Value,
    pub(crate) accepted: &'static [Accepted],
}

/// A member that is taken and not acted upon.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    /// `Operation.member.of.member`, or `*.member`; list indices are left out.
    pub(crate) member: &'static str,
    /// What becomes of it, for the README.
    pub(crate) why: &'static str,
}

impl Input {
    /// The document as what the operation honours.
    ///
    /// # Errors
    /// A member that asks for something and is neither honoured nor accepted.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        let mut left = Vec::new();
        let read = serde_ignored::deserialize(&self.value, |path| left.push(path.to_string()));
        let read = read.map_err(|error| Error::invalid(error.to_string()))?;
        for path in left {
            let mut value = Some(&self.value);
            for part in path.split('.') {
                // An `Option` on the way shows as `?`.
                if part != "?" {
                    value = value.and_then(|value| match value {
                        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
                        value => value.get(part),
                    });
                }
            }
            let asks = match value {
                None | Some(Value::Null) => false,
                Some(Value::Array(items)) => !items.is_empty(),
                Some(Value::Object(map)) => !map.is_empty(),
                Some(_) => true,
            };
            let member: Vec<_> = path
                .split('.')
                .filter(|part| *part != "?" && part.parse::<usize>().is_err())
                .collect();
            let member = member.join(".");
            if asks && !self.accepts(&member) {
                return Err(Error::unsupported(format!("{member} is not supported here")));
            }
        }
        Ok(read)
    }

    fn accepts(&self, member: &str) -> bool {
        self.accepted.iter().any(|accepted| {
            let (operation, path) = accepted.member.split_once('.').unwrap_or_default();
            let below = member.strip_prefix(path);
            (operation == "*" || operation == self.operation)
                && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Make {
        name: String,
        inner: Option<Vec<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "only read")]
        a: Option<u32>,
    }

    const ACCEPTED: &[Accepted] = &[
        Accepted { member: "Make.tags", why: "kept" },
        Accepted { member: "*.inner.b", why: "nothing" },
    ];

    fn check(value: Value, expected: Result<&str, &str>) {
        let input = Input { operation: "Make", value: value.clone(), accepted: ACCEPTED };
        let read = input
            .read::<Make>()
            .map(|make| {
                drop(make.inner);
                make.name
            })
            .map_err(|error| error.to_string());
        assert_eq!(read.as_deref().map_err(String::as_str), expected, "{value}");
    }

    #[test]
    fn older_states_do_not_displace_what_is_known_of_newer_ones() {
        let account = Account { others: vec!["far".to_owned()], ..Account::new("local", "0") };
        let state = |n| Arc::new(State { generation: Generation(n), ..State::default() });
        let views = Views::default();
        let newer = views.of(state(2), &account);
        assert_eq!(views.of(state(1), &account).generation, Generation(1));
        assert!(Arc::ptr_eq(&views.of(state(2), &account), &newer));
    }

    #[test]
    fn nothing_that_is_asked_for_is_left_out_silently() {
        check(json!({"name": "a", "inner": [{"a": 1}]}), Ok("a"));
        check(json!({"name": "a", "tags": [{"key": "k"}]}), Ok("a"));
        check(json!({"name": "a", "inner": [{"b": 1}]}), Ok("a"));
        check(json!({"name": "a", "other": [], "more": {}}), Ok("a"));
        check(json!({"name": "a", "other": false}), Err("other is not supported here"));
        let inner = json!({"name": "a", "inner": [{"a": 1}, {"c": "x"}]});
        check(inner, Err("inner.c is not supported here"));
    }
}
