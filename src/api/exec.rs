//! Which container a command may be executed in: ECS Exec's rules, and its words.
//!
//! Not here: how it is executed (`runtime`), how its bytes travel (`app`). ECS's own operation,
//! ExecuteCommand, leads to a session of another protocol (SSM) and is not served.

use crate::model::{Account, Arn, ContainerStatus, Task, TaskId};
use crate::state::State;

/// ECS's words for a task that was run without `enableExecuteCommand`.
const NOT_ENABLED: &str = "The execute command failed because execute command was not enabled when \
                           the task was run or the execute command agent isn’t running. Wait and \
                           try again or run a new task with execute command enabled and try again.";

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
) -> Result<(TaskId, String), String> {
    let task = find(state, account, task)?;
    if !task.exec {
        return Err(NOT_ENABLED.to_owned());
    }
    let row = match (container, task.containers.as_slice()) {
        (Some(name), _) => task
            .container(name)
            .ok_or_else(|| format!("there is no container {name} in task {}", task.id))?,
        (None, [only]) => only,
        (None, all) => {
            let names: Vec<_> = all.iter().map(|row| row.name.as_str()).collect();
            let names = names.join(", ");
            return Err(format!("the task has several containers: name one of {names}"));
        }
    };
    match row.status {
        ContainerStatus::Running => Ok((task.id.clone(), row.name.clone())),
        _ => Err(format!("container {} of task {} does not run", row.name, task.id)),
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
        let account = Account { region: "r".to_owned(), id: "1".repeat(12) };
        let check = |asked: &str, expected: Result<&str, &str>| {
            let (task, container) = asked.split_once(' ').unwrap_or((asked, ""));
            let container = Some(container).filter(|name| !name.is_empty());
            let found = target(&state, &account, task, container);
            let found = found.map(|(task, container)| format!("{task}/{container}"));
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
