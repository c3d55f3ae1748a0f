"""Flow control in both directions, extended CONNECT (RFC 8441), ALPN, SNI and what speaks HTTP/1 on the same port.

A client that opens narrow windows gets not a byte more; one that keeps to the windows of the proxy is never stopped for good.
Source: RFC 9113 §3.2, §5.2, §6.9, RFC 8441, RFC 7301.
"""

import ssl
import time

from h2_judge import Case, Lax, is_refused, own, require
from h2_wire import (
    CONNECT_PROTOCOL,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    INITIAL_WINDOW,
    MAX_FRAME,
    PADDED,
    PREFACE,
    Hang,
    Tls,
    block,
    frame,
    reset,
    settings,
    window_update,
)

QUIET = (ENABLE_PUSH, 0)


def narrow(world, *pairs, window=0):
    """A client that opens no window by itself."""
    client = world.client(QUIET, *pairs, window=window)
    client.opens = False
    return client


def exactly(client, which, count):
    """So many bytes of the body come, and then no more: a PING comes back behind them, twice, as the proxy may answer it first."""
    stream = client.stream(which)
    client.wait(lambda: stream.is_over or len(stream.body) >= count)
    for _ in range(2):
        client.quiet()
    require(len(stream.body) == count, f"{len(stream.body)} bytes with a window of {count}")


def of_a_stream(window):
    def run(world):
        client = narrow(world, (INITIAL_WINDOW, window), window=1 << 24)
        which = client.open(world.head("bytes", 200_000))
        exactly(client, which, window)
        given = window
        for more in (1, 7, 20_000):
            client.send(window_update(which, more))
            given += more
            exactly(client, which, given)
        client.send(window_update(which, 1 << 20))
        stream = client.answer(which)
        require(stream.is_ended and len(stream.body) == 200_000, stream.told())
        world.check_next()

    return Case("windows", f"a stream's window of {window}", run)


def of_the_connection(world):
    client = narrow(world, (INITIAL_WINDOW, 1 << 20))
    streams = [client.stream(client.open(world.head("bytes", 60_000))) for _ in range(3)]

    def come():
        return sum(len(stream.body) for stream in streams)

    for window in (65_535, 65_536, 100_000):
        client.wait(lambda window=window: come() >= window)
        client.quiet()
        require(come() == window, f"{come()} bytes with a window of {window}")
        client.send(window_update(0, {65_535: 1, 65_536: 34_464, 100_000: 1 << 20}[window]))
    client.wait(lambda: all(stream.is_over for stream in streams))
    require(all(len(stream.body) == 60_000 for stream in streams), f"{come()} bytes")


def negative(world):
    """A window that a setting makes negative opens once as much has been given as is missing."""
    client = narrow(world, (INITIAL_WINDOW, 50_000), window=1 << 24)
    which = client.open(world.head("bytes", 100_000))
    exactly(client, which, 50_000)
    client.send(settings((INITIAL_WINDOW, 10)))
    require(client.wait(lambda: client.acks >= 2), "SETTINGS are not acknowledged")
    client.send(window_update(which, 49_990))
    exactly(client, which, 50_000)
    client.send(window_update(which, 5))
    exactly(client, which, 50_005)
    client.send(settings((INITIAL_WINDOW, 1_010)))
    exactly(client, which, 51_005)
    client.send(window_update(which, 100_000))
    stream = client.answer(which)
    require(stream.is_ended and len(stream.body) == 100_000, stream.told())


def lifted(world):
    """A setting opens the windows of streams that wait."""
    client = narrow(world, (INITIAL_WINDOW, 0), window=1 << 24)
    streams = [client.open(world.head("bytes", 30_000)) for _ in range(5)]
    require(client.quiet(), "the connection ended")
    client.send(settings((INITIAL_WINDOW, 1_000)))
    for which in streams:
        exactly(client, which, 1_000)
    client.send(settings((INITIAL_WINDOW, 40_000)))
    for which in streams:
        stream = client.answer(which)
        require(stream.is_ended and len(stream.body) == 30_000, stream.told())


def by_one(world):
    client = narrow(world, (INITIAL_WINDOW, 0), window=1 << 24)
    which = client.open(world.head("bytes", 60))
    for count in range(60):
        client.send(window_update(which, 1))
        client.wait(lambda count=count: len(client.stream(which).body) == count + 1)
    require(client.answer(which).is_ended, client.stream(which).told())


def without_a_body(world):
    """What has no body needs no window; who waits for one all the same is lax, as RFC 9113 §6.9.1 only allows it."""
    client = narrow(world, (INITIAL_WINDOW, 0))
    for way, amount, method in (("bytes", 0, "GET"), ("status", 204, "GET"), ("status", 304, "GET"), ("bytes", 1000, "HEAD")):
        try:
            stream = client.answer(client.open(world.head(way, amount, method=method)), 4)
        except Hang:
            raise Lax(f"{way} {amount} waits for a window") from None
        require(stream.is_ended and not stream.body, f"{way} {amount}: {stream.told()}")


def one_stands_still(world):
    """A stream without a window holds no other one up."""
    client = narrow(world, (INITIAL_WINDOW, 100), window=1 << 24)
    still = client.open(world.head("bytes", 100_000))
    exactly(client, still, 100)
    for _ in range(20):
        own(world, client.answer(client.open(world.head())))
    client.send(window_update(still, 1 << 20))
    stream = client.answer(still)
    require(stream.is_ended and len(stream.body) == 100_000, stream.told())


def frame_sizes(*pairs, largest):
    def run(world):
        client = world.client(QUIET, (INITIAL_WINDOW, 1 << 20), *pairs)
        stream = client.answer(client.open(world.head("bytes", 500_000)))
        require(stream.is_ended and len(stream.body) == 500_000, stream.told())
        stream = client.answer(client.open(world.head("huge-head", 30_000)))
        size = max(one[3] for one in client.frames)
        require(size <= largest, f"a frame of {size} bytes")

    return run


class Uploader:
    """Keeps to the windows that the proxy gives."""

    def __init__(self, client, which):
        self.client, self.which = client, which
        client.wait(lambda: client.theirs or client.updates or client.ended)

    def rooms(self):
        client = self.client
        sent = getattr(client, "sent", 0)
        mine = getattr(self, "sent", 0)
        return min(client.theirs.get(INITIAL_WINDOW, 65_535) + client.updates.get(self.which, 0) - mine, 65_535 + client.updates.get(0, 0) - sent)

    def send(self, data, padding=None, end=True):
        """Whether all of it was sent."""
        client, extra, stream = self.client, 0 if padding is None else padding + 1, self.client.stream(self.which)
        while data:
            if not client.wait(lambda: self.rooms() > extra or stream.is_over):
                return False
            if stream.is_over:
                return False
            size = min(len(data), self.rooms() - extra, 16_384 - extra)
            piece, data = data[:size], data[size:]
            if padding is not None:
                piece = bytes([padding]) + piece + b"\0" * padding
            client.send(frame(DATA, (PADDED if padding is not None else 0) | (END_STREAM if end and not data else 0), self.which, piece))
            self.sent, client.sent = getattr(self, "sent", 0) + len(piece), getattr(client, "sent", 0) + len(piece)
        return True


def upload(size, padding=None):
    def run(world):
        client = world.client()
        which = client.open(world.head("echo", method="POST"), end=False)
        body = bytes(range(256)) * (size // 256)
        require(Uploader(client, which).send(body, padding), "not taken")
        own(world, client.answer(which), "POST", body)

    return run


def windows_come_back(world):
    """Uploads that are reset or refused give their share of the connection's window back."""
    client = world.client()
    for n in range(60):
        fields = world.head("early-stall", method="POST") if n % 2 else [*world.head(method="POST"), ("content-length", "x")]
        which = client.open(fields, end=False)
        Uploader(client, which).send(b"u" * 30_000, end=False)
        client.send(reset(which))
    if not client.quiet() or client.goaway:
        return  # a limit on resets or on malformed requests is fine
    which = client.open(world.head(method="POST"), end=False)
    require(Uploader(client, which).send(b"v" * 300_000), "the window of the connection is gone")
    own(world, client.answer(which), "POST", b"v" * 300_000)


def stalled(world):
    """An origin that takes nothing closes the window; once it reads, all of it goes on."""
    client = world.client()
    which = client.open(world.head("early-stall", method="POST"), end=False)
    up = Uploader(client, which)
    sent = 0
    while sent < 30_000_000:
        try:
            client.wait(lambda: up.rooms() > 0, 0.5)
        except Hang:
            break
        size = min(up.rooms(), 16_384)
        up.send(b"u" * size, end=False)
        sent += size
    require(sent < 30_000_000, "all of it is taken, and nobody reads it")
    world.origin.gate(world.token).set()
    require(up.send(b"u" * 100_000), "it does not go on")
    stream = client.answer(which)
    require(stream.is_ended and len(stream.body) > sent + 100_000, stream.told())


def stalled_beside(world):
    """An upload that nobody takes holds no other stream up."""
    client = world.client()
    which = client.open(world.head("early-stall", method="POST"), end=False)
    up = Uploader(client, which)
    up.send(b"u" * min(up.rooms(), 200_000), end=False)
    for _ in range(5):
        own(world, client.answer(client.open(world.head())))
    world.origin.gate(world.token).set()


def overrun(world):
    """More than the window allows: an error, or lax."""
    client = world.client()
    which = client.open(world.head("early-stall", method="POST"), end=False)
    stream = client.stream(which)
    try:
        for _ in range(400):
            client.send(frame(DATA, 0, which, b"u" * 16_384), 2)
        client.wait(lambda: is_refused(client, stream) or client.goaway or client.ended, 2)
    except Hang:
        raise Lax("more is taken than the window allows") from None
    finally:
        world.origin.gate(world.token).set()
    world.check_next()


def flow():
    cases = [of_a_stream(window) for window in (0, 1, 10, 16_383, 16_384, 16_385, 65_535, 100_000)]
    rows = {
        "a connection's window": of_the_connection,
        "a window that becomes negative": negative,
        "windows that a setting opens": lifted,
        "a window opened by one": by_one,
        "no window and no body": without_a_body,
        "one that stands still": one_stands_still,
        "frames of 16,384 at most": frame_sizes(largest=16_384),
        "frames of 16,384 at most, as it says": frame_sizes((MAX_FRAME, 16_384), largest=16_384),
        "frames of 100,000 at most": frame_sizes((MAX_FRAME, 100_000), largest=100_000),
        "an upload of 3 MB": upload(3 << 20),
        "an upload of 300 KB with much padding": upload(300 << 10, 255),
        "an upload of 300 KB with padding of 0": upload(300 << 10, 0),
        "windows of what was reset come back": windows_come_back,
        "an origin that takes nothing for a while": stalled,
        "an upload that nobody takes, and others": stalled_beside,
        "more than the window": overrun,
    }
    return cases + [Case("windows", name, run) for name, run in rows.items()]


def tunnel_head(world, way="switch", protocol="websocket", **more):
    fields = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "https"), (":authority", "a.test"), (":path", world.path(way))]
    version = [("sec-websocket-version", "13")] if protocol == "websocket" else []
    return [*[pair for pair in fields if pair[0] not in more.get("without", ())], ("x-case", world.token), *version]


def tunnel(name, run):
    """Where it is not offered, nobody may take it for a plain request."""

    def offered(world):
        client = world.client()
        client.wait(lambda: client.theirs)
        if client.theirs.get(CONNECT_PROTOCOL) == 1:
            return run(world, client)
        which = client.open(tunnel_head(world), end=False)
        stream = client.stream(which)
        client.wait(lambda: is_refused(client, stream) or stream.head)
        require(is_refused(client, stream), f"not offered, and taken: {stream.told()}")
        return world.check_next()

    return Case("connect", name, offered)


def begun(world, client, **more):
    which = client.open(tunnel_head(world, **more), end=False)
    stream = client.stream(which)
    client.wait(lambda: is_refused(client, stream) or stream.head)
    return which, stream


def echoes(world, client):
    which, stream = begun(world, client)
    require(stream.status == 200, f"no tunnel: {stream.told()}")
    require(world.of()[0].all("upgrade") == ["websocket"] and world.of()[0].method == "GET", f"{world.of()}")
    for word in (b"hello", b"x" * 50_000):
        count = len(stream.body)
        client.send(b"".join(frame(DATA, 0, which, word[at : at + 16_384]) for at in range(0, len(word), 16_384)))
        client.wait(lambda count=count, word=word: len(stream.body) >= count + len(word))
        require(stream.body[count:] == word, "other bytes")
    client.send(frame(DATA, END_STREAM, which))
    over(client, which)
    world.check_next(client)


def over(client, which):
    """The tunnel ends, as the client has nothing more to say; or it stays until the origin ends it, too."""
    try:
        client.answer(which, 2)
    except Hang:
        raise Lax("the origin is not told of the end") from None


def tunnel_reset(world, client):
    which, _ = begun(world, client)
    client.send(frame(DATA, 0, which, b"word") + reset(which))
    connection = world.of()[0].connection
    require(world.origin.wait(lambda: connection in world.origin.closed), "the origin's connection stays")
    world.check_next(client)


def tunnel_cut(world, client):
    """A tunnel whose origin goes is over."""
    which, stream = begun(world, client)
    client.send(frame(DATA, 0, which, b"cut me"))
    client.answer(which)
    require(stream.is_over, stream.told())
    world.check_next(client)


def tunnel_refused(world, client):
    """An origin that does not switch opens no tunnel: what is sent into it is no request."""
    _, stream = begun(world, client, way="echo")
    world.check_next(client)
    if not is_refused(client, stream):
        raise Lax(f"a tunnel into nothing: {stream.told()}")


def tunnel_unknown(world, client):
    """501, an upgrade to what was asked for, or refused; no plain request."""
    _, stream = begun(world, client, protocol="other")
    if not is_refused(client, stream):
        require(world.of()[0].all("upgrade") == ["other"], f"{world.of()}")
    world.check_next(client)


def tunnel_bad(protocol):
    def run(world, client):
        _, stream = begun(world, client, protocol=protocol)
        require(is_refused(client, stream) or client.goaway, f"taken: {stream.told()}")
        require(not world.of(), f"the origin has {world.of()}")
        world.check_next(client)

    return run


def tunnel_without(name):
    def run(world, client):
        _, stream = begun(world, client, without=(name,))
        require(is_refused(client, stream), f"taken: {stream.told()}")
        world.check_next(client)

    return run


def tunnel_ended(world, client):
    """END_STREAM with the head: no tunnel, or one that ends."""
    which = client.open(tunnel_head(world))
    over(client, which)
    world.check_next(client)


def two_tunnels(world, client):
    (first, one), (second, two) = begun(world, client), begun(world, client)
    for which, word in ((first, b"first"), (second, b"second"), (first, b"again")):
        client.send(frame(DATA, 0, which, word))
    client.wait(lambda: one.body == b"firstagain" and two.body == b"second")
    world.check_next(client)
    client.send(reset(first) + frame(DATA, 0, second, b"more"))
    client.wait(lambda: two.body == b"secondmore")


def tunnel_smuggles(world, client):
    """What is sent before the tunnel is open is not another request for who doesn't open it."""
    data = f"GET {world.path('smuggled')} HTTP/1.1\r\nhost: a.test\r\n\r\n".encode()
    which = client.open(tunnel_head(world, "echo"), [data], end=False)
    client.answer(which)
    world.check_next()


def tunnels():
    rows = {
        "a websocket": echoes,
        "a tunnel that is reset": tunnel_reset,
        "a tunnel whose origin goes": tunnel_cut,
        "an origin that does not switch": tunnel_refused,
        "an unknown protocol": tunnel_unknown,
        "a tunnel that ends with its head": tunnel_ended,
        "two tunnels at once": two_tunnels,
        "a request inside a tunnel that does not open": tunnel_smuggles,
        "no path": tunnel_without(":path"),
        "no scheme": tunnel_without(":scheme"),
        "no authority": tunnel_without(":authority"),
    }
    rows |= {f"the protocol {word!r}": tunnel_bad(word) for word in ("", "a b", "websocket\r\nx-smuggled: 1", "websocket, h2c", "a\0")}
    return [tunnel(name, run) for name, run in rows.items()]


def alpn(name, offered, expected):
    """`expected`: what may be agreed on; None is nothing, "fail" a handshake that fails."""

    def run(world):
        try:
            client = world.client(start=False, alpn=offered)
        except (ssl.SSLError, OSError):
            require("fail" in expected, "the handshake fails")
            return world.check_next()
        require(client.alpn in expected, f"agreed on {client.alpn}")
        if client.alpn == "h2":
            client.send(PREFACE + settings())
            world.check_next(client)
        else:
            client.send(f"GET {world.path()} HTTP/1.1\r\nhost: a.test\r\n\r\n".encode())
            require(b" 200 " in received(client, b"GET "), "no answer")
        return world.check_next()

    return Case("alpn", name, run)


def received(client, until=None):
    """What comes up to these bytes, or to the end."""
    got, end = b"", time.monotonic() + 8
    while not until or until not in got:
        piece = client.receive(end)
        if not piece:
            break
        got += piece
    return got


def other_words(name, offered, *pieces):
    """What is not the protocol that was agreed on: no request of it comes to the origin as another one, and the connection ends."""

    def run(world):
        client = Tls(world.port, alpn=offered)
        client.send(b"".join(one(world) if callable(one) else one for one in pieces))
        client.cut()
        received(client)
        require(not [one for one in world.of() if one.method == "PRI" and one.target == "*"], "a preface at the origin")
        world.check_next()

    return Case("alpn", name, run)


def by_name(name, sni, authority):
    """A name that has no certificate of its own: refused, 421, or answered."""

    def run(world):
        try:
            client = world.client(sni=sni)
        except (ssl.SSLError, OSError):
            return world.check_next()
        stream = client.answer(client.open(world.head(authority=authority)))
        require(is_refused(client, stream) or stream.status == 200, stream.told())
        if stream.status == 200:
            require(world.of()[0].all("host") == [authority], f"{world.of()}")
        return world.check_next(client)

    return Case("alpn", name, run)


def interleaved(world):
    """HTTP/1 and HTTP/2 on one port, by turns."""
    for n in range(10):
        client = world.client()
        own(world, client.answer(client.open(world.head("echo", n))))
        other = Tls(world.port, alpn=("http/1.1",))
        other.send(f"GET {world.path()} HTTP/1.1\r\nhost: a.test\r\n\r\n".encode())
        require(b" 200 " in received(other, b"GET "), "no answer")
        client.close(), other.close()


def names():
    def text(line, *fields):
        return lambda world: "\r\n".join([line.replace("PATH", world.path("echo")), "host: a.test", *fields, "", ""]).encode()

    h2_get = lambda world: frame(1, END_HEADERS | END_STREAM, 1, block(world.head()))
    return [
        alpn("h2", ("h2",), ("h2",)),
        alpn("http/1.1", ("http/1.1",), ("http/1.1",)),
        alpn("both", ("h2", "http/1.1"), ("h2", "http/1.1")),
        alpn("both, the other way round", ("http/1.1", "h2"), ("h2", "http/1.1")),
        alpn("none", (), (None,)),
        alpn("an unknown one", ("foo",), (None, "fail")),
        alpn("an unknown one and h2", ("foo", "h2"), ("h2",)),
        alpn("h2c", ("h2c",), (None, "fail")),
        alpn("http/1.0 and http/1.1", ("http/1.0", "http/1.1"), ("http/1.1", "http/1.0")),
        alpn("h2 in capitals", ("H2",), (None, "fail")),
        other_words("HTTP/2 where HTTP/1.1 was agreed on", ("http/1.1",), PREFACE, settings(), h2_get),
        other_words("the preface alone where HTTP/1.1 was agreed on", ("http/1.1",), PREFACE),
        other_words("HTTP/1.1 where HTTP/2 was agreed on", ("h2",), text("GET PATH HTTP/1.1")),
        other_words(
            "an upgrade to h2c over TLS",
            ("http/1.1",),
            text("GET PATH HTTP/1.1", "connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk"),
        ),
        other_words("an upgrade to h2 over TLS", ("http/1.1",), text("GET PATH HTTP/1.1", "connection: upgrade", "upgrade: h2")),
        other_words("PRI with a path", ("http/1.1",), text("PRI PATH HTTP/1.1")),
        other_words("PRI * HTTP/1.1", ("http/1.1",), text("PRI * HTTP/1.1")),
        other_words("PRI * HTTP/2.0 with fields", ("http/1.1",), text("PRI * HTTP/2.0")),
        other_words("garbage where HTTP/2 was agreed on", ("h2",), b"\0\1\2" * 100),
        other_words("garbage where HTTP/1.1 was agreed on", ("http/1.1",), b"\0\1\2" * 100),
        by_name("a name that nobody has", "nobody.test", "nobody.test"),
        by_name("another authority than the name of TLS", "a.test", "b.test"),
        by_name("no name", None, "a.test"),
        Case("alpn", "HTTP/1 and HTTP/2 by turns", interleaved),
    ]


CASES = [*flow(), *tunnels(), *names()]
