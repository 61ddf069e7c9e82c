//! `authenticate-oidc` on the wire: the test is the browser, and starts the provider.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::h2::{Peer, request};
use super::tls::{asking, plan, server};
use super::world::*;
use crate::model::{Carrier, ClientCheck, ClientSecret, OidcLogin, Unauthenticated};
use crate::tls::testing::{Client as Asking, Pem, certificate};

/// How the provider plays its part.
#[derive(Clone)]
struct Part {
    nonce: String,
    expires_in: u64,
    /// In place of what belongs there.
    token: Option<(u16, &'static str)>,
    user: Option<(u16, String)>,
    /// What was asked of the token endpoint.
    grants: Vec<String>,
}

struct Provider {
    target: Target,
    pem: Pem,
    part: Arc<Mutex<Part>>,
}

fn answer(status: u16, body: &str) -> Act {
    let length = body.len();
    Act::Send(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}"))
}

impl Part {
    fn act(&mut self, request: &Response) -> Act {
        if request.head.starts_with("GET /user ") {
            assert_eq!(request.header("authorization"), Some("Bearer at"));
            return match &self.user {
                Some((status, body)) => answer(*status, body),
                None => answer(200, r#"{"sub":"ann","email":"ann@test"}"#),
            };
        }
        assert!(request.head.starts_with("POST /token "), "{}", request.head);
        // me:hush%21
        assert_eq!(request.header("authorization"), Some("Basic bWU6aHVzaCUyMQ=="));
        self.grants.push(request.body.clone());
        if let Some((status, body)) = self.token {
            return answer(status, body);
        }
        let claims = json!({"iss": "https://id.test", "aud": ["me"], "sub": "ann",
            "exp": 9_999_999_999u64, "nonce": self.nonce});
        let id_token = format!("e30.{}.eA", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let tokens = json!({"access_token": "at", "token_type": "Bearer", "id_token": id_token,
            "refresh_token": "rt", "expires_in": self.expires_in});
        answer(200, &tokens.to_string())
    }
}

impl Provider {
    async fn new() -> Self {
        let pem = certificate(&["127.0.0.1"], false);
        let (nonce, grants) = (String::new(), Vec::new());
        let part = Part { nonce, expires_in: 3600, token: None, user: None, grants };
        let part = Arc::new(Mutex::new(part));
        let played = Arc::clone(&part);
        let act = move |request: &Response| played.lock().unwrap().act(request);
        Self { target: Target::with(act, server(&pem)).await, pem, part }
    }

    fn plan(&self, carrier: Carrier, on_unauthenticated: Unauthenticated) -> Plan {
        let at = self.target.address;
        let login = OidcLogin {
            issuer: "https://id.test".into(),
            authorization_endpoint: "https://id.test/authorize?tenant=1".into(),
            token_endpoint: format!("https://{at}/token"),
            user_info_endpoint: format!("https://{at}/user"),
            client_id: "me".into(),
            client_secret: ClientSecret::new("hush!".into()),
            session_cookie: "AWSELBAuthSessionCookie".into(),
            scope: "openid email".into(),
            session_timeout: Duration::from_secs(3600),
            extra_params: BTreeMap::from([("prompt".into(), "login".into())]),
            on_unauthenticated,
        };
        let authority = self.pem.certificate.clone();
        Plan { check: Some(ClientCheck::Oidc(login)), authority, log: true, ..plan(carrier) }
    }

    fn play(&self, change: impl FnOnce(&mut Part)) {
        change(&mut self.part.lock().unwrap());
    }
}

/// Someone's browser: a connection, and cookies.
struct Browser {
    client: Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    async fn new(world: &World) -> Self {
        Self { client: world.secure_client(&asking()).await, cookies: BTreeMap::new() }
    }

    fn cookie_line(&self) -> String {
        let pairs: Vec<_> = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join("; ")
    }

    /// A GET with its cookies; what is set is kept.
    async fn get(&mut self, path: &str, more: &str) -> Response {
        let cookies = match self.cookie_line() {
            line if line.is_empty() => line,
            line => format!("Cookie: {line}\r\n"),
        };
        self.client
            .send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n{cookies}{more}\r\n"))
            .await;
        let response = self.client.response().await;
        for line in response.head.lines() {
            let Some((name, value)) = line.split_once(": ") else { continue };
            if name.eq_ignore_ascii_case("set-cookie") {
                assert!(value.len() <= 4096 && value.ends_with("; Path=/; Secure; HttpOnly"));
                let (name, value) = value.split(';').next().unwrap().split_once('=').unwrap();
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }

    /// Goes to the provider, which is told the nonce: path and query to come back with.
    async fn leave(&mut self, provider: &Provider, path: &str) -> String {
        let sent = self.get(path, "").await;
        assert_eq!((sent.status(), sent.header("cache-control")), (302, Some("no-store")));
        let location = sent.header("location").unwrap();
        let query = location.strip_prefix("https://id.test/authorize?tenant=1&").unwrap();
        let pairs: BTreeMap<String, String> =
            form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let has = |name: &str| pairs[name].as_str();
        assert_eq!([has("client_id"), has("response_type")], ["me", "code"]);
        assert_eq!([has("scope"), has("prompt")], ["openid email", "login"]);
        assert_eq!(has("redirect_uri"), "https://test/oauth2/idpresponse");
        provider.play(|part| part.nonce = has("nonce").to_owned());
        format!("/oauth2/idpresponse?code=c1&state={}", has("state"))
    }

    /// The whole way.
    async fn log_in(&mut self, provider: &Provider) {
        let back = self.leave(provider, "/").await;
        assert_eq!(self.get(&back, "").await.status(), 302);
    }
}

/// A part of a token, with its padding.
fn part(token: &str, n: usize) -> Value {
    let part = token.split('.').nth(n).unwrap();
    assert_eq!(part.len() % 4, 0, "{part}");
    serde_json::from_slice(&URL_SAFE.decode(part).unwrap()).unwrap()
}

async fn a_client_logs_in_and_its_target_is_told_who_it_is(carrier: Carrier) {
    let provider = Provider::new().await;
    let target = Target::new(|_| ok("in")).await;
    let plan = provider.plan(carrier, Unauthenticated::Authenticate);
    let world = World::new(plan, &[("a", &target)]).await;
    let mut browser = Browser::new(&world).await;
    let back = browser.leave(&provider, "/private?x=1").await;
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["AWSALBAuthNonce"]);
    let sent = browser.get(&back, "").await;
    assert_eq!(sent.status(), 302, "{}", sent.head);
    assert_eq!(sent.header("location"), Some("https://test/private?x=1"));
    let grant = "grant_type=authorization_code&code=c1\
                 &redirect_uri=https%3A%2F%2Ftest%2Foauth2%2Fidpresponse";
    assert_eq!(provider.part.lock().unwrap().grants, [grant]);
    assert_eq!(target.requests(), 0);
    // Nobody says himself who he is. Another key seals from now on.
    world.add_key("second", 2).await;
    let response = browser
        .get("/private?x=1", "X-Amzn-Oidc-Identity: eve@test\r\nx-amzn-oidc-Any: x\r\n")
        .await;
    assert_eq!((response.status(), response.body.as_str()), (200, "in"));
    let seen = target.seen.requests.lock().unwrap().last().unwrap().clone();
    assert!(
        !seen.head.contains("eve@test") && !seen.head.contains("x-amzn-oidc-Any"),
        "{}",
        seen.head
    );
    assert_eq!(seen.header("x-amzn-oidc-identity"), Some("ann"));
    assert_eq!(seen.header("x-amzn-oidc-accesstoken"), Some("at"));
    let data = seen.header("x-amzn-oidc-data").unwrap();
    let (header, claims) = (part(data, 0), part(data, 1));
    assert_eq!((&claims["sub"], &claims["email"]), (&json!("ann"), &json!("ann@test")));
    assert_eq!((&header["client"], &header["alg"]), (&json!("me"), &json!("ES256")));
    let arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/front/";
    assert!(header["signer"].as_str().unwrap().starts_with(arn), "{header}");
    let key = world.reader.load().seals.public_key(header["kid"].as_str().unwrap());
    assert!(key.unwrap().starts_with("-----BEGIN PUBLIC KEY-----\n"));
    drop(browser);
    world.at_rest().await;
    assert_eq!(world.metric("roadstead_listener_logins_total", "success"), 1);
    let lines = world.logged(3).await;
    for (line, actions) in
        lines.iter().zip(["authenticate", "authenticate", "authenticate,forward"])
    {
        assert!(line.contains(&format!("\"{actions}\" ")), "{line}");
    }
    // As it is, and as it is sent: what else is random in a line has neither sign.
    assert!(!["hush!", "hush%21"].iter().any(|own| lines.concat().contains(own)), "{lines:?}");
}

async fn logins_that_fail_have_albs_codes(carrier: Carrier) {
    let provider = Provider::new().await;
    let target = Target::new(|_| ok("in")).await;
    let plan = provider.plan(carrier, Unauthenticated::Authenticate);
    let world = World::new(plan, &[("a", &target)]).await;
    let mut browser = Browser::new(&world).await;
    let back = browser.leave(&provider, "/").await;
    let state = back.split_once("&state=").unwrap().1;
    let mut expected = Vec::new();
    let mut stranger = Browser::new(&world).await;
    stranger.leave(&provider, "/").await;
    let nobody = Browser::new(&world).await;
    let (kept, end) = back.split_at(back.len() - 9);
    let bent = format!("{kept}{}{}", if end.starts_with('_') { '-' } else { '_' }, &end[1..]);
    for (who, path, status, reason) in [
        (&mut browser, "/oauth2/idpresponse?code=c", 401, "AuthMissingStateParam"),
        (&mut Browser::new(&world).await, bent.as_str(), 401, "AuthInvalidStateParam"),
        (&mut { nobody }, &back, 401, "AuthMissingAWSALBAuthNonce"),
        (&mut stranger, &back, 401, "AuthInvalidAWSALBAuthNonce"),
    ] {
        assert_eq!(who.get(path, "").await.status(), status, "{reason}");
        expected.push(reason);
    }
    let path = format!("/oauth2/idpresponse?state={state}");
    assert_eq!(browser.get(&path, "").await.status(), 401);
    let path = format!("/oauth2/idpresponse?error=access_denied&state={state}");
    assert_eq!(browser.get(&path, "").await.status(), 561);
    expected.extend(["AuthMissingCodeParam", "AuthInvalidGrantError"]);
    let large = format!("{{\"sub\":\"ann\",\"x\":\"{}\"}}", "y".repeat(11 * 1024));
    let other = r#"{"sub":"eve"}"#.to_owned();
    type Change = Box<dyn FnOnce(&mut Part)>;
    let token = |status, body| -> Change { Box::new(move |own| own.token = Some((status, body))) };
    let user = |status, body| -> Change { Box::new(move |own| own.user = Some((status, body))) };
    let cases: [(Change, u16, &str); 9] = [
        (Box::new(|own| own.nonce = "another".into()), 401, "AuthInvalidIdToken"),
        (token(200, r#"{"access_token":"at","token_type":"Bearer"}"#), 401, "AuthInvalidIdToken"),
        (token(400, r#"{"error":"invalid_grant"}"#), 561, "AuthInvalidGrantError"),
        (token(500, ""), 561, "AuthTokenEpRequestFailed"),
        (token(200, "<html>"), 500, "AuthInvalidTokenResponse"),
        (user(500, String::new()), 561, "AuthUserinfoEpRequestFailed"),
        (user(200, "[]".into()), 500, "AuthInvalidUserinfoResponse"),
        (user(200, other), 500, "AuthInvalidUserinfoResponse"),
        (user(200, large), 500, "AuthUserinfoResponseSizeExceeded"),
    ];
    for (change, status, reason) in cases {
        let back = browser.leave(&provider, "/").await;
        provider.play(change);
        let response = browser.get(&back, "").await;
        assert_eq!((response.status(), response.header("set-cookie")), (status, None), "{reason}");
        provider.play(|own| (own.token, own.user) = (None, None));
        expected.push(reason);
    }
    assert_eq!((target.requests(), browser.cookies.len()), (0, 1));
    drop((browser, stranger));
    world.at_rest().await;
    let count = |outcome| world.metric("roadstead_listener_logins_total", outcome);
    assert_eq!(["success", "failure", "error"].map(count), [0, 11, 4]);
    let lines = world.logged(2 + 6 + 18).await;
    let told: Vec<_> = lines.iter().filter(|line| line.contains("idpresponse")).collect();
    for (line, reason) in told.iter().zip(&expected) {
        assert!(line.contains(&format!("\"authenticate\" \"-\" \"{reason}\"")), "{reason}: {line}");
    }
    assert_eq!(told.len(), expected.len());
}

async fn others_are_let_in_or_refused_as_asked_for(carrier: Carrier) {
    let provider = Provider::new().await;
    for (otherwise, status) in [(Unauthenticated::Allow, 200), (Unauthenticated::Deny, 401)] {
        let target = Target::new(|_| ok("in")).await;
        let world = World::new(provider.plan(carrier, otherwise), &[("a", &target)]).await;
        let mut browser = Browser::new(&world).await;
        browser.cookies.insert("AWSELBAuthSessionCookie-0".into(), "1made-up".into());
        let response = browser.get("/", "x-amzn-oidc-identity: eve@test\r\n").await;
        assert_eq!(response.status(), status);
        if status == 200 {
            assert!(!target.head().contains("x-amzn-oidc"), "{}", target.head());
        }
    }
    assert_eq!(provider.target.requests(), 0);
}

async fn a_session_is_refreshed_until_the_provider_says_no(carrier: Carrier) {
    let provider = Provider::new().await;
    provider.play(|own| own.expires_in = 0);
    let target = Target::new(|request| match request.head.starts_with("GET /logout ") {
        false => ok("in"),
        true => Act::Send(
            "HTTP/1.1 200 OK\r\nSet-Cookie: AWSELBAuthSessionCookie-0=; Expires=\
             Thu, 01 Jan 1970 00:00:00 GMT; Path=/; Secure; HttpOnly\r\nContent-Length: 0\r\n\r\n"
                .into(),
        ),
    })
    .await;
    let plan = provider.plan(carrier, Unauthenticated::Authenticate);
    let world = World::new(plan, &[("a", &target)]).await;
    let mut browser = Browser::new(&world).await;
    browser.log_in(&provider).await;
    let first = browser.cookie_line();
    let response = browser.get("/", "").await;
    assert_eq!((response.status(), response.body.as_str()), (200, "in"));
    assert_ne!(browser.cookie_line(), first, "it has another session");
    let grants = provider.part.lock().unwrap().grants.clone();
    assert_eq!(grants[1..], ["grant_type=refresh_token&refresh_token=rt"]);
    assert!(target.head().contains("x-amzn-oidc-identity: ann"));
    // Whoever ends the session ends it.
    let response = browser.get("/logout", "").await;
    let line = response.head.to_ascii_lowercase();
    assert_eq!(line.matches("set-cookie").count(), 1, "{line}");
    assert_eq!(browser.cookies["AWSELBAuthSessionCookie-0"], "");
    browser.log_in(&provider).await;
    provider.play(|own| own.token = Some((400, r#"{"error":"invalid_grant"}"#)));
    let response = browser.get("/", "").await;
    assert_eq!(response.status(), 302);
    assert!(response.header("location").unwrap().starts_with("https://id.test/authorize"));
    assert_eq!(world.metric("roadstead_listener_logins_total", "refreshed"), 2);
}

async fn clients_of_http_2_are_logged_in_as_well(carrier: Carrier) {
    let provider = Provider::new().await;
    let target = Target::new(|_| ok("in")).await;
    let plan = provider.plan(carrier, Unauthenticated::Authenticate);
    let world = World::new(plan, &[("a", &target)]).await;
    let mut browser = Browser::new(&world).await;
    // A session of three cookies.
    let claims = json!({"sub": "ann", "x": "y".repeat(6_000)});
    provider.play(|own| own.user = Some((200, claims.to_string())));
    browser.log_in(&provider).await;
    assert_eq!(browser.cookies.len(), 4);
    let stream = Asking::new(&["h2"], "", "").dial(world.key.address, "test").await.unwrap();
    let mut peer = Peer::over(stream, &h2::client::Builder::new()).await;
    let sent = peer.get("/a?b").await;
    assert_eq!(sent.status, 302);
    assert!(sent.header("set-cookie").unwrap().starts_with("AWSALBAuthNonce="));
    let mut request = request(http::Method::GET, "/a?b");
    for (name, value) in &browser.cookies {
        request.headers_mut().append("cookie", format!("{name}={value}").parse().unwrap());
    }
    request.headers_mut().append("x-amzn-oidc-identity", "eve@test".parse().unwrap());
    let answer = peer.ask(request, "").await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "in"));
    let seen = target.seen.requests.lock().unwrap().last().unwrap().clone();
    assert!(seen.head.starts_with("GET /a?b HTTP/1.1\r\n") && !seen.head.contains("eve@test"));
    assert_eq!(seen.header("x-amzn-oidc-identity"), Some("ann"));
    assert_eq!(part(seen.header("x-amzn-oidc-data").unwrap(), 1)["x"], claims["x"]);
}

on_both_carriers!(
    a_client_logs_in_and_its_target_is_told_who_it_is,
    logins_that_fail_have_albs_codes,
    others_are_let_in_or_refused_as_asked_for,
    a_session_is_refreshed_until_the_provider_says_no,
    clients_of_http_2_are_logged_in_as_well,
);
