//! How a service goes from one deployment to the next: strategy, hooks, alarms, paired groups.
//!
//! **Invariant:** times may be shorter here than ECS's minutes; everything else has ECS's limits.

use std::time::Duration;

use super::super::place::Place;
use super::super::source::Bad;
use super::super::written::{
    WrittenHook, WrittenService, WrittenServiceGroup, WrittenStrategy, WrittenTrafficRule,
};
use super::Resources;
use crate::api::ecs::service::configuration::is_webhook;
use crate::config::Time;
use crate::model::{
    Action, CANARY_BAKE, CANARY_FIRST, DeploymentAlarms, GroupPair, Hook, HookTarget, LINEAR_BAKE,
    LINEAR_STEP, ListenerKey, Share, Stage, Strategy, StrategyKind, TrafficRule,
};

/// ECS: the longest bake time, and the longest that a hook may take.
const LONGEST_BAKE: Duration = Duration::from_secs(24 * 3600);
const LONGEST_HOOK: Duration = Duration::from_secs(20_160 * 60);

pub(super) fn meaning(written: &WrittenService, at: &Place) -> Result<Strategy, Bad> {
    let (linear, canary) = (written.linear.as_ref(), written.canary.as_ref());
    let named = written.strategy.unwrap_or(WrittenStrategy::Rolling);
    for (key, is_there, own) in [
        ("linear", linear.is_some(), WrittenStrategy::Linear),
        ("canary", canary.is_some(), WrittenStrategy::Canary),
    ] {
        if is_there && named != own {
            let reason = format!("belongs to strategy = {:?}", key.to_ascii_uppercase());
            return Err(Bad::new(&at.key(key), reason));
        }
    }
    let kind = match named {
        WrittenStrategy::Rolling => StrategyKind::Rolling,
        WrittenStrategy::BlueGreen => StrategyKind::BlueGreen,
        WrittenStrategy::Linear => {
            let at = at.key("linear");
            let step = linear.and_then(|linear| linear.step_percent);
            let bake = linear.and_then(|linear| linear.step_bake_time);
            StrategyKind::Linear {
                step: share(step, LINEAR_STEP, 3.0, &at.key("step_percent"))?,
                bake: bake_time(bake, LINEAR_BAKE, &at.key("step_bake_time"))?,
            }
        }
        WrittenStrategy::Canary => {
            let at = at.key("canary");
            let first = canary.and_then(|canary| canary.percent);
            let bake = canary.and_then(|canary| canary.bake_time);
            StrategyKind::Canary {
                first: share(first, CANARY_FIRST, 0.1, &at.key("percent"))?,
                bake: bake_time(bake, CANARY_BAKE, &at.key("bake_time"))?,
            }
        }
    };
    let list = at.key("lifecycle_hook");
    let hooks = written.lifecycle_hook.iter().enumerate();
    let alarms = written.deployment_alarms.as_ref().map(|alarms| DeploymentAlarms {
        enabled: !alarms.names.is_empty(),
        rollback: alarms.rollback.unwrap_or_default(),
        names: alarms.names.iter().map(|name| name.as_str().into()).collect(),
    });
    Ok(Strategy {
        kind,
        bake: bake_time(written.bake_time, Duration::ZERO, &at.key("bake_time"))?,
        hooks: hooks.map(|(place, own)| hook(own, &list.index(place))).collect::<Result<_, _>>()?,
        alarms: alarms.unwrap_or_default(),
    })
}

fn share(percent: Option<f64>, default: Share, least: f64, at: &Place) -> Result<Share, Bad> {
    let share = percent.map_or(Some(default), Share::of_percent);
    share.filter(|share| share.percent() >= least).ok_or_else(|| {
        Bad::new(at, format!("must be {least} to 100, with at most one digit behind the point"))
    })
}

fn bake_time(time: Option<Time>, default: Duration, at: &Place) -> Result<Duration, Bad> {
    let time = time.map_or(default, |time| time.0);
    if time <= LONGEST_BAKE { Ok(time) } else { Err(Bad::new(at, "must be at most 24h")) }
}

fn hook(written: &WrittenHook, at: &Place) -> Result<Hook, Bad> {
    let target = match &written.url {
        Some(url) if is_webhook(url) => HookTarget::Webhook(url.clone()),
        Some(_) => return Err(Bad::new(&at.key("url"), "must be an http:// URL")),
        None => HookTarget::Pause,
    };
    let list = at.key("stages");
    if written.stages.is_empty() {
        return Err(Bad::new(&list, "must name at least one stage"));
    }
    let mut stages = Vec::new();
    for (place, name) in written.stages.iter().enumerate() {
        let at = list.index(place);
        let stage = Stage::parse(name).filter(|stage| stage.takes_hooks());
        let stage = stage.ok_or_else(|| {
            Bad::new(&at, format!("{name:?} is no lifecycle stage that takes hooks"))
        })?;
        if target == HookTarget::Pause && !stage.takes_pauses() {
            return Err(Bad::new(&at, format!("nothing can pause at {name}")));
        }
        stages.push(stage);
    }
    let timeout = written.timeout.map(|time| time.0);
    if timeout.is_some_and(|timeout| timeout.is_zero() || timeout > LONGEST_HOOK) {
        return Err(Bad::new(&at.key("timeout"), "must be above 0 and at most 336h"));
    }
    Ok(Hook { target, stages, timeout, action: written.timeout_action, role: None })
}

impl Resources {
    pub(super) fn pair(
        &self,
        written: &WrittenServiceGroup,
        at: &Place,
    ) -> Result<Option<GroupPair>, Bad> {
        let (alternate, production) = (&written.alternate_target_group, &written.production_rule);
        let (Some(alternate), Some(production)) = (alternate, production) else {
            for (key, is_there) in [
                ("alternate_target_group", alternate.is_some()),
                ("production_rule", production.is_some()),
                ("test_rule", written.test_rule.is_some()),
            ] {
                if is_there {
                    let reason = "alternate_target_group and production_rule belong together";
                    return Err(Bad::new(&at.key(key), reason));
                }
            }
            return Ok(None);
        };
        let own = self.group(&written.target_group, &at.key("target_group"))?;
        let group = self.group(alternate, &at.key("alternate_target_group"))?;
        if own.name == group.name || own.protocol != group.protocol {
            let reason = "must be another target group of the same protocol";
            return Err(Bad::new(&at.key("alternate_target_group"), reason));
        }
        let groups = [own.name.as_str(), group.name.as_str()];
        let test = written.test_rule.as_ref();
        let test = test.map(|rule| self.traffic_rule(rule, groups, &at.key("test_rule")));
        Ok(Some(GroupPair {
            alternate: group.name.clone(),
            production: self.traffic_rule(production, groups, &at.key("production_rule"))?,
            test: test.transpose()?,
            role: None,
        }))
    }

    /// A rule that forwards to one of `groups` at least.
    fn traffic_rule(
        &self,
        written: &WrittenTrafficRule,
        groups: [&str; 2],
        at: &Place,
    ) -> Result<TrafficRule, Bad> {
        let load_balancer = written.load_balancer.as_str().into();
        let key = ListenerKey { load_balancer, port: written.port };
        let listener = self.listeners.iter().find(|listener| listener.key == key);
        let listener =
            listener.ok_or_else(|| Bad::new(at, format!("there is no listener {key}")))?;
        let (rule, action) = match written.priority {
            None => (None, &listener.default_action),
            Some(priority) => {
                let mut rules = listener.rules.iter();
                let rule = rules.find(|rule| rule.priority == priority).ok_or_else(|| {
                    Bad::new(&at.key("priority"), format!("{key} has no rule {priority}"))
                })?;
                (Some(rule.id.clone()), &rule.action)
            }
        };
        let forwards = |action: &Action| {
            action.groups().iter().any(|weighted| groups.contains(&weighted.group.as_str()))
        };
        if !forwards(action) {
            let reason = format!("must forward to {} or {}", groups[0], groups[1]);
            return Err(Bad::new(at, reason));
        }
        Ok(TrafficRule { listener: key, rule })
    }
}
