"""Groups of settings by name: several tasks that inherit from the top, modalities, learning rates."""

import math
from pathlib import Path

import pytest

from unloc_jax.config import (
    LossConfig,
    ModalityConfig,
    from_json,
    from_mapping,
    load,
    to_json,
    with_absolute_paths,
    with_overrides,
)
from unloc_jax.errors import UserError

TWO_TASKS = {
    "batch_size": 8,
    "data": {"num_frames": 32, "max_queries": 3, "prompts": ("{}", "a {}")},
    "loss": {"radius": None},
    "tasks": {
        "retrieval": {"weight": 2.0, "data": {"dir": "captions"}},
        "actions": {
            "task": "temporal_action_localization",
            "batch_size": 4,
            "data": {"dir": "activities", "num_frames": 16},
            "loss": {"relevance": "sigmoid"},
            "evaluation": {"every_steps": 9},
        },
    },
}


def test_tasks_inherit_what_they_do_not_say():
    config = from_mapping(TWO_TASKS)
    retrieval, actions = config.tasks["retrieval"], config.tasks["actions"]
    assert (retrieval.task, actions.task) == ("moment_retrieval", "temporal_action_localization")
    assert (retrieval.weight, actions.weight) == (2.0, 1.0)
    assert (retrieval.batch_size, actions.batch_size) == (8, 4)
    assert (retrieval.data.dir, retrieval.data.num_frames, retrieval.data.max_queries) == ("captions", 32, 3)
    assert (actions.data.dir, actions.data.num_frames, actions.data.max_queries) == ("activities", 16, 3)
    assert retrieval.data.prompts == actions.data.prompts == ("{}", "a {}")
    assert (retrieval.loss.radius, actions.loss.radius) == (None, None)
    assert (retrieval.loss.relevance, actions.loss.relevance) == ("focal", "sigmoid")
    assert actions.evaluation.batch_size == config.evaluation.batch_size


def test_each_task_is_a_config_of_its_own():
    config = from_mapping(TWO_TASKS)
    views = config.task_configs
    assert list(views) == ["retrieval", "actions"]
    for name, view in views.items():
        task = config.tasks[name]
        assert (view.task, view.batch_size) == (task.task, task.batch_size)
        assert (view.data, view.loss, view.evaluation) == (task.data, task.loss, task.evaluation)
        assert view.tasks == {} and list(view.task_configs) == [task.task]
        assert (view.model, view.train, view.seed) == (config.model, config.train, config.seed)
    assert [view.with_vocabulary for view in views.values()] == [False, True]
    single = from_mapping({"task": "action_segmentation"})
    assert single.task_configs == {"action_segmentation": single}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"wieght": 1.0}, r"config\.tasks\.a\.wieght is not a setting\. Did you mean config\.tasks\.a\.weight\?"),
        ({"task": "retrieval"}, r"config\.tasks\.a\.task must be one of .* Did you mean 'moment_retrieval'"),
        ({"model": {}}, r"config\.tasks\.a\.model is not a setting"),  # one model for all
        ({"data": {"crop_size": 100}}, r"config\.tasks\.a\.data\.crop_size = 100 is not divisible"),
        ({"data": {"prompts": ("x",)}}, r"config\.tasks\.a\.data\.prompts: 'x' must contain"),
        ({"loss": {"relevance": "cross"}}, r"config\.tasks\.a\.loss\.relevance must be one of focal, sigmoid"),
        ({"loss": {"boundaries": "l2"}}, r"config\.tasks\.a\.loss\.boundaries = 'l2': "),
        ({"weight": -1.0}, r"config\.tasks\.a\.weight must be at least 0, got -1\.0"),
        ({"batch_size": 0}, r"config\.tasks\.a\.batch_size must be at least 1"),
        ({"evaluation": {"soft_nms_sigma": 0.0}}, r"config\.tasks\.a\.evaluation\.soft_nms_sigma must be"),
        (3, r"config\.tasks\.a is a group of settings, got 3"),
    ],
)  # fmt: skip
def test_mistakes_name_their_task(task, message):
    with pytest.raises(UserError, match=message):
        from_mapping({"tasks": {"a": task, "b": {}}})


def test_a_model_must_suit_all_tasks():
    """A linear head is enough for one of them."""
    tasks = {"frames": {"task": "action_segmentation"}, "moments": {"task": "moment_retrieval"}}
    with pytest.raises(
        UserError, match=r"config\.tasks\.moments\.task = 'moment_retrieval' needs boundaries"
    ):
        from_mapping({"tasks": tasks, "model": {"head": {"type": "linear"}}})


def test_weights_that_share_nothing():
    tasks = {name: {"weight": 0.0} for name in "ab"}
    with pytest.raises(
        UserError, match=r"config\.tasks: the weights of the tasks add up to 0; give some above 0"
    ):
        from_mapping({"tasks": tasks})


def test_groups_must_be_groups():
    for key in ("tasks", "model.modalities", "train.learning_rates"):
        with pytest.raises(UserError, match=rf"config\.{key} is a group of settings, got 3"):
            with_overrides({}, [f"{key}=3"])
    with pytest.raises(
        UserError, match=r"config\.train\.learning_rates\.head must be of type float, got 'x'"
    ):
        with_overrides({}, ["train.learning_rates.head='x'"])
    with pytest.raises(
        UserError,
        match=r"config\.model\.modalities\.rgb\.encoder must be one of clip, videoprism, audio, features",
    ):
        with_overrides({}, ["model.modalities.rgb.encoder=clap"])


def test_json_round_trip_of_named_groups():
    values = TWO_TASKS | {
        "model": {
            "modalities": {"rgb": {"freeze": True}, "flow": {"encoder": "features", "feature_dim": 7}},
            "pyramid": {"regression_ranges": ((0, 4), (4, 8), (8, 16), (16, math.inf))},
        },
        "train": {"steps": 100, "learning_rates": {"head": 0.1, "towers": 0}},
    }
    config = from_mapping(values)
    assert from_json(to_json(config)) == config
    assert list(from_json(to_json(config)).tasks) == list(config.tasks)  # which names the first one
    assert config.train.learning_rates == {"head": 0.1, "towers": 0.0}
    assert config.model.modalities["flow"] == ModalityConfig("features", 7)


FILE = """
def get_config():
    return {"tasks": {"a": {"data": {"dir": "x", "num_frames": 16}}, "b": {}}, "loss": {"focal_gamma": 1.5},
            "model": {"modalities": {"rgb": {}, "flow": {"encoder": "features", "feature_dim": 7}}}}
"""


def test_overrides_reach_into_named_groups(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(FILE)
    config = load(
        str(path),
        [
            "model.modalities.rgb.freeze=True",
            "tasks.b.data.num_frames=8",
            "tasks.c.task=action_segmentation",
            "data.num_frames=24",
            "loss.radius=1.5",
            "train.learning_rates.towers_rgb=1e-5",
        ],
    )
    assert config.model.modalities["rgb"] == ModalityConfig(freeze=True)
    assert config.model.modalities["flow"].feature_dim == 7
    # The file's settings of a task are kept; the others are as at the top, overrides included.
    assert {name: task.data.num_frames for name, task in config.tasks.items()} == {"a": 16, "b": 8, "c": 24}
    assert {task.loss for task in config.tasks.values()} == {LossConfig(focal_gamma=1.5, radius=1.5)}
    assert config.tasks["c"].task == "action_segmentation"
    assert config.train.learning_rates == {"towers_rgb": 1e-5}


def test_overrides_leave_the_given_values_alone():
    values = {"tasks": {"a": {"data": {"dir": "x"}}}}
    assert with_overrides(values, ["tasks.a.data.dir=y"]).tasks["a"].data.dir == "y"
    assert values == {"tasks": {"a": {"data": {"dir": "x"}}}}


def test_the_default_modality_can_be_changed():
    config = with_overrides({}, ["model.modalities.rgb.freeze=True"])
    assert config.model.modalities == {"rgb": ModalityConfig(freeze=True)}


def test_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    config = with_absolute_paths(
        with_overrides(
            TWO_TASKS,
            ["init_from=run", "model.text.embeddings_file=e.npz", f"tasks.actions.data.dir={here}/z"],
        )
    )
    assert (config.init_from, config.model.text.embeddings_file) == (f"{here}/run", f"{here}/e.npz")
    assert [task.data.dir for task in config.tasks.values()] == [f"{here}/captions", f"{here}/z"]
    nothing = with_absolute_paths(from_mapping({}))
    assert nothing == from_mapping({})
