//! One service's share of the plan: ECS's rolling deployment, scaling and replacement.
//!
//! **Invariant:** no start lifts the live tasks above `maximumPercent`, and no stop of a healthy
//! task leaves fewer healthy ones than `minimumHealthyPercent`. Tasks already told to stop count as
//! neither.

use std::collections::{BTreeMap, BTreeSet};

use super::gradual;
use super::health::{self, Health, Leaving, Member};
use super::rollout::{self, Course};
use super::{Draft, Move, Targets, Unstarted, Why, new_task, zones};
use crate::clock::Timestamp;
use crate::model::{
    Backoff, Contact, Deployment, DeploymentId, InstanceName, Progress, Rollout, Service,
    ServiceStatus, Stage, Task, TaskId, TaskStatus,
};
use crate::orchestrator::words;

/// Failed rounds after which the service says that its starts fail (ours: the first that has to
/// wait).
const INCONSISTENT: u32 = 3;

/// `lower=ceil(desired*min/100)`.
pub(super) fn lower(service: &Service) -> usize {
    let product = u64::from(service.desired_count) * u64::from(service.minimum_healthy_percent);
    usize::try_from(product.div_ceil(100)).unwrap_or(usize::MAX)
}

/// `upper=floor(desired*max/100)`.
pub(super) fn upper(service: &Service) -> usize {
    let product = u64::from(service.desired_count) * u64::from(service.maximum_percent);
    usize::try_from(product / 100).unwrap_or(usize::MAX)
}

pub(super) fn plan(
    draft: &mut Draft<'_, '_>,
    service: &Service,
    tasks: &[&Task],
    targets: &Targets<'_>,
) {
    if service.status == ServiceStatus::Draining {
        return delete(draft, service, tasks, targets);
    }
    let progress = draft.view.state.progress.get(&service.key).cloned();
    let progress = progress.as_deref();
    let Course { service, primary, is_new } = rollout::course(draft, service, progress);
    let backoff = if is_new { None } else { progress.map(|progress| &progress.backoff) };
    let (mut service, mut homes) = (service, None);
    if service.policy.daemon {
        let state = draft.view.state;
        let all = draft.board().daemon_homes(state, &service);
        let (key, count) = (service.key.clone(), u32::try_from(all.len()).unwrap_or(u32::MAX));
        if service.desired_count != count {
            service.desired_count = count;
            draft.plan.moves.push(Move::Resize { service: key, count });
        }
        homes = Some(all);
    }
    let (service, primary, homes) = (&service, &primary, homes.as_ref());
    let scene = Scene { homes, service, primary, progress, tasks, targets, backoff, is_new };
    match gradual::source(&scene) {
        Some(source) => gradual::plan(draft, &scene, source),
        None => roll(draft, &scene),
    }
}

/// The tasks of the newest deployment take the places of all others.
fn roll(draft: &mut Draft<'_, '_>, scene: &Scene<'_>) {
    let primary = scene.primary;
    let mut crew = scene.crew(draft, primary, false);
    let shift = primary.shift.as_ref();
    if primary.rollout == Rollout::Failed {
        crew.shrink();
    } else if shift.is_none_or(|shift| shift.stage >= Stage::ScaleUp) {
        crew.scale_in(draft);
        crew.stop_replaced();
        crew.retire_old();
        let waiting = crew.start(draft, scene.backoff);
        crew.make_room(draft, waiting);
        zones::rebalance(draft, &mut crew, scene.backoff);
    }
    crew.watch(draft);
    crew.finish(draft, scene.targets);
    scene.calm(draft, &[&crew]);
    if !scene.is_new {
        scene.close_old(draft, None);
    }
    if let Some(progress) = scene.progress.filter(|_| !scene.is_new) {
        rollout::settle(draft, &crew, progress);
    }
    if shift.is_some() {
        gradual::plan_first(draft, scene, &crew);
    }
}

/// A service, and what of the State concerns it.
pub(super) struct Scene<'a> {
    pub(super) service: &'a Service,
    pub(super) primary: &'a Deployment,
    pub(super) progress: Option<&'a Progress>,
    pub(super) tasks: &'a [&'a Task],
    pub(super) targets: &'a Targets<'a>,
    pub(super) backoff: Option<&'a Backoff>,
    /// The newest deployment was another before this plan.
    pub(super) is_new: bool,
    /// The instances on which a DAEMON service has its tasks.
    pub(super) homes: Option<&'a BTreeSet<InstanceName>>,
}

impl<'a> Scene<'a> {
    /// The live tasks, judged as those of `deployment`; its own alone, if they are wanted so.
    pub(super) fn crew(
        &self,
        draft: &Draft<'a, '_>,
        deployment: &'a Deployment,
        own: bool,
    ) -> Crew<'a> {
        let mut live = Vec::with_capacity(self.tasks.len());
        for task in self.tasks.iter().copied().filter(|task| task.is_live()) {
            if own && task.deployment.as_ref() != Some(&deployment.id) {
                continue;
            }
            let registered = self.targets.get(&task.id).map_or(&[][..], Vec::as_slice);
            let (view, now) = (&draft.view, draft.now);
            let service = self.service;
            let mut member = health::member(view, service, deployment, task, registered, now);
            if self.homes.is_some_and(|homes| !homes.contains(&task.instance)) {
                (member.primary, member.leaving) = (false, Some(Leaving::NoHome));
            }
            live.push(member);
        }
        let moved = zones::moved(&live);
        for member in live.iter_mut().filter(|member| moved.contains(&member.task.id)) {
            member.primary = false;
            member.leaving = member.leaving.or(Some(Leaving::Rebalanced));
        }
        let (stops, starts) = (Vec::new(), Vec::new());
        let (service, primary, homes) = (self.service, deployment, self.homes);
        Crew { service, primary, homes, live, stops, starts }
    }

    /// The live tasks of none of these deployments.
    pub(super) fn others(&self, than: &[&DeploymentId]) -> Vec<&'a Task> {
        let other = |task: &&Task| task.deployment.as_ref().is_none_or(|id| !than.contains(&id));
        self.tasks.iter().copied().filter(|task| task.is_live()).filter(other).collect()
    }

    /// Stops those that nothing protects.
    pub(super) fn stop(&self, draft: &mut Draft<'_, '_>, tasks: &[&'a Task]) {
        let now = draft.now;
        let free = tasks.iter().copied().filter(|task| !task.is_protected(now));
        let stops: Vec<&Task> = free.collect();
        for task in &stops {
            let (task, why) = (task.id.clone(), Why::Deployment);
            draft.plan.moves.push(Move::Stop { task, why });
        }
        for until in tasks.iter().filter_map(|task| task.protected_until.filter(|at| *at > now)) {
            draft.plan.revisit_at(until);
        }
        tell_stops(draft, self.service, &stops, self.targets);
    }

    /// Forgets failures that are long ago.
    pub(super) fn calm(&self, draft: &mut Draft<'_, '_>, crews: &[&Crew<'_>]) {
        let over = |backoff: &&Backoff| crews.iter().any(|crew| is_over(backoff, crew, draft));
        if self.backoff.filter(over).is_some() {
            draft.plan.moves.push(Move::Calm(self.service.key.clone()));
        }
    }

    pub(super) fn close_old(&self, draft: &mut Draft<'_, '_>, kept: Option<&DeploymentId>) {
        if let Some(progress) = self.progress {
            rollout::close_old(draft, progress, self.tasks, kept);
        }
    }

    /// Nothing is steady before the deployment is through.
    pub(super) fn unsettle(&self, draft: &mut Draft<'_, '_>) {
        if self.progress.is_some_and(|progress| progress.steady) {
            let service = self.service.key.clone();
            draft.plan.moves.push(Move::Steady { service, steady: false });
        }
    }
}

/// A deleted service: everything stops; when nothing is left, it vanishes.
fn delete(draft: &mut Draft<'_, '_>, service: &Service, tasks: &[&Task], targets: &Targets<'_>) {
    if tasks.is_empty() {
        draft.plan.moves.push(Move::ForgetService(service.key.clone()));
        return;
    }
    let stops: Vec<&Task> = tasks.iter().copied().filter(|task| task.is_live()).collect();
    for task in &stops {
        draft.plan.moves.push(Move::Stop { task: task.id.clone(), why: Why::Deleted });
    }
    tell_stops(draft, service, &stops, targets);
}

/// The live tasks of one service, and what is decided of them so far.
pub(super) struct Crew<'a> {
    pub service: &'a Service,
    pub primary: &'a Deployment,
    homes: Option<&'a BTreeSet<InstanceName>>,
    /// In the order they were created; those decided to stop are taken out.
    pub(super) live: Vec<Member<'a>>,
    stops: Vec<(&'a Task, Why)>,
    starts: Vec<Task>,
}

impl<'a> Crew<'a> {
    pub(super) fn tasks(&self) -> Vec<&'a Task> {
        self.live.iter().map(|member| member.task).collect()
    }

    fn desired(&self) -> usize {
        usize::try_from(self.service.desired_count).unwrap_or(usize::MAX)
    }

    fn count(&self, which: impl Fn(&Member<'_>) -> bool) -> usize {
        self.live.iter().filter(|member| which(member)).count()
    }

    /// Keeps as many tasks of one deployment as are desired, healthy ones, whatever else runs.
    pub(super) fn keep(&mut self, draft: &mut Draft<'_, '_>, backoff: Option<&Backoff>) {
        self.scale_in(draft);
        self.stop_replaced();
        self.retire_old();
        let waiting = self.start(draft, backoff);
        self.make_room(draft, waiting);
    }

    /// Enough of them to carry all the traffic for a moment (ours: half).
    pub(super) fn serves_half(&self) -> bool {
        let healthy = self.healthy();
        healthy > 0 && healthy * 2 >= self.desired()
    }

    pub(super) fn healthy(&self) -> usize {
        self.count(|member| member.health == Health::Healthy)
    }

    /// Of the newest deployment and not to be replaced.
    fn good(&self) -> usize {
        self.count(|member| member.primary && member.health != Health::Unhealthy)
    }

    fn stop(&mut self, id: &TaskId, why: Why) {
        if let Some(place) = self.live.iter().position(|member| &member.task.id == id) {
            self.stops.push((self.live.remove(place).task, why));
        }
    }

    /// The newest deployment has failed and nothing is started any more: what serves stays, and of
    /// more tasks than desired those that serve badly go first, then those that no traffic is to
    /// go to: that deployment's, unless it was shifted to it.
    pub(super) fn shrink(&mut self) {
        let surplus = self.live.len().saturating_sub(self.desired());
        let free = self.live.iter().rev().filter(|member| !member.protected);
        let mut victims: Vec<Member<'a>> = free.copied().collect();
        let shift = self.primary.shift.as_ref();
        let has_traffic = shift.is_some_and(|shift| shift.stage == Stage::CleanUp);
        victims.sort_by_key(|member| (member.health, member.primary == has_traffic));
        for member in self.spared(victims, surplus) {
            match member.health {
                Health::Unhealthy => self.stop_unhealthy(&member),
                _ => self.stop(&member.task.id, Why::Deployment),
            }
        }
    }

    /// The first of `victims`, as many as may go; of those that serve no more than the minimum
    /// spares, for protection may have left only them to choose from.
    fn spared(&self, victims: Vec<Member<'a>>, most: usize) -> Vec<Member<'a>> {
        let serves = |member: &Member<'a>| member.health == Health::Healthy;
        let mut spare = self.healthy().saturating_sub(lower(self.service));
        let mut chosen = victims;
        chosen.truncate(most);
        chosen.retain(|member| {
            let goes = !serves(member) || spare > 0;
            spare -= usize::from(goes && serves(member));
            goes
        });
        chosen
    }

    /// More good tasks than desired: those not running go first, then the newest.
    fn scale_in(&mut self, draft: &mut Draft<'_, '_>) {
        let surplus = self.good().saturating_sub(self.desired());
        let good = |m: &&Member<'a>| m.primary && m.health != Health::Unhealthy && !m.protected;
        if surplus == 0 {
            return;
        }
        let victims: Vec<Member<'a>> = self.live.iter().rev().filter(good).copied().collect();
        let victims = zones::in_order(draft, self.service, victims, &self.live);
        for member in self.spared(victims, surplus) {
            self.stop(&member.task.id, Why::ScaleIn);
        }
    }

    /// Unhealthy tasks whose replacement is healthy; where both are unhealthy, the newer one.
    fn stop_replaced(&mut self) {
        let healthy = self.count(|m| m.primary && m.health == Health::Healthy);
        let replaced = |id: &TaskId| {
            self.live
                .iter()
                .any(|m| m.health == Health::Healthy && m.task.replaces.as_ref() == Some(id))
        };
        let bad = self.live.iter().rev().filter(|m| m.primary && m.health == Health::Unhealthy);
        let mut victims: Vec<_> = bad.map(|member| (!replaced(&member.task.id), *member)).collect();
        let surplus = (healthy + victims.len()).saturating_sub(self.desired());
        victims.sort_by_key(|(kept, ..)| *kept);
        for (_, member) in victims.into_iter().take(surplus) {
            self.stop_unhealthy(&member);
        }
    }

    fn stop_unhealthy(&mut self, member: &Member<'_>) {
        // The group's name stands in until `finish`, which knows the account, makes an ARN of it.
        let group = member.failing.map(|target| format!("{:#}", target.group));
        let why = if member.lost { Why::Lost } else { Why::Unhealthy(group) };
        self.stop(&member.task.id, why);
    }

    /// Tasks of older deployments, and those that are to leave their instances, as far as enough
    /// others serve.
    fn retire_old(&mut self) {
        let lower = lower(self.service);
        // Protection is from scale-in and deployments, not from an instance that is drained.
        let free = |m: &Member<'a>| !m.protected || m.leaving == Some(Leaving::Draining);
        let old = |member: &&Member<'a>| !member.primary && free(member);
        let mut victims: Vec<Member<'a>> = self.live.iter().filter(old).copied().collect();
        victims.sort_by_key(|member| member.health);
        let serving = self.healthy()
            + victims
                .iter()
                .filter(|member| !matches!(member.health, Health::Starting | Health::Healthy))
                .count();
        let mut spare = serving.saturating_sub(lower);
        // Old tasks that serve nobody well must not keep the new ones from starting (maximumPercent
        // 100).
        let full = self.live.len() >= upper(self.service);
        let mut room = if full { self.desired().saturating_sub(self.good()) } else { 0 };
        for member in victims {
            let health = member.health;
            let free = match health {
                Health::Starting => true,
                Health::Healthy => spare > 0,
                Health::Unhealthy | Health::Spared | Health::Waiting => spare > 0 || room > 0,
            };
            if free {
                if health != Health::Starting {
                    spare = spare.saturating_sub(1);
                }
                room = room.saturating_sub(1);
                let why = match member.leaving {
                    _ if member.lost => Why::Lost,
                    Some(Leaving::Draining) => Why::Draining,
                    Some(Leaving::Rebalanced) => Why::Rebalancing,
                    Some(Leaving::NoHome) => Why::ScaleIn,
                    None => Why::Deployment,
                };
                self.stop(&member.task.id, why);
            }
        }
    }

    /// Starts what is missing; true while the back-off forbids it.
    fn start(&mut self, draft: &mut Draft<'_, '_>, backoff: Option<&Backoff>) -> bool {
        let missing = self.desired().saturating_sub(self.good());
        let count = missing.min(upper(self.service).saturating_sub(self.live.len()));
        if missing == 0 {
            return false;
        }
        if let Some(until) = backoff.and_then(|backoff| backoff.until)
            && until > draft.now
            // A wall clock that was set back must not block starts for longer than the longest
            // wait.
            && until.since(draft.now) <= draft.view.settings.backoff.cap
        {
            draft.plan.revisit_at(until);
            if backoff.is_some_and(|backoff| backoff.failures >= INCONSISTENT) {
                draft.event_once(&self.service.key, words::inconsistent(&self.service.key));
            }
            return true;
        }
        let replaced = |id: &TaskId| self.live.iter().any(|m| m.task.replaces.as_ref() == Some(id));
        let bad = self.live.iter().filter(|m| m.primary && m.health == Health::Unhealthy);
        let bad: Vec<TaskId> = bad.map(|m| m.task.id.clone()).filter(|id| !replaced(id)).collect();
        let mut bad = bad.into_iter();
        for _ in 0..count {
            let (key, only) = (&self.service.key, self.bare_homes());
            match new_task(draft, key, self.primary, bad.next(), only.as_ref()) {
                Ok(task) => self.starts.push(task),
                Err(why) => {
                    let message = match why {
                        Unstarted::NoAddress => words::no_address(key),
                        Unstarted::Unplaced(unplaced) => words::unplaced(key, &unplaced),
                    };
                    draft.event_once(key, message);
                    break;
                }
            }
        }
        false
    }

    /// Where a DAEMON service has no task yet.
    fn bare_homes(&self) -> Option<BTreeSet<InstanceName>> {
        let good = self.live.iter().filter(|m| m.primary && m.health != Health::Unhealthy);
        let taken: BTreeSet<&InstanceName> = good
            .map(|member| &member.task.instance)
            .chain(self.starts.iter().map(|task| &task.instance))
            .collect();
        let bare = |homes: &BTreeSet<InstanceName>| {
            homes.iter().filter(|home| !taken.contains(home)).cloned().collect()
        };
        self.homes.map(bare)
    }

    /// One more task, beside those that are missing.
    pub(super) fn begin(&mut self, task: Task) {
        self.starts.push(task);
    }

    /// Nothing is decided so far.
    pub(super) fn is_idle(&self) -> bool {
        self.stops.is_empty() && self.starts.is_empty()
    }

    /// `maximumPercent` forbids the replacement to start first: an unhealthy task at random goes
    /// before it, one at a time.
    fn make_room(&mut self, draft: &mut Draft<'_, '_>, waiting: bool) {
        let missing = self.desired().saturating_sub(self.good());
        let moving = !self.is_idle() || waiting;
        let full = self.live.len() >= upper(self.service);
        let settling =
            self.count(|m| m.primary && matches!(m.health, Health::Starting | Health::Waiting)) > 0;
        if missing == 0 || moving || !full || settling {
            return;
        }
        // Those that may still run go only where another place could take them.
        let other = draft.view.state.instances.values();
        let other = other.filter(|row| row.contact == Contact::Connected).count() > 0;
        let bad = |m: &&Member<'a>| m.primary && m.health == Health::Unhealthy;
        let bad: Vec<_> = self.live.iter().filter(bad).filter(|m| other || !m.lost).collect();
        if bad.is_empty() {
            if self.count(|member| !member.primary) > 0 {
                draft.event_once(&self.service.key, words::stuck(&self.service.key));
            }
            return;
        }
        let victim = bad[draft.rng.usize(0..bad.len())];
        let victim = *victim;
        self.stop_unhealthy(&victim);
    }

    /// Marks who has become healthy, says when protection holds up a scale-in, and looks again
    /// when a task's situation changes by itself.
    pub(super) fn watch(&self, draft: &mut Draft<'_, '_>) {
        let fresh = |member: &&Member<'_>| {
            member.health == Health::Healthy && member.task.healthy_at.is_none()
        };
        let healthy = self.live.iter().filter(fresh).map(|m| Move::Healthy(m.task.id.clone()));
        draft.plan.moves.extend(healthy);
        for at in self.live.iter().filter_map(|member| member.changes_at) {
            draft.plan.revisit_at(at);
        }
        if self.count(|member| member.protected) > self.desired() {
            let (key, deployment) = (&self.service.key, &self.primary.id);
            draft.event_once(key, words::too_many_protected(key, deployment));
        }
    }

    /// Turns the decisions into moves and tells them.
    pub(super) fn finish(&mut self, draft: &mut Draft<'_, '_>, targets: &Targets<'_>) {
        let service = self.service;
        self.tell_unhealthy(draft);
        let (account, state) = (&draft.view.settings.account, draft.view.state);
        let arn = |name: String| match state.target_groups.get(&name.as_str().into()) {
            Some(group) => account.target_group(group).to_string(),
            None => name,
        };
        let stopped: Vec<&Task> = self.stops.iter().map(|(task, _)| *task).collect();
        let starts: Vec<TaskId> = self.starts.iter().map(|task| task.id.clone()).collect();
        for (task, why) in std::mem::take(&mut self.stops) {
            let why = match why {
                Why::Unhealthy(group) => Why::Unhealthy(group.map(arn)),
                other => other,
            };
            draft.plan.moves.push(Move::Stop { task: task.id.clone(), why });
        }
        let boxed = std::mem::take(&mut self.starts).into_iter().map(|t| Move::Start(Box::new(t)));
        draft.plan.moves.extend(boxed);
        if !starts.is_empty() {
            draft.event(&service.key, words::started(&service.key, &starts));
        }
        tell_stops(draft, service, &stopped, targets);
    }

    /// Says which tasks are being replaced for their health, when the replacement begins.
    fn tell_unhealthy(&self, draft: &mut Draft<'_, '_>) {
        let (account, state) = (&draft.view.settings.account, draft.view.state);
        let mut told = Vec::new();
        let begins =
            |m: &Member<'_>| self.starts.iter().any(|t| t.replaces.as_ref() == Some(&m.task.id));
        let sick = self.live.iter().filter(|m| m.primary && m.health == Health::Unhealthy);
        let mut own = 0;
        for member in sick.filter(|m| begins(m)) {
            let Some(target) = member.failing else {
                own += 1;
                continue;
            };
            let Some(group) = state.target_groups.get(&target.group) else { continue };
            let reason = match state.verdict(target.id) {
                Some(verdict) if !verdict.description.is_empty() => verdict.description.clone(),
                _ => "Health checks failed".to_owned(),
            };
            let arn = account.target_group(group).to_string();
            told.push(words::unhealthy(
                &self.service.key,
                &member.task.id,
                target.port,
                &arn,
                &reason,
            ));
        }
        for message in told {
            draft.event_once(&self.service.key, message);
        }
        if own > 0 {
            draft.event(&self.service.key, words::replaced(&self.service.key, own));
        }
    }

    pub(super) fn is_steady(&self) -> bool {
        self.live.len() == self.desired()
            && self.primary.rollout != Rollout::Failed
            && self.live.iter().all(|m| m.primary && m.health == Health::Healthy)
    }
}

/// ECS's three lines about tasks that are being stopped.
fn tell_stops(
    draft: &mut Draft<'_, '_>,
    service: &Service,
    stopped: &[&Task],
    targets: &Targets<'_>,
) {
    if stopped.is_empty() {
        return;
    }
    let ids: Vec<TaskId> = stopped.iter().map(|task| task.id.clone()).collect();
    draft.event(&service.key, words::stopped(&service.key, &ids));
    let active = |task: &TaskId| targets.get(task).into_iter().flatten().filter(|t| t.is_active());
    let mut groups = BTreeMap::new();
    for target in ids.iter().flat_map(active) {
        *groups.entry(&target.group).or_insert(0) += 1;
    }
    for (name, count) in groups {
        if let Some(group) = draft.view.state.target_groups.get(name) {
            let arn = draft.view.settings.account.target_group(group).to_string();
            draft.event(&service.key, words::deregistered(&service.key, count, &arn));
        }
    }
    let draining = ids.iter().filter(|id| active(id).next().is_some()).count();
    if draining > 0 {
        draft.event(&service.key, words::draining(&service.key, draining));
    }
}

/// No failure since the last wait ended, and a task that has lasted.
fn is_over(backoff: &Backoff, crew: &Crew<'_>, draft: &Draft<'_, '_>) -> bool {
    let reset = draft.view.settings.backoff.reset;
    let lasted = |at: Option<Timestamp>| at.is_some_and(|at| at + reset <= draft.now);
    backoff.failures > 0
        && lasted(backoff.until)
        && crew
            .live
            .iter()
            .any(|m| m.primary && m.task.known == TaskStatus::Running && lasted(m.task.started_at))
}
