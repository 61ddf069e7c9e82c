//! Two States in, what is told of them out.

use super::*;
use crate::model::{
    Cluster, Container, ContainerDefinition, ContainerInstance, ContainerStatus, DeploymentId,
    Failure, InstanceKind, Membership, Owner, Rollout, Service, ServiceEvent, Stop, StopCode,
    TaskDefinition, TaskDefinitionKey, TaskStatus,
};
use crate::state::{MemoryJournal, Row, Store, StoreError};

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

fn account() -> Account {
    Account::new("r", "1".repeat(12))
}

fn key() -> ServiceKey {
    ServiceKey { cluster: "c".into(), name: "web".into() }
}

fn definition() -> TaskDefinition {
    TaskDefinition::new("web".into(), 1, vec![ContainerDefinition::new("app")])
}

fn service(desired: u32) -> Service {
    let key = TaskDefinitionKey { family: "web".into(), revision: 1 };
    Service { desired_count: desired, ..Service::new(self::key(), key, Owner::Api, NOW) }
}

fn deployment(id: &str, rollout: Rollout) -> Deployment {
    Deployment { rollout, ..Deployment::of(&service(1), DeploymentId::from(id), NOW) }
}

fn task(known: TaskStatus) -> Task {
    let containers = vec![Container::new("app")];
    Task { known, containers, ..Task::new("t".into(), "c".into(), definition().key(), NOW) }
}

/// What is told when `before` has become `after`: `TYPE NAME|STATUS` of each event.
async fn told(before: Vec<Row>, after: Vec<Row>) -> Vec<Event> {
    let store = Store::memory(&MemoryJournal::default()).unwrap();
    let put = async |rows: Vec<Row>| {
        let written = store.update(move |tx| {
            tx.put(Cluster::new("c".into(), Owner::Api));
            tx.put(definition());
            for row in rows {
                tx.put(row);
            }
            Ok::<_, StoreError>(())
        });
        written.await.unwrap();
        store.read()
    };
    let (before, after) = (put(before).await, put(after).await);
    assert_eq!(between(&account(), &after, &after, NOW), []);
    between(&account(), &before, &after, NOW)
}

async fn check(before: Vec<Row>, after: Vec<Row>, expected: &[&str]) {
    let line = |event: &Event| {
        let word = |name: &str| event.detail[name].as_str().unwrap_or_default().to_owned();
        match event.kind {
            Kind::Task => format!("task {} {}", word("lastStatus"), word("desiredStatus")),
            Kind::Instance => format!("instance {}", word("status")),
            Kind::Action => format!("{} {}", word("eventType"), word("eventName")),
            Kind::Deployment => {
                let words = [word("eventType"), word("deploymentId"), word("eventName")];
                format!("{}: {}", words.join(" "), word("reason"))
            }
        }
    };
    let told = told(before, after).await;
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn task_is_told_whenever_what_is_shown_of_it_changes() {
    use TaskStatus::{Pending, Provisioning, Running, Stopped};
    let rows = |task: Task| vec![Row::from(task)];
    check(vec![], rows(task(Provisioning)), &["task PROVISIONING RUNNING"]).await;
    check(rows(task(Provisioning)), rows(task(Pending)), &["task PENDING RUNNING"]).await;
    check(rows(task(Running)), rows(task(Running)), &[]).await;
    let mut healthy = task(Running);
    healthy.containers[0].status = ContainerStatus::Running;
    check(rows(task(Running)), rows(healthy), &["task RUNNING RUNNING"]).await;
    // What only we keep is not shown, so not told.
    let kept = Task { healthy_at: Some(NOW), ..task(Running) };
    check(rows(task(Running)), rows(kept), &[]).await;
    let stop = Some(Stop::new(StopCode::UserInitiated, "over".to_owned()));
    let stopped = Task { desired: crate::model::Desired::Stopped, stop, ..task(Stopped) };
    let stopped = Task { stopped_at: Some(NOW), ..stopped };
    let events = told(rows(task(Running)), rows(stopped)).await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(event.resource, "arn:aws:ecs:r:111111111111:task/c/t");
    let told = |name: &str| event.detail[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(told("stoppedReason"), "over");
    assert_eq!(told("stopCode"), "UserInitiated");
    assert_eq!(told("createdAt"), "2023-11-14T22:13:20.000Z");
    assert_eq!(told("stoppedAt"), "2023-11-14T22:13:20.000Z");
    assert_eq!(told("taskDefinitionArn"), "arn:aws:ecs:r:111111111111:task-definition/web:1");
    assert!(event.detail["version"].as_u64().is_some() && event.detail.get("tags").is_none());
}

#[tokio::test]
async fn instances_are_told_when_they_change_in_each_cluster() {
    let new = ContainerInstance::new("a".into(), InstanceKind::Docker, NOW);
    let rows = |row: &ContainerInstance| vec![Row::from(row.clone())];
    check(vec![], rows(&new), &["instance ACTIVE"]).await;
    let mut drained = new.clone();
    let membership = Membership { draining: true, ..Membership::default() };
    drained.memberships.insert("c".into(), membership);
    let events = told(rows(&new), rows(&drained)).await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    let arn = account().container_instance(&"c".into(), &"a".into()).to_string();
    assert_eq!(event.resource, arn);
    assert_eq!(event.detail["containerInstanceArn"].as_str(), Some(arn.as_str()));
    assert_eq!(event.detail["status"], "DRAINING");
    assert_eq!(event.detail["registeredAt"], "2023-11-14T22:13:20.000Z");
    assert_eq!(event.detail["clusterArn"], "arn:aws:ecs:r:111111111111:cluster/c");
}

#[tokio::test]
async fn deployments_are_told_when_they_begin_and_when_they_end() {
    let rows = |deployments: Vec<Deployment>, ended: Vec<Deployment>| {
        vec![
            Row::from(service(1)),
            Row::from(Progress { deployments, ended, ..Progress::new(key()) }),
        ]
    };
    let (going, done) = (deployment("1", Rollout::InProgress), deployment("1", Rollout::Completed));
    let begun = "INFO 1 SERVICE_DEPLOYMENT_IN_PROGRESS: ECS deployment 1 in progress.";
    check(rows(vec![], vec![]), rows(vec![going.clone()], vec![]), &[begun]).await;
    let ended = "INFO 1 SERVICE_DEPLOYMENT_COMPLETED: ECS deployment 1 completed.";
    check(rows(vec![going.clone()], vec![]), rows(vec![done.clone()], vec![]), &[ended]).await;
    // Where it stands says nothing.
    check(rows(vec![done.clone()], vec![]), rows(vec![], vec![done.clone()]), &[]).await;
    let failed =
        Deployment { failure: Some(Failure::TasksFailed), ..deployment("1", Rollout::Failed) };
    let lost = "ERROR 1 SERVICE_DEPLOYMENT_FAILED: ECS deployment circuit breaker: tasks failed \
                to start.";
    check(rows(vec![going], vec![]), rows(vec![failed], vec![]), &[lost]).await;
}

#[tokio::test]
async fn services_are_told_as_far_as_eventbridge_is() {
    let rows = |desired, messages: &[&str]| {
        let mut progress = Progress::new(key());
        for (id, message) in (0..).zip(messages) {
            progress.events.push_back(ServiceEvent { id, at: NOW, message: (*message).to_owned() });
            progress.events_written = id + 1;
        }
        vec![Row::from(service(desired)), Row::from(progress)]
    };
    let started = "(service web) has started 1 tasks: (task t).";
    let steady = "(service web) has reached a steady state.";
    check(rows(1, &[]), rows(2, &[]), &["INFO SERVICE_DESIRED_COUNT_UPDATED"]).await;
    let expected = &["INFO SERVICE_STEADY_STATE"];
    check(rows(1, &[started]), rows(1, &[started, steady]), expected).await;
    check(rows(1, &[steady]), rows(1, &[steady, started]), &[]).await;
    let impaired = "(service web) is unable to consistently start tasks successfully.";
    check(rows(1, &[]), rows(1, &[impaired]), &["WARN SERVICE_TASK_START_IMPAIRED"]).await;
    let full = "(service web) was unable to place a task because no container instance met all of \
                its requirements. The address pool has no free address.";
    let events = told(rows(1, &[]), rows(1, &[full])).await;
    assert_eq!(events[0].detail["eventName"], "SERVICE_TASK_PLACEMENT_FAILURE");
    assert_eq!(events[0].detail["reason"], "RESOURCE:ENI");
    assert_eq!(events[0].resource, "arn:aws:ecs:r:111111111111:service/c/web");
}
