"""The loss of tasks with boundaries: what it depends on, and its value computed by hand."""

import dataclasses

import chex
import jax
import numpy as np
import pytest

from tests.tiny import CLASSES, random_batch, random_params, tiny_config, tiny_metadata, tiny_task
from unloc_jax.errors import UserError
from unloc_jax.localization.decode import Localization
from unloc_jax.localization.geometry import PyramidGeometry
from unloc_jax.localization.targets import assign_targets
from unloc_jax.tasks import TASKS, make_task
from unloc_jax.text import tokenize

RNG = jax.random.key(0)


@pytest.fixture(scope="module", params=["moment_retrieval", "temporal_action_localization"])
def task_and_loss(request):
    """A task, and (Localization, Batch) → loss and its parts."""
    task = tiny_task(request.param)
    return task, jax.jit(task.localization_loss)


def random_localization(task, batch, seed=1) -> Localization:
    rng = np.random.default_rng(seed)
    texts = batch.text_tokens.shape[1] or len(CLASSES)
    shape = (len(batch.frames), texts, task.geometry.num_points)
    return Localization(
        rng.normal(size=shape).astype(np.float32), rng.uniform(0, 4, (*shape, 2)).astype(np.float32)
    )


def replaced(array: np.ndarray, at, value) -> np.ndarray:
    array = array.copy()
    array[at] = value
    return array


def test_equals_the_formula(task_and_loss):
    task, loss = task_and_loss
    batch = random_batch(task.config)
    # One video of which the last two frames are padding, and one that only fills up the batch.
    batch = batch.replace(
        frame_mask=replaced(batch.frame_mask, (0, slice(6, 8)), False), example_mask=np.array([True, False])
    )
    found = random_localization(task, batch)
    parts = jax.device_get(loss(found, batch)[1])

    config = task.config.loss
    targets = assign_targets(
        batch.segments, batch.segment_text, found.relevance.shape[1], task.geometry, config.radius
    )
    real = np.flatnonzero(task.geometry.positions < 6)
    target, target_offsets, offsets = (
        np.asarray(x)[0][:, real].astype(np.float64)
        for x in (targets.relevance, targets.offsets, found.offsets)
    )
    p = 1 / (1 + np.exp(-found.relevance[0][:, real].astype(np.float64)))
    p_true, alpha = np.where(target, p, 1 - p), np.where(target, config.focal_alpha, 1 - config.focal_alpha)
    focal = -alpha * (1 - p_true) ** config.focal_gamma * np.log(p_true)
    # Moment retrieval averages over pairs of point and query; action localisation sums over classes.
    relevance = focal.mean() if batch.text_tokens.size else focal.sum(0).mean()

    positive = target > 0
    assert 2 < positive.sum() < positive.size
    overlap, union = (f(offsets, target_offsets).sum(-1)[positive] for f in (np.minimum, np.maximum))
    iou = (overlap / union).mean()
    np.testing.assert_allclose(parts["relevance_loss"], relevance, rtol=1e-5)
    np.testing.assert_allclose(parts["boundary_loss"], 1 - iou, rtol=1e-5)
    np.testing.assert_allclose(parts["point_iou"], iou, rtol=1e-5)
    np.testing.assert_allclose(parts["loss"], config.relevance_weight * relevance + 1 - iou, rtol=1e-5)


def test_a_row_that_fills_up_does_not_count(task_and_loss):
    task, loss = task_and_loss
    batch = random_batch(task.config, videos=3)
    found = random_localization(task, batch)
    masked = batch.replace(example_mask=np.array([True, False, True]))
    real = np.array([0, 2])
    alone = loss(*jax.tree.map(lambda x: x[real], (found, batch)))[0]
    np.testing.assert_allclose(loss(found, masked)[0], alone, rtol=1e-5)
    assert abs(loss(found, batch)[0] - alone) > 1e-3


def test_masked_texts_do_not_count():
    task = tiny_task("moment_retrieval")
    batch = random_batch(task.config)
    found = random_localization(task, batch)
    masked = batch.replace(
        text_mask=replaced(batch.text_mask, (slice(None), 2), False),
        segment_text=replaced(batch.segment_text, (slice(None), 2), -1),
    )
    loss = jax.jit(task.localization_loss)
    other = found.replace(relevance=replaced(found.relevance, (slice(None), 2), 5.0))
    value = loss(found, masked)[0]
    assert loss(other, masked)[0] == value
    fewer = masked.replace(text_tokens=batch.text_tokens[:, :2], text_mask=batch.text_mask[:, :2])
    alone = loss(Localization(found.relevance[:, :2], found.offsets[:, :2]), fewer)[0]
    np.testing.assert_allclose(value, alone, rtol=1e-5)


@pytest.mark.parametrize("field", ["segment_text", "example_mask"])
def test_nothing_to_learn_is_no_nan(task_and_loss, field):
    """Videos without segments teach that nothing is relevant; a batch without videos teaches nothing."""
    task, _ = task_and_loss
    batch = random_batch(task.config)
    empty = {"segment_text": np.full_like(batch.segment_text, -1), "example_mask": np.zeros(2, bool)}
    batch = batch.replace(**{field: empty[field]})
    found = random_localization(task, batch)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: task.localization_loss(x, batch)[0]))(found)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((value, gradient)))
    np.testing.assert_array_equal(gradient.offsets, 0)
    if field == "segment_text":
        assert value > 0 and (gradient.relevance > 0).all()
    else:
        assert value == 0


def test_through_the_whole_model(moment_retrieval):
    """Neither masked texts nor rows that fill up reach the loss; what is real does."""
    task, params = moment_retrieval
    loss = jax.jit(lambda batch: task.loss(params, batch, RNG)[0])
    batch = random_batch(task.config).replace(
        text_mask=np.array([[True, True, False], [True, True, True]]),
        segment_text=np.array([[0, 1, -1], [0, 1, 2]], np.int32),
        example_mask=np.array([True, False]),
    )
    value = loss(batch)
    assert np.isfinite(value) and value > 0
    masked_text = replaced(batch.text_tokens, (0, 2), batch.text_tokens[1, 0])
    assert loss(batch.replace(text_tokens=masked_text)) == value
    other = random_batch(task.config, seed=5)
    for name in ("frames", "text_tokens", "segments"):
        changed = replaced(getattr(batch, name), 1, getattr(other, name)[1])
        assert loss(batch.replace(**{name: changed})) == value
    real_text = replaced(batch.text_tokens, (0, 0), batch.text_tokens[0, 1])
    assert loss(batch.replace(text_tokens=real_text)) != value


def test_action_localization_takes_its_texts_from_the_vocabulary(action_localization, moment_retrieval):
    task, params = action_localization
    batch = random_batch(task.config)
    assert batch.text_tokens.shape[1] == 0
    asked = batch.replace(text_tokens=tokenize(CLASSES, 8)[None])
    found, expected = jax.jit(
        lambda: [t.text_features(params, x, RNG) for t, x in ((task, batch), (moment_retrieval[0], asked))]
    )()
    assert found.sentence.shape == (1, 3, 16)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.with_vocabulary])
def test_tasks_with_a_vocabulary_need_classes(name):
    queries = dataclasses.replace(tiny_metadata(), classes=[])
    with pytest.raises(
        UserError, match=f"config.task = '{name}' needs a dataset with classes; somewhere has queries"
    ):
        make_task(tiny_config(name, data={"dir": "somewhere"}), queries)


def test_tasks_with_queries_do_not_use_classes():
    task = make_task(tiny_config(), tiny_metadata())
    assert task.classes == task.evaluation_classes == ()


def test_geometry_is_that_of_the_config():
    task = tiny_task(model={"pyramid": {"num_levels": 2, "stride": 4}})
    assert task.geometry == PyramidGeometry(8, 2, 4, ((0.0, 4.0), (4.0, np.inf)))


TWO_LAYERS = {"num_layers": 2}  # the first one is never skipped


@pytest.mark.parametrize(
    ("model", "random"),
    [
        ({}, False),
        ({"fusion": {"dropout": 0.3}}, True),
        ({"fusion": {"attention_dropout": 0.3}}, True),
        ({"fusion": {"stochastic_depth": 0.6} | TWO_LAYERS}, True),
        ({"image": {"stochastic_depth": 0.6} | TWO_LAYERS}, True),
    ],
    ids=["nothing", "dropout", "attention_dropout", "stochastic_depth", "image_stochastic_depth"],
)
def test_what_is_dropped_in_training_is_drawn_by_the_step(model, random):
    task = tiny_task(model=model)
    params, batch = random_params(task), random_batch(task.config)
    loss = jax.jit(lambda rng: task.loss(params, batch, rng)[0])
    values = [float(loss(jax.random.key(key))) for key in (0, 0, *range(1, 6))]
    assert values[0] == values[1]
    assert (len(set(values)) > 1) == random


def test_the_losses_settings_reach_the_loss():
    settings = {
        "relevance": "sigmoid", "relevance_weight": 2.0, "label_smoothing": 0.2, "boundaries": "0.5*l1+3*center",
    }  # fmt: skip
    task = tiny_task(loss=settings)
    batch = random_batch(task.config)
    found = random_localization(task, batch)
    parts = jax.device_get(jax.jit(task.localization_loss)(found, batch)[1])
    targets = task.targets(batch)
    target = 0.8 * np.asarray(targets.relevance, np.float64) + 0.1
    p = 1 / (1 + np.exp(-found.relevance.astype(np.float64)))
    relevance = (-target * np.log(p) - (1 - target) * np.log(1 - p)).mean()
    positive = np.asarray(targets.relevance) > 0
    ours, theirs = found.offsets[positive], np.asarray(targets.offsets)[positive]
    union = np.maximum(ours, theirs).sum(-1)
    l1 = abs(ours - theirs).sum(-1) / union
    center = ((np.diff(ours)[:, 0] - np.diff(theirs)[:, 0]) / 2 / union) ** 2
    np.testing.assert_allclose(parts["relevance_loss"], relevance, rtol=1e-4)
    np.testing.assert_allclose(parts["boundary_loss"], (0.5 * l1 + 3 * center).mean(), rtol=1e-4)
    np.testing.assert_allclose(parts["loss"], 2 * relevance + (0.5 * l1 + 3 * center).mean(), rtol=1e-4)
