"""From nothing to traffic and back: load balancer, target group, listener, rule, target; as Terraform does it."""
import http.client
import http.server
import threading

from common import client, equal, eventually, refused, without
from resolve import resolve

elb = client("elbv2", validate=True)


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"from the target: {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
threading.Thread(target=server.serve_forever, daemon=True).start()
target = {"Id": "127.0.0.1", "Port": server.server_port}


def get(address, port, path, host="a.example.com"):
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def reads(arn, *operations):
    """What Terraform reads after a creation, twice alike."""
    for operation, parameters in [*operations, (elb.describe_tags, {"ResourceArns": [arn]})]:
        first = without(operation(**parameters))
        equal(without(operation(**parameters)), first)
    return first["TagDescriptions"][0]["Tags"]


tags = [{"Key": "made-by", "Value": "terraform"}]
lb = elb.create_load_balancer(
    Name="journey", Type="application", Scheme="internal", Subnets=["subnet-a", "subnet-b"], SecurityGroups=["sg-1"],
    Tags=tags,
)["LoadBalancers"][0]
LB = lb["LoadBalancerArn"]
elb.get_waiter("load_balancer_available").wait(LoadBalancerArns=[LB])
elb.get_waiter("load_balancer_exists").wait(LoadBalancerArns=[LB])
elb.modify_load_balancer_attributes(LoadBalancerArn=LB, Attributes=[
    {"Key": "deletion_protection.enabled", "Value": "false"}, {"Key": "idle_timeout.timeout_seconds", "Value": "60"},
    {"Key": "access_logs.s3.enabled", "Value": "false"}, {"Key": "routing.http2.enabled", "Value": "true"}])
equal(reads(LB, (elb.describe_load_balancers, {"LoadBalancerArns": [LB]}),
            (elb.describe_load_balancer_attributes, {"LoadBalancerArn": LB}),
            (elb.describe_capacity_reservation, {"LoadBalancerArn": LB})), tags)
group = elb.create_target_group(
    Name="journey", Protocol="HTTP", Port=80, VpcId="vpc-1", TargetType="ip", HealthCheckPath="/health",
    HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2, Tags=tags,
)["TargetGroups"][0]["TargetGroupArn"]
elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=[
    {"Key": "deregistration_delay.timeout_seconds", "Value": "10"}, {"Key": "stickiness.enabled", "Value": "false"},
    {"Key": "slow_start.duration_seconds", "Value": "0"}])
equal(reads(group, (elb.describe_target_groups, {"TargetGroupArns": [group]}),
            (elb.describe_target_group_attributes, {"TargetGroupArn": group})), tags)
listener = elb.create_listener(
    LoadBalancerArn=LB, Protocol="HTTP", Port=8080, Tags=tags, DefaultActions=[{"Type": "fixed-response",
    "Order": 1, "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain", "MessageBody": "nothing"}}],
)["Listeners"][0]
LISTENER = listener["ListenerArn"]
equal(listener["DefaultActions"][0]["Order"], 1)
equal(reads(LISTENER, (elb.describe_listeners, {"ListenerArns": [LISTENER]}),
            (elb.describe_listener_attributes, {"ListenerArn": LISTENER}),
            (elb.describe_listener_certificates, {"ListenerArn": LISTENER})), tags)
rule = elb.create_rule(
    ListenerArn=LISTENER, Priority=100, Tags=tags, Actions=[{"Type": "forward", "TargetGroupArn": group, "Order": 1}],
    Conditions=[{"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com"]}}],
)["Rules"][0]["RuleArn"]
equal(reads(rule, (elb.describe_rules, {"RuleArns": [rule]})), tags)

# Traffic.
address = eventually(lambda: resolve(lb["DNSName"]), "the load balancer's name is answered")[0]
equal(get(address, 8080, "/x", "b.example.org"), (404, "nothing"))
eventually(lambda: get(address, 8080, "/x")[0] == 503, "a rule without targets answers 503")
elb.register_targets(TargetGroupArn=group, Targets=[target])
elb.get_waiter("target_in_service").wait(
    TargetGroupArn=group, Targets=[target], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
health = elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
equal(health, [{"Target": target, "HealthCheckPort": str(target["Port"]), "TargetHealth": {"State": "healthy"}}])
eventually(lambda: get(address, 8080, "/x") == (200, "from the target: /x"), "the target answers")
equal(get(address, 8080, "/x", "b.example.org"), (404, "nothing"))

# Changed while it serves.
elb.modify_rule(RuleArn=rule, Conditions=[{"Field": "path-pattern", "Values": ["/only/*"]}])
eventually(lambda: get(address, 8080, "/x")[0] == 404, "the path is looked at")
equal(get(address, 8080, "/only/y", "b.example.org"), (200, "from the target: /only/y"))
elb.modify_listener(ListenerArn=LISTENER, DefaultActions=[{"Type": "forward", "TargetGroupArn": group}])
eventually(lambda: get(address, 8080, "/x")[0] == 200, "the default is the target")
elb.modify_listener(ListenerArn=LISTENER, Port=8081)
eventually(lambda: get(address, 8081, "/x")[0] == 200, "the listener has moved")


def closed():
    try:
        get(address, 8080, "/x")
    except OSError:
        return True
    return False


eventually(closed, "the old port is closed")
refused("ResourceInUse", elb.delete_target_group, TargetGroupArn=group)

# Away again, in Terraform's order.
elb.deregister_targets(TargetGroupArn=group, Targets=[target])
elb.get_waiter("target_deregistered").wait(
    TargetGroupArn=group, Targets=[target], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
equal(elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"], [])
eventually(lambda: get(address, 8081, "/x")[0] == 503, "nobody is left")
elb.delete_rule(RuleArn=rule)
elb.delete_listener(ListenerArn=LISTENER)
elb.delete_target_group(TargetGroupArn=group)
elb.delete_load_balancer(LoadBalancerArn=LB)
elb.get_waiter("load_balancers_deleted").wait(LoadBalancerArns=[LB])
equal(elb.describe_load_balancers()["LoadBalancers"], [])
equal(elb.describe_target_groups()["TargetGroups"], [])
eventually(lambda: resolve(lb["DNSName"]) == [], "the name is gone")
server.shutdown()
