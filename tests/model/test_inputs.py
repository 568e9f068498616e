"""Inputs of the fusion: modalities side by side, projections, frozen encoders, texts as tokens or as vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import random_batch, random_params, tiny_config, tiny_task
from unloc_jax.model.clip import ImageTower
from unloc_jax.model.unloc import UnLoc
from unloc_jax.tasks import make_model
from unloc_jax.tasks.parameters import abstract_params

FEATURES = np.random.default_rng(7).normal(size=(2, 8, 6)).astype(np.float32)
RGB_AND_FLOW = {
    "rgb": {"encoder": "clip"},
    "flow": {
        "encoder": "features", "feature_dim": 6, "projection_width": 5, "projection_bias": True, "norm": True,
    },
}  # fmt: skip


def with_modalities(modalities=RGB_AND_FLOW, **model):
    return tiny_task("temporal_action_localization", model={"modalities": modalities} | model)


def layer_norm(x: np.ndarray, params: dict) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * params["scale"] + params["bias"]


def encode_video(task, params, inputs):
    encode = lambda params, inputs: task.model.apply({"params": params}, inputs, method=UnLoc.encode_video)
    return np.asarray(jax.jit(encode)(params, inputs))


@pytest.fixture(scope="module")
def two():
    """A task with two modalities, its parameters and their inputs."""
    task = with_modalities()
    return task, random_params(task), {"rgb": random_batch(task.config).frames, "flow": FEATURES}


def test_modalities_side_by_side(two):
    """In the order of their names: flow before rgb."""
    task, params, inputs = two
    assert params["projections_flow"]["kernel"].shape == (6, 5) and "projections_rgb" not in params
    rgb = ImageTower(task.config.model.image).apply({"params": params["towers_rgb"]}, inputs["rgb"])
    flow = (
        FEATURES.astype(np.float64) @ params["projections_flow"]["kernel"]
        + params["projections_flow"]["bias"]
    )
    both = np.concatenate([layer_norm(flow, params["norms_flow"]), rgb], axis=-1)
    assert set(params["video_projection"]) == {"kernel"}
    expected = both @ params["video_projection"]["kernel"]
    np.testing.assert_allclose(encode_video(task, params, inputs), expected, rtol=1e-3, atol=1e-4)
    # However they are written in the config.
    turned = with_modalities(dict(reversed(RGB_AND_FLOW.items())))
    np.testing.assert_array_equal(encode_video(turned, params, inputs), encode_video(task, params, inputs))


def test_features_alone_need_no_image_tower():
    task = with_modalities({"i3d": {"encoder": "features", "feature_dim": 6}})
    params = random_params(task)
    assert not [name for name in params if name.startswith(("towers", "projections", "norms"))]
    expected = FEATURES.astype(np.float64) @ params["video_projection"]["kernel"]
    np.testing.assert_allclose(encode_video(task, params, {"i3d": FEATURES}), expected, rtol=1e-4, atol=1e-5)


def test_projections_with_a_bias_and_without_any():
    features = {"i3d": {"encoder": "features", "feature_dim": 16}}
    biased = with_modalities(features, video_projection_bias=True, text={"projection_bias": True})
    params = random_params(biased)
    x = np.random.default_rng(0).normal(size=(2, 8, 16)).astype(np.float32)
    expected = x @ params["video_projection"]["kernel"] + params["video_projection"]["bias"]
    np.testing.assert_allclose(encode_video(biased, params, {"i3d": x}), expected, rtol=1e-4, atol=1e-5)

    plain = with_modalities(features, video_projection=False, text={"projection": False})
    shapes = abstract_params(plain)
    assert set(params) - set(shapes) == {"video_projection", "text_projection"}
    np.testing.assert_array_equal(encode_video(plain, params, {"i3d": x}), x)

    tokens = random_batch(tiny_config()).text_tokens
    encode = lambda task: jax.jit(
        lambda: task.model.apply({"params": params}, tokens, method=UnLoc.encode_text)
    )()
    with_bias, without = encode(biased), encode(plain)
    kernel, bias = (params["text_projection"][name] for name in ("kernel", "bias"))
    for name in ("tokens", "sentence"):
        expected = np.asarray(getattr(without, name), np.float64) @ kernel + bias
        np.testing.assert_allclose(getattr(with_bias, name), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("frozen", ["rgb", "text", "flow"])
def test_a_frozen_encoder_has_no_gradient_and_what_follows_has_one(two, frozen):
    _, params, inputs = two
    modalities = {name: values | {"freeze": name == frozen} for name, values in RGB_AND_FLOW.items()}
    task = with_modalities(modalities, text={"freeze": frozen == "text"})
    tokens = random_batch(tiny_config()).text_tokens

    def loss(params, inputs):
        encode = lambda method, x: task.model.apply({"params": params}, x, method=method)
        text = encode(UnLoc.encode_text, tokens)
        return (encode(UnLoc.encode_video, inputs) ** 2).sum() + (text.sentence**2).sum()

    flow = lambda params, flow: loss(params, inputs | {"flow": flow})
    gradient, of_flow = jax.jit(jax.grad(flow, argnums=(0, 1)))(params, FEATURES)
    size = {name: float(sum(abs(x).sum() for x in jax.tree.leaves(tree))) for name, tree in gradient.items()}
    assert (size["towers_rgb"] == 0) == (frozen == "rgb")
    assert (size["text_tower"] == 0) == (frozen == "text")
    assert (float(abs(of_flow).sum()) == 0) == (frozen == "flow")
    for name in ("projections_flow", "norms_flow", "video_projection", "text_projection"):
        assert size[name] > 0


def test_given_embeddings_stand_for_texts():
    model = make_model(
        tiny_config(
            "temporal_action_localization",
            model={"text": {"encoder": "embeddings", "width": 10, "num_heads": 1}},
        ),
        8,
    )
    x = np.random.default_rng(0).normal(size=(1, 3, 10)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(10, 16)).astype(np.float32)
    found = model.apply({"params": {"text_projection": {"kernel": kernel}}}, x, method=UnLoc.encode_text)
    np.testing.assert_allclose(found.sentence, x @ kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.tokens[:, :, 0], found.sentence)
    assert found.mask.shape == (1, 3, 1)


@pytest.mark.parametrize(
    ("task", "contrastive", "wanted"),
    [
        ("moment_retrieval", 0, {"head"}),
        ("moment_retrieval", 3, {"head", "contrastive_projection", "logit_scale"}),
        ("classification", 0, {"video_head"}),
        ("classification", 3, {"video_head", "contrastive_projection", "logit_scale"}),
    ],
)
def test_a_model_has_the_heads_that_its_tasks_and_stages_need(task, contrastive, wanted):
    shapes = abstract_params(tiny_task(task, contrastive={"steps": contrastive}))
    common = {"towers_rgb", "video_projection", "text_tower", "text_projection", "fusion"}
    assert set(shapes) == common | wanted


def test_several_tasks_have_the_parts_of_all():
    config = tiny_config(tasks={"a": {}, "b": {"task": "classification"}})
    assert make_model(config, 8).heads == ("localization", "video_score")


def test_dtype(monkeypatch):
    dtype = lambda name: make_model(tiny_config(model={"dtype": name}), 8).dtype
    for backend, auto in (("cpu", jnp.float32), ("gpu", jnp.bfloat16), ("tpu", jnp.bfloat16)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert (dtype("auto"), dtype("bfloat16"), dtype("float32")) == (auto, jnp.bfloat16, jnp.float32)
