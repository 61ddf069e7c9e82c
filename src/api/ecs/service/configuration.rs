//! `deploymentConfiguration` and `advancedConfiguration`: how one deployment takes over from the
//! one before, as it is written and shown.
//!
//! **Invariant:** what was not given changes nothing; what is refused names its member.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::api::elb;
use crate::api::error::Error;
use crate::config::PlainUrl;
use crate::model::{
    Account, AlarmName, Breaker, CANARY_BAKE, CANARY_FIRST, DeploymentAlarms, GroupPair,
    HOOK_TIMEOUT, Hook, HookAction, HookTarget, LINEAR_BAKE, LINEAR_STEP, Service,
    ServiceTargetGroup, Share, Stage, Strategy, StrategyKind, Threshold, TrafficRule,
};
use crate::state::State;

/// More at once than this during a deployment is a typing error.
const MOST_PERCENT: u32 = 1000;
/// ECS: the longest bake time.
const MOST_MINUTES: u64 = 1440;
/// ECS: hooks of one service.
const MOST_HOOKS: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeploymentConfiguration {
    deployment_circuit_breaker: Option<WrittenBreaker>,
    maximum_percent: Option<u32>,
    minimum_healthy_percent: Option<u32>,
    alarms: Option<Alarms>,
    strategy: Option<String>,
    bake_time_in_minutes: Option<i64>,
    linear_configuration: Option<Linear>,
    canary_configuration: Option<Canary>,
    lifecycle_hooks: Option<Vec<WrittenHook>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenBreaker {
    enable: bool,
    rollback: bool,
    reset_on_healthy_task: Option<bool>,
    threshold_configuration: Option<WrittenThreshold>,
}

#[derive(Debug, Deserialize)]
struct WrittenThreshold {
    #[serde(rename = "type")]
    kind: String,
    value: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alarms {
    enable: bool,
    rollback: bool,
    alarm_names: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linear {
    step_percent: Option<f64>,
    step_bake_time_in_minutes: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Canary {
    canary_percent: Option<f64>,
    canary_bake_time_in_minutes: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenHook {
    target_type: Option<String>,
    hook_target_arn: Option<String>,
    role_arn: Option<String>,
    lifecycle_stages: Option<Vec<String>>,
    timeout_configuration: Option<HookTimeout>,
    /// Any document; the model says nothing about its inside.
    hook_details: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HookTimeout {
    timeout_in_minutes: Option<u64>,
    action: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdvancedConfiguration {
    alternate_target_group_arn: Option<String>,
    production_listener_rule: Option<String>,
    test_listener_rule: Option<String>,
    role_arn: Option<String>,
}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid(message.into())
}

fn minutes(name: &str, minutes: i64) -> Result<Duration, Error> {
    let fits = u64::try_from(minutes).ok().filter(|minutes| *minutes <= MOST_MINUTES);
    let minutes = fits.ok_or_else(|| invalid(format!("{name} must be between 0 and 1440")))?;
    Ok(Duration::from_secs(minutes * 60))
}

impl DeploymentConfiguration {
    /// Writes what was given into `service`.
    pub(super) fn write(&self, service: &mut Service, state: &State) -> Result<(), Error> {
        let minimum = self.minimum_healthy_percent.unwrap_or(service.minimum_healthy_percent);
        let maximum = self.maximum_percent.unwrap_or(service.maximum_percent);
        if minimum > 100 {
            return Err(invalid("minimumHealthyPercent must be between 0 and 100"));
        }
        if !(100..=MOST_PERCENT).contains(&maximum) {
            return Err(invalid("maximumPercent must be between 100 and 1000"));
        }
        (service.minimum_healthy_percent, service.maximum_percent) = (minimum, maximum);
        if let Some(written) = &self.deployment_circuit_breaker {
            service.policy.breaker = written.meaning()?;
        }
        let strategy = &mut service.policy.strategy;
        strategy.kind = self.kind(strategy.kind)?;
        if let Some(bake) = self.bake_time_in_minutes {
            strategy.bake = minutes("bakeTimeInMinutes", bake)?;
        }
        if let Some(written) = &self.alarms {
            strategy.alarms = written.meaning(service.key.cluster.region(), state)?;
        }
        if let Some(written) = &self.lifecycle_hooks {
            if written.len() > MOST_HOOKS {
                return Err(invalid("lifecycleHooks can have at most 20 items."));
            }
            strategy.hooks = written.iter().map(WrittenHook::meaning).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn kind(&self, before: StrategyKind) -> Result<StrategyKind, Error> {
        let named = self.strategy.as_deref().unwrap_or(before.as_str());
        for (name, is_given) in [
            ("linear", self.linear_configuration.is_some()),
            ("canary", self.canary_configuration.is_some()),
        ] {
            let needed = name.to_ascii_uppercase();
            if is_given && named != needed {
                let message = format!("{name}Configuration is only valid with strategy {needed}");
                return Err(invalid(message));
            }
        }
        Ok(match named {
            "BLUE_GREEN" => StrategyKind::BlueGreen,
            "LINEAR" => match (&self.linear_configuration, before) {
                (None, StrategyKind::Linear { .. }) => before,
                (written, _) => written.as_ref().map_or_else(Linear::default_kind, Linear::kind)?,
            },
            "CANARY" => match (&self.canary_configuration, before) {
                (None, StrategyKind::Canary { .. }) => before,
                (written, _) => written.as_ref().map_or_else(Canary::default_kind, Canary::kind)?,
            },
            // The model has no other.
            _ => StrategyKind::Rolling,
        })
    }
}

impl Linear {
    fn default_kind() -> Result<StrategyKind, Error> {
        Self::default().kind()
    }

    fn kind(&self) -> Result<StrategyKind, Error> {
        let step = self.step_percent.map_or(Some(LINEAR_STEP), Share::of_percent);
        let step = step.filter(|step| step.percent() >= 3.0).ok_or_else(|| {
            invalid("stepPercent must be between 3.0 and 100.0, in multiples of 0.1")
        })?;
        let bake = self.step_bake_time_in_minutes;
        let bake = bake.map_or(Ok(LINEAR_BAKE), |bake| minutes("stepBakeTimeInMinutes", bake))?;
        Ok(StrategyKind::Linear { step, bake })
    }
}

impl Canary {
    fn default_kind() -> Result<StrategyKind, Error> {
        Self::default().kind()
    }

    fn kind(&self) -> Result<StrategyKind, Error> {
        let first = self.canary_percent.map_or(Some(CANARY_FIRST), Share::of_percent);
        let first = first.filter(|first| *first > Share::NONE).ok_or_else(|| {
            invalid("canaryPercent must be between 0.1 and 100.0, in multiples of 0.1")
        })?;
        let bake = self.canary_bake_time_in_minutes;
        let bake = bake.map_or(Ok(CANARY_BAKE), |bake| minutes("canaryBakeTimeInMinutes", bake))?;
        Ok(StrategyKind::Canary { first, bake })
    }
}

impl Alarms {
    fn meaning(&self, place: &str, state: &State) -> Result<DeploymentAlarms, Error> {
        let name = |name: &String| AlarmName::within(place, name);
        let names: Vec<AlarmName> = self.alarm_names.iter().map(name).collect();
        if self.enable {
            if names.is_empty() {
                return Err(invalid("alarmNames cannot be empty when alarms are enabled"));
            }
            if let Some(name) = names.iter().find(|name| !state.alarms.contains_key(*name)) {
                return Err(invalid(format!("The alarm {name} does not exist")));
            }
        }
        Ok(DeploymentAlarms { enabled: self.enable, rollback: self.rollback, names })
    }
}

impl WrittenHook {
    fn meaning(&self) -> Result<Hook, Error> {
        let target = match (self.target_type.as_deref(), self.hook_target_arn.as_deref()) {
            (Some("PAUSE"), None) => HookTarget::Pause,
            (Some("PAUSE"), Some(_)) => {
                return Err(invalid("hookTargetArn is not valid for a hook of type PAUSE"));
            }
            (_, Some(url)) if is_webhook(url) => HookTarget::Webhook(url.to_owned()),
            (_, Some(arn)) => {
                let message = format!(
                    "{arn} is not supported here: hookTargetArn takes the http:// URL of a \
                     webhook in the place of a Lambda function's ARN"
                );
                return Err(Error::unsupported(message));
            }
            (_, None) => return Err(invalid("hookTargetArn should not be null or empty.")),
        };
        if self.hook_details.is_some() {
            return Err(Error::unsupported("lifecycleHooks.hookDetails is not supported here"));
        }
        let names = self.lifecycle_stages.as_deref().unwrap_or_default();
        if names.is_empty() {
            return Err(invalid("lifecycleStages cannot be empty."));
        }
        let stages: Option<Vec<Stage>> = names.iter().map(|name| Stage::parse(name)).collect();
        let stages = stages.ok_or_else(|| invalid("lifecycleStages names no such stage"))?;
        // The model knows no others.
        debug_assert!(stages.iter().all(|stage| stage.takes_hooks()));
        let pauses = target == HookTarget::Pause;
        if let Some(stage) = stages.iter().find(|stage| pauses && !stage.takes_pauses()) {
            let stage = stage.as_str();
            return Err(invalid(format!("A hook of type PAUSE is not supported at {stage}")));
        }
        let timeout = self.timeout_configuration.as_ref();
        let length = timeout.and_then(|timeout| timeout.timeout_in_minutes);
        Ok(Hook {
            target,
            stages,
            timeout: length.map(|minutes| Duration::from_secs(minutes * 60)),
            action: timeout.and_then(|t| t.action.as_deref()).and_then(HookAction::parse),
            role: self.role_arn.clone(),
        })
    }
}

/// Whether it is a URL that a hook can be told at.
pub(in crate::api) fn is_webhook(url: &str) -> bool {
    // A password in it would be told in every answer.
    url.parse::<PlainUrl>().is_ok()
}

impl WrittenBreaker {
    fn meaning(&self) -> Result<Breaker, Error> {
        let threshold = |written: &WrittenThreshold| {
            let value = u32::try_from(written.value).unwrap_or_default();
            Threshold::new(&written.kind, value).ok_or_else(|| {
                let message = "Invalid thresholdConfiguration: a BOUNDED_PERCENT is 1 to 100, an \
                               UNBOUNDED_PERCENT and a COUNT at least 1";
                invalid(message)
            })
        };
        Ok(Breaker {
            enabled: self.enable,
            rollback: self.rollback,
            threshold: self.threshold_configuration.as_ref().map(threshold).transpose()?,
            resets: self.reset_on_healthy_task,
        })
    }
}

impl AdvancedConfiguration {
    pub(super) fn meaning(self, account: &Account, state: &State) -> Result<GroupPair, Error> {
        let arn = self.alternate_target_group_arn.unwrap_or_default();
        let group = elb::target_group(state, account, &arn).ok();
        let group = group.ok_or_else(|| {
            invalid(format!("The specified alternate target group does not exist: {arn}"))
        })?;
        let rule = |arn: &str| {
            let found = elb::traffic_rule(state, account, arn);
            found.ok_or_else(|| {
                invalid(format!("The specified listener rule does not exist: {arn}"))
            })
        };
        let production = self.production_listener_rule.as_deref().unwrap_or_default();
        Ok(GroupPair {
            alternate: group.name.clone(),
            production: rule(production)?,
            test: self.test_listener_rule.as_deref().map(rule).transpose()?,
            role: self.role_arn,
        })
    }
}

/// Whether a service's target groups and strategy go together.
pub(in crate::api) fn check(service: &Service, state: &State) -> Result<(), String> {
    let Strategy { kind, hooks, .. } = &service.policy.strategy;
    let name = kind.as_str();
    if !kind.is_gradual() && !hooks.is_empty() {
        return Err("lifecycleHooks are not supported with strategy ROLLING".to_owned());
    }
    if kind.is_gradual() && service.policy.daemon {
        return Err(format!("the DAEMON scheduling strategy does not support strategy {name}"));
    }
    let lbs = &service.load_balancers;
    if kind.is_gradual() && lbs.iter().any(|lb| lb.pair.is_none()) {
        let message = "needs advancedConfiguration with an alternate target group and a \
                       production listener rule for every load balancer";
        return Err(format!("strategy {name} {message}"));
    }
    let pairs = lbs.iter().filter_map(|lb| lb.pair.as_ref());
    let rules: Vec<&TrafficRule> =
        pairs.flat_map(|pair| std::iter::once(&pair.production).chain(&pair.test)).collect();
    let groups: Vec<_> = lbs.iter().flat_map(ServiceTargetGroup::groups).collect();
    let twice = |place: usize| rules[..place].contains(&rules[place]);
    if (0..rules.len()).any(twice) {
        return Err("a listener rule is given twice".to_owned());
    }
    if !rules.is_empty() && (0..groups.len()).any(|at| groups[..at].contains(&groups[at])) {
        return Err("a target group is given twice".to_owned());
    }
    let other = state.services.values().find(|other| {
        let pairs = other.load_balancers.iter().filter_map(|lb| lb.pair.as_ref());
        let mut theirs = pairs.flat_map(|pair| std::iter::once(&pair.production).chain(&pair.test));
        other.key != service.key && theirs.any(|rule| rules.contains(&rule))
    });
    other.map_or(Ok(()), |other| Err(format!("a listener rule is in use by service {}", other.key)))
}

/// What was not given is not shown.
fn breaker(breaker: &Breaker) -> Value {
    let mut all = Map::from_iter([
        ("enable".to_owned(), breaker.enabled.into()),
        ("rollback".to_owned(), breaker.rollback.into()),
    ]);
    if let Some(resets) = breaker.resets {
        all.insert("resetOnHealthyTask".to_owned(), resets.into());
    }
    if let Some((kind, value)) = breaker.threshold.map(Threshold::parts) {
        let threshold = json!({ "type": kind, "value": value });
        all.insert("thresholdConfiguration".to_owned(), threshold);
    }
    Value::Object(all)
}

/// The file may name seconds: a part of a minute is shown as one.
fn shown_minutes(time: Duration) -> u64 {
    time.as_secs().div_ceil(60)
}

/// `deploymentConfiguration` of a service that goes by `strategy`.
pub(in crate::api::ecs) fn shown(service: &Service, strategy: &Strategy) -> Value {
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    put("deploymentCircuitBreaker", breaker(&service.policy.breaker));
    put("maximumPercent", service.maximum_percent.into());
    put("minimumHealthyPercent", service.minimum_healthy_percent.into());
    put("strategy", strategy.kind.as_str().into());
    put("bakeTimeInMinutes", shown_minutes(strategy.bake).into());
    match strategy.kind {
        StrategyKind::Rolling | StrategyKind::BlueGreen => {}
        StrategyKind::Linear { step, bake } => {
            let (percent, bake) = (step.percent(), shown_minutes(bake));
            let linear = json!({ "stepPercent": percent, "stepBakeTimeInMinutes": bake });
            put("linearConfiguration", linear);
        }
        StrategyKind::Canary { first, bake } => {
            let (percent, bake) = (first.percent(), shown_minutes(bake));
            let canary = json!({ "canaryPercent": percent, "canaryBakeTimeInMinutes": bake });
            put("canaryConfiguration", canary);
        }
    }
    let DeploymentAlarms { enabled, rollback, names } = &strategy.alarms;
    if *enabled || !names.is_empty() {
        let names: Vec<&str> = names.iter().map(AlarmName::as_str).collect();
        put("alarms", json!({ "enable": enabled, "rollback": rollback, "alarmNames": names }));
    }
    if !strategy.hooks.is_empty() {
        put("lifecycleHooks", strategy.hooks.iter().map(hook).collect::<Vec<_>>().into());
    }
    Value::Object(all)
}

fn hook(hook: &Hook) -> Value {
    let stages: Vec<&str> = hook.stages.iter().map(|stage| stage.as_str()).collect();
    let mut all = Map::from_iter([("lifecycleStages".to_owned(), stages.into())]);
    let mut put = |name: &str, value: Value| drop(all.insert(name.to_owned(), value));
    match &hook.target {
        HookTarget::Pause => put("targetType", "PAUSE".into()),
        HookTarget::Webhook(url) => {
            put("targetType", "AWS_LAMBDA".into());
            put("hookTargetArn", url.as_str().into());
        }
    }
    if let Some(role) = &hook.role {
        put("roleArn", role.as_str().into());
    }
    if hook.target == HookTarget::Pause || hook.timeout.is_some() || hook.action.is_some() {
        let minutes = shown_minutes(hook.timeout.unwrap_or(HOOK_TIMEOUT)).max(1);
        let action = hook.action.unwrap_or(HookAction::Rollback).as_str();
        put("timeoutConfiguration", json!({ "timeoutInMinutes": minutes, "action": action }));
    }
    Value::Object(all)
}

/// `advancedConfiguration`
pub(super) fn pair(account: &Account, state: &State, pair: &GroupPair) -> Value {
    let group = state.target_groups.get(&pair.alternate);
    let rule = |rule: &TrafficRule| elb::traffic_rule_arn(state, account, rule);
    let mut all = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            all.insert(name.to_owned(), value.into());
        }
    };
    put("alternateTargetGroupArn", group.map(|group| account.target_group(group).to_string()));
    put("productionListenerRule", rule(&pair.production));
    put("testListenerRule", pair.test.as_ref().and_then(rule));
    put("roleArn", pair.role.clone());
    Value::Object(all)
}
