//! Tasks and containers as the task metadata endpoint shows them, version 4. Pure.
//!
//! Amazon ECS Developer Guide, "Amazon ECS task metadata endpoint version 4". **Invariant:** what
//! is not recorded (image ids, times of pulls, interfaces of Docker) is left out.

use serde_json::{Map, Value, json};

use super::{tag, task as tasks, task_shown};
use crate::model::{
    Account, CORE, Container, ContainerStatus, NetworkMode, Task, TaskDefinition, TaskStatus,
};
use crate::state::State;

/// What the metadata of one task is read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) account: &'a Account,
    pub(crate) state: &'a State,
    pub(crate) task: &'a Task,
    /// What Docker's names of its containers begin with. None: they are processes.
    pub(crate) docker: Option<&'a str>,
}

impl View<'_> {
    /// As the task runs it.
    fn definition(&self) -> Option<TaskDefinition> {
        let definition = self.state.definitions.get(&self.task.definition)?;
        Some(match &self.task.run {
            Some(run) => run.overrides.applied(definition),
            None => TaskDefinition::clone(definition),
        })
    }

    pub(crate) fn task(&self, with_tags: bool) -> Value {
        let Self { account, state, task, .. } = self;
        let definition = self.definition();
        let limits = definition.as_ref().map(|definition| {
            let cpu = definition.cpu.map(|cpu| f64::from(cpu) / f64::from(CORE));
            limits(cpu.map(Value::from), definition.memory_mib)
        });
        let rows = task.containers.iter();
        let containers = rows.map(|row| self.row(definition.as_ref(), row)).collect::<Vec<_>>();
        let mut shown = json!({
            "Cluster": task.cluster.as_str(),
            "TaskARN": account.task(&task.cluster, &task.id).to_string(),
            "Family": task.definition.family.as_str(),
            "Revision": task.definition.revision.to_string(),
            "ServiceName": task.service.as_ref().map(|key| key.name.as_str()),
            "DesiredStatus": task_shown::desired(task),
            "KnownStatus": task.known.as_str(),
            "Limits": limits,
            "ExecutionStoppedAt": task.stopped_at.map(|at| at.to_string()),
            "LaunchType": tasks::launch(state, task).launch_type().as_str(),
            "Containers": containers,
        });
        if with_tags {
            let tags = tag::of_task(account, state, task).into_iter();
            let tags: Map<String, Value> = tags.map(|(key, value)| (key, value.into())).collect();
            shown["TaskTags"] = Value::Object(tags);
        }
        crate::api::answer::strip(shown)
    }

    /// None: there is no such container.
    pub(crate) fn container(&self, name: &str) -> Option<Value> {
        let shown = self.row(self.definition().as_ref(), self.task.container(name)?);
        Some(crate::api::answer::strip(shown))
    }

    fn row(&self, definition: Option<&TaskDefinition>, row: &Container) -> Value {
        let Self { account, task, docker, .. } = self;
        let written = definition.and_then(|definition| definition.container(&row.name));
        let status = match row.status {
            ContainerStatus::None => "NONE",
            ContainerStatus::Created => "CREATED",
            ContainerStatus::Running => "RUNNING",
            ContainerStatus::Stopped => "STOPPED",
        };
        let log = written.and_then(|written| written.log.as_ref());
        let checked = written.and_then(|written| written.health_check.as_ref());
        let restarted = written.and_then(|written| written.restart_policy.as_ref());
        json!({
            "DockerId": row.runtime_id,
            "Name": row.name,
            "DockerName": docker.map(|prefix| format!("{prefix}-{}-{}", task.id, row.name)),
            "Image": written.and_then(|written| written.image.clone()),
            "Ports": self.ports(definition, row),
            "Labels": self.labels(definition, row),
            "DesiredStatus": task_shown::desired(task),
            "KnownStatus": status,
            "ExitCode": row.exit_code,
            "Limits": written.map(|own| limits(own.cpu.map(Value::from), own.memory_mib)),
            "StartedAt": row.started_at.map(|at| at.to_string()),
            "Type": "NORMAL",
            "LogDriver": log.map(|log| log.driver.as_str()),
            "LogOptions": log.map(|log| json!(log.options)),
            "ContainerARN": task_shown::container_arn(account, task, &row.name),
            "Networks": self.networks(definition, row),
            "RestartCount": restarted.map(|_| row.restarts),
            "Health": checked.map(|_| json!({ "status": row.health.as_str() })),
        })
    }

    fn labels(&self, definition: Option<&TaskDefinition>, row: &Container) -> Value {
        let written = definition.and_then(|definition| definition.container(&row.name));
        let task = self.task;
        let mut labels = written.map(|own| own.docker_labels.clone()).unwrap_or_default();
        let ours = [
            ("cluster", task.cluster.to_string()),
            ("container-name", row.name.clone()),
            ("task-arn", self.account.task(&task.cluster, &task.id).to_string()),
            ("task-definition-family", task.definition.family.to_string()),
            ("task-definition-version", task.definition.revision.to_string()),
        ];
        labels.extend(ours.map(|(name, value)| (format!("com.amazonaws.ecs.{name}"), value)));
        json!(labels)
    }

    fn ports(&self, definition: Option<&TaskDefinition>, row: &Container) -> Option<Value> {
        let written = definition.and_then(|definition| definition.container(&row.name))?;
        let port = |mapping: &crate::model::PortMapping| {
            let is_its = |binding: &&crate::model::NetworkBinding| {
                binding.container_port == mapping.container_port
                    && binding.protocol == mapping.protocol
            };
            let bound = row.bindings.iter().find(is_its);
            json!({
                "ContainerPort": mapping.container_port,
                "Protocol": mapping.protocol.to_string(),
                "HostPort": bound.map(|binding| binding.host_port),
                "HostIp": bound.map(|binding| binding.bind_address.to_string()),
            })
        };
        let all: Vec<_> = written.port_mappings.iter().map(port).collect();
        (!all.is_empty()).then(|| all.into())
    }

    fn networks(&self, definition: Option<&TaskDefinition>, row: &Container) -> Option<Value> {
        let asked = definition.and_then(|definition| definition.network_mode);
        // What nobody chose is Docker's bridge; processes have the machine's network.
        let usual = if self.docker.is_some() { NetworkMode::Bridge } else { NetworkMode::Host };
        let mode = asked.unwrap_or(usual);
        let address = row.address.or(self.task.address)?;
        let family = if address.is_ipv4() { "IPv4Addresses" } else { "IPv6Addresses" };
        Some(json!([{ "NetworkMode": mode.as_str(), family: [address.to_string()] }]))
    }
}

/// None: there are none.
fn limits(cpu: Option<Value>, memory_mib: Option<u32>) -> Option<Value> {
    let limits = json!({ "CPU": cpu, "Memory": memory_mib });
    (cpu.is_some() || memory_mib.is_some()).then_some(limits)
}

/// The containers of which there may be statistics.
pub(crate) fn started(task: &Task) -> impl Iterator<Item = (&str, &str)> {
    let has_run = task.known < TaskStatus::Stopped;
    let rows = task.containers.iter().filter(move |_| has_run);
    rows.filter_map(|row| Some((row.name.as_str(), row.runtime_id.as_deref()?)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Timestamp;
    use crate::model::{ClusterName, ContainerDefinition, PortMapping, ServiceKey};

    /// A service's task of one container, and what it runs.
    fn state() -> (State, Task) {
        let container = ContainerDefinition {
            image: Some("web:1".to_owned()),
            memory_mib: Some(64),
            port_mappings: vec![PortMapping::tcp(80)],
            ..ContainerDefinition::new("app")
        };
        let definition = TaskDefinition {
            cpu: Some(256),
            ..TaskDefinition::new("web".into(), 3, vec![container])
        };
        let row = Container {
            runtime_id: Some("abc".to_owned()),
            status: ContainerStatus::Running,
            started_at: Some(Timestamp(1_700_000_000_000_000)),
            ..Container::new("app")
        };
        let task = Task {
            service: Some(ServiceKey { cluster: "c".into(), name: "web".into() }),
            known: TaskStatus::Running,
            address: Some([10, 0, 0, 9].into()),
            containers: vec![row],
            ..Task::new("t".into(), "c".into(), definition.key(), Timestamp(1))
        };
        let definitions = Arc::new([(definition.key(), Arc::new(definition))].into());
        (State { definitions, ..State::default() }, task)
    }

    #[test]
    fn task_is_shown_as_ecs_shows_it() {
        let account = Account::new("r", "1".repeat(12));
        let (state, task) = state();
        let docker = Some("roadstead-u");
        let view = View { account: &account, state: &state, task: &task, docker };
        let container = json!({
            "DockerId": "abc",
            "Name": "app",
            "DockerName": "roadstead-u-t-app",
            "Image": "web:1",
            "Ports": [{ "ContainerPort": 80, "Protocol": "tcp" }],
            "Labels": {
                "com.amazonaws.ecs.cluster": "c",
                "com.amazonaws.ecs.container-name": "app",
                "com.amazonaws.ecs.task-arn": "arn:aws:ecs:r:111111111111:task/c/t",
                "com.amazonaws.ecs.task-definition-family": "web",
                "com.amazonaws.ecs.task-definition-version": "3",
            },
            "DesiredStatus": "RUNNING",
            "KnownStatus": "RUNNING",
            "Limits": { "Memory": 64 },
            "StartedAt": "2023-11-14T22:13:20.000000Z",
            "Type": "NORMAL",
            "ContainerARN": task_shown::container_arn(&account, &task, "app"),
            "Networks": [{ "NetworkMode": "bridge", "IPv4Addresses": ["10.0.0.9"] }],
        });
        assert_eq!(view.container("app"), Some(container.clone()));
        assert_eq!(view.container("none"), None);
        let shown = json!({
            "Cluster": "c",
            "TaskARN": "arn:aws:ecs:r:111111111111:task/c/t",
            "Family": "web",
            "Revision": "3",
            "ServiceName": "web",
            "DesiredStatus": "RUNNING",
            "KnownStatus": "RUNNING",
            "Limits": { "CPU": 0.25 },
            "LaunchType": "EC2",
            "Containers": [container],
        });
        assert_eq!(view.task(false), shown);
        assert_eq!(view.task(true)["TaskTags"], json!({}));
        let process = View { docker: None, ..view }.container("app").unwrap();
        assert_eq!(process["Networks"][0]["NetworkMode"], "host");
        assert_eq!(process.get("DockerName"), None);
    }

    /// The endpoint is the home region's and serves the tasks of all of them.
    #[test]
    fn tasks_of_another_region_have_its_arns() {
        let account = Account::new("r", "1".repeat(12));
        let (state, task) = state();
        let task = Task { cluster: ClusterName::within("far-1", "c"), ..task };
        let view = View { account: &account, state: &state, task: &task, docker: None };
        let shown = view.task(false);
        assert_eq!(shown["TaskARN"], "arn:aws:ecs:far-1:111111111111:task/c/t");
        let container = shown["Containers"][0]["ContainerARN"].as_str().unwrap();
        let folder = "arn:aws:ecs:far-1:111111111111:container/c/t/";
        assert!(container.starts_with(folder), "{container}");
    }
}
