"""Starting from another checkpoint: what fits is carried over, what does not is said."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.pretrained.clip_import import fit_to_model
from unloc_jax.pretrained.clip_model import SETTINGS_FILE, Clip
from unloc_jax.pretrained.clip_source import read_any_clip, split_source
from unloc_jax.training.average import start_average
from unloc_jax.training.checkpoints import find_checkpoint, load_params, stored_shapes
from unloc_jax.training.state import TrainState


def initialize(config: Config, state: TrainState, say: Callable[[str], None]) -> TrainState:
    """Takes over what `config.init_from` holds.

    It is a checkpoint of ours (see `initialize_from`), a CLIP that `unloc import` wrote, or "KIND:SRC", another
    program's CLIP (see `unloc_jax.pretrained.clip_source.read_clip`).

    Raises:
      UserError: it cannot be read or does not fit.
    """
    source = config.init_from
    if split_source(source) or (Path(source) / SETTINGS_FILE).is_file():
        state = initialize_from_clip(read_any_clip(source), config, state, say)
    else:
        state = initialize_from(Path(source), state, say)
    return dataclasses.replace(state, ema_params=start_average(config, state.params))


def initialize_from_clip(
    clip: Clip, config: Config, state: TrainState, say: Callable[[str], None]
) -> TrainState:
    """Replaces the towers' parameters by a CLIP's, in their shardings; everything else stays as initialised.

    Args:
      clip: its sizes must be those of config.model.image and config.model.text, but for image size and text length.
      config: of the model.
      state: a new state.
      say: told, as a table, what was taken over and what not.

    Raises:
      UserError: see `fit_to_model`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state.params)
    own = {tuple(_name(path).split("/")): leaf for path, leaf in leaves}
    taken, told = fit_to_model(clip, config.model, own)
    say(f"init_from: {clip.source} ({clip.config.name}, {clip.config.image_size} pixels)")
    for line in _table({path: leaf.size for path, leaf in own.items()}, set(taken)):
        say(f"  {line}")
    for line in told:
        say(f"  {line}")
    say("  not used: image_projection, text_projection and logit_scale of the CLIP")

    def replaced(path: tuple, leaf: jax.Array) -> jax.Array:
        array = taken.get(tuple(_name(path).split("/")))
        if array is None:
            return leaf
        return jax.device_put(np.asarray(array, leaf.dtype), leaf.sharding)

    params = jax.tree_util.tree_map_with_path(replaced, state.params)
    return TrainState(state.step, params, state.opt_state)


def _table(sizes: dict[tuple[str, ...], int], taken: set[tuple[str, ...]]) -> list[str]:
    """One line per part of the model: how many of its parameters come from elsewhere, how many are new."""
    parts = dict.fromkeys(path[0] for path in sizes)
    width = max(map(len, parts))
    lines = [f"{'part':<{width}}  {'taken over':>12}  {'new':>12}"]
    for part in parts:
        of_part = {path: size for path, size in sizes.items() if path[0] == part}
        old = sum(size for path, size in of_part.items() if path in taken)
        lines.append(f"{part:<{width}}  {old:>12,}  {sum(of_part.values()) - old:>12,}")
    return lines


def initialize_from(source: Path, state: TrainState, say: Callable[[str], None]) -> TrainState:
    """Replaces the parameters that the checkpoint has too, in their shardings; the others stay as initialised.

    Args:
      source: a workdir, or one step's directory.
      state: a new state.
      say: told what was carried over and what not.

    Raises:
      UserError: no checkpoint there, or one with no parameter in common.
    """
    step_dir = find_checkpoint(source, "config.init_from")
    stored = stored_shapes(step_dir)
    names = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)}
    common = {name for name, leaf in names.items() if stored.get(name) == leaf.shape}
    if not common:
        raise UserError(f"config.init_from={source}: it has no parameter of this model's names and shapes.")
    wanted = jax.tree_util.tree_map_with_path(
        lambda path, x: (
            jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) if _name(path) in common else None
        ),
        state.params,
    )
    loaded = load_params(step_dir, _without_none(wanted))
    found = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(loaded)}
    params = jax.tree_util.tree_map_with_path(lambda path, x: found.get(_name(path), x), state.params)
    say(f"{len(common)} of {len(names)} parameters come from {step_dir}")
    for title, missing in (
        ("new here", sorted(set(names) - set(stored))),
        ("of another shape there", sorted((set(names) & set(stored)) - common)),
        ("only there", sorted(set(stored) - set(names))),
    ):
        if missing:
            say(f"  {title}: {', '.join(_groups(missing))}")
    return TrainState(state.step, params, state.opt_state)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _without_none(tree: Any) -> Any:
    """The tree without its None leaves and without what is empty then."""
    if not isinstance(tree, dict):
        return tree
    kept = {key: _without_none(value) for key, value in tree.items() if value is not None}
    return {key: value for key, value in kept.items() if value != {}}


def _groups(names: list[str]) -> list[str]:
    """ "head/offsets/conv_0/bias", "head/scale_0" → "head (2)": one entry per first part."""
    first = [name.split("/")[0] for name in names]
    return [f"{group} ({first.count(group)})" for group in dict.fromkeys(first)]
