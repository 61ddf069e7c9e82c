//! CloudWatch Logs over what tasks with the log driver `awslogs` said.
//!
//! One file per resource. Not here: who writes (`runtime::docker`), how streams lie on disk
//! (`runtime::streams`). Nothing is put through this API: streams are written by tasks alone.
//! **Invariant:** [`call`] is the list of what is served; one call reads a bounded part of a
//! stream.

mod event;
mod group;
mod pattern;
mod stream;

use super::call::{Accepted, Call, Input, Outcome};
use super::error::Error;
use crate::model::{Account, LogGroupName};

/// Members that are taken and not acted upon.
pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        member: "PutRetentionPolicy.retentionInDays",
        why: "kept and shown; of a group the youngest 1,000 files are kept, of a stream 64 MiB",
    },
    Accepted { member: "FilterLogEvents.interleaved", why: "always so, as in CloudWatch" },
    Accepted { member: "*.unmask", why: "nothing is masked" },
    Accepted { member: "DescribeLogGroups.includeLinkedAccounts", why: "there is one account" },
];

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, input: Input) -> Outcome {
    match call.name() {
        "CreateLogGroup" => group::create(call, input).await,
        "DescribeLogGroups" => group::describe(call, input).await,
        "PutRetentionPolicy" => group::put_retention(call, input).await,
        "DeleteRetentionPolicy" => group::delete_retention(call, input).await,
        "DeleteLogGroup" => group::delete(call, input).await,
        "TagResource" => group::tag(call, input).await,
        "UntagResource" => group::untag(call, input).await,
        "ListTagsForResource" => group::list_tags(call, input).await,
        "ListTagsLogGroup" => group::list_tags_by_name(call, input).await,
        "CreateLogStream" => stream::create(call, input).await,
        "DescribeLogStreams" => stream::describe(call, input).await,
        "DeleteLogStream" => stream::delete(call, input).await,
        "GetLogEvents" => event::get(call, input).await,
        "FilterLogEvents" => event::filter(call, input).await,
        _ => Err(call.unknown()),
    }
}

fn missing(what: &str) -> Error {
    Error::new("ResourceNotFoundException", format!("The specified {what} does not exist."))
}

fn there(what: &str) -> Error {
    Error::new("ResourceAlreadyExistsException", format!("The specified {what} already exists"))
}

/// Reads or writes files, off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    let failed = |error: String| Error::Unavailable(format!("the logs cannot be reached: {error}"));
    done.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

/// How many items an answer may have.
fn limit(name: &str, asked: Option<i64>, most: usize) -> Result<usize, Error> {
    let Some(asked) = asked else { return Ok(most) };
    let good = usize::try_from(asked).ok().filter(|asked| (1..=most).contains(asked));
    good.ok_or_else(|| Error::invalid(format!("{name} must be between 1 and {most}")))
}

/// The name in a name or an ARN of a log group.
pub(super) fn group_name(text: &str) -> &str {
    let name = text.strip_prefix("arn:aws:logs:").and_then(|rest| rest.splitn(4, ':').nth(3));
    name.map_or(text, |name| name.strip_suffix(":*").unwrap_or(name))
}

/// The group that a call means by a name or an ARN.
///
/// # Errors
/// The ARN is of another region.
fn meant(account: &Account, text: &str) -> Result<LogGroupName, Error> {
    let name = LogGroupName::within(account.place(), group_name(text));
    let own = account.log_group(name.as_str()).to_string();
    match text.starts_with("arn:") && text.strip_suffix(":*").unwrap_or(text) != own {
        true => Err(missing("log group")),
        false => Ok(name),
    }
}

/// What the folder of a group is called.
fn on_disk(name: &LogGroupName) -> String {
    format!("{name:#}")
}

/// The group that a call names one way or the other.
fn named(
    account: &Account,
    name: Option<&str>,
    identifier: Option<&str>,
) -> Result<LogGroupName, Error> {
    match (name, identifier) {
        (Some(name), None) => Ok(LogGroupName::within(account.place(), name)),
        (None, Some(identifier)) => meant(account, identifier),
        _ => Err(Error::invalid("exactly one of logGroupName and logGroupIdentifier is required")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_by_name_or_arn() {
        let check = |text: &str, expected: &str| assert_eq!(group_name(text), expected);
        check("/ecs/web", "/ecs/web");
        check("arn:aws:logs:local:000000000000:log-group:/ecs/web", "/ecs/web");
        check("arn:aws:logs:local:000000000000:log-group:/ecs/web:*", "/ecs/web");
        let account = Account::new("local", "000000000000");
        let away = Account { is_away: true, ..Account::new("eu-west-1", "000000000000") };
        let own = "arn:aws:logs:local:000000000000:log-group:/ecs/web:*";
        assert!(named(&account, None, None).is_err());
        assert!(named(&account, Some("a"), Some("b")).is_err());
        assert_eq!(named(&account, None, Some(own)).unwrap(), "/ecs/web".into());
        assert_eq!(named(&away, None, Some(own)).unwrap_err(), missing("log group"));
        let there = LogGroupName::within("eu-west-1", "/ecs/web");
        assert_eq!(named(&away, Some("/ecs/web"), None).unwrap(), there);
    }
}
