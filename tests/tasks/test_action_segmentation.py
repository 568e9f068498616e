"""Action segmentation: loss, accuracy, runs of frames and scores, by hand."""

import jax
import numpy as np
import pytest

from tests.tiny import CLASSES, random_batch, random_params, tiny_task
from unloc_jax.localization.decode import Localization
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import Output, SplitPredictions
from unloc_jax.tasks.action_segmentation import frame_classes
from unloc_jax.text import tokenize

NO_PYRAMID = {"pyramid": {"type": "none"}}
TASK = tiny_task("action_segmentation", model=NO_PYRAMID)
T, C = 8, len(CLASSES)


def batch_of(**change):
    """Video 0: class 0 in frames 1–3, class 2 in frames 3–5. Video 1: class 1 in all. Video 2 fills up."""
    batch = random_batch(TASK.config, videos=3)
    segments = np.array([[[1, 3.2], [2.5, 5], [0, 0]], [[0, 7], [0, 0], [0, 0]], [[0, 7]] * 3], np.float32)
    labels = np.array([[0, 2, -1], [1, -1, -1], [0, 1, 2]], np.int32)
    mask = np.ones((3, T), bool)
    mask[1, 6:] = False
    real = np.array([True, True, False])
    return batch.replace(segments=segments, segment_text=labels, frame_mask=mask, example_mask=real).replace(
        **change
    )


LABELS = np.zeros((2, C, T))
LABELS[0, 0, 1:4], LABELS[0, 2, 3:6], LABELS[1, 1] = 1, 1, 1


def test_a_frame_shows_the_classes_whose_segments_cover_it():
    for model in (NO_PYRAMID, {}):
        targets = tiny_task("action_segmentation", model=model).targets(batch_of())
        np.testing.assert_array_equal(targets.relevance[:2], LABELS)


@pytest.mark.parametrize("with_pyramid", [False, True])
@pytest.mark.parametrize("kind", ["sigmoid", "focal"])
def test_the_loss_is_its_formula(kind, with_pyramid):
    """Summed over classes and averaged over real frames; of a pyramid the first level counts."""
    settings = {"relevance": kind, "label_smoothing": 0.1, "relevance_weight": 3.0}
    task = tiny_task("action_segmentation", model={} if with_pyramid else NO_PYRAMID, loss=settings)
    points = task.config.model.geometry(T).num_points
    assert points == (14 if with_pyramid else T)
    batch = batch_of()
    logits = np.random.default_rng(0).normal(0, 2, (3, C, points)).astype(np.float32)
    loss, parts = task.localization_loss(Localization(logits, None), batch)

    x, target = logits[:2, :, :T].astype(np.float64), 0.9 * LABELS + 0.05
    p = 1 / (1 + np.exp(-x))
    terms = -target * np.log(p) - (1 - target) * np.log(1 - p)
    if kind == "focal":
        config = task.config.loss
        alpha = config.focal_alpha * target + (1 - config.focal_alpha) * (1 - target)
        terms = alpha * (1 - np.exp(-terms)) ** config.focal_gamma * terms
    real = batch.frame_mask[:2]
    expected = 3.0 * terms.sum(1)[real].sum() / real.sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    assert parts["loss"] == loss

    right = []
    for video, frame in zip(*np.nonzero(real)):
        scores, labels = x[video, :, frame], LABELS[video, :, frame]
        right.append(labels[scores.argmax()] == 1 if scores.max() > 0 else not labels.any())
    assert 0 < np.mean(right) < 1
    np.testing.assert_allclose(parts["frame_accuracy"], np.mean(right), rtol=1e-5)


def test_through_the_whole_model():
    """The loss is that of the model's relevance; padding rows are not seen, nor are padded frames (except for the one
    next to a real one, by the head's convolution)."""
    params, rng = random_params(TASK), jax.random.key(0)

    @jax.jit
    def run(batch):
        localization = TASK.model.apply(
            {"params": params}, batch.inputs, batch.frame_mask, tokenize(CLASSES, 8)[None]
        )
        return TASK.loss(params, batch, rng)[0], TASK.localization_loss(localization, batch)[0]

    batch = batch_of()
    value, expected = run(batch)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    frames, labels = batch.frames.copy(), batch.segment_text.copy()
    frames[1, 7], frames[2], labels[2] = 0, 0, -1
    np.testing.assert_allclose(run(batch.replace(frames=frames, segment_text=labels))[0], value, rtol=1e-6)
    frames[0, 2] = 0
    assert abs(run(batch.replace(frames=frames))[0] - value) > 1e-5


def test_a_linear_head_is_enough():
    task = tiny_task("action_segmentation", model=NO_PYRAMID | {"head": {"type": "linear"}})
    assert set(random_params(task)["head"]) == {"linear"}
    loss = jax.jit(lambda params: task.loss(params, batch_of(), jax.random.key(0))[0])
    value, gradient = jax.value_and_grad(loss)(random_params(task))
    assert np.isfinite(value) and abs(gradient["head"]["linear"]["kernel"]).max() > 0


def test_what_a_frame_shows():
    logits = np.array([[[2, -1, -3, 0], [1, 3, -2, -1], [0, 1, -0.1, -5]]], np.float32)
    np.testing.assert_array_equal(frame_classes(logits), [[0, 1, -1, -1]])


@pytest.mark.parametrize("model", [NO_PYRAMID, {}], ids=["none", "pyramid"])
def test_detect(model):
    task = tiny_task("action_segmentation", model=model)
    params, batch = random_params(task), batch_of()

    @jax.jit
    def run(tokens):
        relevance = task.model.apply({"params": params}, batch.inputs, batch.frame_mask, tokens).relevance
        return task.detect(params, batch, tokens[:, :, None]), relevance

    output, relevance = jax.device_get(run(tokenize(CLASSES, 8)[None]))
    assert output.detections is None and output.curve.shape == (3, C, T)
    real, relevance = batch.frame_mask, relevance[:, :, :T]
    curve = np.where(real[:, None], 1 / (1 + np.exp(-relevance)), 0)
    np.testing.assert_allclose(output.curve, curve, rtol=1e-5)
    shown = np.where(real & (relevance.max(1) > 0), relevance.argmax(1), -1)
    np.testing.assert_array_equal(output.frame_classes, shown)


def test_segments_are_runs_of_frames():
    """From half a frame before the first to half a frame after the last, within the video."""
    shown = np.array([[0, 0, 2, -1, 0, 2, 2, 2]])
    curve = np.random.default_rng(0).random((1, C, T))
    span_s = np.array([10.0, 24.0])  # 2 s from frame to frame
    found = TASK.segments(Output(curve=curve, frame_classes=shown), 0, span_s)
    runs = {0: [((10, 13), [0, 1]), ((17, 19), [4])], 1: [], 2: [((13, 15), [2]), ((19, 24), [5, 6, 7])]}
    assert len(found) == C
    for text, (segments, scores) in enumerate(found):
        expected = sorted(((curve[0, text, frames].mean(), run) for run, frames in runs[text]), reverse=True)
        np.testing.assert_allclose(scores, [score for score, _ in expected])
        np.testing.assert_allclose(segments, np.array([run for _, run in expected]).reshape(-1, 2))


def test_score():
    """Two videos of 8 frames at 0, 1, … 7 s (the second one at 2, 4, … 16 s)."""
    record = lambda segments, texts: VideoRecord(
        "v", 20.0, "test", np.array(segments, float), texts, [{}] * len(texts)
    )
    records = [
        record([[0.6, 3.4], [3, 5]], [CLASSES[0], CLASSES[2]]),  # frames 1–3 and 3–5
        record([[2, 9]], [CLASSES[1]]),  # frames 0–3
    ]
    assert TASK.evaluation_texts(records) == [list(CLASSES)] * 2
    shown = [np.array([-1, 0, 0, 2, 2, 0, -1, 1]), np.array([1, 1, -1, 0, -1, -1, -1, 1])]
    spans = [np.array([0.0, 7.0]), np.array([2.0, 16.0])]
    found = SplitPredictions([list(CLASSES)] * 2, spans_s=spans, frame_classes=shown)
    right = [1, 1, 1, 1, 1, 0, 1, 0], [1, 1, 0, 0, 1, 1, 1, 0]
    with_action = [0, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]
    right, with_action = np.array(right), np.array(with_action, bool)
    result = TASK.compute_metrics(records, found)
    assert result["frame_accuracy"] == pytest.approx(100 * right.mean())
    assert result["frame_accuracy_without_background"] == pytest.approx(100 * right[with_action].mean())
    # Three segments, all hit (the worst overlap is one half), and seven predicted ones: precision 3 / 7, recall 1.
    assert result["F1@10"] == result["F1@50"] == pytest.approx(60)


def test_videos_without_any_action_are_scored():
    record = VideoRecord("v", 8.0, "test", np.zeros((0, 2)), [], [])
    found = SplitPredictions(
        [list(CLASSES)], spans_s=[np.array([0.0, 7.0])], frame_classes=[np.array([-1] * 6 + [0, 1])]
    )
    result = TASK.compute_metrics([record], found)
    assert result["frame_accuracy"] == pytest.approx(75)
    assert result["frame_accuracy_without_background"] == 0  # there are no such frames


def test_only_the_first_level_is_trained():
    """A pyramid's coarser levels neither train nor answer."""
    task = tiny_task("action_segmentation")
    params, batch = random_params(task), batch_of()
    gradient = jax.jit(jax.grad(lambda params: task.loss(params, batch, jax.random.key(0))[0]))(params)
    size = lambda name: float(
        sum(abs(x).sum() for x in jax.tree.leaves(gradient["fusion"]["encoder"]["pyramid"][name]))
    )
    assert size("conv_0") > 0 and size("conv_1") == size("conv_2") == 0
