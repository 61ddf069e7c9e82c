//! Blue/green, linear and canary deployments under load: nobody notices, whatever ends them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use roadstead::clock;
use roadstead::model::{
    Alarm, AlarmRule, AlarmState, Comparison, Deployment, DeploymentId, Failure, MetricId, Missing,
    Progress, Rollout, Stage, Statistic, TaskId,
};
use roadstead::state::{State, StoreError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::client::{Load, get};
use crate::support::world::{Running, Service, World, healthy_tasks, tasks_of};
use crate::support::{self, until, until_async};

const ACCOUNT: &str = "000000000000";

/// Calls an API of this endpoint and gives its answer's body.
async fn post(api: SocketAddr, kind: &str, more: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(api).await.ok()?;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\ncontent-type: {kind}\r\n{more}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    Some(body.to_owned())
}

async fn ecs(api: SocketAddr, operation: &str, body: &Value) -> Value {
    let target = format!("x-amz-target: AmazonEC2ContainerServiceV20141113.{operation}\r\n");
    let answer = post(api, "application/x-amz-json-1.1", &target, &body.to_string()).await;
    serde_json::from_str(&answer.unwrap()).unwrap()
}

/// The weights of a listener's default rule, as `DescribeRules` tells them: of the group and of its
/// alternate. None: nobody answers.
async fn weights(api: SocketAddr, name: &str, port: u16) -> Option<[u32; 2]> {
    let form = "application/x-www-form-urlencoded";
    let listeners = "Action=DescribeLoadBalancers&Version=2015-12-01";
    let answer = post(api, form, "", listeners).await?;
    let arn = within(&answer, "LoadBalancerArn").find(|arn| arn.contains(&format!("/{name}/")))?;
    let query = format!("Action=DescribeListeners&Version=2015-12-01&LoadBalancerArn={arn}");
    let answer = post(api, form, "", &query).await?;
    let listener = answer.split("<member>").find(|m| m.contains(&format!("<Port>{port}</Port>")));
    let arn = within(listener?, "ListenerArn").next()?;
    let query = format!("Action=DescribeRules&Version=2015-12-01&ListenerArn={arn}");
    let answer = post(api, form, "", &query).await?;
    let mut found = [0, 0];
    // The groups of a forward action stand there with their weights.
    for tuple in answer.split("<member>").filter(|member| member.contains("<Weight>")) {
        let weight = within(tuple, "Weight").next()?.parse().ok()?;
        let group = within(tuple, "TargetGroupArn").next()?;
        found[usize::from(group.contains("-alt/"))] = weight;
    }
    Some(found)
}

/// The texts of all elements of that name.
fn within<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let rests = text.split(&open[..]).skip(1);
    rests.filter_map(|rest| rest.split(&close[..]).next()).collect::<Vec<_>>().into_iter()
}

fn api(running: &Running) -> SocketAddr {
    running.app.as_ref().unwrap().api_address()
}

fn progress(state: &State) -> Progress {
    Progress::clone(state.progress.values().next().unwrap())
}

fn first(state: &State) -> Deployment {
    progress(state).deployments[0].clone()
}

fn arn(deployment: &Deployment) -> String {
    let number = deployment.id.as_str().rsplit('/').next().unwrap();
    format!("arn:aws:ecs:local:{ACCOUNT}:service-deployment/default/web/{number}")
}

fn ids(state: &State) -> BTreeSet<TaskId> {
    tasks_of(state, "web").filter(|task| task.is_live()).map(|task| task.id.clone()).collect()
}

/// The deployments whose tasks the service's name leads to.
fn named(state: &State) -> BTreeSet<String> {
    let active = state.discovery_instances.values().filter(|row| row.is_active());
    let tasks = active.filter_map(|row| state.tasks.get(row.task.as_ref()?));
    tasks.filter_map(|task| Some(task.deployment.as_ref()?.to_string())).collect()
}

async fn web(more: String, count: u32) -> Running {
    let more: &'static str = Box::leak(more.into_boxed_str());
    // So many checks in a row no task misses for a busy machine.
    let service = Service {
        paired: true,
        unhealthy_threshold: 5,
        deregistration_delay: "2s",
        more,
        ..Service::http("web", count)
    };
    let running = World::new().open_api().service(service).start().await;
    running.settled("web", count as usize).await;
    until("the first deployment to be completed", || {
        first(&running.state()).rollout == Rollout::Completed
    })
    .await;
    running
}

/// Another revision of the same program.
fn revise(running: &mut Running, round: usize) {
    let arguments = vec!["--start-delay".to_owned(), (round + 1).to_string()];
    running.edit(|services| services[0].arguments = arguments);
}

/// Lets a deployment come to its end; the weights that were seen on the way.
async fn watch(running: &Running) -> Vec<[u32; 2]> {
    let before = first(&running.state()).id;
    let (api, mut seen) = (api(running), Vec::new());
    until_async("the deployment to be completed", async || {
        let now = weights(api, "web", 8080).await.unwrap();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        let state = running.state();
        let names = named(&state);
        assert_eq!(names.len(), 1, "names lead to {names:?}");
        let first = first(&state);
        first.id != before && first.rollout == Rollout::Completed
    })
    .await;
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blue_green_linear_and_canary_deployments_fail_no_request() {
    let canary = "canary = { percent = 12.5, bake_time = \"300ms\" }";
    let linear = "linear = { step_percent = 40, step_bake_time = \"300ms\" }";
    for (name, more, steps) in [
        ("BLUE_GREEN", "", vec![]),
        ("LINEAR", linear, vec![[60, 40], [20, 80]]),
        ("CANARY", canary, vec![[875, 125]]),
    ] {
        let more = format!("strategy = \"{name}\"\nbake_time = \"300ms\"\n{more}");
        let mut running = web(more, 2).await;
        let load = Load::start(running.world.listener(8080), "/", 6);
        // Two, so that each group has its turn.
        for round in 0..2 {
            load.more(100).await;
            let before = ids(&running.state());
            revise(&mut running, round);
            let seen = watch(&running).await;
            let turned = |weights: [u32; 2]| match round {
                0 => weights,
                _ => [weights[1], weights[0]],
            };
            let mut expected = vec![[100, 0]];
            expected.extend(steps.iter().copied());
            expected.push([0, 100]);
            let expected: Vec<_> = expected.into_iter().map(turned).collect();
            // The first may be what the rule said before it was taken.
            let from = seen.iter().position(|weights| *weights == expected[0]).unwrap();
            assert_eq!(seen[from..], expected, "{name}, round {round}");
            running.settled("web", 2).await;
            let now = ids(&running.state());
            assert!(now.is_disjoint(&before), "{before:?} {now:?}");
            assert_eq!(weights(api(&running), "web", 8081).await, Some(turned([0, 100])));
            let answer = get(running.world.listener(8080), "/").await.unwrap();
            let task = answer.header("x-task-id").unwrap();
            assert!(now.iter().any(|id| id.as_str() == task), "{task} of {now:?}");
        }
        let tally = load.finish().await;
        assert_eq!(tally.failed(), 0, "{name}: {tally:?}");
        running.stop().await;
    }
}

/// What a webhook answers at each stage, and what it was told.
#[derive(Debug, Default)]
struct Script {
    fails_at: Option<String>,
    told: Vec<Value>,
}

/// Answers hooks as the script says; those of the first stage are in progress once before.
async fn hooks(listener: TcpListener, script: Arc<Mutex<Script>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let script = Arc::clone(&script);
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            let told = loop {
                let mut chunk = [0; 4096];
                let count = stream.read(&mut chunk).await.unwrap();
                assert_ne!(count, 0, "half a request");
                bytes.extend_from_slice(&chunk[..count]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((_, body)) = text.split_once("\r\n\r\n") else { continue };
                if let Ok(told) = serde_json::from_str::<Value>(body) {
                    break told;
                }
            };
            let answer = {
                let mut script = script.lock().unwrap();
                let stage = told["lifecycleStage"].as_str().unwrap().to_owned();
                let again = stage != "PRE_SCALE_UP"
                    || script.told.iter().any(|old| old["hookId"] == told["hookId"]);
                script.told.push(told);
                match (script.fails_at.as_ref() == Some(&stage), again) {
                    (true, _) => json!({ "hookStatus": "FAILED" }),
                    (false, true) => json!({ "hookStatus": "SUCCEEDED" }),
                    (false, false) => json!({ "hookStatus": "IN_PROGRESS", "callBackDelay": 1 }),
                }
            };
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
        });
    }
}

fn deployments(running: &Running) -> BTreeSet<DeploymentId> {
    progress(&running.state()).all().map(|deployment| deployment.id.clone()).collect()
}

/// Waits until the service is back at the deployment it had before; the one that failed.
async fn went_back(
    running: &Running,
    good: &Deployment,
    known: &BTreeSet<DeploymentId>,
) -> Deployment {
    let mut failed = None;
    until("the way back", || {
        let progress = progress(&running.state());
        let first = &progress.deployments[0];
        let back = first.id == good.id && first.rollout == Rollout::Completed;
        let all: Vec<_> = progress.all().cloned().collect();
        failed = all.into_iter().find(|d| d.failure.is_some() && !known.contains(&d.id));
        back && failed.is_some()
    })
    .await;
    let failed = failed.unwrap();
    assert!(failed.rollback.as_ref().is_some_and(|back| back.successful), "{failed:?}");
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_hook_at_any_stage_goes_back_and_fails_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let script = Arc::new(Mutex::new(Script::default()));
    tokio::spawn(hooks(listener, Arc::clone(&script)));
    let stages: Vec<&str> =
        Stage::ALL.into_iter().filter(|s| s.takes_hooks()).map(Stage::as_str).collect();
    let more = format!(
        "strategy = \"BLUE_GREEN\"\n[[service.lifecycle_hook]]\nurl = \"{url}\"\nstages = {stages:?}"
    );
    let mut running = web(more, 1).await;
    let (good, before) = (first(&running.state()), ids(&running.state()));
    let load = Load::start(running.world.listener(8080), "/", 4);
    // There is nothing to reconcile with here.
    for (round, stage) in stages.iter().skip(1).enumerate() {
        let heard = script.lock().unwrap().told.len();
        script.lock().unwrap().fails_at = Some((*stage).to_owned());
        load.more(20).await;
        let known = deployments(&running);
        revise(&mut running, round);
        let failed = went_back(&running, &good, &known).await;
        assert_eq!(failed.failure, Some(Failure::Hook), "{stage}");
        assert_eq!(failed.shift.as_ref().unwrap().stage.as_str(), *stage);
        running.settled("web", 1).await;
        assert_eq!(ids(&running.state()), before, "{stage}");
        assert_eq!(weights(api(&running), "web", 8080).await, Some([100, 0]), "{stage}");
        assert_eq!(named(&running.state()), BTreeSet::from([good.id.to_string()]));
        let told = script.lock().unwrap().told[heard..].to_vec();
        check_told(&told, &stages[1..=round + 1], &failed);
    }
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.stop().await;
}

/// Hooks were told of these stages and of the way back, each with the revisions and their traffic.
fn check_told(told: &[Value], stages: &[&str], failed: &Deployment) {
    let mut known = BTreeSet::new();
    // One that was in progress was told again.
    let first = |told: &&Value| known.insert(told["hookId"].as_str().unwrap().to_owned());
    let told: Vec<&Value> = told.iter().filter(first).collect();
    let back = ["PRODUCTION_TRAFFIC_SHIFT", "TEST_TRAFFIC_SHIFT"];
    let heard: Vec<&str> = told.iter().map(|t| t["lifecycleStage"].as_str().unwrap()).collect();
    assert_eq!(heard, [stages, &back[..]].concat());
    let shifts = stages.iter().position(|stage| *stage == "PRODUCTION_TRAFFIC_SHIFT");
    for (place, told) in told.iter().enumerate() {
        let details = &told["executionDetails"];
        assert_eq!(details["serviceDeploymentArn"], arn(failed).as_str(), "{told}");
        let shares = details["productionTrafficWeights"].as_object().unwrap();
        let target = told["targetServiceRevisionArn"].as_str().unwrap();
        let is_shifted = place < stages.len() && shifts.is_some_and(|shifted| place >= shifted);
        let share = if is_shifted { 100.0 } else { 0.0 };
        assert_eq!((shares.len(), &shares[target]), (2, &json!(share)), "{told}");
    }
}

/// An alarm that nothing evaluates away.
fn alarm(state: AlarmState) -> Alarm {
    Alarm {
        name: "errors".into(),
        description: None,
        rule: AlarmRule {
            metric: MetricId::new("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", &[]),
            statistic: Statistic::Sum,
            period: 60,
            periods: 1,
            breaching: 1,
            comparison: Comparison::Greater,
            threshold: 1e9,
            missing: Missing::Ignore,
        },
        given: Default::default(),
        queries: Vec::new(),
        actions_enabled: false,
        actions: Vec::new(),
        configured_at: clock::now(),
        state,
        reason: String::new(),
        changed_at: clock::now(),
    }
}

async fn put_alarm(running: &Running, state: AlarmState) {
    let store = running.app.as_ref().unwrap().store();
    let put = store.update(move |tx| {
        tx.put(alarm(state));
        Ok::<_, StoreError>(())
    });
    put.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarm_and_request_end_a_deployment_while_it_shifts_and_bakes() {
    let more = "strategy = \"CANARY\"\nbake_time = \"10m\"\ncanary = { percent = 10, bake_time = \
                \"2s\" }\ndeployment_alarms = { names = [\"errors\"], rollback = true }";
    let mut running = web(more.to_owned(), 2).await;
    let (good, before) = (first(&running.state()), ids(&running.state()));
    let load = Load::start(running.world.listener(8080), "/", 6);
    for (round, (stage, alarmed)) in [
        (Stage::ProductionTrafficShift, true),
        (Stage::BakeTime, true),
        (Stage::ScaleUp, false),
        (Stage::ProductionTrafficShift, false),
        (Stage::BakeTime, false),
    ]
    .into_iter()
    .enumerate()
    {
        put_alarm(&running, AlarmState::Ok).await;
        load.more(20).await;
        let known = deployments(&running);
        revise(&mut running, round);
        until("the stage", || {
            first(&running.state()).shift.is_some_and(|s| s.stage == stage && !s.returning)
                && first(&running.state()).id != good.id
        })
        .await;
        let failing = first(&running.state());
        if alarmed {
            put_alarm(&running, AlarmState::Alarm).await;
        } else {
            let asked = json!({ "serviceDeploymentArn": arn(&failing), "stopType": "ROLLBACK" });
            ecs(api(&running), "StopServiceDeployment", &asked).await;
        }
        let failed = went_back(&running, &good, &known).await;
        let why = if alarmed { Failure::Alarm } else { Failure::Stopped };
        assert_eq!((failed.id, failed.failure), (failing.id.clone(), Some(why)), "{stage:?}");
        running.settled("web", 2).await;
        assert_eq!(ids(&running.state()), before, "{stage:?}");
        assert_eq!(weights(api(&running), "web", 8080).await, Some([100, 0]), "{stage:?}");
        let asked = json!({ "serviceDeploymentArns": [arn(&failing)] });
        let shown = ecs(api(&running), "DescribeServiceDeployments", &asked).await;
        assert_eq!(shown["serviceDeployments"][0]["status"], "ROLLBACK_SUCCESSFUL", "{shown}");
    }
    let tally = load.finish().await;
    assert_eq!(tally.failed(), 0, "{tally:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_two_steps_goes_on_where_it_was() {
    let more = "strategy = \"LINEAR\"\nlinear = { step_percent = 50, step_bake_time = \"4s\" }";
    let service = Service { paired: true, more, ..Service::http("web", 2) };
    let mut world = World::new().open_api().service(service);
    let mut serve = world.spawn();
    let api = SocketAddr::new(world.address(1), 4566);
    let healthy = |serve: &support::world::Serve| {
        serve.status().map(|status| healthy_tasks(&status, "web")).unwrap_or_default()
    };
    until("two tasks", || healthy(&serve).len() == 2).await;
    let described = async || {
        let asked = json!({ "services": ["web"] });
        ecs(api, "DescribeServices", &asked).await["services"][0]["deployments"].clone()
    };
    until_async("the rollout", async || described().await[0]["rolloutState"] == "COMPLETED").await;
    let old = healthy(&serve);
    world.services[0].arguments = vec!["--log".to_owned()];
    world.write();
    until_async("half of the traffic", async || weights(api, "web", 8080).await == Some([50, 50]))
        .await;
    let half = healthy(&serve);
    assert_eq!(half.len(), 4, "{half:?}");
    serve.child.kill().unwrap();
    serve.ended().await;
    serve = world.spawn();
    let mut seen = Vec::new();
    until_async("the rest of the traffic", async || {
        let Some(now) = weights(api, "web", 8080).await else { return false };
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        now == [0, 100]
    })
    .await;
    assert_eq!(seen, [[50, 50], [0, 100]]);
    until("the old tasks to go", || healthy(&serve).len() == 2).await;
    let new: BTreeSet<_> = half.into_iter().filter(|id| !old.contains(id)).collect();
    assert_eq!(healthy(&serve).into_iter().collect::<BTreeSet<_>>(), new);
    until("their processes to go", || world.processes().len() == 2).await;
    serve.signal("TERM");
    serve.ended().await;
}
