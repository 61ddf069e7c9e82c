"""Route 53's health checks, and what DNS answers when they fail."""
import http.server
import threading

from common import client, equal, eventually, refused, without
from dns import ask

r53, cloudwatch, elb = client("route53"), client("cloudwatch"), client("elbv2")
zone = r53.create_hosted_zone(
    Name="corp.test", CallerReference="a", VPC={"VPCRegion": "us-east-1", "VPCId": "vpc-1"}
)["HostedZone"]["Id"].removeprefix("/hostedzone/")


class Endpoint(http.server.BaseHTTPRequestHandler):
    status, seen = 200, []

    def do_GET(self):
        Endpoint.seen.append((self.path, self.headers["Host"], self.headers["User-Agent"]))
        self.send_response(Endpoint.status)
        self.end_headers()
        self.wfile.write(b"all is well")

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
PORT = server.server_address[1]
HTTP = {"Type": "HTTP", "IPAddress": "127.0.0.1", "Port": PORT, "ResourcePath": "ready", "RequestInterval": 10, "FailureThreshold": 1}


def create(reference, **config):
    return r53.create_health_check(CallerReference=reference, HealthCheckConfig=config)["HealthCheck"]


def status(check):
    seen = r53.get_health_check_status(HealthCheckId=check["Id"])["HealthCheckObservations"]
    return seen[0]["StatusReport"]["Status"] if seen else ""


# Checks: what they have to be, and how they are shown.
made = create("http", **HTTP)
equal(made["HealthCheckVersion"], 1)
equal(made["HealthCheckConfig"], {
    **HTTP, "ResourcePath": "/ready", "MeasureLatency": False, "Inverted": False, "Disabled": False, "EnableSNI": False})
equal(without(r53.get_health_check(HealthCheckId=made["Id"]))["HealthCheck"], made)
equal(create("http", **HTTP), made)
refused("HealthCheckAlreadyExists", create, "http", **{**HTTP, "Port": 1})
refused("NoSuchHealthCheck", r53.get_health_check, HealthCheckId="x")
refused("NoSuchHealthCheck", r53.get_health_check_status, HealthCheckId="x")
refused("NoSuchHealthCheck", r53.get_health_check_last_failure_reason, HealthCheckId="x")
refused("NoSuchHealthCheck", r53.delete_health_check, HealthCheckId="x")
refused("NoSuchHealthCheck", r53.update_health_check, HealthCheckId="x", Port=1)
for config, says in [
    ({"Type": "HTTP"}, "IPAddress or FullyQualifiedDomainName"),
    ({"Type": "TCP", "IPAddress": "127.0.0.1"}, "Port is required"),
    ({**HTTP, "RequestInterval": 20}, "10 or 30"),
    ({**HTTP, "SearchString": "x"}, "SearchString does not apply"),
    ({**HTTP, "Type": "HTTP_STR_MATCH"}, "SearchString is required"),
    ({**HTTP, "HealthThreshold": 1}, "HealthThreshold does not apply"),
    ({"Type": "TCP", "IPAddress": "127.0.0.1", "Port": 1, "ResourcePath": "/"}, "ResourcePath does not apply"),
    ({"Type": "CALCULATED", "ChildHealthChecks": []}, "HealthThreshold is required"),
    ({"Type": "CALCULATED", "ChildHealthChecks": ["x"], "HealthThreshold": 1}, "x does not exist"),
    ({"Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Region": "us-east-1", "Name": "x"}}, "no alarm x"),
    ({"Type": "RECOVERY_CONTROL"}, "not supported"),
    ({**HTTP, "IPAddress": "localhost"}, ""),
]:
    refused("InvalidInput", create, "bad", **config, says=says)
tcp = create("tcp", Type="TCP", IPAddress="127.0.0.1", Port=PORT)
match = create("match", **{**HTTP, "Type": "HTTP_STR_MATCH", "SearchString": "is well", "FullyQualifiedDomainName": "web.test"})
miss = create("miss", **{**HTTP, "Type": "HTTP_STR_MATCH", "SearchString": "is bad"})
both = create("both", Type="CALCULATED", ChildHealthChecks=[made["Id"], tcp["Id"]], HealthThreshold=2)
refused("InvalidInput", create, "nested", Type="CALCULATED", ChildHealthChecks=[both["Id"]], HealthThreshold=1, says="calculated itself")
eventually(lambda: status(made) == "Success: HTTP Status Code 200, OK", "the endpoint's health")
eventually(lambda: status(tcp) == "Success: TCP connection established", "the port's health")
eventually(lambda: "the search string was found" in status(match), "the body's health")
eventually(lambda: status(miss).startswith("Failure: The first 5120 bytes"), "the missing string")
eventually(lambda: status(both).startswith("Success: 2 of 2"), "the calculated health")
assert ("/ready", f"127.0.0.1:{PORT}", f"Amazon-Route53-Health-Check-Service (ref {made['Id']})") in Endpoint.seen, Endpoint.seen
assert any(host == f"web.test:{PORT}" for _, host, _ in Endpoint.seen), Endpoint.seen
equal(r53.get_health_check_last_failure_reason(HealthCheckId=made["Id"])["HealthCheckObservations"], [])
failure = r53.get_health_check_last_failure_reason(HealthCheckId=miss["Id"])["HealthCheckObservations"]
assert failure[0]["StatusReport"]["Status"].startswith("Failure: The first"), failure

# Updates, listings, tags.
changed = r53.update_health_check(HealthCheckId=miss["Id"], HealthCheckVersion=1, SearchString="all", Inverted=True)["HealthCheck"]
equal((changed["HealthCheckVersion"], changed["HealthCheckConfig"]["SearchString"], changed["HealthCheckConfig"]["Inverted"]), (2, "all", True))
refused("HealthCheckVersionMismatch", r53.update_health_check, HealthCheckId=miss["Id"], HealthCheckVersion=1, Disabled=True)
refused("InvalidInput", r53.update_health_check, HealthCheckId=tcp["Id"], HealthThreshold=1, says="does not apply")
reset = r53.update_health_check(HealthCheckId=match["Id"], ResetElements=["ResourcePath"])["HealthCheck"]["HealthCheckConfig"]
equal((reset["ResourcePath"], reset["FullyQualifiedDomainName"]), ("/", "web.test"))
equal(r53.get_health_check_count()["HealthCheckCount"], 5)
pages = r53.get_paginator("list_health_checks").paginate(PaginationConfig={"PageSize": 2})
equal(len([one for page in pages for one in page["HealthChecks"]]), 5)
refused("InvalidInput", r53.list_health_checks, MaxItems="0")
r53.change_tags_for_resource(ResourceType="healthcheck", ResourceId=made["Id"], AddTags=[{"Key": "a", "Value": "b"}])
found = r53.list_tags_for_resources(ResourceType="healthcheck", ResourceIds=[made["Id"], tcp["Id"]])["ResourceTagSets"]
equal([(one["ResourceId"], one["Tags"]) for one in found], [(made["Id"], [{"Key": "a", "Value": "b"}]), (tcp["Id"], [])])
equal(r53.list_tags_for_resource(ResourceType="healthcheck", ResourceId=made["Id"])["ResourceTagSet"]["Tags"], [{"Key": "a", "Value": "b"}])
refused("NoSuchHealthCheck", r53.list_tags_for_resources, ResourceType="healthcheck", ResourceIds=["x"])
refused("NoSuchHostedZone", r53.list_tags_for_resources, ResourceType="hostedzone", ResourceIds=["Z1"])


# Records.
def record(name, value, identity, check=None, **routing):
    more = {"HealthCheckId": check["Id"]} if check else {}
    return {"Name": name, "Type": "A", "TTL": 0, "SetIdentifier": identity, "ResourceRecords": [{"Value": value}], **routing, **more}


def change(*rows):
    changes = [{"Action": "UPSERT", "ResourceRecordSet": row} for row in rows]
    return r53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": changes})


def answers(name, *expected):
    want = ("NOERROR", [f"{name} 0 A {value}" for value in expected])
    eventually(lambda: ask(name, "A") == want, f"{name}: {want}, not {ask(name, 'A')}")


balancer = elb.describe_load_balancers(Names=["web"])["LoadBalancers"][0]
alias = {"HostedZoneId": balancer["CanonicalHostedZoneId"], "DNSName": balancer["DNSName"], "EvaluateTargetHealth": True}
rows = [
    record("f.corp.test", "10.0.0.1", "one", made, Failover="PRIMARY"),
    record("f.corp.test", "10.0.0.2", "two", Failover="SECONDARY"),
    record("w.corp.test", "10.0.0.1", "one", made, Weight=10),
    record("w.corp.test", "10.0.0.2", "two", tcp, Weight=0),
    record("m.corp.test", "10.0.0.1", "one", both, MultiValueAnswer=True),
    record("m.corp.test", "10.0.0.2", "two", MultiValueAnswer=True),
    {"Name": "lb.corp.test", "Type": "A", "SetIdentifier": "one", "Failover": "PRIMARY", "AliasTarget": alias},
    record("lb.corp.test", "10.0.0.2", "two", Failover="SECONDARY"),
]
change(*rows)
shown = [row for row in r53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"] if row["Name"] == "f.corp.test."]
equal([(row["Failover"], row.get("HealthCheckId")) for row in shown], [("PRIMARY", made["Id"]), ("SECONDARY", None)])
refused("InvalidChangeBatch", change, record("f.corp.test", "10.0.0.3", "three", Failover="SECONDARY"), says="such a failover record")
refused("InvalidChangeBatch", change, record("f.corp.test", "10.0.0.3", "three", Weight=1), says="another routing policy")
answers("f.corp.test", "10.0.0.1")
answers("w.corp.test", "10.0.0.1")
answers("m.corp.test", "10.0.0.1", "10.0.0.2")
code, found = ask("lb.corp.test", "A")
assert code == "NOERROR" and "10.0.0.2" not in found[0], found
Endpoint.status = 503
answers("f.corp.test", "10.0.0.2")
answers("w.corp.test", "10.0.0.2")
answers("m.corp.test", "10.0.0.2")
equal(status(made), "Failure: HTTP Status Code 503, Service Unavailable")
assert status(both).startswith("Failure: 1 of 2"), status(both)
# As if it were healthy.
r53.update_health_check(HealthCheckId=made["Id"], Disabled=True)
answers("f.corp.test", "10.0.0.1")
r53.update_health_check(HealthCheckId=made["Id"], Disabled=False)
Endpoint.status = 200
eventually(lambda: status(made).startswith("Success"), "the endpoint to come back")
answers("m.corp.test", "10.0.0.1", "10.0.0.2")
r53.update_health_check(HealthCheckId=made["Id"], Inverted=True)
answers("f.corp.test", "10.0.0.2")
r53.delete_health_check(HealthCheckId=made["Id"])
answers("f.corp.test", "10.0.0.1")

# A load balancer whose targets are gone is no longer answered.
group = elb.describe_target_groups(Names=["web"])["TargetGroups"][0]["TargetGroupArn"]
client("ecs").update_service(service="web", desiredCount=0)
answers("lb.corp.test", "10.0.0.2")

# An alarm decides.
cloudwatch.put_metric_alarm(
    AlarmName="quiet", MetricName="RunningTaskCount", Namespace="Nobody/Measures", Statistic="Average", Period=60,
    EvaluationPeriods=1, Threshold=1.0, ComparisonOperator="GreaterThanThreshold", TreatMissingData="ignore")
alarm = create("alarm", Type="CLOUDWATCH_METRIC", AlarmIdentifier={"Region": "us-east-1", "Name": "quiet"}, InsufficientDataHealthStatus="Unhealthy")
equal(alarm["CloudWatchAlarmConfiguration"]["MetricName"], "RunningTaskCount")
equal(alarm["HealthCheckConfig"]["AlarmIdentifier"], {"Region": "us-east-1", "Name": "quiet"})
eventually(lambda: status(alarm) == "Failure: the alarm quiet is INSUFFICIENT_DATA", "the alarm's lack of data")
cloudwatch.set_alarm_state(AlarmName="quiet", StateValue="OK", StateReason="a test")
eventually(lambda: status(alarm) == "Success: the alarm quiet is OK", "the alarm")
