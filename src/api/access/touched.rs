//! Which resources a call is decided on, by the table `touched.txt`.
//!
//! Source: AWS's service authorization reference. Not here: whether they exist. **Invariant:** a
//! resource has one spelling here, however the call spells it: what is denied by one is denied by
//! all.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::api::autoscaling::service_of as scaled;
use crate::api::ec2;
use crate::api::ecs::newest_definition;
use crate::api::iam::kept_certificate;
use crate::api::logs::group_name;
use crate::api::services::Name;
use crate::model::{Account, TaskDefinitionKey};
use crate::state::State;

const TABLE: &str = include_str!("touched.txt");

/// One resource's name, with holes.
#[derive(Debug)]
struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(&'static str),
    Hole { path: &'static str, form: &'static str, default: Option<&'static str> },
}

type Templates = HashMap<(&'static str, &'static str), Vec<Template>>;

/// Templates by the service's scope and the operation's name.
static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| by_operation(lines()));
/// The same of what operations make, where it is nothing of that.
static MADE: LazyLock<Templates> = LazyLock::new(|| {
    let made = all_lines().filter_map(|(scope, template, operation)| {
        Some((scope, template, operation.strip_prefix('+')?))
    });
    by_operation(made)
});

fn by_operation(
    lines: impl Iterator<Item = (&'static str, &'static str, &'static str)>,
) -> Templates {
    let mut all = Templates::new();
    for (scope, template, operation) in lines {
        all.entry((scope, operation)).or_default().push(Template::read(template));
    }
    all
}

/// Those that the operations themselves are decided on.
fn lines() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    all_lines().filter(|(_, _, operation)| !operation.starts_with('+'))
}

/// Scope, template and operation.
fn all_lines() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.flat_map(|line| {
        let mut words = line.split_whitespace();
        let (scope, template) = (words.next(), words.next());
        words.filter_map(move |operation| Some((scope?, template?, operation)))
    })
}

impl Template {
    fn read(text: &'static str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            if !before.is_empty() {
                parts.push(Part::Text(before));
            }
            let (hole, after) = behind.split_once('}').unwrap_or((behind, ""));
            let (hole, default) = match hole.split_once('|') {
                Some((hole, default)) => (hole, Some(default)),
                None => (hole, None),
            };
            let (path, form) = hole.split_once('@').unwrap_or((hole, ""));
            parts.push(Part::Hole { path, form, default });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest));
        }
        Self(parts)
    }
}

/// Whose names these are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Touched<'a> {
    pub(super) service: Name,
    pub(super) account: &'a Account,
    pub(super) state: &'a State,
}

impl Touched<'_> {
    /// ARNs, `*` where there is none.
    pub(super) fn of(&self, operation: &str, document: &Value) -> Vec<String> {
        let templates = self.templates(operation).iter();
        let mut all: Vec<_> =
            templates.flat_map(|template| self.fill(template, document)).collect();
        if all.is_empty() {
            all.push("*".to_owned());
        }
        all.sort();
        all.dedup();
        all
    }

    /// What an operation that makes something makes.
    pub(super) fn made(&self, operation: &str, document: &Value) -> Vec<String> {
        let own = MADE.get(&(self.service.scope(), operation)).and_then(|made| made.first());
        let made = own.or_else(|| self.templates(operation).first());
        made.map(|template| self.fill(template, document)).unwrap_or_default()
    }

    fn templates<'a>(&self, operation: &'a str) -> &'a [Template] {
        let templates = TEMPLATES.get(&(self.service.scope(), operation));
        templates.map(Vec::as_slice).unwrap_or_default()
    }

    fn fill(&self, template: &Template, document: &Value) -> Vec<String> {
        if let [Part::Hole { path, form: "", default }] = template.0.as_slice() {
            let values = values(document, path, *default).into_iter();
            return values.map(|value| self.whole(value)).collect();
        }
        let mut all = vec![self.prefix()];
        for part in &template.0 {
            let ends: Vec<String> = match part {
                Part::Text(text) => vec![(*text).to_owned()],
                Part::Hole { path, form, default } => {
                    let values = values(document, path, *default).into_iter();
                    values.map(|value| self.formed(form, value, document)).collect()
                }
            };
            let longer =
                all.iter().flat_map(|start| ends.iter().map(move |end| format!("{start}{end}")));
            all = longer.collect();
        }
        all
    }

    /// All of an ARN before its resource.
    fn prefix(&self) -> String {
        match self.service {
            Name::Route53 => "arn:aws:route53:::".to_owned(),
            Name::Iam => format!("arn:aws:iam::{}:", self.account.id),
            service => {
                let Account { region, id, .. } = self.account;
                format!("arn:aws:{}:{region}:{id}:", super::prefix(service))
            }
        }
    }

    fn whole(&self, value: &str) -> String {
        let definition = value.split_once(":task-definition/");
        match definition.filter(|_| self.service == Name::Ecs) {
            Some(_) => format!("{}task-definition/{}", self.prefix(), self.definition(value)),
            None if value.starts_with("arn:") => value.to_owned(),
            None => format!("{}{value}", self.prefix()),
        }
    }

    fn formed(&self, form: &str, value: &str, document: &Value) -> String {
        let last = || value.rsplit('/').next().unwrap_or(value).to_owned();
        match form {
            "last" => last(),
            "below" => value.split_once('/').map_or(value, |(_, below)| below).to_owned(),
            "definition" => self.definition(value),
            "group" => group_name(value).to_owned(),
            "kind" => match value {
                "application" => "app".to_owned(),
                "network" => "net".to_owned(),
                other => other.to_owned(),
            },
            "network" => ec2::arn(self.account, value).resource,
            "vpc" if value == ec2::DEFAULT_VPC => {
                ec2::default_id(self.account, value).as_str().to_owned()
            }
            "vpc" => value.to_owned(),
            "security" => ec2::group_named(self.state, self.account, value)
                .map_or_else(|| "*".to_owned(), |id| id.to_string()),
            "scalable" => {
                let key = scaled(self.account.place(), value).ok();
                let target = key.and_then(|key| self.state.scalable_targets.get(&key));
                target.map_or_else(|| "*".to_owned(), |target| target.id.clone())
            }
            "path" => self.certificate(value, (None, None)),
            "renamed" => {
                let new = |name: &str| document.get(name).and_then(Value::as_str);
                self.certificate(value, (new("NewPath"), new("NewServerCertificateName")))
            }
            _ if value.starts_with("arn:") => last(),
            _ => value.to_owned(),
        }
    }

    /// Path and name of a server certificate, as far as they are not `new`.
    fn certificate(&self, name: &str, new: (Option<&str>, Option<&str>)) -> String {
        let (path, name) = kept_certificate(self.state, name).unwrap_or(("/", name));
        format!("{}{}", new.0.unwrap_or(path), new.1.unwrap_or(name))
    }

    /// `FAMILY:REVISION`; a family stands for its newest revision.
    fn definition(&self, value: &str) -> String {
        let path = if value.starts_with("arn:") {
            value.split_once('/').map_or(value, |(_, path)| path)
        } else {
            value
        };
        match path.split_once(':') {
            Some((family, revision)) => match revision.parse() {
                Ok(revision) => TaskDefinitionKey { family: family.into(), revision }.to_string(),
                Err(_) => path.to_owned(),
            },
            None => newest_definition(self.state, self.account, path)
                .map_or_else(|| format!("{path}:*"), |found| found.key().to_string()),
        }
    }
}

/// The texts at a path; lists on the way are gone through.
fn values<'a>(document: &'a Value, path: &str, default: Option<&'a str>) -> Vec<&'a str> {
    let mut found = vec![document];
    for name in path.split('.') {
        let below = found.into_iter().filter_map(|value| value.get(name));
        found = below
            .flat_map(|value| match value {
                Value::Array(items) => items.iter().collect(),
                one => vec![one],
            })
            .collect();
    }
    // An empty one means what a missing one does.
    let texts = found.into_iter().filter_map(Value::as_str);
    let texts = texts.filter_map(|text| if text.is_empty() { default } else { Some(text) });
    let texts: Vec<_> = texts.collect();
    if texts.is_empty() { default.into_iter().collect() } else { texts }
}

/// Operations by service and kind of resource, for the README.
pub(super) fn rows() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let mut rows: Vec<(_, _, Vec<_>)> = Vec::new();
    for (scope, template, operation) in lines() {
        match rows.last_mut().filter(|(s, t, _)| (*s, *t) == (scope, template)) {
            Some((_, _, operations)) => operations.push(operation),
            None => rows.push((scope, template, vec![operation])),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::services::MODELS;
    use crate::api::wire::schema::{Kind, Model};

    #[test]
    fn every_member_of_the_table_is_one_of_its_model() {
        let names = MODELS.iter().map(|(name, text)| (name.scope(), Model::parse(text).unwrap()));
        let models: HashMap<_, _> = names.collect();
        let mut seen = std::collections::HashSet::new();
        for (scope, template, operation) in lines() {
            assert!(seen.insert((scope, template, operation)), "{scope} {template} {operation}");
            let model = &models[scope];
            let found = model.operation(operation).unwrap_or_else(|| panic!("{scope} {operation}"));
            for part in Template::read(template).0 {
                let Part::Hole { path, .. } = part else { continue };
                let mut shape = found.input.unwrap();
                for name in path.split('.') {
                    let kind = match &model.shape(shape).kind {
                        Kind::List { item, .. } => &model.shape(item.shape).kind,
                        kind => kind,
                    };
                    let Kind::Structure(members) = kind else { panic!("{operation} {path}") };
                    let member = members.iter().find(|member| member.name == name);
                    shape = member.unwrap_or_else(|| panic!("{operation} {path}")).shape;
                }
            }
        }
    }

    fn check(service: Name, operation: &str, document: Value, expected: &[&str]) {
        check_with(&State::default(), service, operation, document, expected);
    }

    fn check_with(
        state: &State,
        service: Name,
        operation: &str,
        document: Value,
        expected: &[&str],
    ) {
        let account = Account::new("local", "0");
        let touched = Touched { service, account: &account, state };
        assert_eq!(touched.of(operation, &document), expected, "{operation} {document}");
    }

    #[test]
    fn calls_of_ecs_name_their_resources() {
        let ecs = |operation: &str, document: Value, expected: &[&str]| {
            check(Name::Ecs, operation, document, expected);
        };
        let web = "arn:aws:ecs:local:0:service/default/web";
        ecs("ListClusters", json!({}), &["*"]);
        ecs("UpdateService", json!({"service": "web"}), &[web]);
        ecs("UpdateService", json!({"service": web, "cluster": ""}), &[web]);
        ecs("UpdateService", json!({"service": "arn:aws:ecs:local:0:service/web"}), &[web]);
        let cluster = "arn:aws:ecs:local:0:cluster/blue";
        ecs(
            "UpdateService",
            json!({"service": "web", "cluster": cluster}),
            &["arn:aws:ecs:local:0:service/blue/web"],
        );
        ecs(
            "DescribeServices",
            json!({"services": ["web", "api", web]}),
            &["arn:aws:ecs:local:0:service/default/api", web],
        );
        ecs("DescribeClusters", json!({}), &["arn:aws:ecs:local:0:cluster/default"]);
        let seven = "arn:aws:ecs:local:0:task-definition/web:7";
        for text in
            ["web:7", "web:007", "web:+7", seven, "arn:aws:ecs:local:0:task-definition/web:07"]
        {
            ecs("RunTask", json!({"taskDefinition": text}), &[seven]);
        }
        ecs(
            "TagResource",
            json!({"resourceArn": format!("{}7", seven.replace('7', "0"))}),
            &[seven],
        );
        ecs(
            "RunTask",
            json!({"taskDefinition": "web"}),
            &["arn:aws:ecs:local:0:task-definition/web:*"],
        );
    }

    #[test]
    fn calls_of_the_others_name_their_resources() {
        let elb = |operation: &str, document: Value, expected: &[&str]| {
            check(Name::Elb, operation, document, expected);
        };
        let own = "arn:aws:elasticloadbalancing:local:0";
        elb(
            "CreateLoadBalancer",
            json!({"Name": "a", "Type": "network"}),
            &[&format!("{own}:loadbalancer/net/a/*")],
        );
        elb("CreateLoadBalancer", json!({"Name": "a"}), &[&format!("{own}:loadbalancer/app/a/*")]);
        elb(
            "SetRulePriorities",
            json!({"RulePriorities": [{"RuleArn": "arn:b"}, {"RuleArn": "arn:a"}]}),
            &["arn:a", "arn:b"],
        );
        check(
            Name::Route53,
            "GetHostedZone",
            json!({"Id": "/hostedzone/Z1"}),
            &["arn:aws:route53:::hostedzone/Z1"],
        );
        check(
            Name::CloudMap,
            "DeleteService",
            json!({"Id": "x/srv-1"}),
            &["arn:aws:servicediscovery:local:0:service/srv-1"],
        );
        check(
            Name::CloudWatch,
            "DeleteAlarms",
            json!({"AlarmNames": ["a"]}),
            &["arn:aws:cloudwatch:local:0:alarm:a"],
        );
        check(Name::Acm, "ImportCertificate", json!({}), &["arn:aws:acm:local:0:certificate/*"]);
        let group = "arn:aws:logs:local:0:log-group:g:*";
        let events = json!({"logGroupIdentifier": group, "logStreamName": "s"});
        check(
            Name::Logs,
            "GetLogEvents",
            events,
            &["arn:aws:logs:local:0:log-group:g:log-stream:s"],
        );
    }

    #[test]
    fn calls_of_ec2_name_their_resources() {
        let own = |text: &str| format!("arn:aws:ec2:local:0:{text}");
        let check = |operation: &str, document: Value, expected: &[&str]| {
            let expected: Vec<_> = expected.iter().map(|text| own(text)).collect();
            let expected: Vec<_> = expected.iter().map(String::as_str).collect();
            check(Name::Ec2, operation, document, &expected);
        };
        check("CreateVpc", json!({}), &["vpc/*"]);
        check("CreateSubnet", json!({"VpcId": "vpc-1"}), &["subnet/*", "vpc/vpc-1"]);
        check(
            "CreateSecurityGroup",
            json!({"GroupName": "a"}),
            &["security-group/*", "vpc/vpc-00000000000000001"],
        );
        check(
            "CreateTags",
            json!({"Resources": ["vpc-1", "sg-2", "sgr-3", "subnet-4"]}),
            &["security-group-rule/sgr-3", "security-group/sg-2", "subnet/subnet-4", "vpc/vpc-1"],
        );
        // The same group, however it is called.
        let default = "security-group/sg-00000000000000001";
        check("DeleteSecurityGroup", json!({"GroupId": "sg-00000000000000001"}), &[default]);
        check("DeleteSecurityGroup", json!({"GroupName": "default"}), &[default]);
        check("DeleteSecurityGroup", json!({"GroupName": "x"}), &["security-group/*"]);
    }

    #[test]
    fn tags_at_birth_are_decided_on_what_is_made() {
        let check = |service, operation: &str, document: Value, expected: &[&str]| {
            let account = Account::new("local", "0");
            let state = State::default();
            let touched = Touched { service, account: &account, state: &state };
            assert_eq!(touched.made(operation, &document), expected, "{operation}");
        };
        let subnet = "arn:aws:ec2:local:0:subnet/*";
        check(Name::Ec2, "CreateSubnet", json!({"VpcId": "vpc-1"}), &[subnet]);
        check(Name::Ec2, "DescribeVpcs", json!({}), &[]);
        let run = json!({"taskDefinition": "web", "cluster": "c"});
        check(Name::Ecs, "RunTask", run, &["arn:aws:ecs:local:0:task/c/*"]);
        check(Name::Ecs, "StartTask", json!({}), &["arn:aws:ecs:local:0:task/default/*"]);
        let elb = "arn:aws:elasticloadbalancing:local:0:";
        for (operation, member, given, made) in [
            ("CreateListener", "LoadBalancerArn", "loadbalancer/app/a/1", "listener/app/a/1/*"),
            ("CreateRule", "ListenerArn", "listener/app/a/1/2", "listener-rule/app/a/1/2/*"),
        ] {
            let document = json!({ member: format!("{elb}{given}") });
            check(Name::Elb, operation, document, &[&format!("{elb}{made}")]);
        }
    }

    #[test]
    fn server_certificates_and_scalable_targets_are_known_by_what_is_kept_of_them() {
        use crate::clock::Timestamp;
        use crate::model::{
            Certificate, CertificateStore, Owner, PrivateKey, ScalableTarget, ServiceKey,
        };
        let (path, id) = ("/team/".to_owned(), String::new());
        let kept = Certificate {
            arn: "arn:aws:iam::0:server-certificate/team/Front".into(),
            store: CertificateStore::Iam { name: "Front".to_owned(), path, id },
            body: String::new(),
            chain: String::new(),
            private_key: PrivateKey::new(String::new()),
            owner: Owner::Api,
            created_at: Timestamp(1),
            imported_at: Timestamp(1),
        };
        let service = ServiceKey { cluster: "a".into(), name: "web".into() };
        let target = ScalableTarget {
            service: service.clone(),
            id: "0ec5".to_owned(),
            min: 1,
            max: 2,
            suspended: Default::default(),
            role_arn: None,
            created_at: Timestamp(1),
        };
        let state = State {
            certificates: std::sync::Arc::new([(kept.arn.clone(), kept.into())].into()),
            scalable_targets: std::sync::Arc::new([(service, target.into())].into()),
            ..State::default()
        };
        let iam = |operation: &str, document: Value, expected: &[&str]| {
            check_with(&state, Name::Iam, operation, document, expected);
        };
        let front = "arn:aws:iam::0:server-certificate/team/Front";
        let named = |name: &str| json!({"ServerCertificateName": name});
        iam("GetServerCertificate", named("Front"), &[front]);
        iam("GetServerCertificate", named("front"), &[front]);
        iam("GetServerCertificate", named("b"), &["arn:aws:iam::0:server-certificate/b"]);
        iam("UploadServerCertificate", named("b"), &["arn:aws:iam::0:server-certificate/b"]);
        let asked = json!({"ServerCertificateName": "Front", "NewPath": "/x/"});
        let moved = "arn:aws:iam::0:server-certificate/x/Front";
        iam("UpdateServerCertificate", asked, &[front, moved]);
        let asked = json!({"Path": "/x/", "ServerCertificateName": "Front"});
        iam("UploadServerCertificate", asked, &[moved]);
        iam("ListServerCertificates", json!({}), &["*"]);
        let scaling = |resource: &str, expected: &str| {
            let expected =
                format!("arn:aws:application-autoscaling:local:0:scalable-target/{expected}");
            let asked = json!({"ResourceId": resource});
            check_with(&state, Name::Autoscaling, "PutScalingPolicy", asked, &[&expected]);
        };
        scaling("service/a/web", "0ec5");
        scaling("service/a/api", "*");
        scaling("table/a", "*");
    }
}
