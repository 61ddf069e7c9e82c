//! What every VPC has of its own: a main route table and a default network ACL.
//!
//! They route and filter nothing and cannot be changed, so they have no rows: their ids follow from
//! the VPC's. **Invariant:** a VPC has one of each.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::filter::{Filter, Subject, matches};
use super::{paged, rows};
use crate::model::{Account, Ec2Resource, Vpc};
use crate::state::State;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Describe {
    #[serde(default, alias = "RouteTableIds", alias = "NetworkAclIds")]
    ids: Vec<String>,
    #[serde(default)]
    filters: Vec<Filter>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

/// One of the two.
struct Kind {
    /// What its ids begin with.
    prefix: &'static str,
    member: &'static str,
    missing: fn(&str) -> Error,
    /// Filters that it has beside those of both.
    attributes: fn(&str) -> Vec<(&'static str, String)>,
    shown: fn(&Account, &State, &Vpc, &str) -> Value,
}

pub(super) fn describe_tables(call: &Call, input: Input) -> Outcome {
    let missing = |id: &str| {
        let text = format!("The routeTable ID '{id}' does not exist");
        Error::new("InvalidRouteTableID.NotFound", text)
    };
    let attributes = |id: &str| {
        vec![
            ("route-table-id", id.to_owned()),
            ("association.route-table-id", id.to_owned()),
            ("association.main", true.to_string()),
        ]
    };
    let (prefix, member, shown) = ("rtb", "RouteTables", shown_table);
    describe(call, input, &Kind { prefix, member, missing, attributes, shown })
}

pub(super) fn describe_acls(call: &Call, input: Input) -> Outcome {
    let missing = |id: &str| {
        let text = format!("The networkAcl ID '{id}' does not exist");
        Error::new("InvalidNetworkAclID.NotFound", text)
    };
    let attributes =
        |id: &str| vec![("network-acl-id", id.to_owned()), ("default", true.to_string())];
    let (prefix, member, shown) = ("acl", "NetworkAcls", shown_acl);
    describe(call, input, &Kind { prefix, member, missing, attributes, shown })
}

fn describe(call: &Call, input: Input, kind: &Kind) -> Outcome {
    let asked: Describe = input.read()?;
    let (state, account) = (call.state(), call.account());
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for row in rows::all(&state, account) {
        let Ec2Resource::Vpc(vpc) = &*row else { continue };
        let id = derived(kind.prefix, vpc.id.as_str());
        known.push(id.clone());
        let both = [("vpc-id", vpc.id.to_string()), ("owner-id", account.id.clone())];
        let attributes = (kind.attributes)(&id).into_iter().chain(both).collect();
        let subject = Subject { attributes, tags: &std::collections::BTreeMap::new() };
        if matches(&asked.filters, &subject)? && (asked.ids.is_empty() || asked.ids.contains(&id)) {
            found.push((id.clone(), (kind.shown)(account, &state, vpc, &id)));
        }
    }
    if let Some(id) = asked.ids.iter().find(|id| !known.contains(id)) {
        return Err((kind.missing)(id));
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    paged(kind.member, found, asked.next_token.as_deref(), asked.max_results)
}

/// Another id with the digits of one.
fn derived(prefix: &str, id: &str) -> String {
    format!("{prefix}-{}", id.split_once('-').map_or(id, |(_, digits)| digits))
}

fn shown_table(account: &Account, _: &State, vpc: &Vpc, id: &str) -> Value {
    json!({
        "RouteTableId": id,
        "VpcId": vpc.id,
        "OwnerId": account.id,
        "Associations": [{
            "RouteTableAssociationId": derived("rtbassoc", id),
            "RouteTableId": id,
            "Main": true,
            "AssociationState": { "State": "associated" },
        }],
        "Routes": [{
            "DestinationCidrBlock": vpc.cidr,
            "GatewayId": "local",
            "Origin": "CreateRouteTable",
            "State": "active",
        }],
        "PropagatingVgws": [],
        "Tags": [],
    })
}

fn shown_acl(account: &Account, state: &State, vpc: &Vpc, id: &str) -> Value {
    let mut subnets = Vec::new();
    for row in rows::all(state, account) {
        if let Ec2Resource::Subnet(subnet) = &*row
            && subnet.vpc == vpc.id
        {
            subnets.push(json!({
                "NetworkAclAssociationId": derived("aclassoc", subnet.id.as_str()),
                "NetworkAclId": id,
                "SubnetId": subnet.id,
            }));
        }
    }
    // As AWS makes them: everything is allowed, and what is left is denied.
    let entry = |egress: bool, number: u32, action: &str| {
        json!({
            "CidrBlock": "0.0.0.0/0",
            "Egress": egress,
            "Protocol": "-1",
            "RuleAction": action,
            "RuleNumber": number,
        })
    };
    let entries =
        [true, false].map(|egress| [entry(egress, 100, "allow"), entry(egress, 32_767, "deny")]);
    json!({
        "NetworkAclId": id,
        "VpcId": vpc.id,
        "OwnerId": account.id,
        "IsDefault": true,
        "Associations": subnets,
        "Entries": entries.concat(),
        "Tags": [],
    })
}
