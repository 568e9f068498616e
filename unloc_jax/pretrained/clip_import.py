"""`unloc import --from hf-clip` and the like; and a CLIP's parameters in the shapes that a model has."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from flax import traverse_util

from unloc_jax.config import ModelConfig
from unloc_jax.errors import UserError
from unloc_jax.pretrained.clip_model import Clip, mismatches, save_clip
from unloc_jax.pretrained.clip_source import Options, read_clip
from unloc_jax.pretrained.resize_parameters import adapt_tower_parameter

Names = tuple[str, ...]


def import_clip(
    kind: str, source: str, out: Path, options: Options, say: Callable[[str], None] = print
) -> Clip:
    """Reads a CLIP (`clip_source.read_clip`) and writes it as a folder of ours (`clip_model.save_clip`).

    Raises:
      UserError: as they do.
    """
    clip = read_clip(kind, source, options)
    config = clip.config
    say(f"{source}: {config.name}, {config.image_size} pixels, embeddings of {config.embed_dim}")
    rows = [
        (name, getattr(config, name).width, getattr(config, name).num_layers, getattr(config, name).num_heads,
         getattr(config, name).activation, num_parameters(clip.params[name]))
        for name in ("image", "text")
    ]  # fmt: skip
    say("  tower  width  layers  heads  activation  parameters")
    for name, width, layers, heads, activation, number in rows:
        say(f"  {name:<5}  {width:>5}  {layers:>6}  {heads:>5}  {activation:<10}  {number / 1e6:>8.2f} M")
    save_clip(clip, out)
    say(f"wrote {out}: start a training from it with --config.init_from={out}")
    return clip


def fit_to_model(clip: Clip, model: ModelConfig, own: Mapping[Names, np.ndarray]) -> dict[Names, np.ndarray]:
    """The parameters that a model takes from a CLIP.

    Position and class embeddings of other sizes are adapted as the reference does it (see
    `resize_parameters.py`). A model whose patches see neighbouring frames gets the patch embedding for the
    frame itself and zeros for its neighbours (ours), so that it starts as CLIP.

    Args:
      clip: what to take them from.
      model: the config of the model.
      own: the model's parameters as initialised; text positions past the end of the CLIP's stay as they are.

    Returns:
      The parameters by their paths in the model.

    Raises:
      UserError: towers that are not the CLIP's, or a model without any.
    """
    images = [
        path[0] for path in own if path[0].startswith("towers_") and path[1:] == ("position_embedding",)
    ]
    towers = dict.fromkeys(images, "image")
    if ("text_tower", "position_embedding") in own:
        towers["text_tower"] = "text"
    if not towers:
        raise UserError(
            "config.init_from: this model has neither an image nor a text tower, so no CLIP fits."
        )
    wrong = mismatches(clip.config, model, tuple(dict.fromkeys(towers.values())))
    if wrong:
        raise UserError(
            f"config.init_from: the model is not the CLIP {clip.config.name}. {'; '.join(wrong)}."
        )
    taken: dict[Names, np.ndarray] = {}
    for tower, kind in towers.items():
        for path, array in traverse_util.flatten_dict(clip.params[kind]).items():
            name = (tower, *path)
            if name not in own:  # no class token
                continue
            after = adapt_tower_parameter(kind, path, array, own[name], model.image, source_has_class=True)
            if after.shape != own[name].shape:
                raise UserError(
                    f"config.init_from: {'/'.join(name)} is {array.shape} in the CLIP and {own[name].shape} here."
                )
            taken[name] = after
    return taken


def num_parameters(tree: dict) -> int:
    return sum(array.size for array in traverse_util.flatten_dict(tree).values())
