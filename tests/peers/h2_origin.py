"""The origin of scripts/conformance: raw sockets, a strict reader of HTTP/1.1, and a record of every byte.

A case has a token; its paths are /TOKEN/BEHAVIOUR[/NUMBER], and where a target has none, the field x-case has. What is read
strictly is noted with its token; what a strict reader would not take is garbage, whoever sent it: a proxy must never let it through.
"""

import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~\x80-\xff]+) HTTP/1\.([01])")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(|[^\0\r\n \t](?:[^\0\r\n]*[^\0\r\n \t])?)[ \t]*")
TOKEN = re.compile(r"(c[0-9]+x)(?:/([a-z0-9-]*))?(?:/([0-9]+))?")


@dataclass
class Seen:
    """A request as the origin has read it."""

    token: str
    method: str
    target: str
    fields: list
    connection: int
    version: str = "1.1"
    body: bytes = b""
    trailers: list = field(default_factory=list)
    whole: bool = False

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name]


class Garbage(Exception):
    """Bytes that no strict reader takes."""


class Gone(Exception):
    """The proxy has closed."""


class Origin:
    """Serves until the program ends."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port, self.seen, self.raw, self.garbage = self.listener.getsockname()[1], [], [], []
        self.changed = threading.Condition()
        self.gates, self.texts = {}, {}  # of tokens
        self.closed = set()  # connections that the proxy has closed
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            peer = self.listener.accept()[0]
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.raw.append(bytearray())
            threading.Thread(target=Serving(self, peer, len(self.raw) - 1).run, daemon=True).start()

    def note(self, change):
        with self.changed:
            change()
            self.changed.notify_all()

    def of(self, token):
        with self.changed:
            return [one for one in self.seen if one.token == token]

    def wait(self, is_so, patience=8.0):
        """Waits until it is so; whether it is."""
        with self.changed:
            return self.changed.wait_for(is_so, patience)

    def gate(self, token):
        """What behaviours with "gate" wait for: open it with .set()."""
        return self.gates.setdefault(token, threading.Event())

    def bytes_with(self, word):
        """Whether any connection has received these bytes."""
        return any(word in bytes(one) for one in self.raw)


class Serving:
    """One connection."""

    def __init__(self, origin, peer, index):
        self.origin, self.peer, self.index, self.waiting, self.token = origin, peer, index, b"", ""

    def run(self):
        try:
            while self.serve_one():
                pass
        except Garbage as error:
            words = [self.token.encode()] if self.token else re.findall(rb"c[0-9]+x", self.waiting[:4096])
            what = {word.decode() for word in words}, f"{error}: {self.waiting[:200]!r}"
            self.origin.note(lambda: self.origin.garbage.append(what))
        except (Gone, OSError):
            pass
        self.peer.close()
        self.origin.note(lambda: self.origin.closed.add(self.index))

    def more(self):
        data = self.peer.recv(65536)
        if not data:
            raise Gone
        record = self.origin.raw[self.index]
        if len(record) < 1 << 20:
            record += data
        self.waiting += data

    def line(self):
        while b"\n" not in self.waiting:
            if len(self.waiting) > 1 << 20:
                raise Garbage("endless line")
            self.more()
        at = self.waiting.index(b"\n")
        if self.waiting[at - 1 : at] != b"\r" or b"\r" in self.waiting[: at - 1]:
            raise Garbage("line end")
        line, self.waiting = self.waiting[: at - 1], self.waiting[at + 1 :]
        return line

    def fields(self):
        fields = []
        while line := self.line():
            match = FIELD.fullmatch(line)
            if not match:
                self.waiting = line + b"\r\n" + self.waiting
                raise Garbage("field")
            fields.append((match[1].decode("latin-1"), match[2].decode("latin-1")))
        return fields

    def take(self, count, one):
        while count:
            if not self.waiting:
                self.more()
            piece, self.waiting = self.waiting[:count], self.waiting[count:]
            one.body += piece
            count -= len(piece)

    def serve_one(self):
        while not self.waiting:
            self.more()
        self.token = ""
        line = self.line()
        match = LINE.fullmatch(line)
        if not match:
            self.waiting = line + b"\r\n" + self.waiting
            raise Garbage("request line")
        target = match[2].decode("latin-1")
        path = TOKEN.search(target)
        self.token = path[1] if path else ""
        one = Seen(self.token, match[1].decode(), target, self.fields(), self.index, f"1.{match[3].decode()}")
        one.token = one.token or "".join(one.all("x-case")[:1])
        self.origin.note(lambda: self.origin.seen.append(one))
        if len(one.all("host")) != 1 and not (one.version == "1.0" and not one.all("host")):
            raise Garbage(f"{len(one.all('host'))} hosts of {one.token}")
        way, amount = (path[2] or "", int(path[3] or 0)) if path else ("", 0)
        if not way.startswith("early"):
            self.body(one)
        goes_on = Answer(self, one).by(way, amount)
        return goes_on and (one.version == "1.1" or "keep-alive" in one.all("connection"))

    def body(self, one):
        if any(value.lower() == "100-continue" for value in one.all("expect")):
            self.peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        lengths, codings = one.all("content-length"), one.all("transfer-encoding")
        if lengths and codings or len(lengths) > 1 or len(codings) > 1:
            raise Garbage(f"ambiguous length of {one.token}")
        if codings:
            words = [word.strip() for word in codings[0].lower().split(",")]
            if words[-1] != "chunked" or words.count("chunked") > 1 or one.version == "1.0":
                raise Garbage(f"coding {codings} of {one.token}")
            while size := self.chunk_size():
                self.take(size, one)
                if self.line():
                    raise Garbage(f"chunk end of {one.token}")
            one.trailers = self.fields()
        elif lengths:
            if not re.fullmatch("[0-9]+", lengths[0]):
                raise Garbage(f"length {lengths[0]} of {one.token}")
            self.take(int(lengths[0]), one)
        self.origin.note(lambda: setattr(one, "whole", True))

    def chunk_size(self):
        line = self.line()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
            raise Garbage(f"chunk size {line[:40]!r}")
        return int(line, 16)


class Answer:
    """What the origin does with a request. Each method is a behaviour: its name in paths, with - for _."""

    def __init__(self, serving, one):
        self.serving, self.peer, self.one = serving, serving.peer, one
        self.is_head = one.method == "HEAD"

    def by(self, way, amount):
        """Answers; whether the connection goes on."""
        way = way.replace("-", "_")
        behaviour = getattr(self, f"do_{way}", None) or self.do_echo
        return behaviour(amount)

    def send(self, *lines, body=b""):
        text = "\r\n".join([*lines, f"x-token: {self.one.token}", "", ""])
        self.peer.sendall(text.encode("latin-1") + body)
        return True

    def reset(self):
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def gate(self):
        self.serving.origin.gate(self.one.token).wait(20)

    def do_echo(self, _, behind=b""):
        """The token, the method and the body that came."""
        body = f"{self.one.token} {self.one.method} ".encode() + self.one.body
        return self.send("HTTP/1.1 200 OK", f"content-length: {len(body)}", body=(b"" if self.is_head else body) + behind)

    def do_bytes(self, amount):
        """So many bytes, with their length."""
        self.send("HTTP/1.1 200 OK", f"content-length: {amount}")
        if not self.is_head:
            self.peer.sendall(b"z" * amount)
        return True

    def do_chunks(self, amount):
        self.send("HTTP/1.1 200 OK", "transfer-encoding: chunked")
        for _ in range(amount):
            self.peer.sendall(b"4\r\nabcd\r\n")
        self.peer.sendall(b"0\r\n\r\n")
        return True

    def do_trailers(self, _):
        return self.send("HTTP/1.1 200 OK", "transfer-encoding: chunked", "trailer: x-end", body=b"3\r\nabc\r\n0\r\nx-end: yes\r\n\r\n")

    def do_text(self, amount):
        """What the case has written, in pieces of so many bytes; then the end, or not with `keep`."""
        text, stays = self.serving.origin.texts[self.one.token]
        for at in range(0, len(text), amount or len(text)):
            self.peer.sendall(text[at : at + (amount or len(text))])
        return stays

    def do_until_close(self, amount):
        self.send("HTTP/1.1 200 OK", "connection: close", body=b"u" * amount)
        return False

    def do_gate(self, amount):
        """Head and half of a body now, the rest when the case says so."""
        self.send("HTTP/1.1 200 OK", f"content-length: {2 * amount}", body=b"g" * amount)
        self.gate()
        self.peer.sendall(b"g" * amount)
        return True

    def do_silent(self, _):
        """Nothing until the case says so."""
        self.gate()
        return self.do_echo(0)

    def do_cut_head(self, amount):
        self.peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-long: 1234567890\r\n\r\n"[:amount])
        return False

    def do_reset_head(self, amount):
        self.peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"[:amount])
        return self.reset()

    def do_cut_length(self, amount):
        self.send("HTTP/1.1 200 OK", "content-length: 1000", body=b"c" * amount)
        return False

    def do_cut_large(self, amount):
        self.send("HTTP/1.1 200 OK", "content-length: 4000000", body=b"c" * amount)
        return False

    def do_reset_length(self, amount):
        self.send("HTTP/1.1 200 OK", "content-length: 1000", body=b"c" * amount)
        self.gate()
        return self.reset()

    def do_cut_chunked(self, amount):
        text = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-end: y\r\n\r\n"
        self.send("HTTP/1.1 200 OK", "transfer-encoding: chunked", body=text[:amount])
        return False

    def do_reset_chunked(self, amount):
        text = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
        self.send("HTTP/1.1 200 OK", "transfer-encoding: chunked", body=text[:amount])
        self.gate()
        return self.reset()

    def do_reset_until_close(self, amount):
        self.send("HTTP/1.1 200 OK", "connection: close", body=b"u" * amount)
        self.gate()
        return self.reset()

    def do_bad_chunk(self, amount):
        bad = [
            b"5\r\nhello\r\nxyz\r\n",
            b"5\r\nhelloAB\r\n",
            b"-1\r\nhello\r\n",
            b"5\r\nhello\r\nfffffffffffffffff1\r\n",
            b"5\r\nhello\r\n0x5\r\n",
            b"5\r\nhello\r\n0\r\nbad line\r\n\r\n",
        ]
        self.send("HTTP/1.1 200 OK", "transfer-encoding: chunked", body=bad[amount])
        return False

    def do_hang_up(self, _):
        return False

    def do_reset(self, _):
        return self.reset()

    def do_reset_now_and_then(self, _):
        """The first request of a case is reset, the others are answered."""
        return self.do_echo(0) if len(self.serving.origin.of(self.one.token)) > 1 else self.reset()

    def do_status(self, amount):
        """A status without a body; 204 and 304 have none."""
        length = {204: [], 304: ["content-length: 77"]}.get(amount, ["content-length: 0"])
        return self.send(f"HTTP/1.1 {amount} Word", *length)

    def do_204_length(self, _):
        """A 204 that says it had a body, and has none."""
        return self.send("HTTP/1.1 204 No Content", "content-length: 5")

    def do_hints(self, amount):
        for n in range(amount):
            self.peer.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: </%d>\r\n\r\n" % n)
        return self.do_echo(0)

    def do_hints_flood(self, _):
        self.peer.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 20_000)
        return self.do_echo(0)

    def do_unasked_switch(self, _):
        self.send("HTTP/1.1 101 Switching Protocols", "connection: upgrade", "upgrade: other")
        time.sleep(0.05)
        return False

    def do_huge_head(self, amount):
        return self.send("HTTP/1.1 200 OK", "content-length: 2", "x-big: " + "h" * amount, body=b"ok")

    def do_many_fields(self, amount):
        return self.send("HTTP/1.1 200 OK", "content-length: 2", *[f"x-{n}: v" for n in range(amount)], body=b"ok")

    def do_bad_head(self, amount):
        """Responses that no strict reader takes, with what would be another response behind."""
        extra = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-token: poison\r\n\r\nevil"
        heads = [
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nbad name: x\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 99 OK\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 2000 OK\r\ncontent-length: 5\r\n\r\nhello",
            b"garbage\r\n\r\n",
            b"\x16\x03\x01\x00\x00",
        ]
        self.peer.sendall(heads[amount] + (extra if amount < 6 else b""))
        return False

    def do_extra(self, amount):
        """A whole response, and in the same piece more that nobody asked for: who reads the one has the others, too."""
        return self.do_echo(0, b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-token: poison\r\n\r\npoison" * amount)

    def do_connection_fields(self, _):
        return self.send(
            "HTTP/1.1 200 OK",
            "content-length: 2",
            "connection: x-hop, keep-alive",
            "x-hop: 1",
            "keep-alive: timeout=5",
            "proxy-connection: keep-alive",
            "upgrade: h2c",
            body=b"ok",
        )

    def do_upper(self, _):
        return self.send("HTTP/1.1 200 OK", "Content-Length: 2", "X-Upper-Case: Value", body=b"ok")

    def do_early(self, _):
        """Answers before the body has come, and goes on reading."""
        self.do_echo(0)
        self.serving.body(self.one)
        return True

    def do_early_close(self, _):
        """Answers before the body has come, and closes in order."""
        self.send("HTTP/1.1 413 Content Too Large", "content-length: 4", "connection: close", body=b"full")
        self.peer.shutdown(socket.SHUT_WR)
        self.peer.settimeout(5)
        while self.peer.recv(65536):
            pass
        return False

    def do_early_stall(self, _):
        """Reads nothing of the body until the case says so."""
        self.gate()
        self.serving.body(self.one)
        return self.do_echo(0)

    def do_drip(self, amount):
        """So many bytes, one at a time."""
        self.send("HTTP/1.1 200 OK", f"content-length: {amount}")
        for _ in range(amount):
            self.peer.sendall(b"d")
            time.sleep(0.005)
        return True

    def do_switch(self, _):
        """Takes an upgrade and sends back what comes, until the end."""
        protocol = (self.one.all("upgrade") or ["none"])[0]
        if protocol == "none":
            return self.do_echo(0)
        accept = self.accept()
        self.send("HTTP/1.1 101 Switching Protocols", "connection: upgrade", f"upgrade: {protocol}", *accept)
        data = self.serving.waiting
        self.serving.waiting = b""
        while True:
            self.one.body += data
            self.peer.sendall(data)
            data = self.peer.recv(65536)
            if not data or b"cut me" in data:
                return False

    def accept(self):
        import base64
        import hashlib

        keys = self.one.all("sec-websocket-key")
        text = (keys[0] if keys else "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        return ["sec-websocket-accept: " + base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()]
