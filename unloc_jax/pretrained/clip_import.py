"""Implements `unloc import --from hf-clip` and the like, and fits a CLIP's parameters to a model."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from flax import traverse_util

from unloc_jax.config import ModelConfig
from unloc_jax.errors import UserError
from unloc_jax.pretrained.clip_model import Clip, mismatches, save_clip
from unloc_jax.pretrained.clip_source import Options, read_clip
from unloc_jax.pretrained.resize_parameters import adapt_tower_parameter
from unloc_jax.tasks.parameters import count_parameters

Names = tuple[str, ...]


def import_clip(
    kind: str, source: str, out: Path, options: Options, log: Callable[[str], None] = print
) -> Clip:
    """Reads a CLIP (`clip_source.read_clip`) and writes it in our format (`clip_model.save_clip`).

    Raises:
      UserError: See these functions.
    """
    clip = read_clip(kind, source, options)
    config = clip.config
    log(f"{source}: {config.name}, {config.image_size} pixels, embeddings of {config.embed_dim}")
    rows = [
        (name, getattr(config, name).width, getattr(config, name).num_layers, getattr(config, name).num_heads,
         getattr(config, name).activation, count_parameters(clip.params[name]))
        for name in ("image", "text")
    ]  # fmt: skip
    log("  tower  width  layers  heads  activation  parameters")
    for name, width, layers, heads, activation, number in rows:
        log(f"  {name:<5}  {width:>5}  {layers:>6}  {heads:>5}  {activation:<10}  {number / 1e6:>8.2f} M")
    save_clip(clip, out)
    log(f"wrote {out}: start a training from it with --config.init_from={out}")
    return clip


def fit_to_model(clip: Clip, model: ModelConfig, own: Mapping[Names, np.ndarray]) -> dict[Names, np.ndarray]:
    """Returns the parameters that a model takes from a CLIP.

    Position and class embeddings of other sizes are adapted as in the reference (see `resize_parameters.py`). A model
    whose patches see neighbouring frames gets the patch embedding for the frame itself and zeros for its neighbours
    (our rule), so that it starts as CLIP.

    Args:
      clip: The source.
      model: Config of the model.
      own: The model's initial parameters by path; text positions beyond the CLIP's last one keep these values.

    Returns:
      Arrays by their path in the model, with the model's shapes.

    Raises:
      UserError: The towers differ from the CLIP's, or the model has none.
    """
    towers_of_clip = {f"towers_{name}" for name, m in model.modalities.items() if m.encoder == "clip"}
    images = [path[0] for path in own if path[0] in towers_of_clip and path[1:] == ("position_embedding",)]
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
            if name not in own:  # the model has no class token
                continue
            after = adapt_tower_parameter(kind, path, array, own[name], model.image, source_has_class=True)
            if after.shape != own[name].shape:
                raise UserError(
                    f"config.init_from: {'/'.join(name)} is {array.shape} in the CLIP and {own[name].shape} here."
                )
            taken[name] = after
    return taken
