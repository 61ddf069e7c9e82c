"""Trust stores, and listeners that ask clients for certificates: each operation's success, bad input, and what is not
there; and real handshakes.

Usage: trust_stores.py FOLDER ADDRESS: the folder with one.pem and one.key and the bucket with the certificates of
`trust.rs`; where the file's listeners are: 8443 and 8444 pass certificates through, 8445 and 8446 verify them.
"""
import base64
import http.client
import pathlib
import socket
import ssl
import sys
import urllib.parse

from common import client, equal, eventually, refused
from resolve import resolve

FOLDER, ADDRESS = pathlib.Path(sys.argv[1]), sys.argv[2]
BUCKET = FOLDER / "bucket"
elb, acm = client("elbv2"), client("acm")
OWN = "arn:aws:elasticloadbalancing:local:000000000000:"
GONE = OWN + "truststore/gone/0123456789abcdef"
S3 = {"CaCertificatesBundleS3Bucket": "bucket", "CaCertificatesBundleS3Key": "ca.pem"}
CRL = {"S3Bucket": "bucket", "S3Key": "crl.pem", "RevocationType": "CRL"}

# Trust stores: what the file made, then one of our own.
files = elb.describe_trust_stores(Names=["file"])["TrustStores"][0]
equal((files["NumberOfCaCertificates"], files["TotalRevokedEntries"], files["Status"]), (1, 1, "ACTIVE"))
refused("OperationNotPermitted", elb.delete_trust_store, TrustStoreArn=files["TrustStoreArn"], says="configuration file")
refused("CaCertificatesBundleNotFound", elb.create_trust_store, Name="own", **{**S3, "CaCertificatesBundleS3Key": "gone.pem"})
for bucket, key in [("..", "one.pem"), ("bucket", "../one.pem"), ("bucket", "/etc/passwd"), (".", "one.pem")]:
    refused("CaCertificatesBundleNotFound", elb.create_trust_store, Name="own", CaCertificatesBundleS3Bucket=bucket, CaCertificatesBundleS3Key=key)
refused("InvalidCaCertificatesBundle", elb.create_trust_store, Name="own", **{**S3, "CaCertificatesBundleS3Key": "good.pem"}, says="authority")
refused("InvalidCaCertificatesBundle", elb.create_trust_store, Name="own", **{**S3, "CaCertificatesBundleS3Key": "good.key"})
refused("ValidationError", elb.create_trust_store, Name="no good", **S3)
refused("OperationNotPermitted", elb.create_trust_store, Name="own", **S3, CaCertificatesBundleS3ObjectVersion="1", says="is not supported")
store = elb.create_trust_store(Name="own", **S3, Tags=[{"Key": "a", "Value": "b"}])["TrustStores"][0]
ARN = store["TrustStoreArn"]
assert ARN.startswith(OWN + "truststore/own/"), ARN
equal((store["NumberOfCaCertificates"], store["TotalRevokedEntries"]), (1, 0))
refused("DuplicateTrustStoreName", elb.create_trust_store, Name="own", **S3)
equal(elb.describe_trust_stores(TrustStoreArns=[ARN])["TrustStores"], [store])
pages = elb.get_paginator("describe_trust_stores").paginate(PaginationConfig={"PageSize": 1}) if elb.can_paginate("describe_trust_stores") else [elb.describe_trust_stores()]
equal(sorted(one["Name"] for page in pages for one in page["TrustStores"]), ["file", "own"])
equal(elb.describe_tags(ResourceArns=[ARN])["TagDescriptions"][0]["Tags"], [{"Key": "a", "Value": "b"}])
elb.add_tags(ResourceArns=[ARN], Tags=[{"Key": "c", "Value": "d"}])


def content(answer):
    kind, data = answer["Location"].split(",", 1)
    equal(kind, "data:application/x-pem-file;base64")
    return base64.b64decode(data).decode()


equal(content(elb.get_trust_store_ca_certificates_bundle(TrustStoreArn=ARN)), (BUCKET / "ca.pem").read_text())
refused("InvalidRevocationContent", elb.add_trust_store_revocations, TrustStoreArn=ARN, RevocationContents=[{**CRL, "S3Key": "ca.pem"}])
refused("RevocationContentNotFound", elb.add_trust_store_revocations, TrustStoreArn=ARN, RevocationContents=[{**CRL, "S3Key": "x"}])
added = elb.add_trust_store_revocations(TrustStoreArn=ARN, RevocationContents=[CRL])["TrustStoreRevocations"]
equal(added, [{"TrustStoreArn": ARN, "RevocationId": 1, "RevocationType": "CRL", "NumberOfRevokedEntries": 1}])
equal(elb.describe_trust_store_revocations(TrustStoreArn=ARN)["TrustStoreRevocations"], added)
equal(elb.describe_trust_stores(Names=["own"])["TrustStores"][0]["TotalRevokedEntries"], 1)
equal(content(elb.get_trust_store_revocation_content(TrustStoreArn=ARN, RevocationId=1)), (BUCKET / "crl.pem").read_text())
for operation in (elb.describe_trust_store_revocations, elb.remove_trust_store_revocations):
    refused("RevocationIdNotFound", operation, TrustStoreArn=ARN, RevocationIds=[9])
refused("RevocationIdNotFound", elb.get_trust_store_revocation_content, TrustStoreArn=ARN, RevocationId=9)
refused("TrustStoreNotFound", elb.describe_trust_stores, Names=["gone"])
for operation, more in [
    (elb.describe_trust_store_revocations, {}), (elb.describe_trust_store_associations, {}), (elb.delete_trust_store, {}),
    (elb.get_trust_store_ca_certificates_bundle, {}), (elb.get_trust_store_revocation_content, {"RevocationId": 1}),
    (elb.remove_trust_store_revocations, {"RevocationIds": [1]}), (elb.add_trust_store_revocations, {"RevocationContents": [CRL]}),
    (elb.modify_trust_store, S3),
]:
    refused("TrustStoreNotFound", operation, TrustStoreArn=GONE, **more)
refused("CaCertificatesBundleNotFound", elb.modify_trust_store, TrustStoreArn=ARN, **{**S3, "CaCertificatesBundleS3Key": "x"})
equal(elb.modify_trust_store(TrustStoreArn=ARN, **S3)["TrustStores"][0]["TrustStoreArn"], ARN)


# Handshakes.
def ask(address, port, name=None, **headers):
    """What a target is told by a client with that certificate; none: it is turned away."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if name:
        context.load_cert_chain(BUCKET / f"{name}.pem", BUCKET / f"{name}.key")
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    try:
        with socket.create_connection((address, port), 10) as plain, context.wrap_socket(plain, server_hostname="one.test") as tls:
            tls.sendall(f"GET / HTTP/1.1\r\nHost: one.test\r\n{lines}Connection: close\r\n\r\n".encode())
            response = http.client.HTTPResponse(tls)
            response.begin()
            equal(response.status, 200)
            return {
                key.lower(): value
                for key, _, value in (line.partition(": ") for line in response.read().decode().splitlines())
                if key.lower().startswith("x-amzn-mtls-")
            }
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return None


PREFIX = "x-amzn-mtls-clientcert"
LIE = {"X-Amzn-Mtls-Clientcert": "a lie", "X-Amzn-Mtls-Clientcert-Subject": "CN=root"}


def told(found, name):
    """What a target is told of a certificate that was verified."""
    equal(sorted(key.removeprefix(PREFIX) for key in found), ["-issuer", "-leaf", "-serial-number", "-subject", "-validity"])
    equal((found[PREFIX + "-serial-number"], found[PREFIX + "-subject"]), ("0ABC", f"CN={name}"))
    equal(found[PREFIX + "-issuer"], "CN=own,O=Trust\\, Inc.,C=US")
    equal(found[PREFIX + "-validity"], "NotBefore=2020-01-01T00:00:00Z;NotAfter=2100-12-31T00:00:00Z")
    equal("".join(urllib.parse.unquote(found[PREFIX + "-leaf"]).split()), "".join((BUCKET / f"{name}.pem").read_text().split()))


for port in (8443, 8444):
    equal(ask(ADDRESS, port, **LIE), {})
    for name in ("good", "stranger", "expired"):
        found = ask(ADDRESS, port, name, **LIE)
        equal(list(found), [PREFIX])
        equal("".join(urllib.parse.unquote(found[PREFIX]).split()), "".join((BUCKET / f"{name}.pem").read_text().split()))
for port in (8445, 8446):
    told(ask(ADDRESS, port, "good", **LIE), "good")
    for name in (None, "stranger", "expired", "revoked"):
        equal(ask(ADDRESS, port, name), None)


def names_asked(address, port):
    """The issuers that a server tells its clients about, by OpenSSL."""
    import subprocess
    shown = subprocess.run(
        ["openssl", "s_client", "-connect", f"{address}:{port}", "-servername", "one.test"], input=b"", capture_output=True, timeout=30,
        check=False).stdout.decode()
    return "Acceptable client certificate CA names" in shown and "CN = own" in shown.replace("CN=own", "CN = own")


equal(names_asked(ADDRESS, 8445), True)
equal(names_asked(ADDRESS, 8443), False)

# A listener of the API, from one mode to the next.
body, key = ((FOLDER / f"one.{end}").read_text().encode() for end in ("pem", "key"))
certificate = acm.import_certificate(Certificate=body, PrivateKey=key)["CertificateArn"]
lb = elb.create_load_balancer(Name="own")["LoadBalancers"][0]
(address,) = eventually(lambda: resolve(lb["DNSName"]), "the load balancer has a name")
group = elb.create_target_group(Name="own", Protocol="HTTP", Port=8080, VpcId="vpc-1", TargetType="ip", HealthCheckIntervalSeconds=5)
GROUP = group["TargetGroups"][0]["TargetGroupArn"]
web = elb.describe_target_groups(Names=["web"])["TargetGroups"][0]["TargetGroupArn"]
target = elb.describe_target_health(TargetGroupArn=web)["TargetHealthDescriptions"][0]["Target"]
elb.register_targets(TargetGroupArn=GROUP, Targets=[{"Id": target["Id"], "Port": target["Port"]}])
CREATE = dict(LoadBalancerArn=lb["LoadBalancerArn"], Protocol="HTTPS", Port=443, Certificates=[{"CertificateArn": certificate}],
              DefaultActions=[{"Type": "forward", "TargetGroupArn": GROUP}])
for mutual, says in [
    ({"Mode": "verify"}, "trust store ARN"), ({"Mode": "sometimes"}, "must be one of"), ({"Mode": "off", "TrustStoreArn": ARN}, "TrustStoreArn"),
    ({"Mode": "passthrough", "IgnoreClientCertificateExpiry": True}, "IgnoreClientCertificateExpiry"),
]:
    refused("ValidationError", elb.create_listener, **CREATE, MutualAuthentication=mutual, says=says)
refused("TrustStoreNotFound", elb.create_listener, **CREATE, MutualAuthentication={"Mode": "verify", "TrustStoreArn": GONE})
refused("ValidationError", elb.create_listener, **{**CREATE, "Protocol": "HTTP", "Certificates": []}, MutualAuthentication={"Mode": "passthrough"}, says="HTTPS")
listener = elb.create_listener(**CREATE, MutualAuthentication={"Mode": "verify", "TrustStoreArn": ARN})["Listeners"][0]
LISTENER = listener["ListenerArn"]
equal(listener["MutualAuthentication"], {
    "Mode": "verify", "TrustStoreArn": ARN, "IgnoreClientCertificateExpiry": False, "TrustStoreAssociationStatus": "active",
    "AdvertiseTrustStoreCaNames": "off"})
equal(elb.describe_trust_store_associations(TrustStoreArn=ARN)["TrustStoreAssociations"], [{"ResourceArn": LISTENER}])
refused("TrustStoreInUse", elb.delete_trust_store, TrustStoreArn=ARN)
elb.get_waiter("target_in_service").wait(TargetGroupArn=GROUP, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
told(eventually(lambda: ask(address, 443, "good"), "the listener"), "good")
for name in (None, "stranger", "expired", "revoked"):
    equal(ask(address, 443, name), None)
equal(names_asked(address, 443), False)
# Without its list nobody is revoked; the listener follows at once.
elb.remove_trust_store_revocations(TrustStoreArn=ARN, RevocationIds=[1])
eventually(lambda: ask(address, 443, "revoked"), "the revoked one to be let in")


def mode(**mutual):
    changed = elb.modify_listener(ListenerArn=LISTENER, MutualAuthentication=mutual)["Listeners"][0]["MutualAuthentication"]
    equal({key: changed[key] for key in mutual}, mutual)


mode(Mode="verify", TrustStoreArn=ARN, IgnoreClientCertificateExpiry=True, AdvertiseTrustStoreCaNames="on")
eventually(lambda: ask(address, 443, "expired"), "the expired one to be let in")
eventually(lambda: names_asked(address, 443), "the names")
for name in (None, "stranger"):
    equal(ask(address, 443, name), None)
mode(Mode="passthrough")
eventually(lambda: ask(address, 443) == {}, "those without a certificate to be let in")
equal(list(ask(address, 443, "stranger", **LIE)), [PREFIX])
mode(Mode="off")
eventually(lambda: len(ask(address, 443, "good", **LIE)) == 2, "nobody to be asked")
elb.delete_trust_store(TrustStoreArn=ARN)
refused("TrustStoreNotFound", elb.describe_trust_stores, TrustStoreArns=[ARN])
