"""Reads checkpoints and configs of Scenic's UnLoc, without Scenic."""

import contextlib
import importlib.util
import inspect
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization, traverse_util

from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json

_KINDS = "Give a Scenic checkpoint (checkpoint_1234), a folder with such, an orbax folder or an .npz of parameters."
_JSON_ADVICE = "give the resolved config as JSON instead (ConfigDict.to_json() writes it)."
# Any of these marks an orbax folder; versions from 2023 write only the first two.
_ORBAX_FILES = ("checkpoint", "manifest.ocdbt", "_METADATA")
# Items of a CheckpointManager's step that may hold the parameters, in the order of preference.
_ITEMS = ("params", "state", "default")
# Where the parameters are: an optax TrainState, one from before optax, either with flax's own level inside.
_PREFIXES = ("params/", "optimizer/target/", "params/")
_STATE_FIELDS = {"global_step", "opt_state", "optimizer", "model_state"}
_LONGEST_REASON = 200  # characters


def read_params(source: Path) -> dict[str, np.ndarray]:
    """Reads the parameters of a reference checkpoint.

    Args:
      source: One of
        - an `.npz` with keys `params/…` (other keys are ignored) or the bare parameter names;
        - a msgpack file `checkpoint_1234`, as written by flax.training.checkpoints and so by Scenic;
        - an orbax folder of a train state or of parameters, written from any number of devices;
        - the folder of a CheckpointManager's step;
        - a folder with several of the last three, of which the one with the highest step is read.

    Returns:
      Arrays by name, joined by "/" without a leading "params/", such as
      "video_encoder/VisionTransformer/positional_embedding"; dots in names are kept. bfloat16 becomes float32, other
      dtypes are kept.

    Raises:
      UserError: There is nothing, or it has another format, is damaged or holds no parameters.
    """
    try:
        source = _locate(source)
        if source.is_dir():
            params = _read_orbax(source)
        elif source.suffix == ".npz":
            params = _read_npz(source)
        else:
            params = _read_msgpack(source)
    except UserError:
        raise
    except Exception as error:  # the libraries do not document what foreign bytes raise
        raise UserError(f"{source} is damaged or no checkpoint ({_reason(error)}). {_KINDS}") from error
    return {name: _array(leaf, name, source) for name, leaf in params.items()}


def read_config(path: Path) -> dict[str, Any]:
    """Reads a reference config as plain nested dictionaries.

    Args:
      path: A Python file with `get_config()` (a required argument, such as `runlocal`, gets ""), whose imports of
        `scenic` are found if it is in a checkout of Scenic. Any other file is JSON: the config, or an object that has
        it under the key "config"; `Infinity` is allowed.

    Raises:
      UserError: The file does not exist, is not JSON, or is Python that does not parse or fails; gives file, line and
        reason.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is not a file. Give a config as JSON, or one of Scenic's config files (.py)."
        )
    config = _run_config(path) if path.suffix == ".py" else _read_json(path)
    if not isinstance(config, dict):
        raise UserError(f"{path} holds a {type(config).__name__} instead of a config; {_JSON_ADVICE}")
    return config


def _locate(source: Path) -> Path:
    """Returns the file or orbax folder that `source` refers to."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise UserError(f"{source} does not exist. {_KINDS}")
    if _is_orbax(source):
        return source.resolve()
    children = sorted(source.iterdir())
    # Includes the folders of a CheckpointManager. Unfinished writes have other names, such as checkpoint_tmp.
    steps = {int(match[1]): p for p in children if (match := re.fullmatch(r"(?:checkpoint_)?(\d+)", p.name))}
    if steps:
        return _locate(steps[max(steps)])
    items = {child.name: child.resolve() for child in children if _is_orbax(child)}
    for name in _ITEMS:
        if name in items:
            return items[name]
    if len(items) > 1:
        raise UserError(f"{source} holds several items: give the path of one of {', '.join(items)} in it.")
    if not items:
        raise UserError(f"{source} holds no checkpoint. {_KINDS}")
    return next(iter(items.values()))


def _is_orbax(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _ORBAX_FILES)


def _read_npz(source: Path) -> dict[str, Any]:
    with np.load(source) as file:
        return {name: file[stored] for name, stored in _parameter_names(file.files, source).items()}


def _read_msgpack(source: Path) -> dict[str, Any]:
    stored = traverse_util.flatten_dict(serialization.msgpack_restore(source.read_bytes()), sep="/")
    return {name: stored[key] for name, key in _parameter_names(stored, source).items()}


def _read_orbax(source: Path) -> dict[str, Any]:
    with _no_reports_of_other_reads(), contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        if not (source / "_METADATA").is_file():  # written in 2023 or earlier
            restored = handler.restore(source)
        else:
            stored = traverse_util.flatten_dict(handler.metadata(source).tree, sep="/")
            names = _parameter_names(stored, source)
            # Only what is needed, and into host memory: the devices that wrote it may be unavailable.
            wanted = traverse_util.unflatten_dict({key: stored[key] for key in names.values()}, sep="/")
            restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            restored = handler.restore(
                source,
                args=ocp.args.PyTreeRestore(item=wanted, restore_args=restore_args, partial_restore=True),
            )
    stored = traverse_util.flatten_dict(restored, sep="/")
    return {name: stored[key] for name, key in _parameter_names(stored, source).items()}


@contextlib.contextmanager
def _no_reports_of_other_reads() -> Iterator[None]:
    """Hides what other reads report after one has failed, when their event loop is closed."""
    logger, hook = logging.getLogger("asyncio"), sys.unraisablehook

    def quiet(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    def wanted(record: logging.LogRecord) -> bool:
        return not re.search(
            "exception was never retrieved|during asyncio.run.. shutdown", record.getMessage()
        )

    sys.unraisablehook = quiet
    logger.addFilter(wanted)
    yield
    # Not reached after a failure, whose reports are still to come.
    sys.unraisablehook = hook
    logger.removeFilter(wanted)


def _parameter_names(stored: Iterable[str], source: Path) -> dict[str, str]:
    """Returns stored names by parameter name."""
    names = {name: name for name in stored}
    if not any(name.startswith(_PREFIXES) for name in names):
        fields = sorted(_STATE_FIELDS & {name.partition("/")[0] for name in names})
        if fields or not names:
            what = f"{', '.join(fields)} but " if fields else ""
            raise UserError(f"{source} holds {what}no parameters. Give a checkpoint that has `params`.")
        return names
    for prefix in _PREFIXES:
        inside = {name[len(prefix) :]: key for name, key in names.items() if name.startswith(prefix)}
        names = inside or names
    return names


def _array(leaf: Any, name: str, source: Path) -> np.ndarray:
    """Converts a stored leaf to an array of its shape; bfloat16 becomes float32."""
    array = np.asarray(leaf)
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:  # bfloat16, whose name an .npz does not store
        return array.view(jnp.bfloat16).astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise UserError(
            f"{source}: the parameter {name} is not an array but {str(leaf)[:40]!r}. Save the checkpoint from one "
            "process, with whole arrays."
        )
    return array


def _read_json(path: Path) -> Any:
    try:
        config = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not JSON ({_reason(error)}). Give a config as JSON, or a .py file."
        ) from error
    if isinstance(config, dict) and isinstance(config.get("config"), dict):
        return config["config"]
    return config


def _run_config(path: Path) -> Any:
    checkouts = [str(parent.parent) for parent in path.resolve().parents if parent.name == "scenic"]
    sys.path[:0] = checkouts
    try:
        spec = importlib.util.spec_from_file_location(f"scenic_config_{path.stem}", path)
        assert spec and spec.loader  # a .py file has both
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        parameters = inspect.signature(module.get_config).parameters.values()
        return _plain(module.get_config(*["" for p in parameters if p.default is p.empty]))
    except SyntaxError as error:
        raise UserError(
            f"{error.filename}, line {error.lineno}: {error.msg}. Fix it, or {_JSON_ADVICE}"
        ) from error
    except ImportError as error:
        raise UserError(
            f"{path}: {_reason(error)}. Give the file inside its checkout of Scenic (scenic/projects/unloc/configs/…), "
            f"or {_JSON_ADVICE}"
        ) from error
    except Exception as error:
        raise UserError(
            f"{path}: get_config() failed with {type(error).__name__}: {_reason(error)}. Fix it, or {_JSON_ADVICE}"
        ) from error
    finally:
        for checkout in checkouts:
            sys.path.remove(checkout)


def _plain(value: Any) -> Any:
    if isinstance(value, ml_collections.ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _reason(error: Exception) -> str:
    """Returns the first line of an error's message, without what tensorstore appends."""
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = lines[0].partition(" [tensorstore_spec")[0]
    return reason.rstrip(".") if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "…"
