import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unloc_jax.config import Config, StageConfig, from_mapping
from unloc_jax.errors import UserError
from unloc_jax.training.optimizer import (
    frozen_parameters,
    learning_rate_schedule,
    make_optimizer,
    stage_schedule,
)

STEPS = 6
CONTRASTIVE = 2
MODALITIES = {"rgb": {"freeze": True}, "flow": {"encoder": "features", "feature_dim": 3}}


def config_of(optimizer: dict, **changes) -> Config:
    """Two stages with other rates, and other rates for the head; the image tower is frozen."""
    train = {"steps": STEPS - CONTRASTIVE, "learning_rate": 0.02, "schedule": "constant"}
    values = {
        "model": {"modalities": MODALITIES},
        "contrastive": {
            "steps": CONTRASTIVE,
            "learning_rate": 0.1,
            "learning_rates": {"text_tower": 0.3},
            "schedule": "constant",
        },
        "train": {**train, "warmup_steps": 2, "learning_rates": {"head": 0.5, "head/relevance": 0.25}},
        "optimizer": optimizer,
    }
    return from_mapping(values | changes)


def random_tree(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(0, 1, shape).astype(np.float32)
    return {
        "towers_rgb": {"conv": {"kernel": draw(3, 2)}},
        "text_tower": {"embedding": draw(4, 2), "layer": {"kernel": draw(2, 2), "bias": draw(2)}},
        "head": {"relevance": {"kernel": draw(2, 1)}, "offsets": {"kernel": draw(2, 2), "bias": draw(2)}},
    }


PARAMS = random_tree(0)
GRADIENTS = [random_tree(1 + step) for step in range(STEPS)]
NAMES = {path: jax.tree_util.keystr(path, simple=True, separator="/")
         for path, _ in jax.tree_util.tree_leaves_with_path(PARAMS)}  # fmt: skip


def flat(tree) -> dict[str, np.ndarray]:
    return {NAMES[path]: np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def optimized(config: Config) -> dict[str, np.ndarray]:
    """Parameters after all steps with the given gradients."""
    optimizer = make_optimizer(config)
    params, state = PARAMS, optimizer.init(PARAMS)
    step = jax.jit(optimizer.update)
    for gradients in GRADIENTS:
        updates, state = step(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return flat(params)


def rates_by_hand(step: int) -> dict[str, float]:
    """The rate of every parameter that is not frozen in `config_of`."""
    if step < CONTRASTIVE:
        return {name: 0.3 if name.startswith("text_tower") else 0.1
                for name in NAMES.values() if not name.startswith("towers_rgb")}  # fmt: skip
    warm = min(1.0, (step - CONTRASTIVE) / 2)
    head = {"head/relevance/kernel": 0.25, "head/offsets/kernel": 0.5, "head/offsets/bias": 0.5}
    return {name: warm * rate for name, rate in (dict.fromkeys(rates_by_hand(0), 0.02) | head).items()}


def optimized_by_hand(rule: str, decay: float, max_norm: float | None) -> dict[str, np.ndarray]:
    """float64 NumPy. SGD with momentum 0.9, or Adam with b1 0.8, b2 0.95 (Kingma and Ba 2015, algorithm 1)."""
    params = {name: x.astype(np.float64) for name, x in flat(PARAMS).items()}
    first = {name: np.zeros_like(x) for name, x in params.items()}
    second = {name: np.zeros_like(x) for name, x in params.items()}
    for step in range(STEPS):
        rates = rates_by_hand(step)
        gradients = {name: flat(GRADIENTS[step])[name].astype(np.float64) for name in rates}
        norm = math.sqrt(sum((x**2).sum() for x in gradients.values()))
        assert max_norm is None or norm > max_norm
        for name, rate in rates.items():
            gradient = gradients[name] * (max_norm / norm if max_norm else 1.0)
            weight = decay * params[name] * name.endswith("kernel")
            if rule != "adamw":
                gradient = gradient + weight
            if rule == "sgd":
                first[name] = update = 0.9 * first[name] + gradient
            else:
                first[name] = 0.8 * first[name] + 0.2 * gradient
                second[name] = 0.95 * second[name] + 0.05 * gradient**2
                update = first[name] / (1 - 0.8 ** (step + 1))
                update = update / (np.sqrt(second[name] / (1 - 0.95 ** (step + 1))) + 1e-8)
            params[name] -= rate * (update + weight * (rule == "adamw"))
    return params


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("max_norm", [None, 0.7])
def test_equals_numpy_with_stages_rates_freezing_and_clipping(rule, decay, max_norm):
    config = config_of({"name": rule, "momentum": 0.9, "b1": 0.8, "b2": 0.95, "weight_decay": decay,
                        "max_grad_norm": max_norm})  # fmt: skip
    expected = optimized_by_hand(rule, decay, max_norm)
    for name, value in optimized(config).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_gradient_below_the_limit_is_not_clipped():
    clipped = {"name": "sgd", "max_grad_norm": 1e6}
    free = {"name": "sgd", "max_grad_norm": None}
    for a, b in zip(*(optimized(config_of(x)).values() for x in (clipped, free)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_near_the_pixels_learn_more_slowly():
    config = config_of({"name": "sgd", "momentum": 0.0, "layer_decay": 0.5, "weight_decay": 0.0, "max_grad_norm": None},
                       model={"image": {"num_layers": 3}})  # fmt: skip
    tower = {"position_embedding": jnp.ones(4), "norm_out": {"scale": jnp.ones(2)},
             "transformer": {"layers": {"mlp_in": {"kernel": jnp.ones((3, 2, 2))}}}}  # fmt: skip
    params = {"text_tower": {}, "towers_rgb": tower, "head": jnp.ones(1)}
    optimizer = make_optimizer(dataclasses.replace(config, contrastive=StageConfig(2, 1.0, schedule="constant"),
                                                   train=StageConfig(2, 1.0)))  # fmt: skip
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    found = updates["towers_rgb"]
    layers = -found["transformer"]["layers"]["mlp_in"]["kernel"]
    np.testing.assert_allclose(layers, np.array([0.25, 0.5, 1.0])[:, None, None] * np.ones((3, 2, 2)))
    np.testing.assert_allclose(found["position_embedding"], -0.125 * np.ones(4))
    assert (found["norm_out"]["scale"] == -1).all() and updates["head"] == -1


def test_a_frozen_gradient_does_not_count_in_the_norm():
    optimizer = make_optimizer(config_of({"name": "sgd", "max_grad_norm": 1.0}))
    huge = {**GRADIENTS[0], "towers_rgb": {"conv": {"kernel": np.full((3, 2), 1e3, np.float32)}}}
    updates, _ = optimizer.update(huge, optimizer.init(PARAMS), PARAMS)
    assert not updates["towers_rgb"]["conv"]["kernel"].any()
    usual, _ = optimizer.update(GRADIENTS[0], optimizer.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["head"]["offsets"]["bias"], usual["head"]["offsets"]["bias"])


@pytest.mark.parametrize(("name", "copies"), [("sgd", 1), ("adam", 2), ("adamw", 2)])
def test_the_state_is_that_of_one_rate_and_holds_nothing_frozen(name, copies):
    state = make_optimizer(config_of({"name": name})).init(PARAMS)
    arrays = [x.shape for x in jax.tree.leaves(state) if x.ndim]
    trained = [x.shape for name, x in flat(PARAMS).items() if not name.startswith("towers_rgb")]
    assert sorted(arrays) == sorted(trained * copies)


def test_without_momentum_there_is_no_state_but_the_step():
    state = make_optimizer(config_of({"name": "sgd", "momentum": 0.0})).init(PARAMS)
    assert [x.shape for x in jax.tree.leaves(state)] == [()]


def test_what_is_frozen():
    frozen = flat(frozen_parameters(config_of({}), PARAMS))
    assert {name for name, value in frozen.items() if value} == {"towers_rgb/conv/kernel"}
    both = config_of({}, model={"modalities": MODALITIES, "text": {"freeze": True}})
    names = ("towers_rgb", "towers_flow", "text_tower", "text_projection", "head")
    params = {name: {"kernel": 0} for name in names}
    frozen = frozen_parameters(both, params)
    assert [name for name in names if frozen[name]["kernel"]] == ["towers_rgb", "text_tower"]


def test_a_rate_for_parameters_that_do_not_exist():
    train = {"steps": 4, "learning_rates": {"head": 1.0, "haed/offsets": 0.1}}
    optimizer = make_optimizer(config_of({}, train=train))
    message = r"config\.train\.learning_rates: no parameter's name begins with 'haed/offsets'\. There are: head/offsets"
    with pytest.raises(UserError, match=message):
        jax.eval_shape(lambda: optimizer.init(PARAMS))
    optimizer = make_optimizer(config_of({}, train={"steps": 4, "learning_rates": {"zzz": 0.1}}))
    with pytest.raises(UserError, match=r"'zzz'\. There are: head, text_tower, towers_rgb\.$"):
        optimizer.init(PARAMS)


def rates(stage: StageConfig, steps) -> np.ndarray:
    return np.asarray(jax.vmap(stage_schedule(stage))(jnp.asarray(steps)))


def test_warmup_multiplies_a_decay():
    stage = StageConfig(1000, 0.2, warmup_steps=387.5, schedule="piecewise", decay_steps=(100, 500),
                        decay_factors=(0.5, 0.1))  # fmt: skip
    # The factor of step 100 counts after step 100, and is not a share of the one before it.
    expected = [0, 0.2 * 100 / 387.5, 0.5 * 0.2 * 101 / 387.5, 0.5 * 0.2, 0.5 * 0.2, 0.1 * 0.2]
    np.testing.assert_allclose(rates(stage, [0, 100, 101, 388, 500, 501]), expected, rtol=1e-6)


def test_cosine_begins_after_the_warmup_and_ends_at_zero():
    stage = StageConfig(100, 0.2, warmup_steps=20, schedule="cosine")
    # Half of the 80 steps after the warm-up at 60, a quarter at 40.
    expected = [0, 0.1, 0.2, 0.1 * (1 + math.sqrt(0.5)), 0.1, 0, 0]
    np.testing.assert_allclose(rates(stage, [0, 10, 20, 40, 60, 100, 130]), expected, atol=1e-8)


def test_exponential_decay():
    stage = StageConfig(1000, 1.0, schedule="exponential", decay_rate=0.5, decay_every=100)
    np.testing.assert_allclose(rates(stage, [0, 50, 100, 300]), [1, 0.5**0.5, 0.5, 0.125], rtol=1e-6)
    stage = dataclasses.replace(stage, staircase=True)
    np.testing.assert_allclose(rates(stage, [0, 99, 100, 199, 300]), [1, 1, 0.5, 0.5, 0.125], rtol=1e-6)


def test_each_stage_counts_its_own_steps():
    config = config_of({})
    found = [float(learning_rate_schedule(config)(step)) for step in range(STEPS)]
    assert found == pytest.approx([0.1, 0.1, 0.0, 0.01, 0.02, 0.02])
    found = float(stage_schedule(config.train, 0.5)(1))
    assert found == pytest.approx(0.25)
