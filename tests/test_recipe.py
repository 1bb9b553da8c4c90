from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from duologue.errors import RecipeError
from duologue.recipe import ARMS, Recipe, load_recipe, merged, overridden, parse
from duologue.tasks import load_task

PLAIN: dict[str, Any] = {
    "name": "plain",
    "task": {"name": "groceries"},
    "reward": {"samples": 2, "window": 2},
    "train": [{"algorithm": "grpo", "steps": 2}],
}


def recipe(*overrides: str, **changes: Any) -> Recipe:
    table = merged(PLAIN, changes)
    for override in overrides:
        table = overridden(table, override)
    return parse(table, "plain.toml")


def refusal(*overrides: str, **changes: Any) -> str:
    with pytest.raises(RecipeError) as refused:
        recipe(*overrides, **changes)
    return str(refused.value)


# ---- what is wrong is named, with the nearest right word ----------------------------------------------------


@pytest.mark.parametrize(
    ("override", "key", "right"),
    [
        ("asistant.model=tiny", "asistant", "assistant"),
        ("task.nam=groceries", "nam", "name"),
        ("assistant.temprature=1", "assistant.temprature", "temperature"),
        ("assistant.architecture.hiden=3", "assistant.architecture.hiden", "hidden"),
        ("user.profile=unseen", "user.profile", "profiles"),
        ("reward.sample=3", "reward.sample", "samples"),
        ("train.0.step=3", "train.0.step", "steps"),
        ("run.process=2", "run.process", "processes"),
        ("evaluate.conversation=2", "evaluate.conversation", "conversations"),
        ("evaluate.family.metric=3", "evaluate.family.metric", "metrics"),
        ("evaluate.users.unseen.profil=unseen", "evaluate.users.unseen.profil", "profiles"),
        ("arms.mine.reward.windw=0", "reward.windw", "window"),
        ('arms.mine.train=[{algorithm="dpo", state=3}]', "train.0.state", "states"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(override: str, key: str, right: str) -> None:
    sentence = refusal(override)
    assert f'there is no key "{key}"' in sentence or f'.{key}"; did' in sentence
    assert f'did you mean "{right}"?' in sentence
    assert sentence.startswith("plain.toml: ")


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("train.0.algorithm=gropo", "grpo"),
        ("train.0.loss_type=dappo", "dapo"),
        ('evaluate.decoding=["greddy"]', "greedy"),
        ('evaluate.arms=["proactiv"]', "proactive"),
        ("stop_after=gropo", "grpo"),
    ],
)
def test_an_unknown_value_names_the_nearest_known_one(override: str, right: str) -> None:
    assert f'did you mean "{right}"?' in refusal(override)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("reward.window=ful", "plain.toml: reward.window: a number of turns, or \"full\"; it is 'ful'"),
        ("reward.window=-1", 'plain.toml: reward.window: a number of turns, or "full"; it is -1'),
        ("reward.samples=0", 'plain.toml: reward.samples: a number of look-aheads, 1 or more, or "adaptive"; it is 0'),
        ("train.0={steps=3}", 'plain.toml: train.0: say which algorithm, like algorithm = "grpo"'),
        ("task=groceries", "plain.toml: task: write [task] with name = \"groceries\", say; it is 'groceries'"),
        ("train.0.micro_groups=7", "plain.toml: train.0.micro_groups: must divide groups = 40; it is 7"),
        ('train.0={algorithm="sft",micro_batch=5}', "plain.toml: train.0.micro_batch: must divide batch = 32; it is 5"),
        ('train.0={algorithm="dpo",micro_batch=5}', "plain.toml: train.0.micro_batch: must divide batch = 48; it is 5"),
        ('train.0={algorithm="rloo",micro_groups=7}', "plain.toml: train.0.micro_groups: must divide groups = 40; it"),
        ("evaluate.arms=[]", "plain.toml: evaluate.arms: it should have at least 1 item, not 0; it is []"),
        ("evaluate.arms=base", "plain.toml: evaluate.arms: it should be a list, in square brackets; it is 'base'"),
        ('train={algorithm="grpo"}', "plain.toml: train: a list of tables, each of which begins with [[train]]; it is"),
        ("train=[3]", 'plain.toml: train.0: say which algorithm, like algorithm = "grpo"'),
        ("assistant=tiny", "plain.toml: assistant: it should be a table; it is 'tiny'"),
        ("arms.mine=3", "plain.toml: arms.mine: it should be a table; it is 3"),
        ("name=3", "plain.toml: name: it should be a text; it is 3"),
        ("assistant.temperature=3", "plain.toml: assistant.temperature: servers take temperatures from 0, which is"),
        ("user.temperature=-0.1", "plain.toml: user.temperature: servers take temperatures from 0, which is greedy"),
        (
            'judge={endpoint="http://a/v1",model="m",temperature=2.5}',
            "plain.toml: judge.0.temperature: servers take temperatures from 0, which is greedy, to 2; it is 2.5",
        ),
        ('assistant.model=""', "plain.toml: assistant.model: give the name of a model, as its server calls it"),
        ('evaluate.users.u.model=" "', "plain.toml: evaluate.users.u.model: give the name of a model, as its server"),
        ('judge={endpoint="http://a/v1",model=""}', "plain.toml: judge.0.model: give the name of a model"),
        ('evaluate.arms=["base","base"]', "plain.toml: evaluate.arms names an arm twice: base, base"),
        ("evaluate.users.train.profiles=unseen", 'plain.toml: evaluate.users.train: "train" are the users of [user]'),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_one_sentence(override: str, sentence: str) -> None:
    refused = refusal(override)
    assert refused.startswith(sentence)
    assert "\n" not in refused


@pytest.mark.parametrize("name", ["../elsewhere", "a b", "", ".hidden", "a/b"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    assert "it names a folder" in refusal(name=name)
    assert "it names a folder" in refusal(arms={name: {"reward": {"window": 0}}})


def test_every_wrong_key_is_named_at_once() -> None:
    lines = refusal("reward.sample=3", "run.process=2").splitlines()
    assert len(lines) == 2


def test_a_recipe_without_a_name_says_so() -> None:
    with pytest.raises(RecipeError, match='"name" is missing'):
        parse({"task": {"name": "groceries"}}, "plain.toml")


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match='no task "grocery"; did you mean "groceries"'):
        recipe("task.name=grocery").tasks()


def test_a_recipe_without_a_task_says_what_to_add() -> None:
    table = {key: value for key, value in PLAIN.items() if key != "task"}
    with pytest.raises(RecipeError, match=r"add \[task\]"):
        parse(table, "plain.toml").tasks()


def test_a_task_named_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match="names a task twice"):
        recipe(task=[{"name": "groceries"}, {"name": "groceries"}]).tasks()


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ({"tokns": 1.0}, 'no metric "tokns"; did you mean "tokens"'),
        ({"tokens": {"rte": 1.0}}, 'metric "tokens" has no option "rte"; did you mean "rate"'),
        ({"tokens": {"wieght": 1.0}}, 'metric "tokens" has no option "wieght"; did you mean "weight"'),
        ({"tokens": {"rate": "much"}}, 'metric "tokens", option "rate": .*it is \'much\''),
    ],
)
def test_a_wrong_metric_or_option_is_named(metrics: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        recipe(reward={"metrics": metrics}).reward.of(load_task("groceries"))


def test_a_metric_that_is_neither_a_weight_nor_a_table_is_refused() -> None:
    assert "a metric is a weight" in refusal(reward={"metrics": {"tokens": "x"}})


def test_an_unknown_system_prompt_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match='no system prompt "proactiv"; did you mean "proactive"'):
        recipe("assistant.prompt=proactiv").assistant.system_prompt(load_task("groceries"))


# ---- files and --set ----------------------------------------------------------------------------------------


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "quickstart.toml").write_text("")
    with pytest.raises(RecipeError, match=r"there is no recipe .*quickstrat.toml; did you mean .*quickstart.toml"):
        load_recipe(tmp_path / "quickstrat.toml")


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe", b"name: yaml", b'name = "a"\nname = "b"'])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=r"broken\.toml is not TOML"):
        load_recipe(path)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("reward.samples=5", {"reward": {"samples": 5}}),
        ("reward.window=full", {"reward": {"window": "full"}}),
        ('evaluate.arms=["base", "oracle"]', {"evaluate": {"arms": ["base", "oracle"]}}),
        ("reward.metrics.tokens.rate=5e-4", {"reward": {"metrics": {"tokens": {"rate": 5e-4}}}}),
        ("name=a=b", {"name": "a=b"}),
    ],
)
def test_set_reads_toml_values_and_plain_words(override: str, value: dict[str, Any]) -> None:
    assert overridden({}, override) == value


def test_set_reaches_into_lists() -> None:
    assert overridden(PLAIN, "train.0.steps=60")["train"] == [{"algorithm": "grpo", "steps": 60}]


@pytest.mark.parametrize("override", ["reward.samples", "=3", "", "train.5.steps=1", "train.first.steps=1"])
def test_a_set_that_points_nowhere_is_refused(override: str) -> None:
    with pytest.raises(RecipeError, match=r"^--set"):
        overridden(PLAIN, override)


def test_set_leaves_the_table_it_was_given_alone() -> None:
    before = repr(PLAIN)
    overridden(PLAIN, "train.0.steps=60")
    overridden(PLAIN, "reward.samples=9")
    assert repr(PLAIN) == before


TREES = st.recursive(
    st.integers() | st.text(max_size=3), lambda inner: st.dictionaries(st.text(max_size=2), inner), max_leaves=8
)
TABLES = st.dictionaries(st.text(max_size=2), TREES)


@given(TABLES, TABLES)
def test_merging_twice_is_merging_once(table: dict[str, Any], changes: dict[str, Any]) -> None:
    once = merged(table, changes)
    assert merged(once, changes) == once


# ---- arms ---------------------------------------------------------------------------------------------------


def differing(one: Any, other: Any, place: str = "") -> set[str]:
    """The dotted keys at which two dumped recipes differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {*one, *other}
        return {found for key in keys for found in differing(one.get(key), other.get(key), f"{place}.{key}")}
    return set() if one == other else {place.removeprefix(".")}


@pytest.mark.parametrize(
    ("arm", "keys"),
    [
        ("trained", set()),
        ("single-turn", {"reward.window"}),
        ("single-turn-blind", {"reward.window", "reward.reacts"}),
        ("base", {"train"}),
        ("proactive", {"train", "assistant.prompt"}),
        ("ask-missing", {"train", "assistant.prompt"}),
        ("oracle", {"train", "assistant.model"}),
        ("trajectory", {"train"}),
        ("sft-only", {"train"}),
    ],
)
def test_an_arm_differs_from_the_recipe_in_what_it_says_alone(arm: str, keys: set[str]) -> None:
    whole = recipe(evaluate={"arms": list(ARMS), "users": {"unseen": {"profiles": "unseen"}}})
    assert differing(whole.model_dump(mode="json"), whole.arm(arm).model_dump(mode="json")) == keys


def test_an_arm_of_ones_own_changes_the_keys_it_shows() -> None:
    whole = recipe(arms={"patient": {"reward": {"samples": 8}}}, evaluate={"arms": ["patient"]})
    own = whole.arm("patient")
    dumped = {"arms.patient", "reward.samples"}
    assert differing(whole.model_dump(mode="json"), own.model_dump(mode="json")) == dumped
    assert own.reward.samples == 8


def test_a_change_of_a_known_arm_keeps_what_else_makes_it() -> None:
    whole = recipe(arms={"proactive": {"assistant": {"temperature": 0.5}}, "single-turn": {"reward": {"samples": 7}}})
    proactive, single = whole.arm("proactive"), whole.arm("single-turn")
    assert (proactive.assistant.prompt, proactive.assistant.temperature, proactive.stages) == ("proactive", 0.5, ())
    assert (single.reward.window, single.reward.samples) == (0, 7)


def test_what_a_known_arm_says_can_be_replaced() -> None:
    assert recipe(arms={"single-turn": {"reward": {"window": 1}}}).arm("single-turn").reward.window == 1


def test_an_arm_of_ones_own_is_checked_though_no_evaluation_names_it() -> None:
    assert "arms.mine" in refusal(arms={"mine": {"reward": {"window": "ful"}}})


STAGES = [
    {"algorithm": "sft", "data": "demonstrations", "conversations": {"groceries": 9}},
    {"algorithm": "sft", "states": 30},
    {"algorithm": "dpo", "states": 50, "learning_rate": 2e-5},
    {"algorithm": "grpo", "groups": 10, "steps": 4, "candidates": 5, "deepest": 2, "learning_rate": 3e-5},
]


def stages_of(arm: str, *stages: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """An arm's stages, as the keys that are set."""
    return [stage.model_dump(exclude_unset=True) for stage in recipe(train=list(stages), **more).arm(arm).stages]


def test_trajectory_is_the_recipe_with_grpo_on_whole_conversations() -> None:
    *before, grpo = STAGES
    assert stages_of("trajectory", *STAGES) == [*before, {**grpo, "unit": "conversation"}]


def test_keys_of_ones_own_in_trajectory_change_its_stages_alone() -> None:
    whole = recipe(train=[STAGES[3]], arms={"trajectory": {"train": {"0": {"groups": 8}}}})
    (stage,) = whole.arm("trajectory").model_dump(exclude_unset=True)["train"]
    assert (stage["groups"], stage["learning_rate"], stage["unit"]) == (8, 3e-5, "conversation")


@pytest.mark.parametrize("stop_after", [None, "dpo"])
def test_without_grpo_there_is_no_trajectory(stop_after: str | None) -> None:
    stages = STAGES if stop_after else STAGES[:3]
    said = refusal(train=stages, stop_after=stop_after, evaluate={"arms": ["base", "trajectory"]})
    assert 'arms.trajectory: no [[train]] has algorithm = "grpo"' in said


def test_sft_only_ends_with_the_last_supervised_stage() -> None:
    assert stages_of("sft-only", *STAGES) == STAGES[:2]


def test_sft_only_of_a_recipe_without_one_learns_the_best_of_as_many_replies() -> None:
    shared = {"candidates": 5, "deepest": 2, "learning_rate": 3e-5}
    (sft,) = stages_of("sft-only", *STAGES[2:])
    assert sft == {**shared, "algorithm": "sft", "states": (50 * 6 + 4 * 10 * 5) / 5, "batch": 32}


def test_sft_only_of_few_states_takes_a_batch_that_they_fill() -> None:
    (sft,) = stages_of("sft-only", {"algorithm": "grpo", "groups": 4, "steps": 3})
    assert (sft["states"], sft["batch"]) == (12, 6)


def test_sft_only_compares_two_replies_where_the_recipe_draws_one() -> None:
    (sft,) = stages_of("sft-only", {"algorithm": "ppo", "groups": 10, "steps": 4, "candidates": 1})
    assert (sft["states"], sft["candidates"]) == (20, 2)


def test_without_stages_there_is_no_sft_only() -> None:
    assert "arms.sft-only: there is no [[train]]" in refusal(train=[], evaluate={"arms": ["base", "sft-only"]})


def test_an_arm_made_of_the_stages_that_run_runs_all_of_them() -> None:
    assert stages_of("sft-only", *STAGES[2:], stop_after="dpo")[0]["states"] == 50


def test_an_unknown_arm_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match='there is no arm "singleturn"; did you mean "single-turn"'):
        recipe().arm("singleturn")


def test_stop_after_leaves_out_later_stages() -> None:
    stages = [{"algorithm": "sft"}, {"algorithm": "dpo"}, {"algorithm": "grpo"}]
    whole = recipe(train=stages, stop_after="dpo")
    assert [stage.algorithm for stage in whole.stages] == ["sft", "dpo"]
    assert whole.arm("base").stages == ()


def test_a_dumped_recipe_is_the_same_recipe() -> None:
    whole = recipe(arms={"mine": {"reward": {"window": 0}}}, evaluate={"arms": ["base", "mine"]})
    assert parse(whole.model_dump(mode="json", exclude_unset=True), "again") == whole


def test_the_numbers_of_goals_limit_each_split() -> None:
    (task,) = recipe(task={"name": "groceries", "train": 3, "test": 2}).tasks()
    assert (len(task.goals("train")), len(task.goals("test"))) == (3, 2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": True}, "seed: it cannot be true or false"),
        ({"reward": {"window": True}}, "reward.window: a number of turns"),
        ({"assistant": {"temperature": float("inf")}}, "assistant.temperature: it must be finite"),
        ({"reward": {"metrics": {}}}, "reward.metrics: a metric is a weight"),
        ({"reward": {"metrics": {"tokens": float("nan")}}}, "reward.metrics: a metric is a weight"),
        ({"reward": {"metrics": {"tokens": {"weight": True}}}}, "reward.metrics: a metric is a weight"),
    ],
)
def test_what_is_no_finite_number_is_none(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**changes)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.0.learning_rate=true", "train.0.learning_rate: it cannot be true or false"),
        ("train.0.learning_rate=inf", "train.0.learning_rate: it must be finite"),
        ("assistant.architecture.layers=true", "assistant.architecture.layers: it cannot be true or false"),
    ],
)
def test_a_number_is_a_finite_number_in_every_table(override: str, sentence: str) -> None:
    assert sentence in refusal(override)


# ---- endpoints ----------------------------------------------------------------------------------------------

LAB: dict[str, Any] = {"url": "http://127.0.0.1:8000/v1", "in_flight": 256, "price": {"input": 0.1, "output": 0.4}}
SERVED: dict[str, Any] = {
    "train": [],
    "endpoints": {"lab": LAB},
    "assistant": {"endpoint": "lab", "model": "small"},
    "user": {"endpoint": "lab", "model": "large"},
    "judge": {"endpoint": "lab", "model": "large"},
}


def test_roles_share_an_endpoint_by_its_name() -> None:
    found = recipe(**SERVED)
    assert list(found.served) == ["assistant", "user", "judge"]
    places = [found.endpoint(role) for role in found.served.values()]
    assert places[0] == places[1] == places[2]
    assert places[0] is not None and places[0][0] == "lab" and places[0][1].in_flight == 256


def test_an_address_stands_for_itself_with_its_keys_beside_it() -> None:
    found = recipe(judge={"endpoint": "http://here:1/v1", "model": "m", "in_flight": 4, "timeout": 9.0})
    (judge,) = found.judge
    place = found.endpoint(judge)
    assert place is not None and place[0] == "http://here:1/v1"
    assert (place[1].in_flight, place[1].timeout, place[1].retries) == (4, 9.0, 8)


def test_kinds_of_users_change_keys_of_the_recipes_own() -> None:
    found = recipe(**SERVED, evaluate={"arms": ["base"], "users": {"unseen": {"profiles": "unseen"}}})
    unseen = found.kinds_of_users["unseen"]
    assert (unseen.endpoint, unseen.model, unseen.profiles) == ("lab", "large", "unseen")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["judge.endpoint=lib"], 'judge.endpoint: there is no endpoint "lib" among [endpoints], nor is it an address'),
        (["judge.endpoint=lib"], 'did you mean "lab"?'),
        (["judge.timeout=3"], 'judge.endpoint: timeout of endpoint "lab" stand in [endpoints.lab]'),
        (["user.endpoint=http://a/v1", "judge.endpoint=http://a/v1", "judge.in_flight=2"], "described in two ways"),
        (["user.model=scripted"], "user: a user is scripted, or has both an endpoint and a model"),
        (["evaluate.users.new.model=scripted"], "evaluate.users.new: a user is scripted, or has both"),
        (["endpoints.lab.url=lab:8000"], "an address begins with http:// or https://"),
        (["endpoints.lab.url=http://[::1/v1"], "an address begins with http:// or https://, names a host"),
        (["judge.endpoint=http://lab:99999/v1"], "endpoint: an address begins with http:// or https://"),
        (["endpoints.lab.in_flght=1"], 'there is no key "endpoints.lab.in_flght"; did you mean "in_flight"?'),
        (["endpoints.lab.price.input=-1"], "endpoints.lab.price.input"),
        (["budget=0"], "budget"),
    ],
)
def test_what_is_wrong_with_an_endpoint_is_named(overrides: list[str], sentence: str) -> None:
    assert sentence in refusal(*overrides, **SERVED)


@pytest.mark.parametrize("key", ["endpoints.lab.url", "judge.endpoint", "arms.base.user.endpoint", "endpoints.lab"])
@pytest.mark.parametrize(
    "address",
    [
        "http://me:SECRET@lab/v1",
        "http://SECRET@lab/v1",
        "http://lab/v1?api-key=SECRET",
        "http://lab/v1?SECRET",
        "http://lab/v1#SECRET",
        "http://me:a/SECRET@lab/v1",
    ],
)
def test_a_key_in_an_address_is_refused_and_not_repeated(key: str, address: str) -> None:
    sentence = refusal(f"{key}={address}", **SERVED)
    assert key.rpartition(".")[2] in sentence
    assert "SECRET" not in sentence


@pytest.mark.parametrize("key", ["endpoints.lab.url", "judge.endpoint"])
def test_a_key_in_half_an_address_is_not_repeated(key: str) -> None:
    assert "SECRET" not in refusal(f"{key}=me:SECRET@lab/v1", **SERVED)


def test_a_key_in_an_address_belongs_into_the_environment() -> None:
    assert "its name into api_key_env" in refusal("endpoints.lab.url=http://me:secret@lab/v1", **SERVED)


def test_an_address_may_name_the_version_of_its_protocol() -> None:
    url = "https://lab/openai?api-version=2024-10-21"
    assert recipe(endpoints={"lab": {"url": url}}).endpoints["lab"].url == url


def test_a_judge_without_an_endpoint_is_refused() -> None:
    assert "say which endpoint" in refusal(judge={"model": "large"})


def judged_by(*models: str) -> list[dict[str, Any]]:
    return [{"endpoint": "lab", "model": model} for model in models]


def test_one_judge_is_a_table_and_several_are_a_list() -> None:
    one, several = recipe(**SERVED), recipe(**merged(SERVED, {"judge": judged_by("large", "other")}))
    assert [judge.model for judge in one.judge] == ["large"]
    assert [judge.model for judge in several.judge] == ["large", "other"]
    assert list(several.served) == ["assistant", "user", "judge.0", "judge.1"]
    assert several.evaluating_judges == several.judge


def test_a_judge_held_out_from_training_judges_the_evaluation_alone() -> None:
    found = recipe(**SERVED, evaluate={"arms": ["base"], "judge": judged_by("other")[0]})
    assert [judge.model for judge in found.judge] == ["large"]
    assert [judge.model for judge in found.evaluating_judges] == ["other"]
    assert list(found.served) == ["assistant", "user", "judge", "evaluate.judge"]


def test_an_arm_can_change_a_key_of_the_only_judge() -> None:
    found = recipe(**SERVED, arms={"mine": {"judge": {"temperature": 0.5}}})
    (judge,) = found.arm("mine").judge
    assert (judge.model, judge.temperature) == ("large", 0.5)


@pytest.mark.parametrize("judges", [judged_by("large"), judged_by("large", "other")], ids=["one", "several"])
def test_a_dumped_recipe_has_the_same_judges(judges: list[dict[str, Any]]) -> None:
    found = recipe(**merged(SERVED, {"judge": judges}), evaluate={"arms": ["base"], "judge": judges})
    assert parse(found.model_dump(mode="json", exclude_unset=True), "dumped").model_dump() == found.model_dump()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"judge": judged_by("large", "large")}, "judge: a model judges twice, which says nothing new"),
        (
            {"judge": [], "evaluate": {"judge": judged_by("large")}},
            "evaluate.judge is held out from [judge], and there",
        ),
        ({"judge": [*judged_by("large"), {"endpoint": "lib", "model": "m"}]}, "judge.1.endpoint: there is no endpoint"),
        ({"judge": [{"endpoint": "lab", "modle": "m"}]}, 'no key "judge.0.modle"; did you mean "model"?'),
        ({"evaluate": {"judge": {"endpoint": "lab", "model": "m", "temprature": 1}}}, 'did you mean "temperature"?'),
    ],
)
def test_what_is_wrong_with_judges_is_named(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**merged(SERVED, changes))


def test_a_target_for_the_kl_needs_a_weight_to_adapt() -> None:
    stage = {"algorithm": "ppo", "beta": 0.0, "target_kl": 0.1}
    with pytest.raises(RecipeError, match="target_kl adapts the weight beta"):
        parse({"name": "x", "task": {"name": "groceries"}, "train": [stage]}, "x.toml")


def test_a_mistyped_key_of_an_adapter_names_the_nearest_of_its_own() -> None:
    stage = {"algorithm": "grpo", "lora": {"r": 4, "alfa": 8}}
    with pytest.raises(RecipeError, match='did you mean "alpha"'):
        parse({"name": "x", "task": {"name": "groceries"}, "train": [stage]}, "x.toml")
