"""gRPC by grpcio: a target of its own behind target groups of protocol version GRPC and HTTP2, reached by prior knowledge
and over TLS with ALPN.

Usage: grpc_calls.py FOLDER, with one and two, certificates and keys.
"""
import pathlib
import sys
import threading
import time
from concurrent import futures

import grpc

from common import client, equal, eventually, refused
from resolve import resolve

FOLDER = pathlib.Path(sys.argv[1])
LARGE = 8 << 20
OPTIONS = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20)]
elb, acm = client("elbv2", validate=True), client("acm")
cancelled = threading.Event()
reached = threading.Event()


def unary(request, context):
    context.set_trailing_metadata([("x-for", dict(context.invocation_metadata())["x-forwarded-for"])])
    return request


def fail(request, context):
    context.abort(grpc.StatusCode[request.decode()], f"told to: {request.decode()}")


def fail_late(request, context):
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "nothing more")


def wait(request, context):
    context.add_callback(cancelled.set)
    reached.set()
    cancelled.wait(60)
    return b""


def gather(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def count(request, context):
    return (str(number).encode() for number in range(int(request)))


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Gather": grpc.stream_unary_rpc_method_handler(gather),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Talk": grpc.stream_stream_rpc_method_handler(lambda requests, context: requests),
}


def pem(name):
    return [(FOLDER / f"{name}.{end}").read_bytes() for end in ("pem", "key")]


def serve(secure):
    server = grpc.server(futures.ThreadPoolExecutor(32), options=OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", HANDLERS)])
    certificate, key = pem("two")
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    port = server.add_secure_port("127.0.0.1:0", credentials) if secure else server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


class Stub:
    def __init__(self, channel):
        for name, handler in HANDLERS.items():
            kind = ("stream" if handler.request_streaming else "unary") + "_" + (
                "stream" if handler.response_streaming else "unary")
            setattr(self, name, getattr(channel, kind)(f"/test.Echo/{name}"))


def fails(code, call, *arguments, **parameters):
    try:
        answer = call(*arguments, **parameters)
        answer = answer if isinstance(answer, bytes) else list(answer)
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} ({error.details()}) instead of {code}"
        return error.details()
    raise AssertionError(f"{answer!r} instead of {code}")


def battery(stub):
    """Every kind of call, and every way in which one ends."""
    answer, call = stub.Unary.with_call(b"hello", timeout=60)
    equal((answer, call.code()), (b"hello", grpc.StatusCode.OK))
    equal(dict(call.trailing_metadata())["x-for"], "127.0.0.1")
    equal(stub.Unary(b""), b"")
    equal(stub.Gather(iter([b"x" * length for length in (0, 1, 100_000)])), b"100001")
    equal(list(stub.Count(b"500")), [str(number).encode() for number in range(500)])
    said = [f"word {number}".encode() for number in range(100)]
    equal(list(stub.Talk(iter(said))), said)
    # Each is answered before the next one is said.
    gate = threading.Semaphore(1)

    def one_by_one():
        for word in said[:20]:
            gate.acquire()
            yield word

    heard = []
    for word in stub.Talk(one_by_one()):
        heard.append(word)
        gate.release()
    equal(heard, said[:20])
    for code in grpc.StatusCode:
        if code != grpc.StatusCode.OK:
            equal(fails(code, stub.Fail, code.name.encode()), f"told to: {code.name}")
    heard = stub.FailLate(b"")
    equal([next(heard), next(heard)], [b"one", b"two"])
    equal(fails(grpc.StatusCode.DATA_LOSS, list, heard), "nothing more")
    # A target that does not know the method says so itself.
    unknown = stub.channel.unary_unary("/test.Echo/Nothing")
    fails(grpc.StatusCode.UNIMPLEMENTED, unknown, b"")
    # Given up by the client, or by its deadline: the target learns of it.
    for give_up in ("cancel", "deadline"):
        cancelled.clear()
        reached.clear()
        if give_up == "cancel":
            waiting = stub.Wait.future(b"")
            assert reached.wait(30), "the call does not reach its target"
            waiting.cancel()
        else:
            fails(grpc.StatusCode.DEADLINE_EXCEEDED, stub.Wait, b"", timeout=0.3)
        assert cancelled.wait(30), f"the target does not learn of the client's {give_up}"
    large = bytes(range(256)) * (LARGE // 256)
    assert stub.Unary(large) == large
    assert list(stub.Talk(iter([large, b"", large]))) == [large, b"", large]
    # Many at once share connections.
    calls = [stub.Unary.future(str(number).encode()) for number in range(200)]
    equal([call.result() for call in calls], [str(number).encode() for number in range(200)])


def group(name, secure, version, port):
    made = elb.create_target_group(
        Name=name, Protocol="HTTPS" if secure else "HTTP", ProtocolVersion=version, Port=80, VpcId="vpc-1",
        TargetType="ip", HealthCheckIntervalSeconds=5, HealthCheckTimeoutSeconds=2,
        **({"Matcher": {"GrpcCode": "0,12"}} if version == "GRPC" else {"Matcher": {"HttpCode": "200-499"}}),
    )["TargetGroups"][0]
    equal(made["ProtocolVersion"], version)
    if version == "GRPC":
        equal((made["HealthCheckPath"], made["Matcher"]), ("/AWS.ALB/healthcheck", {"GrpcCode": "0,12"}))
    arn, target = made["TargetGroupArn"], {"Id": "127.0.0.1", "Port": port}
    elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[
        {"Key": "deregistration_delay.timeout_seconds", "Value": "3"}])
    elb.register_targets(TargetGroupArn=arn, Targets=[target])
    return arn, target


def healthy(arn):
    def state():
        found = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"][0]["TargetHealth"]
        return found["State"] == "healthy" or found
    eventually(lambda: state() is True, f"{arn}: {state()}")


lb = elb.create_load_balancer(Name="calls", Type="application", Subnets=["subnet-a"])["LoadBalancers"][0]
body, key = pem("one")
certificate = acm.import_certificate(Certificate=body, PrivateKey=key)["CertificateArn"]
plain_server, plain_port = serve(False)
secure_server, secure_port = serve(True)
PLAIN, plain_target = group("plain", False, "GRPC", plain_port)
SECURE, _ = group("secure", True, "GRPC", secure_port)
OTHER, _ = group("other", False, "HTTP2", plain_port)
OLD = elb.create_target_group(Name="old", Protocol="HTTP", Port=80, VpcId="vpc-1", TargetType="ip")["TargetGroups"][0]
forward = lambda arn: [{"Type": "forward", "TargetGroupArn": arn}]
listener = elb.create_listener(
    LoadBalancerArn=lb["LoadBalancerArn"], Protocol="HTTP", Port=8080, DefaultActions=forward(PLAIN))["Listeners"][0]
elb.create_listener(
    LoadBalancerArn=lb["LoadBalancerArn"], Protocol="HTTPS", Port=8443, DefaultActions=forward(SECURE),
    Certificates=[{"CertificateArn": certificate}])
for priority, (host, arn) in enumerate([("other.test", OTHER), ("old.test", OLD["TargetGroupArn"])], 1):
    elb.create_rule(ListenerArn=listener["ListenerArn"], Priority=priority, Actions=forward(arn),
                    Conditions=[{"Field": "host-header", "Values": [host]}])
address = eventually(lambda: resolve(lb["DNSName"]), "the load balancer's name is answered")[0]
for arn in (PLAIN, SECURE):
    healthy(arn)


def stub(port, authority=None):
    options = OPTIONS + ([("grpc.default_authority", authority)] if authority else [])
    if port == 8443:
        credentials = grpc.ssl_channel_credentials(pem("one")[0])
        options = options + [("grpc.ssl_target_name_override", "one.test")]
        channel = grpc.secure_channel(f"{address}:{port}", credentials, options)
    else:
        channel = grpc.insecure_channel(f"{address}:{port}", options)
    made = Stub(channel)
    made.channel = channel
    return made


battery(stub(8080))
battery(stub(8443))
# Targets of an HTTP/2 group are called too: with none healthy, all of them are asked.
eventually(lambda: elb.describe_target_health(TargetGroupArn=OTHER)["TargetHealthDescriptions"][0]["TargetHealth"]
           ["State"] in ("healthy", "unhealthy"), "the HTTP/2 group is judged")
equal(stub(8080, "other.test").Unary(b"x", timeout=60), b"x")
# HTTP/1.1 targets take no calls, and who is not there answers none.
equal(fails(grpc.StatusCode.UNIMPLEMENTED, stub(8080, "old.test").Unary, b"x"), "Incompatible Protocol Versions")

# A stream goes on until the deregistration delay ends, and ends with a status then.
gate = threading.Semaphore(0)


def words():
    while True:
        gate.acquire()
        yield b"word"


stream = stub(8080).Talk(words())
gate.release()
equal(next(stream), b"word")
begun = time.monotonic()
elb.deregister_targets(TargetGroupArn=PLAIN, Targets=[plain_target])


def unavailable():
    try:
        stub(8080).Unary(b"x", timeout=60)
    except grpc.RpcError as error:
        return error.code() == grpc.StatusCode.UNAVAILABLE
    return False


eventually(unavailable, "new calls find nobody")
while time.monotonic() - begun < 2:
    gate.release()
    equal(next(stream), b"word")
fails(grpc.StatusCode.UNAVAILABLE, list, stream)
assert time.monotonic() - begun > 2.9, "cut before the delay's end"
elb.get_waiter("target_deregistered").wait(
    TargetGroupArn=PLAIN, Targets=[plain_target], WaiterConfig={"Delay": 1, "MaxAttempts": 60})

for bad in ({"ProtocolVersion": "HTTP3"}, {"ProtocolVersion": "GRPC", "Matcher": {"GrpcCode": "100"}}):
    refused("ValidationError", elb.create_target_group, Name="bad", Protocol="HTTP", Port=80, **bad)
refused("ValidationError", elb.create_target_group, Name="bad", Protocol="TCP", Port=80, ProtocolVersion="GRPC")
changed = elb.modify_target_group(TargetGroupArn=PLAIN, Matcher={"GrpcCode": "0-99"}, HealthCheckPath="/a.B/C")
equal(changed["TargetGroups"][0]["Matcher"], {"GrpcCode": "0-99"})
for server in (plain_server, secure_server):
    server.stop(None)
