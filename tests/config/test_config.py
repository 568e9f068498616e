import dataclasses
import json
import math
from pathlib import Path

import pytest

from tests.config.choices import CHOICES
from unloc_jax.config import Config, StageConfig, from_json, from_mapping, load, to_json
from unloc_jax.errors import UserError
from unloc_jax.tasks import TASKS

REPOSITORY = Path(__file__).parents[2]


def test_defaults_are_possible():
    assert from_mapping({}) == Config()


def test_given_values_replace_defaults():
    config = from_mapping({"seed": 3, "model": {"fusion": {"width": 256}}, "loss": {"radius": None}})
    assert (config.seed, config.model.fusion.width, config.loss.radius) == (3, 256, None)
    assert config.model.fusion.num_layers == Config().model.fusion.num_layers
    assert config.total_steps == config.contrastive.steps + config.train.steps


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bach_size": 4}, r"config\.bach_size is not a setting\. Did you mean config\.batch_size\?"),
        (
            {"model": {"image": {"patchsize": 4}}},
            r"image\.patchsize .* config\.model\.image\.patch_size\?",
        ),
        (
            {"optimizer": {"xyz": 4}},
            r"config\.optimizer\.xyz .* Known are: name, momentum, b1, b2, weight_decay",
        ),
        ({"task": "moment_retreival"}, r"Did you mean 'moment_retrieval'\?"),
        ({"task": "?"}, r"must be one of moment_retrieval, temporal_action_localization"),
    ],
)
def test_unknown_names_get_the_nearest_known(values, message):
    with pytest.raises(UserError, match=message):
        from_mapping(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": 1.5}, r"config\.seed must be of type int, got 1\.5 \(float\)"),
        ({"seed": True}, r"config\.seed must be of type int, got True \(bool\)"),
        ({"seed": None}, r"config\.seed must be of type int"),
        ({"data": {"mirror": 1}}, r"config\.data\.mirror must be of type bool"),
        ({"data": {"dir": 3}}, r"config\.data\.dir must be of type str"),
        ({"loss": {"radius": "3"}}, r"config\.loss\.radius must be of type float, got '3'"),
        ({"model": 4}, r"config\.model is a group of settings, got 4"),
        ({"model": {"pyramid": {"regression_ranges": 4.0}}}, r"regression_ranges must be a tuple"),
        ({"model": {"pyramid": {"regression_ranges": ((0.0,),)}}}, r"regression_ranges\[0\] must have 2 entries"),
        ({"model": {"pyramid": {"regression_ranges": ((0, "4"),)}}}, r"ranges\[0\]\[1\] must be of type float"),
    ],
)  # fmt: skip
def test_wrong_types(values, message):
    with pytest.raises(UserError, match=message):
        from_mapping(values)


@pytest.mark.parametrize(("stored", "remat"), [(True, "full"), (False, "none")])
def test_checkpoints_from_before_remat_had_names(stored, remat):
    values = json.loads(to_json(Config()))
    values["model"]["remat"] = stored
    assert from_json(json.dumps(values)).model.remat == remat


def test_a_key_of_an_older_version(tmp_path):
    """Stored configs with old names are read; a user's file, override or flag with one is told the new name."""
    config = Config(contrastive=StageConfig(steps=3, warmup_steps=1, learning_rates={"logit_scale": 0.5}))
    stored = json.loads(to_json(config))
    stored["pretrain"] = stored.pop("contrastive")
    stored["pretrain"]["learning_rates"] = {"temperature": 0.5}
    assert from_json(json.dumps(stored)) == config
    message = "config.pretrain is called config.contrastive now: rename it"
    with pytest.raises(UserError, match=message):
        from_mapping({"pretrain": {"steps": 3}})
    with pytest.raises(UserError, match=message):
        load("configs/quickstart.py", ["pretrain.steps=3"])
    (tmp_path / "mine.py").write_text(
        "from configs import quickstart\n\n\ndef get_config():\n    config = quickstart.get_config()\n"
        "    config.pretrain.steps = 3\n    return config\n"
    )
    with pytest.raises(UserError, match=message):
        load(str(tmp_path / "mine.py"))


def test_a_group_that_is_given_in_part_keeps_its_defaults():
    """Both stages are of one kind; only the second one has steps by default."""
    given = {"learning_rate": 0.5}
    config = from_mapping({"contrastive": given, "train": given})
    assert (config.contrastive.steps, config.train.steps) == (0, Config().train.steps)
    assert config.contrastive.learning_rate == config.train.learning_rate == 0.5


def test_a_whole_number_is_a_float():
    radius = from_mapping({"loss": {"radius": 2}}).loss.radius
    assert radius == 2 and isinstance(radius, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"data": {"crop_size": 100}},
            r"crop_size = 100 is not divisible by .*patch_size = 16\. Use 96 or 112",
        ),
        ({"data": {"crop_size": 8}}, r"crop_size = 8 .* Use 16 or 32"),
        (
            {"checkpoint": {"keep_best": 1}},
            r"keep_best needs config\.checkpoint\.best_metric: the name of a metric",
        ),
        ({"profile": (5, 3)}, r"config\.profile must be \(\) or \(first step, last step\), got \(5, 3\)"),
        ({"non_finite": "ignore"}, r"config\.non_finite must be one of stop, skip, rollback"),
        ({"model": {"image": {"num_heads": 5}}}, r"config\.model\.image\.width = 768 .* num_heads = 5"),
        ({"model": {"text": {"num_heads": 3}}}, r"config\.model\.text\.width = 512 .* num_heads = 3"),
        ({"model": {"fusion": {"width": 99}}}, r"config\.model\.fusion\.width = 99 .* num_heads = 8"),
        ({"model": {"image": {"temporal_kernel": 2}}}, r"temporal_kernel must be odd, got 2"),
        (
            {"model": {"dtype": "float16"}},
            r"dtype must be one of auto, float32, bfloat16, got 'float16'\. Did you mean 'bfloat16'",
        ),
        (
            {"model": {"pyramid": {"num_levels": 0}}},
            r"config\.model\.pyramid\.num_levels must be at least 1",
        ),
        (
            {"model": {"pyramid": {"num_levels": 2000}}},
            r"config\.model\.pyramid\.num_levels must be at most 30, got 2000",
        ),
        ({"model": {"pyramid": {"regression_ranges": ((0, 4), (4, 9))}}}, r"has 2 ranges for num_levels = 4"),
        (
            {"mesh": {"strategy": "zero"}},
            r"config\.mesh\.strategy must be one of dp, fsdp, tp, fsdp_tp, got 'zero'",
        ),
        ({"model": {"text": {"num_heads": 0}}}, r"config\.model\.text\.num_heads must be at least 1, got 0"),
        (
            {"model": {"image": {"patch_size": 0}}},
            r"config\.model\.image\.patch_size must be at least 1, got 0",
        ),
        (
            {"model": {"text": {"max_tokens": 2}}},
            r"config\.model\.text\.max_tokens must be at least 3, got 2",
        ),
        ({"model": {"pyramid": {"stride": 1}}}, r"config\.model\.pyramid\.stride must be at least 2, got 1"),
        ({"train": {"learning_rate": float("nan")}}, r"config\.train\.learning_rate is not a number"),
        (
            {"evaluation": {"score_threshold": -0.1}},
            r"config\.evaluation\.score_threshold must be at least 0",
        ),
        ({"loss": {"radius": -1.0}}, r"config\.loss\.radius must be at least 0"),
        ({"batch_size": 0}, r"config\.batch_size must be at least 1, got 0"),
        (
            {"evaluation": {"soft_nms_sigma": 0.0}},
            r"config\.evaluation\.soft_nms_sigma must be greater than 0",
        ),
        (
            {"train": {"steps": 10, "warmup_steps": 20}},
            r"train\.warmup_steps = 20 must be below config\.train\.steps = 10",
        ),
        ({"data": {"num_frames": 1}}, r"config\.data\.num_frames must be at least 2, got 1"),
        ({"data": {"prompts": ()}}, r"config\.data\.prompts is empty; \(\"\{\}\",\) is the text alone"),
        ({"data": {"prompts": ("{}", "a video")}}, r"data\.prompts: 'a video' must contain \{\} once"),
        ({"data": {"prompts": ("{} and {}",)}}, r"data\.prompts: '\{\} and \{\}' must contain \{\} once"),
        (
            {"loss": {"boundaries": "giou"}},
            r"config\.loss\.boundaries = 'giou': 'giou' is not one of iou, l1",
        ),
        ({"loss": {"boundaries": "x*iou"}}, r"config\.loss\.boundaries = 'x\*iou': 'x' is not a factor"),
        ({"loss": {"label_smoothing": 1.0}}, r"config\.loss\.label_smoothing must be below 1, got 1\.0"),
        ({"model": {"fusion": {"dropout": 1.0}}}, r"config\.model\.fusion\.dropout must be below 1"),
        ({"model": {"image": {"stochastic_depth": 1.5}}}, r"image\.stochastic_depth must be below 1"),
        ({"model": {"fusion": {"width": 9, "num_heads": 9}}}, r"fusion\.width = 9 must be even"),
        ({"optimizer": {"momentum": 1.0}}, r"config\.optimizer\.momentum must be below 1"),
        (
            {"optimizer": {"max_grad_norm": 0.0}},
            r"max_grad_norm = 0 would stop every update; None does not clip",
        ),
        (
            {"accumulate": 2, "contrastive": {"steps": 5}},
            r"config\.accumulate = 2: the loss of config\.contrastive .* accumulate = 1 or contrastive\.steps = 0",
        ),
        (
            {"accumulate": 2, "task": "video_text_contrastive"},
            r"config\.task = 'video_text_contrastive' compares all videos .* config\.accumulate = 1 \(it is 2\)",
        ),
        ({"train": {"steps": 0}}, r"config\.train\.steps must be at least 1, got 0"),
        ({"train": {"learning_rate": math.inf}}, r"config\.train\.learning_rate must be finite"),
        ({"train": {"decay_steps": (5,)}}, r"config\.train: give as many decay_factors as decay_steps"),
        (
            {
                "train": {
                    "steps": 9,
                    "schedule": "piecewise",
                    "decay_steps": (3, 9),
                    "decay_factors": (0.1, 0.0),
                }
            },
            r"config\.train\.decay_steps: 9 is never reached in 9 steps",
        ),
    ],
)
def test_impossible_values(values, message):
    with pytest.raises(UserError, match=message):
        from_mapping(values)


EMBEDDINGS = {"text": {"encoder": "embeddings", "embeddings_file": "x.npz"}}


@pytest.mark.parametrize(
    ("model", "task", "message"),
    [
        ({"modalities": {}}, None, r"config\.model\.modalities is empty: name at least one input"),
        (
            {"modalities": {"flow": {"encoder": "features"}}},
            None,
            r"config\.model\.modalities\.flow\.feature_dim: give the width of the features",
        ),
        ({"video_projection": False}, None, r"needs modalities of the fusion's width 512, they have 768"),
        (
            {
                "video_projection": False,
                "modalities": {
                    "rgb": {"projection_width": 256},
                    "flow": {"encoder": "features", "feature_dim": 128},
                },
            },
            None,
            r"they have 384",
        ),
        (
            {"text": {"projection": False, "width": 256}},
            None,
            r"text\.width = config\.model\.fusion\.width = 512, got 256",
        ),
        (
            {**EMBEDDINGS, "fusion": {"all_text_tokens": True}},
            "temporal_action_localization",
            r"all_text_tokens: given text embeddings have one token per text",
        ),
        (
            EMBEDDINGS,
            "moment_retrieval",
            r"'moment_retrieval' has other texts in every video; .* 'embeddings'",
        ),
        (
            {"head": {"type": "linear"}},
            "highlight_detection",
            r"'highlight_detection' needs boundaries; .*'linear' has none",
        ),
        (
            {"head": {"offsets_per_text": False}},
            "moment_retrieval",
            r"'moment_retrieval' has other texts in every video, .*offsets_per_text = False would average",
        ),
        (
            {"fusion": {"type": "late"}},
            "classification",
            r"'classification' reads the fused text token; set .* 'early'",
        ),
        (
            {"pyramid": {"regression_ranges": ((4, 4),) * 4}},
            None,
            r"\(4\.0, 4\.0\) is not a range; give low < high",
        ),
        (
            {"pyramid": {"type": "fpn", "layers": (0, 1, 5)}},
            None,
            r"layers = \(0, 1, 5\) must name one fusion layer per level, 4 in increasing order",
        ),
        ({"pyramid": {"type": "fpn", "layers": (2, 1, 3, 5)}}, None, r"in increasing order"),
        (
            {"pyramid": {"type": "fpn", "layers": (-1, 1, 3, 5)}},
            None,
            r"layers\[0\] must be at least 0, got -1",
        ),
        (
            {"pyramid": {"type": "fpn"}, "fusion": {"num_layers": 3}},
            None,
            r"layers = \(-1, 0, 1, 2\) must name one",
        ),
        (
            {"pyramid": {"type": "fpn", "layers": (0, 1, 2, 3)}},
            None,
            r"layers after the last level would do nothing\. End with 5, or set .*num_layers = 4",
        ),
    ],
)
def test_models_that_cannot_be(model, task, message):
    with pytest.raises(UserError, match=message):
        from_mapping({"model": model} | ({"task": task} if task else {}))


def test_what_the_checks_let_through():
    """The same settings where they make sense."""
    classes = {"task": "temporal_action_localization"}
    from_mapping(classes | {"model": EMBEDDINGS})
    from_mapping({"task": "action_segmentation", "model": {"head": {"type": "linear"}}})
    from_mapping({"model": {"pyramid": {"type": "fpn", "layers": (0, 2, 3, 5)}}})
    from_mapping({"model": {"pyramid": {"type": "simple", "layers": (0,)}}})  # of an fpn only
    from_mapping({"model": {"video_projection": False, "fusion": {"width": 768}}})
    from_mapping({"mesh": {"context": 2, "strategy": "fsdp"}, "accumulate": 2})
    from_mapping({"data": {"num_frames": 101}})  # no stride needs to divide it
    # Precomputed features have no patches.
    features = {"i3d": {"encoder": "features", "feature_dim": 2048}}
    from_mapping({"data": {"crop_size": 100}, "model": {"modalities": features}})


SOME_CHOICES = {"task": tuple(TASKS)} | {
    key: values for key, values in CHOICES.items() if not key.startswith("model.modalities")
}


@pytest.mark.parametrize("key", SOME_CHOICES)
def test_choices_are_named(key):
    def nested(value):
        for name in reversed(key.split(".")):
            value = {name: value}
        return value

    with pytest.raises(UserError) as caught:
        from_mapping(nested("?"))
    assert str(caught.value) == f"config.{key} must be one of {', '.join(SOME_CHOICES[key])}, got '?'."
    near = SOME_CHOICES[key][-1]
    with pytest.raises(UserError, match=rf"got {near[:-1]!r}\. Did you mean '.*'\?"):
        from_mapping(nested(near[:-1]))


@pytest.mark.parametrize("ranges", [(), ((0.0, 4.0), (4.0, 8.0), (8.0, 16.0), (16.0, math.inf))])
def test_json_round_trip(ranges):
    config = from_mapping(
        {"seed": 7, "loss": {"radius": None}, "model": {"pyramid": {"regression_ranges": ranges}}}
    )
    assert config.model.pyramid.regression_ranges == ranges
    assert from_json(to_json(config)) == config
    assert json.loads(to_json(config))["evaluation"] == dataclasses.asdict(config.evaluation)  # defaults too


def write_config(folder: Path, body: str, signature: str = "get_config()") -> str:
    path = folder / "my_config.py"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    path.write_text(f"import ml_collections\n\ndef {signature}:\n{lines}\n")
    return str(path)


def test_overrides(tmp_path):
    path = write_config(tmp_path, "return ml_collections.ConfigDict({'seed': 1, 'train': {'steps': 5}})")
    assert load(path).train.steps == 5
    config = load(
        path,
        [
            "train.steps=7",
            "train.learning_rate=1e-4",
            "data.dir=some/folder",
            "data.mirror=True",
            "loss.radius=None",
            "model.pyramid.num_levels=2",
            "model.pyramid.regression_ranges=((0,4),(4,1e999))",
        ],
    )
    assert (config.seed, config.train.steps, config.train.learning_rate) == (1, 7, 1e-4)
    assert (config.data.dir, config.data.mirror, config.loss.radius) == ("some/folder", True, None)
    assert config.model.pyramid.regression_ranges == ((0.0, 4.0), (4.0, math.inf))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps", r"--config\.train\.steps: write --config\.KEY=VALUE"),
        ("train.steps=ten", r"config\.train\.steps must be of type int, got 'ten'"),
        ("train.step=10", r"config\.train\.step is not a setting\. Did you mean config\.train\.steps\?"),
        ("seed.more=1", r"--config\.seed\.more: seed is a value, not a group of settings"),
        ("train=10", r"config\.train is a group of settings, got 10"),
    ],
)
def test_wrong_overrides(tmp_path, override, message):
    path = write_config(tmp_path, "return ml_collections.ConfigDict({'seed': 1})")
    with pytest.raises(UserError, match=message):
        load(path, [override])


def test_argument(tmp_path):
    path = write_config(tmp_path, "return {'seed': len(size)}", "get_config(size='')")
    assert load(path).seed == 0
    assert load(f"{path}:large").seed == 5


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(UserError, match=r"there is no file nowhere/x\.py"):
        load("nowhere/x.py")
    with pytest.raises(
        UserError, match=r"my_config\.py: get_config\(\) failed with ZeroDivisionError: division"
    ):
        load(write_config(tmp_path, "return 1 / 0"))
    with pytest.raises(UserError, match=r"failed with TypeError: .*takes 0 positional arguments"):
        load(write_config(tmp_path, "return {}") + ":large")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(UserError, match=r"empty\.py: get_config\(\) failed with AttributeError"):
        load(str(tmp_path / "empty.py"))
    with pytest.raises(UserError, match="advice of the file itself"):
        load(
            write_config(
                tmp_path,
                "from unloc_jax.errors import UserError\nraise UserError('advice of the file itself')",
            )
        )


CONFIGS = sorted(
    path.stem for path in (REPOSITORY / "configs").glob("*.py") if path.stem not in ("__init__", "common")
)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_projects_configs_load_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load(f"configs/{name}.py", ["data.dir=elsewhere"])
    assert config.data.dir == "elsewhere"
    assert config.train.steps > 0


def test_a_file_in_the_working_directory_comes_first(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.py").write_text("def get_config():\n    return {'seed': 12345}\n")
    monkeypatch.chdir(tmp_path)
    assert load("configs/quickstart.py").seed == 12345


def test_the_quickstarts_are_of_their_task():
    assert {"quickstart", "quickstart_tal"} <= set(CONFIGS)
    assert load("configs/quickstart.py").task == "moment_retrieval"
    assert load("configs/quickstart_tal.py").task == "temporal_action_localization"
