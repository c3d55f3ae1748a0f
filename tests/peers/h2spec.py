"""The 146 cases of h2spec over TLS, without it, and on a port for HTTP/1 as well: h2spec.py RINGWAY H2SPEC. scripts/h2spec runs it."""

import os
import re
import subprocess
import sys

import common

RULES = (
    common.EDGE
    + """
[[listener]]
name = "plain"
address = "127.0.0.1:{plain}"
http = ["h2"]
[[listener]]
name = "both"
address = "127.0.0.1:{both}"
http = ["h1", "h2"]
"""
)

# What comes first on a connection decides which version it speaks there: what is no preface is answered as HTTP/1.
KNOWN = {"tls": [], "plain": [], "both": ["2: Sends invalid connection preface"]}


class Origin(common.Origin):
    page = b"hello"  # enough for windows of a byte


def check(h2spec, name, port):
    """Whether all cases but the known ones passed."""
    command = [h2spec, "-h", "localhost", "-p", str(port), "-o", "5", *(["-t", "-k"] if name == "tls" else [])]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
    count = re.search(r"^(\d+) tests, (\d+) passed.*$", said, re.M)
    failed = sorted(set(re.findall(r"× (\d+: .*)", said)))
    print(f"{name}: {count and count[0]}", *failed, sep="\n  failed: ")
    return count is not None and int(count[1]) == 146 and failed == KNOWN[name]


def main(ringway, h2spec):
    h2spec = os.path.abspath(h2spec)
    ports = common.free_ports(KNOWN)
    rules = RULES.format(**ports, origin=common.serve_http(Origin))
    with common.proxying(ringway, rules, ports.values()):
        results = [check(h2spec, name, port) for name, port in ports.items()]
    sys.exit(0 if all(results) else 1)


main(*sys.argv[1:])
