//! EC2: the small part that clients of ELB and ECS read and create on their way, as bookkeeping.
//!
//! Nothing of it acts on traffic. There is a default VPC with a subnet in each of three zones and
//! a default security group, without a row until one of them is changed. **Invariant:** [`call`]
//! is the list of what is served.

mod filter;
mod permission;
mod route;
mod rows;
mod security_group;
mod subnet;
mod tag;
mod vpc;

use serde_json::{Value, json};

use super::call::{Accepted, Call, Input, Outcome};
use super::error::Error;
use super::page;
use super::tags;
use crate::model::{Account, Arn, Ec2Id};
use crate::state::{State, Tx};

/// Members that are taken and not acted upon.
pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted { member: "DescribeRegions.AllRegions", why: "every region here is in use" },
    Accepted { member: "*.AllAvailabilityZones", why: "there are three zones, all of them shown" },
    Accepted { member: "CreateVpc.InstanceTenancy", why: "always default" },
];

/// Items of one page when a request says nothing.
const PAGE: usize = 1000;

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, mut input: Input) -> Outcome {
    if let Some(members) = input.value.as_object_mut()
        && members.remove("DryRun") == Some(Value::Bool(true))
    {
        let text = "Request would have succeeded, but DryRun flag is set.";
        return Err(Error::new("DryRunOperation", text));
    }
    match call.name() {
        "CreateVpc" => vpc::create(call, input).await,
        "DescribeVpcs" => vpc::describe(call, input),
        "DescribeVpcAttribute" => vpc::describe_attribute(call, input),
        "ModifyVpcAttribute" => vpc::modify_attribute(call, input).await,
        "DeleteVpc" => vpc::delete(call, input).await,
        "CreateSubnet" => subnet::create(call, input).await,
        "DescribeSubnets" => subnet::describe(call, input),
        "ModifySubnetAttribute" => subnet::modify_attribute(call, input).await,
        "DeleteSubnet" => subnet::delete(call, input).await,
        "DescribeAvailabilityZones" => subnet::zones(call, input),
        "DescribeRegions" => subnet::regions(call, input),
        "CreateSecurityGroup" => security_group::create(call, input).await,
        "DescribeSecurityGroups" => security_group::describe(call, input),
        "DescribeSecurityGroupRules" => security_group::describe_rules(call, input),
        "AuthorizeSecurityGroupIngress" => security_group::authorize(call, input, false).await,
        "AuthorizeSecurityGroupEgress" => security_group::authorize(call, input, true).await,
        "RevokeSecurityGroupIngress" => security_group::revoke(call, input, false).await,
        "RevokeSecurityGroupEgress" => security_group::revoke(call, input, true).await,
        "DeleteSecurityGroup" => security_group::delete(call, input).await,
        "DescribeRouteTables" => route::describe_tables(call, input),
        "DescribeNetworkAcls" => route::describe_acls(call, input),
        "DescribeNetworkInterfaces" => Ok(json!({"NetworkInterfaces": []})),
        "CreateTags" => tag::create(call, input).await,
        "DeleteTags" => tag::delete(call, input).await,
        "DescribeTags" => tag::describe(call, input),
        _ => Err(call.unknown()),
    }
}

/// A subnet that EC2 knows: of a load balancer, say.
pub(super) fn subnet(state: &State, account: &Account, id: &str) -> Option<crate::model::Subnet> {
    rows::get(state, account, id).as_deref().and_then(subnet::of).cloned()
}

pub(super) use security_group::named as group_named;

pub(in crate::api) const DEFAULT_VPC: &str = "vpc-00000000000000001";
const DEFAULT_GROUP: &str = "sg-00000000000000001";

/// The id of a default in the account's region: at home `id`, elsewhere another of its kind.
pub(in crate::api) fn default_id(account: &Account, id: &str) -> Ec2Id {
    if !account.is_away {
        return id.into();
    }
    let kind = id.split('-').next().unwrap_or_default();
    let digits = super::file::id_of(&format!("{id} of {}", account.region));
    Ec2Id::new(format!("{kind}-0{digits}"))
}

/// An id that was never used: 17 hexadecimal digits behind its kind.
fn fresh(tx: &mut Tx<'_>, kind: &str) -> Ec2Id {
    // Multiplication by an odd number is one to one.
    let scattered = tx.next_number().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Ec2Id::new(format!("{kind}-0{scattered:016x}"))
}

pub(super) fn arn(account: &Account, id: &str) -> Arn {
    let kind = match id.split('-').next() {
        Some("sg") => "security-group",
        Some("sgr") => "security-group-rule",
        Some(kind) => kind,
        None => "",
    };
    account.arn("ec2", format!("{kind}/{id}"))
}

/// `[{"Key": …, "Value": …}]`.
fn shown_tags(state: &State, account: &Account, id: &str) -> Value {
    tags::shown(tags::of(state, &arn(account, id))).into()
}

/// The tags that a `TagSpecifications` gives to what is being made.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagSpecification {
    resource_type: Option<String>,
    #[serde(default)]
    tags: Vec<tags::Tag>,
}

/// Tags a new resource of this kind.
fn tag_new(
    tx: &mut Tx<'_>,
    arn: &Arn,
    kind: &str,
    specifications: Vec<TagSpecification>,
) -> Result<(), Error> {
    for specification in specifications {
        let named = specification.resource_type.as_deref().unwrap_or(kind);
        if named != kind {
            let text = format!("the tag specification's resource type {named} is not {kind}");
            return Err(Error::invalid(text));
        }
        tags::add(tx, arn, specification.tags).map_err(tag_error)?;
    }
    Ok(())
}

fn tag_error(error: tags::TagError) -> Error {
    match error {
        tags::TagError::TooMany => Error::new("TagLimitExceeded", error.to_string()),
        _ => Error::invalid(error.to_string()),
    }
}

/// A page of what is shown, under `member`.
fn paged(
    member: &str,
    items: Vec<(String, Value)>,
    token: Option<&str>,
    most: Option<usize>,
) -> Outcome {
    let (items, next) = page::page(items, |(id, _)| id.clone(), token, most.unwrap_or(PAGE))
        .map_err(|_| Error::new("InvalidNextToken", "The token is invalid."))?;
    let items: Vec<_> = items.into_iter().map(|(_, item)| item).collect();
    Ok(json!({member: items, "NextToken": next}))
}

fn done() -> Value {
    json!({})
}
