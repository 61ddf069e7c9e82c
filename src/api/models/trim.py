"""Makes the trimmed copies of the public API models from botocore's (Apache-2.0, see NOTICE).

Usage: trim.py FOLDER; writes one FOLDER/SERVICE.json each: the operations served here and the shapes that they
reach, without documentation.
"""
import gzip
import json
import pathlib
import sys

import botocore

# Operations of a model that are not served; or, behind "only", the ones that are.
EXCEPT = {
    "ecs": """CreateDaemon DeleteDaemon DeleteDaemonTaskDefinition DescribeDaemon DescribeDaemonDeployments
        DescribeDaemonRevisions DescribeDaemonTaskDefinition DiscoverPollEndpoint ListDaemonDeployments
        ListDaemonTaskDefinitions ListDaemons RegisterDaemonTaskDefinition SubmitAttachmentStateChanges
        SubmitContainerStateChange SubmitTaskStateChange UpdateContainerAgent UpdateDaemon
        AssociateGatewayWithCluster CreateExpressGatewayService CreateGateway DeleteExpressGatewayService DeleteGateway
        DescribeExpressGatewayService DescribeGateway DescribeGatewayResources DescribeGatewayRoute
        DisassociateGatewayFromCluster ListGatewayClusterAssociations ListGatewayRoutes ListGateways
        UpdateExpressGatewayService UpdateGateway""",
    "elbv2": "DeleteSharedTrustStoreAssociation GetResourcePolicy ModifyCapacityReservation ModifyIpPools",
    "servicediscovery": "",
    "application-autoscaling": "GetPredictiveScalingForecast",
}
ONLY = {
    "route53": """AssociateVPCWithHostedZone ChangeResourceRecordSets ChangeTagsForResource CreateHealthCheck
        CreateHostedZone DeleteHealthCheck DeleteHostedZone DisassociateVPCFromHostedZone GetChange GetDNSSEC GetHealthCheck
        GetHealthCheckCount GetHealthCheckLastFailureReason GetHealthCheckStatus GetHostedZone GetHostedZoneCount
        ListHealthChecks ListHostedZones ListHostedZonesByName ListHostedZonesByVPC ListResourceRecordSets
        ListTagsForResource ListTagsForResources TestDNSAnswer UpdateHealthCheck UpdateHostedZoneComment""",
    "sts": "GetCallerIdentity",
    "cloudwatch": """DeleteAlarms DescribeAlarms DisableAlarmActions EnableAlarmActions GetMetricData
        GetMetricStatistics ListMetrics ListTagsForResource PutMetricAlarm SetAlarmState TagResource UntagResource""",
    "logs": """CreateLogGroup CreateLogStream DeleteLogGroup DeleteLogStream DeleteRetentionPolicy DescribeLogGroups
        DescribeLogStreams FilterLogEvents GetLogEvents ListTagsForResource ListTagsLogGroup PutRetentionPolicy
        TagResource UntagResource""",
    "acm": """AddTagsToCertificate DeleteCertificate DescribeCertificate GetCertificate ImportCertificate ListCertificates
        ListTagsForCertificate RemoveTagsFromCertificate RequestCertificate""",
    "iam": """DeleteServerCertificate GetServerCertificate ListServerCertificateTags ListServerCertificates
        TagServerCertificate UntagServerCertificate UpdateServerCertificate UploadServerCertificate""",
    "ec2": """AuthorizeSecurityGroupEgress AuthorizeSecurityGroupIngress CreateSecurityGroup CreateSubnet CreateTags
        CreateVpc DeleteSecurityGroup DeleteSubnet DeleteTags DeleteVpc DescribeAvailabilityZones
        DescribeNetworkAcls DescribeNetworkInterfaces DescribeRegions DescribeRouteTables DescribeSecurityGroupRules DescribeSecurityGroups DescribeSubnets DescribeTags
        DescribeVpcAttribute DescribeVpcs ModifySubnetAttribute ModifyVpcAttribute RevokeSecurityGroupEgress
        RevokeSecurityGroupIngress""",
}
KEPT = {
    "type", "members", "required", "member", "key", "value", "flattened", "locationName", "location", "enum", "min",
    "max", "pattern", "payload", "timestampFormat", "error", "exception", "xmlNamespace", "xmlAttribute", "queryName",
    "shape", "union", "sensitive", "code", "httpStatusCode", "senderFault", "uri", "prefix", "fault",
}


def bare(value, names=False):
    """Without what only documents; `names` says that the keys are names of members."""
    if isinstance(value, list):
        return [bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: bare(item, names=not names and key == "members")
        for key, item in value.items()
        if names or key in KEPT
    }


def reach(shapes, name, seen):
    if name in seen:
        return
    seen.add(name)
    shape = shapes[name]
    below = list(shape.get("members", {}).values())
    below += [shape[part] for part in ("member", "key", "value") if part in shape]
    for item in below:
        reach(shapes, item["shape"], seen)


def trim(service):
    root = pathlib.Path(botocore.__file__).parent / "data" / service
    newest = sorted(root.iterdir())[-1]
    with gzip.open(newest / "service-2.json.gz") as file:
        model = json.load(file)
    only = ONLY.get(service, " ".join(model["operations"])).split()
    kept = [name for name in sorted(only) if name not in EXCEPT.get(service, "").split()]
    operations, seen = {}, set()
    for name in kept:
        operation = model["operations"][name]
        parts = {}
        for part in ("input", "output"):
            if part in operation:
                parts[part] = {k: operation[part][k] for k in ("shape", "resultWrapper", "locationName", "xmlNamespace")
                               if k in operation[part]}
                reach(model["shapes"], operation[part]["shape"], seen)
        for error in operation.get("errors", []):
            reach(model["shapes"], error["shape"], seen)
        http = {key: operation["http"][key] for key in ("method", "requestUri")}
        if operation["http"].get("responseCode", 200) != 200:
            http["responseCode"] = operation["http"]["responseCode"]
        errors = [error["shape"] for error in operation.get("errors", [])]
        operations[name] = {"http": http, **parts, **({"errors": errors} if errors else {})}
        prefix = operation.get("endpoint", {}).get("hostPrefix")
        if prefix:
            operations[name]["hostPrefix"] = prefix
    metadata = {key: model["metadata"][key] for key in (
        "apiVersion", "endpointPrefix", "protocol", "protocols", "serviceId", "signingName", "targetPrefix",
        "jsonVersion", "xmlNamespace") if key in model["metadata"]}
    shapes = {name: bare(model["shapes"][name]) for name in sorted(seen)}
    return metadata, operations, shapes


def text(metadata, operations, shapes):
    def block(table):
        rows = (f"{json.dumps(name)}:{json.dumps(row, separators=(',', ':'), ensure_ascii=False)}"
                for name, row in table.items())
        return "{\n" + ",\n".join(rows) + "\n}"
    return (f'{{"metadata":{json.dumps(metadata, separators=(",", ":"))},\n"operations":{block(operations)},\n'
            f'"shapes":{block(shapes)}}}\n')


for service in [*EXCEPT, *ONLY]:
    pathlib.Path(sys.argv[1], f"{service}.json").write_text(text(*trim(service)), encoding="utf-8")
