"""Terraform's AWS provider, call by call: what it says when it creates, everything that it reads then and at the next plan, and
its order of destruction. Each read gives the same twice, and whatever was given comes back: else a second plan would not be empty.

Usage: terraform.py PROGRAM FOLDER; the folder has two certificates with their keys, one and two.
"""
import sys

from common import client, equal, eventually, refused, without

PROGRAM, FOLDER = sys.argv[1:3]
ec2, elb, ecs, names, r53 = (client(name) for name in ("ec2", "elbv2", "ecs", "servicediscovery", "route53"))
scaling, logs, cloudwatch = (client(name) for name in ("application-autoscaling", "logs", "cloudwatch"))
acm, iam = client("acm"), client("iam")
TAGS = [{"Key": "made-by", "Value": "terraform"}]
LOWER = [{"key": "made-by", "value": "terraform"}]
ACCOUNT = "local:000000000000:"


def twice(function, **parameters):
    first = without(function(**parameters))
    equal(without(function(**parameters)), first)
    return first


def holds(found, given):
    """What was given is there; of lists and members that were not given nothing is said."""
    equal({name: found.get(name) for name in given}, given)


def attributes(function, **parameters):
    return {one["Key"]: one["Value"] for one in twice(function, **parameters)["Attributes"]}


def set_all(function, wanted, **parameters):
    function(**parameters, Attributes=[{"Key": key, "Value": value} for key, value in wanted.items()])


# aws_vpc, aws_subnet, aws_security_group and its rules; the data sources read the same.
vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16", InstanceTenancy="default", AmazonProvidedIpv6CidrBlock=False,
                     TagSpecifications=[{"ResourceType": "vpc", "Tags": TAGS}])["Vpc"]["VpcId"]
ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
(found,) = twice(ec2.describe_vpcs, VpcIds=[vpc])["Vpcs"]
holds(found, {"CidrBlock": "10.9.0.0/16", "InstanceTenancy": "default", "State": "available", "Tags": TAGS})
for name, value in [("enableDnsSupport", True), ("enableDnsHostnames", True), ("enableNetworkAddressUsageMetrics", False)]:
    found = twice(ec2.describe_vpc_attribute, VpcId=vpc, Attribute=name)
    equal(found[name[0].upper() + name[1:]], {"Value": value})
of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
equal(len(twice(ec2.describe_route_tables, Filters=[{"Name": "association.main", "Values": ["true"]}, *of_vpc])["RouteTables"]), 1)
equal(len(twice(ec2.describe_network_acls, Filters=[{"Name": "default", "Values": ["true"]}, *of_vpc])["NetworkAcls"]), 1)
equal(len(twice(ec2.describe_security_groups, Filters=[{"Name": "group-name", "Values": ["default"]}, *of_vpc])["SecurityGroups"]), 1)
subnets = []
for index, zone in enumerate(["locala", "localb"]):
    made = ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{index}.0/24", AvailabilityZone=zone,
                             TagSpecifications=[{"ResourceType": "subnet", "Tags": TAGS}])["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=made, MapPublicIpOnLaunch={"Value": True})
    (found,) = twice(ec2.describe_subnets, SubnetIds=[made])["Subnets"]
    holds(found, {"CidrBlock": f"10.9.{index}.0/24", "AvailabilityZone": zone, "MapPublicIpOnLaunch": True, "Tags": TAGS})
    subnets.append(made)
group = ec2.create_security_group(GroupName="tf", Description="Managed by Terraform", VpcId=vpc,
                                  TagSpecifications=[{"ResourceType": "security-group", "Tags": TAGS}])["GroupId"]
everyone = {"IpProtocol": "-1", "FromPort": 0, "ToPort": 0, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[everyone])
refused("InvalidPermission.NotFound", ec2.revoke_security_group_egress, GroupId=group, IpPermissions=[
    {"IpProtocol": "-1", "FromPort": 0, "ToPort": 0, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}])
web = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "web"}]}
ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[web])
ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[everyone])
(found,) = twice(ec2.describe_security_groups, GroupIds=[group])["SecurityGroups"]
holds(found, {"GroupName": "tf", "Description": "Managed by Terraform", "VpcId": vpc, "Tags": TAGS})
holds(found["IpPermissions"][0], web)
equal(found["IpPermissionsEgress"][0]["IpRanges"], everyone["IpRanges"])

# aws_lb of both kinds.
BALANCERS = {
    "application": {
        "access_logs.s3.enabled": "false", "connection_logs.s3.enabled": "false", "health_check_logs.s3.enabled": "false",
        "idle_timeout.timeout_seconds": "60", "routing.http2.enabled": "true", "client_keep_alive.seconds": "3600",
        "routing.http.drop_invalid_header_fields.enabled": "false", "routing.http.preserve_host_header.enabled": "false",
        "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": "false", "routing.http.xff_client_port.enabled": "false",
        "routing.http.xff_header_processing.mode": "append", "routing.http.desync_mitigation_mode": "defensive",
        "waf.fail_open.enabled": "false", "zonal_shift.config.enabled": "false", "deletion_protection.enabled": "false"},
    "network": {
        "access_logs.s3.enabled": "false", "load_balancing.cross_zone.enabled": "false", "zonal_shift.config.enabled": "false",
        "dns_record.client_routing_policy": "any_availability_zone", "deletion_protection.enabled": "false",
        "secondary_ips.auto_assigned.per_subnet": "0"},
}
balancers = {}
for kind, wanted in BALANCERS.items():
    more = {"SecurityGroups": [group]} if kind == "application" else {}
    made = elb.create_load_balancer(Name=f"tf-{kind}", Type=kind, Scheme="internal", Subnets=subnets, IpAddressType="ipv4", Tags=TAGS, **more)
    arn = made["LoadBalancers"][0]["LoadBalancerArn"]
    elb.get_waiter("load_balancer_available").wait(LoadBalancerArns=[arn])
    set_all(elb.modify_load_balancer_attributes, wanted, LoadBalancerArn=arn)
    (found,) = twice(elb.describe_load_balancers, LoadBalancerArns=[arn])["LoadBalancers"]
    holds(found, {"LoadBalancerName": f"tf-{kind}", "Type": kind, "Scheme": "internal", "VpcId": vpc, "IpAddressType": "ipv4", **more})
    equal([zone["SubnetId"] for zone in found["AvailabilityZones"]], subnets)
    holds(attributes(elb.describe_load_balancer_attributes, LoadBalancerArn=arn), wanted)
    equal(twice(elb.describe_capacity_reservation, LoadBalancerArn=arn)["CapacityReservationState"], [])
    equal(twice(elb.describe_tags, ResourceArns=[arn])["TagDescriptions"], [{"ResourceArn": arn, "Tags": TAGS}])
    balancers[kind] = found
LB, NLB = (balancers[kind]["LoadBalancerArn"] for kind in BALANCERS)

# aws_lb_target_group of both kinds, aws_lb_target_group_attachment.
HEALTH = {
    "HealthCheckEnabled": True, "HealthCheckIntervalSeconds": 30, "HealthCheckPort": "traffic-port", "HealthyThresholdCount": 3,
    "UnhealthyThresholdCount": 3, "IpAddressType": "ipv4", "TargetType": "ip", "VpcId": vpc}
UNHEALTHY = {
    f"target_group_health.{what}.minimum_healthy_targets.{unit}": value for what in ("dns_failover", "unhealthy_state_routing")
    for unit, value in (("count", "1"), ("percentage", "off"))}
GROUPS = [
    ({**HEALTH, "Name": "tf-http", "Protocol": "HTTP", "Port": 80, "ProtocolVersion": "HTTP1", "HealthCheckProtocol": "HTTP",
      "HealthCheckPath": "/health", "Matcher": {"HttpCode": "200-299"}, "HealthCheckTimeoutSeconds": 5},
     {"deregistration_delay.timeout_seconds": "5", "load_balancing.algorithm.type": "round_robin", "slow_start.duration_seconds": "0",
      "load_balancing.cross_zone.enabled": "use_load_balancer_configuration", "stickiness.enabled": "false",
      "stickiness.type": "lb_cookie", "stickiness.lb_cookie.duration_seconds": "86400", **UNHEALTHY}),
    ({**HEALTH, "Name": "tf-tcp", "Protocol": "TCP", "Port": 80, "HealthCheckProtocol": "TCP", "HealthCheckTimeoutSeconds": 10},
     {"deregistration_delay.connection_termination.enabled": "false", "deregistration_delay.timeout_seconds": "5",
      "load_balancing.cross_zone.enabled": "use_load_balancer_configuration", "proxy_protocol_v2.enabled": "false",
      "stickiness.enabled": "false", "stickiness.type": "source_ip"}),
]
groups = []
for given, wanted in GROUPS:
    arn = elb.create_target_group(**given, Tags=TAGS)["TargetGroups"][0]["TargetGroupArn"]
    set_all(elb.modify_target_group_attributes, wanted, TargetGroupArn=arn)
    (found,) = twice(elb.describe_target_groups, TargetGroupArns=[arn])["TargetGroups"]
    holds(found, {name if name != "Name" else "TargetGroupName": value for name, value in given.items()})
    holds(attributes(elb.describe_target_group_attributes, TargetGroupArn=arn), wanted)
    equal(twice(elb.describe_tags, ResourceArns=[arn])["TagDescriptions"][0]["Tags"], TAGS)
    groups.append(arn)
HTTP, TCP = groups
target = {"Id": "127.0.0.1", "Port": 9}
elb.register_targets(TargetGroupArn=TCP, Targets=[target])
(found,) = elb.describe_target_health(TargetGroupArn=TCP, Targets=[target])["TargetHealthDescriptions"]
equal((found["Target"], found["TargetHealth"]["Reason"]), (target, "Target.NotInUse"))

# aws_lb_listener with each kind of default action, aws_lb_listener_rule.
forward = {"Type": "forward", "Order": 1, "TargetGroupArn": HTTP}
REDIRECT = {"Protocol": "HTTPS", "Port": "443", "Host": "#{host}", "Path": "/#{path}", "Query": "#{query}", "StatusCode": "HTTP_301"}
FIXED = {"StatusCode": "404", "ContentType": "text/plain", "MessageBody": "nothing"}
listeners = []
for balancer, protocol, port, action in [
    (LB, "HTTP", 8080, forward),
    (LB, "HTTP", 8081, {"Type": "redirect", "Order": 1, "RedirectConfig": REDIRECT}),
    (LB, "HTTP", 8082, {"Type": "fixed-response", "Order": 1, "FixedResponseConfig": FIXED}),
    (NLB, "TCP", 8083, {**forward, "TargetGroupArn": TCP}),
]:
    made = elb.create_listener(LoadBalancerArn=balancer, Port=port, Protocol=protocol, DefaultActions=[action], Tags=TAGS)
    arn = made["Listeners"][0]["ListenerArn"]
    wanted = {"routing.http.response.server.enabled": "true"} if protocol == "HTTP" else {"tcp.idle_timeout.seconds": "350"}
    set_all(elb.modify_listener_attributes, wanted, ListenerArn=arn)
    (found,) = twice(elb.describe_listeners, ListenerArns=[arn])["Listeners"]
    holds(found, {"LoadBalancerArn": balancer, "Port": port, "Protocol": protocol})
    holds(found["DefaultActions"][0], action)
    holds(attributes(elb.describe_listener_attributes, ListenerArn=arn), wanted)
    equal(twice(elb.describe_tags, ResourceArns=[arn])["TagDescriptions"][0]["Tags"], TAGS)
    listeners.append(arn)
# aws_acm_certificate, aws_iam_server_certificate, an HTTPS listener with both, aws_lb_listener_certificate.
one, two = ([open(f"{FOLDER}/{name}.{end}", encoding="utf-8").read() for end in ("pem", "key")] for name in ("one", "two"))
ONE = acm.import_certificate(Certificate=one[0], PrivateKey=one[1], Tags=TAGS)["CertificateArn"]
found = twice(acm.describe_certificate, CertificateArn=ONE)["Certificate"]
holds(found, {"CertificateArn": ONE, "Status": "ISSUED", "Type": "IMPORTED"})
equal(twice(acm.list_tags_for_certificate, CertificateArn=ONE)["Tags"], TAGS)
listed = twice(acm.list_certificates, CertificateStatuses=["ISSUED"], Includes={"keyTypes": ["RSA_2048", "EC_prime256v1"]})
equal([row["CertificateArn"] for row in listed["CertificateSummaryList"]], [ONE])
equal(twice(acm.get_certificate, CertificateArn=ONE)["Certificate"].strip(), one[0].strip())
made = iam.upload_server_certificate(ServerCertificateName="tf", Path="/", CertificateBody=two[0], PrivateKey=two[1], Tags=TAGS)
TWO = made["ServerCertificateMetadata"]["Arn"]
found = twice(iam.get_server_certificate, ServerCertificateName="tf")["ServerCertificate"]
holds(found, {"Tags": TAGS})
holds(found["ServerCertificateMetadata"], {"Arn": TWO, "Path": "/", "ServerCertificateName": "tf"})
POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
made = elb.create_listener(LoadBalancerArn=LB, Port=8443, Protocol="HTTPS", SslPolicy=POLICY, Certificates=[{"CertificateArn": ONE}],
                           MutualAuthentication={"Mode": "off"}, DefaultActions=[forward], Tags=TAGS)
SECURE = made["Listeners"][0]["ListenerArn"]
(found,) = twice(elb.describe_listeners, ListenerArns=[SECURE])["Listeners"]
holds(found, {"Protocol": "HTTPS", "SslPolicy": POLICY, "Certificates": [{"CertificateArn": ONE}], "MutualAuthentication": {"Mode": "off"}})
elb.add_listener_certificates(ListenerArn=SECURE, Certificates=[{"CertificateArn": TWO}])
shown = twice(elb.describe_listener_certificates, ListenerArn=SECURE)["Certificates"]
equal([(row["CertificateArn"], row["IsDefault"]) for row in shown], [(ONE, True), (TWO, False)])
twice(elb.describe_listener_attributes, ListenerArn=SECURE)

WEIGHTED = {"TargetGroups": [{"TargetGroupArn": HTTP, "Weight": 80}], "TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 600}}
CONDITIONS = [
    {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/app/*"]}},
    {"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com"]}},
    {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Kind", "Values": ["a"]}},
    {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "a", "Value": "b"}]}},
    {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}},
    {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}},
]
rules = []
for priority, condition in enumerate(CONDITIONS, 10):
    action = {"Type": "forward", "Order": 1, "ForwardConfig": WEIGHTED}
    made = elb.create_rule(ListenerArn=listeners[0], Priority=priority, Actions=[action], Conditions=[condition], Tags=TAGS)
    arn = made["Rules"][0]["RuleArn"]
    (found,) = twice(elb.describe_rules, RuleArns=[arn])["Rules"]
    equal((found["Priority"], found["Actions"][0]["ForwardConfig"]), (str(priority), WEIGHTED))
    holds(found["Conditions"][0], condition)
    equal(twice(elb.describe_tags, ResourceArns=[arn])["TagDescriptions"][0]["Tags"], TAGS)
    rules.append(arn)

# aws_service_discovery_private_dns_namespace and _service.
made = names.create_private_dns_namespace(Name="tf.internal", Vpc=vpc, CreatorRequestId="terraform-1", Description="d", Tags=TAGS)
operation = twice(names.get_operation, OperationId=made["OperationId"])["Operation"]
equal(operation["Status"], "SUCCESS")
NAMESPACE = operation["Targets"]["NAMESPACE"]
found = twice(names.get_namespace, Id=NAMESPACE)["Namespace"]
holds(found, {"Name": "tf.internal", "Description": "d", "Type": "DNS_PRIVATE"})
equal(twice(names.list_tags_for_resource, ResourceARN=found["Arn"])["Tags"], TAGS)
DNS = {"RoutingPolicy": "MULTIVALUE", "DnsRecords": [{"Type": "A", "TTL": 10}], "NamespaceId": NAMESPACE}
registry = names.create_service(Name="web", CreatorRequestId="terraform-2", DnsConfig=DNS, HealthCheckCustomConfig={"FailureThreshold": 1}, Tags=TAGS)["Service"]
found = twice(names.get_service, Id=registry["Id"])["Service"]
holds(found, {"Name": "web", "DnsConfig": DNS, "HealthCheckCustomConfig": {"FailureThreshold": 1}, "Type": "DNS_HTTP"})
equal(twice(names.list_tags_for_resource, ResourceARN=registry["Arn"])["Tags"], TAGS)

# aws_route53_zone, aws_route53_record: an alias, weighted, a wildcard.
CONFIG = {"Comment": "Managed by Terraform", "PrivateZone": True}
made = r53.create_hosted_zone(Name="tfz.internal", CallerReference="terraform-3", HostedZoneConfig={"Comment": CONFIG["Comment"]},
                              VPC={"VPCRegion": "us-east-1", "VPCId": vpc})
ZONE = made["HostedZone"]["Id"].split("/")[-1]
equal(r53.get_change(Id=made["ChangeInfo"]["Id"].split("/")[-1])["ChangeInfo"]["Status"], "INSYNC")
r53.change_tags_for_resource(ResourceType="hostedzone", ResourceId=ZONE, AddTags=TAGS)
found = twice(r53.get_hosted_zone, Id=ZONE)
equal((found["HostedZone"]["Name"], found["HostedZone"]["Config"], found["VPCs"]), ("tfz.internal.", CONFIG, [{"VPCRegion": "us-east-1", "VPCId": vpc}]))
equal(twice(r53.list_tags_for_resource, ResourceType="hostedzone", ResourceId=ZONE)["ResourceTagSet"]["Tags"], TAGS)
servers = twice(r53.list_resource_record_sets, HostedZoneId=ZONE, StartRecordName="tfz.internal", StartRecordType="NS", MaxItems="1")
equal(servers["ResourceRecordSets"][0]["Type"], "NS")
alias = {"DNSName": balancers["application"]["DNSName"], "HostedZoneId": balancers["application"]["CanonicalHostedZoneId"], "EvaluateTargetHealth": True}
address = [{"Value": "10.0.0.1"}]
RECORDS = [
    {"Name": "www.tfz.internal", "Type": "A", "AliasTarget": alias},
    {"Name": "w.tfz.internal", "Type": "A", "SetIdentifier": "one", "Weight": 90, "TTL": 60, "ResourceRecords": address},
    {"Name": "w.tfz.internal", "Type": "A", "SetIdentifier": "two", "Weight": 10, "TTL": 60, "ResourceRecords": address},
    {"Name": "*.tfz.internal", "Type": "TXT", "TTL": 60, "ResourceRecords": [{"Value": '"a b"'}]},
]


def change(action, record):
    changes = [{"Action": action, "ResourceRecordSet": record}]
    made = r53.change_resource_record_sets(HostedZoneId=ZONE, ChangeBatch={"Comment": "Managed by Terraform", "Changes": changes})
    eventually(lambda: r53.get_change(Id=made["ChangeInfo"]["Id"].split("/")[-1])["ChangeInfo"]["Status"] == "INSYNC", "the change")


def as_shown(record):
    more = {"AliasTarget": {**record["AliasTarget"], "DNSName": record["AliasTarget"]["DNSName"] + "."}} if "AliasTarget" in record else {}
    return {**record, "Name": record["Name"].replace("*", "\\052") + ".", **more}


for record in RECORDS:
    change("CREATE", record)
    start = {"StartRecordName": record["Name"], "StartRecordType": record["Type"]}
    found = twice(r53.list_resource_record_sets, HostedZoneId=ZONE, MaxItems="100", **start)["ResourceRecordSets"]
    assert as_shown(record) in found, (as_shown(record), found)

# aws_cloudwatch_log_group.
logs.create_log_group(logGroupName="/ecs/tf", logGroupClass="STANDARD", tags={"made-by": "terraform"})
logs.put_retention_policy(logGroupName="/ecs/tf", retentionInDays=7)
(found,) = twice(logs.describe_log_groups, logGroupNamePrefix="/ecs/tf")["logGroups"]
holds(found, {"logGroupName": "/ecs/tf", "retentionInDays": 7, "logGroupClass": "STANDARD"})
equal(twice(logs.list_tags_for_resource, resourceArn=f"arn:aws:logs:{ACCOUNT}log-group:/ecs/tf")["tags"], {"made-by": "terraform"})

# aws_ecs_cluster, _cluster_capacity_providers, _task_definition, _service with a load balancer and a registry.
SETTINGS = [{"name": "containerInsights", "value": "enabled"}]
EXEC = {"executeCommandConfiguration": {"logging": "DEFAULT"}}
ecs.create_cluster(clusterName="tf", settings=SETTINGS, configuration=EXEC, tags=LOWER)
ecs.put_cluster_capacity_providers(cluster="tf", capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[])
(found,) = twice(ecs.describe_clusters, clusters=[f"arn:aws:ecs:{ACCOUNT}cluster/tf"], include=["CONFIGURATIONS", "SETTINGS", "TAGS"])["clusters"]
holds(found, {"clusterName": "tf", "status": "ACTIVE", "settings": SETTINGS, "configuration": EXEC, "tags": LOWER, "capacityProviders": ["FARGATE"]})
CONTAINER = {
    "name": "web", "command": [PROGRAM, "whoami"], "essential": True, "memory": 64, "stopTimeout": 5,
    "environment": [{"name": "A", "value": "1"}], "portMappings": [{"containerPort": 8080, "protocol": "tcp"}]}
made = ecs.register_task_definition(family="tf", containerDefinitions=[CONTAINER], requiresCompatibilities=["EC2"], tags=LOWER)
DEFINITION = made["taskDefinition"]["taskDefinitionArn"]
found = twice(ecs.describe_task_definition, taskDefinition=DEFINITION, include=["TAGS"])
holds(found["taskDefinition"]["containerDefinitions"][0], {name: value for name, value in CONTAINER.items() if name != "portMappings"})
equal((found["tags"], found["taskDefinition"]["requiresCompatibilities"]), (LOWER, ["EC2"]))
SERVICE = {
    "serviceName": "web", "desiredCount": 1, "launchType": "EC2", "schedulingStrategy": "REPLICA", "enableECSManagedTags": True,
    "enableExecuteCommand": True, "propagateTags": "SERVICE", "availabilityZoneRebalancing": "DISABLED",
    "deploymentController": {"type": "ECS"}, "healthCheckGracePeriodSeconds": 30,
    "loadBalancers": [{"targetGroupArn": HTTP, "containerName": "web", "containerPort": 8080}],
    "placementStrategy": [{"type": "spread", "field": "instanceId"}], "serviceRegistries": [{"registryArn": registry["Arn"]}]}
DEPLOYMENT = {"maximumPercent": 200, "minimumHealthyPercent": 50, "deploymentCircuitBreaker": {"enable": True, "rollback": True}}
ecs.create_service(cluster="tf", taskDefinition=DEFINITION, deploymentConfiguration=DEPLOYMENT, tags=LOWER, clientToken="terraform-4", **SERVICE)
ecs.get_waiter("services_stable").wait(cluster="tf", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
(found,) = twice(ecs.describe_services, cluster="tf", services=["web"], include=["TAGS"])["services"]
holds(found, {**SERVICE, "taskDefinition": DEFINITION, "tags": LOWER})
holds(found["deploymentConfiguration"], DEPLOYMENT)

# aws_appautoscaling_target, _policy, _scheduled_action; aws_cloudwatch_metric_alarm.
WHICH = {"ServiceNamespace": "ecs", "ResourceId": "service/tf/web", "ScalableDimension": "ecs:service:DesiredCount"}
arn = scaling.register_scalable_target(**WHICH, MinCapacity=1, MaxCapacity=2, Tags={"made-by": "terraform"})["ScalableTargetARN"]
(found,) = twice(scaling.describe_scalable_targets, ServiceNamespace="ecs", ResourceIds=["service/tf/web"], ScalableDimension=WHICH["ScalableDimension"])["ScalableTargets"]
holds(found, {**WHICH, "MinCapacity": 1, "MaxCapacity": 2, "ScalableTargetARN": arn})
equal(twice(scaling.list_tags_for_resource, ResourceARN=arn)["Tags"], {"made-by": "terraform"})
TRACK = {
    "TargetValue": 75.0, "ScaleInCooldown": 60, "ScaleOutCooldown": 60, "DisableScaleIn": False,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}}
STEP = {
    "AdjustmentType": "ChangeInCapacity", "Cooldown": 60, "MetricAggregationType": "Maximum",
    "StepAdjustments": [{"MetricIntervalUpperBound": 0.0, "ScalingAdjustment": -1}]}
for name, kind, given in [("track", "TargetTrackingScaling", TRACK), ("step", "StepScaling", STEP)]:
    policy = scaling.put_scaling_policy(**WHICH, PolicyName=name, PolicyType=kind, **{f"{kind}PolicyConfiguration": given})["PolicyARN"]
    (found,) = twice(scaling.describe_scaling_policies, **WHICH, PolicyNames=[name])["ScalingPolicies"]
    holds(found, {"PolicyARN": policy, "PolicyType": kind, f"{kind}PolicyConfiguration": given})
ACTION = {"Schedule": "cron(0 3 * * ? *)", "Timezone": "Europe/Berlin", "ScalableTargetAction": {"MinCapacity": 1, "MaxCapacity": 1}}
scaling.put_scheduled_action(**WHICH, ScheduledActionName="night", **ACTION)
(found,) = twice(scaling.describe_scheduled_actions, **WHICH, ScheduledActionNames=["night"])["ScheduledActions"]
holds(found, ACTION)
ALARM = {
    "AlarmName": "tf", "AlarmDescription": "", "ActionsEnabled": True, "AlarmActions": [policy], "OKActions": [],
    "InsufficientDataActions": [], "ComparisonOperator": "GreaterThanOrEqualToThreshold", "EvaluationPeriods": 2, "Period": 60,
    "MetricName": "CPUUtilization", "Namespace": "AWS/ECS", "Statistic": "Average", "Threshold": 1000.0, "TreatMissingData": "missing",
    "Dimensions": [{"Name": "ClusterName", "Value": "tf"}, {"Name": "ServiceName", "Value": "web"}]}
cloudwatch.put_metric_alarm(**ALARM, Tags=TAGS)
(found,) = cloudwatch.describe_alarms(AlarmNames=["tf"], AlarmTypes=["MetricAlarm"])["MetricAlarms"]
holds(found, ALARM)
assert not {"DatapointsToAlarm", "Unit", "Metrics"} & set(found), found
equal(twice(cloudwatch.list_tags_for_resource, ResourceARN=found["AlarmArn"])["Tags"], TAGS)

# Destroyed in the order of what depends on what.
cloudwatch.delete_alarms(AlarmNames=["tf"])
scaling.delete_scheduled_action(**WHICH, ScheduledActionName="night")
for name in ("track", "step"):
    scaling.delete_scaling_policy(**WHICH, PolicyName=name)
scaling.deregister_scalable_target(**WHICH)
equal(scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"], [])
ecs.update_service(cluster="tf", service="web", desiredCount=0)
ecs.delete_service(cluster="tf", service="web")
ecs.get_waiter("services_inactive").wait(cluster="tf", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
ecs.deregister_task_definition(taskDefinition=DEFINITION)
ecs.put_cluster_capacity_providers(cluster="tf", capacityProviders=[], defaultCapacityProviderStrategy=[])
ecs.delete_cluster(cluster="tf")
logs.delete_log_group(logGroupName="/ecs/tf")
for record in RECORDS:
    change("DELETE", record)
# It looks whether the zone is signed.
refused("InvalidArgument", r53.get_dnssec, HostedZoneId=ZONE, says="Operation is unsupported for private hosted zones")
r53.delete_hosted_zone(Id=ZONE)
refused("NoSuchHostedZone", r53.get_hosted_zone, Id=ZONE)
eventually(lambda: names.list_instances(ServiceId=registry["Id"])["Instances"] == [], "no task is registered any more")
names.delete_service(Id=registry["Id"])
operation = names.delete_namespace(Id=NAMESPACE)["OperationId"]
equal(names.get_operation(OperationId=operation)["Operation"]["Status"], "SUCCESS")
for arn in rules:
    elb.delete_rule(RuleArn=arn)
elb.remove_listener_certificates(ListenerArn=SECURE, Certificates=[{"CertificateArn": TWO}])
for arn in [*listeners, SECURE]:
    elb.delete_listener(ListenerArn=arn)
    refused("ListenerNotFound", elb.describe_listeners, ListenerArns=[arn])
elb.deregister_targets(TargetGroupArn=TCP, Targets=[target])
for arn in groups:
    elb.delete_target_group(TargetGroupArn=arn)
for arn in (LB, NLB):
    elb.delete_load_balancer(LoadBalancerArn=arn)
    elb.get_waiter("load_balancers_deleted").wait(LoadBalancerArns=[arn])
    # It waits until the interfaces are gone.
    about = [{"Name": "attachment.instance-owner-id", "Values": ["amazon-elb"]}, {"Name": "description", "Values": ["ELB " + arn.split("loadbalancer/")[1]]}]
    equal(ec2.describe_network_interfaces(Filters=about)["NetworkInterfaces"], [])
acm.delete_certificate(CertificateArn=ONE)
refused("ResourceNotFoundException", acm.describe_certificate, CertificateArn=ONE)
iam.delete_server_certificate(ServerCertificateName="tf")
refused("NoSuchEntity", iam.get_server_certificate, ServerCertificateName="tf")
ec2.delete_security_group(GroupId=group)
for made in subnets:
    ec2.delete_subnet(SubnetId=made)
ec2.delete_vpc(VpcId=vpc)
refused("InvalidVpcID.NotFound", ec2.describe_vpcs, VpcIds=[vpc])
