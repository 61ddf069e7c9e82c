//! Alarms: those that clients made, and those that follow from target tracking policies.
//!
//! **Invariant:** an alarm of target tracking is no row: it lives and goes with its policy, and
//! cannot be changed.

use serde::Deserialize;
use serde_json::{Value, json};

use super::metric::{self, Dimension};
use super::queries::{self, Query};
use crate::api::call::{Call, Input, Outcome};
use crate::api::error::Error;
use crate::api::page::{BadToken, page};
use crate::api::tags::{self, Tag};
use crate::api::wire::time;
use crate::clock::Timestamp;
use crate::model::{
    Account, Alarm, AlarmGiven, AlarmName, AlarmRule, AlarmState, Comparison, MetricId,
    MetricQuery, Missing, PolicyRule, ScalingPolicy, Statistic,
};
use crate::orchestrator::alarm::{self, Side};
use crate::series::math::Bad;
use crate::series::math::queries::Queries;
use crate::state::{Key, State, Tx};

/// Alarms of one page, and names of one request (CloudWatch's).
const PAGE: i64 = 100;
/// Alarms in all (CloudWatch's quota).
const MOST: usize = 5000;
/// The longest time that an alarm looks back: as long as data is kept.
const LOOKS_BACK: i64 = 3 * 3600;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Put {
    alarm_name: String,
    alarm_description: Option<String>,
    actions_enabled: Option<bool>,
    #[serde(default)]
    alarm_actions: Vec<String>,
    metric_name: Option<String>,
    namespace: Option<String>,
    statistic: Option<String>,
    #[serde(default)]
    dimensions: Vec<Dimension>,
    period: Option<i64>,
    unit: Option<String>,
    evaluation_periods: Option<i64>,
    datapoints_to_alarm: Option<i64>,
    threshold: Option<f64>,
    comparison_operator: Option<String>,
    treat_missing_data: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    metrics: Vec<Query>,
}

fn required(name: &str) -> Error {
    Error::new("MissingParameter", format!("The parameter {name} is required."))
}

impl Put {
    /// The queries that stand in place of a metric.
    fn queries(&mut self, place: &str) -> Result<Vec<MetricQuery>, Error> {
        if self.metrics.is_empty() {
            return Ok(Vec::new());
        }
        let has_metric = self.metric_name.is_some() || self.namespace.is_some();
        let has_more = self.statistic.is_some() || self.period.is_some() || self.unit.is_some();
        if has_metric || has_more || !self.dimensions.is_empty() {
            return Err(Error::invalid(
                "An alarm has either Metrics or a MetricName with Namespace, Dimensions, Period, \
                 Statistic and Unit",
            ));
        }
        queries::looked_at(place, std::mem::take(&mut self.metrics))
    }

    fn rule(&self, place: &str, queries: &[MetricQuery]) -> Result<AlarmRule, Error> {
        let unclear = |why: Bad| Error::invalid(why.to_string());
        let (metric, statistic, period) = match queries {
            [] => {
                let name = self.metric_name.clone().ok_or_else(|| required("MetricName"))?;
                let namespace = self.namespace.clone().ok_or_else(|| required("Namespace"))?;
                let statistic = self.statistic.as_deref().and_then(Statistic::parse);
                let period = self.period.ok_or_else(|| required("Period"))?;
                if self.unit.as_deref().is_some_and(|unit| unit != metric::unit(&name)) {
                    let unit = metric::unit(&name);
                    let text = format!("Unit: {name} is measured in {unit} here");
                    return Err(Error::invalid(text));
                }
                (metric::id(place, namespace, name, self.dimensions.clone()), statistic, period)
            }
            queries => {
                let period = Queries::read(queries).map_err(unclear)?.period();
                let period = i64::from(period.unwrap_or_default());
                (MetricId::new("", "", &[]), Some(Statistic::Average), period)
            }
        };
        metric::period(period)?;
        let periods = self.evaluation_periods.ok_or_else(|| required("EvaluationPeriods"))?;
        let breaching = self.datapoints_to_alarm.unwrap_or(periods);
        if periods < 1 || !(1..=periods).contains(&breaching) {
            return Err(Error::invalid(
                "EvaluationPeriods and DatapointsToAlarm must be at least 1, and the latter no \
                 greater than the former",
            ));
        }
        if period.saturating_mul(periods) > LOOKS_BACK {
            return Err(Error::invalid(format!(
                "Metrics are kept for {LOOKS_BACK} seconds; Period times EvaluationPeriods must \
                 not exceed that"
            )));
        }
        let comparison =
            self.comparison_operator.as_deref().ok_or_else(|| required("ComparisonOperator"))?;
        let comparison = Comparison::parse(comparison).ok_or_else(|| {
            Error::invalid(format!("{comparison} is not supported: no anomaly detection here"))
        })?;
        let missing = self.treat_missing_data.as_deref().map(|text| {
            Missing::parse(text)
                .ok_or_else(|| Error::invalid(format!("TreatMissingData {text:?} is unknown")))
        });
        let small = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(AlarmRule {
            metric,
            statistic: statistic.ok_or_else(|| required("Statistic"))?,
            period: small(period),
            periods: small(periods),
            breaching: small(breaching),
            comparison,
            threshold: self.threshold.ok_or_else(|| required("Threshold"))?,
            missing: missing.transpose()?.unwrap_or_default(),
        })
    }
}

pub(super) async fn put(call: &Call, input: Input) -> Outcome {
    let mut asked: Put = input.read()?;
    let queries = asked.queries(call.place())?;
    let rule = asked.rule(call.place(), &queries)?;
    let (account, now) = (call.account().clone(), call.now);
    let change = move |tx: &mut Tx<'_>| {
        let state = tx.state();
        let name = AlarmName::within(account.place(), &asked.alarm_name);
        refuse_tracking(state, &name)?;
        let policies = state.scaling_policies.values();
        // Those of other regions have other ARNs, and carry out nothing here.
        let policies = policies.filter(|row| row.key.service.cluster.region() == account.place());
        let known: Vec<_> = policies.map(|row| account.scaling_policy(row).to_string()).collect();
        if let Some(action) = asked.alarm_actions.iter().find(|action| !known.contains(action)) {
            return Err(Error::invalid(format!(
                "AlarmActions: {action} is no scaling policy here; other actions are not supported"
            )));
        }
        let old = state.alarms.get(&name).cloned();
        let theirs = state.alarms.keys().filter(|own| own.region() == name.region());
        if old.is_none() && theirs.count() >= MOST {
            return Err(Error::new("LimitExceeded", format!("there are {MOST} alarms already")));
        }
        let old = old.as_deref();
        if old.is_none() {
            tags::add(tx, &account.alarm(name.as_str()), asked.tags)
                .map_err(|error| Error::invalid(error.to_string()))?;
        }
        tx.put(Alarm {
            description: asked.alarm_description,
            rule,
            given: AlarmGiven { datapoints: asked.datapoints_to_alarm.is_some(), unit: asked.unit },
            queries,
            actions_enabled: asked.actions_enabled.unwrap_or(true),
            actions: asked.alarm_actions,
            configured_at: now,
            state: old.map_or(AlarmState::InsufficientData, |old| old.state),
            reason: old.map_or_else(
                || "Unchecked: Initial alarm creation".to_owned(),
                |old| old.reason.clone(),
            ),
            changed_at: old.map_or(now, |old| old.changed_at),
            name,
        });
        Ok(())
    };
    call.done(change).await
}

fn refuse_tracking(state: &State, name: &AlarmName) -> Result<(), Error> {
    let mut policies = state.scaling_policies.values();
    let own = |policy: &std::sync::Arc<ScalingPolicy>| {
        policy.key.service.cluster.region() == name.region()
            && sides(policy).into_iter().any(|side| alarm::name(policy, side) == name.as_str())
    };
    match policies.find(|policy| own(policy)) {
        Some(policy) => Err(Error::invalid(format!(
            "{name} belongs to the target tracking policy {}; change that",
            policy.key.name
        ))),
        None => Ok(()),
    }
}

/// The alarms of a policy that are no rows.
pub(crate) fn sides(policy: &ScalingPolicy) -> Vec<Side> {
    match &policy.rule {
        PolicyRule::Track(rule) if rule.disable_scale_in == Some(true) => vec![Side::High],
        PolicyRule::Track(_) => vec![Side::High, Side::Low],
        PolicyRule::Step(_) => Vec::new(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Describe {
    #[serde(default)]
    alarm_names: Vec<String>,
    alarm_name_prefix: Option<String>,
    #[serde(default)]
    alarm_types: Vec<String>,
    state_value: Option<String>,
    action_prefix: Option<String>,
    max_records: Option<i64>,
    next_token: Option<String>,
}

impl Describe {
    fn passes(&self, alarm: &Alarm) -> bool {
        let name = alarm.name.as_str();
        let acts = |prefix: &String| alarm.actions.iter().any(|action| action.starts_with(prefix));
        (self.alarm_names.is_empty() || self.alarm_names.iter().any(|wanted| wanted == name))
            && self.alarm_name_prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix))
            && (self.alarm_types.is_empty()
                || self.alarm_types.iter().any(|kind| kind == "MetricAlarm"))
            && self.state_value.as_ref().is_none_or(|value| alarm.state.as_str() == value)
            && self.action_prefix.as_ref().is_none_or(acts)
    }
}

pub(super) fn describe(call: &Call, input: Input) -> Outcome {
    let asked: Describe = input.read()?;
    let limit = asked.max_records.unwrap_or(PAGE);
    let limit = usize::try_from(limit).ok().filter(|limit| (1..=100).contains(limit));
    let limit = limit.ok_or_else(|| Error::invalid("MaxRecords must be between 1 and 100"))?;
    if asked.alarm_names.len() > 100 {
        return Err(Error::invalid("AlarmNames must have at most 100 items"));
    }
    let state = call.state();
    let made = state.alarms.values().map(|row| Alarm::clone(row));
    let policies = state.scaling_policies.values();
    let tracking = policies.flat_map(|policy| {
        sides(policy).into_iter().filter_map(|side| tracked(call, policy, side))
    });
    let mut all: Vec<_> = made.chain(tracking).filter(|alarm| asked.passes(alarm)).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let token = asked.next_token.as_deref();
    let (page, next) = page(all, |alarm| alarm.name.to_string(), token, limit)
        .map_err(|BadToken| Error::new("InvalidNextToken", "NextToken is not valid"))?;
    let shown: Vec<_> = page.iter().map(|alarm| shown(call.account(), alarm)).collect();
    Ok(json!({ "MetricAlarms": shown, "CompositeAlarms": [], "NextToken": next }))
}

/// An alarm of target tracking as it stands now.
fn tracked(call: &Call, policy: &ScalingPolicy, side: Side) -> Option<Alarm> {
    let PolicyRule::Track(tracking) = &policy.rule else { return None };
    let rule = alarm::rule(&policy.key.service, tracking, side);
    let queries = alarm::queries(tracking);
    let values = alarm::read(&call.api.series, (&rule, queries), call.now, call.api.profile);
    let state = alarm::evaluate(&rule, &values, AlarmState::InsufficientData);
    let name = alarm::name(policy, side);
    let arn = call.account().scaling_policy(policy).to_string();
    let told: Vec<_> = values.iter().flatten().map(ToString::to_string).collect();
    Some(Alarm {
        description: Some(format!(
            "DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {arn}."
        )),
        name: AlarmName::within(call.place(), &name),
        rule,
        given: AlarmGiven::default(),
        queries: queries.to_vec(),
        actions_enabled: true,
        actions: vec![arn],
        configured_at: policy.created_at,
        state,
        reason: format!("The last datapoints are [{}].", told.join(", ")),
        changed_at: policy.created_at,
    })
}

fn shown(account: &Account, alarm: &Alarm) -> Value {
    let rule = &alarm.rule;
    let mut shown = match alarm.queries.as_slice() {
        [] => metric::shown(&rule.metric),
        queries => json!({ "Metrics": queries.iter().map(queries::shown).collect::<Vec<_>>() }),
    };
    let of_metric = |value: Value| if alarm.queries.is_empty() { value } else { Value::Null };
    let more = json!({
        "AlarmName": alarm.name.as_str(),
        "AlarmArn": account.alarm(alarm.name.as_str()).to_string(),
        "AlarmDescription": alarm.description,
        "AlarmConfigurationUpdatedTimestamp": time::seconds(alarm.configured_at),
        "ActionsEnabled": alarm.actions_enabled,
        "OKActions": [],
        "AlarmActions": alarm.actions,
        "InsufficientDataActions": [],
        "StateValue": alarm.state.as_str(),
        "StateReason": alarm.reason,
        "StateUpdatedTimestamp": time::seconds(alarm.changed_at),
        "StateTransitionedTimestamp": time::seconds(alarm.changed_at),
        "Statistic": of_metric(rule.statistic.as_str().into()),
        "Period": of_metric(rule.period.into()),
        "EvaluationPeriods": rule.periods,
        "DatapointsToAlarm": alarm.given.datapoints.then_some(rule.breaching),
        "Unit": alarm.given.unit,
        "Threshold": rule.threshold,
        "ComparisonOperator": rule.comparison.as_str(),
        "TreatMissingData": rule.missing.as_str(),
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut shown, more) {
        all.extend(more);
    }
    shown
}

fn missing() -> Error {
    Error::new("ResourceNotFound", "Unknown alarm")
}

/// Changes one alarm.
async fn change(
    call: &Call,
    name: String,
    change: impl FnOnce(&mut Alarm, Timestamp) + Send + 'static,
) -> Outcome {
    let (now, name) = (call.now, AlarmName::within(call.place(), &name));
    call.done(move |tx| {
        refuse_tracking(tx.state(), &name)?;
        let mut row = Alarm::clone(tx.state().alarms.get(&name).ok_or_else(missing)?);
        change(&mut row, now);
        tx.put(row);
        Ok(())
    })
    .await
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Names {
    alarm_names: Vec<String>,
}

/// Alarms that are not there are left out, as CloudWatch does.
pub(super) async fn enable(call: &Call, input: Input, enabled: bool) -> Outcome {
    let asked: Names = input.read()?;
    let name = |name: &String| AlarmName::within(call.place(), name);
    let names: Vec<_> = asked.alarm_names.iter().map(name).collect();
    let write = move |tx: &mut Tx<'_>| {
        for name in names {
            refuse_tracking(tx.state(), &name)?;
            if let Some(row) = tx.state().alarms.get(&name) {
                let row = Alarm { actions_enabled: enabled, ..Alarm::clone(row) };
                tx.put(row);
            }
        }
        Ok::<_, Error>(())
    };
    call.done(write).await
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SetState {
    alarm_name: String,
    state_value: String,
    state_reason: String,
}

/// The next reading says what it really is.
pub(super) async fn set_state(call: &Call, input: Input) -> Outcome {
    let asked: SetState = input.read()?;
    let wanted = AlarmState::parse(&asked.state_value);
    let wanted = wanted.ok_or_else(|| Error::invalid("StateValue is unknown"))?;
    let set = move |alarm: &mut Alarm, now| {
        if alarm.state != wanted {
            alarm.changed_at = now;
        }
        alarm.state = wanted;
        alarm.reason = asked.state_reason;
    };
    change(call, asked.alarm_name, set).await
}

pub(super) async fn delete(call: &Call, input: Input) -> Outcome {
    let asked: Names = input.read()?;
    let account = call.account().clone();
    let name = |name: &String| AlarmName::within(call.place(), name);
    let names: Vec<_> = asked.alarm_names.iter().map(name).collect();
    let write = move |tx: &mut Tx<'_>| {
        for name in &names {
            refuse_tracking(tx.state(), name)?;
        }
        if names.len() > 1 && names.iter().any(|name| !tx.state().alarms.contains_key(name)) {
            return Err(missing());
        }
        for name in names {
            tags::forget(tx, &account.alarm(name.as_str()));
            tx.remove(Key::Alarm(name));
        }
        Ok(())
    };
    call.done(write).await
}
