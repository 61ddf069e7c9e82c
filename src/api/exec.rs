//! Which container a command may be executed in: ECS Exec's rules, and its words.
//!
//! Not here: how it is executed (`runtime`), how its bytes travel (`session` for ECS's own clients,
//! `app` for ours).

use crate::model::{Account, Arn, Container, ContainerStatus, Task, TaskId};
use crate::runtime::{Exec, Fleet, Session};
use crate::state::{State, Store};

/// ECS's words for a task that was run without `enableExecuteCommand`.
const NOT_ENABLED: &str = "The execute command failed because execute command was not enabled when \
                           the task was run or the execute command agent isn’t running. Wait and \
                           try again or run a new task with execute command enabled and try again.";

/// What sessions that are under way are told when this process stops serving them.
pub const ENDS: &str = "roadstead ends here, or another process takes over";

/// Why nothing is executed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Something else has to be asked for.
    #[error("{0}")]
    Asked(String),
    #[error("container {container} of task {task} does not run")]
    NotRunning { task: TaskId, container: String },
}

/// Where commands are executed. Clones are the same.
#[derive(Clone, Debug)]
pub struct Desk {
    pub store: Store,
    pub account: Account,
    pub fleet: Fleet,
}

impl Desk {
    /// Executes a command in the container that is meant, as [`target`] says.
    ///
    /// # Errors
    /// Why there is none, or what the runtime says.
    pub async fn open(
        &self,
        task: &str,
        container: Option<&str>,
        exec: &Exec,
    ) -> Result<Session, String> {
        let Some(program) = exec.command.first() else {
            return Err("there is no command to execute".to_owned());
        };
        let state = self.store.read();
        let found = target(&state, &self.account, task, container);
        let (task, container) = found.map_err(|refused| refused.to_string())?;
        let instance = state.tasks.get(&task).map(|task| task.instance.clone());
        let runtime = self.fleet.at(&instance.unwrap_or_default());
        let runtime = runtime.map_err(|error| error.to_string())?;
        let session = runtime.exec(&task, &container, exec).await;
        let session = session.map_err(|error| error.to_string())?;
        // Its arguments may hold what nobody should read.
        tracing::info!(%task, container, program, "a command is executed");
        Ok(session)
    }
}

/// The container that is meant. A task is named by its id, the beginning of it that no other has,
/// or its ARN; the container may be left out where there is one.
///
/// # Errors
/// Why there is none, or none that it may be.
pub fn target(
    state: &State,
    account: &Account,
    task: &str,
    container: Option<&str>,
) -> Result<(TaskId, String), Refused> {
    let task = find(state, account, task).map_err(Refused::Asked)?;
    let row = self::container(task, container)?;
    Ok((task.id.clone(), row.name.clone()))
}

/// The container of a task that is meant.
///
/// # Errors
/// As [`target`] says.
pub fn container<'a>(task: &'a Task, name: Option<&str>) -> Result<&'a Container, Refused> {
    if !task.exec {
        return Err(Refused::Asked(NOT_ENABLED.to_owned()));
    }
    let row = match (name, task.containers.as_slice()) {
        (Some(name), _) => task.container(name).ok_or_else(|| {
            Refused::Asked(format!("there is no container {name} in task {}", task.id))
        })?,
        (None, [only]) => only,
        (None, all) => {
            let names: Vec<_> = all.iter().map(|row| row.name.as_str()).collect();
            let names = names.join(", ");
            let text = format!("the task has several containers: name one of {names}");
            return Err(Refused::Asked(text));
        }
    };
    match row.status {
        ContainerStatus::Running => Ok(row),
        _ => Err(Refused::NotRunning { task: task.id.clone(), container: row.name.clone() }),
    }
}

fn find<'a>(state: &'a State, account: &Account, text: &str) -> Result<&'a Task, String> {
    let missing = || "The referenced task was not found.".to_owned();
    if text.starts_with("arn:") {
        let arn: Arn = text.parse().map_err(|_| missing())?;
        let is_it = |task: &&Task| account.task(&task.cluster, &task.id) == arn;
        return state.tasks.values().map(AsRef::as_ref).find(is_it).ok_or_else(missing);
    }
    let alike = state.tasks.range(TaskId::from(text)..).map(|(_, task)| &**task);
    let mut alike = alike.take_while(|task| task.id.as_str().starts_with(text));
    match (alike.next().filter(|_| !text.is_empty()), alike.next()) {
        (None, _) => Err(missing()),
        (Some(task), None) => Ok(task),
        (Some(task), Some(_)) if task.id.as_str() == text => Ok(task),
        (Some(_), Some(_)) => Err(format!("several tasks begin with {text}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Timestamp;
    use crate::model::{Container, TaskDefinition};

    /// `ID[!] CONTAINER[+] …`: `!` without exec, `+` running.
    fn task(line: &str) -> (TaskId, Arc<Task>) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        let id = TaskId::from(name.trim_end_matches('!'));
        let row = |word: &str| Container {
            status: match word.ends_with('+') {
                true => ContainerStatus::Running,
                false => ContainerStatus::Stopped,
            },
            ..Container::new(word.trim_end_matches('+'))
        };
        let definition = TaskDefinition::new("f".into(), 1, Vec::new()).key();
        let task = Task {
            exec: !name.ends_with('!'),
            containers: words.map(row).collect(),
            ..Task::new(id.clone(), "c".into(), definition, Timestamp(1))
        };
        (id, Arc::new(task))
    }

    #[test]
    fn commands_are_for_running_containers_of_tasks_that_allow_them() {
        let lines = ["a1 app+", "a2! app+", "b1 app+ side", "b12 app"];
        let tasks = Arc::new(lines.map(task).into());
        let state = State { tasks, ..State::default() };
        let account = Account::new("r", "1".repeat(12));
        let check = |asked: &str, expected: Result<&str, &str>| {
            let (task, container) = asked.split_once(' ').unwrap_or((asked, ""));
            let container = Some(container).filter(|name| !name.is_empty());
            let found = target(&state, &account, task, container);
            let found = found.map(|(task, container)| format!("{task}/{container}"));
            let found = found.map_err(|refused| refused.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{asked}");
        };
        let missing = Err("The referenced task was not found.");
        check("a1", Ok("a1/app"));
        check("a1 app", Ok("a1/app"));
        check("arn:aws:ecs:r:111111111111:task/c/a1", Ok("a1/app"));
        check("arn:aws:ecs:r:111111111111:task/d/a1", missing);
        check("a2", Err(NOT_ENABLED));
        check("a", Err("several tasks begin with a"));
        check("b1 app", Ok("b1/app"));
        check("b1", Err("the task has several containers: name one of app, side"));
        check("b1 side", Err("container side of task b1 does not run"));
        check("b1 other", Err("there is no container other in task b1"));
        check("b12", Err("container app of task b12 does not run"));
        check("c", missing);
        check("", missing);
    }
}
