//! How a service's traffic goes from one deployment to the next: at once, in steps, or as its tasks
//! are replaced.
//!
//! Two target groups of a pair take turns: the tasks of one deployment are registered in one, those
//! of the next in the other, and the weights of a rule say who gets the traffic. Not here: what
//! happens next (the orchestrator's plan). **Invariant:** a deployment keeps the strategy that its
//! service had when it began.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AlarmName, DeploymentId, ListenerKey, TargetGroupName, WeightedGroup};
use crate::clock::Timestamp;

/// ECS's default `stepPercent` and `canaryPercent`.
pub const LINEAR_STEP: Share = Share(100);
pub const CANARY_FIRST: Share = Share(50);
/// ECS's default `stepBakeTimeInMinutes` and `canaryBakeTimeInMinutes`.
pub const LINEAR_BAKE: Duration = Duration::from_secs(6 * 60);
pub const CANARY_BAKE: Duration = Duration::from_secs(10 * 60);
/// ECS: how long a hook may take, and a PAUSE waits, unless it says otherwise.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Runs of hooks kept of a deployment (ours).
pub const HOOK_RUNS_KEPT: usize = 100;

/// ECS's `deploymentConfiguration` beside its percentages and its circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Strategy {
    pub kind: StrategyKind,
    /// How long both revisions stay after the last shift; with ROLLING, how long the new tasks are
    /// watched before the rollout is completed.
    pub bake: Duration,
    pub hooks: Vec<Hook>,
    pub alarms: DeploymentAlarms,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StrategyKind {
    #[default]
    Rolling,
    BlueGreen,
    /// So much more with each step, and so long between two steps.
    Linear {
        step: Share,
        bake: Duration,
    },
    /// So much first, and everything so long after it.
    Canary {
        first: Share,
        bake: Duration,
    },
}

impl StrategyKind {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "ROLLING",
            Self::BlueGreen => "BLUE_GREEN",
            Self::Linear { .. } => "LINEAR",
            Self::Canary { .. } => "CANARY",
        }
    }

    /// Whether traffic is shifted between two groups.
    #[must_use]
    pub const fn is_gradual(self) -> bool {
        !matches!(self, Self::Rolling)
    }

    /// The share after the next step, and how long it is baked before the one after it.
    #[must_use]
    pub fn step(self, share: Share) -> (Share, Duration) {
        match self {
            Self::Linear { step, bake } => (share.plus(step), bake),
            Self::Canary { first, bake } if share == Share::NONE => (first, bake),
            Self::Rolling | Self::BlueGreen | Self::Canary { .. } => (Share::ALL, Duration::ZERO),
        }
    }
}

/// A part of the traffic, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(u16);

impl Share {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(1000);

    /// Of a percentage with at most one digit behind the point.
    #[must_use]
    pub fn of_percent(percent: f64) -> Option<Self> {
        let tenths = percent * 10.0;
        let whole = tenths.round();
        let fits = (0.0..=1000.0).contains(&whole) && (tenths - whole).abs() < 1e-6;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        fits.then_some(Self(whole as u16))
    }

    #[must_use]
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10.0
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self((self.0 + other.0).min(Self::ALL.0))
    }

    /// Weights of the rest and of this share: they add up to 100, or to 1000 where 100 is too
    /// coarse (ELB takes 0 to 999).
    #[must_use]
    pub fn weights(self) -> (u32, u32) {
        let unit = if self.0.is_multiple_of(10) { 10 } else { 1 };
        (u32::from((Self::ALL.0 - self.0) / unit), u32::from(self.0 / unit))
    }
}

/// ECS's `alarms`: alarms that end a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentAlarms {
    pub enabled: bool,
    pub rollback: bool,
    pub names: Vec<AlarmName>,
}

/// ECS's lifecycle stages, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Stage {
    ReconcileService,
    PreScaleUp,
    ScaleUp,
    PostScaleUp,
    TestTrafficShift,
    PostTestTrafficShift,
    PreProductionTrafficShift,
    ProductionTrafficShift,
    PostProductionTrafficShift,
    BakeTime,
    CleanUp,
}

impl Stage {
    pub const ALL: [Self; 11] = [
        Self::ReconcileService,
        Self::PreScaleUp,
        Self::ScaleUp,
        Self::PostScaleUp,
        Self::TestTrafficShift,
        Self::PostTestTrafficShift,
        Self::PreProductionTrafficShift,
        Self::ProductionTrafficShift,
        Self::PostProductionTrafficShift,
        Self::BakeTime,
        Self::CleanUp,
    ];

    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReconcileService => "RECONCILE_SERVICE",
            Self::PreScaleUp => "PRE_SCALE_UP",
            Self::ScaleUp => "SCALE_UP",
            Self::PostScaleUp => "POST_SCALE_UP",
            Self::TestTrafficShift => "TEST_TRAFFIC_SHIFT",
            Self::PostTestTrafficShift => "POST_TEST_TRAFFIC_SHIFT",
            Self::PreProductionTrafficShift => "PRE_PRODUCTION_TRAFFIC_SHIFT",
            Self::ProductionTrafficShift => "PRODUCTION_TRAFFIC_SHIFT",
            Self::PostProductionTrafficShift => "POST_PRODUCTION_TRAFFIC_SHIFT",
            Self::BakeTime => "BAKE_TIME",
            Self::CleanUp => "CLEAN_UP",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == text)
    }

    /// As `DescribeServiceDeployments` calls it, which knows one stage less.
    #[must_use]
    pub const fn shown(self) -> &'static str {
        match self {
            Self::PreProductionTrafficShift => Self::ProductionTrafficShift.as_str(),
            other => other.as_str(),
        }
    }

    /// ECS: no hooks while it scales, bakes and cleans up.
    #[must_use]
    pub const fn takes_hooks(self) -> bool {
        !matches!(self, Self::ScaleUp | Self::BakeTime | Self::CleanUp)
    }

    /// ECS: nobody can be waited for while traffic is on its way.
    #[must_use]
    pub const fn takes_pauses(self) -> bool {
        self.takes_hooks() && !matches!(self, Self::TestTrafficShift | Self::ProductionTrafficShift)
    }
}

/// A step of somebody else's at some stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub target: HookTarget,
    pub stages: Vec<Stage>,
    /// None: [`HOOK_TIMEOUT`].
    pub timeout: Option<Duration>,
    /// What becomes of the deployment then. None: it goes back.
    pub action: Option<HookAction>,
    /// Kept as given.
    pub role: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookTarget {
    /// An HTTP URL that is told, in the place of ECS's Lambda function.
    Webhook(String),
    /// `ContinueServiceDeployment` is waited for.
    Pause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HookAction {
    Continue,
    Rollback,
}

impl HookAction {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "CONTINUE",
            Self::Rollback => "ROLLBACK",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Continue, Self::Rollback].into_iter().find(|action| action.as_str() == text)
    }
}

/// A hook at work, or what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    pub id: String,
    /// Its place among the strategy's hooks.
    pub hook: usize,
    pub stage: Stage,
    /// Steps of production traffic made before: stages come again with each.
    pub step: u32,
    pub status: HookStatus,
    pub expires_at: Timestamp,
    /// A webhook is told then.
    pub next_at: Timestamp,
    /// Calls in a row that nobody answered.
    pub errors: u32,
}

/// What a run of a hook means for its deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookOutcome {
    /// Until then at the latest.
    Waits(Timestamp),
    Passed(HookStatus),
    Failed(HookStatus),
}

impl HookRun {
    /// What has come of it at `now`, where `answers` are what hooks that wait were told.
    #[must_use]
    pub fn outcome(
        &self,
        hook: Option<&Hook>,
        answers: &BTreeMap<String, HookAction>,
        now: Timestamp,
    ) -> HookOutcome {
        let late = match hook.and_then(|hook| hook.action) {
            Some(HookAction::Continue) => HookOutcome::Passed(HookStatus::TimedOut),
            Some(HookAction::Rollback) | None => HookOutcome::Failed(HookStatus::TimedOut),
        };
        match (self.status, answers.get(&self.id)) {
            (HookStatus::Succeeded, _) => HookOutcome::Passed(HookStatus::Succeeded),
            (HookStatus::Failed, _) => HookOutcome::Failed(HookStatus::Failed),
            (HookStatus::TimedOut, _) => late,
            (HookStatus::AwaitingAction, Some(HookAction::Continue)) => {
                HookOutcome::Passed(HookStatus::Succeeded)
            }
            (HookStatus::AwaitingAction, Some(HookAction::Rollback)) => {
                HookOutcome::Failed(HookStatus::Failed)
            }
            (HookStatus::AwaitingAction | HookStatus::InProgress, _) if now >= self.expires_at => {
                late
            }
            (HookStatus::AwaitingAction | HookStatus::InProgress, _) => {
                HookOutcome::Waits(self.expires_at)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookStatus {
    AwaitingAction,
    InProgress,
    Succeeded,
    Failed,
    TimedOut,
}

impl HookStatus {
    /// AWS's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AwaitingAction => "AWAITING_ACTION",
            Self::InProgress => "IN_PROGRESS",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
        }
    }

    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::AwaitingAction | Self::InProgress)
    }
}

/// How far a gradual deployment has come. Durable, so that who goes on knows where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    pub stage: Stage,
    /// When this stage began.
    pub since: Timestamp,
    /// The deployment that traffic comes from, and would go back to. None: there was nothing good
    /// before.
    pub source: Option<DeploymentId>,
    /// Of production traffic.
    pub share: Share,
    /// It gets the test traffic.
    pub tested: bool,
    /// Names lead to its tasks, no longer to the source's.
    pub named: bool,
    /// Steps of production traffic made, and when the last was.
    pub steps: u32,
    pub shifted_at: Timestamp,
    /// It gets its traffic back from the source, which has failed.
    pub returning: bool,
    /// Weights that somebody else wrote do not keep it from that.
    pub insists: bool,
    pub hooks: Vec<HookRun>,
}

impl Shift {
    /// At its first stage.
    #[must_use]
    pub fn begun(stage: Stage, source: Option<DeploymentId>, now: Timestamp) -> Self {
        Self {
            stage,
            since: now,
            source,
            share: Share::NONE,
            tested: false,
            named: false,
            steps: 0,
            shifted_at: now,
            returning: false,
            insists: false,
            hooks: Vec::new(),
        }
    }

    /// At the next stage.
    #[must_use]
    pub fn at(&self, stage: Stage, now: Timestamp) -> Self {
        Self { stage, since: now, ..self.clone() }
    }
}

/// What a service's target group is paired with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPair {
    pub alternate: TargetGroupName,
    pub production: TrafficRule,
    pub test: Option<TrafficRule>,
    /// Kept as given; there are no roles.
    pub role: Option<String>,
}

/// A rule whose weights say who gets the traffic; no rule: the listener's default action.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TrafficRule {
    pub listener: ListenerKey,
    pub rule: Option<String>,
}

impl std::fmt::Display for TrafficRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "{} {rule}", self.listener),
            None => write!(f, "{} default", self.listener),
        }
    }
}

/// What a service's deployments have written last into a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleWeights {
    pub rule: TrafficRule,
    pub groups: Vec<WeightedGroup>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_one_digit_behind_the_point_and_exact_weights() {
        let check = |percent: f64, expected: Option<(u32, u32)>| {
            assert_eq!(Share::of_percent(percent).map(Share::weights), expected, "{percent} %");
        };
        check(0.0, Some((100, 0)));
        check(5.0, Some((95, 5)));
        check(100.0, Some((0, 100)));
        check(0.1, Some((999, 1)));
        check(12.3, Some((877, 123)));
        check(99.9, Some((1, 999)));
        check(0.05, None);
        check(100.1, None);
        check(-1.0, None);
    }

    #[test]
    fn strategies_make_the_steps_that_ecs_makes() {
        let check = |kind: StrategyKind, expected: &[f64]| {
            let (mut share, mut steps) = (Share::NONE, Vec::new());
            while share < Share::ALL {
                share = kind.step(share).0;
                steps.push(share.percent());
            }
            assert_eq!(steps, expected, "{kind:?}");
        };
        let percent = |percent| Share::of_percent(percent).unwrap();
        check(StrategyKind::BlueGreen, &[100.0]);
        let bake = LINEAR_BAKE;
        check(StrategyKind::Linear { step: percent(30.0), bake }, &[30.0, 60.0, 90.0, 100.0]);
        check(StrategyKind::Canary { first: percent(0.1), bake }, &[0.1, 100.0]);
        check(StrategyKind::Canary { first: Share::ALL, bake }, &[100.0]);
    }

    #[test]
    fn stages_have_aws_s_names() {
        for stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.as_str()), Some(stage));
            assert_eq!(serde_json::to_value(stage).unwrap(), stage.as_str());
        }
        assert_eq!(Stage::parse("LUNCH"), None);
    }
}
