//! Amazon Resource Names: `arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE`.
//!
//! Formats: the ECS, Elastic Load Balancing and Cloud Map pages of AWS's service authorization
//! reference.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    ClusterName, DeploymentId, DiscoveryService, ListenerKey, LoadBalancer, Namespace,
    ScalableTarget, ScalingPolicy, ScheduledAction, ServiceKey, TargetGroup, TaskDefinitionKey,
    TaskId, TrustStore,
};

/// Whose resources these are, and the region of what does not say where it lives: the home region,
/// and in a call the one that its credential names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub region: String,
    /// Twelve digits.
    pub id: String,
    /// `region` is not the home region.
    #[serde(default)]
    pub is_away: bool,
    /// What resources may live in beside the home region.
    #[serde(default)]
    pub others: Vec<String>,
}

impl Account {
    /// At home in `region`, the only one.
    #[must_use]
    pub fn new(region: impl Into<String>, id: impl Into<String>) -> Self {
        let (region, id) = (region.into(), id.into());
        Self { region, id, is_away: false, others: Vec::new() }
    }

    /// As calls of `region` see it. None: it is not served.
    #[must_use]
    pub fn visited(&self, region: &str) -> Option<Self> {
        let is_away = self.region != region;
        let is_served = !is_away || self.others.iter().any(|other| other == region);
        is_served.then(|| Self { region: region.to_owned(), is_away, ..self.clone() })
    }

    /// The region as names have it: empty at home.
    #[must_use]
    pub fn place(&self) -> &str {
        if self.is_away { &self.region } else { "" }
    }

    #[must_use]
    pub fn arn(&self, service: &str, resource: impl Into<String>) -> Arn {
        Arn {
            service: service.to_owned(),
            region: self.region.clone(),
            account: self.id.clone(),
            resource: resource.into(),
        }
    }

    /// Of what lives in `region`; empty: in the account's own.
    #[must_use]
    pub fn within(&self, service: &str, region: &str, resource: impl Into<String>) -> Arn {
        let arn = self.arn(service, resource);
        Arn { region: self.region_of(region).to_owned(), ..arn }
    }

    /// A region by its name, which for the home region's resources is empty.
    #[must_use]
    pub fn region_of<'a>(&'a self, region: &'a str) -> &'a str {
        if region.is_empty() { &self.region } else { region }
    }

    #[must_use]
    pub fn cluster(&self, name: &ClusterName) -> Arn {
        self.within("ecs", name.region(), format!("cluster/{name}"))
    }

    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Arn {
        self.within("ecs", key.cluster.region(), format!("service/{key}"))
    }

    #[must_use]
    pub fn task(&self, cluster: &ClusterName, id: &TaskId) -> Arn {
        self.within("ecs", cluster.region(), format!("task/{cluster}/{id}"))
    }

    /// A deployment, as a service deployment and as a service revision: both have its number.
    #[must_use]
    pub fn deployment(&self, service: &ServiceKey, id: &DeploymentId) -> (Arn, Arn) {
        let number = id.as_str().rsplit('/').next().unwrap_or_default();
        let region = service.cluster.region();
        let arn = |kind: &str| self.within("ecs", region, format!("{kind}/{service}/{number}"));
        (arn("service-deployment"), arn("service-revision"))
    }

    #[must_use]
    pub fn task_definition(&self, key: &TaskDefinitionKey) -> Arn {
        self.within("ecs", key.family.region(), format!("task-definition/{key}"))
    }

    #[must_use]
    pub fn load_balancer(&self, lb: &LoadBalancer) -> Arn {
        self.balancing(lb.name.region(), format!("loadbalancer/{}", lb.path()))
    }

    #[must_use]
    pub fn listener(&self, lb: &LoadBalancer, key: &ListenerKey, id: &str) -> Arn {
        debug_assert_eq!(lb.name, key.load_balancer);
        self.balancing(lb.name.region(), format!("listener/{}/{id}", lb.path()))
    }

    /// A rule of a listener, the default one included.
    #[must_use]
    pub fn rule(&self, lb: &LoadBalancer, listener: &str, id: &str) -> Arn {
        let resource = format!("listener-rule/{}/{listener}/{id}", lb.path());
        self.balancing(lb.name.region(), resource)
    }

    fn balancing(&self, region: &str, resource: String) -> Arn {
        self.within("elasticloadbalancing", region, resource)
    }

    #[must_use]
    pub fn target_group(&self, group: &TargetGroup) -> Arn {
        self.balancing(group.name.region(), format!("targetgroup/{}/{}", group.name, group.id))
    }

    #[must_use]
    pub fn trust_store(&self, store: &TrustStore) -> Arn {
        self.balancing(store.name.region(), format!("truststore/{}/{}", store.name, store.id))
    }

    /// A certificate of ACM; `id` is a UUID.
    #[must_use]
    pub fn certificate(&self, id: &str) -> Arn {
        self.arn("acm", format!("certificate/{id}"))
    }

    /// A server certificate of IAM, which is of no region; `path` has its slashes.
    #[must_use]
    pub fn server_certificate(&self, path: &str, name: &str) -> Arn {
        let resource = format!("server-certificate{path}{name}");
        Arn { region: String::new(), ..self.arn("iam", resource) }
    }

    #[must_use]
    pub fn scalable_target(&self, target: &ScalableTarget) -> Arn {
        let region = target.service.cluster.region();
        self.within("application-autoscaling", region, format!("scalable-target/{}", target.id))
    }

    #[must_use]
    pub fn scaling_policy(&self, policy: &ScalingPolicy) -> Arn {
        let (id, key) = (&policy.id, &policy.key);
        let resource = format!("resource/ecs/service/{}:policyName/{}", key.service, key.name);
        let region = key.service.cluster.region();
        self.within("autoscaling", region, format!("scalingPolicy:{id}:{resource}"))
    }

    #[must_use]
    pub fn scheduled_action(&self, action: &ScheduledAction) -> Arn {
        let (id, key) = (&action.id, &action.key);
        let resource =
            format!("resource/ecs/service/{}:scheduledActionName/{}", key.service, key.name);
        let region = key.service.cluster.region();
        self.within("autoscaling", region, format!("scheduledAction:{id}:{resource}"))
    }

    #[must_use]
    pub fn alarm(&self, name: &str) -> Arn {
        self.arn("cloudwatch", format!("alarm:{name}"))
    }

    #[must_use]
    pub fn log_group(&self, name: &str) -> Arn {
        self.arn("logs", format!("log-group:{name}"))
    }

    #[must_use]
    pub fn namespace(&self, namespace: &Namespace) -> Arn {
        let resource = format!("namespace/{}", namespace.id());
        self.within("servicediscovery", namespace.name.region(), resource)
    }

    #[must_use]
    pub fn discovery_service(&self, service: &DiscoveryService) -> Arn {
        let resource = format!("service/{}", service.id());
        self.within("servicediscovery", service.key.namespace.region(), resource)
    }
}

/// A parsed ARN of partition `aws`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arn {
    pub service: String,
    pub region: String,
    pub account: String,
    /// Everything behind the fifth colon.
    pub resource: String,
}

/// A text that is no ARN.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an ARN (arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE)")]
pub struct BadArn(pub String);

impl FromStr for Arn {
    type Err = BadArn;

    fn from_str(text: &str) -> Result<Self, BadArn> {
        let bad = || BadArn(text.to_owned());
        let rest = text.strip_prefix("arn:aws:").ok_or_else(bad)?;
        let mut parts = rest.splitn(4, ':').map(str::to_owned);
        let mut part = || parts.next().ok_or_else(bad);
        let arn = Self { service: part()?, region: part()?, account: part()?, resource: part()? };
        if arn.service.is_empty() || arn.resource.is_empty() { Err(bad()) } else { Ok(arn) }
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arn:aws:{}:{}:{}:{}", self.service, self.region, self.account, self.resource)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn task_arn_has_the_long_format() {
        let account = Account::new("local", "000000000000");
        assert_eq!(
            account.task(&"default".into(), &"0123".into()).to_string(),
            "arn:aws:ecs:local:000000000000:task/default/0123"
        );
    }

    #[test]
    fn texts_that_are_no_arn_are_refused() {
        for text in [
            "",
            "arn:aws",
            "arn:aws:ecs:r:a",
            "arn:aws::r:a:x",
            "arn:gcp:ecs:r:a:x",
            "arn:aws:ecs:r:a:",
        ] {
            assert!(text.parse::<Arn>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arn_reads_back_what_it_prints(
            service in "[a-z]{1,12}", region in "[a-z0-9-]{0,12}", account in "[0-9]{0,12}",
            resource in "[ -~]{1,40}",
        ) {
            let arn = Arn { service, region, account, resource };
            prop_assert_eq!(arn.to_string().parse::<Arn>().unwrap(), arn);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            let _ = text.parse::<Arn>();
        }
    }
}
