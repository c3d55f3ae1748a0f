"""Random requests, responses and frames, each from a seed: fields by every way of HPACK, bytes that have been changed, frames in any order,
and many clients at once whose every answer is known.

Whatever comes of them, the origin gets nothing that a strict reader would not take, and each request has its own answer or none.
"""

import concurrent.futures
import contextlib
import random
import struct
import time

import hpack

from h1_tls import head as head1
from h1_tls import text as text1
from h2_judge import REFUSED_STREAM, Case, own, require
from h2_wire import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, Hang, Malformed, Tls, block, frame, reset, settings, window_update


def random_fields(seed):
    """A hundred requests whose fields come by every way that HPACK has; the origin has to have got just these."""

    def run(world):
        dice, client, encoder = random.Random(seed), world.client(), hpack.Encoder()
        names = [f"x-{n}" for n in range(12)]

        def value():
            return "".join(dice.choices("abz09~!,; ", k=dice.choice((0, 1, 20, 300)))).strip()

        for n in range(100):
            if dice.random() < 0.1:
                encoder.header_table_size = dice.choice((0, 100, 1_000, 4_096))
            more = [(dice.choice(names), value()) for _ in range(dice.randrange(8))]
            huffman = dice.random() < 0.5
            kinds = (hpack.NeverIndexedHeaderTuple, hpack.HeaderTuple, hpack.HeaderTuple)
            marked = [dice.choice(kinds)(*pair) for pair in [*world.head("echo", n), ("x-n", f"n{n}"), *more]]
            client.send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, encoder.encode(marked, huffman=huffman)))
            stream = client.answer(2 * n + 1)
            if stream.status == 502:  # the origin was closing the connection that was taken
                continue
            own(world, stream)
            sent = next(one for one in world.of() if one.all("x-n") == [f"n{n}"])
            got = [(key.lower(), value) for key, value in sent.fields if key.lower() in names]
            lost = [one for one in more if one not in got] + [one for one in got if one not in more]
            require(not lost, f"other fields: {lost}")

    return Case("random", f"fields by every way of HPACK, {seed}", run)


def mutated(dice, data):
    """Some bytes are others, gone, twice, or moved."""
    data = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 5))):
        at, size = dice.randrange(len(data)), dice.choice((1, 1, 2, 9))
        way = dice.randrange(5)
        if way == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif way == 1:
            data[at] = dice.choice(b"\0\r\n :,;\x7f\xff09ax")
        elif way == 2:
            del data[at : at + size]
        elif way == 3:
            data[at:at] = data[at : at + size]
        else:
            data[at:at] = dice.choice((b"\r\n", b"\n", b" ", b"\0", b"\r", b":", b"0", b"\r\n\r\n"))
        data = data or bytearray(b"\0")
    return bytes(data)


def finished(client):
    """Takes what comes until nothing more does for a moment; whatever it is, it is no hang."""
    with contextlib.suppress(OSError):
        client.cut()
    while True:
        try:
            if not client.receive(time.monotonic() + 1):
                return
        except Hang:
            return


def random_http2(seed):
    """Connections whose bytes have been changed: the origin gets nothing that it does not read, and the proxy goes on."""

    def run(world):
        dice, world.token = random.Random(seed), f"c{10**12 + seed}x"  # changed, it is nobody else's
        for n in range(150):
            stream = world.client(start=False)
            fields = [*world.head("echo", n, method="POST"), ("content-length", "5"), ("x-a", "b"), ("cookie", "c=d")]
            block = hpack.Encoder().encode(fields, huffman=dice.random() < 0.3)
            data = settings() + frame(HEADERS, END_HEADERS, 1, block) + frame(0, 0, 1, b"he") + frame(0, END_STREAM, 1, b"llo")
            data += frame(HEADERS, END_HEADERS | END_STREAM, 3, hpack.Encoder().encode(world.head("echo", n)))
            stream.send(PREFACE + mutated(dice, data))
            finished(stream)
            stream.close()
            world.check()
        world.check_next()

    return Case("random", f"HTTP/2 with other bytes, {seed}", run)


def random_http1(seed):
    def run(world):
        dice, world.token = random.Random(seed), f"c{10**13 + seed}x"
        requests = [
            head1("content-length: 5", line="POST {} HTTP/1.1") + "hello" + head1(),
            head1("transfer-encoding: chunked", line="POST {} HTTP/1.1") + "5;a=b\nhello\n6\n world\n0\nx-end: 1\n\n" + head1(),
            head1("connection: keep-alive", "x-list: a, b") + head1("transfer-encoding: chunked", line="POST {} HTTP/1.1") + "1\nx\n0\n\n",
        ]
        for n in range(150):
            client = Tls(world.port, alpn=("http/1.1",))
            client.send(mutated(dice, text1(world, dice.choice(requests))))
            finished(client)
            client.close()
            world.check()
        world.check_next()

    return Case("random", f"HTTP/1 with other bytes, {seed}", run)


RESPONSES = [
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: b\r\nset-cookie: c=d\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nx-end: 1\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\nvia: 1.1 x\r\n\r\n",
    "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhello",
]


def random_responses(seed):
    """Responses whose bytes have been changed: what the client is shown is allowed in HTTP/2, and the next answer is the right one."""

    def run(world):
        dice = random.Random(seed)
        client = world.client()
        for _ in range(100):
            text = mutated(dice, dice.choice(RESPONSES).encode())
            world.origin.texts[world.token] = (text, False)
            try:
                stream = client.answer(client.open(world.head("text", dice.choice(("", 1, 7)), method=dice.choice(("GET", "GET", "HEAD")))))
            except Malformed as error:
                raise Malformed(f"{error} of {text!r}") from None
            require(stream.is_over or client.ended, f"{stream.told()} of {text!r}")
            if client.ended or client.goaway:
                client = world.client()
        world.check_next(client)

    return Case("random", f"responses with other bytes, {seed}", run)


def any_frame(dice, world, streams):
    """A frame that could be right, on a stream that could be; most of the time."""
    which, way = dice.choice(streams), dice.randrange(12)
    if way < 4:
        streams.append(max(streams) + 2)
        fields = block(world.head(dice.choice(("echo", "silent", "bytes", "early-stall")), 7_000, method=dice.choice(("GET", "POST"))))
        flags = dice.choice((END_STREAM, 0))
        if dice.random() < 0.3:
            at = dice.randrange(len(fields))
            return frame(HEADERS, flags, streams[-1], fields[:at]) + frame(CONTINUATION, END_HEADERS, streams[-1], fields[at:])
        return frame(HEADERS, END_HEADERS | flags, streams[-1], fields)
    if way < 7:
        return frame(DATA, dice.choice((0, 0, END_STREAM)), which, b"d" * dice.choice((0, 1, 100, 9_000)))
    if way == 7:
        return reset(which, dice.randrange(14))
    if way == 8:
        return window_update(dice.choice((0, which)), dice.choice((1, 1_000, 100_000)))
    if way == 9:
        return settings((4, dice.choice((0, 100, 65_535, 1 << 20))), (1, dice.choice((0, 4_096))))
    if way == 10:
        return frame(2, 0, which, struct.pack(">IB", dice.choice((0, 1, which + 2)), 7))
    return frame(dice.choice((6, 0x42)), 0, 0, b"12345678")


def random_frames(seed):
    def run(world):
        dice = random.Random(seed)
        for _ in range(25):
            client, streams = world.client(), [1]
            client.send(frame(HEADERS, END_HEADERS, 1, block(world.head("early-stall", method="POST"))))
            for _ in range(dice.randrange(40)):
                client.send(any_frame(dice, world, streams))
            finished(client)
            client.close()
        world.origin.gate(world.token).set()
        world.check_next()

    return Case("random", f"frames in any order, {seed}", run)


def answered(world, client, *what):
    """The stream, or None where the proxy had taken a connection that the origin was closing."""
    stream = client.answer(client.open(*what))
    return None if stream.status in (502, 503) or stream.reset == REFUSED_STREAM else stream


def one_of_many(world, dice):
    """Requests whose answers are known, and some that are given up."""
    client = world.client()
    for _ in range(60):
        size, way = dice.choice((0, 1, 1_000, 20_000, 60_000)), dice.randrange(6)
        body = bytes([dice.randrange(256)]) * size
        if way < 3:
            stream = answered(world, client, world.head(method="POST"), body)
            if stream:
                own(world, stream, "POST", body)
        elif way == 3:
            stream = answered(world, client, world.head("bytes", size))
            require(not stream or stream.is_ended and stream.body == b"z" * size, stream and stream.told())
        elif way == 4:
            stream = client.stream(client.open(world.head("bytes", 300_000)))
            client.wait(lambda stream=stream: stream.body or stream.is_over)
            client.send(reset(client.next - 2))
        else:
            stream = answered(world, client, world.head("cut-length", 500))
            require(not stream or not stream.is_ended or stream.field("content-length") == "1000", stream and stream.told())
        if dice.random() < 0.05 or client.ended or client.goaway:
            client.close()
            client = world.client()


def storm(seed):
    def run(world):
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(one_of_many, world, random.Random(f"{seed} {n}")) for n in range(6)]:
                done.result()

    return Case("random", f"many clients at once, {seed}", run)


CASES = [
    *[random_fields(seed) for seed in range(4)],
    *[random_http2(seed) for seed in range(8)],
    *[random_http1(seed) for seed in range(8)],
    *[random_responses(seed) for seed in range(8)],
    *[random_frames(seed) for seed in range(8)],
    *[storm(seed) for seed in range(2)],
]
