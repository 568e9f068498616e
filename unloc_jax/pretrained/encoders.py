"""Weights of other programs that a model's towers start from: `SOURCES` has a line for each family of encoders."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from unloc_jax.config import ModelConfig
from unloc_jax.pretrained import videoprism_towers
from unloc_jax.pretrained.clip_import import fit_to_model
from unloc_jax.pretrained.clip_model import Clip
from unloc_jax.pretrained.clip_source import kind_of, read_any_clip, split_source

Arrays = Mapping[str, np.ndarray]


class Weights(NamedTuple):
    """Weights, fitted to a model.

    Attributes:
      title: Of the source, for the log.
      stored: All of them, by the model's names, as they are.
      taken: Those that the model takes, by the same names, in its shapes.
    """

    title: str
    stored: Arrays
    taken: Arrays


class Source(NamedTuple):
    """One line of `SOURCES`.

    Attributes:
      is_one: Whether config.init_from names such weights.
      read: (config.init_from, the model's config, its own parameters by name) → the weights; raises UserError if they
        cannot be read, or the towers have other sizes.
    """

    is_one: Callable[[str], bool]
    read: Callable[[str, ModelConfig, Arrays], Weights]


def _is_clip(source: str) -> bool:
    return bool(split_source(source)) or (Path(source).is_dir() and bool(kind_of(source)))


def _read_clip(source: str, model: ModelConfig, own: Arrays) -> Weights:
    clip = read_any_clip(source)
    by_path: Any = {tuple(name.split("/")): leaf for name, leaf in own.items()}
    taken = {"/".join(path): x for path, x in fit_to_model(clip, model, by_path).items()}
    return Weights(
        f"{clip.source} ({clip.config.name}, {clip.config.image_size} pixels)", _of_clip(clip, taken), taken
    )


def _of_clip(clip: Clip, taken: Arrays) -> dict[str, np.ndarray]:
    """Returns a CLIP's parameters [...] by the names of the model's towers; those outside the towers keep theirs."""
    towers = {name.split("/")[0]: "image" for name in taken if name.startswith("towers_")}
    towers["text_tower"] = "text"
    named = {tower: clip.params[kind] for tower, kind in towers.items()}
    rest = {name: value for name, value in clip.params.items() if name not in ("image", "text")}
    return traverse_util.flatten_dict(named | rest, sep="/")


def _read_videoprism(source: str, model: ModelConfig, own: Arrays) -> Weights:
    weights, stored, taken = videoprism_towers.read_for_model(source, model, own)
    return Weights(f"{weights.source} ({weights.name})", stored, taken)


SOURCES = (
    Source(videoprism_towers.is_source, _read_videoprism),
    Source(_is_clip, _read_clip),
)


def read_weights(source: str, model: ModelConfig, own: Arrays) -> Weights | None:
    """Reads the weights that config.init_from names; None if it names none of another program.

    Args:
      source: config.init_from.
      model: Of the model.
      own: Its initial parameters by name.

    Raises:
      UserError: See `Source.read`.
    """
    found = next((of_kind for of_kind in SOURCES if of_kind.is_one(source)), None)
    return found.read(source, model, own) if found else None
