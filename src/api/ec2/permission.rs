//! Permissions as clients write and read them, and the rules that they are made of.
//!
//! A permission has one protocol and port range and many peers; a rule has one peer.
//! **Invariant:** the permissions shown of a list of rules give the same rules again.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::error::Error;
use crate::model::{RulePeer, SecurityGroupRule};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Permission {
    ip_protocol: Option<String>,
    from_port: Option<i64>,
    to_port: Option<i64>,
    #[serde(default)]
    ip_ranges: Vec<Range>,
    #[serde(default)]
    ipv6_ranges: Vec<Range>,
    #[serde(default)]
    prefix_list_ids: Vec<Range>,
    #[serde(default)]
    user_id_group_pairs: Vec<Range>,
}

/// A peer; which member it has depends on the list it stands in.
#[derive(Clone, Debug, Deserialize)]
struct Range {
    #[serde(alias = "CidrIp", alias = "CidrIpv6", alias = "PrefixListId", alias = "GroupId")]
    peer: Option<String>,
    #[serde(rename = "Description")]
    description: Option<String>,
    /// Whose group; ours are all of one account.
    #[serde(rename = "UserId")]
    _user: Option<String>,
    /// The group's name instead of its id, which only the default VPC of old took.
    #[serde(rename = "GroupName")]
    group_name: Option<String>,
    #[serde(rename = "VpcId")]
    _vpc: Option<String>,
}

/// What the text of a list's item is.
type Peer = fn(String) -> RulePeer;

/// First and last, as rules have them.
type Ports = Option<(i64, i64)>;

impl Permission {
    /// The old form, with one block in the request itself.
    pub(super) fn plain(
        protocol: Option<String>,
        ports: (Option<i64>, Option<i64>),
        cidr: Option<String>,
    ) -> Self {
        let range = |cidr| Range {
            peer: Some(cidr),
            description: None,
            _user: None,
            group_name: None,
            _vpc: None,
        };
        Self {
            ip_protocol: protocol,
            from_port: ports.0,
            to_port: ports.1,
            ip_ranges: cidr.into_iter().map(range).collect(),
            ..Self::default()
        }
    }

    /// One rule per peer, without ids.
    ///
    /// # Errors
    /// No protocol, ports that do not fit it, a peer that is none.
    pub(super) fn rules(self, egress: bool) -> Result<Vec<SecurityGroupRule>, Error> {
        let missing = |what: &str| {
            let text = format!("The request must contain the parameter {what}");
            Error::new("MissingParameter", text)
        };
        let protocol = self.ip_protocol.ok_or_else(|| missing("ipProtocol"))?;
        let protocol = match protocol.as_str() {
            "6" => "tcp".to_owned(),
            "17" => "udp".to_owned(),
            "1" => "icmp".to_owned(),
            "58" => "icmpv6".to_owned(),
            "all" => "-1".to_owned(),
            other => other.to_ascii_lowercase(),
        };
        let known = ["tcp", "udp", "icmp", "icmpv6", "-1"].contains(&protocol.as_str());
        if !known && protocol.parse::<u8>().is_err() {
            return Err(Error::invalid(format!("Invalid value '{protocol}' for IP protocol.")));
        }
        let ports = match (protocol.as_str(), self.from_port, self.to_port) {
            ("-1", ..) => None,
            ("tcp" | "udp", Some(from), Some(to)) => {
                if !(0..=65535).contains(&from) || !(0..=65535).contains(&to) || from > to {
                    let text = format!("Invalid TCP/UDP port range ({from}:{to})");
                    return Err(Error::invalid(text));
                }
                Some((from, to))
            }
            ("tcp" | "udp", None, None) => None,
            (_, from, to) => from.zip(to),
        };
        let kinds: [(Vec<Range>, Peer); 4] = [
            (self.ip_ranges, RulePeer::Ipv4),
            (self.ipv6_ranges, RulePeer::Ipv6),
            (self.prefix_list_ids, RulePeer::PrefixList),
            (self.user_id_group_pairs, RulePeer::Group),
        ];
        let mut rules = Vec::new();
        for (ranges, peer) in kinds {
            for range in ranges {
                if range.group_name.is_some() {
                    return Err(Error::unsupported("groups are named by GroupId here"));
                }
                let peer = peer(range.peer.ok_or_else(|| missing("the peer of a permission"))?);
                check(&peer)?;
                let description = range.description;
                let (protocol, id) = (protocol.clone(), String::new());
                rules.push(SecurityGroupRule { id, egress, protocol, ports, peer, description });
            }
        }
        if rules.is_empty() {
            return Err(missing("cidrIp"));
        }
        Ok(rules)
    }
}

fn check(peer: &RulePeer) -> Result<(), Error> {
    let block = |text: &str, most: u8| {
        let (address, prefix) = text.split_once('/')?;
        let address: std::net::IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        (prefix <= most && address.is_ipv4() == (most == 32)).then_some(())
    };
    let good = match peer {
        RulePeer::Ipv4(text) => block(text, 32).is_some(),
        RulePeer::Ipv6(text) => block(text, 128).is_some(),
        RulePeer::PrefixList(text) => text.starts_with("pl-"),
        RulePeer::Group(text) => text.starts_with("sg-"),
    };
    let (RulePeer::Ipv4(text)
    | RulePeer::Ipv6(text)
    | RulePeer::PrefixList(text)
    | RulePeer::Group(text)) = peer;
    if good { Ok(()) } else { Err(Error::invalid(format!("CIDR block {text} is malformed"))) }
}

/// Whether two rules let the same pass: descriptions do not count.
pub(super) fn same(one: &SecurityGroupRule, other: &SecurityGroupRule) -> bool {
    one.egress == other.egress
        && one.protocol == other.protocol
        && one.ports == other.ports
        && one.peer == other.peer
}

/// `IpPermissions`, or `IpPermissionsEgress`, of a group's rules.
pub(super) fn shown(rules: &[SecurityGroupRule], egress: bool, account: &str) -> Vec<Value> {
    let mut permissions: Vec<(&str, Ports, Map<String, Value>)> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.egress == egress) {
        let key = (rule.protocol.as_str(), rule.ports);
        let at = permissions.iter().position(|(protocol, ports, _)| (*protocol, *ports) == key);
        let at = at.unwrap_or_else(|| {
            permissions.push((key.0, key.1, empty(key.0, key.1)));
            permissions.len() - 1
        });
        let (list, mut item) = match &rule.peer {
            RulePeer::Ipv4(text) => ("IpRanges", json!({"CidrIp": text})),
            RulePeer::Ipv6(text) => ("Ipv6Ranges", json!({"CidrIpv6": text})),
            RulePeer::PrefixList(text) => ("PrefixListIds", json!({"PrefixListId": text})),
            RulePeer::Group(text) => {
                ("UserIdGroupPairs", json!({"GroupId": text, "UserId": account}))
            }
        };
        item["Description"] = json!(rule.description);
        if let Some(Value::Array(items)) = permissions[at].2.get_mut(list) {
            items.push(item);
        }
    }
    permissions.into_iter().map(|(.., permission)| Value::Object(permission)).collect()
}

fn empty(protocol: &str, ports: Ports) -> Map<String, Value> {
    let mut permission = Map::new();
    permission.insert("IpProtocol".to_owned(), json!(protocol));
    permission.insert("FromPort".to_owned(), json!(ports.map(|ports| ports.0)));
    permission.insert("ToPort".to_owned(), json!(ports.map(|ports| ports.1)));
    for list in ["IpRanges", "Ipv6Ranges", "PrefixListIds", "UserIdGroupPairs"] {
        permission.insert(list.to_owned(), json!([]));
    }
    permission
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A permission as JSON, and the rules it is made of.
    fn check_rules(text: Value, expected: &str) {
        let permission: Permission = serde_json::from_value(text.clone()).unwrap();
        let outcome = match permission.rules(false) {
            Ok(rules) => {
                let show = |rule: &SecurityGroupRule| {
                    let ports = rule.ports.map(|(from, to)| format!(" {from}-{to}"));
                    format!("{}{} {:?}", rule.protocol, ports.unwrap_or_default(), rule.peer)
                };
                rules.iter().map(show).collect::<Vec<_>>().join("; ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(outcome, expected, "{text}");
    }

    #[test]
    fn permissions_become_rules() {
        check_rules(
            json!({"IpProtocol": "tcp", "FromPort": 80, "ToPort": 81,
                "IpRanges": [{"CidrIp": "0.0.0.0/0"}, {"CidrIp": "10.0.0.0/8"}],
                "UserIdGroupPairs": [{"GroupId": "sg-1", "UserId": "0"}]}),
            "tcp 80-81 Ipv4(\"0.0.0.0/0\"); tcp 80-81 Ipv4(\"10.0.0.0/8\"); \
             tcp 80-81 Group(\"sg-1\")",
        );
        check_rules(
            json!({"IpProtocol": "-1", "FromPort": 0, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}),
            "-1 Ipv6(\"::/0\")",
        );
        let missing = "MissingParameter: The request must contain the parameter";
        check_rules(json!({"IpProtocol": "tcp"}), &format!("{missing} cidrIp"));
        check_rules(json!({}), &format!("{missing} ipProtocol"));
        check_rules(
            json!({"IpProtocol": "tcp", "IpRanges": [{"CidrIp": "10.0.0.0/33"}]}),
            "CIDR block 10.0.0.0/33 is malformed",
        );
        check_rules(
            json!({"IpProtocol": "udp", "FromPort": 9, "ToPort": 8}),
            "Invalid TCP/UDP port range (9:8)",
        );
        check_rules(json!({"IpProtocol": "moon"}), "Invalid value 'moon' for IP protocol.");
    }

    #[test]
    fn permissions_shown_give_the_same_rules_again() {
        let given = json!({"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
            "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "all"}],
            "Ipv6Ranges": [{"CidrIpv6": "::/0"}]});
        let permission: Permission = serde_json::from_value(given).unwrap();
        let rules = permission.rules(false).unwrap();
        let shown = shown(&rules, false, "0");
        assert_eq!(shown.len(), 1);
        let again: Permission = serde_json::from_value(shown[0].clone()).unwrap();
        assert_eq!(again.rules(false).unwrap(), rules);
    }
}
