"""Initialises a model from other parameters: takes over what fits, and logs a table of what does not."""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from unloc_jax import agreement
from unloc_jax.config import Config
from unloc_jax.model.adapters import is_adapter, merged
from unloc_jax.pretrained.encoders import read_weights
from unloc_jax.pretrained.unloc_checkpoint import fit_checkpoint, in_stacks_of
from unloc_jax.training.checkpoints.reading import (
    find_checkpoint,
    load_checkpoint,
    load_params,
    stored_shapes,
)
from unloc_jax.training.ema import start_average
from unloc_jax.training.facts import parameter_facts
from unloc_jax.training.state import TrainState

_MOST_LINES = 12  # about single parameters


def initialize(config: Config, state: TrainState, log: Callable[[str], None]) -> TrainState:
    """Takes over the parameters of `config.init_from`; all others, and the step, stay as initialised.

    The source is a checkpoint of ours (see `fit_checkpoint`), what `unloc import` wrote, or "KIND:SRC", weights of
    another program (see `unloc_jax.pretrained.encoders`).

    Args:
      config: The experiment's config.
      state: A new state; its parameters are replaced in their shardings.
      log: Called with each line of a table of what was taken over and what was not.

    Raises:
      UserError: The source cannot be read or does not fit.
    """
    source = config.init_from
    own = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)}
    if weights := read_weights(source, config.model, own):
        stored, taken = weights.stored, weights.taken
        log(f"init_from: {weights.title}")
    else:
        step_dir = find_checkpoint(Path(source), "config.init_from")
        stored = _load_all(step_dir)
        if not any(is_adapter(tuple(name.split("/"))) for name in own):
            stored = merged(stored)
        stored = in_stacks_of(own, stored)
        taken = fit_checkpoint(stored, load_checkpoint(step_dir)[0], own, config)
        log(f"init_from: {step_dir}")
    for line in table(own, taken, stored):
        log(f"  {line}")

    agreement.check(lambda: parameter_facts("config.init_from", taken))

    def replaced(path: tuple, leaf: jax.Array) -> jax.Array:
        array = taken.get(_name(path))
        return leaf if array is None else jax.device_put(np.asarray(array, leaf.dtype), leaf.sharding)

    params = jax.tree_util.tree_map_with_path(replaced, state.params)
    return TrainState(state.step, params, state.opt_state, start_average(config, params))


def table(
    own: Mapping[str, np.ndarray], taken: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray]
) -> list[str]:
    """Summarises the origin of parameters in numbers, one line per part of the model or of the source.

    Args:
      own: The model's parameters [...] by name.
      taken: The parameters that were taken over, as they were taken over.
      stored: The source's parameters, by the model's names for them.

    Returns:
      Lines: the table (taken over unchanged; adapted to another shape; new in this model; in the source but not used),
      then the names of parameters that were adapted or did not fit.
    """
    columns = ("taken over", "adapted", "new", "not used")
    parts: dict[str, list[int]] = {}
    details = []
    for name in [*own, *(name for name in stored if name not in own)]:
        row = parts.setdefault(name.split("/")[0], [0, 0, 0, 0])
        if name not in own:
            row[3] += stored[name].size
            continue
        fits = name in stored and stored[name].shape == own[name].shape
        row[0 if fits and name in taken else 1 if name in taken else 2] += own[name].size
        if name in stored and not fits:
            what = "adapted" if name in taken else "does not fit, new"
            details.append(f"{what}: {name} {stored[name].shape} → {own[name].shape}")
    parts["all"] = [sum(column) for column in zip(*parts.values())]
    width = max(map(len, parts))
    lines = [f"{'part':<{width}}" + "".join(f"{column:>14}" for column in columns)]
    lines += [f"{part:<{width}}" + "".join(f"{n:>14,}" for n in row) for part, row in parts.items()]
    more = [f"… and {len(details) - _MOST_LINES} more"] if len(details) > _MOST_LINES else []
    return lines + details[:_MOST_LINES] + more


def _load_all(step_dir: Path) -> dict[str, np.ndarray]:
    """Loads a checkpoint's parameters [...] by name into host memory."""
    # NumPy placeholders make orbax keep the arrays on the host; broadcast ones take no memory.
    placeholder = lambda shape: np.broadcast_to(np.zeros((), np.float32), shape)
    shapes = {name: placeholder(shape) for name, shape in stored_shapes(step_dir).items()}
    return traverse_util.flatten_dict(
        load_params(step_dir, traverse_util.unflatten_dict(shapes, sep="/")), sep="/"
    )


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
