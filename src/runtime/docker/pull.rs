//! One pull of an image, on a connection of our own.
//!
//! The client library writes a login in the alphabet of base64 that the engine does not read (RFC
//! 4648, section 4 instead of 5), and the engine takes such a login for none. **Invariant:** a pull
//! that fails in the middle is a failure: the answer's head is a success before anything is pulled.

use bollard::errors::Error;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::{timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::engine::{Engine, Failure, PULL, PULL_BEGIN, PULL_SILENCE};
use crate::clock::instant;
use crate::model::SecretText;

/// One line of the answer, in bytes (ours).
const LINE: usize = 1 << 20;
/// The Engine API's header for the login of one registry.
const AUTH: &str = "X-Registry-Auth";

/// What is read of a line of progress.
#[derive(Deserialize)]
struct Line {
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    detail: Option<Detail>,
    /// Of an answer that is no stream.
    message: Option<String>,
}

#[derive(Deserialize)]
struct Detail {
    message: Option<String>,
}

/// Pulls `reference`, which has a tag or a digest; `login` is the header's value.
pub(super) async fn pull(
    engine: &Engine,
    reference: &str,
    login: Option<&SecretText>,
) -> Result<(), Failure> {
    let late = |_| Failure::Refused(format!("{reference}: the pull takes too long"));
    let deadline = instant() + PULL;
    let (mut answer, _connection) =
        timeout(PULL_BEGIN, ask(engine, reference, login)).await.map_err(late)??;
    let mut pending = BytesMut::new();
    let mut reason = String::new();
    // Pulled only while somebody reads.
    loop {
        let until = deadline.min(instant() + PULL_SILENCE);
        let Some(frame) = timeout_at(until, answer.body_mut().frame()).await.map_err(late)? else {
            break;
        };
        let frame = frame.map_err(|error| broken(&error))?;
        pending.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            told(&pending.split_to(end + 1), &mut reason)?;
        }
        if pending.len() > LINE {
            return Err(Failure::Unavailable("docker: a line without an end".to_owned()));
        }
    }
    told(&pending, &mut reason)?;
    let status_code = answer.status().as_u16();
    match answer.status().is_success() {
        true => Ok(()),
        false => Err(Error::DockerResponseServerError { status_code, message: reason }.into()),
    }
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::Unavailable(format!("docker: {error}"))
}

/// The answer's head, and what carries the rest.
async fn ask(
    engine: &Engine,
    reference: &str,
    login: Option<&SecretText>,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), Failure> {
    let stream = UnixStream::connect(engine.socket()).await.map_err(|error| broken(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // What breaks is told by the answer as well.
    let connection = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
    let query: String = form_urlencoded::byte_serialize(reference.as_bytes()).collect();
    let mut request =
        Request::post(format!("/images/create?fromImage={query}")).header(HOST, "docker");
    if let Some(login) = login {
        let mut value = HeaderValue::from_str(login.reveal())
            .map_err(|_| Failure::Refused("a login that is no header".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(AUTH, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| broken(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
    Ok((answer, connection))
}

/// An error comes as one of the lines of a success, and as the only one of a refusal.
fn told(line: &[u8], reason: &mut String) -> Result<(), Failure> {
    let Ok(line) = serde_json::from_slice::<Line>(line) else { return Ok(()) };
    if let Some(message) = line.message {
        *reason = message;
    }
    let detail = line.detail.and_then(|detail| detail.message);
    detail.or(line.error).map_or(Ok(()), |error| Err(Failure::Refused(error)))
}
