//! Subnets and availability zones.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::tags;
use super::filter::{Filter, Subject, matches};
use super::rows::{self, Kind};
use super::vpc::{Flag, block};
use super::{
    DEFAULT_VPC, TagSpecification, arn, default_id, done, fresh, shown_tags, tag_new, vpc,
};
use crate::model::{Account, Ec2Resource, Subnet};
use crate::state::{Key, State, Tx};

/// Letters of the region's zones.
const ZONES: [char; 3] = ['a', 'b', 'c'];

fn zone(account: &Account, letter: char) -> String {
    format!("{}{letter}", account.region)
}

/// The id that stays the same in every account, as AWS has one beside the name.
fn zone_id(account: &Account, zone: &str) -> String {
    let at = ZONES.iter().position(|letter| zone.ends_with(*letter)).unwrap_or_default();
    format!("{}-az{}", account.region, at + 1)
}

/// The default VPC's subnets, one in each zone, with AWS's blocks.
pub(super) fn defaults(account: &Account) -> Vec<Subnet> {
    let subnet = |(at, letter): (usize, &char)| Subnet {
        id: default_id(account, &format!("subnet-{:017x}", at + 1)),
        region: account.place().to_owned(),
        vpc: default_id(account, DEFAULT_VPC),
        cidr: format!("172.31.{}.0/20", at * 16),
        zone: zone(account, *letter),
        map_public_ip: true,
        is_default: true,
    };
    ZONES.iter().enumerate().map(subnet).collect()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    vpc_id: String,
    cidr_block: Option<String>,
    availability_zone: Option<String>,
    availability_zone_id: Option<String>,
    #[serde(default)]
    tag_specifications: Vec<TagSpecification>,
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let vpc = vpc::find(tx.state(), &account, &asked.vpc_id)?;
        let cidr = asked.cidr_block.unwrap_or_default();
        let range = || Error::new("InvalidSubnet.Range", format!("The CIDR '{cidr}' is invalid."));
        let own = block(&cidr).ok_or_else(range)?;
        let outer = block(&vpc.cidr).ok_or_else(range)?;
        if !(16..=28).contains(&own.1) || own.1 < outer.1 || !overlap(own, outer) {
            return Err(range());
        }
        let conflict = |resource: &Ec2Resource| match resource {
            Ec2Resource::Subnet(subnet) if subnet.vpc == vpc.id => {
                block(&subnet.cidr).is_some_and(|other| overlap(own, other))
            }
            _ => false,
        };
        if rows::all(tx.state(), &account).any(|resource| conflict(&resource)) {
            let text = format!("The CIDR '{cidr}' conflicts with another subnet");
            return Err(Error::new("InvalidSubnet.Conflict", text));
        }
        let by_id = |id: String| {
            ZONES.iter().map(|l| zone(&account, *l)).find(|zone| zone_id(&account, zone) == id)
        };
        let asked_zone = match (asked.availability_zone, asked.availability_zone_id) {
            (Some(zone), _) => Some(zone),
            (None, Some(id)) => Some(by_id(id.clone()).unwrap_or(id)),
            (None, None) => None,
        };
        let zone_name = asked_zone.unwrap_or_else(|| zone(&account, ZONES[0]));
        if ZONES.iter().all(|letter| zone(&account, *letter) != zone_name) {
            let text = format!(
                "Value ({zone_name}) for parameter availabilityZone is invalid. Subnets can \
                 currently only be created in the following availability zones: {}.",
                ZONES.map(|letter| zone(&account, letter)).join(", ")
            );
            return Err(Error::invalid(text));
        }
        let subnet = Subnet {
            id: fresh(tx, "subnet"),
            region: vpc.region,
            vpc: vpc.id,
            cidr,
            zone: zone_name,
            map_public_ip: false,
            is_default: false,
        };
        tag_new(tx, &arn(&account, subnet.id.as_str()), "subnet", asked.tag_specifications)?;
        tx.put(Ec2Resource::Subnet(subnet.clone()));
        Ok(subnet)
    };
    let subnet = call.api.store.update(change).await?.value;
    Ok(json!({"Subnet": shown(call, &call.state(), &subnet)}))
}

/// Whether two blocks share addresses.
fn overlap(one: (u32, u8), other: (u32, u8)) -> bool {
    let bits = 32 - u32::from(one.1.min(other.1));
    (u64::from(one.0) >> bits) == (u64::from(other.0) >> bits)
}

fn shown(call: &Call, state: &State, subnet: &Subnet) -> Value {
    let addresses = block(&subnet.cidr).map_or(0, |(_, prefix)| (1_i64 << (32 - prefix)) - 5);
    let id = subnet.id.as_str();
    json!({
        "SubnetId": id,
        "SubnetArn": arn(call.account(), id).to_string(),
        "VpcId": subnet.vpc,
        "State": "available",
        "CidrBlock": subnet.cidr,
        "AvailableIpAddressCount": addresses,
        "AvailabilityZone": subnet.zone,
        "AvailabilityZoneId": zone_id(call.account(), &subnet.zone),
        "DefaultForAz": subnet.is_default,
        "MapPublicIpOnLaunch": subnet.map_public_ip,
        "AssignIpv6AddressOnCreation": false,
        "Ipv6CidrBlockAssociationSet": [],
        "Ipv6Native": false,
        "EnableDns64": false,
        "MapCustomerOwnedIpOnLaunch": false,
        "PrivateDnsNameOptionsOnLaunch": {
            "HostnameType": "ip-name",
            "EnableResourceNameDnsARecord": false,
            "EnableResourceNameDnsAAAARecord": false,
        },
        "OwnerId": call.account().id,
        "Tags": shown_tags(state, call.account(), id),
    })
}

const KIND: Kind<Subnet> =
    Kind { member: "Subnets", of, missing, name: |_| None, attributes, shown };

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    rows::list(call, &input.read()?, &KIND)
}

fn attributes(account: &Account, subnet: &Subnet) -> Vec<(&'static str, String)> {
    vec![
        ("subnet-id", subnet.id.to_string()),
        ("vpc-id", subnet.vpc.to_string()),
        ("cidr-block", subnet.cidr.clone()),
        ("availability-zone", subnet.zone.clone()),
        ("availability-zone-id", zone_id(account, &subnet.zone)),
        ("default-for-az", subnet.is_default.to_string()),
        ("map-public-ip-on-launch", subnet.map_public_ip.to_string()),
        ("owner-id", account.id.clone()),
        ("state", "available".to_owned()),
    ]
}

pub(super) fn of(resource: &Ec2Resource) -> Option<&Subnet> {
    match resource {
        Ec2Resource::Subnet(subnet) => Some(subnet),
        _ => None,
    }
}

fn find(state: &State, account: &Account, id: &str) -> Result<Subnet, Error> {
    rows::find(state, account, id, of, missing)
}

fn missing(id: &str) -> Error {
    Error::new("InvalidSubnetID.NotFound", format!("The subnet ID '{id}' does not exist"))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ModifyAttribute {
    subnet_id: String,
    map_public_ip_on_launch: Option<Flag>,
}

pub(super) async fn modify_attribute(call: &Call, input: Input) -> Outcome {
    let asked: ModifyAttribute = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let mut subnet = find(tx.state(), &account, &asked.subnet_id)?;
        let flag = asked.map_public_ip_on_launch.and_then(|flag| flag.value);
        subnet.map_public_ip = flag.unwrap_or(subnet.map_public_ip);
        tx.put(Ec2Resource::Subnet(subnet));
        Ok::<_, Error>(())
    };
    call.api.store.update(change).await?;
    Ok(done())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Delete {
    subnet_id: String,
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: Delete = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let subnet = find(tx.state(), &account, &asked.subnet_id)?;
        if subnet.is_default {
            let text =
                format!("The subnet '{}' has dependencies and cannot be deleted.", subnet.id);
            return Err(Error::new("DependencyViolation", text));
        }
        tags::forget(tx, &arn(&account, subnet.id.as_str()));
        tx.remove(Key::Ec2Resource(subnet.id));
        Ok(())
    };
    call.api.store.update(change).await?;
    Ok(done())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Zones {
    #[serde(default)]
    zone_names: Vec<String>,
    #[serde(default)]
    zone_ids: Vec<String>,
    #[serde(default)]
    filters: Vec<Filter>,
}

pub(super) fn zones(call: &Call, input: Input) -> Outcome {
    let asked: Zones = input.read()?;
    let (account, region) = (call.account(), &call.account().region);
    let tags = std::collections::BTreeMap::new();
    let mut shown = Vec::new();
    for name in ZONES.map(|letter| zone(account, letter)) {
        let id = zone_id(account, &name);
        let attributes = vec![
            ("zone-name", name.clone()),
            ("zone-id", id.clone()),
            ("region-name", region.clone()),
            ("group-name", region.clone()),
            ("state", "available".to_owned()),
            ("zone-type", "availability-zone".to_owned()),
            ("opt-in-status", "opt-in-not-required".to_owned()),
        ];
        let named = asked.zone_names.is_empty() || asked.zone_names.contains(&name);
        let by_id = asked.zone_ids.is_empty() || asked.zone_ids.contains(&id);
        if matches(&asked.filters, &Subject { attributes, tags: &tags })? && named && by_id {
            shown.push(json!({
                "ZoneName": name, "ZoneId": id, "RegionName": region, "GroupName": region,
                "NetworkBorderGroup": region, "State": "available", "Messages": [],
                "OptInStatus": "opt-in-not-required", "ZoneType": "availability-zone",
            }));
        }
    }
    Ok(json!({"AvailabilityZones": shown}))
}

/// The regions that are served.
pub(super) fn regions(call: &Call, input: Input) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Asked {
        #[serde(default)]
        region_names: Vec<String>,
        #[serde(default)]
        filters: Vec<Filter>,
    }
    let asked: Asked = input.read()?;
    let home = &call.api.account;
    let mut all: Vec<_> = [&home.region].into_iter().chain(&home.others).collect();
    all.sort();
    if let Some(other) = asked.region_names.iter().find(|name| !all.contains(name)) {
        let text = format!("Invalid region: [{other}]");
        return Err(Error::invalid(text));
    }
    all.retain(|name| asked.region_names.is_empty() || asked.region_names.contains(name));
    let (endpoint, opted) = (call.host.clone(), "opt-in-not-required".to_owned());
    let tags = std::collections::BTreeMap::new();
    let mut found = Vec::new();
    for name in all {
        let attributes = vec![
            ("region-name", name.clone()),
            ("endpoint", endpoint.clone()),
            ("opt-in-status", opted.clone()),
        ];
        if matches(&asked.filters, &Subject { attributes, tags: &tags })? {
            let shown = json!({ "RegionName": name, "Endpoint": endpoint, "OptInStatus": opted });
            found.push(shown);
        }
    }
    Ok(json!({ "Regions": found }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_overlap_when_one_holds_the_other() {
        for (one, other, expected) in [
            ("10.0.0.0/16", "10.0.1.0/24", true),
            ("10.0.1.0/24", "10.0.0.0/16", true),
            ("10.0.1.0/24", "10.0.2.0/24", false),
            ("10.0.0.0/24", "10.0.0.0/24", true),
            ("0.0.0.0/0", "10.0.0.0/8", true),
        ] {
            let (one, other) = (block(one).unwrap(), block(other).unwrap());
            assert_eq!(overlap(one, other), expected);
        }
    }
}
