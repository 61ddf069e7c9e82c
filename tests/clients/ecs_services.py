"""ECS services: from a definition to stable tasks, a new revision, scale, force, delete. Arguments: the program."""
import datetime
import sys

from common import client, equal, eventually, refused, without

ecs = client("ecs")
PROGRAM = sys.argv[1]
BASE = "arn:aws:ecs:local:000000000000:"
files = ecs.describe_services(services=["web"])["services"][0]
GROUP = files["loadBalancers"][0]["targetGroupArn"]


def register(family, *arguments, port=8080, **members):
    container = {
        "name": "app", "command": [PROGRAM, "whoami", *arguments], "memory": 64, "stopTimeout": 5,
        "portMappings": [{"containerPort": port}],
    }
    made = ecs.register_task_definition(family=family, containerDefinitions=[container], **members)
    return made["taskDefinition"]["taskDefinitionArn"]


def stable(name, **members):
    ecs.get_waiter("services_stable").wait(services=[name], WaiterConfig={"Delay": 1, "MaxAttempts": 60}, **members)
    return ecs.describe_services(services=[name], include=["TAGS"], **members)["services"][0]


one = register("api")
refused("ClientException", ecs.create_service, serviceName="api", taskDefinition="gone", desiredCount=1, says="TaskDefinition not found.")
refused("InvalidParameterException", ecs.create_service, serviceName="no good", taskDefinition="api", desiredCount=1)
refused("InvalidParameterException", ecs.create_service, serviceName="api", taskDefinition="api")
refused("InvalidParameterException", ecs.create_service, serviceName="api", taskDefinition="api", desiredCount=5001)
refused("ClusterNotFoundException", ecs.create_service, cluster="gone", serviceName="api", taskDefinition="api", desiredCount=1)
for members, code in [
    ({"schedulingStrategy": "DAEMON"}, "InvalidParameterException"),
    ({"deploymentConfiguration": {"alarms": {"enable": True, "rollback": True, "alarmNames": ["a"]}}}, "InvalidParameterException"),
    ({"deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": True, "rollback": True, "thresholdConfiguration": {"type": "COUNT", "value": 0}}}}, "InvalidParameterException"),
    ({"deploymentController": {"type": "EXTERNAL"}}, "UnsupportedFeatureException"),
    ({"serviceConnectConfiguration": {"enabled": True}}, "UnsupportedFeatureException"),
    ({"loadBalancers": [{"loadBalancerName": "classic", "containerName": "app", "containerPort": 8080}]}, "UnsupportedFeatureException"),
    ({"deploymentConfiguration": {"minimumHealthyPercent": 101}}, "InvalidParameterException"),
    ({"loadBalancers": [{"targetGroupArn": GROUP, "containerName": "gone", "containerPort": 8080}]}, "InvalidParameterException"),
    ({"loadBalancers": [{"targetGroupArn": GROUP, "containerName": "app", "containerPort": 1}]}, "InvalidParameterException"),
    ({"loadBalancers": [{"targetGroupArn": GROUP + "x", "containerName": "app", "containerPort": 8080}]}, "InvalidParameterException"),
    ({"healthCheckGracePeriodSeconds": 1}, "InvalidParameterException"),
    ({"launchType": "EC2", "platformVersion": "1.4.0"}, "InvalidParameterException"),
    ({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"]}}}, "InvalidParameterException"),
    ({"serviceRegistries": [{"registryArn": "arn:aws:servicediscovery:local:000000000000:service/srv-gone"}]}, "InvalidParameterException"),
]:
    refused(code, ecs.create_service, serviceName="api", taskDefinition="api", desiredCount=1, **members)

made = without(ecs.create_service(
    serviceName="api", taskDefinition="api", desiredCount=2, clientToken="t1", tags=[{"key": "team", "value": "a"}],
    loadBalancers=[{"targetGroupArn": GROUP, "containerName": "app", "containerPort": 8080}],
    deploymentConfiguration={"maximumPercent": 150, "minimumHealthyPercent": 50}, healthCheckGracePeriodSeconds=7,
    placementStrategy=[{"type": "spread", "field": "attribute:ecs.availability-zone"}], propagateTags="SERVICE",
    enableECSManagedTags=True, availabilityZoneRebalancing="DISABLED",
))["service"]
equal(len(made["deployments"]), 1)
equal((made["deployments"][0]["status"], made["deployments"][0]["rolloutState"]), ("PRIMARY", "IN_PROGRESS"))
equal(made["taskDefinition"], one)
# The same token is the same call.
equal(ecs.create_service(serviceName="api", taskDefinition="api", desiredCount=2, clientToken="t1")["service"]["createdAt"], made["createdAt"])
refused("InvalidParameterException", ecs.create_service, serviceName="api", taskDefinition="api", desiredCount=2, says="Creation of service was not idempotent.")

service = stable("api")
equal((service["runningCount"], service["pendingCount"], service["desiredCount"]), (2, 0, 2))
eventually(lambda: stable("api")["deployments"][0]["rolloutState"] == "COMPLETED", "the rollout to complete")
service = stable("api")
for name, value in {
    "serviceArn": BASE + "service/default/api", "clusterArn": BASE + "cluster/default", "status": "ACTIVE", "launchType": "EC2",
    "loadBalancers": [{"targetGroupArn": GROUP, "containerName": "app", "containerPort": 8080}], "serviceRegistries": [],
    "deploymentConfiguration": {
        "deploymentCircuitBreaker": {"enable": False, "rollback": False}, "maximumPercent": 150, "minimumHealthyPercent": 50,
        "strategy": "ROLLING", "bakeTimeInMinutes": 0,
    },
    "healthCheckGracePeriodSeconds": 7, "placementConstraints": [], "propagateTags": "SERVICE", "enableECSManagedTags": True,
    "placementStrategy": [{"type": "spread", "field": "attribute:ecs.availability-zone"}], "enableExecuteCommand": False,
    "availabilityZoneRebalancing": "DISABLED", "schedulingStrategy": "REPLICA", "tags": [{"key": "team", "value": "a"}],
}.items():
    equal((name, service[name]), (name, value))
assert "has reached a steady state" in service["events"][0]["message"], service["events"]
tasks = ecs.list_tasks(serviceName="api")["taskArns"]
equal(len(tasks), 2)
task = ecs.describe_tasks(tasks=tasks, include=["TAGS"])["tasks"][0]
equal((task["group"], task["startedBy"], task["lastStatus"]), ("service:api", service["deployments"][0]["id"], "RUNNING"))
tags = {tag["key"]: tag["value"] for tag in task["tags"]}
equal(tags, {"team": "a", "aws:ecs:clusterName": "default", "aws:ecs:serviceName": "api"})

# A new revision rolls out; whoever waits for stability sees it.
two = register("api", "--log")
update = ecs.update_service(service="api", taskDefinition="api")["service"]
equal(update["taskDefinition"], two)
equal((update["deployments"][0]["status"], update["deployments"][0]["taskDefinition"]), ("PRIMARY", two))
service = stable("api")
equal([(d["taskDefinition"], d["runningCount"]) for d in service["deployments"]], [(two, 2)])
assert not set(tasks) & set(ecs.list_tasks(serviceName="api")["taskArns"])
equal(len(ecs.list_tasks(serviceName="api", desiredStatus="STOPPED")["taskArns"]), 2)

register("other", port=9090)
refused("InvalidParameterException", ecs.update_service, service="api", taskDefinition="other", says="container port 8080")

# The same revision again, because it is asked for; then a count, which begins no deployment.
before = service["deployments"][0]["id"]
forced = ecs.update_service(service="api", forceNewDeployment=True)["service"]
assert forced["deployments"][0]["id"] != before
equal(forced["deployments"][0]["status"], "PRIMARY")
service = stable("api")
forced = service["deployments"][0]["id"]
ecs.update_service(service="api", desiredCount=3)
service = stable("api")
equal((service["runningCount"], service["deployments"][0]["id"]), (3, forced))

# Service deployments and revisions are the same facts.
deployments = ecs.list_service_deployments(service="api")["serviceDeployments"]
equal(len(deployments), 3)
equal(deployments[0]["serviceDeploymentArn"], service["currentServiceDeployment"])
eventually(
    lambda: ecs.list_service_deployments(service="api", status=["SUCCESSFUL"])["serviceDeployments"], "the deployment to be successful"
)
shown = ecs.describe_service_deployments(serviceDeploymentArns=[service["currentServiceDeployment"], service["currentServiceDeployment"] + "9"])
equal(shown["serviceDeployments"][0]["targetServiceRevision"]["requestedTaskCount"], 3)
equal(shown["failures"][0]["reason"], "MISSING")
revision = ecs.describe_service_revisions(serviceRevisionArns=[service["currentServiceRevisions"][0]["arn"]])["serviceRevisions"][0]
equal((revision["taskDefinition"], revision["loadBalancers"]), (two, service["loadBalancers"]))
refused("ConflictException", ecs.stop_service_deployment, serviceDeploymentArn=service["currentServiceDeployment"], says="SUCCESSFUL")
refused("ConflictException", ecs.stop_service_deployment, serviceDeploymentArn=service["currentServiceDeployment"], stopType="ABORT")
refused("ServiceDeploymentNotFoundException", ecs.stop_service_deployment, serviceDeploymentArn=service["currentServiceDeployment"] + "9")
refused("InvalidParameterException", ecs.continue_service_deployment, serviceDeploymentArn=service["currentServiceDeployment"], hookId="h", action="CONTINUE")
refused("InvalidParameterException", ecs.describe_service_deployments, serviceDeploymentArns=["x"])
refused("ServiceNotFoundException", ecs.list_service_deployments, service="gone")

# Protection: a scale-in leaves the protected task, whichever it is.
tasks = sorted(ecs.list_tasks(serviceName="api")["taskArns"])
equal(ecs.get_task_protection(cluster="default", tasks=tasks[:1])["protectedTasks"], [{"taskArn": tasks[0], "protectionEnabled": False}])
for minutes in (0, 2881):
    refused("InvalidParameterException", ecs.update_task_protection, cluster="default", tasks=tasks[:1], protectionEnabled=True, expiresInMinutes=minutes)
refused("InvalidParameterException", ecs.update_task_protection, cluster="default", tasks=[], protectionEnabled=True)
shown = ecs.update_task_protection(cluster="default", tasks=tasks[:1], protectionEnabled=True)["protectedTasks"][0]
left = (shown["expirationDate"] - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
assert shown["protectionEnabled"] and 7100 < left <= 7200, shown
ecs.update_task_protection(cluster="default", tasks=tasks[1:2], protectionEnabled=True, expiresInMinutes=1)
equal(sorted(p["taskArn"] for p in ecs.get_task_protection(cluster="default")["protectedTasks"]), tasks[:2])
ecs.update_task_protection(cluster="default", tasks=tasks[1:2], protectionEnabled=False)
failures = ecs.update_task_protection(cluster="default", tasks=["0" * 32], protectionEnabled=True)["failures"]
equal(failures, [{"arn": BASE + "task/default/" + "0" * 32, "reason": "MISSING"}])
ecs.update_service(service="api", desiredCount=1)
stable("api")
equal(ecs.list_tasks(serviceName="api")["taskArns"], tasks[:1])
equal(ecs.get_task_protection(cluster="default", tasks=tasks[2:])["failures"][0]["reason"], "TASK_NOT_VALID")
# It outlives a scale-in to nothing and goes when its protection ends.
ecs.update_service(service="api", desiredCount=0)
eventually(lambda: "number of protected tasks" in ecs.describe_services(services=["api"])["services"][0]["events"][0]["message"], "the event")
equal(ecs.list_tasks(serviceName="api")["taskArns"], tasks[:1])
ecs.update_task_protection(cluster="default", tasks=tasks[:1], protectionEnabled=False)
equal(stable("api")["runningCount"], 0)
ecs.update_service(service="api", desiredCount=3)
stable("api")

# DAEMON: one task, and nobody counts.
refused(
    "InvalidParameterException", ecs.create_service, serviceName="daemon", taskDefinition="api", schedulingStrategy="DAEMON",
    placementStrategy=[{"type": "random"}],
)
daemon = ecs.create_service(serviceName="daemon", taskDefinition="api", schedulingStrategy="DAEMON")["service"]
equal((daemon["schedulingStrategy"], daemon["desiredCount"]), ("DAEMON", 1))
equal((daemon["deploymentConfiguration"]["minimumHealthyPercent"], daemon["deploymentConfiguration"]["maximumPercent"]), (0, 100))
equal(daemon["availabilityZoneRebalancing"], "DISABLED")
equal(stable("daemon")["runningCount"], 1)
refused("InvalidParameterException", ecs.update_service, service="daemon", desiredCount=2, says="daemon scheduling strategy")
before = ecs.list_tasks(serviceName="daemon")["taskArns"]
ecs.update_service(service="daemon", forceNewDeployment=True)
equal(stable("daemon")["runningCount"], 1)
assert ecs.list_tasks(serviceName="daemon")["taskArns"] != before
equal(ecs.list_services(schedulingStrategy="DAEMON")["serviceArns"], [BASE + "service/default/daemon"])
ecs.delete_service(service="daemon")
ecs.get_waiter("services_inactive").wait(services=["daemon"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})

refused("ServiceNotFoundException", ecs.update_service, service="gone", desiredCount=1, says="Service not found.")
refused("InvalidParameterException", ecs.update_service, service=BASE + "service/other/api", desiredCount=1)
refused("ClusterContainsServicesException", ecs.delete_cluster, cluster="default")
equal(ecs.describe_services(services=["gone"])["failures"], [{"arn": BASE + "service/default/gone", "reason": "MISSING"}])
refused("InvalidParameterException", ecs.describe_services, services=[])
equal(ecs.list_services_by_namespace(namespace="demo.internal")["serviceArns"], [])
refused("NamespaceNotFoundException", ecs.list_services_by_namespace, namespace="gone.internal")

# A service of the file: its count, and nothing else.
refused("InvalidParameterException", ecs.update_service, service="web", taskDefinition="api", says="configuration file")
refused("InvalidParameterException", ecs.delete_service, service="web", force=True, says="configuration file")
ecs.update_service(service="web", desiredCount=2)
equal(stable("web")["runningCount"], 2)

# In a namespace.
REGISTRY = files["serviceRegistries"][0]["registryArn"]
assert REGISTRY.startswith("arn:aws:servicediscovery:local:000000000000:service/srv-"), REGISTRY
for port in ({"containerName": "app", "containerPort": 8080}, {"port": 8080}, {}):
    name = f"named-{len(port)}"
    registries = [{"registryArn": REGISTRY, **port}]
    equal(ecs.create_service(serviceName=name, taskDefinition="api", desiredCount=1, serviceRegistries=registries)["service"]["serviceRegistries"], registries)
    equal(stable(name)["serviceRegistries"], registries)
    revision = stable(name)["currentServiceRevisions"][0]["arn"]
    equal(ecs.describe_service_revisions(serviceRevisionArns=[revision])["serviceRevisions"][0]["serviceRegistries"], registries)
    equal(ecs.update_service(service=name, serviceRegistries=[])["service"]["serviceRegistries"], [])
    equal(stable(name)["deployments"][0]["runningCount"], 1)
    ecs.delete_service(service=name, force=True)
    ecs.get_waiter("services_inactive").wait(services=[name], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
for wrong in ({"containerName": "app", "containerPort": 1}, {"containerName": "app"}, {"port": 1, "containerName": "app", "containerPort": 8080}):
    refused(
        "InvalidParameterException", ecs.create_service, serviceName="wrong", taskDefinition="api", desiredCount=1,
        serviceRegistries=[{"registryArn": REGISTRY, **wrong}],
    )

# In a discovery service of Cloud Map's own making: found while it runs, and not after.
cloudmap = client("servicediscovery")
operation = cloudmap.create_private_dns_namespace(Name="shop.internal", Vpc="vpc-1")["OperationId"]
namespace = eventually(
    lambda: cloudmap.get_operation(OperationId=operation)["Operation"].get("Targets", {}).get("NAMESPACE"), "the namespace"
)
shop = cloudmap.create_service(
    Name="api", NamespaceId=namespace, DnsConfig={"DnsRecords": [{"Type": "A", "TTL": 1}]}, HealthCheckCustomConfig={"FailureThreshold": 1},
)["Service"]
registries = [{"registryArn": shop["Arn"]}]
found = ecs.create_service(serviceName="found", taskDefinition="api", desiredCount=2, serviceRegistries=registries)["service"]
equal(found["serviceRegistries"], registries)
stable("found")
instances = eventually(
    lambda: [i for i in [cloudmap.discover_instances(NamespaceName="shop.internal", ServiceName="api")["Instances"]] if len(i) == 2], "two instances"
)[0]
tasks = ecs.list_tasks(serviceName="found")["taskArns"]
equal({i["InstanceId"] for i in instances}, {arn.rsplit("/")[-1] for arn in tasks})
equal(ecs.list_services_by_namespace(namespace=cloudmap.get_namespace(Id=namespace)["Namespace"]["Arn"])["serviceArns"], [])
ecs.delete_service(service="found", force=True)
ecs.get_waiter("services_inactive").wait(services=["found"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
equal(cloudmap.discover_instances(NamespaceName="shop.internal", ServiceName="api")["Instances"], [])
cloudmap.delete_service(Id=shop["Id"])

# Fargate, in a network of its own, in a cluster of its own.
ecs.create_cluster(clusterName="far", capacityProviders=["FARGATE"])
register("far", port=8081, networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512")
refused("InvalidParameterException", ecs.create_service, cluster="far", serviceName="far", taskDefinition="far", desiredCount=1, launchType="FARGATE")
network = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"}}
refused(
    "InvalidParameterException", ecs.create_service, cluster="far", serviceName="far", taskDefinition="far", desiredCount=1, launchType="FARGATE",
    capacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1}], networkConfiguration=network,
)
far = ecs.create_service(
    cluster="far", serviceName="far", taskDefinition="far", desiredCount=1, networkConfiguration=network,
    capacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1}],
)["service"]
equal(far["capacityProviderStrategy"], [{"capacityProvider": "FARGATE", "weight": 1, "base": 0}])
equal((far["platformVersion"], far["platformFamily"], far["networkConfiguration"]), ("LATEST", "Linux", network))
stable("far", cluster="far")
task = ecs.describe_tasks(cluster="far", tasks=ecs.list_tasks(cluster="far")["taskArns"])["tasks"][0]
details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
equal((task["capacityProviderName"], details["subnetId"]), ("FARGATE", "subnet-1"))
equal(task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"], details["privateIPv4Address"])
counts = {c["clusterName"]: (c["runningTasksCount"], c["activeServicesCount"]) for c in ecs.describe_clusters(clusters=["far", "default"])["clusters"]}
equal(counts, {"far": (1, 1), "default": (5, 2)})
network["awsvpcConfiguration"]["securityGroups"] = ["sg-2"]
moved = ecs.update_service(cluster="far", service="far", networkConfiguration=network)["service"]
assert moved["deployments"][0]["id"] != far["deployments"][0]["id"]
ecs.delete_service(cluster="far", service="far", force=True)
# From EC2 to Fargate and back: the platform version is Fargate's alone.
near = ecs.create_service(
    cluster="far", serviceName="near", taskDefinition=far["taskDefinition"], desiredCount=0, launchType="EC2", networkConfiguration=network,
)["service"]
assert "platformVersion" not in near, near
near = ecs.update_service(cluster="far", service="near", capacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1}])["service"]
equal((near["platformVersion"], near["platformFamily"]), ("LATEST", "Linux"))
near = ecs.update_service(cluster="far", service="near", platformVersion="1.4.0")["service"]
near = ecs.update_service(cluster="far", service="near", desiredCount=0)["service"]
equal(near["platformVersion"], "1.4.0")
near = ecs.update_service(cluster="far", service="near", capacityProviderStrategy=[])["service"]
assert "platformVersion" not in near, near
ecs.delete_service(cluster="far", service="near", force=True)

# Task sets belong to a deployment controller that there is not.
IN = {"cluster": "default", "service": "api"}
refused("UnsupportedFeatureException", ecs.create_task_set, **IN, taskDefinition="api", says="EXTERNAL")
refused("UnsupportedFeatureException", ecs.update_task_set, **IN, taskSet="x", scale={"value": 1.0, "unit": "PERCENT"})
refused("UnsupportedFeatureException", ecs.update_service_primary_task_set, **IN, primaryTaskSet="x")
refused("UnsupportedFeatureException", ecs.delete_task_set, **IN, taskSet="x")
found = ecs.describe_task_sets(**IN, taskSets=["x"])
equal((found["taskSets"], found["failures"]), ([], [{"arn": BASE + "task-set/default/api/x", "reason": "MISSING"}]))
refused("ServiceNotFoundException", ecs.describe_task_sets, cluster="default", service="gone")
refused("ClusterNotFoundException", ecs.create_task_set, cluster="gone", service="api", taskDefinition="api")

# Listing, then the end.
arns = [arn for page in ecs.get_paginator("list_services").paginate(PaginationConfig={"PageSize": 1}) for arn in page["serviceArns"]]
equal(arns, [BASE + "service/default/api", BASE + "service/default/web"])
refused("InvalidParameterException", ecs.delete_service, service="api", says="scaled above 0")
refused("ServiceNotFoundException", ecs.delete_service, service="gone")
ecs.update_service(service="api", desiredCount=0)
equal(stable("api")["runningCount"], 0)
equal(ecs.delete_service(service="api")["service"]["status"], "DRAINING")
for name, members in (("api", {}), ("far", {"cluster": "far"}), ("near", {"cluster": "far"})):
    ecs.get_waiter("services_inactive").wait(services=[name], WaiterConfig={"Delay": 1, "MaxAttempts": 60}, **members)
refused("ServiceNotActiveException", ecs.update_service, service="api", desiredCount=1, says="Service was not ACTIVE.")
equal(ecs.list_services()["serviceArns"], [BASE + "service/default/web"])
equal(ecs.list_services(cluster="far")["serviceArns"], [])
equal(ecs.list_tasks(family="api")["taskArns"], [])
# The name is free again.
equal(ecs.create_service(serviceName="api", taskDefinition="api", desiredCount=0)["service"]["status"], "ACTIVE")
equal(stable("api")["tags"], [])
ecs.delete_service(service="api")
ecs.delete_cluster(cluster="far")
