"""ACM, IAM's server certificates, and the listeners that present them: each operation's success, bad input, and what is
not there.

Usage: certificates.py FOLDER, with one.pem and one.key (RSA), two and three (ECDSA).
"""
import http.client
import pathlib
import socket
import ssl
import sys

from common import client, equal, eventually, refused, without
from resolve import resolve

FOLDER = pathlib.Path(sys.argv[1])
acm, iam, elb = client("acm"), client("iam"), client("elbv2")
GONE = "arn:aws:acm:local:000000000000:certificate/12345678-1234-1234-1234-123456789012"


def pem(name):
    return [(FOLDER / f"{name}.{end}").read_text() for end in ("pem", "key")]


def imported(name, **more):
    body, key = pem(name)
    return acm.import_certificate(Certificate=body.encode(), PrivateKey=key.encode(), **more)["CertificateArn"]


# ACM.
one = imported("one", Tags=[{"Key": "a", "Value": "b"}])
two = imported("two")
assert one.startswith("arn:aws:acm:local:000000000000:certificate/"), one
shown = acm.describe_certificate(CertificateArn=one)["Certificate"]
equal(without(acm.describe_certificate(CertificateArn=one))["Certificate"], shown)
equal((shown["DomainName"], shown["SubjectAlternativeNames"], shown["KeyAlgorithm"], shown["Status"], shown["Type"]),
      ("one.test", ["one.test", "*.one.test"], "RSA_2048", "ISSUED", "IMPORTED"))
equal((shown["InUseBy"], shown["SignatureAlgorithm"]), ([], "SHA256WITHRSA"))
equal(acm.describe_certificate(CertificateArn=two)["Certificate"]["KeyAlgorithm"], "EC_prime256v1")
got = acm.get_certificate(CertificateArn=one)
equal(("PRIVATE" in str(got), got["Certificate"], "CertificateChain" in got), (False, pem("one")[0], False))
body, key = pem("two")
chained = acm.import_certificate(Certificate=body.encode(), PrivateKey=key.encode(),
                                 CertificateChain=pem("one")[0].encode())["CertificateArn"]
equal(acm.get_certificate(CertificateArn=chained)["CertificateChain"], pem("one")[0])
# RSA alone unless asked for more, as ACM does.
listed = acm.list_certificates()["CertificateSummaryList"]
equal([(row["CertificateArn"], row["InUse"]) for row in listed], [(one, False)])
every = acm.list_certificates(Includes={"keyTypes": ["RSA_2048", "EC_prime256v1"]})["CertificateSummaryList"]
equal({row["CertificateArn"] for row in every}, {one, two, chained})
equal(acm.list_certificates(CertificateStatuses=["EXPIRED"])["CertificateSummaryList"], [])
pages = acm.get_paginator("list_certificates").paginate(
    Includes={"keyTypes": ["RSA_2048", "EC_prime256v1"]}, PaginationConfig={"PageSize": 1})
equal([len(page["CertificateSummaryList"]) for page in pages], [1, 1, 1])
acm.add_tags_to_certificate(CertificateArn=one, Tags=[{"Key": "c", "Value": "d"}])
equal(acm.list_tags_for_certificate(CertificateArn=one)["Tags"],
      [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d"}])
acm.remove_tags_from_certificate(CertificateArn=one, Tags=[{"Key": "a", "Value": "x"}, {"Key": "c"}])
equal(acm.list_tags_for_certificate(CertificateArn=one)["Tags"], [{"Key": "a", "Value": "b"}])
bad = dict(Certificate=pem("one")[0].encode(), PrivateKey=pem("two")[1].encode())
refused("ValidationException", acm.request_certificate, DomainName="a.test", says="give it to ImportCertificate")
refused("ValidationException", acm.import_certificate, **bad, says="does not match")
refused("ValidationException", acm.import_certificate, **{**bad, "Certificate": b"x"}, says="PEM")
refused("ValidationException", acm.import_certificate, **{**bad, "PrivateKey": b"x"}, says="private key")
refused("InvalidParameterException", imported, "one", CertificateArn=one, Tags=[{"Key": "a"}])
for operation in (acm.describe_certificate, acm.get_certificate, acm.delete_certificate, acm.list_tags_for_certificate):
    refused("ResourceNotFoundException", operation, CertificateArn=GONE)
refused("ResourceNotFoundException", imported, "one", CertificateArn=GONE)
for operation in (acm.add_tags_to_certificate, acm.remove_tags_from_certificate):
    refused("ResourceNotFoundException", operation, CertificateArn=GONE, Tags=[{"Key": "a", "Value": "b"}])
refused("InvalidTagException", acm.add_tags_to_certificate, CertificateArn=one, Tags=[{"Key": "aws:a", "Value": ""}])

# IAM.
body, key = pem("three")
upload = dict(ServerCertificateName="three", CertificateBody=body, PrivateKey=key)
made = iam.upload_server_certificate(**upload, Path="/web/", Tags=[{"Key": "a", "Value": "b"}])
equal(made["Tags"], [{"Key": "a", "Value": "b"}])
meta = made["ServerCertificateMetadata"]
THREE = meta["Arn"]
equal((THREE, meta["Path"]), ("arn:aws:iam::000000000000:server-certificate/web/three", "/web/"))
found = iam.get_server_certificate(ServerCertificateName="three")["ServerCertificate"]
equal((found["ServerCertificateMetadata"], found["CertificateBody"].strip()), (meta, body.strip()))
equal("PRIVATE" in str(found), False)
equal(iam.list_server_certificates(PathPrefix="/web/")["ServerCertificateMetadataList"], [meta])
equal(iam.list_server_certificates(PathPrefix="/other/")["ServerCertificateMetadataList"], [])
refused("EntityAlreadyExists", iam.upload_server_certificate, **upload)
refused("KeyPairMismatch", iam.upload_server_certificate, **{**upload, "ServerCertificateName": "x",
                                                             "PrivateKey": pem("two")[1]})
refused("MalformedCertificate", iam.upload_server_certificate, **{**upload, "ServerCertificateName": "x",
                                                                  "CertificateBody": "x"})
told = refused("ValidationError", iam.upload_server_certificate, **{**upload, "PrivateKey": "secret\u0100"})
assert "privateKey" in told and "secret" not in told, told
iam.tag_server_certificate(ServerCertificateName="three", Tags=[{"Key": "c", "Value": "d"}])
iam.untag_server_certificate(ServerCertificateName="three", TagKeys=["a"])
equal(iam.list_server_certificate_tags(ServerCertificateName="three")["Tags"], [{"Key": "c", "Value": "d"}])
for operation, more in ((iam.get_server_certificate, {}), (iam.delete_server_certificate, {}),
                        (iam.update_server_certificate, {"NewPath": "/"}), (iam.list_server_certificate_tags, {}),
                        (iam.tag_server_certificate, {"Tags": [{"Key": "a", "Value": ""}]}),
                        (iam.untag_server_certificate, {"TagKeys": ["a"]})):
    refused("NoSuchEntity", operation, ServerCertificateName="gone", **more)

# Listeners.
lb = elb.create_load_balancer(Name="front")["LoadBalancers"][0]
LB = lb["LoadBalancerArn"]
net = elb.create_load_balancer(Name="net", Type="network")["LoadBalancers"][0]["LoadBalancerArn"]
fixed = [{"Type": "fixed-response", "FixedResponseConfig": {
    "StatusCode": "200", "ContentType": "text/plain", "MessageBody": "hello"}}]
create = dict(LoadBalancerArn=LB, Protocol="HTTPS", Port=443, DefaultActions=fixed)


def named(*arns):
    return [{"CertificateArn": arn} for arn in arns]


refused("ValidationError", elb.create_listener, **create, says="certificate must be specified")
refused("ValidationError", elb.create_listener, **create, Certificates=named(one, two))
refused("CertificateNotFound", elb.create_listener, **create, Certificates=named(GONE))
refused("SSLPolicyNotFound", elb.create_listener, **create, Certificates=named(one), SslPolicy="mine")
refused("ALPNPolicyNotFound", elb.create_listener, **create, Certificates=named(one), AlpnPolicy=["HTTP2Only"])
refused("OperationNotPermitted", elb.create_listener, **{**create, "Protocol": "HTTP"}, Certificates=named(one))
refused("ValidationError", elb.create_listener, **create, Certificates=named(one),
        MutualAuthentication={"Mode": "verify"}, says="trust store ARN must be specified")
refused("UnsupportedProtocol", elb.create_listener, **{**create, "LoadBalancerArn": net, "Protocol": "TLS"},
        Certificates=named(one))
listener = elb.create_listener(**create, Certificates=named(one))["Listeners"][0]
LISTENER = listener["ListenerArn"]
equal((listener["Protocol"], listener["Certificates"], listener["SslPolicy"], listener["MutualAuthentication"]),
      ("HTTPS", named(one), "ELBSecurityPolicy-2016-08", {"Mode": "off"}))
equal(elb.describe_listeners(ListenerArns=[LISTENER])["Listeners"], [listener])
equal(elb.create_listener(**create, Certificates=named(one))["Listeners"], [listener])
refused("DuplicateListener", elb.create_listener, **create, Certificates=named(two))
(address,) = eventually(lambda: resolve(lb["DNSName"]), "the load balancer has a name")


def answered(name):
    """The certificate that is shown to a client that asks for `name`, and what was agreed on."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, 443), 10) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        tls.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        response = http.client.HTTPResponse(tls)
        response.begin()
        equal((response.status, response.read()), (200, b"hello"))
        return ssl.DER_cert_to_PEM_cert(tls.getpeercert(True)), tls.version()


def shows(name, wanted):
    return eventually(lambda: "".join(answered(name)[0].split()) == "".join(pem(wanted)[0].split()),
                      f"{name} is shown {wanted}")


shows("one.test", "one")
equal(answered("one.test")[1], "TLSv1.2")
equal(elb.describe_listener_certificates(ListenerArn=LISTENER)["Certificates"],
      [{"CertificateArn": one, "IsDefault": True}])
equal(elb.add_listener_certificates(ListenerArn=LISTENER, Certificates=named(two))["Certificates"],
      [{"CertificateArn": two, "IsDefault": False}])
elb.add_listener_certificates(ListenerArn=LISTENER, Certificates=named(THREE))
equal(sorted(row["CertificateArn"] for row in elb.describe_listener_certificates(ListenerArn=LISTENER)["Certificates"]),
      sorted([one, two, THREE]))
refused("CertificateNotFound", elb.add_listener_certificates, ListenerArn=LISTENER, Certificates=named(GONE))
refused("OperationNotPermitted", elb.remove_listener_certificates, ListenerArn=LISTENER, Certificates=named(one))
shows("two.test", "two")
shows("a.three.test", "three")
shows("other.test", "one")
equal(acm.describe_certificate(CertificateArn=two)["Certificate"]["InUseBy"], [LB])
refused("ResourceInUseException", acm.delete_certificate, CertificateArn=two)
refused("DeleteConflict", iam.delete_server_certificate, ServerCertificateName="three")
# A new name is the listeners' name for it; a new content of the same ARN is shown at once.
iam.update_server_certificate(ServerCertificateName="three", NewServerCertificateName="four", NewPath="/")
FOUR = THREE.replace("web/three", "four")
assert FOUR in str(elb.describe_listener_certificates(ListenerArn=LISTENER)["Certificates"])
equal(iam.list_server_certificate_tags(ServerCertificateName="four")["Tags"], [{"Key": "c", "Value": "d"}])
equal(imported("three", CertificateArn=two), two)
shows("a.three.test", "three")
shows("two.test", "one")
changed = elb.modify_listener(ListenerArn=LISTENER, Certificates=named(two),
                              SslPolicy="ELBSecurityPolicy-TLS13-1-3-2021-06")["Listeners"][0]
equal((changed["Certificates"], changed["SslPolicy"]), (named(two), "ELBSecurityPolicy-TLS13-1-3-2021-06"))
shows("other.test", "three")
equal(answered("other.test")[1], "TLSv1.3")
elb.remove_listener_certificates(ListenerArn=LISTENER, Certificates=named(FOUR))
equal([row["IsDefault"] for row in elb.describe_listener_certificates(ListenerArn=LISTENER)["Certificates"]], [True])
refused("SSLPolicyNotFound", elb.modify_listener, ListenerArn=LISTENER, SslPolicy="mine")
plain = elb.modify_listener(ListenerArn=LISTENER, Protocol="HTTP")["Listeners"][0]
equal(("Certificates" in plain, "SslPolicy" in plain), (False, False))
refused("ValidationError", elb.modify_listener, ListenerArn=LISTENER, Protocol="HTTPS")
elb.modify_listener(ListenerArn=LISTENER, Protocol="HTTPS", Certificates=named(one))
limits = {row["Name"]: row["Max"] for row in elb.describe_account_limits()["Limits"]}
most = int(limits["certificates-per-application-load-balancer"])
many = [imported("one") for _ in range(most + 1)]
refused("TooManyCertificates", elb.add_listener_certificates, ListenerArn=LISTENER, Certificates=named(*many))

# Deleted.
elb.delete_listener(ListenerArn=LISTENER)
for arn in (one, two, chained, *many):
    acm.delete_certificate(CertificateArn=arn)
iam.delete_server_certificate(ServerCertificateName="four")
equal(acm.list_certificates(Includes={"keyTypes": ["RSA_2048", "EC_prime256v1"]})["CertificateSummaryList"], [])
equal(iam.list_server_certificates()["ServerCertificateMetadataList"], [])
for arn in (LB, net):
    elb.delete_load_balancer(LoadBalancerArn=arn)
