"""testssl.sh's rating of a listener with TLS: testssl.py RINGWAY TESTSSL. scripts/testssl runs it."""

import os
import re
import subprocess
import sys

import common

class Origin(common.Origin):
    """A site that is only there over TLS says so, which is the rating's step from A to A+."""

    def end_headers(self):
        self.send_header("strict-transport-security", "max-age=31536000")
        super().end_headers()


def main(ringway, testssl):
    ports = common.free_ports(["tls"])
    rules = common.EDGE.format(**ports, origin=common.serve_http(Origin))
    command = [os.path.abspath(testssl), "--color", "0", "--warnings", "off", "--ip", "127.0.0.1"]
    with common.proxying(ringway, rules, ports.values()):
        command += ["--add-ca", "certs/ca.pem", f"localhost:{ports['tls']}"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=600).stdout
    rating = re.findall(r"^ *((?:Overall Grade|Final Score|Grade cap reasons).*)$", said, re.M)
    findings = re.findall(r"^.*(?:VULNERABLE|NOT ok).*$", said, re.M)
    print(*findings, *rating, sep="\n")
    sys.exit(0 if re.search(r"^ *Overall Grade +A\+?$", said, re.M) else 1)


main(*sys.argv[1:])
