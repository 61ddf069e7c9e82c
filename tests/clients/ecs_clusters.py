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
refused("UnsupportedFeatureException", ecs.update_container_instances_state, containerInstances=instance, status="DRAINING")
refused("InvalidParameterException", ecs.update_container_instances_state, containerInstances=instance, status="INACTIVE")
refused("ClusterNotFoundException", ecs.list_container_instances, cluster="gone")
refused("ClusterNotFoundException", ecs.describe_container_instances, cluster="gone", containerInstances=["x"])
refused("UnsupportedFeatureException", ecs.register_container_instance, cluster="default")
refused("UnsupportedFeatureException", ecs.deregister_container_instance, containerInstance=instance[0])
refused("UnsupportedFeatureException", ecs.put_attributes, attributes=[{"name": "a", "value": "b"}])
refused("UnsupportedFeatureException", ecs.delete_attributes, attributes=[{"name": "a"}])
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
refused(
    "UnsupportedFeatureException", ecs.create_capacity_provider, name="mine",
    autoScalingGroupProvider={"autoScalingGroupArn": "arn:aws:autoscaling:x"},
)
refused("UnsupportedFeatureException", ecs.delete_capacity_provider, capacityProvider="FARGATE")

# What the configuration file owns is changed there.
refused("InvalidParameterException", ecs.delete_cluster, cluster="files", says="configuration file")
refused("InvalidParameterException", ecs.update_cluster, cluster="files", settings=[{"name": "containerInsights", "value": "enabled"}], says="configuration file")
