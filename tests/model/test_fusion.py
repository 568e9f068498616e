"""The fusion: which tokens attend to which, its positions, and the levels of its pyramid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import random_tree
from unloc_jax.config import FusionConfig, PyramidConfig
from unloc_jax.localization.geometry import pyramid_geometry
from unloc_jax.model.clip import TextFeatures
from unloc_jax.model.fusion import Fusion, sinusoid_positions
from unloc_jax.model.pyramid import FeaturePyramid
from unloc_jax.model.transformer import Transformer

B, N, T, L, D = 2, 3, 6, 4, 8


NO_PYRAMID = PyramidConfig(type="none")


def fusion_of(pyramid: PyramidConfig = NO_PYRAMID, num_layers: int = 2, **change) -> Fusion:
    config = FusionConfig(width=D, num_layers=num_layers, num_heads=2, mlp_dim=16, **change)
    levels = 1 if pyramid.type == "none" else pyramid.num_levels
    geometry = pyramid_geometry(T, levels, pyramid.stride)
    return Fusion(config, pyramid, pyramid.layers, geometry)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def features(seed: int = 0) -> TextFeatures:
    mask = np.ones((B, N, L), bool)
    mask[:, 1, 2:] = False
    return TextFeatures(normal(seed, B, N, L, D), mask, normal(seed + 1, B, N, D))


VIDEO, MASK = normal(9, B, T, D), np.ones((B, T), bool)


def initialised(module: Fusion):
    """Parameters, and the jitted (params, video, frame_mask, text) → Fused."""
    init = lambda: module.init(jax.random.key(0), VIDEO, MASK, features(), method=Fusion.encode_pairs)
    params = random_tree(jax.eval_shape(init))
    return params, jax.jit(lambda *x: module.apply(*x, method=Fusion.encode_pairs))


@pytest.fixture(scope="module", params=[False, True], ids=["sentence", "all_text_tokens"])
def fusion(request):
    """(video, frame_mask, text) → [B, N, T, D]."""
    module = fusion_of(all_text_tokens=request.param)
    params, apply = initialised(module)
    run = lambda *arguments: np.asarray(apply(params, *arguments).points)
    return request.param, run, VIDEO, MASK


def test_frames_and_texts_are_seen(fusion):
    all_tokens, run, video, mask = fusion
    before = run(video, mask, features())
    assert before.shape == (B, N, T, D)
    changed_frames = lambda after: (abs(after - before).max(-1) > 1e-4).any(-1)  # [B, N]
    text = features()
    tokens, sentence = text.tokens.copy(), text.sentence.copy()
    (tokens if all_tokens else sentence)[0, 2] *= -1
    after = run(video, mask, text.replace(tokens=tokens, sentence=sentence))
    np.testing.assert_array_equal(changed_frames(after), [[False, False, True], [False, False, False]])

    # One frame is seen by the others.
    video = video.copy()
    video[1, 0] *= -1
    after = run(video, mask, text)
    np.testing.assert_array_equal((abs(after - before).max(-1) > 1e-4).all((1, 2)), [False, True])


def test_padded_frames_are_not_seen(fusion):
    _, run, video, mask = fusion
    mask = mask.copy()
    mask[0, 4:] = False
    changed = video.copy()
    changed[0, 4:] = 100
    before, after = run(video, mask, features()), run(changed, mask, features())
    np.testing.assert_array_equal(before[0, :, :4], after[0, :, :4])
    np.testing.assert_array_equal(before[1], after[1])


def test_padded_words_are_not_seen(fusion):
    _, run, video, mask = fusion
    text = features()
    changed = text.replace(tokens=np.where(text.mask[..., None], text.tokens, 100).astype(np.float32))
    np.testing.assert_array_equal(run(video, mask, text), run(video, mask, changed))


def test_shared_texts_equal_texts_per_video(fusion):
    _, run, video, mask = fusion
    shared = jax.tree.map(lambda leaf: leaf[:1], features())
    per_video = jax.tree.map(lambda leaf: leaf.repeat(B, axis=0), shared)
    np.testing.assert_allclose(run(video, mask, shared), run(video, mask, per_video), rtol=1e-5, atol=1e-5)


def test_positions():
    table = sinusoid_positions(5, 8)
    # Vaswani et al. 2017: sin and cos of position / 10000^(2i / width), side by side.
    angles = 3 * np.array([1, 0.1, 0.01, 0.001])
    np.testing.assert_array_equal(table[0], [0, 1] * 4)
    np.testing.assert_allclose(table[3, ::2], np.sin(angles), rtol=1e-5)
    np.testing.assert_allclose(table[3, 1::2], np.cos(angles), rtol=1e-5)
    assert jnp.asarray(table).dtype == jnp.float32


def test_the_text_tokens_come_out_too(fusion):
    """Each text token after it has seen the frames; without all_text_tokens the one that represents the text."""
    all_tokens = fusion[0]
    params, apply = initialised(fusion_of(all_text_tokens=all_tokens))
    before = apply(params, VIDEO, MASK, features()).text
    assert before.shape == (B, N, L if all_tokens else 1, D)
    video = VIDEO.copy()
    video[1, 0] *= -1
    changed = abs(np.asarray(apply(params, video, MASK, features()).text - before)).max((2, 3)) > 1e-4
    np.testing.assert_array_equal(changed, [[False] * N, [True] * N])


@pytest.fixture(scope="module")
def with_positions():
    """{kind: (params, video → points)}; the kinds have the same parameters except for the table of "learned"."""
    made = {}
    for kind in ("none", "learned", "sinusoid"):
        params, apply = initialised(fusion_of(positions=kind))
        made[kind] = apply
        if kind == "learned":
            learned = params
    table = lambda rows: {"params": {"encoder": learned["params"]["encoder"] | {"position_embedding": rows}}}
    return made, learned, table


def without_table(params):
    encoder = {k: v for k, v in params["params"]["encoder"].items() if k != "position_embedding"}
    return {"params": {"encoder": encoder}}


def test_positions_are_those_of_the_whole_sequence(with_positions):
    made, learned, table = with_positions
    assert learned["params"]["encoder"]["position_embedding"].shape == (T + 1, D)
    arguments = (VIDEO, MASK, features())
    plain = without_table(learned)
    for kind, rows in (
        ("none", np.zeros((T + 1, D), np.float32)),
        ("sinusoid", sinusoid_positions(T + 1, D)),
    ):
        np.testing.assert_allclose(
            made["learned"](table(rows), *arguments).points,
            made[kind](plain, *arguments).points,
            rtol=1e-4,
            atol=1e-5,
        )
    # The last row is the text's.
    rows = sinusoid_positions(T + 1, D)
    rows[-1] += normal(3, D)
    changed = made["learned"](table(rows), *arguments).points - made["sinusoid"](plain, *arguments).points
    assert (abs(np.asarray(changed)).max(-1) > 1e-4).all()


def test_without_positions_the_order_of_frames_does_not_matter(with_positions):
    made, learned, _ = with_positions
    params, order = without_table(learned), [3, 0, 5, 1, 2, 4]
    run = lambda kind, video: np.asarray(made[kind](params, video, MASK, features()).points)
    np.testing.assert_allclose(
        run("none", VIDEO[:, order]), run("none", VIDEO)[:, :, order], rtol=1e-4, atol=1e-5
    )
    assert abs(run("sinusoid", VIDEO[:, order]) - run("sinusoid", VIDEO)[:, :, order]).max() > 1e-2


def test_only_the_first_tokens_get_a_position(with_positions):
    made, learned, table = with_positions
    rows = normal(4, T + 1, D)
    limited = lambda kind, params: jax.jit(
        lambda: (
            fusion_of(positions=kind, positions_max_length=4)
            .apply(params, VIDEO, MASK, features(), method=Fusion.encode_pairs)
            .points
        )
    )()
    found = limited("learned", table(rows))
    rows[4:] = 0
    expected = made["learned"](table(rows), VIDEO, MASK, features()).points
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    found = limited("sinusoid", without_table(learned))
    rows[:4] = sinusoid_positions(T + 1, D)[:4]
    expected = made["learned"](table(rows), VIDEO, MASK, features()).points
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_without_a_pyramid_the_last_norm_is_the_fusions():
    """Layers of zeros hand their input on."""
    module = fusion_of(positions="none")
    shapes = jax.eval_shape(
        lambda: module.init(jax.random.key(0), VIDEO, MASK, features(), method=Fusion.encode_pairs)
    )
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    norm = {"scale": normal(5, D), "bias": normal(6, D)}
    params["params"]["encoder"]["norm_out"] = norm
    found = jax.jit(lambda: module.apply(params, VIDEO, MASK, features(), method=Fusion.encode_pairs))()
    ln = lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    for x, expected in (
        (found.points, VIDEO[:, None].repeat(N, 1)),
        (found.text[:, :, 0], features().sentence),
    ):
        np.testing.assert_allclose(x, ln(expected) * norm["scale"] + norm["bias"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("all_tokens", [False, True])
def test_levels_of_an_fpn_are_taken_after_their_layers(all_tokens):
    """Levels after layers 0 and 2 of three: what the second level begins with is the first one's every other frame,
    and the text as the first layer left it."""
    pyramid = PyramidConfig(type="fpn", num_levels=2, layers=(0, 2), downsampling="subsample")
    module = fusion_of(pyramid, num_layers=3, positions="none", all_text_tokens=all_tokens)
    params, apply = initialised(module)
    encoder = params["params"]["encoder"]
    assert set(encoder) == {"transformer_0", "transformer_1", "pyramid"}
    assert [encoder[f"transformer_{i}"]["layers"]["mlp_in"]["bias"].shape for i in (0, 1)] == [
        (1, 16),
        (2, 16),
    ]
    mask = MASK.copy()
    mask[0, 4:] = False
    found = apply(params, VIDEO, mask, features())

    text = features()
    tokens, text_mask = (
        (text.tokens, text.mask) if all_tokens else (text.sentence[:, :, None], np.ones((B, N, 1), bool))
    )
    pair = lambda x: np.broadcast_to(x[:, None], (B, N, *x.shape[1:])).reshape(B * N, *x.shape[1:])
    flat = lambda x: x.reshape(B * N, *x.shape[2:])

    def by_hand():
        run = lambda i, layers, x, frames: Transformer(layers, 2, 16).apply(
            {"params": encoder[f"transformer_{i}"]},
            x,
            np.concatenate([pair(frames), flat(text_mask)], 1)[:, None],
        )
        first = run(0, 1, np.concatenate([pair(VIDEO), flat(tokens)], axis=1), mask)
        second = run(1, 2, jnp.concatenate([first[:, :T:2], first[:, T:]], axis=1), mask[:, ::2])
        levels = [first[:, :T], second[:, : T // 2]]
        points = FeaturePyramid(module.geometry).apply({"params": encoder["pyramid"]}, levels, pair(mask))
        return points, second[:, T // 2 :]

    points, fused_text = jax.jit(by_hand)()
    assert found.points.shape == (B, N, T + T // 2, D)
    np.testing.assert_allclose(flat(np.asarray(found.points)), points, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(flat(np.asarray(found.text)), fused_text, rtol=1e-3, atol=1e-4)


def test_late_fusion_multiplies_points_and_texts():
    module = fusion_of(type="late")
    text = features()
    points = normal(7, B, 9, D)
    found = module.apply({}, points, text, method=Fusion.multiply)
    np.testing.assert_allclose(found, np.einsum("bpd,bnd->bnpd", points, text.sentence), rtol=1e-6)
    # Its frames are those of a fusion whose only text token is padding.
    params = random_tree(
        jax.eval_shape(lambda: module.init(jax.random.key(0), VIDEO, MASK, method=Fusion.encode_frames))
    )
    frames = jax.jit(lambda: module.apply(params, VIDEO, MASK, method=Fusion.encode_frames))()
    nothing = TextFeatures(normal(8, B, 1, 1, D), np.zeros((B, 1, 1), bool), normal(8, B, 1, D))
    alone = fusion_of(all_text_tokens=True)
    expected = jax.jit(lambda *x: alone.apply(*x, method=Fusion.encode_pairs))(params, VIDEO, MASK, nothing)
    np.testing.assert_allclose(frames, expected.points[:, 0], rtol=1e-4, atol=1e-5)
