//! What metrics say to alarms and policies at one moment.
//!
//! Taken before the plan, which may be made twice from one reading. **Invariant:** a rule is read
//! once a minute, or when a shorter period of it has just ended.

use std::collections::{BTreeMap, BTreeSet};

use super::alarm::{self, Side};
use crate::clock::Timestamp;
use crate::config::ScalingProfile;
use crate::model::{AlarmName, AlarmState, PolicyRule, ScalingKey, TargetGroupName};
use crate::routing::Routing;
use crate::series::Series;
use crate::state::State;

#[derive(Clone, Debug, Default)]
pub(super) struct Readings {
    /// Of the alarms that clients made: their periods' values, oldest first.
    pub(super) alarms: BTreeMap<AlarmName, Vec<Option<f64>>>,
    pub(super) tracks: BTreeMap<ScalingKey, Track>,
    /// Groups without a target for which requests wait.
    pub(super) wanted: BTreeSet<TargetGroupName>,
}

/// What the two alarms of a target tracking policy come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Track {
    pub(super) high: bool,
    pub(super) low: bool,
    /// Of the newest period.
    pub(super) value: Option<f64>,
}

impl Readings {
    pub(super) fn take(
        state: &State,
        series: &Series,
        now: Timestamp,
        profile: ScalingProfile,
    ) -> Self {
        let alarms = state.alarms.values();
        let due = alarms.filter(|alarm| alarm::is_due(&alarm.rule, now, profile));
        let alarms = due.map(|alarm| {
            let looked_at = (&alarm.rule, alarm.queries.as_slice());
            (alarm.name.clone(), alarm::read(series, looked_at, now, profile))
        });
        let tracks = state.scaling_policies.values().filter_map(|policy| {
            let PolicyRule::Track(tracking) = &policy.rule else { return None };
            let of = |side| {
                let rule = alarm::rule(&policy.key.service, tracking, side);
                let due = alarm::is_due(&rule, now, profile);
                let queries = alarm::queries(tracking);
                due.then(|| (alarm::read(series, (&rule, queries), now, profile), rule))
            };
            let ((high, high_rule), (low, low_rule)) = (of(Side::High)?, of(Side::Low)?);
            let alarmed =
                |rule, values| alarm::evaluate(rule, values, AlarmState::Ok) == AlarmState::Alarm;
            let track = Track {
                high: alarmed(&high_rule, &high),
                low: alarmed(&low_rule, &low),
                value: high.last().copied().flatten(),
            };
            Some((policy.key.clone(), track))
        });
        let (alarms, tracks) = (alarms.collect(), tracks.collect());
        Self { alarms, tracks, wanted: BTreeSet::new() }
    }

    /// And what the planes show at this moment.
    pub(super) fn beside(self, routing: &Routing) -> Self {
        let wanted = routing.groups.values().filter(|group| group.gate.held() > 0);
        Self { wanted: wanted.map(|group| group.name.clone()).collect(), ..self }
    }
}
