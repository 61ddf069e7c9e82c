//! What is known of a request: the condition keys and their values.
//!
//! Source: IAM user guide, "AWS global condition context keys". Not here: which of them a policy
//! asks for. **Invariant:** a key that is here has a value.

use std::collections::BTreeMap;

/// Values by key; keys are compared without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Context(BTreeMap<String, Vec<String>>);

/// Keys that some request has, and beginnings of such keys; others are absent from every request.
const KNOWN: [&str; 20] = [
    "application-autoscaling:scalable-dimension",
    "application-autoscaling:service-namespace",
    "aws:currenttime",
    "aws:epochtime",
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principaltype",
    "aws:requestedregion",
    "aws:requesttag/",
    "aws:resourceaccount",
    "aws:resourcetag/",
    "aws:securetransport",
    "aws:sourceip",
    "aws:tagkeys",
    "aws:useragent",
    "aws:userid",
    "aws:username",
    "aws:viaawsservice",
    "ecs:cluster",
    "ecs:container-name",
];

impl Context {
    pub(super) fn add(&mut self, key: &str, value: impl Into<String>) {
        self.0.entry(key.to_ascii_lowercase()).or_default().push(value.into());
    }

    pub(super) fn get(&self, key: &str) -> Option<&[String]> {
        self.0.get(&key.to_ascii_lowercase()).map(Vec::as_slice)
    }
}

/// Whether requests can have such a key at all.
pub(super) fn is_known(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let fits = |known: &&str| match known.strip_suffix('/') {
        Some(_) => key.starts_with(*known) && key.len() > known.len(),
        None => key == **known,
    };
    // Every service has its own name for the tags of its resources.
    let own = key.split_once(':').is_some_and(|(_, name)| {
        name.strip_prefix("resourcetag/").is_some_and(|tag| !tag.is_empty())
    });
    KNOWN.iter().any(fits) || own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_no_request_has_are_told() {
        let check = |key: &str, expected: bool| assert_eq!(is_known(key), expected, "{key}");
        check("aws:SourceIp", true);
        check("AWS:sourceip", true);
        check("aws:RequestTag/team", true);
        check("aws:RequestTag/", false);
        check("elasticloadbalancing:ResourceTag/team", true);
        check("aws:MultiFactorAuthPresent", false);
        check("ecs:cluster", true);
        check("ecs:clusters", false);
    }
}
