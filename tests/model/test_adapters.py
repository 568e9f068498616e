"""Low-rank adapters: they alone are trained, and merged with the weights they give the same numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from tests.tiny import VIDEOPRISM, random_batch, random_params, tiny_config, tiny_metadata, tiny_task
from unloc_jax.errors import UserError
from unloc_jax.model.adapters import is_adapter, merged
from unloc_jax.tasks import make_task
from unloc_jax.tasks.parameters import init_params
from unloc_jax.training.checkpoints.writing import Checkpoints
from unloc_jax.training.init_from import initialize
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import axes_of_parameter
from unloc_jax.training.state import TrainState

ADAPTED = {"lora_rank": 3}
MODELS = {
    "clip": ({}, {"modalities": {"rgb": ADAPTED}, "text": ADAPTED}),
    "videoprism": (
        VIDEOPRISM,
        {
            **VIDEOPRISM,
            "modalities": {"rgb": {"encoder": "videoprism", **ADAPTED}},
            "text": {**VIDEOPRISM["text"], **ADAPTED},
        },
    ),
}


def flat(params):
    return traverse_util.flatten_dict(jax.device_get(params), sep="/")


def loss_of(task, batch):
    return lambda params: task.loss(params, batch, jax.random.key(0))[0]


@pytest.mark.parametrize("encoder", MODELS)
def test_only_adapters_are_trained_and_merged_they_are_the_tower(encoder):
    plain, adapted = (tiny_task(model=model) for model in MODELS[encoder])
    batch = jax.tree.map(jnp.asarray, random_batch(plain.config))
    params = random_params(adapted)
    found, gradients = jax.value_and_grad(loss_of(adapted, batch))(params)

    together = merged(flat(params))
    assert together.keys() == flat(random_params(plain)).keys()
    expected = loss_of(plain, batch)(traverse_util.unflatten_dict(together, sep="/"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    without = {name: array for name, array in flat(params).items() if not is_adapter(tuple(name.split("/")))}
    assert abs(loss_of(plain, batch)(traverse_util.unflatten_dict(without, sep="/")) - expected) > 1e-3

    towers = ("towers_rgb/", "text_tower/")
    state = make_optimizer(adapted.config).init(params)
    with_state = {jax.tree_util.keystr(p, simple=True, separator="/") for p, _ in _leaves(state)}
    for name, gradient in flat(gradients).items():
        trained = is_adapter(tuple(name.split("/"))) or not name.startswith(towers)
        assert np.any(gradient) == trained or not name.startswith(towers), name
        assert any(of_state.endswith(name) for of_state in with_state) == trained, name
        axes_of_parameter(name)


def _leaves(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


def test_a_new_model_computes_what_its_towers_do():
    plain, adapted = (tiny_task(model=model) for model in MODELS["videoprism"])
    batch = jax.tree.map(jnp.asarray, random_batch(plain.config))
    params = flat(init_params(adapted, 0))
    without = {name: array for name, array in params.items() if not is_adapter(tuple(name.split("/")))}
    assert len(without) < len(params)
    of = lambda task, arrays: loss_of(task, batch)(traverse_util.unflatten_dict(arrays, sep="/"))
    np.testing.assert_allclose(of(adapted, params), of(plain, without), rtol=1e-6)


def test_a_model_without_adapters_takes_over_merged_weights(tmp_path):
    plain, adapted = (tiny_config(model=model) for model in MODELS["clip"])
    stored = jax.tree.map(jnp.asarray, random_params(make_task(adapted, tiny_metadata()), 1))
    checkpoints = Checkpoints(tmp_path, adapted, {"main": dataclasses.asdict(tiny_metadata())})
    checkpoints.save(TrainState(jnp.int32(1), stored, {}), 1)
    checkpoints.close()
    config = dataclasses.replace(plain, init_from=str(tmp_path))
    own = jax.tree.map(jnp.asarray, random_params(make_task(config, tiny_metadata())))
    found = initialize(config, TrainState(jnp.int32(0), own, {}), lambda line: None).params
    expected = merged(flat(stored))
    for name, array in flat(found).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": {"freeze": True, "lora_rank": 2}}, r"text\.lora_rank = 2 .* freeze = True trains nothing"),
        (
            {"modalities": {"flow": {"encoder": "features", "feature_dim": 4, "lora_rank": 2}}},
            r"modalities\.flow\.lora_rank = 2 .* there is no tower",
        ),
    ],
)
def test_adapters_need_a_tower_that_learns(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_config(model=changes)
