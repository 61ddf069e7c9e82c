//! What `roadstead explain` asks and is told: a request in the outside world's words.
//!
//! Pure. **Invariant:** what is answered comes from one snapshot, and changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::label;
use crate::routing::{Explanation, RoutedListener, Routing, explain};
use crate::rules::{Facts, Headers, Spoken};

/// A request as it is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// `LOAD_BALANCER:PORT` or the address and port; none: by the URL's port.
    pub listener: Option<String>,
    pub method: String,
    /// With its host, or a path alone.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub source: IpAddr,
}

/// A question that has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    #[error("{0:?} is no URL such as http://example.com:8080/path")]
    Url(String),
    #[error("{0:?} is no header such as \"Name: value\"")]
    Header(String),
    #[error("no HTTP listener is {0}; there are: {1}")]
    NoListener(String, String),
    #[error("several HTTP listeners are at {0}; name one: {1}")]
    Ambiguous(String, String),
    #[error("the line is no access log's line of an HTTP request")]
    Line,
}

/// What would become of the request.
///
/// # Errors
/// It is no request, or nobody knows which listener it would come to.
pub fn answer(
    routing: &Routing,
    question: &Question,
    now: Timestamp,
) -> Result<Explanation, Unanswered> {
    let url: Uri = question.url.parse().map_err(|_| Unanswered::Url(question.url.clone()))?;
    let listener = find(routing, question, &url)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &question.headers {
        let bad = || Unanswered::Header(format!("{name}: {value}"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        headers.append(name, HeaderValue::from_str(value).map_err(|_| bad())?);
    }
    let sent = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let facts = Facts {
        host: url.authority().map(http::uri::Authority::as_str).or(sent).unwrap_or_default(),
        path: url.path(),
        query: url.query().unwrap_or_default(),
        method: &question.method,
        source: Some(question.source),
        headers: Headers::Map(&headers),
        spoken: Spoken::Http1,
    };
    Ok(explain(listener, &facts, now))
}

fn find<'a>(
    routing: &'a Routing,
    question: &Question,
    url: &Uri,
) -> Result<&'a RoutedListener, Unanswered> {
    let all = || routing.listeners.values().filter(|listener| listener.protocol.is_http());
    let name = |listener: &Arc<RoutedListener>| label(&listener.listener.key);
    let default = if url.scheme_str() == Some("https") { 443 } else { 80 };
    let port = url.port_u16().unwrap_or(default);
    let asked = question.listener.clone().unwrap_or_else(|| format!("port {port}"));
    let address = asked.parse::<SocketAddr>().ok();
    let fits = |listener: &&Arc<RoutedListener>| match &question.listener {
        Some(asked) => {
            name(listener) == *asked
                || listener.listener.key.to_string() == *asked
                || address == Some(listener.address)
        }
        None => listener.address.port() == port,
    };
    let found: Vec<_> = all().filter(fits).collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(Unanswered::NoListener(asked, all().map(name).collect::<Vec<_>>().join(", "))),
        _ => {
            let names: Vec<_> = found.into_iter().map(name).collect();
            Err(Unanswered::Ambiguous(asked, names.join(", ")))
        }
    }
}

impl Question {
    /// The request of a line of the access log. Of its headers the log has `Host` and
    /// `User-Agent`.
    ///
    /// # Errors
    /// It is no such line, or the request was never read.
    pub fn of_line(line: &str) -> Result<Self, Unanswered> {
        let fields = fields(line);
        let [_, _, elb, client, ..] = &fields[..] else { return Err(Unanswered::Line) };
        let (request, agent) = (fields.get(12), fields.get(13));
        let mut request = request.ok_or(Unanswered::Line)?.split(' ');
        let (Some(method), Some(url)) = (request.next(), request.next()) else {
            return Err(Unanswered::Line);
        };
        let client: SocketAddr = client.parse().map_err(|_| Unanswered::Line)?;
        let parsed = url.parse::<Uri>().ok().filter(|url| url.scheme().is_some());
        let port = parsed.and_then(|url| url.port_u16()).ok_or(Unanswered::Line)?;
        let mut path = elb.split('/');
        let (Some("app"), Some(name)) = (path.next(), path.next()) else {
            return Err(Unanswered::Line);
        };
        let agent = agent.filter(|agent| *agent != "-");
        let headers = agent.map(|agent| ("User-Agent".to_owned(), agent.clone()));
        Ok(Self {
            listener: Some(format!("{name}:{port}")),
            method: method.to_owned(),
            url: url.to_owned(),
            headers: headers.into_iter().collect(),
            source: client.ip(),
        })
    }
}

/// A line's fields; quoted ones hold blanks, and a quote behind a backslash.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field) = (Vec::new(), String::new());
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in line.trim().chars() {
        match c {
            _ if is_escaped => {
                is_escaped = false;
                field.push(c);
            }
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "https 2018-07-02T22:36:20.186641Z app/front/50dc6c495c0c9188 \
        192.168.131.39:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 34 366 \
        \"GET https://www.example.com:8443/?a=b HTTP/1.1\" \"an \\\"agent\\\"\" - - arn \
        \"Root=1\" \"-\" \"-\" 0 2018-07-02T22:36:20.186641Z \"forward\" \"-\" \"-\"";

    #[test]
    fn a_logged_request_is_asked_about_as_it_came() {
        let question = Question::of_line(LINE).unwrap();
        let expected = Question {
            listener: Some("front:8443".into()),
            method: "GET".into(),
            url: "https://www.example.com:8443/?a=b".into(),
            headers: vec![("User-Agent".into(), "an \"agent\"".into())],
            source: [192, 168, 131, 39].into(),
        };
        assert_eq!(question, expected);
    }

    #[test]
    fn other_lines_are_refused() {
        let never = LINE.replace("GET https://www.example.com:8443/?a=b HTTP/1.1", "- - -");
        for line in ["", "a b c", &LINE[..60], &never, &LINE.replace("app/front", "net/front")] {
            assert_eq!(Question::of_line(line), Err(Unanswered::Line), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "[ -~]{0,200}") {
            let _ = Question::of_line(&line);
        }
    }
}
