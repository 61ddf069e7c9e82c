"""EC2's small part: VPCs, subnets, zones, security groups, tags."""
from common import client, equal, refused

ec2 = client("ec2")

# What an account has from the start.
(vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
equal(vpc["CidrBlock"], "172.31.0.0/16")
subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]
equal([subnet["AvailabilityZone"] for subnet in subnets], ["locala", "localb", "localc"])
zones = ec2.describe_availability_zones()["AvailabilityZones"]
equal([zone["ZoneName"] for zone in zones], ["locala", "localb", "localc"])
refused("InvalidParameterValue", ec2.describe_availability_zones, Filters=[{"Name": "moon", "Values": ["full"]}])
regions = ec2.describe_regions(AllRegions=True, Filters=[{"Name": "opt-in-status", "Values": ["opt-in-not-required"]}])["Regions"]
equal([region["RegionName"] for region in regions], ["local"])
refused("InvalidParameterValue", ec2.describe_regions, RegionNames=["moon-1"], says="moon-1")
(group,) = ec2.describe_security_groups(GroupNames=["default"])["SecurityGroups"]
equal(group["IpPermissionsEgress"][0]["IpRanges"], [{"CidrIp": "0.0.0.0/0"}])
equal(ec2.describe_network_interfaces()["NetworkInterfaces"], [])

# A network of one's own.
refused("MissingParameter", ec2.create_vpc)
refused("InvalidVpc.Range", ec2.create_vpc, CidrBlock="10.0.0.0/8")
refused("InvalidVpc.Range", ec2.create_vpc, CidrBlock="10.0.0.1/16")
refused("DryRunOperation", ec2.create_vpc, CidrBlock="10.0.0.0/16", DryRun=True)
refused("UnsupportedOperation", ec2.create_vpc, CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)
tags = [{"Key": "Name", "Value": "own"}]
# Terraform says what it does not want.
made = ec2.create_vpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=False, InstanceTenancy="default", TagSpecifications=[{"ResourceType": "vpc", "Tags": tags}])["Vpc"]
own = made["VpcId"]
equal(made["Tags"], tags)
equal(made["State"], "available")
for _ in range(2):
    equal(ec2.describe_vpcs(VpcIds=[own])["Vpcs"], [made])
equal([v["VpcId"] for v in ec2.describe_vpcs(Filters=[{"Name": "tag:Name", "Values": ["o*"]}])["Vpcs"]], [own])
ONCE = {"Delay": 1, "MaxAttempts": 1}
ec2.get_waiter("vpc_exists").wait(VpcIds=[own], WaiterConfig=ONCE)
ec2.get_waiter("vpc_available").wait(VpcIds=[own], WaiterConfig=ONCE)
ec2.get_waiter("subnet_available").wait(SubnetIds=[subnets[0]["SubnetId"]], WaiterConfig=ONCE)
ec2.get_waiter("security_group_exists").wait(GroupIds=[group["GroupId"]], WaiterConfig=ONCE)
refused("InvalidVpcID.NotFound", ec2.describe_vpcs, VpcIds=["vpc-0"])
equal(ec2.describe_vpc_attribute(VpcId=own, Attribute="enableDnsSupport")["EnableDnsSupport"], {"Value": True})
equal(ec2.describe_vpc_attribute(VpcId=own, Attribute="enableDnsHostnames")["EnableDnsHostnames"], {"Value": False})
ec2.modify_vpc_attribute(VpcId=own, EnableDnsHostnames={"Value": True})
equal(ec2.describe_vpc_attribute(VpcId=own, Attribute="enableDnsHostnames")["EnableDnsHostnames"], {"Value": True})
refused("InvalidVpcID.NotFound", ec2.modify_vpc_attribute, VpcId="vpc-0", EnableDnsSupport={"Value": True})
refused("InvalidVpcID.NotFound", ec2.describe_vpc_attribute, VpcId="vpc-0", Attribute="enableDnsSupport")
# What it reads of a VPC besides.
(table,) = ec2.describe_route_tables(Filters=[{"Name": "association.main", "Values": ["true"]}, {"Name": "vpc-id", "Values": [own]}])["RouteTables"]
equal((table["VpcId"], table["Associations"][0]["Main"], table["Routes"][0]["GatewayId"]), (own, True, "local"))
equal(ec2.describe_route_tables(RouteTableIds=[table["RouteTableId"]])["RouteTables"], [table])
refused("InvalidRouteTableID.NotFound", ec2.describe_route_tables, RouteTableIds=["rtb-0"])
(acl,) = ec2.describe_network_acls(Filters=[{"Name": "default", "Values": ["true"]}, {"Name": "vpc-id", "Values": [own]}])["NetworkAcls"]
equal((acl["IsDefault"], acl["Associations"], len(acl["Entries"])), (True, [], 4))
(theirs,) = ec2.describe_network_acls(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["NetworkAcls"]
equal({one["SubnetId"] for one in theirs["Associations"]}, {one["SubnetId"] for one in subnets})
refused("InvalidNetworkAclID.NotFound", ec2.describe_network_acls, NetworkAclIds=["acl-0"])

subnet = ec2.create_subnet(VpcId=own, CidrBlock="10.0.1.0/24", AvailabilityZone="localb")["Subnet"]
equal((subnet["AvailabilityZoneId"], subnet["AvailableIpAddressCount"]), ("local-az2", 251))
equal(ec2.describe_subnets(SubnetIds=[subnet["SubnetId"]])["Subnets"], [subnet])
refused("InvalidSubnet.Conflict", ec2.create_subnet, VpcId=own, CidrBlock="10.0.1.128/25")
refused("InvalidSubnet.Range", ec2.create_subnet, VpcId=own, CidrBlock="10.1.0.0/24")
refused("InvalidVpcID.NotFound", ec2.create_subnet, VpcId="vpc-0", CidrBlock="10.1.0.0/24")
refused("InvalidParameterValue", ec2.create_subnet, VpcId=own, CidrBlock="10.0.2.0/24", AvailabilityZone="moon-1a")
refused("InvalidSubnetID.NotFound", ec2.describe_subnets, SubnetIds=["subnet-0"])
ec2.modify_subnet_attribute(SubnetId=subnet["SubnetId"], MapPublicIpOnLaunch={"Value": True})
(changed,) = ec2.describe_subnets(SubnetIds=[subnet["SubnetId"]])["Subnets"]
equal(changed["MapPublicIpOnLaunch"], True)
refused("InvalidSubnetID.NotFound", ec2.modify_subnet_attribute, SubnetId="subnet-0", MapPublicIpOnLaunch={"Value": True})

# Security groups.
made = ec2.create_security_group(GroupName="web", Description="the web", VpcId=own)
web = made["GroupId"]
refused("InvalidGroup.Duplicate", ec2.create_security_group, GroupName="web", Description="again", VpcId=own)
refused("InvalidVpcID.NotFound", ec2.create_security_group, GroupName="x", Description="x", VpcId="vpc-0")
refused("InvalidParameterValue", ec2.create_security_group, GroupName="default", Description="x", VpcId=own)
http = {
    "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80,
    "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "all"}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
}
answer = ec2.authorize_security_group_ingress(GroupId=web, IpPermissions=[http])
equal([rule.get("CidrIpv4") or rule["CidrIpv6"] for rule in answer["SecurityGroupRules"]], ["0.0.0.0/0", "::/0"])
refused("InvalidPermission.Duplicate", ec2.authorize_security_group_ingress, GroupId=web, IpPermissions=[http])
refused("InvalidGroup.NotFound", ec2.authorize_security_group_ingress, GroupId="sg-0", IpPermissions=[http])
refused("MissingParameter", ec2.authorize_security_group_ingress, GroupId=web, IpPermissions=[{"IpProtocol": "tcp"}])
ec2.authorize_security_group_ingress(GroupId=web, IpProtocol="udp", FromPort=53, ToPort=53, CidrIp="10.0.0.0/8")
ec2.authorize_security_group_egress(
    GroupId=web, IpPermissions=[{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "UserIdGroupPairs": [{"GroupId": web}]}]
)
(group,) = ec2.describe_security_groups(GroupIds=[web])["SecurityGroups"]
equal([p["IpProtocol"] for p in group["IpPermissions"]], ["tcp", "udp"])
equal(group["IpPermissions"][0]["IpRanges"], http["IpRanges"])
equal(len(group["IpPermissionsEgress"]), 2)
rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [web]}])["SecurityGroupRules"]
equal(len(rules), 5)
refused("InvalidSecurityGroupRuleId.NotFound", ec2.describe_security_group_rules, SecurityGroupRuleIds=["sgr-0"])
ec2.revoke_security_group_ingress(GroupId=web, IpPermissions=[http])
refused("InvalidPermission.NotFound", ec2.revoke_security_group_ingress, GroupId=web, IpPermissions=[http])
egress = [rule["SecurityGroupRuleId"] for rule in rules if rule["IsEgress"]]
ec2.revoke_security_group_egress(GroupId=web, SecurityGroupRuleIds=egress)
(group,) = ec2.describe_security_groups(GroupIds=[web])["SecurityGroups"]
equal((len(group["IpPermissions"]), group["IpPermissionsEgress"]), (1, []))

# Tags.
ec2.create_tags(Resources=[own, web], Tags=[{"Key": "team", "Value": "a"}])
refused("InvalidID", ec2.create_tags, Resources=["moon"], Tags=[{"Key": "team", "Value": "a"}])
refused("InvalidParameterValue", ec2.create_tags, Resources=[own], Tags=[{"Key": "aws:x", "Value": "a"}])
found = ec2.describe_tags(Filters=[{"Name": "key", "Values": ["team"]}])["Tags"]
equal([tag["ResourceType"] for tag in found], ["security-group", "vpc"])
ec2.delete_tags(Resources=[web], Tags=[{"Key": "team", "Value": "other"}])
equal(len(ec2.describe_tags(Filters=[{"Name": "key", "Values": ["team"]}])["Tags"]), 2)
ec2.delete_tags(Resources=[web], Tags=[{"Key": "team"}])
equal(len(ec2.describe_tags(Filters=[{"Name": "key", "Values": ["team"]}])["Tags"]), 1)

# All of it goes, in its order.
refused("DependencyViolation", ec2.delete_vpc, VpcId=own)
refused("DependencyViolation", ec2.delete_vpc, VpcId=vpc["VpcId"])
refused("DependencyViolation", ec2.delete_subnet, SubnetId=subnets[0]["SubnetId"])
refused("CannotDelete", ec2.delete_security_group, GroupName="default")
ec2.delete_security_group(GroupId=web)
refused("InvalidGroup.NotFound", ec2.delete_security_group, GroupId=web)
ec2.delete_subnet(SubnetId=subnet["SubnetId"])
refused("InvalidSubnetID.NotFound", ec2.delete_subnet, SubnetId=subnet["SubnetId"])
ec2.delete_vpc(VpcId=own)
refused("InvalidVpcID.NotFound", ec2.delete_vpc, VpcId=own)
equal(ec2.describe_tags()["Tags"], [])
pages = ec2.get_paginator("describe_subnets").paginate(PaginationConfig={"PageSize": 5})
equal(sum(len(page["Subnets"]) for page in pages), 3)
