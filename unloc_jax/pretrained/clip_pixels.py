"""Reads how a model preprocesses pictures from the settings beside its weights: resizing, cropping, normalisation."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.model.tower_form import PIXEL_MEAN, PIXEL_STD
from unloc_jax.pretrained.clip_files import Files, read_json

_FILTERS = {2: "bilinear", 3: "bicubic"}  # by Pillow's number
_SAME = 1e-4  # settings may round OpenAI's numbers


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Preprocessing of pictures.

    Attributes:
      resize: See `ClipConfig`.
      mean, std: Per channel, of pixels in [0, 1].
      resample: Pillow's filter: "bicubic" or "bilinear".
    """

    resize: str = "shortest"
    mean: tuple[float, ...] = PIXEL_MEAN
    std: tuple[float, ...] = PIXEL_STD
    resample: str = "bicubic"


CLIP = Pixels()


def of_hugging_face(
    files: Files, usual: Pixels = CLIP, filters: tuple[str, ...] = (CLIP.resample,)
) -> Pixels:
    """Returns the preprocessing of the image processor beside the weights.

    Args:
      files: Of the model.
      usual: Of the family, if there is no image processor; its resizing and numbers also where settings are missing.
      filters: That the model can be read with.

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
        return usual
    size, crop, crops = (
        settings.get("size") or {},
        settings.get("crop_size"),
        settings.get("do_center_crop", True),
    )
    short = size.get("shortest_edge") if isinstance(size, dict) else size
    squash = (
        isinstance(size, dict) and size.get("height") is not None and size.get("height") == size.get("width")
    ) or (not size and usual.resize == "squash")
    # Image processors take the bicubic filter where the settings name none.
    resample = settings.get("resample", 3)
    found = _FILTERS.get(resample) if isinstance(resample, int) else None
    if found not in filters:
        raise _unlike_clip(file, "resample", resample, filters)
    expected = {"do_resize": True, "do_rescale": True, "do_normalize": True}
    if not squash:
        expected["do_center_crop"] = True
    for key, value in expected.items():
        if settings.get(key, value) != value:
            raise _unlike_clip(file, key, settings[key], filters)
    if size and not squash and not isinstance(short, int):
        raise _unlike_clip(file, "size", size, filters)
    resized = size.get("height") if squash and isinstance(size, dict) else short
    cropped = set(crop.values()) if isinstance(crop, dict) else {crop} - {None}
    if crops and cropped and resized is not None and cropped != {resized}:
        raise _unlike_clip(file, "crop_size", crop, filters)
    normalized = _normalized(usual, settings, ("image_mean", "image_std"), file)
    return dataclasses.replace(normalized, resize="squash" if squash else "shortest", resample=found)


def of_open_clip(
    settings: Mapping[str, Any],
    file: Path,
    usual: Pixels = CLIP,
    filters: tuple[str, ...] = (CLIP.resample,),
) -> Pixels:
    """Returns the preprocessing of open_clip's `preprocess_cfg`; `usual` and `filters` as for `of_hugging_face`.

    Raises:
      UserError: It differs from CLIP's in a way that `Pixels` cannot express.
    """
    resize = settings.get("resize_mode") or usual.resize
    if resize not in ("shortest", "squash"):
        raise _unlike_clip(file, "preprocess_cfg.resize_mode", resize, filters)
    resample = settings.get("interpolation") or usual.resample
    if resample not in filters:
        raise _unlike_clip(file, "preprocess_cfg.interpolation", resample, filters)
    normalized = _normalized(usual, settings, ("mean", "std"), file)
    return dataclasses.replace(normalized, resize=resize, resample=resample)


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


def _normalized(usual: Pixels, settings: Mapping[str, Any], names: tuple[str, str], file: Path) -> Pixels:
    found = []
    for name, ours in zip(names, (usual.mean, usual.std)):
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
    return dataclasses.replace(usual, mean=found[0], std=found[1])


def _unlike_clip(file: Path, key: str, value: Any, filters: tuple[str, ...]) -> UserError:
    return UserError(
        f"{file}: {key} is {value!r}: pictures come to this model in a way that is not supported. Supported are: the "
        "short side resized and the middle cut out, as for CLIP, and both sides resized to a square; by the "
        f"{' or '.join(filters)} filter."
    )
