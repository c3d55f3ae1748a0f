"""HTTP/2 requests that would be others in HTTP/1.1 (downgrade smuggling). Source: RFC 9113 §8, §10.3.

Rows say what is sent beside a plain GET, and what may come of it. A field that a proxy leaves out is as good as a refusal
where what it would do is gone: `lacks` looks at what the origin has got.
"""

from h2_judge import EITHER, PASSED, REFUSED, Case, World, has_body, is_refused, judge, lacks, own, require
from h2_wire import DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, block, frame

SMUGGLED = "GET /TOKEN/smuggled HTTP/1.1\r\nhost: a.test\r\nx-case: TOKEN\r\n\r\n"
PSEUDO = (":method", ":scheme", ":authority", ":path")


def filled(value, world):
    if isinstance(value, bytes):
        return value.replace(b"TOKEN", world.token.encode())
    return value.replace("TOKEN", world.token)


def row(name, expect, more=(), body=None, trailers=None, at_origin=None, first=(), **pseudo):
    """A request with other fields behind it (`more`), in front of it (`first`), or with another pseudo-field: a value, a list of
    them, or None for none."""

    def run(world: World):
        def fill(fields):
            return [tuple(filled(one, world) for one in pair) for pair in fields]

        head = []
        for key, value in world.head():
            values = pseudo.get(key[1:], value) if key.startswith(":") else value
            head += [(key, one) for one in ([] if values is None else values if isinstance(values, list) else [values])]
        fields = fill(first) + fill(head) + fill(more)
        data = [filled(one, world) for one in body] if isinstance(body, list) else body and filled(body, world)
        judge(world, expect, fields, data, None if trailers is None else fill(trailers), at_origin=at_origin)

    return Case("smuggling", name, run)


def names():
    bad = {
        "CR": "x\rb",
        "LF": "x\nb",
        "CRLF": "x\r\nx-smuggled",
        "a request": "x: y\r\n\r\n" + SMUGGLED,
        "NUL": "x\0b",
        "a colon": "x:b",
        "a space": "x b",
        "a tab": "x\tb",
        "a space in front": " x-b",
        "a space behind": "x-b ",
        "DEL": "x\x7fb",
        "a high byte": "x\xe9b",
        "a bracket": "x(b",
        "a quote": 'x"b',
        "a slash": "x/b",
        "a comma": "x,b",
        "an at": "x@b",
        "escape": "x\x1bb",
    }
    rows = [row(f"a name with {what}", EITHER, [(name, "v")], at_origin=lacks("x", "x-b", "x-smuggled", name)) for what, name in bad.items()]
    rows += [
        row(f"the name {name}", EITHER, [(name, value)], b"hello", at_origin=lacks("x-upper", "transfer-encoding"), method="POST")
        for name, value in [
            ("X-UPPER", "v"),
            ("Transfer-Encoding", "chunked"),
            ("transfer-Encoding", "chunked"),
            ("transfer-encoding ", "chunked"),
            ("transfer-encoding:", "chunked"),
        ]
    ]
    rows += [
        row("the name Content-Length", EITHER, [("Content-Length", "3")], b"hello", method="POST", at_origin=has_body(b"hello")),
        row("the name Host", EITHER, [("Host", "b.test")], at_origin=lambda one: "b.test" in one.all("host") and "another host"),
        row("a name of no bytes", EITHER, [("", "v")]),
        row("a name that is a line", EITHER, [("host: b.test\r\nx", "v")], at_origin=lambda one: one.all("host") != ["a.test"] and "hosts"),
        row("a name that is a colon", EITHER, [(":", "v")]),
    ]
    return rows


def values():
    bad = {
        "CR": "a\rb",
        "LF": "a\nx-smuggled: b",
        "CRLF": "a\r\nx-smuggled: b",
        "a request": "a\r\n\r\n" + SMUGGLED,
        "NUL": "a\0b",
        "CR at the end": "a\r",
        "LF at the end": "a\n",
        "LF in front": "\na",
        "a fold": "a\r\n b",
        "bell": "a\x07b",
        "DEL": "a\x7fb",
        "escape": "a\x1bb",
        "length and request": "a\r\ncontent-length: 60\r\n\r\n" + SMUGGLED,
        "coding": "a\r\ntransfer-encoding: chunked",
    }
    rows = [
        row(f"a value with {what}", EITHER, [("x-bad", value)], at_origin=lacks("x-smuggled", "transfer-encoding")) for what, value in bad.items()
    ]
    rows += [
        row(f"a value with {what} around it", EITHER, [("x-bad", value)], at_origin=lambda one: one.all("x-bad") not in ([], ["a"]) and "spaces")
        for what, value in [("a space", " a "), ("a tab", "\ta\t")]
    ]
    rows += [
        row("a value of high bytes", EITHER, [("x-high", "caf\xe9\xff")]),
        row("a value of no bytes", PASSED, [("x-none", "")]),
        row("a value with a tab inside", EITHER, [("x-tab", "a\tb")]),
    ]
    rows += [
        row(f"CRLF in {name}", EITHER, [(name, "a\r\nx-smuggled: b")], at_origin=lacks("x-smuggled"))
        for name in ("cookie", "user-agent", "referer", "x-forwarded-for", "authorization")
    ]
    rows += [
        row("a space around the length", EITHER, [("content-length", " 5")], b"hello", method="POST", at_origin=has_body(b"hello")),
        row("a length with CRLF", REFUSED, [("content-length", "5\r\nx-smuggled: b")], b"hello", method="POST"),
    ]
    return rows


def hop_by_hop():
    body = b"0\r\n\r\n" + SMUGGLED.encode()
    gone = {
        "transfer-encoding: chunked": [("transfer-encoding", "chunked")],
        "transfer-encoding: identity": [("transfer-encoding", "identity")],
        "transfer-encoding: xchunked": [("transfer-encoding", "xchunked")],
        "transfer-encoding: gzip, chunked": [("transfer-encoding", "gzip, chunked")],
        "transfer-encoding of no bytes": [("transfer-encoding", "")],
        "transfer-encoding with a tab": [("transfer-encoding", "\tchunked")],
        "transfer-encoding and a length": [("transfer-encoding", "chunked"), ("content-length", str(len(body) - 5 + 5))],
        "two transfer-encodings": [("transfer-encoding", "chunked"), ("transfer-encoding", "identity")],
    }

    def kept_body(one):
        return (
            lacks("x-smuggled")(one)
            or (one.all("transfer-encoding") not in ([], ["chunked"]) and "a coding")
            or (one.body.replace(b"TOKEN", one.token.encode()) != body.replace(b"TOKEN", one.token.encode()) and "another body")
        )

    rows = [row(f"{name}, with a body", EITHER, fields, body, method="POST", at_origin=kept_body) for name, fields in gone.items()]
    rows.append(row("transfer-encoding without a body", EITHER, [("transfer-encoding", "chunked")], at_origin=lambda one: one.body and "a body"))
    for name, fields, absent in [
        ("connection: close", [("connection", "close")], ()),
        ("connection: keep-alive", [("connection", "keep-alive")], ()),
        ("connection that names a field", [("connection", "x-hop"), ("x-hop", "1")], ()),
        ("connection that names content-length", [("connection", "content-length"), ("content-length", "0")], ()),
        ("connection that names host", [("connection", "host")], ()),
        ("keep-alive", [("keep-alive", "timeout=5")], ("keep-alive",)),
        ("proxy-connection", [("proxy-connection", "keep-alive")], ()),
        ("upgrade: websocket", [("upgrade", "websocket")], ("upgrade",)),
        ("upgrade: h2c", [("upgrade", "h2c"), ("http2-settings", "AAMAAABk")], ("upgrade",)),
        ("upgrade and connection", [("upgrade", "websocket"), ("connection", "upgrade")], ("upgrade",)),
        ("te: gzip", [("te", "gzip")], ("te",)),
        ("te: trailers, chunked", [("te", "trailers, chunked")], ("te",)),
    ]:
        rows.append(row(name, EITHER, fields, at_origin=lacks(*absent)))
    rows.append(row("te: trailers", PASSED, [("te", "trailers")]))
    return rows


def lengths():
    surplus = b"hello" + SMUGGLED.encode()
    whole = has_body(b"hello")
    rows = [
        row(f"a length of {length} {what}", REFUSED, [("content-length", length)], body, method="POST")
        for what, length, body in [
            ("for 5 bytes", "6", b"hello"),
            ("for 5 bytes", "4", b"hello"),
            ("for 5 bytes", "0", b"hello"),
            ("for none", "5", None),
            ("and a request behind", "5", surplus),
            ("and none", "0", SMUGGLED.encode()),
            ("for 5 bytes", "18446744073709551621", b"hello"),
            ("for 5 bytes", "9223372036854775808", b"hello"),
            ("for 5 bytes", "4294967301", b"hello"),
            ("for 5 bytes", "99999999999999999999999", b"hello"),
            ("for 5 bytes", "-5", b"hello"),
            ("for 5 bytes", "0x5", b"hello"),
            ("for 5 bytes", "5abc", b"hello"),
            ("for 5 bytes", "5;", b"hello"),
            ("for 5 bytes", "5 5", b"hello"),
            ("for 5 bytes", "5.0", b"hello"),
            ("for 5 bytes", "5e0", b"hello"),
        ]
    ]
    for name, fields in {"+5": ["+5"], "005": ["005"], "5, 5": ["5, 5"], "5 twice": ["5", "5"], "of no bytes": [""], "5 and a comma": ["5,"]}.items():
        rows.append(row(f"a length {name}", EITHER, [("content-length", one) for one in fields], b"hello", method="POST", at_origin=whole))
    rows += [
        row("lengths of 5 and 6", REFUSED, [("content-length", "5"), ("content-length", "6")], b"hello", method="POST"),
        row("lengths of 6 and 5", REFUSED, [("content-length", "6"), ("content-length", "5")], b"hello", method="POST"),
        row("lengths of 0 and 5", REFUSED, [("content-length", "0"), ("content-length", "5")], b"hello", method="POST"),
        row("a length as told", PASSED, [("content-length", "5")], b"hello", method="POST", at_origin=whole),
        row("a length of 0 without a body", PASSED, [("content-length", "0")], method="POST"),
        row("a length in two pieces", PASSED, [("content-length", "5")], [b"he", b"", b"llo"], method="POST", at_origin=whole),
        row("a length of 10 in pieces of 5 and 4", REFUSED, [("content-length", "10")], [b"hello", b"hell"], method="POST"),
        row("a length of 3 in pieces of 2 and 2", REFUSED, [("content-length", "3")], [b"he", b"ll"], method="POST"),
        row("a length of 6 and trailers", REFUSED, [("content-length", "6")], b"hello", [("x-end", "1")], method="POST"),
        row("a length of 4 and trailers", REFUSED, [("content-length", "4")], b"hello", [("x-end", "1")], method="POST"),
        row("a length of 5 for GET without a body", REFUSED, [("content-length", "5")]),
        row("a length of 5 for HEAD without a body", REFUSED, [("content-length", "5")], method="HEAD"),
    ]
    return rows


def paths():
    def same_line(one):
        return (" " in one.target or "\t" in one.target) and "a target with spaces"

    rows = [
        row(f"a path with {what}", EITHER, path=path, at_origin=same_line)
        for what, path in {
            "CRLF": "/TOKEN/echo HTTP/1.1\r\nx-smuggled: 1\r\nx: ",
            "a request": "/TOKEN/echo HTTP/1.1\r\nhost: a.test\r\n\r\n" + SMUGGLED,
            "LF": "/TOKEN/echo\nx-smuggled: 1",
            "CR": "/TOKEN/echo\rb",
            "NUL": "/TOKEN/echo\0b",
            "a space": "/TOKEN/echo b",
            "a space in front": " /TOKEN/echo",
            "a space behind": "/TOKEN/echo ",
            "a tab": "/TOKEN/echo\tb",
            "a version": "/TOKEN/echo HTTP/1.0",
            "a fragment": "/TOKEN/echo#smug",
            "DEL": "/TOKEN/echo\x7f",
            "a high byte": "/TOKEN/echo\xe9",
            "an encoded CRLF": "/TOKEN/echo/%0d%0ax-smuggled:%201",
            "an encoded NUL": "/TOKEN/echo/%00",
            "a broken escape": "/TOKEN/echo/%zz",
            "a cut escape": "/TOKEN/echo/%4",
            "an escape": "/TOKEN/echo\x1b",
            "a backslash": "/TOKEN/echo\\..\\x",
            "dots above the root": "/../../TOKEN/echo",
            "two slashes": "//TOKEN/echo",
            "a query with CRLF": "/TOKEN/echo?a\r\nx-smuggled: 1",
            "a query with a space": "/TOKEN/echo?a b",
            "an empty query": "/TOKEN/echo?",
            "a semicolon": "/TOKEN/echo;a=b",
            "no slash": "TOKEN/echo",
            "a scheme": "https://b.test/TOKEN/echo",
            "a host": "@b.test/TOKEN/echo",
            "a port in front": ":80/TOKEN/echo",
            "an asterisk for GET": "*",
            "an asterisk and a path": "*/TOKEN/echo",
            "a question mark alone": "?TOKEN",
        }.items()
    ]
    rows += [
        row("no path", REFUSED, path=None),
        row("a path of no bytes", REFUSED, path=""),
        row("two paths", REFUSED, path=["/TOKEN/echo", "/TOKEN/smuggled"]),
        row("two paths, the same", REFUSED, path=["/TOKEN/echo", "/TOKEN/echo"]),
        row("OPTIONS *", EITHER, path="*", method="OPTIONS", at_origin=lambda one: one.target != "*" and "another target"),
        row("a path of 4,000 bytes", PASSED, path="/TOKEN/echo?" + "a" * 4000),
        row("a path of 100,000 bytes", EITHER, path="/TOKEN/echo?" + "a" * 100_000),
    ]
    return rows


def hosts():
    def is_one(*hosts):
        return lambda one: one.all("host")[0] not in hosts and f"the host {one.all('host')}"

    def plain(one):
        host = one.all("host")[0]
        return any(char in host for char in " /#?\\\r\n\0\t") and f"the host {host!r}"

    rows = [
        row(f"an authority with {what}", EITHER, authority=host, at_origin=plain)
        for what, host in {
            "CRLF": "a.test\r\nx-smuggled: 1",
            "a request": "a.test\r\n\r\n" + SMUGGLED,
            "LF": "a.test\nx-smuggled: 1",
            "a space": "a.test b.test",
            "a space in front": " a.test",
            "a tab": "a.test\tb",
            "NUL": "a.test\0b.test",
            "a slash": "a.test/x",
            "a fragment": "a.test#b",
            "a query": "a.test?b",
            "a backslash": "a.test\\b",
            "a comma": "a.test,b.test",
            "a path and a version": "a.test/TOKEN/smuggled HTTP/1.1",
            "a high byte": "a.t\xe9st",
        }.items()
    ]
    rows += [
        row("an authority with user and password", EITHER, authority="u:p@a.test"),
        row("an authority of no bytes", EITHER, authority=""),
        row("an authority with a port that is none", EITHER, authority="a.test:abc"),
        row("an authority with a port too large", EITHER, authority="a.test:99999"),
        row("an authority with an open bracket", EITHER, authority="[::1"),
        row("an authority with a port of no digits", EITHER, authority="a.test:"),
        row("an address in brackets", EITHER, authority="[::1]:443"),
        row("an authority in capitals", EITHER, authority="A.TEST"),
        row("two authorities", EITHER, authority=["a.test", "b.test"], at_origin=is_one("a.test")),
        row("no authority and a host", EITHER, [("host", "a.test")], authority=None, at_origin=is_one("a.test")),
        row("no authority and no host", EITHER, authority=None),
        row("a host that says the same", EITHER, [("host", "a.test")], at_origin=is_one("a.test")),
        row("a host that says another", EITHER, [("host", "b.test")], at_origin=is_one("a.test")),
        row("a host with CRLF", EITHER, [("host", "a.test\r\nx-smuggled: 1")], authority=None, at_origin=lacks("x-smuggled")),
        row("two hosts", EITHER, [("host", "a.test"), ("host", "b.test")], authority=None),
        row("a host of no bytes", EITHER, [("host", "")], at_origin=is_one("a.test")),
        row("two hosts beside an authority", EITHER, [("host", "a.test"), ("host", "b.test")], at_origin=is_one("a.test")),
    ]
    return rows


def methods():
    rows = [
        row(f"a method with {what}", EITHER, method=method, at_origin=lacks("x-smuggled"))
        for what, method in {
            "a request line": "GET /TOKEN/smuggled HTTP/1.1\r\nhost: a.test\r\nx: ",
            "CRLF": "GET\r\nx-smuggled: 1",
            "a path": "GET /TOKEN/smuggled HTTP/1.1 ",
            "a space": "GE T",
            "a space behind": "GET ",
            "a space in front": " GET",
            "a tab": "GE\tT",
            "NUL": "GET\0",
            "LF": "GET\n",
            "a colon": "GET:",
            "a slash": "GET/",
            "a bracket": "GE(T",
            "a quote": '"GET"',
            "a high byte": "G\xc9T",
        }.items()
    ]
    rows += [
        row("no method", REFUSED, method=None),
        row("a method of no bytes", REFUSED, method=""),
        row("two methods", REFUSED, method=["GET", "POST"]),
        row("the method get", EITHER, method="get", at_origin=lambda one: one.method != "get" and "another method"),
        row("the method PRI", EITHER, method="PRI"),
        row("the method TRACE", EITHER, method="TRACE"),
        row("the method TRACE with a body", EITHER, (), b"hello", method="TRACE"),
        row("a method of 1,000 bytes", EITHER, method="M" * 1000),
        row("the method PURGE", EITHER, method="PURGE"),
        row("CONNECT with a path", EITHER, method="CONNECT", at_origin=lambda one: "a request"),
        row("CONNECT with a path and a body", EITHER, (), SMUGGLED, method="CONNECT", at_origin=lambda one: "a request"),
        Case("smuggling", "CONNECT", connect),
        row("CONNECT without an authority", REFUSED, method="CONNECT", path=None, scheme=None, authority=None),
    ]
    return rows


def connect(world):
    """Refused, or a tunnel; never another request."""
    client = world.client()
    which = client.open([(":method", "CONNECT"), (":authority", "a.test:443"), ("x-case", world.token)], end=False)
    stream = client.stream(which)
    client.wait(lambda: is_refused(client, stream) or stream.head)
    require(all(one.method == "CONNECT" for one in world.of()), f"the origin has {world.of()}")
    world.check_next()


def pseudo_fields():
    rows = [
        row(f"a scheme {what}", EITHER, scheme=scheme)
        for what, scheme in {
            "http": "http",
            "of no bytes": "",
            "ftp": "ftp",
            "with CRLF": "https\r\nx-smuggled: 1",
            "that is an address": "https://b.test/?",
            "with a space": "https ",
            "in capitals": "HTTPS",
            "with NUL": "https\0",
            "javascript": "javascript",
        }.items()
    ]
    rows += [
        row("no scheme", EITHER, scheme=None),
        row("two schemes", REFUSED, scheme=["https", "http"]),
        row("an unknown pseudo-field", REFUSED, first=[(":unknown", "x")]),
        row(":status in a request", REFUSED, first=[(":status", "200")]),
        row("a pseudo-field behind a field", REFUSED, [(":path", "/TOKEN/echo")], path=None),
        row(":method behind a field", REFUSED, [(":method", "GET")], method=None),
        row(":authority behind a field", REFUSED, [(":authority", "b.test")]),
        row(":METHOD", REFUSED, first=[(":METHOD", "GET")], method=None),
        row(":path and a space", REFUSED, first=[(":path ", "/")]),
        row("a pseudo-field of no name", REFUSED, first=[(":", "x")]),
        row(":protocol without CONNECT", EITHER, first=[(":protocol", "websocket")], at_origin=lacks("upgrade")),
        row("no pseudo-field", REFUSED, method=None, path=None, scheme=None, authority=None),
    ]
    return rows


def bodies():
    smuggled = SMUGGLED.encode()
    rows = []
    for method in ("GET", "HEAD", "DELETE", "POST", "OPTIONS"):
        for length in (True, False):

            def run(world, method=method, length=length):
                body = filled(smuggled, world)
                more = [("content-length", str(len(body)))] if length else []
                judge(
                    world,
                    EITHER if method in ("GET", "HEAD", "DELETE", "OPTIONS") else PASSED,
                    world.head(method=method) + more,
                    body,
                    at_origin=lambda one: one.body not in (body, b"") and "another body",
                )

            rows.append(Case("smuggling", f"{method} whose body is a request, {'with' if length else 'without'} a length", run))
    rows += [
        row("a body that is the end of chunks and a request", PASSED, (), b"0\r\n\r\n" + smuggled, method="POST"),
        row("a body in empty pieces", EITHER, (), [b"", b"", b"hello", b"", b""], method="POST", at_origin=has_body(b"hello")),
        row("expect: 100-continue", PASSED, [("expect", "100-continue")], b"hello", method="POST", at_origin=has_body(b"hello")),
        row(
            "expect: 100-continue with a length",
            PASSED,
            [("expect", "100-continue"), ("content-length", "5")],
            b"hello",
            method="POST",
            at_origin=has_body(b"hello"),
        ),
        row("expect: 100-continue without a body", EITHER, [("expect", "100-continue")]),
        row("expect: anything", EITHER, [("expect", "anything")], b"hello", method="POST"),
        row(
            "cookies in crumbs",
            PASSED,
            [("cookie", "a=1"), ("x-y", "z"), ("cookie", "b=2"), ("cookie", "c=3")],
            at_origin=lambda one: one.all("cookie") != ["a=1; b=2; c=3"] and f"cookies {one.all('cookie')}",
        ),
        row("200 crumbs", EITHER, [("cookie", f"c{n}=1") for n in range(200)]),
        row("130 fields", EITHER, [(f"x-{n}", "v") for n in range(130)]),
        row("a field of 16 KiB", EITHER, [("x-big", "b" * 16384)]),
        row("a field of 60 KB", EITHER, [("x-big", "b" * 60_000)]),
        row("x-forwarded-for with a list", PASSED, [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "5.6.7.8")]),
        Case("smuggling", "a padded body", padded_body),
        beside("connection: close", ("connection", "close")),
        beside("a name in capitals", ("X-A", "1")),
        beside("a name with a space", ("x y", "1")),
        beside("a value with CRLF", ("x", "a\r\nb")),
        beside("a value with NUL", ("x", "a\0")),
        beside("a path with a space", path="/a b"),
        beside("a method with a space", method="GE T"),
        beside("trailers in capitals", trailers=[("X-A", "1")]),
    ]
    return rows


def padded_body(world):
    client = world.client()
    client.send(
        frame(HEADERS, END_HEADERS, 1, block(world.head(method="POST")))
        + frame(DATA, PADDED, 1, b"\x20he" + b"\0" * 32)
        + frame(DATA, PADDED | END_STREAM, 1, b"\x05llo\0\0\0\0\0")
    )
    own(world, client.answer(1), "POST", b"hello")


def beside(name, *more, trailers=None, **pseudo):
    """A request that is refused in the middle of another one's response: that one is finished, or its end is seen. (RFC 9113 §8.1.1
    has a malformed request end its stream, §5.4.1 lets that end the connection.)"""

    def run(world):
        client = world.client()
        first = client.open(world.head("gate", 20_000))
        client.wait(lambda: client.stream(first).body)
        fields = [(key, pseudo.get(key[1:], value)) for key, value in world.head()] + list(more)
        bad = client.open(fields, trailers and b"body", trailers=trailers)
        client.wait(lambda: is_refused(client, client.stream(bad)) or client.stream(bad).is_over)
        world.origin.gate(world.token).set()
        stream = client.answer(first)
        world.told = f"the other one: {stream.told()}"
        lost = stream.reset is not None or client.goaway or client.ended
        require(lost or len(stream.body) == 40_000, f"the other one: {stream.told()}")
        require(not stream.is_ended or len(stream.body) == 40_000, f"cut, and looks whole: {stream.told()}")
        world.check_next(client)

    return Case("smuggling", f"beside another request, {name}", run)


def trailers():
    def clean(one):
        return [key for key, _ in one.trailers if key.lower() in ("transfer-encoding", "content-length", "host", "connection", "x-upper")] or None

    rows = [
        row(f"trailers with {what}", EITHER, (), b"hello", fields, method="POST", at_origin=lambda one: clean(one) or has_body(b"hello")(one))
        for what, fields in {
            "a field": [("x-end", "1")],
            "transfer-encoding": [("transfer-encoding", "chunked")],
            "a length": [("content-length", "60")],
            "a host": [("host", "b.test")],
            "connection": [("connection", "close")],
            "an upper-case name": [("X-Upper", "1")],
            "CRLF": [("x-end", "1\r\nx-smuggled: 1")],
            "a request": [("x-end", "1\r\n\r\n" + SMUGGLED)],
            "a name with CRLF": [("x\r\nx-smuggled", "1")],
            "NUL": [("x-end", "a\0")],
            "a space": [("x end", "1")],
            "a colon": [("x:y", "1")],
            "no fields": [],
            "a name of no bytes": [("", "1")],
            "te": [("te", "trailers")],
            "200 fields": [(f"x-{n}", "v") for n in range(200)],
            "a cookie": [("cookie", "a=b")],
        }.items()
    ]
    rows += [row(f"trailers with {name}", REFUSED, (), b"hello", [(name, "x")], method="POST") for name in (*PSEUDO, ":status", ":unknown")]
    rows += [row("trailers that end nothing", REFUSED, (), b"hello", method="POST")]
    rows[-1].run = trailers_that_end_nothing
    rows.append(Case("smuggling", "DATA behind trailers", data_behind_trailers))
    return rows


def trailers_that_end_nothing(world):
    client = world.client()
    which = client.open(world.head(method="POST"), b"hello", end=False)
    client.send(
        frame(HEADERS, END_HEADERS, which, block([("x-end", "1")])) + frame(DATA, END_STREAM, which, SMUGGLED.replace("TOKEN", world.token).encode())
    )
    stream = client.stream(which)
    client.wait(lambda: stream.is_over or client.goaway)
    require(is_refused(client, stream), f"not refused: {stream.told()}")
    require(not any(one.whole for one in world.of()), "the origin has it")
    world.check_next()


def data_behind_trailers(world):
    client = world.client()
    which = client.open(world.head("silent", method="POST"), b"hello", trailers=[("x-end", "1")])
    client.send(frame(DATA, END_STREAM, which, SMUGGLED.replace("TOKEN", world.token).encode()))
    stream = client.stream(which)
    client.wait(lambda: stream.is_over or client.goaway)
    world.origin.gate(world.token).set()
    require(is_refused(client, stream), f"taken: {stream.told()}")
    world.check_next()


CASES = [*names(), *values(), *hop_by_hop(), *lengths(), *paths(), *hosts(), *methods(), *pseudo_fields(), *bodies(), *trailers()]
