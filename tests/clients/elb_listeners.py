"""Elastic Load Balancing: listeners, rules, targets: each operation's success, bad input, and what is not there."""
import socket

from common import client, equal, eventually, refused, without
from resolve import resolve

elb = client("elbv2")
OWN = "arn:aws:elasticloadbalancing:local:000000000000"
GONE = "0123456789abcdef"
NO_BALANCER = f"{OWN}:loadbalancer/app/gone/{GONE}"
NO_LISTENER = f"{OWN}:listener/app/gone/{GONE}/{GONE}"
NO_RULE = f"{OWN}:listener-rule/app/gone/{GONE}/{GONE}/{GONE}"
NO_GROUP = f"{OWN}:targetgroup/gone/{GONE}"
LOCAL = "127.0.0.1"


def twice(read, **parameters):
    first = without(read(**parameters))
    equal(without(read(**parameters)), first)
    return first


def group(name, protocol="HTTP", **more):
    made = elb.create_target_group(Name=name, Protocol=protocol, Port=80, TargetType="ip", **more)
    return made["TargetGroups"][0]["TargetGroupArn"]


def forward(arn, **more):
    return [{"Type": "forward", "TargetGroupArn": arn, **more}]


def answer(text, status="200"):
    fixed = {"StatusCode": status, "ContentType": "text/plain", "MessageBody": text}
    return [{"Type": "fixed-response", "FixedResponseConfig": fixed}]


def shown(*weighted):
    single = {"TargetGroupArn": weighted[0][0]} if len(weighted) == 1 else {}
    groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weighted]
    config = {"TargetGroups": groups, "TargetGroupStickinessConfig": {"Enabled": False}}
    return [{"Type": "forward", **single, "ForwardConfig": config}]


front = elb.create_load_balancer(Name="front")["LoadBalancers"][0]["LoadBalancerArn"]
other = elb.create_load_balancer(Name="other")["LoadBalancers"][0]["LoadBalancerArn"]
net = elb.create_load_balancer(Name="net", Type="network")["LoadBalancers"][0]["LoadBalancerArn"]
web, blue, tcp = group("web"), group("blue"), group("tcp", "TCP")

# Listeners.
create = elb.create_listener
good = dict(LoadBalancerArn=front, Protocol="HTTP", Port=8080)
made = create(**good, DefaultActions=forward(web), Tags=[{"Key": "a", "Value": "b"}])["Listeners"][0]
LISTENER = made["ListenerArn"]
assert LISTENER.startswith(front.replace("loadbalancer", "listener") + "/"), LISTENER
equal(made, {"ListenerArn": LISTENER, "LoadBalancerArn": front, "Port": 8080, "Protocol": "HTTP",
             "DefaultActions": shown((web, 1))})
equal(twice(elb.describe_listeners, ListenerArns=[LISTENER])["Listeners"], [made])
equal(elb.describe_tags(ResourceArns=[LISTENER])["TagDescriptions"][0]["Tags"], [{"Key": "a", "Value": "b"}])
equal(elb.describe_target_groups(TargetGroupArns=[web])["TargetGroups"][0]["LoadBalancerArns"], [front])
equal(len(elb.describe_target_groups(LoadBalancerArn=front)["TargetGroups"]), 1)
same = create(**good, DefaultActions=forward(web), Tags=[{"Key": "a", "Value": "b"}])["Listeners"][0]
equal(same["ListenerArn"], LISTENER)
refused("DuplicateListener", create, **good, DefaultActions=answer("x"), says="already exists on this port")
fresh = {**good, "Port": 8081}
refused("LoadBalancerNotFound", create, **{**fresh, "LoadBalancerArn": NO_BALANCER}, DefaultActions=forward(web))
refused("TargetGroupNotFound", create, **fresh, DefaultActions=forward(NO_GROUP))
refused("IncompatibleProtocols", create, **fresh, DefaultActions=forward(tcp))
refused("ValidationError", create, **{**fresh, "Protocol": "TCP"}, DefaultActions=forward(tcp))
refused("ValidationError", create, LoadBalancerArn=front, Port=1, DefaultActions=forward(web))
refused("ValidationError", create, LoadBalancerArn=front, Protocol="HTTP", DefaultActions=forward(web))
refused("ValidationError", create, **{**fresh, "Port": 0}, DefaultActions=forward(web))
refused("ValidationError", create, **{**fresh, "Protocol": "HTTPS"}, DefaultActions=forward(web), says="certificate")
refused("OperationNotPermitted", create, **fresh, DefaultActions=forward(web), SslPolicy="ELBSecurityPolicy-2016-08")
refused("InvalidLoadBalancerAction", create, **fresh, says="leads to itself", DefaultActions=[
    {"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301"}}])
refused("OperationNotPermitted", create, **fresh, DefaultActions=[
    {"Type": "authenticate-cognito", "Order": 1}, {**forward(web)[0], "Order": 2}])
refused("TargetGroupAssociationLimit", create, **{**fresh, "LoadBalancerArn": other}, DefaultActions=forward(web))
refused("InvalidLoadBalancerAction", create, LoadBalancerArn=net, Protocol="TCP", Port=1, DefaultActions=answer("x"))
refused("ValidationError", create, **fresh, DefaultActions=[
    {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "301"}}])
# A port that somebody has is told with the system's reason.
own = elb.create_load_balancer(Name="bound")["LoadBalancers"][0]
address = eventually(lambda: resolve(own["DNSName"]), "the load balancer has a name")[0]
with socket.create_server((address, 9999)):
    refused("InvalidConfigurationRequest", create, LoadBalancerArn=own["LoadBalancerArn"], Protocol="HTTP", Port=9999,
            DefaultActions=answer("x"), says="cannot bind")
equal(elb.describe_listeners(LoadBalancerArn=own["LoadBalancerArn"])["Listeners"], [])
elb.delete_load_balancer(LoadBalancerArn=own["LoadBalancerArn"])

flow = create(LoadBalancerArn=net, Protocol="TCP", Port=5432, DefaultActions=forward(tcp))["Listeners"][0]
FLOW = flow["ListenerArn"]
equal(flow["DefaultActions"], shown((tcp, 1)))
second = create(**fresh, DefaultActions=answer("second"))["Listeners"][0]
equal(second["DefaultActions"], answer("second"))
pages = elb.get_paginator("describe_listeners").paginate(LoadBalancerArn=front, PaginationConfig={"PageSize": 1})
equal([[row["Port"] for row in page["Listeners"]] for page in pages], [[8080], [8081]])
refused("ValidationError", elb.describe_listeners)
refused("ListenerNotFound", elb.describe_listeners, ListenerArns=[NO_LISTENER])
refused("LoadBalancerNotFound", elb.describe_listeners, LoadBalancerArn=NO_BALANCER)
refused("ValidationError", elb.describe_listeners, ListenerArns=["moon"])

moved = elb.modify_listener(ListenerArn=second["ListenerArn"], Port=8082, DefaultActions=answer("moved", "404"))
equal(moved["Listeners"], [{**second, "Port": 8082, "DefaultActions": answer("moved", "404")}])
equal(elb.describe_listeners(ListenerArns=[second["ListenerArn"]])["Listeners"], moved["Listeners"])
refused("DuplicateListener", elb.modify_listener, ListenerArn=second["ListenerArn"], Port=8080)
refused("ListenerNotFound", elb.modify_listener, ListenerArn=NO_LISTENER, Port=1)
refused("ValidationError", elb.modify_listener, ListenerArn=LISTENER, Protocol="TCP")


def attributes(found):
    return {item["Key"]: item["Value"] for item in found["Attributes"]}


equal(attributes(twice(elb.describe_listener_attributes, ListenerArn=FLOW)), {"tcp.idle_timeout.seconds": "350"})
equal(len(attributes(twice(elb.describe_listener_attributes, ListenerArn=LISTENER))), 11)
frame = "routing.http.response.x_frame_options.header_value"
for key, value in ((frame, "DENY"), (frame, ""), ("routing.http.response.server.enabled", "false")):
    changed = elb.modify_listener_attributes(ListenerArn=LISTENER, Attributes=[{"Key": key, "Value": value}])
    equal(attributes(changed)[key], value)
    equal(attributes(twice(elb.describe_listener_attributes, ListenerArn=LISTENER)), attributes(changed))
refused("ValidationError", elb.modify_listener_attributes, ListenerArn=LISTENER, says="visible",
        Attributes=[{"Key": frame, "Value": "a\r\nb: c"}])
idle = [{"Key": "tcp.idle_timeout.seconds", "Value": "60"}]
equal(attributes(elb.modify_listener_attributes(ListenerArn=FLOW, Attributes=idle)), {"tcp.idle_timeout.seconds": "60"})
refused("InvalidConfigurationRequest", elb.modify_listener_attributes, ListenerArn=LISTENER, Attributes=idle)
refused("ListenerNotFound", elb.modify_listener_attributes, ListenerArn=NO_LISTENER, Attributes=idle)
refused("ListenerNotFound", elb.describe_listener_attributes, ListenerArn=NO_LISTENER)
equal(elb.describe_listener_certificates(ListenerArn=LISTENER)["Certificates"], [])
refused("ListenerNotFound", elb.describe_listener_certificates, ListenerArn=NO_LISTENER)
certificates = [{"CertificateArn": "arn:aws:acm:local:000000000000:certificate/a"}]
for operation in (elb.add_listener_certificates, elb.remove_listener_certificates):
    refused("OperationNotPermitted", operation, ListenerArn=LISTENER, Certificates=certificates)
    refused("ListenerNotFound", operation, ListenerArn=NO_LISTENER, Certificates=certificates)

# Rules.
path = [{"Field": "path-pattern", "Values": ["/a/*"]}]
host = [{"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com", "example.org"]}}]
weighted = [{"Type": "forward", "Order": 1, "ForwardConfig": {"TargetGroups": [
    {"TargetGroupArn": web, "Weight": 9}, {"TargetGroupArn": blue, "Weight": 1}]}}]
rule = elb.create_rule(ListenerArn=LISTENER, Priority=10, Conditions=path, Actions=forward(blue),
                       Tags=[{"Key": "c", "Value": "d"}])["Rules"][0]
RULE = rule["RuleArn"]
assert RULE.startswith(LISTENER.replace(":listener/", ":listener-rule/") + "/"), RULE
equal(rule, {"RuleArn": RULE, "Priority": "10", "IsDefault": False, "Actions": shown((blue, 1)), "Conditions": [
    {"Field": "path-pattern", "Values": ["/a/*"], "PathPatternConfig": {"Values": ["/a/*"]}}]})
equal(twice(elb.describe_rules, RuleArns=[RULE])["Rules"], [rule])
equal(elb.describe_tags(ResourceArns=[RULE])["TagDescriptions"][0]["Tags"], [{"Key": "c", "Value": "d"}])
split = elb.create_rule(ListenerArn=LISTENER, Priority=5, Conditions=host, Actions=weighted)["Rules"][0]
equal(split["Actions"], [{**shown((web, 9), (blue, 1))[0], "Order": 1}])
equal(split["Conditions"][0]["Values"], ["*.example.com", "example.org"])
every = twice(elb.describe_rules, ListenerArn=LISTENER)["Rules"]
equal([row["Priority"] for row in every], ["5", "10", "default"])
DEFAULT = every[2]["RuleArn"]
equal(every[2], {"RuleArn": DEFAULT, "Priority": "default", "IsDefault": True, "Conditions": [],
                 "Actions": shown((web, 1))})
equal(elb.describe_rules(RuleArns=[DEFAULT])["Rules"], [every[2]])
pages = elb.get_paginator("describe_rules").paginate(ListenerArn=LISTENER, PaginationConfig={"PageSize": 2})
equal([len(page["Rules"]) for page in pages], [2, 1])
new = dict(ListenerArn=LISTENER, Priority=20, Conditions=path, Actions=forward(web))
refused("PriorityInUse", elb.create_rule, **{**new, "Priority": 5}, says="'5'")
refused("ListenerNotFound", elb.create_rule, **{**new, "ListenerArn": NO_LISTENER})
refused("TargetGroupNotFound", elb.create_rule, **{**new, "Actions": forward(NO_GROUP)})
refused("UnsupportedProtocol", elb.create_rule, **{**new, "ListenerArn": FLOW, "Actions": forward(tcp)})
for change in ({"Priority": 0}, {"Priority": 50001}, {"Conditions": []}, {"Conditions": path * 2},
               {"Conditions": [{"Field": "moon", "Values": ["x"]}]},
               {"Conditions": [{"Field": "path-pattern", "Values": [f"/{n}" for n in range(6)]}]},
               {"Conditions": [{"Field": "host-header", "Values": ["nodot"]}]}):
    refused("ValidationError", elb.create_rule, **{**new, **change})
refused("ValidationError", elb.create_rule, **{**new, "Conditions": [
    {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.1"]}}]})
refused("ValidationError", elb.create_rule, **{**new, "Conditions": [
    {"Field": "path-pattern", "PathPatternConfig": {"RegexValues": ["(?=a)"]}}]}, says="look-around")
rewrite = {"Type": "url-rewrite", "UrlRewriteConfig": {"Rewrites": [{"Regex": "^/a", "Replace": "/b"}]}}
rename = {"Type": "host-header-rewrite",
          "HostHeaderRewriteConfig": {"Rewrites": [{"Regex": "^(.*)$", "Replace": "$1.test"}]}}
refused("ValidationError", elb.create_rule, **new, Transforms=[rewrite, rewrite], says="one transform")
refused("OperationNotPermitted", elb.create_rule, **{**new, "Actions": answer("x")}, Transforms=[rewrite])

# Every kind of condition, of action and of transform reads back as it was given, and may be sent again.
redirect = [{"Type": "redirect", "RedirectConfig": {
    "StatusCode": "HTTP_301", "Protocol": "HTTPS", "Host": "#{host}", "Port": "443", "Path": "/#{path}",
    "Query": "#{query}"}}]
short = [{"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301", "Protocol": "HTTPS", "Port": "443"}}]


def sticky(enabled, seconds):
    config = {"Enabled": enabled, **({} if seconds is None else {"DurationSeconds": seconds})}
    groups = [{"TargetGroupArn": web, "Weight": 1}]
    return [{"Type": "forward", "ForwardConfig": {"TargetGroups": groups, "TargetGroupStickinessConfig": config}}]


def stuck(enabled, seconds):
    return [{**sticky(enabled, seconds)[0], "TargetGroupArn": web}]


def regexes(field, config, *values):
    return {"Field": field, "RegexValues": list(values), config: {"RegexValues": list(values)}}


pairs = [{"Key": "version", "Value": "v1"}, {"Value": "*example*"}]
for conditions, actions, seen, transforms in (
        ([regexes("path-pattern", "PathPatternConfig", "^/v[0-9]+/")], short, redirect, []),
        ([regexes("host-header", "HostHeaderConfig", "^(.+)[.]example[.]com$")], stuck(True, 3600), None, [rename, rewrite]),
        ([{"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "Values": ["a*"]}},
          {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-B", "RegexValues": ["^b"]}}],
         stuck(False, 60), None, [rewrite]),
        ([{"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET", "PUT"]}}],
         sticky(False, 0), shown((web, 1)), []),
        ([{"Field": "query-string", "QueryStringConfig": {"Values": pairs}}], sticky(False, None), shown((web, 1)), []),
        ([{"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8", "fd00::/8"]}}],
         answer("x"), None, [])):
    more = {"Transforms": transforms} if transforms else {}
    made = elb.create_rule(ListenerArn=LISTENER, Priority=30, Conditions=conditions, Actions=actions, **more)["Rules"][0]
    equal(made["Conditions"], conditions)
    equal(made["Actions"], seen or actions)
    equal(made.get("Transforms", []), transforms)
    ARN = made["RuleArn"]
    equal(twice(elb.describe_rules, RuleArns=[ARN])["Rules"], [made])
    again = elb.modify_rule(RuleArn=ARN, Conditions=made["Conditions"], Actions=made["Actions"])["Rules"]
    equal(again, [made])
    reset = elb.modify_rule(RuleArn=ARN, ResetTransforms=True)["Rules"][0]
    equal(reset, {key: value for key, value in made.items() if key != "Transforms"})
    elb.delete_rule(RuleArn=ARN)
refused("ValidationError", elb.create_rule, **{**new, "Actions": sticky(True, None)}, says="1 to 604800")
moved = elb.modify_listener(ListenerArn=second["ListenerArn"], DefaultActions=short)["Listeners"][0]
equal(moved["DefaultActions"], redirect)
moved = elb.modify_listener(ListenerArn=second["ListenerArn"], DefaultActions=stuck(False, 3600))["Listeners"][0]
equal(moved["DefaultActions"], stuck(False, 3600))
elb.modify_listener(ListenerArn=second["ListenerArn"], DefaultActions=answer("moved", "404"))
refused("RuleNotFound", elb.describe_rules, RuleArns=[NO_RULE])
refused("ListenerNotFound", elb.describe_rules, ListenerArn=NO_LISTENER)
refused("ValidationError", elb.describe_rules)
changed = elb.modify_rule(RuleArn=RULE, Conditions=host, Actions=answer("x"))["Rules"]
equal(changed, [{**rule, "Conditions": split["Conditions"], "Actions": answer("x")}])
equal(elb.describe_rules(RuleArns=[RULE])["Rules"], changed)
refused("RuleNotFound", elb.modify_rule, RuleArn=NO_RULE, Actions=answer("x"))
refused("OperationNotPermitted", elb.modify_rule, RuleArn=DEFAULT, Actions=answer("x"))
refused("ValidationError", elb.modify_rule, RuleArn=RULE, Conditions=[])
SPLIT = split["RuleArn"]
swap = [{"RuleArn": RULE, "Priority": 5}, {"RuleArn": SPLIT, "Priority": 10}]
equal({row["RuleArn"]: row["Priority"] for row in elb.set_rule_priorities(RulePriorities=swap)["Rules"]},
      {RULE: "5", SPLIT: "10"})
equal([row["RuleArn"] for row in elb.describe_rules(ListenerArn=LISTENER)["Rules"]], [RULE, SPLIT, DEFAULT])
refused("PriorityInUse", elb.set_rule_priorities, RulePriorities=[{"RuleArn": RULE, "Priority": 10}])
refused("RuleNotFound", elb.set_rule_priorities, RulePriorities=[{"RuleArn": NO_RULE, "Priority": 7}])
refused("OperationNotPermitted", elb.set_rule_priorities, RulePriorities=[{"RuleArn": DEFAULT, "Priority": 7}])
refused("ValidationError", elb.set_rule_priorities, RulePriorities=[{"RuleArn": RULE, "Priority": 0}])
refused("OperationNotPermitted", elb.delete_rule, RuleArn=DEFAULT)
refused("RuleNotFound", elb.delete_rule, RuleArn=NO_RULE)

# Targets.
idle_group = group("idle")
ids = [{"Id": LOCAL, "Port": 1}]
health = elb.describe_target_health
elb.register_targets(TargetGroupArn=idle_group, Targets=ids)
elb.register_targets(TargetGroupArn=idle_group, Targets=[{**ids[0], "AvailabilityZone": "all"}])
equal(twice(health, TargetGroupArn=idle_group)["TargetHealthDescriptions"], [
    {"Target": ids[0], "HealthCheckPort": "1", "TargetHealth": {
        "State": "unused", "Reason": "Target.NotInUse",
        "Description": "Target group is not configured to receive traffic from the load balancer"}}])
none = health(TargetGroupArn=idle_group, Targets=[{"Id": "127.0.0.9"}], Include=["All"])["TargetHealthDescriptions"][0]
equal((none["Target"]["Port"], none["TargetHealth"]["Reason"]), (80, "Target.NotRegistered"))
for operation in (elb.register_targets, elb.deregister_targets):
    refused("TargetGroupNotFound", operation, TargetGroupArn=NO_GROUP, Targets=ids)
    refused("ValidationError", operation, TargetGroupArn=idle_group, Targets=[])
    refused("ValidationError", operation, TargetGroupArn=idle_group, Targets=[{"Id": "moon"}])
    refused("ValidationError", operation, TargetGroupArn=idle_group, Targets=[{"Id": "::1"}])
refused("ValidationError", elb.register_targets, TargetGroupArn=idle_group, Targets=[{"Id": LOCAL, "Port": 0}])
refused("OperationNotPermitted", elb.register_targets, TargetGroupArn=idle_group,
        Targets=[{**ids[0], "QuicServerId": "0x0123456789abcdef"}])
refused("TargetGroupNotFound", health, TargetGroupArn=NO_GROUP)
named = elb.create_target_group(Name="named", Protocol="HTTP", Port=80)["TargetGroups"][0]
equal(named["TargetType"], "instance")
refused("InvalidTarget", elb.register_targets, TargetGroupArn=named["TargetGroupArn"], Targets=[{"Id": "i-0123456789"}])
elb.deregister_targets(TargetGroupArn=idle_group, Targets=ids)
eventually(lambda: health(TargetGroupArn=idle_group)["TargetHealthDescriptions"] == [], "the target is gone")
elb.deregister_targets(TargetGroupArn=idle_group, Targets=ids)
# Somebody who does not answer is unhealthy, and says why.
elb.register_targets(TargetGroupArn=blue, Targets=[{"Id": LOCAL, "Port": 1}])
reasons = {"Elb.RegistrationInProgress", "Elb.InitialHealthChecking", "Target.FailedHealthChecks"}
first = health(TargetGroupArn=blue)["TargetHealthDescriptions"][0]["TargetHealth"]
assert first["State"] in ("initial", "unhealthy") and first["Reason"] in reasons, first

# Deleted.
refused("ResourceInUse", elb.delete_target_group, TargetGroupArn=web)
elb.delete_rule(RuleArn=SPLIT)
elb.delete_rule(RuleArn=RULE)
refused("RuleNotFound", elb.describe_tags, ResourceArns=[RULE])
elb.delete_target_group(TargetGroupArn=blue)
elb.delete_listener(ListenerArn=LISTENER)
refused("ListenerNotFound", elb.delete_listener, ListenerArn=LISTENER)
refused("ListenerNotFound", elb.describe_tags, ResourceArns=[LISTENER])
for arn in (front, other, net):
    elb.delete_load_balancer(LoadBalancerArn=arn)
refused("ListenerNotFound", elb.describe_listeners, ListenerArns=[FLOW])
for arn in (web, tcp, idle_group, named["TargetGroupArn"]):
    elb.delete_target_group(TargetGroupArn=arn)
equal(elb.describe_target_groups()["TargetGroups"], [])
