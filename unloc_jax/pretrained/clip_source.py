"""Reads other programs' CLIPs: their tensors, and the properties that only their configs reveal."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.config import Activation
from unloc_jax.errors import UserError
from unloc_jax.pretrained import clip_names, clip_pixels
from unloc_jax.pretrained.clip_files import Files, is_hub_id, read_json, read_npy, read_torch
from unloc_jax.pretrained.clip_model import SETTINGS_FILE, WEIGHTS_FILE, Clip, load_clip
from unloc_jax.pretrained.clip_pixels import Pixels
from unloc_jax.pretrained.foreign_settings import group, positive_int, side
from unloc_jax.text import END_TOKEN

KINDS = ("hf-clip", "openai-clip", "open-clip", "scenic-clip")
OURS = "unloc-clip"  # what `unloc import` wrote
# Other programs' names of activations → those of config.model.image.activation. PyTorch's GELU is the exact one.
_ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu_exact",
    "gelu_exact": "gelu_exact",
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
}
_HEAD_WIDTH = 64  # in all of OpenAI's models and, unless its config differs, in open_clip's
_OLD_END_TOKEN = 2
_OPEN_CLIP = "open_clip_config.json"


@dataclasses.dataclass(frozen=True)
class Options:
    """Properties of a model that its files do not reveal, given by the user; None = not given.

    Attributes:
      activation: Of both towers: "quick_gelu" (all of OpenAI's models) or "gelu" (most of open_clip's).
      image_heads, text_heads: Numbers of attention heads.
    """

    activation: str | None = None
    image_heads: int | None = None
    text_heads: int | None = None


@dataclasses.dataclass(frozen=True)
class _Found:
    """The contents of a model's files.

    Attributes:
      tensors: By name.
      image_heads, text_heads: Numbers of attention heads; None = width / 64.
      image_activation, text_activation: None = unknown.
      end_token, image_size: See `clip_names.Unseen`.
      pixels: Preprocessing of pictures.
    """

    tensors: dict[str, np.ndarray]
    image_heads: int | None = None
    text_heads: int | None = None
    image_activation: Activation | None = None
    text_activation: Activation | None = None
    end_token: int | None = None
    image_size: int | None = None
    pixels: Pixels = dataclasses.field(default_factory=Pixels)


def split_source(text: str) -> tuple[str, str] | None:
    """Splits "hf-clip:SRC" into ("hf-clip", "SRC"); returns None for anything else."""
    kind, separator, source = text.partition(":")
    return (kind, source) if separator and kind in KINDS else None


def absolute(source: str) -> str:
    """Makes a source valid for `read_any_clip` from any working directory."""
    kind, place = split_source(source) or ("", source)
    place = str(Path(place).resolve()) if Path(place).exists() else place
    return f"{kind}:{place}" if kind else place


def kind_of(source: str) -> str | None:
    """Returns the kind of CLIP in a folder or hub repository: one of `KINDS`, `OURS`, or None if there is none.

    Raises:
      UserError: The hub has no such repository.
    """
    path = Path(source)
    if not (path.is_dir() or (is_hub_id(source) and not path.exists())):
        return None
    files = Files(source, OURS)
    if files.find(SETTINGS_FILE):
        return OURS
    config = files.find("config.json")
    if config is not None and {"model_type", "vision_config", "text_config"} & read_json(config).keys():
        return "hf-clip"
    return "open-clip" if files.find(_OPEN_CLIP) else None


def read_any_clip(source: str) -> Clip:
    """Reads a CLIP from "KIND:SRC" (see `read_clip`), or from a folder or hub repository whose files reveal its kind.

    Raises:
      UserError: There is nothing that can be read.
    """
    if parts := split_source(source):
        return read_clip(*parts)
    kind = kind_of(source)
    if kind == OURS:
        files = Files(source, OURS)
        settings, _ = files.find(SETTINGS_FILE), files.find(WEIGHTS_FILE)
        assert settings is not None
        return load_clip(settings.parent)
    if kind is None and is_hub_id(source) and not Path(source).exists():
        kind = "hf-clip"  # its error names what is missing
    if kind is not None:
        return read_clip(kind, source)
    raise UserError(
        f"{source} is not a CLIP: give a folder that `unloc import --from hf-clip` wrote, a folder or an id of the "
        f"Hugging Face hub with a config.json, or KIND:SRC with KIND one of {', '.join(KINDS)}."
    )


def read_clip(kind: str, source: str, options: Options | None = None) -> Clip:
    """Reads a CLIP.

    Args:
      kind: One of `KINDS`.
      source: "hf-clip": a folder with config.json and model.safetensors (or its shards with an index), the file itself,
        or an id of the Hugging Face hub, optionally with "@revision". "open-clip": the same with open_clip_config.json
        and open_clip_model.safetensors; a .safetensors file by itself needs `options.activation`. "openai-clip": a .pt
        file. "scenic-clip": an .npy file.
      options: Properties that the files do not reveal.

    Raises:
      UserError: There is nothing, a file is damaged, the model is not a CLIP with a vision transformer, or our towers
        cannot express its settings.
    """
    options = options or Options()
    found = _READERS[kind](source)
    naming = clip_names.naming_of(found.tensors, kind, source)
    shapes = {name: tuple(np.shape(array)) for name, array in found.tensors.items()}
    image_width, text_width = clip_names.widths(shapes, naming)
    given = None
    if options.activation is not None:
        given = _activation(options.activation, "--activation")
    image_activation, text_activation = given or found.image_activation, given or found.text_activation
    if image_activation is None or text_activation is None:
        raise UserError(
            f"{source}: no file beside it names its activation. Give --activation=quick_gelu (OpenAI's "
            "models and those named “-quickgelu”) or --activation=gelu (open_clip's others)."
        )
    unseen = clip_names.Unseen(
        options.image_heads or found.image_heads or image_width // _HEAD_WIDTH,
        options.text_heads or found.text_heads or text_width // _HEAD_WIDTH,
        image_activation,
        text_activation,
        found.end_token,
        found.pixels.resize,
        found.image_size,
    )
    config = clip_names.recognize(shapes, naming, unseen, source)
    params = clip_names.to_params(found.tensors, config, naming, source)
    return Clip(config, clip_pixels.normalized_as_clip(params, found.pixels), f"{kind} {source}")


# --- Hugging Face -------------------------------------------------------------------------------------------------


def _read_hugging_face(source: str) -> _Found:
    files = Files(source, "hf-clip")
    config_file = files.find("config.json", needed=True)
    if config_file is None:
        kind = "openai-clip" if source.endswith(".pt") else "open-clip" if files.find(_OPEN_CLIP) else None
        raise UserError(
            f"{source} has no config.json, which has what the weights lack: heads and activation."
            + (f" It looks as if it were for --from {kind}." if kind else "")
        )
    config = read_json(config_file)
    if config.get("model_type", "clip") != "clip":
        other = (
            " SigLIP 2 is read as siglip2:SRC (docs/encoders.md)." if config["model_type"] == "siglip" else ""
        )
        raise UserError(
            f'{config_file}: model_type is {config["model_type"]!r}; only "clip" is supported.{other}'
        )
    towers = {}
    # Numbers of heads are transformers' defaults.
    for tower, heads in (("vision_config", 12), ("text_config", 8)):
        of_tower = group(config, tower, config_file) or group(config, f"{tower}_dict", config_file)
        epsilon = of_tower.get("layer_norm_eps", 1e-5)
        if epsilon != 1e-5:
            raise UserError(f"{config_file}: {tower}.layer_norm_eps is {epsilon}; CLIP's is 1e-05.")
        activation = of_tower.get("hidden_act", "quick_gelu")
        number = of_tower.get("num_attention_heads", heads)
        towers[tower] = (
            positive_int(number, f"{config_file}: {tower}.num_attention_heads"),
            _activation(activation, f"{config_file}: {tower}.hidden_act"),
        )
    image_size = group(config, "vision_config", config_file).get("image_size")
    (image_heads, image_activation), (text_heads, text_activation) = (
        towers["vision_config"],
        towers["text_config"],
    )
    tensors = files.tensors("model.safetensors", "pytorch_model.bin")
    return _Found(
        tensors, image_heads, text_heads, image_activation, text_activation, _end_token(config, config_file),
        side(image_size, f"{config_file}: vision_config.image_size"), clip_pixels.of_hugging_face(files),
    )  # fmt: skip


def _end_token(config: Mapping[str, Any], file: Path) -> int | None:
    """Returns the token that transformers' CLIPTextTransformer looks for; it ignores the incorrect 2 of old configs."""
    end = group(config, "text_config", file).get("eos_token_id", END_TOKEN)
    if not isinstance(end, int):
        raise UserError(f"{file}: text_config.eos_token_id is {end!r} instead of a number.")
    return None if end == _OLD_END_TOKEN else end


# --- open_clip ----------------------------------------------------------------------------------------------------


def _read_open_clip(source: str) -> _Found:
    files = Files(source, "open-clip")
    config_file = files.find(_OPEN_CLIP, needed=True)
    if config_file is None:
        return _Found(files.tensors("open_clip_model.safetensors", "open_clip_pytorch_model.bin"))
    config = read_json(config_file)
    model = group(config, "model_cfg", config_file) or config
    towers = {}
    # Settings that change the computation without affecting any tensor's shape; the values are CLIP's.
    plain = {
        "vision_cfg": {"timm_model_name": "", "pool_type": "tok", "global_average_pool": False},
        "text_cfg": {"hf_model_name": "", "pool_type": "argmax", "no_causal_mask": False, "embed_cls": False},
    }
    for tower, expected in plain.items():
        of_tower = group(model, tower, config_file)
        for key, value in expected.items():
            if (of_tower.get(key) or value) != value:
                other = " PE-Core is read as pe:SRC (docs/encoders.md)." if "timm" in key else ""
                raise UserError(
                    f"{config_file}: {tower}.{key} is {of_tower[key]!r}, which no CLIP tower has.{other}"
                )
        epsilon = group(of_tower, "norm_kwargs", config_file).get("eps", 1e-5)
        if epsilon != 1e-5:
            raise UserError(f"{config_file}: {tower}.norm_kwargs.eps is {epsilon}; CLIP's is 1e-05.")
        activation: Activation = "quick_gelu" if model.get("quick_gelu") else "gelu_exact"
        if group(of_tower, "act_kwargs", config_file).get("approximate") == "tanh":
            activation = "gelu"
        towers[tower] = (of_tower, activation)
    pixels = clip_pixels.of_open_clip(group(config, "preprocess_cfg", config_file), config_file)
    (vision, image_activation), (text, text_activation) = towers["vision_cfg"], towers["text_cfg"]
    image_heads = None
    if vision.get("head_width"):
        head_width = positive_int(vision["head_width"], f"{config_file}: vision_cfg.head_width")
        image_heads = positive_int(vision.get("width", 768), f"{config_file}: vision_cfg.width") // head_width
    # open_clip's own defaults are not width / 64 for text.
    text_heads = positive_int(text.get("heads", 8), f"{config_file}: text_cfg.heads")
    tensors = files.tensors("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    size = side(vision.get("image_size"), f"{config_file}: vision_cfg.image_size")
    return _Found(tensors, image_heads, text_heads, image_activation, text_activation, None, size, pixels)


# --- OpenAI and Scenic --------------------------------------------------------------------------------------------


def _read_openai(source: str) -> _Found:
    file = Path(source)
    _need_file(file, "openai-clip", "a .pt file such as ViT-B-32.pt")
    return _Found(
        read_torch(file, torchscript=True), image_activation="quick_gelu", text_activation="quick_gelu"
    )


def _read_scenic(source: str) -> _Found:
    file = Path(source)
    _need_file(file, "scenic-clip", "an .npy file that Scenic's load_model_vars wrote")
    return _Found(read_npy(file), image_activation="quick_gelu", text_activation="quick_gelu")


_READERS: dict[str, Callable[[str], _Found]] = {
    "hf-clip": _read_hugging_face,
    "openai-clip": _read_openai,
    "open-clip": _read_open_clip,
    "scenic-clip": _read_scenic,
}


# --- settings -------------------------------------------------------------------------------------------------


def _need_file(file: Path, kind: str, what: str) -> None:
    if not file.is_file():
        raise UserError(f"--from {kind}: {file} is not a file. Give {what}.")


def _activation(name: Any, where: str) -> Activation:
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise UserError(f"{where} is {name!r}; known are {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]
