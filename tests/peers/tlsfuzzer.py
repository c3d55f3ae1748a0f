"""Runs tlsfuzzer's conversation scripts against ringway: tlsfuzzer.py RINGWAY TLSFUZZER [SCRIPT...]; see scripts/tlsfuzzer.

Each entry of SCRIPTS says which listener a script talks to, and with which arguments; no case may fail. In front of arguments that
leave cases out (-e), or say what is offered, stands why. A range in braces stands for its numbers, as in a shell.
"""

import os, re, shlex, socket, subprocess, sys, tempfile, threading, time
from concurrent.futures import ThreadPoolExecutor

GCM = "-C TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
CLIENT = "-k client.key -c client.pem"
# What ringway asks clients' certificates to be signed with, in its order. Which, is for each end to say (RFC 8446 §4.2.3).
SIGNED12 = """ecdsa_secp384r1_sha384 ecdsa_secp256r1_sha256 ecdsa_secp521r1_sha512 ed25519 rsa_pss_rsae_sha512 rsa_pss_rsae_sha384
    rsa_pss_rsae_sha256 rsa_pkcs1_sha512 rsa_pkcs1_sha384 rsa_pkcs1_sha256"""
SIGNED13 = f"{SIGNED12} mldsa44 mldsa65 mldsa87"
SCRIPTS = f"""
# With -d where TLS 1.2 is spoken: without, it is RSA key exchange. 16 KiB of early data, as much as there may be, are 34 bytes less in
# records: those that can't be opened can't be told from their overhead (RFC 8446 §4.2.10).
tls13-0rtt-garbage               early  -d --num-bytes 16350
tls13-ccs                        rsa
# The authorities are named (RFC 8446 §4.2.4); an option of the script for one message empties the others.
tls13-certificate-request        mutual {CLIENT} -s "{SIGNED13}"
    -E "key_share:SH supported_versions:SH 47:CR"
tls13-certificate-verify         mutual {CLIENT} -s "{SIGNED13}"
# No tickets for a client that says nothing of how it would use them (RFC 8446 §4.2.9).
tls13-connection-abort           rsa    -e "After NewSessionTicket"
tls13-conversation               rsa
tls13-count-tickets              rsa
# Curves are X25519, P-256 and P-384; a server may have others, or not (RFC 8446 §9.1). A share of no length can't be read, which is
# told by decode_error (§4.2.8: key_exchange<1..2^16-1>; §6.2).
tls13-crfg-curves                rsa    -e "all zero x448 key share" -e "empty x448 key share" -e "too big x448 key share"
    -e "too small x448 key share" -e 'x448 key share of "1"' -e "sanity x448 with compression ansiX962_compressed_char2"
    -e "sanity x448 with compression ansiX962_compressed_prime" -e "sanity x448 with compression uncompressed"
    -x "empty x25519 key share" -X 'received "decode_error"'
tls13-ecdhe-curves               rsa    -e "sanity - secp521r1" -e "sanity - x448" -e "secp521r1 - key share from other curve"
    -e "secp521r1 - point at infinity" -e "secp521r1 - point outside curve" -e "secp521r1 - right 0-padded key_share"
    -e "secp521r1 - right-truncated key_share" -e "secp521r1 - x=0, y=0" -e "x448 - key share from other curve"
    -e "x448 - point at infinity" -e "x448 - right 0-padded key_share" -e "x448 - right-truncated key_share"
tls13-empty-alert                rsa
# 16 MiB, refused after the first of their 1,024 records (RFC 8446 §6.2: the connection is closed at once). The script is still sending
# when the time to read on is over, and takes the reset for the alert that it has not read yet.
tls13-finished                   rsa
    -e "padding - cipher TLS_AES_128_GCM_SHA256, pad_byte 0, pad_left 0, pad_right 16777183"
    -e "padding - cipher TLS_AES_128_GCM_SHA256, pad_byte 0, pad_left 16777183, pad_right 0"
    -e "padding - cipher TLS_AES_256_GCM_SHA384, pad_byte 0, pad_left 0, pad_right 16777167"
    -e "padding - cipher TLS_AES_256_GCM_SHA384, pad_byte 0, pad_left 16777167, pad_right 0"
tls13-finished-plaintext         rsa
tls13-hrr                        rsa
tls13-invalid-ciphers            rsa
tls13-keyshare-omitted           rsa
# Several that come without data between are answered by one (RFC 8446 §4.6.3).
tls13-keyupdate                  rsa    --coalescing
# Nobody must send one of its own (RFC 8446 §4.6.3).
tls13-keyupdate-from-server      rsa    -e "post-handshake KeyUpdate msg from server"
# Those of them that are known, and so have to be in order.
tls13-large-number-of-extensions rsa    --exc 11 --exc 23 --exc 27 --exc 58 --exc 64768 --exc 65037 --exc 65281
tls13-legacy-version             rsa
# One before the Finished is dropped whenever it comes (RFC 8446 §5), and one behind each hello of the client is in order (§D.4); the
# third is refused.
tls13-multiple-ccs-messages      rsa    --ccs 3 -e "second CCS before client finished"
tls13-no-unknown-groups          rsa
tls13-nociphers                  rsa
tls13-pkcs-signature             rsa
tls13-record-layer-limits        rsa
tls13-record-padding             rsa
tls13-rsa-signatures             rsa
# Resumption without a key exchange is not offered (RFC 8446 §4.2.9: the server chooses, or does not resume).
tls13-session-resumption         rsa    -d -e "session resumption - PSK_ONLY"
# Hellos of 64 KiB and more, here and below, by their names: rustls takes none. RFC 8446 sets no length that must be taken.
tls13-signature-algorithms       rsa    -e "32715 invalid schemes" -e "duplicated 32715 non-rsa schemes"
    -e "tolerance 32715 methods" -e "tolerance 32715 methods with sig_alg_cert"
tls13-unencrypted-alert          rsa
tls13-zero-content-type          rsa
tls13-zero-length-data           rsa
aes-gcm-nonces                   rsa    -d
ccs                              rsa    {GCM}
certificate-malformed            mutual {GCM} {CLIENT}
certificate-request              mutual {GCM} {CLIENT} -s "{SIGNED12}"
certificate-verify               mutual {GCM} {CLIENT}
certificate-verify-malformed     mutual {GCM} {CLIENT}
client-hello-max-size            rsa    -d -e "max client hello"
conversation                     rsa    {GCM}
cve-2004-0079                    rsa    {GCM}
cve-2016-6309                    rsa    {GCM}
early-application-data           rsa    {GCM}
fuzzed-ciphertext                rsa    {GCM}
hello-request-by-client          rsa    {GCM}
invalid-client-hello-w-record-overflow rsa {GCM}
invalid-compression-methods      rsa    {GCM}
invalid-content-type             rsa    {GCM}
# Numbers of extensions from 59 on: 58 is known.
large-hello                      rsa    -d -m 59 -e "ciphers even {{10961..11003}}" -e "ciphers odd {{10958..11003}}"
    -e "ext #80, {{65437..65484}} bytes" -e "ext padding, {{65437..65484}} bytes" -e "fragmented, padding ext {{65437..65484}} bytes"
    -e "two ext, #80 {{61337..61380}} bytes" -e "multiple extensions {{16362..16373}}" -e "huge hello"
large-number-of-extensions       rsa    -d -e "16375 extensions"
no-mlkem-in-old-tls              rsa    {GCM}
record-layer-fragmentation       rsa    {GCM} -e "maximum size: max fragment - 65385B extension"
renegotiation-disabled           rsa    {GCM}
sslv2-connection                 rsa
truncating-of-client-hello       rsa    {GCM}
version-numbers                  rsa    {GCM}
zero-length-data                 rsa    {GCM}
"""


def entries():
    """Words of each entry: the name of the script, the listener, and arguments."""
    text = re.sub(r"^#.*\n", "", SCRIPTS.strip(), flags=re.M)
    for entry in re.split(r"\n(?! )", text):
        name, listener, *arguments = shlex.split(entry)
        yield name, listener, [one for argument in arguments for one in spread(argument)]


def spread(argument):
    """The arguments that one with a range stands for; all but the first have their option in front."""
    found = re.search(r"{(\d+)\.\.(\d+)}", argument)
    if not found:
        return [argument]
    numbers = range(int(found[1]), int(found[2]) + 1)
    each = [argument.replace(found[0], str(number)) for number in numbers]
    return each[:1] + [word for one in each[1:] for word in ("-e", one)]


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

    def run(entry):
        name, listener, arguments = entry
        command = [sys.executable, f"{fuzzer}/scripts/test-{name}.py", "-h", "localhost", "-p", str(ports[listener]), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        count = dict(re.findall(r"^(TOTAL|PASS|FAIL|XPASS): (\d+)", done.stdout, re.M))
        is_good = done.returncode == 0 and count.get("FAIL") == "0"
        print(f"{'ok' if is_good else 'FAILED':6} {name}: {count.get('PASS', 0)} passed, {count.get('FAIL')} failed", flush=True)
        if not is_good:
            print("\n".join((done.stdout + done.stderr).splitlines()[-30:]), flush=True)
        return is_good

    try:
        chosen = [entry for entry in entries() if not wanted or entry[0] in wanted]
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(run, chosen))
        assert process.poll() is None, "ringway ended"
    finally:
        process.terminate()
        process.wait(40)
    print(f"{sum(results)} of {len(results)} scripts without a failure")
    sys.exit(0 if all(results) else 1)


main()
