"""Smithy's RPC v2 in CBOR: the stock client made to speak it, and requests by hand."""
import datetime
import os
import time
import urllib.error
import urllib.request

import botocore.model
import boto3

from common import CONFIG, client, equal, eventually, refused

ORDER = "PRIORITY_ORDERED_SUPPORTED_PROTOCOLS"
CBOR = "smithy-rpc-v2-cbor"
setattr(botocore.model, ORDER, [CBOR, *[name for name in getattr(botocore.model, ORDER) if name != CBOR]])
sent = []


def speaking(service):
    made = client(service)
    made.meta.events.register("before-send.*", lambda request, **_: sent.append((request.url, dict(request.headers))))
    return made


# Cloud Map: structures, lists, maps, times, errors.
names = speaking("servicediscovery")
namespace = names.create_http_namespace(Name="cbor", Tags=[{"Key": "a", "Value": "ü"}])
url, headers = sent[-1]
assert url.endswith("/service/Route53AutoNaming_v20170314/operation/CreateHttpNamespace"), url
equal(headers.get("smithy-protocol", b"").decode() if isinstance(headers.get("smithy-protocol"), bytes) else headers.get("smithy-protocol"), "rpc-v2-cbor")
done = names.get_operation(OperationId=namespace["OperationId"])["Operation"]
equal((done["Status"], list(done["Targets"])), ("SUCCESS", ["NAMESPACE"]))
assert isinstance(done["CreateDate"], datetime.datetime), done
made = names.get_namespace(Id=done["Targets"]["NAMESPACE"])["Namespace"]
assert abs(made["CreateDate"].timestamp() - time.time()) < 300, made
equal(names.list_tags_for_resource(ResourceARN=made["Arn"])["Tags"], [{"Key": "a", "Value": "ü"}])
service = names.create_service(Name="web", NamespaceId=made["Id"])["Service"]
names.register_instance(ServiceId=service["Id"], InstanceId="i", Attributes={"AWS_INSTANCE_IPV4": "10.0.0.1", "x": "y"})
found = names.discover_instances(NamespaceName="cbor", ServiceName="web", MaxResults=5)["Instances"]
equal([one["Attributes"]["x"] for one in found], ["y"])
refused("NamespaceNotFound", names.get_namespace, Id="ns-gone")
refused("InvalidInput", names.list_instances, ServiceId=service["Id"], MaxResults=0)

# CloudWatch: numbers, times on the way in, errors by the names of the Query wire.
metrics = speaking("cloudwatch")
alarm = {
    "AlarmName": "a", "MetricName": "RunningTaskCount", "Namespace": "ECS/ContainerInsights", "Statistic": "Average", "Period": 60,
    "EvaluationPeriods": 1, "Threshold": 0.5, "ComparisonOperator": "GreaterThanThreshold",
}
metrics.put_metric_alarm(**alarm)
assert sent[-1][0].endswith("/service/GraniteServiceVersion20100801/operation/PutMetricAlarm"), sent[-1]
shown = metrics.describe_alarms(AlarmNames=["a"])["MetricAlarms"][0]
equal({name: shown[name] for name in alarm}, alarm)
dimensions = [{"Name": "ClusterName", "Value": "default"}, {"Name": "ServiceName", "Value": "web"}]


def points():
    now = datetime.datetime.now(datetime.timezone.utc)
    query = {"Id": "a", "MetricStat": {"Metric": {"Namespace": "ECS/ContainerInsights", "MetricName": "RunningTaskCount",
             "Dimensions": dimensions}, "Period": 1, "Stat": "Average"}}
    span = datetime.timedelta(minutes=5)
    return metrics.get_metric_data(MetricDataQueries=[query], StartTime=now - span, EndTime=now + span)["MetricDataResults"][0]


found = eventually(lambda: points() if points()["Values"] else None, "a point of a metric")
assert all(isinstance(value, float) for value in found["Values"]), found
assert all(isinstance(at, datetime.datetime) for at in found["Timestamps"]), found
refused("ResourceNotFound", metrics.set_alarm_state, AlarmName="gone", StateValue="OK", StateReason="r")
refused("InvalidParameterValue", metrics.put_metric_alarm, **{**alarm, "Period": 7})
stranger = boto3.Session("AKIA" + "Z" * 16, "x" * 40, region_name="local").client("cloudwatch", config=CONFIG)
refused("InvalidSignatureException", stranger.list_metrics)


# By hand: without a signature, and what is no CBOR.
def raw(path, body, **headers):
    headers = {"smithy-protocol": CBOR.removeprefix("smithy-"), "Content-Type": "application/cbor", "Accept": "application/cbor", **headers}
    request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"] + path, body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def text(value):
    return bytes([0x60 + len(value)]) + value.encode() if len(value) < 24 else bytes([0x78, len(value)]) + value.encode()


LIST = "/service/GraniteServiceVersion20100801/operation/ListMetrics"
status, headers, body = raw(LIST, b"\xa0")
equal((status, headers["Content-Type"], headers["smithy-protocol"]), (400, "application/cbor", "rpc-v2-cbor"))
assert text("__type") + text("MissingAuthenticationTokenException") in body, body
status, headers, body = raw("/service/GraniteServiceVersion20100801/operation/FlyToTheMoon", b"\xa0")
assert status == 400 and text("UnknownOperationException") in body, (status, body)
status, headers, body = raw("/service/Nobody/operation/ListMetrics", b"\xa0")
assert status == 400 and text("UnknownOperationException") in body, (status, body)
