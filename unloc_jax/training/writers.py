"""Where numbers go: TensorBoard, a JSON Lines file and, if wanted, Weights & Biases."""

import hashlib
import json
import math
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tensorboardX

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.processes import is_main


class MetricWriter:
    """Writes scalars to `workdir/metrics.jsonl` and `workdir/tensorboard/`; of several processes only the first does.

    Args:
      workdir: the run's directory.
      start_step: what an interrupted run wrote beyond this step is dropped, because those steps come again.
      wandb: a run of Weights & Biases that gets the same numbers, as `start_wandb` returns it.
    """

    def __init__(self, workdir: Path, start_step: int, wandb: Any = None):
        self._tensorboard, self._wandb = None, wandb
        if not is_main():
            return
        self._path = workdir / "metrics.jsonl"
        kept = []
        if self._path.exists():
            lines = self._path.read_text().splitlines()
            kept = [line + "\n" for line in lines if _step_of(line) <= start_step]
        # Replaced at once: a kill in between must not take the history with it.
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(kept))
        partial.replace(self._path)
        self._tensorboard = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start_step + 1 if start_step else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Numbers of a step; those that are NaN or infinite are left out, for JSON has none."""
        if self._tensorboard is None:
            return
        scalars = {name: value for name, value in scalars.items() if math.isfinite(value)}
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self._tensorboard.add_scalar(name, value, step)
        self._tensorboard.flush()
        if self._wandb is not None:
            self._wandb.log({"step": step, **scalars})

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()
            self._wandb = None


def start_wandb(config: Config, workdir: Path, started_at: float) -> Any:
    """The run of Weights & Biases that config.wandb wants, or None; a run that goes on gets the same one.

    Args:
      config: the experiment's.
      workdir: its name is the run's, and the files of wandb go there.
      started_at: when the run in `workdir` began; with the workdir it tells runs apart.

    Raises:
      UserError: wandb is not installed, or does not start.
    """
    if not config.wandb.project or not is_main():
        return None
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise UserError(
            "config.wandb.project needs wandb: pip install 'unloc_jax[wandb]'; or leave it empty, TensorBoard and "
            "metrics.jsonl are always written."
        ) from error
    workdir = workdir.resolve()
    try:
        run = wandb.init(
            project=config.wandb.project,
            name=workdir.name,
            id=hashlib.sha256(f"{workdir} {started_at}".encode()).hexdigest()[:16],
            resume="allow",
            dir=workdir,
            config=json.loads(config_lib.to_json(config)),
        )
    except Exception as error:  # of the network, of the account, …
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"config.wandb.project = {config.wandb.project!r}: wandb does not start: {reason}. "
            "WANDB_MODE=offline writes to the workdir instead, for `wandb sync` later."
        ) from error
    # Steps that come again after a kill replace nothing in wandb; with an axis of their own they line up.
    run.define_metric("*", step_metric="step")
    return run


def validated(workdir: Path, step: int) -> bool:
    """Whether the metrics of a validation after `step` steps are in metrics.jsonl."""
    file = workdir / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return any(_step_of(line) == step and '"validation/' in line for line in lines)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")  # half a line, cut off by a kill
