"""ECS deployments that fail, go back and are stopped. Arguments: the program."""
import sys

from common import client, equal, eventually, refused

ecs = client("ecs")
PROGRAM = sys.argv[1]
GROUP = ecs.describe_services(services=["web"])["services"][0]["loadBalancers"][0]["targetGroupArn"]


def register(family, command):
    container = {"name": "app", "command": command, "memory": 64, "stopTimeout": 5, "portMappings": [{"containerPort": 8080}]}
    made = ecs.register_task_definition(family=family, containerDefinitions=[container])
    return made["taskDefinition"]["taskDefinitionArn"]


def service(name):
    return ecs.describe_services(services=[name])["services"][0]


def rolled(name, state):
    return eventually(lambda: [s for s in [service(name)] if s["deployments"][0]["rolloutState"] == state], f"{name} to be {state}")[0]


def messages(name):
    return [event["message"] for event in service(name)["events"]]


def deployment(arn):
    return ecs.describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"][0]


good = register("api", [PROGRAM, "whoami"])
# It runs for a moment before it ends: it reaches RUNNING, and nothing checks it yet.
crashes = register("api", ["/bin/sh", "-c", "sleep 0.2; exit 3"])
missing = register("api", ["/no/such/program"])
breaker = {"enable": True, "rollback": True, "resetOnHealthyTask": True, "thresholdConfiguration": {"type": "BOUNDED_PERCENT", "value": 50}}
made = ecs.create_service(
    serviceName="api", taskDefinition=good, desiredCount=2, deploymentConfiguration={"deploymentCircuitBreaker": breaker},
    loadBalancers=[{"targetGroupArn": GROUP, "containerName": "app", "containerPort": 8080}],
)["service"]
equal(made["deploymentConfiguration"]["deploymentCircuitBreaker"], breaker)
first = rolled("api", "COMPLETED")
refused("ConflictException", ecs.stop_service_deployment, serviceDeploymentArn=first["currentServiceDeployment"])
tasks = set(ecs.list_tasks(serviceName="api")["taskArns"])
equal(deployment(first["currentServiceDeployment"])["deploymentCircuitBreaker"], {"status": "MONITORING_COMPLETE", "failureCount": 0, "threshold": 3})

# Two revisions that cannot run: the service is back where it was, its tasks untouched.
for bad, runs in ((crashes, True), (missing, False)):
    begun = ecs.update_service(service="api", taskDefinition=bad)["service"]
    failing = begun["currentServiceDeployment"]
    equal((begun["taskDefinition"], deployment(failing)["status"]), (bad, "IN_PROGRESS"))
    eventually(lambda: deployment(failing)["status"] == "ROLLBACK_SUCCESSFUL", "the way back")
    shown = deployment(failing)
    equal(shown["deploymentCircuitBreaker"]["status"], "TRIGGERED")
    assert shown["deploymentCircuitBreaker"]["failureCount"] >= 3, shown
    equal(shown["statusReason"], "ECS deployment circuit breaker: tasks failed to start.")
    equal(shown["rollback"]["serviceRevisionArn"], first["currentServiceRevisions"][0]["arn"])
    after = service("api")
    equal((after["taskDefinition"], after["currentServiceDeployment"]), (good, first["currentServiceDeployment"]))
    equal((after["deployments"][0]["rolloutState"], after["runningCount"]), ("COMPLETED", 2))
    equal(set(ecs.list_tasks(serviceName="api")["taskArns"]), tasks)
    number = failing.rsplit("/")[-1]
    told = messages("api")
    assert f"(service api) (deployment ecs-svc/{number}) deployment failed: tasks failed to start." in told, told
    assert f"(service api) rolling back to (deployment {first['deployments'][0]['id']})." in told, told
    stopped = ecs.describe_tasks(tasks=ecs.list_tasks(serviceName="api", desiredStatus="STOPPED")["taskArns"])["tasks"]
    stopped = [task for task in stopped if task["startedBy"] == f"ecs-svc/{number}"]
    codes = {task["stopCode"] for task in stopped}
    if not runs:
        told = {(task["stoppedReason"], task["containers"][0]["reason"].split(":")[0]) for task in stopped if task["stopCode"] == "TaskFailedToStart"}
        equal(told, {("Task failed to start", "CannotStartContainerError")})
    assert ("EssentialContainerExited" if runs else "TaskFailedToStart") in codes, codes
equal(ecs.list_service_deployments(service="api", status=["ROLLBACK_SUCCESSFUL"])["serviceDeployments"][0]["serviceDeploymentArn"], failing)

# Without rollback it is stalled: what ran goes on, nothing is started, until the next update.
breaker = {"enable": True, "rollback": False, "thresholdConfiguration": {"type": "COUNT", "value": 2}}
ecs.update_service(service="api", taskDefinition=missing, deploymentConfiguration={"deploymentCircuitBreaker": breaker})
stalled = rolled("api", "FAILED")
equal((stalled["taskDefinition"], stalled["runningCount"]), (missing, 2))
equal(stalled["deployments"][0]["rolloutStateReason"], "ECS deployment circuit breaker: tasks failed to start.")
equal(deployment(stalled["currentServiceDeployment"])["status"], "STOPPED")
equal(set(ecs.list_tasks(serviceName="api")["taskArns"]), tasks)
equal(ecs.update_service(service="api", taskDefinition=good)["service"]["deployments"][0]["rolloutState"], "IN_PROGRESS")
rolled("api", "COMPLETED")
ecs.get_waiter("services_stable").wait(services=["api"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
equal(service("api")["deployments"][0]["failedTasks"], 0)
tasks = set(ecs.list_tasks(serviceName="api")["taskArns"])

# Stopped by hand while its tasks are not ready.
waits = register("api", [PROGRAM, "whoami", "--start-delay", "600000"])
begun = ecs.update_service(service="api", taskDefinition=waits)["service"]["currentServiceDeployment"]
equal(ecs.stop_service_deployment(serviceDeploymentArn=begun)["serviceDeploymentArn"], begun)
eventually(lambda: deployment(begun)["status"] == "ROLLBACK_SUCCESSFUL", "the way back")
equal(deployment(begun)["statusReason"], "Service deployment stopped by request.")
refused("ConflictException", ecs.stop_service_deployment, serviceDeploymentArn=begun)
ecs.get_waiter("services_stable").wait(services=["api"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
equal(service("api")["taskDefinition"], good)
equal(set(ecs.list_tasks(serviceName="api")["taskArns"]), tasks)

# The first deployment of a service has nowhere to go.
ecs.create_service(serviceName="new", taskDefinition=waits, desiredCount=1, loadBalancers=first["loadBalancers"])
refused(
    "InvalidParameterException", ecs.stop_service_deployment, serviceDeploymentArn=service("new")["currentServiceDeployment"], says="no earlier deployment"
)
for name in ("new", "api"):
    ecs.delete_service(service=name, force=True)
ecs.get_waiter("services_inactive").wait(services=["new", "api"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
