"""Validates a run on the validation split of every task, with the same code as `unloc evaluate`."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from unloc_jax.batch import Batch
from unloc_jax.dataset import Dataset, validation_split
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import SplitPredictions, Task
from unloc_jax.tasks.predict_split import predict_split
from unloc_jax.training.preemption import Reached
from unloc_jax.training.sharding import batch_sharding
from unloc_jax.training.terminal import log

_SHOWN_METRICS = 8


class Validation:
    """Compiles prediction once for all validations of a run.

    Args:
      tasks, datasets: By name.
      mesh: Batches are split along its `data` axis.
      several: The run has named tasks, which are part of the metrics' names.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        datasets: Mapping[str, Dataset],
        mesh: jax.sharding.Mesh,
        several: bool,
    ):
        self._tasks, self._datasets, self._several = tasks, datasets, several
        self._sharding = batch_sharding(mesh)
        self._detect = {name: jax.jit(task.detect) for name, task in tasks.items()}

    def __call__(
        self,
        params: Any,
        step: int,
        watched: Callable[[Iterable[Batch]], Iterable[Batch]],
        validated: Callable[[int, str, Sequence[VideoRecord], SplitPredictions], None],
    ) -> dict[str, float] | None:
        """Validates the model, and logs and returns metrics by name ("TASK/METRIC" with several tasks).

        Args:
          params: Tree of the model's parameters, float32.
          step: Number of steps done, for the log.
          watched: Wraps the batches; may raise Reached.
          validated: Called with the predictions of each task, see `Watcher.validated`.

        Returns:
          The metrics; None if Reached was raised.
        """
        all_metrics: dict[str, float] = {}
        for name, task in self._tasks.items():
            dataset = self._datasets[name]
            split = validation_split(dataset)
            if split is None:
                continue
            records = dataset.records(split)
            where, prefix = (f" of {name}", f"{name}/") if self._several else ("", "")
            if not task.has_ground_truth(records):
                log(
                    f"validation{where} at step {step}: nothing to score, the {split} split has no ground truth"
                )
                continue
            try:
                with contextlib.closing(dataset.evaluation_batches(split)) as batches:
                    predictions = predict_split(
                        task,
                        self._detect[name],
                        params,
                        batches,
                        task.evaluation_texts(records),
                        self._sharding,
                        progress=watched,
                        num_windows=dataset.num_windows(split),
                    )
            except Reached:
                return None
            validated(step, name, records, predictions)
            metrics = task.compute_metrics(records, predictions)
            all_metrics |= {f"{prefix}{key}": value for key, value in metrics.items()}
            shown = list(metrics.items())[:_SHOWN_METRICS]
            log(f"validation{where} at step {step}: " + "  ".join(f"{k} {v:.1f}" for k, v in shown))
        return all_metrics
