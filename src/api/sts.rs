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

/// Every key belongs to the account itself.
fn caller_identity(call: &Call) -> serde_json::Value {
    let account = &call.account().id;
    let user = call.caller.as_deref().unwrap_or(account);
    json!({"UserId": user, "Account": account, "Arn": format!("arn:aws:iam::{account}:root")})
}
