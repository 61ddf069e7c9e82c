//! Elastic Load Balancing v2: one file per resource; operations in the order Create, Describe,
//! Update, Delete, List.
//!
//! Not here: wire forms and checks against the model, which are done before an operation sees its
//! input. **Invariant:** [`call`] is the list of what is served.

pub(in crate::api) use find::{target_group, traffic_rule, traffic_rule_arn};

pub(in crate::api) mod action;
mod attributes;
pub(in crate::api) mod authentication;
mod balancer_attributes;
mod certificate;
mod condition;
mod find;
pub(in crate::api) mod group_attributes;
mod health_check;
pub(in crate::api) mod limits;
mod listener;
mod listener_attributes;
mod load_balancer;
pub(in crate::api) mod matcher;
mod rule;
mod ssl_policy;
mod tags;
mod target;
mod target_group;
mod transform;
mod trust_store;

use super::call::{Accepted, Call, Input, Outcome};
use super::error::Error;

/// Members that are taken and not acted upon.
pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        member: "CreateLoadBalancer.IpAddressType",
        why: "kept and shown: a load balancer has one address, whose family the pool decides",
    },
    Accepted {
        member: "CreateListener.SslPolicy",
        why: "of older policies only what rustls has is offered: TLS 1.2 and 1.3, AEAD ciphers \
              with forward secrecy",
    },
    Accepted {
        member: "RegisterTargets.Targets.AvailabilityZone",
        why: "this machine is one zone: every target gets traffic from everywhere",
    },
    Accepted {
        member: "DeregisterTargets.Targets.AvailabilityZone",
        why: "a target is known by its address and port",
    },
    Accepted {
        member: "DescribeTargetHealth.Targets.AvailabilityZone",
        why: "a target is known by its address and port",
    },
];

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, input: Input) -> Outcome {
    match call.name() {
        "CreateLoadBalancer" => load_balancer::create(call, input).await,
        "DescribeLoadBalancers" => load_balancer::describe(call, input),
        "DescribeLoadBalancerAttributes" => load_balancer::describe_attributes(call, input),
        "DescribeCapacityReservation" => load_balancer::describe_capacity_reservation(call, input),
        "ModifyLoadBalancerAttributes" => load_balancer::modify_attributes(call, input).await,
        "SetIpAddressType" => load_balancer::set_ip_address_type(call, input).await,
        "SetSecurityGroups" => load_balancer::set_security_groups(call, input).await,
        "SetSubnets" => load_balancer::set_subnets(call, input).await,
        "DeleteLoadBalancer" => load_balancer::delete(call, input).await,

        "CreateTargetGroup" => target_group::create(call, input).await,
        "DescribeTargetGroups" => target_group::describe(call, input),
        "DescribeTargetGroupAttributes" => target_group::describe_attributes(call, input),
        "ModifyTargetGroup" => target_group::modify(call, input).await,
        "ModifyTargetGroupAttributes" => target_group::modify_attributes(call, input).await,
        "DeleteTargetGroup" => target_group::delete(call, input).await,

        "RegisterTargets" => target::register(call, input).await,
        "DescribeTargetHealth" => target::describe_health(call, input),
        "DeregisterTargets" => target::deregister(call, input).await,

        "CreateListener" => listener::create(call, input).await,
        "DescribeListeners" => listener::describe(call, input),
        "DescribeListenerAttributes" => listener::describe_attributes(call, input),
        "DescribeListenerCertificates" => certificate::describe(call, input),
        "ModifyListener" => listener::modify(call, input).await,
        "ModifyListenerAttributes" => listener::modify_attributes(call, input).await,
        "AddListenerCertificates" => certificate::add(call, input).await,
        "RemoveListenerCertificates" => certificate::remove(call, input).await,
        "DeleteListener" => listener::delete(call, input).await,

        "CreateRule" => rule::create(call, input).await,
        "DescribeRules" => rule::describe(call, input),
        "ModifyRule" => rule::modify(call, input).await,
        "SetRulePriorities" => rule::set_priorities(call, input).await,
        "DeleteRule" => rule::delete(call, input).await,

        "AddTags" => tags::add(call, input).await,
        "DescribeTags" => tags::describe(call, input),
        "RemoveTags" => tags::remove(call, input).await,

        "CreateTrustStore" => trust_store::create(call, input).await,
        "DescribeTrustStores" => trust_store::describe(call, input),
        "DescribeTrustStoreAssociations" => trust_store::associations(call, input),
        "GetTrustStoreCaCertificatesBundle" => trust_store::bundle(call, input),
        "ModifyTrustStore" => trust_store::modify(call, input).await,
        "DeleteTrustStore" => trust_store::delete(call, input).await,
        "AddTrustStoreRevocations" => trust_store::add_revocations(call, input).await,
        "DescribeTrustStoreRevocations" => trust_store::describe_revocations(call, input),
        "GetTrustStoreRevocationContent" => trust_store::revocation_content(call, input),
        "RemoveTrustStoreRevocations" => trust_store::remove_revocations(call, input).await,

        "DescribeAccountLimits" => limits::describe(call, input),
        "DescribeSSLPolicies" => ssl_policy::describe(call, input),
        _ => Err(call.unknown()),
    }
}

/// Attributes that are kept and shown, and not acted upon; each once, and why.
pub(super) fn kept_attributes() -> Vec<(&'static str, &'static str)> {
    let (balancers, groups) = (balancer_attributes::TABLE, group_attributes::TABLE);
    let listeners = listener_attributes::TABLE.accepted();
    let mut kept: Vec<_> = balancers.accepted().chain(groups.accepted()).chain(listeners).collect();
    kept.dedup();
    kept
}

/// A name of a load balancer or target group.
fn name(what: &str, name: &str) -> Result<(), Error> {
    if name.chars().count() > 32 {
        let message = format!("{what} name '{name}' cannot be longer than '32' characters");
        return Err(Error::invalid(message));
    }
    super::file::names::elb(name)
        .map_err(|reason| Error::invalid(format!("{what} name '{name}' {reason}")))
}

/// The id of the hosted zone that load balancers' names are in: the same for all of a region.
fn hosted_zone(region: &str) -> String {
    let id = super::file::id_of(&format!("hosted zone elb.{region}"));
    format!("Z{}", id[..13].to_ascii_uppercase())
}
