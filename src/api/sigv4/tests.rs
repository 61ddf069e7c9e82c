//! Tests of `sigv4`: published and generated requests, and what is refused.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const PUBLISHED: &str = include_str!("../../../tests/data/sigv4_published.txt");
const GENERATED: &str = include_str!("../../../tests/data/sigv4.txt");
const REFUSED: &str = include_str!("../../../tests/data/sigv4_refused.txt");
/// 2015-08-30T12:36:00Z, when all of them were signed.
const NOW: Timestamp = Timestamp(1_440_938_160_000_000);

#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    /// `METHOD PATH QUERY`, headers, an empty line, the body.
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap();
        let mut lines = head.lines();
        let mut words = lines.next().unwrap().splitn(3, ' ').map(str::to_owned);
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let mut word = || words.next().unwrap_or_default();
        let (method, path, query) = (word(), word(), word());
        Self { method, path, query, headers, body: body.as_bytes().to_vec() }
    }

    fn verify(&self, now: Timestamp) -> Result<Caller, Refusal> {
        let Self { method, path, query, headers, body } = self;
        verify(&Signed { method, path, query, headers, body }, &keys(), now)
    }
}

fn keys() -> Keys {
    let secret = "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    Keys::parse(&format!(
        "[default]\naws_access_key_id = AKIDEXAMPLEAKIDE\n{secret}\n\
         [published]\naws_access_key_id = AKIDEXAMPLE00000\n{secret}\n"
    ))
    .unwrap()
}

/// Name and text of each request of a file.
fn cases(file: &str) -> impl Iterator<Item = (&str, &str)> {
    let text = file.split_once("\n# ").unwrap().1;
    text.split("\n.\n")
        .filter(|case| !case.is_empty())
        .map(|case| case.trim_start_matches("# ").split_once('\n').unwrap())
}

fn case(name: &str) -> &'static str {
    let found = cases(GENERATED).find(|(given, _)| *given == name);
    found.unwrap_or_else(|| panic!("no request {name}")).1
}

#[test]
fn published_requests_are_verified() {
    let verified = cases(PUBLISHED).map(|(name, text)| {
        let caller = Request::parse(text).verify(NOW);
        let caller = caller.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!((caller.region.as_str(), caller.date.as_str()), ("us-east-1", "20150830"));
    });
    assert_eq!(verified.count(), 13);
}

#[test]
fn requests_signed_by_botocore_are_verified() {
    let verified = cases(GENERATED).map(|(name, text)| {
        let caller = Request::parse(text).verify(NOW);
        let caller = caller.unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(caller.key_id, "AKIDEXAMPLEAKIDE", "{name}");
    });
    assert_eq!(verified.count(), 18);
    let caller = Request::parse(case("region")).verify(NOW).unwrap();
    assert_eq!((caller.region.as_str(), caller.service.as_str()), ("eu-central-1", "ecs"));
}

/// Each line of the table: a request's name, seconds since it was signed, an edit `FROM => TO` and
/// the code that the edited request gets. `\n` is a line's end, `*N` behind a text repeats it.
#[test]
fn what_was_not_signed_so_is_refused() {
    let mut count = 0;
    for line in REFUSED.lines().filter(|line| !line.starts_with('#')) {
        let cells: Vec<_> = line.split(" | ").collect();
        let &[name, age, from, to, code] = cells.as_slice() else { panic!("{line}") };
        let (from, to) = (from.replace("\\n", "\n"), to.replace("\\n", "\n"));
        let to = match to.rsplit_once('*') {
            Some((text, times)) => text.repeat(times.parse().unwrap()),
            None => to,
        };
        let good = case(name);
        assert!(Request::parse(good).verify(NOW).is_ok(), "{line}");
        assert!(good.contains(&from), "{line}");
        let age: i64 = age.parse().unwrap();
        let now = Timestamp(NOW.0.saturating_add_signed(age * 1_000_000));
        let refusal = Request::parse(&good.replacen(&from, &to, 1)).verify(now);
        let refusal = refusal.expect_err(line);
        assert_eq!(refusal.code(), code, "{line}: {refusal}");
        count += 1;
    }
    assert!(count >= 60, "{count}");
}

#[test]
fn signatures_live_five_minutes_and_presigned_urls_as_long_as_they_say() {
    let check = |name: &str, seconds: i64, good: bool| {
        let now = Timestamp(NOW.0.saturating_add_signed(seconds * 1_000_000));
        let outcome = Request::parse(case(name)).verify(now);
        assert_eq!(outcome.is_ok(), good, "{name} {seconds}: {outcome:?}");
    };
    for (seconds, good) in [(0, true), (300, true), (301, false), (-300, true), (-301, false)] {
        check("json post", seconds, good);
    }
    for (seconds, good) in [(60, true), (61, false), (-300, true), (-301, false)] {
        check("presigned with header", seconds, good);
    }
    check("presigned week", 604_800, true);
    check("presigned week", 604_801, false);
    let expired = Request::parse(case("json post")).verify(NOW + Duration::from_secs(540));
    assert_eq!(
        expired.unwrap_err().to_string(),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T124000Z \
         (20150830T124500Z - 5 min.)"
    );
}

#[test]
fn bad_signature_and_unknown_key_are_refused_alike() {
    let text = case("json post");
    let unknown = Request::parse(&text.replace("AKIDEXAMPLEAKIDE", "AKIAUNKNOWNUNKNO"));
    let wrong = Request::parse(&text.replace("Signature=0e51", "Signature=1e51"));
    assert_eq!(unknown.verify(NOW), Err(Refusal::BadSignature));
    assert_eq!(unknown.verify(NOW), wrong.verify(NOW));
}

/// The secret that stands in for missing ones is in the source, for all to read.
#[test]
fn stand_in_secret_opens_nothing() {
    let request = Request::parse(case("json post"));
    let caller = Caller { key_id: "AKIAUNKNOWNUNKNO".to_owned(), ..request.verify(NOW).unwrap() };
    let headers = canonical::headers(
        &["content-type", "host", "x-amz-date", "x-amz-target"],
        &request.headers,
    );
    let mut digest = Sha256::new();
    digest.update("POST\n/\n\n");
    digest.update(headers.unwrap());
    digest.update("\ncontent-type;host;x-amz-date;x-amz-target\n");
    digest.update(hex(&Sha256::digest(&request.body)));
    let text = format!(
        "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/ecs/aws4_request\n{}",
        hex(&digest.finalize())
    );
    let sign = |secret| hex(&signer(secret, &caller, &text).finalize().into_bytes());
    let with = |id: &str, signature: &str| {
        let mut request = request.clone();
        let header = request.headers["authorization"].to_str().unwrap();
        let (start, _) = header.rsplit_once('=').unwrap();
        let header = format!("{start}={signature}").replace("AKIDEXAMPLEAKIDE", id);
        request.headers.insert("authorization", header.parse().unwrap());
        request.verify(NOW)
    };
    // The same steps with the right secret let in.
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    assert!(with("AKIDEXAMPLEAKIDE", &sign(secret)).is_ok());
    assert_eq!(with("AKIAUNKNOWNUNKNO", &sign(NO_SECRET)), Err(Refusal::BadSignature));
}

proptest! {
    #[test]
    fn one_byte_changed_is_refused(at in any::<prop::sample::Index>(), byte in 0x21u8..0x7f) {
        let mut request = Request::parse(case("json post"));
        let at = at.index(request.body.len() + 45 + 64);
        let (text, at) = match at.checked_sub(request.body.len()) {
            None => {
                prop_assume!(request.body[at] != byte);
                request.body[at] = byte;
                prop_assert_eq!(request.verify(NOW), Err(Refusal::BadSignature));
                return Ok(());
            }
            Some(at) if at < 45 => ("x-amz-target", at),
            Some(at) => ("authorization", at - 45),
        };
        let mut value = request.headers[text].as_bytes().to_vec();
        let at = if text == "authorization" { value.len() - 64 + at } else { at };
        prop_assume!(value[at] != byte);
        value[at] = byte;
        request.headers.insert(text, HeaderValue::from_bytes(&value).unwrap());
        prop_assert!(request.verify(NOW).is_err());
    }

    #[test]
    fn nothing_makes_verify_panic(
        path in ".{0,20}",
        query in "(X-Amz-(Date|Algorithm|Expires|Credential|Signature)=|[%&=+/]|.){0,20}",
        authorization in "(AWS4-HMAC-SHA256 )?(Credential=|Signature=|[,/=; ]|.){0,20}",
        date in "([0-9TZ]{16}|.{0,16})",
        now in any::<u64>(),
        body in any::<Vec<u8>>(),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in [("authorization", authorization), ("x-amz-date", date)] {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(name, value);
            }
        }
        let request = Request { method: "GET".to_owned(), path, query, headers, body };
        prop_assert!(request.verify(Timestamp(now)).is_err());
    }

    #[test]
    fn scope_and_time_take_any_text(text in "[0-9TZ/a-z\u{e4}]{0,40}") {
        let _ = (scope(&text, "20150830T123600Z"), time(&text), unhex(&text));
    }
}
