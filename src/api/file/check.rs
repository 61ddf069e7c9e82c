//! What a file would run, in words: the output of `roadstead check`.
//!
//! Pure text. **Invariant:** every resource of the file has a line.

use std::fmt::{Display, Write as _};

use super::{Balancer, File};
use crate::config::Time;
use crate::model::{
    Action, Authentication, Condition, Listener, LoadBalancerKind, Protocol, QueryValue, Rule,
    Service, TargetGroup, TaskDefinition,
};

/// Lines for people: load balancers with their listeners and rules, target groups, task
/// definitions, services and namespaces.
#[must_use]
pub fn check(file: &File) -> String {
    let resources = &file.resources;
    let mut text = String::new();
    for balancer in &resources.load_balancers {
        line(&mut text, 0, balancer_line(file, balancer));
        let own = |listener: &&Listener| listener.key.load_balancer == balancer.name;
        for listener in resources.listeners.iter().filter(own) {
            let (protocol, port) = (listener.protocol.as_str(), listener.key.port);
            line(&mut text, 1, format_args!("listener {protocol} on port {port}"));
            for rule in &listener.rules {
                line(&mut text, 2, rule_line(rule));
            }
            let first = first(listener.options.authentication.as_ref());
            let default = action(&listener.default_action);
            line(&mut text, 2, format_args!("default: {first}{default}"));
        }
    }
    for group in &resources.target_groups {
        line(&mut text, 0, group_line(group));
        for target in resources.targets.iter().filter(|target| target.group == group.name) {
            line(&mut text, 1, format_args!("target {}", target.socket_address()));
        }
    }
    for definition in &resources.definitions {
        line(&mut text, 0, format_args!("task definition {}", definition.family));
        containers(&mut text, definition);
    }
    for service in &resources.services {
        service_lines(&mut text, service);
    }
    for namespace in &resources.namespaces {
        line(&mut text, 0, format_args!("namespace {}", namespace.name));
    }
    let count =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let tasks: u64 = resources.services.iter().map(|row| u64::from(row.desired_count)).sum();
    let tasks = usize::try_from(tasks).unwrap_or(usize::MAX);
    let summary = [
        count(resources.load_balancers.len(), "load balancer"),
        count(resources.listeners.len(), "listener"),
        count(resources.target_groups.len(), "target group"),
        count(resources.services.len(), "service"),
        count(tasks, "task"),
    ];
    let runtime = file.settings.runtime.kind.as_str();
    line(&mut text, 0, format_args!("{} on the {runtime} runtime", summary.join(", ")));
    text
}

fn line(text: &mut String, depth: usize, what: impl Display) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{:width$}{what}", "", width = depth * 2);
}

fn balancer_line(file: &File, balancer: &Balancer) -> String {
    let kind = match balancer.kind {
        LoadBalancerKind::Application => "application",
        LoadBalancerKind::Network => "network",
    };
    let address = balancer.address.map_or_else(
        || format!("the next free address of {}", file.settings.elb.addresses),
        |address| address.to_string(),
    );
    format!("load balancer {} ({kind}) on {address}", balancer.name)
}

fn rule_line(rule: &Rule) -> String {
    let conditions: Vec<_> = rule.conditions.iter().map(condition_words).collect();
    let (first, action) = (first(rule.authentication.as_ref()), action(&rule.action));
    format!("rule {}: {}: {first}{action}", rule.priority, conditions.join(" and "))
}

/// What comes before an action.
fn first(authentication: Option<&Authentication>) -> String {
    authentication.map_or_else(String::new, |own| format!("{}, then ", own.check.as_str()))
}

/// A condition in words; regular expressions begin with `~`.
pub(in crate::api) fn condition_words(condition: &Condition) -> String {
    let any = |values: &[String]| values.join(" or ");
    let regex =
        |values: &[String]| any(&values.iter().map(|v| format!("~{v}")).collect::<Vec<_>>());
    match condition {
        Condition::HostHeader(values) => format!("host {}", any(values)),
        Condition::HostRegex(values) => format!("host {}", regex(values)),
        Condition::PathPattern(values) => format!("path {}", any(values)),
        Condition::PathRegex(values) => format!("path {}", regex(values)),
        Condition::HttpHeader { name, values } => format!("header {name} {}", any(values)),
        Condition::HeaderRegex { name, values } => format!("header {name} {}", regex(values)),
        Condition::HttpRequestMethod(values) => format!("method {}", any(values)),
        Condition::QueryString(values) => {
            let pair = |pair: &QueryValue| match &pair.key {
                Some(key) => format!("{key}={}", pair.value),
                None => pair.value.clone(),
            };
            format!("query {}", any(&values.iter().map(pair).collect::<Vec<_>>()))
        }
        Condition::SourceIp(values) => format!("source {}", any(values)),
    }
}

fn action(action: &Action) -> String {
    match action {
        Action::FixedResponse(response) => format!("answer {}", response.status),
        Action::Redirect(to) => format!(
            "redirect {} to {}://{}:{}{}?{}",
            to.status, to.protocol, to.host, to.port, to.path, to.query
        ),
        Action::Forward(groups) => match groups.as_slice() {
            [one] => format!("forward to {}", one.group),
            several => {
                let one = |group: &crate::model::WeightedGroup| {
                    format!("{} (weight {})", group.group, group.weight)
                };
                format!("forward to {}", several.iter().map(one).collect::<Vec<_>>().join(", "))
            }
        },
    }
}

fn group_line(group: &TargetGroup) -> String {
    let check = &group.health_check;
    let what = match check.protocol {
        Protocol::Http => format!("GET {}", check.path),
        Protocol::Https => format!("GET {} over TLS", check.path),
        Protocol::Tcp => "a TCP connection".to_owned(),
        Protocol::Tls => "a TLS handshake".to_owned(),
    };
    let port = check.port.map_or_else(String::new, |port| format!(" on port {port}"));
    let (interval, timeout) = (Time(check.interval), Time(check.timeout));
    format!(
        "target group {} ({}), checked by {what}{port} every {interval}, timeout {timeout}",
        group.name,
        group.protocol.as_str()
    )
}

fn containers(text: &mut String, definition: &TaskDefinition) {
    for container in &definition.containers {
        let mut what = format!("container {}", container.name);
        if let Some(image) = &container.image {
            let _ = write!(what, " of image {image}");
        }
        let arguments = container.arguments();
        if !arguments.is_empty() {
            let _ = write!(what, " runs {}", arguments.join(" "));
        }
        for port in &container.port_mappings {
            let _ = write!(what, ", port {}/{}", port.container_port, port.protocol);
        }
        line(text, 1, what);
    }
}

fn service_lines(text: &mut String, service: &Service) {
    let (count, family) = (service.desired_count, &service.definition.family);
    let tasks = if count == 1 { "task" } else { "tasks" };
    line(text, 0, format_args!("service {}: {count} {tasks} of {family}", service.key));
    for group in &service.load_balancers {
        let (group, port) = (&group.group, group.container_port);
        line(text, 1, format_args!("port {port} in target group {group}"));
    }
    if let Some(discovery) = &service.discovery {
        let key = &discovery.service;
        line(text, 1, format_args!("found as {}.{}", key.name, key.namespace));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn what_comes_before_an_action_is_told() {
        let text = r#"
[[load_balancer]]
name = "a"
type = "application"
[[load_balancer.listener]]
port = 443
protocol = "HTTPS"
certificates = ["arn:x"]
jwt_validation = { jwks_endpoint = "https://id.test/keys", issuer = "i", claims = [
  { name = "azp", format = "single-string", values = ["x"] },
] }
fixed_response = { status = 404 }
"#;
        let file = super::super::parse(Path::new("j.toml"), text).unwrap();
        let told = super::check(&file);
        assert!(told.contains("default: jwt-validation, then answer 404\n"), "{told}");
    }

    #[test]
    fn quickstart_is_told_in_words() {
        let text = include_str!("../../../config/quickstart.toml");
        let file = super::super::parse(Path::new("q.toml"), text).unwrap();
        let told = super::check(&file);
        let expected = "\
load balancer web (application) on 127.0.0.1
  listener HTTP on port 8080
    rule 10: path /quickstart: answer 200
    default: forward to web
load balancer echo (network) on 127.0.0.1
  listener TCP on port 8081
    default: forward to echo
target group web (HTTP), checked by GET /health every 5s, timeout 2s
target group echo (TCP), checked by a TCP connection every 5s, timeout 2s
task definition web
  container web runs roadstead whoami, port 8080/tcp
task definition echo
  container echo runs roadstead whoami --tcp, port 7000/tcp
service default/web: 3 tasks of web
  port 8080 in target group web
  found as web.demo.internal
service default/echo: 2 tasks of echo
  port 7000 in target group echo
  found as echo.demo.internal
namespace demo.internal
2 load balancers, 2 listeners, 2 target groups, 2 services, 5 tasks on the process runtime
";
        assert_eq!(told, expected);
    }
}
