"""Fusing texts: chunk by chunk, early or late, with separate or shared boundaries."""

import chex
import jax
import numpy as np
import pytest

from tests.tiny import random_tree, tiny_config
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.heads import LocalizationHead
from unloc_jax.model.unloc import UnLoc
from unloc_jax.tasks import make_model

B, N, T, L, D = 2, 5, 8, 3, 16


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


VIDEO = normal(0, B, T, D)
MASK = np.ones((B, T), bool)
MASK[1, 6:] = False


def features(seed: int = 1, batch: int = B, num_texts: int = N) -> TextFeatures:
    mask = np.ones((batch, num_texts, L), bool)
    mask[:, 1::2, 1:] = False
    return TextFeatures(normal(seed, batch, num_texts, L, D), mask, normal(seed + 9, batch, num_texts, D))


def model_of(task: str = "moment_retrieval", **model) -> UnLoc:
    model = {
        "pyramid": {"num_levels": 2},
        "modalities": {"x": {"encoder": "features", "feature_dim": D}},
    } | model
    return make_model(tiny_config(task, model=model), T)


def params_of(model: UnLoc, method, *arguments):
    return random_tree(jax.eval_shape(lambda: model.init(jax.random.key(0), *arguments, method=method)))


# What is chunked: settings, the method, and its arguments after video and mask.
KINDS = {
    "offsets_per_text": ({}, UnLoc.localize, (features(),)),
    "shared_texts": ({}, UnLoc.localize, (features(batch=1),)),
    "shared_offsets": (
        {"head": {"offsets_per_text": False, "num_conv_layers": 1}},
        UnLoc.localize,
        (features(),),
    ),
    "late": ({"fusion": {"type": "late"}}, UnLoc.localize, (features(),)),
    "score_videos": ({"fusion": {"all_text_tokens": True}}, UnLoc.score_videos, (features(),)),
}


@pytest.fixture(scope="module", params=KINDS)
def chunked(request):
    """text_chunk → (outputs, gradients of parameters and of the video)."""
    change, method, arguments = KINDS[request.param]
    task = {"score_videos": "classification", "shared_offsets": "temporal_action_localization"}.get(
        request.param, "moment_retrieval"
    )
    whole = model_of(task, **change)
    params = params_of(whole, method, VIDEO, MASK, *arguments)

    def run(chunk: int):
        model = model_of(task, **change, text_chunk=chunk)

        def loss(params, video):
            found = model.apply(params, video, MASK, *arguments, method=method)
            weighted = [(x * normal(3, *x.shape)).sum() for x in jax.tree.leaves(found)]
            return sum(weighted), found

        gradient, found = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, VIDEO)
        return jax.device_get((found, gradient))

    return request.param, run, run(0)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_neither_results_nor_gradients_depend_on_the_chunk(chunked, chunk):
    kind, run, expected = chunked
    shapes = [x.shape for x in jax.tree.leaves(expected[0])]
    offsets = (B, 1 if kind == "shared_offsets" else N, 12, 2)
    assert shapes == ([(B, N)] if kind == "score_videos" else [(B, N, 12), offsets])
    assert all(abs(x).max() > 1e-3 for x in jax.tree.leaves(expected[1][1]))
    found = run(chunk)
    chex.assert_trees_all_close(found, expected, rtol=2e-3, atol=2e-4)


def test_a_chunk_is_all_that_is_fused_at_a_time():
    """The program holds no array of all pairs' tokens; that is what chunks are for."""
    shapes = {}
    for chunk in (0, 2):
        model = model_of(text_chunk=chunk)
        params = params_of(model_of(), UnLoc.localize, VIDEO, MASK, features())
        program = str(
            jax.make_jaxpr(lambda *x, model=model: model.apply(*x, method=UnLoc.localize))(
                params, VIDEO, MASK, features()
            )
        )
        shapes[chunk] = [f"f32[{pairs},{T + 1},{D}]" in program for pairs in (B * N, B * 2)]
    assert shapes == {0: [True, False], 2: [False, True]}


def localize(model: UnLoc, params, *arguments, **rngs):
    run = lambda params, rngs: model.apply(params, *arguments, method=UnLoc.localize, rngs=rngs)
    return jax.device_get(jax.jit(run)(params, rngs))


@pytest.mark.parametrize("chunk", [0, 1])
def test_what_is_dropped_differs_from_text_to_text(chunk):
    """Five times the same text: without a generator the columns are equal."""
    one = features(num_texts=1)
    same = jax.tree.map(lambda x: x.repeat(N, axis=1), one)
    params = params_of(model_of(), UnLoc.localize, VIDEO, MASK, same)
    for change in ({"dropout": 0.3}, {"stochastic_depth": 0.5, "num_layers": 2}):
        model = model_of(fusion=change, text_chunk=chunk)
        params = params_of(model, UnLoc.localize, VIDEO, MASK, same)
        quiet = localize(model, params, VIDEO, MASK, same).relevance
        np.testing.assert_allclose(quiet, quiet[:, :1].repeat(N, axis=1), rtol=1e-4, atol=1e-5)
        noisy = localize(model, params, VIDEO, MASK, same, dropout=jax.random.key(0)).relevance
        different = {tuple(column.round(4).tolist()) for column in noisy[0]}
        # A skipped layer is skipped or not: of five texts two patterns are certain enough, not five.
        assert len(different) == N if "dropout" in change else len(different) > 1
        again = localize(model, params, VIDEO, MASK, same, dropout=jax.random.key(0)).relevance
        np.testing.assert_array_equal(noisy, again)


@pytest.mark.parametrize("chunk", [0, 2])
def test_late_fusion_encodes_the_frames_once(chunk):
    """And a text changes its own column only."""
    model = model_of(fusion={"type": "late"}, text_chunk=chunk)
    text = features()
    params = params_of(model_of(fusion={"type": "late"}), UnLoc.localize, VIDEO, MASK, text)
    encoder = lambda module, _: type(module).__name__ == "PairEncoder"
    _, state = model.apply(params, VIDEO, MASK, text, method=UnLoc.localize, capture_intermediates=encoder)
    (calls,) = [x["__call__"] for x in state["intermediates"]["fusion"].values()]
    assert len(calls) == 1 and calls[0][0].shape == (B, 12, D)

    before = localize(model, params, VIDEO, MASK, text)
    sentence = text.sentence.copy()
    sentence[0, 3] *= -1
    after = localize(model, params, VIDEO, MASK, text.replace(sentence=sentence))
    for name in ("relevance", "offsets"):
        changed = abs(getattr(after, name) - getattr(before, name)).reshape(B, N, -1).max(-1) > 1e-4
        np.testing.assert_array_equal(changed, [[False, False, False, True, False], [False] * N])
    # Tokens are ignored.
    other = localize(model, params, VIDEO, MASK, text.replace(tokens=-text.tokens))
    np.testing.assert_array_equal(other.relevance, before.relevance)


@pytest.fixture(scope="module")
def shared_offsets():
    """(model, parameters, a jitted text → Localization) of one boundary per point."""
    model = model_of("temporal_action_localization", head={"offsets_per_text": False, "num_conv_layers": 1})
    params = params_of(model, UnLoc.localize, VIDEO, MASK, features())
    run = jax.jit(lambda text: model.apply(params, VIDEO, MASK, text, method=UnLoc.localize))
    return model, params, run


def test_shared_boundaries_are_those_of_the_mean_over_texts(shared_offsets):
    model, params, run = shared_offsets
    text = features()
    points = np.asarray(
        model.apply(params, VIDEO, MASK, text, method=lambda model, *x: model.fusion.encode_pairs(*x)).points
    )
    mean = points.mean(1, keepdims=True)
    head = LocalizationHead(model.config.geometry(T), model.config.head)
    real = model.config.geometry(T).point_mask(MASK)
    expected = head.apply(
        {"params": params["params"]["head"]}, mean, real, method=LocalizationHead.predict_offsets
    )
    found = run(text)
    assert found.offsets.shape == (B, 1, 12, 2) and found.relevance.shape == (B, N, 12)
    np.testing.assert_allclose(found.offsets, expected, rtol=1e-3, atol=1e-4)


def test_a_linear_head_has_no_boundaries():
    model = model_of("action_segmentation", head={"type": "linear"}, pyramid={"type": "none"})
    params = params_of(model, UnLoc.localize, VIDEO, MASK, features())
    found = model.apply(params, VIDEO, MASK, features(), method=UnLoc.localize)
    assert found.offsets is None and found.relevance.shape == (B, N, T)


@pytest.mark.parametrize("all_tokens", [False, True])
def test_a_videos_score_comes_from_the_fused_text_token(all_tokens):
    """Of all tokens the last real one, which is the end token."""
    model = model_of("classification", fusion={"all_text_tokens": all_tokens})
    text = features()
    params = params_of(model, UnLoc.score_videos, VIDEO, MASK, text)
    run = jax.jit(lambda text: model.apply(params, VIDEO, MASK, text, method=UnLoc.score_videos))
    fused = np.asarray(
        model.apply(params, VIDEO, MASK, text, method=lambda model, *x: model.fusion.encode_pairs(*x)).text
    )
    last = [2, 0, 2, 0, 2] if all_tokens else [0] * N
    output = params["params"]["video_head"]["output"]
    expected = (
        np.stack([fused[:, n, i] for n, i in enumerate(last)], axis=1) @ output["kernel"][:, 0]
        + output["bias"][0]
    )
    np.testing.assert_allclose(run(text), expected, rtol=1e-3, atol=1e-4)
    padded = text.replace(tokens=np.where(text.mask[..., None], text.tokens, 50).astype(np.float32))
    np.testing.assert_allclose(run(padded), run(text), rtol=1e-5, atol=1e-6)
