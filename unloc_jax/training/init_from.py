"""Starting from another checkpoint: what fits is carried over, what does not is said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from unloc_jax.errors import UserError
from unloc_jax.training.checkpoints import find_checkpoint, load_params, stored_shapes
from unloc_jax.training.state import TrainState


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
