"""Whether an endpoint keeps seeds: the same call twice, and once with another seed.

`duologue doctor` asks every model of a recipe. An evaluation whose users behave in pairs (`Recipe.counterparts`) asks
those that play in it, once, when all is played: where one keeps no seeds, a pair shares no luck after the message
at which its users part, and the evaluation says so. One call after the other shows what a server does; under load it
may do worse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.errors import DuologueError
from duologue.journal import Journal
from duologue.models.base import Sampling
from duologue.models.settings import EndpointSettings
from duologue.recipe import Recipe, Role
from duologue.run.endpoints import open_endpoint
from duologue.run.folder import fingerprint

if TYPE_CHECKING:
    from duologue.models.calls import Calls
    from duologue.models.endpoint_model import EndpointModel

ROOM = 512
"""Tokens that a reply may have."""
QUESTION = Message("user", "Write ten random words.")
UNPAIRED = "Warning: effects: "
"""What a note begins with that says that effects are not paired."""
LOCAL = "effects: a pair shares its luck to the end, for no endpoint plays in it: effects are paired."
UNASKED = (
    "effects: whether the servers that play keep seeds was not asked when the parts were merged (`duologue doctor` "
    "does): where one ignores them, effects are unpaired from the message on at which a behaviour is switched on."
)


class Kept(NamedTuple):
    """What three calls show of a server and its seeds."""

    works: bool | None
    """None where it cannot be told."""
    said: str


class _Player(NamedTuple):
    """A model of an endpoint that plays in pairs."""

    who: str
    place: str
    settings: EndpointSettings
    role: Role


async def keeps_seeds(model: EndpointModel, sampling: Sampling) -> Kept:
    """Whether the same seed brings the same reply, and another one another.

    Raises:
        ModelError, EndpointUnusable, BudgetSpent: a reply could not be had.
    """
    first, again, other = [(await model.reply([QUESTION], seed=seed, sampling=sampling)).text for seed in (3, 3, 4)]
    if "seed" in model.endpoint.unsupported.get(model.name, set()):
        return Kept(False, "it refuses `seed`, so that is left out")
    if first != again:
        return Kept(False, "the same seed gave two replies")
    if sampling.temperature == 0:
        return Kept(True, "the same call gave the same reply, at temperature 0")
    if first == other:
        return Kept(None, "cannot be told: all seeds gave the same reply")
    return Kept(True, "the same seed gave the same reply, another one another")


def pairing(recipe: Recipe, ledger: Path, journal: Journal) -> list[str]:
    """How far the effects of an evaluation are paired, a note a role.

    Args:
        ledger: the run's file of calls; what is asked is charged.
        journal: the run's, where a server's answer is kept; one that could not be asked is asked again.
    """
    if not recipe.counterparts:
        return []
    players = _players(recipe)
    if not players:
        return [LOCAL]
    from duologue.models.calls import Calls

    calls = Calls(ledger, budget=recipe.budget, cached=False)
    try:
        with BackgroundLoop() as loop:
            return [_noted(player, calls, journal, loop) for player in players]
    finally:
        calls.close()


def merged_pairing(recipe: Recipe) -> list[str]:
    """The same of an evaluation that was merged from parts: the servers are not asked."""
    if not recipe.counterparts:
        return []
    return [UNASKED] if _players(recipe) else [LOCAL]


def _players(recipe: Recipe) -> list[_Player]:
    """The assistants and the users of pairs that endpoints play, each model and temperature once."""
    found: dict[tuple[str, str, str, float], _Player] = {}
    for who, role in _roles(recipe):
        endpoint = recipe.endpoint(role)
        if endpoint is not None:
            place, settings = endpoint
            found.setdefault((who, place, role.model, role.temperature), _Player(who, place, settings, role))
    return list(found.values())


def _roles(recipe: Recipe) -> Iterator[tuple[str, Role]]:
    for name in recipe.evaluate.arms:
        yield "assistant", recipe.arm(name).assistant
    kinds: Mapping[str, Role] = recipe.kinds_of_users
    for behaving, plain in recipe.counterparts.items():
        yield from (("user", kinds[name]) for name in (plain, behaving))


def _noted(player: _Player, calls: Calls, journal: Journal, loop: BackgroundLoop) -> str:
    """The note on one, as it was recorded, or asked for now."""
    served = player.role.model_dump(mode="json", include={"model", "temperature", "max_tokens", "stop"})
    key = f"seeds/{fingerprint({'who': player.who, 'place': player.place, **served})}"
    server = f"the server that plays the {player.who} ({player.place}, {player.role.model})"
    if key not in journal:
        try:
            kept = loop.run(_asked(player, calls))
        except DuologueError as error:  # all is played: what could not be asked takes nothing from the figures
            return _said(server, player.role, Kept(None, f"it could not be asked: {error}"))
        journal.append(key, "seeds", kept._asdict())
    return _said(server, player.role, Kept(**journal.entry(key).value))


async def _asked(player: _Player, calls: Calls) -> Kept:
    _, place, settings, role = player
    sampling = Sampling(role.temperature, max_tokens=max(ROOM, role.max_tokens or 0))
    async with open_endpoint(place, settings.model_copy(update={"retries": 1}), calls) as endpoint:
        return await keeps_seeds(endpoint.model(role.model, role="seeds", stop=role.stop), sampling)


def _said(server: str, role: Role, kept: Kept) -> str:
    works, said = kept
    if works is False:
        return (
            f"{UNPAIRED}{server} ignores seeds: the effects of behaviours are unpaired from the message on at which "
            f"one is switched on ({said})."
        )
    if works is None or role.temperature == 0:
        return f"effects: whether {server} keeps seeds cannot be told ({said.removeprefix('cannot be told: ')})."
    return f"effects: {server} keeps seeds ({said}): a pair shares its luck after the behaviour, too."
