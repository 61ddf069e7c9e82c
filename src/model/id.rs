//! Names and ids: one type per kind, so that a service's name never stands where a cluster's
//! belongs.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Every text is one.
macro_rules! from_text {
    ($name:ident) => {
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl FromStr for $name {
            type Err = BadKey;

            fn from_str(text: &str) -> Result<Self, BadKey> {
                Ok(text.into())
            }
        }
    };
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            #[must_use]
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        from_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    )*};
}

/// Between region and name in the text of a name outside the home region. No name holds a control
/// character.
const REGION_END: char = '\u{1f}';

/// A key or a name for people and for labels of metrics, where those of two regions must not be
/// mistaken for each other: `eu-west-1/web`, at home `web`.
#[must_use]
pub fn label(key: &impl fmt::Display) -> String {
    format!("{key:#}").replace(REGION_END, "/")
}

/// Names of what lives in a region. The same name in two regions is two keys; `{}` and `as_str`
/// tell the name alone, as AWS does, and `{:#}` what tells it from those of other regions.
macro_rules! regional {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// `region` is empty at home.
            #[must_use]
            pub fn within(region: &str, name: &str) -> Self {
                let name = name.replace(REGION_END, "\u{fffd}");
                match region {
                    "" => Self(name.into()),
                    region => Self(format!("{region}{REGION_END}{name}").into()),
                }
            }

            /// Empty at home.
            #[must_use]
            pub fn region(&self) -> &str {
                self.0.split_once(REGION_END).map_or("", |(region, _)| region)
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.split_once(REGION_END).map_or(&self.0, |(_, name)| name)
            }
        }

        // Without a region: at home.
        from_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(if f.alternate() { &self.0 } else { self.as_str() })
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", label(self))
            }
        }
    )*};
}

names! {
    ServiceName;
    /// 32 hexadecimal digits, as ECS's.
    TaskId;
    /// The name of a discovery service inside its namespace; may hold dots (`_sip._udp.phones`).
    DiscoveryName;
    /// A discovery instance: for a task of a service, the task's id.
    InstanceId;
    /// `ecs-svc/<19 digits>`.
    DeploymentId;
    /// `vpc-`, `subnet-` or `sg-` and 17 hexadecimal digits.
    Ec2Id;
    /// A whole ARN as the key of what any resource may have.
    ResourceArn;
    /// The whole ARN of a certificate, in ACM or in IAM.
    CertificateArn;
    /// Of one key that seals cookies.
    CookieKeyId;
    /// An operation of Cloud Map's API.
    OperationId;
    /// A container instance as the file names it.
    InstanceName;
    /// A health check of Route 53: a UUID.
    NameCheckId;
    /// A hosted zone: `Z` and upper-case letters and digits.
    HostedZoneId;
}

regional! {
    AlarmName;
    CapacityProviderName;
    ClusterName;
    /// A task definition's family.
    Family;
    LoadBalancerName;
    LogGroupName;
    TargetGroupName;
    /// A DNS name in lower case without the final dot: `demo.internal`.
    NamespaceName;
    TrustStoreName;
}

/// The one that there is when the file names none.
impl Default for InstanceName {
    fn default() -> Self {
        "local".into()
    }
}

/// Two lower-case digits a byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut digits, byte| {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

/// FNV-1a, 64 bits: the same for a text on every machine and for good.
#[must_use]
pub fn fnv1a(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// A new version 4 UUID.
#[must_use]
pub fn uuid(rng: &mut fastrand::Rng) -> String {
    let (high, low) = (rng.u64(..), rng.u64(..));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | (low >> 50),
        low & 0xffff_ffff_ffff
    )
}

/// A key that the journal holds and this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("bad key {0:?}")]
pub struct BadKey(pub String);

macro_rules! pairs {
    ($(
        $(#[$doc:meta])*
        $name:ident { $left:ident: $left_type:ty, $right:ident: $right_type:ty } $sep:literal;
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name {
            pub $left: $left_type,
            pub $right: $right_type,
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match f.alternate() {
                    true => write!(f, concat!("{:#}", $sep, "{}"), self.$left, self.$right),
                    false => write!(f, concat!("{}", $sep, "{}"), self.$left, self.$right),
                }
            }
        }

        impl FromStr for $name {
            type Err = BadKey;

            fn from_str(text: &str) -> Result<Self, BadKey> {
                let bad = || BadKey(text.to_owned());
                let (left, right) = text.rsplit_once($sep).ok_or_else(bad)?;
                Ok(Self {
                    $left: left.parse().map_err(|_| bad())?,
                    $right: right.parse().map_err(|_| bad())?,
                })
            }
        }
    )*};
}

pairs! {
    ServiceKey { cluster: ClusterName, name: ServiceName } "/";
    TaskDefinitionKey { family: Family, revision: u32 } ":";
    /// A load balancer has one listener per port.
    ListenerKey { load_balancer: LoadBalancerName, port: u16 } ":";
    /// A discovery service: a name inside a namespace.
    DiscoveryKey { namespace: NamespaceName, name: DiscoveryName } "/";
}

/// One instance of a discovery service; a task's has the task's id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceKey {
    pub service: DiscoveryKey,
    pub id: InstanceId,
}

/// An id may hold slashes, which its key's text has as `%2F`; no id holds a percent sign.
impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.as_str().replace('/', "%2F");
        match f.alternate() {
            true => write!(f, "{:#}/{id}", self.service),
            false => write!(f, "{}/{id}", self.service),
        }
    }
}

impl FromStr for InstanceKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let (service, id) = text.rsplit_once('/').ok_or_else(|| BadKey(text.to_owned()))?;
        Ok(Self { service: service.parse()?, id: InstanceId::new(id.replace("%2F", "/")) })
    }
}

/// One registration of a target in a target group. Never used again: an address that comes back
/// gets a new one, and so inherits nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegistrationId(pub u64);

impl fmt::Display for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r-{:x}", self.0)
    }
}

impl FromStr for RegistrationId {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        text.strip_prefix("r-")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .map(Self)
            .ok_or_else(|| BadKey(text.to_owned()))
    }
}

/// The version number of the State. It never falls, not even over a crash.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_what_they_print() {
        let listener = ListenerKey { load_balancer: "front".into(), port: 80 };
        assert_eq!(listener.to_string().parse::<ListenerKey>().unwrap(), listener);
        let id = RegistrationId(0xbeef);
        assert_eq!(id.to_string().parse::<RegistrationId>().unwrap(), id);
        let service = DiscoveryKey { namespace: "demo.internal".into(), name: "web".into() };
        for id in ["0a", "rack/1"] {
            let instance = InstanceKey { service: service.clone(), id: id.into() };
            assert_eq!(instance.to_string().parse::<InstanceKey>().unwrap(), instance);
        }
    }

    #[test]
    fn names_of_two_regions_are_two_keys_of_one_name() {
        let check = |region: &str, name: &str, shown: &str, told: &str| {
            let cluster = ClusterName::within(region, name);
            assert_eq!((cluster.region(), cluster.to_string()), (region, shown.to_owned()));
            let key = ServiceKey { cluster, name: "web".into() };
            assert_eq!((key.to_string(), label(&key)), (format!("{shown}/web"), told.to_owned()));
            assert_eq!(format!("{key:#}").parse::<ServiceKey>().unwrap(), key);
            let text = serde_json::to_string(&key).unwrap();
            assert_eq!(serde_json::from_str::<ServiceKey>(&text).unwrap(), key);
        };
        check("", "shop", "shop", "shop/web");
        check("eu-west-1", "shop", "shop", "eu-west-1/shop/web");
        check("eu-west-1", "a/b", "a/b", "eu-west-1/a/b/web");
        // Nobody gets into another region by what he calls a thing.
        check("", "eu-west-1\u{1f}shop", "eu-west-1\u{fffd}shop", "eu-west-1\u{fffd}shop/web");
        assert_eq!(ClusterName::within("", "shop"), "shop".into());
        assert_ne!(ClusterName::within("eu-west-1", "shop"), "shop".into());
    }

    #[test]
    fn keys_refuse_what_they_never_print() {
        assert!("front".parse::<ListenerKey>().is_err());
        assert!("front:http".parse::<ListenerKey>().is_err());
        assert!("12".parse::<RegistrationId>().is_err());
    }
}
