"""Finds a checkpoint to go back to when another is damaged."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from unloc_jax.old_names import renamed_arrays
from unloc_jax.training.checkpoints.fingerprint import array_name, different
from unloc_jax.training.checkpoints.metadata import alone, read_checked, read_tree
from unloc_jax.training.checkpoints.orbax_reports import hide_reports


def advice(step_dir: Path) -> str:
    """Returns what to do about a damaged checkpoint. Older ones are read completely until one is whole."""
    steps = {int(p.name): p for p in step_dir.parent.glob("*") if p.name.isdecimal() and p.is_dir()}
    older = [step for step in steps if step_dir.name.isdecimal() and step < int(step_dir.name)]
    for step in sorted(older, reverse=True):
        if is_whole(steps[step]):
            newer = sum(other > step for other in steps)
            which = "the damaged one" if newer == 1 else f"the {newer} newer ones"
            return f"An older one is whole: {steps[step]}; delete {which} to continue from there."
    return "No older one is whole." if older else "There is no older one to go back to."


def is_whole(step_dir: Path) -> bool:
    """Returns whether everything in a checkpoint is what was saved, as far as its version stored fingerprints."""
    hide_reports()
    try:
        metadata = read_checked(step_dir)
        stored = read_tree(step_dir)
        parts = stored.keys() | {name.split("/")[0] for name in metadata.get("fingerprints", {})}
        if stored_names_differ(metadata, stored, tuple(parts)):
            return False
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone())
        with ocp.Checkpointer(handler, multiprocessing_options=alone()) as checkpointer:
            # One part of the state after the other: the whole need not fit the host's memory.
            return not any(
                _differs(checkpointer, step_dir, {part: stored[part]}, metadata) for part in stored
            )
    except Exception:  # whatever a damaged file leads to
        return False


def stored_names_differ(metadata: dict[str, Any], stored: Any, parts: tuple[str, ...]) -> bool:
    """Returns whether arrays are missing, renamed or added in some parts of the stored state.

    Args:
      metadata: Of the checkpoint; one without a checksum is not compared.
      stored: The tree of what is stored, by its present names or the stored ones.
      parts: Keys at the top of the state, such as "params".
    """
    if "checksum" not in metadata:
        return False
    of_parts = {part: stored[part] for part in parts if part in stored}
    found = {array_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(of_parts)}
    return found != {name for name in metadata["fingerprints"] if name.split("/")[0] in parts}


def _differs(checkpointer: ocp.Checkpointer, step_dir: Path, part: Any, metadata: dict[str, Any]) -> bool:
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), part)
    arrays = checkpointer.restore(
        step_dir / "state",
        args=ocp.args.PyTreeRestore(item=part, restore_args=as_numpy, partial_restore=True),
    )
    return bool(different(metadata, renamed_arrays(arrays)))
