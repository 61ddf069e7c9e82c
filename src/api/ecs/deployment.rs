//! Service deployments and service revisions: what the orchestrator keeps of each deployment.
//!
//! A deployment is kept while a task of it is there, so these are the newest and those being
//! replaced. **Invariant:** a status says what the record says.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::service::{Counts, configuration, load_balancers, registries};
use super::{launch, names, task_definition};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::wire::time::seconds;
use crate::model::{
    Account, Arn, ContainerDefinition, Deployment, Progress, Rollout, Service, ServiceKey,
};
use crate::state::State;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Describe {
    service_deployment_arns: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeRevisions {
    service_revision_arns: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    service: String,
    cluster: Option<String>,
    status: Option<Vec<String>>,
    created_at: Option<Period>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Period {
    before: Option<f64>,
    after: Option<f64>,
}

/// A deployment, and where it stands among its service's.
struct Found<'a> {
    service: &'a Service,
    progress: &'a Progress,
    place: usize,
}

impl<'a> Found<'a> {
    fn deployment(&self) -> &'a Deployment {
        &self.progress.deployments[self.place]
    }

    fn status(&self) -> &'static str {
        match (self.deployment().rollout, self.place) {
            (Rollout::Completed, _) => "SUCCESSFUL",
            (Rollout::InProgress, 0) => "IN_PROGRESS",
            // A newer one took its place before it was done.
            (Rollout::InProgress, _) => "STOPPED",
        }
    }
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let (state, account) = (call.state(), call.account());
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    for text in &asked.service_deployment_arns {
        match find(account, &state, "service-deployment", text)? {
            Some(found) => all.push(shown(account, &state, &found)),
            None => failures.push(names::failure(text, "MISSING")),
        }
    }
    Ok(json!({ "serviceDeployments": all, "failures": failures }))
}

pub(super) fn describe_revisions(call: &Call, input: Input) -> Outcome {
    let asked: DescribeRevisions = input.read()?;
    let (state, account) = (call.state(), call.account());
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    for text in &asked.service_revision_arns {
        match find(account, &state, "service-revision", text)? {
            Some(found) => all.push(revision(account, &state, &found)),
            None => failures.push(names::failure(text, "MISSING")),
        }
    }
    Ok(json!({ "serviceRevisions": all, "failures": failures }))
}

pub(super) fn list(call: &Call, input: Input) -> Outcome {
    let asked: List = input.read()?;
    let cluster = names::known_cluster(call, asked.cluster.as_deref())?;
    let key = names::service(call, &cluster, &asked.service)?;
    let state = call.state();
    let service = state.services.get(&key).ok_or_else(super::service::missing)?;
    let progress = state.progress.get(&key);
    let count = progress.map_or(0, |progress| progress.deployments.len());
    let found = |place| progress.map(|progress| Found { service, progress, place });
    let wanted = |found: &Found<'_>| {
        let statuses = asked.status.as_deref().unwrap_or_default();
        let at = seconds(found.deployment().created_at).as_f64().unwrap_or_default();
        let after = asked.created_at.as_ref().and_then(|period| period.after);
        let before = asked.created_at.as_ref().and_then(|period| period.before);
        (statuses.is_empty() || statuses.iter().any(|status| status == found.status()))
            && after.is_none_or(|after| at >= after)
            && before.is_none_or(|before| at <= before)
    };
    let all = (0..count).filter_map(found).filter(wanted);
    // Newest first, so the key falls with the time.
    let order = |found: &Found<'_>| {
        let deployment = found.deployment();
        format!("{:020} {}", u64::MAX - deployment.created_at.0, deployment.id)
    };
    let token = asked.next_token.as_deref();
    let (page, next) = names::page(all, order, token, asked.max_results, 100)?;
    let brief: Vec<_> = page.iter().map(|found| brief(call.account(), found)).collect();
    Ok(json!({ "serviceDeployments": brief, "nextToken": next }))
}

fn find<'a>(
    account: &Account,
    state: &'a State,
    kind: &str,
    text: &str,
) -> Result<Option<Found<'a>>, Error> {
    let bad = || Error::invalid(format!("Invalid identifier: {text}"));
    let arn: Arn = text.parse().map_err(|_| bad())?;
    let path = arn.resource.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/'));
    let (service, number) = path.and_then(|path| path.rsplit_once('/')).ok_or_else(bad)?;
    let key: ServiceKey = service.parse().map_err(|_| bad())?;
    if account.arn("ecs", arn.resource.as_str()) != arn {
        return Err(bad());
    }
    let (Some(service), Some(progress)) = (state.services.get(&key), state.progress.get(&key))
    else {
        return Ok(None);
    };
    let id = format!("ecs-svc/{number}");
    let place = progress.deployments.iter().position(|d| d.id.as_str() == id);
    Ok(place.map(|place| Found { service, progress, place }))
}

fn brief(account: &Account, found: &Found<'_>) -> Value {
    let deployment = found.deployment();
    let (arn, revision) = names::of_deployment(account, &found.service.key, &deployment.id);
    json!({
        "serviceDeploymentArn": arn,
        "serviceArn": account.service(&found.service.key).to_string(),
        "clusterArn": account.cluster(&found.service.key.cluster).to_string(),
        "startedAt": seconds(deployment.created_at),
        "createdAt": seconds(deployment.created_at),
        "finishedAt": deployment.completed_at.map(seconds),
        "targetServiceRevisionArn": revision,
        "status": found.status(),
    })
}

fn shown(account: &Account, state: &State, found: &Found<'_>) -> Value {
    let deployment = found.deployment();
    let key = &found.service.key;
    let (arn, _) = names::of_deployment(account, key, &deployment.id);
    let summary = |deployment: &Deployment| {
        let counts = Counts::of(state, found.service, Some(deployment));
        let (_, revision) = names::of_deployment(account, key, &deployment.id);
        (revision, counts)
    };
    let sources = found.progress.deployments.iter().skip(found.place + 1).map(|source| {
        let (arn, counts) = summary(source);
        json!({
            "arn": arn,
            "requestedTaskCount": counts.wanted,
            "runningTaskCount": counts.running,
            "pendingTaskCount": counts.pending,
        })
    });
    let (revision, counts) = summary(deployment);
    let requested = match (found.place, usize::try_from(found.service.desired_count)) {
        (0, Ok(desired)) => desired,
        _ => counts.wanted,
    };
    json!({
        "serviceDeploymentArn": arn,
        "serviceArn": account.service(key).to_string(),
        "clusterArn": account.cluster(&key.cluster).to_string(),
        "createdAt": seconds(deployment.created_at),
        "startedAt": seconds(deployment.created_at),
        "finishedAt": deployment.completed_at.map(seconds),
        "updatedAt": seconds(deployment.completed_at.unwrap_or(deployment.created_at)),
        "sourceServiceRevisions": sources.collect::<Vec<_>>(),
        "targetServiceRevision": {
            "arn": revision,
            "requestedTaskCount": requested,
            "runningTaskCount": counts.running,
            "pendingTaskCount": counts.pending,
        },
        "status": found.status(),
        "deploymentConfiguration": configuration(found.service),
    })
}

/// What the deployment was begun with.
fn revision(account: &Account, state: &State, found: &Found<'_>) -> Value {
    let deployment = found.deployment();
    let key = &found.service.key;
    let (_, arn) = names::of_deployment(account, key, &deployment.id);
    let then = Service {
        definition: deployment.definition.clone(),
        load_balancers: deployment.load_balancers.clone(),
        discovery: deployment.discovery.clone(),
        ..found.service.clone()
    };
    let definition = state.definitions.get(&deployment.definition);
    let containers = definition.map(|definition| definition.containers.as_slice());
    let image = |container: &ContainerDefinition| {
        let (name, image) = (&container.name, &container.image);
        json!({ "containerName": name, "image": image })
    };
    let mut all = Map::from_iter([
        ("serviceRevisionArn".to_owned(), arn.into()),
        ("serviceArn".to_owned(), account.service(key).to_string().into()),
        ("clusterArn".to_owned(), account.cluster(&key.cluster).to_string().into()),
        ("taskDefinition".to_owned(), task_definition::arn(account, &deployment.definition)),
        ("loadBalancers".to_owned(), load_balancers(account, state, &then).into()),
        ("serviceRegistries".to_owned(), registries(account, state, &then).into()),
        (
            "containerImages".to_owned(),
            containers.unwrap_or_default().iter().map(image).collect::<Vec<_>>().into(),
        ),
        ("createdAt".to_owned(), seconds(deployment.created_at)),
    ]);
    launch::shown(&deployment.launch, &mut all);
    Value::Object(all)
}
