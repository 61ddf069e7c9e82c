//! What requests name a service by, and the words that all operations share.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::error::Error;
use crate::api::page::{BadToken, page};
use crate::model::{ClusterName, ScalingKey, ServiceKey};

/// The one dimension that there is.
pub(super) const DIMENSION: &str = "ecs:service:DesiredCount";
pub(super) const NAMESPACE: &str = "ecs";
/// Items of a page when a call does not say, and the most (AWS's).
pub(super) const PAGE: i64 = 50;

/// What every request names a resource by.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Named {
    pub(super) service_namespace: String,
    pub(super) resource_id: Option<String>,
    pub(super) scalable_dimension: Option<String>,
}

impl Named {
    /// # Errors
    /// Another namespace or dimension, or no `service/CLUSTER/SERVICE`.
    pub(super) fn service(&self, place: &str) -> Result<ServiceKey, Error> {
        let found = self.filter(place)?;
        found.ok_or_else(|| Error::invalid("ResourceId is required"))
    }

    /// The service that a listing is about. None: all.
    pub(super) fn filter(&self, place: &str) -> Result<Option<ServiceKey>, Error> {
        let dimension = self.scalable_dimension.as_deref();
        if self.service_namespace != NAMESPACE || dimension.is_some_and(|text| text != DIMENSION) {
            return Err(Error::invalid(format!(
                "Unsupported service namespace, resource type or scalable dimension: \
                 only {DIMENSION} scales here"
            )));
        }
        self.resource_id.as_deref().map(|resource| key(place, resource)).transpose()
    }
}

/// The three members of a request as [`Named`]. Not flattened: what nobody reads would be left out
/// silently.
macro_rules! named {
    ($asked:expr) => {
        $crate::api::autoscaling::names::Named {
            service_namespace: $asked.service_namespace.clone(),
            resource_id: $asked.resource_id.clone(),
            scalable_dimension: $asked.scalable_dimension.clone(),
        }
    };
}
pub(super) use named;

/// `place` is the region as names have it.
pub(in crate::api) fn key(place: &str, resource: &str) -> Result<ServiceKey, Error> {
    let parts: Vec<&str> = resource.split('/').collect();
    match parts[..] {
        ["service", cluster, service] if !cluster.is_empty() && !service.is_empty() => {
            Ok(ServiceKey { cluster: ClusterName::within(place, cluster), name: service.into() })
        }
        _ => Err(Error::invalid(format!(
            "ResourceId {resource:?} is not of the form service/CLUSTER/SERVICE"
        ))),
    }
}

/// The three members that every description begins with.
pub(super) fn head(service: &ServiceKey) -> Value {
    json!({
        "ServiceNamespace": NAMESPACE,
        "ResourceId": format!("service/{service}"),
        "ScalableDimension": DIMENSION,
    })
}

/// `head` and more.
pub(super) fn described(service: &ServiceKey, more: Value) -> Value {
    let mut value = head(service);
    if let (Value::Object(all), Value::Object(more)) = (&mut value, more) {
        all.extend(more);
    }
    value
}

/// AWS's words for what is not there: `scaling policy`, `policy name: cpu`.
pub(super) fn missing(what: &str, service: &ServiceKey, which: &str) -> Error {
    let message = format!(
        "No {what} found for service namespace: {NAMESPACE}, resource ID: service/{service}, \
         scalable dimension: {DIMENSION}{which}"
    );
    Error::new("ObjectNotFoundException", message)
}

/// What a listing asks for.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Describe {
    service_namespace: String,
    resource_id: Option<String>,
    scalable_dimension: Option<String>,
    /// Empty: every name. A listing of activities has none.
    #[serde(default, alias = "PolicyNames", alias = "ScheduledActionNames")]
    names: Vec<String>,
    pub(super) max_results: Option<i64>,
    pub(super) next_token: Option<String>,
}

impl Describe {
    /// None: every service.
    ///
    /// # Errors
    /// As [`Named::filter`].
    pub(super) fn service(&self, place: &str) -> Result<Option<ServiceKey>, Error> {
        named!(self).filter(place)
    }

    /// # Errors
    /// As [`Named::filter`]; the token is not ours, or the page too long.
    pub(super) fn page<'a, T: 'a>(
        &self,
        place: &str,
        rows: impl Iterator<Item = &'a Arc<T>>,
        key: fn(&T) -> &ScalingKey,
    ) -> Result<(Vec<&'a Arc<T>>, Option<String>), Error> {
        let service = self.service(place)?;
        let wanted = |row: &&'a Arc<T>| {
            let key = key(row);
            service.as_ref().is_none_or(|service| key.service == *service)
                && (self.names.is_empty() || self.names.contains(&key.name))
        };
        // Pages go by text.
        let mut rows: Vec<_> = rows.filter(wanted).collect();
        rows.sort_by_key(|row| key(row).to_string());
        paged(rows, |row| key(row).to_string(), self.next_token.as_deref(), self.max_results)
    }
}

/// What a deletion names.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Delete {
    service_namespace: String,
    resource_id: Option<String>,
    scalable_dimension: Option<String>,
    #[serde(alias = "PolicyName", alias = "ScheduledActionName")]
    name: String,
}

impl Delete {
    /// # Errors
    /// As [`Named::service`].
    pub(super) fn key(self, place: &str) -> Result<ScalingKey, Error> {
        Ok(ScalingKey { service: named!(self).service(place)?, name: self.name })
    }
}

pub(super) fn paged<T>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> String,
    token: Option<&str>,
    most: Option<i64>,
) -> Result<(Vec<T>, Option<String>), Error> {
    let limit = most.unwrap_or(PAGE);
    let limit = usize::try_from(limit).ok().filter(|limit| (1..=50).contains(limit));
    let limit = limit.ok_or_else(|| Error::invalid("MaxResults must be between 1 and 50"))?;
    page(items, key, token, limit)
        .map_err(|BadToken| Error::new("InvalidNextTokenException", "NextToken is not valid"))
}

/// A count of tasks.
pub(super) fn capacity(name: &str, value: i64) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::invalid(format!("{name} must not be negative")))
}

pub(super) fn uuid() -> String {
    crate::model::uuid(&mut fastrand::Rng::new())
}

/// Seconds since 1970 of a request.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
pub(super) fn moment(seconds: f64) -> crate::clock::Timestamp {
    crate::clock::Timestamp::from_millis((seconds * 1000.0) as u64)
}
