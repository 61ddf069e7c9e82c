"""Cloud Map: namespaces, services, instances, operations, discovery, attributes, tags; and what DNS answers."""
from common import client, equal, eventually, refused, without
from dns import ask

sd = client("servicediscovery")


def done(answer, kind, **targets):
    operation = sd.get_operation(OperationId=answer["OperationId"])["Operation"]
    equal((operation["Status"], operation["Type"]), ("SUCCESS", kind))
    for name, value in targets.items():
        equal(operation["Targets"][name], value)
    return operation["Targets"]


def answers(name, kind, code, expected):
    eventually(lambda: ask(name, kind) == (code, expected), f"{name} {kind}: {expected}, not {ask(name, kind)}")


# Namespaces.
wish = {
    "Name": "shop.test", "Vpc": "vpc-1", "CreatorRequestId": "once", "Description": "a shop",
    "Properties": {"DnsProperties": {"SOA": {"TTL": 7}}}, "Tags": [{"Key": "team", "Value": "web"}],
}
created = sd.create_private_dns_namespace(**wish)
space = done(created, "CREATE_NAMESPACE")["NAMESPACE"]
equal(sd.create_private_dns_namespace(**wish)["OperationId"], created["OperationId"])
refused("NamespaceAlreadyExists", sd.create_private_dns_namespace, Name="SHOP.test", Vpc="vpc-1")
refused("NamespaceAlreadyExists", sd.create_http_namespace, Name="shop.test")
refused("InvalidInput", sd.create_private_dns_namespace, Name="a..b", Vpc="vpc-1")
refused("InvalidInput", sd.create_private_dns_namespace, Name="no.vpc")
refused("InvalidInput", sd.create_public_dns_namespace, Name="example.com", says="private")
refused("InvalidInput", sd.create_http_namespace, Name="with space")
refused("InvalidInput", sd.create_http_namespace, Name="t", Tags=[{"Key": "aws:x", "Value": ""}])
refused("TooManyTagsException", sd.create_http_namespace, Name="t", Tags=[{"Key": f"k{n}", "Value": ""} for n in range(51)])
http = done(sd.create_http_namespace(Name="plain", Description="by API"), "CREATE_NAMESPACE")["NAMESPACE"]
found = sd.get_namespace(Id=space)["Namespace"]
equal((found["Name"], found["Type"], found["Description"]), ("shop.test", "DNS_PRIVATE", "a shop"))
equal((found["ServiceCount"], found["CreatorRequestId"]), (0, "once"))
equal(found["Arn"], f"arn:aws:servicediscovery:local:000000000000:namespace/{space}")
assert found["Properties"]["DnsProperties"]["HostedZoneId"].startswith("Z"), found
equal(found["Properties"]["DnsProperties"]["SOA"], {"TTL": 7})
equal(sd.get_namespace(Id=found["Arn"])["Namespace"], found)
equal("DnsProperties" in sd.get_namespace(Id=http)["Namespace"]["Properties"], False)
refused("NamespaceNotFound", sd.get_namespace, Id="ns-nothing")
done(
    sd.update_private_dns_namespace(
        Id=space, UpdaterRequestId="u", Namespace={"Description": "new", "Properties": {"DnsProperties": {"SOA": {"TTL": 3}}}}
    ),
    "UPDATE_NAMESPACE",
)
found = sd.get_namespace(Id=space)["Namespace"]
equal((found["Description"], found["Properties"]["DnsProperties"]["SOA"]["TTL"]), ("new", 3))
refused("InvalidInput", sd.update_http_namespace, Id=space, Namespace={"Description": "x"}, says="DNS_PRIVATE")
refused("InvalidInput", sd.update_http_namespace, Id=http, Namespace={})
refused("NamespaceNotFound", sd.update_private_dns_namespace, Id="ns-nothing", Namespace={"Description": "x"})
done(sd.update_http_namespace(Id=http, Namespace={"Description": "y"}), "UPDATE_NAMESPACE")


def names(*filters, **more):
    shape = [dict(zip(("Name", "Values", "Condition"), one)) for one in filters]
    return [one["Name"] for one in sd.list_namespaces(Filters=shape, **more)["Namespaces"]]


equal(names(("TYPE", ["HTTP"], "EQ")), ["plain"])
equal(names(("NAME", ["plain", "shop.test"], "IN")), ["plain", "shop.test"])
equal(names(("NAME", ["sh"], "BEGINS_WITH"), ("TYPE", ["DNS_PRIVATE"], "EQ")), ["shop.test"])
equal(names(("HTTP_NAME", ["nobody"], "EQ")), [])
refused("InvalidInput", sd.list_namespaces, Filters=[{"Name": "NAME", "Values": ["a"], "Condition": "BETWEEN"}])
refused("InvalidInput", sd.list_namespaces, NextToken="not ours")
pages = sd.get_paginator("list_namespaces").paginate(PaginationConfig={"PageSize": 1})
equal([one["Name"] for page in pages for one in page["Namespaces"]], names())

# Services.
multi = {"NamespaceId": space, "RoutingPolicy": "MULTIVALUE", "DnsRecords": [{"Type": "A", "TTL": 4}]}
service = sd.create_service(
    Name="web", DnsConfig=multi, HealthCheckCustomConfig={"FailureThreshold": 1}, CreatorRequestId="web-1", Description="d",
    Tags=[{"Key": "a", "Value": "1"}],
)["Service"]
equal((service["Type"], service["DnsConfig"], service["InstanceCount"]), ("DNS_HTTP", multi, 0))
equal((service["NamespaceId"], service["HealthCheckCustomConfig"]), (space, {"FailureThreshold": 1}))
equal(sd.get_service(Id=service["Id"])["Service"], service)
equal(sd.get_service(Id=service["Arn"])["Service"], service)
equal(
    sd.create_service(Name="web", DnsConfig=multi, HealthCheckCustomConfig={}, CreatorRequestId="web-1", Description="d")["Service"],
    service,
)
refused("ServiceAlreadyExists", sd.create_service, Name="WEB", NamespaceId=space)
refused("NamespaceNotFound", sd.create_service, Name="x", NamespaceId="ns-nothing")
refused("InvalidInput", sd.create_service, Name="x")
refused("InvalidInput", sd.create_service, Name="no way", NamespaceId=space)
refused("InvalidInput", sd.create_service, Name="x", NamespaceId=http, DnsConfig=multi)
refused("InvalidInput", sd.create_service, Name="x", DnsConfig=multi, HealthCheckConfig={"Type": "TCP"}, says="HealthCheckCustomConfig")


def of(*types, policy="MULTIVALUE"):
    return {"NamespaceId": space, "RoutingPolicy": policy, "DnsRecords": [{"Type": kind, "TTL": 4} for kind in types]}


refused("InvalidInput", sd.create_service, Name="x", DnsConfig=of("A", "SRV"))
refused("InvalidInput", sd.create_service, Name="x", DnsConfig=of("CNAME"), says="WEIGHTED")
refused("InvalidInput", sd.create_service, Name="x", DnsConfig=of("MX"))
ports = sd.create_service(Name="_sip._tcp", DnsConfig=of("SRV"))["Service"]["Id"]
alias = sd.create_service(Name="alias", DnsConfig=of("CNAME", policy="WEIGHTED"))["Service"]["Id"]
plain = sd.create_service(Name="plain", NamespaceId=http)["Service"]
equal((plain["Type"], "DnsConfig" in plain), ("HTTP", False))
web, plain = service["Id"], plain["Id"]
refused("ServiceNotFound", sd.get_service, Id="srv-nothing")
change = {"Description": "e", "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 6}]}}
done(sd.update_service(Id=web, Service=change), "UPDATE_SERVICE", SERVICE=web)
found = sd.get_service(Id=web)["Service"]
equal((found["Description"], found["DnsConfig"]["DnsRecords"]), ("e", [{"Type": "A", "TTL": 6}]))
refused("InvalidInput", sd.update_service, Id=web, Service={"DnsConfig": {"DnsRecords": [{"Type": "SRV", "TTL": 6}]}})
refused("ServiceNotFound", sd.update_service, Id="srv-nothing", Service={})
of_space = sd.list_services(Filters=[{"Name": "NAMESPACE_ID", "Values": [space]}])["Services"]
equal(sorted(one["Name"] for one in of_space), ["_sip._tcp", "alias", "web"])
refused("InvalidInput", sd.list_services, Filters=[{"Name": "COLOUR", "Values": ["x"]}])
pages = sd.get_paginator("list_services").paginate(PaginationConfig={"PageSize": 1})
equal(sum(len(page["Services"]) for page in pages), 4)

# Attributes of a service.
sd.update_service_attributes(ServiceId=web, Attributes={"port": "80", "old": "x"})
sd.delete_service_attributes(ServiceId=web, Attributes=["old", "never"])
equal(sd.get_service_attributes(ServiceId=web)["ServiceAttributes"]["Attributes"], {"port": "80"})
refused("ServiceNotFound", sd.get_service_attributes, ServiceId="srv-nothing")
refused("ServiceNotFound", sd.update_service_attributes, ServiceId="srv-nothing", Attributes={"a": "b"})
refused("ServiceNotFound", sd.delete_service_attributes, ServiceId="srv-nothing", Attributes=["a"])
many = {f"k{n}": "" for n in range(30)}
refused("ServiceAttributesLimitExceededException", sd.update_service_attributes, ServiceId=web, Attributes=many)

# Instances.
answers("web.shop.test", "A", "NOERROR", [])
answers("nobody.shop.test", "A", "NXDOMAIN", [])
one = {"AWS_INSTANCE_IPV4": "10.1.0.1", "stage": "prod", "rack": "1"}
done(sd.register_instance(ServiceId=web, InstanceId="one", Attributes=one, CreatorRequestId="i"), "REGISTER_INSTANCE", INSTANCE="one")
two = {"AWS_INSTANCE_IPV4": "10.1.0.2", "stage": "test"}
sd.register_instance(ServiceId=web, InstanceId="rack/2", Attributes={**two, "AWS_INIT_HEALTH_STATUS": "UNHEALTHY"})
refused("ServiceNotFound", sd.register_instance, ServiceId="srv-nothing", InstanceId="x", Attributes=one)
for bad in (
    {}, {"AWS_INSTANCE_IPV4": "10.1"}, {**one, "AWS_ALIAS_DNS_NAME": "x"}, {**one, "AWS_INSTANCE_PORT": "x"},
    {**one, "AWS_INIT_HEALTH_STATUS": "WELL"}, {**one, "k" * 256: "v"}, {**one, **many},
):
    refused("InvalidInput", sd.register_instance, ServiceId=web, InstanceId="x", Attributes=bad)
refused("InvalidInput", sd.register_instance, ServiceId=ports, InstanceId="x", Attributes={"AWS_INSTANCE_PORT": "80"})
refused("InvalidInput", sd.register_instance, ServiceId=web, InstanceId="a b", Attributes=one)
answers("web.shop.test", "A", "NOERROR", ["web.shop.test 6 A 10.1.0.1"])
answers("web.shop.test", "AAAA", "NOERROR", [])
found = sd.get_instance(ServiceId=web, InstanceId="one")["Instance"]
equal((found["Id"], found["Attributes"], found["CreatorRequestId"]), ("one", one, "i"))
equal(sd.get_instance(ServiceId=web, InstanceId="rack/2")["Instance"]["Attributes"], two)
refused("InstanceNotFound", sd.get_instance, ServiceId=web, InstanceId="x")
refused("ServiceNotFound", sd.get_instance, ServiceId="srv-nothing", InstanceId="x")
equal([item["Id"] for item in sd.list_instances(ServiceId=web)["Instances"]], ["one", "rack/2"])
refused("ServiceNotFound", sd.list_instances, ServiceId="srv-nothing")
equal(sd.get_service(Id=web)["Service"]["InstanceCount"], 2)
health = {"one": "HEALTHY", "rack/2": "UNHEALTHY"}
equal(sd.get_instances_health_status(ServiceId=web)["Status"], health)
equal(sd.get_instances_health_status(ServiceId=web, Instances=["one"])["Status"], {"one": "HEALTHY"})
refused("InstanceNotFound", sd.get_instances_health_status, ServiceId=web, Instances=["x"])
refused("ServiceNotFound", sd.get_instances_health_status, ServiceId="srv-nothing")
sd.update_instance_custom_health_status(ServiceId=web, InstanceId="rack/2", Status="HEALTHY")
both = ["web.shop.test 6 A 10.1.0.1", "web.shop.test 6 A 10.1.0.2"]
answers("web.shop.test", "A", "NOERROR", both)
sd.update_instance_custom_health_status(ServiceId=web, InstanceId="rack/2", Status="UNHEALTHY")
answers("web.shop.test", "A", "NOERROR", both[:1])
sd.register_instance(ServiceId=plain, InstanceId="p", Attributes={"url": "http://x"})
refused("CustomHealthNotFound", sd.update_instance_custom_health_status, ServiceId=plain, InstanceId="p", Status="HEALTHY")
refused("InstanceNotFound", sd.update_instance_custom_health_status, ServiceId=web, InstanceId="x", Status="HEALTHY")
refused("ServiceNotFound", sd.update_instance_custom_health_status, ServiceId="srv-x", InstanceId="x", Status="HEALTHY")
refused("InvalidInput", sd.update_instance_custom_health_status, ServiceId=web, InstanceId="one", Status="FINE")

# SRV and CNAME.
sip = {"AWS_INSTANCE_IPV4": "10.1.0.9", "AWS_INSTANCE_PORT": "5060"}
refused("InvalidInput", sd.register_instance, ServiceId=ports, InstanceId="x" * 64, Attributes=sip, says="DNS name")
sd.register_instance(ServiceId=ports, InstanceId="pbx", Attributes=sip)
answers("_sip._tcp.shop.test", "SRV", "NOERROR", ["_sip._tcp.shop.test 4 SRV 1 1 5060 pbx._sip._tcp.shop.test"])
answers("pbx._sip._tcp.shop.test", "A", "NOERROR", ["pbx._sip._tcp.shop.test 4 A 10.1.0.9"])
answers("_tcp.shop.test", "A", "NOERROR", [])
refused("InvalidInput", sd.register_instance, ServiceId=alias, InstanceId="x", Attributes={"AWS_INSTANCE_CNAME": ".."})
sd.register_instance(ServiceId=alias, InstanceId="c", Attributes={"AWS_INSTANCE_CNAME": "web.shop.test"})
answers("alias.shop.test", "A", "NOERROR", ["alias.shop.test 4 CNAME web.shop.test", both[0]])

# Discovery.


def discover(**more):
    found = sd.discover_instances(NamespaceName="shop.test", ServiceName="web", **more)["Instances"]
    return sorted(item["InstanceId"] for item in found)


equal(discover(), ["one"])
equal(discover(HealthStatus="ALL"), ["one", "rack/2"])
equal(discover(HealthStatus="UNHEALTHY"), ["rack/2"])
equal(discover(HealthStatus="HEALTHY_OR_ELSE_ALL"), ["one"])
equal(discover(HealthStatus="ALL", QueryParameters={"stage": "test"}), ["rack/2"])
equal(discover(HealthStatus="ALL", OptionalParameters={"stage": "nowhere"}), ["one", "rack/2"])
equal(discover(HealthStatus="ALL", OptionalParameters={"rack": "1"}), ["one"])
equal(len(discover(HealthStatus="ALL", MaxResults=1)), 1)
found = sd.discover_instances(NamespaceName="plain", ServiceName="plain")["Instances"]
equal(found, [{"InstanceId": "p", "NamespaceName": "plain", "ServiceName": "plain", "HealthStatus": "UNKNOWN", "Attributes": {"url": "http://x"}}])
refused("NamespaceNotFound", sd.discover_instances, NamespaceName="nobody", ServiceName="web")
refused("ServiceNotFound", sd.discover_instances, NamespaceName="shop.test", ServiceName="nobody")
refused("InvalidInput", sd.discover_instances, NamespaceName="shop.test", ServiceName="web", MaxResults=0)
equal(ask("plain.plain", "A")[0], "REFUSED")


def revision(name="web"):
    return sd.discover_instances_revision(NamespaceName="shop.test", ServiceName=name)["InstancesRevision"]


before = revision()
equal(sd.discover_instances(NamespaceName="shop.test", ServiceName="web")["InstancesRevision"], before)
refused("NamespaceNotFound", sd.discover_instances_revision, NamespaceName="nobody", ServiceName="web")
refused("ServiceNotFound", sd.discover_instances_revision, NamespaceName="shop.test", ServiceName="nobody")

# Tags.
arn = service["Arn"]
sd.tag_resource(ResourceARN=arn, Tags=[{"Key": "b", "Value": "2"}])
sd.untag_resource(ResourceARN=arn, TagKeys=["a"])
equal(sd.list_tags_for_resource(ResourceARN=arn)["Tags"], [{"Key": "b", "Value": "2"}])
nothing = arn.rsplit("/", 1)[0] + "/srv-nothing"
refused("ResourceNotFoundException", sd.tag_resource, ResourceARN=nothing, Tags=[{"Key": "b", "Value": "2"}])
refused("ResourceNotFoundException", sd.untag_resource, ResourceARN=nothing, TagKeys=["b"])
refused("ResourceNotFoundException", sd.list_tags_for_resource, ResourceARN=nothing)
refused("InvalidInput", sd.tag_resource, ResourceARN=arn, Tags=[{"Key": "aws:b", "Value": "2"}])

# What goes.
refused("ResourceInUse", sd.delete_namespace, Id=space)
refused("ResourceInUse", sd.delete_service, Id=web)
done(sd.deregister_instance(ServiceId=web, InstanceId="one"), "DEREGISTER_INSTANCE", SERVICE=web, INSTANCE="one")
refused("InstanceNotFound", sd.deregister_instance, ServiceId=web, InstanceId="one")
refused("ServiceNotFound", sd.deregister_instance, ServiceId="srv-nothing", InstanceId="one")
refused("InstanceNotFound", sd.get_instance, ServiceId=web, InstanceId="one")
answers("web.shop.test", "A", "NOERROR", both[1:])
eventually(lambda: revision() > before, "a newer revision")
sd.register_instance(ServiceId=web, InstanceId="one", Attributes=one)
answers("web.shop.test", "A", "NOERROR", both[:1])
for owner, name in ((web, "one"), (web, "rack/2"), (ports, "pbx"), (alias, "c"), (plain, "p")):
    sd.deregister_instance(ServiceId=owner, InstanceId=name)
for owner in (web, ports, alias, plain):
    sd.delete_service(Id=owner)
refused("ServiceNotFound", sd.delete_service, Id=web)
refused("ResourceNotFoundException", sd.list_tags_for_resource, ResourceARN=arn)
done(sd.delete_namespace(Id=space), "DELETE_NAMESPACE", NAMESPACE=space)
sd.delete_namespace(Id=http)
refused("NamespaceNotFound", sd.delete_namespace, Id=space)
equal(names(), ["demo.internal"])
files = sd.list_namespaces()["Namespaces"][0]["Id"]
refused("InvalidInput", sd.delete_namespace, Id=files, says="configuration file")
refused("InvalidInput", sd.update_private_dns_namespace, Id=files, Namespace={"Description": "x"}, says="configuration file")
eventually(lambda: ask("web.shop.test", "A")[0] == "REFUSED", "the zone is gone")

# Operations.
mine = sd.list_operations(Filters=[{"Name": "NAMESPACE_ID", "Values": [space]}, {"Name": "STATUS", "Values": ["SUCCESS"]}])
equal(len(mine["Operations"]), 3)
equal(len(sd.list_operations(Filters=[{"Name": "SERVICE_ID", "Values": [ports]}])["Operations"]), 2)
recent = {"Name": "UPDATE_DATE", "Values": ["0", "99999999999"], "Condition": "BETWEEN"}
kinds = {"Name": "TYPE", "Values": ["CREATE_NAMESPACE", "DELETE_NAMESPACE"], "Condition": "IN"}
equal(len(sd.list_operations(Filters=[recent, kinds])["Operations"]), 4)
refused("InvalidInput", sd.list_operations, Filters=[{"Name": "UPDATE_DATE", "Values": ["0"]}])
refused("OperationNotFound", sd.get_operation, OperationId="nothing")
pages = sd.get_paginator("list_operations").paginate(PaginationConfig={"PageSize": 2})
assert sum(len(page["Operations"]) for page in pages) > 10
assert without(mine)
