"""ECS Exec by the stock aws command and a stand-in for its plugin. Arguments: the program, a folder for the plugin; on
Docker an image with the program."""
import json
import os
import subprocess
import sys
import threading

from common import client, equal, eventually, refused
from session_plugin import Session, WebSocket

PROGRAM, FOLDER = sys.argv[1:3]
IMAGE = {"image": sys.argv[3]} if len(sys.argv) > 3 else {}
AWS = os.path.join(os.path.dirname(sys.executable), "aws")
WAIT = {"Delay": 1, "MaxAttempts": 60}
ecs = client("ecs")

# The aws command finds its plugin by name.
plugin = os.path.join(FOLDER, "session-manager-plugin")
with open(plugin, "w", encoding="utf-8") as file:
    own = os.path.join(os.path.dirname(__file__), "session_plugin.py")
    file.write(f'#!/bin/sh\nif [ $# = 0 ]; then exit 0; fi\nexec {sys.executable} {own} "$@"\n')
os.chmod(plugin, 0o755)
ENVIRONMENT = {**os.environ, "PATH": f"{FOLDER}:{os.environ['PATH']}"}


def session(typed, command="/bin/sh", more=()):
    """What is shown of a session in which that is typed."""
    done = subprocess.run(
        [sys.executable, AWS, "ecs", "execute-command", "--interactive", "--task", TASK, "--command", command, *more],
        input=typed, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout} {done.stderr}"
    return done.stdout.replace("\r\n", "\n")


ecs.register_task_definition(family="one", containerDefinitions=[
    {"name": "main", "command": [PROGRAM, "whoami"], "memory": 64, "stopTimeout": 5, "portMappings": [{"containerPort": 8080}], **IMAGE},
])
ecs.register_task_definition(family="two", containerDefinitions=[
    {"name": "main", "command": [PROGRAM, "whoami"], "memory": 64, "stopTimeout": 5, **IMAGE},
    {"name": "job", "essential": False, "command": ["/bin/true"], "memory": 64, **IMAGE},
])
(task,) = ecs.run_task(taskDefinition="one", enableExecuteCommand=True)["tasks"]
(two,) = ecs.run_task(taskDefinition="two", enableExecuteCommand=True)["tasks"]
(closed,) = ecs.run_task(taskDefinition="one")["tasks"]
TASK, TWO, CLOSED = (made["taskArn"] for made in (task, two, closed))
ecs.get_waiter("tasks_running").wait(tasks=[TASK, TWO, CLOSED], WaiterConfig=WAIT)
(shown,) = ecs.describe_tasks(tasks=[TASK])["tasks"]
(agent,) = shown["containers"][0]["managedAgents"]
equal((agent["name"], agent["lastStatus"], shown["enableExecuteCommand"]), ("ExecuteCommandAgent", "RUNNING", True))
assert "managedAgents" not in ecs.describe_tasks(tasks=[CLOSED])["tasks"][0]["containers"][0]

# A shell on a terminal of the size that the client says; what is typed twice is taken once; what the client does not
# acknowledge comes again.
said = session("!size 111 30\nstty size\n!again\n!ignore\necho one$((1+1))\nexit\n")
assert "30 111" in said, said
equal(said.count("one2\n"), 1)
assert "Exiting session with sessionId: ecs-execute-command-" in said, said
# A command with quotes, which ends by itself; in the container's own environment.
said = session("", "/bin/sh -c 'echo \"$TASK_ID\" and $0' third")
assert f"{TASK.rsplit('/', 1)[1]} and third\n" in said, said
# More than any window.
said = session("", "/bin/sh -c 'i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done'")
lines = [line for line in said.split("\n") if line.startswith("line ")]
equal((len(lines), lines[-1]), (20000, "line 19999"))
# What cannot be executed says so.
said = session("", "/no/program")
assert "/no/program" in said, said
# The client ends it.
assert "Exiting session" in session("sleep 1000\n!end\n")

# Refused.
call = {"task": TASK, "command": "id", "interactive": True}
refused("InvalidParameterException", ecs.execute_command, **{**call, "interactive": False}, says="Interactive is the only mode")
refused("InvalidParameterException", ecs.execute_command, **{**call, "command": "echo 'a"}, says="quote")
refused("InvalidParameterException", ecs.execute_command, **{**call, "task": "0" * 32}, says="The referenced task was not found")
refused("InvalidParameterException", ecs.execute_command, **{**call, "task": CLOSED}, says="was not enabled")
refused("InvalidParameterException", ecs.execute_command, **{**call, "container": "other"}, says="no container other")
refused("ClusterNotFoundException", ecs.execute_command, **call, cluster="nowhere")
refused("InvalidParameterException", ecs.execute_command, **{**call, "task": TWO}, says="several containers")
eventually(lambda: [c["lastStatus"] for c in ecs.describe_tasks(tasks=[TWO])["tasks"][0]["containers"]][1] == "STOPPED", "the job ends")
refused("TargetNotConnectedException", ecs.execute_command, **{**call, "task": TWO, "container": "job"}, says="does not run")

# A token opens its session once.
made = ecs.execute_command(**{**call, "command": "cat"})
equal((made["containerName"], made["taskArn"], made["interactive"]), ("main", TASK, True))
url = made["session"]["streamUrl"]
equal(url.split("?")[0], f"{os.environ['AWS_ENDPOINT_URL'].replace('http', 'ws', 1)}/v1/data-channel/{made['session']['sessionId']}")
wrong = Session({**made["session"], "tokenValue": "wrong"}, print)
equal(wrong.run(), None)
said = []
channel = Session(made["session"], lambda what, payload: said.append(payload if what == "said" else b""))
runner = threading.Thread(target=channel.run)
runner.start()
eventually(lambda: said, "the session is open")
equal(WebSocket(url).status, 404)
equal(WebSocket(url.replace(made["session"]["sessionId"], "ecs-execute-command-0")).status, 404)
channel.type(b"hello\r")
eventually(lambda: b"".join(said).count(b"hello") == 2, "cat says what the terminal showed")
# A task that stops ends its sessions.
ecs.stop_task(task=TASK)
runner.join(60)
assert not runner.is_alive()
ecs.get_waiter("tasks_stopped").wait(tasks=[TASK], WaiterConfig=WAIT)
for left in (TWO, CLOSED):
    ecs.stop_task(task=left)
ecs.get_waiter("tasks_stopped").wait(tasks=[TWO, CLOSED], WaiterConfig=WAIT)
