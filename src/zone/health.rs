//! Whether a record set is healthy, as far as its health check and its alias's target say.
//!
//! Source: Route 53 developer guide, "How Amazon Route 53 chooses records when health checking is
//! configured". Pure. **Invariant:** a chain of aliases ends, healthy or not.

use std::collections::HashMap;

use super::ZoneContext;
use crate::model::{LoadBalancer, RecordSet, TargetGroupName, VerdictState};
use crate::state::State;

/// Aliases that are followed (ours; longer chains are loops, or as good as).
const MOST_ALIASES: usize = 8;

/// What is known of one State.
pub(super) struct Health<'a> {
    state: &'a State,
    /// By their DNS names.
    balancers: HashMap<String, &'a LoadBalancer>,
}

impl<'a> Health<'a> {
    pub(super) fn new(state: &'a State, context: &ZoneContext) -> Self {
        let evaluated =
            |row: &RecordSet| row.alias.as_ref().is_some_and(|a| a.evaluate_target_health);
        let mut balancers = HashMap::new();
        if state.record_sets.values().any(|row| evaluated(row)) {
            let name = |lb: &LoadBalancer| lb.dns_name(&context.region, &context.domain);
            let all = state.load_balancers.values().map(AsRef::as_ref);
            balancers.extend(all.map(|lb| (name(lb).to_ascii_lowercase(), lb)));
        }
        Self { state, balancers }
    }

    pub(super) fn is_healthy(&self, row: &RecordSet) -> bool {
        self.within(row, MOST_ALIASES)
    }

    fn within(&self, row: &RecordSet, left: usize) -> bool {
        let check = row.health_check.as_ref();
        let check = check.and_then(|id| Some((self.state.name_checks.get(id)?, id)));
        let checked = check.is_none_or(|(check, id)| {
            check.is_healthy(self.state.name_statuses.get(id).map(AsRef::as_ref))
        });
        let Some(alias) = row.alias.as_ref().filter(|alias| alias.evaluate_target_health) else {
            return checked;
        };
        let name = alias.name.strip_prefix("dualstack.").unwrap_or(&alias.name);
        let target = match (self.balancers.get(name), left.checked_sub(1)) {
            (Some(lb), _) => self.carries(lb),
            (None, None) => true,
            // A branch is healthy when one of its leaves is.
            (None, Some(left)) => {
                let rows = self.state.record_sets_at(&row.key.zone, &alias.name);
                let mut rows = rows.filter(|to| to.key.kind == row.key.kind);
                rows.any(|to| self.within(to, left))
            }
        };
        checked && target
    }

    /// A load balancer is healthy when each of its target groups that has targets has a healthy
    /// one, and when one has targets at all.
    fn carries(&self, lb: &LoadBalancer) -> bool {
        let listeners =
            self.state.listeners.values().filter(|row| row.key.load_balancer == lb.name);
        let groups = listeners.flat_map(|row| row.actions().flat_map(|action| action.groups()));
        let mut counts: HashMap<&TargetGroupName, (usize, usize)> =
            groups.map(|weighted| (&weighted.group, (0, 0))).collect();
        for target in self.state.targets.values().filter(|target| target.is_active()) {
            let Some((all, healthy)) = counts.get_mut(&target.group) else { continue };
            *all += 1;
            let verdict = self.state.verdict_state(target.id);
            *healthy += usize::from(verdict == VerdictState::Healthy);
        }
        let mut used = counts.values().filter(|(all, _)| *all > 0).peekable();
        used.peek().is_some() && used.all(|(_, healthy)| *healthy > 0)
    }
}
