"""What a recipe will take, before anything of it is started: calls, tokens, GPU hours, money.

The recipe's work is played with stand-ins, a little of each kind (`duologue.run.rehearsal`), and counted as often as
the recipe has it; three times, with short messages, expected ones and long ones (`duologue.run.speech`).

Tokens become GPU hours by the parameters N of a model: 2·N floating point operations a token that it reads or writes,
6·N a token that it learns (Kaplan et al., arXiv 2001.08361, section 2.1), of which the 2·N for the gradient of the
weights go where they are frozen beside an adapter; and 2·N more, since activations are computed twice on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from duologue.errors import RecipeError, nearest
from duologue.metrics.base import Counter
from duologue.models import BUILT_IN
from duologue.models.base import Usage, count_bytes
from duologue.models.budget import Price
from duologue.recipe import Recipe
from duologue.run.check import check
from duologue.run.parts import Learning, Part, parts
from duologue.run.speech import SCENARIOS
from duologue.run.stand_ins import Use, Who
from duologue.run.wiring import is_scripted, named_counter, quieten_transformers

DECODING = 0.25
"""Share of `Hardware.utilisation` that is reached where tokens are written one after the other: reading the weights
from memory takes longest. A guess: `tokens_per_second` is better."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What computes, and what it costs."""

    flops: float = 3.12e14
    """Floating point operations a second of a GPU at most: an A100's, in bf16, by its data sheet."""
    utilisation: float = 0.4
    """Share of them that training and reading reach."""
    tokens_per_second: float | None = None
    """That a GPU writes, of the assistant's model; left out, a quarter of that share."""
    price: float | None = None
    """Of a GPU's hour."""
    sizes: Mapping[str, float] = field(default_factory=dict[str, float])
    """Parameters by model."""

    def __post_init__(self) -> None:
        """Check the numbers, by the names of their options.

        Raises:
            RecipeError: one is not finite, or could not be.
        """
        speeds = {"gpu-flops": self.flops, "utilisation": self.utilisation, "tokens-per-second": self.tokens_per_second}
        for option, number in speeds.items():
            if number is not None and not 0 < number < math.inf:
                raise RecipeError(f"--{option} {number:g}: give a number above 0")
        if self.utilisation > 1:
            raise RecipeError(f"--utilisation {self.utilisation:g}: it is a share: give 1 at most")
        if self.price is not None and not 0 <= self.price < math.inf:
            raise RecipeError(f"--gpu-price {self.price:g}: give 0 or a number above it")


@dataclass(frozen=True, slots=True)
class Amount:
    """What is asked of a model in one part of the work."""

    use: Use
    gpu_hours: float | None
    """None where the model's size is not known; nothing where others pay for the GPU."""
    money: float


@dataclass(frozen=True, slots=True)
class Row:
    """A model's share of a part, by scenario."""

    part: str
    work: str
    role: str
    """"assistant", "user", "judge"; or "learning", whose tokens are those that the training computes on."""
    model: str
    amounts: Mapping[str, Amount]


def estimate(recipe: Recipe, hardware: Hardware) -> list[Row]:
    """The rows of a recipe's bill, in the order of its work.

    Raises:
        RecipeError, DataError, MissingDependency: something that the recipe names cannot be had; or a size is given
            of a model that it does not name.
    """
    check(recipe, recipe.evaluate.arms)
    _check_sizes(recipe, hardware.sizes)
    hardware = _sized(recipe, hardware)
    counter = lru_cache(maxsize=2**16)(_counter(recipe))
    found: dict[tuple[str, str, str, str], dict[str, Amount]] = {}
    for scenario, lengths in SCENARIOS.items():
        for part in parts(recipe, lengths, counter):
            for who, amount in _amounts(recipe, part, hardware):
                found.setdefault((part.name, part.work, *who), {})[scenario] = amount
    nothing = dict.fromkeys(SCENARIOS, Amount(Use(), 0.0, 0.0))
    return [Row(*place, _in_order({**nothing, **amounts})) for place, amounts in found.items()]


def _in_order(amounts: Mapping[str, Amount]) -> dict[str, Amount]:
    """With the low and the high figures on either side of the expected one: scripts do not differ in all alike."""
    every = list(amounts.values())
    return {"low": _each(min, every), "expected": amounts["expected"], "high": _each(max, every)}


def _each(choose: Callable[[Iterable[float]], float], amounts: Sequence[Amount]) -> Amount:
    uses = [amount.use for amount in amounts]
    use = Use(*(choose(numbers) for numbers in zip(*map(astuple, uses), strict=True)))
    hours = [amount.gpu_hours for amount in amounts if amount.gpu_hours is not None]
    return Amount(use, choose(hours) if hours else None, choose([amount.money for amount in amounts]))


def totals(rows: Sequence[Row]) -> list[Row]:
    """The sums of rows by role and model."""
    found: dict[Who, list[Row]] = {}
    for row in rows:
        found.setdefault((row.role, row.model), []).append(row)
    return [
        Row("in all", "", role, model, {name: total([row.amounts[name] for row in some]) for name in SCENARIOS})
        for (role, model), some in found.items()
    ]


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum; without GPU hours where one of them has none."""
    amounts = list(amounts)
    hours = [amount.gpu_hours for amount in amounts]
    use = sum((amount.use for amount in amounts), Use())
    known = None if None in hours else sum(hour for hour in hours if hour is not None)
    return Amount(use, known, sum(amount.money for amount in amounts))


# ---- sizes and prices -----------------------------------------------------------------------------------------------


def sizes_given(texts: Sequence[str], assistant: str) -> dict[str, float]:
    """Parameters by model, from "8e9" (the assistant's) or "MODEL=8e9".

    Raises:
        RecipeError: no number, or no finite one above 0.

    >>> sizes_given(["8e9", "Qwen/Qwen3-32B=32.8e9"], "my-model")
    {'my-model': 8000000000.0, 'Qwen/Qwen3-32B': 32800000000.0}
    """
    found: dict[str, float] = {}
    for text in texts:
        model, _, number = text.rpartition("=")
        try:
            size = float(number)
        except ValueError:
            size = 0.0
        if not 0 < size < math.inf:
            raise RecipeError(f"--parameters {text}: write a number like 8e9, or MODEL=8e9 for a model by its name")
        found[model or assistant] = size
    return found


def _check_sizes(recipe: Recipe, sizes: Iterable[str]) -> None:
    recipes = [recipe, *map(recipe.arm, recipe.arms_at_work)]
    known = {role.model for each in recipes for role in (each.assistant, *each.served.values())}
    for model in sizes:
        if model not in known:
            raise RecipeError(f'--parameters: the recipe has no model "{model}"{nearest(model, known)}')


def _sized(recipe: Recipe, hardware: Hardware) -> Hardware:
    """With the sizes that models' configs on this machine tell, where they were not given."""
    local = {arm.assistant.model for arm in map(recipe.arm, recipe.evaluate.arms) if arm.assistant.endpoint is None}
    unknown = [model for model in local if model not in hardware.sizes and not is_scripted(model) and model != "new"]
    sizes = {model: size for model in unknown if (size := _size(model)) is not None}
    return replace(hardware, sizes={**sizes, **hardware.sizes})


def _size(model: str) -> int | None:
    """The parameters of a model whose config is on this machine; None where it is not."""
    try:
        quieten_transformers()
    except ImportError:
        return None
    from duologue.models.size import blueprint, parameters

    found = blueprint(model)
    return None if found is None else parameters(found)


def _counter(recipe: Recipe) -> Counter:
    """How tokens are counted: by a tokenizer that the recipe names, or that of a model in a folder; else by bytes."""
    named, model = named_counter(recipe), recipe.assistant.model
    if named is not None:
        return named
    if recipe.assistant.endpoint is None and (model in BUILT_IN or Path(model).is_dir()):
        quieten_transformers()
        from duologue.models.local import load_counter

        return load_counter(model)
    return count_bytes


def _amounts(recipe: Recipe, part: Part, hardware: Hardware) -> Iterable[tuple[Who, Amount]]:
    for (role, model), use in part.uses.items():
        price = _price(recipe, role, model)
        money = Price() if price is None else price
        cost = money.of(Usage(round(use.read), round(use.written)))
        paid = price is not None and (price.input > 0 or price.output > 0)
        yield (role, model), Amount(use, 0.0 if paid else _playing(use, price is None, model, hardware), cost)
    if part.learning.learned:
        use = Use(read=part.learning.learned + part.learning.appraised)
        yield ("learning", part.model), Amount(use, _learning(part.learning, part.model, hardware), 0.0)


def _price(recipe: Recipe, role: str, model: str) -> Price | None:
    """What a model's tokens cost in a role; None where it is no endpoint's."""
    recipes = [recipe, *map(recipe.arm, recipe.arms_at_work)]
    for name, served in ((name, served) for each in recipes for name, served in each.served.items()):
        if served.model == model and _role(name) == role:
            found = recipe.endpoint(served)
            return None if found is None else Price(found[1].price.input, found[1].price.output)
    return None


def _role(name: str) -> str:
    """ "evaluate.users.unseen" → "user"."""
    first, _, rest = name.partition(".")
    return first if first != "evaluate" else "user" if rest.startswith("users") else "judge"


def _playing(use: Use, here: bool, model: str, hardware: Hardware) -> float | None:
    """GPU hours of reading and writing. In this process what was read stays read; of servers that is not known."""
    size = hardware.sizes.get(model)
    if size is None:
        return None
    speed = hardware.flops * hardware.utilisation
    reading = 2 * size * (use.fresh if here else use.read) / speed
    if here and hardware.tokens_per_second is not None:
        return (reading + use.written / hardware.tokens_per_second) / 3600
    return (reading + 2 * size * use.written / (speed * DECODING)) / 3600


def _learning(learning: Learning, model: str, hardware: Hardware) -> float | None:
    size = hardware.sizes.get(model)
    if size is None:
        return None
    operations = (6 if learning.adapter else 8) * learning.learned + 2 * learning.appraised
    return size * operations / (hardware.flops * hardware.utilisation) / 3600
