"""All kinds of gRPC calls through ringway, with grpcio on both ends. scripts/peers runs it."""

import queue
import random
import re
import sys
import tempfile
import time
import urllib.request
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

import common

MESSAGES = 10_000
CANCELLED = 200
ROUNDS = 6


def unary(request, context):
    if request == b"fail":
        context.abort(grpc.StatusCode.NOT_FOUND, "nope")
    if request == b"slow":
        time.sleep(2)
    context.set_trailing_metadata((("x-trailer", "1"),))
    return b"re:" + request


def many(request, _context):
    for number in range(int(request)):
        yield b"m%d" % number


def count(requests, _context):
    return str(sum(1 for _ in requests)).encode()


def echo(requests, _context):
    for request in requests:
        yield b"re:" + request


class Calls(grpc.GenericRpcHandler):
    METHODS = {
        "/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(unary),
        "/test.Echo/Many": grpc.unary_stream_rpc_method_handler(many),
        "/test.Echo/Count": grpc.stream_unary_rpc_method_handler(count),
        "/test.Echo/Echo": grpc.stream_stream_rpc_method_handler(echo),
    }

    def service(self, details):
        return self.METHODS.get(details.method)


def metric(admin, name):
    text = urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics").read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M))


def expect_failure(code, call):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} instead of {code}: {error.details()}"
    else:
        raise AssertionError(f"no failure, {code} was expected")


def resident(pid):
    """KiB of memory of its own."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def cancel(many_call, echo_call, count_call):
    """Calls of all kinds, cancelled at random points."""
    for _ in range(CANCELLED):
        kind = random.randrange(3)
        if kind == 0:
            call = many_call(str(MESSAGES).encode())
        elif kind == 1:
            call = echo_call(b"x" for _ in range(10 * MESSAGES))
        else:
            call = count_call.future(b"x" for _ in range(10 * MESSAGES))
            time.sleep(random.random() / 100)
        for _ in range(random.randrange(50) if kind < 2 else 0):
            next(call)
        call.cancel()


def check(port, admin, server, pid):
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    unary_call = channel.unary_unary("/test.Echo/Unary")
    many_call = channel.unary_stream("/test.Echo/Many")
    count_call = channel.stream_unary("/test.Echo/Count")
    echo_call = channel.stream_stream("/test.Echo/Echo")

    answer, call = unary_call.with_call(b"hello")
    assert answer == b"re:hello" and ("x-trailer", "1") in call.trailing_metadata()
    expect_failure(grpc.StatusCode.NOT_FOUND, lambda: unary_call(b"fail"))
    begin = time.monotonic()
    expect_failure(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: unary_call(b"slow", timeout=0.5))
    assert time.monotonic() - begin < 1.5
    print("unary, failures, deadlines: ok")

    assert sum(1 for _ in many_call(str(MESSAGES).encode())) == MESSAGES
    assert int(count_call(b"x" for _ in range(MESSAGES))) == MESSAGES
    assert sum(1 for _ in echo_call(b"x" for _ in range(MESSAGES))) == MESSAGES
    print(f"{MESSAGES} messages down, up and both ways: ok")

    requests = queue.Queue()
    answers = echo_call(iter(requests.get, None))
    for number in range(100):
        requests.put(b"%d" % number)
        assert next(answers) == b"re:%d" % number
    requests.put(None)
    assert list(answers) == []
    print("one message at a time, both ways: ok")

    checks = health_pb2_grpc.HealthStub(channel)
    assert checks.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    watched = checks.Watch(health_pb2.HealthCheckRequest())
    assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
    watched.cancel()
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked])))
    assert [one.name for one in answers[0].list_services_response.service] == ["grpc.health.v1.Health"]
    print("health checks, reflection: ok")

    memory = []
    for _ in range(ROUNDS):
        cancel(many_call, echo_call, count_call)
        assert unary_call(b"after") == b"re:after"
        until = time.monotonic() + 10
        names = ["http_requests_in_flight", "ringway_endpoint_requests_in_flight", "ringway_buffers_in_use"]
        while any(metric(admin, name) > 0 for name in names) or metric(admin, "ringway_connections_open") > 1:
            assert time.monotonic() < until, {name: metric(admin, name) for name in names}
            time.sleep(0.1)
        memory.append(resident(pid))
    assert metric(admin, "ringway_panics_total") == 0
    # A task that stays holds some 6 KiB: 200 of a round would show.
    assert memory[-1] - memory[1] < 600, f"KiB after each round: {memory}"
    print(f"{ROUNDS} times {CANCELLED} calls cancelled, nothing left; KiB after each: {memory}: ok")

    expect_failure(grpc.StatusCode.UNIMPLEMENTED, lambda: channel.unary_unary("/no.Route/X")(b""))
    server.stop(0).wait()
    expect_failure(grpc.StatusCode.UNAVAILABLE, lambda: unary_call(b"nobody"))
    print("failures of ringway's own: ok")


def main(ringway):
    server = grpc.server(futures.ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((Calls(),))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(["grpc.health.v1.Health"], server)
    endpoint = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ports = common.free_ports(["edge", "admin"])
    port, admin = ports["edge"], ports["admin"]
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(
            f"""
            [admin]
            address = "127.0.0.1:{admin}"
            [[listener]]
            name = "edge"
            address = "127.0.0.1:{port}"
            http = ["h1", "h2"]
            [[route]]
            id = "echo"
            path_prefix = "/test.Echo"
            upstream = "echo"
            [[route]]
            id = "services"
            path_regex = "^/grpc\\\\.(health|reflection)\\\\."
            upstream = "echo"
            [[upstream]]
            name = "echo"
            http = "h2"
            endpoints = [{{ url = "http://127.0.0.1:{endpoint}" }}]
            """
        )
        config.flush()
        with common.running([ringway, "run", "-c", config.name], port, admin) as process:
            check(port, admin, server, process.pid)


main(sys.argv[1])
