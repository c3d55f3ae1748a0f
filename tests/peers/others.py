"""Real peers over TLS and HTTP/2: curl, nghttp, h2load, openssl, Python's websockets, and Envoy on either side.

scripts/peers runs it: others.py RINGWAY [ENVOY]. What isn't installed is left out, and said.
"""

import asyncio
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import websockets

BODY = os.urandom(3_000_000)

LISTENERS = """
[admin]
enabled = false
[[listener]]
name = "tls"
address = "127.0.0.1:{tls}"
http = ["h1", "h2"]
[listener.tls]
certificates = [{{ cert = "certs/localhost.pem", key = "certs/localhost.key" }}]
[[listener]]
name = "plain"
address = "127.0.0.1:{plain}"
http = ["h1", "h2"]
[[route]]
path_prefix = "/ws"
upstream = "ws"
[[route]]
path_prefix = "/envoy"
upstream = "envoy"
[[route]]
upstream = "origin"
[[upstream]]
name = "origin"
endpoints = ["http://127.0.0.1:{origin}"]
[[upstream]]
name = "ws"
endpoints = ["http://127.0.0.1:{ws}"]
[[upstream]]
name = "envoy"
http = "h2"
endpoints = ["http://127.0.0.1:{envoy_up}"]
"""

ENVOY = """
static_resources:
  listeners:
  - {{address: {{socket_address: {{address: 127.0.0.1, port_value: {envoy_up}}}}}, filter_chains: [{{filters: [{{name: hcm, typed_config: &hcm {{
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: up,
      http_filters: [{{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}],
      route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: origin}}}}]}}]}}}}}}]}}]}}
  - {{address: {{socket_address: {{address: 127.0.0.1, port_value: {envoy_down}}}}}, filter_chains: [{{filters: [{{name: hcm, typed_config: {{
      "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: down,
      http_filters: [{{name: router, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}],
      route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: ringway}}}}]}}]}}}}}}]}}]}}
  clusters:
  - {{name: origin, load_assignment: {{cluster_name: origin, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {origin}}}}}}}}}]}}]}}}}
  - {{name: ringway, load_assignment: {{cluster_name: ringway, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {tls}}}}}}}}}]}}]}},
      typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {{
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{http2_protocol_options: {{}}}}}}}},
      transport_socket: {{name: tls, typed_config: {{"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: localhost,
        common_tls_context: {{alpn_protocols: [h2], validation_context: {{trusted_ca: {{filename: certs/ca.pem}}}}}}}}}}}}
"""


class Origin(BaseHTTPRequestHandler):
    """Sends back what it is sent, or the body."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(BODY)

    def do_POST(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["content-length"]))
        self.answer(body)

    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 512


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nobody listens on port {port}")


def run(*command):
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, (command, done.returncode, done.stderr)
    return done.stdout


def check_curl(url, *more):
    """Down and up, with and without a length, compared byte for byte; several at once."""
    curl = ["curl", "-s", "-f", "--cacert", "certs/ca.pem", *more]
    assert run(*curl, url) == BODY
    assert run(*curl, "--data-binary", "@body", url) == BODY
    assert run(*curl, "-T", "body", "-X", "POST", "-H", "transfer-encoding: chunked", url) == BODY
    if "--http2-prior-knowledge" not in more:  # curl 7.88 fails then, whoever serves
        many = run(*curl, "--parallel", *[f"{url}?{number}" for number in range(8)])
        assert len(many) == 8 * len(BODY)


async def check_websockets(uri, context):
    async with websockets.connect(uri, ssl=context, max_size=None) as one:
        for number in range(1_000):
            await one.send(str(number))
            assert await one.recv() == str(number)
        await one.send(BODY)
        assert await one.recv() == BODY


def serve_websockets(port):
    async def echo(one):
        async for message in one:
            await one.send(message)

    async def serve():
        async with websockets.serve(echo, "127.0.0.1", port, max_size=None):
            await asyncio.get_running_loop().create_future()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()


def check(ports):
    tls, plain = f"https://localhost:{ports['tls']}", f"http://localhost:{ports['plain']}"
    for name, url, how in [
        ("HTTP/1.1 over TLS", tls, "--http1.1"),
        ("HTTP/2 over TLS", tls, "--http2"),
        ("HTTP/2 without", plain, "--http2-prior-knowledge"),
    ]:
        check_curl(f"{url}/", how)
        print(f"curl, {name}: ok")
    if shutil.which("nghttp"):
        assert hashlib.sha256(run("nghttp", f"{tls}/")).digest() == hashlib.sha256(BODY).digest()
        out = run("h2load", "-n200", "-c4", "-m10", f"{tls}/").decode()
        assert "200 succeeded, 0 failed" in out, out
        print("nghttp, h2load: ok")
    for version in ["-tls1_2", "-tls1_3"]:
        command = ["openssl", "s_client", "-connect", f"localhost:{ports['tls']}", "-CAfile", "certs/ca.pem", "-servername", "localhost"]
        done = subprocess.run([*command, version, "-verify_return_error", "-alpn", "h2"], input=b"", capture_output=True, timeout=60)
        assert b"Verify return code: 0" in done.stdout and b"ALPN protocol: h2" in done.stdout, done
    print("openssl s_client, TLS 1.2 and 1.3: ok")
    context = ssl.create_default_context(cafile="certs/ca.pem")
    asyncio.run(check_websockets(f"wss://localhost:{ports['tls']}/ws", context))
    print("websockets over TLS: ok")


def check_envoy(envoy, ports):
    with open("envoy.yaml", "w") as config:
        config.write(ENVOY.format(**ports))
    process = subprocess.Popen([envoy, "-c", "envoy.yaml", "-l", "error", "--concurrency", "1", "--use-dynamic-base-id"])
    try:
        wait_for(ports["envoy_down"])
        check_curl(f"https://localhost:{ports['tls']}/envoy", "--http2")
        check_curl(f"https://localhost:{ports['tls']}/envoy", "--http1.1")
        print("Envoy as endpoint, HTTP/2: ok")
        check_curl(f"http://localhost:{ports['envoy_down']}/")
        check_curl(f"http://localhost:{ports['envoy_down']}/envoy")
        print("Envoy as client, HTTP/2 over TLS; Envoy on both sides: ok")
    finally:
        process.terminate()
        process.wait()


def main(ringway, envoy=None):
    ringway, envoy = os.path.abspath(ringway), envoy and os.path.abspath(envoy)
    ports = {name: free_port() for name in ["tls", "plain", "ws", "envoy_up", "envoy_down"]}
    server = Server(("127.0.0.1", 0), Origin)
    ports["origin"] = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve_websockets(ports["ws"])
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        with open("body", "wb") as body:
            body.write(BODY)
        run(ringway, "cert", "localhost")
        with open("ringway.toml", "w") as config:
            config.write(LISTENERS.format(**ports))
        process = subprocess.Popen([ringway, "run", "-c", "ringway.toml"])
        try:
            wait_for(ports["plain"])
            check(ports)
            if envoy:
                check_envoy(envoy, ports)
            else:
                print("Envoy: not tried, as it isn't here (scripts/bench-peers installs it)")
        finally:
            process.terminate()
            process.wait()
            os.chdir("/")
    print("peers: all passed")


main(*sys.argv[1:])
