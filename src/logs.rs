//! The access log, one line per request in ALB's format, and the audit log, one per API call.
//!
//! [`Record`] is the plain form of an access log's line and knows the format; the logs queue lines
//! and never wait. Not here: what is worth a line (the planes), the process's own log
//! (`tracing`).
//! **Invariant:** a request is never held up by the log, and no text of a client can end a field or
//! a line.

mod line;
mod lines;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::metrics::{Metrics, names};

use line::Line;

pub use line::push_ipv4;
pub use lines::{Counts, Lines};

/// Most lines are shorter.
const LINE: usize = 512;

/// `type`: what the client spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    Https,
    H2,
    /// A gRPC call. AWS has one word, whether over TLS or not.
    Grpcs,
    /// An HTTP/1.1 connection that became a tunnel.
    Ws,
    /// The same over TLS.
    Wss,
}

impl Kind {
    /// What an exchange over HTTP/1 was.
    #[must_use]
    pub const fn http1(is_secure: bool, is_tunnel: bool) -> Self {
        match (is_secure, is_tunnel) {
            (false, false) => Self::Http,
            (true, false) => Self::Https,
            (false, true) => Self::Ws,
            (true, true) => Self::Wss,
        }
    }

    /// What one over HTTP/2 was.
    #[must_use]
    pub const fn http2(is_grpc: bool) -> Self {
        if is_grpc { Self::Grpcs } else { Self::H2 }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2 => "h2",
            Self::Grpcs => "grpcs",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

/// One request. `None` is what does not apply: `-`, or -1 for times and priorities.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub kind: Kind,
    /// When the response was finished.
    pub time: Timestamp,
    /// `app/NAME/ID`.
    pub elb: &'a str,
    pub client: SocketAddr,
    pub target: Option<SocketAddr>,
    /// From the request's head received to its sending to the target.
    pub request_time: Option<Duration>,
    /// From there to the response's head.
    pub target_time: Option<Duration>,
    /// From there to the response's first byte to the client.
    pub response_time: Option<Duration>,
    pub status: u16,
    pub target_status: Option<u16>,
    pub received: u64,
    pub sent: u64,
    /// None: what came was no request.
    pub request: Option<RequestLine<'a>>,
    /// Where it was sent to, for what was no request.
    pub listener: SocketAddr,
    /// None: without TLS.
    pub tls: Option<Secured<'a>>,
    pub user_agent: Option<&'a str>,
    pub target_group_arn: Option<&'a str>,
    pub trace_id: Option<&'a str>,
    /// 0 is the default rule.
    pub priority: Option<u32>,
    pub created: Timestamp,
    /// What came before the action.
    pub check: Option<&'a str>,
    pub action: Option<&'a str>,
    pub redirect_url: Option<&'a str>,
    pub error_reason: Option<&'a str>,
    /// Desync mitigation's class and reason, where it has anything to say.
    pub classification: Option<(&'a str, &'a str)>,
    pub transforms: Transforms<'a>,
    /// Of the client's connection.
    pub connection_trace_id: &'a str,
}

/// The TLS of a client's connection.
#[derive(Clone, Copy, Debug)]
pub struct Secured<'a> {
    /// `ECDHE-RSA-AES128-GCM-SHA256`
    pub cipher: &'a str,
    /// `TLSv1.3`
    pub protocol: &'a str,
    /// What the client asked for.
    pub server_name: Option<&'a str>,
    /// The ARN of the certificate that was presented.
    pub certificate: &'a str,
}

/// What a rule's transforms made of a request; nothing where it has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transforms<'a> {
    pub host: Option<&'a str>,
    pub target: Option<&'a str>,
    pub status: Option<&'a str>,
}

#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    pub method: &'a str,
    /// As in `Host`; the listener's port is added when there is none.
    pub host: &'a str,
    /// With the query.
    pub path: &'a str,
    pub version: &'a str,
}

impl Record<'_> {
    /// Writes the line and its end. AWS, "Access log entries": the fields in their order, those
    /// that do not apply as `-` or -1.
    fn write(&self, out: &mut String) {
        let mut line = Line(out);
        line.word(Some(self.kind.as_str()));
        line.time(self.time);
        line.word(Some(self.elb));
        line.address(Some(self.client));
        line.address(self.target);
        line.seconds(self.request_time);
        line.seconds(self.target_time);
        line.seconds(self.response_time);
        line.number(self.status.into());
        match self.target_status {
            Some(status) => line.number(status.into()),
            None => line.word(None),
        }
        line.number(self.received);
        line.number(self.sent);
        line.quoted(|line| self.request_line(line));
        line.quoted_text(self.user_agent);
        let tls = self.tls.as_ref();
        line.word(tls.map(|tls| tls.cipher));
        line.word(tls.map(|tls| tls.protocol));
        line.word(self.target_group_arn);
        line.quoted_text(self.trace_id);
        line.quoted_text(tls.and_then(|tls| tls.server_name));
        line.quoted_text(tls.map(|tls| tls.certificate));
        match self.priority {
            Some(priority) => line.number(priority.into()),
            None => line.word(Some("-1")),
        }
        line.time(self.created);
        line.quoted(|line| match (self.check, self.action) {
            (Some(check), Some(action)) => {
                line.text(Some(check));
                line.text(Some(","));
                line.text(Some(action));
            }
            (check, action) => line.text(check.or(action)),
        });
        line.quoted_text(self.redirect_url);
        line.quoted_text(self.error_reason);
        line.quoted(|line| line.socket(self.target));
        line.quoted(|line| match self.target_status {
            Some(status) => line.digits(status.into()),
            None => line.text(None),
        });
        let (class, reason) = self.classification.unzip();
        line.quoted_text(class);
        line.quoted_text(reason);
        line.word(Some(self.connection_trace_id));
        let Transforms { host, target, status } = self.transforms;
        line.quoted_text(host);
        line.quoted_text(target);
        line.quoted_text(status);
        line.end();
    }

    fn request_line(&self, line: &mut Line<'_>) {
        let scheme = if self.tls.is_some() { "https://" } else { "http://" };
        let Some(RequestLine { method, host, path, version }) = &self.request else {
            line.text(Some("- "));
            line.text(Some(scheme));
            line.socket(Some(self.listener));
            return line.text(Some("- -"));
        };
        line.text(Some(method));
        line.text(Some(" "));
        line.text(Some(scheme));
        line.text(Some(host));
        let behind_address = host.rfind(']').map_or(*host, |end| &host[end..]);
        if !behind_address.contains(':') {
            line.text(Some(":"));
            line.digits(self.listener.port().into());
        }
        line.text(Some(path));
        line.text(Some(" "));
        line.text(Some(version));
    }
}

/// Queues lines for the writer thread. Clones share it; dropping the last one writes what is
/// queued.
#[derive(Clone, Debug)]
pub struct AccessLog(Lines);

impl AccessLog {
    /// Opens `path` for appending and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread be started.
    pub fn open(path: &Path, metrics: &Metrics) -> io::Result<Self> {
        let counts = Counts {
            written: metrics.counter(&names::ACCESS_LOG_LINES, &[]),
            dropped: metrics.counter(&names::ACCESS_LOG_DROPPED, &[]),
            control: metrics.control(),
        };
        Lines::open(path, "access log", counts).map(Self)
    }

    /// Queues one line; drops and counts it when the queue is full. `thread` is the calling data
    /// thread's index.
    pub fn log(&self, thread: usize, record: &Record<'_>) {
        let mut line = String::with_capacity(LINE);
        record.write(&mut line);
        self.0.push(thread, line);
    }

    /// Closes the file and opens its path anew: it was moved away.
    pub fn reopen(&self) {
        self.0.reopen();
    }
}

/// The audit log: a JSON line per call of the AWS APIs.
#[derive(Clone, Debug)]
pub struct AuditLog(Lines);

impl AuditLog {
    /// Opens `path` for appending and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread be started.
    pub fn open(path: &Path, metrics: &Metrics) -> io::Result<Self> {
        let counts = Counts {
            written: metrics.counter(&names::AUDIT_LOG_LINES, &[]),
            dropped: metrics.counter(&names::AUDIT_LOG_DROPPED, &[]),
            control: metrics.control(),
        };
        Lines::open(path, "audit log", counts).map(Self)
    }

    /// Queues one record; drops and counts it when the queue is full.
    pub fn log(&self, record: &serde_json::Value) {
        self.0.push(0, format!("{record}\n"));
    }

    /// Closes the file and opens its path anew: it was moved away.
    pub fn reopen(&self) {
        self.0.reopen();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1_530_570_980_186_641);

    fn record() -> Record<'static> {
        Record {
            kind: Kind::Http,
            time: AT,
            elb: "app/front/50dc6c495c0c9188",
            client: ([192, 168, 131, 39], 2817).into(),
            target: Some(([10, 0, 0, 1], 80).into()),
            request_time: Some(Duration::ZERO),
            target_time: Some(Duration::from_micros(1499)),
            response_time: Some(Duration::ZERO),
            status: 200,
            target_status: Some(200),
            received: 34,
            sent: 366,
            request: Some(RequestLine {
                method: "GET",
                host: "www.example.com",
                path: "/?a=b",
                version: "HTTP/1.1",
            }),
            listener: ([127, 0, 0, 1], 8080).into(),
            tls: None,
            user_agent: Some("curl/7.46.0"),
            target_group_arn: Some("arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/73"),
            trace_id: Some("Root=1-58337262-36d228ad5d99923122bbe354"),
            priority: Some(0),
            created: AT,
            check: None,
            action: Some("forward"),
            redirect_url: None,
            error_reason: None,
            classification: None,
            transforms: Transforms::default(),
            connection_trace_id: "TID_1",
        }
    }

    fn text(record: &Record<'_>) -> String {
        let mut line = String::new();
        record.write(&mut line);
        assert_eq!(line.pop(), Some('\n'));
        line
    }

    fn check(record: &Record<'_>, expected: &str) {
        assert_eq!(text(record), expected.replace('\n', " "));
    }

    #[test]
    fn forwarded_request_is_logged_as_alb_does() {
        check(
            &record(),
            "http 2018-07-02T22:36:20.186641Z app/front/50dc6c495c0c9188 192.168.131.39:2817\n\
             10.0.0.1:80 0.000 0.001 0.000 200 200 34 366\n\
             \"GET http://www.example.com:8080/?a=b HTTP/1.1\" \"curl/7.46.0\" - -\n\
             arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/73\n\
             \"Root=1-58337262-36d228ad5d99923122bbe354\" \"-\" \"-\" 0\n\
             2018-07-02T22:36:20.186641Z\n\
             \"forward\" \"-\" \"-\" \"10.0.0.1:80\" \"200\" \"-\" \"-\" TID_1 \"-\" \"-\" \"-\"",
        );
    }

    #[test]
    fn a_request_over_tls_tells_what_was_agreed_on() {
        let tls = Secured {
            cipher: "ECDHE-RSA-AES128-GCM-SHA256",
            protocol: "TLSv1.2",
            server_name: Some("www.example.com"),
            certificate: "arn:aws:acm:eu-west-1:1:certificate/12",
        };
        check(
            &Record { kind: Kind::http1(true, false), tls: Some(tls), ..record() },
            "https 2018-07-02T22:36:20.186641Z app/front/50dc6c495c0c9188 192.168.131.39:2817\n\
             10.0.0.1:80 0.000 0.001 0.000 200 200 34 366\n\
             \"GET https://www.example.com:8080/?a=b HTTP/1.1\" \"curl/7.46.0\"\n\
             ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2\n\
             arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/73\n\
             \"Root=1-58337262-36d228ad5d99923122bbe354\" \"www.example.com\"\n\
             \"arn:aws:acm:eu-west-1:1:certificate/12\" 0 2018-07-02T22:36:20.186641Z\n\
             \"forward\" \"-\" \"-\" \"10.0.0.1:80\" \"200\" \"-\" \"-\" TID_1 \"-\" \"-\" \"-\"",
        );
    }

    #[test]
    fn what_does_not_apply_is_a_dash_or_minus_one() {
        let record = Record {
            client: "[2001:db8::1]:5".parse().unwrap(),
            target: None,
            request_time: None,
            target_time: None,
            response_time: None,
            status: 400,
            target_status: None,
            request: None,
            user_agent: None,
            target_group_arn: None,
            trace_id: None,
            priority: None,
            check: None,
            action: None,
            error_reason: Some("MalformedRequest"),
            classification: Some(("Severe", "BadHeader")),
            ..record()
        };
        check(
            &record,
            "http 2018-07-02T22:36:20.186641Z app/front/50dc6c495c0c9188 [2001:db8::1]:5 -\n\
             -1 -1 -1 400 - 34 366 \"- http://127.0.0.1:8080- -\" \"-\"\n\
             - - - \"-\" \"-\" \"-\" -1\n\
             2018-07-02T22:36:20.186641Z \"-\" \"-\" \"MalformedRequest\"\n\
             \"-\" \"-\" \"Severe\" \"BadHeader\" TID_1 \"-\" \"-\" \"-\"",
        );
    }

    #[test]
    fn redirects_and_transforms_are_told() {
        let transforms =
            Transforms { host: Some("b"), target: Some("/c"), status: Some("TransformSuccess") };
        let (action, redirect_url) = (Some("redirect"), Some("https://a:443/"));
        let line = text(&Record { action, redirect_url, transforms, ..record() });
        assert!(line.contains(r#" "redirect" "https://a:443/" "-" "#), "{line}");
        assert!(line.ends_with(r#" TID_1 "b" "/c" "TransformSuccess""#), "{line}");
    }

    #[test]
    fn no_text_of_a_client_ends_its_field() {
        let line = text(&Record { user_agent: Some("a\"b\\c\nd\té"), ..record() });
        assert!(line.contains(r#" "a\x22b\x5Cc\x0Ad\x09\xC3\xA9" - - "#), "{line}");
        let spaced = text(&Record { user_agent: Some(" a "), ..record() });
        assert!(spaced.contains(r#" " a " - - "#), "{spaced}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn host_keeps_the_port_it_has() {
        let check = |host, expected: &str| {
            let request = RequestLine { method: "GET", host, path: "/", version: "HTTP/1.1" };
            let line = text(&Record { request: Some(request), ..record() });
            assert!(line.contains(expected), "{line}");
        };
        check("a.b:9", "http://a.b:9/ ");
        check("[::1]", "http://[::1]:8080/ ");
        check("[::1]:9", "http://[::1]:9/ ");
    }

    #[test]
    fn lines_are_on_disk_when_the_last_clone_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let metrics = Metrics::new(1);
        let written = metrics.counter(&names::ACCESS_LOG_LINES, &[]);
        let log = AccessLog::open(&path, &metrics).unwrap();
        for _ in 0..500 {
            log.clone().log(0, &record());
        }
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 500);
        assert_eq!(written.total(), 500);
    }

    #[test]
    fn after_reopen_lines_go_to_the_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("a"), directory.path().join("b"));
        let log = AccessLog::open(&path, &Metrics::new(1)).unwrap();
        log.log(0, &record());
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        let deadline = crate::clock::instant() + Duration::from_secs(30);
        while !path.exists() {
            assert!(crate::clock::instant() < deadline, "the log was not reopened");
            std::thread::yield_now();
        }
        log.log(0, &record());
        drop(log);
        let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&moved), lines(&path)), (1, 1));
    }

    #[test]
    fn lines_that_the_disk_refuses_are_counted() {
        let metrics = Metrics::new(1);
        let written = metrics.counter(&names::ACCESS_LOG_LINES, &[]);
        let dropped = metrics.counter(&names::ACCESS_LOG_DROPPED, &[]);
        let log = AccessLog::open(Path::new("/dev/full"), &metrics).unwrap();
        for _ in 0..300 {
            log.log(0, &record());
        }
        drop(log);
        assert_eq!((written.total(), dropped.total()), (0, 300));
    }

    #[test]
    fn a_directory_that_does_not_exist_is_an_error() {
        assert!(AccessLog::open(Path::new("/nonexistent/a"), &Metrics::new(1)).is_err());
    }
}
