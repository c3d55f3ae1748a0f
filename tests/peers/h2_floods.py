"""Floods of clients over TLS: while one connection does its worst, another client's requests are answered, and memory stays flat.

What becomes of the flood is the proxy's choice. Source: RFC 9113 §10.5, and what has been found since (rapid reset CVE-2023-44487,
CONTINUATION CVE-2024-27316, resets that the server is made to send CVE-2025-8671, HPACK bombs, slow readers).
"""

import contextlib
import select
import socket
import ssl
import threading
import time

import h2_proxies
from h2_judge import Case, is_refused, own, require
from h2_wire import (
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    PADDED,
    PING,
    PRIORITY,
    Tls,
    block,
    frame,
    literal,
    number,
    reset,
    settings,
    window_update,
)

WHOLE = END_HEADERS | END_STREAM
LONGEST_SECONDS = 2.0
POUR_SECONDS = 4.0
MEMORY_MIB = {"ringway": 32}
MEMORY_MIB_OF_OTHERS = 128


class Beside:
    """Another client, which asks for one thing after the other; each has to come soon."""

    def __init__(self, world):
        self.world, self.is_over, self.longest, self.count, self.wrong = world, False, 0.0, 0, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            client = self.world.client()
            while not self.is_over or not self.count:
                begun = time.monotonic()
                own(self.world, client.answer(client.open(self.world.head("echo", self.count))))
                self.longest = max(self.longest, time.monotonic() - begun)
                self.count += 1
                if self.count % 50 == 0:
                    client.close()
                    client = self.world.client()
                time.sleep(0.002)
        except Exception as error:
            self.wrong = f"{type(error).__name__} {error}"

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()


def pour(client, data, reads=True, seconds=POUR_SECONDS):
    """Sends as fast as it is taken, and throws away what comes; until all is sent, the connection has ended, or the time is over."""
    view, at, until = memoryview(data), 0, time.monotonic() + seconds
    client.tls.settimeout(0)
    with contextlib.suppress(ssl.SSLError, OSError):
        while at < len(view) and time.monotonic() < until:
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                at += client.tls.send(view[at : at + (client.record or 16_384)])
            if reads:
                with contextlib.suppress(ssl.SSLWantReadError):
                    while client.tls.recv(65_536):
                        pass
            select.select([client.tls] if reads else [], [client.tls], [], 0.1)
    return at


def flood(name, what, *pairs, window=0, reads=True, stays=0.2, connections=1, is_http1=False, **how):
    """`what(world)` is poured into each connection; then they stay for so many seconds."""

    def connect(world):
        if is_http1:
            return Tls(world.port, alpn=("http/1.1",), **how)
        return world.client(*(pairs or ((ENABLE_PUSH, 0),)), window=window, **how)

    def run(world):
        world.check_next()
        before = h2_proxies.memory(world.process)
        with contextlib.ExitStack() as stack:
            data = what(world)
            beside = stack.enter_context(Beside(world))
            peak = before
            for _ in range(connections):
                client = connect(world)
                stack.callback(client.close)
                pour(client, data, reads, POUR_SECONDS / connections)
                peak = max(peak, h2_proxies.memory(world.process))
            until = time.monotonic() + stays
            while time.monotonic() < until and beside.wrong is None:
                time.sleep(0.05)
                peak = max(peak, h2_proxies.memory(world.process))
        world.origin.gate(world.token).set()
        require(beside.wrong is None, f"the other client: {beside.wrong}")
        require(beside.longest < LONGEST_SECONDS, f"the other client waits for {beside.longest:.1f} s")
        bound = MEMORY_MIB.get(world.proxy, MEMORY_MIB_OF_OTHERS)
        require(peak - before < bound, f"{peak - before:.0f} MiB more")
        world.check_next()

    return Case("floods", name, run, alone=True)


def on_streams(count, each, first=1):
    """What `each` makes of each stream's number, for so many streams."""

    def what(world):
        head = block(world.head("silent"))
        return b"".join(each(which, head) for which in range(first, first + 2 * count, 2))

    return what


def opened(world, way="silent", amount="", end=False):
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), 1, block(world.head(way, amount, method="GET" if end else "POST")))


def behind(repeated, count, way="silent"):
    """One stream, open, and behind it the same again and again."""
    return lambda world: opened(world, way) + repeated * count


def resets():
    def bad(which, head):
        return frame(HEADERS, WHOLE, which, head + literal("connection", "close"))

    return [
        flood("20,000 streams reset at once", on_streams(20_000, lambda which, head: frame(HEADERS, WHOLE, which, head) + reset(which))),
        flood("20,000 uploads reset at once", on_streams(20_000, lambda which, head: frame(HEADERS, END_HEADERS, which, head) + reset(which))),
        flood(
            "10,000 streams reset a hundred at a time",
            lambda world: b"".join(
                b"".join(frame(HEADERS, WHOLE, which, block(world.head("silent"))) for which in range(at, at + 200, 2))
                + b"".join(reset(which) for which in range(at, at + 200, 2))
                for at in range(1, 20_000, 200)
            ),
        ),
        flood(
            "20,000 streams whose window is opened by 0",
            on_streams(20_000, lambda which, head: frame(HEADERS, WHOLE, which, head) + window_update(which, 0)),
        ),
        flood(
            "20,000 streams whose window is opened too far",
            on_streams(20_000, lambda which, head: frame(HEADERS, WHOLE, which, head) + window_update(which, (1 << 31) - 1)),
        ),
        flood(
            "20,000 streams with DATA behind their end",
            on_streams(20_000, lambda which, head: frame(HEADERS, WHOLE, which, head) + frame(DATA, END_STREAM, which, b"x")),
        ),
        flood(
            "20,000 streams with a PRIORITY of 4 bytes",
            on_streams(20_000, lambda which, head: frame(HEADERS, WHOLE, which, head) + frame(PRIORITY, 0, which, b"\0\0\0\0")),
        ),
        flood("20,000 malformed requests", on_streams(20_000, bad)),
        flood("20,000 streams that are never reset", on_streams(20_000, lambda which, head: frame(HEADERS, WHOLE, which, head))),
        flood("20,000 uploads that never begin", on_streams(20_000, lambda which, head: frame(HEADERS, END_HEADERS, which, head))),
        flood("100,000 RST_STREAM of one stream", behind(reset(1), 100_000)),
    ]


def frames():
    eight = b"12345678"
    return [
        flood("200,000 PING", lambda world: frame(PING, 0, 0, eight) * 200_000),
        flood("200,000 PING and nothing is read", lambda world: frame(PING, 0, 0, eight) * 200_000, reads=False, receive_buffer=4096),
        flood("100,000 SETTINGS", lambda world: settings() * 100_000),
        flood("100,000 SETTINGS and nothing is read", lambda world: settings((INITIAL_WINDOW, 1)) * 100_000, reads=False, receive_buffer=4096),
        flood("20,000 SETTINGS of 20", lambda world: settings(*[(INITIAL_WINDOW, 70_000)] * 20) * 20_000),
        flood("200,000 PRIORITY", behind(frame(PRIORITY, 0, 1, b"\0\0\0\3\x10"), 200_000)),
        flood("PRIORITY of 100,000 streams", on_streams(100_000, lambda which, _: frame(PRIORITY, 0, which, b"\0\0\0\0\x10"))),
        flood("200,000 WINDOW_UPDATE of the connection", lambda world: window_update(0, 1) * 200_000),
        flood("200,000 WINDOW_UPDATE of a stream", behind(window_update(1, 1), 200_000)),
        flood("100,000 unknown frames", lambda world: frame(0x42, 0, 0, eight) * 100_000),
        flood("200,000 unknown frames of no bytes", lambda world: frame(0x42, 0, 0) * 200_000),
        flood("100,000 GOAWAY", lambda world: frame(GOAWAY, 0, 0, b"\0" * 8) * 100_000),
        flood("200,000 DATA of no bytes", behind(frame(DATA, 0, 1), 200_000)),
        flood("50,000 DATA of padding", behind(frame(DATA, PADDED, 1, b"\xff" + b"\0" * 255), 50_000)),
        flood("60,000 DATA of a byte that nobody takes", behind(frame(DATA, 0, 1, b"x"), 60_000, "early-stall"), stays=0.5),
        flood("100,000 DATA of a stream that was reset", lambda world: opened(world) + reset(1) + frame(DATA, 0, 1, b"x") * 100_000),
        flood(
            "windows of 100 streams turned 5,000 times",
            lambda world: (
                b"".join(frame(HEADERS, WHOLE, which, block(world.head("silent"))) for which in range(1, 200, 2))
                + (settings((INITIAL_WINDOW, 0)) + settings((INITIAL_WINDOW, 1 << 20))) * 2_500
            ),
        ),
    ]


def heads():
    def start(world, flags=END_STREAM):
        return frame(HEADERS, flags, 1, block(world.head("silent")))

    def bomb(world):
        """A field of 4,000 bytes in the table, and then it 4,000 times in each of 20 blocks."""
        mark = literal("x-bomb", "b" * 4_000, 0x40)
        out = frame(HEADERS, WHOLE, 1, block(world.head()) + mark)
        return out + b"".join(frame(HEADERS, WHOLE, which, block(world.head()) + b"\xbe" * 4_000) for which in range(3, 43, 2))

    def crumbs(world):
        out = frame(HEADERS, WHOLE, 1, block(world.head()) + literal("cookie", "a=b", 0x40))
        return out + b"".join(frame(HEADERS, WHOLE, which, block(world.head()) + b"\xbe" * 15_000) for which in range(3, 103, 2))

    def long_block(world):
        piece = block([(f"x-{n}", "v" * 4_000) for n in range(4)])
        return start(world) + frame(CONTINUATION, 0, 1, piece) * 1_000

    def table(world):
        flips = (b"\x20" + number(4096, 5, 0x20)) * 2_000
        return b"".join(frame(HEADERS, WHOLE, which, flips + block(world.head("silent"))) for which in range(1, 400, 2))

    return [
        flood("100,000 CONTINUATION of no bytes", lambda world: start(world) + frame(CONTINUATION, 0, 1) * 100_000),
        flood("100,000 CONTINUATION of a byte", lambda world: start(world) + frame(CONTINUATION, 0, 1, b"\0") * 100_000),
        flood("CONTINUATION of 16 MB", long_block),
        flood("CONTINUATION of indices", lambda world: start(world) + frame(CONTINUATION, 0, 1, b"\x82" * 16_000) * 500),
        flood("an HPACK bomb", bomb),
        flood("cookies by their index", crumbs),
        flood("a table whose size changes all the time", table),
        flood(
            "a name of 16 MB that never ends",
            lambda world: frame(HEADERS, 0, 1, b"\0" + number(1 << 24, 7)) + frame(CONTINUATION, 0, 1, b"n" * 16_000) * 1_000,
        ),
        flood(
            "requests of 30,000 bytes of fields, 100 at once",
            lambda world: b"".join(
                frame(HEADERS, END_STREAM, which, block(world.head("silent")))
                + frame(CONTINUATION, END_HEADERS, which, block([(f"x-{n}", "v" * 3_000) for n in range(5)]))
                for which in range(1, 200, 2)
            ),
            stays=0.5,
        ),
    ]


def slow():
    def many(way, amount, count=120):
        return lambda world: b"".join(frame(HEADERS, WHOLE, which, block(world.head(way, amount))) for which in range(1, 2 * count, 2))

    def one_by_one(world):
        heads = many("bytes", 100_000, 100)(world)
        return heads + b"".join(window_update(which, 1) for _ in range(100) for which in range(1, 200, 2))

    def uploads(world):
        head = block(world.head("early-stall", method="POST"))
        return b"".join(frame(HEADERS, END_HEADERS, which, head) + frame(DATA, 0, which, b"u" * 16_000) for which in range(1, 7, 2))

    quiet = (ENABLE_PUSH, 0)
    return [
        flood("120 responses of 1 MB without a window", many("bytes", 1_000_000), quiet, (INITIAL_WINDOW, 0), stays=1.5),
        flood("120 responses of 1 MB, a window of a byte", many("bytes", 1_000_000), quiet, (INITIAL_WINDOW, 1), stays=1.0),
        flood("windows opened byte by byte", one_by_one, quiet, (INITIAL_WINDOW, 0)),
        flood(
            "120 responses of 1 MB and nothing is read",
            many("bytes", 1_000_000),
            quiet,
            (INITIAL_WINDOW, 1 << 30),
            window=1 << 30,
            reads=False,
            receive_buffer=4096,
            stays=1.5,
        ),
        flood(
            "a response of 50 MB and nothing is read",
            many("bytes", 50_000_000, 1),
            quiet,
            (INITIAL_WINDOW, 1 << 30),
            window=1 << 30,
            reads=False,
            receive_buffer=4096,
            stays=1.0,
        ),
        flood("4 connections with 100 responses without a window", many("bytes", 300_000, 100), quiet, (INITIAL_WINDOW, 0), connections=4, stays=1.0),
        flood("uploads that nobody takes", uploads, stays=0.5),
        Case("floods", "200 connections with a preface and nothing else", prefaces, alone=True),
        Case("floods", "200 connections with half a header block", half_heads, alone=True),
        Case("floods", "200 connections with half a handshake", half_handshakes, alone=True),
        Case("floods", "300 connections one after the other, each with a flood's beginning", beginnings, alone=True),
        Case("floods", "a request that is as large as it may be, byte by byte", trickle, alone=True),
    ]


def held(world, make, count):
    """So many connections at once; another client notices nothing."""
    world.check_next()
    before = h2_proxies.memory(world.process)
    with contextlib.ExitStack() as stack, Beside(world) as beside:
        for _ in range(count):
            stack.callback(make(world).close)
        grown = h2_proxies.memory(world.process) - before
    require(beside.wrong is None, f"the other client: {beside.wrong}")
    require(beside.longest < LONGEST_SECONDS, f"the other client waits for {beside.longest:.1f} s")
    require(grown < MEMORY_MIB.get(world.proxy, MEMORY_MIB_OF_OTHERS), f"{grown:.0f} MiB more")
    world.check_next()


def prefaces(world):
    held(world, lambda world: world.client(), 200)


def half_heads(world):
    def make(world):
        client = world.client()
        client.send(frame(HEADERS, 0, 1, block(world.head("silent"))[:20]))
        return client

    held(world, make, 200)


def half_handshakes(world):
    def make(world):
        raw = socket.create_connection(("127.0.0.1", world.port))
        raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 100)
        return raw

    held(world, make, 200)


def beginnings(world):
    """No connection reaches what it would be closed for."""

    def make(world):
        client = world.client()
        client.send(b"".join(frame(HEADERS, WHOLE, which, block(world.head("silent"))) + reset(which) for which in range(1, 60, 2)))
        client.close()
        return client

    held(world, make, 300)


def trickle(world):
    client = world.client()
    whole = frame(HEADERS, END_STREAM, 1, block(world.head()))
    whole += b"".join(frame(CONTINUATION, 0, 1, literal(f"x-{n}", "v" * 300)) for n in range(5)) + frame(CONTINUATION, END_HEADERS, 1)
    with Beside(world) as beside:
        for at in range(len(whole)):
            if not client.send(whole[at : at + 1]):
                break
        stream = client.answer(1)
        require(is_refused(client, stream) or stream.status == 200, f"{stream.told()}")
    require(beside.wrong is None and beside.longest < LONGEST_SECONDS, f"the other client: {beside.wrong or beside.longest}")


def http1():
    def request(*fields, way="echo", line="GET"):
        def what(world):
            return "\r\n".join([f"{line} {world.path(way)} HTTP/1.1", "host: a.test", f"x-case: {world.token}", *fields, "", ""]).encode()

        return what

    def again(start, repeated, count):
        return lambda world: start(world) + repeated * count

    get, chunked = request(), request("transfer-encoding: chunked", line="POST")
    small = {"receive_buffer": 4096, "reads": False}
    rows = {
        "20,000 requests at once": (lambda world: get(world) * 20_000, {}),
        "20,000 requests at once and nothing is read": (lambda world: get(world) * 20_000, small),
        "20,000 requests at once that nobody answers": (lambda world: request(way="silent")(world) * 20_000, {}),
        "200,000 empty lines": (lambda world: b"\r\n" * 200_000, {}),
        "a field without end": (lambda world: get(world)[:-4] + b"\r\nx: " + b"y" * 16_000_000, {}),
        "fields without end": (lambda world: get(world)[:-2] + b"x: y\r\n" * 1_000_000, {}),
        "a line without end": (lambda world: b"GET /" + b"a" * 16_000_000, {}),
        "chunks of a byte": (again(chunked, b"1\r\nx\r\n", 200_000), {}),
        "chunks of a byte that nobody takes": (
            again(request("transfer-encoding: chunked", way="early-stall", line="POST"), b"1\r\nx\r\n", 300_000),
            {},
        ),
        "a chunk extension without end": (again(chunked, b"1;" + b"e" * 100_000, 100), {}),
        "extensions of every chunk": (again(chunked, b"1;" + b"e" * 2_000 + b"\r\nx\r\n", 5_000), {}),
        "trailers without end": (lambda world: chunked(world) + b"0\r\n" + b"x: y\r\n" * 1_000_000, {}),
        "a large response and nothing is read": (lambda world: get(world).replace(b"/echo", b"/bytes/50000000"), {**small, "stays": 1.0}),
        "records of a byte": (lambda world: get(world) * 100, {"record": 1}),
    }
    return [flood(f"HTTP/1: {name}", what, is_http1=True, **how) for name, (what, how) in rows.items()]


CASES = [*resets(), *frames(), *heads(), *slow(), *http1()]
