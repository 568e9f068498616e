"""Starting from another checkpoint: what fits comes over, and what does not is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import tiny_config
from unloc_jax.errors import UserError
from unloc_jax.training.checkpoints import find_checkpoint, stored_shapes
from unloc_jax.training.init_from import initialize_from
from unloc_jax.training.saving import Checkpoints
from unloc_jax.training.state import TrainState


def state_of(params, step: int = 0) -> TrainState:
    params = jax.tree.map(jnp.asarray, params)
    return TrainState(jnp.int32(step), params, {"mu": jax.tree.map(jnp.zeros_like, params)})


STORED = {
    "tower": {"kernel": np.arange(8.0, dtype=np.float32).reshape(2, 4), "bias": np.full(4, 5, np.float32)},
    "head": {"kernel": np.ones((4, 3), np.float32), "old": {"scale": np.ones(2, np.float32)}},
    "temperature": np.float32(3),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A workdir whose latest checkpoint, of step 7, holds STORED."""
    workdir = tmp_path_factory.mktemp("source")
    checkpoints = Checkpoints(workdir, tiny_config(), {})
    checkpoints.save(state_of(STORED, 7), 7)
    checkpoints.close()
    return workdir


def test_the_names_and_shapes_of_a_checkpoint(source):
    assert stored_shapes(find_checkpoint(source)) == {
        "tower/kernel": (2, 4),
        "tower/bias": (4,),
        "head/kernel": (4, 3),
        "head/old/scale": (2,),
        "temperature": (),
    }


def test_what_fits_comes_over(source):
    new = {
        "tower": {"kernel": np.zeros((2, 4), np.float32), "bias": np.zeros(6, np.float32)},
        "head": {"kernel": np.zeros((4, 3), np.float32), "new": np.full(2, 9, np.float32)},
        "fusion": {"kernel": np.full((2, 2), 8, np.float32), "bias": np.full(2, 8, np.float32)},
    }
    said = []
    state = state_of(new)
    found = initialize_from(source, state, said.append)
    np.testing.assert_array_equal(found.params["tower"]["kernel"], STORED["tower"]["kernel"])
    np.testing.assert_array_equal(found.params["head"]["kernel"], STORED["head"]["kernel"])
    for group, name in (("tower", "bias"), ("head", "new"), ("fusion", "kernel"), ("fusion", "bias")):
        np.testing.assert_array_equal(found.params[group][name], new[group][name])
    # It is a new run: its step and its optimizer begin anew, and everything lies where it lay.
    assert found.step == 0 and found.opt_state is state.opt_state
    assert jax.tree.map(lambda x: x.sharding, found.params) == jax.tree.map(
        lambda x: x.sharding, state.params
    )
    assert said == [
        f"2 of 6 parameters come from {find_checkpoint(source)}",
        "  new here: fusion (2), head (1)",
        "  of another shape there: tower (1)",
        "  only there: head (1), temperature (1)",
    ]


def test_all_of_it(source):
    said = []
    found = initialize_from(
        source / "checkpoints" / "7", state_of(jax.tree.map(np.zeros_like, STORED)), said.append
    )
    jax.tree.map(np.testing.assert_array_equal, found.params, STORED)
    assert said == [f"5 of 5 parameters come from {find_checkpoint(source)}"]


def test_nothing_in_common(source):
    other = {"tower": {"kernel": np.zeros((4, 2), np.float32)}, "fusion": np.zeros(3, np.float32)}
    with pytest.raises(
        UserError, match=rf"config\.init_from={source}: it has no parameter of this model's names"
    ):
        initialize_from(source, state_of(other), print)


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match=rf"config\.init_from={tmp_path} holds no checkpoint"):
        initialize_from(tmp_path, state_of(STORED), print)
