"""HTTP/2 as raw frames over TLS, for the cases of scripts/conformance: what is sent is what the case says, however wrong.

Header blocks are written as literals without indexing; what comes back is decoded by `hpack`. Nothing here waits for longer
than PATIENCE seconds: a case that runs into it has found a hang.
"""

import contextlib
import re
import socket
import ssl
import struct
import time
from types import SimpleNamespace

import hpack

PATIENCE = 8.0

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, CANCEL = 0, 1, 8
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_LIST, CONNECT_PROTOCOL = 1, 2, 3, 4, 5, 6, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b"", length=None):
    """One frame; `length` where it is to lie about its own."""
    return struct.pack(">I", len(payload) if length is None else length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(*pairs, flags=0):
    return frame(SETTINGS, flags, 0, b"".join(struct.pack(">HI", name, value) for name, value in pairs))


def window_update(stream, by):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", by))


def reset(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def octets(value):
    return value if isinstance(value, bytes) else value.encode("latin-1")


def number(value, bits, first=0):
    """An integer of HPACK with a prefix of so many bits."""
    top = (1 << bits) - 1
    if value < top:
        return bytes([first | value])
    out, value = [first | top], value - top
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def literal(name, value, first=0):
    name, value = octets(name), octets(value)
    return bytes([first]) + number(len(name), 7) + name + number(len(value), 7) + value


def block(fields):
    """A header block. A piece of bytes among the fields is taken as it is."""
    return b"".join(one if isinstance(one, bytes) else literal(*one) for one in fields)


def head_frames(which, fields, flags):
    """A header block as HEADERS and as many CONTINUATION as it needs."""
    pieces = [fields[at : at + 16_384] for at in range(0, len(fields), 16_384)] or [b""]
    kinds = [HEADERS] + [CONTINUATION] * (len(pieces) - 1)
    ends = [0] * (len(pieces) - 1) + [END_HEADERS]
    return b"".join(frame(kind, end | (flags if kind == HEADERS else 0), which, piece) for kind, end, piece in zip(kinds, ends, pieces, strict=True))


def request(path="/", method="GET", scheme="https", authority="a.test"):
    return [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]


OF_THE_CONNECTION = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")


class Malformed(Exception):
    """A response that breaks RFC 9113 §8: what comes of it is left to the client."""


def check_fields(fields, is_trailers):
    """Whether a client may take these fields of a response."""
    for at, (name, value) in enumerate(fields):
        is_status = name == ":status" and at == 0 and not is_trailers and re.fullmatch("[1-9][0-9][0-9]", value)
        is_name = re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name) and name not in OF_THE_CONNECTION
        if not (is_status or is_name) or value != value.strip(" \t") or re.search("[\r\n\0]", value):
            raise Malformed(f"a field that no response has: {name!r}: {value!r}")
    if not is_trailers and (not fields or fields[0] in ((":status", "101"),) or fields[0][0] != ":status"):
        raise Malformed(f"no status: {fields[:3]}")


class Hang(Exception):
    """Nothing came for PATIENCE seconds where something had to."""


class Tls:
    """A connection over TLS whose bytes nobody interprets. `record` is the most plaintext that goes into one record."""

    def __init__(self, port, alpn=("h2",), sni="a.test", record=None, receive_buffer=None, newest=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if newest:
            context.maximum_version = newest
        if alpn:
            context.set_alpn_protocols(list(alpn))
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(PATIENCE)
        raw.connect(("127.0.0.1", port))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # One that is cut without close_notify is told from one that is closed.
        self.tls = context.wrap_socket(raw, server_hostname=sni, suppress_ragged_eofs=False)
        self.alpn, self.record = self.tls.selected_alpn_protocol(), record
        self.ended = None  # "closed" with close_notify, "cut" without

    def send(self, data, patience=PATIENCE):
        """Whether it was taken; a peer that has closed takes nothing."""
        self.tls.settimeout(patience)
        pieces = [data] if not self.record else [data[at : at + self.record] for at in range(0, len(data), self.record)]
        try:
            for piece in pieces:
                self.tls.sendall(piece)
        except TimeoutError:
            raise Hang("nobody reads what is sent") from None
        except (ssl.SSLError, OSError):
            return False
        return True

    def receive(self, until):
        """Some bytes, or none at the end. `until` is a time of time.monotonic()."""
        if self.ended:
            return b""
        self.tls.settimeout(max(until - time.monotonic(), 0.001))
        try:
            data = self.tls.recv(65536)
            self.ended = None if data else "closed"
            return data
        except TimeoutError:
            raise Hang("nothing comes") from None
        except (ssl.SSLError, OSError):
            self.ended = "cut"
            return b""

    def close_notify(self):
        """The end of what is sent, as TLS says it; the socket stays open."""
        self.tls.settimeout(0)
        with contextlib.suppress(ssl.SSLError, OSError):
            self.tls.unwrap()

    def cut(self):
        """FIN without close_notify."""
        socket.socket.shutdown(self.tls, socket.SHUT_WR)

    def abort(self):
        """RST."""
        self.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.tls.close()


class Stream:
    """What came on one stream."""

    def __init__(self):
        self.heads, self.trailers, self.body = [], None, b""  # heads: of 1xx, then that of the response
        self.is_ended, self.reset = False, None

    @property
    def head(self):
        return self.heads[-1] if self.heads and self.status >= 200 else None

    @property
    def status(self):
        return int(dict(self.heads[-1])[":status"]) if self.heads else 0

    def field(self, name):
        return dict(self.heads[-1]).get(name) if self.heads else None

    @property
    def is_over(self):
        return self.is_ended or self.reset is not None

    def told(self):
        """In a word, for messages of failures."""
        word = str(self.status) if self.heads else "nothing"
        return (
            word
            + (f", {len(self.body)} bytes" if self.body else "")
            + (", ended" if self.is_ended else ", reset %d" % self.reset if self.reset is not None else ", open")
        )


class Client(Tls):
    """One that speaks HTTP/2. Opens its windows widely and answers SETTINGS and PING, unless told not to."""

    def __init__(self, port, *pairs, start=True, window=1 << 24, **how):
        super().__init__(port, **how)
        self.waiting, self.streams, self.frames, self.decoder = b"", {}, [], hpack.Decoder(1 << 20)
        self.theirs, self.goaway, self.pongs, self.acks, self.opens = {}, None, [], 0, True
        self.headers_of, self.fragment, self.next = None, b"", 1
        self.updates = {}
        if start:
            pairs = pairs or ((ENABLE_PUSH, 0), (INITIAL_WINDOW, 1 << 20))
            self.send(PREFACE + settings(*pairs) + (window_update(0, window) if window else b""))

    def stream(self, which):
        return self.streams.setdefault(which, Stream())

    def open(self, fields, body=None, end=True, trailers=None, flags=0):
        """A request on the next stream, in as many DATA frames as a list of pieces has; returns the stream's number."""
        which, self.next = self.next, self.next + 2
        if isinstance(body, (bytes, str)):
            body = [octets(body)[at : at + 16_384] for at in range(0, len(body), 16_384)]
        pieces = body or []
        is_all = end and not pieces and trailers is None
        out = head_frames(which, block(fields), flags | (END_STREAM if is_all else 0))
        for at, piece in enumerate(pieces):
            is_last = end and trailers is None and at == len(pieces) - 1
            out += frame(DATA, END_STREAM if is_last else 0, which, piece)
        if trailers is not None:
            out += head_frames(which, block(trailers), END_STREAM)
        self.send(out)
        return which

    def read(self, until):
        """Takes what comes next; whether there was anything."""
        while len(self.waiting) < 9 or len(self.waiting) < 9 + int.from_bytes(self.waiting[:3], "big"):
            data = self.receive(until)
            if not data:
                return False
            self.waiting += data
        size = int.from_bytes(self.waiting[:3], "big")
        one = SimpleNamespace(
            kind=self.waiting[3],
            flags=self.waiting[4],
            stream=int.from_bytes(self.waiting[5:9], "big") & 0x7FFFFFFF,
            payload=self.waiting[9 : 9 + size],
        )
        self.waiting = self.waiting[9 + size :]
        self.frames.append((one.kind, one.flags, one.stream, size))
        self.take(one)
        return True

    def take(self, one):
        kind, payload = one.kind, one.payload
        if kind == DATA:
            padding = payload[0] + 1 if one.flags & PADDED else 0
            stream = self.stream(one.stream)
            assert not stream.is_ended, f"DATA behind the end of stream {one.stream}"
            stream.body += payload[1 : len(payload) - padding + 1] if padding else payload
            stream.is_ended |= bool(one.flags & END_STREAM)
            if payload and self.opens:
                more = b"" if stream.is_ended else window_update(one.stream, len(payload))
                self.send(window_update(0, len(payload)) + more)
        elif kind == HEADERS:
            skip = 1 if one.flags & PADDED else 0
            end = len(payload) - (payload[0] if skip else 0)
            self.headers_of = (one.stream, one.flags)
            self.fragment = payload[skip + (5 if one.flags & HAS_PRIORITY else 0) : end]
        elif kind == CONTINUATION:
            self.fragment += payload
        elif kind == RST_STREAM:
            self.stream(one.stream).reset = int.from_bytes(payload, "big")
        elif kind == SETTINGS and not one.flags & ACK:
            self.theirs |= {name: value for name, value in struct.iter_unpack(">HI", payload)}
            self.send(settings(flags=ACK))
        elif kind == SETTINGS:
            self.acks += 1
        elif kind == PING and one.flags & ACK:
            self.pongs.append(payload)
        elif kind == PING:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.goaway = (int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big"))
        elif kind == WINDOW_UPDATE:
            self.updates[one.stream] = self.updates.get(one.stream, 0) + int.from_bytes(payload, "big")
        if kind in (HEADERS, CONTINUATION) and one.flags & END_HEADERS:
            self.take_fields()

    def take_fields(self):
        which, flags = self.headers_of
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.decoder.decode(self.fragment, raw=True)]
        stream = self.stream(which)
        check_fields(fields, stream.head is not None)
        if stream.head is not None:
            stream.trailers = fields
        else:
            stream.heads.append(fields)
        stream.is_ended |= bool(flags & END_STREAM)

    def wait(self, is_done, patience=PATIENCE):
        """Reads until it is so, or the connection has ended; whether it is so."""
        until = time.monotonic() + patience
        while not is_done():
            if not self.read(until):
                return bool(is_done())
        return True

    def answer(self, which, patience=PATIENCE):
        """The stream, once it is over or the connection is."""
        stream = self.stream(which)
        self.wait(lambda: stream.is_over, patience)
        return stream

    def quiet(self):
        """All that was sent before has been looked at: a PING comes back, or the connection has ended."""
        word = b"q%07d" % len(self.frames)
        self.send(frame(PING, 0, 0, word))
        return self.wait(lambda: word in self.pongs)

    def end(self, patience=PATIENCE):
        """Waits for the end of the connection; the code of its GOAWAY, or -1 without one."""
        self.wait(lambda: False, patience)
        return self.goaway[1] if self.goaway else -1
