//! Which resources a call is decided on, by the table `touched.txt`.
//!
//! Source: AWS's service authorization reference. Not here: whether they exist. **Invariant:** a
//! resource has one spelling here, however the call spells it: what is denied by one is denied by
//! all.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::api::ecs::newest_definition;
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

/// Templates by the service's scope and the operation's name.
static TEMPLATES: LazyLock<HashMap<(&str, &str), Vec<Template>>> = LazyLock::new(|| {
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for (scope, template, operation) in lines() {
        all.entry((scope, operation)).or_default().push(Template::read(template));
    }
    all
});

/// Scope, template and operation.
fn lines() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
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
        let templates = TEMPLATES.get(&(self.service.scope(), operation));
        let templates = templates.map(Vec::as_slice).unwrap_or_default();
        let mut all: Vec<_> =
            templates.iter().flat_map(|template| self.fill(template, document)).collect();
        if all.is_empty() {
            all.push("*".to_owned());
        }
        all.sort();
        all.dedup();
        all
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
                    values.map(|value| self.formed(form, value)).collect()
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
            service => {
                let Account { region, id } = self.account;
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

    fn formed(&self, form: &str, value: &str) -> String {
        let last = || value.rsplit('/').next().unwrap_or(value).to_owned();
        match form {
            "last" => last(),
            "definition" => self.definition(value),
            "group" => group_name(value).to_owned(),
            "kind" => match value {
                "application" => "app".to_owned(),
                "network" => "net".to_owned(),
                other => other.to_owned(),
            },
            _ if value.starts_with("arn:") => last(),
            _ => value.to_owned(),
        }
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
            None => newest_definition(self.state, path)
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
    let texts = found.into_iter().filter_map(Value::as_str).filter(|text| !text.is_empty());
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
        let account = Account { region: "local".into(), id: "0".into() };
        let touched = Touched { service, account: &account, state: &State::default() };
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
}
