from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import Field

from duologue.conversation import Message
from duologue.errors import BudgetSpent, ModelError, RequestRefused
from duologue.models.base import Sampling
from duologue.models.structured import Answer, Form, ask
from duologue.models.wire import spoken
from replying_model import Replying, replying


class Mark(Form):
    evidence: str
    grade: float = Field(ge=0, le=1)


MESSAGES = [Message("user", "how good is it ?")]
GOOD = '{"evidence": "it is so", "grade": 0.5}'
GOT = Mark(evidence="it is so", grade=0.5)


async def asked(model: Replying, **options: Any) -> Answer[Mark]:
    return await ask(model, MESSAGES, Mark, seed=1, sampling=Sampling(0.0, max_tokens=99), **options)


async def read(text: str) -> Mark | None:
    return (await asked(replying(text), attempts=1)).value


# ---- asking


async def test_a_model_is_asked_for_the_form_s_schema_with_the_keys_in_their_order() -> None:
    model = replying(GOOD)
    assert await asked(model) == Answer(GOT)
    (call,) = model.asked
    assert call.messages == tuple(MESSAGES)
    assert (call.sampling.temperature, call.sampling.max_tokens) == (0.0, 99)
    assert call.sampling.format is not None
    schema = json.loads(call.sampling.format.schema)
    assert call.sampling.format.name == "mark"
    assert list(schema["properties"]) == schema["required"] == ["evidence", "grade"]
    assert schema["properties"]["grade"]["maximum"] == 1
    assert schema["additionalProperties"] is False


async def test_a_refused_reply_is_shown_again_with_what_is_wrong_with_it() -> None:
    model = replying('{"evidence": "good", "grade": 85}', GOOD)
    assert await asked(model) == Answer(GOT)
    first, again = model.asked
    assert again.messages[:2] == (*MESSAGES, Message("assistant", '{"evidence": "good", "grade": 85}'))
    assert again.messages[2].role == "user"
    assert '"grade": Input should be less than or equal to 1. It was 85.' in again.messages[2].content
    assert again.seed != first.seed


async def test_only_the_last_refused_reply_is_shown_and_only_its_beginning() -> None:
    model = replying("{" * 100_000, "", GOOD)
    await asked(model)
    assert [len(call.messages) for call in model.asked] == [1, 3, 3]
    assert len(model.asked[1].messages[1].content) == 2000
    assert model.asked[2].messages[1].content == "(nothing)"


async def test_a_reply_cut_by_length_is_told_to_be_shorter() -> None:
    model = replying(('{"evidence": "it goes on and', "length"), GOOD)
    await asked(model)
    assert "cut off at its limit of tokens, before it was complete: be shorter" in model.asked[1].text


async def test_an_object_that_was_complete_before_the_cut_counts() -> None:
    assert (await asked(replying((f"{GOOD}\nand further", "length")))).value == GOT


async def test_after_the_last_attempt_there_is_a_reason_and_no_value() -> None:
    model = replying("no idea .")
    answer = await asked(model)
    assert answer == Answer(None, "3 replies could not be used; the last: there is no complete JSON object in it")
    assert len(model.asked) == 3


async def test_the_same_seed_asks_the_same() -> None:
    one, two = replying("?"), replying("?")
    await asked(one)
    await asked(two)
    assert one.asked == two.asked
    assert len({call.seed for call in one.asked}) == 3


@pytest.mark.parametrize("error", [ModelError("gone"), RequestRefused("no"), BudgetSpent("spent")])
async def test_what_the_model_raises_goes_through(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        await asked(replying(error))


async def test_a_value_that_fails_the_check_is_asked_again() -> None:
    model = replying(GOOD, '{"evidence": "x", "grade": 1}')
    answer = await asked(model, check=lambda mark: None if mark.grade == 1 else "only the best will do.")
    assert answer.value == Mark(evidence="x", grade=1.0)
    assert "only the best will do." in model.asked[1].text


# ---- what is refused

REFUSED = {
    "nothing": "",
    "white space": " \n ",
    "null": "null",
    "a number": "0.5",
    "a text": json.dumps(GOOD),
    "a list": "[0.5]",
    "a list of objects": f"[{GOOD}]",
    "an empty object": "{}",
    "prose": "I would give it 0.5 .",
    "a missing grade": '{"evidence": "x"}',
    "a missing evidence": '{"grade": 0.5}',
    "wrong keys": '{"reason": "x", "score": 0.5}',
    "85": '{"evidence": "x", "grade": 85}',
    "below 0": '{"evidence": "x", "grade": -0.1}',
    "a number as text": '{"evidence": "x", "grade": "0.8"}',
    "true": '{"evidence": "x", "grade": true}',
    "a grade of null": '{"evidence": "x", "grade": null}',
    "a list of grades": '{"evidence": "x", "grade": [0.5]}',
    "a word": '{"evidence": "x", "grade": "high"}',
    "of ten": '{"evidence": "x", "grade": 8/10}',
    "NaN": '{"evidence": "x", "grade": NaN}',
    "Infinity": '{"evidence": "x", "grade": Infinity}',
    "-Infinity": '{"evidence": "x", "grade": -Infinity}',
    "1e400": '{"evidence": "x", "grade": 1e400}',
    "a number of 5,000 digits": f'{{"evidence": "x", "grade": {"1" * 5000}}}',
    "evidence that is a number": '{"evidence": 42, "grade": 0.5}',
    "evidence that is null": '{"evidence": null, "grade": 0.5}',
    "a key given twice": '{"evidence": "x", "grade": 0, "grade": 1}',
    "two grades": f'{GOOD} {{"evidence": "it is so", "grade": 1}}',
    "an object within another": f'{{"answer": {GOOD}}}',
    "an object in a text of another": json.dumps({"note": GOOD}),
    "an object in a text of a broken one": json.dumps({"note": GOOD})[:-1],
    "an unescaped backslash read as a form feed": r'{"evidence": "\frac{1}{2}", "grade": 0.5}',
    "an unescaped backslash that is no escape": r'{"evidence": "\sqrt{2}", "grade": 0.5}',
    "half of a pair": r'{"evidence": "\ud800", "grade": 0.5}',
    "an object cut short": GOOD[:-1],
    "a thought alone": f"<think>{GOOD}</think>",
    "a thought that never ends": f"<think>{GOOD}",
    "nested too deep": '{"evidence":' * 20_000,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
async def test_refused(text: str) -> None:
    assert await read(text) is None


# ---- what is read

READ = {
    "alone": GOOD,
    "with white space": f"\n {GOOD} \n",
    "in a code block": f"```json\n{GOOD}\n```",
    "between prose": f"Here it is:\n{GOOD}\nI hope {{this}} helps.",
    "after braces in prose": f"I weighed {{a}} and {{ \\frac{{1}}{{2}} }} . {GOOD}",
    "after another object": f'{{"plan": "weigh it"}} {GOOD}',
    "after one out of range": f'{{"evidence": "x", "grade": 85}} {GOOD}',
    "said twice": f"{GOOD}\n{GOOD}",
    "after a thought": f'<think>perhaps {{"evidence": "x", "grade": 1}} ?</think>{GOOD}',
    "after a thought without its opening": f'perhaps {{"evidence": "x", "grade": 1}} ?</think>\n{GOOD}',
    "with a further key": '{"evidence": "it is so", "sure": true, "grade": 0.5}',
}


@pytest.mark.parametrize("text", READ.values(), ids=READ)
async def test_read(text: str) -> None:
    assert await read(text) == GOT


@pytest.mark.parametrize("number", ["0", "1", "1.0", "0.25", "5e-1"])
async def test_a_whole_number_is_a_number(number: str) -> None:
    assert await read(f'{{"evidence": "x", "grade": {number}}}') == Mark(evidence="x", grade=float(number))


@pytest.mark.parametrize(
    "text",
    ["42", "007", "null", "true", "{}", "1e5", r"\frac{1}{2}", "café", "a\nb", '"quoted"', "</think>", GOOD],
)
@pytest.mark.parametrize("ascii_only", [True, False])
async def test_a_text_stays_the_text_it_is(text: str, ascii_only: bool) -> None:
    found = await read(json.dumps({"evidence": text, "grade": 1}, ensure_ascii=ascii_only))
    assert found is not None and found.evidence == text


async def test_line_breaks_in_a_text_that_nobody_escaped_are_line_breaks() -> None:
    found = await read('{"evidence": "one\ntwo", "grade": 1}')
    assert found is not None and found.evidence == "one\ntwo"


@given(st.text(st.characters(exclude_characters="\b\f", exclude_categories=["Cs"])), st.floats(0, 1))
async def test_whatever_json_can_say_is_read_back(evidence: str, grade: float) -> None:
    for ascii_only in (True, False):
        text = json.dumps({"evidence": evidence, "grade": grade}, ensure_ascii=ascii_only)
        assert await read(text) == Mark(evidence=evidence, grade=grade)


@given(st.text(), st.text())
async def test_prose_around_an_object_makes_no_other_value(before: str, after: str) -> None:
    assert await read(f"{before} {GOOD} {after}") in (GOT, None)


BRACES = ("{", '{"', '{"a" ', '{"a":', '{"a":[', r"{\"", "{ ", '{"a":1,"a":2}', "<think>", '{"evidence":"a","grade":2}')


@pytest.mark.parametrize("unit", BRACES)
async def test_a_text_of_nothing_but_braces_is_read_in_no_time(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    before = time.process_time()
    assert await read(text) is None
    assert time.process_time() - before < 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "hello"),
        ("<think>hm</think>hello", "hello"),
        ("hm</think>hello", "hello"),
        ("<think>hm</think><think>so</think>hello", "hello"),
        ("<think>hm", ""),
        ("hello <think> hm", "hello"),
        ("hello <think>hm</think> you", "hello you"),
        ("hello<think>hm</think> you<think>so</think>", "hello you"),
        ("hm <think>so</think> hm</think>hello", "hello"),
        ("<think>hm <think>so</think> hm</think>hello", "hello"),
        ("one\n<think>hm</think><think>so</think>\ntwo", "one\ntwo"),
    ],
)
def test_thoughts_are_not_spoken(text: str, said: str) -> None:
    assert spoken(text) == said
