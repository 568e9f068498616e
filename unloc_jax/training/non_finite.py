"""Steps whose loss or gradient is NaN or infinite: left out on the device, named and acted upon by the host."""

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

# More than this is no accident: it would go on until the last step.
_MOST_IN_A_ROW = 10
_MOST_ROLLBACKS = 3  # to the same checkpoint
_SHOWN_VIDEOS = 100


def leave_out_if_not_finite(
    old: TrainState, new: TrainState, loss: jax.Array, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """The state after a step (traceable).

    Args:
      old, new: before and after the update.
      loss: scalar.
      metrics: with `gradient_norm`, the global norm of all gradients.

    Returns:
      (state, metrics): `new` if loss and gradient are finite; else `old`, with `new`'s counters of steps, so that the
      next step sees the next batch and the next learning rate. Metrics get `finite`, bool.
    """
    finite = jnp.isfinite(loss) & jnp.isfinite(metrics["gradient_norm"])

    def chosen(old_part: Any, new_part: Any) -> Any:
        if _counts_steps(old_part):
            return new_part
        return jax.tree.map(lambda a, b: jnp.where(finite, b, a), old_part, new_part)

    state = jax.tree.map(chosen, old, new, is_leaf=_counts_steps)
    return dataclasses.replace(state, step=new.step), metrics | {"finite": finite}


def at_step(state: TrainState, step: int) -> TrainState:
    """The state as if `step` steps had been done: it goes on with the next batch and its learning rate."""
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
    """Looks at the `finite` of each step, one step late: its numbers have come by then, and nothing has to wait.

    Args:
      config: its `non_finite` says what is done.
      videos: step (from 0) → by task, the ids of the videos of its batch.
      say: told what is left out.
      count: steps that this run has left out before.
    """

    def __init__(
        self,
        config: Config,
        videos: Callable[[int], Mapping[str, list[str]]],
        say: Callable[[str], None],
        count: int = 0,
    ):
        self._config, self._videos, self._say = config, videos, say
        self._open: deque[tuple[int, Metrics]] = deque()
        self._in_a_row = self._rollbacks = 0
        self._last_checkpoint: int | None = None
        self.count = count

    def add(self, done: int, metrics: Metrics) -> None:
        """`metrics` of the step that makes `done` steps done."""
        self._open.append((done, metrics))

    def rollback_due(self, last_checkpoint: int | None) -> bool:
        """Waits for the steps that were added, and reports those that were left out.

        Args:
          last_checkpoint: its step, for the report.

        Returns:
          Whether the parameters of that checkpoint are wanted back.

        Raises:
          UserError: config.non_finite is "stop", or nearly every step is left out.
        """
        due = False
        while self._open:
            done, metrics = self._open.popleft()
            if bool(metrics["finite"]):
                self._in_a_row = 0
            else:
                self._left_out(done, metrics, last_checkpoint or 0)
                due = self._config.non_finite == "rollback"
        return due

    def _left_out(self, done: int, metrics: Metrics, last_checkpoint: int) -> None:
        self.count += 1
        self._in_a_row += 1
        again = last_checkpoint == self._last_checkpoint
        self._rollbacks, self._last_checkpoint = self._rollbacks + 1 if again else 1, last_checkpoint
        stage = "pretrain" if done <= self._config.pretrain.steps else "train"
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
        self._say(f"note: {what}; {then} ({self.count} so far)")


def _listed(videos: Mapping[str, list[str]]) -> str:
    texts = []
    for name, ids in videos.items():
        more = f" and {len(ids) - _SHOWN_VIDEOS} more" if len(ids) > _SHOWN_VIDEOS else ""
        texts.append((f"of {name}: " if len(videos) > 1 else "") + ", ".join(ids[:_SHOWN_VIDEOS]) + more)
    return "; ".join(texts)
