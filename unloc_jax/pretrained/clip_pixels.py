"""Reads how a CLIP preprocesses pictures from the settings beside its weights: resizing, cropping, normalisation."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.model.clip import PIXEL_MEAN, PIXEL_STD
from unloc_jax.pretrained.clip_files import Files, read_json

_BICUBIC = 3  # Pillow's number
_SAME = 1e-4  # settings may round OpenAI's numbers


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Preprocessing of pictures.

    Attributes:
      resize: See `ClipConfig`.
      mean, std: Per channel, of pixels in [0, 1].
    """

    resize: str = "shortest"
    mean: tuple[float, ...] = PIXEL_MEAN
    std: tuple[float, ...] = PIXEL_STD


def of_hugging_face(files: Files) -> Pixels:
    """Returns the preprocessing of the image processor beside the weights, or CLIP's if there is none.

    Raises:
      UserError: It differs from CLIP's in a way that `Pixels` cannot express.
    """
    file = files.find("preprocessor_config.json")
    settings: Any = {}
    if file is not None:
        settings = read_json(file)
    elif (file := files.find("processor_config.json")) is not None:  # written by newer versions
        settings = read_json(file).get("image_processor") or {}
    if file is None or not isinstance(settings, dict):
        return Pixels()
    size, crop, crops = (
        settings.get("size") or {},
        settings.get("crop_size"),
        settings.get("do_center_crop", True),
    )
    short = size.get("shortest_edge") if isinstance(size, dict) else size
    squash = (
        isinstance(size, dict) and size.get("height") is not None and size.get("height") == size.get("width")
    )
    expected = {"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": _BICUBIC}
    if not squash:
        expected["do_center_crop"] = True
    for key, value in expected.items():
        if settings.get(key, value) != value:
            raise _unlike_clip(file, key, settings[key])
    if size and not squash and not isinstance(short, int):
        raise _unlike_clip(file, "size", size)
    resized = size["height"] if squash else short
    cropped = set(crop.values()) if isinstance(crop, dict) else {crop} - {None}
    if crops and cropped and resized is not None and cropped != {resized}:
        raise _unlike_clip(file, "crop_size", crop)
    return _normalized("squash" if squash else "shortest", settings, ("image_mean", "image_std"), file)


def of_open_clip(settings: Mapping[str, Any], file: Path) -> Pixels:
    """Returns the preprocessing of open_clip's `preprocess_cfg`.

    Raises:
      UserError: It differs from CLIP's in a way that `Pixels` cannot express.
    """
    resize = settings.get("resize_mode") or "shortest"
    if resize not in ("shortest", "squash"):
        raise _unlike_clip(file, "preprocess_cfg.resize_mode", resize)
    if (settings.get("interpolation") or "bicubic") != "bicubic":
        raise _unlike_clip(file, "preprocess_cfg.interpolation", settings["interpolation"])
    return _normalized(resize, settings, ("mean", "std"), file)


def normalized_as_clip(params: dict[str, Any], pixels: Pixels) -> dict[str, Any]:
    """Converts `Clip.params` such that they expect pixels with CLIP's mean and deviation instead of those of `pixels`.

    A patch embedding is linear, so the change of scale is absorbed by its kernel. The change of the mean adds the same
    vector to all patches, which is absorbed by their position embeddings.
    """
    mean, std = np.array(pixels.mean), np.array(pixels.std)
    if np.allclose(mean, PIXEL_MEAN, atol=_SAME, rtol=0) and np.allclose(std, PIXEL_STD, atol=_SAME, rtol=0):
        return params
    image = params["image"]
    kernel = image["patch_embedding"]["kernel"]  # [patch² · 3, width], the channel last
    channels = kernel.astype(np.float64).reshape(-1, 3, kernel.shape[-1])
    added = ((np.array(PIXEL_MEAN) - mean) / std)[:, None] * channels
    position = image["position_embedding"].copy()
    position[1:] += added.sum((0, 1)).astype(np.float32)  # row 0 is the class token, which sees no pixels
    scaled = (channels * (np.array(PIXEL_STD) / std)[:, None]).reshape(kernel.shape).astype(np.float32)
    return {
        **params,
        "image": {**image, "patch_embedding": {"kernel": scaled}, "position_embedding": position},
    }


def _normalized(resize: str, settings: Mapping[str, Any], names: tuple[str, str], file: Path) -> Pixels:
    found = []
    for name, ours in zip(names, (PIXEL_MEAN, PIXEL_STD)):
        values = settings.get(name)
        values = list(ours) if values is None else values
        numbers = isinstance(values, list) and all(isinstance(x, (int, float)) for x in values)
        if (
            not numbers
            or len(values) != 3
            or not np.isfinite(values).all()
            or (name == names[1] and min(values) <= 0)
        ):
            raise UserError(f"{file}: {name} is {values!r} instead of three numbers, one per channel.")
        found.append(tuple(map(float, values)))
    return Pixels(resize, *found)


def _unlike_clip(file: Path, key: str, value: Any) -> UserError:
    return UserError(
        f"{file}: {key} is {value!r}: pictures come to this model otherwise than to CLIP, whose short side is resized "
        "bicubically and whose middle is cut out. Only that, or squashing them into a square, is supported."
    )
