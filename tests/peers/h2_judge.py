"""What a case of scripts/conformance is, and what may come of it.

Proxies may choose how they refuse: a 4xx or 5xx, RST_STREAM, GOAWAY, or the end of the connection. They may not pass on what
another reader could take for something else, show a cut response as a whole one, answer a wrong request, harm others, or hang.
What an RFC has them refuse and they take without any of that is not a failure: it is counted as lax.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from h2_wire import Client, Hang, octets, request

REFUSED_STREAM = 7
REFUSED, PASSED, EITHER = "refused", "passed", "either"
NUMBERS = itertools.count(1)


class Failure(Exception):
    """What the proxy did that it may not."""


class Lax(Exception):
    """The proxy takes what an RFC has it refuse, but nothing came of it that could harm anybody."""


@dataclass
class Case:
    """One case. `alone`: it measures, so nothing runs beside it."""

    group: str
    name: str
    run: Callable
    alone: bool = False


@dataclass
class World:
    """What a case has: the proxy in front of the origin, and a token of its own."""

    proxy: str
    port: int
    process: object
    origin: object
    token: str = ""
    told: str = ""  # what became of it, where both are right

    def path(self, way="echo", amount=""):
        return f"/{self.token}/{way}" + (f"/{amount}" if amount != "" else "")

    def head(self, way="echo", amount="", **more):
        """The fields of a request of this case."""
        return [*request(self.path(way, amount), **more), ("x-case", self.token)]

    def client(self, *pairs, **how):
        return Client(self.port, *pairs, **how)

    def of(self):
        return self.origin.of(self.token)

    def check(self):
        """What must never be, whatever the case."""
        for tokens, what in list(self.origin.garbage):
            if self.token in tokens:
                raise Failure(f"the origin got {what}")
        for one in self.of():
            if "/smuggled" in one.target or one.all("x-smuggled") or any(key == "x-smuggled" for key, _ in one.trailers):
                raise Failure(f"smuggled: {one.method} {one.target} {one.fields}")

    def check_next(self, client=None):
        """A request on this connection is answered, with its own answer. On one that has ended: on another one. An origin may have
        closed a connection that is just taken for it, so that it is asked a second time."""
        for is_last in (False, False, True):
            if client is None or client.ended or client.goaway:
                client = self.client()
            stream = client.answer(client.open(self.head("echo", 7)))
            gone = client.goaway and not stream.heads or stream.status in (502, 503) or stream.reset == REFUSED_STREAM
            if is_last or not gone:
                return own(self, stream)
        return None


def own(world, stream, method="GET", body=b""):
    """The answer of the origin's echo to this very request."""
    expect = f"{world.token} {method} ".encode() + body
    if stream.status != 200 or not stream.is_ended or stream.field("x-token") != world.token:
        raise Failure(f"{stream.told()} in place of 200")
    if stream.body != (b"" if method == "HEAD" else expect):
        raise Failure(f"another answer: {stream.body[:80]!r} in place of {expect[:80]!r}")


def require(condition, what):
    if not condition:
        raise Failure(what)


def is_refused(client, stream):
    return (
        stream.reset is not None or stream.status >= 400 or (not stream.head and client.ended is not None) or bool(client.goaway and not stream.head)
    )


def judge(world, expect, fields, body=None, trailers=None, end=True, at_origin=None):
    """Sends one request and says whether what came of it is right. `at_origin` looks at it as the origin has got it; what it
    returns is what is wrong."""
    client = world.client()
    which = client.open(fields, body, end, trailers)
    stream = client.stream(which)
    client.wait(lambda: stream.is_over or is_refused(client, stream))
    refused = is_refused(client, stream)
    told = stream.told() + (f", GOAWAY {client.goaway[1]}" if client.goaway else "")
    world.told = f"{'refused' if refused else 'passed'}: {told}"
    world.check()
    whole = [one for one in world.of() if one.whole]
    if expect == REFUSED and not refused:
        require(len(whole) == 1 and whole[0].body == octets(body if isinstance(body, (bytes, str)) else b"".join(body or [])), f"not refused: {told}")
        require(not (at_origin and at_origin(whole[0])), f"not refused: {told}")
        raise Lax(f"not refused: {told}")
    if expect == REFUSED:
        # One that has no body, by its length, was whole before what is wrong came.
        whole = [one for one in whole if one.body or one.all("content-length") != ["0"]]
        require(not whole, f"refused ({told}), but the origin has it: {whole and whole[0]}")
    elif expect == PASSED:
        require(stream.status == 200 and stream.is_ended, f"not passed: {told}")
    require(refused or stream.status == 200, f"neither refused nor passed: {told}")
    if not refused:
        require(len(whole) == 1, f"{len(whole)} requests at the origin")
        require(stream.field("x-token") == world.token, f"another answer: {stream.heads}")
        wrong = at_origin and at_origin(whole[0])
        require(not wrong, f"passed on: {wrong} ({whole[0].target} {whole[0].fields})")
    elif at_origin:
        for one in whole:
            require(not at_origin(one), f"refused ({told}), but the origin has it: {one}")
    world.check_next(client)
    world.check()
    client.close()


def lacks(*names):
    """None of these fields."""

    def look(one):
        found = [name for name in names if one.all(name)]
        return f"{found}" if found else None

    return look


def has_body(body):
    return lambda one: None if one.body == body else f"the body {one.body[:60]!r}"


def run_case(case, world):
    """What is wrong, or nothing; and whether that is only lax. Where the origin has just closed a connection that the proxy takes for
    this case, as others have it do, 502 is right: the case is run again."""
    for _ in range(3):
        wrong, is_lax = run_once(case, world)
        if not wrong or not wrong.startswith(("502,", "503,")):
            break
    return wrong, is_lax


def run_once(case, world):
    world.token = f"c{next(NUMBERS)}x"
    try:
        case.run(world)
        world.check()
        return None, False
    except Lax as lax:
        return str(lax), True
    except Hang as hang:
        return f"hang: {hang}", False
    except Failure as failure:
        return str(failure), False
    except Exception as error:  # a case that breaks has found something, too
        return f"{type(error).__name__}: {error}", False
