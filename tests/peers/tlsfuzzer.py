"""Runs tlsfuzzer's conversation scripts against ringway: tlsfuzzer.py RINGWAY TLSFUZZER [SCRIPT...]; see scripts/tlsfuzzer.

Each line of SCRIPTS says which listener a script talks to, with which arguments, and how many of its cases are known to end
otherwise than the script wants, and why (docs/tls.md explains the words). More than that is a failure.
"""

import os, re, socket, subprocess, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor

GCM = "-C TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
CLIENT = "-k client.key -c client.pem"
SCRIPTS = f"""
tls13-0rtt-garbage               early  5  early
tls13-ccs                        rsa    0  -
tls13-certificate-request        mutual 2  offers      {CLIENT}
tls13-certificate-verify         mutual 1  offers      {CLIENT}
tls13-connection-abort           rsa    10 offers
tls13-conversation               rsa    0  -
tls13-count-tickets              rsa    0  -
tls13-crfg-curves                rsa    9  offers
tls13-ecdhe-curves               rsa    12 offers
tls13-empty-alert                rsa    8  alert
tls13-finished                   rsa    9  alert
tls13-finished-plaintext         rsa    1  alert
tls13-hrr                        rsa    0  -
tls13-invalid-ciphers            rsa    0  -
tls13-keyshare-omitted           rsa    0  -
tls13-keyupdate                  rsa    4  update
tls13-keyupdate-from-server      rsa    1  offers
tls13-large-number-of-extensions rsa    4  size
tls13-legacy-version             rsa    0  -
tls13-multiple-ccs-messages      rsa    3  lenient
tls13-no-unknown-groups          rsa    0  -
tls13-nociphers                  rsa    0  -
tls13-pkcs-signature             rsa    0  -
tls13-record-layer-limits        rsa    53 alert
tls13-record-padding             rsa    0  -
tls13-rsa-signatures             rsa    0  -
tls13-session-resumption         rsa    3  offers
tls13-signature-algorithms       rsa    6  size
tls13-unencrypted-alert          rsa    0  -
tls13-zero-content-type          rsa    0  -
tls13-zero-length-data           rsa    0  -
aes-gcm-nonces                   rsa    2  offers      {GCM}
ccs                              rsa    1  alert       {GCM}
certificate-malformed            mutual 4  alert       {GCM} {CLIENT}
certificate-request              mutual 1  offers      {GCM} {CLIENT}
certificate-verify               mutual 0  -           {GCM} {CLIENT}
certificate-verify-malformed     mutual 1  alert       {GCM} {CLIENT}
client-hello-max-size            rsa    1  size        -d
conversation                     rsa    0  -           {GCM}
cve-2004-0079                    rsa    0  -           {GCM}
cve-2016-6309                    rsa    0  -           {GCM}
early-application-data           rsa    0  -           {GCM}
fuzzed-ciphertext                rsa    0  -           {GCM}
hello-request-by-client          rsa    0  -           {GCM}
invalid-client-hello-w-record-overflow rsa 0  -         {GCM}
invalid-compression-methods      rsa    0  -           {GCM}
invalid-content-type             rsa    0  -           {GCM}
large-hello                      rsa    20 size        -d
large-number-of-extensions       rsa    1  size        -d
no-mlkem-in-old-tls              rsa    0  -           {GCM}
record-layer-fragmentation       rsa    1  size        {GCM}
renegotiation-disabled           rsa    0  -           {GCM}
sslv2-connection                 rsa    0  -
truncating-of-client-hello       rsa    0  -           {GCM}
version-numbers                  rsa    0  -           {GCM}
zero-length-data                 rsa    0  -           {GCM}
"""


def free():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def origin():
    """Answers everything with 200."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client):
        waiting = b""
        try:
            while piece := client.recv(65536):
                waiting += piece
                while b"\r\n\r\n" in waiting:
                    waiting = waiting.split(b"\r\n\r\n", 1)[1]
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        except OSError:
            pass

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def certificates():
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "60", "-subj", "/CN=ca")
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=localhost")
        with open("extensions", "w") as file:
            file.write(f"subjectAltName=DNS:localhost\nextendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "50",
                "-extfile", "extensions", "-out", f"{name}.pem")


def start(program):
    ports = {name: free() for name in ("rsa", "mutual", "early")}
    more = {"rsa": "", "mutual": 'client_ca = "ca.pem"\nclient_auth = "optional"', "early": "early_data = true"}
    text = "[runtime]\ncores = \"0\"\npin = false\n[admin]\nenabled = false\n"
    for name, port in ports.items():
        text += f'[[listener]]\nname = "{name}"\naddress = "127.0.0.1:{port}"\n[listener.tls]\n'
        text += f'certificates = [{{ cert = "server.pem", key = "server.key" }}]\n{more[name]}\n'
    text += f'[[route]]\nupstream = "o"\n[[upstream]]\nname = "o"\nendpoints = ["http://127.0.0.1:{origin()}"]\n'
    with open("ringway.toml", "w") as file:
        file.write(text)
    process = subprocess.Popen([program, "run", "-c", "ringway.toml"], stderr=open("log", "w"))
    for port in ports.values():
        end = time.time() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None and time.time() < end, open("log").read()
                time.sleep(0.05)
    return process, ports


def main():
    program, fuzzer = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    wanted = sys.argv[3:]
    os.chdir(tempfile.mkdtemp(prefix="tlsfuzzer."))
    certificates()
    process, ports = start(program)

    def run(line):
        name, listener, allowed, why, *arguments = line.split()
        command = [sys.executable, f"{fuzzer}/scripts/test-{name}.py", "-h", "localhost", "-p", str(ports[listener]), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        count = dict(re.findall(r"^(TOTAL|PASS|FAIL): (\d+)", done.stdout, re.M))
        failed = int(count.get("FAIL", 999))
        is_good = failed <= int(allowed)
        known = f", {failed} known ({why})" if failed and is_good else f", {failed} FAILED" if failed else ""
        print(f"{'ok' if is_good else 'FAILED':6} {name}: {count.get('PASS', 0)} passed{known}", flush=True)
        if not is_good:
            print("\n".join((done.stdout + done.stderr).splitlines()[-30:]), flush=True)
        return is_good

    try:
        lines = [line for line in SCRIPTS.strip().splitlines() if not wanted or line.split()[0] in wanted]
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(run, lines))
        assert process.poll() is None, "ringway ended"
    finally:
        process.terminate()
        process.wait(40)
    print(f"{sum(results)} of {len(results)} scripts as expected")
    sys.exit(0 if all(results) else 1)


main()
