from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duologue.errors import DataError, RecipeError
from duologue.recipe import merged, overridden, parse
from duologue.recipe.arms import CHANGED
from duologue.run.check import check, warnings

TABLE: dict[str, Any] = {
    "name": "plain",
    "task": {"name": "groceries"},
    "train": [{"algorithm": "grpo"}],
    "evaluate": {"arms": list(CHANGED)},
}


def checked(*overrides: str) -> None:
    table = TABLE
    for override in overrides:
        table = overridden(table, override)
    recipe = parse(table, "plain.toml")
    check(recipe, recipe.evaluate.arms)


def fault(*overrides: str) -> str | None:
    """What is wrong with the recipe, None where nothing is."""
    try:
        checked(*overrides)
    except RecipeError as error:
        return str(error)
    return None


def test_what_the_recipe_names_is_there() -> None:
    assert fault("evaluate.users.unseen.profiles=unseen") is None


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("task.name=grocery", 'no task "grocery"; did you mean "groceries"'),
        ("user.profiles=trane", 'no user profiles "trane"; did you mean "train"'),
        ("evaluate.users.new.profiles=unsen", 'no user profiles "unsen"; did you mean "unseen"'),
        ("assistant.prompt=proactiv", 'no system prompt "proactiv"; did you mean "proactive"'),
        ("reward.metrics.tokns=1", 'no metric "tokns"; did you mean "tokens"'),
        ("reward.metrics.tokens.rte=1", 'no option "rte"; did you mean "rate"'),
        ('evaluate={arms=["trained","base"],family={arm="single-turn"}}', '"single-turn" is not among evaluate.arms'),
        ("evaluate.family.arm=traind", 'no arm "traind"; did you mean "trained"'),
        ('evaluate.family.metrics=["sucess"]', 'no figure "sucess"; did you mean "success"'),
        ("assistant.model=scripted:oracle", "cannot be trained"),
        ("assistant.model=new", 'assistant.model = "new" is for arms with'),
    ],
)
def test_what_would_stop_the_run_later_is_said_before(override: str, sentence: str) -> None:
    assert sentence in (fault(override) or "")


def test_what_scripted_users_show_is_refused_where_a_model_plays_them_and_nobody_judges() -> None:
    large = {"endpoint": "http://127.0.0.1:9/v1", "model": "large"}
    played: dict[str, Any] = merged(TABLE, {"user": large})
    with pytest.raises(RecipeError, match=r'groceries: metric "satisfaction" is what scripted users show'):
        check(parse(played, "played.toml"), ["trained"])
    for change in ({"judge": large}, {"reward": {"metrics": {"tokens": -1.0}}}):
        check(parse(merged(played, change), "played.toml"), ["trained"])


@pytest.mark.parametrize("override", ["assistant.system=x", "arms.polite.assistant.prompt=proactiv"])
def test_what_stops_no_arm_of_the_run_is_let_through(override: str) -> None:
    assert fault(override) is None


@pytest.mark.parametrize(
    ("stage", "override", "sentence"),
    [
        ('{algorithm="dpo"}', "reward.samples=1", "set reward.samples to 2 or more"),
        ('{algorithm="grpo"}', "reward.samples=adaptive", "choose between replies, they do not value one"),
        ('{algorithm="grpo"}', "assistant.temperature=0", "draws equal candidates"),
        ('{algorithm="dpo"}', "assistant.temperature=0", "draws equal candidates"),
        ('{algorithm="sft"}', "assistant.temperature=0", "draws equal candidates"),
        ('{algorithm="grpo"}', "assistant.top_p=0.9", "leave assistant.top_p at 1"),
        ('{algorithm="ppo"}', "assistant.top_p=0.9", "leave assistant.top_p at 1"),
        ('{algorithm="ppo"}', "reward.samples=adaptive", "choose between replies, they do not value one"),
        ('{algorithm="rloo"}', "assistant.top_p=0.9", "leave assistant.top_p at 1"),
        ('{algorithm="rloo"}', "reward.samples=adaptive", "choose between replies, they do not value one"),
        ('{algorithm="online-dpo"}', "reward.samples=adaptive", "choose between replies, they do not value one"),
        ('{algorithm="online-dpo"}', "reward.samples=1", "set reward.samples to 2 or more"),
        ('{algorithm="sft",data="demonstrations"}', "seed=0", "say how many demonstrations"),
        (
            '{algorithm="sft",data="demonstrations",conversations={grocery=3}}',
            "seed=0",
            'no task "grocery"; did you mean "groceries"',
        ),
        (
            '{algorithm="sft",data="demonstrations",conversations={groceries=3},last_reply=["grocery"]}',
            "seed=0",
            'no task "grocery"; did you mean "groceries"',
        ),
        ('{algorithm="sft",conversations={groceries=3}}', "seed=0", 'data = "best" does not read conversations'),
        ('{algorithm="sft",states=24,batch=25}', "seed=0", "states = 24 is less than batch = 25"),
        ('{algorithm="sft",within=1}', "seed=0", 'data = "best" does not read within'),
        (
            '{algorithm="sft",data="demonstrations",conversations={groceries=3},states=9}',
            "seed=0",
            'data = "demonstrations" does not read states',
        ),
    ],
)
def test_a_stage_that_could_not_work_is_named_before_anything_starts(stage: str, override: str, sentence: str) -> None:
    told = fault(f"train=[{stage}]", override) or ""
    assert sentence in told
    assert told.startswith('arm "single-turn", train.0 (')


@pytest.mark.parametrize(
    "stage",
    [
        '{algorithm="dpo"}',
        '{algorithm="sft",states=9,batch=9,candidates=3,deepest=1}',
        '{algorithm="sft",data="demonstrations",conversations={groceries=3},last_reply=["groceries"],within=1}',
    ],
)
def test_a_stage_that_can_work_is_let_through(stage: str) -> None:
    assert fault(f"train=[{stage}]") is None


def test_an_unknown_script_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match='no scripted assistant "oracel"; did you mean "oracle"'):
        checked("assistant.model=scripted:oracel", "train=[]")


OWN_TASK = """
from dataclasses import replace
from duologue.tasks import load_task
task = replace(load_task("groceries"), name="own", goal_maker=lambda split: GOALS[split])
GOALS = {goals}
"""


def test_an_empty_task_is_named_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_TASK.replace("{goals}", '{"train": [], "test": []}'))
    with pytest.raises(DataError, match='task "own" has no goals to test on'):
        checked(f"task.name={tmp_path}/own.py:task", 'evaluate.arms=["base"]')
    with pytest.raises(DataError, match='task "own" has no goals to train on'):
        checked(f"task.name={tmp_path}/own.py:task", 'evaluate.arms=["trained"]')


def test_a_goal_without_a_request_is_named(tmp_path: Path) -> None:
    lines = [
        "from duologue.conversation import Goal, Request",
        OWN_TASK.replace("GOALS = {goals}", ""),
        'task = replace(task, goal_maker=lambda split: [Goal("g1", Request(" "))])',
    ]
    (tmp_path / "own.py").write_text("\n".join(lines))
    with pytest.raises(DataError, match="goal 'g1' has no request"):
        checked(f"task.name={tmp_path}/own.py:task")


def test_a_task_of_ones_own_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("task = 3")
    with pytest.raises(RecipeError, match="is not a Task but a int"):
        checked(f"task.name={tmp_path}/own.py:task")


@pytest.mark.parametrize(
    ("task", "profiles", "behaviour"),
    [
        ("document-chat", "sharded", "contradicts"),
        ("ambiguity", "train", "wrong-fact"),
        ("ambiguity", "concat", "changes-goal"),
        ("support", "train", "changes-goal"),
    ],
)
def test_a_behaviour_that_users_do_not_know_names_the_task_its_users_and_what_they_know(
    task: str, profiles: str, behaviour: str
) -> None:
    told = fault(f"task.name={task}", f"user.profiles={profiles}", f"user.behaviours.{behaviour}=1.0") or ""
    assert told.startswith(f'{task}, users "{profiles}": ')
    assert "withholds" in told and "leaves" in told and "Presenter" not in told and "Reader" not in told


def test_an_evaluation_of_other_arms_is_no_fault_of_the_default_family() -> None:
    assert fault('evaluate.arms=["base","oracle"]') is None


def test_who_evaluates_one_arm_alone_compares_nothing_and_need_not_change_the_family() -> None:
    family = 'evaluate.family.arm="single-turn"'
    assert fault(family, 'evaluate.arms=["base"]') is None
    assert "add it there, or compare another, base or oracle" in (
        fault(family, 'evaluate.arms=["base","oracle"]') or ""
    )


def test_a_task_without_success_is_no_fault_of_the_default_family(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        OWN_TASK.replace(
            "GOALS = {goals}", "GOALS = {s: load_task('groceries').goals(s)[:1] for s in ('train', 'test')}"
        ).replace('"own",', '"own", figures={},')
    )
    own = f"task.name={tmp_path}/own.py:task"
    assert fault(own) is None
    assert 'no figure "repeats"' in (fault(own, 'evaluate.family.metrics=["repeats"]') or "")


# ---- what training and evaluation share

LAB: dict[str, Any] = {
    **TABLE,
    "endpoints": {"lab": {"url": "http://127.0.0.1:1/v1"}},
    "judge": {"endpoint": "lab", "model": "stern"},
    "reward": {"metrics": {"interactivity": 1.0}},
    "evaluate": {"arms": ["base", "trained"]},
}
PLAYED = {"endpoint": "lab", "model": "person"}


def warned(**changes: Any) -> str:
    return "\n".join(warnings(parse(merged(LAB, changes), "lab.toml")))


def test_a_judge_that_training_and_evaluation_share_is_warned_of() -> None:
    assert "the same model judges the training and the evaluation (stern)" in warned()
    both = [{"endpoint": "lab", "model": model} for model in ("kind", "stern")]
    assert "(stern)" in warned(evaluate={"judge": both})


def test_users_that_training_and_evaluation_share_are_warned_of() -> None:
    alone = warned(user=PLAYED, evaluate={"judge": {"endpoint": "lab", "model": "kind"}})
    assert "the same model plays the users of the training and of the evaluation (person)" in alone
    assert "judges" not in alone


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluate": {"judge": {"endpoint": "lab", "model": "kind"}}},
        {"evaluate": {"arms": ["base"]}},
        {"reward": {"metrics": {"interactivity": 1.0, "outcome": 1.0}}, "evaluate": {"arms": ["base"]}},
        {
            "user": PLAYED,
            "evaluate": {"judge": {"endpoint": "lab", "model": "kind"}, "users": {"new": {"model": "stranger"}}},
        },
    ],
    ids=["held out", "nothing trained", "nothing trained, other metrics", "met others, too"],
)
def test_what_is_held_out_is_not_warned_of(changes: dict[str, Any]) -> None:
    assert warned(**changes) == ""


def test_a_judge_whom_no_metric_asks_is_not_warned_of() -> None:
    table = {**LAB, "reward": {"metrics": {"outcome": 1.0}}}
    assert warnings(parse(table, "lab.toml")) == []


def test_metrics_of_the_reward_are_figures_of_a_family() -> None:
    assert fault("reward.metrics={outcome=1.0}", 'evaluate.family.metrics=["outcome"]') is None
