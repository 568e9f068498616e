"""Orbax checkpoints that are enough by themselves: state, and the config and dataset facts that made it."""

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.dataset import DatasetFacts
from unloc_jax.errors import UserError
from unloc_jax.training.state import TrainState

# Settings that may differ when a run is continued: they change how it runs, not what it computes.
_FREE_SETTINGS = ("data.dir", "data.num_workers", "evaluation", "checkpoint", "mesh", "log_every_steps")
_LONGEST_VALUE = 60  # characters of a value in a message


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: they lie in `workdir/checkpoints/<step>/`.
      config: the experiment's; a directory that holds another experiment's is refused.
      facts: by task, the facts of its dataset that prediction needs besides the config (see `DatasetFacts`).

    Raises:
      UserError: the workdir cannot be written, or holds another experiment or a damaged checkpoint.
    """

    def __init__(self, workdir: Path, config: Config, facts: dict[str, dict[str, Any]]):
        directory = workdir.resolve() / "checkpoints"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / ".writable").touch()
            (directory / ".writable").unlink()
        except OSError as error:
            raise UserError(
                f"--workdir={workdir} cannot be written: {error.strerror}. Choose another one."
            ) from error
        self._metadata = {"config": json.loads(config_lib.to_json(config)), "facts": facts}
        self._directory = directory
        self._manager = ocp.CheckpointManager(
            directory,
            item_names=("state", "metadata"),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=config.checkpoint.keep, enable_async_checkpointing=True
            ),
        )
        if self.latest_step is not None:
            stored = _read_metadata(directory / str(self.latest_step))
            _refuse_other_experiment(workdir, stored, self._metadata)

    @property
    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, state: TrainState, step: int) -> None:
        """Writes in the background; a kill during the write leaves the previous checkpoint as the latest."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), metadata=ocp.args.JsonSave(self._metadata)
            ),
        )

    def restore(self, abstract_state: TrainState) -> TrainState:
        """The latest state, in the shardings of `abstract_state` (whatever mesh it was saved from).

        Raises:
          UserError: a damaged checkpoint.
        """
        with _naming_damage(self._directory / str(self.latest_step)):
            restored = self._manager.restore(
                self.latest_step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
            )
        return restored.state

    def close(self) -> None:
        """Waits for the last write."""
        self._manager.wait_until_finished()
        self._manager.close()


def _refuse_other_experiment(workdir: Path, stored: dict, current: dict) -> None:
    """Compares configs, and the facts of the datasets: data.dir may change because a dataset may move."""
    stored_flat, current_flat = (
        _flat(side["config"]) | _flat(_only(side["facts"]), "dataset ") for side in (stored, current)
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
            "delete it to start anew."
        )


def _only(facts: dict) -> dict:
    """The facts of the only task, or of all by name."""
    return next(iter(facts.values())) if len(facts) == 1 else facts


def _is_free(key: str) -> bool:
    if key.startswith("tasks."):  # "tasks.NAME.data.dir" is free as "data.dir" is
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


def find_checkpoint(path: Path, setting: str = "--checkpoint") -> Path:
    """The step directory that `path` (named `setting` in errors) means.

    It may be a workdir, its checkpoints/ or one step's directory.

    Raises:
      UserError: nothing there.
    """
    if (path / "metadata").is_dir() and (path / "state").is_dir():
        return path.resolve()
    for directory in (path / "checkpoints", path):
        steps = [p for p in directory.glob("*") if p.name.isdigit() and p.is_dir()]
        if steps:
            return max(steps, key=lambda p: int(p.name)).resolve()
    raise UserError(
        f"{setting}={path} holds no checkpoint. Give a workdir that `unloc train` wrote, or one of the "
        "directories in its checkpoints/."
    )


def workdir_of(step_dir: Path) -> Path:
    """The workdir that a step directory belongs to; a step directory that was copied elsewhere is its own."""
    return step_dir.parents[1] if step_dir.parent.name == "checkpoints" else step_dir


def load_checkpoint(step_dir: Path) -> tuple[Config, dict[str, DatasetFacts]]:
    """(config, facts by task) of a step directory.

    Raises:
      UserError: metadata that cannot be read, or that another version wrote.
    """
    metadata = _read_metadata(step_dir)
    try:
        facts = {name: DatasetFacts(**of_task) for name, of_task in metadata["facts"].items()}
        return config_lib.from_mapping(metadata["config"]), facts
    except UserError as error:
        raise UserError(f"{step_dir} was written by another version: {error}") from error


def _read_metadata(step_dir: Path) -> dict[str, Any]:
    """{"config": …, "facts": {task: …}} as saved; the facts are complete."""
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
            metadata = checkpointer.restore(step_dir / "metadata")
        if not metadata["facts"]:
            raise TypeError("it holds no facts")
        for of_task in metadata["facts"].values():
            DatasetFacts(**of_task)
        if not isinstance(metadata["config"], dict):
            raise TypeError("it holds no config")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{step_dir}/metadata cannot be read ({error}); the checkpoint is damaged. {_older(step_dir)}"
        ) from error
    return metadata


def load_params(step_dir: Path, abstract: Any) -> Any:
    """Parameters only, in the shapes and shardings of `abstract` (a tree of ShapeDtypeStruct).

    Of those of which training kept a moving average, that is taken (see `TrainState.best_params`).

    Raises:
      UserError: a damaged checkpoint, or a stored tree that does not match.
    """
    with _naming_damage(step_dir), ocp.PyTreeCheckpointer() as checkpointer:
        stored = checkpointer.metadata(step_dir / "state").item_metadata
        _check_shapes(stored["params"], abstract)
        averaged = (stored.get("ema_params") or {}).keys() & abstract.keys()
        item = {
            "params": {name: part for name, part in abstract.items() if name not in averaged},
            "ema_params": {name: abstract[name] for name in averaged},
        }
        item = {name: parts for name, parts in item.items() if parts}
        restored = checkpointer.restore(
            step_dir / "state",
            args=ocp.args.PyTreeRestore(
                item=item,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
                partial_restore=True,
            ),
        )
    return {**restored.get("params", {}), **restored.get("ema_params", {})}


def stored_shapes(step_dir: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the stored parameters by name ("head/offsets/conv_0/bias").

    Raises:
      UserError: a damaged checkpoint.
    """
    with _naming_damage(step_dir), ocp.PyTreeCheckpointer() as checkpointer:
        stored = checkpointer.metadata(step_dir / "state").item_metadata["params"]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(stored)
    }


def _check_shapes(stored: Any, wanted: Any) -> None:
    """Raises ValueError for the first parameter that is missing or of another shape."""
    shapes = {path: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(stored)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if path not in shapes:
            raise ValueError(f"it lacks {name}")
        if shapes[path] != leaf.shape:
            raise ValueError(f"{name} has the shape {shapes[path]} there and {leaf.shape} in the model")


@contextlib.contextmanager
def _naming_damage(step_dir: Path) -> Iterator[None]:
    """Turns what orbax and tensorstore raise on a bad checkpoint into one line."""
    hook = sys.unraisablehook

    def quiet(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    # When one array cannot be read, the reads still under way report, later, to an event loop that is gone.
    sys.unraisablehook = quiet
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0].partition(" [tensorstore_spec")[0]
        raise UserError(
            f"{step_dir} does not match the model of its config, or is damaged: {reason.rstrip('.')}. "
            f"{_older(step_dir)}"
        ) from error
    sys.unraisablehook = hook


def _older(step_dir: Path) -> str:
    """What to do about a damaged checkpoint."""
    steps = {int(p.name): p for p in step_dir.parent.glob("*") if p.name.isdigit()}
    older = [step for step in steps if step_dir.name.isdigit() and step < int(step_dir.name)]
    if not older:
        return "There is no older one to go back to."
    return f"An older one is {steps[max(older)]}; delete the damaged one to go on from there."
