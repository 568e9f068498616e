"""Fits the parameters of one UnLoc to another: other tasks, image sizes, frames, texts, pyramids."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.pretrained.resize_parameters import (
    adapt_sequence_positions,
    adapt_text_positions,
    adapt_tower_parameter,
)

_MOST_NAMES = 6  # in an error
# "fusion/encoder/transformer_1/layers/mlp_in/kernel": a feature pyramid cuts the fusion's layers into stacks.
_STACK = re.compile(r"fusion/encoder/transformer(?:_(\d+))?/layers/(.+)")
_BACKBONE = ("towers_", "text_tower", "fusion")


def fit_checkpoint(
    stored: Mapping[str, np.ndarray], theirs: Config, own: Mapping[str, np.ndarray], ours: Config
) -> dict[str, np.ndarray]:
    """Returns the parameters that a model takes from a checkpoint, by their names in the model.

    As in the reference (`initialize_from_unloc_parameters` in unloc/train_utils.py), everything that the checkpoint has
    under the same name is taken, and position and class embeddings of other sizes are adapted (see
    `resize_parameters.py`). The fusion's layers are numbered consecutively, however a pyramid divides them into stacks;
    layers beyond the checkpoint's last keep the model's values. Unlike in the reference, heads and projections of
    another shape are new instead of an error.

    Args:
      stored: The checkpoint's arrays in the model's stacks (see `in_stacks_of`), by names such as
        "fusion/encoder/pyramid/conv_0/kernel".
      theirs: The checkpoint's config.
      own: The model's initial arrays by name.
      ours: The model's config.

    Returns:
      Arrays by name, with the model's shapes.

    Raises:
      UserError: They have nothing in common, or a tower or the fusion has other sizes or another activation.
    """
    taken, wrong = {}, _other_activations(own.keys() & stored.keys(), theirs, ours)
    for name in own.keys() & stored.keys():
        after = _adapted(name, stored[name], theirs, own[name], ours)
        if after.shape == own[name].shape:
            taken[name] = after
        elif name.startswith(_BACKBONE):
            wrong.append(f"{name} is {stored[name].shape} there and {own[name].shape} here")
    if wrong:
        shown = "; ".join(sorted(wrong)[:_MOST_NAMES])
        more = f"; … ({len(wrong)} in all)" if len(wrong) > _MOST_NAMES else ""
        raise UserError(
            f"config.init_from: towers or fusion are not the checkpoint's: {shown}{more}. Give config.model.image, "
            "text and fusion the widths, heads, layers and activation of the checkpoint's config.json."
        )
    if not taken:
        raise UserError("config.init_from: the checkpoint has no parameter of this model's names and shapes.")
    return taken


def _other_activations(shared: set[str], theirs: Config, ours: Config) -> list[str]:
    """Lists activations and encoders that differ, which shapes do not reveal."""
    wrong = []
    pairs: dict[str, tuple[str, Any, Any]] = {}
    texts = (theirs.model.text.encoder, ours.model.text.encoder)
    pairs["text_tower"] = ("config.model.text.encoder", *texts)
    for name in theirs.model.modalities.keys() & ours.model.modalities.keys():
        of_name = f"config.model.modalities.{name}.encoder"
        there, here = theirs.model.modalities[name].encoder, ours.model.modalities[name].encoder
        pairs[f"towers_{name}"] = (of_name, there, here)
    caps = (theirs.model.videoprism.logit_cap, ours.model.videoprism.logit_cap)
    pairs["towers_"] = ("config.model.videoprism.logit_cap", *caps)
    for start, (key, there, here) in pairs.items():
        if there != here and any(name.startswith(start) for name in shared):
            wrong.append(f"{key} is {there!r} there and {here!r} here")
    for kind, start in (("image", "towers_rgb"), ("text", "text_tower")):
        there, here = (getattr(config.model, kind).activation for config in (theirs, ours))
        if there != here and any(name.startswith(start) for name in shared):
            wrong.append(f"config.model.{kind}.activation is {there!r} there and {here!r} here")
    return wrong


def _adapted(name: str, array: np.ndarray, theirs: Config, own: np.ndarray, ours: Config) -> np.ndarray:
    """Adapts an array to the shape of the model's own where there is a rule; otherwise returns it unchanged."""
    tower, *path = name.split("/")
    if tower in _sound_towers(ours):
        if (
            path == ["position_embedding"] and array.shape[-1] == own.shape[-1]
        ):  # bands, then columns of patches
            return _resized(_resized(array, own.shape[0], 0), own.shape[1], 1)
        return array
    if tower == "text_tower" or tower.startswith("towers_"):
        kind = "text" if tower == "text_tower" else "image"
        has_class = theirs.model.image.pooling == "token"
        return adapt_tower_parameter(kind, tuple(path), array, own, ours.model.image, has_class)
    if array.shape[1:] != own.shape[1:]:
        return array
    if _STACK.fullmatch(name) and len(array) < len(own):
        return np.concatenate([array, np.asarray(own)[len(array) :]])
    if name != "fusion/encoder/position_embedding":
        return array
    # Positions of frames, then of text tokens.
    before, after = _num_frames(theirs), _num_frames(ours)
    of_frames = adapt_sequence_positions(array[:before], after)
    return np.concatenate([of_frames, adapt_text_positions(array[before:], np.asarray(own)[after:])])


def _sound_towers(config: Config) -> set[str]:
    return {f"towers_{name}" for name, modality in config.model.modalities.items() if modality.reads_sound}


def _resized(table: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Interpolates a table of positions [..., D] along an axis to a size."""
    return np.moveaxis(adapt_sequence_positions(np.moveaxis(table, axis, 0), size), 0, axis)


def _num_frames(config: Config) -> int:
    return next(iter(config.task_configs.values())).data.num_frames


def in_stacks_of(own: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns `stored` with the fusion's layers divided into the stacks of `own`, as far as there are layers.

    Layers beyond the last one of `own` are named "fusion/encoder/further_layers/…".
    """
    result = {name: array for name, array in stored.items() if not _STACK.fullmatch(name)}
    theirs, ours = _stacks(stored), _stacks(own)
    for part, stacks in theirs.items():
        layers = np.concatenate([stored[name] for name in stacks])
        for name in ours.get(part, ()):
            of_stack, layers = np.split(layers, [len(own[name])])
            if len(of_stack):
                result[name] = of_stack
        if len(layers):
            result[f"fusion/encoder/further_layers/{part}"] = layers
    return result


def _stacks(names: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Returns, for each part of a layer such as "mlp_in/kernel", the names of its stacks, first layers first."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = _STACK.fullmatch(name)
        if match:
            found.setdefault(match[2], []).append((int(match[1] or 0), name))
    return {part: [name for _, name in sorted(stacks)] for part, stacks in found.items()}
