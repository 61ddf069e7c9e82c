"""Route 53: private zones, record sets, changes, tags; and what DNS answers."""
from common import client, equal, eventually, refused
from dns import ask

r53 = client("route53")
VPC = {"VPCRegion": "us-east-1", "VPCId": "vpc-1"}


def answers(name, kind, code, expected):
    eventually(lambda: ask(name, kind) == (code, expected), f"{name} {kind}: {expected}, not {ask(name, kind)}")


# Zones.
made = r53.create_hosted_zone(
    Name="Corp.test.", CallerReference="a", VPC=VPC, HostedZoneConfig={"Comment": "c", "PrivateZone": True}
)
zone = made["HostedZone"]["Id"].removeprefix("/hostedzone/")
equal((made["HostedZone"]["Name"], made["HostedZone"]["ResourceRecordSetCount"]), ("corp.test.", 2))
equal((made["HostedZone"]["Config"], made["VPC"]), ({"Comment": "c", "PrivateZone": True}, VPC))
change = made["ChangeInfo"]["Id"].removeprefix("/change/")
eventually(lambda: r53.get_change(Id=change)["ChangeInfo"]["Status"] == "INSYNC", "INSYNC")
r53.get_waiter("resource_record_sets_changed").wait(Id=change, WaiterConfig={"Delay": 1, "MaxAttempts": 10})
refused("NoSuchChange", r53.get_change, Id="C1")
# Terraform asks before it deletes a zone.
zone_id = made["HostedZone"]["Id"].split("/")[-1]
refused("InvalidArgument", r53.get_dnssec, HostedZoneId=zone_id, says="Operation is unsupported for private hosted zones")
refused("NoSuchHostedZone", r53.get_dnssec, HostedZoneId="Z0")
refused("InvalidInput", r53.create_hosted_zone, Name="p.test", CallerReference="p", says="VPC")
refused("InvalidDomainName", r53.create_hosted_zone, Name="a..b", CallerReference="p", VPC=VPC)
refused("InvalidVPCId", r53.create_hosted_zone, Name="p.test", CallerReference="p", VPC={"VPCRegion": "us-east-1"})
refused("HostedZoneAlreadyExists", r53.create_hosted_zone, Name="q.test", CallerReference="a", VPC=VPC)
refused("ConflictingDomainExists", r53.create_hosted_zone, Name="corp.test", CallerReference="b", VPC=VPC)
refused("ConflictingDomainExists", r53.create_hosted_zone, Name="demo.internal", CallerReference="b", VPC=VPC)
sd = client("servicediscovery")
refused("InvalidInput", sd.create_private_dns_namespace, Name="corp.test", Vpc="vpc-1", says="hosted zone")
other = r53.create_hosted_zone(Name="a.test", CallerReference="b", VPC=VPC)["HostedZone"]["Id"]
found = r53.get_hosted_zone(Id=zone)
equal((found["HostedZone"]["CallerReference"], found["VPCs"]), ("a", [VPC]))
refused("NoSuchHostedZone", r53.get_hosted_zone, Id="Z1")
equal(r53.get_hosted_zone_count()["HostedZoneCount"], 2)
equal(r53.update_hosted_zone_comment(Id=zone, Comment="d")["HostedZone"]["Config"]["Comment"], "d")
refused("NoSuchHostedZone", r53.update_hosted_zone_comment, Id="Z1", Comment="d")
second = {"VPCRegion": "us-east-1", "VPCId": "vpc-2"}
r53.associate_vpc_with_hosted_zone(HostedZoneId=zone, VPC=second)
equal(r53.get_hosted_zone(Id=zone)["VPCs"], [VPC, second])
by_vpc = r53.list_hosted_zones_by_vpc(VPCId="vpc-2", VPCRegion="us-east-1")["HostedZoneSummaries"]
equal([one["Name"] for one in by_vpc], ["corp.test."])
refused("InvalidPaginationToken", r53.list_hosted_zones_by_vpc, VPCId="x", VPCRegion="us-east-1", NextToken="x")
r53.disassociate_vpc_from_hosted_zone(HostedZoneId=zone, VPC=second)
refused("VPCAssociationNotFound", r53.disassociate_vpc_from_hosted_zone, HostedZoneId=zone, VPC=second)
refused("LastVPCAssociation", r53.disassociate_vpc_from_hosted_zone, HostedZoneId=zone, VPC=VPC)
refused("NoSuchHostedZone", r53.associate_vpc_with_hosted_zone, HostedZoneId="Z1", VPC=VPC)
refused("NoSuchHostedZone", r53.disassociate_vpc_from_hosted_zone, HostedZoneId="Z1", VPC=VPC)
pages = r53.get_paginator("list_hosted_zones").paginate(PaginationConfig={"PageSize": 1})
equal(sorted(one["Name"] for page in pages for one in page["HostedZones"]), ["a.test.", "corp.test."])
refused("InvalidInput", r53.list_hosted_zones, MaxItems="0")
equal([one["Name"] for one in r53.list_hosted_zones_by_name()["HostedZones"]], ["a.test.", "corp.test."])
equal([one["Name"] for one in r53.list_hosted_zones_by_name(DNSName="b.test")["HostedZones"]], ["corp.test."])
refused("InvalidInput", r53.list_hosted_zones_by_name, HostedZoneId=zone)

# Record sets.


def record(name, kind, *values, ttl=9, **more):
    return {"Name": name, "Type": kind, "TTL": ttl, "ResourceRecords": [{"Value": value} for value in values], **more}


def batch(*changes):
    return {"Comment": "x", "Changes": [{"Action": action, "ResourceRecordSet": row} for action, row in changes]}


def change(*changes, of=zone):
    return r53.change_resource_record_sets(HostedZoneId=of, ChangeBatch=batch(*changes))


def refuse(says, *changes):
    refused("InvalidChangeBatch", change, *changes, says=says)


rows = [
    record("www.corp.test", "A", "10.0.0.1"),
    record("www.corp.test", "AAAA", "fd00::1"),
    record("alias.corp.test", "CNAME", "www.corp.test"),
    record("corp.test", "MX", "10 mail.corp.test"),
    record("corp.test", "TXT", '"a b" "c"'),
    record("corp.test", "CAA", '0 issue "ca.test"'),
    record("_x._tcp.corp.test", "SRV", "1 2 80 www.corp.test"),
    record("1.corp.test", "PTR", "www.corp.test"),
    record("*.wild.corp.test", "A", "10.0.0.9"),
    record("one.corp.test", "A", "10.0.0.3", SetIdentifier="a", Weight=1),
    record("one.corp.test", "A", "10.0.0.4", SetIdentifier="b", Weight=0),
    record("many.corp.test", "A", "10.0.0.5", SetIdentifier="a", MultiValueAnswer=True),
    record("many.corp.test", "A", "10.0.0.6", SetIdentifier="b", MultiValueAnswer=True),
]
target = {"HostedZoneId": zone, "DNSName": "www.corp.test", "EvaluateTargetHealth": True}
alias = {"Name": "corp.test", "Type": "A", "AliasTarget": target}
equal(change(*[("CREATE", row) for row in rows + [alias]])["ChangeInfo"]["Comment"], "x")
answers("www.corp.test", "A", "NOERROR", ["www.corp.test 9 A 10.0.0.1"])
answers("alias.corp.test", "AAAA", "NOERROR", ["alias.corp.test 9 CNAME www.corp.test", "www.corp.test 9 AAAA fd00::1"])
answers("corp.test", "A", "NOERROR", ["corp.test 9 A 10.0.0.1"])
answers("corp.test", "MX", "NOERROR", ["corp.test 9 MX 10 mail.corp.test"])
answers("corp.test", "TXT", "NOERROR", ['corp.test 9 TXT "a b" "c"'])
answers("corp.test", "CAA", "NOERROR", ['corp.test 9 CAA 0 issue "ca.test"'])
answers("_x._tcp.corp.test", "SRV", "NOERROR", ["_x._tcp.corp.test 9 SRV 1 2 80 www.corp.test"])
answers("1.corp.test", "PTR", "NOERROR", ["1.corp.test 9 PTR www.corp.test"])
answers("x.y.wild.corp.test", "A", "NOERROR", ["x.y.wild.corp.test 9 A 10.0.0.9"])
answers("one.corp.test", "A", "NOERROR", ["one.corp.test 9 A 10.0.0.3"])
answers("many.corp.test", "A", "NOERROR", ["many.corp.test 9 A 10.0.0.5", "many.corp.test 9 A 10.0.0.6"])
answers("_tcp.corp.test", "A", "NOERROR", [])
answers("nobody.corp.test", "A", "NXDOMAIN", [])

www = record("www.corp.test", "A", "10.0.0.1")
refuse("[name='www.corp.test.', type='A'] but it already exists", ("CREATE", www))
refuse("but it was not found", ("DELETE", record("none.corp.test", "A", "10.0.0.1")))
refuse("do not match the current values", ("DELETE", record("www.corp.test", "A", "10.0.0.2")))
refuse("is not permitted in zone corp.test.", ("CREATE", record("www.a.test", "A", "10.0.0.1")))
refuse("at apex", ("CREATE", record("corp.test", "CNAME", "x.test")))
refuse("conflicts with other records", ("CREATE", record("www.corp.test", "CNAME", "x.test")))
refuse("is no A value", ("CREATE", record("b.corp.test", "A", "10.0.0")))
refuse("is its own", ("UPSERT", record("corp.test", "NS", "ns.test")))
refuse("not supported", ("CREATE", record("b.corp.test", "DS", "1 2 3 4")))
refuse("SetIdentifier", ("CREATE", record("b.corp.test", "A", "10.0.0.1", Weight=1)))
refuse("another routing policy", ("CREATE", record("www.corp.test", "A", "10.0.0.1", Weight=1, SetIdentifier="x")))
refuse("does not lie within", ("CREATE", {**alias, "Name": "b.corp.test", "AliasTarget": {**target, "DNSName": "x.com"}}))
refuse("was not found", ("DELETE", www))
refuse("needs a health check", ("CREATE", record("b.corp.test", "A", "10.0.0.1", SetIdentifier="x", Failover="PRIMARY")))
refuse("SetIdentifier", ("CREATE", record("b.corp.test", "A", "10.0.0.1", Failover="SECONDARY")))
refuse("more than one", ("CREATE", record("b.corp.test", "A", "10.0.0.1", SetIdentifier="x", Failover="SECONDARY", Weight=1)))
refused("NoSuchHealthCheck", change, ("CREATE", record("b.corp.test", "A", "10.0.0.1", SetIdentifier="x", Weight=1, HealthCheckId="x")))
# Policies that look at where the client is.
for member, value in {
    "Region": "us-east-1", "GeoLocation": {"CountryCode": "DE"}, "GeoProximityLocation": {"AWSRegion": "us-east-1"},
    "CidrRoutingConfig": {"CollectionId": "12345678-1234-1234-1234-123456789012", "LocationName": "*"},
}.items():
    located = record("b.corp.test", "A", "10.0.0.1", SetIdentifier="x", **{member: value})
    refused("InvalidInput", change, ("CREATE", located), says=f"{member} is not supported here")
refused("NoSuchHostedZone", change, ("CREATE", www), of="Z1")
# All or nothing.
refuse("already exists", ("CREATE", record("new.corp.test", "A", "10.0.0.8")), ("CREATE", www))
equal(r53.test_dns_answer(HostedZoneId=zone, RecordName="new.corp.test", RecordType="A")["ResponseCode"], "NXDOMAIN")
found = r53.test_dns_answer(HostedZoneId=zone, RecordName="alias.corp.test", RecordType="A")
equal((found["ResponseCode"], found["RecordData"]), ("NOERROR", ["www.corp.test.", "10.0.0.1"]))
refused("NoSuchHostedZone", r53.test_dns_answer, HostedZoneId="Z1", RecordName="x.test", RecordType="A")
refused("InvalidInput", r53.test_dns_answer, HostedZoneId=zone, RecordName="x.test", RecordType="A")


def listed(**more):
    return r53.list_resource_record_sets(HostedZoneId=zone, **more)


whole = listed()["ResourceRecordSets"]
equal(len(whole), 16)
equal([row["Type"] for row in whole[:6]], ["A", "CAA", "MX", "NS", "SOA", "TXT"])
equal(whole[0]["AliasTarget"], {**target, "DNSName": "www.corp.test."})
equal([row for row in whole if row["Name"] == "\\052.wild.corp.test."][0]["ResourceRecords"], [{"Value": "10.0.0.9"}])
pages = r53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=zone, PaginationConfig={"PageSize": 3})
equal([row for page in pages for row in page["ResourceRecordSets"]], whole)
start = listed(StartRecordName="www.corp.test", StartRecordType="AAAA", MaxItems="1")
equal([(row["Name"], row["Type"]) for row in start["ResourceRecordSets"]], [("www.corp.test.", "AAAA")])
refused("InvalidInput", listed, StartRecordType="A")
refused("NoSuchHostedZone", r53.list_resource_record_sets, HostedZoneId="Z1")
change(("UPSERT", record("www.corp.test", "A", "10.0.0.2", ttl=4)))
answers("www.corp.test", "A", "NOERROR", ["www.corp.test 4 A 10.0.0.2"])

# Tags.
tags = {"ResourceType": "hostedzone", "ResourceId": zone}
r53.change_tags_for_resource(**tags, AddTags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
r53.change_tags_for_resource(**tags, RemoveTagKeys=["a"])
equal(r53.list_tags_for_resource(**tags)["ResourceTagSet"]["Tags"], [{"Key": "b", "Value": "2"}])
refused("NoSuchHostedZone", r53.list_tags_for_resource, ResourceType="hostedzone", ResourceId="Z1")
refused("NoSuchHostedZone", r53.change_tags_for_resource, ResourceType="hostedzone", ResourceId="Z1", RemoveTagKeys=["a"])
refused("NoSuchHealthCheck", r53.list_tags_for_resource, ResourceType="healthcheck", ResourceId="x")

# What goes.
refused("HostedZoneNotEmpty", r53.delete_hosted_zone, Id=zone)
change(*[("DELETE", row) for row in whole if row["Type"] not in ("NS", "SOA") and row["Name"] != "www.corp.test."
         or row["Type"] == "AAAA"], ("DELETE", record("www.corp.test", "A", "10.0.0.2", ttl=4)))
r53.delete_hosted_zone(Id=zone)
r53.delete_hosted_zone(Id=other)
refused("NoSuchHostedZone", r53.delete_hosted_zone, Id=zone)
eventually(lambda: ask("www.corp.test", "A")[0] == "REFUSED", "the zone is gone")
