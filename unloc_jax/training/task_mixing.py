"""Selects the tasks of each step of a run with several tasks. It depends on (config, step) alone."""

import contextlib
from collections.abc import Callable, Generator, Mapping

import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.dataset import Dataset


def tasks_of_steps(config: Config) -> list[tuple[str, ...]]:
    """Returns the names of the tasks of every step of a run.

    "all": every task in every step. "alternate": one task per step, the one that is furthest behind its share, so that
    the shares hold not only on average but within a few steps.
    """
    names: tuple[str, ...] = tuple(config.task_configs)
    if len(names) == 1 or config.task_mixing == "all":
        return [names] * config.total_steps
    weights = np.array([config.tasks[name].weight for name in names])
    shares = weights / weights.sum()
    done = np.zeros(len(names))
    steps: list[tuple[str, ...]] = []
    for step in range(1, config.total_steps + 1):
        due = int(np.argmax(shares * step - done))
        done[due] += 1
        steps.append((names[due],))
    return steps


def loss_weights(config: Config) -> dict[str, float]:
    """Returns the factor of each task's loss: its weight if steps see all tasks, else 1 (weights are then shares)."""
    alternate = config.task_mixing == "alternate"
    return {
        name: 1.0 if alternate or not config.tasks else config.tasks[name].weight
        for name in config.task_configs
    }


def mixed_batches(
    config: Config,
    datasets: Mapping[str, Dataset],
    first_step: int,
    reads: Callable[[str], None] = lambda name: None,
) -> Generator[dict[str, Batch], None, None]:
    """Yields this host's part of the batches of steps first_step … total_steps-1, by task.

    The k-th batch of a task does not depend on the other tasks, so an interrupted run continues with the same batches.
    `reads` is called with the name of a task before its batch is awaited.
    """
    steps = tasks_of_steps(config)
    streams = {
        name: dataset.training_batches(
            sum(name in names for names in steps[:first_step]), sum(name in names for names in steps)
        )
        for name, dataset in datasets.items()
    }
    with contextlib.ExitStack() as stack:
        for stream in streams.values():
            stack.enter_context(contextlib.closing(stream))
        for names in steps[first_step:]:
            batches = {}
            for name in names:
                reads(name)
                batches[name] = next(streams[name])
            yield batches


def videos_of_step(config: Config, datasets: Mapping[str, Dataset], step: int) -> dict[str, list[str]]:
    """Returns the ids of all videos of a step (from 0), by task, over all hosts."""
    steps = tasks_of_steps(config)
    return {
        name: datasets[name].training_videos(sum(name in names for names in steps[:step]))
        for name in steps[step]
    }
