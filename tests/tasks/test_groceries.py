"""Groceries: what its users do, what its figures count, and how hard it is."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from duologue.conversation import Conversation, Ending, Goal, Message, Request
from duologue.errors import DataError
from duologue.metrics.base import Supplies
from duologue.reward import Scorer
from duologue.simulation import Assistant, converse
from duologue.tasks.groceries import TASK, words
from duologue.tasks.groceries.assistants import PROMPTS, STYLES
from duologue.tasks.groceries.goals import held_out
from duologue.tasks.groceries.language import NAMES, SLOT_OF, SLOTS, TOPICS, read_reply, read_user, wrong_slots
from duologue.tasks.groceries.user import GroceriesUser, Profile, State, read
from duologue.tasks.groceries.wording import TRAIN, UNSEEN
from duologue.users.scripted import fixed_words

SLOTS_WANTED = {"item": "milk", "qty": "two", "kind": "any", "city": "boston", "time": "today", "pay": "card"}
RIGHT = "order : two any milk to boston today by card ."
FIRST_TRAIN_GOAL = "you want three organic apples to dallas sunday by cash ."
WRONG_CITY = "order : two any milk to denver today by card ."


USUAL = Profile()


def make_goal(*mentions: str) -> Goal:
    reference = {slot: value for slot, value in SLOTS_WANTED.items() if value != "any"}
    facts = {"slots": SLOTS_WANTED, "mentions": mentions or SLOTS}
    return Goal("groceries-hand-1", Request("you want milk .", facts), reference)


def talk(*messages: str) -> Conversation:
    """A conversation of alternating messages, the user's first."""
    roles = ("user", "assistant")
    return Conversation(tuple(Message(roles[i % 2], text) for i, text in enumerate(messages)))


def state_after(*messages: str, profile: Profile = USUAL) -> State:
    return read(talk(*messages), make_goal().request, profile)


async def play(style: str, profile: str, goals: Sequence[Goal]) -> list[tuple[Goal, Conversation]]:
    task = TASK.with_profile(profile)
    assistant = Assistant(TASK.scripted[style])
    return [
        (goal, await converse(assistant, task.user(goal.request, seed), seed=seed, turns=TASK.turn_limit))
        for seed, goal in enumerate(goals)
    ]


def figure(name: str, played: Sequence[tuple[Goal, Conversation]]) -> float:
    shares = [TASK.figures[name](conversation, goal) for goal, conversation in played]
    return sum(share.count for share in shares) / sum(share.base for share in shares)


class TestGoals:
    def test_a_split_has_its_size_and_is_always_the_same(self) -> None:
        assert len(TASK.goals("train")) == 10_000
        assert len(TASK.goals("test")) == 2_500
        assert TASK.goals("train")[0].id == "groceries-train-00001"
        assert TASK.goals("train")[0].request.text == FIRST_TRAIN_GOAL

    def test_combinations_are_held_out(self) -> None:
        train = {tuple(goal.request.facts["slots"].values()) for goal in TASK.goals("train")}
        test = {tuple(goal.request.facts["slots"].values()) for goal in TASK.goals("test")}
        assert train.isdisjoint(test)
        assert all(held_out(goal.request.facts["slots"]) for goal in TASK.goals("test"))
        assert not any(held_out(goal.request.facts["slots"]) for goal in TASK.goals("train"))

    def test_the_first_message_leaves_out_as_much_as_the_world_that_worked(self) -> None:
        dropped = [len(SLOTS) - len(goal.request.facts["mentions"]) for goal in TASK.goals("train")]
        shares = [dropped.count(count) / len(dropped) for count in range(6)]
        assert shares == pytest.approx([0.25, 0.10, 0.20, 0.25, 0.15, 0.05], abs=0.015)

    def test_a_reference_has_what_matters_alone(self) -> None:
        goal = TASK.goals("test")[0]
        slots = goal.request.facts["slots"]
        assert goal.reference == {slot: value for slot, value in slots.items() if value != "any"}


class TestReading:
    @pytest.mark.parametrize(
        ("reply", "asked"),
        [
            ("which city and how many ?", ("city", "qty")),
            ("Which city?", ("city",)),
            ("thank you for reaching out today . when ?", ("time",)),
            ("which city", ()),
            ("is it boston ?", ()),
            ("", ()),
        ],
    )
    def test_a_question_names_a_slot_and_has_its_mark(self, reply: str, asked: tuple[str, ...]) -> None:
        assert read_reply(reply).asked == asked
        assert read_reply(reply).order is None

    def test_an_order_beside_a_question_is_an_order(self) -> None:
        reading = read_reply(f"which city ? {RIGHT} when ?")
        assert reading.order is not None and not wrong_slots(reading.order, make_goal().reference)
        assert reading.asked == ()

    def test_the_last_order_counts(self) -> None:
        assert read_reply(f"{WRONG_CITY} {RIGHT}").order == read_reply(RIGHT).order

    def test_a_slot_given_twice_is_not_given(self) -> None:
        assert "city" not in (read_reply("order : two milk to boston denver today by card .").order or {})

    def test_words_after_the_order_are_no_part_of_it(self) -> None:
        order = read_reply("order : two milk . it comes to boston today").order
        assert order == {"qty": "two", "item": "milk"}

    def test_what_does_not_matter_is_heard_in_any_wording(self) -> None:
        for wording in (TRAIN, UNSEEN):
            for template in wording.indifferent:
                assert read_user(template.format(name="payment")) == {"pay": "any"}


class TestUser:
    def test_the_first_message_says_the_mentions_and_no_more(self) -> None:
        for seed, goal in enumerate(TASK.goals("test")[:300]):
            for profile in TASK.profiles:
                user = TASK.with_profile(profile).user(goal.request, seed)
                first = asyncio.run(user.speak(Conversation(), seed=seed)).text
                said = {slot: goal.request.facts["slots"][slot] for slot in goal.request.facts["mentions"]}
                assert read_user(first) == said

    async def test_nothing_is_revealed_that_was_not_asked_or_ordered_wrong(self) -> None:
        for style in ("oracle", "ask-one", "redundant", "guess"):
            for goal, conversation in await play(style, "train", TASK.goals("test")[:150]):
                allowed = set(goal.request.facts["mentions"])
                for message in conversation.messages:
                    if message.role == "user":
                        assert set(read_user(message.content)) <= allowed
                        continue
                    reading = read_reply(message.content)
                    allowed |= set(reading.asked)
                    allowed |= set(wrong_slots(reading.order, goal.reference)) if reading.order is not None else set()

    async def test_a_user_has_no_state(self) -> None:
        for goal, conversation in await play("mixed", "unseen", TASK.goals("test")[:40]):
            user = TASK.with_profile("unseen").user(goal.request, 1)
            for length in range(0, len(conversation.messages), 2):
                prefix = conversation.truncated(length)
                once = await user.speak(prefix, seed=length)
                again = await TASK.with_profile("unseen").user(goal.request, 1).speak(prefix, seed=length)
                assert once == again

    async def test_a_conversation_goes_on_the_same_from_any_prefix(self) -> None:
        assistant = Assistant(TASK.scripted["redundant"])
        for seed, goal in enumerate(TASK.goals("test")[:40]):
            user = TASK.user(goal.request, seed)
            whole = await converse(assistant, user, seed=seed)
            for length in range(2, len(whole.replies) * 2 - 1, 2):
                assert await converse(assistant, user, whole.truncated(length), seed=seed) == whole

    def test_at_most_three_slots_are_answered(self) -> None:
        goal = make_goal("item")
        asked = talk("i need milk .", "how many , which city , when and which payment ?")
        answer = asyncio.run(GroceriesUser(goal.request).speak(asked, seed=1)).text
        assert set(read_user(answer)) == {"qty", "city", "time"}

    def test_an_indifferent_slot_is_said_not_to_matter(self) -> None:
        asked = talk("i need milk .", "which kind ?")
        answer = asyncio.run(GroceriesUser(make_goal("item").request).speak(asked, seed=1)).text
        assert read_user(answer) == {"kind": "any"}

    @pytest.mark.parametrize(
        ("replies", "annoyance"),
        [
            (["how many ?"], 0.0),
            (["which item ?"], 1.0),
            (["which kind ?"], 1.0),
            (["how many and which item ?"], 1.0),
            (["hello ."], 1.0),
            ([""], 1.0),
            ([WRONG_CITY], 0.5),
            ([RIGHT], 0.0),
            (["which item ?", WRONG_CITY], 1.5),
        ],
    )
    def test_what_costs_patience(self, replies: list[str], annoyance: float) -> None:
        messages = ["i need milk . any kind is fine ."]
        for reply in replies:
            messages += [reply, "i already said milk ."]
        assert state_after(*messages[:-1]).annoyance == annoyance

    def test_a_right_order_satisfies_whatever_came_before(self) -> None:
        state = state_after("i need milk .", "?", "what ?", "?", "what ?", "?", "what ?", RIGHT)
        assert state.satisfied and not state.leaving

    def test_a_wrong_order_too_many_is_the_end(self) -> None:
        first = ("i need milk .", WRONG_CITY)
        second = (*first, "no , the city is boston .", WRONG_CITY)
        assert not state_after(*first).leaving
        assert state_after(*second).leaving
        assert not state_after(*second, profile=Profile(corrections=2)).leaving

    def test_three_annoyances_are_the_end(self) -> None:
        assert state_after("i need milk .", "?", "what ?", "?", "what ?", "?").leaving

    def test_too_many_turns_are_the_end(self) -> None:
        assert state_after("milk .", "how many ?", "two .", "when ?", profile=Profile(turns=2)).leaving

    def test_one_wrong_slot_is_corrected(self) -> None:
        wrong = talk("i need milk .", "order : three any milk to denver today by card .")
        said = asyncio.run(GroceriesUser(make_goal().request).speak(wrong, seed=1)).text
        assert len(read_user(said)) == 1
        both = GroceriesUser(make_goal().request, Profile(corrects=2))
        assert read_user(asyncio.run(both.speak(wrong, seed=1)).text) == {"qty": "two", "city": "boston"}

    def test_a_concrete_value_is_fine_where_nothing_matters(self) -> None:
        assert state_after("milk .", "order : two fresh milk to boston today by card .").satisfied

    def test_endings(self) -> None:
        user = GroceriesUser(make_goal().request)
        assert asyncio.run(user.speak(talk("milk .", RIGHT), seed=0)).ending is Ending.SATISFIED
        left = talk("milk .", WRONG_CITY, "no .", WRONG_CITY)
        assert asyncio.run(user.speak(left, seed=0)).ending is Ending.LEFT
        assert user.react(left).leaving and user.react(left).limit == 3.0

    @given(st.text() | st.lists(st.sampled_from(sorted(words())), max_size=12).map(" ".join), st.integers(0, 9))
    @settings(max_examples=200, deadline=None)
    def test_any_reply_has_an_answer(self, reply: str, seed: int) -> None:
        for profile in TASK.profiles:
            user = TASK.with_profile(profile).user(make_goal("item").request, seed)
            said = asyncio.run(user.speak(talk("milk .", reply), seed=seed))
            assert said.text and set(said.text.split()) <= words()


class TestAssistants:
    async def test_the_oracle_succeeds(self) -> None:
        for profile in TASK.profiles:
            assert figure("success", await play("oracle", profile, TASK.goals("test")[:500])) >= 0.98

    async def test_guessing_pays_far_less(self) -> None:
        played = await play("guess", "train", TASK.goals("test")[:600])
        assert 0.5 <= figure("success", played) <= 0.72
        assert figure("success_when_missing", played) <= 0.6
        assert figure("success_when_complete", played) == 1.0

    async def test_the_reward_ranks_the_habits(self) -> None:
        scorer = Scorer(TASK.metrics, Supplies(lambda text: len(text.split()) + 1))
        means: dict[str, float] = {}
        for style in ("oracle", "one-by-one", "always-ask", "guess", "guess-wordy"):
            played = await play(style, "train", TASK.goals("test")[:400])
            values = [(await scorer(conversation, goal)).value or 0.0 for goal, conversation in played]
            means[style] = sum(values) / len(values)
        assert means["oracle"] > means["one-by-one"] > means["always-ask"] > means["guess-wordy"]
        assert means["one-by-one"] > means["guess"] > means["guess-wordy"]

    async def test_always_asking_asks_when_complete_and_repeats(self) -> None:
        played = await play("always-ask", "train", TASK.goals("test")[:300])
        assert figure("asks_when_complete", played) == 1.0
        assert figure("repeats", played) > 0.3
        assert figure("success", played) > 0.95

    async def test_a_system_message_changes_nothing(self) -> None:
        plain = Assistant(TASK.scripted["redundant"])
        told = Assistant(TASK.scripted["redundant"], system=PROMPTS["proactive"])
        asked = talk("i need milk .")
        assert (await plain.reply(asked, seed=1)).text == (await told.reply(asked, seed=1)).text

    def test_demonstrations_name_styles_and_prompts_that_exist(self) -> None:
        weights: defaultdict[str | None, float] = defaultdict(float)
        for demonstration in TASK.demonstrations:
            assert demonstration.style in TASK.scripted
            weights[demonstration.prompt] += demonstration.weight
        assert dict(weights) == pytest.approx({None: 0.82, "proactive": 0.10, "ask-missing": 0.08})
        assert set(weights) - {None} == set(TASK.prompts)


class TestLanguage:
    async def test_every_message_is_made_of_the_known_words_and_fits(self) -> None:
        for index, style in enumerate(STYLES):
            for profile in TASK.profiles:
                for _, conversation in await play(style, profile, TASK.goals("train")[index * 50 : index * 50 + 50]):
                    for message in conversation.messages:
                        said = message.content.split()
                        assert set(said) <= words()
                        assert " ".join(said) == message.content
                        assert message.role == "user" or len(said) < TASK.max_tokens

    def test_requests_prompts_and_phrases_too(self) -> None:
        texts = [*TASK.prompts.values(), *TASK.phrases]
        assert set(" ".join(texts).split()) <= words()

    def test_templates_hold_no_value_and_no_slot(self) -> None:
        frames = fixed_words(TRAIN.templates | UNSEEN.templates) - {"kind"}
        assert frames.isdisjoint(SLOT_OF)
        assert frames.isdisjoint(TOPICS)

    def test_a_value_belongs_to_one_slot_and_names_none(self) -> None:
        assert len(SLOT_OF) == 12 + 8 + 6 + 10 + 7 + 4
        assert set(SLOT_OF).isdisjoint(TOPICS)

    def test_unseen_templates_are_new_and_their_words_are_not(self) -> None:
        assert TRAIN.templates.isdisjoint(UNSEEN.templates)
        replied = {word for style in STYLES for word in _replied_words(style)}
        known = fixed_words(TRAIN.templates) | replied | set(NAMES.values())
        assert fixed_words(UNSEEN.templates) <= known

    def test_unseen_habits_are_never_those_of_training(self) -> None:
        request = make_goal().request
        usual = [TASK.profiles["train"](request, seed) for seed in range(200)]
        unusual = [TASK.profiles["unseen-habits"](request, seed) for seed in range(200)]
        known = {_habits(user) for user in usual}
        assert known.isdisjoint(_habits(user) for user in unusual)
        assert all(_profile(user).wording is TRAIN for user in unusual)
        assert all(_profile(TASK.profiles["unseen-wording"](request, s)).wording is UNSEEN for s in range(9))


class TestFigures:
    def test_a_model_that_asks_what_is_missing(self) -> None:
        conversation = talk("i need two milk today by card .", "which city ?", "to boston .", RIGHT, "thank you .")
        goal = make_goal("item", "qty", "time", "pay")
        figures = {name: tuple(figure(conversation, goal)) for name, figure in TASK.figures.items()}
        assert figures == {
            "success": (1.0, 1.0),
            "asks_when_missing": (1.0, 1.0),
            "asks_when_complete": (0.0, 0.0),
            "asks_indifferent": (0, 1),
            "repeats": (0, 1),
            "success_when_missing": (1.0, 1.0),
            "success_when_complete": (0.0, 0.0),
        }

    def test_needless_questions_are_counted(self) -> None:
        said = "i need two milk to boston today by card . any kind is fine ."
        conversation = talk(
            said, "which kind and which city ?", "i already said boston .", "which city ?", "i told you ."
        )
        figures = {name: tuple(figure(conversation, make_goal())) for name, figure in TASK.figures.items()}
        assert figures["asks_when_complete"] == (1.0, 1.0)
        assert figures["asks_indifferent"] == (1, 3)
        assert figures["repeats"] == (2, 2)
        assert figures["success"] == (0.0, 1.0)

    def test_asking_before_it_was_said_not_to_matter_is_no_fault(self) -> None:
        conversation = talk("i need milk .", "which kind ?", "any kind is fine .", "which kind ?")
        assert tuple(TASK.figures["asks_indifferent"](conversation, make_goal("item"))) == (1, 2)

    async def test_the_outcome_is_the_share_of_right_slots_until_all_are(self) -> None:
        metric = TASK.metrics["outcome"].build(Supplies(), "outcome")
        assert (await metric(talk("milk .", RIGHT), make_goal())).value == 1.0
        assert (await metric(talk("milk .", WRONG_CITY), make_goal())).value == pytest.approx(0.3 * 4 / 5)
        assert (await metric(talk("milk .", WRONG_CITY, "no .", "what ?"), make_goal())).value == pytest.approx(0.24)
        assert (await metric(talk("milk .", "which city ?"), make_goal())).value == 0.0


def test_five_hundred_conversations_take_less_than_a_second() -> None:
    goals = TASK.goals("train")[:500]
    start = time.process_time()
    asyncio.run(play("oracle", "train", goals))
    assert time.process_time() - start < 1.0


def _habits(user: object) -> tuple[float, ...]:
    p = _profile(user)
    return (p.corrections, p.turns, p.limit, p.answers, p.volunteers, p.corrects)


def _profile(user: object) -> Profile:
    assert isinstance(user, GroceriesUser)
    return user.profile


def _replied_words(style: str) -> set[str]:
    played = asyncio.run(play(style, "train", TASK.goals("train")[:40]))
    return {word for _, conversation in played for reply in conversation.replies for word in reply.split()}


class TestRequests:
    @pytest.mark.parametrize(
        ("facts", "wrong"),
        [
            ({}, '"slots"'),
            ({"slots": {"item": "milk"}, "mentions": ["item"]}, '"slots"'),
            ({"slots": {**make_goal().request.facts["slots"], "city": "bostn"}, "mentions": ["item"]}, '"boston"'),
            ({"slots": make_goal().request.facts["slots"], "mentions": ["city"]}, '"mentions"'),
        ],
    )
    def test_facts_of_another_shape_are_refused_with_a_sentence(self, facts: dict[str, object], wrong: str) -> None:
        with pytest.raises(DataError, match=wrong):
            TASK.user(Request("some milk", facts), 0)
