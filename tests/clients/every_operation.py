"""Every operation that is served, three ways: called with success by some script of this folder, refused when it is broken, and refused, or
answered with nothing, when what it names is not there.

The operations are those of the models that the endpoint has, so a new one fails here until it is in these tables.
"""
import json
import pathlib
import re

from botocore import xform_name
from botocore.exceptions import ClientError

from common import client

HERE = pathlib.Path(__file__).parent
MODELS = HERE.parent.parent / "src/api/models"
ID = "0123456789abcdef"
ACM, ELB, ECS = (f"arn:aws:{name}:local:000000000000:" for name in ("acm", "elasticloadbalancing", "ecs"))
FIXED = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]
LB, LISTENER, RULE = (ELB + kind for kind in (
    f"loadbalancer/app/gone/{ID}", f"listener/app/gone/{ID}/{ID}", f"listener-rule/app/gone/{ID}/{ID}/{ID}"))

#: Members of every operation of a service: names of what is not there, in the service's grammar.
VALUES = {
    "acm": {"CertificateArn": ACM + "certificate/12345678-1234-1234-1234-123456789012"},
    "application-autoscaling": {
        "ServiceNamespace": "ecs", "ResourceId": "service/default/gone", "ScalableDimension": "ecs:service:DesiredCount",
        "ResourceARN": "arn:aws:application-autoscaling:local:000000000000:scalable-target/gone",
    },
    "cloudwatch": {
        "ResourceARN": "arn:aws:cloudwatch:local:000000000000:alarm:gone", "AlarmNames": ["gone", "gone too"], "StateValue": "OK",
        "StartTime": 1_700_000_000, "EndTime": 1_700_000_060, "Statistics": ["Sum"], "Period": 60,
    },
    "ec2": {
        "VpcId": "vpc-0", "VpcIds": ["vpc-0"], "SubnetId": "subnet-0", "SubnetIds": ["subnet-0"], "GroupId": "sg-0", "GroupIds": ["sg-0"],
        "Resources": ["vpc-0"], "ZoneNames": ["gone"], "RegionNames": ["gone"], "RouteTableIds": ["rtb-0"], "NetworkAclIds": ["acl-0"],
        "SecurityGroupRuleIds": ["sgr-0"], "CidrBlock": "10.0.0.0/24", "Tags": [{"Key": "a", "Value": "b"}],
    },
    "ecs": {
        "cluster": "gone", "clusters": ["gone"], "resourceArn": ECS + "cluster/gone", "taskDefinition": "gone:1",
        "taskDefinitions": ["gone:1"], "tags": [{"key": "a", "value": "b"}], "scale": {"value": 1.0, "unit": "PERCENT"},
        "serviceDeploymentArn": ECS + "service-deployment/gone/gone/1", "serviceDeploymentArns": [ECS + "service-deployment/gone/gone/1"],
        "serviceRevisionArns": [ECS + "service-revision/gone/gone/1"], "settings": [{"name": "containerInsights", "value": "enabled"}],
        "namespace": "gone",
    },
    "elbv2": {
        "LoadBalancerArn": LB, "ListenerArn": LISTENER, "RuleArn": RULE, "TargetGroupArn": ELB + f"targetgroup/gone/{ID}",
        "TrustStoreArn": ELB + f"truststore/gone/{ID}", "ResourceArns": [LB], "Names": ["gone"], "Actions": FIXED, "DefaultActions": FIXED,
        "Conditions": [{"Field": "path-pattern", "Values": ["/x"]}], "Certificates": [{"CertificateArn": ACM + "certificate/gone"}],
        "Targets": [{"Id": "127.0.0.1", "Port": 1}], "Subnets": ["subnet-0"], "SecurityGroups": ["sg-0"], "IpAddressType": "ipv4",
        "RulePriorities": [{"RuleArn": RULE, "Priority": 1}],
    },
    "iam": {"ServerCertificateName": "gone"},
    "logs": {
        "resourceArn": "arn:aws:logs:local:000000000000:log-group:gone", "logGroupName": "gone", "tags": {"a": "b"}, "tagKeys": ["a"],
        "retentionInDays": 7,
    },
    "route53": {
        "HostedZoneId": "Z0", "Id": "Z0", "ResourceType": "healthcheck", "VPC": {"VPCRegion": "us-east-1", "VPCId": "vpc-0"},
        "VPCRegion": "us-east-1", "VPCId": "vpc-0", "RecordName": "a.gone", "RecordType": "A",
        "ChangeBatch": {"Changes": [{"Action": "CREATE", "ResourceRecordSet": {
            "Name": "a.test", "Type": "A", "TTL": 1, "ResourceRecords": [{"Value": "10.0.0.1"}]}}]},
    },
    "servicediscovery": {
        "ResourceARN": "arn:aws:servicediscovery:local:000000000000:service/srv-gone", "Id": "srv-gone", "ServiceId": "srv-gone",
        "NamespaceId": "ns-gone",
    },
    "sts": {},
}
#: Members beside the required ones by which an operation names what is not there.
NAMED = {
    "VpcIds", "SubnetIds", "GroupId", "GroupIds", "RouteTableIds", "NetworkAclIds", "SecurityGroupRuleIds", "ZoneNames", "RegionNames",
    "AlarmNames", "cluster", "clusters", "Names", "LoadBalancerArn", "ListenerArn", "TargetGroupArn", "ResourceId", "ScalableDimension",
    "logGroupName", "NamespaceId", "taskDefinition",
}
#: What an operation is asked instead, where that does not do.
ASKED = {
    "GetMetricData": {"MetricDataQueries": [{"Id": "a", "MetricStat": {
        "Metric": {"Namespace": "gone", "MetricName": "gone"}, "Period": 60, "Stat": "Sum"}}]},
    "GetMetricStatistics": {"Statistics": ["Sum"]},
    **{f"AuthorizeSecurityGroup{way}": {"IpPermissions": [
        {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]} for way in ("Egress", "Ingress")},
    **{f"RevokeSecurityGroup{way}": {"SecurityGroupRuleIds": ["sgr-0"]} for way in ("Egress", "Ingress")},
    "CreateSubnet": {"CidrBlock": "10.0.0.0/24"},
    "CreateSecurityGroup": {"VpcId": "vpc-0"},
    "CreateService": {"desiredCount": 1},
    "DeleteCapacityProvider": {"cluster": None},
    "DescribeCapacityProviders": {"cluster": None, "capacityProviders": ["gone"]},
    "UpdateCapacityProvider": {"cluster": None, "autoScalingGroupProvider": {}},
    "PutClusterCapacityProviders": {"capacityProviders": [], "defaultCapacityProviderStrategy": []},
    "RunTask": {"cluster": None},
    "ModifyListenerAttributes": {"Attributes": [{"Key": "routing.http.response.server.enabled", "Value": "true"}]},
    "ModifyLoadBalancerAttributes": {"Attributes": [{"Key": "idle_timeout.timeout_seconds", "Value": "60"}]},
    "ModifyTargetGroupAttributes": {"Attributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "20"}]},
    "SetSubnets": {"Subnets": ["subnet-0"]},
    "DescribeSSLPolicies": {"Names": ["gone"]},
    "DescribeTargetGroups": {"LoadBalancerArn": None},
    "DescribeTrustStores": {"Names": ["gone"]},
}

OF_CLUSTER = """CreateService CreateTaskSet DeleteAttributes DeleteCluster DeleteService DeleteTaskSet DescribeContainerInstances DescribeServices
DescribeTaskSets DescribeTasks ExecuteCommand GetTaskProtection ListAttributes ListContainerInstances ListServiceDeployments ListServices
ListTagsForResource ListTasks PutAttributes PutClusterCapacityProviders StartTask StopTask TagResource UntagResource UpdateCluster
UpdateClusterSettings UpdateContainerInstancesState UpdateService UpdateServicePrimaryTaskSet UpdateTaskProtection UpdateTaskSet"""
OF_BALANCER = """AddTags CreateListener DescribeCapacityReservation DescribeListeners DescribeLoadBalancerAttributes DescribeLoadBalancers
DescribeTags ModifyLoadBalancerAttributes RemoveTags SetIpAddressType SetSecurityGroups SetSubnets"""
OF_LISTENER = """AddListenerCertificates CreateRule DeleteListener DescribeListenerAttributes DescribeListenerCertificates DescribeRules
ModifyListener ModifyListenerAttributes RemoveListenerCertificates"""
OF_GROUP = """DeregisterTargets DescribeTargetGroupAttributes DescribeTargetGroups DescribeTargetHealth ModifyTargetGroup
ModifyTargetGroupAttributes RegisterTargets"""
OF_STORE = """AddTrustStoreRevocations DeleteTrustStore DescribeTrustStoreAssociations DescribeTrustStoreRevocations DescribeTrustStores
GetTrustStoreCaCertificatesBundle GetTrustStoreRevocationContent ModifyTrustStore RemoveTrustStoreRevocations"""
OF_SERVICE = """DeleteService DeleteServiceAttributes DeregisterInstance GetInstance GetInstancesHealthStatus GetService GetServiceAttributes
ListInstances RegisterInstance UpdateInstanceCustomHealthStatus UpdateService UpdateServiceAttributes"""
#: By service: what is told of what is not there, and by which operations. Empty: an answer without it.
GONE = {
    "acm": {"ResourceNotFoundException": """AddTagsToCertificate DeleteCertificate DescribeCertificate GetCertificate ListTagsForCertificate
        RemoveTagsFromCertificate"""},
    "application-autoscaling": {
        "ObjectNotFoundException": "DeleteScalingPolicy DeleteScheduledAction DeregisterScalableTarget PutScalingPolicy PutScheduledAction",
        "ResourceNotFoundException": "ListTagsForResource TagResource UntagResource",
        "ValidationException": "RegisterScalableTarget",
        "": "DescribeScalableTargets DescribeScalingActivities DescribeScalingPolicies DescribeScheduledActions",
    },
    "cloudwatch": {
        "ResourceNotFound": "DeleteAlarms SetAlarmState",
        "ResourceNotFoundException": "ListTagsForResource TagResource UntagResource",
        "": "DescribeAlarms DisableAlarmActions EnableAlarmActions GetMetricData GetMetricStatistics",
    },
    "ec2": {
        "InvalidGroup.NotFound": """AuthorizeSecurityGroupEgress AuthorizeSecurityGroupIngress DeleteSecurityGroup DescribeSecurityGroups
            RevokeSecurityGroupEgress RevokeSecurityGroupIngress""",
        "InvalidNetworkAclID.NotFound": "DescribeNetworkAcls",
        "InvalidParameterValue": "DescribeRegions",
        "InvalidRouteTableID.NotFound": "DescribeRouteTables",
        "InvalidSecurityGroupRuleId.NotFound": "DescribeSecurityGroupRules",
        "InvalidSubnetID.NotFound": "DeleteSubnet DescribeSubnets ModifySubnetAttribute",
        "InvalidVpcID.NotFound": """CreateSecurityGroup CreateSubnet CreateTags DeleteTags DeleteVpc DescribeVpcAttribute DescribeVpcs
            ModifyVpcAttribute""",
        "": "DescribeAvailabilityZones DescribeNetworkInterfaces",
    },
    "ecs": {
        "ClientException": "DeleteCapacityProvider DeregisterTaskDefinition DescribeTaskDefinition RunTask UpdateCapacityProvider",
        "ClusterNotFoundException": OF_CLUSTER,
        "NamespaceNotFoundException": "ListServicesByNamespace",
        "ServiceDeploymentNotFoundException": "ContinueServiceDeployment StopServiceDeployment",
        "UnsupportedFeatureException": "DeregisterContainerInstance",
        "": "DeleteTaskDefinitions DescribeCapacityProviders DescribeClusters DescribeServiceDeployments DescribeServiceRevisions",
    },
    "elbv2": {
        "CaCertificatesBundleNotFound": "CreateTrustStore",
        "ListenerNotFound": OF_LISTENER,
        "LoadBalancerNotFound": OF_BALANCER,
        "RuleNotFound": "DeleteRule ModifyRule SetRulePriorities",
        "SSLPolicyNotFound": "DescribeSSLPolicies",
        "TargetGroupNotFound": OF_GROUP,
        "TrustStoreNotFound": OF_STORE,
        # Gone is what they were asked for.
        "": "DeleteLoadBalancer DeleteTargetGroup",
    },
    "iam": {"NoSuchEntity": """DeleteServerCertificate GetServerCertificate ListServerCertificateTags TagServerCertificate
        UntagServerCertificate UpdateServerCertificate"""},
    "logs": {"ResourceNotFoundException": """CreateLogStream DeleteLogGroup DeleteLogStream DeleteRetentionPolicy DescribeLogStreams
        FilterLogEvents GetLogEvents ListTagsForResource ListTagsLogGroup PutRetentionPolicy TagResource UntagResource"""},
    "route53": {
        "NoSuchChange": "GetChange",
        "NoSuchHealthCheck": """ChangeTagsForResource DeleteHealthCheck GetHealthCheck GetHealthCheckLastFailureReason GetHealthCheckStatus
            ListTagsForResource ListTagsForResources UpdateHealthCheck""",
        "NoSuchHostedZone": """AssociateVPCWithHostedZone ChangeResourceRecordSets DeleteHostedZone DisassociateVPCFromHostedZone GetDNSSEC
            GetHostedZone ListResourceRecordSets TestDNSAnswer UpdateHostedZoneComment""",
        "": "ListHostedZonesByVPC",
    },
    "servicediscovery": {
        "InvalidInput": "UpdatePublicDnsNamespace",
        "NamespaceNotFound": """CreateService DeleteNamespace DiscoverInstances DiscoverInstancesRevision GetNamespace UpdateHttpNamespace
            UpdatePrivateDnsNamespace""",
        "OperationNotFound": "GetOperation",
        "ResourceNotFoundException": "ListTagsForResource TagResource UntagResource",
        "ServiceNotFound": OF_SERVICE,
    },
    "sts": {},
}
#: They name nothing that has to be there.
ALONE = {
    "acm": "ImportCertificate ListCertificates RequestCertificate",
    "application-autoscaling": "",
    "cloudwatch": "ListMetrics PutMetricAlarm",
    "ec2": "CreateVpc DescribeTags",
    "ecs": """CreateCapacityProvider CreateCluster DeleteAccountSetting ListAccountSettings ListClusters ListTaskDefinitionFamilies
        ListTaskDefinitions PutAccountSetting PutAccountSettingDefault RegisterContainerInstance RegisterTaskDefinition""",
    "elbv2": "CreateLoadBalancer CreateTargetGroup DescribeAccountLimits",
    "iam": "ListServerCertificates UploadServerCertificate",
    "logs": "CreateLogGroup DescribeLogGroups",
    "route53": """CreateHealthCheck CreateHostedZone GetHealthCheckCount GetHostedZoneCount ListHealthChecks ListHostedZones
        ListHostedZonesByName""",
    "servicediscovery": "CreateHttpNamespace CreatePrivateDnsNamespace CreatePublicDnsNamespace ListNamespaces ListOperations ListServices",
    "sts": "GetCallerIdentity",
}
#: Known, and refused whatever they ask for.
NEVER = set("""CreateTaskSet DeleteTaskSet UpdateTaskSet UpdateServicePrimaryTaskSet DeregisterContainerInstance RegisterContainerInstance
PutAccountSettingDefault GetDNSSEC CreatePublicDnsNamespace UpdatePublicDnsNamespace RequestCertificate""".split())
#: Their models refuse nothing that a client can send.
PLAIN = {
    "ec2": """AuthorizeSecurityGroupIngress DeleteSecurityGroup DescribeAvailabilityZones DescribeRegions DescribeTags
        RevokeSecurityGroupIngress""",
    "ecs": "DescribeClusters",
    "route53": """ChangeTagsForResource DeleteHealthCheck DeleteHostedZone GetChange GetDNSSEC GetHealthCheck GetHealthCheckCount
        GetHealthCheckLastFailureReason GetHealthCheckStatus GetHostedZone GetHostedZoneCount ListTagsForResource""",
    "sts": "GetCallerIdentity",
}
#: What a model refuses is refused with one of these.
BROKEN = {
    "acm": {"ValidationException"}, "application-autoscaling": {"ValidationException"}, "cloudwatch": {"ValidationError"},
    "ec2": {"InvalidParameterValue"}, "ecs": {"InvalidParameterException", "SerializationException", "ClientException"},
    "elbv2": {"ValidationError"}, "iam": {"ValidationError"}, "logs": {"InvalidParameterException"}, "route53": {"InvalidInput"},
    "servicediscovery": {"InvalidInput"}, "sts": set(),
}


def filled(service, shape, name):
    """A value of the shape; names are of what is not there."""
    own, kind = VALUES[service], shape.type_name
    if name in own:
        return own[name]
    if getattr(shape, "enum", None):
        return shape.enum[0]
    if kind == "structure":
        return {member: filled(service, shape.members[member], member) for member in shape.required_members}
    if kind == "list":
        return [filled(service, shape.member, name)]
    if kind == "map":
        return {"gone": filled(service, shape.value, name)}
    plain = {"string": "gone", "float": 1.0, "double": 1.0, "boolean": True, "timestamp": 1_700_000_000, "blob": b"x"}
    return plain[kind] if kind in plain else max(1, int(shape.metadata.get("min", 1)))


def asked(service, operation, shape):
    members = filled(service, shape, operation) if shape else {}
    named = NAMED.intersection(shape.members if shape else ()).intersection(VALUES[service])
    if operation not in ALONE[service].split():
        members = {**members, **{name: VALUES[service][name] for name in named}}
    # Of two services' operations of one name, the other has no such members.
    own = {name: value for name, value in ASKED.get(operation, {}).items() if shape and name in shape.members}
    return {name: value for name, value in {**members, **own}.items() if value is not None}


def broken(shape, members, is_json):
    """The same without a required member, or with a value that the model refuses; none: it refuses nothing."""
    inside = {name: member for name, member in shape.members.items() if member.serialization.get("location") != "uri"} if shape else {}
    for name in shape.required_members if shape else ():
        if name in inside:
            return {own: value for own, value in members.items() if own != name}
    for name, member in inside.items():
        limits, kind = member.metadata, member.type_name
        if getattr(member, "enum", None):
            return {**members, name: "strange"}
        if kind in ("integer", "long") and "max" in limits:
            return {**members, name: int(limits["max"]) + 1}
        if kind in ("integer", "long") and "min" in limits:
            return {**members, name: int(limits["min"]) - 1}
        if kind == "string" and "max" in limits:
            return {**members, name: "x" * (int(limits["max"]) + 1)}
    strings = [name for name, member in inside.items() if member.type_name == "string" and is_json]
    return {**members, strings[0]: ["x"]} if strings else None


def code(function, members):
    """With which code it is refused; empty: it is not."""
    try:
        function(**members)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return ""


def succeeded():
    """Names of operations that some script calls outside of `refused`, as methods, by pagers or waiters, or by the stock command."""
    found = set()
    for script in HERE.glob("*.py"):
        if script.name != pathlib.Path(__file__).name:
            text = re.sub(r"refused\(\s*[^,]+,\s*[^,()]*(\([^()]*\))?[^,()]*", "", script.read_text())
            found.update(re.findall(r"\.(\w+)\b", text), re.findall(r'get_\w+\("(\w+)"', text))
            found.update(word.replace("-", "_") for word in re.findall(r'"([a-z0-9-]+)"', text))
    return found


problems, counts, called = [], {}, succeeded()
for path in sorted(MODELS.glob("*.json")):
    service, made = path.stem, client(path.stem)
    operations = set(json.loads(path.read_text())["operations"])
    told = {operation: what for what, names in GONE[service].items() for operation in names.split()}
    alone = set(ALONE[service].split())
    assert told.keys() | alone == operations, (service, (told.keys() | alone) ^ operations)
    assert not told.keys() & alone, (service, told.keys() & alone)
    for operation in sorted(operations):
        model = made.meta.service_model.operation_model(operation)
        function, shape = getattr(made, xform_name(operation)), model.input_shape
        members = asked(service, operation, shape)
        if operation in told and (found := code(function, members)) != told[operation]:
            problems.append(f"{service} {operation} {members}: {found or 'answered'} instead of {told[operation] or 'an answer'}")
        bad = broken(shape, members, model.service_model.metadata["protocol"] == "json")
        assert (bad is None) == (operation in PLAIN.get(service, "").split()), (service, operation, bad)
        if bad is not None and (found := code(function, bad)) not in BROKEN[service]:
            problems.append(f"{service} {operation} {bad}: {found or 'answered'} though its model refuses it")
        if operation not in NEVER and xform_name(operation) not in called:
            problems.append(f"{service} {operation}: no script calls it with success")
        counts[service] = [a + b for a, b in zip(counts.get(service, [0, 0, 0]), (1, operation in told, bad is not None))]
assert not problems, "\n".join(problems)
for service, (operations, told, bad) in counts.items():
    print(f"{service}: {operations} operations, {told} of what is not there, {bad} broken")
