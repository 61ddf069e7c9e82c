//! What clients of EC2's smallest part read and write on their way: networks as bookkeeping.
//!
//! Not here: any effect on traffic. Tasks get their addresses from the runtime, and nothing
//! filters by these groups.

use serde::{Deserialize, Serialize};

use super::Ec2Id;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ec2Resource {
    Vpc(Vpc),
    Subnet(Subnet),
    SecurityGroup(SecurityGroup),
}

impl Ec2Resource {
    #[must_use]
    pub const fn id(&self) -> &Ec2Id {
        match self {
            Self::Vpc(vpc) => &vpc.id,
            Self::Subnet(subnet) => &subnet.id,
            Self::SecurityGroup(group) => &group.id,
        }
    }

    /// Empty: the home region.
    #[must_use]
    pub fn region(&self) -> &str {
        match self {
            Self::Vpc(vpc) => &vpc.region,
            Self::Subnet(subnet) => &subnet.region,
            Self::SecurityGroup(group) => &group.region,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    pub id: Ec2Id,
    /// Empty: the home region.
    #[serde(default)]
    pub region: String,
    /// An IPv4 block.
    pub cidr: String,
    pub dns_support: bool,
    pub dns_hostnames: bool,
    pub is_default: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub id: Ec2Id,
    /// As its VPC's.
    #[serde(default)]
    pub region: String,
    pub vpc: Ec2Id,
    /// An IPv4 block inside the VPC's.
    pub cidr: String,
    /// The region's name and a letter.
    pub zone: String,
    pub map_public_ip: bool,
    pub is_default: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    pub id: Ec2Id,
    /// As its VPC's.
    #[serde(default)]
    pub region: String,
    pub vpc: Ec2Id,
    pub name: String,
    pub description: String,
    pub rules: Vec<SecurityGroupRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    pub id: String,
    pub egress: bool,
    /// `tcp`, `udp`, `icmp`, a number, or `-1` for all.
    pub protocol: String,
    /// First and last port, or ICMP type and code; none for all.
    pub ports: Option<(i64, i64)>,
    pub peer: RulePeer,
    pub description: Option<String>,
}

/// Whom a rule lets in or out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RulePeer {
    Ipv4(String),
    Ipv6(String),
    PrefixList(String),
    Group(String),
}
