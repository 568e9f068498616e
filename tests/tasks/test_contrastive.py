import jax
import numpy as np
import pytest

from tests.tiny import random_batch, random_params, tiny_task
from unloc_jax.model.unloc import LARGEST_LOGIT_SCALE
from unloc_jax.tasks.contrastive import segment_text_loss


@pytest.fixture(scope="module")
def loss():
    """Batch → loss and metrics; keyword arguments replace parameters."""
    task = tiny_task(contrastive={"steps": 1})
    params = random_params(task)
    compiled = jax.jit(lambda params, batch: segment_text_loss(task, params, batch, jax.random.key(0)))
    return lambda batch, **change: jax.device_get(compiled(params | change, batch))


@pytest.fixture
def batch(moment_retrieval):
    """Video 0 has two segments and one that is padding; video 1 only fills up the batch."""
    batch = random_batch(moment_retrieval[0].config)
    segments = batch.segments.copy()
    segments[0, :2] = [[0, 2.2], [3, 5]]
    return batch.replace(
        segments=segments,
        segment_text=np.array([[0, 1, -1], [0, 1, 2]], np.int32),
        example_mask=np.array([True, False]),
    )


def test_padding_does_not_matter(loss, batch):
    value, metrics = loss(batch)
    assert np.isfinite(value) and value > 0
    assert 0 <= metrics["contrastive_accuracy"] <= 1
    segments, frames, tokens = batch.segments.copy(), batch.frames.copy(), batch.text_tokens.copy()
    segments[0, 2] = [6, 7]
    frames[1], tokens[1] = 0, tokens[0]
    for changed in ({"segments": segments}, {"frames": frames}, {"text_tokens": tokens}):
        np.testing.assert_allclose(loss(batch.replace(**changed))[0], value, rtol=1e-6)


def test_only_the_frames_of_segments_matter(loss, batch):
    value = loss(batch)[0]
    inside, outside = batch.frames.copy(), batch.frames.copy()
    inside[0, 1], outside[0, 6:] = 0, 0
    assert abs(loss(batch.replace(frames=inside))[0] - value) > 1e-4
    np.testing.assert_allclose(loss(batch.replace(frames=outside))[0], value, rtol=1e-6)


def test_padded_frames_do_not_matter(loss, batch):
    mask, frames = batch.frame_mask.copy(), batch.frames.copy()
    mask[0, 5:], frames[0, 5:] = False, 0
    value = loss(batch.replace(frame_mask=mask))[0]
    np.testing.assert_allclose(loss(batch.replace(frame_mask=mask, frames=frames))[0], value, rtol=1e-6)


def test_the_same_sentence_is_no_negative(loss, batch):
    """Two segments with one text cannot be told apart by it: nothing is left to learn."""
    tokens = batch.text_tokens.copy()
    tokens[0, 1] = tokens[0, 0]
    np.testing.assert_allclose(loss(batch.replace(text_tokens=tokens))[0], 0, atol=1e-6)


def test_a_short_segment_has_a_frame(loss, batch):
    segments, frames = batch.segments.copy(), batch.frames.copy()
    segments[0, 0] = [4.5, 4.5]
    frames[0, 4:6] = 255 - frames[0, 4:6]
    values = [loss(batch.replace(segments=segments, frames=x))[0] for x in (batch.frames, frames)]
    assert np.isfinite(values).all() and abs(values[0] - values[1]) > 1e-5


def test_the_scale_is_the_exponential_of_its_parameter(loss, batch):
    for parameter in (2, LARGEST_LOGIT_SCALE):
        metrics = loss(batch, logit_scale=np.float32(parameter))[1]
        np.testing.assert_allclose(metrics["similarity_scale"], np.exp(parameter), rtol=1e-5)
    np.testing.assert_allclose(metrics["similarity_scale"], 100, rtol=1e-5)
