"""gRPC-Web calls of `buf curl` through ringway to grpcio. scripts/peers runs it: grpc_web.py RINGWAY BUF."""

import json
import os
import subprocess
import sys
import tempfile
from concurrent import futures

import grpc

import common

SCHEMA = """
syntax = "proto3";
package test;
message Text { string text = 1; }
service Echo {
  rpc Say(Text) returns (Text);
  rpc Many(Text) returns (stream Text);
  rpc Fail(Text) returns (Text);
}
"""


def many(request, _context):
    """The same message three times: bytes in and out, as the schema is `buf`'s business."""
    for _ in range(3):
        yield request


def fail(_request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "none of it")


class Echo(grpc.GenericRpcHandler):
    METHODS = {
        "/test.Echo/Say": grpc.unary_unary_rpc_method_handler(lambda request, _context: request),
        "/test.Echo/Many": grpc.unary_stream_rpc_method_handler(many),
        "/test.Echo/Fail": grpc.unary_unary_rpc_method_handler(fail),
    }

    def service(self, details):
        return self.METHODS.get(details.method)


def check(buf, directory, port):
    def call(method, *more):
        command = [buf, "curl", "--schema", f"{directory}/echo.proto", "--protocol", "grpcweb", "-d", '{"text": "hello"}']
        command += [*more, f"http://127.0.0.1:{port}/test.Echo/{method}"]
        return subprocess.run(command, capture_output=True, text=True, cwd=directory, timeout=60)

    for name, more in [("HTTP/1.1", []), ("HTTP/2", ["--http2-prior-knowledge"])]:
        answer = call("Say", *more)
        assert json.loads(answer.stdout) == {"text": "hello"}, answer
        answer = call("Many", *more)
        assert answer.stdout.count('"hello"') == 3, answer
        answer = call("Fail", *more)
        assert answer.returncode != 0 and json.loads(answer.stderr)["code"] == "not_found", answer
        print(f"buf curl, gRPC-Web over {name}: unary, a stream, a failure: ok")


def main(ringway, buf):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Echo(),))
    endpoint = server.add_insecure_port("127.0.0.1:0")
    server.start()
    port = common.free_ports(["edge"])["edge"]
    with tempfile.TemporaryDirectory() as directory:
        with open(f"{directory}/echo.proto", "w") as schema:
            schema.write(SCHEMA)
        with open(f"{directory}/ringway.toml", "w") as config:
            config.write(
                f"""
                [admin]
                enabled = false
                [[listener]]
                name = "edge"
                address = "127.0.0.1:{port}"
                http = ["h1", "h2"]
                [[route]]
                id = "echo"
                path_prefix = "/test.Echo"
                upstream = "echo"
                grpc_web = true
                [[upstream]]
                name = "echo"
                http = "h2"
                endpoints = [{{ url = "http://127.0.0.1:{endpoint}" }}]
                """
            )
        with common.running([ringway, "run", "-c", config.name], port):
            check(os.path.abspath(buf), directory, port)
    server.stop(0)


main(sys.argv[1], sys.argv[2])
