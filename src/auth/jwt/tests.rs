//! Tokens that let in, and tokens that do not.

use proptest::prelude::*;
use serde_json::json;

use super::super::testing::Signer;
use super::*;

const NOW: u64 = 1_700_000_000;

fn asked() -> JwtValidation {
    let claim = |name: &str, format, values: &[&str]| ClaimCheck {
        name: name.into(),
        format,
        values: values.iter().map(ToString::to_string).collect(),
    };
    JwtValidation {
        jwks_endpoint: "https://id.test/keys".into(),
        issuer: "https://id.test".into(),
        claims: vec![
            claim("azp", ClaimFormat::SingleString, &["one", "two"]),
            claim("groups", ClaimFormat::StringArray, &["dev", "ops"]),
            claim("scope", ClaimFormat::SpaceSeparatedValues, &["read"]),
        ],
    }
}

fn good() -> Value {
    json!({"iss": "https://id.test", "exp": NOW + 60, "azp": "two",
        "groups": ["ops", "x", "dev"], "scope": "write read"})
}

fn keys(signers: &[&Signer]) -> Keys {
    let keys: Vec<_> = signers.iter().map(|signer| signer.public()).collect();
    Keys::read(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_millis(NOW * 1000)
}

fn decide(keys: Option<Keys>, authorization: &str) -> Verdict {
    let set = KeySet::new("https://id.test/keys".parse().unwrap());
    if let Some(keys) = keys {
        set.succeed(keys, now());
    }
    let validator = Validator::new(asked(), set);
    validator.decide(std::iter::once(authorization.as_bytes()), now())
}

#[test]
fn every_algorithm_lets_in() {
    for signer in [Signer::rsa("k"), Signer::p256("k"), Signer::ed25519("k")] {
        let token = signer.token(&good());
        let (of_it, all) = (|| Some(keys(&[&signer])), Verdict::LetIn);
        assert_eq!(decide(of_it(), &format!("Bearer {token}")), all);
        assert_eq!(decide(of_it(), &format!("bEARER  {token} ")), all);
        let nameless = signer.token_of(&json!({"alg": signer.algorithm()}), &good());
        assert_eq!(decide(of_it(), &format!("Bearer {nameless}")), all);
        // A bit of the signature, or of what is signed.
        for at in [token.len() - 4, token.find('.').unwrap() + 9] {
            let mut bent = token.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            let bent = format!("Bearer {}", String::from_utf8(bent).unwrap());
            let found = decide(of_it(), &bent);
            let refused = [Refusal::Signature, Refusal::Malformed].map(Verdict::Refuse);
            assert!(refused.contains(&found), "{found:?}");
        }
    }
}

#[test]
fn claims_have_to_be_there_in_their_form_with_their_values() {
    use Refusal::{ClaimFormat, ClaimMissing, ClaimValue};
    let signer = Signer::ed25519("k");
    let check = |name: &str, value: Value, expected: Option<Refusal>| {
        let mut claims = good();
        match value.is_null() {
            true => _ = claims.as_object_mut().unwrap().remove(name),
            false => claims[name] = value.clone(),
        }
        let found = decide(Some(keys(&[&signer])), &format!("Bearer {}", signer.token(&claims)));
        let expected = expected.map_or(Verdict::LetIn, Verdict::Refuse);
        assert_eq!(found, expected, "{name} {value}");
    };
    check("exp", Value::Null, Some(ClaimMissing));
    check("exp", json!("tomorrow"), Some(ClaimFormat));
    check("exp", json!(NOW), Some(ClaimValue));
    check("exp", json!(1e300), None);
    check("nbf", json!(NOW + 20), None);
    check("nbf", json!(NOW + 40), Some(ClaimValue));
    check("iat", json!(NOW + 40), Some(ClaimValue));
    check("iat", json!([]), Some(ClaimFormat));
    check("iss", Value::Null, Some(ClaimMissing));
    check("iss", json!("https://id.test/"), Some(ClaimValue));
    check("azp", json!("three"), Some(ClaimValue));
    check("azp", json!(["one"]), Some(ClaimFormat));
    check("groups", json!(["ops"]), Some(ClaimValue));
    check("groups", json!("ops dev"), Some(ClaimFormat));
    check("groups", json!(["ops", "dev", 1]), Some(ClaimFormat));
    check("scope", json!("reader"), Some(ClaimValue));
    check("scope", Value::Null, Some(ClaimMissing));
}

#[test]
fn what_is_no_token_of_ours_is_refused() {
    use Refusal::{Malformed, Missing, Signature};
    let (signer, other) = (Signer::p256("k"), Signer::p256("k"));
    let refused = |authorization: &str, refusal| {
        let found = decide(Some(keys(&[&signer])), authorization);
        assert_eq!(found, Verdict::Refuse(refusal), "{authorization}");
    };
    refused("Basic YTpi", Missing);
    refused("", Missing);
    for bad in ["Bearer", "Bearer a.b.c", "Bearer a.b", "Bearer ..", "Bearer a.b.c.d"] {
        refused(bad, Malformed);
    }
    let with = |header: Value| format!("Bearer {}", signer.token_of(&header, &good()));
    for header in [
        json!({"alg": "none"}),
        json!({"alg": "HS256", "kid": "k"}),
        json!({"alg": "es256", "kid": "k"}),
        json!({"alg": "ES256", "kid": "k", "crit": ["exp"]}),
        json!({"kid": "k"}),
    ] {
        refused(&with(header), Malformed);
    }
    // The key's type is not the token's to choose.
    refused(&with(json!({"alg": "RS256", "kid": "k"})), Signature);
    refused(&format!("Bearer {}", other.token(&good())), Signature);
    refused(&format!("Bearer {}", "x".repeat(LONGEST)), Malformed);
    let two = [b"Bearer a.b.c".as_slice(); 2];
    assert_eq!(bearer(two.into_iter()), Err(Malformed));
}

#[test]
fn other_keys_are_asked_for_where_they_may_help() {
    let (signer, new) = (Signer::ed25519("k"), Signer::ed25519("new"));
    let token = format!("Bearer {}", new.token(&good()));
    assert_eq!(decide(None, &token), Verdict::AskAgain(Refusal::NoKeys));
    // The keys were read at this very moment.
    assert_eq!(decide(Some(keys(&[&signer])), &token), Verdict::Refuse(Refusal::Signature));
    let set = KeySet::new("https://id.test/keys".parse().unwrap());
    set.succeed(keys(&[&signer]), Timestamp::default());
    let validator = Validator::new(asked(), set);
    let found = validator.decide(std::iter::once(token.as_bytes()), now());
    assert_eq!(found, Verdict::AskAgain(Refusal::Signature));
    let known = format!("Bearer {}", signer.token(&json!({})));
    let found = validator.decide(std::iter::once(known.as_bytes()), now());
    assert_eq!(found, Verdict::Refuse(Refusal::ClaimMissing), "nothing is waited for");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic_and_only_signed_ones_let_in(
        text in "[ -~]{0,80}",
        header in "\\{(\"alg\":\"(RS256|ES256|EdDSA|none)\")?[ -~]{0,20}\\}?",
        claims in "\\{?(\"exp\":9999999999)?[ -~]{0,40}\\}?",
        signature in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let whole =
            format!("{}.{}.{}", part(header.as_bytes()), part(claims.as_bytes()), part(&signature));
        let signer = Signer::ed25519("k");
        for token in [text, whole] {
            let found = decide(Some(keys(&[&signer])), &format!("Bearer {token}"));
            prop_assert!(matches!(found, Verdict::Refuse(_)), "{token}: {found:?}");
        }
    }
}
