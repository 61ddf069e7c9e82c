"""Elastic Load Balancing: load balancers, their attributes, target groups, tags, limits; each as Terraform reads it."""
from common import client, equal, refused, without

elb = client("elbv2")
OWN = "arn:aws:elasticloadbalancing:local:000000000000"
GONE = OWN + ":loadbalancer/app/gone/0123456789abcdef"
NO_GROUP = OWN + ":targetgroup/gone/0123456789abcdef"


def twice(read, **parameters):
    """What two reads say alike."""
    first = without(read(**parameters))
    equal(without(read(**parameters)), first)
    return first


def attributes(answer):
    return {item["Key"]: item["Value"] for item in answer["Attributes"]}


# Load balancers: created, shown.
made = elb.create_load_balancer(
    Name="front", Subnets=["subnet-1", "subnet-2"], SecurityGroups=["sg-1"], Scheme="internal", IpAddressType="ipv4",
    Tags=[{"Key": "team", "Value": "a"}],
)["LoadBalancers"][0]
equal(made["State"]["Code"], "provisioning")
FRONT = made["LoadBalancerArn"]
identity = FRONT.rsplit("/", 1)[1]
equal(FRONT, f"{OWN}:loadbalancer/app/front/{identity}")
shown = twice(elb.describe_load_balancers, LoadBalancerArns=[FRONT])["LoadBalancers"]
equal(shown, [{**made, "State": {"Code": "active"}}])
zone = shown[0].pop("CanonicalHostedZoneId")
assert zone.startswith("Z"), zone
del shown[0]["CreatedTime"]
equal(shown[0], {
    "LoadBalancerArn": FRONT, "DNSName": f"front-{identity}.local.elb.roadstead.internal", "LoadBalancerName": "front",
    "Scheme": "internal", "State": {"Code": "active"}, "Type": "application",
    "AvailabilityZones": [{"ZoneName": "locala", "SubnetId": "subnet-1"}, {"ZoneName": "localb", "SubnetId": "subnet-2"}],
    "SecurityGroups": ["sg-1"], "IpAddressType": "ipv4",
})
# Subnets that EC2 knows tell their zone and their VPC.
known = client("ec2").describe_subnets()["Subnets"][:2][::-1]
placed = elb.create_load_balancer(Name="placed", Subnets=[subnet["SubnetId"] for subnet in known])["LoadBalancers"][0]
equal((placed["VpcId"], placed["AvailabilityZones"]), (known[0]["VpcId"], [
    {"ZoneName": subnet["AvailabilityZone"], "SubnetId": subnet["SubnetId"]} for subnet in known]))
elb.delete_load_balancer(LoadBalancerArn=placed["LoadBalancerArn"])
network = elb.create_load_balancer(Name="net", Type="network", SubnetMappings=[{"SubnetId": "subnet-1"}])
NET = network["LoadBalancers"][0]["LoadBalancerArn"]
assert ":loadbalancer/net/net/" in NET, NET
again = dict(Name="net", Type="network", SubnetMappings=[{"SubnetId": "subnet-1"}])
equal(elb.create_load_balancer(**again)["LoadBalancers"][0]["LoadBalancerArn"], NET)
refused("DuplicateLoadBalancerName", elb.create_load_balancer, Name="net", says="different settings")
for bad in ("", "-a", "a_b", "x" * 33, "internal-a"):
    refused("ValidationError", elb.create_load_balancer, Name=bad)
refused("ValidationError", elb.create_load_balancer, says="name")
refused("ValidationError", elb.create_load_balancer, Name="a", Scheme="secret")
refused("ValidationError", elb.create_load_balancer, Name="a", Subnets=["s"], SubnetMappings=[{"SubnetId": "s"}])
refused("InvalidConfigurationRequest", elb.create_load_balancer, Name="a", Subnets=["s", "s"])
refused("OperationNotPermitted", elb.create_load_balancer, Name="a", Type="gateway")
refused("OperationNotPermitted", elb.create_load_balancer, Name="a", CustomerOwnedIpv4Pool="ipv4pool-coip-1")
refused("DuplicateTagKeys", elb.create_load_balancer, Name="a", Tags=[{"Key": "a"}, {"Key": "a"}])

# Found by ARN, by name, in pages; or not.
equal(elb.describe_load_balancers(Names=["front"])["LoadBalancers"][0]["LoadBalancerArn"], FRONT)
pages = elb.get_paginator("describe_load_balancers").paginate(PaginationConfig={"PageSize": 1})
equal([[lb["LoadBalancerName"] for lb in page["LoadBalancers"]] for page in pages], [["front"], ["net"]])
refused("LoadBalancerNotFound", elb.describe_load_balancers, LoadBalancerArns=[GONE])
refused("LoadBalancerNotFound", elb.describe_load_balancers, Names=["gone"])
refused("ValidationError", elb.describe_load_balancers, LoadBalancerArns=["front"])
refused("ValidationError", elb.describe_load_balancers, Names=["front"], LoadBalancerArns=[FRONT])
refused("ValidationError", elb.describe_load_balancers, Marker="moon")
refused("ValidationError", elb.describe_load_balancers, PageSize=401)

# Changed.
equal(without(elb.set_subnets(LoadBalancerArn=FRONT, Subnets=["subnet-3"])),
      {"AvailabilityZones": [{"ZoneName": "locala", "SubnetId": "subnet-3"}], "IpAddressType": "ipv4"})
refused("ValidationError", elb.set_subnets, LoadBalancerArn=FRONT)
equal(elb.set_security_groups(LoadBalancerArn=FRONT, SecurityGroups=["sg-2"])["SecurityGroupIds"], ["sg-2"])
equal(elb.set_ip_address_type(LoadBalancerArn=FRONT, IpAddressType="dualstack")["IpAddressType"], "dualstack")
shown = elb.describe_load_balancers(Names=["front"])["LoadBalancers"][0]
equal((shown["SecurityGroups"], shown["IpAddressType"]), (["sg-2"], "dualstack"))
refused("LoadBalancerNotFound", elb.set_subnets, LoadBalancerArn=GONE, Subnets=["a"])
refused("LoadBalancerNotFound", elb.set_security_groups, LoadBalancerArn=GONE, SecurityGroups=[])
refused("LoadBalancerNotFound", elb.set_ip_address_type, LoadBalancerArn=GONE, IpAddressType="ipv4")
refused("ValidationError", elb.set_ip_address_type, LoadBalancerArn=FRONT, IpAddressType="ipv7")

# Attributes.
found = attributes(twice(elb.describe_load_balancer_attributes, LoadBalancerArn=FRONT))
equal(len(found), 23)
equal(found["idle_timeout.timeout_seconds"], "60")
equal(found["ipv6.deny_all_igw_traffic"], "true")
equal(found["access_logs.s3.bucket"], "")
assert "tcp.idle_timeout.seconds" not in found
equal(len(attributes(elb.describe_load_balancer_attributes(LoadBalancerArn=NET))), 9)


def modify(key, value, arn=FRONT):
    return elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=[{"Key": key, "Value": value}])


equal(attributes(modify("idle_timeout.timeout_seconds", "30")), {**found, "idle_timeout.timeout_seconds": "30"})
modify("deletion_protection.enabled", "true")
refused("OperationNotPermitted", elb.delete_load_balancer, LoadBalancerArn=FRONT, says="deletion protection")
modify("deletion_protection.enabled", "false")
equal(attributes(elb.describe_load_balancer_attributes(LoadBalancerArn=FRONT))["idle_timeout.timeout_seconds"], "30")
refused("ValidationError", modify, "idle_timeout.timeout_seconds", "4001")
refused("ValidationError", modify, "moon", "full", says="not recognized")
refused("InvalidConfigurationRequest", modify, "idle_timeout.timeout_seconds", "60", NET)
for key, value, default in (("routing.http.xff_header_processing.mode", "remove", "append"),
                            ("routing.http.xff_client_port.enabled", "true", "false"),
                            ("routing.http.preserve_host_header.enabled", "true", "false"),
                            ("routing.http.drop_invalid_header_fields.enabled", "true", "false")):
    equal(attributes(modify(key, value))[key], value)
    equal(attributes(elb.describe_load_balancer_attributes(LoadBalancerArn=FRONT))[key], value)
    equal(attributes(modify(key, default))[key], default)
refused("LoadBalancerNotFound", modify, "deletion_protection.enabled", "true", GONE)
refused("LoadBalancerNotFound", elb.describe_load_balancer_attributes, LoadBalancerArn=GONE)
equal(without(twice(elb.describe_capacity_reservation, LoadBalancerArn=FRONT)), {"CapacityReservationState": []})
refused("LoadBalancerNotFound", elb.describe_capacity_reservation, LoadBalancerArn=GONE)

# Target groups.
made = elb.create_target_group(
    Name="web", Protocol="HTTP", Port=80, VpcId="vpc-1", TargetType="ip", HealthCheckPath="/health",
    HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2, Matcher={"HttpCode": "200-299,404"},
    Tags=[{"Key": "a", "Value": "b"}],
)["TargetGroups"][0]
WEB = made["TargetGroupArn"]
assert WEB.startswith(OWN + ":targetgroup/web/"), WEB
equal(twice(elb.describe_target_groups, TargetGroupArns=[WEB])["TargetGroups"], [made])
equal({**made, "TargetGroupArn": ""}, {
    "TargetGroupArn": "", "TargetGroupName": "web", "Protocol": "HTTP", "Port": 80, "VpcId": "vpc-1",
    "HealthCheckProtocol": "HTTP", "HealthCheckPort": "traffic-port", "HealthCheckEnabled": True,
    "HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 2, "HealthyThresholdCount": 5,
    "UnhealthyThresholdCount": 2, "HealthCheckPath": "/health", "Matcher": {"HttpCode": "200-299,404"},
    "LoadBalancerArns": [], "TargetType": "ip", "ProtocolVersion": "HTTP1", "IpAddressType": "ipv4",
})
tcp = elb.create_target_group(Name="tcp", Protocol="TCP", Port=5432, VpcId="vpc-1", TargetType="ip")["TargetGroups"][0]
assert "Matcher" not in tcp and "HealthCheckPath" not in tcp and "ProtocolVersion" not in tcp, tcp
equal((tcp["HealthCheckProtocol"], tcp["HealthCheckTimeoutSeconds"]), ("TCP", 10))
same = dict(Name="tcp", Protocol="TCP", Port=5432, VpcId="vpc-1", TargetType="ip")
equal(elb.create_target_group(**same)["TargetGroups"][0], tcp)
refused("DuplicateTargetGroupName", elb.create_target_group, **{**same, "Port": 1})
good = dict(Name="a", Protocol="HTTP", Port=80)
for change in ({"Name": "a_b"}, {"Name": "x" * 33}, {"Protocol": None}, {"Port": None}, {"Port": 0}, {"Port": 65536},
               {"HealthCheckIntervalSeconds": 4}, {"HealthCheckTimeoutSeconds": 121}, {"HealthyThresholdCount": 1},
               {"UnhealthyThresholdCount": 11}, {"HealthCheckPath": "x"}, {"HealthCheckPort": "moon"},
               {"Matcher": {"HttpCode": "moon"}}, {"TargetType": "moon"}, {"ProtocolVersion": "moon"},
               {"HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 5}):
    asked = {name: value for name, value in {**good, **change}.items() if value is not None}
    refused("ValidationError", elb.create_target_group, **asked)
for change in ({"Protocol": "TLS"}, {"Protocol": "UDP"}, {"Protocol": "GENEVE"},
               {"TargetType": "lambda"}, {"TargetType": "alb"},
               {"TargetControlPort": 3000}):
    refused("OperationNotPermitted", elb.create_target_group, **{**good, **change}, says="not supported")
refused("InvalidConfigurationRequest", elb.create_target_group, **good, HealthCheckProtocol="TCP")
refused("InvalidConfigurationRequest", elb.create_target_group, **good, Matcher={"GrpcCode": "0"})
refused("InvalidConfigurationRequest", elb.create_target_group, **good, HealthCheckEnabled=False)
equal([group["TargetGroupName"] for group in elb.describe_target_groups()["TargetGroups"]], ["tcp", "web"])
pages = elb.get_paginator("describe_target_groups").paginate(PaginationConfig={"PageSize": 1})
equal([[group["TargetGroupName"] for group in page["TargetGroups"]] for page in pages], [["tcp"], ["web"]])
equal(elb.describe_target_groups(Names=["web"])["TargetGroups"], [made])
equal(elb.describe_target_groups(LoadBalancerArn=FRONT)["TargetGroups"], [])
refused("TargetGroupNotFound", elb.describe_target_groups, TargetGroupArns=[NO_GROUP])
refused("TargetGroupNotFound", elb.describe_target_groups, Names=["gone"])
refused("LoadBalancerNotFound", elb.describe_target_groups, LoadBalancerArn=GONE)
refused("ValidationError", elb.describe_target_groups, Names=["web"], TargetGroupArns=[WEB])
changed = elb.modify_target_group(TargetGroupArn=WEB, HealthCheckPath="/", UnhealthyThresholdCount=3)["TargetGroups"]
equal(changed, [{**made, "HealthCheckPath": "/", "UnhealthyThresholdCount": 3}])
equal(elb.describe_target_groups(TargetGroupArns=[WEB])["TargetGroups"], changed)
refused("ValidationError", elb.modify_target_group, TargetGroupArn=WEB, HealthCheckPath="x")
refused("TargetGroupNotFound", elb.modify_target_group, TargetGroupArn=NO_GROUP)
found = attributes(twice(elb.describe_target_group_attributes, TargetGroupArn=WEB))
equal(found["deregistration_delay.timeout_seconds"], "300")
equal(found["stickiness.type"], "lb_cookie")
equal(len(found), 14)
equal(attributes(elb.describe_target_group_attributes(TargetGroupArn=tcp["TargetGroupArn"]))["stickiness.type"], "source_ip")
modify = elb.modify_target_group_attributes
delay = [{"Key": "deregistration_delay.timeout_seconds", "Value": "5"}]
equal(attributes(modify(TargetGroupArn=WEB, Attributes=delay)), {**found, delay[0]["Key"]: "5"})
equal(attributes(elb.describe_target_group_attributes(TargetGroupArn=WEB))[delay[0]["Key"]], "5")
refused("ValidationError", modify, TargetGroupArn=WEB, Attributes=[{**delay[0], "Value": "3601"}])


def items(**values):
    return [{"Key": key.replace("__", "."), "Value": value} for key, value in values.items()]


def refused_together(says, **values):
    refused("InvalidConfigurationRequest", modify, TargetGroupArn=WEB, Attributes=items(**values), says=says)


before = attributes(elb.describe_target_group_attributes(TargetGroupArn=WEB))
UNHEALTHY = "target_group_health__unhealthy_state_routing__minimum_healthy_targets__"
for values in (dict(stickiness__enabled="true", stickiness__type="lb_cookie", stickiness__lb_cookie__duration_seconds="60"),
               dict(stickiness__type="app_cookie", stickiness__app_cookie__cookie_name="sid",
                    stickiness__app_cookie__duration_seconds="3600"),
               dict(stickiness__enabled="false", load_balancing__algorithm__type="least_outstanding_requests"),
               dict(load_balancing__algorithm__type="weighted_random"),
               dict(load_balancing__algorithm__type="round_robin", slow_start__duration_seconds="900"),
               {f"{UNHEALTHY}count": "3", f"{UNHEALTHY}percentage": "50"}):
    changed = attributes(modify(TargetGroupArn=WEB, Attributes=items(**values)))
    equal({key.replace("__", "."): value for key, value in values.items()}.items() & changed.items(),
          {key.replace("__", "."): value for key, value in values.items()}.items())
    equal(attributes(twice(elb.describe_target_group_attributes, TargetGroupArn=WEB)), changed)
refused_together("Slow start", load_balancing__algorithm__type="weighted_random")
refused_together("Stickiness", slow_start__duration_seconds="0", stickiness__enabled="true",
                 load_balancing__algorithm__type="weighted_random")
refused("ValidationError", modify, TargetGroupArn=WEB, Attributes=items(slow_start__duration_seconds="29"))
refused_together("must not begin with AWSALB", stickiness__enabled="true", stickiness__type="app_cookie",
                 stickiness__app_cookie__cookie_name="AWSALBX")
refused_together("Anomaly mitigation", load_balancing__algorithm__anomaly_mitigation="on")
modify(TargetGroupArn=WEB, Attributes=[{"Key": key, "Value": value} for key, value in before.items()])
equal(attributes(elb.describe_target_group_attributes(TargetGroupArn=WEB)), before)
refused("TargetGroupNotFound", modify, TargetGroupArn=NO_GROUP, Attributes=delay)
refused("TargetGroupNotFound", elb.describe_target_group_attributes, TargetGroupArn=NO_GROUP)

# Tags.
both = [FRONT, WEB]
described = twice(elb.describe_tags, ResourceArns=both)["TagDescriptions"]
equal(described, [{"ResourceArn": FRONT, "Tags": [{"Key": "team", "Value": "a"}]},
                  {"ResourceArn": WEB, "Tags": [{"Key": "a", "Value": "b"}]}])
elb.add_tags(ResourceArns=both, Tags=[{"Key": "a", "Value": "c"}])
equal(elb.describe_tags(ResourceArns=[WEB])["TagDescriptions"][0]["Tags"], [{"Key": "a", "Value": "c"}])
elb.remove_tags(ResourceArns=both, TagKeys=["a", "other"])
equal(elb.describe_tags(ResourceArns=[WEB])["TagDescriptions"][0]["Tags"], [])
equal(elb.describe_tags(ResourceArns=[FRONT])["TagDescriptions"][0]["Tags"], [{"Key": "team", "Value": "a"}])
refused("DuplicateTagKeys", elb.add_tags, ResourceArns=[WEB], Tags=[{"Key": "a"}, {"Key": "a"}])
refused("TooManyTags", elb.add_tags, ResourceArns=[WEB], Tags=[{"Key": str(number)} for number in range(51)])
refused("ValidationError", elb.add_tags, ResourceArns=[WEB], Tags=[{"Key": "aws:a"}])
refused("ValidationError", elb.add_tags, ResourceArns=["web"], Tags=[{"Key": "a"}])
refused("LoadBalancerNotFound", elb.add_tags, ResourceArns=[GONE], Tags=[{"Key": "a"}])
refused("TargetGroupNotFound", elb.describe_tags, ResourceArns=[NO_GROUP])
refused("LoadBalancerNotFound", elb.remove_tags, ResourceArns=[GONE], TagKeys=["a"])
refused("ValidationError", elb.describe_tags, ResourceArns=[WEB] * 21)

# Limits, policies, what is not served.
limits = {limit["Name"]: limit["Max"] for limit in twice(elb.describe_account_limits)["Limits"]}
equal(limits["rules-per-application-load-balancer"], "100")
pages = elb.get_paginator("describe_account_limits").paginate(PaginationConfig={"PageSize": 4})
equal({limit["Name"]: limit["Max"] for page in pages for limit in page["Limits"]}, limits)
policy = twice(elb.describe_ssl_policies, Names=["ELBSecurityPolicy-TLS13-1-2-2021-06"])["SslPolicies"]
equal(policy[0]["SslProtocols"], ["TLSv1.2", "TLSv1.3"])
equal(policy[0]["Ciphers"][0], {"Name": "TLS_AES_128_GCM_SHA256", "Priority": 1})
pages = elb.get_paginator("describe_ssl_policies").paginate(PaginationConfig={"PageSize": 5})
equal(sum(len(page["SslPolicies"]) for page in pages), len(elb.describe_ssl_policies()["SslPolicies"]))
refused("SSLPolicyNotFound", elb.describe_ssl_policies, Names=["moon"])

# Deleted: what is gone already is no error.
for _ in range(2):
    elb.delete_load_balancer(LoadBalancerArn=FRONT)
    elb.delete_load_balancer(LoadBalancerArn=NET)
    elb.delete_target_group(TargetGroupArn=WEB)
    elb.delete_target_group(TargetGroupArn=tcp["TargetGroupArn"])
refused("ValidationError", elb.delete_load_balancer, LoadBalancerArn="front")
refused("ValidationError", elb.delete_target_group, TargetGroupArn="web")
equal(elb.describe_load_balancers()["LoadBalancers"], [])
equal(elb.describe_target_groups()["TargetGroups"], [])
refused("LoadBalancerNotFound", elb.describe_tags, ResourceArns=[FRONT])
