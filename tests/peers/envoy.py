"""Envoy in front of ringway and behind it, in every pairing of HTTP/1.1, HTTP/2 and HTTP/2 over TLS: envoy.py RINGWAY ENVOY.

client -> Envoy -> ringway -> Envoy -> origin: plain requests, large bodies, WebSockets, gRPC, and bodies that are cut
off. scripts/peers runs it.
"""

import asyncio
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
from concurrent import futures

import grpc
import websockets
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import common

LARGE = os.urandom(1 << 20)
VERSIONS = ("h1", "h2c", "tls")
PORTS = [f"{side}_{version}" for side in ("in", "out") for version in VERSIONS]
PORTS += ["plain", "tls"]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def kind(name):
    return "type.googleapis.com/envoy.extensions." + name


def listener(name, port, routes, codec, tls=None):
    manager = {
        "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "codec_type": codec,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http2_protocol_options": {"allow_connect": True},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": kind("filters.http.router.v3.Router")}}],
    }
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    if tls:
        chain["transport_socket"] = {"name": "tls", "typed_config": tls}
    return {"name": name, "address": address(port), "filter_chains": [chain]}


def route(cluster, prefix="/", **match):
    return {"match": {"prefix": prefix, **match}, "route": {"cluster": cluster, "timeout": "0s"}}


def cluster(name, port, is_http2=False, tls=None):
    one = {
        "name": name,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
        },
    }
    if is_http2:
        options = kind("upstreams.http.v3.HttpProtocolOptions")
        version = {"http2_protocol_options": {"allow_connect": True}}
        one["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": options, "explicit_http_config": version}
        }
    if tls:
        one["transport_socket"] = {"name": "tls", "typed_config": tls}
    return one


def envoy_config(ports, certs):
    pair = {
        "certificate_chain": {"filename": f"{certs}/localhost.pem"},
        "private_key": {"filename": f"{certs}/localhost.key"},
    }
    server = {
        "@type": kind("transport_sockets.tls.v3.DownstreamTlsContext"),
        "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]},
    }
    trust = {"trusted_ca": {"filename": f"{certs}/ca.pem"}}
    client = {
        "@type": kind("transport_sockets.tls.v3.UpstreamTlsContext"),
        "sni": "localhost",
        "common_tls_context": {"alpn_protocols": ["h2"], "validation_context": trust},
    }
    is_grpc = {"name": "content-type", "string_match": {"exact": "application/grpc"}}
    back = [route("grpc", headers=[is_grpc]), route("websockets", "/ws"), route("origin")]
    listeners = [listener(f"in_{one}", ports[f"in_{one}"], [route(f"to_{one}")], "AUTO") for one in VERSIONS]
    listeners += [
        listener("out_h1", ports["out_h1"], back, "HTTP1"),
        listener("out_h2c", ports["out_h2c"], back, "HTTP2"),
        listener("out_tls", ports["out_tls"], back, "AUTO", server),
    ]
    clusters = [
        cluster("to_h1", ports["plain"]),
        cluster("to_h2c", ports["plain"], True),
        cluster("to_tls", ports["tls"], True, client),
        cluster("origin", ports["origin"]),
        cluster("websockets", ports["websockets"]),
        cluster("grpc", ports["grpc"], True),
    ]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def ringway_config(ports, certs):
    text = f"""
        [admin]
        enabled = false
        [[listener]]
        name = "plain"
        address = "127.0.0.1:{ports["plain"]}"
        http = ["h1", "h2"]
        [[listener]]
        name = "tls"
        address = "127.0.0.1:{ports["tls"]}"
        http = ["h1", "h2"]
        [listener.tls]
        certificates = [{{ cert = "{certs}/localhost.pem", key = "{certs}/localhost.key" }}]
    """
    for version in VERSIONS:
        scheme, http = {"h1": ("http", "h1"), "h2c": ("http", "h2"), "tls": ("https", "h2")}[version]
        text += f"""
        [[route]]
        id = "{version}"
        hosts = ["{version}.test"]
        upstream = "{version}"
        [[upstream]]
        name = "{version}"
        http = "{http}"
        endpoints = [{{ url = "{scheme}://localhost:{ports["out_" + version]}" }}]
        """
        if version == "tls":
            text += f'[upstream.tls]\nca = "{certs}/ca.pem"\n'
    return text


def check_http(port, host):
    """What a client sees that speaks HTTP/1.1 with the Envoy in front."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(method, path, body=None, **fields):
        connection.request(method, path, body, {"host": host, **fields}, encode_chunked=body is not None and not isinstance(body, bytes))
        answer = connection.getresponse()
        assert answer.getheader("x-method") == method, (method, path, answer.status, answer.getheaders())
        return answer.status, answer.read()

    assert ask("GET", "/a?b=c") == (200, b"/a?b=c")
    assert ask("HEAD", "/a") == (200, b"")
    assert ask("DELETE", "/none") == (404, b"/none")
    assert ask("POST", "/p", LARGE) == (200, LARGE)
    pieces = (LARGE[at : at + 10_000] for at in range(0, len(LARGE), 10_000))
    status, body = ask("PUT", "/p", pieces, **{"transfer-encoding": "chunked"})
    assert (status, hashlib.sha256(body).digest()) == (200, hashlib.sha256(LARGE).digest())
    try:
        connection.request("GET", "/cut", headers={"host": host})
        got = connection.getresponse().read()
    except (http.client.IncompleteRead, ConnectionError):
        pass
    else:
        raise AssertionError(f"a body of {len(got)} bytes that was cut off looks whole")


async def check_websocket(port, host):
    async with websockets.connect(f"ws://{host}/ws", sock=connected(port), max_size=None) as one:
        for message in ("hello", LARGE, "", "bye"):
            await one.send(message)
            assert await one.recv() == message


def connected(port):
    return socket.create_connection(("127.0.0.1", port))


def check_grpc(port, host):
    """All kinds of calls, health and reflection as their own clients ask for them."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.default_authority", host)]) as channel:
        echo = channel.stream_stream("/test.Echo/Echo")
        assert list(echo(b"%d" % n for n in range(1_000))) == [b"%d" % n for n in range(1_000)]
        stub = health_pb2_grpc.HealthStub(channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        assert stub.Check(health_pb2.HealthCheckRequest(service="")).status == serving
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        assert next(watch).status == serving
        watch.cancel()
        try:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
        else:
            raise AssertionError("a status without a message got lost")
        names = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert "grpc.health.v1.Health" in names, names


def grpc_server():
    server = grpc.server(futures.ThreadPoolExecutor(32))
    method = grpc.stream_stream_rpc_method_handler(lambda requests, _context: requests)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Echo": method}),))
    states = health.HealthServicer()
    states.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    reflection.enable_server_reflection(["grpc.health.v1.Health", reflection.SERVICE_NAME], server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def check(ports):
    for front in VERSIONS:
        for back in VERSIONS:
            port, host = ports[f"in_{front}"], f"{back}.test"
            check_http(port, host)
            done = "requests, bodies, cuts"
            asyncio.run(check_websocket(port, host))
            done += ", WebSockets"
            if "h1" not in (front, back):
                check_grpc(port, host)
                done += ", gRPC, health, reflection"
            print(f"Envoy -{front}-> ringway -{back}-> Envoy: {done}: ok", flush=True)


def main(ringway, envoy):
    ports = common.free_ports(PORTS)
    server, ports["grpc"] = grpc_server()
    ports |= {"origin": common.serve_http(common.Origin), "websockets": common.serve_websockets()}
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([ringway, "cert", "--dir", directory], check=True, stdout=subprocess.DEVNULL)
        rules, peers = f"{directory}/ringway.toml", f"{directory}/envoy.json"
        with open(rules, "w") as file:
            file.write(ringway_config(ports, directory))
        with open(peers, "w") as file:
            json.dump(envoy_config(ports, directory), file)
        command = [envoy, "-c", peers, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        listening = [ports[name] for name in PORTS if name.startswith(("in_", "out_"))]
        with (
            common.running([ringway, "run", "-c", rules], ports["plain"], ports["tls"]),
            common.running(command, *listening),
        ):
            check(ports)
    server.stop(0).wait()


main(*sys.argv[1:])
