"""What is broken off: by the origin in every place of a response, by the client in every state of a stream.

What was cut never looks whole (RFC 9113 §8.1, RFC 9112 §8), a request that was not sent to its end never looks whole at the origin,
other streams of the connection go on, and nobody gets another one's answer.
"""

from h2_judge import Case, Lax, is_refused, own, require
from h2_wire import (
    CANCEL,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    INITIAL_WINDOW,
    MAX_STREAMS,
    NO_ERROR,
    frame,
    reset,
    window_update,
)

WHOLE = END_HEADERS | END_STREAM
UPLOAD = b"u" * 20_000


def both(client, first, second):
    """Waits for both streams; neither may hold the other one up."""
    for which in (first, second):
        client.answer(which)
    return client.stream(first), client.stream(second)


def cut(name, way, amount="", method="GET", body=None, whole=None, opens=False):
    """The origin breaks off. Another stream of the connection is under way meanwhile. `whole`: bodies that are whole all the same;
    `opens`: what the origin waits for has come as soon as the client has some of it."""

    def run(world):
        client = world.client()
        beside = client.open(world.head("chunks", 50))
        which = client.open(world.head(way, amount, method=method), body)
        stream = client.stream(which)
        if opens:
            client.wait(lambda: stream.is_over or stream.body)
        world.origin.gate(world.token).set()
        (stream, other), is_lax = both(client, which, beside), False
        world.told = stream.told()
        length = stream.field("content-length")
        if stream.is_ended and length and int(length) != len(stream.body) and method != "HEAD":
            is_lax = True  # RFC 9113 §8.1.1: the client can tell
        elif not is_refused(client, stream):
            require(whole is not None and stream.status == 200 and stream.body in whole, f"cut, and looks whole: {stream.told()}")
        require(b"evil" not in stream.body and b"poison" not in stream.body, f"another answer: {stream.body[:80]!r}")
        if not client.goaway and not client.ended:
            require(other.is_ended and len(other.body) == 200, f"the other stream: {other.told()}")
        if method == "POST":
            count = len([one for one in world.of() if way in one.target])
            require(count <= 1, f"{count} times at the origin")
        for _ in range(2):
            world.check_next(client)
        if is_lax:
            raise Lax(f"cut, and ended: {stream.told()} of {length}")

    return Case("resets", name, run)


def of_origin():
    rows = [
        cut("hung up on", "hang-up"),
        cut("reset at once", "reset"),
        cut("hung up on a POST", "hang-up", method="POST", body=UPLOAD),
        cut("a POST reset at once", "reset", method="POST", body=UPLOAD),
    ]
    rows += [cut(f"cut in the head at {at}", "cut-head", at) for at in (1, 9, 12, 15, 17, 30, 40, 56)]
    rows += [cut(f"reset in the head at {at}", "reset-head", at) for at in (0, 9, 17, 30)]
    rows += [cut(f"cut at {at} of 1,000 bytes", "cut-length", at) for at in (0, 1, 500, 999)]
    rows += [cut(f"cut at {at} of 4,000,000 bytes", "cut-large", at) for at in (16_384, 65_535, 1_000_000, 3_999_999)]
    rows += [cut(f"reset at {at} of 1,000 bytes", "reset-length", at) for at in (0, 500, 999)]
    rows += [
        cut("reset once some of it has come", "reset-length", 999, opens=False),
        cut("a body until the end that is reset", "reset-until-close", 30_000, opens=True),
        cut("a body until the end, small, that is reset", "reset-until-close", 10),
    ]
    whole = [b"hello world"]
    rows += [cut(f"cut in chunks at {at}", "cut-chunked", at) for at in (0, 1, 2, 3, 5, 8, 9, 10, 12, 13, 19, 20, 21)]
    rows += [cut(f"cut behind the chunks at {at}", "cut-chunked", at, whole=whole) for at in (22, 23, 24, 28, 33, 35)]
    rows += [cut(f"reset in chunks at {at}", "reset-chunked", at) for at in (0, 5, 8, 10, 20)]
    rows += [
        cut(f"a chunk that is none: {name}", "bad-chunk", at, whole=[b"hello"] if at == 5 else None)
        for at, name in enumerate(["letters", "bytes behind it", "less than nothing", "2^64", "hexadecimal twice", "a trailer that is none"])
    ]
    names = [
        "two lengths",
        "a length with a sign",
        "a name with a space",
        "a value with NUL",
        "a status of two digits",
        "a status of four",
        "garbage",
        "TLS",
    ]
    whole_of = {1: [b"hello"], 2: [b"hello"], 3: [b"hello"], 4: None}
    rows += [cut(f"a head with {name}", "bad-head", at, whole=whole_of.get(at)) for at, name in enumerate(names)]
    rows += [
        cut("a switch that nobody asked for", "unasked-switch"),
        cut("a POST answered early, and closed", "early-close", method="POST", body=[b"u" * 16_000] * 60),
    ]
    return rows


def answered(name, way, amount="", method="GET", body=None, expect=None, any_status=False):
    """The origin answers in order; `expect` looks at the stream."""

    def run(world):
        client = world.client()
        which = client.open(world.head(way, amount, method=method), body)
        stream = client.answer(which)
        world.told = stream.told()
        if not (any_status and is_refused(client, stream)):
            require(stream.is_ended and (stream.status < 400 or any_status), f"not answered: {stream.told()}")
            require(stream.field("x-token") == world.token, f"another answer: {stream.heads}")
            wrong = expect and expect(stream)
            require(not wrong, f"{wrong}: {stream.told()}, {stream.heads}, trailers {stream.trailers}")
        for _ in range(2):
            world.check_next(client)

    return Case("resets", name, run)


def in_order():
    def has(count):
        return lambda stream: len(stream.body) != count and f"{len(stream.body)} bytes"

    def hop_by_hop(stream):
        found = [name for name, _ in stream.heads[-1] if name in ("connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding")]
        return found and f"fields of the connection: {found}"

    def lower(stream):
        return any(name != name.lower() for name, _ in stream.heads[-1]) and "names in capitals"

    rows = [answered(f"{count} bytes", "bytes", count, expect=has(count)) for count in (0, 1, 16_384, 16_385, 1_000_000)]
    rows += [answered(f"{count} chunks", "chunks", count, expect=has(4 * count)) for count in (0, 1, 1000)]
    rows += [answered(f"{count} bytes until the end", "until-close", count, expect=has(count)) for count in (0, 1, 100_000)]
    rows += [answered(f"status {status}", "status", status, expect=has(0)) for status in (204, 304, 201)]
    rows += [answered(f"HEAD of {way}", way, amount, method="HEAD", expect=has(0)) for way, amount in (("echo", ""), ("bytes", 1000))]
    rows += [
        answered("HEAD of a response that would be cut", "cut-length", 0, method="HEAD", expect=has(0)),
        answered("204 with a length", "204-length", any_status=True, expect=has(0)),
        answered(
            "trailers",
            "trailers",
            expect=lambda stream: stream.body != b"abc" or stream.trailers not in ([("x-end", "yes")], None, []) and "trailers",
        ),
        answered("fields of the connection", "connection-fields", expect=hop_by_hop),
        answered("names in capitals", "upper", expect=lower),
        answered("one 103", "hints", 1),
        answered("five 103", "hints", 5),
        answered("20,000 times 103", "hints-flood", any_status=True),
        answered("a field of 4,000 bytes", "huge-head", 4_000, any_status=True),
        answered("a field of 40,000 bytes", "huge-head", 40_000, any_status=True),
        answered("a field of 1,000,000 bytes", "huge-head", 1_000_000, any_status=True),
        answered("60 fields", "many-fields", 60),
        answered("2,000 fields", "many-fields", 2_000, any_status=True),
        answered("a byte at a time", "drip", 50, expect=has(50)),
        answered("a response that no one asked for behind it", "extra", 1, any_status=True),
        answered("many responses that no one asked for behind it", "extra", 50, any_status=True),
        answered("a GET that is reset the first time", "reset-now-and-then", any_status=True),
        answered("a POST that is answered before its body", "early", method="POST", body=UPLOAD),
        Case("resets", "a POST that is answered before its body has left", early_half),
        Case("resets", "a client that waits for 100", expected),
        Case("resets", "nobody gets the response that nobody asked for", poisoned),
    ]
    return rows


def early_half(world):
    """The response comes in the middle of the upload; the rest of it harms nobody."""
    client = world.client()
    which = client.open(world.head("early", method="POST"), b"half", end=False)
    stream = client.stream(which)
    client.wait(lambda: stream.is_over or stream.heads)
    client.send(frame(DATA, END_STREAM, which, b"half"))
    client.answer(which)
    require(is_refused(client, stream) or stream.status == 200, f"{stream.told()}")
    world.check_next(client)


def expected(world):
    """A client that waits for 100 before it sends its body gets it, or the answer."""
    client = world.client()
    for way in ("echo", "early-close"):
        which = client.open([*world.head(way, method="POST"), ("expect", "100-continue"), ("content-length", "4")], end=False)
        stream = client.stream(which)
        client.wait(lambda stream=stream: stream.heads or stream.is_over)
        client.send(frame(DATA, END_STREAM, which, b"body"))
        client.answer(which)
        require(is_refused(client, stream) or stream.body == f"{world.token} POST body".encode(), stream.told())
    world.check_next(client)


def poisoned(world):
    client = world.client()
    for _ in range(10):
        client.answer(client.open(world.head("extra", 3)))
        own(world, client.answer(client.open(world.head())))


CODES = {"NO_ERROR": 0, "CANCEL": 8, "REFUSED_STREAM": 7, "INTERNAL_ERROR": 2, "STREAM_CLOSED": 5, "an unknown code": 0x12345}


def state(name, way, amount="", *, end=True, body=None, until=None, code=CANCEL, twice=False, window=1 << 20, length=None):
    """The client resets its stream once it is so. Streams beside it go on; what was not sent to its end is not whole."""

    def run(world):
        client = world.client((ENABLE_PUSH, 0), (INITIAL_WINDOW, window))
        beside = client.open(world.head("gate", 8_000))
        fields = world.head(way, amount, method="GET" if end and not body else "POST")
        which = client.open(fields + ([("content-length", str(length))] if length else []), body, end)
        if until:
            client.wait(lambda: until(world, client.stream(which)) or client.stream(which).is_over)
        client.send(reset(which, code) * (2 if twice else 1))
        require(client.quiet() or twice, "the connection ended")
        world.origin.gate(world.token).set()
        if client.ended or client.goaway:
            return world.check_next()
        client.send(window_update(beside, 100_000))
        other = client.answer(beside)
        require(other.is_ended and len(other.body) == 16_000, f"the other stream: {other.told()}")
        if not end and length != 9:  # a length that has come is a whole body for HTTP/1
            require(not [one for one in world.of() if one.whole and one.body and way in one.target], "what was cut is whole at the origin")
        return world.check_next(client if window else None)

    return Case("resets", name, run)


def arrived(world, _):
    """Its head has come to the origin."""
    return world.origin.wait(lambda: sum(one.token == world.token for one in world.origin.seen) >= 2)


def of_client():
    some = [b"some", b"bytes"]
    rows = [state(f"a client that resets with {name}", "silent", code=code) for name, code in CODES.items()]
    rows += [
        state("a client that resets at once", "silent"),
        state("a client that resets what has arrived", "silent", until=arrived),
        state("a client that resets an upload", "echo", end=False, body=some, until=arrived),
        state("a client that resets an upload at once", "echo", end=False, body=some),
        state("a client that resets an upload with a length", "echo", end=False, body=some, until=arrived, length=100),
        state("a client that resets an upload before its body", "echo", end=False),
        state("a client that resets an upload with NO_ERROR", "echo", end=False, body=some, until=arrived, code=NO_ERROR),
        state("a client that resets an upload whose bytes have all come", "echo", end=False, body=some, until=arrived, length=9),
        state("a client that resets an upload that nobody reads", "early-stall", end=False, body=[b"u" * 16_000] * 3, until=arrived),
        state("a client that resets in the middle of a response", "gate", 20_000, until=lambda _, stream: stream.body),
        state("a client that resets a response without a window", "bytes", 300_000, window=0, until=lambda _, stream: stream.heads),
        state("a client that resets a large response", "bytes", 30_000_000, until=lambda _, stream: len(stream.body) > 100_000),
        state("a client that resets a response that has ended", "echo", until=lambda _, stream: stream.is_over),
        state("a client that resets twice", "silent", twice=True),
    ]
    for name, leave in {
        "cut": lambda client: client.cut(),
        "closed": lambda client: client.close(),
        "reset": lambda client: client.abort(),
        "closed with close_notify": lambda client: client.close_notify(),
    }.items():
        rows += [
            gone(f"a client whose connection is {name} in an upload", leave, "echo", False),
            gone(f"a client whose connection is {name} in a response", leave, "gate", True),
            gone(f"a client whose connection is {name} before a response", leave, "silent", True),
        ]
    rows += [
        Case("resets", name, run)
        for name, run in [
            ("every other one of 100 is reset", every_other),
            ("100 answers are those to the requests", hundred),
            ("more streams than there may be", too_many),
            ("GOAWAY of a client with a stream under way", client_goaway),
            ("GOAWAY of a client with an error", client_goaway_error),
            ("an upload that goes on behind a reset", upload_goes_on),
            ("a client without pushes gets none", no_push),
            ("streams that are reset make room", room),
        ]
    ]
    return rows


def gone(name, leave, way, end):
    """The client's connection ends; what it has not sent is not made up, and nobody else is harmed."""

    def run(world):
        client = world.client()
        client.open(world.head(way, 8_000 if way == "gate" else "", method="GET" if end else "POST"), None if end else b"half", end)
        require(world.origin.wait(lambda: any(one.token == world.token for one in world.origin.seen)), "the request does not come")
        if way == "gate":
            client.wait(lambda: client.stream(1).body)
        leave(client)
        world.check_next()
        if not end:
            connection = world.of()[0].connection
            require(world.origin.wait(lambda: connection in world.origin.closed or world.of()[0].whole), "the origin's connection stays")
            require(not world.of()[0].whole, "what was cut is whole at the origin")
        world.origin.gate(world.token).set()
        world.check_next()

    return Case("resets", name, run)


def every_other(world):
    client = world.client()
    streams = [client.open(world.head("gate", n)) for n in range(100)]
    for which in streams[::2]:
        client.send(reset(which))
    world.origin.gate(world.token).set()
    for n, which in list(enumerate(streams))[1::2]:
        stream = client.answer(which)
        require(stream.is_ended and len(stream.body) == 2 * n, f"stream {which}: {stream.told()}")
    world.check_next(client)


def hundred(world):
    client = world.client()
    streams = {client.open(world.head("echo", n, method="POST"), b"%d" % n): n for n in range(100)}
    for which, n in streams.items():
        own(world, client.answer(which), "POST", b"%d" % n)


def too_many(world):
    """Those beyond the limit are refused or served, as soon as others are over."""
    client = world.client()
    streams = [client.open(world.head("silent", n)) for n in range(300)]
    client.wait(
        lambda: (
            client.goaway
            or client.ended
            or sum(one.reset is not None for one in client.streams.values()) >= 300 - client.theirs.get(MAX_STREAMS, 300)
        )
    )
    world.origin.gate(world.token).set()
    for which in streams:
        stream = client.answer(which)
        if not client.goaway and stream.reset is None:
            own(world, stream)
    require(client.goaway or sum(client.stream(which).is_ended for which in streams) >= 100, "few are answered")
    world.check_next(client)


def client_goaway(world):
    client = world.client()
    which = client.open(world.head("gate", 8_000))
    client.wait(lambda: client.stream(which).body)
    client.send(frame(GOAWAY, 0, 0, b"\0" * 8))
    world.origin.gate(world.token).set()
    stream = client.answer(which)
    require(not stream.is_ended or len(stream.body) == 16_000, f"cut, and looks whole: {stream.told()}")
    require(stream.is_ended, f"not finished: {stream.told()}")
    world.check_next()


def client_goaway_error(world):
    client = world.client()
    which = client.open(world.head("gate", 8_000))
    client.wait(lambda: client.stream(which).body)
    client.send(frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x02why"))
    world.origin.gate(world.token).set()
    stream = client.answer(which)
    require(not stream.is_ended or len(stream.body) == 16_000, f"cut, and looks whole: {stream.told()}")
    world.check_next()


def upload_goes_on(world):
    """DATA that was under way when the proxy answered and reset the stream is no mistake of the client's."""
    client = world.client()
    which = client.open(world.head("early-close", method="POST"), b"u" * 1000, end=False)
    stream = client.stream(which)
    client.wait(lambda: stream.is_over or stream.head)
    client.send(b"".join(frame(DATA, 0, which, b"u" * 1000) for _ in range(20)) + frame(DATA, END_STREAM, which))
    client.answer(which)
    require(client.quiet(), f"the connection ended: {client.goaway}")
    world.check_next(client)


def no_push(world):
    client = world.client((ENABLE_PUSH, 0))
    own(world, client.answer(client.open(world.head())))
    require(not [one for one in client.frames if one[0] == 5], "PUSH_PROMISE")


def room(world):
    """400 streams one after the other, each reset once it has come to the origin: their places are free again."""
    client = world.client()
    for n in range(0, 400, 40):
        streams = [client.open(world.head("silent", n + m)) for m in range(40)]
        require(client.quiet(), f"the connection ended: {client.goaway}")
        client.send(b"".join(reset(which) for which in streams))
        if not client.quiet() or client.goaway:
            break  # a limit on resets is fine
    world.check_next(client)
    world.origin.gate(world.token).set()


CASES = [*of_origin(), *in_order(), *of_client()]
