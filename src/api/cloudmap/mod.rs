//! Cloud Map: one file per resource; operations in the order Create, Describe, Update, Delete,
//! List.
//!
//! Namespaces are private ones and HTTP ones: a public one needs the public DNS. Every change is
//! made when its call returns, so an operation is SUCCESS as soon as it can be asked about. Not
//! here: wire forms and checks against the model, which are done before an operation sees its
//! input; what DNS answers (`zone`). **Invariant:** [`call`] is the list of what is served.

mod discover;
mod filter;
mod instance;
mod namespace;
mod operation;
mod service;
mod tagging;

use super::call::{Accepted, Call, Input, Outcome};
use super::error::Error;
use super::page::BadToken;
use super::tags::TagError;
use crate::model::Owner;

/// Members that are taken and not acted upon.
pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        member: "*.OwnerAccount",
        why: "there is one account, so it owns whatever is found",
    },
    Accepted { member: "*.UpdaterRequestId", why: "an update made twice is the same as made once" },
    Accepted {
        member: "CreateService.HealthCheckCustomConfig.FailureThreshold",
        why: "Cloud Map takes 1 whatever is given",
    },
];

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, input: Input) -> Outcome {
    match call.name() {
        "CreateHttpNamespace" => namespace::create_http(call, input).await,
        "CreatePrivateDnsNamespace" => namespace::create_private(call, input).await,
        "CreatePublicDnsNamespace" | "UpdatePublicDnsNamespace" => Err(namespace::public()),
        "GetNamespace" => namespace::get(call, input),
        "UpdateHttpNamespace" => namespace::update_http(call, input).await,
        "UpdatePrivateDnsNamespace" => namespace::update_private(call, input).await,
        "DeleteNamespace" => namespace::delete(call, input).await,
        "ListNamespaces" => namespace::list(call, input),
        "CreateService" => service::create(call, input).await,
        "GetService" => service::get(call, input),
        "GetServiceAttributes" => service::get_attributes(call, input),
        "UpdateService" => service::update(call, input).await,
        "UpdateServiceAttributes" => service::update_attributes(call, input).await,
        "DeleteService" => service::delete(call, input).await,
        "DeleteServiceAttributes" => service::delete_attributes(call, input).await,
        "ListServices" => service::list(call, input),
        "RegisterInstance" => instance::register(call, input).await,
        "GetInstance" => instance::get(call, input),
        "GetInstancesHealthStatus" => instance::health(call, input),
        "UpdateInstanceCustomHealthStatus" => instance::update_health(call, input).await,
        "DeregisterInstance" => instance::deregister(call, input).await,
        "ListInstances" => instance::list(call, input),
        "DiscoverInstances" => discover::discover(call, input),
        "DiscoverInstancesRevision" => discover::revision(call, input),
        "GetOperation" => operation::get(call, input),
        "ListOperations" => operation::list(call, input),
        "TagResource" => tagging::tag(call, input).await,
        "UntagResource" => tagging::untag(call, input).await,
        "ListTagsForResource" => tagging::list(call, input),
        _ => Err(call.unknown()),
    }
}

/// Items of one page when a call does not say (Cloud Map's default and most).
const PAGE: usize = 100;

impl From<BadToken> for Error {
    fn from(_: BadToken) -> Self {
        Self::invalid("NextToken is not valid")
    }
}

/// The id in an id or an ARN.
fn id(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}

/// A new id: 16 lower-case letters and digits.
fn new_id(prefix: &str) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
    let letter = |_| char::from(LETTERS[fastrand::usize(..LETTERS.len())]);
    format!("{prefix}-{}", (0..16).map(letter).collect::<String>())
}

/// What the file made, the file changes.
fn check_owner(owner: Owner, what: &str) -> Result<(), Error> {
    match owner {
        Owner::Api => Ok(()),
        Owner::File => Err(Error::invalid(format!(
            "{what} belongs to the configuration file; change it there"
        ))),
    }
}

fn tag_error(error: &TagError) -> Error {
    match error {
        TagError::TooMany => Error::new("TooManyTagsException", error.to_string()),
        _ => Error::invalid(error.to_string()),
    }
}
