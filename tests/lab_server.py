"""What a server answers in tests of whole commands: each role by its model's name, all by the request and its seed.

"oracle" is the assistant that `groceries` has as a script; "helper" one that says a word; "person" plays users;
"judge" grades and extracts.
"""

from __future__ import annotations

import json
from typing import Any

from duologue.conversation import parse_messages
from duologue.models.base import Sampling, count_bytes
from duologue.seeding import digest, generator
from duologue.tasks import load_task
from endpoint_server import Asked, completion

WORDS = ("apples", "bread", "cheese", "dates", "eggs", "figs")
GROCERIES = load_task("groceries")


async def answer(asked: Asked) -> dict[str, Any]:
    """The body of an answer, its tokens counted as a quarter of the bytes; a pure function of the request."""
    text = await said(asked)
    prompt = sum(count_bytes(message["content"]) for message in asked.body["messages"])
    return completion(text, prompt=prompt, completion=count_bytes(text))


async def said(asked: Asked) -> str:
    """What the model says."""
    body = asked.body
    draw = generator(body.get("seed") or 0, digest(m["content"] for m in body["messages"]))
    match body["model"]:
        case "oracle":
            return await oracle(body)
        case "person":
            ends = "satisfied" if "assistant" in asked.last and draw.random() < 0.3 else "no"
            return json.dumps({"thought": "hm", "message": f"i want {draw.choice(WORDS)} .", "ends": ends})
        case "judge":
            return verdict(asked, draw.random())
        case _:
            return f"{draw.choice(WORDS)} or {draw.choice(WORDS)} ?"


async def oracle(body: dict[str, Any]) -> str:
    """What the scripted assistant of `groceries` says to these messages."""
    messages = parse_messages(body["messages"], "request")
    reply = await GROCERIES.scripted["oracle"].reply(messages, seed=body.get("seed") or 0, sampling=Sampling())
    return reply.text


def verdict(asked: Asked, draw: float) -> str:
    """A grade; or, where an artefact is asked for, that there is none."""
    if asked.form == "grade":
        return json.dumps({"evidence": "so it reads", "grade": round(draw, 3)})
    return json.dumps({"found": False, "text": ""})
