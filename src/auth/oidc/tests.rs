//! What a browser carries, without any provider.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::ClientSecret;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn login(issuer: &str) -> Arc<Login> {
    let asked = OidcLogin {
        issuer: issuer.into(),
        authorization_endpoint: "https://id.test/a".into(),
        token_endpoint: "https://id.test/t".into(),
        user_info_endpoint: "https://id.test/u".into(),
        client_id: "me".into(),
        client_secret: ClientSecret::new("hush".into()),
        session_cookie: "S".into(),
        scope: "openid".into(),
        session_timeout: Duration::from_secs(60),
        extra_params: BTreeMap::new(),
        on_unauthenticated: Unauthenticated::Authenticate,
    };
    Arc::new(Login::new(asked).unwrap())
}

fn seals(secret: &str) -> Arc<Seals> {
    Arc::new(Seals::new(std::iter::once(secret.as_bytes())))
}

fn session(login: &Login, claim: &str) -> Session {
    Session {
        login: login.id.clone(),
        subject: "ann".into(),
        access_token: "at".into(),
        refresh_token: None,
        claims: Map::from_iter([("x".to_owned(), claim.into())]),
        fresh_until: None,
        until: NOW + Duration::from_secs(60),
    }
}

fn value(cookie: &str) -> &[u8] {
    cookie.split_once('=').unwrap().1.split(';').next().unwrap().as_bytes()
}

/// The session in these cookies.
fn read(login: &Login, seals: &Seals, cookies: &[String], now: Timestamp) -> Option<Session> {
    let mut shards = [None; SHARDS];
    shards.iter_mut().zip(cookies).for_each(|(shard, cookie)| *shard = Some(value(cookie)));
    login.session(seals, &shards, now)
}

#[test]
fn sessions_are_cut_into_cookies_and_put_together() {
    let (one, two, seals) = (login("https://one.test"), login("https://two.test"), seals("a"));
    for length in [0, 2_000, 4_000, 8_000, 10_500] {
        let session = session(&one, &"x".repeat(length));
        let mut cookies = one.cookies(&seals, &session).unwrap();
        assert!(cookies.iter().all(|cookie| cookie.len() <= 4096));
        assert_eq!(read(&one, &seals, &cookies, NOW).as_ref(), Some(&session), "{length}");
        assert_eq!(read(&one, &seals, &cookies, session.until), None, "it is over");
        assert_eq!(read(&two, &seals, &cookies, NOW), None, "another provider's");
        // What is left of a longer one does no harm; what is missing does.
        cookies.push("S-9=left".into());
        assert_eq!(read(&one, &seals, &cookies, NOW).as_ref(), Some(&session));
        assert_eq!(read(&one, &seals, &cookies[1..], NOW), None);
    }
    let large = one.cookies(&seals, &session(&one, &"x".repeat(12_000)));
    assert_eq!(large, Err(LoginFailure::TooLarge));
}

#[test]
fn a_state_is_taken_from_its_browser_in_its_time() {
    let (own, seals) = (login("https://one.test"), seals("a"));
    let begin = |target: &str, binding: Option<&[u8]>, now| {
        own.begin(&seals, ("test", target), binding, now).map(|sent| {
            let state = sent.location.split("&state=").nth(1).unwrap().split('&').next().unwrap();
            (format!("code=c&state={state}"), sent.cookies[0].clone())
        })
    };
    let (query, cookie) = begin("/x", None, NOW).unwrap();
    let arrive = |query: &str, cookie: Option<&[u8]>, now| {
        arrive([&own].into_iter(), &seals, ("test", query), cookie, now)
            .map(|arrival| arrival.state.target)
    };
    let good = Some(value(&cookie));
    assert_eq!(arrive(&query, good, NOW).as_deref(), Ok("/x"));
    assert_eq!(arrive(&query, good, NOW + LOGIN), Err(LoginFailure::InvalidState));
    assert_eq!(arrive(&query, None, NOW), Err(LoginFailure::MissingNonce));
    let (_, other) = begin("/x", None, NOW).unwrap();
    assert_eq!(arrive(&query, Some(value(&other)), NOW), Err(LoginFailure::InvalidNonce));
    // Two windows of one browser log in at once.
    let (second, later) = begin("/y", good, NOW).unwrap();
    assert_eq!(arrive(&query, Some(value(&later)), NOW).as_deref(), Ok("/x"));
    assert_eq!(arrive(&second, Some(value(&later)), NOW).as_deref(), Ok("/y"));
    let long = begin(&"/x".repeat(5_000), None, NOW);
    assert_eq!(long, Err(LoginFailure::TooLong));
    let none = own.begin(&seals, ("", "/"), None, NOW);
    assert_eq!(none, Err(LoginFailure::MissingHost));
}

#[test]
fn subjects_that_no_header_holds_are_escaped() {
    assert_eq!(visible("a|b@c"), "a|b@c");
    assert_eq!(visible("\u{e4}\r\nx: y"), "%C3%A4%0D%0Ax:%20y");
}

proptest! {
    #[test]
    fn nothing_that_was_not_sealed_logs_in(
        shards in prop::collection::vec(prop::option::of("[0-9]?[A-Za-z0-9_-]{0,60}"), SHARDS),
        query in "(code=[a-z&=%+]{0,9}&)?state=[A-Za-z0-9%&=_-]{0,60}",
        cookie in prop::option::of("[A-Za-z0-9_-]{0,60}"),
    ) {
        let (own, seals) = (login("https://one.test"), seals("a"));
        let mut values = [None; SHARDS];
        for (value, shard) in values.iter_mut().zip(&shards) {
            *value = shard.as_ref().map(|text| text.as_bytes());
        }
        prop_assert!(own.session(&seals, &values, NOW).is_none());
        let cookie = cookie.as_ref().map(|text| text.as_bytes());
        let arrived = arrive([&own].into_iter(), &seals, ("test", &query), cookie, NOW);
        prop_assert!(arrived.is_err());
    }
}
