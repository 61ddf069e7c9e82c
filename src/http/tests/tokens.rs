//! `jwt-validation` on the wire: an issuer of the test's own, its keys read over HTTPS.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::h2::{Peer, request};
use super::tls::{asking, plan, server};
use super::world::*;
use crate::auth::testing::Signer;
use crate::model::{Carrier, ClientCheck, JwtValidation};
use crate::tls::testing::{Client as Asking, Pem, certificate};

/// Whose keys are read at `/keys`.
struct Issuer {
    target: Target,
    pem: Pem,
    keys: Arc<Mutex<Vec<Value>>>,
}

impl Issuer {
    async fn new(signers: &[&Signer]) -> Self {
        let keys: Vec<_> = signers.iter().map(|signer| signer.public()).collect();
        let (keys, pem) = (Arc::new(Mutex::new(keys)), certificate(&["127.0.0.1"], false));
        let shown = Arc::clone(&keys);
        let act = move |_: &Response| ok(&json!({"keys": *shown.lock().unwrap()}).to_string());
        Self { target: Target::with(act, server(&pem)).await, pem, keys }
    }

    fn check(&self) -> Option<ClientCheck> {
        Some(ClientCheck::Jwt(JwtValidation {
            jwks_endpoint: format!("https://{}/keys", self.target.address),
            issuer: "me".into(),
            claims: Vec::new(),
        }))
    }

    fn plan(&self, carrier: Carrier) -> Plan {
        let authority = self.pem.certificate.clone();
        Plan { check: self.check(), authority, ..plan(carrier) }
    }
}

fn good() -> Value {
    json!({"iss": "me", "exp": 9_999_999_999u64})
}

async fn ask(client: &mut Client, authorization: &str) -> Response {
    let line = match authorization {
        "" => String::new(),
        own => format!("Authorization: {own}\r\n"),
    };
    client.send(&format!("GET / HTTP/1.1\r\nHost: test\r\n{line}\r\n")).await;
    client.response().await
}

async fn a_token_lets_in_and_anything_else_is_401(carrier: Carrier) {
    let signers = [Signer::rsa("a"), Signer::p256("b"), Signer::ed25519("c")];
    let issuer = Issuer::new(&signers.each_ref()).await;
    let target = Target::new(|_| ok("in")).await;
    let plan = Plan { log: true, ..issuer.plan(carrier) };
    let world = World::new(plan, &[("a", &target)]).await;
    let mut client = world.secure_client(&asking()).await;
    for signer in &signers {
        let token = signer.token(&good());
        let response = ask(&mut client, &format!("Bearer {token}")).await;
        assert_eq!((response.status(), response.body.as_str()), (200, "in"), "{}", response.head);
        assert!(target.seen.requests.lock().unwrap().last().unwrap().head.contains(&token));
    }
    let old = signers[0].token(&json!({"iss": "me", "exp": 1}));
    for (authorization, challenge) in [
        (String::new(), "Bearer"),
        ("Basic YTpi".into(), "Bearer"),
        ("Bearer x".into(), "Bearer error=\"invalid_request\""),
        (format!("Bearer {old}"), "Bearer error=\"invalid_token\""),
    ] {
        let response = ask(&mut client, &authorization).await;
        assert_eq!(
            (response.status(), response.header("www-authenticate")),
            (401, Some(challenge))
        );
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    assert_eq!(target.requests(), 3);
    drop(client);
    world.at_rest().await;
    let count = |outcome| world.metric("roadstead_listener_tokens_total", outcome);
    assert_eq!(["accepted", "refused"].map(count), [3, 4]);
    assert_eq!(world.metric("roadstead_jwks_readings_total", "good"), 1);
    let lines = world.logged(7).await;
    assert!(lines[0].contains("\"jwt-validation,forward\" \"-\" \"-\""), "{}", lines[0]);
    for (line, reason) in lines[3..].iter().zip([
        "JWTHeaderNotPresent",
        "JWTHeaderNotPresent",
        "JWTRequestFormatInvalid",
        "JWTClaimValueInvalid",
    ]) {
        assert!(line.contains(&format!("\"jwt-validation\" \"-\" \"{reason}\"")), "{line}");
    }
}

async fn a_new_key_is_read_when_its_first_token_comes(carrier: Carrier) {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let issuer = Issuer::new(&[&old]).await;
    let target = Target::new(|_| ok("in")).await;
    let world = World::new(issuer.plan(carrier), &[("a", &target)]).await;
    let mut client = world.secure_client(&asking()).await;
    let [first, second] = [&old, &new].map(|signer| format!("Bearer {}", signer.token(&good())));
    assert_eq!(ask(&mut client, &first).await.status(), 200);
    // It was read just now: it is not read for everybody who makes up a key's name.
    *issuer.keys.lock().unwrap() = vec![new.public()];
    assert_eq!(ask(&mut client, &second).await.status(), 401);
    assert_eq!(issuer.target.requests(), 1);
    world.rest_keys();
    assert_eq!(ask(&mut client, &second).await.status(), 200);
    assert_eq!(ask(&mut client, &first).await.status(), 401, "the old one is gone");
    assert_eq!(issuer.target.requests(), 2);
}

async fn without_keys_nobody_gets_in(carrier: Carrier) {
    let signer = Signer::ed25519("a");
    let issuer = Issuer::new(&[&signer]).await;
    let target = Target::new(|_| ok("in")).await;
    // Nobody vouches for the issuer's certificate.
    let other = certificate(&["127.0.0.1"], false).certificate;
    let plan = Plan { authority: other, ..issuer.plan(carrier) };
    let world = World::new(plan, &[("a", &target)]).await;
    let mut client = world.secure_client(&asking()).await;
    let response = ask(&mut client, &format!("Bearer {}", signer.token(&good()))).await;
    assert_eq!((response.status(), response.header("www-authenticate")), (500, None));
    assert_eq!((target.requests(), issuer.target.requests()), (0, 0));
}

async fn clients_of_http_2_bring_tokens_as_well(carrier: Carrier) {
    let signer = Signer::ed25519("a");
    let issuer = Issuer::new(&[&signer]).await;
    let target = Target::new(|_| ok("in")).await;
    let world = World::new(issuer.plan(carrier), &[("a", &target)]).await;
    let stream = Asking::new(&["h2"], "", "").dial(world.key.address, "test").await.unwrap();
    let mut peer = Peer::over(stream, &h2::client::Builder::new()).await;
    for (authorization, status) in
        [(format!("Bearer {}", signer.token(&good())), 200), ("Bearer x".into(), 401)]
    {
        let mut request = request(http::Method::GET, "/");
        request.headers_mut().insert("authorization", authorization.parse().unwrap());
        let answer = peer.ask(request, "").await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
}

on_both_carriers!(
    a_token_lets_in_and_anything_else_is_401,
    a_new_key_is_read_when_its_first_token_comes,
    without_keys_nobody_gets_in,
    clients_of_http_2_bring_tokens_as_well,
);
