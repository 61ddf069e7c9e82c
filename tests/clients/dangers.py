"""What gives a container power over the machine: for signed calls alone.

none|sigv4: what the endpoint asks for.
"""

import sys

from common import client, equal, refused

ecs = client("ecs")
PLAIN = {"name": "c", "image": "i"}
LINUX = lambda members: {"containerDefinitions": [{**PLAIN, "linuxParameters": members}]}
CASES = {
    "networkMode": {"networkMode": "host"},
    "pidMode": {"pidMode": "host"},
    "ipcMode": {"ipcMode": "host"},
    "volumes[0].host.sourcePath": {
        "volumes": [{"name": "v", "host": {"sourcePath": "/var/run/docker.sock"}}],
        "containerDefinitions": [{**PLAIN, "mountPoints": [{"sourceVolume": "v", "containerPath": "/d.sock"}]}]},
    "containerDefinitions[0].privileged": {"containerDefinitions": [{**PLAIN, "privileged": True}]},
    "containerDefinitions[0].dockerSecurityOptions": {
        "containerDefinitions": [{**PLAIN, "dockerSecurityOptions": ["no-new-privileges"]}]},
    "containerDefinitions[0].linuxParameters.devices": LINUX({"devices": [{"hostPath": "/dev/kvm"}]}),
    "containerDefinitions[0].linuxParameters.capabilities.add": LINUX({"capabilities": {"add": ["SYS_ADMIN"]}}),
}
for index, (member, members) in enumerate(CASES.items()):
    asked = {"family": f"f{index}", "containerDefinitions": [{**PLAIN, "memory": 64}], **members}
    for container in asked["containerDefinitions"]:
        container.setdefault("memory", 64)
    if sys.argv[1] == "none":
        refused("ClientException", ecs.register_task_definition, says=f"{member} gives power over the machine", **asked)
    else:
        equal(ecs.register_task_definition(**asked)["taskDefinition"]["revision"], 1)
families = ecs.list_task_definition_families(status="ACTIVE")["families"]
equal(len(families), 0 if sys.argv[1] == "none" else len(CASES))
