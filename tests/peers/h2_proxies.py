"""The programs of scripts/conformance: each on one core, TLS with ALPN h2 and http/1.1 in front of one origin, all else as it comes.

What is set is what they need to be compared: 128 streams at once, bodies streamed and without a bound, upgrades passed on.
"""

import contextlib
import json
import os
import subprocess

import common

NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; proxy_max_temp_file_size 0;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/f;
    uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
    map "$server_protocol $http_upgrade" $protocol {{ default ""; "~*^HTTP/1.1 websocket$" websocket; }}
    map $protocol $how {{ default upgrade; "" ""; }}
    upstream origin {{ server 127.0.0.1:{origin}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{port} ssl http2; server_name a.test; http2_max_concurrent_streams 128;
        ssl_certificate {directory}/localhost.pem; ssl_certificate_key {directory}/localhost.key;
        client_max_body_size 0;
        location / {{
            proxy_pass http://origin; proxy_http_version 1.1; proxy_request_buffering off;
            proxy_set_header Host $host; proxy_set_header Upgrade $protocol; proxy_set_header Connection $how;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    tune.h2.max-concurrent-streams 128
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
frontend tls
    bind 127.0.0.1:{port} ssl crt {directory}/both.pem alpn h2,http/1.1
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin}
"""

RINGWAY = """
[runtime]
cores = "0"
pin = false
[admin]
enabled = false
[[listener]]
name = "tls"
address = "127.0.0.1:{port}"
http = ["h1", "h2"]
[listener.tls]
certificates = [{{ cert = "{directory}/localhost.pem", key = "{directory}/localhost.key" }}]
[[route]]
upstream = "origin"
[[upstream]]
name = "origin"
endpoints = ["http://127.0.0.1:{origin}"]
"""

NGHTTPX = """
frontend=127.0.0.1,{port}
backend=127.0.0.1,{origin}
private-key-file={directory}/localhost.key
certificate-file={directory}/localhost.pem
workers=1
frontend-http2-max-concurrent-streams=128
no-ocsp=yes
log-level=FATAL
errorlog-file={directory}/nghttpx.log
accesslog-file=/dev/null
"""


def kind(name):
    return "type.googleapis.com/envoy.extensions." + name


def envoy_rules(port, origin, directory):
    def address(port):
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    route = {"match": {"prefix": "/"}, "route": {"cluster": "origin", "timeout": "0s"}}
    manager = {
        "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "tls",
        "codec_type": "AUTO",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_protocol_options": {"accept_http_10": True},
        "http2_protocol_options": {"allow_connect": True, "max_concurrent_streams": 128},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": kind("filters.http.router.v3.Router")}}],
    }
    pair = {
        "certificate_chain": {"filename": f"{directory}/localhost.pem"},
        "private_key": {"filename": f"{directory}/localhost.key"},
    }
    tls = {
        "@type": kind("transport_sockets.tls.v3.DownstreamTlsContext"),
        "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]},
    }
    chain = {"filters": [{"name": "manager", "typed_config": manager}], "transport_socket": {"name": "tls", "typed_config": tls}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(origin)}}]}]
    cluster = {"name": "origin", "load_assignment": {"cluster_name": "origin", "endpoints": endpoints}}
    listener = {"name": "tls", "address": address(port), "filter_chains": [chain]}
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})


# Name: its program without one given, the file with its rules, how it is started with them, how it says its version.
PROXIES = {
    "ringway": ("target/release/ringway", RINGWAY, ["run", "-c", "RULES"], ["--version"]),
    "nginx": ("nginx", NGINX, ["-e", "/dev/null", "-c", "RULES"], ["-v"]),
    "haproxy": ("haproxy", HAPROXY, ["-db", "-q", "-f", "RULES"], ["-v"]),
    "nghttpx": ("nghttpx", NGHTTPX, ["--conf=RULES"], ["--version"]),
    "envoy": (".tools/envoy/bin/envoy", envoy_rules, ["-c", "RULES", "--concurrency", "1", "--disable-hot-restart", "-l", "off"], ["--version"]),
}


def version(name, program):
    done = subprocess.run([program, *PROXIES[name][3]], check=False, capture_output=True, text=True)
    words = (done.stdout + done.stderr).strip().splitlines()[0]
    return words.split("version: ")[-1] if name != "envoy" else "envoy " + words.split("/")[-4]


@contextlib.contextmanager
def running(name, program, origin, certificates, directory):
    """The program with its rules in front of the origin; gives its port and its process."""
    _, rules, arguments, _ = PROXIES[name]
    port = common.free_ports(["tls"])["tls"]
    for file in ("localhost.pem", "localhost.key"):
        os.link(f"{certificates}/{file}", f"{directory}/{file}")
    with open(f"{directory}/both.pem", "wb") as both:
        for end in ("pem", "key"):
            with open(f"{directory}/localhost.{end}", "rb") as one:
                both.write(one.read())
    facts = {"port": port, "origin": origin, "directory": directory}
    with open(f"{directory}/rules", "w") as file:
        file.write(rules(**facts) if callable(rules) else rules.format(**facts))
    command = [program, *[one.replace("RULES", f"{directory}/rules") for one in arguments]]
    with common.running(command, port) as process:
        yield port, process


def memory(process):
    """Resident bytes of the program and its children, in MiB."""
    pids, total = [process.pid], 0
    for pid in pids:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/task/{pid}/children") as children:
                pids += [int(one) for one in children.read().split()]
            with open(f"/proc/{pid}/statm") as statm:
                total += int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total / (1 << 20)
