//! ExecuteCommand: a session for a command in a container of a running task.
//!
//! Not here: what is said in the session (`api::session`), how the command is executed (`runtime`).
//! **Invariant:** what is refused here opens no session; the container is looked at again when the
//! session is opened.

use serde::Deserialize;
use serde_json::json;

use super::{names, task_shown};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::exec::{self, Refused};
use crate::api::session::{self, Wanted};

#[derive(Deserialize)]
struct Execute {
    cluster: Option<String>,
    container: Option<String>,
    command: String,
    interactive: bool,
    task: String,
}

pub(super) fn command(call: &Call, input: Input) -> Outcome {
    let asked: Execute = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    if !asked.interactive {
        return Err(Error::invalid("Interactive is the only mode supported currently."));
    }
    let command = session::words(&asked.command).map_err(Error::invalid)?;
    let id = names::task(call, &cluster, &asked.task)?;
    let state = call.state();
    let task = state.tasks.get(&id).filter(|task| task.cluster == cluster);
    let task = task.ok_or_else(|| Error::invalid("The referenced task was not found."))?;
    let container = exec::container(task, asked.container.as_deref());
    let container = container.map_err(|refused| match refused {
        Refused::Asked(text) => Error::invalid(text),
        Refused::NotRunning { .. } => {
            Error::new("TargetNotConnectedException", refused.to_string())
        }
    })?;
    let name = container.name.clone();
    let wanted = Wanted { task: id.to_string(), container: name.clone(), command };
    let made = call.api.sessions.make(wanted);
    let made = made.map_err(|busy| Error::new("ClientException", busy.to_string()))?;
    let account = call.account();
    Ok(json!({
        "clusterArn": account.cluster(&cluster).to_string(),
        "containerArn": task_shown::container_arn(account, task, &name),
        "containerName": name,
        "interactive": true,
        "session": {
            "sessionId": made.id,
            "streamUrl": session::url(&call.host, call.is_secure, &made.id),
            "tokenValue": made.token,
        },
        "taskArn": account.task(&cluster, &id).to_string(),
    }))
}
