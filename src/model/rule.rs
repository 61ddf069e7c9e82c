//! Rules, their conditions, transforms and actions, as configured.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Authentication, CookieKeyId, Mirror, RateLimit, TargetGroupName};
use crate::clock::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Sixteen hexadecimal digits.
    pub id: String,
    /// 1 to 50000; the lowest that matches wins.
    pub priority: u32,
    /// All of them have to match.
    pub conditions: Vec<Condition>,
    #[serde(default)]
    pub transforms: Transforms,
    /// What comes before the action.
    #[serde(default)]
    pub authentication: Option<Authentication>,
    pub action: Action,
    /// The action's place among the actions, as it was given.
    #[serde(default)]
    pub order: Option<u32>,
    #[serde(default)]
    pub stickiness: GroupStickiness,
    /// How long a response's head may take.
    #[serde(default)]
    pub timeout: Option<Duration>,
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    #[serde(default)]
    pub mirror: Option<Mirror>,
}

impl Rule {
    /// A rule that only matches and acts.
    #[must_use]
    pub fn new(id: String, priority: u32, conditions: Vec<Condition>, action: Action) -> Self {
        let (transforms, stickiness) = (Transforms::default(), GroupStickiness::default());
        Self {
            id,
            priority,
            conditions,
            transforms,
            authentication: None,
            action,
            order: None,
            stickiness,
            timeout: None,
            rate_limit: None,
            mirror: None,
        }
    }
}

/// Any of a condition's values has to match. Patterns have `*` and `?`; regular expressions match
/// anywhere unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Patterns; without regard to case, compared without the port.
    HostHeader(Vec<String>),
    /// Regular expressions; without regard to case, compared without the port.
    HostRegex(Vec<String>),
    /// Patterns; case matters, compared without the query.
    PathPattern(Vec<String>),
    /// Regular expressions; case matters, compared without the query.
    PathRegex(Vec<String>),
    /// Patterns for the values of one header; without regard to case.
    HttpHeader { name: String, values: Vec<String> },
    /// Regular expressions for the values of one header; without regard to case.
    HeaderRegex { name: String, values: Vec<String> },
    /// Exactly as they are sent.
    HttpRequestMethod(Vec<String>),
    /// Patterns for parameters; without regard to case.
    QueryString(Vec<QueryValue>),
    /// Networks such as `10.0.0.0/8`, of the connection's other end.
    SourceIp(Vec<String>),
}

/// A parameter of the query that is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryValue {
    /// None: whatever it is called.
    pub key: Option<String>,
    pub value: String,
}

/// What is changed in a request that a rule matched, before a target gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transforms {
    #[serde(default)]
    pub host_header: Option<Rewrite>,
    /// Of path and query.
    #[serde(default)]
    pub url: Option<Rewrite>,
}

impl Transforms {
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.host_header.is_none() && self.url.is_none()
    }
}

/// What `regex` matches first becomes `replace`, in which `$1` is its first group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    pub regex: String,
    pub replace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Forward(Vec<WeightedGroup>),
    FixedResponse(FixedResponse),
    Redirect(Redirect),
}

impl Action {
    /// The target groups that it forwards to.
    #[must_use]
    pub fn groups(&self) -> &[WeightedGroup] {
        match self {
            Self::Forward(groups) => groups,
            Self::FixedResponse(_) | Self::Redirect(_) => &[],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightedGroup {
    pub group: TargetGroupName,
    /// 0 to 999.
    pub weight: u32,
}

/// Whether a client stays with the target group that it was given, as asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStickiness {
    pub enabled: bool,
    /// Kept even where it is not enabled.
    pub duration: Option<Duration>,
}

/// A secret that seals the cookies of stickiness.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieKey {
    pub id: CookieKeyId,
    pub secret: String,
    /// The newest one seals.
    pub made_at: Timestamp,
}

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CookieKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedResponse {
    pub status: u16,
    pub content_type: String,
    /// At most 1024 bytes.
    pub body: String,
}

/// Where a client is sent. Each part may hold `#{protocol}`, `#{host}`, `#{port}`, `#{path}` and
/// `#{query}`, which stand for the request's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// 301 or 302.
    pub status: u16,
    /// `HTTP`, `HTTPS` or `#{protocol}`.
    pub protocol: String,
    pub host: String,
    pub port: String,
    /// With its first `/`.
    pub path: String,
    /// Without the `?`.
    pub query: String,
}

impl Redirect {
    /// To where the request was sent to: what ALB takes for parts that are not given.
    #[must_use]
    pub fn to_itself(status: u16) -> Self {
        Self {
            status,
            protocol: "#{protocol}".to_owned(),
            host: "#{host}".to_owned(),
            port: "#{port}".to_owned(),
            path: "/#{path}".to_owned(),
            query: "#{query}".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_from_before_there_were_transforms_is_read() {
        let old = r#"{"id":"a","priority":1,"conditions":[{"PathPattern":["/a"]}],
            "action":{"Forward":[]},"order":null}"#;
        let rule: Rule = serde_json::from_str(old).unwrap();
        let conditions = vec![Condition::PathPattern(vec!["/a".into()])];
        let expected = Rule::new("a".into(), 1, conditions, Action::Forward(vec![]));
        assert_eq!(rule, expected);
    }
}
