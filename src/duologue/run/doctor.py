"""`duologue doctor`: asks every endpoint of a recipe a few small things, and says what to change.

Nothing of it is remembered or charged to the budget.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.errors import DuologueError, RecipeError
from duologue.models.base import Sampling, count_bytes
from duologue.recipe import Recipe, Role
from duologue.run.endpoints import open_endpoint

if TYPE_CHECKING:
    from duologue.models.endpoint import Endpoint, EndpointModel

ROOM = 512
"""Tokens that a reply may have, or more where the role allows it."""
CONTEXTS = ("max_model_len", "context_length", "context_window", "max_context_length")
"""What servers call a model's context where they list their models."""
STRUCTURED = ("user", "judge")
"""Roles that are asked for JSON."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one question brought."""

    endpoint: str
    model: str
    roles: tuple[str, ...]
    question: str
    works: bool | None
    """None where it cannot be told, or does not matter here."""
    said: str
    advice: str | None = None
    """What to change, where something does not work."""


@dataclass(frozen=True)
class _Patient:
    """A model of an endpoint, and the roles it plays."""

    place: str
    role: Role
    roles: tuple[str, ...]

    @property
    def sampling(self) -> Sampling:
        """Replies are drawn at the role's own temperature: some models take no other."""
        return Sampling(self.role.temperature, max_tokens=max(ROOM, self.role.max_tokens or 0))

    def finds(self, question: str, works: bool | None, said: str, advice: str | None = None) -> Finding:
        return Finding(self.place, self.role.model, self.roles, question, works, said, advice)


def examine(recipe: Recipe) -> Iterator[Finding]:
    """Every finding, as it comes.

    Raises:
        RecipeError: the recipe names no endpoint, or the environment lacks a key.
    """
    patients = _patients(recipe)
    if not patients:
        raise RecipeError("the recipe names no endpoint: there is nothing to ask; give a role `endpoint` and `model`")
    with BackgroundLoop() as loop:
        for patient in patients:
            yield from loop.each(_examined(recipe, patient))


def _patients(recipe: Recipe) -> list[_Patient]:
    roles: dict[tuple[str, str], tuple[Role, list[str]]] = {}
    for arm in (recipe, *(recipe.arm(name) for name in recipe.evaluate.arms)):
        for name, role in arm.served.items():
            found = arm.endpoint(role)
            if found is not None:
                _, names = roles.setdefault((found[0], role.model), (role, []))
                names += [name] if name not in names else []
    return [_Patient(place, role, tuple(names)) for (place, _), (role, names) in roles.items()]


async def _examined(recipe: Recipe, patient: _Patient) -> AsyncGenerator[Finding]:
    async with _opened(recipe, patient.role) as endpoint:
        counted: list[str] = []

        def counter(text: str) -> int:
            counted.append(text)
            return count_bytes(text)

        model = endpoint.model(patient.role.model, role="doctor", stop=patient.role.stop, counter=counter)
        try:
            yield await _answers(patient, model)
            yield _counts(patient, not counted)
            yield await _fills_forms(patient, model)
            yield await _keeps_seeds(patient, endpoint, model)
            yield _context(patient, await endpoint.listed())
        except DuologueError as error:
            yield patient.finds("answers", False, str(error), "put that right, and ask again")


@asynccontextmanager
async def _opened(recipe: Recipe, role: Role) -> AsyncGenerator[Endpoint]:
    found = recipe.endpoint(role)
    assert found is not None, "a patient has an endpoint"
    place, settings = found
    async with open_endpoint(place, settings.model_copy(update={"retries": 1})) as endpoint:
        yield endpoint


async def _answers(patient: _Patient, model: EndpointModel) -> Finding:
    began = perf_counter()
    reply = await model.reply([Message("user", "Reply with the word yes.")], seed=1, sampling=patient.sampling)
    took = f"in {perf_counter() - began:.2f} s"
    if not reply.text.strip():
        room = patient.sampling.max_tokens
        advice = f"a model that thinks needs more room than {room} tokens: raise max_tokens, or have it think less"
        return patient.finds("answers", False, f"an empty reply {took}, ended by {reply.finish}", advice)
    return patient.finds("answers", True, took)


def _counts(patient: _Patient, counts: bool) -> Finding:
    if counts:
        return patient.finds("counts tokens", True, "usage comes with the reply")
    said = "no usage: tokens are taken to be bytes over 4"
    return patient.finds("counts tokens", False, said, "do not rely on cost and budget, or have the server count")


async def _fills_forms(patient: _Patient, model: EndpointModel) -> Finding:
    from duologue.models.structured import Form, ask

    class Sum(Form):
        evidence: str
        total: int

    question = "How much is 19 and 23? Reply in JSON."
    form = ' The object: {"evidence": "how you got there", "total": the number}'
    plain, told = [Message("user", question)], [Message("user", question + form)]
    if (await ask(model, plain, Sum, seed=2, sampling=patient.sampling, attempts=1)).value is not None:
        return patient.finds("fills in forms", True, "the server holds replies to the form")
    answer = await ask(model, told, Sum, seed=2, sampling=patient.sampling)
    if answer.value is not None:
        said = "the model keeps to the form, the server does not see to it: some replies are asked for again"
        return patient.finds("fills in forms", True, said)
    needed = any(name.startswith(STRUCTURED) for name in patient.roles)
    judges = any(name == "judge" for name in patient.roles)
    advice = "take another model to judge" if judges else "set thinks = false for the user" if needed else None
    return patient.finds("fills in forms", False if needed else None, answer.why or "no", advice)


async def _keeps_seeds(patient: _Patient, endpoint: Endpoint, model: EndpointModel) -> Finding:
    question = [Message("user", "Write ten random words.")]
    first, again, other = [
        (await model.reply(question, seed=seed, sampling=patient.sampling)).text for seed in (3, 3, 4)
    ]
    advice = "runs are repeatable through what is remembered (calls.sqlite) alone"
    if "seed" in endpoint.unsupported.get(patient.role.model, set()):
        return patient.finds("keeps seeds", False, "it refuses `seed`, so that is left out", advice)
    if first != again:
        return patient.finds("keeps seeds", False, "the same seed gave two replies", advice)
    if patient.role.temperature == 0:
        return patient.finds("keeps seeds", True, "the same call gave the same reply, at temperature 0")
    if first == other:
        return patient.finds("keeps seeds", None, "cannot be told: all seeds gave the same reply")
    return patient.finds("keeps seeds", True, "the same seed gave the same reply, another one another")


def _context(patient: _Patient, listed: Mapping[str, Mapping[str, Any]]) -> Finding:
    if listed and patient.role.model not in listed:
        return patient.finds("context", None, f"it lists other models: {', '.join(sorted(listed))[:200]}")
    about = listed.get(patient.role.model, {})
    size = next((about[name] for name in CONTEXTS if isinstance(about.get(name), int)), None)
    if size is None:
        return patient.finds("context", None, "the server does not say how long it is")
    return patient.finds("context", True, f"{size:,} tokens")
