//! The services of the endpoint: how a request names one, and what each calls its errors.
//!
//! **Invariant:** every service has a model, a dispatcher and a scope; [`Services::find`] knows no
//! other.

use std::sync::LazyLock;

use super::call::{Accepted, Call, Input, Outcome};
use super::wire::query::{pairs, plain};
use super::wire::schema::{Model, Operation, Protocol};
use super::{acm, autoscaling, cloudmap, cloudwatch, ec2, ecs, elb, iam, logs, route53, sts};

/// Names of the services, and their models.
pub(crate) const MODELS: [(Name, &str); 11] = [
    (Name::Ecs, include_str!("models/ecs.json")),
    (Name::Elb, include_str!("models/elbv2.json")),
    (Name::CloudMap, include_str!("models/servicediscovery.json")),
    (Name::Route53, include_str!("models/route53.json")),
    (Name::Ec2, include_str!("models/ec2.json")),
    (Name::Sts, include_str!("models/sts.json")),
    (Name::Autoscaling, include_str!("models/application-autoscaling.json")),
    (Name::CloudWatch, include_str!("models/cloudwatch.json")),
    (Name::Logs, include_str!("models/logs.json")),
    (Name::Acm, include_str!("models/acm.json")),
    (Name::Iam, include_str!("models/iam.json")),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Ecs,
    Elb,
    CloudMap,
    Route53,
    Ec2,
    Sts,
    Autoscaling,
    CloudWatch,
    Logs,
    Acm,
    Iam,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.scope())
    }
}

impl Name {
    /// In the credential scope, and in metrics.
    pub(crate) const fn scope(self) -> &'static str {
        match self {
            Self::Ecs => "ecs",
            Self::Elb => "elasticloadbalancing",
            Self::CloudMap => "servicediscovery",
            Self::Route53 => "route53",
            Self::Ec2 => "ec2",
            Self::Sts => "sts",
            Self::Autoscaling => "application-autoscaling",
            Self::CloudWatch => "monitoring",
            Self::Logs => "logs",
            Self::Acm => "acm",
            Self::Iam => "iam",
        }
    }

    /// The code for bad input.
    pub(crate) const fn invalid(self) -> &'static str {
        match self {
            Self::Ecs | Self::Logs => "InvalidParameterException",
            Self::Autoscaling => "ValidationException",
            Self::CloudMap | Self::Route53 => "InvalidInput",
            Self::Ec2 => "InvalidParameterValue",
            Self::Acm => "ValidationException",
            Self::Elb | Self::Sts | Self::CloudWatch | Self::Iam => "ValidationError",
        }
    }

    /// The code for what is known and not honoured here.
    pub(crate) const fn unsupported(self) -> &'static str {
        match self {
            Self::Ecs => "UnsupportedFeatureException",
            Self::Elb => "OperationNotPermitted",
            Self::Ec2 => "UnsupportedOperation",
            _ => self.invalid(),
        }
    }

    /// Whether its resources live in a region.
    pub(crate) const fn is_regional(self) -> bool {
        !matches!(self, Self::Route53 | Self::Sts | Self::Iam)
    }
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: Name,
    pub(crate) model: Model,
}

impl Service {
    /// Runs one call.
    pub(crate) async fn call(&self, call: &Call, input: Input) -> Outcome {
        match self.name {
            Name::Ecs => ecs::call(call, input).await,
            Name::Elb => elb::call(call, input).await,
            Name::CloudMap => cloudmap::call(call, input).await,
            Name::Route53 => route53::call(call, input).await,
            Name::Ec2 => ec2::call(call, input).await,
            Name::Sts => sts::call(call, input),
            Name::Autoscaling => autoscaling::call(call, input).await,
            Name::CloudWatch => cloudwatch::call(call, input).await,
            Name::Logs => logs::call(call, input).await,
            Name::Acm => acm::call(call, input).await,
            Name::Iam => iam::call(call, input).await,
        }
    }

    /// Members that are taken and not acted upon.
    pub(crate) const fn accepted(&self) -> &'static [Accepted] {
        match self.name {
            Name::Ecs => ecs::ACCEPTED,
            Name::Elb => elb::ACCEPTED,
            Name::CloudMap => cloudmap::ACCEPTED,
            Name::Route53 => route53::ACCEPTED,
            Name::Ec2 => ec2::ACCEPTED,
            Name::Sts | Name::Acm | Name::Iam => &[],
            Name::Autoscaling => autoscaling::ACCEPTED,
            Name::CloudWatch => cloudwatch::ACCEPTED,
            Name::Logs => logs::ACCEPTED,
        }
    }
}

/// Every service, loaded once.
#[derive(Debug)]
pub(crate) struct Services(Vec<Service>);

static SERVICES: LazyLock<Services> = LazyLock::new(|| {
    let load = |(name, text): &(Name, &str)| match Model::parse(text) {
        Ok(model) => Some(Service { name: *name, model }),
        Err(error) => {
            tracing::error!(%name, %error, "a service's model does not load");
            None
        }
    };
    Services(MODELS.iter().filter_map(load).collect())
});

/// What is covered of one service, for the README.
#[derive(Debug)]
pub struct Coverage {
    pub name: &'static str,
    /// The file with the match from operation to function, under `src/api`.
    pub source: &'static str,
    /// Of its model.
    pub operations: Vec<String>,
    /// Members that are taken and not acted upon, and what becomes of them.
    pub accepted: Vec<(&'static str, &'static str)>,
    /// Operations that are refused by name, and why.
    pub refused: &'static [(&'static str, &'static str)],
}

/// Every service's coverage.
#[must_use]
pub fn coverage() -> Vec<Coverage> {
    let of = |service: &Service| {
        let (name, source) = match service.name {
            Name::Ecs => ("ECS", "ecs/mod.rs"),
            Name::Elb => ("Elastic Load Balancing v2", "elb/mod.rs"),
            Name::CloudMap => ("Cloud Map", "cloudmap/mod.rs"),
            Name::Route53 => ("Route 53", "route53/mod.rs"),
            Name::Ec2 => ("EC2, as bookkeeping", "ec2/mod.rs"),
            Name::Sts => ("STS", "sts.rs"),
            Name::Autoscaling => ("Application Auto Scaling", "autoscaling/mod.rs"),
            Name::CloudWatch => ("CloudWatch", "cloudwatch/mod.rs"),
            Name::Logs => ("CloudWatch Logs", "logs/mod.rs"),
            Name::Acm => ("Certificate Manager", "acm/mod.rs"),
            Name::Iam => ("IAM, server certificates", "iam/mod.rs"),
        };
        let operations = service.model.operations().map(|operation| operation.name.clone());
        let accepted = service.accepted().iter().map(|accepted| (accepted.member, accepted.why));
        let kept = (service.name == Name::Elb).then(elb::kept_attributes);
        let accepted = accepted.chain(kept.into_iter().flatten());
        let refused = match service.name {
            Name::Ecs => ecs::REFUSED,
            Name::Acm => acm::REFUSED,
            _ => &[],
        };
        let (operations, accepted) = (operations.collect(), accepted.collect());
        Coverage { name, source, operations, accepted, refused }
    };
    Services::get().0.iter().map(of).collect()
}

/// How the request is written, and its answer will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Its content type's last digit.
    Json(u8),
    Query,
    Ec2,
    RestXml,
    /// Smithy's RPC v2.
    Cbor,
}

impl Wire {
    /// Whether errors have the names of the JSON protocols.
    pub(crate) const fn is_rpc(self) -> bool {
        matches!(self, Self::Json(_) | Self::Cbor)
    }
}

impl Services {
    pub(crate) fn get() -> &'static Self {
        &SERVICES
    }

    /// By `X-Amz-Target`: `PREFIX.Operation`.
    pub(crate) fn by_target(&'static self, target: &str) -> Found {
        let Some((prefix, operation)) = target.rsplit_once('.') else { return Found::Nothing };
        let mut services = self.0.iter();
        let service = services.find(|service| service.model.metadata.target_prefix == prefix);
        Found::of(service, operation)
    }

    /// By a path of RPC v2: `/service/PREFIX/operation/Operation`, whatever stands before it.
    pub(crate) fn by_rpc(&'static self, path: &str) -> Found {
        let mut parts = path.rsplit('/');
        let (Some(operation), Some("operation"), Some(prefix), Some("service")) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Found::Nothing;
        };
        let speaks = |service: &&Service| {
            let meta = &service.model.metadata;
            let own = |protocol| protocol == &Protocol::SmithyRpcV2Cbor;
            meta.target_prefix == prefix && meta.protocols.iter().any(own)
        };
        Found::of(self.0.iter().find(speaks), operation)
    }

    /// By the credential scope's service, or by a version that the form names.
    pub(crate) fn by_action(
        &'static self,
        scope: Option<&str>,
        version: &str,
        action: &str,
    ) -> Found {
        let of_version = |service: &&Service| {
            let meta = &service.model.metadata;
            let by_form = |protocol| matches!(protocol, &Protocol::Query | &Protocol::Ec2);
            meta.api_version == version && meta.protocols.iter().any(by_form)
        };
        let mut services: Vec<_> = self.0.iter().filter(of_version).collect();
        if services.len() > 1
            && let Some(scope) = scope
        {
            services.retain(|service| service.name.scope() == scope);
        }
        Found::of(services.first().copied(), action)
    }

    /// By a path of a REST service: `/2013-04-01/…`; the placeholders' values come with it.
    pub(crate) fn by_path(
        &'static self,
        method: &str,
        path: &str,
        query: &[(String, String)],
    ) -> (Found, Vec<(String, String)>) {
        let version = path.split('/').nth(1).unwrap_or_default();
        let rest = |service: &&Service| {
            let meta = &service.model.metadata;
            meta.protocol == Protocol::RestXml && meta.api_version == version
        };
        let Some(service) = self.0.iter().find(rest) else { return (Found::Nothing, Vec::new()) };
        for operation in service.model.operations().filter(|o| o.method == method) {
            if let Some(labels) = labels(&operation.uri, path, query) {
                return (Found::Operation(service, operation), labels);
            }
        }
        (Found::Service(service), Vec::new())
    }
}

/// The values of a URI's placeholders, when a path and its query fit it.
fn labels(uri: &str, path: &str, query: &[(String, String)]) -> Option<Vec<(String, String)>> {
    let (uri, wanted) = uri.split_once('?').unwrap_or((uri, ""));
    let has = |(name, value): (String, String)| {
        query.iter().any(|(n, v)| *n == name && (value.is_empty() || *v == value))
    };
    if !pairs(wanted).into_iter().all(has) {
        return None;
    }
    let mut labels = Vec::new();
    let mut parts = path.trim_end_matches('/').split('/');
    for part in uri.trim_end_matches('/').split('/') {
        let given = parts.next()?;
        match part.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) if !given.is_empty() => labels.push((name.to_owned(), plain(given))),
            Some(_) => return None,
            None if part == given => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(labels)
}

/// What a name stands for.
#[derive(Debug)]
pub(crate) enum Found {
    Operation(&'static Service, &'static Operation),
    /// The service is known, the operation is not.
    Service(&'static Service),
    Nothing,
}

impl Found {
    fn of(service: Option<&'static Service>, operation: &str) -> Self {
        match service.map(|service| (service, service.model.operation(operation))) {
            Some((service, Some(operation))) => Self::Operation(service, operation),
            Some((service, None)) => Self::Service(service),
            None => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_give_the_values_of_their_placeholders() {
        let check = |uri: &str, path: &str, query: &str, expected: Option<&str>| {
            let found = labels(uri, path, &pairs(query));
            let shown = found.map(|all| {
                all.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(shown.as_deref(), expected, "{uri} {path}");
        };
        let zone = "/2013-04-01/hostedzone/{Id}";
        check(zone, "/2013-04-01/hostedzone/Z1", "", Some("Id=Z1"));
        check(zone, "/2013-04-01/hostedzone/Z%31/", "", Some("Id=Z1"));
        check(zone, "/2013-04-01/hostedzone", "", None);
        check(zone, "/2013-04-01/hostedzone/", "", None);
        check(zone, "/2013-04-01/hostedzone/Z1/rrset", "", None);
        check("/a/{Id}?op=x", "/a/1", "op=x&b=c", Some("Id=1"));
        check("/a/{Id}?op=x", "/a/1", "op=y", None);
    }

    #[test]
    fn paths_of_rpc_name_services_that_speak_it() {
        let check = |path: &str, expected: &str| {
            let shown = match Services::get().by_rpc(path) {
                Found::Operation(service, operation) => {
                    format!("{} {}", service.name, operation.name)
                }
                Found::Service(service) => format!("{} ?", service.name),
                Found::Nothing => "?".to_owned(),
            };
            assert_eq!(shown, expected, "{path}");
        };
        let metrics = "/service/GraniteServiceVersion20100801/operation";
        check(&format!("{metrics}/ListMetrics"), "monitoring ListMetrics");
        check(&format!("/more{metrics}/ListMetrics"), "monitoring ListMetrics");
        check(&format!("{metrics}/FlyToTheMoon"), "monitoring ?");
        let names = "/service/Route53AutoNaming_v20170314/operation";
        check(&format!("{names}/ListServices"), "servicediscovery ListServices");
        check("/service/AmazonEC2ContainerServiceV20141113/operation/ListClusters", "?");
        check("/operation/ListMetrics", "?");
        check("/", "?");
    }

    #[test]
    fn targets_name_a_service_and_an_operation() {
        let check = |target: &str, expected: &str| {
            let shown = match Services::get().by_target(target) {
                Found::Operation(service, operation) => {
                    format!("{} {}", service.name, operation.name)
                }
                Found::Service(service) => format!("{} ?", service.name),
                Found::Nothing => "?".to_owned(),
            };
            assert_eq!(shown, expected, "{target}");
        };
        let prefix = "AmazonEC2ContainerServiceV20141113";
        check(&format!("{prefix}.CreateCluster"), "ecs CreateCluster");
        check(&format!("{prefix}.FlyToTheMoon"), "ecs ?");
        check("CreateCluster", "?");
        check("Other.CreateCluster", "?");
    }
}
