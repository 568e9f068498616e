"""Starting from other parameters: what fits is taken over, and a table says what did not come from there."""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from unloc_jax.config import Config
from unloc_jax.pretrained.clip_import import fit_to_model
from unloc_jax.pretrained.clip_model import Clip
from unloc_jax.pretrained.clip_source import kind_of, read_any_clip, split_source
from unloc_jax.pretrained.unloc_checkpoint import fit_checkpoint, in_stacks_of
from unloc_jax.training.checkpoints.reading import (
    find_checkpoint,
    load_checkpoint,
    load_params,
    stored_shapes,
)
from unloc_jax.training.ema import start_average
from unloc_jax.training.state import TrainState

_MOST_LINES = 12  # that tell of single parameters


def initialize(config: Config, state: TrainState, say: Callable[[str], None]) -> TrainState:
    """Takes over what `config.init_from` holds; everything else stays as initialised, and so does the step.

    It is a checkpoint of ours (see `fit_checkpoint`), a CLIP that `unloc import` wrote, or "KIND:SRC", another
    program's CLIP (see `unloc_jax.pretrained.clip_source.read_clip` and `fit_to_model`).

    Args:
      config: the experiment's.
      state: a new state; its parameters are replaced in their shardings.
      say: told, as a table, what was taken over and what not.

    Raises:
      UserError: it cannot be read or does not fit.
    """
    source = config.init_from
    own = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)}
    if split_source(source) or (Path(source).is_dir() and kind_of(source)):
        clip = read_any_clip(source)
        stored = _of_clip(clip, own)
        by_path = {tuple(name.split("/")): leaf for name, leaf in own.items()}
        taken = {"/".join(path): x for path, x in fit_to_model(clip, config.model, by_path).items()}
        say(f"init_from: {clip.source} ({clip.config.name}, {clip.config.image_size} pixels)")
    else:
        step_dir = find_checkpoint(Path(source), "config.init_from")
        stored = in_stacks_of(own, _load_all(step_dir))
        taken = fit_checkpoint(stored, load_checkpoint(step_dir)[0], own, config)
        say(f"init_from: {step_dir}")
    for line in table(own, taken, stored):
        say(f"  {line}")

    def replaced(path: tuple, leaf: jax.Array) -> jax.Array:
        array = taken.get(_name(path))
        return leaf if array is None else jax.device_put(np.asarray(array, leaf.dtype), leaf.sharding)

    params = jax.tree_util.tree_map_with_path(replaced, state.params)
    return TrainState(state.step, params, state.opt_state, start_average(config, params))


def table(
    own: Mapping[str, np.ndarray], taken: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray]
) -> list[str]:
    """What came from where, in numbers of parameters, one line per part of the model or of the source.

    Args:
      own: the model's parameters by name.
      taken: those that were taken over, as they were taken over.
      stored: what the source has, by the names that the model has for it.

    Returns:
      Lines: the table (taken over as they are; adapted to another shape; new in this model; not used of the source),
      then the names of the parameters that were adapted or did not fit.
    """
    columns = ("taken over", "adapted", "new", "not used")
    parts: dict[str, list[int]] = {}
    told = []
    for name in [*own, *(name for name in stored if name not in own)]:
        row = parts.setdefault(name.split("/")[0], [0, 0, 0, 0])
        if name not in own:
            row[3] += stored[name].size
            continue
        fits = name in stored and stored[name].shape == own[name].shape
        row[0 if fits and name in taken else 1 if name in taken else 2] += own[name].size
        if name in stored and not fits:
            what = "adapted" if name in taken else "does not fit, new"
            told.append(f"{what}: {name} {stored[name].shape} → {own[name].shape}")
    parts["all"] = [sum(column) for column in zip(*parts.values())]
    width = max(map(len, parts))
    lines = [f"{'part':<{width}}" + "".join(f"{column:>14}" for column in columns)]
    lines += [f"{part:<{width}}" + "".join(f"{n:>14,}" for n in row) for part, row in parts.items()]
    more = [f"… and {len(told) - _MOST_LINES} more"] if len(told) > _MOST_LINES else []
    return lines + told[:_MOST_LINES] + more


def _of_clip(clip: Clip, own: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All of a CLIP by the names of the model's towers; what belongs to no tower keeps its own name."""
    towers = {part: "image" for part in {name.split("/")[0] for name in own} if part.startswith("towers_")}
    towers["text_tower"] = "text"
    named = {tower: clip.params[kind] for tower, kind in towers.items()}
    rest = {name: value for name, value in clip.params.items() if name not in ("image", "text")}
    return traverse_util.flatten_dict(named | rest, sep="/")


def _load_all(step_dir: Path) -> dict[str, np.ndarray]:
    """A checkpoint's parameters by name, in the host's memory."""
    # Arrays of NumPy are what tells orbax not to put them on devices; these take no memory.
    placeholder = lambda shape: np.broadcast_to(np.zeros((), np.float32), shape)
    shapes = {name: placeholder(shape) for name, shape in stored_shapes(step_dir).items()}
    return traverse_util.flatten_dict(
        load_params(step_dir, traverse_util.unflatten_dict(shapes, sep="/")), sep="/"
    )


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
