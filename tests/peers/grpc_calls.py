"""All kinds of gRPC calls through ringway, with grpcio on both ends, with and without TLS. scripts/peers runs it."""

import os
import queue
import random
import re
import subprocess
import sys
import tempfile
import threading
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


class Active:
    """The calls that are open at the endpoint, whoever ends them."""

    def __init__(self):
        self.lock, self.calls = threading.Lock(), 0

    def add(self, number):
        with self.lock:
            self.calls += number

    def counted(self, method):
        """The method, counted from its begin to the end of its stream."""

        def call(request, context):
            self.add(1)
            if not context.add_callback(lambda: self.add(-1)):
                self.add(-1)  # it has ended meanwhile
            return method(request, context)

        return call


active = Active()


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
        "/test.Echo/Unary": grpc.unary_unary_rpc_method_handler(active.counted(unary)),
        "/test.Echo/Many": grpc.unary_stream_rpc_method_handler(active.counted(many)),
        "/test.Echo/Count": grpc.stream_unary_rpc_method_handler(active.counted(count)),
        "/test.Echo/Echo": grpc.stream_stream_rpc_method_handler(active.counted(echo)),
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


def left(admin):
    """What is still there of calls, on ringway's side and on the endpoint's, by name."""
    names = ["http_requests_in_flight", "ringway_endpoint_requests_in_flight", "ringway_buffers_in_use", "ringway_http2_held_bytes"]
    counts = {name: metric(admin, name) for name in names}
    counts["connections but this one"] = metric(admin, "ringway_connections_open") - 1
    counts["calls at the endpoint"] = active.calls
    return {name: count for name, count in counts.items() if count > 0}


def check(channel, admin, pid):
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
        assert active.calls == 1
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

    memory, files = [], []
    for _ in range(ROUNDS):
        cancel(many_call, echo_call, count_call)
        assert unary_call(b"after") == b"re:after"
        until = time.monotonic() + 10
        while still := left(admin):
            assert time.monotonic() < until, still
            time.sleep(0.1)
        memory.append(resident(pid))
        files.append(int(metric(admin, "process_open_fds")))
    assert metric(admin, "ringway_panics_total") == 0
    # A task that stays holds some 6 KiB: 200 of a round would show.
    assert memory[-1] - memory[1] < 600, f"KiB after each round: {memory}"
    # As many connections to the endpoint as there may be, and not one more in each round.
    assert files[-1] <= files[1] + 1, f"open files after each round: {files}"
    print(f"{ROUNDS} times {CANCELLED} calls cancelled, nothing left here or at the endpoint; KiB after each: {memory}, files: {files}: ok")
    expect_failure(grpc.StatusCode.UNIMPLEMENTED, lambda: channel.unary_unary("/no.Route/X")(b""))


def check_both(ports, admin, server, pid):
    """Everything without TLS, then everything with it; at last without an endpoint."""
    with grpc.insecure_channel(f"127.0.0.1:{ports['edge']}") as channel:
        check(channel, admin, pid)
    with open("certs/ca.pem", "rb") as ca:
        trusted = grpc.ssl_channel_credentials(ca.read())
    with grpc.secure_channel(f"localhost:{ports['tls']}", trusted) as channel:
        print("the same over TLS:")
        check(channel, admin, pid)
        server.stop(0).wait()
        call = channel.unary_unary("/test.Echo/Unary")
        expect_failure(grpc.StatusCode.UNAVAILABLE, lambda: call(b"nobody"))
    print("failures of ringway's own: ok")


def main(ringway, directory):
    server = grpc.server(futures.ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((Calls(),))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(["grpc.health.v1.Health"], server)
    endpoint = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ports = common.free_ports(["edge", "tls", "admin"])
    admin = ports["admin"]
    os.chdir(directory)
    subprocess.run([ringway, "cert", "localhost"], check=True, stdout=subprocess.DEVNULL)
    with open("ringway.toml", "w") as config:
        config.write(
            f"""
            [admin]
            address = "127.0.0.1:{admin}"
            [[listener]]
            name = "edge"
            address = "127.0.0.1:{ports['edge']}"
            http = ["h1", "h2"]
            [[listener]]
            name = "tls"
            address = "127.0.0.1:{ports['tls']}"
            http = ["h1", "h2"]
            [listener.tls]
            certificates = [{{ cert = "certs/localhost.pem", key = "certs/localhost.key" }}]
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
    with common.running([ringway, "run", "-c", "ringway.toml"], *ports.values()) as process:
        check_both(ports, admin, server, process.pid)


with tempfile.TemporaryDirectory() as directory:
    main(os.path.abspath(sys.argv[1]), directory)
