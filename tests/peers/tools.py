"""curl, nghttp, h2load, openssl and Python's websockets over TLS and HTTP/2: tools.py RINGWAY. scripts/peers runs it."""

import asyncio
import hashlib
import os
import shutil
import ssl
import subprocess
import sys

import websockets

import common

BODY = os.urandom(3_000_000)

RULES = (
    common.EDGE
    + """
[[listener]]
name = "plain"
address = "127.0.0.1:{plain}"
http = ["h1", "h2"]
[[route]]
path_prefix = "/ws"
upstream = "ws"
[[upstream]]
name = "ws"
endpoints = ["http://127.0.0.1:{ws}"]
"""
)


class Origin(common.Origin):
    page = BODY


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


def check(ports):
    tls, plain = f"https://localhost:{ports['tls']}", f"http://localhost:{ports['plain']}"
    for name, url, how in [
        ("HTTP/1.1 over TLS", tls, "--http1.1"),
        ("HTTP/2 over TLS", tls, "--http2"),
        ("HTTP/2 without", plain, "--http2-prior-knowledge"),
    ]:
        check_curl(f"{url}/", how)
        print(f"curl, {name}: ok")
    if shutil.which("nghttp") and shutil.which("h2load"):
        assert hashlib.sha256(run("nghttp", f"{tls}/")).digest() == hashlib.sha256(BODY).digest()
        out = run("h2load", "-n200", "-c4", "-m10", f"{tls}/").decode()
        assert "200 succeeded, 0 failed" in out, out
        print("nghttp, h2load: ok")
    else:
        print("nghttp, h2load: not tried, as they aren't here (package nghttp2)")
    for version in ["-tls1_2", "-tls1_3"]:
        command = ["openssl", "s_client", "-connect", f"localhost:{ports['tls']}", "-CAfile", "certs/ca.pem", "-servername", "localhost"]
        done = subprocess.run([*command, version, "-verify_return_error", "-alpn", "h2"], input=b"", capture_output=True, timeout=60)
        assert b"Verify return code: 0" in done.stdout and b"ALPN protocol: h2" in done.stdout, done
    print("openssl s_client, TLS 1.2 and 1.3: ok")
    context = ssl.create_default_context(cafile="certs/ca.pem")
    asyncio.run(check_websockets(f"wss://localhost:{ports['tls']}/ws", context))
    print("websockets over TLS: ok")


def main(ringway):
    ports = common.free_ports(["tls", "plain"])
    rules = RULES.format(**ports, origin=common.serve_http(Origin), ws=common.serve_websockets())
    with common.proxying(ringway, rules, ports.values()):
        with open("body", "wb") as body:
            body.write(BODY)
        check(ports)


main(sys.argv[1])
