"""Writes metrics to TensorBoard, a JSON Lines file and, optionally, Weights & Biases."""

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.processes import is_main
from unloc_jax.training import metrics_log
from unloc_jax.training.metrics_log import read_log
from unloc_jax.whole_writes import replacing

_DAMAGED = "metrics.damaged"


class MetricWriter:
    """Writes scalars to `workdir/metrics.jsonl` and `workdir/tensorboard/`, in the first process only.

    Args:
      workdir: The run's directory.
      start_step: Lines that an interrupted run wrote beyond this step are dropped, because those steps are repeated.
      wandb: A Weights & Biases run that gets the same numbers, as returned by `start_wandb`.
      on_error: As config.checkpoint.on_error: "stop", or "continue" without the metrics that could not be written.
      log: Called with messages about the latter.
    """

    def __init__(
        self,
        workdir: Path,
        start_step: int,
        wandb: Any = None,
        on_error: str = "stop",
        log: Callable[[str], None] = lambda text: None,
    ):
        self._workdir, self._wandb, self._on_error, self._log = workdir, wandb, on_error, log
        self._tensorboard: EventsWriter | None = None
        self._reported = False
        if not is_main():
            return
        self._path = workdir / metrics_log.NAME
        try:
            if damaged := _drop_after(workdir, start_step):
                log(f"note: {damaged}")
            self._tensorboard = _events(workdir)
            if start_step:
                again = SessionLog(status=SessionLog.START)
                self._tensorboard.write_event(Event(step=start_step + 1, session_log=again))
        except OSError as error:
            raise UserError(self._not_written(error, "stop")) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Writes the scalars of a step, except for those that are NaN or infinite, which JSON cannot represent.

        Raises:
          UserError: They cannot be written, and on_error is "stop".
        """
        if self._tensorboard is None:
            return
        scalars = {name: value for name, value in scalars.items() if math.isfinite(value)}
        try:
            if self._on_error == "continue" and not (self._workdir / "tensorboard").is_dir():
                self._tensorboard = _events(self._workdir)  # somebody has deleted the workdir
            _append(self._path, json.dumps({"step": step, **scalars}) + "\n")
            values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
            event = Event(step=step, wall_time=time.time(), summary=Summary(value=values))
            self._tensorboard.write_event(event)
            self._tensorboard.flush()
        except OSError as error:
            problem = self._not_written(error, self._on_error)
            if self._on_error == "stop":
                raise UserError(problem) from error
            if not self._reported:
                self._log(f"note: {problem}")
            self._reported = True
        else:
            self._reported = False
        if self._wandb is not None:
            self._wandb.log({"step": step, **scalars})

    def _not_written(self, error: OSError, on_error: str) -> str:
        then = {
            "stop": "Fix that (is the disk full?) and run the same command again.",
            "continue": "Training continues, and the next ones are tried again.",
        }[on_error]
        return f"numbers for the log cannot be written to {self._workdir}: {error.strerror}. {then}"

    def close(self) -> None:
        """Closes all writers; may be called again."""
        if self._tensorboard is not None:
            with contextlib.suppress(OSError):  # a failed write has been reported
                self._tensorboard.close()
            self._tensorboard = None
        if self._wandb is not None:
            self._wandb.finish()
            self._wandb = None


def _drop_after(workdir: Path, step: int) -> str | None:
    """Keeps the lines of steps up to `step`; creates the file if needed. Damaged lines are moved to another file.

    Returns:
      A message about the latter, if there are any.
    """
    found, file = read_log(workdir), workdir / metrics_log.NAME
    aside = workdir / _DAMAGED
    if found.damaged:
        with aside.open("ab") as opened:
            opened.writelines(line + b"\n" for line in found.damaged)
    kept = [json.dumps(numbers) + "\n" for numbers in found.numbers if numbers["step"] <= step]
    with replacing(file) as opened:  # a kill in between must not lose the history
        opened.write("".join(kept).encode())
    if not found.damaged:
        return None
    lines = "line was" if len(found.damaged) == 1 else "lines were"
    return f"{len(found.damaged)} damaged {lines} moved from {file} to {aside.name}; the others stay"


def _events(workdir: Path) -> EventsWriter:
    """Opens a new file of TensorBoard events."""
    directory = workdir / "tensorboard"
    directory.mkdir(parents=True, exist_ok=True)
    # Not SummaryWriter: on a full disk its thread dies, and it then waits for that thread forever.
    return EventsWriter(str(directory / "events"), f".{os.getpid()}")


def _append(path: Path, line: str) -> None:
    """Appends the complete line, or nothing if that fails."""
    with path.open("ab", buffering=0) as file:
        end, data = file.tell(), line.encode()
        try:
            written = file.write(data)
            if written < len(data):
                file.write(data[written:])  # raises the error
        except OSError:
            file.truncate(end)
            raise


def start_wandb(config: Config, workdir: Path, started_at: float) -> Any:
    """Starts or resumes the Weights & Biases run of config.wandb; returns None if there is none.

    Args:
      config: The experiment's config.
      workdir: Its name becomes the run's; wandb's files are written there.
      started_at: When the run in `workdir` began, in seconds since 1970; with the workdir it identifies the run.

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
    except Exception as error:  # a problem with the network, the account, …
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"config.wandb.project = {config.wandb.project!r}: wandb does not start: {reason}. "
            "WANDB_MODE=offline writes to the workdir instead, for `wandb sync` later."
        ) from error
    # wandb does not replace steps that are repeated after a kill; with an axis of their own they line up.
    run.define_metric("*", step_metric="step")
    return run


def validated(workdir: Path, step: int) -> bool:
    """Returns whether metrics.jsonl holds the metrics of a validation after `step` steps."""
    return any(
        line["step"] == step and any(name.startswith("validation/") for name in line)
        for line in read_log(workdir).numbers
    )
