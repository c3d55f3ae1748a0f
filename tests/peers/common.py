"""What the real peers of scripts/peers share: free ports, an origin, a server of WebSockets, and ringway while it runs."""

import asyncio
import contextlib
import http.server
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time


# Rules of a listener with TLS in front of an origin; `proxying` makes its certificate.
EDGE = """
[admin]
enabled = false
[[listener]]
name = "tls"
address = "127.0.0.1:{tls}"
http = ["h1", "h2"]
[listener.tls]
certificates = [{{ cert = "certs/localhost.pem", key = "certs/localhost.key" }}]
[[route]]
upstream = "origin"
[[upstream]]
name = "origin"
endpoints = ["http://127.0.0.1:{origin}"]
"""


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers with what was sent; to a request without a body with `page`, or its path. `/cut` promises more than it sends."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    page = b""

    def body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self):
        body = self.body() or self.page or self.path.encode()
        if self.path.endswith("/cut"):
            self.send_response(200)
            self.send_header("content-length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 100_000)
            self.close_connection = True
            return
        self.send_response(404 if self.path.endswith("/none") else 200)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-method", self.command)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512

    def handle_error(self, request, client_address):
        """Says nothing of who leaves in the middle of a message."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handle_error(request, client_address)


def serve_http(origin):
    """Serves until the program ends; returns the port."""
    server = Server(("127.0.0.1", 0), origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def serve_websockets():
    """Sends messages back until the program ends; returns the port."""
    import websockets

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async def serve():
        async with websockets.serve(echo, "127.0.0.1", 0, max_size=None) as server:
            ports.append(server.sockets[0].getsockname()[1])
            is_ready.set()
            await asyncio.get_running_loop().create_future()

    ports, is_ready = [], threading.Event()
    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    assert is_ready.wait(10)
    return ports[0]


def free_ports(names):
    """One for each name."""
    with contextlib.ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.socket()) for name in names}
        for one in sockets.values():
            one.bind(("127.0.0.1", 0))
        return {name: one.getsockname()[1] for name, one in sockets.items()}


@contextlib.contextmanager
def proxying(ringway, rules, ports):
    """ringway with these rules, which listens on all these ports, in a directory of its own with a CA and a certificate for localhost
    in `certs`, where the block runs."""
    ringway = os.path.abspath(ringway)
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        subprocess.run([ringway, "cert", "localhost"], check=True, capture_output=True)
        with open("ringway.toml", "w") as config:
            config.write(rules)
        with running([ringway, "run", "-c", "ringway.toml"], *ports):
            yield
        os.chdir("/")


@contextlib.contextmanager
def running(command, *ports):
    """A process that listens on all ports, until the block ends."""
    process = subprocess.Popen(command)
    try:
        until = time.monotonic() + 30
        for port in ports:
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                if process.poll() is not None or time.monotonic() > until:
                    sys.exit(f"{command[0]} does not listen on port {port}")
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()
