"""Elastic Load Balancing over what the configuration file made: shown, and changed in its weights alone."""
from common import client, equal, refused

elb = client("elbv2")

lb = elb.describe_load_balancers(Names=["web"])["LoadBalancers"][0]
LB = lb["LoadBalancerArn"]
listener = elb.describe_listeners(LoadBalancerArn=LB)["Listeners"][0]
LISTENER = listener["ListenerArn"]
group = elb.describe_target_groups(Names=["web"])["TargetGroups"][0]
GROUP = group["TargetGroupArn"]
equal(group["LoadBalancerArns"], [LB])
rule = elb.describe_rules(ListenerArn=LISTENER)["Rules"][0]
equal((rule["IsDefault"], rule["Actions"]), (True, listener["DefaultActions"]))
states = [row["TargetHealth"]["State"] for row in elb.describe_target_health(TargetGroupArn=GROUP)["TargetHealthDescriptions"]]
equal(states, ["healthy"])

flag = [{"Key": "deletion_protection.enabled", "Value": "true"}]
delay = [{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}]
fixed = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}]
path = [{"Field": "path-pattern", "Values": ["/a"]}]
for operation, parameters in (
    (elb.delete_load_balancer, {"LoadBalancerArn": LB}),
    (elb.modify_load_balancer_attributes, {"LoadBalancerArn": LB, "Attributes": flag}),
    (elb.set_subnets, {"LoadBalancerArn": LB, "Subnets": ["a"]}),
    (elb.set_security_groups, {"LoadBalancerArn": LB, "SecurityGroups": ["a"]}),
    (elb.set_ip_address_type, {"LoadBalancerArn": LB, "IpAddressType": "dualstack"}),
    (elb.delete_listener, {"ListenerArn": LISTENER}),
    (elb.modify_listener, {"ListenerArn": LISTENER, "DefaultActions": fixed}),
    (elb.modify_listener, {"ListenerArn": LISTENER, "Port": 8999}),
    (elb.create_rule, {"ListenerArn": LISTENER, "Priority": 1, "Conditions": path, "Actions": fixed}),
    (elb.modify_target_group, {"TargetGroupArn": GROUP, "HealthCheckPath": "/"}),
    (elb.modify_target_group_attributes, {"TargetGroupArn": GROUP, "Attributes": delay}),
    (elb.delete_target_group, {"TargetGroupArn": GROUP}),
    (elb.add_tags, {"ResourceArns": [LB], "Tags": [{"Key": "a"}]}),
):
    refused("OperationNotPermitted", operation, says="belongs to the configuration file", **parameters)
equal(elb.describe_load_balancers(Names=["web"])["LoadBalancers"], [lb])
equal(elb.describe_listeners(LoadBalancerArn=LB)["Listeners"], [listener])
equal(elb.describe_target_groups(Names=["web"])["TargetGroups"], [group])

weight = [{"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": GROUP, "Weight": 7}]}}]
elb.modify_listener(ListenerArn=LISTENER, DefaultActions=weight)
found = elb.describe_listeners(ListenerArns=[LISTENER])["Listeners"][0]["DefaultActions"][0]
equal(found["ForwardConfig"]["TargetGroups"], [{"TargetGroupArn": GROUP, "Weight": 7}])

# A listener of the API may stand beside the file's.
own = elb.create_listener(LoadBalancerArn=LB, Protocol="HTTP", Port=8998, DefaultActions=weight)["Listeners"][0]
elb.delete_listener(ListenerArn=own["ListenerArn"])
