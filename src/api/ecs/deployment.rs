//! Service deployments and service revisions: what the orchestrator keeps of each deployment.
//!
//! These are the newest, those being replaced, and the last that have ended. **Invariant:** a
//! status says what the record says.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::service::{Counts, configuration, load_balancers, reason, registries};
use super::{launch, names, task_definition};
use crate::api::call::{Call, Input, Outcome};
use crate::api::elb::traffic_rule_arn;
use crate::api::error::Error;
use crate::api::wire::time::seconds;
use crate::clock::Timestamp;
use crate::model::{
    Account, AlarmName, AlarmState, Arn, ClusterName, ContainerDefinition, Deployment, Failure,
    HookAction, HookOutcome, HookRun, HookStatus, HookTarget, Progress, Rollout, Service,
    ServiceKey, ServiceTargetGroup,
};
use crate::orchestrator;
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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stop {
    service_deployment_arn: String,
    stop_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Continue {
    service_deployment_arn: String,
    hook_id: String,
    action: Option<String>,
}

/// A deployment, and where it stands among its service's.
struct Found<'a> {
    service: &'a Service,
    progress: &'a Progress,
    deployment: &'a Deployment,
    place: usize,
}

impl Found<'_> {
    fn status(&self) -> &'static str {
        let deployment = self.deployment;
        match (&deployment.rollback, deployment.failure) {
            (Some(back), _) if back.ended_at.is_none() => "ROLLBACK_IN_PROGRESS",
            (Some(back), _) if back.successful => "ROLLBACK_SUCCESSFUL",
            (Some(_), _) => "ROLLBACK_FAILED",
            (None, Some(_)) => "STOPPED",
            (None, None) if deployment.completed_at.is_some() && !self.is_cleaning_up() => {
                "SUCCESSFUL"
            }
            // A newer one took its place before it was done.
            (None, None) if self.place > 0 => "STOPPED",
            (None, None) if self.is_asked_to_stop() && self.service.options.aborts => {
                "STOP_REQUESTED"
            }
            (None, None) if self.is_asked_to_stop() => "ROLLBACK_REQUESTED",
            (None, None) => "IN_PROGRESS",
        }
    }

    fn is_asked_to_stop(&self) -> bool {
        self.service.options.stopped.as_ref() == Some(&self.deployment.id)
    }

    /// All traffic is its own, and the tasks of the one before are being stopped.
    fn is_cleaning_up(&self) -> bool {
        let Deployment { rollout, back_from, .. } = self.deployment;
        self.place == 0 && *rollout == Rollout::InProgress && back_from.is_none()
    }

    fn reason(&self) -> Option<&'static str> {
        self.deployment.failure.map(reason)
    }

    fn alarms(&self, state: &State) -> Option<Value> {
        let alarms = &self.deployment.strategy.alarms;
        if !alarms.enabled {
            return None;
        }
        let is_on = |name: &&AlarmName| {
            !self.deployment.ignored_alarms.contains(name)
                && state.alarms.get(*name).is_some_and(|alarm| alarm.state == AlarmState::Alarm)
        };
        let is_tripped = self.deployment.failure == Some(Failure::Alarm);
        let status = match (is_tripped, self.status()) {
            (true, _) => "TRIGGERED",
            (false, "IN_PROGRESS") => "MONITORING",
            (false, _) => "MONITORING_COMPLETE",
        };
        let on: Vec<&str> = alarms
            .names
            .iter()
            .filter(|name| is_tripped && is_on(name))
            .map(AlarmName::as_str)
            .collect();
        let names: Vec<&str> = alarms.names.iter().map(AlarmName::as_str).collect();
        Some(json!({ "status": status, "alarmNames": names, "triggeredAlarmNames": on }))
    }

    /// What has become of its lifecycle hooks so far.
    fn hooks(&self, now: Timestamp) -> Option<Vec<Value>> {
        let shift = self.deployment.shift.as_ref()?;
        let hooks = self.progress.hooks_of(self.deployment);
        let shown = |run: &HookRun| {
            let hook = hooks.get(run.hook)?;
            let status = match run.outcome(Some(hook), &self.service.options.answers, now) {
                HookOutcome::Passed(status) | HookOutcome::Failed(status) => status,
                HookOutcome::Waits(_) => run.status,
            };
            let (kind, url) = match &hook.target {
                HookTarget::Pause => ("PAUSE", None),
                HookTarget::Webhook(url) => ("AWS_LAMBDA", Some(url.as_str())),
            };
            Some(json!({
                "hookId": run.id,
                "targetType": kind,
                "targetArn": url,
                "status": status.as_str(),
                "expiresAt": seconds(run.expires_at),
                "timeoutAction": hook.action.unwrap_or(HookAction::Rollback).as_str(),
            }))
        };
        (!shift.hooks.is_empty()).then(|| shift.hooks.iter().filter_map(shown).collect())
    }

    fn breaker(&self) -> Value {
        let breaker = &self.service.policy.breaker;
        let status = match (breaker.enabled, self.deployment.failure) {
            (_, Some(Failure::TasksFailed)) => "TRIGGERED",
            (false, _) => "DISABLED",
            (true, None) if self.status() == "IN_PROGRESS" => "MONITORING",
            (true, _) => "MONITORING_COMPLETE",
        };
        json!({
            "status": status,
            "failureCount": self.deployment.failures,
            "threshold": breaker.threshold(self.service.desired_count),
        })
    }
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let (state, account) = (call.state(), call.account());
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    for text in &asked.service_deployment_arns {
        match find(account, &state, "service-deployment", text)? {
            Some(found) => all.push(shown(account, &state, &found, call.now)),
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
    let found = progress.into_iter().flat_map(|progress| {
        let all = progress.all().enumerate();
        all.map(|(place, deployment)| Found { service, progress, deployment, place })
    });
    let wanted = |found: &Found<'_>| {
        let statuses = asked.status.as_deref().unwrap_or_default();
        let at = seconds(found.deployment.created_at).as_f64().unwrap_or_default();
        let after = asked.created_at.as_ref().and_then(|period| period.after);
        let before = asked.created_at.as_ref().and_then(|period| period.before);
        (statuses.is_empty() || statuses.iter().any(|status| status == found.status()))
            && after.is_none_or(|after| at >= after)
            && before.is_none_or(|before| at <= before)
    };
    let all = found.filter(wanted);
    // Newest first, so the key falls with the time.
    let order = |found: &Found<'_>| {
        let Deployment { created_at, id, .. } = found.deployment;
        format!("{:020} {id}", u64::MAX - created_at.0)
    };
    let token = asked.next_token.as_deref();
    let (page, next) = names::page(all, order, token, asked.max_results, 100)?;
    let brief: Vec<_> = page.iter().map(|found| brief(call.account(), found)).collect();
    Ok(json!({ "serviceDeployments": brief, "nextToken": next }))
}

/// Asks the orchestrator to go back to the deployment before, or to leave everything as it is,
/// which it does in its next pass.
pub(super) async fn stop(call: &Call, input: Input) -> Outcome {
    let asked: Stop = input.read()?;
    let aborts = asked.stop_type.is_some_and(|kind| kind == "ABORT");
    let (account, arn) = (call.account().clone(), asked.service_deployment_arn);
    let (text, message) = (arn.clone(), "The service deployment was not found.");
    let written = call.api.store.update(move |tx| {
        let found = find(&account, tx.state(), "service-deployment", &text)?;
        let missing = || Error::new("ServiceDeploymentNotFoundException", message);
        let found = found.ok_or_else(missing)?;
        // The file's services as well: nothing of what the file says is changed by it.
        if found.status() != "IN_PROGRESS" {
            let message = format!("The service deployment is {} already.", found.status());
            return Err(Error::new("ConflictException", message));
        }
        if !aborts && !found.progress.all().skip(1).any(Deployment::was_good) {
            let message = "There is no earlier deployment to roll back to.";
            return Err(Error::invalid(message));
        }
        let mut service = found.service.clone();
        service.options.stopped = Some(found.deployment.id.clone());
        service.options.aborts = aborts;
        tx.put(service);
        Ok(())
    });
    written.await?;
    Ok(json!({ "serviceDeploymentArn": arn }))
}

/// Tells a hook that waits how to go on, which the orchestrator does in its next pass.
pub(super) async fn go_on(call: &Call, input: Input) -> Outcome {
    let asked: Continue = input.read()?;
    let action = asked.action.as_deref().and_then(HookAction::parse);
    let action = action.unwrap_or(HookAction::Continue);
    let (account, arn, now) = (call.account().clone(), asked.service_deployment_arn, call.now);
    let (text, message) = (arn.clone(), "The service deployment was not found.");
    let written = call.api.store.update(move |tx| {
        let found = find(&account, tx.state(), "service-deployment", &text)?;
        let missing = || Error::new("ServiceDeploymentNotFoundException", message);
        let found = found.ok_or_else(missing)?;
        let answers = &found.service.options.answers;
        let hooks = found.progress.hooks_of(found.deployment);
        let shift = found.deployment.shift.as_ref().filter(|_| found.status() == "IN_PROGRESS");
        let waits = |run: &&HookRun| {
            let outcome = run.outcome(hooks.get(run.hook), answers, now);
            run.status == HookStatus::AwaitingAction && matches!(outcome, HookOutcome::Waits(_))
        };
        let waiting = shift.into_iter().flat_map(|shift| &shift.hooks).filter(waits);
        let waiting: Vec<&String> = waiting.map(|run| &run.id).collect();
        if !waiting.contains(&&asked.hook_id) {
            let message = format!("No hook {} awaits an action.", asked.hook_id);
            return Err(Error::invalid(message));
        }
        let mut service = found.service.clone();
        // Answers of earlier stages have been read.
        service.options.answers.clear();
        let still = answers.iter().filter(|(id, _)| {
            let mut open = shift.into_iter().flat_map(|shift| &shift.hooks);
            open.any(|run| run.id == **id && run.status.is_open())
        });
        service.options.answers.extend(still.map(|(id, action)| (id.clone(), *action)));
        service.options.answers.insert(asked.hook_id, action);
        tx.put(service);
        Ok(())
    });
    written.await?;
    Ok(json!({ "serviceDeploymentArn": arn }))
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
    let ServiceKey { cluster, name } = service.parse().map_err(|_| bad())?;
    let key = ServiceKey { cluster: ClusterName::within(account.place(), cluster.as_str()), name };
    if account.arn("ecs", arn.resource.as_str()) != arn {
        return Err(bad());
    }
    let (Some(service), Some(progress)) = (state.services.get(&key), state.progress.get(&key))
    else {
        return Ok(None);
    };
    let id = format!("ecs-svc/{number}");
    let place = progress.all().enumerate().find(|(_, d)| d.id.as_str() == id);
    Ok(place.map(|(place, deployment)| Found { service, progress, deployment, place }))
}

fn brief(account: &Account, found: &Found<'_>) -> Value {
    let deployment = found.deployment;
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
        "statusReason": found.reason(),
    })
}

fn shown(account: &Account, state: &State, found: &Found<'_>, now: Timestamp) -> Value {
    let deployment = found.deployment;
    let key = &found.service.key;
    let (arn, _) = names::of_deployment(account, key, &deployment.id);
    let summary = |deployment: &Deployment| {
        let counts = Counts::of(state, found.service, Some(deployment));
        let (_, revision) = names::of_deployment(account, key, &deployment.id);
        (revision, counts)
    };
    let sources = found.progress.deployments.iter().skip(found.place + 1).map(|source| {
        let (arn, counts) = summary(source);
        let mut shown = json!({
            "arn": arn,
            "requestedTaskCount": counts.wanted,
            "runningTaskCount": counts.running,
            "pendingTaskCount": counts.pending,
        });
        weigh(&mut shown, found.progress, source);
        shown
    });
    let (revision, counts) = summary(deployment);
    let rollback = deployment.rollback.as_ref().map(|rollback| {
        let (_, revision) = names::of_deployment(account, key, &rollback.to);
        json!({
            "reason": found.reason(),
            "startedAt": seconds(rollback.started_at),
            "serviceRevisionArn": revision,
        })
    });
    let requested = match (found.place, usize::try_from(found.service.desired_count)) {
        (0, Ok(desired)) => desired,
        _ => counts.wanted,
    };
    let mut target = json!({
        "arn": revision,
        "requestedTaskCount": requested,
        "runningTaskCount": counts.running,
        "pendingTaskCount": counts.pending,
    });
    weigh(&mut target, found.progress, deployment);
    json!({
        "serviceDeploymentArn": arn,
        "serviceArn": account.service(key).to_string(),
        "clusterArn": account.cluster(&key.cluster).to_string(),
        "createdAt": seconds(deployment.created_at),
        "startedAt": seconds(deployment.created_at),
        "finishedAt": deployment.completed_at.map(seconds),
        "updatedAt": seconds(deployment.completed_at.unwrap_or(deployment.created_at)),
        "sourceServiceRevisions": sources.collect::<Vec<_>>(),
        "targetServiceRevision": target,
        "status": found.status(),
        "statusReason": found.reason(),
        "stoppedAt": deployment.failure.and(deployment.completed_at).map(seconds),
        "rollback": rollback,
        "deploymentCircuitBreaker": found.breaker(),
        "alarms": found.alarms(state),
        "lifecycleStage": deployment.shift.as_ref().map(|shift| shift.stage.shown()),
        "lifecycleHookDetails": found.hooks(now),
        "deploymentConfiguration": configuration::shown(found.service, &deployment.strategy),
    })
}

/// Adds the percentages of traffic that a revision was given, where rules divide it.
fn weigh(revision: &mut Value, progress: &Progress, deployment: &Deployment) {
    let is_there = progress.deployments.iter().any(|own| own.id == deployment.id);
    if is_there && !progress.weights.is_empty() {
        let [production, test] = orchestrator::shares(progress, deployment);
        revision["requestedProductionTrafficWeight"] = production.into();
        revision["requestedTestTrafficWeight"] = test.into();
    }
}

/// The side of each pair of target groups that is the revision's.
fn resolved(account: &Account, state: &State, deployment: &Deployment) -> Value {
    let shown = |lb: &ServiceTargetGroup| {
        let pair = lb.pair.as_ref()?;
        let group = state.target_groups.get(lb.sides(deployment.alternate).0);
        Some(json!({
            "targetGroupArn": group.map(|group| account.target_group(group).to_string()),
            "productionListenerRule": traffic_rule_arn(state, account, &pair.production),
        }))
    };
    let all: Vec<Value> = deployment.load_balancers.iter().filter_map(shown).collect();
    if all.is_empty() { Value::Null } else { json!({ "loadBalancers": all }) }
}

/// What the deployment was begun with.
fn revision(account: &Account, state: &State, found: &Found<'_>) -> Value {
    let deployment = found.deployment;
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
        ("resolvedConfiguration".to_owned(), resolved(account, state, deployment)),
        (
            "containerImages".to_owned(),
            containers.unwrap_or_default().iter().map(image).collect::<Vec<_>>().into(),
        ),
        ("createdAt".to_owned(), seconds(deployment.created_at)),
    ]);
    launch::shown(&deployment.launch, &mut all);
    Value::Object(all)
}
