//! Looks at what targets have come to, window by window, and sets the shares of anomalies.
//!
//! **Invariant:** what is decided is decided by `balance::anomaly`; here it is counted and told.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use super::{Reader, Routing};
use crate::balance::anomaly::{self, Standing, WINDOW};
use crate::balance::{Endpoint, Group};
use crate::model::RegistrationId;

/// What is known of every target.
#[derive(Debug, Default)]
pub struct Anomalies {
    known: HashMap<RegistrationId, Known>,
}

#[derive(Debug, Default)]
struct Known {
    standing: Standing,
    /// As counted at the end of the last window.
    requests: u64,
    failures: u64,
}

/// Looks at the targets of every snapshot until stopped.
pub async fn watch_anomalies(reader: Reader, stop: CancellationToken) {
    let mut anomalies = Anomalies::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(WINDOW) => anomalies.look(&reader.load()),
            () = stop.cancelled() => return,
        }
    }
}

impl Anomalies {
    /// Ends a window.
    pub fn look(&mut self, routing: &Routing) {
        self.known.retain(|id, _| routing.endpoints.contains_key(id));
        for group in routing.groups.values().filter(|group| group.protocol.is_http()) {
            self.look_at(group);
        }
    }

    fn look_at(&mut self, group: &Group) {
        let mut count = |endpoint: &Endpoint| {
            let known = self.known.entry(endpoint.id).or_default();
            let (requests, failures) = (endpoint.requests.total(), endpoint.failures.total());
            let failed = failures.saturating_sub(known.failures);
            // A connection that failed is no request.
            let all = requests.saturating_sub(known.requests).max(failed);
            (known.requests, known.failures) = (requests, failures);
            known.standing.all += all;
            known.standing.failed += failed;
            known.standing
        };
        let mut standings: Vec<_> = group.routable.iter().map(|own| count(own)).collect();
        anomaly::judge(&mut standings, group.routing.anomaly_mitigation);
        for (endpoint, standing) in group.routable.iter().zip(&standings) {
            if endpoint.share.set(standing) {
                let (group, target) = (&group.name, endpoint.address);
                let (anomalous, weight) = (standing.is_anomalous, standing.weight);
                tracing::info!(%group, %target, anomalous, weight, "a target's share changes");
            }
            if let Some(known) = self.known.get_mut(&endpoint.id) {
                known.standing = *standing;
            }
        }
        let number = |is: fn(&Standing) -> bool| {
            i64::try_from(standings.iter().filter(|own| is(own)).count()).unwrap_or(i64::MAX)
        };
        group.metrics.anomalous.set(number(|own| own.is_anomalous));
        group.metrics.mitigated.set(number(Standing::is_mitigated));
    }
}
