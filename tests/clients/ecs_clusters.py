"""ECS clusters: settings, capacity providers, counts, tags, what keeps one from going."""
from common import client, equal, refused, without

ecs = client("ecs")
BASE = "arn:aws:ecs:local:000000000000:"

made = ecs.create_cluster(
    clusterName="shop", settings=[{"name": "containerInsights", "value": "enabled"}], tags=[{"key": "team", "value": "a"}],
    capacityProviders=["FARGATE", "FARGATE_SPOT"],
    defaultCapacityProviderStrategy=[{"capacityProvider": "FARGATE", "weight": 1, "base": 1}],
)["cluster"]
equal(made, {
    "clusterArn": BASE + "cluster/shop", "clusterName": "shop", "status": "ACTIVE", "registeredContainerInstancesCount": 1,
    "runningTasksCount": 0, "pendingTasksCount": 0, "activeServicesCount": 0, "statistics": [],
    "tags": [{"key": "team", "value": "a"}], "settings": [{"name": "containerInsights", "value": "enabled"}],
    "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
    "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1, "base": 1}],
})
# The same again is the same cluster; other arguments are not.
equal(ecs.create_cluster(clusterName="shop")["cluster"]["clusterArn"], made["clusterArn"])
refused("InvalidParameterException", ecs.create_cluster, clusterName="shop", capacityProviders=["FARGATE"], says="idempotent")
refused("InvalidParameterException", ecs.create_cluster, clusterName="no good")
refused("InvalidParameterException", ecs.create_cluster, clusterName="x", capacityProviders=["mine"])
refused("InvalidParameterException", ecs.create_cluster, clusterName="x", settings=[{"name": "containerInsights", "value": "maybe"}])
refused("UnsupportedFeatureException", ecs.create_cluster, clusterName="x", serviceConnectDefaults={"namespace": "n"})

for name in ("shop", made["clusterArn"]):
    found = without(ecs.describe_clusters(clusters=[name, "gone"], include=["TAGS", "SETTINGS", "STATISTICS"]))
    equal(found["failures"], [{"arn": BASE + "cluster/gone", "reason": "MISSING"}])
    cluster = found["clusters"][0]
    equal(cluster["tags"], [{"key": "team", "value": "a"}])
    assert {"name": "activeEC2ServiceCount", "value": "0"} in cluster["statistics"], cluster
bare = ecs.describe_clusters(clusters=["shop"])["clusters"][0]
equal((bare["tags"], bare["settings"], bare["statistics"]), ([], [], []))
equal(ecs.describe_clusters()["clusters"][0]["clusterName"], "default")
refused("InvalidParameterException", ecs.describe_clusters, clusters=["arn:aws:ecs:local:999999999999:cluster/shop"])
refused("InvalidParameterException", ecs.describe_clusters, clusters=["shop"], include=["NOTHING"])

ecs.update_cluster(cluster="shop", settings=[{"name": "containerInsights", "value": "disabled"}])
settings = ecs.update_cluster_settings(cluster="shop", settings=[{"name": "containerInsights", "value": "enhanced"}])["cluster"]["settings"]
equal(settings, [{"name": "containerInsights", "value": "enhanced"}])
put = ecs.put_cluster_capacity_providers(cluster="shop", capacityProviders=[], defaultCapacityProviderStrategy=[])["cluster"]
equal((put["capacityProviders"], put["defaultCapacityProviderStrategy"]), ([], []))
refused(
    "InvalidParameterException", ecs.put_cluster_capacity_providers, cluster="shop", capacityProviders=["FARGATE"],
    defaultCapacityProviderStrategy=[{"capacityProvider": "FARGATE_SPOT", "weight": 1}],
)
for operation in (ecs.update_cluster, ecs.delete_cluster):
    refused("ClusterNotFoundException", operation, cluster="gone", says="Cluster not found.")
refused("ClusterNotFoundException", ecs.update_cluster_settings, cluster="gone", settings=[])

ecs.tag_resource(resourceArn=made["clusterArn"], tags=[{"key": "stage", "value": "test"}])
ecs.untag_resource(resourceArn=made["clusterArn"], tagKeys=["team"])
equal(ecs.list_tags_for_resource(resourceArn=made["clusterArn"])["tags"], [{"key": "stage", "value": "test"}])
refused("InvalidParameterException", ecs.tag_resource, resourceArn=made["clusterArn"], tags=[{"key": "aws:x", "value": "y"}])
refused("ClusterNotFoundException", ecs.list_tags_for_resource, resourceArn=BASE + "cluster/gone")

for number in range(5):
    ecs.create_cluster(clusterName=f"many-{number}")
pages = list(ecs.get_paginator("list_clusters").paginate(PaginationConfig={"PageSize": 3}))
assert all(len(page["clusterArns"]) <= 3 for page in pages)
arns = [arn for page in pages for arn in page["clusterArns"]]
equal(arns, sorted([BASE + "cluster/" + name for name in ["default", "files", "shop"] + [f"many-{n}" for n in range(5)]]))
refused("InvalidParameterException", ecs.list_clusters, nextToken="nonsense")
refused("InvalidParameterException", ecs.list_clusters, maxResults=101)

for number in range(5):
    equal(ecs.delete_cluster(cluster=f"many-{number}")["cluster"]["status"], "INACTIVE")
equal(ecs.delete_cluster(cluster="shop")["cluster"]["status"], "INACTIVE")
equal(ecs.describe_clusters(clusters=["shop"])["failures"], [{"arn": BASE + "cluster/shop", "reason": "MISSING"}])
# Its tags went with it.
again = ecs.create_cluster(clusterName="shop")["cluster"]
equal(again["tags"], [])
ecs.delete_cluster(cluster="shop")
equal(ecs.list_clusters()["clusterArns"], [BASE + "cluster/default", BASE + "cluster/files"])

# The one instance, account settings, capacity providers.
instance = ecs.list_container_instances()["containerInstanceArns"]
equal(len(instance), 1)
equal(ecs.list_container_instances(status="DRAINING")["containerInstanceArns"], [])
shown = ecs.describe_container_instances(containerInstances=instance + ["0" * 32])
equal((shown["containerInstances"][0]["status"], shown["containerInstances"][0]["agentConnected"]), ("ACTIVE", True))
equal(shown["failures"][0]["reason"], "MISSING")
ecs.update_container_instances_state(containerInstances=instance, status="ACTIVE")
refused("InvalidParameterException", ecs.update_container_instances_state, containerInstances=instance, status="INACTIVE")
refused("ClusterNotFoundException", ecs.list_container_instances, cluster="gone")
refused("ClusterNotFoundException", ecs.describe_container_instances, cluster="gone", containerInstances=["x"])
refused("UnsupportedFeatureException", ecs.register_container_instance, cluster="default")
refused("UnsupportedFeatureException", ecs.deregister_container_instance, containerInstance=instance[0])
refused("InvalidParameterException", ecs.put_attributes, attributes=[{"name": "a", "value": "b"}])
refused("InvalidParameterException", ecs.delete_attributes, attributes=[{"name": "a"}])
attributes = ecs.list_attributes(targetType="container-instance", attributeName="ecs.os-type")["attributes"]
equal([(a["value"], a["targetId"]) for a in attributes], [("linux", instance[0])])

equal(ecs.list_account_settings()["settings"], [])
settings = ecs.list_account_settings(effectiveSettings=True, name="serviceLongArnFormat")["settings"]
equal([(s["name"], s["value"]) for s in settings], [("serviceLongArnFormat", "enabled")])
equal(ecs.put_account_setting(name="taskLongArnFormat", value="enabled")["setting"]["value"], "enabled")
refused("UnsupportedFeatureException", ecs.put_account_setting, name="awsvpcTrunking", value="enabled")
refused("UnsupportedFeatureException", ecs.put_account_setting_default, name="containerInsights", value="enabled")

providers = ecs.describe_capacity_providers()["capacityProviders"]
equal([p["name"] for p in providers], ["FARGATE", "FARGATE_SPOT"])
some = ecs.describe_capacity_providers(capacityProviders=["FARGATE", "mine"])
equal(([p["name"] for p in some["capacityProviders"]], some["failures"]), (["FARGATE"], [{"arn": "mine", "reason": "MISSING"}]))

for name in ("containerInsights", "taskLongArnFormat"):
    equal(ecs.delete_account_setting(name=name)["setting"]["name"], name)
refused("UnsupportedFeatureException", ecs.delete_account_setting, name="fargateEventWindows")
# Sessions of ECS Exec may be logged nowhere.
NONE = {"executeCommandConfiguration": {"logging": "DEFAULT"}}
ecs.create_cluster(clusterName="configured", configuration=NONE)
equal(ecs.describe_clusters(clusters=["configured"], include=["CONFIGURATIONS"])["clusters"][0]["configuration"], NONE)
assert "configuration" not in ecs.describe_clusters(clusters=["configured"])["clusters"][0]
changed = ecs.update_cluster(cluster="configured", configuration={"executeCommandConfiguration": {"logging": "NONE"}})["cluster"]
equal(changed["configuration"], {"executeCommandConfiguration": {"logging": "NONE"}})
for members in [{"logging": "OVERRIDE"}, {"kmsKeyId": "k"}, {"logConfiguration": {"cloudWatchLogGroupName": "g"}}]:
    refused("UnsupportedFeatureException", ecs.update_cluster, cluster="configured", configuration={"executeCommandConfiguration": members})
ecs.delete_cluster(cluster="configured")

# Capacity providers of Auto Scaling groups: as Terraform makes, reads, changes and deletes them.
GROUP = "arn:aws:autoscaling:local:000000000000:autoScalingGroup:1:autoScalingGroupName/"
OFF = {"status": "DISABLED", "targetCapacity": 100, "minimumScalingStepSize": 1, "maximumScalingStepSize": 10000, "instanceWarmupPeriod": 300}
made = ecs.create_capacity_provider(
    name="mine", autoScalingGroupProvider={"autoScalingGroupArn": GROUP + "a"}, tags=[{"key": "a", "value": "1"}],
)["capacityProvider"]
MINE = "arn:aws:ecs:local:000000000000:capacity-provider/mine"
equal(made, {
    "capacityProviderArn": MINE, "name": "mine", "status": "ACTIVE", "type": "EC2_AUTOSCALING", "tags": [{"key": "a", "value": "1"}],
    "autoScalingGroupProvider": {
        "autoScalingGroupArn": GROUP + "a", "managedScaling": OFF, "managedTerminationProtection": "DISABLED", "managedDraining": "ENABLED"},
})
for _ in range(2):
    equal(ecs.describe_capacity_providers(capacityProviders=[MINE], include=["TAGS"])["capacityProviders"], [made])
equal(ecs.list_tags_for_resource(resourceArn=MINE)["tags"], made["tags"])
ecs.tag_resource(resourceArn=MINE, tags=[{"key": "b", "value": "2"}])
ecs.untag_resource(resourceArn=MINE, tagKeys=["a"])
equal(ecs.list_tags_for_resource(resourceArn=MINE)["tags"], [{"key": "b", "value": "2"}])
changed = ecs.update_capacity_provider(
    name="mine", autoScalingGroupProvider={"managedScaling": {"targetCapacity": 50}, "managedDraining": "DISABLED"})["capacityProvider"]
equal(changed["autoScalingGroupProvider"]["managedScaling"], {**OFF, "targetCapacity": 50})
equal(changed["autoScalingGroupProvider"]["managedDraining"], "DISABLED")
for code, says, members in [
    ("UnsupportedFeatureException", "nothing starts instances", {"autoScalingGroupProvider": {"autoScalingGroupArn": GROUP + "b", "managedScaling": {"status": "ENABLED"}}}),
    ("InvalidParameterException", "enable managed scaling", {"autoScalingGroupProvider": {"autoScalingGroupArn": GROUP + "b", "managedTerminationProtection": "ENABLED"}}),
    ("InvalidParameterException", "Auto Scaling group ARN", {"autoScalingGroupProvider": {"autoScalingGroupArn": "arn:aws:autoscaling:x"}}),
    ("InvalidParameterException", "already being used", {"autoScalingGroupProvider": {"autoScalingGroupArn": GROUP + "a"}}),
    ("ClientException", "already exists", {"name": "mine"}),
    ("InvalidParameterException", "name", {"name": "fargate-x"}),
    ("InvalidParameterException", "autoScalingGroupProvider", {"autoScalingGroupProvider": None}),
    ("UnsupportedFeatureException", "managedInstancesProvider", {"managedInstancesProvider": {
        "infrastructureRoleArn": "r", "instanceLaunchTemplate": {"ec2InstanceProfileArn": "p", "networkConfiguration": {}}}}),
]:
    wish = {"name": "new", "autoScalingGroupProvider": {"autoScalingGroupArn": GROUP + "b"}, **members}
    refused(code, ecs.create_capacity_provider, **{k: v for k, v in wish.items() if v is not None}, says=says)
refused("ClientException", ecs.update_capacity_provider, name="gone", autoScalingGroupProvider={}, says="does not exist")
refused("ClientException", ecs.delete_capacity_provider, capacityProvider="FARGATE", says="ECS's own")
ecs.put_cluster_capacity_providers(cluster="default", capacityProviders=["mine", "FARGATE"], defaultCapacityProviderStrategy=[{"capacityProvider": "mine", "weight": 1}])
refused("InvalidParameterException", ecs.put_cluster_capacity_providers, cluster="default", capacityProviders=["mine", "FARGATE"], says="mix",
        defaultCapacityProviderStrategy=[{"capacityProvider": name, "weight": 1} for name in ("mine", "FARGATE")])
refused("ClientException", ecs.delete_capacity_provider, capacityProvider="mine", says="associated with cluster: default")
ecs.register_task_definition(family="provided", containerDefinitions=[{"name": "main", "command": ["/bin/true"], "memory": 64}])
task = ecs.run_task(taskDefinition="provided")["tasks"][0]
equal(task["capacityProviderName"], "mine")
assert "containerInstanceArn" in task and "platformVersion" not in task, task
ecs.put_cluster_capacity_providers(cluster="default", capacityProviders=[], defaultCapacityProviderStrategy=[])
last = ecs.delete_capacity_provider(capacityProvider=MINE)["capacityProvider"]
equal((last["status"], last["updateStatus"]), ("INACTIVE", "DELETE_COMPLETE"))
equal(ecs.describe_capacity_providers(capacityProviders=["mine"])["failures"], [{"arn": "mine", "reason": "MISSING"}])

# What the configuration file owns is changed there.
refused("InvalidParameterException", ecs.delete_cluster, cluster="files", says="configuration file")
refused("InvalidParameterException", ecs.update_cluster, cluster="files", settings=[{"name": "containerInsights", "value": "enabled"}], says="configuration file")
