"""Keys with policies: what is allowed is done, everything else is refused in each protocol's words.

Usage: keys.py ID SECRET FOLDER; the policy is that of the test `keys_may_do_what_their_policies_say`.
"""
import sys

import boto3

from common import CONFIG, client, equal, refused

session = boto3.Session(sys.argv[1], sys.argv[2], region_name="local")
USER = "arn:aws:iam::000000000000:user/ci"
ECS = "arn:aws:ecs:local:000000000000:"


def own(service):
    return session.client(service, config=CONFIG)


# Who it is needs no permission.
equal(own("sts").get_caller_identity()["Arn"], USER)
equal(client("sts").get_caller_identity()["Arn"], "arn:aws:iam::000000000000:root")

# JSON: allow by name, implicit deny, explicit deny.
ecs, root = own("ecs"), client("ecs")
ecs.create_cluster(clusterName="blue")
message = refused("AccessDeniedException", ecs.create_cluster, clusterName="green")
equal(message, f"User: {USER} is not authorized to perform: ecs:CreateCluster on resource: {ECS}cluster/green "
               "because no identity-based policy allows the ecs:CreateCluster action")
root.create_cluster(clusterName="green")
ecs.update_cluster_settings(cluster=ECS + "cluster/blue", settings=[{"name": "containerInsights", "value": "disabled"}])
refused("AccessDeniedException", ecs.update_cluster_settings, cluster="green", settings=[])
message = refused("AccessDeniedException", ecs.delete_cluster, cluster="blue")
equal(message, f"User: {USER} is not authorized to perform: ecs:DeleteCluster on resource: {ECS}cluster/blue "
               "with an explicit deny in an identity-based policy")
equal(len(ecs.describe_clusters(clusters=["blue", "green"])["clusters"]), 2)
ecs.list_services(cluster="blue")
refused("AccessDeniedException", ecs.list_services, cluster="green", says="explicit deny")
ecs.list_services()
# Several resources: each has to be allowed; another spelling is the same resource.
refused("AccessDeniedException", ecs.delete_service, cluster="green", service="x", says="service/green/x")
refused("ServiceNotFoundException", ecs.delete_service, cluster="blue", service="x")
arn = ECS + "service/green/x"
refused("AccessDeniedException", ecs.delete_service, cluster="green", service=arn, says=arn)
# Tags at birth are an action of their own, which the policy gives on no other cluster.
ecs.create_cluster(clusterName="blue", tags=[{"key": "a", "value": "b"}])
refused("AccessDeniedException", ecs.run_task, taskDefinition="web:007", says=ECS + "task-definition/web:7")

# Query: tags of the request and of the resource.
elb, all_of_elb = own("elbv2"), client("elbv2")
GROUP = {"Protocol": "HTTP", "Port": 80, "TargetType": "ip", "VpcId": "vpc-1"}
refused("AccessDenied", elb.create_target_group, Name="a", **GROUP, says="targetgroup/a/*")
refused("AccessDenied", elb.create_target_group, Name="a", **GROUP, Tags=[{"Key": "team", "Value": "other"}])
refused("AccessDenied", elb.create_target_group, Name="a", **GROUP,
        Tags=[{"Key": "team", "Value": "ci"}, {"Key": "more", "Value": ""}])
made = elb.create_target_group(Name="a", **GROUP, Tags=[{"Key": "team", "Value": "ci"}])["TargetGroups"][0]["TargetGroupArn"]
theirs = all_of_elb.create_target_group(Name="b", **GROUP)["TargetGroups"][0]["TargetGroupArn"]
refused("AccessDenied", elb.delete_target_group, TargetGroupArn=theirs, says=theirs)
elb.delete_target_group(TargetGroupArn=made)
error = refused("AccessDenied", elb.describe_target_groups)
assert error.startswith(f"User: {USER} is not authorized to perform: elasticloadbalancing:DescribeTargetGroups on resource: * "), error

# The other wires, and where a call comes from.
own("route53").list_hosted_zones()
refused("AccessDenied", own("route53").get_hosted_zone, Id="Z1", says="arn:aws:route53:::hostedzone/Z1")
message = refused("UnauthorizedOperation", own("ec2").describe_vpcs)
assert message.startswith("You are not authorized to perform this operation. User: "), message
refused("AccessDenied", own("cloudwatch").list_metrics, says="cloudwatch:ListMetrics")
refused("AccessDeniedException", own("servicediscovery").list_namespaces)
refused("AccessDenied", own("iam").list_server_certificates)
refused("AccessDeniedException", own("logs").describe_log_groups)

# EC2, IAM and scaling: resources by what they are, whatever the call says.
ec2, all_of_ec2 = own("ec2"), client("ec2")
NET = "arn:aws:ec2:local:000000000000:"
tags = lambda team: [{"ResourceType": "security-group", "Tags": [{"Key": "team", "Value": team}]}]
group = ec2.create_security_group(GroupName="ci", Description="d", TagSpecifications=tags("ci"))["GroupId"]
refused("UnauthorizedOperation", ec2.create_security_group, GroupName="x", Description="d", TagSpecifications=tags("other"),
        says="ec2:CreateTags on resource: " + NET + "security-group/*")
theirs = all_of_ec2.create_security_group(GroupName="theirs", Description="d", TagSpecifications=tags("other"))["GroupId"]
ec2.authorize_security_group_ingress(GroupId=theirs, IpProtocol="tcp", FromPort=1, ToPort=2, CidrIp="10.0.0.0/8")
refused("UnauthorizedOperation", ec2.delete_security_group, GroupId=theirs, says=NET + "security-group/" + theirs)
refused("UnauthorizedOperation", ec2.delete_security_group, GroupName="theirs", says=NET + "security-group/" + theirs)
ec2.delete_security_group(GroupName="ci")
refused("UnauthorizedOperation", ec2.create_vpc, CidrBlock="10.1.0.0/16", says=NET + "vpc/*")
refused("UnauthorizedOperation", ec2.create_tags, Resources=[theirs], Tags=[{"Key": "team", "Value": "x"}])
ec2.create_tags(Resources=[theirs], Tags=[{"Key": "team", "Value": "ci"}])
ec2.delete_security_group(GroupId=theirs)
iam, all_of_iam = own("iam"), client("iam")
pem = {"CertificateBody": open(f"{sys.argv[3]}/one.pem").read(), "PrivateKey": open(f"{sys.argv[3]}/one.key").read()}
all_of_iam.upload_server_certificate(ServerCertificateName="Front", Path="/ci/", **pem)
all_of_iam.upload_server_certificate(ServerCertificateName="other", **pem)
equal(iam.get_server_certificate(ServerCertificateName="front")["ServerCertificate"]["ServerCertificateMetadata"]["Path"], "/ci/")
refused("AccessDenied", iam.get_server_certificate, ServerCertificateName="other", says="server-certificate/other")
refused("AccessDenied", iam.delete_server_certificate, ServerCertificateName="Front", says="server-certificate/ci/Front")
scaling, place = own("application-autoscaling"), {"ResourceId": "service/blue/x", "ScalableDimension": "ecs:service:DesiredCount"}
refused("AccessDeniedException", scaling.register_scalable_target, ServiceNamespace="dynamodb", **place, says="scalable-target/*")
refused("ValidationException", scaling.register_scalable_target, ServiceNamespace="ecs", **place, MinCapacity=1, MaxCapacity=2)
refused("AccessDeniedException", scaling.deregister_scalable_target, ServiceNamespace="ecs", **place)
stranger = boto3.Session(sys.argv[1], "x" * 40, region_name="local").client("ecs", config=CONFIG)
refused("InvalidSignatureException", stranger.list_clusters)
