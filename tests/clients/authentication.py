"""Actions that come before others: tokens and logins, and what a client sees of an anomaly.

Usage: authentication.py FOLDER, with one.pem and one.key.
"""
import http.client
import pathlib
import socket
import ssl
import sys

from common import client, equal, eventually, refused
from resolve import resolve

FOLDER = pathlib.Path(sys.argv[1])
acm, elb = client("acm"), client("elbv2")
pem, key = [(FOLDER / f"one.{end}").read_bytes() for end in ("pem", "key")]
CERTIFICATE = [{"CertificateArn": acm.import_certificate(Certificate=pem, PrivateKey=key)["CertificateArn"]}]
lb = elb.create_load_balancer(Name="front")["LoadBalancers"][0]
hello = {"Type": "fixed-response", "Order": 2, "FixedResponseConfig": {
    "StatusCode": "200", "ContentType": "text/plain", "MessageBody": "hello"}}
jwt = {"Type": "jwt-validation", "Order": 1, "JwtValidationConfig": {
    "JwksEndpoint": "https://127.0.0.1:1/keys", "Issuer": "https://id.test", "AdditionalClaims": [
        {"Format": "space-separated-values", "Name": "scope", "Values": ["read", "write"]}]}}
create = dict(LoadBalancerArn=lb["LoadBalancerArn"], Port=443)
ACTION = "InvalidLoadBalancerAction"

refused(ACTION, elb.create_listener, **create, Protocol="HTTP", DefaultActions=[jwt, hello], says="'HTTPS' alone")
listener = elb.create_listener(**create, Protocol="HTTPS", Certificates=CERTIFICATE, DefaultActions=[jwt, hello])
listener = listener["Listeners"][0]
LISTENER = listener["ListenerArn"]
equal(listener["DefaultActions"], [jwt, hello])
equal(elb.describe_listeners(ListenerArns=[LISTENER])["Listeners"][0]["DefaultActions"], [jwt, hello])
refused("ValidationError", elb.modify_listener, ListenerArn=LISTENER, Protocol="HTTP", says="authenticated over HTTPS alone")
refused("ValidationError", elb.modify_listener, ListenerArn=LISTENER, DefaultActions=[
    {**jwt, "JwtValidationConfig": {"Issuer": "x"}}, hello])

config = {"Issuer": "https://id.test", "AuthorizationEndpoint": "https://id.test/authorize",
          "TokenEndpoint": "https://id.test/token", "UserInfoEndpoint": "https://id.test/user", "ClientId": "shop"}
login = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {
    **config, "ClientSecret": "hush", "SessionTimeout": 60, "AuthenticationRequestExtraParams": {"prompt": "login"}}}
path = [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/shop/*"]}}]
rule = elb.create_rule(ListenerArn=LISTENER, Priority=1, Conditions=path, Actions=[login, hello])["Rules"][0]
RULE = rule["RuleArn"]
shown = {**config, "SessionCookieName": "AWSELBAuthSessionCookie", "Scope": "openid", "SessionTimeout": 60,
         "AuthenticationRequestExtraParams": {"prompt": "login"}, "OnUnauthenticatedRequest": "authenticate"}
equal(rule["Actions"], [{"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": shown}, hello])
equal(elb.describe_rules(RuleArns=[RULE])["Rules"], [rule])
kept = {**login, "AuthenticateOidcConfig": {**config, "UseExistingClientSecret": True, "OnUnauthenticatedRequest": "deny"}}
refused(ACTION, elb.create_rule, ListenerArn=LISTENER, Priority=2, Conditions=path, Actions=[kept, hello],
        says="client secret must be specified")
changed = elb.modify_rule(RuleArn=RULE, Actions=[kept, hello])["Rules"][0]["Actions"][0]["AuthenticateOidcConfig"]
equal((changed["OnUnauthenticatedRequest"], changed["SessionTimeout"], "hush" in str(changed)), ("deny", 604800, False))
cognito = {"Type": "authenticate-cognito", "Order": 1, "AuthenticateCognitoConfig": {
    "UserPoolArn": "arn:aws:cognito-idp:local:000000000000:userpool/a", "UserPoolClientId": "a", "UserPoolDomain": "a"}}
refused("OperationNotPermitted", elb.modify_rule, RuleArn=RULE, Actions=[cognito, hello], says="AuthenticateCognitoConfig")
(address,) = eventually(lambda: resolve(lb["DNSName"]), "the load balancer has a name")


def answered(path, **headers):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, 443), 10) as plain, context.wrap_socket(plain, server_hostname="x.test") as tls:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        tls.sendall(f"GET {path} HTTP/1.1\r\nHost: x.test\r\n{lines}\r\n".encode())
        response = http.client.HTTPResponse(tls)
        response.begin()
        return response.status, response.getheader("WWW-Authenticate"), response.getheader("Location")


equal(eventually(lambda: answered("/"), "it answers"), (401, "Bearer", None))
equal(answered("/shop/x")[0], 401)
elb.modify_rule(RuleArn=RULE, Actions=[login, hello])
where = eventually(lambda: answered("/shop/x?y=1")[2], "it sends clients away")
assert where.startswith("https://id.test/authorize?client_id=shop&redirect_uri=https%3A%2F%2Fx.test%2Foauth2%2Fidpresponse"), where
assert "hush" not in where and where.endswith("&prompt=login"), where

# Anomalies.
group = elb.create_target_group(Name="web", Protocol="HTTP", Port=80, VpcId="vpc-1", TargetType="ip")["TargetGroups"][0]
GROUP = group["TargetGroupArn"]
elb.register_targets(TargetGroupArn=GROUP, Targets=[{"Id": "127.0.0.1", "Port": 1}])


def attribute(**values):
    items = [{"Key": f"load_balancing.algorithm.{name}", "Value": value} for name, value in values.items()]
    changed = elb.modify_target_group_attributes(TargetGroupArn=GROUP, Attributes=items)["Attributes"]
    return {item["Key"].rsplit(".", 1)[-1]: item["Value"] for item in changed}["anomaly_mitigation"]


def target(**more):
    (only,) = elb.describe_target_health(TargetGroupArn=GROUP, **more)["TargetHealthDescriptions"]
    return only


refused("InvalidConfigurationRequest", attribute, anomaly_mitigation="on", says="weighted_random")
equal(attribute(type="weighted_random", anomaly_mitigation="on"), "on")
normal = {"Result": "normal", "MitigationInEffect": "no"}
eventually(lambda: target(Include=["AnomalyDetection"]).get("AnomalyDetection") == normal, "it is told")
equal(target(Include=["All"])["AnomalyDetection"], normal)
equal("AnomalyDetection" in target(), False)
