"""Application Auto Scaling: targets, policies, scheduled actions, activities, tags; each as Terraform reads it."""
from common import client, equal, eventually, refused, without

scaling, ecs, cloudwatch, elb = client("application-autoscaling"), client("ecs"), client("cloudwatch"), client("elbv2")
WHICH = {"ServiceNamespace": "ecs", "ResourceId": "service/default/web", "ScalableDimension": "ecs:service:DesiredCount"}
GONE = {**WHICH, "ResourceId": "service/default/gone"}
OWN = "arn:aws:autoscaling:local:000000000000"


def twice(read, **parameters):
    """What two reads say alike."""
    first = without(read(**parameters))
    equal(without(read(**parameters)), first)
    return first


def count():
    return ecs.describe_services(services=["web"])["services"][0]["desiredCount"]


# Targets: success, validation, not found.
refused("ValidationException", scaling.register_scalable_target, **GONE, MinCapacity=1, MaxCapacity=2, says="doesn't exist")
refused("ValidationException", scaling.register_scalable_target, **WHICH, MinCapacity=1, says="MaxCapacity is required")
refused("ValidationException", scaling.register_scalable_target, **WHICH, MinCapacity=3, MaxCapacity=2, says="cannot be less")
refused("ValidationException", scaling.register_scalable_target, **WHICH, MinCapacity=-1, MaxCapacity=2, says="negative")
refused("ValidationException", scaling.register_scalable_target, **{**WHICH, "ResourceId": "web"}, MinCapacity=1, MaxCapacity=2)
refused("ValidationException", scaling.register_scalable_target, ServiceNamespace="dynamodb", ResourceId="table/t",
        ScalableDimension="dynamodb:table:ReadCapacityUnits", MinCapacity=1, MaxCapacity=2, says="only ecs:service:DesiredCount")
made = scaling.register_scalable_target(**WHICH, MinCapacity=1, MaxCapacity=4, Tags={"team": "a"})
ARN = made["ScalableTargetARN"]
shown = twice(scaling.describe_scalable_targets, ServiceNamespace="ecs", ResourceIds=["service/default/web"])["ScalableTargets"]
created, role = shown[0].pop("CreationTime"), shown[0].pop("RoleARN")
assert role.endswith("AWSServiceRoleForApplicationAutoScaling_ECSService"), role
equal(shown, [{
    **WHICH, "MinCapacity": 1, "MaxCapacity": 4, "ScalableTargetARN": ARN,
    "SuspendedState": {"DynamicScalingInSuspended": False, "DynamicScalingOutSuspended": False, "ScheduledScalingSuspended": False},
}])
equal(scaling.list_tags_for_resource(ResourceARN=ARN)["Tags"], {"team": "a"})
scaling.tag_resource(ResourceARN=ARN, Tags={"env": "x", "team": "b"})
scaling.untag_resource(ResourceARN=ARN, TagKeys=["env"])
equal(twice(scaling.list_tags_for_resource, ResourceARN=ARN)["Tags"], {"team": "b"})
no_arn = ARN.rsplit("/", 1)[0] + "/gone"
refused("ResourceNotFoundException", scaling.list_tags_for_resource, ResourceARN=no_arn)
refused("ResourceNotFoundException", scaling.tag_resource, ResourceARN=no_arn, Tags={"a": "b"})
refused("TooManyTagsException", scaling.tag_resource, ResourceARN=ARN, Tags={f"k{n}": "v" for n in range(51)})
suspended = {"DynamicScalingInSuspended": True, "DynamicScalingOutSuspended": True}
equal(scaling.register_scalable_target(**WHICH, SuspendedState=suspended)["ScalableTargetARN"], ARN)
shown = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"][0]
equal((shown["MinCapacity"], shown["MaxCapacity"], shown["CreationTime"]), (1, 4, created))
equal(shown["SuspendedState"], {**suspended, "ScheduledScalingSuspended": False})
refused("InvalidNextTokenException", scaling.describe_scalable_targets, ServiceNamespace="ecs", NextToken="strange")
refused("ValidationException", scaling.describe_scalable_targets, ServiceNamespace="ecs", MaxResults=51)
equal(scaling.describe_scalable_targets(ServiceNamespace="ecs", ResourceIds=["service/default/gone"])["ScalableTargets"], [])

# Policies.
balancer = elb.describe_load_balancers(Names=["web"])["LoadBalancers"][0]["LoadBalancerArn"].split("loadbalancer/")[1]
group = elb.describe_target_groups(Names=["web"])["TargetGroups"][0]["TargetGroupArn"].split(":")[-1]
CPU = {"PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}, "TargetValue": 60.0}
LABEL = {"PredefinedMetricType": "ALBRequestCountPerTarget", "ResourceLabel": f"{balancer}/{group}"}
own_metric = {
    "MetricName": "RequestCount", "Namespace": "AWS/ApplicationELB", "Statistic": "Sum", "Unit": "Count",
    "Dimensions": [{"Name": "LoadBalancer", "Value": balancer}],
}
MATH = [
    {"Id": "each", "Expression": "requests / running", "Label": "requests of each task", "ReturnData": True},
    {"Id": "requests", "ReturnData": False, "MetricStat": {"Stat": "Sum", "Metric": {
        "MetricName": "RequestCount", "Namespace": "AWS/ApplicationELB", "Dimensions": [{"Name": "LoadBalancer", "Value": balancer}]}}},
    {"Id": "running", "ReturnData": False, "MetricStat": {"Stat": "Average", "Metric": {
        "MetricName": "RunningTaskCount", "Namespace": "ECS/ContainerInsights", "Dimensions": [
            {"Name": "ClusterName", "Value": "default"}, {"Name": "ServiceName", "Value": "web"}]}}},
]
STEPS = {
    "AdjustmentType": "ChangeInCapacity", "Cooldown": 30, "MetricAggregationType": "Maximum",
    "StepAdjustments": [
        {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 10.0, "ScalingAdjustment": 1},
        {"MetricIntervalLowerBound": 10.0, "ScalingAdjustment": 2},
    ],
}


def track(name, configuration, **members):
    return scaling.put_scaling_policy(**{
        **WHICH, "PolicyName": name, "PolicyType": "TargetTrackingScaling", "TargetTrackingScalingPolicyConfiguration": configuration,
        **members,
    })


def step(name, configuration, **members):
    return scaling.put_scaling_policy(**{**WHICH, "PolicyName": name, "StepScalingPolicyConfiguration": configuration, **members})


for configuration, says in [
    ({**CPU, "TargetValue": 0.0}, "greater than 0"),
    ({"TargetValue": 1.0}, "exactly one"),
    ({**CPU, "CustomizedMetricSpecification": own_metric}, "exactly one"),
    ({**CPU, "ScaleInCooldown": -1}, "negative"),
    ({**CPU, "PredefinedMetricSpecification": {"PredefinedMetricType": "ALBRequestCountPerTarget"}}, "ResourceLabel is required"),
    ({**CPU, "PredefinedMetricSpecification": {**LABEL, "ResourceLabel": "app/a/1/targetgroup/b/2"}}, "that exist"),
    ({**CPU, "PredefinedMetricSpecification": {"PredefinedMetricType": "KafkaBrokerStorageUtilization"}}, "no metric of an ECS"),
    ({"TargetValue": 1.0, "CustomizedMetricSpecification": {"MetricName": "x"}}, "Namespace is required"),
    ({"TargetValue": 1.0, "CustomizedMetricSpecification": {
        "Metrics": [{"Id": "a", "Expression": "1"}]}}, "needs a Period"),
    ({"TargetValue": 1.0, "CustomizedMetricSpecification": {**own_metric, "Metrics": MATH}}, "either Metrics or a MetricName"),
    ({"TargetValue": 1.0, "CustomizedMetricSpecification": {"Metrics": MATH[1:]}}, "ReturnData must be true of one"),
]:
    refused("ValidationException", track, "bad", configuration, says=says)
for configuration, says in [
    ({**STEPS, "StepAdjustments": []}, "1 to 20"),
    ({**STEPS, "StepAdjustments": [STEPS["StepAdjustments"][0], {"MetricIntervalLowerBound": 11.0, "ScalingAdjustment": 2}]}, "gaps"),
    ({**STEPS, "MinAdjustmentMagnitude": 1}, "only valid with"),
    ({"StepAdjustments": STEPS["StepAdjustments"]}, "AdjustmentType is required"),
]:
    refused("ValidationException", step, "bad", configuration, says=says)
refused("ValidationException", track, "bad", CPU, PolicyType="StepScaling", says="needs the configuration of its type")
refused("ValidationException", scaling.put_scaling_policy, **WHICH, PolicyName="bad", PolicyType="PredictiveScaling",
        PredictiveScalingPolicyConfiguration={"MetricSpecifications": []}, says="PredictiveScaling")
refused("ObjectNotFoundException", track, "cpu", CPU, **GONE, says="No scalable target")

made = track("cpu", {**CPU, "ScaleInCooldown": 60, "ScaleOutCooldown": 30})
arn = made["PolicyARN"]
assert arn.startswith(f"{OWN}:scalingPolicy:") and arn.endswith(":resource/ecs/service/default/web:policyName/cpu"), arn
names = [alarm["AlarmName"] for alarm in made["Alarms"]]
assert len(names) == 2 and all(name.startswith("TargetTracking-service/default/web-Alarm") for name in names), names
shown = twice(scaling.describe_scaling_policies, **WHICH, PolicyNames=["cpu"])["ScalingPolicies"]
equal([{name: value for name, value in shown[0].items() if name != "CreationTime"}], [{
    **WHICH, "PolicyARN": arn, "PolicyName": "cpu", "PolicyType": "TargetTrackingScaling", "Alarms": made["Alarms"],
    "TargetTrackingScalingPolicyConfiguration": {**CPU, "ScaleInCooldown": 60, "ScaleOutCooldown": 30, "DisableScaleIn": False},
}])
equal(track("cpu", {**CPU, "DisableScaleIn": True})["PolicyARN"], arn)
shown = scaling.describe_scaling_policies(**WHICH, PolicyNames=["cpu"])["ScalingPolicies"][0]
equal(shown["TargetTrackingScalingPolicyConfiguration"], {**CPU, "DisableScaleIn": True})
equal(len(shown["Alarms"]), 1)
track("requests", {"TargetValue": 100.0, "PredefinedMetricSpecification": LABEL})
# A policy over metric math, as Terraform writes it; it goes again at once.
track("math", {"TargetValue": 100.0, "CustomizedMetricSpecification": {"Metrics": MATH}})
(found,) = scaling.describe_scaling_policies(**WHICH, PolicyNames=["math"])["ScalingPolicies"]
equal(found["TargetTrackingScalingPolicyConfiguration"]["CustomizedMetricSpecification"], {"Metrics": MATH})
scaling.delete_scaling_policy(**WHICH, PolicyName="math")
track("own", {"TargetValue": 100.0, "CustomizedMetricSpecification": own_metric})
refused("ValidationException", step, "cpu", STEPS, says="type cannot be changed")
steps = step("steps", STEPS)["PolicyARN"]
pages = scaling.get_paginator("describe_scaling_policies").paginate(ServiceNamespace="ecs", PaginationConfig={"PageSize": 1})
shown = {policy["PolicyName"]: policy for page in pages for policy in page["ScalingPolicies"]}
equal(list(shown), ["cpu", "own", "requests", "steps"])
equal(shown["steps"]["StepScalingPolicyConfiguration"], STEPS)
equal(shown["requests"]["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"], LABEL)
equal(shown["own"]["TargetTrackingScalingPolicyConfiguration"]["CustomizedMetricSpecification"], own_metric)

# A step policy and the alarm that carries it out.
ALARM = {
    "AlarmName": "busy", "MetricName": "CPUUtilization", "Namespace": "AWS/ECS", "Statistic": "Average", "Period": 60,
    "EvaluationPeriods": 2, "Threshold": 70.0, "ComparisonOperator": "GreaterThanOrEqualToThreshold", "AlarmActions": [steps],
    "Dimensions": [{"Name": "ClusterName", "Value": "default"}, {"Name": "ServiceName", "Value": "web"}],
}
cloudwatch.put_metric_alarm(**ALARM)
alarms = scaling.describe_scaling_policies(**WHICH, PolicyNames=["steps"])["ScalingPolicies"][0]["Alarms"]
equal([alarm["AlarmName"] for alarm in alarms], ["busy"])

# Scheduled actions.
AT = {"ScheduledActionName": "night", "Schedule": "cron(0 22 * * ? *)", "Timezone": "Europe/Berlin"}
refused("ObjectNotFoundException", scaling.put_scheduled_action, **GONE, **AT, ScalableTargetAction={"MinCapacity": 1})
for members, says in [
    ({"Schedule": "every day"}, "is no at("),
    ({"Timezone": "Mars/Olympus"}, "Mars/Olympus"),
    ({"ScheduledActionName": "a/b"}, "is no name"),
    ({"StartTime": 2e9, "EndTime": 1e9}, "EndTime must be later"),
    ({"ScalableTargetAction": {"MinCapacity": 3, "MaxCapacity": 2}}, "cannot be less"),
    ({"ScalableTargetAction": {}}, "is required"),
]:
    wish = {**WHICH, **AT, "ScalableTargetAction": {"MinCapacity": 1}, **members}
    refused("ValidationException", scaling.put_scheduled_action, **wish, says=says)
refused("ValidationException", scaling.put_scheduled_action, **WHICH, ScheduledActionName="x", Schedule="rate(1 hour)",
        says="ScalableTargetAction is required")
scaling.put_scheduled_action(**WHICH, **AT, StartTime=1_900_000_000, ScalableTargetAction={"MinCapacity": 1, "MaxCapacity": 2})
shown = twice(scaling.describe_scheduled_actions, **WHICH, ScheduledActionNames=["night"])["ScheduledActions"]
arn, start = shown[0].pop("ScheduledActionARN"), shown[0].pop("StartTime")
assert arn.startswith(f"{OWN}:scheduledAction:") and arn.endswith(":scheduledActionName/night"), arn
equal(start.timestamp(), 1_900_000_000)
del shown[0]["CreationTime"]
equal(shown, [{**WHICH, **AT, "ScalableTargetAction": {"MinCapacity": 1, "MaxCapacity": 2}}])
scaling.put_scheduled_action(**WHICH, ScheduledActionName="night", Schedule="rate(1 day)")
shown = scaling.describe_scheduled_actions(ServiceNamespace="ecs")["ScheduledActions"][0]
equal((shown["Schedule"], shown["ScalableTargetAction"]), ("rate(1 day)", {"MinCapacity": 1, "MaxCapacity": 2}))
refused("ObjectNotFoundException", scaling.delete_scheduled_action, **WHICH, ScheduledActionName="gone")
scaling.delete_scheduled_action(**WHICH, ScheduledActionName="night")
equal(scaling.describe_scheduled_actions(ServiceNamespace="ecs")["ScheduledActions"], [])

# Bounds are kept at once, and an activity tells of it.
equal(count(), 1)
equal(scaling.describe_scaling_activities(ServiceNamespace="ecs")["ScalingActivities"], [])
scaling.register_scalable_target(**WHICH, MinCapacity=2)
eventually(lambda: count() == 2, "two tasks")


def activities(**more):
    return scaling.describe_scaling_activities(**WHICH, **more)["ScalingActivities"]


done = eventually(lambda: [one for one in activities() if one["StatusCode"] == "Successful"], "the activity to end")[0]
equal((done["Cause"], done["Description"]), ("minimum capacity was set to 2", "Setting desired count to 2."))
equal(done["StatusMessage"], "Successfully set desired count to 2. Change successfully fulfilled by ecs.")
assert done["EndTime"] >= done["StartTime"]
scaling.register_scalable_target(**WHICH, MinCapacity=1, MaxCapacity=1)
eventually(lambda: count() == 1, "one task")
equal([one["Cause"] for one in activities()], ["maximum capacity was set to 1", "minimum capacity was set to 2"])
refused("InvalidNextTokenException", scaling.describe_scaling_activities, ServiceNamespace="ecs", NextToken="x")

# Terraform's order of destruction.
refused("ObjectNotFoundException", scaling.delete_scaling_policy, **WHICH, PolicyName="gone", says="policy name: gone")
cloudwatch.delete_alarms(AlarmNames=["busy"])
for name in ["cpu", "requests", "own", "steps"]:
    scaling.delete_scaling_policy(**WHICH, PolicyName=name)
equal(scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"], [])
scaling.deregister_scalable_target(**WHICH)
refused("ObjectNotFoundException", scaling.deregister_scalable_target, **WHICH, says="No scalable target found")
equal(scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"], [])
refused("ResourceNotFoundException", scaling.list_tags_for_resource, ResourceARN=ARN)
