from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import pytest

from duologue.conversation import Conversation, Goal, Request
from duologue.errors import MissingDependency, ModelError, RecipeError
from duologue.metrics import (
    Extractor,
    Metric,
    Score,
    Supplies,
    Weighted,
    bleu,
    bleu_over_floor,
    chrf,
    chrf_over_floor,
    length_ratio,
)
from duologue.metrics.bleu import library as words_library, word_bleu
from duologue.metrics.chrf import library as characters_library
from duologue.metrics.overlap import Floor, words
from replying_model import copied, replying

UNRELATED = {
    "bees": (
        "A hive in spring is a noisy place. The queen lays more than a thousand eggs a day, and the workers that "
        "hatched in autumn are too few and too tired to feed all the larvae that follow. A keeper who opens the box "
        "on the first warm afternoon looks for three things: fresh eggs, which mean that the queen is alive, a band "
        "of capped honey along the top bars, and enough empty comb for what is to come. If the stores are thin, a "
        "bag of sugar dough on the frames carries the colony over a cold week. If the comb is full, the bees will "
        "soon think of leaving, and a second box has to go on at once. Nothing else needs doing. Most of the harm "
        "that is done to bees in April is done by people who cannot leave the lid closed, because every look costs "
        "the brood an hour of warmth."
    ),
    "tax": (
        "The town raised its parking fees in January, and by June the shops along the river had made up their minds "
        "about it. Takings fell by nine percent in the first quarter, said the florist, who keeps careful books. The "
        "baker disagreed: people still buy bread, they only stay for less time. What the council had promised was a "
        "bus every ten minutes, paid for by the meters. It came in May, runs every quarter of an hour, and is empty "
        "after six. Some of those who voted for the plan now want the first half hour to be free. Others point at "
        "the air, which was measured again last week beside the bridge and was cleaner than in any summer since the "
        "station was put up. A vote is due in autumn. Until then nobody expects the quarrel to end, or the flower "
        "boxes to be watered."
    ),
    "piano": (
        "My grandmother taught me to play with a coin on the back of each hand. If one fell, we began again, and in "
        "the first winter I heard nothing but coins. She had learnt it so herself, from a teacher who had once "
        "turned pages for someone famous and spoke of little else. I hated the exercise and loved the room: the "
        "smell of wax, the photographs, the cat that slept on the strings until the lowest octave woke it. Years "
        "later I gave lessons to pay my rent. I never used coins. Yet whenever a pupil hurried, I saw my own hands, "
        "stiff and still above the keys, and understood what she had been after. It was not posture. She wanted me "
        "to listen for the one sound that would tell me that I had stopped listening, and there is hardly a louder "
        "one than money on a wooden floor."
    ),
    "ferry": (
        "The last ferry leaves at ten, and if you miss it there is only the road around the lake, forty miles of it, "
        "with deer. I have missed it twice. The first time I slept in the car with a newspaper over my knees and "
        "woke to frost on the inside of the glass. The second time an old man who was mending nets under a lamp "
        "asked where I had to be and, without waiting for an answer, pulled the cover off his boat. We crossed in "
        "the dark, he steering by the church and I holding a torch that lit nothing. Halfway over he switched off "
        "the engine so that I could hear how quiet it was. He took no money. When I came back in the summer with a "
        "bottle to thank him, the shed was locked, and the woman at the kiosk said that he had moved to his daughter "
        "in the city, and hated it."
    ),
}
"""Of one length, as near as makes no difference."""

Make = Callable[[Extractor], Metric]

BEES = Goal("bees", Request("You want a text about bees."), UNRELATED["bees"])
GOALS = [Goal(name, Request("You want a text."), UNRELATED[name]) for name in ("bees", "tax", "piano")]
TALK = Conversation().said("write it .").replied("here it is : …")


def over(metric: Callable[..., Metric]) -> Make:
    """A metric over the floor of `GOALS`."""
    return lambda extract: metric(extract, GOALS)


async def scored(make: Make, text: str | None, goal: Goal = BEES) -> Score:
    """What a metric says where a text is what the assistant gave."""
    talk = TALK if text is None else TALK.said("and now ?").replied(text)
    return await make(Extractor(replying(copied(text))))(talk, goal)


async def value(make: Make, text: str | None, goal: Goal = BEES) -> float:
    score = await scored(make, text, goal)
    assert score.value is not None, score.why
    return score.value


def character_bleu(text: str, reference: str) -> float:
    """As in the code that was released with CollabLLM: a sequence of characters where one of words belongs."""
    from sacrebleu.metrics.bleu import BLEU

    characters = (" ".join("_" if each == " " else each for each in string) for string in (text, reference))
    return BLEU(tokenize="none", effective_order=True).sentence_score(next(characters), [*characters]).score / 100


# ---- unrelated texts


def test_unrelated_texts_of_one_length_score_near_zero_on_words_and_above_a_third_on_characters() -> None:
    pairs = list(permutations(UNRELATED.values(), 2))
    lengths = [len(text.split()) for text in UNRELATED.values()]
    assert max(lengths) < 1.1 * min(lengths)
    assert max(word_bleu(*pair) for pair in pairs) < 0.03
    assert min(character_bleu(*pair) for pair in pairs) > 0.35


def test_in_a_script_without_spaces_every_character_is_a_word() -> None:
    reference = "会议在周一上午九点开始,请大家准时到三楼的会议室。"
    assert word_bleu(reference, reference) == 1.0
    assert 0.5 < word_bleu("会议在周二上午九点开始,请大家准时到三楼的会议室。", reference) < 0.95
    assert word_bleu("猫坐在窗边看着外面慢慢落下来的雪,一动也不动。", reference) < 0.05
    assert words("会议在周一") == 5 and words("the meeting is on Monday") == 5


async def test_what_unrelated_texts_score_is_taken_off() -> None:
    assert await value(chrf, UNRELATED["ferry"]) > 0.2
    for metric in (bleu_over_floor, chrf_over_floor):
        assert await value(over(metric), UNRELATED["ferry"]) == pytest.approx(0.0, abs=0.03)


async def test_another_goal_s_text_scores_below_the_floor() -> None:
    assert await value(over(bleu_over_floor), UNRELATED["tax"]) < -0.3


# ---- right, and wrong in known ways


@pytest.mark.parametrize("make", [bleu, chrf, length_ratio])
async def test_the_reference_itself_scores_one(make: Make) -> None:
    assert await value(make, BEES.reference) == pytest.approx(1.0)


async def test_over_the_floor_the_reference_scores_nearly_one() -> None:
    assert 0.95 < await value(over(bleu_over_floor), BEES.reference) < 1.0


@pytest.mark.parametrize("make", [bleu, chrf, length_ratio, over(bleu_over_floor), over(chrf_over_floor)])
async def test_no_text_scores_zero(make: Make) -> None:
    assert await scored(make, None) == Score(0.0)


async def test_a_text_that_is_cut_loses_more_than_its_missing_half() -> None:
    half = BEES.reference[: len(BEES.reference) // 2]
    assert 0.0 < await value(bleu, half) < 0.45
    assert await value(length_ratio, half) == pytest.approx(0.5, abs=0.05)


async def test_a_text_that_is_drawn_out_loses_though_all_is_said() -> None:
    assert 0.35 < await value(bleu, f"{BEES.reference} {UNRELATED['piano']}") < 0.6


async def test_the_same_in_other_words_scores_like_something_else() -> None:
    goal = replace(BEES, reference="The meeting was put off until Friday because two of us were ill.")
    assert await value(bleu, "As a pair of colleagues had fallen sick, our session comes some days later.", goal) < 0.05


async def test_a_reference_may_be_the_text_of_an_object() -> None:
    goal = replace(BEES, reference={"title": "Bees", "text": BEES.reference})
    assert await value(bleu, BEES.reference, goal) == pytest.approx(1.0)


# ---- failures


@pytest.mark.parametrize("make", [bleu, chrf, length_ratio, over(bleu_over_floor), over(chrf_over_floor)])
async def test_a_failed_extraction_is_no_number(make: Make) -> None:
    score = await make(Extractor(replying(ModelError("out of order"))))(TALK, BEES)
    assert score.value is None
    assert "out of order" in (score.why or "")


@pytest.mark.parametrize("make", [bleu, chrf, length_ratio, over(bleu_over_floor), over(chrf_over_floor)])
async def test_a_reference_without_a_text_is_no_number(make: Make) -> None:
    score = await scored(make, "some text", replace(BEES, reference={"answer": 7}))
    assert score.value is None
    assert 'its reference is no text, and has no "text"' in (score.why or "")


def test_a_floor_without_other_goals_is_refused_before_anything_is_played() -> None:
    supplies = Supplies(judge=replying(""), goals=[BEES, Goal("bread", Request("You want bread."))])
    with pytest.raises(RecipeError, match="1 of the task's 2 goals have a text as theirs: it takes 3"):
        Weighted(bleu_over_floor).build(supplies, "bleu-over-floor")


async def test_a_goal_whose_others_are_copies_of_it_has_no_floor() -> None:
    copies = [replace(BEES, id=str(number)) for number in range(3)]
    score = await scored(lambda extract: bleu_over_floor(extract, copies), BEES.reference)
    assert score.value is None
    assert "0 other goals" in (score.why or "")


def test_the_others_are_the_references_nearest_in_length() -> None:
    texts = {str(size): " ".join(f"word{number}" for number in range(size)) for size in (1, 5, *range(90, 111), 900)}
    floor = Floor([Goal(name, Request("write"), text) for name, text in texts.items()])
    others = [len(text.split()) for text in floor.of("100", texts["100"])]
    assert sorted(others) == [96, 97, 98, 99, 101, 102, 103, 104]


@pytest.mark.parametrize("make", [bleu, chrf])
def test_a_missing_library_is_named_with_its_command(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, library in {"bleu": words_library, "chrf": characters_library}.items():
        monkeypatch.setitem(sys.modules, f"sacrebleu.metrics.{module}", None)
        library.cache_clear()
    with pytest.raises(MissingDependency, match=r"pip install 'duologue\[tasks\]'"):
        make(Extractor(replying("")))
