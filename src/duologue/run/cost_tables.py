"""An estimate of `duologue cost` for reading: a table, and what it rests on in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from duologue.run.cost import DECODING, Amount, Hardware, Row, total, totals
from duologue.run.speech import SCENARIOS

COLUMNS: dict[str, Callable[[Amount], float | None]] = {
    "calls": lambda amount: amount.use.calls,
    "tokens read": lambda amount: amount.use.read,
    "tokens written": lambda amount: amount.use.written,
    "GPU hours": lambda amount: amount.gpu_hours,
    "money": lambda amount: amount.money,
}
WIDTH = 44
"""Characters of a table's first column."""


def short(number: float | None) -> str:
    """A number in three digits at most.

    >>> [short(number) for number in (None, 0, 0.001, 0.034, 2.5, 21.7, 412, 9_960, 1_234_567, 2.5e9)]
    ['?', '–', '<0.01', '0.03', '2.5', '22', '412', '10k', '1.2M', '2.5B']
    """
    if number is None:
        return "?"
    if not number:
        return "–"
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, "")):
        if number >= 0.995 * size:
            value = number / size
            return f"{value:.1f}".removesuffix(".0") + letter if value < 9.95 else f"{value:.0f}{letter}"
    return f"{number:.2f}" if number >= 0.005 else "<0.01"


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """A table of every part, and of the sums."""
    priced = any(amount.money for row in rows for amount in row.amounts.values())
    columns = {name: column for name, column in COLUMNS.items() if name != "money" or priced}
    yield _line("", *columns)
    for (part, work), some in groupby((*rows, *totals(rows)), key=lambda row: (row.part, row.work)):
        yield f"{part}: {work}" if work else part
        for row in some:
            name = row.model.rpartition("/")[2]
            yield _line(f"  {row.role:<9} {name}", *(_cell(row, column) for column in columns.values()))


def _line(first: str, *cells: str) -> str:
    return (f"{first[:WIDTH]:<{WIDTH}}" + "".join(f"{cell:>18}" for cell in cells)).rstrip()


def _cell(row: Row, column: Callable[[Amount], float | None]) -> str:
    """What is expected, and the range."""
    low, expected, high = (short(column(row.amounts[name])) for name in SCENARIOS)
    return expected if low == expected == high else f"{expected} ({low}…{high})"


def sentences(rows: Sequence[Row], hardware: Hardware, budget: float | None = None) -> Iterator[str]:
    """The sum, and what it rests on.

    Args:
        budget: what calls to endpoints may cost.
    """
    whole = {name: total(row.amounts[name] for row in rows) for name in SCENARIOS}
    unknown = sorted({row.model for row in rows if row.amounts["expected"].gpu_hours is None})
    if not unknown:
        low, expected, high = (short(whole[name].gpu_hours) for name in SCENARIOS)
        yield f"GPU hours in all: {expected} ({low}…{high})"
    money = {name: whole[name].money + (whole[name].gpu_hours or 0.0) * (hardware.price or 0.0) for name in SCENARIOS}
    if any(money.values()):
        low, expected, high = (short(money[name]) for name in SCENARIOS)
        beside = f", a GPU's hour at {hardware.price:g} among it" if hardware.price and not unknown else ""
        yield f"money in all: {expected} ({low}…{high}){beside}"
    if budget is not None and whole["expected"].money > budget:
        yield f"the budget of {budget:g} ends the run before: calls are expected to cost {whole['expected'].money:.3g}"
    for model in unknown:
        yield f"GPU hours need the size of {model}: give --parameters {model}=8e9, or what it has"
    yield from _assumed(hardware)


def _assumed(hardware: Hardware) -> Iterator[str]:
    every = list(SCENARIOS.values())
    replies = _range([f"{each.reply:g}" for each in every])
    messages = _range([str(each.message + each.thought) for each in every])
    turns = _range(["the task's limit" if each.turns is None else str(each.turns) for each in every])
    pairs = _range([f"{each.pairs:g}" for each in every])
    yield f"assumed: replies of {replies} × max_tokens, or those of the task's scripted assistants where it has some;"
    yield f"  users whom a model plays write {messages} tokens a turn and stay {turns} turns;"
    yield f"  {pairs} of the states give a pair to learn from"
    speed = f"{hardware.utilisation:g} × {hardware.flops:.3g} FLOP/s"
    slower = f"{DECODING:g} of that in writing"
    if hardware.tokens_per_second is not None:
        slower = f"and the assistant's writes {hardware.tokens_per_second:g} tokens a second"
    yield f"  a GPU reaches {speed} in reading and learning, {slower}"


def _range(texts: Sequence[str]) -> str:
    low, expected, high = texts
    return f"{expected} ({low}…{high})"


def to_json(rows: Sequence[Row]) -> dict[str, Any]:
    """The estimate as `duologue cost --json` prints it."""
    return {"rows": [_row(row) for row in rows], "totals": [_row(row) for row in totals(rows)]}


def _row(row: Row) -> dict[str, Any]:
    amounts = {
        scenario: {column.replace(" ", "_"): take(amount) for column, take in COLUMNS.items()}
        for scenario, amount in row.amounts.items()
    }
    return {"part": row.part, "work": row.work, "role": row.role, "model": row.model, **amounts}
