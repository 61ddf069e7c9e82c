//! Actions as the API takes and shows them.

use super::super::group_attributes::tests::group;
use super::*;
use crate::model::TargetGroup;

fn account() -> Account {
    Account::new("local", "000000000000")
}

/// Groups `a`, `b` speak HTTP, `t` TCP; `$a` stands for the ARN of `a`.
fn state() -> State {
    let mut state = State::default();
    let mut groups = std::collections::BTreeMap::new();
    for name in ["a", "b", "t"] {
        let protocol = if name == "t" { Protocol::Tcp } else { Protocol::Http };
        let row = TargetGroup { name: name.into(), ..group(protocol) };
        groups.insert(row.name.clone(), std::sync::Arc::new(row));
    }
    state.target_groups = std::sync::Arc::new(groups);
    state
}

fn check(protocol: Protocol, asked: &Value, expected: Result<&str, &str>) {
    let mut text = asked.to_string();
    let state = state();
    for group in state.target_groups.values() {
        let arn = account().target_group(group).to_string();
        text = text.replace(&format!("${}", group.name), &arn);
    }
    let read: Vec<Asked> = serde_json::from_str(&text).unwrap();
    let made = meaning(&state, &account(), protocol, &read, None);
    match (made, expected) {
        (Ok(made), Ok(expected)) => {
            let mut words = match &made.action {
                Action::Forward(groups) => {
                    let word = |g: &WeightedGroup| format!("{}={}", g.group, g.weight);
                    let mut words: Vec<_> = groups.iter().map(word).collect();
                    if let Some(time) = made.stickiness.duration {
                        let enabled = made.stickiness.enabled;
                        words.push(format!("{enabled} {}s", time.as_secs()));
                    }
                    words.join(" ")
                }
                Action::Redirect(to) => format!(
                    "{} {} {} {} {} {}",
                    to.status, to.protocol, to.host, to.port, to.path, to.query
                ),
                Action::FixedResponse(fixed) => {
                    format!("{} {} {:?}", fixed.status, fixed.content_type, fixed.body)
                }
            };
            if let Some(own) = &made.authentication {
                words = format!("{} {words}", own.check.as_str());
            }
            assert_eq!(words, expected);
            let shown = shown(&state, &account(), &made);
            assert!(!json!(shown).to_string().contains("hush"), "a secret is shown");
            let mut again: Vec<Asked> = serde_json::from_value(json!(shown)).unwrap();
            again.iter_mut().for_each(Asked::keep_secret);
            let old = made.authentication.as_ref();
            let again = meaning(&state, &account(), protocol, &again, old).unwrap();
            assert_eq!(again, made);
        }
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
        (made, _) => panic!("{text}: {made:?}"),
    }
}

#[test]
fn actions_forward_or_answer() {
    let http = |asked: Value, expected| check(Protocol::Http, &asked, expected);
    http(json!([{"Type": "forward", "TargetGroupArn": "$a"}]), Ok("a=1"));
    let config = json!({"TargetGroups": [
        {"TargetGroupArn": "$a", "Weight": 9}, {"TargetGroupArn": "$b", "Weight": 0}]});
    http(json!([{"Type": "forward", "Order": 1, "ForwardConfig": config}]), Ok("a=9 b=0"));
    let answer = json!({"StatusCode": "404", "MessageBody": "no"});
    http(
        json!([{"Type": "fixed-response", "FixedResponseConfig": answer}]),
        Ok("404 text/plain \"no\""),
    );
    check(Protocol::Tcp, &json!([{"Type": "forward", "TargetGroupArn": "$t"}]), Ok("t=1"));
}

#[test]
fn a_duration_is_kept_whether_it_is_used_or_not() {
    for (enabled, seconds, expected) in
        [(true, 60, "a=1 true 60s"), (false, 60, "a=1 false 60s"), (false, 0, "a=1")]
    {
        let sticky = json!({"TargetGroups": [{"TargetGroupArn": "$a"}],
            "TargetGroupStickinessConfig": {"Enabled": enabled, "DurationSeconds": seconds}});
        let asked = json!([{"Type": "forward", "ForwardConfig": sticky}]);
        check(Protocol::Http, &asked, Ok(expected));
    }
}

#[test]
fn redirects_change_what_they_name() {
    let check = |config: Value, expected| {
        let asked = json!([{"Type": "redirect", "RedirectConfig": config}]);
        check(Protocol::Http, &asked, expected);
    };
    check(
        json!({"StatusCode": "HTTP_301", "Protocol": "HTTPS", "Port": "443"}),
        Ok("301 HTTPS #{host} 443 /#{path} #{query}"),
    );
    check(
        json!({"StatusCode": "HTTP_302", "Host": "a.b", "Path": "/x", "Query": ""}),
        Ok("302 #{protocol} a.b #{port} /x "),
    );
    let bad = |part: &str, value: &str, reason| {
        check(json!({"StatusCode": "HTTP_301", part: value}), Err(reason));
    };
    bad("Port", "0", "port must be 1 to 65535");
    bad("Path", "x", "path must begin with /");
    bad("Host", "a/b", "host must be");
    bad("Query", "?a", "query must");
    bad("Query", "a=b", "leads to itself");
}

#[test]
fn tokens_are_checked_before_anything_else() {
    let https = |asked: Value, expected| check(Protocol::Https, &asked, expected);
    let kind = "jwt-validation";
    let jwt = |n: Value, own: Value| json!({"Type": kind, "Order": n, "JwtValidationConfig": own});
    let forward = |order: Value| json!({"Type": "forward", "Order": order, "TargetGroupArn": "$a"});
    let config = json!({"JwksEndpoint": "https://id.test/keys", "Issuer": "x"});
    let own = |order| jwt(order, config.clone());
    let none = Value::Null;
    https(json!([own(none.clone()), forward(none.clone())]), Ok("jwt-validation a=1"));
    https(json!([forward(2.into()), own(1.into())]), Ok("jwt-validation a=1"));
    let claims = |name: &str, format: &str, values: Value| {
        let claim = json!({"Name": name, "Format": format, "Values": values});
        let mut config = config.clone();
        config["AdditionalClaims"] = json!([claim]);
        json!([jwt(1.into(), config), forward(2.into())])
    };
    https(claims("azp", "string-array", json!(["a b"])), Ok("jwt-validation a=1"));
    https(claims("azp", "space-separated-values", json!(["a b"])), Err("no spaces"));
    https(claims("iss", "single-string", json!(["a"])), Err("other than exp, iss, nbf, iat"));
    https(claims("azp", "single-string", json!([])), Err("must have 1 to 10 values"));
    let late = "must come before";
    https(json!([forward(1.into()), own(2.into())]), Err(late));
    https(json!([forward(none.clone()), own(none.clone())]), Err(late));
    https(json!([own(1.into()), forward(none.clone())]), Err("for every action, or for none"));
    https(json!([own(1.into()), own(2.into()), forward(3.into())]), Err("At most one"));
    https(json!([own(1.into())]), Err("Exactly one action"));
    https(json!([jwt(1.into(), none), forward(2.into())]), Err("own configuration alone"));
    let plain = json!({"JwksEndpoint": "http://id.test/keys", "Issuer": "x"});
    https(json!([jwt(1.into(), plain), forward(2.into())]), Err("must be a URL such as"));
    let both = json!([own(1.into()), forward(2.into())]);
    check(Protocol::Http, &both, Err("of protocol 'HTTPS' alone"));
}

impl Asked {
    /// As whoever changes what he has seen.
    fn keep_secret(&mut self) {
        if let Some(oidc) = &mut self.authenticate_oidc_config {
            oidc.keep_secret();
        }
    }
}

#[test]
fn clients_log_in_before_anything_else() {
    let check = |changes: Value, expected| {
        let mut config = json!({"Issuer": "https://id.test",
            "AuthorizationEndpoint": "https://id.test/a", "TokenEndpoint": "https://id.test/t",
            "UserInfoEndpoint": "https://id.test/u", "ClientId": "me", "ClientSecret": "hush"});
        for (name, value) in changes.as_object().unwrap() {
            config[name] = value.clone();
        }
        let login = json!({"Type": "authenticate-oidc", "Order": 1,
            "AuthenticateOidcConfig": config});
        let forward = json!({"Type": "forward", "Order": 2, "TargetGroupArn": "$a"});
        check(Protocol::Https, &json!([login, forward]), expected);
    };
    let good = Ok("authenticate-oidc a=1");
    check(json!({}), good);
    check(json!({"SessionTimeout": 60, "OnUnauthenticatedRequest": "allow"}), good);
    check(json!({"AuthenticationRequestExtraParams": {"prompt": "login"}}), good);
    let params = json!({"AuthenticationRequestExtraParams": {"state": "x"}});
    check(params, Err("\"state\" is not yours to say"));
    check(json!({"SessionTimeout": 604_801}), Err("session_timeout must be whole seconds"));
    check(json!({"TokenEndpoint": "http://id.test/t"}), Err("token_endpoint must be a URL"));
    check(json!({"Scope": "email"}), Err("scope must have openid in it"));
    check(json!({"SessionCookieName": "a b"}), Err("session_cookie_name must be a cookie's"));
    check(json!({"ClientSecret": null}), Err("A client secret must be specified"));
    let both = json!({"UseExistingClientSecret": true});
    check(both, Err("cannot be given where the existing one"));
    let nothing = json!({"ClientSecret": null, "UseExistingClientSecret": true});
    check(nothing, Err("A client secret must be specified"));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let http = |asked: Value, part| check(Protocol::Http, &asked, Err(part));
    http(json!([]), "Exactly one action");
    let one = json!({"Type": "forward", "TargetGroupArn": "$a"});
    http(json!([one, one]), "Exactly one action");
    http(json!([{"Type": "redirect"}]), "needs its own configuration");
    http(json!([{"Type": "authenticate-cognito"}, one]), "'authenticate-cognito' is not");
    http(json!([{"Type": "forward"}]), "A target group must be specified");
    http(json!([{"Type": "forward", "TargetGroupArn": "$t"}]), "not compatible");
    http(json!([{"Type": "forward", "TargetGroupArn": "$a0"}]), "not found");
    http(json!([{"Type": "fixed-response"}]), "needs its own configuration");
    let two = json!({"TargetGroups": [{"TargetGroupArn": "$b"}]});
    let both = json!([{"Type": "forward", "TargetGroupArn": "$a", "ForwardConfig": two}]);
    http(both, "must name the same");
    let heavy = json!({"TargetGroups": [{"TargetGroupArn": "$a", "Weight": 1000}]});
    http(json!([{"Type": "forward", "ForwardConfig": heavy}]), "must be 0 to 999");
    let nobody = json!({"TargetGroups": [{"TargetGroupArn": "$a", "Weight": 0}]});
    http(json!([{"Type": "forward", "ForwardConfig": nobody}]), "weight above 0");
    let sticky = json!({"TargetGroups": [{"TargetGroupArn": "$a"}],
        "TargetGroupStickinessConfig": {"Enabled": true, "DurationSeconds": 604_801}});
    http(json!([{"Type": "forward", "ForwardConfig": sticky}]), "1 to 604800 seconds");
    let redirecting = json!({"StatusCode": "301"});
    http(json!([{"Type": "fixed-response", "FixedResponseConfig": redirecting}]), "2XX");
    let fixed = json!([{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}]);
    check(Protocol::Tcp, &fixed, Err("not supported for listeners of protocol 'TCP'"));
}
