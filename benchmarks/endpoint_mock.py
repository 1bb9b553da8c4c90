"""A mock of an OpenAI-compatible server for `benchmarks/endpoint.py`: its own process, and never the limit.

    python benchmarks/endpoint_mock.py        prints its port, and ends when its standard input does

The first part of the path says how it behaves: POST /MODE/v1/chat/completions. MODE is "none" (answers at
once), "fixed" (200 ms), "lognormal" (median 200 ms, σ 0.6), "faults" (fixed, and of all attempts 5 % fail in
each way of `FAULTS`), or one of those ways (5 % fail in it alone). "-recorded" after it keeps the bodies.

Latency and reply come from the hash of the request's body, fault and all from that and the number of the
attempt: the same requests wait the same, in whatever order they come. What it did is told in the one place
that reaches the caller of any client: `usage.prompt_tokens` is the number of the request, and
`usage.completion_tokens` the microseconds it was made to wait.

Replies are about 400 bytes of text; where a JSON schema is asked for, an object that fits it, in which users
do not end the conversation.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from statistics import NormalDist
from typing import Any

import orjson

LATENCY, SIGMA = 0.2, 0.6
SHARE = 0.05
"""Of attempts, for each fault."""
RETRY_AFTER = 1
"""Seconds that one kind of 429 asks to be left alone."""
DRIP = 0.1
"""Seconds between the bytes of a slow reply: over a minute in all."""
FAULTS = ("500", "429", "429-retry-after", "malformed", "keys", "null", "reset", "drip", "hang")

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
WORDS = ("the", "a", "one", "and", "of", "to", "in", "it", "is", "that", "we", "you", "can", "would", "shall", "table")
NORMAL = NormalDist()
Form = Callable[[int], Any]
"""64 bits → a value that fits a schema."""


def sentences(number: int, length: int) -> str:
    """Words of about `length` bytes."""
    draw = random.Random(number)
    text = ""
    while len(text) < length:
        text += draw.choice(WORDS) + " "
    return text


LONG = [sentences(number, 380) for number in range(256)]
SHORT = [sentences(number, 120) for number in range(256)]


def form_of(schema: dict[str, Any], whole: dict[str, Any]) -> Form:
    """How to make values that fit a JSON schema."""
    if "$ref" in schema:
        return form_of(whole["$defs"][schema["$ref"].rsplit("/", 1)[-1]], whole)
    if "anyOf" in schema:
        return form_of(next(each for each in schema["anyOf"] if each.get("type") != "null"), whole)
    options = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if options:
        return (lambda bits: "no") if "no" in options else lambda bits: options[bits % len(options)]
    low, high = schema.get("minimum", 0), schema.get("maximum", 1)
    match schema["type"]:
        case "object":
            parts = {name: form_of(part, whole) for name, part in schema["properties"].items()}
            return lambda bits: {name: part(bits) for name, part in parts.items()}
        case "array":
            return lambda bits: []
        case "boolean":
            return lambda bits: False
        case "integer":
            return lambda bits: low + bits % (high - low + 1)
        case "number":
            return lambda bits: low + (high - low) * (bits % 101) / 100
        case _:
            return lambda bits: f"{SHORT[bits % 256]}{bits:x} ."


class Server:
    """What all connections share."""

    def __init__(self) -> None:
        self.requests = self.at_once = self.most = self.fingerprint = 0
        self.forms: dict[str, Form] = {}
        self.bodies: dict[int, bytes] = {}
        self.attempts: Counter[bytes] = Counter()
        self.met: Counter[str] = Counter()
        """How many attempts met which fault, "none" among them."""

    def told(self, path: str) -> bytes:
        """The answer to a GET: /stats; /bodies by their numbers; /forget tells the stats and starts anew."""
        if path == "/bodies":
            return orjson.dumps({str(number): orjson.Fragment(body) for number, body in self.bodies.items()})
        stats = {
            "requests": self.requests,
            "most": self.most,
            "cpu": time.process_time(),
            "met": dict(self.met),
            "fingerprint": f"{self.fingerprint % 2**128:x}",
        }
        if path == "/forget":
            self.bodies, self.attempts, self.met = {}, Counter(), Counter()
            self.requests = self.most = self.fingerprint = 0
        return orjson.dumps(stats)

    def fault(self, mode: str, digest: bytes) -> str | None:
        """What this attempt at a request meets."""
        if mode not in FAULTS and mode != "faults":
            return None
        self.attempts[digest] += 1
        draw = blake2b(digest, digest_size=8, salt=self.attempts[digest].to_bytes(8, "big")).digest()
        place = int(int.from_bytes(draw, "big") / 2**64 / SHARE)
        met = FAULTS[place] if mode == "faults" and place < len(FAULTS) else None
        met = mode if mode in FAULTS and place == 0 else met
        self.met[met or "none"] += 1
        return met

    def text(self, body: dict[str, Any], bits: int) -> str:
        """The reply to a request."""
        wanted = body.get("response_format")
        if wanted is None:
            return f"{LONG[bits % 256]}{bits:x} ."
        form = wanted["json_schema"]
        if form["name"] not in self.forms:
            self.forms[form["name"]] = form_of(form["schema"], form["schema"])
        return orjson.dumps(self.forms[form["name"]](bits)).decode()


def latency(mode: str, digest: bytes) -> float:
    """Seconds that a request waits."""
    if mode == "none":
        return 0.0
    if mode != "lognormal":
        return LATENCY
    uniform = (int.from_bytes(digest[8:], "big") + 0.5) / 2**64
    return LATENCY * math.exp(SIGMA * NORMAL.inv_cdf(uniform))


class Connection(asyncio.Protocol):
    """One client's, requests one after another."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.waiting: asyncio.TimerHandle | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
        self.leave()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head_end = self.buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self.buffer[:head_end]
        found = LENGTH.search(head)
        end = head_end + 4 + (int(found[1]) if found else 0)
        if len(self.buffer) < end:
            return
        body, self.buffer = self.buffer[head_end + 4 : end], self.buffer[end:]
        path = head.split(b" ", 2)[1].decode()
        if head.startswith(b"GET"):
            self.send(self.server.told(path))
        else:
            self.asked(path.split("/")[1], body)

    def asked(self, mode: str, sent: bytes) -> None:
        server, body = self.server, orjson.loads(sent)
        server.requests += 1
        server.at_once += 1
        server.most = max(server.most, server.at_once)
        self.open = True
        if mode.endswith("-recorded"):
            mode = mode.removesuffix("-recorded")
            server.bodies[server.requests] = sent
        digest = blake2b(orjson.dumps(body), digest_size=16).digest()  # whatever the white space
        server.fingerprint += int.from_bytes(digest, "big")
        seconds = latency(mode, digest)
        fault = server.fault(mode, digest)
        usage = {"prompt_tokens": server.requests, "completion_tokens": round(seconds * 1e6)}
        bits = int.from_bytes(digest[:8], "big")
        if fault:
            self.fail(fault, seconds)
            return
        message = {"role": "assistant", "content": server.text(body, bits)}
        reply = orjson.dumps(
            {
                "id": f"chatcmpl-{bits:x}",
                "object": "chat.completion",
                "created": 0,
                "model": "mock",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": usage,
            }
        )
        if seconds:
            self.waiting = self.loop.call_later(seconds, self.send, reply)
        else:
            self.send(reply)

    def leave(self) -> None:
        if self.open:
            self.open = False
            self.server.at_once -= 1

    def send(self, body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> None:
        self.waiting = None
        self.leave()
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n"
        self.transport.write(head % (status, len(body), more) + body)

    def fail(self, fault: str, seconds: float) -> None:
        """A 429 comes at once, a hang never, a drip begins at once, the rest after the latency."""
        empty = b'{"error": {"message": "the mock was told to fail", "type": "mock"}}'
        null = (
            b'{"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": null}}]}'
        )
        match fault:
            case "429":
                self.send(empty, b"429 Too Many Requests")
            case "429-retry-after":
                self.send(empty, b"429 Too Many Requests", b"Retry-After: %d\r\n" % RETRY_AFTER)
            case "500":
                self.waiting = self.loop.call_later(seconds, self.send, empty, b"500 Internal Server Error")
            case "malformed":
                self.waiting = self.loop.call_later(seconds, self.send, null[:-25])
            case "keys":
                self.waiting = self.loop.call_later(seconds, self.send, b'{"result": "a reply under another name"}')
            case "null":
                self.waiting = self.loop.call_later(seconds, self.send, null)
            case "reset":
                self.waiting = self.loop.call_later(seconds, self.reset, null)
            case "drip":
                self.start(null)
                self.drip(null * 8, 0)
            case _:
                pass

    def start(self, body: bytes) -> None:
        """The head of a longer reply."""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % 900)

    def drip(self, body: bytes, place: int) -> None:
        self.transport.write(body[place : place + 1])
        self.waiting = self.loop.call_later(DRIP, self.drip, body, place + 1)

    def reset(self, body: bytes) -> None:
        self.leave()
        self.start(body)
        self.transport.write(body[: len(body) // 2])
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = Server()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=4096)
    print(listening.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()
    listening.close()


if __name__ == "__main__":
    asyncio.run(main())
