"""ECS deployments that shift traffic in stages: validation, what is shown, hooks that wait, stops. Arguments: the program."""
import sys

from common import client, equal, eventually, refused

ecs, elb, watch = client("ecs"), client("elbv2"), client("cloudwatch")
PROGRAM = sys.argv[1]


def register(family, *arguments):
    container = {
        "name": "app", "command": [PROGRAM, "whoami", *arguments], "memory": 64, "stopTimeout": 5, "portMappings": [{"containerPort": 8080}],
    }
    made = ecs.register_task_definition(family=family, containerDefinitions=[container])
    return made["taskDefinition"]["taskDefinitionArn"]


def group(name):
    made = elb.create_target_group(
        Name=name, Protocol="HTTP", Port=8080, VpcId="vpc-1", TargetType="ip", HealthCheckPath="/health", HealthCheckIntervalSeconds=5,
        HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2,
    )["TargetGroups"][0]["TargetGroupArn"]
    elb.modify_target_group_attributes(TargetGroupArn=made, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}])
    return made


def listener(port):
    return elb.create_listener(
        LoadBalancerArn=LB, Protocol="HTTP", Port=port, DefaultActions=[{"Type": "forward", "TargetGroupArn": blue}],
    )["Listeners"][0]["ListenerArn"]


def default_rule(arn):
    return elb.describe_rules(ListenerArn=arn)["Rules"][-1]["RuleArn"]


def weights(rule):
    forward = elb.describe_rules(RuleArns=[rule])["Rules"][0]["Actions"][0]["ForwardConfig"]
    return {"blue" if item["TargetGroupArn"] == blue else "green": item["Weight"] for item in forward["TargetGroups"]}


def service():
    return ecs.describe_services(services=["api"])["services"][0]


def deployment(arn=None):
    arn = arn or service()["currentServiceDeployment"]
    return ecs.describe_service_deployments(serviceDeploymentArns=[arn])["serviceDeployments"][0]


def at(arn, stage):
    return eventually(lambda: [d for d in [deployment(arn)] if d.get("lifecycleStage") == stage], f"{stage} of {arn}")[0]


def ended(arn, status):
    return eventually(lambda: [d for d in [deployment(arn)] if d["status"] == status], f"{arn} to be {status}")[0]


def update(definition, **configuration):
    members = {"deploymentConfiguration": configuration} if configuration else {}
    return ecs.update_service(service="api", taskDefinition=definition, **members)["service"]["currentServiceDeployment"]


LB = elb.create_load_balancer(Name="front", Type="application", Subnets=["subnet-a", "subnet-b"])["LoadBalancers"][0]["LoadBalancerArn"]
blue, green = group("blue"), group("green")
main, test = listener(8080), listener(8081)
production = elb.create_rule(
    ListenerArn=main, Priority=7, Conditions=[{"Field": "path-pattern", "Values": ["/*"]}],
    Actions=[{"Type": "forward", "TargetGroupArn": blue}],
)["Rules"][0]["RuleArn"]
advanced = {
    "alternateTargetGroupArn": green, "productionListenerRule": production, "testListenerRule": default_rule(test),
    "roleArn": "arn:aws:iam::000000000000:role/ecs",
}
balancer = {"targetGroupArn": blue, "containerName": "app", "containerPort": 8080}
pause = {"targetType": "PAUSE", "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"]}
one = register("api")

# What may be asked for, in ECS's ranges.
lambda_hook = {"targetType": "AWS_LAMBDA", "hookTargetArn": "http://127.0.0.1:9/", "lifecycleStages": ["PRE_SCALE_UP"]}
for configuration, code, says in [
    ({"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 2.9}}, "InvalidParameterException", "stepPercent"),
    ({"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 33.33}}, "InvalidParameterException", "stepPercent"),
    ({"strategy": "LINEAR", "linearConfiguration": {"stepBakeTimeInMinutes": 1441}}, "InvalidParameterException", "stepBakeTimeInMinutes"),
    ({"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 0.0}}, "InvalidParameterException", "canaryPercent"),
    ({"strategy": "BLUE_GREEN", "canaryConfiguration": {"canaryPercent": 5.0}}, "InvalidParameterException", "canaryConfiguration"),
    ({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": -1}, "InvalidParameterException", "bakeTimeInMinutes"),
    ({"strategy": "ROLLING", "lifecycleHooks": [pause]}, "InvalidParameterException", "lifecycleHooks"),
    ({"strategy": "BLUE_GREEN", "lifecycleHooks": [{**pause, "hookTargetArn": "http://a"}]}, "InvalidParameterException", "PAUSE"),
    ({"strategy": "BLUE_GREEN", "lifecycleHooks": [{**pause, "lifecycleStages": ["PRODUCTION_TRAFFIC_SHIFT"]}]}, "InvalidParameterException", "PAUSE"),
    ({"strategy": "BLUE_GREEN", "lifecycleHooks": [{**pause, "lifecycleStages": []}]}, "InvalidParameterException", "lifecycleStages"),
    ({"strategy": "BLUE_GREEN", "lifecycleHooks": [{**pause, "timeoutConfiguration": {"timeoutInMinutes": 0}}]}, "InvalidParameterException", None),
    ({"strategy": "BLUE_GREEN", "lifecycleHooks": [{**lambda_hook, "hookTargetArn": "arn:aws:lambda:a:1:function:f"}]}, "UnsupportedFeatureException", "webhook"),
    ({"strategy": "BLUE_GREEN", "lifecycleHooks": [{**lambda_hook, "hookDetails": {"a": "b"}}]}, "UnsupportedFeatureException", "hookDetails"),
    ({"strategy": "BLUE_GREEN", "earlySuccessCriteria": {"enable": True}}, "UnsupportedFeatureException", "earlySuccessCriteria"),
    ({"strategy": "BLUE_GREEN", "alarms": {"enable": True, "rollback": True, "alarmNames": ["gone"]}}, "InvalidParameterException", "gone"),
]:
    refused(
        code, ecs.create_service, serviceName="api", taskDefinition=one, desiredCount=1, deploymentConfiguration=configuration,
        loadBalancers=[{**balancer, "advancedConfiguration": advanced}], says=says,
    )
for changed, says in [
    ({"alternateTargetGroupArn": green + "x"}, "alternate target group"), ({"productionListenerRule": production + "x"}, "listener rule"),
    ({"testListenerRule": production}, "twice"), ({"alternateTargetGroupArn": blue}, "twice"),
]:
    refused(
        "InvalidParameterException", ecs.create_service, serviceName="api", taskDefinition=one, desiredCount=1,
        loadBalancers=[{**balancer, "advancedConfiguration": {**advanced, **changed}}], says=says,
    )
refused(
    "InvalidParameterException", ecs.create_service, serviceName="api", taskDefinition=one, desiredCount=1, loadBalancers=[balancer],
    deploymentConfiguration={"strategy": "BLUE_GREEN"}, says="advancedConfiguration",
)

# The first deployment goes through its stages, hooks and all.
watch.put_metric_alarm(
    AlarmName="errors", Namespace="AWS/ApplicationELB", MetricName="HTTPCode_Target_5XX_Count", Statistic="Sum", Period=60,
    EvaluationPeriods=1, Threshold=1000000.0, ComparisonOperator="GreaterThanThreshold", TreatMissingData="ignore",
)
alarms = {"enable": True, "rollback": True, "alarmNames": ["errors"]}
made = ecs.create_service(
    serviceName="api", taskDefinition=one, desiredCount=1, loadBalancers=[{**balancer, "advancedConfiguration": advanced}],
    deploymentConfiguration={"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0, "lifecycleHooks": [pause], "alarms": alarms},
)["service"]
equal(made["loadBalancers"], [{**balancer, "advancedConfiguration": advanced}])
shown = made["deploymentConfiguration"]
equal((shown["strategy"], shown["bakeTimeInMinutes"], shown["alarms"]), ("BLUE_GREEN", 0, alarms))
equal(shown["lifecycleHooks"], [{**pause, "timeoutConfiguration": {"timeoutInMinutes": 1440, "action": "ROLLBACK"}}])
first = made["currentServiceDeployment"]


def waiting(arn):
    """The hook of a deployment that waits for somebody."""
    def open_hooks():
        return [hook for hook in deployment(arn).get("lifecycleHookDetails", []) if hook["status"] == "AWAITING_ACTION"]
    return eventually(open_hooks, f"a hook of {arn} to wait")[0]


hook = waiting(first)
equal((hook["targetType"], hook["timeoutAction"], deployment(first)["lifecycleStage"]), ("PAUSE", "ROLLBACK", "POST_TEST_TRAFFIC_SHIFT"))
refused("InvalidParameterException", ecs.continue_service_deployment, serviceDeploymentArn=first, hookId="gone", says="gone")
refused("ServiceDeploymentNotFoundException", ecs.continue_service_deployment, serviceDeploymentArn=first[:-1] + "x", hookId=hook["hookId"])
equal(ecs.continue_service_deployment(serviceDeploymentArn=first, hookId=hook["hookId"], action="CONTINUE")["serviceDeploymentArn"], first)
shown = ended(first, "SUCCESSFUL")
equal([hook["status"] for hook in shown["lifecycleHookDetails"]], ["SUCCEEDED"])
equal((shown["alarms"]["status"], shown["alarms"]["triggeredAlarmNames"]), ("MONITORING_COMPLETE", []))
equal(weights(production), {"blue": 100, "green": 0})
refused("InvalidParameterException", ecs.continue_service_deployment, serviceDeploymentArn=first, hookId=hook["hookId"])

# The second waits beside it; test traffic is its own by then.
two = register("api", "--log")
second = update(two)
hook = waiting(second)
equal((weights(production), weights(default_rule(test))), ({"blue": 100, "green": 0}, {"blue": 0, "green": 100}))
shown = deployment(second)
target = shown["targetServiceRevision"]
equal((target["requestedTestTrafficWeight"], target["requestedProductionTrafficWeight"], target["runningTaskCount"]), (100.0, 0.0, 1))
equal([source["requestedProductionTrafficWeight"] for source in shown["sourceServiceRevisions"]], [100.0])
equal(shown["status"], "IN_PROGRESS")
revision = ecs.describe_service_revisions(serviceRevisionArns=[target["arn"]])["serviceRevisions"][0]
equal(revision["resolvedConfiguration"]["loadBalancers"], [{"targetGroupArn": green, "productionListenerRule": production}])
# It is told to go back, and does.
ecs.continue_service_deployment(serviceDeploymentArn=second, hookId=hook["hookId"], action="ROLLBACK")
shown = ended(second, "ROLLBACK_SUCCESSFUL")
equal([hook["status"] for hook in shown["lifecycleHookDetails"]], ["FAILED"])
equal((service()["taskDefinition"], service()["currentServiceDeployment"]), (one, first))
equal((weights(production), weights(default_rule(test))), ({"blue": 100, "green": 0}, {"blue": 100, "green": 0}))

# A canary that nobody likes; then one that is left as it is.
canary = {"strategy": "CANARY", "canaryConfiguration": {"canaryPercent": 10.0, "canaryBakeTimeInMinutes": 60}, "lifecycleHooks": []}
third = update(two, **canary)
eventually(lambda: weights(production) == {"blue": 90, "green": 10}, "the canary's share")
shown = at(third, "PRODUCTION_TRAFFIC_SHIFT")
equal(shown["deploymentConfiguration"]["canaryConfiguration"], canary["canaryConfiguration"])
equal(shown["targetServiceRevision"]["requestedProductionTrafficWeight"], 10.0)
ecs.stop_service_deployment(serviceDeploymentArn=third, stopType="ROLLBACK")
shown = ended(third, "ROLLBACK_SUCCESSFUL")
equal((shown["statusReason"], weights(production)), ("Service deployment stopped by request.", {"blue": 100, "green": 0}))
# An alarm does the same.
fourth = update(two)
eventually(lambda: weights(production) == {"blue": 90, "green": 10}, "the canary's share")
watch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
shown = ended(fourth, "ROLLBACK_SUCCESSFUL")
equal((shown["alarms"], weights(production)), (
    {"status": "TRIGGERED", "alarmNames": ["errors"], "triggeredAlarmNames": ["errors"]}, {"blue": 100, "green": 0}))
# One that was on before says nothing about the next; that one is left where it is.
fifth = update(two)
eventually(lambda: weights(production) == {"blue": 90, "green": 10}, "the canary's share")
ecs.stop_service_deployment(serviceDeploymentArn=fifth, stopType="ABORT")
ended(fifth, "STOPPED")
equal((weights(production), service()["runningCount"], service()["taskDefinition"]), ({"blue": 90, "green": 10}, 2, two))
refused("ConflictException", ecs.stop_service_deployment, serviceDeploymentArn=fifth, stopType="ABORT")

# Somebody else's weights halt the next, until they are taken back.
linear = {"strategy": "LINEAR", "linearConfiguration": {"stepPercent": 50.0, "stepBakeTimeInMinutes": 0}, "lifecycleHooks": [pause]}
sixth = update(register("api", "--log", "--udp"), **linear)
hook = waiting(sixth)
equal(weights(production), {"blue": 100, "green": 0})
groups = [{"TargetGroupArn": blue, "Weight": 70}, {"TargetGroupArn": green, "Weight": 30}]
elb.modify_rule(RuleArn=production, Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}])
ecs.continue_service_deployment(serviceDeploymentArn=sixth, hookId=hook["hookId"])
eventually(lambda: any("is halted" in event["message"] for event in service()["events"]), "the halt to be told")
equal((weights(production), deployment(sixth)["status"]), ({"blue": 70, "green": 30}, "IN_PROGRESS"))
groups = [{"TargetGroupArn": blue, "Weight": 100}, {"TargetGroupArn": green, "Weight": 0}]
elb.modify_rule(RuleArn=production, Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}])
shown = ended(sixth, "SUCCESSFUL")
equal((weights(production), shown["lifecycleStage"]), ({"blue": 0, "green": 100}, "CLEAN_UP"))
eventually(lambda: service()["runningCount"] == 1, "the old task to go")

ecs.delete_service(service="api", force=True)
ecs.get_waiter("services_inactive").wait(services=["api"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
