//! IAM, of which there are the server certificates alone.
//!
//! Not here: users, roles and policies; keys are `api::keys`. **Invariant:** [`call`] is the list
//! of what is served, and no answer holds a private key.

mod server_certificate;
mod tag;

use super::call::{Call, Input, Outcome};

pub(super) use server_certificate::kept as kept_certificate;

/// From operation to function: what is served.
pub(crate) async fn call(call: &Call, input: Input) -> Outcome {
    match call.name() {
        "UploadServerCertificate" => server_certificate::upload(call, input).await,
        "GetServerCertificate" => server_certificate::get(call, input),
        "UpdateServerCertificate" => server_certificate::update(call, input).await,
        "DeleteServerCertificate" => server_certificate::delete(call, input).await,
        "ListServerCertificates" => server_certificate::list(call, input),

        "TagServerCertificate" => tag::add(call, input).await,
        "ListServerCertificateTags" => tag::list(call, input),
        "UntagServerCertificate" => tag::remove(call, input).await,
        _ => Err(call.unknown()),
    }
}
