//! Security groups and their rules.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::call::{Call, Input, Outcome};
use super::super::error::Error;
use super::super::tags;
use super::filter::{Filter, Subject, matches};
use super::permission::{self, Permission, same};
use super::rows::{self, Kind};
use super::{DEFAULT_GROUP, DEFAULT_VPC, TagSpecification, arn, default_id, done, fresh, paged};
use super::{shown_tags, tag_new, vpc};
use crate::model::{Account, Ec2Id, Ec2Resource, RulePeer, SecurityGroup, SecurityGroupRule, Vpc};
use crate::state::{Key, State, Tx};

/// A VPC's own group: its members reach each other, and everything outside.
pub(super) fn default(vpc: &Vpc, id: Ec2Id) -> SecurityGroup {
    let rule = |egress, peer| SecurityGroupRule {
        id: id.as_str().replacen("sg-", if egress { "sgr-e" } else { "sgr-f" }, 1),
        egress,
        protocol: "-1".to_owned(),
        ports: None,
        peer,
        description: None,
    };
    let rules = vec![
        rule(false, RulePeer::Group(id.to_string())),
        rule(true, RulePeer::Ipv4("0.0.0.0/0".to_owned())),
    ];
    let (name, description) = ("default".to_owned(), "default VPC security group".to_owned());
    let (region, vpc) = (vpc.region.clone(), vpc.id.clone());
    SecurityGroup { id, region, vpc, name, description, rules }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    group_name: String,
    description: String,
    vpc_id: Option<String>,
    #[serde(default)]
    tag_specifications: Vec<TagSpecification>,
}

pub(super) async fn create(call: &Call, input: Input) -> Outcome {
    let asked: Create = input.read()?;
    if asked.group_name.starts_with("sg-") || asked.group_name == "default" {
        let text = format!("Invalid security group name '{}'", asked.group_name);
        return Err(Error::invalid(text));
    }
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let vpc = asked.vpc_id.unwrap_or_else(|| default_id(&account, DEFAULT_VPC).to_string());
        let vpc = vpc::find(tx.state(), &account, &vpc)?;
        let name = asked.group_name;
        let taken = |group: &SecurityGroup| group.vpc == vpc.id && group.name == name;
        if rows::all(tx.state(), &account).any(|row| of(&row).is_some_and(taken)) {
            let text = format!("The security group '{name}' already exists for VPC '{}'", vpc.id);
            return Err(Error::new("InvalidGroup.Duplicate", text));
        }
        let id = fresh(tx, "sg");
        // AWS gives a new group the rule that lets everything out.
        let mut rules = default(&vpc, id.clone()).rules;
        rules.retain(|rule| rule.egress);
        let description = asked.description;
        let group = SecurityGroup { id, region: vpc.region, vpc: vpc.id, name, description, rules };
        let arn = arn(&account, group.id.as_str());
        tag_new(tx, &arn, "security-group", asked.tag_specifications)?;
        tx.put(Ec2Resource::SecurityGroup(group.clone()));
        Ok(group)
    };
    let group = call.api.store.update(change).await?.value;
    let id = group.id.as_str();
    Ok(json!({
        "GroupId": id,
        "SecurityGroupArn": arn(call.account(), id).to_string(),
        "Tags": shown_tags(&call.state(), call.account(), id),
    }))
}

const KIND: Kind<SecurityGroup> = Kind {
    member: "SecurityGroups",
    of,
    missing,
    name: |group| Some(&group.name),
    attributes,
    shown,
};

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    rows::list(call, &input.read()?, &KIND)
}

fn attributes(account: &Account, group: &SecurityGroup) -> Vec<(&'static str, String)> {
    vec![
        ("group-id", group.id.to_string()),
        ("group-name", group.name.clone()),
        ("description", group.description.clone()),
        ("vpc-id", group.vpc.to_string()),
        ("owner-id", account.id.clone()),
    ]
}

fn shown(call: &Call, state: &State, group: &SecurityGroup) -> Value {
    let (account, id) = (&call.account().id, group.id.as_str());
    json!({
        "GroupId": id,
        "GroupName": group.name,
        "Description": group.description,
        "VpcId": group.vpc,
        "OwnerId": account,
        "SecurityGroupArn": arn(call.account(), id).to_string(),
        "IpPermissions": permission::shown(&group.rules, false, account),
        "IpPermissionsEgress": permission::shown(&group.rules, true, account),
        "Tags": shown_tags(state, call.account(), id),
    })
}

fn of(resource: &Ec2Resource) -> Option<&SecurityGroup> {
    match resource {
        Ec2Resource::SecurityGroup(group) => Some(group),
        _ => None,
    }
}

/// The security groups alone.
fn groups(state: &State, account: &Account) -> Vec<Arc<Ec2Resource>> {
    rows::all(state, account).filter(|row| of(row).is_some()).collect()
}

/// The group of that name in the default VPC.
pub(in crate::api) fn named(state: &State, account: &Account, name: &str) -> Option<Ec2Id> {
    let all = groups(state, account);
    let mut groups = all.iter().filter_map(|row| of(row));
    let found =
        groups.find(|group| group.vpc == default_id(account, DEFAULT_VPC) && group.name == name);
    found.map(|group| group.id.clone())
}

fn find(state: &State, account: &Account, id: &str) -> Result<SecurityGroup, Error> {
    rows::find(state, account, id, of, missing)
}

fn missing(id: &str) -> Error {
    let text = format!("The security group '{id}' does not exist");
    Error::new("InvalidGroup.NotFound", text)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeRules {
    #[serde(default)]
    security_group_rule_ids: Vec<String>,
    #[serde(default)]
    filters: Vec<Filter>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

pub(super) fn describe_rules(call: &Call, input: Input) -> Outcome {
    let asked: DescribeRules = input.read()?;
    let state = call.state();
    let mut found = Vec::new();
    let groups = groups(&state, call.account());
    for group in groups.iter().filter_map(|row| of(row)) {
        for rule in &group.rules {
            let subject = Subject {
                attributes: vec![
                    ("group-id", group.id.to_string()),
                    ("security-group-rule-id", rule.id.clone()),
                ],
                tags: tags::of(&state, &arn(call.account(), &rule.id)),
            };
            let ids = &asked.security_group_rule_ids;
            if matches(&asked.filters, &subject)? && (ids.is_empty() || ids.contains(&rule.id)) {
                found.push((rule.id.clone(), shown_rule(call, group, rule)));
            }
        }
    }
    for id in &asked.security_group_rule_ids {
        if found.iter().all(|(found, _)| found != id) {
            let text = format!("The security group rule ID '{id}' does not exist");
            return Err(Error::new("InvalidSecurityGroupRuleId.NotFound", text));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    paged("SecurityGroupRules", found, asked.next_token.as_deref(), asked.max_results)
}

fn shown_rule(call: &Call, group: &SecurityGroup, rule: &SecurityGroupRule) -> Value {
    let account = call.account();
    let mut shown = json!({
        "SecurityGroupRuleId": rule.id,
        "SecurityGroupRuleArn": arn(account, &rule.id).to_string(),
        "GroupId": group.id,
        "GroupOwnerId": account.id,
        "IsEgress": rule.egress,
        "IpProtocol": rule.protocol,
        "FromPort": rule.ports.map_or(-1, |ports| ports.0),
        "ToPort": rule.ports.map_or(-1, |ports| ports.1),
        "Description": rule.description,
        "Tags": shown_tags(&call.state(), account, &rule.id),
    });
    match &rule.peer {
        RulePeer::Ipv4(text) => shown["CidrIpv4"] = json!(text),
        RulePeer::Ipv6(text) => shown["CidrIpv6"] = json!(text),
        RulePeer::PrefixList(text) => shown["PrefixListId"] = json!(text),
        RulePeer::Group(text) => {
            shown["ReferencedGroupInfo"] = json!({"GroupId": text, "UserId": account.id});
        }
    }
    shown
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Authorize {
    group_id: Option<String>,
    ip_permissions: Option<Vec<Permission>>,
    ip_protocol: Option<String>,
    from_port: Option<i64>,
    to_port: Option<i64>,
    cidr_ip: Option<String>,
    #[serde(default)]
    security_group_rule_ids: Vec<String>,
    #[serde(default)]
    tag_specifications: Vec<TagSpecification>,
}

impl Authorize {
    fn group(&self) -> Result<String, Error> {
        let text = "The request must contain the parameter groupId";
        self.group_id.clone().ok_or_else(|| Error::new("MissingParameter", text))
    }

    /// The rules that the request writes out, without ids.
    fn rules(&mut self, egress: bool) -> Result<Vec<SecurityGroupRule>, Error> {
        let permissions = self.ip_permissions.take().unwrap_or_else(|| {
            let ports = (self.from_port, self.to_port);
            vec![Permission::plain(self.ip_protocol.take(), ports, self.cidr_ip.take())]
        });
        let mut rules = Vec::new();
        for permission in permissions {
            rules.extend(permission.rules(egress)?);
        }
        Ok(rules)
    }
}

pub(super) async fn authorize(call: &Call, input: Input, egress: bool) -> Outcome {
    let mut asked: Authorize = input.read()?;
    let id = asked.group()?;
    let mut rules = asked.rules(egress)?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let mut group = find(tx.state(), &account, &id)?;
        for rule in &mut rules {
            if group.rules.iter().any(|own| same(own, rule)) {
                let text = "the specified rule already exists in the security group".to_owned();
                return Err(Error::new("InvalidPermission.Duplicate", text));
            }
            rule.id = fresh(tx, "sgr").to_string();
            group.rules.push(rule.clone());
        }
        for specification in asked.tag_specifications {
            for rule in &rules {
                let tags = specification.tags.clone();
                tags::add(tx, &arn(&account, &rule.id), tags).map_err(super::tag_error)?;
            }
        }
        tx.put(Ec2Resource::SecurityGroup(group.clone()));
        Ok((group, rules))
    };
    let (group, rules) = call.api.store.update(change).await?.value;
    let rules: Vec<_> = rules.iter().map(|rule| shown_rule(call, &group, rule)).collect();
    Ok(json!({"Return": true, "SecurityGroupRules": rules}))
}

pub(super) async fn revoke(call: &Call, input: Input, egress: bool) -> Outcome {
    let mut asked: Authorize = input.read()?;
    let id = asked.group()?;
    let by_id = !asked.security_group_rule_ids.is_empty();
    let rules = if by_id { Vec::new() } else { asked.rules(egress)? };
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let mut group = find(tx.state(), &account, &id)?;
        let gone = |rule: &SecurityGroupRule| {
            rule.egress == egress
                && (asked.security_group_rule_ids.contains(&rule.id)
                    || rules.iter().any(|asked| same(asked, rule)))
        };
        let (gone, kept): (Vec<_>, Vec<_>) = group.rules.into_iter().partition(gone);
        let wanted = if by_id { asked.security_group_rule_ids.len() } else { rules.len() };
        if gone.len() < wanted {
            let text = "The specified rule does not exist in this security group.";
            return Err(Error::new("InvalidPermission.NotFound", text));
        }
        gone.iter().for_each(|rule| tags::forget(tx, &arn(&account, &rule.id)));
        group.rules = kept;
        tx.put(Ec2Resource::SecurityGroup(group));
        Ok(())
    };
    call.api.store.update(change).await?;
    Ok(json!({"Return": true}))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Delete {
    group_id: Option<String>,
    group_name: Option<String>,
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: Delete = input.read()?;
    let account = call.account().clone();
    let change = move |tx: &mut Tx<'_>| {
        let all = groups(tx.state(), &account);
        let id = match (asked.group_id, &asked.group_name) {
            (Some(id), _) => id,
            (None, Some(name)) => {
                let found = named(tx.state(), &account, name);
                found.ok_or_else(|| missing(name))?.to_string()
            }
            (None, None) => {
                let text = "The request must contain the parameter groupName or groupId";
                return Err(Error::new("MissingParameter", text));
            }
        };
        let group = find(tx.state(), &account, &id)?;
        if group.name == "default" || id == default_id(&account, DEFAULT_GROUP).as_str() {
            let text = format!(
                "the specified group: \"{id}\" name: \"default\" cannot be deleted by a user"
            );
            return Err(Error::new("CannotDelete", text));
        }
        let names_it = |other: &SecurityGroup| {
            other.id != group.id
                && other.rules.iter().any(|rule| rule.peer == RulePeer::Group(id.clone()))
        };
        if all.iter().any(|row| of(row).is_some_and(names_it)) {
            let text = format!("resource {id} has a dependent object");
            return Err(Error::new("DependencyViolation", text));
        }
        group.rules.iter().for_each(|rule| tags::forget(tx, &arn(&account, &rule.id)));
        tags::forget(tx, &arn(&account, &id));
        tx.remove(Key::Ec2Resource(group.id));
        Ok(())
    };
    call.api.store.update(change).await?;
    Ok(done())
}
