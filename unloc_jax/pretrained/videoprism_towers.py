"""VideoPrism's weights for the towers of a model: from its published files, or from what `unloc import` wrote."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from unloc_jax.config import ModelConfig
from unloc_jax.config.videoprism import SIZES
from unloc_jax.errors import UserError
from unloc_jax.model.videoprism import VideoPrismConfig
from unloc_jax.model.videoprism_tower import videoprism_config
from unloc_jax.pretrained.videoprism import (
    KIND,
    VOCABULARY_FILE,
    Unseen,
    VideoPrismWeights,
    read_videoprism,
    weights_file,
)
from unloc_jax.whole_writes import cannot_write, replacing

_PATTERN = "flax_*_repeated.npz"


def is_source(source: str) -> bool:
    """Returns whether config.init_from names a VideoPrism: "videoprism:SRC", or a folder with its published file."""
    return source.startswith(f"{KIND}:") or (Path(source).is_dir() and any(Path(source).glob(_PATTERN)))


def read_for_model(
    source: str, model: ModelConfig, own: Mapping[str, np.ndarray]
) -> tuple[VideoPrismWeights, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Reads a VideoPrism for the towers of a model.

    Args:
      source: See `is_source`.
      model: Config of the model.
      own: Its initial parameters by name.

    Returns:
      (the weights, all of them by the model's names, those that the model takes by the same names).

    Raises:
      UserError: They cannot be read, have other sizes than the towers, or the model has no such tower.
    """
    weights = read_videoprism(source.removeprefix(f"{KIND}:"), Unseen(model.videoprism.logit_cap))
    videos = [
        f"towers_{name}" for name, modality in model.modalities.items() if modality.encoder == "videoprism"
    ]
    texts = ["text_tower"] if model.text.encoder == "videoprism" else []
    if not videos + texts:
        raise UserError(
            f"config.init_from = {source}: this model has no tower of VideoPrism. Set config.model.text.encoder, or "
            "the encoder of a modality, to 'videoprism'."
        )
    wrong = _mismatches(weights.config, model, with_video=bool(videos), with_text=bool(texts))
    if wrong:
        raise UserError(
            f"config.init_from = {source}: the model's towers are not this {weights.name}. {'; '.join(wrong)}."
        )
    of_text = weights.params.get("text", {})
    of_video = {name: part for name, part in weights.params.items() if name != "text"}
    named: dict[str, Any] = dict.fromkeys(videos or [f"towers_{KIND}"], of_video)
    if of_text:
        named["text_tower"] = of_text
    stored = traverse_util.flatten_dict(named, sep="/")
    return weights, stored, {name: array for name, array in stored.items() if name in own}


def _mismatches(
    theirs: VideoPrismConfig, model: ModelConfig, *, with_video: bool, with_text: bool
) -> list[str]:
    """Lists what a model's towers have and the weights have not."""
    ours, where = videoprism_config(model.videoprism, with_text=with_text), "config.model.videoprism"
    keys = ["width", "num_heads"]
    wrong = []
    if with_video:
        keys += ["patch_size", "num_frames", "mlp_dim", "spatial_layers", "temporal_layers"]
        if ours.grid != theirs.grid:
            wrong.append(f"{where}.grid is {ours.grid[0]}, the weights' {' × '.join(map(str, theirs.grid))}")
        if ours.pooler_width and not theirs.pooler_width:
            wrong.append(f"the weights are the video encoder alone: set {where}.pooling = 'mean'")
        elif ours.pooler_width:
            keys += ["auxiliary_layers", "pooler_width"]
    pairs = [(key, getattr(ours, key), getattr(theirs, key)) for key in keys]
    if ours.text and not theirs.text:
        wrong.append("the weights have no text encoder: set config.model.text.encoder = 'clip'")
    elif ours.text and theirs.text:
        pairs += [
            ("vocabulary_size", ours.text.vocabulary_size, theirs.text.vocabulary_size),
            ("text_layers", ours.text.num_layers, theirs.text.num_layers),
            ("text_mlp_dim", ours.text.mlp_dim, theirs.text.mlp_dim),
        ]
    return wrong + [
        f"{where}.{key} is {own}, the weights' {other}" for key, own, other in pairs if own != other
    ]


def tower_settings(weights: VideoPrismWeights) -> dict[str, Any]:
    """Returns the settings of a model whose towers have the sizes of a VideoPrism: by name, as far as they can be."""
    config, text = weights.config, weights.config.text
    sizes = {
        "patch_size": config.patch_size,
        "num_frames": config.num_frames,
        "grid": config.grid[0],
        "width": config.width,
        "num_heads": config.num_heads,
        "mlp_dim": config.mlp_dim,
        "spatial_layers": config.spatial_layers,
        "temporal_layers": config.temporal_layers,
    }
    if config.pooler_width:
        sizes |= {"auxiliary_layers": config.auxiliary_layers, "pooler_width": config.pooler_width}
    if text:
        sizes |= {
            "text_layers": text.num_layers,
            "text_mlp_dim": text.mlp_dim,
            "vocabulary_size": text.vocabulary_size,
        }
    name = min(SIZES, key=lambda name: sum(SIZES[name][key] != value for key, value in sizes.items()))
    settings: dict[str, Any] = {
        "data.crop_size": config.patch_size * config.grid[0],
        "model.modalities": {"rgb": {"encoder": "videoprism"}},
        "model.videoprism.size": name,
        "model.videoprism.pooling": "attention" if config.pooler_width else "mean",
    }
    settings |= {
        f"model.videoprism.{key}": value for key, value in sizes.items() if value != SIZES[name][key]
    }
    if text:
        settings["model.text.encoder"] = "videoprism"
    return settings


def import_videoprism(
    source: str, out: Path, vocabulary: str | None = None, log: Callable[[str], None] = print
) -> VideoPrismWeights:
    """Implements `unloc import --from videoprism`: checks the weights, and copies them and the vocabulary to a folder.

    The files stay as published, so that config.init_from, `unloc features` and `unloc zeroshot` read the folder.

    Args:
      source, vocabulary: See `read_videoprism`.
      out: The folder to write.
      log: Called with messages about what was read.

    Raises:
      UserError: They cannot be read, or the folder holds weights or cannot be written.
    """
    weights = read_videoprism(source, vocabulary=vocabulary)
    if out.is_dir() and any(out.glob("*.npz")):
        raise UserError(f"--out={out} already holds weights. Choose another folder, or delete it.")
    file = weights_file(source)
    name = file.name if file.match(_PATTERN) else f"flax_{file.stem}_repeated.npz"
    config = weights.config
    log(
        f"{source}: {weights.name}, {config.patch_size * config.grid[0]} pixels, windows of {config.num_frames} frames"
    )
    copies = {VOCABULARY_FILE: weights.vocabulary} if weights.vocabulary else {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for target, of in {**copies, name: file}.items():  # the weights last: they make it a VideoPrism
            with of.open("rb") as original, replacing(out / target) as copy:
                shutil.copyfileobj(original, copy)
    except OSError as error:
        raise UserError(cannot_write(error.filename or out, error)) from error
    log("settings of a model that starts from it:")
    for key, value in {"init_from": str(out), **tower_settings(weights)}.items():
        log(f"  --config.{key}={value!r}" if isinstance(value, dict) else f"  --config.{key}={value}")
    if config.text:
        found = out / VOCABULARY_FILE if weights.vocabulary else "FILE  (the vocabulary, docs/videoprism.md)"
        log(f"  --config.model.text.sentencepiece={found}")
    log(f"wrote {out}")
    return weights
