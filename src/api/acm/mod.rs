//! Certificate Manager: certificates that were imported, or that the configuration file names.
//!
//! Operations in the order Import, Describe, Get, Delete, List, then tags. Not here: issuing any.
//! **Invariant:** [`call`] is the list of what is served, and no answer holds a private key.

mod certificate;
mod shown;
mod tag;

use super::call::{Call, Input, Outcome};
use super::error::Error;
use crate::model::{Account, Certificate, CertificateArn, CertificateStore, Owner};
use crate::state::State;
use std::sync::Arc;

/// Operations that are told why they are not served.
pub(crate) const REFUSED: &[(&str, &str)] = &[(
    "RequestCertificate",
    "nobody here vouches for names; make a certificate elsewhere and give it to ImportCertificate",
)];

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, input: Input) -> Outcome {
    match call.name() {
        "ImportCertificate" => certificate::import(call, input).await,
        "DescribeCertificate" => certificate::describe(call, input),
        "GetCertificate" => certificate::get(call, input),
        "DeleteCertificate" => certificate::delete(call, input).await,
        "ListCertificates" => certificate::list(call, input),

        "AddTagsToCertificate" => tag::add(call, input).await,
        "ListTagsForCertificate" => tag::list(call, input),
        "RemoveTagsFromCertificate" => tag::remove(call, input).await,
        _ => Err(call.not_served(REFUSED)),
    }
}

/// One of ACM's own.
fn find(state: &State, account: &Account, arn: &str) -> Result<Arc<Certificate>, Error> {
    let found = state.certificates.get(&CertificateArn::from(arn));
    let found = found.filter(|row| row.store == CertificateStore::Acm && account.sees(&row.arn));
    found.cloned().ok_or_else(|| {
        Error::new("ResourceNotFoundException", format!("Could not find certificate {arn}."))
    })
}

/// Refuses what belongs to the configuration file.
fn own(row: &Certificate) -> Result<(), Error> {
    match row.owner {
        Owner::Api => Ok(()),
        Owner::File => Err(Error::invalid(format!(
            "certificate {} belongs to the configuration file: change it there",
            row.arn
        ))),
    }
}
