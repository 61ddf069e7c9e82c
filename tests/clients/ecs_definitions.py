"""ECS task definitions: revisions, families, listings in both directions, what goes and when."""
from common import client, equal, eventually, refused, without

ecs = client("ecs")
BASE = "arn:aws:ecs:local:000000000000:task-definition/"


def register(family, **members):
    container = {"name": "web", "image": "web:1", "memory": 64, "command": ["true"], **members.pop("container", {})}
    return ecs.register_task_definition(family=family, containerDefinitions=[container], **members)


first = without(register("app", tags=[{"key": "team", "value": "a"}], cpu="256", memory="512", container={
    "portMappings": [{"containerPort": 80}], "environment": [{"name": "A", "value": "1"}],
}))
equal(first["tags"], [{"key": "team", "value": "a"}])
definition = first["taskDefinition"]
equal((definition["taskDefinitionArn"], definition["revision"], definition["status"]), (BASE + "app:1", 1, "ACTIVE"))
equal((definition["cpu"], definition["memory"]), ("256", "512"))
equal(definition["containerDefinitions"][0]["portMappings"], [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}])
equal(definition["registeredBy"], "arn:aws:iam::000000000000:root")
# Every registration is a new revision, of the same content too.
for number in range(2, 13):
    equal(register("app")["taskDefinition"]["revision"], number)
register("app-b")
for name in ("app", "app:12", BASE + "app:12", BASE + "app"):
    equal(ecs.describe_task_definition(taskDefinition=name)["taskDefinition"]["revision"], 12)
shown = without(ecs.describe_task_definition(taskDefinition="app:1", include=["TAGS"]))
equal(shown, first)
equal(ecs.describe_task_definition(taskDefinition="app:1")["tags"], [])
# What was shown can be registered again.
copy = {k: v for k, v in definition.items() if k in ("family", "containerDefinitions", "cpu", "memory", "volumes", "placementConstraints")}
same = ecs.register_task_definition(**{**copy, "family": "copy"})["taskDefinition"]
equal(same["containerDefinitions"], definition["containerDefinitions"])

for bad in ({"family": "no good"}, {"family": "x", "cpu": "many"}):
    refused("ClientException", register, **bad)
refused("ClientException", ecs.register_task_definition, family="x", containerDefinitions=[])
refused("InvalidParameterException", ecs.register_task_definition, family="x")
refused("ClientException", register, "x", requiresCompatibilities=["FARGATE"], says="Fargate")
refused("ClientException", register, "x", proxyConfiguration={"containerName": "web", "type": "APPMESH"}, says="not supported")
for name in ("gone", "app:99", BASE + "gone:1"):
    refused("ClientException", ecs.describe_task_definition, taskDefinition=name, says="Unable to describe task definition.")
refused("InvalidParameterException", ecs.describe_task_definition, taskDefinition="app:x")
refused("InvalidParameterException", ecs.describe_task_definition, taskDefinition="arn:aws:ecs:elsewhere:000000000000:task-definition/app:1")


def numbers(**members):
    pages = ecs.get_paginator("list_task_definitions").paginate(PaginationConfig={"PageSize": 5}, **members)
    return [arn.rsplit("/")[-1] for page in pages for arn in page["taskDefinitionArns"]]


rising = [f"app:{n}" for n in range(1, 13)]
equal(numbers(familyPrefix="app"), rising)
equal(numbers(familyPrefix="app", sort="DESC"), rising[::-1])
equal([name for name in numbers() if name.startswith("app")], rising + ["app-b:1"])
equal([name for name in numbers(sort="DESC") if name.startswith("app")], ["app-b:1"] + rising[::-1])
equal(ecs.list_task_definition_families(familyPrefix="app")["families"], ["app", "app-b"])

# Gone from the list of the active ones, and from what a family's name alone means.
off = ecs.deregister_task_definition(taskDefinition="app:12")["taskDefinition"]
equal(off["status"], "INACTIVE")
assert off["deregisteredAt"] >= off["registeredAt"]
equal(ecs.describe_task_definition(taskDefinition="app")["taskDefinition"]["revision"], 11)
equal(ecs.describe_task_definition(taskDefinition="app:12")["taskDefinition"]["status"], "INACTIVE")
equal(numbers(familyPrefix="app", status="INACTIVE"), ["app:12"])
refused("InvalidParameterException", ecs.deregister_task_definition, taskDefinition="app")
refused("ClientException", ecs.deregister_task_definition, taskDefinition="app:99")
refused("ClientException", ecs.run_task, taskDefinition="app:12", says="TaskDefinition is inactive")
refused("ClientException", ecs.run_task, taskDefinition="app:99", says="TaskDefinition not found.")
ecs.deregister_task_definition(taskDefinition="app-b:1")
equal(ecs.list_task_definition_families(familyPrefix="app", status="ACTIVE")["families"], ["app"])
equal(ecs.list_task_definition_families(familyPrefix="app", status="INACTIVE")["families"], ["app-b"])

deleted = without(ecs.delete_task_definitions(taskDefinitions=["app:12", "app:11", "app:99"]))
equal([d["status"] for d in deleted["taskDefinitions"]], ["DELETE_IN_PROGRESS"])
equal([f["arn"] for f in deleted["failures"]], ["app:11", "app:99"])
assert "ACTIVE" in deleted["failures"][0]["reason"]


def gone():
    try:
        return not ecs.describe_task_definition(taskDefinition="app:12")
    except ecs.exceptions.ClientException:
        return True


eventually(gone, "the deleted revision to go", 30)
equal(register("app")["taskDefinition"]["revision"], 13)
refused("InvalidParameterException", ecs.delete_task_definitions, taskDefinitions=[])

ecs.tag_resource(resourceArn=BASE + "app:1", tags=[{"key": "stage", "value": "x"}])
ecs.untag_resource(resourceArn=BASE + "app:1", tagKeys=["team"])
equal(ecs.list_tags_for_resource(resourceArn=BASE + "app:1")["tags"], [{"key": "stage", "value": "x"}])
refused("InvalidParameterException", ecs.tag_resource, resourceArn=BASE + "app:99", tags=[{"key": "a", "value": "b"}])
refused("InvalidParameterException", ecs.tag_resource, resourceArn="app:1", tags=[{"key": "a", "value": "b"}])
