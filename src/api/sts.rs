//! STS: who the caller is.

use serde_json::json;

use super::call::{Call, Input, Outcome};

/// From operation to function: what is served.
pub(crate) fn call(call: &Call, _input: Input) -> Outcome {
    match call.name() {
        "GetCallerIdentity" => Ok(caller_identity(call)),
        _ => Err(call.unknown()),
    }
}

/// A key without a user is the account's own.
fn caller_identity(call: &Call) -> serde_json::Value {
    let account = &call.account().id;
    let id = call.caller.as_deref().unwrap_or(account);
    let root = || format!("arn:aws:iam::{account}:root");
    let arn = call.user.as_ref().map_or_else(root, |user| user.arn(call.account()));
    json!({"UserId": id, "Account": account, "Arn": arn})
}
