"""Reads checkpoint directories: finds a step, loads its config and parameters, reports damage."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.errors import UserError
from unloc_jax.old_names import as_stored, renamed_arrays
from unloc_jax.training.checkpoints.best import best_step
from unloc_jax.training.checkpoints.fingerprint import different
from unloc_jax.training.checkpoints.metadata import read_checked, read_tree
from unloc_jax.training.checkpoints.orbax_reports import hide_reports
from unloc_jax.training.checkpoints.vocabulary import with_own_vocabulary
from unloc_jax.training.checkpoints.whole import advice, stored_names_differ
from unloc_jax.training.process_failures import lost_a_process


def find_checkpoint(path: Path, setting: str = "--checkpoint") -> Path:
    """Returns the step directory that `path` refers to.

    Args:
      path: A workdir or its checkpoints/ (the latest step is meant), the directory of a step, or `checkpoints/best`: of
        the existing steps, the one with the highest config.checkpoint.best_metric.
      setting: Name of the setting that `path` comes from, for messages.

    Raises:
      UserError: There is no checkpoint.
    """
    if (path / "metadata").is_dir() or (
        path / "state"
    ).is_dir():  # one alone: damaged, as its reader will say
        return path.resolve()
    for directory in (path / "checkpoints", path):
        steps = [p for p in directory.glob("*") if p.name.isdigit() and p.is_dir()]
        if steps:
            return max(steps, key=lambda p: int(p.name)).resolve()
    if path.name == "best" and path.parent.is_dir():
        return _find_best(path, setting)
    raise UserError(
        f"{setting}={path} holds no checkpoint. Give a workdir that `unloc train` wrote, or one of the "
        "directories in its checkpoints/."
    )


def _find_best(path: Path, setting: str) -> Path:
    """Returns the directory of the step with the highest validation score; see `find_checkpoint`."""
    latest = find_checkpoint(path.parent, setting)
    metric = load_checkpoint(latest)[0].checkpoint.best_metric
    steps = [int(p.name) for p in latest.parent.glob("*") if p.name.isdigit()]
    best = best_step(workdir_of(latest), metric, steps) if metric else None
    if best is None:
        raise UserError(
            f"{setting}={path}: no checkpoint there has a validation score to compare"
            + (
                f" ({metric}, in metrics.jsonl)."
                if metric
                else ": its config.checkpoint.best_metric is empty."
            )
        )
    return latest.with_name(str(best))


def workdir_of(step_dir: Path) -> Path:
    """Returns the workdir of a step directory, or the step directory itself if it was copied elsewhere."""
    return step_dir.parents[1] if step_dir.parent.name == "checkpoints" else step_dir


def load_checkpoint(step_dir: Path) -> tuple[Config, dict[str, DatasetMetadata]]:
    """Loads a step's (config, dataset metadata by task).

    Raises:
      UserError: The metadata cannot be read, or another version wrote it.
    """
    metadata = read_metadata(step_dir)
    try:
        dataset_metadata = {
            name: DatasetMetadata(**of_task) for name, of_task in metadata["dataset_metadata"].items()
        }
        config = config_lib.from_mapping(metadata["config"])
    except UserError as error:
        raise UserError(f"{step_dir} was written by another version: {error}") from error
    return with_own_vocabulary(config, step_dir, metadata.get("vocabulary")), dataset_metadata


def read_metadata(step_dir: Path) -> dict[str, Any]:
    """Reads {"config": …, "dataset_metadata": {task: …}, …} as saved, and checks that it is complete.

    Raises:
      UserError: The metadata is damaged.
    """
    hide_reports()
    try:
        return read_checked(step_dir)
    except Exception as error:  # of any kind, because the bytes may be anything
        raise UserError(
            f"{step_dir}/metadata cannot be read ({first_line(error)}); the checkpoint is damaged. {advice(step_dir)}"
        ) from error


def load_params(step_dir: Path, abstract: Any) -> Any:
    """Loads the parameters in the shapes and shardings of `abstract`, a tree of ShapeDtypeStruct.

    Where training kept a moving average of a parameter, the average is loaded (see `TrainState.best_params`).

    Raises:
      UserError: The checkpoint is damaged or does not match.
    """
    with naming_damage(step_dir), ocp.PyTreeCheckpointer() as checkpointer:
        metadata, stored = read_metadata(step_dir), read_tree(step_dir)
        _compare_names(metadata, stored)
        old_params = stored["params"]
        stored = renamed_arrays(stored)
        _check_shapes(stored["params"], abstract)
        averaged = (stored.get("ema_params") or {}).keys() & abstract.keys()
        item = {
            "params": {name: part for name, part in abstract.items() if name not in averaged},
            "ema_params": {name: abstract[name] for name in averaged},
        }
        item = as_stored({name: parts for name, parts in item.items() if parts}, old_params)
        restored = checkpointer.restore(
            step_dir / "state",
            args=ocp.args.PyTreeRestore(
                item=item,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
                partial_restore=True,
            ),
        )
        restored = renamed_arrays(restored)
        compare(metadata, restored)
    return {**restored.get("params", {}), **restored.get("ema_params", {})}


def stored_shapes(step_dir: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the stored parameters by name ("head/offsets/conv_0/bias").

    Raises:
      UserError: The checkpoint is damaged.
    """
    with naming_damage(step_dir):
        stored = read_tree(step_dir)["params"]
        _compare_names(read_metadata(step_dir), {"params": stored}, ("params",))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(renamed_arrays(stored))
    }


def _check_shapes(stored: Any, wanted: Any) -> None:
    """Raises ValueError for the first parameter that is missing or has another shape."""
    shapes = {path: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(stored)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(wanted):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if path not in shapes:
            raise ValueError(f"it lacks {name}")
        if shapes[path] != leaf.shape:
            raise ValueError(f"{name} has the shape {shapes[path]} there and {leaf.shape} in the model")


def _compare_names(
    metadata: dict[str, Any], stored: Any, parts: tuple[str, ...] = ("params", "ema_params")
) -> None:
    """Raises ValueError if the stored parameters are not those that were saved; without a moving average, say."""
    if stored_names_differ(metadata, stored, parts):
        raise ValueError("other parameters than were saved")


def compare(metadata: dict[str, Any], tree: Any) -> None:
    """Raises ValueError if arrays differ from those that were saved with this metadata."""
    if wrong := different(metadata, tree):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"other numbers than were saved in {', '.join(wrong[:3])}{more}")


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, without what tensorstore appends."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].partition(" [tensorstore_spec")[0].rstrip(".")


@contextlib.contextmanager
def naming_damage(step_dir: Path) -> Iterator[None]:
    """Converts what orbax and tensorstore raise for a bad checkpoint into a UserError of one line."""
    hide_reports()
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of any kind, because the bytes may be anything
        if lost_a_process(error) or "RESOURCE_EXHAUSTED: Out of memory" in str(error):
            raise
        raise UserError(
            f"{step_dir} does not match the model of its config, or is damaged: {first_line(error)}. {advice(step_dir)}"
        ) from error
