"""Two regions side by side: the same names in both, each with its own of everything.

Usage: regions.py make|again PROGRAM FOLDER; the folder has one.pem and one.key, a certificate. `again` finds what `make` left, by another
process.
"""
import datetime
import http.client
import sys

from common import client, equal, eventually, refused
from resolve import resolve

PHASE, PROGRAM, FOLDER = sys.argv[1:]
HOME, AWAY = "local", "eu-west-1"
REGIONS = [HOME, AWAY]
#: Tasks of the service, so that numbers of one region are told from the other's.
COUNT = {HOME: 1, AWAY: 2}
NEAR, FAR = ({name: client(name, region=region) for name in (
    "ecs", "elbv2", "servicediscovery", "application-autoscaling", "cloudwatch", "logs", "acm", "ec2", "iam", "sts", "route53",
)} for region in REGIONS)
OF = {HOME: NEAR, AWAY: FAR}
WHICH = {"ServiceNamespace": "ecs", "ResourceId": "service/shop/web", "ScalableDimension": "ecs:service:DesiredCount"}
WEB = [{"Name": "ClusterName", "Value": "shop"}, {"Name": "ServiceName", "Value": "web"}]
LOGS = [{"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/web", "awslogs-region": "x", "awslogs-stream-prefix": "p"}}]


def arn(service, region, resource):
    return f"arn:aws:{service}:{region}:000000000000:{resource}"


def other(region):
    return AWAY if region == HOME else HOME


def get(name):
    (address,) = resolve(name)
    connection = http.client.HTTPConnection(address, 8080, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def tasks(region):
    return {one.rsplit("/", 1)[1] for one in OF[region]["ecs"].list_tasks(cluster="shop", serviceName="web")["taskArns"]}


def answers(region):
    """The region's own tasks answer at its load balancer's name, all of them and no other."""
    (balancer,) = OF[region]["elbv2"].describe_load_balancers(Names=["front"])["LoadBalancers"]
    name, own = balancer["DNSName"], tasks(region)
    assert f".{region}.elb." in name, name

    def seen():
        bodies = [get(name) for _ in range(8)]
        found = {id for id in own if any(id in body for body in bodies)}
        return found == own and all(any(id in body for id in own) for body in bodies)

    eventually(seen, f"{own} at {name}")
    return balancer


def make(region):
    own = OF[region]
    # What is not there yet is not there, whatever the other region has.
    equal(own["ecs"].list_clusters()["clusterArns"], [arn("ecs", region, "cluster/default")] if region == HOME else [])
    equal(own["elbv2"].describe_load_balancers()["LoadBalancers"], [])
    equal(own["servicediscovery"].list_namespaces(Filters=[{"Name": "TYPE", "Values": ["HTTP"]}])["Namespaces"], [])
    equal(own["logs"].describe_log_groups()["logGroups"], [])
    equal(own["acm"].list_certificates()["CertificateSummaryList"], [])
    equal(own["cloudwatch"].describe_alarms()["MetricAlarms"], [])

    elb = own["elbv2"]
    balancer = elb.create_load_balancer(Name="front", Type="application", Subnets=["subnet-a", "subnet-b"])["LoadBalancers"][0]
    equal(balancer["LoadBalancerArn"].split(":loadbalancer/")[0], arn("elasticloadbalancing", region, "")[:-1])
    group = elb.create_target_group(
        Name="web", Protocol="HTTP", Port=8080, VpcId="vpc-1", TargetType="ip", HealthCheckPath="/health",
        HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2,
    )["TargetGroups"][0]["TargetGroupArn"]
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=8080,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
    )

    spaces = own["servicediscovery"]
    operation = spaces.create_http_namespace(Name="shop", CreatorRequestId="once")["OperationId"]
    space = spaces.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    service = spaces.create_service(Name="web", NamespaceId=space)["Service"]["Id"]
    spaces.register_instance(ServiceId=service, InstanceId=region, Attributes={"AWS_INSTANCE_IPV4": "10.0.0.1", "where": region})
    name = f"{'near' if region == HOME else 'far'}.test"
    operation = spaces.create_private_dns_namespace(Name=name, Vpc="vpc-1")["OperationId"]
    private = spaces.get_operation(OperationId=operation)["Operation"]["Targets"]["NAMESPACE"]
    registry = spaces.create_service(Name="web", NamespaceId=private, DnsConfig={"DnsRecords": [{"Type": "A", "TTL": 1}]})["Service"]

    ecs = own["ecs"]
    ecs.create_cluster(clusterName="shop", tags=[{"key": "where", "value": region}])
    container = {
        "name": "web", "command": [PROGRAM, "whoami"], "memory": 64, "stopTimeout": 5, "portMappings": [{"containerPort": 8080}],
    }
    for _ in range(COUNT[region]):
        definition = ecs.register_task_definition(family="web", containerDefinitions=[container])["taskDefinition"]
    # Revisions count in each region by themselves.
    equal(definition["taskDefinitionArn"], arn("ecs", region, f"task-definition/web:{COUNT[region]}"))
    ecs.create_service(
        cluster="shop", serviceName="web", taskDefinition="web", desiredCount=COUNT[region],
        loadBalancers=[{"targetGroupArn": group, "containerName": "web", "containerPort": 8080}],
        serviceRegistries=[{"registryArn": registry["Arn"]}],
    )
    ecs.create_capacity_provider(name="own", autoScalingGroupProvider={
        "autoScalingGroupArn": arn("autoscaling", region, "autoScalingGroup:1:autoScalingGroupName/g")})

    scaling = own["application-autoscaling"]
    scaling.register_scalable_target(**WHICH, MinCapacity=COUNT[region], MaxCapacity=COUNT[region] + 5)
    scaling.put_scaling_policy(**WHICH, PolicyName="cpu", PolicyType="TargetTrackingScaling", TargetTrackingScalingPolicyConfiguration={
        "TargetValue": 60.0, "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}})
    scaling.put_scheduled_action(
        **WHICH, ScheduledActionName="night", Schedule="rate(1 day)", ScalableTargetAction={"MinCapacity": COUNT[region]})

    # In alarm where two tasks run, so it looks at its own region's number.
    own["cloudwatch"].put_metric_alarm(
        AlarmName="busy", Namespace="ECS/ContainerInsights", MetricName="RunningTaskCount", Dimensions=WEB, Statistic="Maximum",
        Period=60, EvaluationPeriods=1, Threshold=1.5, ComparisonOperator="GreaterThanThreshold", Tags=[{"Key": "where", "Value": region}],
    )
    own["logs"].create_log_group(logGroupName="/ecs/web", tags={"where": region})
    own["logs"].create_log_stream(logGroupName="/ecs/web", logStreamName=region)
    body, key = (open(f"{FOLDER}/one.{end}").read() for end in ("pem", "key"))
    certificate = own["acm"].import_certificate(Certificate=body.encode(), PrivateKey=key.encode())["CertificateArn"]
    equal(certificate.split(":certificate/")[0], arn("acm", region, "")[:-1])
    vpc = own["ec2"].create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    own["ec2"].create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")
    own["ec2"].create_security_group(GroupName="own", Description="d", VpcId=vpc)


def apart(region):
    """Every listing has the region's own and nothing else."""
    own, ecs = OF[region], OF[region]["ecs"]
    clusters = [arn("ecs", region, "cluster/shop")]
    equal(ecs.list_clusters()["clusterArns"], ([arn("ecs", region, "cluster/default")] if region == HOME else []) + clusters)
    (cluster,) = ecs.describe_clusters(clusters=["shop"], include=["TAGS"])["clusters"]
    equal((cluster["clusterArn"], cluster["tags"]), (clusters[0], [{"key": "where", "value": region}]))
    equal(ecs.list_tags_for_resource(resourceArn=clusters[0])["tags"], cluster["tags"])
    revisions = [arn("ecs", region, f"task-definition/web:{n + 1}") for n in range(COUNT[region])]
    equal(ecs.list_task_definitions()["taskDefinitionArns"], revisions)
    equal(ecs.list_task_definition_families()["families"], ["web"])
    equal(ecs.describe_task_definition(taskDefinition="web")["taskDefinition"]["taskDefinitionArn"], revisions[-1])
    equal(ecs.list_services(cluster="shop")["serviceArns"], [arn("ecs", region, "service/shop/web")])
    (service,) = ecs.describe_services(cluster="shop", services=["web"])["services"]
    equal((service["desiredCount"], service["taskDefinition"]), (COUNT[region], revisions[-1]))
    equal(len(tasks(region)), COUNT[region])
    (deployment,) = ecs.list_service_deployments(cluster="shop", service="web")["serviceDeployments"]
    equal(deployment["serviceArn"], service["serviceArn"])
    (shown,) = ecs.describe_service_deployments(serviceDeploymentArns=[deployment["serviceDeploymentArn"]])["serviceDeployments"]
    equal(shown["serviceArn"], service["serviceArn"])
    providers = [one["capacityProviderArn"] for one in ecs.describe_capacity_providers()["capacityProviders"]]
    equal(providers, [arn("ecs", region, f"capacity-provider/{name}") for name in ("FARGATE", "FARGATE_SPOT", "own")])

    elb = own["elbv2"]
    (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
    (group,) = elb.describe_target_groups()["TargetGroups"]
    equal(group["LoadBalancerArns"], [balancer["LoadBalancerArn"]])
    (listener,) = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    for made in (balancer["LoadBalancerArn"], group["TargetGroupArn"], listener["ListenerArn"]):
        assert made.startswith(arn("elasticloadbalancing", region, "")), made
    eventually(lambda: sum(
        one["TargetHealth"]["State"] == "healthy" for one in elb.describe_target_health(TargetGroupArn=group["TargetGroupArn"])["TargetHealthDescriptions"]
    ) == COUNT[region], "healthy targets")

    spaces = own["servicediscovery"]
    found = {one["Name"]: one for one in spaces.list_namespaces()["Namespaces"]}
    equal(sorted(found), sorted(["shop"] + (["demo.internal", "near.test"] if region == HOME else ["far.test"])))
    equal(found["shop"]["Arn"], arn("servicediscovery", region, "namespace/" + found["shop"]["Id"]))
    (instance,) = spaces.discover_instances(NamespaceName="shop", ServiceName="web")["Instances"]
    equal((instance["InstanceId"], instance["Attributes"]["where"]), (region, region))
    dns = "near.test" if region == HOME else "far.test"
    eventually(lambda: len(resolve(f"web.{dns}")) == COUNT[region], f"the tasks' addresses at web.{dns}")
    registered = spaces.discover_instances(NamespaceName=dns, ServiceName="web")["Instances"]
    equal({one["Attributes"]["REGION"] for one in registered}, {region})
    assert all(spaces.get_operation(OperationId=one["Id"])["Operation"] for one in spaces.list_operations()["Operations"])

    scaling = own["application-autoscaling"]
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    equal((target["MaxCapacity"], target["ScalableTargetARN"].split(":")[3]), (COUNT[region] + 5, region))
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
    equal({policy["PolicyARN"].split(":")[3], *[alarm["AlarmARN"].split(":")[3] for alarm in policy["Alarms"]]}, {region})
    (action,) = scaling.describe_scheduled_actions(ServiceNamespace="ecs")["ScheduledActions"]
    equal(action["ScheduledActionARN"].split(":")[3], region)

    alarms = {one["AlarmName"]: one for one in own["cloudwatch"].describe_alarms()["MetricAlarms"]}
    equal(sorted(alarms), sorted(["busy"] + [alarm["AlarmName"] for alarm in policy["Alarms"]]))
    equal(alarms["busy"]["AlarmArn"], arn("cloudwatch", region, "alarm:busy"))
    equal(own["cloudwatch"].list_tags_for_resource(ResourceARN=alarms["busy"]["AlarmArn"])["Tags"], [{"Key": "where", "Value": region}])

    (found,) = own["logs"].describe_log_groups()["logGroups"]
    equal(found["logGroupArn"], arn("logs", region, "log-group:/ecs/web"))
    equal(own["logs"].list_tags_for_resource(resourceArn=found["logGroupArn"])["tags"], {"where": region})
    equal([one["logStreamName"] for one in own["logs"].describe_log_streams(logGroupName="/ecs/web")["logStreams"]], [region])
    (certificate,) = own["acm"].list_certificates()["CertificateSummaryList"]
    equal(certificate["CertificateArn"].split(":")[3], region)
    ec2 = own["ec2"]
    vpcs = {one["IsDefault"]: one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"]}
    equal(len(ec2.describe_vpcs()["Vpcs"]), 2)
    equal({one["AvailabilityZone"][:-1] for one in ec2.describe_subnets()["Subnets"]}, {region})
    groups = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpcs[False]]}])["SecurityGroups"]
    equal({one["GroupName"] for one in groups}, {"default", "own"})
    equal([zone["ZoneName"] for zone in ec2.describe_availability_zones()["AvailabilityZones"]], [region + letter for letter in "abc"])
    return {
        "cluster": clusters[0], "service": service["serviceArn"], "definition": revisions[-1], "balancer": balancer["LoadBalancerArn"],
        "group": group["TargetGroupArn"], "listener": listener["ListenerArn"], "space": spaces.list_namespaces()["Namespaces"][0]["Id"],
        "target": target["ScalableTargetARN"], "policy": policy["PolicyARN"], "alarm": alarms["busy"]["AlarmArn"],
        "logs": found["logGroupArn"], "certificate": certificate["CertificateArn"], "vpc": vpcs[False], "default": vpcs[True],
        "deployment": deployment["serviceDeploymentArn"], "task": min(tasks(region)),
    }


def strangers(region, theirs):
    """What the other region has is not there: not to be read, named by something of one's own, or taken away."""
    own, ecs, elb = OF[region], OF[region]["ecs"], OF[region]["elbv2"]
    bad = "InvalidParameterException"
    refused(bad, ecs.describe_clusters, clusters=[theirs["cluster"]])
    refused(bad, ecs.delete_cluster, cluster=theirs["cluster"])
    refused(bad, ecs.describe_services, cluster="shop", services=[theirs["service"]])
    refused(bad, ecs.update_service, cluster="shop", service=theirs["service"], desiredCount=0)
    refused(bad, ecs.describe_task_definition, taskDefinition=theirs["definition"])
    refused(bad, ecs.deregister_task_definition, taskDefinition=theirs["definition"])
    refused(bad, ecs.run_task, cluster="shop", taskDefinition=theirs["definition"])
    refused(bad, ecs.tag_resource, resourceArn=theirs["cluster"], tags=[{"key": "a", "value": "b"}])
    refused(bad, ecs.stop_service_deployment, serviceDeploymentArn=theirs["deployment"])
    refused(bad, ecs.stop_task, cluster="shop", task=theirs["task"], says="not found")
    equal(ecs.describe_tasks(cluster="shop", tasks=[theirs["task"]])["failures"][0]["reason"], "MISSING")
    refused(bad, ecs.create_service, cluster="shop", serviceName="x", taskDefinition="web", desiredCount=0, loadBalancers=[
        {"targetGroupArn": theirs["group"], "containerName": "web", "containerPort": 8080}], says="does not exist")
    refused("LoadBalancerNotFound", elb.describe_load_balancers, LoadBalancerArns=[theirs["balancer"]])
    refused("LoadBalancerNotFound", elb.create_listener, LoadBalancerArn=theirs["balancer"], Protocol="HTTP", Port=81, DefaultActions=[
        {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}])
    refused("ListenerNotFound", elb.describe_rules, ListenerArn=theirs["listener"])
    refused("TargetGroupNotFound", elb.register_targets, TargetGroupArn=theirs["group"], Targets=[{"Id": "127.0.0.1", "Port": 1}])
    mine = elb.describe_load_balancers()["LoadBalancers"][0]["LoadBalancerArn"]
    refused("TargetGroupNotFound", elb.create_listener, LoadBalancerArn=mine, Protocol="HTTP", Port=81, DefaultActions=[
        {"Type": "forward", "TargetGroupArn": theirs["group"]}])
    refused("CertificateNotFound", elb.create_listener, LoadBalancerArn=mine, Protocol="HTTPS", Port=444, Certificates=[
        {"CertificateArn": theirs["certificate"]}], DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}])
    # Deleting what is gone is no error, and takes nothing away.
    elb.delete_target_group(TargetGroupArn=theirs["group"])
    elb.delete_load_balancer(LoadBalancerArn=theirs["balancer"])
    refused("NamespaceNotFound", own["servicediscovery"].get_namespace, Id=theirs["space"])
    refused("NamespaceNotFound", own["servicediscovery"].delete_namespace, Id=theirs["space"])
    refused("NamespaceNotFound", own["servicediscovery"].create_service, Name="x", NamespaceId=theirs["space"])
    refused("ResourceNotFoundException", own["application-autoscaling"].tag_resource, ResourceARN=theirs["target"], Tags={"a": "b"})
    refused("ValidationError", own["cloudwatch"].put_metric_alarm, AlarmName="x", AlarmActions=[theirs["policy"]], MetricName="m",
            Namespace="n", Statistic="Sum", Period=60, EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold")
    refused("ResourceNotFoundException", own["cloudwatch"].tag_resource, ResourceARN=theirs["alarm"], Tags=[{"Key": "a", "Value": "b"}])
    refused("ResourceNotFoundException", own["logs"].tag_resource, resourceArn=theirs["logs"], tags={"a": "b"})
    refused("ResourceNotFoundException", own["logs"].describe_log_streams, logGroupIdentifier=theirs["logs"])
    refused("ResourceNotFoundException", own["acm"].describe_certificate, CertificateArn=theirs["certificate"])
    refused("ResourceNotFoundException", own["acm"].delete_certificate, CertificateArn=theirs["certificate"])
    for vpc in (theirs["vpc"], theirs["default"]):
        refused("InvalidVpcID.NotFound", own["ec2"].describe_vpcs, VpcIds=[vpc])
        refused("InvalidVpcID.NotFound", own["ec2"].create_subnet, VpcId=vpc, CidrBlock="10.0.2.0/24")
    refused("InvalidVpcID.NotFound", own["ec2"].delete_vpc, VpcId=theirs["vpc"])


def measured(region):
    """The region's own numbers, though the dimensions are the same in both."""
    now = datetime.datetime.now(datetime.timezone.utc)
    points = OF[region]["cloudwatch"].get_metric_statistics(
        Namespace="ECS/ContainerInsights", MetricName="DesiredTaskCount", Dimensions=WEB, Period=60, Statistics=["Maximum", "Minimum"],
        StartTime=now - datetime.timedelta(seconds=120), EndTime=now + datetime.timedelta(seconds=60),
    )["Datapoints"]
    return points and {(point["Minimum"], point["Maximum"]) for point in points} == {(COUNT[region], COUNT[region])}


def state(region):
    return OF[region]["cloudwatch"].describe_alarms(AlarmNames=["busy"])["MetricAlarms"][0]["StateValue"]


if PHASE == "make":
    for region in REGIONS:
        make(region)
for region in REGIONS:
    OF[region]["ecs"].get_waiter("services_stable").wait(cluster="shop", services=["web"], WaiterConfig={"Delay": 1, "MaxAttempts": 60})
found = {region: apart(region) for region in REGIONS}
balancers = {region: answers(region) for region in REGIONS}
assert not tasks(HOME) & tasks(AWAY)
assert balancers[HOME]["CanonicalHostedZoneId"] != balancers[AWAY]["CanonicalHostedZoneId"]
for region in REGIONS:
    strangers(region, found[other(region)])
equal({region: apart(region) for region in REGIONS}, found)
for region in REGIONS:
    eventually(lambda: measured(region), f"numbers of {region}")
eventually(lambda: (state(HOME), state(AWAY)) == ("OK", "ALARM"), "an alarm where two tasks run")

# Which regions there are; another is told, and never an empty account.
equal([one["RegionName"] for one in FAR["ec2"].describe_regions()["Regions"]], [AWAY, HOME])
equal([one["RegionName"] for one in NEAR["ec2"].describe_regions(RegionNames=[AWAY])["Regions"]], [AWAY])
for name in ("ecs", "ec2", "elbv2"):
    call = {"ecs": "list_clusters", "ec2": "describe_vpcs", "elbv2": "describe_load_balancers"}[name]
    refused("InvalidRegion", getattr(client(name, region="eu-wset-1"), call), says="serves the regions local, eu-west-1, not eu-wset-1")

# Of no region.
names = [one["Name"] for one in NEAR["route53"].list_hosted_zones()["HostedZones"]]
equal([one["Name"] for one in FAR["route53"].list_hosted_zones()["HostedZones"]], names)
equal(FAR["sts"].get_caller_identity()["Account"], "000000000000")
equal(client("iam", region="us-east-1").list_server_certificates()["ServerCertificateMetadataList"], [])

if PHASE == "make":
    # DNS has one meaning for a name.
    refused("InvalidInput", FAR["servicediscovery"].create_private_dns_namespace, Name="near.test", Vpc="vpc-1", says="of the region local")
    refused("InvalidInput", FAR["servicediscovery"].create_private_dns_namespace, Name="demo.internal", Vpc="vpc-1", says="of the region local")
    # Names of no region reach into both.
    zone = NEAR["route53"].create_hosted_zone(
        Name="corp.test", CallerReference="a", VPC={"VPCRegion": "us-east-1", "VPCId": "vpc-1"})["HostedZone"]["Id"]
    alias = {"HostedZoneId": balancers[AWAY]["CanonicalHostedZoneId"], "DNSName": balancers[AWAY]["DNSName"], "EvaluateTargetHealth": True}
    NEAR["route53"].change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [
        {"Action": "CREATE", "ResourceRecordSet": {"Name": "www.corp.test", "Type": "A", "AliasTarget": alias}}]})
    # Its model knows AWS's regions alone, of which the one at home is none.
    NEAR["route53"].create_health_check(CallerReference="busy", HealthCheckConfig={
        "Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Region": AWAY, "Name": "busy"}, "InsufficientDataHealthStatus": "Healthy"})
    FAR["cloudwatch"].put_metric_alarm(
        AlarmName="far", MetricName="m", Namespace="n", Statistic="Sum", Period=60, EvaluationPeriods=1, Threshold=1,
        ComparisonOperator="GreaterThanThreshold")
    for region, code in ((AWAY, None), ("us-east-1", "InvalidInput")):
        wish = {"CallerReference": region, "HealthCheckConfig": {"Type": "CLOUDWATCH_METRIC", "AlarmIdentifier": {"Region": region, "Name": "far"}}}
        if code:
            refused(code, NEAR["route53"].create_health_check, **wish, says="there is no alarm far")
        else:
            check = NEAR["route53"].create_health_check(**wish)["HealthCheck"]["Id"]
            NEAR["route53"].delete_health_check(HealthCheckId=check)
    FAR["cloudwatch"].delete_alarms(AlarmNames=["far"])
eventually(lambda: resolve("www.corp.test") == resolve(balancers[AWAY]["DNSName"]), "an alias to a load balancer of the other region")
checks = {one["HealthCheckConfig"]["AlarmIdentifier"]["Region"]: one["Id"] for one in NEAR["route53"].list_health_checks()["HealthChecks"]}


def checked(region):
    found = NEAR["route53"].get_health_check_status(HealthCheckId=checks[region])["HealthCheckObservations"]
    return found and found[0]["StatusReport"]["Status"].split(":")[0]


eventually(lambda: checked(AWAY) == "Failure", "health by the alarm of the region")

if PHASE == "again":
    # What goes in one region stays in the other.
    FAR["cloudwatch"].delete_alarms(AlarmNames=["busy"])
    FAR["logs"].delete_log_group(logGroupName="/ecs/web")
    FAR["acm"].delete_certificate(CertificateArn=found[AWAY]["certificate"])
    FAR["ecs"].update_service(cluster="shop", service="web", desiredCount=0)
    FAR["ecs"].delete_service(cluster="shop", service="web", force=True)
    eventually(lambda: not FAR["ecs"].list_tasks(cluster="shop")["taskArns"], "no task is left")
    equal(found[HOME], apart(HOME))
    answers(HOME)
