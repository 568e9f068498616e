"""The choice of the task whose batch a step gets."""

import numpy as np
import pytest

from tests.tiny import tiny_config
from unloc_jax.training.task_mixing import loss_weights, mixed_batches, tasks_of_steps


def mixed(mixing: str = "alternate", **weights: float):
    tasks = {
        name: {"weight": weight, "task": "moment_retrieval", "batch_size": 2 * (i + 1)}
        for i, (name, weight) in enumerate(weights.items())
    }
    return tiny_config(tasks=tasks, task_mixing=mixing, train={"steps": 24})


class Numbers:
    """A dataset whose k-th batch is its name and k."""

    def __init__(self, name: str):
        self.name = name

    def training_batches(self, start_step, num_steps):
        return ((self.name, k) for k in range(start_step, num_steps))


def test_shares_hold_at_every_step():
    steps = tasks_of_steps(mixed(a=3.0, b=2.0, c=1.0))
    assert all(len(names) == 1 for names in steps)
    counts = np.cumsum([[names[0] == name for name in "abc"] for names in steps], axis=0)
    assert counts[-1].tolist() == [12, 8, 4]
    expected = np.arange(1, 25)[:, None] * np.array([3, 2, 1]) / 6
    assert abs(counts - expected).max() < 1


def test_all_tasks_in_every_step():
    config = mixed("all", a=3.0, b=1.0)
    assert tasks_of_steps(config) == [("a", "b")] * 24
    assert loss_weights(config) == {"a": 3.0, "b": 1.0}


def test_weights_are_shares_of_steps_or_factors_of_losses():
    assert loss_weights(mixed(a=3.0, b=1.0)) == {"a": 1.0, "b": 1.0}
    assert loss_weights(tiny_config()) == {"moment_retrieval": 1.0}


@pytest.mark.parametrize("mixing", ["alternate", "all"])
@pytest.mark.parametrize("first_step", [1, 7, 23])
def test_a_run_that_goes_on_sees_what_it_would_have_seen(mixing, first_step):
    config = mixed(mixing, a=2.0, b=1.0)
    datasets = {name: Numbers(name) for name in "ab"}
    whole = list(mixed_batches(config, datasets, 0))
    assert list(mixed_batches(config, datasets, first_step)) == whole[first_step:]
    of_a = [step["a"][1] for step in whole if "a" in step]
    assert of_a == list(range(len(of_a)))  # none left out, none twice
