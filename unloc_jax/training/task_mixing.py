"""Which task's batches a step sees, when a run has several tasks. A function of (config, step) alone."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.config import Config
from unloc_jax.dataset import Dataset


def tasks_of_steps(config: Config) -> list[tuple[str, ...]]:
    """The names of the tasks of every step of a run.

    "all": every task in every step. "alternate": one task per step, the one that is most behind its share; so the
    shares hold not only on average but within a few steps.
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
    """Factor of each task's loss: its weight where a step sees all tasks, else 1 (the weight is its share of steps)."""
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
) -> Iterator[dict[str, Batch]]:
    """This host's part of the batches of steps first_step … total_steps-1, by task.

    The k-th batch of a task is the same whatever the other tasks do, so a run that was interrupted goes on alike.
    `reads` is told the task whose batch is waited for.
    """
    steps = tasks_of_steps(config)
    streams = {
        name: dataset.training_batches(
            sum(name in names for names in steps[:first_step]), sum(name in names for names in steps)
        )
        for name, dataset in datasets.items()
    }
    for names in steps[first_step:]:
        batches = {}
        for name in names:
            reads(name)
            batches[name] = next(streams[name])
        yield batches


def videos_of_step(config: Config, datasets: Mapping[str, Dataset], step: int) -> dict[str, list[str]]:
    """The ids of all videos of a step (from 0), by task, over all hosts."""
    steps = tasks_of_steps(config)
    return {
        name: datasets[name].training_videos(sum(name in names for names in steps[:step]))
        for name in steps[step]
    }
