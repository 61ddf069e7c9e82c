"""CloudWatch: metrics over what the web service does, and alarms; in JSON, and in the older Query form."""
import datetime
import os
import time
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree

from common import client, equal, eventually, refused, without

cloudwatch, elb = client("cloudwatch"), client("elbv2")
balancer = elb.describe_load_balancers(Names=["web"])["LoadBalancers"][0]["LoadBalancerArn"].split("loadbalancer/")[1]
LB = [{"Name": "LoadBalancer", "Value": balancer}]
SERVICE = [{"Name": "ClusterName", "Value": "default"}, {"Name": "ServiceName", "Value": "web"}]


def metrics(**filters):
    pages = cloudwatch.get_paginator("list_metrics").paginate(**filters)
    return [metric for page in pages for metric in page["Metrics"]]


# What there is.
running = {"Namespace": "ECS/ContainerInsights", "MetricName": "RunningTaskCount", "Dimensions": SERVICE}
eventually(lambda: running in metrics(), "the running tasks")
equal(metrics(Namespace="ECS/ContainerInsights", MetricName="RunningTaskCount"), [running])
eventually(lambda: metrics(Namespace="AWS/ECS", MetricName="CPUUtilization", Dimensions=SERVICE), "CPU")
eventually(lambda: metrics(Namespace="AWS/ApplicationELB", MetricName="RequestCount", Dimensions=LB), "requests")
assert metrics(Dimensions=[{"Name": "TargetGroup"}])
equal(metrics(Namespace="AWS/EC2", IncludeLinkedAccounts=False), [])
refused("InvalidParameterValue", cloudwatch.list_metrics, NextToken="strange")


# Statistics: the test has sent ten requests before.
def window(seconds=120):
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"StartTime": now - datetime.timedelta(seconds=seconds), "EndTime": now + datetime.timedelta(seconds=60)}


def statistics(name, period=60, namespace="AWS/ApplicationELB", dimensions=LB, which=("Sum",), **more):
    return cloudwatch.get_metric_statistics(
        Namespace=namespace, MetricName=name, Dimensions=dimensions, Period=period, Statistics=list(which), **{**window(), **more}
    )


def total(name):
    return sum(point["Sum"] for point in statistics(name)["Datapoints"])


eventually(lambda: total("RequestCount") == 10, "ten requests")
equal((total("HTTPCode_Target_2XX_Count"), total("HTTPCode_Target_5XX_Count")), (10, 0))
five = ["SampleCount", "Average", "Sum", "Minimum", "Maximum"]
answer = statistics("RunningTaskCount", 1, "ECS/ContainerInsights", SERVICE, five)
equal(answer["Label"], "RunningTaskCount")
point = answer["Datapoints"][-1]
equal({name: point[name] for name in [*five, "Unit"]},
      {"SampleCount": 1, "Average": 1, "Sum": 1, "Minimum": 1, "Maximum": 1, "Unit": "Count"})
equal(statistics("RequestCount", Unit="Percent")["Datapoints"], [])
equal(statistics("Unheard")["Datapoints"], [])
refused("InvalidParameterValue", statistics, "RequestCount", 7, says="Period")
refused("InvalidParameterValue", statistics, "RequestCount", ExtendedStatistics=["p99"], says="p99")
refused("InvalidParameterCombination", statistics, "RequestCount", StartTime=2e9, EndTime=1e9, says="less than")
refused("InvalidParameterCombination", statistics, "RequestCount", 1, StartTime=1e9, says="limit of 1440")
refused("MissingParameter", cloudwatch.get_metric_statistics, Namespace="n", MetricName="m", Period=60, **window())


# Data of several metrics.
def query(identity, name, namespace="AWS/ApplicationELB", dimensions=LB, stat="Sum", period=60, **more):
    metric = {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions}
    return {"Id": identity, "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}, **more}


def data(*queries, **more):
    return cloudwatch.get_metric_data(MetricDataQueries=list(queries), **{**window(), **more})


def search(text, stat="Sum", **more):
    return data({"Id": "e", "Expression": f"SEARCH('{text}', '{stat}')", "Period": 60, **more})["MetricDataResults"]


both = [query("a", "RequestCount"), query("b", "CPUUtilization", "AWS/ECS", SERVICE, "Average", Label="cpu")]
answer = data(*both, LabelOptions={"Timezone": "+0000"})["MetricDataResults"]
equal([(one["Id"], one["Label"], one["StatusCode"]) for one in answer], [("a", "RequestCount", "Complete"), ("b", "cpu", "Complete")])
equal(sum(answer[0]["Values"]), 10)
assert len(answer[0]["Timestamps"]) == len(answer[0]["Values"])
many = query("c", "RunningTaskCount", "ECS/ContainerInsights", SERVICE, "Average", 1)
eventually(lambda: len(data(many)["MetricDataResults"][0]["Values"]) >= 3, "three seconds")
fixed = window()
whole = data(many, ScanBy="TimestampAscending", **fixed)["MetricDataResults"][0]["Timestamps"]
assert whole == sorted(whole) and len(whole) >= 3, whole
until = {**fixed, "EndTime": whole[-1]}
pages = cloudwatch.get_paginator("get_metric_data").paginate(
    MetricDataQueries=[query("z", "Unheard"), many], ScanBy="TimestampAscending", MaxDatapoints=2, **until)
times = [at for page in pages for one in page["MetricDataResults"] for at in one["Timestamps"]]
equal(times, whole[:-1])
equal(data(query("a", "RequestCount", ReturnData=False))["MetricDataResults"], [])
# Metric math, as dashboards ask for it.
ok = query("ok", "HTTPCode_Target_2XX_Count", ReturnData=False)
all_of = query("all", "RequestCount", ReturnData=False)
share = {"Id": "share", "Expression": "100 * IF(all > 0, FILL(ok, 0) / all, 0)", "Label": "share of good answers"}
(answer,) = data(ok, all_of, share)["MetricDataResults"]
equal((answer["Id"], answer["Label"], set(answer["Values"]) - {0.0}), ("share", "share of good answers", {100.0}))
(answer,) = data(ok, all_of, {"Id": "sum", "Expression": "SUM(METRICS())"})["MetricDataResults"]
equal(sum(answer["Values"]), 20)
both_lines = data(ok, all_of, {"Id": "m", "Expression": "RATE(METRICS())"})["MetricDataResults"]
equal([one["Label"] for one in both_lines], ["m HTTPCode_Target_2XX_Count", "m RequestCount"])
refused("ValidationError", data, {"Id": "e", "Expression": "TIME_SERIES(1)"}, all_of, says="Period")
refused("ValidationError", data, {"Id": "e", "Expression": "a*2+all"}, all_of, says="a is the Id of no query")
# Searches, as dashboards write them.
found = search("{AWS/ECS,ClusterName,ServiceName} Utilization", "Average")
equal([(one["Id"], one["Label"]) for one in found], [("e", "CPUUtilization"), ("e", "MemoryUtilization")])
equal([one["Label"] for one in search('{ECS/ContainerInsights,ClusterName,ServiceName} MetricName=("RunningTaskCount" OR "DesiredTaskCount")', "Average", Label="tasks:")],
      ["tasks: DesiredTaskCount", "tasks: RunningTaskCount"])
(answer,) = search('{"AWS/ApplicationELB","LoadBalancer"} MetricName="RequestCount" "LoadBalancer"="%s"' % balancer)
equal((answer["Label"], sum(answer["Values"])), ("RequestCount", 10))
codes = "SEARCH('{AWS/ApplicationELB,LoadBalancer} HTTPCode Target NOT 5XX NOT 4XX', 'Sum', 60)"
(answer,) = data({"Id": "e", "Expression": f"SUM({codes})"})["MetricDataResults"]
equal((answer["Label"], sum(answer["Values"])), ("e", 10))
ranked = data({"Id": "e", "Expression": f"SORT(REMOVE_EMPTY({codes}), SUM, DESC, 1)"})["MetricDataResults"]
equal([sum(one["Values"]) for one in ranked], [10])
equal(search("nobody"), [])
equal(search("Namespace=Unheard"), [])
refused("ValidationError", data, {"Id": "e", "Expression": "SEARCH('x', 'Sum')"}, says="it needs a Period")
refused("ValidationError", search, "(x", says=") is expected")
refused("ValidationError", search, "x", "p99", says="p99")
refused("ValidationError", search, "x" * 1025, says="at most 1024 characters")
refused("ValidationError", search, ':aws.AccountId="1" x', says="one account")
refused("ValidationError", data, {"Id": "e", "Expression": "SUM(all)"}, all_of, says="not a time series")
refused("ValidationError", data, query("Bad", "RequestCount"), says="lower-case")
refused("ValidationError", data, query("a", "RequestCount"), query("a", "RequestCount"), says="twice")
refused("ValidationError", data, query("a", "RequestCount", stat="p50"), says="p50")
refused("ValidationError", data, *both, StartTime=2e9, EndTime=1e9)
refused("InvalidNextToken", data, *both, NextToken="x")

# Alarms: success, validation, not found.
ALARM = {
    "AlarmName": "quiet", "AlarmDescription": "d", "MetricName": "RunningTaskCount", "Namespace": "ECS/ContainerInsights",
    "Statistic": "Average", "Period": 60, "EvaluationPeriods": 2, "Threshold": 0.5, "Dimensions": SERVICE,
    "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "missing",
}
for members, code, says in [
    ({"MetricName": None}, "MissingParameter", "MetricName"),
    ({"Threshold": None}, "MissingParameter", "Threshold"),
    ({"Period": 7}, "InvalidParameterValue", "Period"),
    ({"EvaluationPeriods": 0}, "ValidationError", "equal to 1"),
    ({"DatapointsToAlarm": 3}, "ValidationError", "DatapointsToAlarm"),
    ({"Period": 3600, "EvaluationPeriods": 4}, "ValidationError", "are kept for"),
    ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "ValidationError", "anomaly"),
    ({"TreatMissingData": "never"}, "ValidationError", "TreatMissingData"),
    ({"Unit": "Bytes"}, "ValidationError", "is measured in Count"),
    ({"AlarmActions": ["arn:aws:sns:local:000000000000:topic"]}, "ValidationError", "no scaling policy"),
    ({"OKActions": ["arn:aws:sns:local:000000000000:topic"]}, "ValidationError", "OKActions is not supported"),
    ({"Metrics": [{"Id": "a", "Expression": "1"}]}, "ValidationError", "either Metrics or a MetricName"),
]:
    wish = {name: value for name, value in {**ALARM, **members}.items() if value is not None}
    refused(code, cloudwatch.put_metric_alarm, **wish, says=says)
cloudwatch.put_metric_alarm(**ALARM, Tags=[{"Key": "team", "Value": "a"}])


cloudwatch.get_waiter("alarm_exists").wait(AlarmNames=["quiet"], WaiterConfig={"Delay": 1, "MaxAttempts": 1})


def alarm(name="quiet"):
    found = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return found[0] if found else None


shown = alarm()
equal({name: shown[name] for name in ALARM}, ALARM)
ARN = shown["AlarmArn"]
equal((ARN, shown["ActionsEnabled"]), ("arn:aws:cloudwatch:local:000000000000:alarm:quiet", True))
# What was not given is not shown, and what was is: Terraform's second plan would change it.
assert "DatapointsToAlarm" not in shown and "Unit" not in shown, shown
cloudwatch.put_metric_alarm(**ALARM, DatapointsToAlarm=2, Unit="Count")
equal((alarm()["DatapointsToAlarm"], alarm()["Unit"]), (2, "Count"))
cloudwatch.put_metric_alarm(**ALARM)
equal((shown["OKActions"], shown["AlarmActions"], shown["InsufficientDataActions"]), ([], [], []))
eventually(lambda: alarm()["StateValue"] == "ALARM", "the alarm")
assert "Threshold Crossed: 2 datapoints [1, 1] were greater than the threshold (0.5)" in alarm()["StateReason"], alarm()
cloudwatch.put_metric_alarm(**{**ALARM, "Threshold": 5.0})
eventually(lambda: alarm()["StateValue"] == "OK", "all to be well")
cloudwatch.set_alarm_state(AlarmName="quiet", StateValue="ALARM", StateReason="a test")
eventually(lambda: alarm()["StateValue"] == "OK", "the truth to come out")
cloudwatch.disable_alarm_actions(AlarmNames=["quiet", "gone"])
equal(alarm()["ActionsEnabled"], False)
cloudwatch.enable_alarm_actions(AlarmNames=["quiet"])
equal(alarm()["ActionsEnabled"], True)
equal(cloudwatch.list_tags_for_resource(ResourceARN=ARN)["Tags"], [{"Key": "team", "Value": "a"}])
cloudwatch.tag_resource(ResourceARN=ARN, Tags=[{"Key": "b", "Value": "c"}])
cloudwatch.untag_resource(ResourceARN=ARN, TagKeys=["team"])
equal(cloudwatch.list_tags_for_resource(ResourceARN=ARN)["Tags"], [{"Key": "b", "Value": "c"}])
refused("ResourceNotFoundException", cloudwatch.list_tags_for_resource, ResourceARN=ARN + "x")
refused("ResourceNotFound", cloudwatch.set_alarm_state, AlarmName="gone", StateValue="OK", StateReason="r")
cloudwatch.put_metric_alarm(**{**ALARM, "AlarmName": "other"})
pages = cloudwatch.get_paginator("describe_alarms").paginate(PaginationConfig={"PageSize": 1})
equal([one["AlarmName"] for page in pages for one in page["MetricAlarms"]], ["other", "quiet"])
equal([one["AlarmName"] for one in cloudwatch.describe_alarms(AlarmNamePrefix="o")["MetricAlarms"]], ["other"])
equal(cloudwatch.describe_alarms(AlarmTypes=["CompositeAlarm"])["MetricAlarms"], [])
refused("InvalidNextToken", cloudwatch.describe_alarms, NextToken="x")
refused("ValidationError", cloudwatch.describe_alarms, MaxRecords=101)

# Those of target tracking live with their policy.
scaling = client("application-autoscaling")
# Alarms over metric math, as Terraform makes and reads them.
plain = {name: ALARM[name] for name in ("EvaluationPeriods", "Threshold", "ComparisonOperator", "TreatMissingData")}
running_too = query("all", "RunningTaskCount", "ECS/ContainerInsights", SERVICE, "Average", ReturnData=False)
desired_too = query("wanted", "DesiredTaskCount", "ECS/ContainerInsights", SERVICE, "Average", ReturnData=False)
share = {"Id": "share", "Expression": "100 * all / wanted", "Label": "share", "ReturnData": True}
for metrics_given, says in [
    ([running_too], "ReturnData must be true of one"),
    ([share, running_too, {**desired_too, "ReturnData": True}], "ReturnData must be true of one"),
    ([share, running_too], "wanted is the Id of no query"),
    ([{**share, "Expression": "all +"}, running_too], "ends here"),
    ([{**share, "Expression": "SUM(SEARCH('Task', 'Sum'))", "Period": 60}], "SEARCH is not supported on Metric Alarms"),
]:
    refused("ValidationError", cloudwatch.put_metric_alarm, AlarmName="share", Metrics=metrics_given, **plain, says=says)
cloudwatch.put_metric_alarm(AlarmName="share", Metrics=[running_too, desired_too, share], **{**plain, "Threshold": 99.0})
shown = alarm("share")
equal([one["Id"] for one in shown["Metrics"]], ["all", "wanted", "share"])
equal(shown["Metrics"][2], share)
equal(shown["Metrics"][0], running_too)
assert not {"MetricName", "Namespace", "Statistic", "Period", "Dimensions"} & set(shown), shown
eventually(lambda: alarm("share")["StateValue"] == "ALARM", "all that is wanted runs")
cloudwatch.put_metric_alarm(AlarmName="share", Metrics=[running_too, desired_too, {**share, "Expression": "IF(wanted > 0, 0, all)"}], **plain)
eventually(lambda: alarm("share")["StateValue"] == "OK", "nothing is above nothing")
cloudwatch.delete_alarms(AlarmNames=["share"])
WHICH = {"ServiceNamespace": "ecs", "ResourceId": "service/default/web", "ScalableDimension": "ecs:service:DesiredCount"}
scaling.register_scalable_target(**WHICH, MinCapacity=1, MaxCapacity=1)
made = scaling.put_scaling_policy(**WHICH, PolicyName="cpu", PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration={
    "TargetValue": 100000.0, "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}})
high, low = [one["AlarmName"] for one in made["Alarms"]]
found = alarm(high)
equal((found["MetricName"], found["Threshold"], found["Period"], found["EvaluationPeriods"]), ("CPUUtilization", 100000.0, 60, 3))
equal(found["AlarmActions"], [made["PolicyARN"]])
equal((alarm(low)["Threshold"], alarm(low)["EvaluationPeriods"], alarm(low)["ComparisonOperator"]), (90000.0, 15, "LessThanThreshold"))
eventually(lambda: alarm(high)["StateValue"] == "OK" and alarm(low)["StateValue"] == "ALARM", "fifteen periods of rest")
refused("ValidationError", cloudwatch.delete_alarms, AlarmNames=[high], says="change that")
refused("ValidationError", cloudwatch.put_metric_alarm, **{**ALARM, "AlarmName": low}, says="change that")
scaling.delete_scaling_policy(**WHICH, PolicyName="cpu")
equal(alarm(high), None)
refused("ResourceNotFound", cloudwatch.delete_alarms, AlarmNames=["quiet", "gone"])
cloudwatch.delete_alarms(AlarmNames=["quiet", "other"])
cloudwatch.delete_alarms(AlarmNames=["gone"])
equal(cloudwatch.describe_alarms()["MetricAlarms"], [])


# The Query form of older clients.
def form(**parameters):
    body = urllib.parse.urlencode({"Version": "2010-08-01", **parameters}).encode()
    try:
        with urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"], body) as answer:
            return answer.status, xml.etree.ElementTree.fromstring(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, xml.etree.ElementTree.fromstring(error.read())


NS = "{http://monitoring.amazonaws.com/doc/2010-08-01/}"
now = int(time.time())
status, root = form(**{
    "Action": "GetMetricStatistics", "Namespace": "AWS/ApplicationELB", "MetricName": "RequestCount", "Period": 60,
    "Dimensions.member.1.Name": "LoadBalancer", "Dimensions.member.1.Value": balancer, "Statistics.member.1": "Sum",
    "StartTime": datetime.datetime.fromtimestamp(now - 300, datetime.timezone.utc).isoformat(),
    "EndTime": datetime.datetime.fromtimestamp(now + 60, datetime.timezone.utc).isoformat(),
})
equal((status, root.tag), (200, NS + "GetMetricStatisticsResponse"))
sums = [float(item.text) for item in root.iter(NS + "Sum")]
equal(sum(sums), 10)
status, root = form(Action="SetAlarmState", AlarmName="gone", StateValue="OK", StateReason="r")
equal((status, root.find(f"{NS}Error/{NS}Code").text), (404, "ResourceNotFound"))
