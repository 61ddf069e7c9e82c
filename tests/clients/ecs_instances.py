"""Container instances: shown, drained, given attributes; strategies, constraints and resources decide where tasks go.

Arguments: the program. The file has the instances one (zone-a, ssd), two (zone-a) and three (zone-b), of 1024 CPU units
and 1024 MiB each, 24 units and 24 MiB of three's reserved.
"""
import sys
import time

from common import client, equal, refused

ecs = client("ecs")
PROGRAM = sys.argv[1]
WAIT = {"Delay": 1, "MaxAttempts": 60}


def register(family, cpu, memory, **more):
    ecs.register_task_definition(family=family, **more, containerDefinitions=[
        {"name": "main", "command": [PROGRAM, "whoami"], "cpu": cpu, "memory": memory, "stopTimeout": 5, "portMappings": [{"containerPort": 8080}]},
    ])


def instances():
    arns = ecs.list_container_instances()["containerInstanceArns"]
    shown = ecs.describe_container_instances(containerInstances=arns)["containerInstances"]
    return {one["ec2InstanceId"]: one for one in shown}


def resource(instance, kind, name):
    return next(one["integerValue"] for one in instance[kind] if one["name"] == name)


ecs.create_cluster(clusterName="default")
all = instances()
equal(sorted(all), ["one", "three", "two"])
ARN = {name: one["containerInstanceArn"] for name, one in all.items()}
NAME = {arn: name for name, arn in ARN.items()}
equal({(one["status"], one["agentConnected"], one["runningTasksCount"]) for one in all.values()}, {("ACTIVE", True, 0)})
equal([resource(all[name], "registeredResources", "CPU") for name in ("one", "three")], [1024, 1000])
equal([resource(all[name], "remainingResources", "MEMORY") for name in ("two", "three")], [1024, 1000])
attributes = {a["name"]: a.get("value") for a in all["one"]["attributes"]}
equal((attributes["disk"], attributes["ecs.availability-zone"], attributes["ecs.os-type"]), ("ssd", "zone-a", "linux"))
equal(ecs.describe_clusters()["clusters"][0]["registeredContainerInstancesCount"], 3)

# Attributes, and expressions over them.
put = [{"name": "rack", "value": "r1", "targetId": ARN["two"]}, {"name": "disk", "value": "nvme", "targetId": ARN["one"]}]
equal(len(ecs.put_attributes(attributes=put)["attributes"]), 2)
listed = ecs.list_attributes(targetType="container-instance", attributeName="disk")["attributes"]
equal([(NAME[a["targetId"]], a["value"]) for a in listed], [("one", "nvme")])
meant = lambda text: sorted(NAME[arn] for arn in ecs.list_container_instances(filter=text)["containerInstanceArns"])
equal(meant("attribute:rack exists"), ["two"])
equal(meant("attribute:ecs.availability-zone == zone-a and not(attribute:rack == r1)"), ["one"])
equal(meant("runningTasksCount > 0"), [])
refused("InvalidParameterException", ecs.list_container_instances, filter="rack ==")
ecs.delete_attributes(attributes=[{"name": "disk", "targetType": "container-instance", "targetId": ARN["one"].rsplit("/")[-1]}])
listed = ecs.list_attributes(targetType="container-instance", attributeName="disk")["attributes"]
equal([a["value"] for a in listed], ["ssd"])
refused("TargetNotFoundException", ecs.put_attributes, attributes=[{"name": "a", "targetId": ARN["one"][:-1] + "x"}])
refused("InvalidParameterException", ecs.put_attributes, attributes=[{"name": "ecs.os-type", "targetId": ARN["one"]}])

# Tasks that are run by hand: by strategies and constraints, and as long as there is room.
register("small", 100, 100)
register("big", 900, 100)
register("fat", 10, 2000)
register("ssd", 100, 100, placementConstraints=[{"type": "memberOf", "expression": "attribute:disk == ssd"}])
where = lambda tasks: sorted(NAME[task["containerInstanceArn"]] for task in tasks)
ran = ecs.run_task(taskDefinition="small", count=3, placementStrategy=[{"type": "spread", "field": "instanceId"}])
equal((where(ran["tasks"]), ran["failures"]), (["one", "three", "two"], []))
equal({task["availabilityZone"] for task in ran["tasks"]}, {"zone-a", "zone-b"})
packed = ecs.run_task(taskDefinition="small", count=3, placementStrategy=[{"type": "binpack", "field": "cpu"}])["tasks"]
equal(where(packed), ["three"] * 3)
equal(where(ecs.run_task(taskDefinition="ssd", count=2)["tasks"]), ["one", "one"])
big = ecs.run_task(taskDefinition="big", count=2)
equal((where(big["tasks"]), {f["reason"] for f in big["failures"]}), (["two"], {"RESOURCE:CPU"}))
equal(len(big["failures"]), 3)
equal({f["reason"] for f in ecs.run_task(taskDefinition="fat")["failures"]}, {"RESOURCE:MEMORY"})
distinct = ecs.run_task(taskDefinition="small", count=4, group="apart", placementConstraints=[{"type": "distinctInstance"}])
equal((where(distinct["tasks"]), sorted({f["reason"] for f in distinct["failures"]})[0]), (["one", "three"], "DistinctInstance placement constraint unsatisfied."))
none = ecs.run_task(taskDefinition="small", placementConstraints=[{"type": "memberOf", "expression": "attribute:disk == tape"}])
equal((none["tasks"], {f["reason"] for f in none["failures"]}), ([], {"MemberOf placement constraint unsatisfied."}))
refused("InvalidParameterException", ecs.run_task, taskDefinition="small", placementConstraints=[{"type": "memberOf", "expression": "disk"}])
refused("InvalidParameterException", ecs.run_task, taskDefinition="small", placementStrategy=[{"type": "spread", "field": "cpu"}])
refused("ClientException", ecs.register_task_definition, family="bad", placementConstraints=[{"type": "memberOf", "expression": "("}], containerDefinitions=[{"name": "a", "command": ["x"], "memory": 4}])

# On named instances: no strategy is asked, room is.
started = ecs.start_task(taskDefinition="small", containerInstances=[ARN["one"], ARN["two"], "f" * 32])
equal(where(started["tasks"]), ["one"])
equal(sorted(f["reason"] for f in started["failures"]), ["MISSING", "RESOURCE:CPU"])
ecs.get_waiter("tasks_running").wait(tasks=[started["tasks"][0]["taskArn"]], WaiterConfig=WAIT)
equal(len(ecs.list_tasks(containerInstance=ARN["two"])["taskArns"]), 2)
equal(resource(instances()["two"], "remainingResources", "CPU"), 24)
for page in (ecs.list_tasks()["taskArns"],):
    for arn in page:
        ecs.stop_task(task=arn)
    ecs.get_waiter("tasks_stopped").wait(tasks=page, WaiterConfig=WAIT)

# A service over the zones, and one on each instance.
ecs.create_service(serviceName="web", taskDefinition="small", desiredCount=4)
ecs.create_service(serviceName="agent", taskDefinition="small", schedulingStrategy="DAEMON")


def of(service):
    arns = ecs.list_tasks(serviceName=service)["taskArns"]
    return where(ecs.describe_tasks(tasks=arns)["tasks"]) if arns else []


def until(what, holds):
    for _ in range(120):
        if holds():
            return
        time.sleep(0.5)
    raise AssertionError((what, of("web"), of("agent"), ecs.describe_services(services=["web", "agent"])["services"]))


ecs.get_waiter("services_stable").wait(services=["web", "agent"], WaiterConfig=WAIT)
equal((of("web"), of("agent")), (["one", "three", "three", "two"], ["one", "three", "two"]))
equal(ecs.describe_services(services=["agent"])["services"][0]["desiredCount"], 3)

# Drained: others first, then it goes; the DAEMON's last.
drained = ecs.update_container_instances_state(containerInstances=[ARN["three"]], status="DRAINING")
equal([one["status"] for one in drained["containerInstances"]], ["DRAINING"])
equal(meant("attribute:ecs.availability-zone == zone-b"), ["three"])
equal(ecs.list_container_instances(status="DRAINING")["containerInstanceArns"], [ARN["three"]])
until("drained", lambda: of("web") == ["one", "one", "two", "two"] and of("agent") == ["one", "two"])
until("empty", lambda: instances()["three"]["runningTasksCount"] == 0)
equal({f["reason"] for f in ecs.run_task(taskDefinition="small", placementConstraints=[{"type": "memberOf", "expression": "ec2InstanceId == three"}])["failures"]}, {"MemberOf placement constraint unsatisfied."})
# Taken back, the zones are balanced anew without anybody asking, and the DAEMON is back.
ecs.update_container_instances_state(containerInstances=[ARN["three"]], status="ACTIVE")
until("balanced", lambda: sorted(of("web")) == ["one", "three", "three", "two"] and of("agent") == ["one", "three", "two"])
messages = [event["message"] for event in ecs.describe_services(services=["web"])["services"][0]["events"]]
assert any("is not AZ balanced with" in message for message in messages), messages

# What cannot be placed is told.
ecs.create_service(serviceName="fat", taskDefinition="fat", desiredCount=1)
closest = "was unable to place a task because no container instance met all of its requirements. The closest matching (container-instance "
until("told", lambda: any(closest in e["message"] and "has insufficient memory available." in e["message"] for e in ecs.describe_services(services=["fat"])["services"][0]["events"]))
refused("InvalidParameterException", ecs.create_service, serviceName="x", taskDefinition="small", desiredCount=1, placementStrategy=[{"type": "binpack", "field": "disk"}])
