//! What a request says of its signature: the `Authorization` header, or the `X-Amz-` parameters of
//! a presigned URL.
//!
//! Form only. Not here: whether any of it is true. **Invariant:** nothing that this page reads
//! stands in the request twice.

use std::borrow::Cow;

use http::HeaderMap;

use super::Refusal;

/// The one algorithm.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Of an `Authorization` header (ours; SDKs' have a few hundred bytes).
const LONGEST_HEADER: usize = 8 * 1024;
/// Of signed headers (ours).
const MOST_HEADERS: usize = 100;
/// AWS: a presigned URL lives for a week at most.
const LONGEST_LIFE: u64 = 604_800;

/// A signature and what it was made with.
#[derive(Debug)]
pub(super) struct Authorization<'a> {
    pub(super) credential: Cow<'a, str>,
    pub(super) signed_headers: Cow<'a, str>,
    pub(super) signature: Cow<'a, str>,
    /// As the request writes it.
    pub(super) date: Cow<'a, str>,
    /// Seconds that a presigned URL lives; none in the header's form.
    pub(super) expires: Option<u64>,
}

fn incomplete(reason: impl Into<String>) -> Refusal {
    Refusal::Incomplete(reason.into())
}

/// A header that stands in the request at most once.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(incomplete(format!("Header '{name}' must not stand in a request twice.")));
    }
    let text = value.to_str().map_err(|_| incomplete(format!("Header '{name}' must be ASCII.")))?;
    Ok(Some(text))
}

/// A parameter that stands in the query at most once.
pub(super) fn parameter<'a>(
    parameters: &'a [(Vec<u8>, Vec<u8>)],
    name: &str,
) -> Result<Option<&'a str>, Refusal> {
    let mut values = parameters.iter().filter(|(given, _)| given == name.as_bytes());
    let Some((_, value)) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(incomplete(format!("'{name}' must not stand in a query twice.")));
    }
    let text = std::str::from_utf8(value);
    text.map(Some).map_err(|_| incomplete(format!("'{name}' must be ASCII.")))
}

/// Reads either form.
pub(super) fn read<'a>(
    headers: &'a HeaderMap,
    parameters: &'a [(Vec<u8>, Vec<u8>)],
) -> Result<Authorization<'a>, Refusal> {
    let algorithm = parameter(parameters, "X-Amz-Algorithm")?;
    let presigned = algorithm.is_some() || parameter(parameters, "X-Amz-Signature")?.is_some();
    match (single(headers, "authorization")?, presigned) {
        (Some(_), true) => Err(incomplete("Only one of header and query may sign a request.")),
        (Some(header), false) => from_header(header, headers),
        (None, true) => from_query(parameters),
        (None, false) => Err(Refusal::MissingToken),
    }
}

fn from_header<'a>(header: &'a str, headers: &'a HeaderMap) -> Result<Authorization<'a>, Refusal> {
    if header.len() > LONGEST_HEADER {
        return Err(incomplete("Authorization header is too long."));
    }
    let header = header.trim();
    let (algorithm, rest) = header.split_once(' ').unwrap_or((header, ""));
    check_algorithm(algorithm)?;
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for part in rest.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| {
            incomplete("Authorization header holds no key=value pair (missing equal-sign).")
        })?;
        let field = match key {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(incomplete("Authorization header holds an unknown parameter.")),
        };
        if field.replace(value).is_some() {
            return Err(incomplete(format!("Authorization header holds '{key}' twice.")));
        }
    }
    let need = |value: Option<&'a str>, name| {
        let value = value.filter(|value| !value.is_empty()).map(Cow::Borrowed);
        let told = || incomplete(format!("Authorization header requires '{name}' parameter."));
        value.ok_or_else(told)
    };
    let date = match single(headers, "x-amz-date")? {
        Some(date) => Some(date),
        None => single(headers, "date")?,
    };
    let date = date.ok_or_else(|| {
        incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        )
    })?;
    Ok(Authorization {
        credential: need(credential, "Credential")?,
        signed_headers: need(signed_headers, "SignedHeaders")?,
        signature: need(signature, "Signature")?,
        date: Cow::Borrowed(date),
        expires: None,
    })
}

fn from_query(parameters: &[(Vec<u8>, Vec<u8>)]) -> Result<Authorization<'_>, Refusal> {
    let need = |name| {
        let value = parameter(parameters, name)?.filter(|value| !value.is_empty());
        let told = || incomplete(format!("AWS query-string parameters must include '{name}'."));
        value.ok_or_else(told)
    };
    check_algorithm(need("X-Amz-Algorithm")?)?;
    let expires = need("X-Amz-Expires")?;
    let digits = expires.bytes().all(|byte| byte.is_ascii_digit());
    let expires = expires.parse().ok().filter(|life| digits && (1..=LONGEST_LIFE).contains(life));
    let told = || incomplete("X-Amz-Expires must be a number of seconds from 1 to 604800.");
    Ok(Authorization {
        credential: need("X-Amz-Credential")?.into(),
        signed_headers: need("X-Amz-SignedHeaders")?.into(),
        signature: need("X-Amz-Signature")?.into(),
        date: need("X-Amz-Date")?.into(),
        expires: Some(expires.ok_or_else(told)?),
    })
}

fn check_algorithm(algorithm: &str) -> Result<(), Refusal> {
    if algorithm == ALGORITHM {
        return Ok(());
    }
    Err(incomplete(format!("Unsupported AWS 'algorithm', {ALGORITHM} is needed.")))
}

impl Authorization<'_> {
    /// The signed headers' names: lower case, sorted, each once, `host` among them, and every
    /// `x-amz-` header that the request has.
    pub(super) fn headers(&self, headers: &HeaderMap) -> Result<Vec<&str>, Refusal> {
        let signed: Vec<&str> = self.signed_headers.split(';').collect();
        if signed.len() > MOST_HEADERS {
            return Err(incomplete("SignedHeaders names too many headers."));
        }
        let is_name = |name: &str| {
            let good = |byte: u8| !byte.is_ascii_uppercase();
            name.bytes().all(good) && http::HeaderName::from_bytes(name.as_bytes()).is_ok()
        };
        if !signed.iter().all(|name| is_name(name)) {
            return Err(incomplete("SignedHeaders must be names of headers in lower case."));
        }
        if !signed.is_sorted_by(|one, next| one < next) {
            return Err(incomplete("SignedHeaders must be sorted, each name once."));
        }
        if !signed.contains(&"host") {
            return Err(Refusal::Unsigned(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
                    .to_owned(),
            ));
        }
        let unsigned = |name: &&str| name.starts_with("x-amz-") && !signed.contains(name);
        if let Some(name) = headers.keys().map(http::HeaderName::as_str).find(unsigned) {
            return Err(Refusal::Unsigned(format!(
                "There were headers present in the request which were not signed: {name}"
            )));
        }
        Ok(signed)
    }
}
