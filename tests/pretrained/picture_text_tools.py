"""Stored models of SigLIP 2 and PE-Core (`picture_text_originals` made them), whole or changed."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from unloc_jax.text import VOCABULARY_SIZE

GOLDENS = Path(__file__).parents[1] / "goldens" / "picture_text"
SIGLIP, PE = GOLDENS / "siglip", GOLDENS / "pe"
# By name of the numbers: source of the model.
SOURCES = {
    "siglip": f"siglip2:{SIGLIP}",
    "pe": f"pe:{PE}",
    "big_vision": f"siglip2:{GOLDENS / 'big_vision.weights.npz'}",
    "big_vision_scanned": f"siglip2:{GOLDENS / 'big_vision_scanned.weights.npz'}",
}


def changed(folder: Path, golden: Path, arrays: Mapping[str, np.ndarray | None]) -> Path:
    """Copies a stored model with other tensors (None = without it)."""
    shutil.copytree(golden, folder, dirs_exist_ok=True)
    (file,) = folder.glob("*.safetensors")
    tensors = {**load_file(file), **arrays}
    save_file({name: np.asarray(array) for name, array in tensors.items() if array is not None}, file)
    return folder


def with_settings(folder: Path, name: str, **groups: Mapping | str | int) -> Path:
    """Changes keys of a file of settings; a mapping is merged into the group of that name."""
    file = folder / name
    settings = json.loads(file.read_text())
    for key, value in groups.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, Mapping) else value
    file.write_text(json.dumps(settings))
    return folder


def pe_with_all_words(folder: Path) -> Path:
    """The stored PE-Core with random numbers for all of CLIP's words instead of its 99."""
    name = "text.token_embedding.weight"
    (file,) = PE.glob("*.safetensors")
    width = load_file(file)[name].shape[1]
    words = np.random.default_rng(0).normal(0, 0.1, (VOCABULARY_SIZE, width)).astype(np.float32)
    return changed(folder, PE, {name: words})
