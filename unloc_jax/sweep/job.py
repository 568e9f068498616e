"""One run of a sweep: a row with a seed, trained and evaluated by the public commands in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from unloc_jax.errors import EXIT_TRY_AGAIN, UserError
from unloc_jax.foreign_text import parse_json
from unloc_jax.programs import overrides_of
from unloc_jax.sweep.description import Row, Sweep
from unloc_jax.sweep.results import Run, metric_of
from unloc_jax.whole_writes import write_result

_RUN_FILE = "sweep_run.json"
# A run that was stopped from outside is started again; if this happens more often, something else is wrong.
_MOST_STARTS = 5


class Job:
    """A run and its folder, OUT/ROW/seed_N, which is a workdir of `unloc train`.

    Attributes:
      name: for messages.
      log_file: what the commands print.
    """

    def __init__(self, row: Row, seed: int, split: str, out: Path):
        self._row, self._seed = row, seed
        self.name = f"{row.name}, seed {seed}"
        self._workdir = out / row.folder / f"seed_{seed}"
        self.log_file = self._workdir / "log.txt"
        self._evaluation = self._workdir / "evaluation" / split
        overrides = overrides_of({**row.settings, "seed": seed})
        self._commands = [
            ["train", f"--config={row.config}", f"--workdir={self._workdir}"]
            + [f"--config.{override}" for override in overrides],
            ["evaluate", f"--checkpoint={self._workdir}", f"--split={split}"],
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._place: tuple[Mapping[str, str], Set[int]] = ({}, frozenset())
        self._next, self._starts, self._began_s = 0, 0, 0.0

    @property
    def finished(self) -> bool:
        return bool(self._read_note().get("finished")) and self._evaluation.is_dir()

    def check(self) -> None:
        """Raises UserError if the folder holds a run with another config, other settings or an unreadable note."""
        note = self._read_note()
        for key, value in self._description().items():
            if note and note.get(key) != value:
                raise UserError(
                    f"{self._workdir} holds a run with {key} = {note.get(key)!r}, now {value!r}. Delete it or choose "
                    "another --out."
                )

    def start(self, environment: Mapping[str, str], cpus: Set[int]) -> None:
        """Starts, or continues, the run.

        Args:
          environment: variables of its processes.
          cpus: the processors that it may use; empty = all.
        """
        self._workdir.mkdir(parents=True, exist_ok=True)
        if not self._read_note():
            self._write_note({})
            self._began_s = time.monotonic()
        self._place = (environment, cpus)
        self._start_command()

    def poll(self) -> int | None:
        """Returns None while the run continues, then its exit status; starts the next command where one has ended."""
        assert self._process is not None
        status = self._process.poll()
        if status is None:
            return None
        if status == EXIT_TRY_AGAIN and self._starts < _MOST_STARTS:
            self._start_command()
            return None
        if status == 0 and self._next + 1 < len(self._commands):
            self._next, self._starts = self._next + 1, 0
            self._start_command()
            return None
        if status == 0:
            minutes = (time.monotonic() - self._began_s) / 60 if self._began_s else None
            self._write_note({"finished": True, "minutes": minutes})
        return status

    def stop(self) -> None:
        """Ends the run as a preemption does: it saves a checkpoint."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()

    def last_line(self) -> str:
        """Returns the last line that the run has printed, for messages."""
        lines = self.log_file.read_text("utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")

    def result(self, sweep: Sweep) -> Run:
        """Returns the metrics of a finished run.

        Raises:
          UserError: metrics.json lacks one of the sweep's.
        """
        metrics = {path: metric_of(self._evaluation, path) for path in sweep.metrics}
        return Run(self._row, self._seed, metrics, self._read_note().get("minutes"))

    def _start_command(self) -> None:
        environment, cpus = self._place
        self._starts += 1
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "unloc_jax.cli", *self._commands[self._next]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C reaches the sweep alone, which then stops its runs
            )
        if cpus:  # long before its libraries count the processors
            os.sched_setaffinity(self._process.pid, cpus)

    def _description(self) -> dict[str, Any]:
        return json.loads(json.dumps({"config": self._row.config, "settings": dict(self._row.settings)}))

    def _read_note(self) -> dict[str, Any]:
        file = self._workdir / _RUN_FILE
        try:
            return parse_json(file.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f"{file}: damaged ({error}). Delete {self._workdir}.") from error

    def _write_note(self, more: dict[str, Any]) -> None:
        write_result(self._workdir / _RUN_FILE, json.dumps(self._description() | more, indent=2))
