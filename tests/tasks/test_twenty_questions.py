"""Twenty questions: truthful users without memory, fair figures, assistants worth learning from."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, strategies as st

from duologue.conversation import Conversation, Ending, Goal, Message, Request
from duologue.errors import DataError
from duologue.metrics import Supplies
from duologue.reward import Scorer
from duologue.simulation import Assistant, converse
from duologue.tasks.base import Task
from duologue.tasks.twenty_questions import TASK, words
from duologue.tasks.twenty_questions.assistants import MIXTURE, STYLES
from duologue.tasks.twenty_questions.figures import FIGURES
from duologue.tasks.twenty_questions.goals import held_out
from duologue.tasks.twenty_questions.objects import (
    ALL_OBJECTS,
    ATTRIBUTE_INDEX,
    ATTRIBUTES,
    CODES,
    OBJECT_INDEX,
    OBJECTS,
    best_splits,
    objects_with,
    phrase,
)
from duologue.tasks.twenty_questions.reading import Move, follow, read_answer, read_facts, read_reply
from duologue.tasks.twenty_questions.user import Profile, Thinker, familiar_habits, unseen_habits
from duologue.tasks.twenty_questions.wording import PROMPTS, TRAIN, UNSEEN, Wording, ask, guess
from duologue.users.scripted import fixed_words

FACTS_OF_A_COW = tuple(phrase(a, bool(CODES[OBJECT_INDEX["cow"]] >> a & 1)) for a in range(len(ATTRIBUTES)))


def goal_of(name: str, volunteered: tuple[str, ...] = ()) -> Goal:
    return Goal("g", Request("guess it", {"object": name, "volunteered": volunteered}), name)


def thinker(
    name: str, volunteered: tuple[str, ...] = (), profile: Profile | None = None, wording: Wording = TRAIN
) -> Thinker:
    return Thinker(goal_of(name, volunteered).request, profile or Profile(9), wording)


def talk(*texts: str) -> Conversation:
    """User and assistant by turns, the user first."""
    roles = ("user", "assistant")
    return Conversation(tuple(Message(roles[i % 2], text) for i, text in enumerate(texts)))  # pyright: ignore[reportArgumentType]


def say(user: Thinker, conversation: Conversation, seed: int = 0) -> str:
    return asyncio.run(user.speak(conversation, seed=seed)).text


def play(style: str, count: int, task: Task = TASK, split: str = "test") -> list[tuple[Conversation, Goal]]:
    async def one(index: int, goal: Goal) -> tuple[Conversation, Goal]:
        assistant = Assistant(task.scripted[style])
        return await converse(assistant, task.user(goal.request, index), seed=index, turns=task.turn_limit), goal

    async def all_of_them() -> list[tuple[Conversation, Goal]]:
        return [await one(i, goal) for i, goal in enumerate(task.goals(split)[:count])]

    return asyncio.run(all_of_them())


def figure(name: str, played: list[tuple[Conversation, Goal]]) -> float:
    shares = [FIGURES[name](conversation, goal) for conversation, goal in played]
    return sum(s.count for s in shares) / sum(s.base for s in shares)


# What there is to guess


def test_every_object_has_a_code_of_its_own() -> None:
    assert len(OBJECTS) == 32
    assert len(ATTRIBUTES) == 8
    assert len(set(CODES)) == 32


def test_six_questions_are_enough() -> None:
    def depth(objects: int) -> int:
        best = best_splits(objects)
        if not best:
            return 0
        bit = 1 << best[0]
        return 1 + max(depth(objects & objects_with(bit, bit)), depth(objects & objects_with(bit, 0)))

    assert depth(ALL_OBJECTS) == 6


# Reading


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("is it big ?", Move(False, ATTRIBUTE_INDEX["big"])),
        ("is it a cow ?", Move(True, OBJECT_INDEX["cow"])),
        ("Is it a COW?", Move(True, OBJECT_INDEX["cow"])),
        ("is it big", Move(False, ATTRIBUTE_INDEX["big"])),
        ("is it nice ? is it loud ? is it a cow ?", Move(False, ATTRIBUTE_INDEX["loud"])),
        ("is it a dog ? is it a cow ?", Move(True, OBJECT_INDEX["dog"])),
        ("it is a cow .", None),
        ("is it", None),
        ("", None),
        ("cow big ? ? a", None),
    ],
)
def test_a_reply_is_its_first_question_or_guess(text: str, move: Move | None) -> None:
    assert read_reply(text) == move


@pytest.mark.parametrize("wording", [TRAIN, UNSEEN])
def test_every_answer_can_be_read(wording: Wording) -> None:
    for texts, answer in ((wording.yes, True), (wording.no, False)):
        assert [read_answer(text) for text in texts] == [answer] * len(texts)
    big = 1 << ATTRIBUTE_INDEX["big"]
    for texts, values in ((wording.yes_echo, big), (wording.no_echo, 0)):
        assert [read_facts(text.format(x="big")) for text in texts] == [(big, values)] * len(texts)
    for texts, values in ((wording.already, 0), (wording.further, 0)):
        assert [read_facts(text.format(x="not big")) for text in texts] == [(big, values)] * len(texts)


def test_a_further_fact_does_not_turn_an_answer() -> None:
    known = follow(talk("guess .", "is it big ?", "yes . and it is not loud .").messages).known
    big, loud = ATTRIBUTE_INDEX["big"], ATTRIBUTE_INDEX["loud"]
    assert (known.said, known.values) == (1 << big | 1 << loud, 1 << big)


def test_an_answer_that_says_nothing_leaves_the_question_open() -> None:
    known = follow(talk("guess .", "is it big ?", "hm ?").messages).known
    assert known.said == 0
    assert known.possible == ALL_OBJECTS


# Users


@pytest.mark.parametrize("wording", [TRAIN, UNSEEN])
@pytest.mark.parametrize("echo", [0.0, 1.0])
def test_answers_are_true(wording: Wording, echo: float) -> None:
    for index, name in enumerate(OBJECTS):
        user = thinker(name, profile=Profile(9, echo=echo, further=0.5), wording=wording)
        for attribute in range(len(ATTRIBUTES)):
            conversation = talk("guess .", ask(attribute))
            known = follow(conversation.said(say(user, conversation, seed=index)).messages).known
            assert known.said >> attribute & 1
            assert known.values == CODES[index] & known.said


def test_volunteered_facts_are_said_first_and_are_true() -> None:
    for index, goal in enumerate(TASK.goals("train")[:300]):
        for task in (TASK, TASK.with_profile("unseen")):
            opening = asyncio.run(task.user(goal.request, index).speak(Conversation(), seed=index)).text
            said, values = read_facts(opening)
            assert said.bit_count() == len(goal.request.facts["volunteered"])
            assert values == CODES[OBJECT_INDEX[goal.reference]] & said


def test_a_user_says_the_same_twice() -> None:
    task = TASK.with_profile("unseen-habits")
    for conversation, goal in play("redundant", 40, task):
        user = task.user(goal.request, 7)
        for length in range(0, len(conversation.messages), 2):
            prefix = conversation.truncated(length)
            first = asyncio.run(user.speak(prefix, seed=length))
            asyncio.run(user.speak(conversation, seed=0))
            assert first == asyncio.run(user.speak(prefix, seed=length))


def test_a_conversation_continued_from_any_prefix_goes_on_the_same() -> None:
    goal = TASK.goals("test")[0]
    assistant, user = Assistant(TASK.scripted["mixed"]), TASK.user(goal.request, 3)
    whole = asyncio.run(converse(assistant, user, seed=3))
    for length in range(0, len(whole.messages) - 1, 2):
        again = asyncio.run(converse(assistant, user, whole.truncated(length), seed=3))
        assert again.messages == whole.messages


def test_the_right_guess_satisfies() -> None:
    user, conversation = thinker("cow"), talk("guess .", "is it a cow ?")
    assert asyncio.run(user.speak(conversation, seed=0)).ending is Ending.SATISFIED
    reaction = user.react(conversation)
    assert (reaction.satisfied, reaction.annoyance, reaction.leaving) == (True, 0.0, False)


@pytest.mark.parametrize(
    ("texts", "annoyance"),
    [
        (("guess .", "is it a dog ?"), 0.5),
        (("guess .", "is it a dog ?", "no .", "is it a dog ?"), 1.5),
        (("guess .", "is it big ?"), 0.0),
        (("guess .", "is it big ?", "yes .", "is it big ?"), 1.0),
        (("it is big .", "is it big ?"), 1.0),
        (("guess .", "hello there"), 1.0),
        (("guess .", ""), 1.0),
    ],
)
def test_what_annoys(texts: tuple[str, ...], annoyance: float) -> None:
    assert thinker("cow").react(talk(*texts)).annoyance == annoyance


def test_a_needless_question_is_answered_with_a_reminder() -> None:
    guessed_twice = talk("guess .", "is it a dog ?", "no .", "is it a dog ?")
    assert say(thinker("cow"), guessed_twice) in {text.format(x="not a dog") for text in TRAIN.already}
    assert say(thinker("cow"), talk("it is big .", "is it big ?")) in {text.format(x="big") for text in TRAIN.already}


def test_nonsense_puzzles() -> None:
    assert say(thinker("cow"), talk("guess .", "blah")) in TRAIN.puzzled


def test_users_leave_after_four_wrong_guesses_three_annoyances_or_their_patience() -> None:
    wrong = [text for name in ("dog", "cat", "fish", "tree") for text in ("no .", f"is it a {name} ?")]
    nonsense = ["what ?", "x"] * 3
    questions = [text for i in range(9) for text in ("sorry ?", ask(i % 8))]
    user = thinker("cow", profile=Profile(patience=9))
    for texts in (wrong, nonsense, questions):
        assert user.react(talk(*texts)).leaving
        assert not user.react(talk(*texts[:-2])).leaving
        assert asyncio.run(user.speak(talk(*texts), seed=0)).ending is Ending.LEFT


@given(st.lists(st.text(max_size=30), max_size=8), st.integers(0, 100))
def test_any_text_at_all_is_answered(texts: list[str], seed: int) -> None:
    user = thinker("cow")
    conversation = talk(*texts) if len(texts) % 2 == 0 else talk(*texts, "")
    assert say(user, conversation, seed)
    assert user.react(conversation).annoyance >= 0.0


@given(st.lists(st.sampled_from([*map(ask, range(8)), *map(guess, range(6)), "what"]), max_size=8))
def test_annoyance_never_falls_and_satisfaction_stays(replies: list[str]) -> None:
    user, conversation, annoyance, satisfied = thinker("bear"), Conversation(), 0.0, False
    for reply in replies:
        conversation = conversation.said(say(user, conversation)).replied(reply)
        reaction = user.react(conversation)
        assert reaction.annoyance >= annoyance
        assert reaction.satisfied >= satisfied
        annoyance, satisfied = reaction.annoyance, reaction.satisfied


def test_a_request_without_a_known_object_is_refused() -> None:
    with pytest.raises(DataError, match='did you mean "cow"'):
        TASK.user(Request("guess", {"object": "cov"}), 0)
    with pytest.raises(DataError, match="no attribute"):
        TASK.user(Request("guess", {"object": "cow", "volunteered": ("not bit",)}), 0)


# Unseen users


def test_unseen_templates_are_new_but_their_words_are_not() -> None:
    assert not TRAIN.templates & UNSEEN.templates
    known = fixed_words([*TRAIN.templates, ask(0), guess(0), *PROMPTS.values()])
    assert fixed_words(UNSEEN.templates) <= known


def test_unseen_users_never_say_what_a_training_user_says_first() -> None:
    openings = {TRAIN.open((), generator) for generator in _generators()}
    assert not openings & {UNSEEN.open((), generator) for generator in _generators()}


def test_no_training_user_has_an_unseen_habit() -> None:
    familiar = [familiar_habits(generator) for generator in _generators()]
    strange = [unseen_habits(generator) for generator in _generators()]
    for habit in ("patience", "wrong_guesses", "echo", "further"):
        assert not {getattr(p, habit) for p in familiar} & {getattr(p, habit) for p in strange}


def test_habits_and_wording_are_told_apart() -> None:
    request = TASK.goals("test")[0].request
    users = {name: TASK.with_profile(name).user(request, 5) for name in TASK.profiles}
    read_off = {name: (u.profile, u.wording) for name, u in users.items() if isinstance(u, Thinker)}
    assert read_off["unseen-habits"] == (read_off["unseen"][0], TRAIN)
    assert read_off["unseen-wording"] == (read_off["train"][0], UNSEEN)


def _generators() -> list[Random]:
    return [Random(seed) for seed in range(200)]


# Goals


def test_goals_are_always_the_same_with_ids_of_their_own() -> None:
    assert [len(TASK.goals(split)) for split in ("train", "test")] == [10_000, 2_500]
    assert TASK.goals("train")[0].id == "twenty-questions-train-00001"
    assert TASK.goals("test") is TASK.goals("test")
    ids = [goal.id for split in ("train", "test") for goal in TASK.goals(split)]
    assert len(set(ids)) == len(ids)


def test_every_object_is_in_both_splits_and_no_partial_combination_is() -> None:
    seen = {split: Counter(TASK.cluster(g) for g in TASK.goals(split)) for split in ("train", "test")}
    assert set(seen["train"]) == set(seen["test"]) == set(OBJECTS)
    partial = {
        split: {
            (g.reference, frozenset(g.request.facts["volunteered"]))
            for g in TASK.goals(split)
            if len(g.request.facts["volunteered"]) == 3
        }
        for split in ("train", "test")
    }
    assert partial["test"]
    assert not partial["train"] & partial["test"]


def test_shares_of_what_is_volunteered() -> None:
    counts = Counter(len(g.request.facts["volunteered"]) for g in TASK.goals("train"))
    assert counts[0] / 10_000 == pytest.approx(0.6, abs=0.02)
    assert counts[3] / 10_000 == pytest.approx(0.2, abs=0.02)
    assert counts[8] / 10_000 == pytest.approx(0.2, abs=0.02)


def test_demonstrations_tell_more_and_no_held_out_combination() -> None:
    assert TASK.demonstration_goals is not None
    goals = TASK.demonstration_goals()
    assert sum(len(g.request.facts["volunteered"]) == 8 for g in goals) / len(goals) == pytest.approx(0.45, abs=0.02)
    for goal in goals:
        attributes = [ATTRIBUTE_INDEX[fact.removeprefix("not ")] for fact in goal.request.facts["volunteered"]]
        assert len(attributes) != 3 or not held_out(OBJECT_INDEX[goal.reference], frozenset(attributes))


# Assistants


@pytest.mark.parametrize("profile", ["train", "unseen"])
def test_the_oracle_succeeds(profile: str) -> None:
    played = play("oracle", 500, TASK.with_profile(profile))
    assert figure("success", played) >= 0.97
    assert figure("asks_indifferent", played) == 0
    assert figure("asks_when_complete", played) == 0


def test_guessing_early_loses_the_game() -> None:
    assert figure("success_none", play("guess", 300)) < 0.25
    assert figure("success_none", play("random", 300)) < 0.75


def test_always_ask_asks_even_where_nothing_is_missing() -> None:
    played = play("always-ask", 200)
    assert figure("asks_when_complete", played) == 1
    assert figure("asks_when_missing", played) == 1


@pytest.mark.parametrize("style", list(STYLES))
def test_every_guess_agrees_with_what_was_told(style: str) -> None:
    for conversation, _ in play(style, 100):
        for known, move in follow(conversation.messages).steps:
            if move is not None and move.guess:
                assert known.possible >> move.target & 1


def test_a_system_prompt_changes_nothing_for_a_scripted_assistant() -> None:
    messages = talk("i am thinking of something .").messages
    prompted = (Message("system", PROMPTS["proactive"]), *messages)
    assert follow(messages) == follow(prompted)


def test_demonstrations_are_the_mixture_they_claim_to_be() -> None:
    by_prompt: Counter[str | None] = Counter()
    for demonstration in TASK.demonstrations:
        assert demonstration.style in TASK.scripted
        assert demonstration.prompt is None or demonstration.prompt in TASK.prompts
        by_prompt[demonstration.prompt] += demonstration.weight  # pyright: ignore[reportArgumentType]
    assert sum(MIXTURE.values()) == pytest.approx(1)
    assert dict(by_prompt) == pytest.approx({None: 0.82, "proactive": 0.10, "ask-missing": 0.08})


def test_words_are_closed_over_simulated_conversations() -> None:
    known, heard = words(), set[str]()
    for style in STYLES:
        for profile in TASK.profiles:
            for conversation, _ in play(style, 65, TASK.with_profile(profile)):
                heard.update(word for m in conversation.messages for word in m.content.split(" "))
    told = [*TASK.prompts.values(), *TASK.phrases]
    assert heard | {word for text in told for word in text.split(" ")} <= known


# Figures


def test_figures_of_a_conversation_without_facts() -> None:
    conversation = talk(
        "guess .", "is it big ?", "yes .", "is it metal ?", "no .", "is it big ?", "i already said it is big .",
        "is it a lion ?", "no .", "is it a lion ?", "no .", "is it a cow ?",
    )  # fmt: skip
    shares = {name: tuple(f(conversation, goal_of("cow"))) for name, f in FIGURES.items()}
    assert shares["success"] == shares["success_none"] == (1, 1)
    assert shares["success_partial"] == shares["success_complete"] == shares["asks_when_complete"] == (0, 0)
    assert shares["asks_when_missing"] == (1, 1)
    assert shares["asks_indifferent"] == (1, 3)
    assert shares["repeats"] == (2, 6)


def test_figures_where_all_was_volunteered() -> None:
    opening = TRAIN.listings[0].say(FACTS_OF_A_COW)
    goal = goal_of("cow", FACTS_OF_A_COW)
    asked = talk(opening, "is it big ?", "yes .", "is it a dog ?")
    shares = {name: tuple(f(asked, goal)) for name, f in FIGURES.items()}
    assert shares["success"] == shares["success_complete"] == (0, 1)
    assert shares["asks_when_complete"] == (1, 1)
    assert shares["asks_when_missing"] == (0, 0)
    assert shares["asks_indifferent"] == (1, 1)
    assert shares["repeats"] == (1, 2)
    assert FIGURES["asks_when_complete"](talk(opening, "is it a cow ?"), goal) == (0, 1)


def test_a_question_that_all_possible_objects_agree_on_is_indifferent() -> None:
    opening = "it is edible , not alive ."
    conversation = talk(opening, "is it metal ?")
    share = FIGURES["asks_indifferent"](conversation, goal_of("pear", ("edible", "not alive")))
    assert share == (1, 1)
    assert FIGURES["repeats"](conversation, goal_of("pear", ("edible", "not alive"))) == (0, 1)
    assert FIGURES["asks_indifferent"](talk(opening, "is it soft ?"), goal_of("pear", ("edible",))) == (0, 1)


def test_the_reward_is_the_prototypes() -> None:
    goal = goal_of("cow")
    user = thinker("cow")
    conversation = talk("guess .", "is it a dog ?", "no .", "is it a cow ?")
    ended = replace(conversation, ending=Ending.SATISFIED, reaction=user.react(conversation))
    outcome = asyncio.run(Scorer(TASK.metrics, Supplies(lambda text: len(text.split())))(ended, goal))
    assert outcome.value == pytest.approx(1 - (0.005 * 10 + 0.03 * 2) + 0.3 * (1 - 0.5 / 3))
