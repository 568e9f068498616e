import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import random_batch, tiny_config, tiny_task
from unloc_jax.config import ModelConfig
from unloc_jax.model.unloc import UnLoc
from unloc_jax.tasks.parameters import abstract_params
from unloc_jax.text import END_TOKEN, tokenize


@pytest.fixture(scope="module")
def model(moment_retrieval):
    """(frames, frame_mask, text_tokens) → Localization on the host, and a batch."""
    task, params = moment_retrieval
    return runner(task.model, params), random_batch(task.config)


def runner(model, params):
    apply = jax.jit(lambda frames, *others: model.apply({"params": params}, {"rgb": frames}, *others))
    return lambda *inputs: jax.device_get(apply(*inputs))


def assert_equal(a, b):
    chex.assert_trees_all_close(a, b, rtol=1e-4, atol=1e-5)


def test_shapes(model):
    run, batch = model
    found = run(batch.frames, batch.frame_mask, batch.text_tokens)
    assert found.relevance.shape == (2, 3, 14) and found.offsets.shape == (2, 3, 14, 2)
    assert found.relevance.dtype == found.offsets.dtype == np.float32
    assert (found.offsets >= 0).all()
    # No two videos, texts or points are alike.
    assert len(np.unique(found.relevance)) == found.relevance.size


def test_inputs_of_other_shapes_and_masks_of_other_types_are_refused(moment_retrieval):
    """They would be broadcast, or index points by 0 and 1."""
    task, params = moment_retrieval
    batch = random_batch(task.config)
    frames, mask, tokens = batch.frames, batch.frame_mask, batch.text_tokens
    apply = lambda *inputs: jax.eval_shape(
        lambda frames, *others: task.model.apply({"params": params}, {"rgb": frames}, *others), *inputs
    )
    apply(frames, mask, tokens)
    three = np.concatenate([tokens, tokens[:1]])  # texts of three videos for two
    others = [(frames[0], mask, tokens), (frames, mask[:1], tokens), (frames, mask[:, :-1], tokens)]
    for inputs in [*others, (frames, np.float32(mask), tokens), (frames, mask, three)]:
        with pytest.raises(AssertionError):
            apply(*inputs)


def test_videos_and_texts_do_not_mix(model):
    run, batch = model
    found = run(batch.frames, batch.frame_mask, batch.text_tokens)
    turned = run(batch.frames[::-1], batch.frame_mask, batch.text_tokens[::-1, [2, 0, 1]])
    assert_equal(turned, jax.tree.map(lambda leaf: leaf[::-1, [2, 0, 1]], found))


def test_three_texts_equal_one_at_a_time(model):
    run, batch = model
    found = run(batch.frames, batch.frame_mask, batch.text_tokens)
    for n in range(3):
        alone = run(batch.frames, batch.frame_mask, batch.text_tokens[:, n : n + 1])
        assert_equal(alone, jax.tree.map(lambda leaf, n=n: leaf[:, n : n + 1], found))


def test_a_vocabulary_equals_texts_per_video(model):
    run, batch = model
    vocabulary = batch.text_tokens[:1]
    per_video = run(batch.frames, batch.frame_mask, vocabulary.repeat(2, axis=0))
    assert_equal(run(batch.frames, batch.frame_mask, vocabulary), per_video)


def test_a_text_of_nothing_leaves_the_others_alone(model):
    """Rows of zeros fill up the texts of a video that has fewer."""
    run, batch = model
    tokens = batch.text_tokens.copy()
    tokens[1, 2] = 0
    before, after = (run(batch.frames, batch.frame_mask, x) for x in (batch.text_tokens, tokens))
    assert np.isfinite(after.relevance).all()
    assert_equal(after.relevance[:, :2], before.relevance[:, :2])


def test_padded_frames_do_not_reach_points_that_are_far_enough(model):
    """Fusion sees no padded frame; the convolutions of pyramid and head do, within two frames on level 0."""
    run, batch = model
    mask = batch.frame_mask.copy()
    mask[:, 6:] = False
    changed = batch.frames.copy()
    changed[:, 6:] = 255 - changed[:, 6:]
    before, after = (run(frames, mask, batch.text_tokens) for frames in (batch.frames, changed))
    assert_equal(after.relevance[..., :4], before.relevance[..., :4])
    assert_equal(after.offsets[..., :4, :], before.offsets[..., :4, :])
    # The mask is what shields them: without it, they see those frames.
    before, after = (run(frames, batch.frame_mask, batch.text_tokens) for frames in (batch.frames, changed))
    assert (abs(after.relevance - before.relevance)[..., :4] > 1e-5).all()


@pytest.mark.slow
def test_padding_of_a_text_does_not_matter(moment_retrieval):
    task = tiny_task(model={"fusion": {"all_text_tokens": True}})
    params, batch = moment_retrieval[1], random_batch(task.config)
    apply = runner(task.model, params)
    texts = ["a cat", "dogs run"]
    short, long = (tokenize(texts, length)[None] for length in (4, 8))
    assert (short[..., -1] == END_TOKEN).all() and (long[..., 4:] == 0).all()
    assert_equal(*(apply(batch.frames, batch.frame_mask, tokens) for tokens in (short, long)))


@pytest.mark.slow
def test_bfloat16_is_near_and_gives_float32(moment_retrieval, model):
    task, params = moment_retrieval
    run, batch = model
    low = UnLoc(task.config.model, task.config.data.num_frames, dtype=jnp.bfloat16)
    inputs = (batch.frames, batch.frame_mask, batch.text_tokens)
    found = runner(low, params)(*inputs)
    expected = run(*inputs)
    assert found.relevance.dtype == found.offsets.dtype == np.float32
    np.testing.assert_allclose(found.relevance, expected.relevance, atol=0.05)
    assert abs(found.relevance - expected.relevance).max() > 1e-5  # it did compute in bfloat16


def test_how_layers_run_reaches_towers_and_fusion():
    """All three use the transformer, whose tests show that they change no number."""

    def traced(**change):
        layers = {name: {"num_layers": 2} for name in ("image", "text", "fusion")}
        task = tiny_task(model=layers | change)
        batch = random_batch(task.config)
        run = lambda params: task.model.apply(
            {"params": params}, batch.inputs, batch.frame_mask, batch.text_tokens
        )
        program = str(jax.make_jaxpr(run)(abstract_params(task)))
        return program.count("unroll=2"), program.count("prevent_cse="), program.count("length=4")

    assert traced() == (0, 3, 0)  # the activations are always recomputed
    assert traced(remat="full", unroll=2) == (3, 6, 0)
    assert traced(frame_chunk=4) == (0, 3, 1)  # 2 videos of 8 frames


@pytest.mark.parametrize(
    ("backend", "dtype", "expected"),
    [("gpu", jnp.bfloat16, {"cudnn"}), ("gpu", jnp.float32, set()), ("cpu", jnp.bfloat16, set())],
)
def test_cudnn_is_asked_for_the_image_tower_on_a_gpu_in_bfloat16(monkeypatch, backend, dtype, expected):
    """Elsewhere a checkpoint that was trained so is run as any other."""
    asked = []

    def attention(query, key, value, **settings):
        asked.append(settings["implementation"])
        return query

    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax.nn, "dot_product_attention", attention)
    task = tiny_task(model={"attention": "cudnn"})
    model = UnLoc(task.config.model, task.config.data.num_frames, dtype=dtype)
    batch, params = random_batch(task.config), abstract_params(task)
    asked.clear()
    run = lambda params: (
        model.apply({"params": params}, batch.inputs, batch.frame_mask, batch.text_tokens).relevance
    )
    jax.make_jaxpr(run)(params)
    assert set(asked) == expected


def test_pyramid_of_a_config():
    ranges = ((0.0, 2.0), (2.0, 9.0))
    model = tiny_config(model={"pyramid": {"num_levels": 2, "stride": 4, "regression_ranges": ranges}}).model
    assert model.geometry(8).regression_ranges == ranges
    assert model.geometry(8).level_lengths == [8, 2]
    assert ModelConfig().geometry(8).regression_ranges == ((0, 4), (4, 8), (8, 16), (16, np.inf))
    frames_only = tiny_config("action_segmentation", model={"pyramid": {"type": "none"}}).model
    assert frames_only.geometry(8).level_lengths == [8]
