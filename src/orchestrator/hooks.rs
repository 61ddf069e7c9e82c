//! Lifecycle hooks that are webhooks: told by HTTP, and their answers written down.
//!
//! A hook is sent a POST with a JSON document and answers with one, as ECS's Lambda functions do:
//! `{"hookStatus": "SUCCEEDED" | "FAILED" | "IN_PROGRESS", "callBackDelay": SECONDS}`. One in
//! progress is told again after its delay. Not here: when hooks begin, and what their end means
//! (`plan/gradual`). **Invariant:** a call that nobody answered is made again a few times; any
//! answer that is none of the three is a failure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;

use super::apply::change;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::config::{Place, PlainUrl};
use crate::model::{
    Account, Deployment, HookRun, HookStatus, HookTarget, Progress, RuleWeights, ServiceKey,
};
use crate::state::{State, StoreError};

/// ECS: a hook in progress is told again after this, unless it says when.
const CALL_BACK: Duration = Duration::from_secs(30);
/// The longest delay a hook may ask for: its stage would be over (ECS: 24 h).
const LONGEST_CALL_BACK: u64 = 24 * 3600;
/// A call that nobody answers for so long has failed (ours; a Lambda function's longest is 15 min).
const PATIENCE: Duration = Duration::from_secs(30);
/// Calls in a row that may fail before the hook has (ours).
const MOST_ERRORS: u32 = 5;
/// The wait after the first of them; it doubles (ours).
const RETRY: Duration = Duration::from_secs(1);
/// An answer is no longer than this (ours).
const LARGEST_ANSWER: usize = 64 * 1024;

/// A hook that has to be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HookCall {
    service: ServiceKey,
    /// Its run's id and how often it was tried: each try is a job of its own.
    id: String,
    next_at: Timestamp,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    hook_status: String,
    call_back_delay: Option<u64>,
}

/// What a hook said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Succeeded,
    Failed,
    Later(Duration),
}

/// The run of a hook among its service's deployments under way.
struct Found<'a> {
    deployment: &'a Deployment,
    progress: &'a Progress,
    run: &'a HookRun,
    url: &'a str,
}

impl HookCall {
    /// All that are in progress.
    pub(super) fn all(state: &State) -> Vec<Self> {
        let mut calls = Vec::new();
        for progress in state.progress.values() {
            for run in runs(progress).filter(|found| found.run.status == HookStatus::InProgress) {
                let (service, id) = (progress.service.clone(), run.run.id.clone());
                calls.push(Self { service, id, next_at: run.run.next_at });
            }
        }
        calls
    }

    fn find<'a>(&self, state: &'a State) -> Option<Found<'a>> {
        let progress = state.progress.get(&self.service)?;
        runs(progress).find(|found| found.run.id == self.id)
    }

    /// Waits until it is time, tells the hook and writes down what it said.
    pub(super) async fn make(self, shared: Arc<Shared>) {
        let now = shared.clock.now();
        tokio::time::sleep(self.next_at.since(now)).await;
        let state = shared.store.read();
        let Some(found) = self.find(&state) else { return };
        let (url, document) = (found.url.to_owned(), document(&shared.settings.account, &found));
        let said = tokio::time::timeout(PATIENCE, post(&url, document)).await;
        let said = said.unwrap_or_else(|_| Err("no answer in time".into()));
        let (service, hook) = (&self.service, &self.id);
        match &said {
            Ok(said) => tracing::info!(%service, hook, ?said, "lifecycle hook"),
            Err(error) => tracing::warn!(%service, hook, %error, "lifecycle hook not told"),
        }
        let now = shared.clock.now();
        let written = shared.store.update(move |tx| {
            change(tx, &self.service, |progress| {
                let first = progress.deployments.first_mut().and_then(|d| d.shift.as_mut());
                let mut runs = first.into_iter().flat_map(|shift| &mut shift.hooks);
                if let Some(run) = runs.find(|run| run.id == self.id) {
                    note(run, said.ok(), now);
                }
            });
            Ok::<_, StoreError>(())
        });
        if let Err(error) = written.await {
            tracing::warn!(%error, "what a lifecycle hook said could not be written");
            // It is told again; on a full disk that must not be at once.
            tokio::time::sleep(super::WRITE_AGAIN).await;
        }
    }
}

/// The hooks of the newest deployment that are called by their URLs.
fn runs(progress: &Progress) -> impl Iterator<Item = Found<'_>> {
    let first = progress.deployments.first();
    let under_way = first.filter(|d| d.rollout == crate::model::Rollout::InProgress);
    under_way.into_iter().flat_map(move |deployment| {
        let runs = deployment.shift.iter().flat_map(|shift| &shift.hooks);
        let hooks = progress.hooks_of(deployment);
        runs.filter_map(move |run| match &hooks.get(run.hook)?.target {
            HookTarget::Webhook(url) => Some(Found { deployment, progress, run, url }),
            HookTarget::Pause => None,
        })
    })
}

/// Writes down what a hook said; none: nobody answered.
fn note(run: &mut HookRun, said: Option<Said>, now: Timestamp) {
    if run.status != HookStatus::InProgress {
        return;
    }
    match said {
        Some(Said::Succeeded) => run.status = HookStatus::Succeeded,
        Some(Said::Failed) => run.status = HookStatus::Failed,
        Some(Said::Later(delay)) => (run.errors, run.next_at) = (0, now + delay),
        None => {
            run.errors += 1;
            run.next_at = now + RETRY * 2u32.pow(run.errors.min(MOST_ERRORS) - 1);
            if run.errors >= MOST_ERRORS {
                run.status = HookStatus::Failed;
            }
        }
    }
}

/// What a hook is sent: ECS's members, and the stage, which one function may have several of. A way
/// back is part of the deployment that it leads away from.
fn document(account: &Account, found: &Found<'_>) -> Value {
    let service = &found.progress.service;
    let shift = found.deployment.shift.as_ref();
    let source = shift.and_then(|shift| found.progress.find(shift.source.as_ref()?));
    let begun = match (shift, source) {
        (Some(shift), Some(failed)) if shift.returning => failed,
        _ => found.deployment,
    };
    let (deployment, revision) = account.deployment(service, &begun.id);
    let mut production = Map::new();
    let mut test = Map::new();
    for own in std::iter::once(found.deployment).chain(source) {
        let name = account.deployment(service, &own.id).1.to_string();
        let [produces, tests] = shares(found.progress, own);
        production.insert(name.clone(), produces.into());
        test.insert(name, tests.into());
    }
    json!({
        "executionDetails": {
            "serviceArn": account.service(service).to_string(),
            "serviceDeploymentArn": deployment.to_string(),
            "targetServiceRevisionArn": revision.to_string(),
            "productionTrafficWeights": production,
            "testTrafficWeights": test,
        },
        "lifecycleStage": found.run.stage.as_str(),
        "hookId": found.run.id,
        "serviceArn": account.service(service).to_string(),
        "targetServiceRevisionArn": revision.to_string(),
    })
}

/// The percentages of production and of test traffic that a deployment was given by what is
/// written into the rules.
pub fn shares(progress: &Progress, deployment: &Deployment) -> [f64; 2] {
    let pairs = deployment.load_balancers.iter().filter_map(|lb| Some((lb, lb.pair.as_ref()?)));
    let mut shares = [None, None];
    for (lb, pair) in pairs {
        let side = lb.sides(deployment.alternate).0;
        let percent = |held: &RuleWeights| {
            let all: u32 = held.groups.iter().map(|group| group.weight).sum();
            let own = held.groups.iter().find(|group| &group.group == side)?;
            (all > 0).then(|| f64::from(own.weight) * 100.0 / f64::from(all))
        };
        for (share, rule) in shares.iter_mut().zip([Some(&pair.production), pair.test.as_ref()]) {
            let held = progress.weights.iter().find(|held| Some(&held.rule) == rule);
            *share = share.or_else(|| held.and_then(percent));
        }
    }
    shares.map(Option::unwrap_or_default)
}

/// Why a hook could not be told.
type Trouble = Box<dyn std::error::Error + Send + Sync>;

async fn post(url: &str, document: Value) -> Result<Said, Trouble> {
    let PlainUrl(Place { host, port, authority, path }) = url.parse()?;
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::post(path)
        .header("host", authority)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(document.to_string())))?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await?.to_bytes();
        Ok::<_, Trouble>((status, body))
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let (status, body) = tokio::select! {
        answer = &mut exchange => answer?,
        // It may end with the answer's last byte.
        ended = &mut connection => {
            ended?;
            exchange.await?
        }
    };
    if status.is_server_error() {
        return Err(format!("answered with {status}").into());
    }
    Ok(if status.is_success() { said(&body) } else { Said::Failed })
}

fn said(body: &[u8]) -> Said {
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return Said::Failed };
    match (answer.hook_status.as_str(), answer.call_back_delay) {
        ("SUCCEEDED", _) => Said::Succeeded,
        ("IN_PROGRESS", None) => Said::Later(CALL_BACK),
        ("IN_PROGRESS", Some(delay)) => {
            Said::Later(Duration::from_secs(delay.clamp(1, LONGEST_CALL_BACK)))
        }
        _ => Said::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Stage;

    #[test]
    fn answers_are_one_of_three_words() {
        let check = |body: &str, expected: Said| assert_eq!(said(body.as_bytes()), expected);
        check(r#"{"hookStatus":"SUCCEEDED","hookDetails":{"a":1}}"#, Said::Succeeded);
        check(r#"{"hookStatus":"FAILED"}"#, Said::Failed);
        check(r#"{"hookStatus":"IN_PROGRESS"}"#, Said::Later(CALL_BACK));
        let ten = Said::Later(Duration::from_secs(10));
        check(r#"{"hookStatus":"IN_PROGRESS","callBackDelay":10}"#, ten);
        for bad in ["", "OK", r#"{"status":"SUCCEEDED"}"#, r#"{"hookStatus":"succeeded"}"#] {
            check(bad, Said::Failed);
        }
    }

    #[test]
    fn calls_that_nobody_answers_are_made_again_a_few_times() {
        let mut run = HookRun {
            id: "h".into(),
            hook: 0,
            stage: Stage::PreScaleUp,
            step: 0,
            status: HookStatus::InProgress,
            expires_at: Timestamp::from_millis(1_000_000),
            next_at: Timestamp(0),
            errors: 0,
        };
        let mut waits = Vec::new();
        while run.status == HookStatus::InProgress {
            note(&mut run, None, Timestamp(0));
            waits.push(run.next_at.millis() / 1000);
        }
        assert_eq!((waits, run.status), (vec![1, 2, 4, 8, 16], HookStatus::Failed));
        run.status = HookStatus::InProgress;
        note(&mut run, Some(Said::Later(Duration::from_secs(3))), Timestamp(0));
        assert_eq!((run.errors, run.next_at.millis()), (0, 3000));
        note(&mut run, Some(Said::Succeeded), Timestamp(0));
        note(&mut run, Some(Said::Failed), Timestamp(0));
        assert_eq!(run.status, HookStatus::Succeeded);
    }
}
