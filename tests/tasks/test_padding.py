"""Padding changes nothing: frames, texts, word pieces, segments and videos that only fill up.

Every case is a tiny model, with choices that are drawn from the config's schema, and a batch. The same videos come
once more in a larger batch of a model for more frames, where all that fills up is rubbish: loss, gradients and
segments must stay.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import chex
import jax
import numpy as np
import pytest

from tests.config.choices import CHOICES
from tests.tiny import CLASSES, QUERIES, random_params, tiny_config, tiny_metadata
from unloc_jax import config as schema
from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.tasks import TASKS, Task, make_task
from unloc_jax.tasks.contrastive import segment_text_loss
from unloc_jax.tasks.windows import WindowOutput, merge_windows
from unloc_jax.text import tokenize
from unloc_jax.training.step import Loss

# Enough for each kind of pyramid where segments come from its points; highlight detection computes what moment
# retrieval does.
CASES = {
    "moment_retrieval": 7,
    "temporal_action_localization": 7,
    "highlight_detection": 2,
    "action_segmentation": 4,
    "classification": 3,
    "video_text_contrastive": 3,
}
FAST_CASES = 1  # of each task; the others take minutes
TOLERANCE = 1e-5
STEP_S = 0.5
KEY = jax.random.key(0)


class Size(NamedTuple):
    frames: int
    queries: int
    asked: int
    segments: int
    tokens: int
    videos: int


ALONE = Size(frames=6, queries=3, asked=3, segments=3, tokens=10, videos=2)
PADDED = Size(frames=11, queries=5, asked=4, segments=5, tokens=12, videos=3)
REAL_FRAMES = (6, 5)  # of the two videos

# What is not a computation on a batch, or needs files.
_LEFT_OUT = {
    "model.text.encoder",
    "model.pyramid.ranges_from_data",
    "model.pyramid.type",
    "model.pyramid.downsampling",
}
_GROUPS = {
    "model.image": schema.ImageTowerConfig,
    "model.text": schema.TextTowerConfig,
    "model.fusion": schema.FusionConfig,
    "model.pyramid": schema.PyramidConfig,
    "model.head": schema.HeadConfig,
    "loss": schema.LossConfig,
    "evaluation": schema.EvaluationConfig,
}


def axes() -> dict[str, tuple[Any, ...]]:
    """Values of each setting: the choices and switches of the schema, and a few numbers."""
    found: dict[str, tuple[Any, ...]] = {"data.sampling": CHOICES["data.sampling"]}
    for prefix, group in _GROUPS.items():
        for field in dataclasses.fields(group):
            key = f"{prefix}.{field.name}"
            if key in CHOICES:
                found[key] = CHOICES[key]
            elif isinstance(field.default, bool):
                found[key] = (False, True)
    found = {key: values for key, values in found.items() if key not in _LEFT_OUT}
    kinds = [kind for kind in CHOICES["model.pyramid.type"] if kind != "fpn"]
    ways = CHOICES["model.pyramid.downsampling"]
    return found | {
        "model.pyramid": (
            *({"type": kind} for kind in kinds),
            *({"type": "fpn", "downsampling": way} for way in ways),
        ),
        "model.pyramid.stride": (2, 3),
        "model.image.temporal_kernel": (1, 3, 5),
        "model.text_chunk": (0, 2),
        "loss.boundaries": ("iou", "l1+0.5*center"),
        "loss.radius": (1.5, None),
        "loss.label_smoothing": (0.0, 0.1),
        "evaluation.voting_threshold": (0.0, 0.5),
    }


def drawn(task: str) -> list[dict[str, Any]]:
    """Settings of the cases of a task; every value of an axis is in one of them at least, where it is possible."""
    rng = np.random.default_rng(sorted(TASKS).index(task))
    cases: list[dict[str, Any]] = [{} for _ in range(CASES[task])]
    for key, values in axes().items():
        order = rng.permutation(max(len(values), len(cases)))
        for case, place in zip(cases, order):
            case[key] = values[place % len(values)]
    return [possible(task, case) for case in cases]


def possible(task: str, case: dict[str, Any]) -> dict[str, Any]:
    """Without the settings that do not go with the others, or with the task."""
    for count in range(4):
        for keys in itertools.combinations(case, count):
            fewer = {key: value for key, value in case.items() if key not in keys}
            try:
                config_of(task, fewer, ALONE)
            except UserError:
                continue
            return fewer
    raise AssertionError(f"nothing fits {task}: {case}")


def config_of(task: str, settings: dict[str, Any], size: Size) -> Config:
    config: dict[str, Any] = {
        "model": {
            "text": {"max_tokens": size.tokens},
            "fusion": {"width": 16, "num_layers": 3, "num_heads": 2, "mlp_dim": 32},
            "pyramid": {"num_levels": 3},
        },
        "data": {
            "num_frames": size.frames,
            "max_segments": size.segments,
            "max_queries": size.queries,
            "prompts": ("{}", "a film of {}"),
        },
        "evaluation": {"max_detections": 4, "score_threshold": 0.01},
    }
    for key, value in settings.items():
        *parents, last = key.split(".")
        group = config
        for parent in parents:
            group = group.setdefault(parent, {})
        group[last] = {**group.get(last, {}), **value} if isinstance(value, dict) else value
    # The text's place is behind the model's T frames, not behind a video's: its position is not padding.
    config["model"]["fusion"]["positions_max_length"] = ALONE.frames
    return tiny_config(task, **config)


def batch_of(config: Config, size: Size, seed: int) -> Batch:
    """Two videos that are the same whatever the size; all else, padding of these included, depends on the seed."""
    rng, rubbish = np.random.default_rng(7), np.random.default_rng(seed)
    data, videos = config.data, len(REAL_FRAMES)
    frames = rubbish.integers(0, 256, (size.videos, size.frames, data.crop_size, data.crop_size, 3), np.uint8)
    frame_mask = np.ones((size.videos, size.frames), bool)
    for video, count in enumerate(REAL_FRAMES):
        frames[video, :count] = rng.integers(0, 256, (count, *frames.shape[2:]), np.uint8)
        frame_mask[video, count:] = False
    texts = [*rubbish.permutation(QUERIES)] * size.queries
    tokens = np.tile(tokenize(texts[: size.queries], size.tokens), (size.videos, 1, 1))
    text_mask = np.zeros((size.videos, size.queries), bool)
    own = tokenize(QUERIES[1:4], size.tokens)
    for video, count in enumerate((3, 2)):
        tokens[video, :count], text_mask[video, :count] = np.roll(own, video, axis=0)[:count], True
    text_mask[videos:] = True
    segments = np.sort(rubbish.uniform(0, size.frames - 1, (size.videos, size.segments, 2))).astype(
        np.float32
    )
    segment_text = rubbish.integers(0, 3, (size.videos, size.segments)).astype(np.int32)
    for video, (count, last) in enumerate(zip((3, 2), REAL_FRAMES)):
        segments[video, :count] = np.sort(rng.uniform(0, last - 1, (count, 2)))
        segment_text[video, :count], segment_text[video, count:] = np.arange(count), -1
    if config.with_vocabulary:
        tokens, text_mask = tokens[:, :0], text_mask[:, :0]
    return Batch(
        frames=frames,
        frame_mask=frame_mask,
        text_tokens=tokens,
        text_mask=text_mask,
        segments=segments,
        segment_text=segment_text,
        span_s=np.tile(np.array([1.0, 1.0 + STEP_S * (size.frames - 1)], np.float32), (size.videos, 1)),
        example_mask=np.arange(size.videos) < videos,
    )


def asked(task: Task, size: Size, seed: int) -> np.ndarray:
    """The texts of evaluation: the classes, or as many texts per video, of which the first three are real."""
    if task.config.with_vocabulary:
        return task.encoding(CLASSES)[None]
    others = np.random.default_rng(seed).choice(QUERIES, size.asked - 3).tolist()
    return np.tile(task.encoding([*QUERIES[:3], *others])[None], (size.videos, 1, 1, 1))


def cut(tree: Any, shapes: Any) -> Any:
    """The first rows of every array: tables of places have more of them for more frames or word pieces."""
    return jax.tree.map(lambda x, like: x[tuple(map(slice, like.shape))], tree, shapes)


def assert_close(found: Any, expected: Any, what: str) -> None:
    """Within 1e-5 of the largest number."""
    leaves = [np.abs(x).max() for x in jax.tree.leaves(expected) if x.size]
    largest = max(1.0, *leaves)
    close = {"atol": TOLERANCE * largest, "rtol": TOLERANCE}
    chex.assert_trees_all_close(found, expected, **close, custom_message=what)


def found_in(task: Task, output: Any, batch: Batch, video: int, texts: int) -> list[Any]:
    """[segments and scores of each text], curve and so on of a video, as prediction and evaluation make them."""
    only = lambda x: np.asarray(x)[video : video + 1]
    by_text = dataclasses.replace(output, frame_classes=None)
    output = dataclasses.replace(
        jax.tree.map(lambda x: only(x)[:, :texts], by_text),
        frame_classes=None if output.frame_classes is None else only(output.frame_classes),
    )
    span_s, mask = batch.span_s[video], batch.frame_mask[video]
    count = int(mask.sum())
    if task.config.data.windowed:
        output, span_s = merge_windows([WindowOutput(output, span_s, mask)], task.config.evaluation)
    else:
        span_s = np.array([span_s[0], span_s[0] + STEP_S * (count - 1)], np.float32)
        cut_off = lambda x: None if x is None else x[..., :count]
        output = dataclasses.replace(
            output, curve=cut_off(output.curve), frame_classes=cut_off(output.frame_classes)
        )
    segments = task.segments(output, 0, span_s)
    ends = np.concatenate([of_text.reshape(-1, 2) for of_text, _ in segments])
    assert (ends[:, 0] >= span_s[0] - 1e-5).all() and (ends[:, 1] <= span_s[1] + 1e-5).all()  # some last bits
    assert (ends[:, 0] <= ends[:, 1]).all()
    return [segments, output.curve, output.frame_classes, output.video_scores]


PARAMETERS = [
    pytest.param(task, case, id=f"{task}-{i}", marks=[pytest.mark.slow] if i >= FAST_CASES else [])
    for task in sorted(TASKS)
    for i, case in enumerate(drawn(task))
]


def test_the_cases_have_every_choice():
    """All values of all settings that `axes` has; and every pyramid, where segments come from its points."""
    assert set(CASES) == set(TASKS)
    by_task = {task: drawn(task) for task in TASKS}
    for key, values in axes().items():
        for value in values:
            assert any(case.get(key) == value for cases in by_task.values() for case in cases), (key, value)
    for task in ("moment_retrieval", "temporal_action_localization"):
        kinds = [case.get("model.pyramid") for case in by_task[task]]
        assert all(kind in kinds for kind in axes()["model.pyramid"])
    assert any(
        not case.get("model.head.offsets_per_text", True) for case in by_task["temporal_action_localization"]
    )


@pytest.mark.parametrize(("name", "case"), PARAMETERS)
def test_padding_changes_nothing(name, case):
    results = {}
    params: Any = None
    for size, seeds in ((PADDED, (1, 2)), (ALONE, (3,))):
        task = make_task(config_of(name, case, size), tiny_metadata())
        params = random_params(task) if params is None else cut(params, random_params(task))

        @jax.jit
        def run(params, batch, texts, task=task):
            of_loss = jax.value_and_grad(lambda params: task.loss(params, batch, KEY)[0])
            return (*of_loss(params), task.detect(params, batch, texts))

        for seed in seeds:
            batch = batch_of(task.config, size, seed)
            loss, gradients, output = jax.device_get(run(params, batch, asked(task, size, seed)))
            found = [found_in(task, output, batch, video, 3) for video in range(len(REAL_FRAMES))]
            results[size, seed] = loss, gradients, found
    alone = results[ALONE, 3]
    assert np.isfinite(alone[0])
    if case.get("model.text.pooling") != "first":  # of all texts the same token, which sees none after it
        assert max(np.abs(x).max() for x in jax.tree.leaves(alone[1])) > 1e-4
    for seed in (1, 2):
        loss, gradients, found = results[PADDED, seed]
        assert_close(loss, alone[0], "loss")
        assert_close(cut(gradients, alone[1]), alone[1], "gradient of")
        assert_close(found, alone[2], "found")
        # Tables of places: those of padding learn nothing.
        for whole, part in zip(jax.tree.leaves(gradients), jax.tree.leaves(alone[1])):
            if whole.shape != part.shape:
                rest = whole.copy()
                rest[tuple(map(slice, part.shape))] = 0
                np.testing.assert_array_equal(rest, 0)


@pytest.mark.parametrize("temporal_kernel", [1, 3])
@pytest.mark.parametrize("name", ["moment_retrieval", "temporal_action_localization"])
def test_padding_changes_nothing_in_the_contrastive_stage(name, temporal_kernel):
    settings = {"model.image.temporal_kernel": temporal_kernel, "model.text.pooling": "mean"}
    losses: dict[Size, Any] = {}
    params: Any = None
    for size in (PADDED, ALONE):
        config = dataclasses.replace(config_of(name, settings, size), contrastive=schema.StageConfig(steps=1))
        task = make_task(config, tiny_metadata())
        params = random_params(task) if size == PADDED else cut(params, random_params(task))
        run = jax.jit(
            jax.value_and_grad(
                lambda params, batch, task=task: segment_text_loss(task, params, batch, KEY)[0]
            )
        )
        losses[size] = run(params, batch_of(config, size, size.frames))
    assert_close(losses[PADDED][0], losses[ALONE][0], "loss")
    assert_close(cut(losses[PADDED][1], losses[ALONE][1]), losses[ALONE][1], "gradient of")


@pytest.mark.slow
def test_padding_changes_nothing_in_a_mixture():
    names = ("moment_retrieval", "temporal_action_localization")
    augmentation = {"data.augmentation": {"color": 1.0, "grey": 0.5, "rand_augment_layers": 3}}
    found: dict[Size, Any] = {}
    params: Any = None
    for size in (PADDED, ALONE):
        tasks = {name: make_task(config_of(name, augmentation, size), tiny_metadata()) for name in names}
        shapes = random_params(tasks[names[0]])
        params = shapes if size == PADDED else cut(params, shapes)
        batches = {name: batch_of(task.config, size, size.frames) for name, task in tasks.items()}
        loss = Loss(tasks, dict(zip(names, (1.0, 0.3))), "train")
        run = jax.jit(jax.value_and_grad(lambda params, batches, loss=loss: loss(params, batches, KEY)[0]))
        found[size] = run(params, batches)
    assert_close(found[PADDED][0], found[ALONE][0], "loss")
    assert_close(cut(found[PADDED][1], found[ALONE][1]), found[ALONE][1], "gradient of")
