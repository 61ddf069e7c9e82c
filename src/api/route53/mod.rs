//! Route 53: one file per resource; operations in the order Create, Describe, Update, Delete,
//! List.
//!
//! Zones are private: a public one needs the public DNS. Not here: wire forms and checks against
//! the model, which are done before an operation sees its input; what DNS answers (`zone`).
//! **Invariant:** [`call`] is the list of what is served.

mod change;
mod health_check;
mod record;
mod tagging;
mod zone;

use super::call::{Accepted, Call, Input, Outcome};
use super::error::Error;
use crate::model::Generation;

/// Members that are taken and not acted upon.
pub(crate) const ACCEPTED: &[Accepted] = &[
    Accepted {
        member: "AssociateVPCWithHostedZone.Comment",
        why: "a change is made at once, so there is nothing to comment on",
    },
    Accepted {
        member: "DisassociateVPCFromHostedZone.Comment",
        why: "a change is made at once, so there is nothing to comment on",
    },
    Accepted {
        member: "CreateHealthCheck.HealthCheckConfig.Regions",
        why: "kept and shown: one checker looks, from here",
    },
    Accepted {
        member: "CreateHealthCheck.HealthCheckConfig.MeasureLatency",
        why: "kept and shown",
    },
    Accepted {
        member: "CreateHealthCheck.HealthCheckConfig.AlarmIdentifier.Region",
        why: "kept and shown; it means something where there are several regions",
    },
    Accepted {
        member: "TestDNSAnswer.ResolverIP",
        why: "no routing policy here looks at who asks",
    },
];

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, input: Input) -> Outcome {
    match call.name() {
        "CreateHostedZone" => zone::create(call, input).await,
        "GetHostedZone" => zone::get(call, input),
        "GetDNSSEC" => zone::signing(call, input),
        "GetHostedZoneCount" => zone::count(call, input),
        "UpdateHostedZoneComment" => zone::comment(call, input).await,
        "AssociateVPCWithHostedZone" => zone::associate(call, input).await,
        "DisassociateVPCFromHostedZone" => zone::disassociate(call, input).await,
        "DeleteHostedZone" => zone::delete(call, input).await,
        "ListHostedZones" => zone::list(call, input),
        "ListHostedZonesByName" => zone::list_by_name(call, input),
        "ListHostedZonesByVPC" => zone::list_by_vpc(call, input),
        "ChangeResourceRecordSets" => change::change(call, input).await,
        "ListResourceRecordSets" => record::list(call, input),
        "TestDNSAnswer" => record::test(call, input),
        "GetChange" => change::get(call, input),
        "CreateHealthCheck" => health_check::create(call, input).await,
        "GetHealthCheck" => health_check::get(call, input),
        "GetHealthCheckCount" => health_check::count(call, input),
        "GetHealthCheckStatus" => health_check::status(call, input),
        "GetHealthCheckLastFailureReason" => health_check::last_failure(call, input),
        "UpdateHealthCheck" => health_check::update(call, input).await,
        "DeleteHealthCheck" => health_check::delete(call, input).await,
        "ListHealthChecks" => health_check::list(call, input),
        "ChangeTagsForResource" => tagging::change(call, input).await,
        "ListTagsForResource" => tagging::list(call, input),
        "ListTagsForResources" => tagging::list_several(call, input),
        _ => Err(call.unknown()),
    }
}

/// Route 53's most items of a page, and what it gives when a call does not say.
const PAGE: usize = 100;

fn most(items: Option<&str>, most: usize) -> Result<usize, Error> {
    let bad = || Error::invalid("MaxItems is not a positive number");
    let asked = items.map(str::parse::<usize>).transpose().map_err(|_| bad())?;
    match asked {
        Some(0) => Err(bad()),
        Some(asked) => Ok(asked.min(most)),
        None => Ok(most),
    }
}

/// A name as rows have it: lower case, without the final dot, escapes read.
fn name(text: &str) -> String {
    let text = text.strip_suffix('.').unwrap_or(text);
    text.replace("\\052", "*").to_ascii_lowercase()
}

/// A name as Route 53 shows it.
fn shown(name: &str) -> String {
    format!("{}.", name.replace('*', "\\052"))
}

/// What a change is asked about with: when it was made, and which snapshot has it.
fn change_id(call: &Call, generation: Generation) -> String {
    format!("C{:013X}{:010X}", call.now.0 & 0xf_ffff_ffff_ffff, generation.0 & 0xff_ffff_ffff)
}
