"""Frames and header blocks that break RFC 9113 and RFC 7541, those that look as if they did, and requests torn at every byte.

A row is what is sent behind the preface and SETTINGS. CONNECTION: the connection ends. STREAM: the stream is reset or refused, or
the connection ends. GOES_ON: the next request of the connection is answered. ANY: one of these. Who goes on where the connection
or the stream has to end is lax, unless a request to /TOKEN/never comes to the origin whole.
"""

import hpack

from h2_judge import Case, Lax, is_refused, own, require
from h2_wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Hang,
    block,
    frame,
    literal,
    number,
    reset,
    settings,
    window_update,
)

CONNECTION, STREAM, GOES_ON, ANY = "connection", "stream", "goes on", "any"
WHOLE = END_HEADERS | END_STREAM


def never(world, method="GET"):
    return block(world.head("never", method=method))


def bad(which, flags=WHOLE):
    """A request that nobody may take for one."""
    return lambda world: frame(HEADERS, flags, which, never(world))


def get(which=1, way="after", flags=WHOLE):
    """A request; without END_STREAM it is a POST."""
    return lambda world: frame(HEADERS, flags, which, block(world.head(way, method="GET" if flags & END_STREAM else "POST")))


def ended(client):
    return client.goaway or client.ended


def row(name, kind, *pieces, first=None, stream=1, start=True):
    """`first` is answered before `pieces` are sent."""

    def run(world):
        client = world.client(start=start)
        if first:
            client.send(first(world))
            client.answer(1)
        client.send(b"".join(one(world) if callable(one) else one for one in pieces))
        one, is_lax = client.stream(stream), False
        if kind in (CONNECTION, STREAM):
            try:
                client.wait(lambda: ended(client) or kind == STREAM and is_refused(client, one), 2)
                is_lax = client.goaway is not None and client.goaway[1] == 0 and not client.ended
            except Hang:
                is_lax = True
        else:
            require(client.quiet() or kind == ANY, f"the connection ended, {client.goaway}")
        require(not [it for it in world.of() if it.whole and "/never" in it.target], "the origin has what is no request")
        world.told = one.told() + (f", GOAWAY {client.goaway[1]}" if client.goaway else "") + (f", {client.ended}" if client.ended else "")
        if kind == GOES_ON:
            require(not ended(client), f"the connection ended, {client.goaway}")
        client.next = 101
        world.check_next(None if is_lax else client)
        if is_lax:
            raise Lax(f"the connection goes on, {one.told()}")

    return Case("framing", name, run)


def control_frames():
    setting = {
        f"SETTINGS {name}": pair
        for name, pair in {
            "with ENABLE_PUSH 2": (2, 2),
            "with a window of 2^31": (INITIAL_WINDOW, 1 << 31),
            "with a frame size of 16,383": (MAX_FRAME, 16_383),
            "with a frame size of 2^24": (MAX_FRAME, 1 << 24),
            "with a frame size of 0": (MAX_FRAME, 0),
        }.items()
    }
    fine = {
        "an unknown setting": (0x99, 7),
        "a header table of 0": (HEADER_TABLE_SIZE, 0),
        "a header table of 2^32-1": (HEADER_TABLE_SIZE, (1 << 32) - 1),
        "no streams": (3, 0),
        "a list of 0": (6, 1 << 16),
        "the largest window": (INITIAL_WINDOW, (1 << 31) - 1),
        "the largest frames": (MAX_FRAME, (1 << 24) - 1),
    }
    rows = [row(name, CONNECTION, settings(pair), get()) for name, pair in setting.items()]
    rows += [row(f"SETTINGS with {name}", GOES_ON, settings(pair)) for name, pair in fine.items()]
    rows += [
        row("SETTINGS of 5 bytes", CONNECTION, frame(SETTINGS, 0, 0, b"12345"), get()),
        row("SETTINGS of 7 bytes", CONNECTION, frame(SETTINGS, 0, 0, b"\0\1\0\0\0\0\0"), get()),
        row("SETTINGS on a stream", CONNECTION, frame(SETTINGS, 0, 1), get()),
        row("SETTINGS that acknowledge with a payload", CONNECTION, settings((1, 0), flags=ACK), get()),
        row("SETTINGS without any", GOES_ON, settings()),
        row("SETTINGS with 100", ANY, settings(*[(INITIAL_WINDOW, 70_000)] * 100)),
        row("SETTINGS that disagree with themselves", GOES_ON, settings((INITIAL_WINDOW, 0), (INITIAL_WINDOW, 1 << 20))),
        row("SETTINGS with a connect protocol of 2", ANY, settings((8, 2))),
        row("PING of 7 bytes", CONNECTION, frame(PING, 0, 0, b"1234567"), get()),
        row("PING of 9 bytes", CONNECTION, frame(PING, 0, 0, b"123456789"), get()),
        row("PING of no bytes", CONNECTION, frame(PING, 0, 0), get()),
        row("PING on a stream", CONNECTION, frame(PING, 0, 1, b"12345678"), get()),
        row("a PONG that nobody asked for", ANY, frame(PING, ACK, 0, b"12345678")),
        row("PING with all flags but ACK", GOES_ON, frame(PING, 0xFE, 0, b"12345678")),
        row("GOAWAY on a stream", CONNECTION, frame(GOAWAY, 0, 1, b"\0" * 8), get()),
        row("GOAWAY of 7 bytes", CONNECTION, frame(GOAWAY, 0, 0, b"\0" * 7), get()),
        row("PUSH_PROMISE of a client", CONNECTION, frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block([(":method", "GET")])), get(3)),
        row(
            "PUSH_PROMISE of a client on an open stream",
            CONNECTION,
            get(1, "silent", END_HEADERS),
            frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2\x82"),
        ),
    ]
    for kind in (10, 12, 16, 0x42, 0xFF):
        rows.append(row(f"a frame of type {kind}", GOES_ON, frame(kind, 0xFF, 0, b"anything")))
    rows += [
        row("an unknown frame on a stream to come", ANY, frame(0x42, 0, 1, b"x"), get(1)),
        row("an unknown frame inside a body", GOES_ON, get(1, "echo", END_HEADERS), frame(0x42, 1, 1, b"x"), frame(DATA, END_STREAM, 1, b"x")),
        row("an unknown frame larger than frames may be", ANY, frame(0x42, 0, 0, b"x" * 16_385)),
        row("an empty unknown frame 50 times", GOES_ON, frame(0x42, 0, 0) * 50),
    ]
    return rows


def window_frames():
    return [
        row("WINDOW_UPDATE of 3 bytes", CONNECTION, frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), get()),
        row("WINDOW_UPDATE of 5 bytes", CONNECTION, frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1\0"), get()),
        row("WINDOW_UPDATE by 0 of the connection", CONNECTION, window_update(0, 0), get()),
        row("WINDOW_UPDATE by 0 of a stream", STREAM, get(1, "silent", END_HEADERS), window_update(1, 0)),
        row("WINDOW_UPDATE of the connection beyond 2^31-1", CONNECTION, window_update(0, (1 << 31) - 1) * 2, get()),
        row("WINDOW_UPDATE of a stream beyond 2^31-1", STREAM, get(1, "silent", END_HEADERS), window_update(1, (1 << 31) - 1) * 2),
        row(
            "WINDOW_UPDATE by one, a million times over",
            STREAM,
            get(1, "silent", END_HEADERS),
            window_update(1, 0x7FF00000) + window_update(1, 0xFFFFF) * 2,
        ),
        row("WINDOW_UPDATE of a stream to come", CONNECTION, window_update(1, 1), get()),
        row("WINDOW_UPDATE of an even stream", CONNECTION, window_update(2, 1), get()),
        row("WINDOW_UPDATE with the reserved bit", GOES_ON, frame(WINDOW_UPDATE, 0, 0, b"\x80\0\0\1")),
        row("WINDOW_UPDATE of a stream that has ended", GOES_ON, window_update(1, 1), first=get(1)),
        row(
            "a setting that lifts a window beyond 2^31-1",
            STREAM,
            get(1, "silent", END_HEADERS),
            window_update(1, 0x7FFFFFFF - (1 << 20)),
            settings((INITIAL_WINDOW, (1 << 20) + 1)),
            get(3),
        ),
    ]


def stream_frames():
    post = get(1, "silent", END_HEADERS)
    return [
        row("RST_STREAM of 3 bytes", CONNECTION, post, frame(RST_STREAM, 0, 1, b"123"), get(3)),
        row("RST_STREAM of 5 bytes", CONNECTION, post, frame(RST_STREAM, 0, 1, b"12345"), get(3)),
        row("RST_STREAM of stream 0", CONNECTION, frame(RST_STREAM, 0, 0, b"\0\0\0\0"), get()),
        row("RST_STREAM of a stream to come", CONNECTION, reset(9), get(11)),
        row("RST_STREAM of a stream that has ended", GOES_ON, reset(1), first=get(1)),
        row("RST_STREAM twice", ANY, post, reset(1) * 2),
        row("RST_STREAM with an unknown code", GOES_ON, post, reset(1, 0xABCDEF)),
        row("RST_STREAM with NO_ERROR", GOES_ON, post, reset(1, 0)),
        row("PRIORITY of 4 bytes", STREAM, post, frame(PRIORITY, 0, 1, b"\0\0\0\0")),
        row("PRIORITY of 6 bytes", STREAM, post, frame(PRIORITY, 0, 1, b"\0" * 6)),
        row("PRIORITY of stream 0", CONNECTION, frame(PRIORITY, 0, 0, b"\0\0\0\1\x10"), get()),
        row("PRIORITY of a stream to come", GOES_ON, frame(PRIORITY, 0, 99, b"\0\0\0\1\x10")),
        row("PRIORITY on itself", ANY, frame(PRIORITY, 0, 1, b"\0\0\0\1\x10")),
        row("PRIORITY of a stream that has ended", GOES_ON, frame(PRIORITY, 0, 1, b"\0\0\0\3\x10"), first=get(1)),
        row("HEADERS that depend on themselves", ANY, lambda world: frame(HEADERS, WHOLE | HAS_PRIORITY, 1, b"\0\0\0\1\x10" + block(world.head()))),
        row("HEADERS with a priority", GOES_ON, lambda world: frame(HEADERS, WHOLE | HAS_PRIORITY, 1, b"\x80\0\0\0\xff" + block(world.head()))),
        row("HEADERS with a priority of 3 bytes", CONNECTION, frame(HEADERS, WHOLE | HAS_PRIORITY, 1, b"\0\0\0"), get(3)),
        row("HEADERS on stream 0", CONNECTION, bad(0)),
        row("HEADERS on stream 2", CONNECTION, bad(2)),
        row("HEADERS on a stream before the last", CONNECTION, get(5, "silent", END_HEADERS), bad(3)),
        row("HEADERS on a stream that has ended", STREAM, bad(1), first=get(1), stream=99),
        row("HEADERS on a stream that was reset", ANY, post, reset(1), bad(1)),
        row("HEADERS again on a stream that has no more to say", STREAM, get(1, "silent"), bad(1)),
        row("DATA on stream 0", CONNECTION, frame(DATA, END_STREAM, 0, b"x"), get()),
        row("DATA on a stream to come", CONNECTION, frame(DATA, 0, 1, b"x"), get(3)),
        row("DATA on an even stream", CONNECTION, frame(DATA, 0, 2, b"x"), get(3)),
        row("DATA on a stream that has no more to say", STREAM, get(1, "silent"), frame(DATA, END_STREAM, 1, b"x")),
        row("DATA on a stream that has ended", ANY, frame(DATA, END_STREAM, 1, b"x"), first=get(1)),
        row("DATA on a stream that was reset", ANY, post, reset(1), frame(DATA, 0, 1, b"x")),
        row(
            "DATA with all flags but those that mean something",
            GOES_ON,
            get(1, "echo", END_HEADERS),
            frame(DATA, 0xF7 & ~END_STREAM, 1, b"x"),
            frame(DATA, END_STREAM, 1),
        ),
        row("HEADERS with all flags but those that mean something", GOES_ON, lambda world: frame(HEADERS, WHOLE | 0xD2, 1, block(world.head()))),
        row("a stream number with the reserved bit", GOES_ON, lambda world: frame(HEADERS, WHOLE, 1 | 1 << 31, block(world.head()))),
        Case("framing", "the last stream number there is", last_number),
    ]


def last_number(world):
    client = world.client()
    client.next = (1 << 31) - 1
    own(world, client.answer(client.open(world.head())))
    world.check_next()


def sizes():
    post = bad(1, END_HEADERS)
    return [
        row("DATA of 16,385 bytes", STREAM, get(1, "after", END_HEADERS), frame(DATA, END_STREAM, 1, b"x" * 16_385)),
        row("HEADERS of 16,385 bytes", CONNECTION, big_headers),
        row("a frame that says 2^24-1 bytes", CONNECTION, post, frame(DATA, END_STREAM, 1, b"x" * 20_000, length=(1 << 24) - 1)),
        row("SETTINGS of 16,386 bytes", CONNECTION, frame(SETTINGS, 0, 0, b"\0\x99\0\0\0\0" * 2731), get()),
        row("PING that says 2^24-1 bytes", CONNECTION, frame(PING, 0, 0, b"x" * 20_000, length=(1 << 24) - 1)),
        row("DATA padded by more than there is", CONNECTION, post, frame(DATA, PADDED | END_STREAM, 1, b"\x09hello")),
        row("DATA padded by as much as there is", CONNECTION, post, frame(DATA, PADDED | END_STREAM, 1, b"\x06hello")),
        row("DATA of padding only", ANY, get(1, "echo", END_HEADERS), frame(DATA, PADDED | END_STREAM, 1, b"\x05\0\0\0\0\0")),
        row("DATA padded, of no bytes", CONNECTION, post, frame(DATA, PADDED | END_STREAM, 1)),
        row("HEADERS padded by more than there is", CONNECTION, lambda world: frame(HEADERS, WHOLE | PADDED, 1, b"\xff" + never(world))),
        row("HEADERS padded, of no bytes", CONNECTION, frame(HEADERS, WHOLE | PADDED, 1), get(3)),
        row("HEADERS padded into the priority", CONNECTION, frame(HEADERS, WHOLE | PADDED | HAS_PRIORITY, 1, b"\x03\0\0\0\0\0"), get(3)),
        row("HEADERS padded", GOES_ON, lambda world: frame(HEADERS, WHOLE | PADDED, 1, b"\x04" + block(world.head()) + b"\0" * 4)),
        row("padding that is not 0", ANY, get(1, "echo", END_HEADERS), frame(DATA, PADDED | END_STREAM, 1, b"\x02hi!!")),
    ]


def big_headers(world):
    return frame(HEADERS, WHOLE, 1, block([*world.head("never"), ("x-big", "b" * 16_384)]))


def continuations():
    def cut(world, at=20, way="never"):
        whole = block(world.head(way))
        return whole[:at], whole[at:]

    def between(*frames, way="never"):
        """A header block with these frames inside."""

        def pieces(world):
            start, rest = cut(world, way=way)
            return (
                frame(HEADERS, END_STREAM, 1, start)
                + b"".join(one(world) if callable(one) else one for one in frames)
                + frame(CONTINUATION, END_HEADERS, 1, rest)
            )

        return pieces

    def in_pieces(size, way="echo"):
        def pieces(world):
            whole = block(world.head(way))
            parts = [whole[at : at + size] for at in range(0, len(whole), size)]
            return frame(HEADERS, END_STREAM, 1, parts[0]) + b"".join(
                frame(CONTINUATION, END_HEADERS if at == len(parts) - 1 else 0, 1, part) for at, part in enumerate(parts) if at
            )

        return pieces

    return [
        row("CONTINUATION without HEADERS", CONNECTION, lambda world: frame(CONTINUATION, END_HEADERS, 1, never(world)), get(3)),
        row("CONTINUATION behind the end of a head", CONNECTION, get(1, "silent"), frame(CONTINUATION, END_HEADERS, 1, b"\x82")),
        row(
            "CONTINUATION on another stream",
            CONNECTION,
            lambda world: frame(HEADERS, END_STREAM, 1, cut(world)[0]) + frame(CONTINUATION, END_HEADERS, 3, cut(world)[1]),
        ),
        row("CONTINUATION on stream 0", CONNECTION, frame(CONTINUATION, END_HEADERS, 0, b"\x82"), get()),
        row("CONTINUATION behind DATA", CONNECTION, bad(1, END_HEADERS), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, END_HEADERS, 1, b"\x82")),
        row("PING inside a header block", CONNECTION, between(frame(PING, 0, 0, b"12345678"))),
        row("SETTINGS inside a header block", CONNECTION, between(settings())),
        row("DATA inside a header block", CONNECTION, between(frame(DATA, 0, 1, b"x"))),
        row("an unknown frame inside a header block", CONNECTION, between(frame(0x42, 0, 1, b"x"))),
        row("HEADERS of another stream inside a header block", CONNECTION, between(bad(3))),
        row("HEADERS of the same inside a header block", CONNECTION, between(bad(1))),
        row("RST_STREAM inside a header block", CONNECTION, between(reset(1))),
        row("PRIORITY inside a header block", CONNECTION, between(frame(PRIORITY, 0, 1, b"\0" * 5))),
        row("WINDOW_UPDATE inside a header block", CONNECTION, between(window_update(0, 1))),
        row("GOAWAY inside a header block", CONNECTION, between(frame(GOAWAY, 0, 0, b"\0" * 8))),
        row("a header block in pieces of 30 bytes", GOES_ON, in_pieces(30)),
        row(
            "a header block of an empty HEADERS and CONTINUATION",
            ANY,
            lambda world: frame(HEADERS, END_STREAM, 1) + frame(CONTINUATION, END_HEADERS, 1, block(world.head())),
        ),
        row("CONTINUATION of no bytes, 3 times", ANY, between(frame(CONTINUATION, 0, 1) * 3, way="echo")),
        row(
            "CONTINUATION larger than frames may be",
            CONNECTION,
            lambda world: (
                frame(HEADERS, END_STREAM, 1, cut(world, 20, "after")[0])
                + frame(CONTINUATION, END_HEADERS, 1, cut(world, 20, "after")[1] + literal("x", "y" * 16_400))
            ),
        ),
    ]


def compression():
    """Header blocks that can't be decoded, and some that can."""

    def head(raw, before=False, way="never"):
        def pieces(world):
            fields = block(world.head(way))
            return frame(HEADERS, WHOLE, 1, raw + fields if before else fields + raw)

        return pieces

    def fine(make):
        return lambda world: frame(HEADERS, WHOLE, 1, make(world))

    bad = {
        "index 0": b"\x80",
        "an index beyond both tables": b"\xbe",
        "a far index": number(1_000_000, 7, 0x80),
        "an index of 2^64": b"\xff" + b"\xff" * 9 + b"\x01",
        "an index that does not end": b"\xff\xff\xff",
        "an index of zeros without end": b"\xff" + b"\x80" * 20 + b"\x00",
        "a name by an index that is not": number(70, 6, 0x40) + b"\x01v",
        "a string longer than the block": b"\x00\x01x\x50short",
        "a name longer than the block": b"\x00\x7fx",
        "a length of 2^40": b"\x00\x01x" + number(1 << 40, 7),
        "a literal without a value": b"\x00\x01x",
        "EOS inside Huffman": b"\x00\x01x\x84\xff\xff\xff\xff",
        "Huffman padded by zeros": b"\x00\x01x\x81\x18",
        "a literal that is cut": b"\x40",
        "an index of one byte of ones": b"\x7f",
    }
    rows = [row(f"a header block with {name}", CONNECTION, head(raw), get(3)) for name, raw in bad.items()]
    rows += [
        row("Huffman padded by a byte", CONNECTION, head(b"\x00\x01x\x82\x1f\xff", way="after"), get(3)),
        row("a table size behind fields", CONNECTION, head(b"\x3f\x10", way="after"), get(3)),
        row("a table size beyond the setting", CONNECTION, head(number(1 << 20, 5, 0x20), True, "after"), get(3)),
        row("a table size of 2^64", CONNECTION, head(b"\x3f" + b"\xff" * 9 + b"\x01", True, "after"), get(3)),
        row("a table size of 0", GOES_ON, fine(lambda world: b"\x20" + block(world.head()))),
        row("two table sizes", GOES_ON, fine(lambda world: b"\x20" + number(4096, 5, 0x20) + block(world.head()))),
        row("no fields at all", STREAM, frame(HEADERS, WHOLE, 1)),
        row("fields that are never indexed", GOES_ON, fine(lambda world: b"".join(literal(*pair, first=0x10) for pair in world.head()))),
        row(
            "names by their index",
            GOES_ON,
            fine(lambda world: b"\x82\x87\x41\x06a.test" + literal(":path", world.path(), 0x40) + literal("x-case", world.token)),
        ),
        Case("framing", "Huffman in names and values", huffman),
        Case("framing", "fields remembered and repeated", remembered),
        Case("framing", "an entry that was pushed out", pushed_out),
        Case("framing", "a table of a refused request is remembered", refused_remembered),
        Case("framing", "a table of a request too large is remembered", too_large_remembered),
        Case("framing", "a client without a header table", no_table),
        Case("framing", "a client with a small header table", small_table),
        Case("framing", "an entry larger than the table empties it", larger_entry),
    ]
    return rows


def huffman(world):
    client = world.client()
    client.send(frame(HEADERS, WHOLE, 1, hpack.Encoder().encode([*world.head(), ("x-odd", "~!@#$%^&*()<>[]'`")])))
    own(world, client.answer(1))
    require(world.of()[0].all("x-odd") == ["~!@#$%^&*()<>[]'`"], f"{world.of()[0].fields}")


def remembered(world):
    client, encoder = world.client(), hpack.Encoder()
    for n in range(5):
        client.send(frame(HEADERS, WHOLE, 1 + 2 * n, encoder.encode([*world.head(), ("x-n", str(n // 2)), ("x-same", "s" * 50)])))
        own(world, client.answer(1 + 2 * n))
    require([one.all("x-n") for one in world.of()] == [["0"], ["0"], ["1"], ["1"], ["2"]], "other fields")


def refers(world, client, block_of_two):
    """A second request that takes its x-mark from the table; it has to be the one that is meant, or the connection ends."""
    client.send(frame(HEADERS, WHOLE, 3, block_of_two))
    stream = client.stream(3)
    client.wait(lambda: stream.is_over or ended(client))
    if not is_refused(client, stream) and not ended(client):
        own(world, stream)
        require(world.of()[-1].all("x-mark") == ["right"], f"another field: {world.of()[-1].fields}")


def refused_remembered(world):
    client = world.client()
    first = block([*world.head(), ("connection", "close")]) + literal("x-mark", "right", 0x40)
    client.send(frame(HEADERS, WHOLE, 1, first))
    client.wait(lambda: client.stream(1).is_over or ended(client))
    if not ended(client):
        refers(world, client, block(world.head()) + b"\xbe")


def too_large_remembered(world):
    client = world.client()
    whole = block([*world.head(), *[(f"x-{n}", "v" * 1000) for n in range(70)]]) + literal("x-mark", "right", 0x40)
    pieces = [whole[at : at + 16_000] for at in range(0, len(whole), 16_000)]
    client.send(
        frame(HEADERS, END_STREAM, 1, pieces[0])
        + b"".join(frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, 1, piece) for piece in pieces[1:])
    )
    client.wait(lambda: client.stream(1).is_over or ended(client))
    if not ended(client):
        refers(world, client, block(world.head()) + b"\xbe")


def pushed_out(world):
    """The table holds 4,096 bytes: the first mark is gone, and what was meant is not what an index finds."""
    client = world.client()
    marks = b"".join(literal(f"x-mark{n}", "v" * 900, 0x40) for n in range(8))
    client.send(frame(HEADERS, WHOLE, 1, block(world.head()) + marks))
    own(world, client.answer(1))
    client.send(frame(HEADERS, WHOLE, 3, never(world) + number(62 + 7, 7, 0x80)))
    client.wait(lambda: ended(client))
    require(client.goaway is None or client.goaway[1] != 0, "GOAWAY without an error")


def larger_entry(world):
    client = world.client()
    first = block(world.head()) + literal("x-mark", "wrong", 0x40) + literal("x-large", "l" * 5000, 0x40)
    client.send(frame(HEADERS, WHOLE, 1, first))
    own(world, client.answer(1))
    client.send(frame(HEADERS, WHOLE, 3, never(world) + b"\xbe"))
    client.wait(lambda: ended(client))
    require(not [one for one in world.of() if "never" in one.target], "the origin has it")


def no_table(world, size=0):
    """What the proxy encodes must need no more table than the client gives."""
    client = world.client((HEADER_TABLE_SIZE, size))
    client.decoder.max_allowed_table_size = size
    if size == 0:
        client.decoder.header_table_size = 0
    for _ in range(4):
        own(world, client.answer(client.open(world.head())))


def small_table(world):
    client = world.client()
    own(world, client.answer(client.open(world.head())))
    client.send(settings((HEADER_TABLE_SIZE, 64)))
    require(client.wait(lambda: client.acks >= 2), "SETTINGS are not acknowledged")
    client.decoder.max_allowed_table_size = 64
    for _ in range(4):
        own(world, client.answer(client.open(world.head())))


def prefaces():
    def first(name, *pieces, kind=CONNECTION):
        return row(f"in place of the preface, {name}", kind, *pieces, start=False)

    return [
        first("one letter is another", PREFACE.replace(b"SM", b"SN"), settings(), get()),
        first("it is cut in two lines", PREFACE[:18] + PREFACE, settings(), get()),
        first("zeros", b"\0" * 64),
        first("HTTP/1.1", lambda world: f"GET {world.path('never')} HTTP/1.1\r\nhost: a.test\r\n\r\n".encode(), kind=ANY),
        first("HTTP/1.0", b"PRI * HTTP/1.0\r\n\r\nSM\r\n\r\n", settings(), get()),
        first("frames", settings(), get()),
        first("capitals are small", PREFACE.lower(), settings(), get()),
        first("no SETTINGS behind it", PREFACE, get()),
        first("PING behind it", PREFACE, frame(PING, 0, 0, b"12345678"), get()),
        first("an acknowledgement behind it", PREFACE, settings(flags=ACK), get()),
        first("it comes twice", PREFACE, PREFACE, settings(), get()),
        Case("framing", "half a preface, and the end", half_preface),
    ]


def half_preface(world):
    client = world.client(start=False)
    client.send(PREFACE[:10])
    client.cut()
    client.wait(lambda: client.ended)
    world.check_next()


def torn():
    """A request with a body in every two pieces, and in pieces of some bytes, each in a TLS record of its own."""

    def whole(world):
        start = frame(HEADERS, END_HEADERS, 1, block([*world.head(method="POST"), ("content-length", "5")]))
        return PREFACE + settings() + start + frame(DATA, 0, 1, b"he") + frame(DATA, END_STREAM, 1, b"llo")

    def at_every_byte(world, step=0):
        for at in range(step, len(whole(world)), 8):
            client = world.client(start=False)
            client.send(whole(world)[:at])
            client.send(whole(world)[at:])
            own(world, client.answer(1), "POST", b"hello")
            client.close()

    def in_records(size):
        def run(world):
            client = world.client(start=False, record=size)
            client.send(whole(world))
            own(world, client.answer(1), "POST", b"hello")
            world.check_next()

        return run

    cases = [Case("framing", f"torn at byte {step} of 8", lambda world, step=step: at_every_byte(world, step)) for step in range(8)]
    return cases + [Case("framing", f"in records of {size}", in_records(size)) for size in (1, 7, 9, 24)]


CASES = [*control_frames(), *window_frames(), *stream_frames(), *sizes(), *continuations(), *compression(), *prefaces(), *torn()]
