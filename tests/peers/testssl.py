"""testssl.sh's rating of a listener with TLS: testssl.py RINGWAY TESTSSL. scripts/testssl runs it."""

import os
import re
import subprocess
import sys
import tempfile

import common

RULES = """
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


class Origin(common.Origin):
    """A site that is only there over TLS says so, which is the rating's step from A to A+."""

    def end_headers(self):
        self.send_header("strict-transport-security", "max-age=31536000")
        super().end_headers()


def main(ringway, testssl):
    ringway, testssl = os.path.abspath(ringway), os.path.abspath(testssl)
    ports = common.free_ports(["tls"])
    rules = RULES.format(**ports, origin=common.serve_http(Origin))
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        subprocess.run([ringway, "cert", "localhost"], check=True, capture_output=True)
        with open("ringway.toml", "w") as config:
            config.write(rules)
        command = [testssl, "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--add-ca", "certs/ca.pem", f"localhost:{ports['tls']}"]
        with common.running([ringway, "run", "-c", "ringway.toml"], ports["tls"]):
            said = subprocess.run(command, capture_output=True, text=True, timeout=600).stdout
        os.chdir("/")
    rating = re.findall(r"^ *((?:Overall Grade|Final Score|Grade cap reasons|Specification documentation).*)$", said, re.M)
    findings = re.findall(r"^.*(?:VULNERABLE|NOT ok).*$", said, re.M)
    print(*findings, *rating, sep="\n")
    sys.exit(0 if re.search(r"^ *Overall Grade +A\+?$", said, re.M) else 1)


main(*sys.argv[1:])
