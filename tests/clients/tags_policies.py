"""Tags that a task has from its service or its definition, as conditions of policies see them. Arguments: the key's id and secret, the
program."""
import sys

import boto3

from common import CONFIG, client, equal, eventually, refused

ecs = client("ecs")
own = boto3.Session(sys.argv[1], sys.argv[2], region_name="local").client("ecs", config=CONFIG)
PROGRAM = sys.argv[3]


def register(family, team):
    container = {"name": "app", "command": [PROGRAM, "whoami"], "memory": 64, "stopTimeout": 5, "portMappings": [{"containerPort": 8080}]}
    ecs.register_task_definition(family=family, containerDefinitions=[container], tags=[{"key": "team", "value": team}])


def of_service(name, definition, team, **members):
    tags = [{"key": "team", "value": team}]
    ecs.create_service(serviceName=name, taskDefinition=definition, desiredCount=1, tags=tags, **members)
    return eventually(lambda: ecs.list_tasks(serviceName=name)["taskArns"], f"a task of {name}")[0]


def run(definition, **members):
    return ecs.run_task(taskDefinition=definition, **members)["tasks"][0]["taskArn"]


register("ours", "ci")
register("theirs", "other")
SEEN = {
    "the service's": of_service("service", "theirs", "ci", propagateTags="SERVICE"),
    "the definition's": of_service("definition", "ours", "other", propagateTags="TASK_DEFINITION"),
    "the definition's, alone": run("ours", propagateTags="TASK_DEFINITION"),
    "its own": run("theirs", tags=[{"key": "team", "value": "ci"}]),
    "its own before the definition's": run("theirs", propagateTags="TASK_DEFINITION", tags=[{"key": "team", "value": "ci"}]),
}
NOT_SEEN = {
    "another service's": of_service("others", "ours", "other", propagateTags="SERVICE"),
    "another definition's": of_service("otherwise", "theirs", "ci", propagateTags="TASK_DEFINITION"),
    "a service's that passes on none": of_service("none", "ours", "ci", enableECSManagedTags=True),
    "a definition's that passes on none": run("ours"),
    "its own, which hide the definition's": run("ours", propagateTags="TASK_DEFINITION", tags=[{"key": "team", "value": "other"}]),
}
for what, task in SEEN.items():
    (found,) = own.describe_tasks(tasks=[task], include=["TAGS"])["tasks"]
    assert {"key": "team", "value": "ci"} in found["tags"], (what, found["tags"])
for task in NOT_SEEN.values():
    refused("AccessDeniedException", own.describe_tasks, tasks=[task], says=f"ecs:DescribeTasks on resource: {task}")
# One that is not allowed refuses the call for all.
refused("AccessDeniedException", own.describe_tasks, tasks=[*SEEN.values(), *NOT_SEEN.values()])
# The service's tags of now count, not those of when the task began.
equal(ecs.tag_resource(resourceArn="arn:aws:ecs:local:000000000000:service/default/others", tags=[{"key": "team", "value": "ci"}])
      ["ResponseMetadata"]["HTTPStatusCode"], 200)
own.describe_tasks(tasks=[NOT_SEEN["another service's"]])
# ECS's own tags are conditions as well.
refused("AccessDeniedException", own.stop_task, task=SEEN["its own"])
own.stop_task(task=NOT_SEEN["a service's that passes on none"])
for name in ("service", "definition", "others", "otherwise", "none"):
    ecs.delete_service(service=name, force=True)
