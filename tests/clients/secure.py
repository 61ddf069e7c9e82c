"""The endpoint over TLS: calls over HTTPS are answered, over HTTP they are not.

Usage: secure.py FOLDER, with one.pem, the certificate of the endpoint.
"""
import os
import pathlib
import socket
import ssl
import sys
import urllib.parse

import boto3
import botocore.exceptions

from common import CONFIG, client, equal

plain = os.environ["AWS_ENDPOINT_URL"]
secure = plain.replace("http:", "https:")
sts = boto3.client("sts", endpoint_url=secure, verify=False, config=CONFIG)
for _ in range(2):
    equal(sts.get_caller_identity()["Account"], "000000000000")
try:
    raise AssertionError(client("sts").get_caller_identity())
except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError):
    pass
# It is the certificate that the file names, under its own name.
trusting = ssl.create_default_context(cafile=pathlib.Path(sys.argv[1], "one.pem"))
parts = urllib.parse.urlsplit(secure)
with socket.create_connection((parts.hostname, parts.port), 10) as connection:
    with trusting.wrap_socket(connection, server_hostname="one.test") as tls:
        equal(tls.version(), "TLSv1.3")
