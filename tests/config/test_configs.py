"""Every config at every size, as far as a CPU goes: shapes for all, a real training step for the tiny ones."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from data_pipelines.build import build
from data_pipelines.builders.feature_files import feature_sources
from tests.tiny import tiny_metadata
from tests.tiny_runs import metric_lines
from unloc_jax.config import Config, load
from unloc_jax.errors import UserError
from unloc_jax.tasks import make_task
from unloc_jax.tasks.parameters import abstract_params, count_parameters
from unloc_jax.training.sharding import MESH_AXES, tree_shardings

# Argument → the config file's variants.
VARIANTS = {
    "charades_sta": ("B", "L", "tiny", "videoprism_base", "videoprism_large"),
    "activitynet_captions": ("B", "L", "tiny"),
    "activitynet_tal": ("B", "L", "tiny", "B,50/50", "L,75/25", "videoprism_base,50/50"),
    "qvhighlights": ("B", "L", "tiny", "features", "L,videoprism_rows"),
    "coin": ("B", "L", "tiny"),
    "thumos14": ("B", "L", "tiny", "i3d", "internvideo2_6b"),
    "multithumos": ("B", "tiny", "features", "L,i3d"),
    "epic_kitchens": ("B", "L", "tiny", "features", "internvideo2", "videoprism_base,videoprism_rows"),
    "ego4d_mq": ("B", "tiny", "features", "omnivore", "internvideo", "L,internvideo2"),
    "ego4d_nlq": ("B", "tiny", "features", "omnivore", "L,egovlp_internvideo"),
    "mad": ("B", "tiny", "clip_b32", "L,clip_l14"),
    "hacs": ("B", "L", "tiny", "features", "L,internvideo2_6b"),
    "fineaction": ("B", "tiny", "features"),
    "charades_tal": ("B", "tiny", "features"),
    "50salads": ("B", "tiny", "features", "L,i3d"),
    "breakfast": ("B", "tiny", "features"),
    "gtea": ("B", "tiny", "features", "videoprism_rows"),
    "kinetics_pretrain": ("B,400,cls", "L,700,contrastive", "tiny", "tiny,400,contrastive"),
    "quickstart_pretrain": ("contrastive", "cls"),
    "small": (
        "temporal_action_localization",
        "moment_retrieval",
        "action_segmentation",
        "highlight_detection",
    ),
    "sound": ("temporal_action_localization", "moment_retrieval", "moment_retrieval,rgb"),
    "real/signs": (
        "temporal_action_localization",
        "moment_retrieval",
        "action_segmentation",
        "highlight_detection",
        "four_tasks",
        "pretraining",
    ),
    "real/seen_and_heard": ("picture", "sound", "both"),
    "real/sounds": ("temporal_action_localization", "moment_retrieval"),
    "real/actions": ("temporal_action_localization", "action_segmentation"),
    "multitask": ("B", "L", "tiny", "B,all", "tiny,all"),
}
ALL = [f"configs/{name}.py:{variant}" for name, variants in VARIANTS.items() for variant in variants]
SIZES_M = {"B": (160, 190), "L": (450, 520), "videoprism_base": (265, 290), "videoprism_large": (630, 670)}
OF_FEATURES_M = (80, 190)
TINY = [path for path in ALL if ":tiny" in path and "/mad" not in path]
TINY_OF_FEATURES = [
    f"configs/{name}"
    for name in ("mad.py:tiny", "qvhighlights.py:tiny,features", "epic_kitchens.py:tiny,features",
                 "50salads.py:tiny,features")
]  # fmt: skip


def shapes(config: Config) -> list[Any]:
    """Parameters of the model as each task sees it."""
    return [
        abstract_params(make_task(view, tiny_metadata(), config)) for view in config.task_configs.values()
    ]


def millions(config: Config) -> list[float]:
    return [count_parameters(params) / 1e6 for params in shapes(config)]


# Strategy → devices along data, context and model, and the share of all parameters that one of them may hold: what is
# small, and in tp what is not of a transformer (the patches of a small tower are a good part), is whole everywhere.
SHARES = {
    "dp": ((2, 4, 1), 1.0),
    "fsdp": ((2, 4, 1), 0.13),
    "tp": ((1, 1, 2), 0.54),
    "fsdp_tp": ((2, 2, 2), 0.14),
}


def share_of_a_device(params: Any, strategy: str, sizes: tuple[int, int, int]) -> float:
    mesh = AbstractMesh(sizes, MESH_AXES, axis_types=(AxisType.Auto,) * 3)
    shardings = tree_shardings(params, mesh, strategy)
    shards = jax.tree.map(lambda leaf, place: math.prod(place.shard_shape(leaf.shape)), params, shardings)
    return sum(jax.tree.leaves(shards)) / count_parameters(params)


@pytest.mark.parametrize("path", [*ALL, "configs/quickstart.py", "configs/quickstart_tal.py"])
def test_every_config_makes_a_model(path):
    config = load(path)
    of_tasks = shapes(config)
    for strategy, (
        sizes,
        most,
    ) in SHARES.items():  # every parameter has a rule, and large ones are really split
        assert share_of_a_device(of_tasks[0], strategy, sizes) <= most
    counts = [count_parameters(params) / 1e6 for params in of_tasks]
    assert len(set(counts)) == 1  # one model for all tasks
    size = path.partition(":")[2].partition(",")[0]
    low, high = SIZES_M.get(size, (1, 5))
    of_features = not (config.model.reads_frames or config.model.reads_sound)
    if of_features and size != "tiny" and "real/" not in path:
        low, high = OF_FEATURES_M
    assert low < counts[0] < high


def test_every_file_is_tested():
    files = {path.relative_to("configs").with_suffix("").as_posix() for path in Path("configs").rglob("*.py")}
    assert {name for name in files if "__init__" not in name} == {
        *VARIANTS,
        "quickstart",
        "quickstart_tal",
        "common",
    }


@pytest.mark.parametrize(
    ("path", "reference"), [("configs/charades_sta.py:B", 187.5), ("configs/activitynet_tal.py:B", 174.9)]
)
def test_parameter_counts_are_the_references(path, reference):
    """The reference has a class embedding for every frame; ours has one, unless asked for."""
    (own,) = millions(load(path))
    (per_frame,) = millions(load(path, ["model.image.class_token_per_frame=True"]))
    assert round(per_frame, 1) == reference
    assert per_frame - own == pytest.approx(127 * 768 / 1e6)


def test_hyperparameters_are_the_references():
    file = Path(__file__).parents[1] / "goldens" / "reference_hparams.json"  # read from Scenic's configs
    reference = json.loads(file.read_text())
    for name, path in {
        "activitynet_tal_linspace_unloc_base_fpn": "activitynet_tal.py:B",
        "activitynet_tal_linspace_unloc_large_fpn": "activitynet_tal.py:L",
        "activitynet_cap_linspace_unloc_base_fpn": "activitynet_captions.py:B",
        "activitynet_cap_linspace_unloc_large_fpn": "activitynet_captions.py:L",
        "charades_sta_linspace_unloc_base_fpn": "charades_sta.py:B",
        "coin_action_seg_unloc_ft_image_clip_large": "coin.py:L",
        "qvhighlights_linspace_unloc_base_fpn_hd": "qvhighlights.py:B",
        "qvhighlights_linspace_unloc_large_fpn_hd": "qvhighlights.py:L",
    }.items():
        _compare(load(f"configs/{path}"), reference[name], path)


def _compare(config: Config, reference: dict, path: str) -> None:
    model, train = config.model, config.train
    pairs = {
        "num_frames": config.data.num_frames,
        "image_classifier": {"token": "token", "mean": "gap"}[model.image.pooling],
        "video_freeze": model.modalities["rgb"].freeze,
        "projection": model.fusion.width,
        "fusion": {"simple": "simple_pyramid", "fpn": "fpn", "none": "transformer"}[model.pyramid.type],
        "heads": model.fusion.num_heads,
        "mlp": model.fusion.mlp_dim,
        "layers": model.fusion.num_layers,
        "posemb": model.fusion.positions,
        "stochastic_depth": model.fusion.stochastic_depth,
        "optimizer": config.optimizer.name,
        "momentum": config.optimizer.momentum,
        "max_grad_norm": config.optimizer.max_grad_norm,
        "batch": config.batch_size,
        "base_lr": train.learning_rate,
    }
    if reference["text_encoder"] == "clip_text_encoder":  # otherwise it reads embeddings from a file
        pairs |= {"max_tokens": model.text.max_tokens, "text_freeze": model.text.freeze}
    for key, ours in pairs.items():
        assert ours == reference[key], (path, key)
    assert train.steps == reference["epochs"] * (reference["train_size"] // reference["batch"]), path
    assert train.warmup_steps == reference["lr"]["warmup_steps"], path
    assert set(train.learning_rates.values()) == set(reference["layer_lrs"].values()), path
    head = reference["head"]
    if model.head.type == "linear":
        assert model.head.relevance_bias == head["init_head_bias"]
        return
    assert model.pyramid.num_levels == reference["pyramid_levels"], path
    ranges = model.geometry(config.data.num_frames).regression_ranges
    assert [list(r) for r in ranges] == reference["regression_ranges"], path
    assert config.loss.radius == reference["radius"], path
    assert (model.head.num_conv_layers, model.head.shared_levels, model.head.relevance_bias) == (
        head["num_conv_layers"], head["weight_sharing"], head["init_classification_head_bias"],
    ), path  # fmt: skip
    loss = config.loss
    ours = (loss.relevance, loss.relevance_weight, [loss.focal_alpha, loss.focal_gamma], loss.boundaries)
    assert ours == tuple(reference[key] for key in ("cls_loss", "cls_alpha", "focal", "box")), path


@pytest.mark.slow
@pytest.mark.parametrize("path", TINY)
def test_a_tiny_config_trains_and_is_evaluated(path, unloc, captions_dataset, activities_dataset, tmp_path):
    config = load(path)
    datasets = {
        name: activities_dataset if view.with_vocabulary else captions_dataset
        for name, view in config.task_configs.items()
    }
    places = [
        f"--config.tasks.{name}.data.dir={place}" if config.tasks else f"--config.data.dir={place}"
        for name, place in datasets.items()
    ]
    sizes = [f"--config.tasks.{name}.data.crop_size=16" for name in config.tasks] or [
        "--config.data.crop_size=16"
    ]
    steps = ["--config.train.steps=2", "--config.train.warmup_steps=1", "--config.log_every_steps=1"]
    unloc("train", f"--config={path}", f"--workdir={tmp_path}", *places, *sizes, *steps).ok()
    lines = metric_lines(tmp_path)
    losses = [value for line in lines for key, value in line.items() if key.endswith("loss")]
    assert losses and all(value > 0 for value in losses)
    told = unloc("evaluate", f"--checkpoint={tmp_path}", "--split=test").ok().out
    assert told.count("metrics.json") == len(datasets)


@pytest.mark.slow
@pytest.mark.parametrize("path", TINY_OF_FEATURES)
def test_a_tiny_config_of_features_trains_and_is_evaluated(path, unloc, tiny_videos, tmp_path):
    config = load(path)
    rng = np.random.default_rng(0)
    sources = []
    for name, modality in config.model.modalities.items():
        folder = tmp_path / name
        folder.mkdir()
        for video in (tiny_videos / "videos").glob("*.mp4"):
            np.save(folder / f"{video.stem}.npy", rng.normal(size=(30, modality.feature_dim)).astype("f4"))
        sources.append(f"{name}={folder}")
    files = (
        [tiny_videos / "annotations" / "activities.json"]
        if config.with_vocabulary
        else [tiny_videos / "annotations" / f"captions_{split}.json" for split in ("train", "val", "test")]
    )
    dataset = "activitynet" if config.with_vocabulary else "activitynet_captions"
    build(dataset, files, None, tmp_path / "shards", features=feature_sources(sources), workers=1)
    steps = ("train.steps=2", "train.warmup_steps=1", "log_every_steps=1")
    settings = (f"--config.{setting}" for setting in (f"data.dir={tmp_path / 'shards'}", *steps))
    unloc("train", f"--config={path}", f"--workdir={tmp_path / 'run'}", *settings).ok()
    assert all(
        value > 0 for line in metric_lines(tmp_path / "run") for key, value in line.items() if key == "loss"
    )
    assert "metrics.json" in unloc("evaluate", f"--checkpoint={tmp_path / 'run'}", "--split=test").ok().out


def test_words_of_an_argument():
    assert load("configs/qvhighlights.py:L,features") == load("configs/qvhighlights.py:slowfast_clip,L")
    with pytest.raises(
        UserError, match=r"the argument is a size \(B, L, .*features \(features, slowfast, .*got 'B,i3d'"
    ):
        load("configs/epic_kitchens.py:B,i3d")


def test_strides_follow_the_rows_per_second():
    for argument, stride in (("slowfast", 1), ("internvideo2", 2), ("B", 5)):
        assert load(f"configs/epic_kitchens.py:{argument}").data.window_stride == stride
