//! A response's head: what we need to know of it, and the head that the client gets.
//!
//! Pure: bytes in, bytes out. **Invariant:** what a client gets is what was parsed, framed in one
//! way; a response whose length two parsers could read differently is refused.

use std::io::Write as _;
use std::mem::MaybeUninit;

use super::super::additions::Additions;
use super::super::coding::Nature;
use super::super::errors::{self, Cause};
use super::super::head::RESPONSE_HEADERS;
use super::super::own::Own;
use super::body::Body;
use super::fields::{self, Field, Fields, MOST, OURS};
use super::frames::Frames;
use super::h2::Made;
use crate::model::{Coding, Compression};

/// What the client's side of an exchange asks of its response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) is_http_1_0: bool,
    pub(super) is_head: bool,
    pub(super) upgrades: bool,
    /// The client's connection may be used again.
    pub(super) keep_alive: bool,
    /// What the client likes best of what its listener has.
    pub(super) coding: Option<Coding>,
}

/// What is left to do behind a response's head.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    /// Bytes of its head.
    pub(super) length: usize,
    pub(super) body: Body,
    /// The body goes on in chunks.
    pub(super) chunked: bool,
    /// The body is coded on its way.
    pub(super) coding: Option<Coding>,
    /// The client was told that its connection stays.
    pub(super) keep_alive: bool,
    /// The target's connection may be used again.
    pub(super) reusable: bool,
}

/// Where a head goes, as the client's protocol has it.
#[derive(Debug)]
pub(super) enum Out<'a> {
    /// HTTP/1: lines.
    Text(&'a mut Vec<u8>),
    /// HTTP/2: fields.
    Fields(&'a mut Made),
}

impl Out<'_> {
    fn begin(&mut self, status: u16, reason: Option<&str>) {
        match self {
            Self::Text(out) => write_line(status, reason, out),
            Self::Fields(made) => made.status(status),
        }
    }

    fn field(&mut self, field: &httparse::Header<'_>) {
        match self {
            Self::Text(out) => fields::write(field, out),
            Self::Fields(made) => made.field(field.name, field.value),
        }
    }

    /// One of ours.
    fn add(&mut self, name: &str, value: &str) {
        match self {
            Self::Text(out) => fields::write_line(name.as_bytes(), value.as_bytes(), out),
            Self::Fields(made) => made.field(name, value.as_bytes()),
        }
    }

    /// HTTP/2 frames every body itself.
    fn chunked(&mut self) {
        if let Self::Text(out) = self {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
    }

    fn length(&mut self, length: u64) {
        match self {
            Self::Text(out) => {
                out.extend_from_slice(b"Content-Length: ");
                fields::write_number(length, out);
                out.extend_from_slice(b"\r\n");
            }
            Self::Fields(made) => made.length(length),
        }
    }
}

/// Whether `bytes` hold the end of a head, where nothing before `searched` does. Moves `searched`.
pub(super) fn is_whole(bytes: &[u8], searched: &mut usize) -> bool {
    let from = searched.saturating_sub(2);
    *searched = bytes.len();
    let rest = &bytes[from..];
    memchr::memchr_iter(b'\n', rest).any(|found| {
        let behind = &rest[found + 1..];
        behind.starts_with(b"\n") || behind.starts_with(b"\r\n")
    })
}

/// Parses the head at the beginning of `bytes` and writes what the client gets to `out`; nothing
/// for an interim response that is not passed on. None: `bytes` do not hold all of it.
///
/// # Errors
/// It is no response, or too long.
pub(super) fn translate(
    bytes: &[u8],
    asked: Asked,
    added: &Additions<'_>,
    out: &mut Out<'_>,
) -> Result<Option<Response>, Cause> {
    let mut headers = [const { MaybeUninit::uninit() }; MOST];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Cause::ResponseHeaders),
        Err(_) => return Err(Cause::BadResponse),
    };
    let (Some(minor), Some(status)) = (parsed.version, parsed.code) else {
        return Err(Cause::BadResponse);
    };
    let size = |field: &httparse::Header<'_>| field.name.len() + field.value.len() + ": \r\n".len();
    if parsed.headers.iter().map(size).sum::<usize>() > RESPONSE_HEADERS {
        return Err(Cause::ResponseHeaders);
    }
    let fields = Fields::read(parsed.headers);
    if status < 200 {
        return interim(status, length, asked, (parsed.reason, &fields), added, out).map(Some);
    }
    if let Out::Text(out) = out {
        out.reserve(length + OURS);
    }
    let framing = Framing::read(&fields, status, asked.is_head)?;
    let body = framing.body();
    let nature = added.compression().and_then(|rules| worth(&fields, status, &framing, rules));
    let may = nature.is_some() && !asked.is_http_1_0 && !framing.is_bodyless;
    let coding = asked.coding.filter(|_| may);
    // A body of unknown end is chunked for those who know chunks.
    let unknown = matches!(body, Body::Chunked(_) | Body::UntilEnd) || coding.is_some();
    let chunked = !asked.is_http_1_0 && unknown;
    let keep_alive = asked.keep_alive && (chunked || matches!(body, Body::Length(_)));
    out.begin(status, parsed.reason);
    pass(&fields, added, coding.is_some(), out);
    for (name, value) in added.fields(fields.set_cookies()) {
        out.add(name, value);
    }
    if let Some(coding) = coding {
        out.add("Content-Encoding", coding.as_str());
    }
    if nature.is_some_and(|nature| !nature.varies()) {
        out.add("Vary", "Accept-Encoding");
    }
    match (framing.chunked, framing.length) {
        _ if chunked => out.chunked(),
        // What a GET would have got: RFC 9110, sections 8.6 and 15.4.5.
        (true, _) if framing.is_bodyless && !asked.is_http_1_0 && status != 204 => out.chunked(),
        (false, Some(length)) if status != 204 => out.length(length),
        _ => {}
    }
    if let Out::Text(out) = out {
        write_connection(keep_alive, out);
    }
    let reusable = !fields.close
        && (minor == 1 || fields.keep_alive)
        && !framing.is_doubtful
        && !matches!(body, Body::UntilEnd);
    Ok(Some(Response { status, length, body, chunked, coding, keep_alive, reusable }))
}

fn interim(
    status: u16,
    length: usize,
    asked: Asked,
    (reason, fields): (Option<&str>, &Fields<'_, '_>),
    added: &Additions<'_>,
    out: &mut Out<'_>,
) -> Result<Response, Cause> {
    let switches = status == 101;
    if status < 100 || (switches && !asked.upgrades) {
        return Err(Cause::BadResponse);
    }
    // 100 was ours to send; HTTP/1.0 knows no interim responses (RFC 9110, section 15.2).
    if switches || (status != 100 && !asked.is_http_1_0) {
        out.begin(status, reason);
        pass(fields, added, false, out);
        if switches {
            for (name, value) in added.fields(fields.set_cookies()) {
                out.add(name, value);
            }
        }
        if let Out::Text(out) = out {
            let upgrade: &[u8] = b"Connection: Upgrade\r\nUpgrade: websocket\r\n";
            out.extend_from_slice(if switches { upgrade } else { b"" });
            out.extend_from_slice(b"\r\n");
        }
    }
    let body = if switches { Body::Frames(Frames::default()) } else { Body::none() };
    Ok(Response {
        status,
        length,
        body,
        chunked: false,
        coding: None,
        keep_alive: !switches,
        reusable: !switches,
    })
}

/// What the response is, where clients may get it coded.
fn worth<'b>(
    fields: &Fields<'_, 'b>,
    status: u16,
    framing: &Framing,
    rules: &Compression,
) -> Option<Nature<'b>> {
    let length = framing.length.filter(|_| !framing.chunked);
    let mut nature = Nature::of(status, length);
    for (kind, field) in fields.iter() {
        if kind == Field::Other {
            nature.field(field.name, field.value);
        }
    }
    nature.is_worth_it(rules).then_some(nature)
}

/// Passes on what is the target's to say; `is_coded`: of a body that is not what it was.
fn pass(fields: &Fields<'_, '_>, added: &Additions<'_>, is_coded: bool, out: &mut Out<'_>) {
    let is = |field: &httparse::Header<'_>, name: &str| field.name.eq_ignore_ascii_case(name);
    for (kind, field) in fields.iter() {
        match kind {
            Field::Connection
            | Field::ContentLength
            | Field::HopByHop
            | Field::TransferEncoding
            | Field::Upgrade => {}
            _ if fields.nominates(field.name) || added.hides(field.name) => {}
            // Parts of what was sent are no parts of this.
            Field::Other if is_coded && is(field, "accept-ranges") => {}
            Field::Other if is_coded && is(field, "content-encoding") => {}
            // The same for its readers, not the same bytes: RFC 9110, section 8.8.1. One that
            // cannot be told in every protocol is not told.
            Field::Other if is_coded && is(field, "etag") && !field.value.starts_with(b"W/") => {
                let tag = std::str::from_utf8(field.value).ok().filter(|tag| tag.is_ascii());
                if let Some(tag) = tag {
                    out.add(field.name, &format!("W/{tag}"));
                }
            }
            _ => out.field(field),
        }
    }
}

/// What a response's fields say of its length.
#[derive(Clone, Copy, Debug, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    is_bodyless: bool,
    /// Both kinds: RFC 9112, section 6.3, believes the chunks and ends the connection.
    is_doubtful: bool,
}

impl Framing {
    fn read(fields: &Fields<'_, '_>, status: u16, is_head: bool) -> Result<Self, Cause> {
        let is_bodyless = is_head || status == 204 || status == 304;
        let mut framing = Self { is_bodyless, ..Self::default() };
        for (kind, field) in fields.iter() {
            match kind {
                Field::ContentLength => framing.add_length(field.value)?,
                Field::TransferEncoding => framing.add_coding(field.value)?,
                _ => {}
            }
        }
        // A 204 that announces a body (RFC 9110, section 8.6) may send one.
        let announced = framing.chunked || framing.length.is_some_and(|length| length > 0);
        framing.is_doubtful =
            framing.chunked && framing.length.is_some() || status == 204 && announced;
        Ok(framing)
    }

    /// RFC 9110, section 8.6: a list of equal numbers is one number, anything else is refused.
    fn add_length(&mut self, value: &[u8]) -> Result<(), Cause> {
        for part in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let decimal = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(part).ok().and_then(|text| text.parse().ok());
            match number.filter(|_| decimal) {
                Some(number) if self.length.is_none_or(|length| length == number) => {
                    self.length = Some(number);
                }
                _ => return Err(Cause::BadResponse),
            }
        }
        Ok(())
    }

    fn add_coding(&mut self, value: &[u8]) -> Result<(), Cause> {
        let is_chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
        if !is_chunked || std::mem::replace(&mut self.chunked, true) {
            return Err(Cause::BadResponse);
        }
        Ok(())
    }

    fn body(&self) -> Body {
        match self {
            Self { is_bodyless: true, .. } => Body::none(),
            Self { chunked: true, .. } => Body::chunked(),
            Self { length: Some(length), .. } => Body::Length(*length),
            Self { length: None, .. } => Body::UntilEnd,
        }
    }
}

fn write_line(status: u16, reason: Option<&str>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    fields::write_number(status.into(), out);
    out.push(b' ');
    out.extend_from_slice(reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_connection(keep_alive: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(match keep_alive {
        true => b"Connection: keep-alive\r\n\r\n".as_slice(),
        false => b"Connection: close\r\n\r\n",
    });
}

/// Writes a whole response of our own.
pub(in super::super) fn write_own(
    own: &Own,
    added: &Additions<'_>,
    (is_head, keep_alive): (bool, bool),
    out: &mut Vec<u8>,
) {
    let status = own.status();
    let known = http::StatusCode::from_u16(status).ok();
    let reason = known.and_then(|status| status.canonical_reason());
    write_line(status, Some(reason.unwrap_or_else(|| errors::phrase(status))), out);
    if !added.hides("server") {
        fields::write_line(b"Server", errors::SERVER.as_bytes(), out);
    }
    for (name, value) in added.fields(std::iter::empty()) {
        fields::write_line(name.as_bytes(), value.as_bytes(), out);
    }
    for (name, value) in own.fields() {
        fields::write_line(name.as_bytes(), value.as_bytes(), out);
    }
    let (is_bodyless, body) = (matches!(status, 204 | 304), own.body());
    if !is_bodyless {
        let _ = write!(out, "Content-Length: {}\r\n", body.len());
        if !own.content_type().is_empty() {
            fields::write_line(b"Content-Type", own.content_type().as_bytes(), out);
        }
    }
    write_connection(keep_alive, out);
    if !is_bodyless && !is_head {
        out.extend_from_slice(body.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::ResponseRules;

    const ASKED: Asked = Asked {
        is_http_1_0: false,
        is_head: false,
        upgrades: false,
        keep_alive: true,
        coding: None,
    };

    /// Lines end with LF alone here. Expected: the head that goes on, and whether the target's
    /// connection may be used again.
    fn check(asked: Asked, sent: &str, expected: Result<(&str, bool), Cause>) {
        let sent = sent.replace('\n', "\r\n") + "\r\n";
        let mut out = Vec::new();
        assert!(is_whole(sent.as_bytes(), &mut 0), "{sent}");
        let rules = ResponseRules::default();
        let added = Additions::of(&rules);
        let got = translate(sent.as_bytes(), asked, &added, &mut Out::Text(&mut out));
        let got = got.map(|response| {
            let response = response.unwrap();
            assert_eq!(response.length, sent.len());
            (String::from_utf8(out).unwrap().replace("\r\n", "\n"), response.reusable)
        });
        let expected = expected.map(|(text, reusable)| (text.to_owned(), reusable));
        assert_eq!(got, expected, "{sent}");
    }

    const KEPT: &str = "Connection: keep-alive\n\n";

    #[test]
    fn heads_are_written_anew() {
        let sent = "HTTP/1.1 200 Fine\nA:  b \nKeep-Alive: 5\nConnection: X-A\nx-a: 1\n\
                    Content-Length: 2\n";
        let expected = format!("HTTP/1.1 200 Fine\nA: b\nContent-Length: 2\n{KEPT}");
        check(ASKED, sent, Ok((&expected, true)));
        let expected = "HTTP/1.1 200 Fine\nA: b\nContent-Length: 2\nConnection: close\n\n";
        check(Asked { keep_alive: false, ..ASKED }, sent, Ok((expected, true)));
        let old = "HTTP/1.0 200 OK\nContent-Length: 2\n";
        let expected = format!("HTTP/1.1 200 OK\nContent-Length: 2\n{KEPT}");
        check(ASKED, old, Ok((&expected, false)));
        check(ASKED, &(old.to_owned() + "Connection: Keep-Alive\n"), Ok((&expected, true)));
    }

    #[test]
    fn a_body_is_framed_in_one_way() {
        let chunked = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n";
        let expected = format!("{chunked}{KEPT}");
        check(ASKED, chunked, Ok((&expected, true)));
        check(ASKED, &format!("{chunked}Content-Length: 5\n"), Ok((&expected, false)));
        check(ASKED, "HTTP/1.1 200 OK\n", Ok((&expected, false)));
        let old = Asked { is_http_1_0: true, ..ASKED };
        check(old, chunked, Ok(("HTTP/1.1 200 OK\nConnection: close\n\n", true)));
        for bad in [
            "Content-Length: 1\nContent-Length: 2\n",
            "Content-Length: -1\n",
            "Content-Length: \n",
            "Transfer-Encoding: gzip, chunked\n",
            "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n",
            "A : b\n",
            "A: b\n folded\n",
        ] {
            check(ASKED, &format!("HTTP/1.1 200 OK\n{bad}"), Err(Cause::BadResponse));
        }
    }

    #[test]
    fn coded_bodies_are_told() {
        let rules =
            ResponseRules { compression: Some(Compression::default()), ..Default::default() };
        let check = |coding: Option<Coding>, sent: &str, expected: &str| {
            let sent = sent.replace('\n', "\r\n") + "\r\n";
            let (mut out, added) = (Vec::new(), Additions::of(&rules));
            let asked = Asked { coding, ..ASKED };
            let got = translate(sent.as_bytes(), asked, &added, &mut Out::Text(&mut out));
            let got = got.unwrap().unwrap();
            let text = String::from_utf8(out).unwrap().replace("\r\n", "\n");
            assert_eq!(text, format!("{expected}{KEPT}"), "{sent}");
            assert_eq!(got.coding.is_some(), expected.contains("Content-Encoding: "));
        };
        let head = "HTTP/1.1 200 OK\nContent-Type: text/css\n";
        let sent = format!("{head}ETag: \"a\"\nAccept-Ranges: bytes\nContent-Length: 2000\n");
        check(
            Some(Coding::Br),
            &sent,
            &format!(
                "{head}ETag: W/\"a\"\nContent-Encoding: br\nVary: Accept-Encoding\n\
                 Transfer-Encoding: chunked\n"
            ),
        );
        let plain = format!(
            "{head}ETag: \"a\"\nAccept-Ranges: bytes\nVary: Accept-Encoding\n\
             Content-Length: 2000\n"
        );
        check(None, &sent, &plain);
        let small = format!("{head}Content-Length: 20\n");
        check(Some(Coding::Br), &small, &small);
        let varying = format!("{head}Vary: *\nETag: W/\"a\"\nTransfer-Encoding: chunked\n");
        let coded = varying.replace("Transfer", "Content-Encoding: gzip\nTransfer");
        check(Some(Coding::Gzip), &varying, &coded);
    }

    #[test]
    fn some_responses_have_no_body() {
        let head = Asked { is_head: true, ..ASKED };
        let sent = "HTTP/1.1 200 OK\nContent-Length: 5\n";
        check(head, sent, Ok((&format!("{sent}{KEPT}"), true)));
        let sent = "HTTP/1.1 304 Not Modified\nContent-Length: 5\n";
        check(ASKED, sent, Ok((&format!("{sent}{KEPT}"), true)));
        let sent = "HTTP/1.1 204 No Content\n";
        check(ASKED, &format!("{sent}Content-Length: 0\n"), Ok((&format!("{sent}{KEPT}"), true)));
        // What announces a body may send one: nothing else is read behind it.
        for announced in ["Content-Length: 5\n", "Transfer-Encoding: chunked\n"] {
            let expected = format!("{sent}{KEPT}");
            check(ASKED, &format!("{sent}{announced}"), Ok((&expected, false)));
        }
    }

    #[test]
    fn interim_responses_pass_where_they_are_known() {
        let hints = "HTTP/1.1 103 Early Hints\nLink: a\n";
        check(ASKED, hints, Ok((&format!("{hints}\n"), true)));
        check(Asked { is_http_1_0: true, ..ASKED }, hints, Ok(("", true)));
        check(ASKED, "HTTP/1.1 100 Continue\n", Ok(("", true)));
        let switch = "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n";
        check(ASKED, switch, Err(Cause::BadResponse));
        let asked = Asked { upgrades: true, ..ASKED };
        check(asked, switch, Ok((&format!("{switch}\n"), false)));
        check(ASKED, "HTTP/1.1 099 Low\n", Err(Cause::BadResponse));
    }

    #[test]
    fn a_part_of_a_head_is_no_head_yet() {
        let (rules, mut out) = (ResponseRules::default(), Vec::new());
        let sent = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: \"b\"\t\r\nC:\r\n\r\n";
        for end in 0..sent.len() {
            let added = Additions::of(&rules);
            let got = translate(&sent[..end], ASKED, &added, &mut Out::Text(&mut out));
            assert!(matches!(got, Ok(None)) && out.is_empty(), "{end}");
        }
    }

    #[test]
    fn long_heads_are_refused() {
        let sent = |count: usize| format!("HTTP/1.1 200 OK\n{}", "A: b\n".repeat(count));
        let expected = format!("{}Transfer-Encoding: chunked\n{KEPT}", sent(MOST));
        check(ASKED, &sent(MOST), Ok((&expected, false)));
        check(ASKED, &sent(MOST + 1), Err(Cause::ResponseHeaders));
        let long = format!("HTTP/1.1 200 OK\nA: {}\n", "b".repeat(RESPONSE_HEADERS));
        check(ASKED, &long, Err(Cause::ResponseHeaders));
    }

    proptest! {
        #[test]
        fn the_end_of_a_head_is_found_however_it_is_cut(
            text in "(a|\r|\n|\r\n){0,20}",
            step in 1usize..9,
        ) {
            let whole = is_whole(text.as_bytes(), &mut 0);
            let mut searched = 0;
            let mut ends = (0..=text.len()).step_by(step).chain([text.len()]);
            let cut = ends.any(|end| is_whole(&text.as_bytes()[..end], &mut searched));
            prop_assert_eq!(cut, whole);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let whole = [b"HTTP/1.1 200 OK\r\n", &bytes[..], b"\r\n\r\n"].concat();
            for bytes in [&bytes, &whole] {
                let mut out = Vec::new();
                let rules = ResponseRules::default();
                let added = Additions::of(&rules);
                if let Ok(Some(_)) = translate(bytes, ASKED, &added, &mut Out::Text(&mut out)) {
                    let end = out.windows(4).position(|window| window == b"\r\n\r\n");
                    prop_assert_eq!(end, Some(out.len() - 4));
                }
            }
        }
    }
}
