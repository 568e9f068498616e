"""Writes orbax checkpoints that are self-contained: the state, and the config and dataset metadata that produced it."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.errors import TryAgain, UserError
from unloc_jax.old_names import as_stored, renamed_arrays
from unloc_jax.training.checkpoints import vocabulary
from unloc_jax.training.checkpoints.best import KeepBest
from unloc_jax.training.checkpoints.fingerprint import fingerprints, not_finite
from unloc_jax.training.checkpoints.metadata import read_tree, with_checksum
from unloc_jax.training.checkpoints.orbax_reports import hide_reports
from unloc_jax.training.checkpoints.reading import (
    compare,
    first_line,
    naming_damage,
    read_metadata,
)
from unloc_jax.training.process_failures import lost_a_process
from unloc_jax.training.state import TrainState

# Settings that may change when a run is continued: they affect how it runs, not what it computes.
_FREE_SETTINGS = (
    "data.dir",
    "data.reader",
    "data.num_workers",
    "data.stall_s",
    "model.text.sentencepiece",  # its content is compared
    "evaluation",
    "checkpoint",
    "mesh",
    "accumulate",
    "log_every_steps",
    "non_finite",
    "profile",
    "wandb",
)
_LONGEST_VALUE = 60  # characters, in a message
_UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a checkpoint that is being written
_REMOVALS, _BETWEEN_REMOVALS_S = 20, 0.05


class Checkpoints:
    """The checkpoints of one workdir, in `workdir/checkpoints/<step>/`.

    Args:
      workdir: Of the run.
      config: The experiment's config; a directory with checkpoints of another experiment is refused.
      dataset_metadata: By task, what prediction needs besides the config (see `DatasetMetadata`).
      log: Called with messages about checkpoints that could not be written.

    Raises:
      UserError: The workdir cannot be written, or holds another experiment or a damaged checkpoint.
    """

    def __init__(
        self,
        workdir: Path,
        config: Config,
        dataset_metadata: dict[str, dict[str, Any]],
        log: Callable[[str], None] = lambda text: None,
    ):
        directory = Path(os.path.realpath(workdir)) / "checkpoints"  # Path.resolve fails for a loop of links
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe = directory / f".writable-{jax.process_index()}"  # all processes try at the same time
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"--workdir={workdir} cannot be written: {error.strerror}. Choose another one."
            ) from error
        self._metadata = {
            "config": json.loads(config_lib.to_json(config)),
            "dataset_metadata": dataset_metadata,
        }
        self._vocabulary = vocabulary.content_of(config)
        if self._vocabulary is not None:
            self._metadata["vocabulary"] = vocabulary.digest(self._vocabulary)
        self._config, self._directory, self._log = config.checkpoint, directory, log
        self._writing: int | None = None
        self._deferred_error: UserError | None = None
        keep, policies = config.checkpoint, ocp.checkpoint_managers
        self._best = KeepBest(workdir, keep.best_metric, keep.keep_best)
        self._options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep.keep), self._best]),
            enable_async_checkpointing=True,
        )
        self._remove_unfinished()  # of a process that was killed
        self._manager = self._new_manager()
        self._has_failed = False
        self._best.forget_after(self.latest_step or 0)
        self.history: dict[str, Any] = {}
        """JSON values that were saved with the latest state; see `save`."""
        if self.latest_step is not None:
            stored = read_metadata(directory / str(self.latest_step))
            _refuse_other_experiment(workdir, stored, self._metadata)
            self.history = stored.get("history", {})

    def _new_manager(self) -> "_Manager":
        hide_reports()
        items = ("state", "metadata") if self._vocabulary is None else ("state", "metadata", vocabulary.ITEM)
        return _Manager(self._directory, item_names=items, options=self._options)

    @property
    def latest_step(self) -> int | None:
        """Step of the latest checkpoint, None if there is none."""
        return self._manager.latest_step()

    def is_best(self, step: int, metrics: dict[str, float]) -> bool:
        """Records the metrics of a step and returns whether config.checkpoint.keep_best keeps its checkpoint.

        If config.checkpoint.best_metric is not among them, it returns True and the next `save` raises UserError after
        writing, so that no work is lost.
        """
        try:
            return self._best.add(step, metrics)
        except UserError as error:
            self._deferred_error = error
            return True

    def save(self, state: TrainState, step: int, history: dict[str, Any] | None = None) -> None:
        """Writes a checkpoint in the background; if killed during the write, the previous one remains the latest.

        Args:
          state: State to save.
          step: Name of the checkpoint; an existing one of this name is not overwritten.
          history: JSON values that a continued run finds in `history`.

        Raises:
          UserError: Parameters are not finite (these are never saved); with config.checkpoint.on_error "stop", this
            or the previous checkpoint cannot be written; after writing, the error that `is_best` deferred.
        """
        if wrong := not_finite(state.params):
            raise UserError(
                f"step {step}: the parameters are not finite, although loss and gradients were "
                f"({', '.join(wrong[:3])}, …): the learning rate is too high. They are not saved; the last "
                f"checkpoint is of step {self.latest_step or 0}."
            )
        self.wait()
        history = history or {}
        metadata = with_checksum(self._metadata | {"history": history, "fingerprints": fingerprints(state)})
        with self._naming_failure(step):
            self._directory.mkdir(parents=self._config.on_error == "continue", exist_ok=True)
            if self._has_failed:  # orbax's manager would raise the old error again
                self._remove_unfinished()
                self._manager, self._has_failed = self._new_manager(), False
            self._writing = step
            items = {"state": ocp.args.StandardSave(state), "metadata": ocp.args.JsonSave(metadata)}
            if self._vocabulary is not None:
                items[vocabulary.ITEM] = vocabulary.VocabularySave(self._vocabulary)
            self._manager.save(step, args=ocp.args.Composite(**items))
            self.history = history
        if self._deferred_error:
            raise self._deferred_error

    def wait(self) -> None:
        """Waits for the last write to finish; raises UserError as `save` does."""
        if self._writing is None:
            return
        with self._naming_failure(self._writing):
            self._manager.wait_until_finished()
            self._writing = None

    @contextlib.contextmanager
    def _naming_failure(self, step: int) -> Iterator[None]:
        """Converts a failed write into a UserError or, with config.checkpoint.on_error "continue", a message."""
        try:
            yield
        except Exception as error:
            if lost_a_process(error):
                raise
            self._writing, self._has_failed = None, True
            self._remove_unfinished()
            what = (
                f"the checkpoint of step {step} cannot be written to {self._directory}: {first_line(error)}. "
                f"The last one is of step {self._last_written()}."
            )
            if self._config.on_error == "stop":
                raise UserError(
                    f"{what} Fix that (is the disk full?) and run the same command again; with "
                    "--config.checkpoint.on_error=continue training would continue."
                ) from error
            self._log(f"note: {what} Training continues, and the next checkpoint is tried again.")

    def _remove_unfinished(self) -> None:
        """Removes what failed and killed writes have left, so that it does not keep a full disk full."""
        if jax.process_index() != 0:
            return
        for _ in range(_REMOVALS):
            unfinished = list(self._directory.glob(f"*{_UNFINISHED}*"))
            if not unfinished:
                return
            for folder in unfinished:
                shutil.rmtree(folder, ignore_errors=True)
            time.sleep(_BETWEEN_REMOVALS_S)  # threads of the failed write may still create files

    def restore(self, abstract_state: TrainState) -> TrainState:
        """Restores the latest state in the shardings of `abstract_state`, whatever mesh it was saved from.

        Raises:
          UserError: The checkpoint is damaged.
        """
        step_dir = self._directory / str(self.latest_step)
        with naming_damage(step_dir):
            abstract = as_stored(abstract_state, read_tree(step_dir)["params"])
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
                restored = checkpointer.restore(step_dir / "state", args=ocp.args.StandardRestore(abstract))
            state = renamed_arrays(restored)
            compare(read_metadata(step_dir), state)
        return state

    def close(self) -> None:
        """Waits for the last write to finish.

        Raises:
          UserError: As `save` does; and always if the last checkpoint is not written, because it is the result.
        """
        self.wait()
        if not self._has_failed:
            self._manager.close()
            return
        self._remove_unfinished()
        raise UserError(
            f"the last checkpoint is not written to {self._directory}, see above. Fix that (is the disk full?) and run "
            f"the same command again: it continues from step {self._last_written()}."
        )

    def _last_written(self) -> int:
        return self.latest_step or 0 if self._directory.is_dir() else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, TryAgain | UserError):  # a write in progress is still valid
            with contextlib.suppress(Exception):
                self.close()


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        # The training loop checks this itself; a second check would count as another step.
        return False


def _refuse_other_experiment(workdir: Path, stored: dict, current: dict) -> None:
    """Compares configs and dataset metadata, instead of data.dir, because a dataset may be moved."""
    stored_flat, current_flat = (
        _flat(side["config"])
        | _flat(_only(side["dataset_metadata"]), "dataset ")
        | {"the content of model.text.sentencepiece": side.get("vocabulary")}
        for side in (stored, current)
    )
    different = [
        f"{key}: {_shown(stored_flat.get(key))} there, {_shown(current_flat.get(key))} now"
        for key in sorted(stored_flat.keys() | current_flat.keys())
        if stored_flat.get(key) != current_flat.get(key) and not _is_free(key)
    ]
    if different:
        shown = "; ".join(different[:5]) + ("; …" if len(different) > 5 else "")
        raise UserError(
            f"--workdir={workdir} holds checkpoints of another experiment ({shown}). Use another --workdir, or "
            "delete it to start over."
        )


def _only(dataset_metadata: dict) -> dict:
    """Returns the metadata of the only task, or of all tasks by name."""
    return next(iter(dataset_metadata.values())) if len(dataset_metadata) == 1 else dataset_metadata


def _is_free(key: str) -> bool:
    if key.endswith(".clip_source"):  # the same CLIP may have been moved; its fingerprint is compared
        return True
    if key.startswith("tasks."):  # "tasks.NAME.data.dir" is as free as "data.dir"
        key = key.split(".", 2)[2]
    return any(key == free or key.startswith(free + ".") for free in _FREE_SETTINGS)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def _flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
