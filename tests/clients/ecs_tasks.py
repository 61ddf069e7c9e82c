"""ECS standalone tasks: run, override, list, stop, idempotency. Arguments: the program."""
import sys

from common import client, equal, refused, without

ecs = client("ecs")
PROGRAM = sys.argv[1]
BASE = "arn:aws:ecs:local:000000000000:"
WAIT = {"Delay": 1, "MaxAttempts": 60}
ecs.register_task_definition(family="job", tags=[{"key": "kind", "value": "job"}], containerDefinitions=[
    {"name": "main", "command": ["/bin/sh", "-c", "exit 3"], "memory": 64, "environment": [{"name": "A", "value": "1"}]},
])
ecs.register_task_definition(family="daemon", containerDefinitions=[
    {"name": "main", "command": [PROGRAM, "whoami"], "memory": 64, "stopTimeout": 5, "portMappings": [{"containerPort": 8080}]},
])

# A task that ends by itself.
ran = without(ecs.run_task(taskDefinition="job", startedBy="me", propagateTags="TASK_DEFINITION", tags=[{"key": "run", "value": "1"}]))
equal(ran["failures"], [])
task = ran["tasks"][0]
equal((task["lastStatus"], task["desiredStatus"], task["group"], task["startedBy"]), ("PROVISIONING", "RUNNING", "family:job", "me"))
equal({t["key"]: t["value"] for t in task["tags"]}, {"kind": "job", "run": "1"})
ecs.get_waiter("tasks_stopped").wait(tasks=[task["taskArn"]], WaiterConfig=WAIT)
ended = ecs.describe_tasks(tasks=[task["taskArn"]], include=["TAGS"])["tasks"][0]
equal((ended["lastStatus"], ended["desiredStatus"], ended["containers"][0]["exitCode"]), ("STOPPED", "STOPPED", 3))
reasons = {"EssentialContainerExited": "Essential container in task exited", "TaskFailedToStart": "Task failed to start"}
equal(ended["stoppedReason"], reasons[ended["stopCode"]])
assert ended["createdAt"] <= ended["stoppingAt"] <= ended["stoppedAt"]

# Overrides: another command sees the variables of both.
ran = ecs.run_task(taskDefinition="job", overrides={"cpu": "256", "containerOverrides": [{
    "name": "main", "command": ["/bin/sh", "-c", 'test "$A$B" = 12 && exit 7'], "environment": [{"name": "B", "value": "2"}], "memory": 32,
}]})["tasks"][0]
equal((ran["cpu"], ran["containers"][0]["memory"]), ("256", "32"))
equal(ran["overrides"]["containerOverrides"][0]["environment"], [{"name": "B", "value": "2"}])
ecs.get_waiter("tasks_stopped").wait(tasks=[ran["taskArn"]], WaiterConfig=WAIT)
equal(ecs.describe_tasks(tasks=[ran["taskArn"]])["tasks"][0]["containers"][0]["exitCode"], 7)

# Tasks that run until they are stopped.
many = ecs.run_task(taskDefinition="daemon", count=3, group="batch", clientToken="token")["tasks"]
arns = sorted(task["taskArn"] for task in many)
equal(len(set(arns)), 3)
ecs.get_waiter("tasks_running").wait(tasks=arns, WaiterConfig=WAIT)
running = ecs.describe_tasks(tasks=arns)["tasks"]
addresses = {task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] for task in running}
equal(len(addresses), 3)
equal({task["group"] for task in running}, {"batch"})
equal({task["containers"][0]["lastStatus"] for task in running}, {"RUNNING"})
# The same token gives the same tasks, with other parameters none.
again = ecs.run_task(taskDefinition="daemon", count=3, group="batch", clientToken="token")["tasks"]
equal(sorted(task["taskArn"] for task in again), arns)
refused("ConflictException", ecs.run_task, taskDefinition="daemon", count=2, clientToken="token")

equal(ecs.list_tasks()["taskArns"], arns)
equal(ecs.list_tasks(family="daemon")["taskArns"], arns)
equal(ecs.list_tasks(family="job")["taskArns"], [])
equal(ecs.list_tasks(startedBy="me", desiredStatus="STOPPED")["taskArns"], [task["taskArn"]])
equal(ecs.list_tasks(launchType="FARGATE")["taskArns"], [])
paged = [arn for page in ecs.get_paginator("list_tasks").paginate(PaginationConfig={"PageSize": 2}) for arn in page["taskArns"]]
equal(paged, arns)
instance = ecs.list_container_instances()["containerInstanceArns"][0]
equal(ecs.list_tasks(containerInstance=instance)["taskArns"], arns)
shown = ecs.describe_container_instances(containerInstances=[instance])["containerInstances"][0]
equal(shown["runningTasksCount"], 3)
refused("ServiceNotFoundException", ecs.list_tasks, serviceName="gone")
refused("ClusterNotFoundException", ecs.list_tasks, cluster="gone")

refused("ClusterContainsTasksException", ecs.delete_cluster, cluster="default")
stopped = ecs.stop_task(task=arns[0], reason="enough")["task"]
equal((stopped["desiredStatus"], stopped["stopCode"], stopped["stoppedReason"]), ("STOPPED", "UserInitiated", "enough"))
for arn in arns[1:]:
    equal(ecs.stop_task(task=arn.rsplit("/")[-1])["task"]["stoppedReason"], "Task stopped by user")
ecs.get_waiter("tasks_stopped").wait(tasks=arns, WaiterConfig=WAIT)
equal(ecs.list_tasks()["taskArns"], [])
refused("InvalidParameterException", ecs.stop_task, task="0" * 32, says="The referenced task was not found.")
refused("ClusterNotFoundException", ecs.stop_task, cluster="gone", task="0" * 32)
missing = ecs.describe_tasks(tasks=["0" * 32])
equal(missing["failures"], [{"arn": BASE + "task/default/" + "0" * 32, "reason": "MISSING"}])
refused("InvalidParameterException", ecs.describe_tasks, tasks=[])

# On a named instance.
started = ecs.start_task(taskDefinition="job", containerInstances=[instance, "f" * 32])
equal((len(started["tasks"]), started["failures"]), (1, [{"arn": BASE + "container-instance/default/" + "f" * 32, "reason": "MISSING"}]))
equal(started["tasks"][0]["containerInstanceArn"], instance)
refused("InvalidParameterException", ecs.start_task, taskDefinition="job", containerInstances=[])
ecs.get_waiter("tasks_stopped").wait(tasks=[started["tasks"][0]["taskArn"]], WaiterConfig=WAIT)

for members in (
    {"count": 0}, {"count": 11}, {"group": "service:x"}, {"startedBy": "x" * 129}, {"propagateTags": "SERVICE"},
    {"overrides": {"containerOverrides": [{"name": "gone"}]}}, {"overrides": {"cpu": "much"}},
    {"overrides": {"containerOverrides": [{"name": "main", "command": ["x" * 8192]}]}},
    {"tags": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}, {"launchType": "FARGATE", "capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]},
):
    refused("InvalidParameterException", ecs.run_task, taskDefinition="job", **members)
refused("UnsupportedFeatureException", ecs.run_task, taskDefinition="job", overrides={"containerOverrides": [{"name": "main", "resourceRequirements": [{"type": "GPU", "value": "1"}]}]})
refused("ClusterNotFoundException", ecs.run_task, taskDefinition="job", cluster="gone")
refused("InvalidParameterException", ecs.run_task)
