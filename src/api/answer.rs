//! Answers and refusals in the wire form of their request.
//!
//! **Invariant:** an answer that its model does not allow is an internal failure in debug builds,
//! so that every test is a test of it too.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::call::Call;
use super::entry::RPC_V2;
use super::error::Error;
use super::services::{Service, Wire};
use super::wire::schema::{Kind, Location};
use super::wire::xml::Writer;
use super::wire::{cbor, check};

/// The error code of a refusal, for logs and metrics.
#[derive(Clone, Debug)]
pub(super) struct Code(pub(super) String);

/// The answer of an operation that did what was asked.
pub(super) fn success(call: &Call, wire: Wire, value: &Value) -> Response<Full<Bytes>> {
    let (model, operation) = (&call.service.model, call.operation);
    let problems = match operation.output {
        Some(shape) if cfg!(debug_assertions) => check::output(model, shape, value),
        _ => Vec::new(),
    };
    if !problems.is_empty() {
        let text = format!("{}: {}", operation.name, problems.join("; "));
        tracing::error!(%text, "an answer is not what its model says");
        return refusal(wire, Some(call.service), &Error::Internal(text), &call.request_id);
    }
    let id = &call.request_id;
    let body: Vec<u8> = match wire {
        Wire::Json(_) => strip(value.clone()).to_string().into(),
        Wire::Cbor => {
            operation.output.map(|shape| cbor::encode(model, shape, value)).unwrap_or_default()
        }
        Wire::Query => {
            let mut writer = Writer::new();
            let root = format!("{}Response", operation.name);
            writer.open(&root, model.metadata.xml_namespace.as_deref());
            if let Some(shape) = operation.output {
                let usual = || format!("{}Result", operation.name);
                let wrapper = operation.result_wrapper.clone().unwrap_or_else(usual);
                writer.open(&wrapper, None);
                writer.members(model, model.shape(shape), value);
                writer.close(&wrapper);
            }
            writer.open("ResponseMetadata", None);
            writer.text("RequestId", id);
            writer.close("ResponseMetadata");
            writer.close(&root);
            writer.finish().into()
        }
        Wire::Ec2 => {
            let mut writer = Writer::new();
            let root = format!("{}Response", operation.name);
            writer.open(&root, Some("http://ec2.amazonaws.com/doc/2016-11-15/"));
            writer.text("requestId", id);
            if let Some(shape) = operation.output {
                writer.members(model, model.shape(shape), value);
            }
            writer.close(&root);
            writer.finish().into()
        }
        Wire::RestXml => {
            let mut writer = Writer::new();
            if let Some(shape) = operation.output.map(|shape| model.shape(shape)) {
                let namespace = format!(
                    "https://{}.amazonaws.com/doc/{}/",
                    call.service.name, model.metadata.api_version
                );
                writer.open(&shape.name, Some(&namespace));
                writer.members(model, shape, value);
                writer.close(&shape.name);
            }
            writer.finish().into()
        }
    };
    let mut response = plain(wire, operation.status, body, id);
    put_headers(call, value, &mut response);
    response
}

/// The members that travel as headers.
fn put_headers(call: &Call, value: &Value, response: &mut Response<Full<Bytes>>) {
    let (model, operation) = (&call.service.model, call.operation);
    if let Some(Kind::Structure(members)) = operation.output.map(|shape| &model.shape(shape).kind) {
        for member in members.iter().filter(|member| member.location == Location::Header) {
            let text = value.get(&member.name).and_then(Value::as_str);
            let name = http::HeaderName::try_from(member.wire_name());
            if let (Some(Ok(text)), Ok(name)) = (text.map(HeaderValue::from_str), name) {
                response.headers_mut().insert(name, text);
            }
        }
    }
}

/// Without the members that have no value: on JSON wires AWS leaves them out.
pub(super) fn strip(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let full = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(full.map(|(name, value)| (name, strip(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(strip).collect()),
        value => value,
    }
}

/// The answer to what is refused.
pub(super) fn refusal(
    wire: Wire,
    service: Option<&'static Service>,
    error: &Error,
    id: &str,
) -> Response<Full<Bytes>> {
    let (code, message) = match error {
        Error::Code { code, message } => (*code, message),
        Error::Invalid(message) => {
            (service.map_or("ValidationError", |service| service.name.invalid()), message)
        }
        Error::Unsupported(message) => {
            (service.map_or("ValidationError", |service| service.name.unsupported()), message)
        }
        Error::Unavailable(message) => ("ServiceUnavailable", message),
        Error::Internal(message) => ("InternalFailure", message),
    };
    let known = service.and_then(|service| service.model.error(code));
    let (code, status) = known.unwrap_or_else(|| (code, common_status(code)));
    let sender = if status < 500 { "Sender" } else { "Receiver" };
    let body: Vec<u8> = match wire {
        // Some services spell the member with a capital letter in their models.
        Wire::Json(_) => {
            json!({"__type": code, "message": message, "Message": message}).to_string().into()
        }
        Wire::Cbor => cbor::texts(&[("__type", code), ("message", message), ("Message", message)]),
        Wire::Ec2 => {
            let mut writer = Writer::new();
            for name in ["Response", "Errors", "Error"] {
                writer.open(name, None);
            }
            writer.text("Code", code);
            writer.text("Message", message);
            writer.close("Error");
            writer.close("Errors");
            writer.text("RequestID", id);
            writer.close("Response");
            writer.finish().into()
        }
        Wire::Query | Wire::RestXml => {
            let space = service.and_then(|service| service.model.metadata.xml_namespace.clone());
            let mut writer = Writer::new();
            writer.open("ErrorResponse", space.as_deref());
            writer.open("Error", None);
            writer.text("Type", sender);
            writer.text("Code", code);
            writer.text("Message", message);
            writer.close("Error");
            writer.text("RequestId", id);
            writer.close("ErrorResponse");
            writer.finish().into()
        }
    };
    let mut response = plain(wire, status, body, id);
    if let (Wire::Json(_), Ok(code)) = (wire, HeaderValue::from_str(code)) {
        response.headers_mut().insert("x-amzn-errortype", code);
    }
    if let Some(service) = service
        && service.model.metadata.is_query_compatible()
        && let (true, Ok(text)) =
            (wire.is_rpc(), HeaderValue::from_str(&format!("{code};{sender}")))
    {
        response.headers_mut().insert("x-amzn-query-error", text);
    }
    response.extensions_mut().insert(Code(code.to_owned()));
    response
}

/// HTTP status of the errors that all services have in common (AWS's "Common Errors" pages).
fn common_status(code: &str) -> u16 {
    match code {
        "AccessDenied"
        | "UnauthorizedOperation"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "SignatureDoesNotMatch"
        | "RequestExpired" => 403,
        "RequestEntityTooLarge" => 413,
        "InternalFailure" => 500,
        "ServiceUnavailable" => 503,
        _ => 400,
    }
}

fn plain(wire: Wire, status: u16, body: Vec<u8>, id: &str) -> Response<Full<Bytes>> {
    // "Responses for operations with no defined output type MUST NOT contain bodies" (RPC v2).
    let has_kind = wire != Wire::Cbor || !body.is_empty();
    let mut response = Response::new(Full::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = match wire {
        Wire::Json(0) => "application/x-amz-json-1.0",
        Wire::Json(_) => "application/x-amz-json-1.1",
        Wire::Query | Wire::Ec2 | Wire::RestXml => "text/xml",
        Wire::Cbor => "application/cbor",
    };
    let headers = response.headers_mut();
    if has_kind {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if wire == Wire::Cbor {
        headers.insert("smithy-protocol", HeaderValue::from_static(RPC_V2));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
