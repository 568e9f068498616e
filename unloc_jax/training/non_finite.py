"""Handles steps whose loss or gradient is not finite: skipped on the device, reported and acted upon by the host."""

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.training.state import TrainState

Metrics = dict[str, jax.Array]

# More than this is not an accident and would continue until the last step.
_MOST_IN_A_ROW = 10
_MOST_ROLLBACKS = 3  # to the same checkpoint
_SHOWN_VIDEOS = 100


def skip_if_not_finite(
    old: TrainState, new: TrainState, loss: jax.Array, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """Selects the state after a step (traceable).

    Args:
      old, new: State before and after the update.
      loss: float32 scalar [].
      metrics: Includes `gradient_norm`, the global norm of all gradients, float32 scalar.

    Returns:
      (state, metrics). The state is `new` if loss and gradient are finite; otherwise `old` with the step counters of
      `new`, so that the next step sees the next batch and the next learning rate. Metrics get `finite`, bool scalar.
    """
    finite = jnp.isfinite(loss) & jnp.isfinite(metrics["gradient_norm"])

    def chosen(old_part: Any, new_part: Any) -> Any:
        if _counts_steps(old_part):
            return new_part
        return jax.tree.map(lambda a, b: jnp.where(finite, b, a), old_part, new_part)

    state = jax.tree.map(chosen, old, new, is_leaf=_counts_steps)
    return dataclasses.replace(state, step=new.step), metrics | {"finite": finite}


def at_step(state: TrainState, step: int) -> TrainState:
    """Returns the state with all step counters set to `step`, so that it continues with that step's batch."""
    count = lambda x: jax.device_put(np.asarray(step, x.dtype), x.sharding)
    state = jax.tree.map(
        lambda part: part._replace(count=count(part.count)) if _counts_steps(part) else part,
        state,
        is_leaf=_counts_steps,
    )
    return dataclasses.replace(state, step=count(state.step))


def _counts_steps(part: Any) -> bool:
    return isinstance(part, optax.ScaleByScheduleState)


class NonFiniteSteps:
    """Checks `finite` of each step one step late, when it has been computed, so that nothing waits for it.

    Args:
      config: Its `non_finite` defines what is done.
      videos: Maps a step (from 0) to the ids of the videos of its batch, by task.
      log: Called with a message about each skipped step.
      count: Number of steps that this run has skipped before.
    """

    def __init__(
        self,
        config: Config,
        videos: Callable[[int], Mapping[str, list[str]]],
        log: Callable[[str], None],
        count: int = 0,
    ):
        self._config, self._videos, self._log = config, videos, log
        self._pending: deque[tuple[int, Metrics]] = deque()
        self._in_a_row = self._rollbacks = 0
        self._last_checkpoint: int | None = None
        self.count = count

    def add(self, done: int, metrics: Metrics) -> None:
        """Adds the metrics of the step after which `done` steps are done."""
        self._pending.append((done, metrics))

    def rollback_due(self, last_checkpoint: int | None) -> bool:
        """Waits for the steps that were added and reports those that were skipped.

        Args:
          last_checkpoint: Step of the last checkpoint, for the report.

        Returns:
          Whether the parameters of that checkpoint must be restored.

        Raises:
          UserError: config.non_finite is "stop", or nearly every step is skipped.
        """
        due = False
        while self._pending:
            done, metrics = self._pending.popleft()
            if bool(metrics["finite"]):
                self._in_a_row = 0
            else:
                self._report_skipped(done, metrics, last_checkpoint or 0)
                due = self._config.non_finite == "rollback"
        return due

    def _report_skipped(self, done: int, metrics: Metrics, last_checkpoint: int) -> None:
        self.count += 1
        self._in_a_row += 1
        again = last_checkpoint == self._last_checkpoint
        self._rollbacks, self._last_checkpoint = self._rollbacks + 1 if again else 1, last_checkpoint
        stage = "contrastive" if done <= self._config.contrastive.steps else "train"
        numbers = {name: float(value) for name, value in jax.device_get(metrics).items() if name != "finite"}
        what = (
            f"step {done}: the loss or its gradient is not finite ("
            + ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            + f"), on the videos {_listed(self._videos(done - 1))}"
        )
        rate = getattr(self._config, stage).learning_rate
        lower = f"Lower config.{stage}.learning_rate (now {rate}) and start in another --workdir"
        policy = self._config.non_finite
        if policy == "stop":
            raise UserError(
                f"{what}. {lower}; or, if these videos are to blame, run the same command with "
                "--config.non_finite=skip. The update was not made; the last checkpoint here is of step "
                f"{last_checkpoint}."
            )
        many = {
            "skip": self._in_a_row >= _MOST_IN_A_ROW and f"{self._in_a_row} steps in a row",
            "rollback": self._rollbacks > _MOST_ROLLBACKS
            and f"{self._rollbacks} times since the checkpoint of step {last_checkpoint}",
        }[policy]
        if many:
            raise UserError(f"{what}; that is {many}, so it is not the data. {lower}.")
        then = {
            "skip": "this step is left out",
            "rollback": f"back to the parameters of step {last_checkpoint}, and on with the batch after this one",
        }[policy]
        self._log(f"note: {what}; {then} ({self.count} so far)")


def _listed(videos: Mapping[str, list[str]]) -> str:
    texts = []
    for name, ids in videos.items():
        more = f" and {len(ids) - _SHOWN_VIDEOS} more" if len(ids) > _SHOWN_VIDEOS else ""
        texts.append((f"of {name}: " if len(videos) > 1 else "") + ", ".join(ids[:_SHOWN_VIDEOS]) + more)
    return "; ".join(texts)
