//! Rules: their conditions, transforms and actions.

use super::super::place::Place;
use super::super::source::Bad;
use super::super::written::{
    WrittenFixedResponse, WrittenHeader, WrittenMirror, WrittenParameter, WrittenQuery,
    WrittenRedirect, WrittenRewrite, WrittenRule, WrittenWeight,
};
use super::{Resources, id_of, traffic};
use crate::api::elb::action::check_redirect;
use crate::api::elb::limits::{
    CONTENT_TYPES, LARGEST_BODY, MOST_GROUPS, MOST_VALUES, MOST_WEIGHT, MOST_WILDCARDS, PRIORITIES,
    STICKY_SECONDS,
};
use crate::config::Time;
use crate::model::{
    Action, Carrier, Condition, FixedResponse, GroupStickiness, Mirror, Protocol, QueryValue,
    Redirect, Rewrite, Rule, Transforms, WeightedGroup,
};
use crate::rules::{Weight, check_transforms, weigh};

/// Bytes of a request's body that are copied for a mirror at most (ours).
const MOST_COPIED: u64 = 1 << 20;

/// The keys that say what becomes of a request; of all but `group_stickiness` there is one.
pub(super) struct WrittenAction<'a> {
    pub(super) target_group: &'a Option<String>,
    pub(super) forward: &'a Option<Vec<WrittenWeight>>,
    pub(super) group_stickiness: Option<Time>,
    pub(super) redirect: &'a Option<WrittenRedirect>,
    pub(super) fixed_response: &'a Option<WrittenFixedResponse>,
}

impl Resources {
    pub(super) fn rule(
        &self,
        written: &WrittenRule,
        listener: &str,
        (protocol, carrier): (Protocol, Carrier),
        at: &Place,
    ) -> Result<Rule, Bad> {
        if !PRIORITIES.contains(&written.priority) {
            return Err(Bad::new(&at.key("priority"), "must be 1 to 50000"));
        }
        let conditions = conditions(written, at)?;
        let action = WrittenAction {
            target_group: &written.target_group,
            forward: &written.forward,
            group_stickiness: written.group_stickiness,
            redirect: &written.redirect,
            fixed_response: &written.fixed_response,
        };
        let (action, stickiness) = self.action(&action, protocol, at)?;
        let transforms = transforms(written, at)?;
        if !transforms.is_empty() && !matches!(action, Action::Forward(_)) {
            return Err(Bad::new(at, "only what is forwarded can be rewritten"));
        }
        let checks = (written.jwt_validation.as_ref(), written.authenticate_oidc.as_ref());
        let authentication = self.authentication(checks, protocol, at)?;
        let id = id_of(&format!("rule {listener} {}", written.priority));
        let rule = Rule::new(id, written.priority, conditions, action);
        let timeout = traffic::timeout(written.timeout, carrier, &at.key("timeout"))?;
        if timeout.is_some() && !matches!(rule.action, Action::Forward(_)) {
            return Err(Bad::new(&at.key("timeout"), "belongs to rules that forward"));
        }
        let rate_limit = written.rate_limit.as_ref();
        let rate_limit = traffic::rate_limit(rate_limit, &at.key("rate_limit"))?;
        let mirror = written.mirror.as_ref();
        let mirror = mirror
            .map(|own| self.mirror(own, &rule.action, carrier, &at.key("mirror")))
            .transpose()?;
        Ok(Rule { transforms, authentication, stickiness, timeout, rate_limit, mirror, ..rule })
    }

    fn mirror(
        &self,
        written: &WrittenMirror,
        action: &Action,
        carrier: Carrier,
        at: &Place,
    ) -> Result<Mirror, Bad> {
        if carrier == Carrier::Pingora {
            return Err(Bad::new(at, "belongs to listeners of the native carrier"));
        }
        let is_http_1 = |name: &str, at: &Place| {
            let group = self.group(name, at)?;
            Ok(group.protocol.is_http() && !group.options.version.is_http_2())
        };
        let place = at.key("target_group");
        if !is_http_1(&written.target_group, &place)? {
            return Err(Bad::new(&place, "must be an HTTP target group of protocol_version HTTP1"));
        }
        let groups = action.groups();
        for own in groups {
            if !is_http_1(own.group.as_str(), at)? {
                let reason = "belongs to rules whose target groups are of protocol_version HTTP1";
                return Err(Bad::new(at, reason));
            }
        }
        if groups.is_empty() {
            return Err(Bad::new(at, "belongs to rules that forward"));
        }
        let mirror = Mirror {
            group: written.target_group.as_str().into(),
            percent: written.percent.unwrap_or(100),
            max_body: written.max_body.unwrap_or(64 * 1024),
        };
        if !(1..=100).contains(&mirror.percent) {
            return Err(Bad::new(&at.key("percent"), "must be 1 to 100"));
        }
        if mirror.max_body > MOST_COPIED {
            return Err(Bad::new(&at.key("max_body"), "must be at most 1048576"));
        }
        Ok(mirror)
    }

    pub(super) fn action(
        &self,
        written: &WrittenAction<'_>,
        protocol: Protocol,
        at: &Place,
    ) -> Result<(Action, GroupStickiness), Bad> {
        let own = |key: &str| match protocol {
            Protocol::Tcp => Err(Bad::new(&at.key(key), "a TCP listener can only forward")),
            _ => Ok(at.key(key)),
        };
        let answers = (written.redirect, written.fixed_response);
        let action = match (written.target_group, written.forward, answers) {
            (Some(name), None, (None, None)) => {
                let group = self.forwarded(name, protocol, &at.key("target_group"))?;
                Action::Forward(vec![WeightedGroup { weight: 1, ..group }])
            }
            (None, Some(groups), (None, None)) => {
                self.forward(groups, protocol, &at.key("forward"))?
            }
            (None, None, (Some(to), None)) => {
                Action::Redirect(redirect(to, protocol, &own("redirect")?)?)
            }
            (None, None, (None, Some(response))) => {
                Action::FixedResponse(fixed_response(response, &own("fixed_response")?)?)
            }
            _ => {
                let reason =
                    "needs exactly one of target_group, forward, redirect and fixed_response";
                return Err(Bad::new(at, reason));
            }
        };
        let Some(Time(duration)) = written.group_stickiness else {
            return Ok((action, GroupStickiness::default()));
        };
        let at = own("group_stickiness")?;
        if !matches!(action, Action::Forward(_)) {
            return Err(Bad::new(&at, "belongs to rules that forward"));
        }
        if duration.subsec_nanos() != 0 || !STICKY_SECONDS.contains(&duration.as_secs()) {
            return Err(Bad::new(&at, "must be whole seconds, 1s to 168h"));
        }
        Ok((action, GroupStickiness { enabled: true, duration: Some(duration) }))
    }

    fn forward(
        &self,
        written: &[WrittenWeight],
        protocol: Protocol,
        list: &Place,
    ) -> Result<Action, Bad> {
        if !(1..=MOST_GROUPS).contains(&written.len()) {
            return Err(Bad::new(list, "must hold one to five target groups"));
        }
        let mut groups: Vec<WeightedGroup> = Vec::new();
        for (index, wanted) in written.iter().enumerate() {
            let at = list.index(index);
            let group = self.forwarded(&wanted.target_group, protocol, &at.key("target_group"))?;
            if groups.iter().any(|known| known.group == group.group) {
                let reason = format!("target group {} stands here twice", group.group);
                return Err(Bad::new(&at.key("target_group"), reason));
            }
            let weight = wanted.weight.unwrap_or(1);
            if weight > MOST_WEIGHT {
                return Err(Bad::new(&at.key("weight"), "must be 0 to 999"));
            }
            groups.push(WeightedGroup { weight, ..group });
        }
        if groups.iter().all(|group| group.weight == 0) {
            return Err(Bad::new(list, "needs at least one weight above 0"));
        }
        Ok(Action::Forward(groups))
    }

    fn forwarded(&self, name: &str, protocol: Protocol, at: &Place) -> Result<WeightedGroup, Bad> {
        let group = self.group(name, at)?;
        if !protocol.forwards_to(group.protocol) {
            let (theirs, ours) = (group.protocol.as_str(), protocol.as_str());
            let reason =
                format!("target group {name} speaks {theirs}, but the listener speaks {ours}");
            return Err(Bad::new(at, reason));
        }
        Ok(WeightedGroup { group: group.name.clone(), weight: 1 })
    }
}

/// The conditions of a rule, each checked.
fn conditions(written: &WrittenRule, at: &Place) -> Result<Vec<Condition>, Bad> {
    let mut all = Conditions { found: Vec::new(), weight: Weight::default() };
    type Make = fn(Vec<String>) -> Condition;
    let lists: [(&str, &Option<Vec<String>>, Make); 6] = [
        ("host_header", &written.host_header, Condition::HostHeader),
        ("host_regex", &written.host_regex, Condition::HostRegex),
        ("path_pattern", &written.path_pattern, Condition::PathPattern),
        ("path_regex", &written.path_regex, Condition::PathRegex),
        ("http_request_method", &written.http_request_method, Condition::HttpRequestMethod),
        ("source_ip", &written.source_ip, Condition::SourceIp),
    ];
    for (key, values, condition) in lists {
        if let Some(values) = values {
            all.add(&at.key(key), condition(values.clone()), values)?;
        }
    }
    for (index, header) in written.http_header.iter().enumerate() {
        all.header(header, &at.key("http_header").index(index))?;
    }
    for (index, query) in written.query_string.iter().enumerate() {
        all.query(query, &at.key("query_string").index(index))?;
    }
    for (one, other) in [("host_header", "host_regex"), ("path_pattern", "path_regex")] {
        let there = |key: &str| lists.iter().any(|(own, list, _)| *own == key && list.is_some());
        if there(one) && there(other) {
            return Err(Bad::new(
                &at.key(other),
                format!("stands beside {one}: one of them is enough"),
            ));
        }
    }
    if all.weight.values > MOST_VALUES {
        return Err(Bad::new(at, "must have at most five values in all its conditions"));
    }
    if all.weight.wildcards > MOST_WILDCARDS {
        return Err(Bad::new(at, "must have at most six wildcards"));
    }
    if all.found.is_empty() {
        return Err(Bad::new(at, "needs a condition, such as host_header or path_pattern"));
    }
    Ok(all.found)
}

struct Conditions {
    found: Vec<Condition>,
    weight: Weight,
}

impl Conditions {
    /// `values` are its texts in the order of the file's list.
    fn add(&mut self, list: &Place, condition: Condition, values: &[String]) -> Result<(), Bad> {
        if values.is_empty() {
            return Err(Bad::new(list, "must hold at least one value"));
        }
        let weight = weigh(&condition).map_err(|(value, bad)| {
            let place = values.iter().position(|own| *own == value);
            let at = place.map_or_else(|| list.clone(), |index| list.index(index));
            Bad::new(&at, format!("{value:?}: {bad}"))
        })?;
        self.weight.values += weight.values;
        self.weight.wildcards += weight.wildcards;
        self.found.push(condition);
        Ok(())
    }

    fn header(&mut self, written: &WrittenHeader, at: &Place) -> Result<(), Bad> {
        let name = written.name.clone();
        match (&written.values, &written.regex) {
            (Some(values), None) => {
                let condition = Condition::HttpHeader { name, values: values.clone() };
                self.add(&at.key("values"), condition, values)
            }
            (None, Some(values)) => {
                let condition = Condition::HeaderRegex { name, values: values.clone() };
                self.add(&at.key("regex"), condition, values)
            }
            _ => Err(Bad::new(at, "needs exactly one of values and regex")),
        }
    }

    fn query(&mut self, written: &WrittenQuery, at: &Place) -> Result<(), Bad> {
        let pair = |pair: &WrittenParameter| QueryValue {
            key: pair.key.clone(),
            value: pair.value.clone(),
        };
        let pairs: Vec<_> = written.values.iter().map(pair).collect();
        let texts: Vec<_> = pairs.iter().map(|pair| pair.value.clone()).collect();
        self.add(&at.key("values"), Condition::QueryString(pairs), &texts)
    }
}

fn transforms(written: &WrittenRule, at: &Place) -> Result<Transforms, Bad> {
    let rewrite = |key: &str, written: &Option<WrittenRewrite>| {
        let rewrite = written.as_ref().map(|written| Rewrite {
            regex: written.regex.clone(),
            replace: written.replace.clone(),
        });
        let alone = Transforms { host_header: rewrite.clone(), url: None };
        let bad = |(text, bad)| Bad::new(&at.key(key), format!("{text:?}: {bad}"));
        check_transforms(&alone).map_err(bad).map(|()| rewrite)
    };
    Ok(Transforms {
        host_header: rewrite("host_header_rewrite", &written.host_header_rewrite)?,
        url: rewrite("url_rewrite", &written.url_rewrite)?,
    })
}

fn redirect(written: &WrittenRedirect, listener: Protocol, at: &Place) -> Result<Redirect, Bad> {
    if !matches!(written.status, 301 | 302) {
        return Err(Bad::new(&at.key("status"), "must be 301 or 302"));
    }
    let itself = Redirect::to_itself(written.status);
    let or = |given: &Option<String>, own: String| given.clone().unwrap_or(own);
    let redirect = Redirect {
        status: written.status,
        protocol: or(&written.protocol, itself.protocol),
        host: or(&written.host, itself.host),
        port: or(&written.port, itself.port),
        path: or(&written.path, itself.path),
        query: or(&written.query, itself.query),
    };
    check_redirect(&redirect, listener).map_err(|(part, reason)| {
        let at = if part == "parts" { at.clone() } else { at.key(part) };
        Bad::new(&at, reason)
    })?;
    Ok(redirect)
}

fn fixed_response(written: &WrittenFixedResponse, at: &Place) -> Result<FixedResponse, Bad> {
    if !matches!(written.status, 200..=299 | 400..=599) {
        return Err(Bad::new(&at.key("status"), "must be 2XX, 4XX or 5XX"));
    }
    let content_type = written.content_type.as_deref().unwrap_or(CONTENT_TYPES[0]);
    if !CONTENT_TYPES.contains(&content_type) {
        let reason = format!("must be one of {}", CONTENT_TYPES.join(", "));
        return Err(Bad::new(&at.key("content_type"), reason));
    }
    if written.body.len() > LARGEST_BODY {
        return Err(Bad::new(&at.key("body"), "must be at most 1024 bytes"));
    }
    Ok(FixedResponse {
        status: written.status,
        content_type: content_type.to_owned(),
        body: written.body.clone(),
    })
}
