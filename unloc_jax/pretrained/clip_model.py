"""A complete CLIP: the two towers of `unloc_jax.model.clip`, and what UnLoc leaves out.

The latter are the projections into the space that images and texts share, and the scale of their similarities.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax import traverse_util
from safetensors import SafetensorError

from unloc_jax import config as config_lib
from unloc_jax.config import ImageTowerConfig, ModelConfig, TextTowerConfig
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json
from unloc_jax.whole_writes import write_result

Names = tuple[str, ...]

SETTINGS_FILE = "clip.json"
WEIGHTS_FILE = "clip.safetensors"
_VERSION = 1
_MOST_NAMES = 10  # per kind of problem, in an error
# OpenAI's models by width, depth and patch size of the image tower.
_NAMES = {(768, 12, 32): "ViT-B/32", (768, 12, 16): "ViT-B/16", (1024, 24, 14): "ViT-L/14"}


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """Sizes of a CLIP.

    Attributes:
      image, text: Of the towers: width and so on, as in our models.
      image_size: Height and width in pixels. Pixels beyond the last complete patch, at the right and the bottom, are
        ignored.
      embed_dim: D of the space that images and texts share.
      resize: How a picture becomes square: "shortest" resizes its shorter side and crops the centre, "squash" resizes
        both sides whatever its shape.
      end_token: The id whose first position represents a text (the first token if it is not in the text); None = the
        largest id of the text. These differ only in vocabularies with words after the end token.
    """

    image: ImageTowerConfig
    text: TextTowerConfig
    image_size: int
    embed_dim: int
    end_token: int | None = None
    resize: str = "shortest"

    @property
    def name(self) -> str:
        """A name such as "ViT-L/14@336", or the sizes of a model that OpenAI does not have."""
        image = self.image
        name = _NAMES.get((image.width, image.num_layers, image.patch_size))
        name = name or f"ViT of {image.num_layers} layers × {image.width}, patches of {image.patch_size}"
        return name if self.image_size == 224 else f"{name}@{self.image_size}"

    def shapes(self) -> dict[Names, tuple[int, ...]]:
        """Returns the shape of every parameter, by its path in `Clip.params`."""
        image, text = self.image, self.text
        patches = (self.image_size // image.patch_size) ** 2
        return {
            ("image", "class_embedding"): (image.width,),
            ("image", "patch_embedding", "kernel"): (image.patch_size**2 * 3, image.width),
            ("image", "position_embedding"): (patches + 1, image.width),
            ("text", "token_embedding", "embedding"): (text.vocabulary_size, text.width),
            ("text", "position_embedding"): (text.max_tokens, text.width),
            **_norm("image", "norm_in", width=image.width),
            **_tower("image", image),
            **_tower("text", text),
            ("image_projection",): (image.width, self.embed_dim),
            ("text_projection",): (text.width, self.embed_dim),
            ("logit_scale",): (),
        }


@dataclasses.dataclass(frozen=True)
class Clip:
    """A CLIP in memory.

    Attributes:
      config: Its sizes.
      params: Tree of float32 arrays: `image` and `text`, the parameters of `ImageTower` and `TextTower`;
        `image_projection` [W, D] and `text_projection` [W, D]; `logit_scale` [], the logarithm of the scale.
      source: Its origin, as text.
    """

    config: ClipConfig
    params: dict[str, Any]
    source: str


def save_clip(clip: Clip, folder: Path) -> None:
    """Writes `clip.json` (sizes, source) and `clip.safetensors` (parameters, names joined by "/").

    Raises:
      UserError: The folder already holds a CLIP, or cannot be written.
    """
    if (folder / SETTINGS_FILE).exists():
        raise UserError(f"--out={folder} already holds a CLIP. Choose another folder, or delete it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        flat = traverse_util.flatten_dict(clip.params, sep="/")
        arrays = {name: np.asarray(array, order="C") for name, array in flat.items()}
        safetensors.numpy.save_file(arrays, folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        (folder / WEIGHTS_FILE).unlink(missing_ok=True)
        raise UserError(f"--out={folder} cannot be written: {error}.") from error
    settings = {"version": _VERSION, "source": clip.source, "config": dataclasses.asdict(clip.config)}
    write_result(folder / SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")  # last: it makes it a CLIP


def load_clip(folder: Path) -> Clip:
    """Reads what `save_clip` wrote.

    Raises:
      UserError: There is no CLIP, or it is damaged or of another version.
    """
    file = folder / SETTINGS_FILE
    if not file.is_file():
        raise UserError(
            f"{folder} holds no CLIP ({SETTINGS_FILE}). Make one with `unloc import --from hf-clip`."
        )
    try:
        settings = parse_json(file.read_text("utf-8"))
        if settings["version"] != _VERSION:
            raise UserError(f"{file} was written by another version. Import it again.")
        values = settings["config"]
        # The schema of a model checks types, bounds and choices of both towers; it requires a crop of whole patches.
        towers = {"image": values["image"], "text": values["text"]}
        crop = {"crop_size": values["image"]["patch_size"]}
        model = config_lib.from_mapping({"model": towers, "data": crop}).model
        end = values["end_token"]
        config = ClipConfig(
            model.image,
            model.text,
            int(values["image_size"]),
            int(values["embed_dim"]),
            None if end is None else int(end),
            str(values.get("resize", "shortest")),
        )
        source = str(settings["source"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}). Import it again.") from error
    stored = read_safetensors(folder / WEIGHTS_FILE)
    flat = {tuple(name.split("/")): array for name, array in stored.items()}
    problems = differences(
        {"/".join(path): array.shape for path, array in flat.items()},
        {"/".join(path): shape for path, shape in config.shapes().items()},
    )
    if problems:
        raise UserError(f"{folder / WEIGHTS_FILE} does not fit {SETTINGS_FILE}: {problems}. Import it again.")
    return Clip(config, traverse_util.unflatten_dict(flat), source)


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Reads all tensors of a file by name, in their stored dtypes (bfloat16 is that of `ml_dtypes`).

    Raises:
      UserError: The file does not exist or is damaged.
    """
    try:
        return safetensors.numpy.load_file(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}.") from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip() or type(error).__name__
        raise UserError(f"{file} is damaged or no safetensors file ({reason}). Get it again.") from error


def differences(found: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> str:
    """Describes which tensors are missing, unexpected or of another shape, given shapes by name; "" if none are."""
    problems = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": [
            f"{name} {tuple(found[name])} instead of {tuple(shape)}"
            for name, shape in wanted.items()
            if name in found and tuple(found[name]) != tuple(shape)
        ],
    }
    return listed(problems)


def listed(problems: Mapping[str, list[str]]) -> str:
    """Formats names by kind of problem, of each kind the first `_MOST_NAMES`; "" if there are none."""
    parts = []
    for kind, names in problems.items():
        shown = ", ".join(names[:_MOST_NAMES])
        more = f", … ({len(names)} in all)" if len(names) > _MOST_NAMES else ""
        if names:
            parts.append(f"{kind}: {shown}{more}")
    return "; ".join(parts)


def mismatches(clip: ClipConfig, model: ModelConfig, towers: tuple[str, ...]) -> list[str]:
    """Lists settings of a model's towers ("image", "text") that contradict a CLIP's."""
    keys = {
        "image": ("width", "num_layers", "num_heads", "patch_size", "activation"),
        "text": ("width", "num_layers", "num_heads", "vocabulary_size", "activation"),
    }
    return [
        f"config.model.{tower}.{key} is {ours!r}, the CLIP's {theirs!r}"
        for tower in towers
        for key in keys[tower]
        if (ours := getattr(getattr(model, tower), key)) != (theirs := getattr(getattr(clip, tower), key))
    ]


def _tower(tower: str, config: ImageTowerConfig | TextTowerConfig) -> dict[Names, tuple[int, ...]]:
    """Returns the shapes of a stack of layers and of the LayerNorm after it."""
    width, layers, heads = config.width, config.num_layers, config.num_heads
    block = {
        ("attention", "qkv", "kernel"): (width, 3, heads, width // heads),
        ("attention", "qkv", "bias"): (3, heads, width // heads),
        ("attention", "out", "kernel"): (heads, width // heads, width),
        ("attention", "out", "bias"): (width,),
        ("mlp_in", "kernel"): (width, 4 * width),
        ("mlp_in", "bias"): (4 * width,),
        ("mlp_out", "kernel"): (4 * width, width),
        ("mlp_out", "bias"): (width,),
        **_norm("attention_norm", width=width),
        **_norm("mlp_norm", width=width),
    }
    stacked = {(tower, "transformer", "layers", *path): (layers, *shape) for path, shape in block.items()}
    return stacked | _norm(tower, "norm_out", width=width)


def _norm(*path: str, width: int) -> dict[Names, tuple[int, ...]]:
    return {(*path, "scale"): (width,), (*path, "bias"): (width,)}
