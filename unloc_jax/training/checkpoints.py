"""Orbax checkpoints that are enough by themselves: state, and the config and dataset facts that made it."""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp

from unloc_jax import config as config_lib
from unloc_jax.config import Config
from unloc_jax.dataset import DatasetFacts
from unloc_jax.errors import TryAgain, UserError
from unloc_jax.training.best import KeepBest, best_step
from unloc_jax.training.fingerprint import different, fingerprints, not_finite
from unloc_jax.training.state import TrainState

# Settings that may differ when a run is continued: they change how it runs, not what it computes.
_FREE_SETTINGS = (
    "data.dir",
    "data.num_workers",
    "data.stall_s",
    "evaluation",
    "checkpoint",
    "mesh",
    "log_every_steps",
    "non_finite",
    "profile",
    "wandb",
)
_LONGEST_VALUE = 60  # characters of a value in a message


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: they lie in `workdir/checkpoints/<step>/`.
      config: the experiment's; a directory that holds another experiment's is refused.
      facts: by task, the facts of its dataset that prediction needs besides the config (see `DatasetFacts`).
      say: told of checkpoints that could not be written.

    Raises:
      UserError: the workdir cannot be written, or holds another experiment or a damaged checkpoint.
    """

    def __init__(
        self,
        workdir: Path,
        config: Config,
        facts: dict[str, dict[str, Any]],
        say: Callable[[str], None] = lambda text: None,
    ):
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
        self._config, self._directory, self._say = config.checkpoint, directory, say
        self._writing: int | None = None
        self._complaint: UserError | None = None
        self._manager = self._open()
        self.history: dict[str, Any] = {}
        """What was saved beside the latest state: see `save`."""
        if self.latest_step is not None:
            stored = _read_metadata(directory / str(self.latest_step))
            _refuse_other_experiment(workdir, stored, self._metadata)
            self.history = stored.get("history", {})
        keep = config.checkpoint
        self._best = KeepBest(workdir, keep.best_metric, keep.keep_best, self.latest_step or 0)

    def _open(self) -> ocp.CheckpointManager:
        policies = ocp.checkpoint_managers
        return _Manager(
            self._directory,
            item_names=("state", "metadata"),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(
                    [policies.LatestN(self._config.keep), _Forwarding(lambda: self._best)]
                ),
                enable_async_checkpointing=True,
            ),
        )

    @property
    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def is_best(self, step: int, scores: dict[str, float]) -> bool:
        """Notes the metrics of a step; whether its checkpoint is one that config.checkpoint.keep_best keeps.

        If config.checkpoint.best_metric is none of them it is, too, and `save` raises UserError: so nothing is lost.
        """
        try:
            return self._best.add(step, scores)
        except UserError as error:
            self._complaint = error
            return True

    def save(self, state: TrainState, step: int, history: dict[str, Any] | None = None) -> None:
        """Writes in the background; a kill during the write leaves the previous checkpoint as the latest.

        Args:
          state: what is saved.
          step: its name; one that is there already is left as it is.
          history: JSON values that `history` gives back to a run that goes on.

        Raises:
          UserError: parameters that are not finite are never saved; with config.checkpoint.on_error "stop": this or
            the last checkpoint cannot be written; after writing, what `is_best` found.
        """
        if wrong := not_finite(state.params):
            raise UserError(
                f"step {step}: the parameters are not finite, although loss and gradients were "
                f"({', '.join(wrong[:3])}, …): the learning rate is too high. They are not saved; the last "
                f"checkpoint is of step {self.latest_step or 0}."
            )
        self.wait()
        history = history or {}
        metadata = self._metadata | {"history": history, "fingerprints": fingerprints(state)}
        with self._naming_failure(step):
            self._directory.mkdir(exist_ok=True)
            self._writing = step
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), metadata=ocp.args.JsonSave(metadata)
                ),
            )
            self.history = history
        if self._complaint:
            raise self._complaint

    def wait(self) -> None:
        """Waits for the last write; raises UserError as `save` does."""
        if self._writing is None:
            return
        with self._naming_failure(self._writing):
            self._manager.wait_until_finished()
            self._writing = None

    @contextlib.contextmanager
    def _naming_failure(self, step: int) -> Iterator[None]:
        try:
            with _no_late_reports():
                yield
        except jax.errors.JaxRuntimeError:
            raise  # another process has gone: no matter of files
        except Exception as error:
            self._writing = None
            reason = _first_line(error)
            with contextlib.suppress(Exception):
                self._manager.close()
            self._manager = self._open()
            what = (
                f"the checkpoint of step {step} cannot be written to {self._directory}: {reason}. "
                f"The last one is of step {self.latest_step or 0}."
            )
            if self._config.on_error == "stop":
                raise UserError(
                    f"{what} Mend that (is the disk full?) and run the same command again; with "
                    "--config.checkpoint.on_error=continue training would go on."
                ) from error
            self._say(f"note: {what} Training goes on, and the next checkpoint is tried again.")

    def restore(self, abstract_state: TrainState) -> TrainState:
        """The latest state, in the shardings of `abstract_state` (whatever mesh it was saved from).

        Raises:
          UserError: a damaged checkpoint.
        """
        step_dir = self._directory / str(self.latest_step)
        with _naming_damage(step_dir):
            restored = self._manager.restore(
                self.latest_step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
            )
            _compare(step_dir, restored.state)
        return restored.state

    def close(self) -> None:
        """Waits for the last write; raises UserError as `save` does."""
        self.wait()
        self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, TryAgain):
            self.close()
        elif issubclass(kind, UserError):  # what is being written is good all the same
            with contextlib.suppress(Exception):
                self.close()


class _Manager(ocp.CheckpointManager):
    def reached_preemption(self, step: int) -> bool:
        # The training loop asks that itself; a second one who asks would be taken for another step.
        return False


class _Forwarding:
    """A policy that exists only after the manager does."""

    def __init__(self, policy: Callable[[], KeepBest]):
        self._policy = policy

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return self._policy().should_preserve(checkpoints, context=context)


def _compare(step_dir: Path, tree: Any) -> None:
    """Raises ValueError if arrays are not those that were saved."""
    if wrong := different(_read_metadata(step_dir).get("fingerprints", {}), tree):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"other numbers than were saved in {', '.join(wrong[:3])}{more}")


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].partition(" [tensorstore_spec")[0].rstrip(".")


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

    It may be a workdir or its checkpoints/ (the latest step is meant), one step's directory, or `checkpoints/best`:
    of the steps that are there the one with the highest config.checkpoint.best_metric.

    Raises:
      UserError: nothing there.
    """
    if (path / "metadata").is_dir() and (path / "state").is_dir():
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
        _compare(step_dir, restored)
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
    try:
        with _no_late_reports():
            yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{step_dir} does not match the model of its config, or is damaged: {_first_line(error)}. "
            f"{_older(step_dir)}"
        ) from error


@contextlib.contextmanager
def _no_late_reports() -> Iterator[None]:
    """When one array fails, the others still under way report, later, to an event loop that is gone: not to users."""
    hook = sys.unraisablehook

    def quiet(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    sys.unraisablehook = quiet
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    yield
    sys.unraisablehook = hook  # after an error the late reports are still to come


def _older(step_dir: Path) -> str:
    """What to do about a damaged checkpoint."""
    steps = {int(p.name): p for p in step_dir.parent.glob("*") if p.name.isdigit()}
    older = [step for step in steps if step_dir.name.isdigit() and step < int(step_dir.name)]
    if not older:
        return "There is no older one to go back to."
    return f"An older one is {steps[max(older)]}; delete the damaged one to go on from there."
