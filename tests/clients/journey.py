"""A team's first hour with the stock aws command: from nothing to a service behind a load balancer and in DNS, a new
revision and more tasks under load, and everything deleted again.

Usage: journey.py FOLDER PROGRAM [IMAGE]; the folder has one.pem and one.key, a certificate; with an image the tasks are containers of it.
"""
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading

from common import client, equal, eventually
from resolve import resolve

FOLDER, PROGRAM, IMAGE = sys.argv[1], sys.argv[2], (sys.argv + [None])[3]
AWS = os.path.join(os.path.dirname(sys.executable), "aws")
PORT = 8080


def aws(*arguments):
    done = subprocess.run([sys.executable, AWS, *arguments, "--output", "json"], capture_output=True, text=True)
    assert done.returncode == 0, f"aws {' '.join(arguments)}: {done.stderr}"
    return json.loads(done.stdout) if done.stdout.strip() else {}


def definition(revision):
    container = {
        "name": "web", "essential": True, "memory": 64, "stopTimeout": 5, "command": [PROGRAM, "whoami"],
        "environment": [{"name": "REVISION", "value": revision}],
        "portMappings": [{"containerPort": PORT, "protocol": "tcp"}],
    }
    if IMAGE:
        container["image"] = IMAGE
    made = aws("ecs", "register-task-definition", "--family", "web", "--container-definitions", json.dumps([container]))
    return made["taskDefinition"]["taskDefinitionArn"]


equal(aws("sts", "get-caller-identity")["Account"], "000000000000")
(vpc,) = aws("ec2", "describe-vpcs", "--filters", "Name=is-default,Values=true")["Vpcs"]
subnets = aws("ec2", "describe-subnets", "--filters", f"Name=vpc-id,Values={vpc['VpcId']}")["Subnets"]
balancer = aws("elbv2", "create-load-balancer", "--name", "front", "--subnets", *[s["SubnetId"] for s in subnets])
balancer = balancer["LoadBalancers"][0]
aws("elbv2", "wait", "load-balancer-available", "--load-balancer-arns", balancer["LoadBalancerArn"])
group = aws(
    "elbv2", "create-target-group", "--name", "web", "--protocol", "HTTP", "--port", str(PORT), "--vpc-id", vpc["VpcId"],
    "--target-type", "ip", "--health-check-path", "/health", "--health-check-interval-seconds", "5",
    "--health-check-timeout-seconds", "2", "--healthy-threshold-count", "2",
)["TargetGroups"][0]["TargetGroupArn"]
aws("elbv2", "modify-target-group-attributes", "--target-group-arn", group, "--attributes",
    "Key=deregistration_delay.timeout_seconds,Value=20")
nothing = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "MessageBody": "nothing here"}}]
listener = aws(
    "elbv2", "create-listener", "--load-balancer-arn", balancer["LoadBalancerArn"], "--protocol", "HTTP", "--port",
    "80", "--default-actions", json.dumps(nothing),
)["Listeners"][0]["ListenerArn"]
certificate = aws(
    "acm", "import-certificate", "--certificate", f"fileb://{FOLDER}/one.pem", "--private-key", f"fileb://{FOLDER}/one.key",
)["CertificateArn"]
secure = aws(
    "elbv2", "create-listener", "--load-balancer-arn", balancer["LoadBalancerArn"], "--protocol", "HTTPS", "--port",
    "443", "--certificates", f"CertificateArn={certificate}", "--ssl-policy", "ELBSecurityPolicy-TLS13-1-2-2021-06",
    "--default-actions", f"Type=forward,TargetGroupArn={group}",
)["Listeners"][0]["ListenerArn"]
rule = aws(
    "elbv2", "create-rule", "--listener-arn", listener, "--priority", "10", "--conditions",
    "Field=path-pattern,Values=/app/*", "--actions", f"Type=forward,TargetGroupArn={group}",
)["Rules"][0]["RuleArn"]
operation = aws("servicediscovery", "create-private-dns-namespace", "--name", "shop.internal", "--vpc", vpc["VpcId"])
operation = aws("servicediscovery", "get-operation", "--operation-id", operation["OperationId"])["Operation"]
equal(operation["Status"], "SUCCESS")
namespace = operation["Targets"]["NAMESPACE"]
registry = aws(
    "servicediscovery", "create-service", "--name", "web", "--namespace-id", namespace, "--dns-config",
    "DnsRecords=[{Type=A,TTL=1}]", "--health-check-custom-config", "FailureThreshold=1",
)["Service"]
aws("ecs", "create-cluster", "--cluster-name", "shop")
first = definition("one")
aws(
    "ecs", "create-service", "--cluster", "shop", "--service-name", "web", "--task-definition", first, "--desired-count",
    "2", "--load-balancers", f"targetGroupArn={group},containerName=web,containerPort={PORT}", "--service-registries",
    f"registryArn={registry['Arn']}",
)

ecs = client("ecs")
elb = client("elbv2")


def stable(tasks):
    """The waiter's own condition, asked more often; then what is true of it."""
    waiter = ecs.get_waiter("services_stable")
    waiter.wait(cluster="shop", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 100})
    (service,) = ecs.describe_services(cluster="shop", services=["web"])["services"]
    equal((service["runningCount"], service["pendingCount"], len(service["deployments"])), (tasks, 0, 1))
    # Running comes before healthy; those that left may still drain.
    eventually(lambda: healthy() == tasks, f"{tasks} healthy targets")


def healthy():
    health = elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
    return sum(target["TargetHealth"]["State"] == "healthy" for target in health)


def get(path, tls=None):
    """Over TLS in this context, where one is given."""
    (address,) = resolve(balancer["DNSName"])
    connection = http.client.HTTPConnection(address, 443 if tls else 80, timeout=10)
    if tls:
        connection.sock = tls.wrap_socket(socket.create_connection((address, 443), 10), server_hostname="a.one.test")
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


stable(2)
equal(get("/")[0], 404)
equal(get("/app/x")[0], 200)
# The client trusts the imported certificate and no other, and holds it against the name that it asked for.
trusting = ssl.create_default_context(cafile=f"{FOLDER}/one.pem")
equal(get("/app/x", trusting)[0], 200)
eventually(lambda: len(resolve("web.shop.internal")) == 2, "two addresses in DNS")

failed, answered, ending = [], [], threading.Event()


def load():
    while not ending.is_set():
        try:
            status, body = get("/app/load")
            (answered if status == 200 else failed).append((status, body))
        except OSError as error:
            failed.append(error)


loads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
for thread in loads:
    thread.start()
second = definition("two")
aws("ecs", "update-service", "--cluster", "shop", "--service", "web", "--task-definition", second)
stable(2)
arns = ecs.list_tasks(cluster="shop", serviceName="web")["taskArns"]
tasks = ecs.describe_tasks(cluster="shop", tasks=arns)["tasks"]
equal({task["taskDefinitionArn"] for task in tasks}, {second})
aws("ecs", "update-service", "--cluster", "shop", "--service", "web", "--desired-count", "4")
stable(4)
aws("ecs", "update-service", "--cluster", "shop", "--service", "web", "--desired-count", "1")
stable(1)
(left,) = ecs.list_tasks(cluster="shop", serviceName="web")["taskArns"]
aws("ecs", "update-service", "--cluster", "shop", "--service", "web", "--desired-count", "2")
stable(2)
aws("ecs", "stop-task", "--cluster", "shop", "--task", left, "--reason", "to see it replaced")
ecs.get_waiter("tasks_stopped").wait(cluster="shop", tasks=[left], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
(stopped,) = ecs.describe_tasks(cluster="shop", tasks=[left])["tasks"]
equal((stopped["stopCode"], stopped["stoppedReason"]), ("UserInitiated", "to see it replaced"))
stable(2)
ending.set()
for thread in loads:
    thread.join()
assert not failed, f"{len(failed)} of {len(failed) + len(answered)} requests failed: {failed[:3]}"
assert len(answered) > 100, f"only {len(answered)} requests"
print(f"note: {len(answered)} requests, none failed")

aws("ecs", "update-service", "--cluster", "shop", "--service", "web", "--desired-count", "0")
stable(0)
aws("ecs", "delete-service", "--cluster", "shop", "--service", "web")
waiter = ecs.get_waiter("services_inactive")
waiter.wait(cluster="shop", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
aws("elbv2", "delete-rule", "--rule-arn", rule)
aws("elbv2", "delete-listener", "--listener-arn", listener)
aws("elbv2", "delete-listener", "--listener-arn", secure)
aws("acm", "delete-certificate", "--certificate-arn", certificate)
aws("elbv2", "delete-target-group", "--target-group-arn", group)
aws("elbv2", "delete-load-balancer", "--load-balancer-arn", balancer["LoadBalancerArn"])
aws("elbv2", "wait", "load-balancers-deleted", "--load-balancer-arns", balancer["LoadBalancerArn"])
aws("servicediscovery", "delete-service", "--id", registry["Id"])
aws("servicediscovery", "delete-namespace", "--id", namespace)
for arn in (first, second):
    aws("ecs", "deregister-task-definition", "--task-definition", arn)
aws("ecs", "delete-task-definitions", "--task-definitions", first, second)
aws("ecs", "delete-cluster", "--cluster", "shop")
equal(ecs.list_services(cluster="default")["serviceArns"], [])
equal(elb.describe_load_balancers()["LoadBalancers"], [])
equal(elb.describe_target_groups()["TargetGroups"], [])
equal(resolve("web.shop.internal"), [])
