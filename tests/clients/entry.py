"""The endpoint itself: who the caller is, what it does not know, wire forms.

Usage: entry.py none|sigv4; what it asks of callers.
"""
import os
import sys
import urllib.error
import urllib.request

import boto3

from common import CONFIG, client, equal, refused, without

sts = client("sts")
identity = without(sts.get_caller_identity())
equal(identity["Account"], "000000000000")
equal(identity["Arn"], "arn:aws:iam::000000000000:root")


def raw(headers, body, path="/"):
    request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"] + path, body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


TARGET = "AmazonEC2ContainerServiceV20141113."
if sys.argv[1] == "none":
    status, headers, body = raw({"X-Amz-Target": TARGET + "FlyToTheMoon"}, b"{}")
    assert status == 400 and "UnknownOperationException" in body, (status, body)
    assert headers["Content-Type"] == "application/x-amz-json-1.1" and headers["x-amzn-RequestId"]
    status, _, body = raw({"X-Amz-Target": TARGET + "ListClusters"}, b"{")
    assert status == 400 and "SerializationException" in body, (status, body)
    status, _, body = raw({"X-Amz-Target": TARGET + "ListClusters"}, b'{"maxResults": "x"}')
    assert status == 400 and "SerializationException" in body, (status, body)
    status, _, body = raw({}, b"Action=FlyToTheMoon&Version=2015-12-01")
    assert status == 400 and "<Code>InvalidAction</Code>" in body, (status, body)
    status, _, body = raw({}, b"x" * (3 << 20))
    assert status == 413, (status, body)
    status, _, body = raw({}, b"", "/2013-04-01/moon")
    assert status == 400 and "InvalidAction" in body, (status, body)
else:
    status, _, body = raw({"X-Amz-Target": TARGET + "ListClusters"}, b"{}")
    assert status == 400 and "MissingAuthenticationTokenException" in body, (status, body)
    status, _, body = raw({}, b"Action=GetCallerIdentity&Version=2011-06-15")
    assert status == 403 and "<Code>MissingAuthenticationToken</Code>" in body, (status, body)
    key = boto3.Session().get_credentials()
    for id, secret in [(key.access_key, "x" * 40), ("AKIA" + "Z" * 16, key.secret_key)]:
        stranger = boto3.Session(id, secret, region_name="local")
        refused("SignatureDoesNotMatch", stranger.client("sts", config=CONFIG).get_caller_identity)
        refused("InvalidSignatureException", stranger.client("ecs", config=CONFIG).list_clusters)
    elsewhere = boto3.Session(region_name="eu-west-1").client("ecs", config=CONFIG)
    refused("InvalidRegion", elsewhere.list_clusters, says="AWS_REGION=local")
    url = sts.generate_presigned_url("get_caller_identity", HttpMethod="GET")
    with urllib.request.urlopen(url) as answer:
        assert b"GetCallerIdentityResult" in answer.read()
