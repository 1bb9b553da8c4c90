from __future__ import annotations

from dataclasses import replace

import pytest

from duologue.conversation import Reaction
from duologue.metrics import Score, satisfaction
from scripted_world import GOAL, OPENING


async def satisfied_with(annoyance: float, limit: float) -> Score:
    reaction = Reaction(satisfied=False, annoyance=annoyance, limit=limit, leaving=annoyance >= limit)
    return await satisfaction()(replace(OPENING, reaction=reaction), GOAL)


@pytest.mark.parametrize(("annoyance", "expected"), [(0.0, 1.0), (1.0, 0.75), (4.0, 0.0), (9.0, 0.0)])
async def test_satisfaction_falls_with_annoyance_to_0_at_its_limit(annoyance: float, expected: float) -> None:
    assert (await satisfied_with(annoyance, limit=4.0)).value == expected


async def test_a_user_who_shows_no_reaction_has_no_number_but_a_reason() -> None:
    score = await satisfaction()(OPENING, GOAL)
    assert score.value is None
    assert (
        score.why == "only users that can `react` show their reaction: leave this metric out, or give yours that method"
    )
