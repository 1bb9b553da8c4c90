"""The control arm trains on what the assistant sampled in whole conversations, and on nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from benchmark_script import benchmark  # noqa: E402
from duologue.background import BackgroundLoop  # noqa: E402
from duologue.conversation import Conversation, Ending, Message  # noqa: E402
from duologue.dataset import Visit, visits  # noqa: E402
from duologue.errors import DataError  # noqa: E402
from duologue.metrics.base import Supplies  # noqa: E402
from duologue.models.base import Reply  # noqa: E402
from duologue.models.local import LocalModel  # noqa: E402
from duologue.recipe import parse  # noqa: E402
from duologue.reward import Scorer  # noqa: E402
from duologue.simulation import Assistant  # noqa: E402
from duologue.tasks import load_task  # noqa: E402
from duologue.training.grpo import grpo_trainer  # noqa: E402
from duologue.training.settings import GrpoSettings  # noqa: E402
from duologue.training.stage import train_to  # noqa: E402

control = benchmark("trajectory")
TASK = load_task("groceries")
SETTINGS = GrpoSettings.model_validate(
    {"algorithm": "grpo", "groups": 3, "candidates": 4, "steps": 2, "save_steps": None}
)
RECIPE = {
    "name": "control",
    "task": [{"name": "groceries"}],
    "reward": {"samples": 1, "window": "full"},
    "train": [SETTINGS.model_dump()],
}


@pytest.fixture(scope="module")
def model() -> LocalModel:
    torch.set_num_threads(1)
    return LocalModel.load("tiny")


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    with BackgroundLoop() as background:
        yield background


def work(folder: Path) -> Any:
    return control.Work(RECIPE, "start", folder, 4, 4, ("sampled",), 0.05)


def stage(model: LocalModel, folder: Path, loop: BackgroundLoop) -> Any:
    training = control.Training("trajectory", 7e-4, 2, 3, seed=0)
    return control._stage(parse(RECIPE, "test"), training, model, folder, loop)


async def group(model: LocalModel, visit: Visit, size: int) -> list[tuple[Conversation, Sequence[Reply]]]:
    played: list[tuple[Conversation, Sequence[Reply]]] = []
    for number in range(size):
        member = control.Member(model, number)
        played.append((await control.play_member(visit, Assistant(member)), member.replies))
    return played


def some_visits(count: int) -> list[Visit]:
    return visits([TASK], count, deepest=4, seed=0)


def reply(prompt: Sequence[int], ids: Sequence[int]) -> Reply:
    return Reply("", prompt_ids=tuple(prompt), ids=tuple(ids), logprobs=tuple(-float(i) for i in ids))


# One conversation as a row


async def test_the_ids_that_bear_loss_are_those_sampled_and_the_others_are_what_the_user_said(
    model: LocalModel,
) -> None:
    lengths: set[int] = set()
    for visit in some_visits(12):
        ((conversation, replies),) = await group(model, visit, 1)
        row = control.trajectory_of(replies)
        sampled = [token for token, mine in zip(row.completion, row.sampled, strict=True) if mine]
        others = [token for token, mine in zip(row.completion, row.sampled, strict=True) if not mine]
        users = [m.content for m in conversation.messages[1:-1] if m.role == "user"]
        heard = "".join(f"<|user|> {text}<|end|><|assistant|>" for text in users)

        assert row.masked == 0
        assert sampled == [token for each in replies for token in each.ids or ()]
        assert model.tokenizer.decode(others) == heard
        assert row.prompt == model.encode(conversation.messages[:1])
        lengths.add(len(replies))
    assert len(lengths) > 1


def test_log_probabilities_stand_at_the_ids_they_belong_to() -> None:
    row = control.trajectory_of([reply([9], [1, 2]), reply([9, 1, 2, 8, 8], [3])])
    assert row.completion == (1, 2, 8, 8, 3)
    assert row.sampled == (True, True, False, False, True)
    assert row.logprobs == (-1.0, -2.0, 0.0, 0.0, -3.0)


def test_a_reply_that_is_read_back_as_other_ids_bears_no_loss_and_is_counted() -> None:
    row = control.trajectory_of([reply([9], [1, 2]), reply([9, 7, 8], [3]), reply([9, 7, 8, 3, 8], [4])])
    assert row.completion == (7, 8, 3, 8, 4)
    assert row.sampled == (False, False, True, False, True)
    assert row.masked == 1


def test_a_cut_reply_is_read_back_with_an_end_that_was_not_sampled() -> None:
    end = 5
    row = control.trajectory_of([reply([9], [1]), reply([9, 1, end, 8], [3])])
    assert row.sampled == (True, False, False, True)


@pytest.mark.parametrize("replies", [[], [Reply("from a server")], [reply([9], [1]), reply([8, 1], [2])]])
def test_what_cannot_be_trained_on_is_refused(replies: list[Reply]) -> None:
    with pytest.raises(DataError):
        control.trajectory_of(replies)


# A group


async def test_members_meet_the_same_user_with_the_same_luck_and_draw_for_themselves(model: LocalModel) -> None:
    told_apart = 0
    for visit in some_visits(4):
        played = await group(model, visit, 6)
        assert len({conversation.messages[0] for conversation, _ in played}) == 1
        answers: dict[tuple[Message, ...], set[Message]] = {}
        for conversation, _ in played:
            for index, message in enumerate(conversation.messages):
                if message.role == "user":
                    answers.setdefault(conversation.messages[:index], set()).add(message)
        assert all(len(same) == 1 for same in answers.values())
        told_apart += len({conversation.messages for conversation, _ in played}) > 1
    assert told_apart


def test_a_conversation_is_worth_r_of_all_of_it(model: LocalModel, tmp_path: Path, loop: BackgroundLoop) -> None:
    visit = some_visits(1)[0]
    ((conversation, replies),) = loop.run(group(model, visit, 1))
    expected = loop.run(Scorer(TASK.metrics, Supplies(model.count_tokens))(conversation, visit.goal))
    row, reward = loop.run(control.Trajectories(SETTINGS, stage(model, tmp_path, loop))._play(visit, 0))
    assert conversation.shared == 0 and conversation.ending in (Ending.SATISFIED, Ending.LEFT)
    assert (row, reward) == (control.trajectory_of(replies), expected.value)


# Through TRL


def trained_through_trl(stage: Any, look: Callable[[Any], None]) -> Any:
    """The trajectory arm's steps, with a look at what each loss is computed from; the rollouts."""
    trainer = grpo_trainer(SETTINGS, stage)
    rollouts = control.Trajectories(SETTINGS, stage)
    trainer.rollout_func = rollouts
    compute = trainer.compute_loss

    def looked_at(model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        look(inputs)
        return compute(model, inputs, *more, **named)

    trainer.compute_loss = looked_at
    train_to(SETTINGS.steps, trainer, stage)
    return rollouts


def test_no_token_of_a_user_bears_loss_in_trl(tmp_path: Path, loop: BackgroundLoop) -> None:
    model = LocalModel.load("tiny")
    seen: list[list[int]] = []

    def look(inputs: Any) -> None:
        mask = (inputs["completion_mask"] * inputs["tool_mask"]).bool()
        seen.extend(ids[keep].tolist() for ids, keep in zip(inputs["completion_ids"], mask, strict=True))

    rollouts = trained_through_trl(stage(model, tmp_path, loop), look)
    end = model.tokenizer.eos_token_id
    assert rollouts.conversations == len(seen) == 2 * 3 * 4
    assert sum(map(len, seen)) == model.counters.generated
    # Users' messages have an end of their own: it would show.
    assert sum(ids.count(end) for ids in seen) == rollouts.replies
    roles = set(model.tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>"]))
    assert all(roles.isdisjoint(ids) for ids in seen)


# Equal tokens


def trained(groups: int, tokens: int) -> dict[str, Any]:
    return {"name": f"g{groups}", "groups": groups, "tokens": tokens}


def test_groups_are_chosen_until_the_sampled_tokens_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "train", lambda work, training: trained(training.groups, training.groups * 80))
    found = control.matched(work(tmp_path), control.Training("trajectory", 7e-4, 2, 10, 0), 1600)
    assert (found["groups"], found["tokens"], found["agrees"]) == (20, 1600, True)
    assert [attempt["groups"] for attempt in found["attempts"]] == [10, 20]


def test_tokens_that_cannot_be_made_to_agree_are_owned_up_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "train", lambda work, training: trained(training.groups, training.groups * 1000))
    found = control.matched(work(tmp_path), control.Training("trajectory", 7e-4, 2, 1, 0), 1400)
    assert (found["groups"], found["agrees"]) == (1, False)


def test_a_training_is_named_by_everything_it_depends_on(tmp_path: Path) -> None:
    given, training = work(tmp_path), control.Training("mr", 7e-4, 2, 3, 0)
    names = {each.name(given) for each in (training, replace(training, rate=1e-3), replace(training, seed=1))} | {
        training.name(replace(given, start="other weights"))
    }
    assert len(names) == 4
    other_evaluation = replace(given, recipe={**RECIPE, "name": "x", "evaluate": {"conversations": 7}})
    assert training.name(other_evaluation) == training.name(given)


# The whole of it


def test_a_study_runs_and_a_second_one_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "small"\n[task]\nname = "groceries"\n[reward]\nsamples = 1\nwindow = "full"\n'
        '[[train]]\nalgorithm = "grpo"\ngroups = 3\ncandidates = 3\nsteps = 2\n'
        '[evaluate]\nconversations = 6\ndecoding = ["sampled"]\n'
    )
    output = tmp_path / "study.json"
    arguments = [str(recipe), "--output", str(output), "--processes", "1", "--quick", "--rates", "7e-4"]
    monkeypatch.setattr(control, "QUICK", ())
    control.main(arguments)
    first = json.loads(output.read_text())
    (run,) = first["runs"]
    assert run["mr"]["updates"] == run["trajectory"]["updates"] == 2
    assert {row["against"] for row in first["evaluation"]["0"]["differences"]} == {"trajectory", "base"}

    monkeypatch.setattr(control, "_train", lambda *given: pytest.fail("trained again"))
    control.main(arguments)
    assert json.loads(output.read_text()) == first
