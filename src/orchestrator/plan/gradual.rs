//! One service's share of the plan while traffic goes from one deployment to the next in stages.
//!
//! The tasks of both are kept, each in a target group of its own; the rule's weights divide the
//! traffic. Not here: writing (`traffic`), why a deployment ends before its time (`rollout`).
//! **Invariant:** at most one stage per plan; nothing is shifted to a group without healthy
//! targets, unless nothing is desired or nobody is healthy anywhere; a rule that somebody else
//! changed is not written, but for a way back that was asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::service::{Crew, Scene};
use super::{Draft, Move};
use crate::clock::Timestamp;
use crate::model::{
    Deployment, DeploymentId, HOOK_RUNS_KEPT, HOOK_TIMEOUT, Hook, HookAction, HookOutcome, HookRun,
    HookStatus, HookTarget, Progress, Rollout, RuleWeights, Service, Share, Shift, Stage,
    StrategyKind, WeightedGroup,
};
use crate::orchestrator::{traffic, words};
use crate::state::State;

/// ECS: a stage that takes longer ends its deployment.
const LONGEST_STAGE: Duration = Duration::from_secs(24 * 3600);
/// The deployment that traffic would be given back to has so long to serve, before the one that
/// does is taken in its place (ours: a task that died is replaced by then).
const PATIENCE: Duration = Duration::from_secs(60);
/// ECS: the stages of a way back that hooks are told of (developer guide, "Lifecycle hooks for
/// Amazon ECS service deployments").
const RETURN: [Stage; 2] = [Stage::ProductionTrafficShift, Stage::TestTrafficShift];

/// Prepares a deployment that is about to begin: which groups its tasks are registered in, where
/// its traffic comes from, which alarms say nothing about it.
pub(super) fn prepare(
    state: &State,
    deployment: Deployment,
    progress: Option<&Progress>,
) -> Deployment {
    let before = progress.and_then(|progress| progress.deployments.first());
    let good = progress.and_then(|progress| progress.all().find(|d| is_there(state, d)));
    let alarms = deployment.strategy.alarms.names.iter();
    let is_on = |name: &&crate::model::AlarmName| {
        state.alarms.get(*name).is_some_and(|a| a.state == crate::model::AlarmState::Alarm)
    };
    let ignored_alarms = alarms.filter(is_on).cloned().collect();
    let side = good.or(before).is_some_and(|deployment| deployment.alternate);
    let deployment = Deployment { ignored_alarms, alternate: side, ..deployment };
    let source = good.map(|good| good.id.clone());
    // A rolling one has no stages, but it finds traffic divided if the one before was not through.
    let is_gradual = deployment.strategy.kind.is_gradual();
    let is_divided = source.is_some() && before.is_some_and(Deployment::is_shifting);
    if !is_gradual && !is_divided {
        return deployment;
    }
    // What runs beside the one that traffic comes from has to go first.
    let others = progress.into_iter().flat_map(|progress| &progress.deployments);
    let is_crowded = source.is_some() && others.clone().any(|d| Some(&d.id) != source.as_ref());
    let stage = if is_crowded { Stage::ReconcileService } else { Stage::PreScaleUp };
    let alternate = side != (is_gradual && source.is_some());
    let shift = Some(Shift::begun(stage, source, deployment.created_at));
    Deployment { alternate, shift, ..deployment }
}

/// It was completed, and all that it names is still there.
pub(super) fn is_there(state: &State, deployment: &Deployment) -> bool {
    deployment.was_good() && is_whole(state, deployment)
}

fn is_whole(state: &State, deployment: &Deployment) -> bool {
    let mut groups = deployment.load_balancers.iter().flat_map(|lb| lb.groups());
    let discovery = deployment.discovery.as_ref();
    state.definitions.contains_key(&deployment.definition)
        && groups.all(|group| state.target_groups.contains_key(group))
        && discovery.is_none_or(|d| state.discovery_services.contains_key(&d.service))
}

/// The other deployment of the two that traffic is divided between.
pub(super) fn source<'a>(scene: &Scene<'a>) -> Option<&'a Deployment> {
    let shift = scene.primary.shift.as_ref().filter(|_| scene.primary.is_shifting())?;
    scene.progress?.find(shift.source.as_ref()?)
}

/// Keeps the tasks of both, stops what is neither's, and comes a stage further.
pub(super) fn plan<'a>(draft: &mut Draft<'_, '_>, scene: &Scene<'a>, source: &'a Deployment) {
    let primary = scene.primary;
    let Some(shift) = &primary.shift else { return };
    let mut new = scene.crew(draft, primary, true);
    let mut old = scene.crew(draft, source, true);
    // Those that are stopped here serve until they are withdrawn.
    let healthy = new.healthy() + old.healthy();
    let is_over = primary.rollout == Rollout::Failed;
    for (crew, is_kept) in
        [(&mut new, shift.returning || shift.stage >= Stage::ScaleUp), (&mut old, !shift.returning)]
    {
        match () {
            () if is_over => crew.shrink(),
            () if is_kept => crew.keep(draft, scene.backoff),
            () => crew.shrink(),
        }
    }
    let held = scene.progress.map(|progress| &progress.weights[..]).unwrap_or_default();
    let others = scene.others(&[&primary.id, &source.id]);
    let state = draft.view.state;
    let mut is_astray = traffic::leads_to(state, &others);
    if !is_over && !is_astray && traffic::given_back(held, source) == held {
        scene.stop(draft, &others);
    }
    if shift.returning {
        is_astray = is_astray || traffic::leads_to(state, &old.tasks());
    }
    for crew in [&mut new, &mut old] {
        crew.watch(draft);
        crew.finish(draft, scene.targets);
    }
    scene.calm(draft, &[&new, &old]);
    if !scene.is_new {
        scene.close_old(draft, Some(&source.id));
        scene.unsettle(draft);
    }
    if !is_over && (!scene.is_new || shift.returning) {
        let serves = if shift.returning { &new } else { &old };
        let rivals = rivals(draft, scene, source);
        let rival = rivals.iter().find(|rival| rival.serves_half());
        let sight = Sight {
            ready: new.is_steady(),
            serves: serves.serves_half(),
            others: !others.is_empty(),
            astray: is_astray,
            idle: scene.service.desired_count == 0 && healthy == 0,
            dead: healthy + rivals.iter().map(Crew::healthy).sum::<usize>() == 0,
            rival: rival.map(|rival| &rival.primary.id),
        };
        advance(draft, scene, held, sight);
    }
}

/// The crews of deployments that traffic may lead to although it is to come from another, newest
/// first.
fn rivals<'a>(draft: &Draft<'a, '_>, scene: &Scene<'a>, source: &Deployment) -> Vec<Crew<'a>> {
    let shift = scene.primary.shift.as_ref();
    let is_early = shift.is_some_and(|s| s.stage == Stage::ReconcileService);
    let all = scene.progress.filter(|_| is_early).into_iter().flat_map(|p| &p.deployments);
    let all = all.filter(|own| own.id != scene.primary.id && own.id != source.id);
    let all = all.filter(|own| is_whole(draft.view.state, own));
    all.map(|own| scene.crew(draft, own, true)).collect()
}

/// A first deployment: its stages, without another that traffic would come from.
pub(super) fn plan_first(draft: &mut Draft<'_, '_>, scene: &Scene<'_>, crew: &Crew<'_>) {
    if scene.is_new || scene.primary.rollout != Rollout::InProgress {
        return;
    }
    let held = scene.progress.map(|progress| &progress.weights[..]).unwrap_or_default();
    let idle = scene.service.desired_count == 0 && crew.healthy() == 0;
    let ready = crew.is_steady();
    let sight = Sight { ready, serves: true, idle, ..Sight::default() };
    advance(draft, scene, held, sight);
}

/// What of the tasks matters to the next stage.
#[derive(Clone, Copy, Debug, Default)]
struct Sight<'a> {
    /// The new deployment has all its tasks, and all are healthy.
    ready: bool,
    /// The one that traffic would be given back to has enough healthy tasks.
    serves: bool,
    /// Tasks of further deployments are there.
    others: bool,
    /// Names lead to tasks that they are to lead away from.
    astray: bool,
    /// Nobody serves, and nobody is to.
    idle: bool,
    /// Nobody serves.
    dead: bool,
    /// A further deployment that has enough healthy tasks.
    rival: Option<&'a DeploymentId>,
}

/// What comes next.
enum Next {
    Wait(Option<Timestamp>),
    Go(Shift, Vec<RuleWeights>),
    /// The traffic is to come from this deployment.
    Adopt(DeploymentId),
    Halt(String),
}

fn advance(draft: &mut Draft<'_, '_>, scene: &Scene<'_>, held: &[RuleWeights], sight: Sight<'_>) {
    let (Some(shift), primary) = (&scene.primary.shift, scene.primary) else { return };
    let case = Case {
        state: draft.view.state,
        service: scene.service,
        primary,
        hooks: scene.progress.map_or(&primary.strategy.hooks[..], |p| p.hooks_of(primary)),
        shift,
        source: scene.progress.zip(shift.source.as_ref()).and_then(|(p, id)| p.find(id)),
        held,
        sight,
        now: draft.now,
    };
    let key = &scene.service.key;
    match case.next(draft.rng) {
        Next::Wait(until) => until.into_iter().for_each(|until| draft.plan.revisit_at(until)),
        Next::Halt(message) => draft.event_once(key, message),
        Next::Adopt(source) => {
            let (service, deployment) = (key.clone(), primary.id.clone());
            draft.plan.moves.push(Move::Adopt { service, deployment, source });
        }
        Next::Go(next, writes) => {
            if next.share != shift.share {
                let percent = next.share.percent();
                draft.event(key, words::shifted(key, &primary.id, percent));
            }
            let (service, deployment) = (key.clone(), primary.id.clone());
            let shift = Box::new(next);
            draft.plan.moves.push(Move::Advance { service, deployment, shift, writes });
        }
    }
}

/// One deployment at one moment.
struct Case<'a> {
    state: &'a State,
    service: &'a Service,
    primary: &'a Deployment,
    /// Those that are told of it.
    hooks: &'a [Hook],
    shift: &'a Shift,
    source: Option<&'a Deployment>,
    held: &'a [RuleWeights],
    sight: Sight<'a>,
    now: Timestamp,
}

impl Case<'_> {
    fn next(&self, rng: &mut fastrand::Rng) -> Next {
        let Shift { stage, returning, insists, share, .. } = *self.shift;
        if stage == Stage::CleanUp {
            return Next::Wait(None);
        }
        if returning && share == Share::ALL {
            return self.tell_of_return(rng);
        }
        // A rule that is gone keeps nobody from going back.
        let is_there = |weights: &&RuleWeights| traffic::is_there(self.state, &weights.rule);
        let mut drifted = traffic::drifted(self.state, self.held);
        let drifted = drifted.find(|weights| !returning || !insists && is_there(weights));
        if let Some(weights) = drifted {
            let rule = called(weights);
            return Next::Halt(words::drifted(&self.service.key, &self.primary.id, &rule));
        }
        if returning {
            return self.go_back();
        }
        let prepared = match stage {
            Stage::ReconcileService => self.reconcile(),
            Stage::PreScaleUp => self.take(),
            _ => None,
        };
        if let Some(next) = prepared.or_else(|| self.hooks(rng)) {
            return next;
        }
        self.leave(stage)
    }

    fn at(&self, stage: Stage) -> Next {
        Next::Go(self.shift.at(stage, self.now), Vec::new())
    }

    /// From a stage with nothing left to do.
    fn leave(&self, stage: Stage) -> Next {
        let Shift { since, shifted_at, share, .. } = *self.shift;
        let strategy = &self.primary.strategy;
        match stage {
            Stage::ReconcileService if !strategy.kind.is_gradual() => self.at(Stage::CleanUp),
            Stage::ReconcileService => self.at(Stage::PreScaleUp),
            Stage::PreScaleUp => self.at(Stage::ScaleUp),
            Stage::ScaleUp if self.sight.ready => self.at(Stage::PostScaleUp),
            Stage::ScaleUp => Next::Wait(Some(since + LONGEST_STAGE)),
            Stage::PostScaleUp => self.shift_test(),
            Stage::TestTrafficShift => self.at(Stage::PostTestTrafficShift),
            Stage::PostTestTrafficShift => self.at(Stage::PreProductionTrafficShift),
            Stage::PreProductionTrafficShift => self.shift_production(),
            Stage::ProductionTrafficShift if share == Share::ALL => {
                self.at(Stage::PostProductionTrafficShift)
            }
            Stage::ProductionTrafficShift => {
                // How long depends on the step that was made, which began at the share before it.
                let baked = shifted_at + step_bake(strategy.kind, self.shift.steps);
                self.after(baked, Stage::PreProductionTrafficShift)
            }
            Stage::PostProductionTrafficShift => self.at(Stage::BakeTime),
            // There is nothing that it would have to be watched beside.
            Stage::BakeTime if self.shift.source.is_none() => self.at(Stage::CleanUp),
            Stage::BakeTime => self.after(since + strategy.bake, Stage::CleanUp),
            Stage::CleanUp => Next::Wait(None),
        }
    }

    fn after(&self, at: Timestamp, stage: Stage) -> Next {
        if self.now < at { Next::Wait(Some(at)) } else { self.at(stage) }
    }

    /// Takes back what the deployments between this one and its source were given. Where the source
    /// does not serve and one of them does, that one is the source.
    fn reconcile(&self) -> Option<Next> {
        let source = self.source?;
        let wanted = traffic::given_back(self.held, source);
        let Sight { serves, others, astray, idle, dead, rival, .. } = self.sight;
        let at_last = self.shift.since + LONGEST_STAGE;
        if wanted == self.held && !astray {
            return others.then_some(Next::Wait(Some(at_last)));
        }
        let is_over = self.now >= self.patient_until();
        let may = serves || idle || dead && is_over;
        Some(match rival {
            _ if may && self.fit(&wanted) => Next::Go(self.shift.clone(), wanted),
            _ if serves => Next::Wait(Some(at_last)),
            Some(rival) if is_over => Next::Adopt(rival.clone()),
            _ => self.wait_for(&source.id),
        })
    }

    /// Until when the deployment that is to have the traffic has time to serve.
    fn patient_until(&self) -> Timestamp {
        self.shift.since + PATIENCE
    }

    /// It does not serve: after that time this is told.
    fn wait_for(&self, source: &DeploymentId) -> Next {
        match self.now >= self.patient_until() {
            true => Next::Halt(words::divided(&self.service.key, &self.primary.id, source)),
            false => Next::Wait(Some(self.patient_until())),
        }
    }

    /// The rules become this deployment's: all traffic stays where it is, and whatever they say
    /// later is compared with that.
    fn take(&self) -> Option<Next> {
        let source = self.source?;
        let mut wanted = traffic::production(self.primary, Share::NONE);
        let test = traffic::test(self.primary, false);
        if let Some(halt) = self.unusable(&wanted, 1).or_else(|| self.unusable(&test, 0)) {
            return Some(halt);
        }
        wanted.extend(test);
        if wanted.iter().all(|weights| self.held.contains(weights)) {
            return None;
        }
        // Where the rules give nothing to anybody else, nothing is shifted.
        let is_whole = wanted.iter().all(|weights| {
            let now = traffic::forwarded(self.state, &weights.rule).unwrap_or_default();
            let gets = |group: &WeightedGroup| group.weight > 0;
            let served = weights.groups.iter().find(|group| gets(group));
            now.iter().filter(|g| gets(g)).all(|g| served.is_some_and(|own| own.group == g.group))
        });
        let Sight { serves, idle, dead, .. } = self.sight;
        let may = is_whole || serves || idle || dead && self.now >= self.patient_until();
        Some(match may {
            true => Next::Go(self.shift.clone(), wanted),
            false => self.wait_for(&source.id),
        })
    }

    /// A rule that is not there, that does something else, or that gives less than `least` to the
    /// side that has the traffic now.
    fn unusable(&self, wanted: &[RuleWeights], least: u32) -> Option<Next> {
        let is_usable = |weights: &&RuleWeights| {
            let now = traffic::forwarded(self.state, &weights.rule).unwrap_or_default();
            let mut served = weights.groups.iter().filter(|group| least == 0 || group.weight > 0);
            let has = |group| now.iter().any(|own| own.group == group && own.weight >= least);
            traffic::fits(self.state, weights) && served.any(|group| has(group.group.clone()))
        };
        let bad = wanted.iter().find(|weights| !is_usable(weights))?;
        let (key, id) = (&self.service.key, &self.primary.id);
        Some(Next::Halt(words::unusable(key, id, &called(bad))))
    }

    fn fit(&self, wanted: &[RuleWeights]) -> bool {
        wanted.iter().all(|weights| traffic::fits(self.state, weights))
    }

    fn may_shift(&self) -> bool {
        self.sight.ready || self.sight.idle
    }

    fn shift_test(&self) -> Next {
        let wanted = traffic::test(self.primary, true);
        if wanted.is_empty() {
            return self.at(Stage::TestTrafficShift);
        }
        if let Some(halt) = self.unusable(&wanted, 0) {
            return halt;
        }
        if !self.may_shift() {
            return Next::Wait(Some(self.shift.since + LONGEST_STAGE));
        }
        let shift = Shift { tested: true, ..self.shift.at(Stage::TestTrafficShift, self.now) };
        Next::Go(shift, wanted)
    }

    fn shift_production(&self) -> Next {
        let share = match self.source {
            Some(_) => self.primary.strategy.kind.step(self.shift.share).0,
            None => Share::ALL,
        };
        let wanted = traffic::production(self.primary, share);
        if let Some(halt) = self.unusable(&wanted, 0) {
            return halt;
        }
        if !self.may_shift() {
            return Next::Wait(Some(self.shift.since + LONGEST_STAGE));
        }
        let shift = Shift {
            share,
            named: share == Share::ALL,
            steps: self.shift.steps + 1,
            shifted_at: self.now,
            ..self.shift.at(Stage::ProductionTrafficShift, self.now)
        };
        Next::Go(shift, wanted)
    }

    /// All traffic comes back at once, and the names where they have to.
    fn go_back(&self) -> Next {
        let wanted = traffic::given_back(self.held, self.primary);
        let mut drifted = traffic::drifted(self.state, self.held);
        let is_written = wanted == self.held && drifted.next().is_none();
        let serves = self.sight.serves || self.sight.idle;
        let hears = |hook: &Hook| RETURN.iter().any(|stage| hook.stages.contains(stage));
        let stage = if self.hooks.iter().any(hears) { RETURN[0] } else { Stage::CleanUp };
        let at = self.shift.at(stage, self.now);
        let shift = Shift { share: Share::ALL, tested: true, named: true, ..at };
        if is_written && (!self.sight.astray || serves) {
            return Next::Go(shift, Vec::new());
        }
        let wanted: Vec<_> = wanted.into_iter().filter(|w| traffic::fits(self.state, w)).collect();
        match serves {
            true => Next::Go(shift, wanted),
            false => self.wait_for(&self.primary.id),
        }
    }

    /// Traffic is back; what failed stays until hooks have heard of it. Whatever they say, the way
    /// back goes on.
    fn tell_of_return(&self, rng: &mut fastrand::Rng) -> Next {
        let place = RETURN.iter().position(|stage| *stage == self.shift.stage);
        let next = place.and_then(|place| RETURN.get(place + 1)).copied();
        self.hooks(rng).unwrap_or_else(|| self.at(next.unwrap_or(Stage::CleanUp)))
    }

    /// Begins the hooks of this stage and waits for them. None: there is nothing to wait for.
    fn hooks(&self, rng: &mut fastrand::Rng) -> Option<Next> {
        let stage = self.shift.stage;
        let mut shift = self.shift.clone();
        let (mut waits, mut until) = (false, None);
        let all = self.hooks.iter().enumerate();
        for (index, hook) in all.filter(|(_, hook)| hook.stages.contains(&stage)) {
            let step = shift.steps;
            let own = |run: &&mut HookRun| (run.hook, run.stage, run.step) == (index, stage, step);
            let Some(run) = shift.hooks.iter_mut().find(own) else {
                shift.hooks.push(self.begin(index, hook, rng));
                continue;
            };
            match run.outcome(Some(hook), self.answers(), self.now) {
                HookOutcome::Passed(status) => run.status = status,
                HookOutcome::Waits(at) => {
                    waits = true;
                    until = [until, Some(at)].into_iter().flatten().min();
                }
                HookOutcome::Failed(status) if shift.returning => run.status = status,
                HookOutcome::Failed(_) => waits = true,
            }
        }
        if shift.hooks != self.shift.hooks {
            let surplus = shift.hooks.len().saturating_sub(HOOK_RUNS_KEPT);
            shift.hooks.drain(..surplus);
            return Some(Next::Go(shift, Vec::new()));
        }
        waits.then_some(Next::Wait(until))
    }

    fn answers(&self) -> &BTreeMap<String, HookAction> {
        &self.service.options.answers
    }

    fn begin(&self, index: usize, hook: &Hook, rng: &mut fastrand::Rng) -> HookRun {
        let status = match hook.target {
            HookTarget::Webhook(_) => HookStatus::InProgress,
            HookTarget::Pause => HookStatus::AwaitingAction,
        };
        HookRun {
            id: format!("{:032x}", rng.u128(..)),
            hook: index,
            stage: self.shift.stage,
            step: self.shift.steps,
            status,
            expires_at: self.now + hook.timeout.unwrap_or(HOOK_TIMEOUT),
            next_at: self.now,
            errors: 0,
        }
    }
}

fn called(weights: &RuleWeights) -> String {
    format!("rule {}", weights.rule)
}

/// How long the share of the last step is baked.
fn step_bake(kind: StrategyKind, steps: u32) -> Duration {
    let before = if steps > 1 { Share::ALL } else { Share::NONE };
    kind.step(before).1
}

/// Whether a hook of the deployment has failed, or was not answered in time.
pub(super) fn has_failed_hook(
    deployment: &Deployment,
    answers: &BTreeMap<String, HookAction>,
    now: Timestamp,
) -> bool {
    let hooks = &deployment.strategy.hooks;
    let mut runs = deployment.shift.iter().flat_map(|shift| &shift.hooks);
    runs.any(|run| matches!(run.outcome(hooks.get(run.hook), answers, now), HookOutcome::Failed(_)))
}

/// Whether a stage has taken too long that is waited for by nobody's wish.
pub(super) fn is_overdue(deployment: &Deployment, now: Timestamp) -> bool {
    let Some(shift) = &deployment.shift else { return false };
    let wished = match shift.stage {
        Stage::ProductionTrafficShift | Stage::BakeTime | Stage::CleanUp => true,
        _ => shift.hooks.iter().any(|run| run.status.is_open()),
    };
    !wished && now >= shift.since + LONGEST_STAGE
}
