//! VPCs.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::tags;
use super::rows::{self, Kind};
use super::{
    DEFAULT_VPC, TagSpecification, arn, default_id, done, fresh, security_group, shown_tags,
    tag_new,
};
use crate::model::{Account, Ec2Resource, Pool, Vpc};
use crate::state::{Key, State};

/// The default VPC, with AWS's block.
pub(super) fn default(account: &Account) -> Vpc {
    Vpc {
        id: default_id(account, DEFAULT_VPC),
        region: account.place().to_owned(),
        cidr: "172.31.0.0/16".to_owned(),
        dns_support: true,
        dns_hostnames: true,
        is_default: true,
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    cidr_block: Option<String>,
    /// Terraform always says that it wants none.
    amazon_provided_ipv6_cidr_block: Option<bool>,
    #[serde(default)]
    tag_specifications: Vec<TagSpecification>,
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    let missing =
        || Error::new("MissingParameter", "The request must contain the parameter cidrBlock");
    let cidr = asked.cidr_block.ok_or_else(missing)?;
    if asked.amazon_provided_ipv6_cidr_block == Some(true) {
        return Err(Error::unsupported("AmazonProvidedIpv6CidrBlock is not supported here"));
    }
    let prefix = block(&cidr).map(|(_, prefix)| prefix);
    if !prefix.is_some_and(|prefix| (16..=28).contains(&prefix)) {
        return Err(Error::new("InvalidVpc.Range", format!("The CIDR '{cidr}' is invalid.")));
    }
    let account = call.account().clone();
    let change = move |tx: &mut crate::state::Tx<'_>| {
        let (id, group) = (fresh(tx, "vpc"), fresh(tx, "sg"));
        let (region, is_default) = (account.place().to_owned(), false);
        let vpc = Vpc { id, region, cidr, dns_support: true, dns_hostnames: false, is_default };
        tx.put(Ec2Resource::SecurityGroup(security_group::default(&vpc, group)));
        tag_new(tx, &arn(&account, vpc.id.as_str()), "vpc", asked.tag_specifications)?;
        tx.put(Ec2Resource::Vpc(vpc.clone()));
        Ok::<_, Error>(vpc)
    };
    let vpc = call.api.store.update(change).await?.value;
    Ok(json!({"Vpc": shown(call, &call.state(), &vpc)}))
}

/// An IPv4 block as its address and prefix.
pub(super) fn block(cidr: &str) -> Option<(u32, u8)> {
    let (address, prefix) = cidr.split_once('/')?;
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    // The grammar of a pool is that of a block: the address is the network's.
    cidr.parse::<Pool>().ok()?;
    Some((address.to_bits(), prefix.parse().ok()?))
}

fn shown(call: &Call, state: &State, vpc: &Vpc) -> Value {
    let associated = json!({
        "AssociationId": vpc.id.as_str().replacen("vpc-", "vpc-cidr-assoc-", 1),
        "CidrBlock": vpc.cidr,
        "CidrBlockState": {"State": "associated"},
    });
    json!({
        "VpcId": vpc.id,
        "State": "available",
        "CidrBlock": vpc.cidr,
        "CidrBlockAssociationSet": [associated],
        "Ipv6CidrBlockAssociationSet": [],
        "DhcpOptionsId": "default",
        "InstanceTenancy": "default",
        "IsDefault": vpc.is_default,
        "OwnerId": call.account().id,
        "Tags": shown_tags(state, call.account(), vpc.id.as_str()),
    })
}

const KIND: Kind<Vpc> = Kind { member: "Vpcs", of, missing, name: |_| None, attributes, shown };

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    rows::list(call, &input.read()?, &KIND)
}

fn attributes(account: &Account, vpc: &Vpc) -> Vec<(&'static str, String)> {
    vec![
        ("vpc-id", vpc.id.to_string()),
        ("cidr", vpc.cidr.clone()),
        ("cidr-block-association.cidr-block", vpc.cidr.clone()),
        ("is-default", vpc.is_default.to_string()),
        ("isDefault", vpc.is_default.to_string()),
        ("owner-id", account.id.clone()),
        ("state", "available".to_owned()),
        ("dhcp-options-id", "default".to_owned()),
    ]
}

fn of(resource: &Ec2Resource) -> Option<&Vpc> {
    match resource {
        Ec2Resource::Vpc(vpc) => Some(vpc),
        _ => None,
    }
}

/// # Errors
/// `InvalidVpcID.NotFound`.
pub(super) fn find(state: &State, account: &Account, id: &str) -> Result<Vpc, Error> {
    rows::find(state, account, id, of, missing)
}

fn missing(id: &str) -> Error {
    Error::new("InvalidVpcID.NotFound", format!("The vpc ID '{id}' does not exist"))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeAttribute {
    vpc_id: String,
    attribute: String,
}

pub(super) fn describe_attribute(call: &Call, input: Input) -> Outcome {
    let asked: DescribeAttribute = input.read()?;
    let vpc = find(&call.state(), call.account(), &asked.vpc_id)?;
    let (member, value) = match asked.attribute.as_str() {
        "enableDnsSupport" => ("EnableDnsSupport", vpc.dns_support),
        "enableDnsHostnames" => ("EnableDnsHostnames", vpc.dns_hostnames),
        _ => ("EnableNetworkAddressUsageMetrics", false),
    };
    Ok(json!({"VpcId": vpc.id, member: {"Value": value}}))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ModifyAttribute {
    vpc_id: String,
    enable_dns_support: Option<Flag>,
    enable_dns_hostnames: Option<Flag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Flag {
    pub(super) value: Option<bool>,
}

pub(super) async fn modify_attribute(call: &Call, input: Input) -> Outcome {
    let asked: ModifyAttribute = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut crate::state::Tx<'_>| {
        let mut vpc = find(tx.state(), &account, &asked.vpc_id)?;
        let flag = |flag: Option<Flag>, now| flag.and_then(|flag| flag.value).unwrap_or(now);
        vpc.dns_support = flag(asked.enable_dns_support, vpc.dns_support);
        vpc.dns_hostnames = flag(asked.enable_dns_hostnames, vpc.dns_hostnames);
        tx.put(Ec2Resource::Vpc(vpc));
        Ok::<_, Error>(())
    };
    call.api.store.update(change).await?;
    Ok(done())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Delete {
    vpc_id: String,
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: Delete = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut crate::state::Tx<'_>| {
        let vpc = find(tx.state(), &account, &asked.vpc_id)?;
        let id = &vpc.id;
        let depends = |resource: &Ec2Resource| match resource {
            Ec2Resource::Subnet(subnet) => subnet.vpc == *id,
            Ec2Resource::SecurityGroup(group) => group.vpc == *id && group.name != "default",
            Ec2Resource::Vpc(_) => false,
        };
        let own: Vec<_> = rows::all(tx.state(), &account).collect();
        if vpc.is_default || own.iter().any(|resource| depends(resource)) {
            let text = format!("The vpc '{id}' has dependencies and cannot be deleted.");
            return Err(Error::new("DependencyViolation", text));
        }
        for resource in &own {
            if matches!(&**resource, Ec2Resource::SecurityGroup(group) if group.vpc == *id) {
                tags::forget(tx, &arn(&account, resource.id().as_str()));
                tx.remove(Key::Ec2Resource(resource.id().clone()));
            }
        }
        tags::forget(tx, &arn(&account, id.as_str()));
        tx.remove(Key::Ec2Resource(id.clone()));
        Ok(())
    };
    call.api.store.update(change).await?;
    Ok(done())
}
