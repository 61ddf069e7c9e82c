"""A key whose policies name regions: what it may do in one it may not in the other. Arguments: the key's id and secret."""
import sys

import boto3

from common import CONFIG, client, equal, refused

HOME, AWAY = "local", "eu-west-1"


def own(service, region):
    return boto3.Session(sys.argv[1], sys.argv[2], region_name=region).client(service, config=CONFIG)


near, far = own("ecs", HOME), own("ecs", AWAY)
refused("AccessDeniedException", near.list_clusters, says="ecs:ListClusters")
equal(far.list_clusters()["clusterArns"], [])
made = far.create_cluster(clusterName="shop")["cluster"]["clusterArn"]
equal(made, "arn:aws:ecs:eu-west-1:000000000000:cluster/shop")
refused("AccessDeniedException", near.delete_cluster, cluster="shop", says="on resource: arn:aws:ecs:local:000000000000:cluster/shop")
refused("AccessDeniedException", near.delete_cluster, cluster=made, says="arn:aws:ecs:local:000000000000:cluster/shop")
equal(client("ecs", region=AWAY).list_clusters()["clusterArns"], [made])
refused("AccessDenied", own("elbv2", HOME).describe_load_balancers)
equal(own("elbv2", AWAY).describe_load_balancers()["LoadBalancers"], [])
# Regions of resources.
own("logs", HOME).create_log_group(logGroupName="g")
refused("AccessDeniedException", own("logs", AWAY).create_log_group, logGroupName="g", says="arn:aws:logs:eu-west-1:000000000000:log-group:g")
group = own("ec2", AWAY).create_security_group(GroupName="a", Description="d")["GroupId"]
(vpc,) = client("ec2", region=AWAY).describe_vpcs()["Vpcs"]
equal(client("ec2", region=AWAY).describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["VpcId"], vpc["VpcId"])
refused("UnauthorizedOperation", own("ec2", HOME).create_security_group, GroupName="a", Description="d", says="arn:aws:ec2:local:")
