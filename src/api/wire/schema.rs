//! The public API models as tables: which operations a service has, and what their shapes are.
//!
//! The models are trimmed copies of botocore's (`src/api/models`, see NOTICE); everything that
//! reads or writes a wire walks them. Not here: what an operation does. **Invariant:** every
//! shape that is named exists; a model that breaks this does not load.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use regex::Regex;
use serde::Deserialize;

/// One service's model.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) metadata: Metadata,
    operations: BTreeMap<String, Operation>,
    shapes: Vec<Shape>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    #[serde(default)]
    pub(crate) target_prefix: String,
    pub(crate) api_version: String,
    pub(crate) xml_namespace: Option<String>,
    pub(crate) protocol: Protocol,
    /// All that it names.
    #[serde(default)]
    pub(crate) protocols: Vec<Protocol>,
}

impl Metadata {
    /// Clients of its JSON wire expect errors by their names on the Query wire.
    pub(crate) fn is_query_compatible(&self) -> bool {
        self.protocols.contains(&Protocol::Json) && self.protocols.contains(&Protocol::Query)
    }
}

/// The wire form that a model names first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Protocol {
    Json,
    Query,
    Ec2,
    RestXml,
    SmithyRpcV2Cbor,
}

/// A shape of the same model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShapeId(usize);

#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) method: String,
    /// With placeholders: `/2013-04-01/hostedzone/{Id}`.
    pub(crate) uri: String,
    pub(crate) status: u16,
    pub(crate) input: Option<ShapeId>,
    pub(crate) output: Option<ShapeId>,
    /// Query: the element inside the response's root.
    pub(crate) result_wrapper: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) limits: Limits,
    /// The code on the wire and the HTTP status, of an error.
    pub(crate) error: Option<(String, u16)>,
    /// The member that is the body.
    pub(crate) payload: Option<String>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Structure(Vec<Member>),
    List {
        item: Member,
        flattened: bool,
    },
    Map {
        key: Member,
        value: Member,
        flattened: bool,
    },
    Text,
    Integer,
    Float,
    Boolean,
    Blob,
    /// Seconds since 1970 in the canonical form; on XML wires ISO 8601.
    Time,
}

#[derive(Debug)]
pub(crate) struct Member {
    /// Its key in the canonical form; empty for what lists and maps hold.
    pub(crate) name: String,
    pub(crate) shape: ShapeId,
    pub(crate) required: bool,
    pub(crate) location: Location,
    pub(crate) location_name: Option<String>,
    pub(crate) query_name: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Location {
    #[default]
    Body,
    Uri,
    #[serde(rename = "querystring")]
    QueryString,
    Header,
    Headers,
    StatusCode,
}

/// What a scalar, list or map has to satisfy.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) values: Vec<String>,
    pub(crate) pattern: Option<String>,
    /// No message repeats it.
    pub(crate) sensitive: bool,
    compiled: OnceLock<Option<Regex>>,
}

impl Limits {
    /// None when there is no pattern, or one that only Java's engine reads.
    pub(crate) fn regex(&self) -> Option<&Regex> {
        let compile = || {
            let pattern = self.pattern.as_deref()?;
            regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build().ok()
        };
        self.compiled.get_or_init(compile).as_ref()
    }
}

impl Member {
    /// Its element's or parameter's name where no other rule applies.
    pub(crate) fn wire_name(&self) -> &str {
        self.location_name.as_deref().unwrap_or(&self.name)
    }
}

/// Why a model does not load.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadModel {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("shape {0:?} is named and missing")]
    Missing(String),
    #[error("shape {0:?} is of the unknown type {1:?}")]
    Type(String, String),
}

impl Model {
    /// # Errors
    /// The text is no model.
    pub(crate) fn parse(text: &str) -> Result<Self, BadModel> {
        let raw: raw::Model = serde_json::from_str(text)?;
        let ids: HashMap<&str, ShapeId> =
            raw.shapes.keys().enumerate().map(|(at, name)| (name.as_str(), ShapeId(at))).collect();
        let id =
            |name: &str| ids.get(name).copied().ok_or_else(|| BadModel::Missing(name.to_owned()));
        let shapes = raw.shapes.iter().map(|(name, shape)| raw::shape(name, shape, &id));
        let shapes = shapes.collect::<Result<_, _>>()?;
        let operation = |(name, operation): (&String, &raw::Operation)| {
            let part =
                |part: &Option<raw::Part>| part.as_ref().map(|part| id(&part.shape)).transpose();
            let wrapper = operation.output.as_ref().and_then(|part| part.result_wrapper.clone());
            let operation = Operation {
                name: name.clone(),
                method: operation.http.method.clone(),
                uri: operation.http.request_uri.clone(),
                status: operation.http.response_code,
                input: part(&operation.input)?,
                output: part(&operation.output)?,
                result_wrapper: wrapper,
            };
            Ok::<_, BadModel>((name.clone(), operation))
        };
        let operations = raw.operations.iter().map(operation).collect::<Result<_, _>>()?;
        Ok(Self { metadata: raw.metadata, operations, shapes })
    }

    pub(crate) fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.get(name)
    }

    pub(crate) fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values()
    }

    pub(crate) fn shape(&self, id: ShapeId) -> &Shape {
        &self.shapes[id.0]
    }

    #[cfg(test)]
    pub(crate) fn shape_named(&self, name: &str) -> Option<ShapeId> {
        self.shapes.iter().position(|shape| shape.name == name).map(ShapeId)
    }

    /// Code and HTTP status of an error that an operation of this model can give, found by its
    /// shape's name or its code.
    pub(crate) fn error(&self, name: &str) -> Option<(&str, u16)> {
        let known = self.shapes.iter().filter_map(|shape| Some((shape, shape.error.as_ref()?)));
        let mut known = known.filter(|(shape, (code, _))| shape.name == name || code == name);
        known.next().map(|(_, (code, status))| (code.as_str(), *status))
    }
}

/// The models as they are written.
mod raw {
    use super::*;

    #[derive(Deserialize)]
    pub(super) struct Model {
        pub(super) metadata: Metadata,
        pub(super) operations: BTreeMap<String, Operation>,
        pub(super) shapes: BTreeMap<String, Shape>,
    }

    #[derive(Deserialize)]
    pub(super) struct Operation {
        pub(super) http: Http,
        pub(super) input: Option<Part>,
        pub(super) output: Option<Part>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Http {
        pub(super) method: String,
        pub(super) request_uri: String,
        #[serde(default = "ok")]
        pub(super) response_code: u16,
    }

    fn ok() -> u16 {
        200
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Part {
        pub(super) shape: String,
        pub(super) result_wrapper: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Shape {
        r#type: String,
        #[serde(default)]
        members: BTreeMap<String, Reference>,
        #[serde(default)]
        required: Vec<String>,
        member: Option<Reference>,
        key: Option<Reference>,
        value: Option<Reference>,
        #[serde(default)]
        flattened: bool,
        #[serde(default)]
        r#enum: Vec<String>,
        min: Option<f64>,
        max: Option<f64>,
        pattern: Option<String>,
        #[serde(default)]
        sensitive: bool,
        payload: Option<String>,
        error: Option<Error>,
        #[serde(default)]
        exception: bool,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Error {
        code: Option<String>,
        http_status_code: Option<u16>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Reference {
        shape: String,
        #[serde(default)]
        location: Location,
        location_name: Option<String>,
        query_name: Option<String>,
    }

    pub(super) fn shape(
        name: &str,
        raw: &Shape,
        id: &impl Fn(&str) -> Result<ShapeId, BadModel>,
    ) -> Result<super::Shape, BadModel> {
        let member = |name: &str, reference: &Reference| {
            Ok::<_, BadModel>(Member {
                name: name.to_owned(),
                shape: id(&reference.shape)?,
                required: raw.required.iter().any(|required| required == name),
                location: reference.location,
                location_name: reference.location_name.clone(),
                query_name: reference.query_name.clone(),
            })
        };
        let part = |part: &Option<Reference>| {
            let reference = part.as_ref().ok_or_else(|| BadModel::Missing(name.to_owned()))?;
            member("", reference)
        };
        let flattened = raw.flattened;
        let kind = match raw.r#type.as_str() {
            "structure" => {
                let members = raw.members.iter().map(|(name, raw)| member(name, raw));
                Kind::Structure(members.collect::<Result<_, _>>()?)
            }
            "list" => Kind::List { item: part(&raw.member)?, flattened },
            "map" => Kind::Map { key: part(&raw.key)?, value: part(&raw.value)?, flattened },
            "string" | "character" => Kind::Text,
            "integer" | "long" => Kind::Integer,
            "float" | "double" => Kind::Float,
            "boolean" => Kind::Boolean,
            "blob" => Kind::Blob,
            "timestamp" => Kind::Time,
            other => return Err(BadModel::Type(name.to_owned(), other.to_owned())),
        };
        let error = (raw.exception || raw.error.is_some()).then(|| {
            let error = raw.error.as_ref();
            let code = error.and_then(|error| error.code.clone());
            let status = error.and_then(|error| error.http_status_code).unwrap_or(400);
            (code.unwrap_or_else(|| name.to_owned()), status)
        });
        let limits = Limits {
            min: raw.min,
            max: raw.max,
            values: raw.r#enum.clone(),
            pattern: raw.pattern.clone(),
            sensitive: raw.sensitive,
            compiled: OnceLock::new(),
        };
        let (name, payload) = (name.to_owned(), raw.payload.clone());
        Ok(super::Shape { name, kind, limits, error, payload })
    }
}
