"""What origins answer in HTTP/1 that has no place in HTTP/2, or that two parsers could read differently.

A row is a response as text, <LF>, <CR> as in h1_tls.py. Whatever becomes of it, what comes to the client is a response that RFC 9113
allows (each case looks at that, see `check_fields`), nobody gets POISON, and the next request is answered.
"""

from h2_judge import EITHER, PASSED, REFUSED, Case, Lax, is_refused, own, require
from h2_wire import octets

POISON = "HTTP/1.1 200 OK\ncontent-length: 6\nx-token: poison\n\npoison"
OK = "HTTP/1.1 200 OK\n"


def row(name, expect, answer, body=None, *, method="GET", stays=False, pieces="", twice=True):
    """`body`: what the client has to have got, where it is shown a whole response."""

    def run(world):
        text = answer.replace("\n", "\r\n").replace("<LF>", "\n").replace("<CR>", "\r").replace("TOKEN", world.token)
        world.origin.texts[world.token] = (octets(text), stays)
        for _ in range(2 if twice else 1):
            client = world.client()
            stream = client.answer(client.open(world.head("text", pieces, method=method)))
            refused = is_refused(client, stream)
            world.told = f"{'refused' if refused else 'passed'}: {stream.told()}"
            require(b"poison" not in stream.body, f"another answer: {stream.told()}")
            require(expect != PASSED or not refused, f"not passed: {stream.told()}")
            if not refused:
                wrong = body is not None and stream.body != octets(body)
                require(not wrong, f"another body: {stream.body[:80]!r}")
            for _ in range(3):
                world.check_next(client)
        if expect == REFUSED and not refused:
            raise Lax(f"not refused: {stream.told()}")

    return Case("responses", name, run)


def heads():
    five = "content-length: 5\n"
    rows = [row(f"the field {field!r}", EITHER, f"{OK}{field}\n{five}\nhello", "hello") for field in (
        ":status: 404", ":path: /x", ": v", "x(y: 1", "x y: 1", "x : 1", "x\0y: 1", "x: a\x01b", "x: a\x7fb", "x: a\0b", "x: a<CR>b",
        "x: a<CR>x-injected: 1", "x: a<LF>y: 1", "x: a\n b",
        "x: a\n\tx-injected: 1", "x: \xe9\xff", "no colon", "x\xe9: 1", "x: ", "x:\t1\t", "X-UPPER: 1", "connection: x", "upgrade: h2c",
        "keep-alive: timeout=1", "te: trailers",
        "proxy-connection: close", "host: b.test", "x: " + "y" * 9_000, "via: 1.1 x", "trailer: x", "content-type: ")]  # fmt: skip
    rows += [row(f"the line {line!r}", EITHER, f"{line}\n{five}\nhello", "hello") for line in (
        "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1  200 OK", "HTTP/1.1 200OK", "http/1.1 200 OK", "HTTP/2.0 200 OK", "HTTP/1.2 200 OK",
        "HTTP/1.0 200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 +20 OK",
        "HTTP/1.1 -20 OK", "HTTP/1.1 0x20 OK", "HTTP/1.1 000 OK", "HTTP/1.1 099 OK", "HTTP/1.1 600 OK", "HTTP/1.1 999 OK", "HTTP/1.1 2 0 OK",
        "HTTP/1.1 200 a\0b", "HTTP/1.1 200 a<CR>b", "HTTP/1.1 200 \xe9",
        "HTTP/1.1\t200 OK", "HTTP/1.1 200\tOK", "ICY 200 OK", "HTTP 200 OK", "200 OK", "HTTP/1.1 OK", " HTTP/1.1 200 OK", "\nHTTP/1.1 200 OK",
        "<LF>HTTP/1.1 200 OK", "HTTP/1.1 2000 OK")]  # fmt: skip
    rows += [
        row("LF everywhere", EITHER, f"{OK}{five}\nhello".replace("\n", "<LF>"), "hello"),
        row("CR everywhere", REFUSED, f"{OK}{five}\nhello".replace("\n", "<CR>"), twice=False),
        row("a byte at a time", PASSED, f"{OK}{five}\nhello", "hello", pieces=1, stays=True),
        row("a space before the first field", EITHER, f"{OK} x: 1\n{five}\nhello"),
        row("two set-cookie", PASSED, f"{OK}set-cookie: a=b\nset-cookie: c=d\n{five}\nhello", "hello", stays=True),
    ]
    return rows


def framings():
    hello = "5\nhello\n0\n\n"
    rows = [row(f"content-length: {value!r}", EITHER, f"{OK}content-length: {value}\n\nhello{POISON}", "hello" if value else None) for value in (
        "5, 5", "05", " 5 ", "5\t")]  # fmt: skip
    rows += [row(f"content-length: {value!r}", REFUSED, f"{OK}content-length: {value}\n\nhello") for value in (
        "5, 6", "+5", "-5", "0x5", "5 5", "5abc", "18446744073709551621", "99999999999999999999999", "", "five")]  # fmt: skip
    rows += [row(f"transfer-encoding: {value!r}", EITHER, f"{OK}transfer-encoding: {value}\n\n{hello}") for value in (
        "Chunked", "xchunked", "identity", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked,", "", "chunked\0", '"chunked"',
        "chunked;q=1")]  # fmt: skip
    rows += [
        row("a length and chunked", EITHER, f"{OK}content-length: 3\ntransfer-encoding: chunked\n\n{hello}", "hello"),
        row("chunked and a length", EITHER, f"{OK}transfer-encoding: chunked\ncontent-length: 3\n\n{hello}", "hello"),
        row("chunked, a length, and more behind it", EITHER, f"{OK}transfer-encoding: chunked\ncontent-length: 100\n\n{hello}{POISON}", "hello"),
        row("two lengths, the same", EITHER, f"{OK}content-length: 5\ncontent-length: 5\n\nhello", "hello"),
        row("two lengths", REFUSED, f"{OK}content-length: 5\ncontent-length: 3\n\nhello"),
        row("chunked in HTTP/1.0", EITHER, f"HTTP/1.0 200 OK\ntransfer-encoding: chunked\n\n{hello}"),
        row("chunked twice", EITHER, f"{OK}transfer-encoding: chunked\ntransfer-encoding: chunked\n\n{hello}"),
        row("a space behind the name of chunked", EITHER, f"{OK}transfer-encoding : chunked\n\n{hello}"),
        row("more than the length", EITHER, f"{OK}content-length: 5\n\nhello and more", "hello"),
        row("more than the length, and the connection stays", EITHER, f"{OK}content-length: 5\n\nhello{POISON}", "hello", stays=True),
        row(
            "more behind the last chunk, and the connection stays", EITHER, f"{OK}transfer-encoding: chunked\n\n{hello}{POISON}", "hello", stays=True
        ),
        row("HTTP/1.0 with a length", PASSED, "HTTP/1.0 200 OK\ncontent-length: 5\n\nhello", "hello"),
        row("HTTP/1.0 without", PASSED, "HTTP/1.0 200 OK\n\nhello", "hello"),
        row("connection: close, and no length", PASSED, f"{OK}connection: close\n\nhello", "hello"),
        row("HEAD with a body", EITHER, f"{OK}content-length: 5\n\nhello", "", method="HEAD", stays=True),
        row("HEAD with another response", EITHER, f"{OK}content-length: {len(POISON)}\n\n{POISON}", "", method="HEAD", stays=True),
        row("HEAD, chunked, and no chunks", PASSED, f"{OK}transfer-encoding: chunked\n\n", "", method="HEAD", stays=True),
        row("304 with another response behind", EITHER, f"HTTP/1.1 304 Not Modified\ncontent-length: 5\n\n{POISON}", "", stays=True),
        row("204 with another response behind", EITHER, f"HTTP/1.1 204 No Content\n\n{POISON}", "", stays=True),
        row("204 with a length and a body", EITHER, "HTTP/1.1 204 No Content\ncontent-length: 5\n\nhello", "", stays=True),
        row("204, chunked", EITHER, f"HTTP/1.1 204 No Content\ntransfer-encoding: chunked\n\n{hello}", "", stays=True),
        row("304, chunked", EITHER, "HTTP/1.1 304 Not Modified\ntransfer-encoding: chunked\n\n", "", stays=True),
        row("205 with a body", EITHER, "HTTP/1.1 205 Reset Content\ncontent-length: 5\n\nhello", stays=True),
        row("103 with a length", EITHER, f"HTTP/1.1 103 Early Hints\ncontent-length: 5\n\n{OK}content-length: 5\n\nhello", "hello", stays=True),
        row("103, chunked", EITHER, f"HTTP/1.1 103 Early Hints\ntransfer-encoding: chunked\n\n{OK}content-length: 5\n\nhello", "hello", stays=True),
        row("100 that nobody asked for", EITHER, f"HTTP/1.1 100 Continue\n\n{OK}content-length: 5\n\nhello", "hello", stays=True),
        row("102 and 199", EITHER, f"HTTP/1.1 102 Processing\n\nHTTP/1.1 199 What\n\n{OK}content-length: 5\n\nhello", "hello", stays=True),
        row("101 and another response", EITHER, f"HTTP/1.1 101 Switching Protocols\n\n{POISON}", stays=True, twice=False),
        row("103 and the end", REFUSED, "HTTP/1.1 103 Early Hints\n\n"),
        row("two responses, and the connection stays", EITHER, f"{OK}content-length: 0\n\n{POISON}", "", stays=True),
    ]
    return rows


def chunks():
    start = f"{OK}transfer-encoding: chunked\n\n"
    rows = [row(f"the chunk {chunk!r}", EITHER, f"{start}{chunk}\n0\n\n", "hello") for chunk in (
        "5;a=b\nhello", "5 \nhello", "05\nhello", "5;" + "x" * 5_000 + "\nhello", "000000000000000000005\nhello", "5\nhello\n00000")]  # fmt: skip
    rows += [row(f"no chunk: {chunk!r}", REFUSED, f"{start}{chunk}\n0\n\n", twice=False) for chunk in (
        "+5\nhello", "-5\nhello", "0x5\nhello", "g\nhello", "5\nhello!", "fffffffffffffffff5\nhello", "10000000000000005\nhello", "\nhello",
        "5,\nhello", "5\nhello\n\n")]  # fmt: skip
    rows += [row(f"the trailers {trailer[:30]!r}", EITHER, f"{start}5\nhello\n0\n{trailer}\n\n", "hello", stays=True) for trailer in (
        "x-end: 1", ":status: 404", "content-length: 100", "transfer-encoding: chunked", "X-END: 1", "connection: close", "host: b.test",
        "set-cookie: a=b", "x: " + "y" * 9_000)]  # fmt: skip
    rows += [row(f"no trailers: {trailer[:30]!r}", EITHER, f"{start}5\nhello\n0\n{trailer}\n\n", "hello", twice=False) for trailer in (
        "x y: 1", "no colon", "x: a\0b", "x: a<CR>b", ": v", "x\0: v", "x: a\n b")]  # fmt: skip
    rows += [row("1,000 trailers", EITHER, start + "5\nhello\n0\n" + "x: y\n" * 1_000 + "\n", "hello", stays=True)]
    return rows


def retried(method, is_safe):
    """A request that has come to the origin and was broken off there is not sent twice, unless it may be (RFC 9110 §9.2.2)."""

    def run(world):
        client = world.client()
        own(world, client.answer(client.open(world.head())))  # a connection that is used again
        for body in (None, b"hello"):
            which = client.open(world.head("reset", method=method), body)
            require(is_refused(client, client.answer(which)), client.stream(which).told())
            count = len([one for one in world.of() if one.target.endswith("/reset")])
            require(is_safe or count <= 1, f"{method} {count} times at the origin")
            if not is_safe:
                world.origin.seen[:] = [one for one in world.origin.seen if one.token != world.token]
            client = world.client()

    return Case("responses", f"{method} that is broken off", run)


METHODS = {"POST": False, "PATCH": False, "GET": True, "PUT": True, "DELETE": True, "PURGE": False}

CASES = [
    *heads(),
    *framings(),
    *chunks(),
    *[retried(*one) for one in METHODS.items()],
]
