"""HTTP/1 over TLS: framing that two parsers could read differently, chunks, line ends, pipelining, what is torn and what is cut.

A row is a request as text: {} is its path, a line end CRLF, <CR> and <LF> are bare ones, <LENGTH> is that of all behind the head.
Behind what is ambiguous stands a request to /TOKEN/smuggled for who reads it the other way. Source: RFC 9112, RFC 8446 §6.1.
"""

import contextlib
import socket
import ssl
import time

from h2_judge import EITHER, PASSED, REFUSED, Case, Failure, Lax, require
from h2_wire import PATIENCE, Hang, Tls, octets

HTTP1 = ("http/1.1",)


class Answer:
    """A response as it was read; `whole` says whether its end was seen."""

    def __init__(self, status, fields, body, whole):
        self.status, self.fields, self.body, self.whole = status, fields, body, whole

    def told(self):
        return f"{self.status}, {len(self.body)} bytes, {'whole' if self.whole else 'cut'}"


class Client(Tls):
    """Reads responses one after the other."""

    def __init__(self, port, **how):
        super().__init__(port, **{"alpn": HTTP1, **how})
        self.waiting, self.interim = b"", []

    def more(self, until):
        piece = self.receive(until)
        self.waiting += piece
        return piece

    def answer(self, method="GET", patience=PATIENCE):
        """The next response; None when the connection ends before one."""
        until = time.monotonic() + patience
        while b"\r\n\r\n" not in self.waiting:
            if not self.more(until):
                return None
        head, self.waiting = self.waiting.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        fields = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines[1:]}
        if status < 200 and status != 101:
            self.interim.append(status)
            return self.answer(method, patience)
        if method == "HEAD" or status in (101, 204, 304):
            return Answer(status, fields, b"", True)
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return Answer(status, fields, *self.chunks(until))
        if "content-length" in fields:
            length = int(fields["content-length"])
            while len(self.waiting) < length and self.more(until):
                pass
            body, self.waiting = self.waiting[:length], self.waiting[length:]
            return Answer(status, fields, body, len(body) == length)
        while self.more(until):
            pass
        body, self.waiting = self.waiting, b""
        return Answer(status, fields, body, self.ended == "closed")

    def chunks(self, until):
        body = b""
        while True:
            while b"\r\n" not in self.waiting:
                if not self.more(until):
                    return body, False
            size, rest = self.waiting.split(b"\r\n", 1)
            size = int(size.split(b";")[0], 16)
            while len(rest) < size + 2:
                piece = self.more(until)
                if not piece:
                    return body + rest[:size], False
                rest += piece
            if size:
                body, self.waiting = body + rest[:size], rest[size + 2 :]
                continue
            while b"\r\n\r\n" not in b"\r\n" + rest:
                piece = self.more(until)
                if not piece:
                    return body, False
                rest += piece
            self.waiting = (b"\r\n" + rest).split(b"\r\n\r\n", 1)[1]
            return body, True


def text(world, what, way="echo"):
    """The bytes of a row."""
    what = what.replace("{}", world.path(way)).replace("TOKEN", world.token)
    what = what.replace("\n", "\r\n").replace("<LF>", "\n").replace("<CR>", "\r")
    return octets(what.replace("<LENGTH>", str(len(what.split("\r\n\r\n", 1)[-1]))))


def head(*fields, line="GET {} HTTP/1.1", host="a.test"):
    return "\n".join([line, *([f"host: {host}"] if host is not None else []), "x-case: TOKEN", *fields, "", ""])


SMUGGLED = head(line="GET /TOKEN/smuggled HTTP/1.1")


def is_refused(answer):
    return answer is None or answer.status >= 400


def row(name, expect, what, body=None, at_origin=None, method=None, **how):
    """`body`: what the origin has to have got, where it has something."""

    def run(world):
        client = Client(world.port, **how)
        client.send(text(world, what))
        try:
            answer = client.answer(method or what.split(" ", 1)[0], 2)
        except Hang:
            client.cut()  # it waits for more: that is an answer, if nothing comes to the origin
            answer = client.answer(patience=2)
            require(expect != PASSED, "hang: nothing comes")
        whole = [one for one in world.of() if one.whole]
        told = answer.told() if answer else "closed"
        world.told = f"{'refused' if is_refused(answer) else 'passed'}: {told}"
        world.check()
        if expect == REFUSED and not is_refused(answer):
            require(len(whole) == 1 and body is not None and whole[0].body == octets(body), f"not refused: {told}")
            raise Lax(f"not refused: {told}")
        require(expect != REFUSED or not whole, f"refused ({told}), but the origin has {whole[:1]}")
        require(expect != PASSED or (answer and answer.status == 200 and answer.whole), f"not passed: {told}")
        require(is_refused(answer) or answer.status < 300, f"neither refused nor passed: {told}")
        if not is_refused(answer):
            require(len(whole) >= 1, "an answer without a request")
            require(body is None or whole[0].body == octets(body), f"another body: {whole[0].body[:80]!r}")
            require(answer.fields.get("x-token") == world.token, f"another answer: {answer.fields}")
            wrong = at_origin and at_origin(whole[0])
            require(not wrong, f"passed on: {wrong} ({whole[0].target} {whole[0].fields})")
        require(len(whole) <= 1, f"{len(whole)} requests at the origin: {whole}")
        world.check_next()

    return Case("http1", name, run)


POST = "POST {} HTTP/1.1"


def codings():
    """Transfer-Encoding that is not plainly chunked, with a body that is a request for who does not see it, or sees nothing else."""
    chunks = "5\nhello\n0\n\n"
    both = ["content-length: <LENGTH>", "transfer-encoding: chunked"]
    rows = [
        row("a length and chunked", EITHER, head(*both, line=POST) + "0\n\n" + SMUGGLED, ""),
        row("chunked and a length", EITHER, head(*both[::-1], line=POST) + "0\n\n" + SMUGGLED, ""),
        row("a length of 5 and chunked", EITHER, head("content-length: 5", both[1], line=POST) + "0\n\n", ""),
        row("chunked", PASSED, head("transfer-encoding: chunked", line=POST) + chunks, "hello"),
        row("CHUNKED", PASSED, head("TRANSFER-ENCODING: CHUNKED", line=POST) + chunks, "hello"),
        row("chunked without a space", PASSED, head("transfer-encoding:chunked", line=POST) + chunks, "hello"),
        row("chunked in HTTP/1.0", EITHER, head("transfer-encoding: chunked", line="POST {} HTTP/1.0") + "0\n\n" + SMUGGLED, ""),
        row("chunked and a length in HTTP/1.0", EITHER, head(*both, line="POST {} HTTP/1.0") + "0\n\n" + SMUGGLED, ""),
        row("a length in HTTP/1.0", PASSED, head("content-length: 5", line="POST {} HTTP/1.0") + "hello", "hello"),
        row("Transfer_Encoding", EITHER, head("transfer_encoding: chunked", "content-length: 5", line=POST) + "0\n\n", "0\r\n\r\n"),
    ]
    for value in ("xchunked", "identity", "chunked, identity", "identity, chunked", "gzip, chunked", "chunked, chunked", '"chunked"', "chunked;q=1",
        "chunked,", ",chunked",
                  "chunked\x0b", "\x0bchunked", "chunked\0", "chunk", "", "cow", "chunked\x85", "gzip"):  # fmt: skip
        rows.append(row(f"transfer-encoding: {value!r}", EITHER, head(f"transfer-encoding: {value}", line=POST) + chunks, "hello"))
    for name in ("transfer-encoding ", " transfer-encoding", "transfer-encoding\t", "\ttransfer-encoding", "transfer-encoding\x0b",
        "transfer-encoding\0", "x: y<LF>transfer-encoding",
                 "x: y<CR>transfer-encoding", "x:\n transfer-encoding", "transfer\xadencoding"):  # fmt: skip
        fields = head(f"{name}: chunked", "content-length: <LENGTH>", line=POST)
        rows.append(
            row(
                f"the name {name!r}",
                EITHER,
                fields + "0\n\n" + SMUGGLED,
                at_origin=lambda one: not (b"0\r\n\r\n" + one.body).endswith((b"\r\n\r\n", b"GET")) and "a body",
            )
        )
    rows += [
        row("chunked twice", EITHER, head("transfer-encoding: chunked", "transfer-encoding: chunked", line=POST) + chunks, "hello"),
        row(
            "chunked and identity in two lines",
            EITHER,
            head("transfer-encoding: chunked", "transfer-encoding: identity", line=POST) + chunks,
            "hello",
        ),
        row(
            "identity and chunked in two lines",
            EITHER,
            head("transfer-encoding: identity", "transfer-encoding: chunked", line=POST) + chunks,
            "hello",
        ),
        row("chunked in a folded line", EITHER, head("transfer-encoding:\n chunked", line=POST) + chunks, "hello"),
        row("chunked named by connection", EITHER, head("connection: transfer-encoding", "transfer-encoding: chunked", line=POST) + chunks, "hello"),
        row("a length named by connection", EITHER, head("connection: content-length", "content-length: 5", line=POST) + "hello", "hello"),
    ]
    return rows


def lengths():
    rows = [
        row(f"content-length: {value!r}", REFUSED, head(f"content-length: {value}", line=POST) + "hello" + SMUGGLED, "hello")
        for value in (
            "-5",
            "+5",
            "0x5",
            "5 5",
            "5abc",
            "5.0",
            "5e0",
            "5, 6",
            "6, 5",
            "18446744073709551621",
            "99999999999999999999999999",
            "5\x0b",
            "\x0b5",
            "5;",
            '"5"',
            "five",
            "5\0",
        )
    ]
    rows += [
        row(f"content-length: {value!r}", EITHER, head(f"content-length: {value}", line=POST) + "hello", "hello")
        for value in ("5, 5", "05", "0000000000000000000000005", "5,", " 5 ", "\t5")
    ]
    rows += [
        row("a length of no bytes", EITHER, head("content-length:", line=POST), ""),
        row("two lengths, the same", EITHER, head("content-length: 5", "content-length: 5", line=POST) + "hello", "hello"),
        row("two lengths", REFUSED, head("content-length: 5", "content-length: 0", line=POST) + "hello"),
        row("two lengths, the other way round", REFUSED, head("content-length: 0", "content-length: 5", line=POST) + "hello"),
        row("a space behind the name of a length", REFUSED, head("content-length : 5", line=POST) + "hello", "hello"),
        row("Content_Length", EITHER, head("content_length: 5", line=POST), ""),
        row("a length in a folded line", EITHER, head("content-length:\n 5", line=POST) + "hello", "hello"),
        row("GET with a body", EITHER, head("content-length: 5") + "hello", "hello"),
        row("POST without a length", EITHER, head(line=POST), ""),
        row(
            "a length behind LF",
            EITHER,
            head("x: y<LF>content-length: 5", line=POST) + "hello",
            at_origin=lambda one: one.body not in (b"", b"hello") and "a body",
        ),
        row("a length behind CR", EITHER, head("x: y<CR>content-length: 5", line=POST), at_origin=lambda one: one.body and "a body"),
    ]
    return rows


def lines():
    def plain(one):
        return (one.all("x-smuggled") or one.all("host") != ["a.test"]) and "other fields"

    rows = [row(f"the line {line!r}", EITHER, head(line=line), at_origin=plain) for line in (
        "GET  {} HTTP/1.1", "GET\t{} HTTP/1.1", "GET {}\tHTTP/1.1", "GET {}  HTTP/1.1", "GET {} HTTP/1.1 ", " GET {} HTTP/1.1",
        "GET {}\x0bHTTP/1.1", "GET {} HTTP/1.1\0",
        "GET {}?a b HTTP/1.1", "GET {}<CR> HTTP/1.1", "GET {}<CR>x-smuggled: 1 HTTP/1.1", "GET {}\0 HTTP/1.1", "GET {}#x HTTP/1.1",
        "GET {}\xe9 HTTP/1.1", "get {} HTTP/1.1",
        "GE(T {} HTTP/1.1", "G\0ET {} HTTP/1.1", "GET {} http/1.1", "GET {} HTTP/1.2", "GET {} HTTP/1.10", "GET {} HTTP/01.1", "GET {} HTTP/2.0",
        "GET {} HTTP/3.0",
        "GET {} HTTP/1,1", "GET {} HTTP/1.1x", "GET {} XTTP/1.1", "GET {}", "{} HTTP/1.1", "GET HTTP/1.1", "GET * HTTP/1.1",
        "GET TOKEN/echo HTTP/1.1", "GET //TOKEN/echo HTTP/1.1",
        "GET /../TOKEN/echo HTTP/1.1", "GET {}/%00 HTTP/1.1", "GET {}/%zz HTTP/1.1", "GET {}/%0d%0ax:y HTTP/1.1", "GET http://a.test{} HTTP/1.1",
        "GET https://a.test{} HTTP/1.1",
        "GET ftp://a.test{} HTTP/1.1", "GET http://{} HTTP/1.1", "CONNECT a.test:443 HTTP/1.1", "CONNECT {} HTTP/1.1", "PRI * HTTP/2.0",
        "TRACE {} HTTP/1.1", "OPTIONS * HTTP/1.1")]  # fmt: skip
    rows += [
        row(
            "an authority other than the host",
            EITHER,
            head(line="GET http://b.test{} HTTP/1.1"),
            at_origin=lambda one: one.all("host") != ["b.test"] and "another host",
        ),
        row("a line of 100,000 bytes", EITHER, head(line="GET {}?" + "a" * 100_000 + " HTTP/1.1")),
        row("a method of 1,000 bytes", EITHER, head(line="M" * 1000 + " {} HTTP/1.1")),
        row("an empty line in front", EITHER, "\n" + head()),
        row("five empty lines in front", EITHER, "\n" * 5 + head()),
        row("a bare LF in front", EITHER, "<LF>" + head()),
        row("a bare CR in front", EITHER, "<CR>" + head()),
        row("bare LF everywhere", EITHER, head().replace("\n", "<LF>"), at_origin=plain),
        row("bare CR everywhere", EITHER, head().replace("\n", "<CR>"), at_origin=plain),
        row("a bare LF behind the line", EITHER, head().replace("\n", "<LF>", 1), at_origin=plain),
        row("two CR", EITHER, head().replace("\n", "<CR>\n", 1), at_origin=plain),
        row("a head that ends with LF", EITHER, head()[:-1] + "<LF>", at_origin=plain),
        row("a head that ends with two LF", EITHER, head()[:-2] + "<LF><LF>", at_origin=plain),
    ]
    return rows


def fields():
    def clean(one):
        return (one.all("x-smuggled") or one.all("host") != ["a.test"]) and "other fields"

    rows = [row(f"the field {field!r}", EITHER, head(field), at_origin=clean) for field in (
        "x y: 1", "x\0: 1", ": v", "x(: 1", "no colon", "x\xe9: 1", "x\t: 1", "x : 1", "x: a\0b", "x: a<CR>b", "x: a<LF>x-other: 1",
        "x: a<CR>x-smuggled: 1", "x: a\x07b",
        "x: a\x7fb", "x: a\n b", "x: a\n\tx-smuggled: 1", "x:", "x: \xff\xfe", '"x": 1', "x/y: 1", "host : b.test", "x<LF> : 1", "x: a\n",
        "x: a\x0bb")]  # fmt: skip
    rows += [
        row("a line with a space in front before the first field", EITHER, head().replace("\n", "\n x-smuggled: 1\n", 1), at_origin=clean),
        row("a folded host", EITHER, head(host=None).replace("\n", "\nhost:\n a.test\n", 1), at_origin=clean),
        row("no host", REFUSED, head(host=None)),
        row("no host in HTTP/1.0", EITHER, head(host=None, line="GET {} HTTP/1.0")),
        row("two hosts", REFUSED, head("host: b.test"), ""),
        row("two hosts, the same", REFUSED, head("host: a.test"), ""),
        row("a host of no bytes", EITHER, head(host="")),
        row("a field of 16 KB", EITHER, head("x-big: " + "b" * 16_000)),
        row("a field of 100 KB", EITHER, head("x-big: " + "b" * 100_000)),
        row("100 fields", EITHER, head(*[f"x-{n}: v" for n in range(100)])),
        row("2,000 fields", EITHER, head(*[f"x-{n}: v" for n in range(2_000)])),
        row("connection that names a field", PASSED, head("connection: x-hop", "x-hop: 1")),
        row("connection that names host", EITHER, head("connection: host"), at_origin=clean),
        row(
            "upgrade: h2c",
            EITHER,
            head("connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk"),
            at_origin=lambda one: one.all("upgrade") and "upgrade",
        ),
        row("expect: anything", EITHER, head("expect: anything", "content-length: 5", line=POST) + "hello", "hello"),
        row("expect: 100-continue", PASSED, head("expect: 100-continue", "content-length: 5", line=POST) + "hello", "hello"),
    ]
    for host in (
        "a.test b.test",
        "a.test/x",
        "a.test#x",
        "a.test?x",
        "u@a.test",
        "a.test\\x",
        "[::1",
        "a.test:abc",
        "a.test:99999999",
        "a.test, b.test",
    ):
        rows.append(
            row(
                f"the host {host!r}",
                EITHER,
                head(host=host),
                at_origin=lambda one: any(char in one.all("host")[0] for char in " /#?\\") and f"the host {one.all('host')}",
            )
        )
    return rows


def chunks():
    """What is in the place of a chunk; for who takes it, the body is what stands behind it."""
    start = head("transfer-encoding: chunked", line=POST)
    rows = [row(f"the chunk {chunk!r}", EITHER, start + chunk + "\n0\n\n", body) for chunk, body in {
        "5;a=b\nhello": "hello", '5;a="b"\nhello': "hello", "5 \nhello": "hello", "5\t\nhello": "hello", "5 ;a\nhello": "hello",
        "05\nhello": "hello", "00000005\nhello": "hello", "000000000000000000005\nhello": "hello",
        "A\nhellohello": "hellohello", "a\nhellohello": "hellohello", "5;" + "x" * 60_000 + "\nhello": "hello", '5;a="x\\"y"\nhello': "hello",
        "5;a=b;c=d\nhello": "hello"}.items()]  # fmt: skip
    bad = ("+5\nhello", "-5\nhello", "0x5\nhello", " 5\nhello", "5<LF>hello", "5<CR>hello", "5\nhell", "5\nhello!", "\n5\nhello", "g\nhello",
        "5h\nhello", "fffffffffffffffff5\nhello",
           "10000000000000005\nhello", "ffffffffffffffff\nhello", "8000000000000005\nhello", "5_\nhello", "5,\nhello", "5\0\nhello", "5;a\0\nhello",
           "5;<LF>\nhello", "5;a<CR>b\nhello", '5;a="<LF>"\nhello', "5\n\nhello",
           "5\x0b\nhello", ";a\nhello", "5\nhello<LF>")  # fmt: skip
    rows += [row(f"no chunk: {chunk!r}", REFUSED, start + chunk + "\n0\n\n", "hell\r" if chunk == "5\nhell" else "hello") for chunk in bad]
    ends = {"0\nx-end: 1\n\n": True, "00\n\n": False, "0;a=b\n\n": False, "0 \n\n": False,
            "0\ntransfer-encoding: chunked\n\n": False, "0\ncontent-length: 60\n\n": False, "0\nhost: b.test\n\n": False,
            "0\nx y: 1\n\n": False, "0\nx: a\0b\n\n": False, "0\nno colon\n\n": False, "0\nx: a\n b\n\n": False,
            "0<LF>\n": False, "0\n<LF>": False, "0\nx: a<LF>\n": False, "0\nx: a<CR>b\n\n": False,
            "0\n" + "x: y\n" * 2_000 + "\n": False, "0\n" + "x: " + "y" * 100_000 + "\n\n": False}  # fmt: skip
    rows += [
        row(f"the end {end[:40]!r}", PASSED if is_plain else EITHER, start + "5\nhello\n" + end, "hello")
        for end, is_plain in ends.items()
    ]  # fmt: skip
    rows += [row("1,000 chunks of a byte", PASSED, start + "1\nx\n" * 1000 + "0\n\n", "x" * 1000)]
    return rows


def torn():
    whole = head("transfer-encoding: chunked", line=POST) + "5;a=b\nhello\n6\n world\n0\nx-end: 1\n\n"
    rows = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for size in (1, 7, 16):
            rows.append(row(f"chunks in records of {size}, {version.name}", PASSED, whole, "hello world", record=size, newest=version))
        rows.append(
            row(
                f"a length in records of 1, {version.name}", PASSED, head("content-length: 5", line=POST) + "hello", "hello", record=1, newest=version
            )
        )
    return rows


def pipelined(name, *requests, statuses, ended=False):
    """All at once; answered in order, as many as there have to be."""

    def run(world):
        client = Client(world.port)
        client.send(b"".join(text(world, one) for one in requests))
        for at, (one, status) in enumerate(zip(requests, statuses)):
            answer = client.answer(one.split(" ", 1)[0])
            require(answer is not None and answer.whole, f"no answer to request {at}")
            require(answer.status == status or status == 400 and answer.status > 400, f"{answer.status} for request {at}")
            if status == 200:
                require(answer.fields.get("x-token") == world.token, f"another answer: {answer.fields}")
        if ended:
            require(client.answer(patience=PATIENCE) is None, "one more answer")
        world.check_next()

    return Case("http1", name, run)


def pipelines():
    get, close = head(), head("connection: close")
    post = head("content-length: 5", line=POST) + "hello"
    chunked = head("transfer-encoding: chunked", line=POST) + "5\nhello\n0\n\n"
    return [
        pipelined("10 requests at once", *[get] * 10, statuses=[200] * 10),
        pipelined("requests with and without bodies at once", post, get, chunked, get, post, statuses=[200] * 5),
        pipelined("HEAD between others", head(line="HEAD {} HTTP/1.1"), get, head(line="HEAD {} HTTP/1.1"), get, statuses=[200] * 4),
        pipelined("one behind connection: close", get, close, SMUGGLED, statuses=[200, 200], ended=True),
        Case("http1", "one behind what is refused", behind_refused),
        pipelined("one behind HTTP/1.0", head(line="GET {} HTTP/1.0"), SMUGGLED, statuses=[200], ended=True),
        pipelined("200 requests at once", *[get] * 200, statuses=[200] * 200),
        Case("http1", "100 requests one after the other", one_by_one),
    ]


def behind_refused(world):
    """What follows an ambiguous request on its connection is not looked at."""
    client = Client(world.port)
    client.send(text(world, head() + head("content-length: 5", "content-length: 6", line=POST) + "hello" + SMUGGLED))
    answer = client.answer()
    require(answer and answer.status == 200, "no answer to the first")
    answer = client.answer()
    require(is_refused(answer), f"{answer and answer.told()}")
    require(client.answer() is None, "one more answer")
    world.check()
    world.check_next()


def one_by_one(world):
    client = Client(world.port)
    for n in range(100):
        body = b"b" * n
        client.send(text(world, head(f"content-length: {n}", line=POST)) + body)
        answer = client.answer()
        require(answer is not None and answer.body == f"{world.token} POST ".encode() + body, f"request {n}: {answer and answer.told()}")


LEAVE = {
    "close_notify": lambda client: client.close_notify(),
    "FIN without close_notify": lambda client: client.cut(),
    "RST": lambda client: client.abort(),
    "close_notify and FIN": lambda client: (client.close_notify(), client.cut()),
}


def left(name, how, what, whole):
    """The client leaves behind a part of a request; only a whole one is whole at the origin."""

    def run(world):
        client = Client(world.port)
        client.send(text(world, what))
        if what.count("\n\n"):
            world.origin.wait(lambda: any(one.token == world.token for one in world.origin.seen), 0.5)
        LEAVE[how](client)
        if how != "RST":
            try:
                answer = client.answer(patience=PATIENCE)
            except (Hang, ssl.SSLError, OSError):
                answer = None
            if whole and answer:
                require(answer.status == 200 or is_refused(answer), answer.told())
        world.check_next()
        for one in world.of():
            if one.target.endswith("/echo") and not whole:
                require(not one.whole, f"what was cut is whole at the origin: {one}")
                is_over = lambda one=one: one.connection in world.origin.closed or one.whole
                require(world.origin.wait(is_over), "the origin's connection stays")
                require(not one.whole, f"what was cut is whole at the origin: {one}")

    return Case("http1", f"{name}, and {how}", run)


def truncated():
    rows = []
    chunked = head("transfer-encoding: chunked", line=POST)
    for how in LEAVE:
        rows += [
            left("half a head", how, head()[:40], False),
            left("a head without its last line end", how, head()[:-1], False),
            left("a length that is not met", how, head("content-length: 10", line=POST) + "hello", False),
            left("no chunk", how, chunked, False),
            left("half a chunk", how, chunked + "5\nhel", False),
            left("a chunk and no end", how, chunked + "5\nhello\n", False),
            left("chunks without the last line end", how, chunked + "5\nhello\n0\n", False),
            left("a whole request", how, head("content-length: 5", line=POST) + "hello", True),
        ]
    return rows


def received(name, way, amount="", *, version="1.1", cut=True, opens=False, body=None):
    """A response that the origin has cut does not look whole; one that it has ended is, with close_notify where that is its end."""

    def run(world):
        client = Client(world.port)
        client.send(text(world, head(line=f"GET {world.path(way, amount)} HTTP/{version}")))
        if opens:
            until = time.monotonic() + 1  # a proxy may keep what is little
            with contextlib.suppress(Hang):
                while (not client.waiting or client.waiting.endswith(b"\r\n\r\n")) and client.more(until):
                    pass
        world.origin.gate(world.token).set()
        answer = client.answer()
        world.told = answer.told() if answer else "closed"
        if any(one.version == "1.0" for one in world.of()) and "chunk" in way:
            return  # an origin does not answer HTTP/1.0 so
        if cut:
            require(answer is None or answer.status >= 500 or not answer.whole, f"cut, and looks whole: {answer and answer.told()}")
        else:
            require(answer is not None and answer.whole and answer.body == body, f"not whole: {answer and answer.told()}")
        if cut or version == "1.0":
            try:
                require(client.answer(patience=2) is None, "the connection goes on with something")
            except Hang:
                require(answer.status >= 500, "the connection goes on")  # an error of the proxy's own may leave it open
        world.check_next()

    return Case("http1", name, run)


def responses():
    rows = []
    for version in ("1.1", "1.0"):
        to = f"HTTP/{version}: "
        rows += [
            received(f"{to}cut in the head", "cut-head", 30, version=version),
            received(f"{to}cut at 500 of 1,000 bytes", "cut-length", 500, version=version),
            received(f"{to}reset at 500 of 1,000 bytes", "reset-length", 500, version=version, opens=True),
            received(f"{to}cut in chunks", "cut-chunked", 10, version=version),
            received(f"{to}cut behind a chunk", "cut-chunked", 19, version=version),
            received(f"{to}reset in chunks", "reset-chunked", 10, version=version, opens=True),
            received(f"{to}a chunk that is none", "bad-chunk", 0, version=version),
            received(f"{to}a body until the end that is reset", "reset-until-close", 30_000, version=version, opens=True),
            received(f"{to}a body until the end", "until-close", 30_000, version=version, cut=False, body=b"u" * 30_000),
            received(f"{to}chunks", "chunks", 3, version=version, cut=False, body=b"abcd" * 3),
            received(f"{to}a large body", "bytes", 3_000_000, version=version, cut=False, body=b"z" * 3_000_000),
        ]
    return rows


def plain(name, what):
    """Without TLS on the port of TLS: an error or the end, and nothing at the origin."""

    def run(world):
        with socket.create_connection(("127.0.0.1", world.port), PATIENCE) as raw:
            got = b""
            try:
                raw.sendall(text(world, what))
                raw.shutdown(socket.SHUT_WR)
                while piece := raw.recv(65_536):
                    got += piece
            except TimeoutError:
                raise Failure("hang: nothing comes") from None
            except OSError:
                pass
        require(b" 200 " not in got[:20] and not world.of(), f"answered: {got[:60]!r}")
        world.check_next()

    return Case("http1", name, run)


def upgrades():
    fields = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="]
    start = head(*fields, line="GET /TOKEN/switch HTTP/1.1")

    def echo(world):
        client = Client(world.port)
        client.send(text(world, start))
        answer = client.answer()
        require(answer and answer.status == 101, f"{answer and answer.told()}")
        for word in (b"hello", b"y" * 100_000):
            client.send(word)
            while len(client.waiting) < len(word) and client.more(time.monotonic() + PATIENCE):
                pass
            require(client.waiting == word, "other bytes")
            client.waiting = b""
        client.send(b"cut me")
        require(client.answer() is None, "it goes on")

    def refused(world):
        """An origin that does not switch: what follows is a request like any other."""
        client = Client(world.port)
        client.send(text(world, head(*fields) + head()))
        for at in range(2):
            answer = client.answer()
            require(is_refused(answer) or answer.body == f"{world.token} GET ".encode(), f"answer {at}: {answer and answer.told()}")
        world.check_next()

    return [Case("http1", "an upgrade", echo), Case("http1", "an upgrade that the origin does not take", refused)]


CASES = [
    *codings(),
    *lengths(),
    *lines(),
    *fields(),
    *chunks(),
    *torn(),
    *pipelines(),
    *truncated(),
    *responses(),
    *upgrades(),
    plain("HTTP/1.1 without TLS", head()),
    plain("HTTP/1.0 without TLS", head(line="GET {} HTTP/1.0")),
    plain("HTTP/2 without TLS", "PRI * HTTP/2.0\n\nSM\n\n"),
    plain("a line without an end without TLS", "GETGETGETGETGETGETGETGET"),
    plain("zeros without TLS", "\0" * 100),
]
