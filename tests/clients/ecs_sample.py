"""A Fargate web application as AWS documents it, with a second container: registered, run, asked and read. Arguments: the image."""
import sys
import urllib.request

from common import client, equal, eventually, without

IMAGE = sys.argv[1]
ecs, logs = client("ecs"), client("logs")


def written(prefix):
    return {"logDriver": "awslogs", "options": {
        "awslogs-group": "/ecs/fargate-task-definition", "awslogs-region": "local", "awslogs-stream-prefix": prefix}}


SAMPLE = {
    "family": "sample-fargate", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
    "runtimePlatform": {"operatingSystemFamily": "LINUX"}, "executionRoleArn": "arn:aws:iam::012345678910:role/ecsTaskExecutionRole",
    "containerDefinitions": [
        {
            "name": "sample-fargate-app", "image": IMAGE, "essential": True,
            "entryPoint": ["/roadstead", "whoami"], "command": ["--start-delay", "200"],
            "portMappings": [{"containerPort": 8080, "hostPort": 8080, "protocol": "tcp"}],
            "secrets": [{"name": "KEY", "valueFrom": "arn:aws:ssm:local:000000000000:parameter/sample/key"}],
            "healthCheck": {"command": ["CMD", "/roadstead", "version"], "interval": 5, "timeout": 2, "retries": 3, "startPeriod": 1},
            "logConfiguration": written("ecs"), "stopTimeout": 5,
        },
        {
            "name": "beside", "image": IMAGE, "essential": False,
            "command": ["/roadstead", "whoami", "--tcp", "--port", "7000"], "stopTimeout": 2,
            "dependsOn": [{"containerName": "sample-fargate-app", "condition": "HEALTHY"}], "logConfiguration": written("ecs"),
        },
    ],
}
made = without(ecs.register_task_definition(**SAMPLE))["taskDefinition"]
for name, value in SAMPLE.items():
    if name != "containerDefinitions":
        equal(made[name], value)
for given, shown in zip(SAMPLE["containerDefinitions"], made["containerDefinitions"]):
    equal({name: shown[name] for name in given}, given)
assert "FARGATE" in made["compatibilities"], made["compatibilities"]
network = {"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "ENABLED"}}
(task,) = ecs.run_task(taskDefinition="sample-fargate", launchType="FARGATE", networkConfiguration=network)["tasks"]
which = {"tasks": [task["taskArn"]]}
ecs.get_waiter("tasks_running").wait(**which, WaiterConfig={"Delay": 1, "MaxAttempts": 100})
(task,) = ecs.describe_tasks(**which)["tasks"]
app, beside = sorted(task["containers"], key=lambda one: one["name"], reverse=True)
equal([(one["name"], one["lastStatus"]) for one in (app, beside)], [("sample-fargate-app", "RUNNING"), ("beside", "RUNNING")])
equal((app["healthStatus"], task["healthStatus"]), ("HEALTHY", "HEALTHY"))
address = app["networkInterfaces"][0]["privateIpv4Address"]
with urllib.request.urlopen(f"http://{address}:8080/") as answer:
    equal(answer.status, 200)


def lines(container):
    stream = f"ecs/{container}/{task['taskArn'].rsplit('/')[-1]}"
    found = logs.describe_log_streams(logGroupName="/ecs/fargate-task-definition", logStreamNamePrefix=stream)["logStreams"]
    events = [logs.get_log_events(logGroupName="/ecs/fargate-task-definition", logStreamName=one["logStreamName"]) for one in found]
    return [event["message"] for one in events for event in one["events"]]


eventually(lambda: "listening on 0.0.0.0:8080" in lines("sample-fargate-app"), "the application's log")
eventually(lambda: "listening on 0.0.0.0:7000" in lines("beside"), "the second container's log")
