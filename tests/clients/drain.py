"""Puts a container instance into a status. Arguments: its name in the file, the status."""
import sys

from common import client, equal

ecs = client("ecs")
name, status = sys.argv[1:]
arns = ecs.list_container_instances(filter=f"ec2InstanceId == {name}")["containerInstanceArns"]
shown = ecs.update_container_instances_state(containerInstances=arns, status=status)["containerInstances"]
equal([(one["ec2InstanceId"], one["status"]) for one in shown], [(name, status)])
